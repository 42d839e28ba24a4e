"""What experiments/bench.py measures is what it says; the measurements themselves are run by hand."""

import importlib.util
import json
import pathlib
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe

EXPERIMENTS = pathlib.Path(__file__).parents[1] / "experiments"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(EXPERIMENTS))
    spec = importlib.util.spec_from_file_location("bench", EXPERIMENTS / "bench.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench"]
    sys.path.remove(str(EXPERIMENTS))


@pytest.fixture(scope="module")
def measuring(bench):
    return importlib.import_module("benches.measuring")


@pytest.fixture(scope="module")
def methods(bench):
    return importlib.import_module("benches.methods")


@pytest.fixture(scope="module")
def table2(bench):
    return importlib.import_module("benches.table2")


def python(code):
    return [sys.executable, "-c", code]


def test_a_child_reports_its_numbers_or_is_stopped(measuring):
    assert measuring.capped(python("print('noise'); print(12.5, 3)"), 500) == [12.5, 3.0]
    greedy = "import time\nheld = [bytearray(2**20) for _ in range(200)]\ntime.sleep(60)"
    assert measuring.capped(python(greedy), 100) is None
    with pytest.raises(InputError, match="process failed: ValueError: too wide"):
        measuring.capped(python("raise ValueError('too wide')"), 500)


def test_rows_with_and_without_a_stopped_side(bench, measuring):
    assert measuring.row("memory", 40.0, 100.0, "MB", "rival", 0.5, batch=8)["ratio"] == 0.4
    stopped = measuring.row("memory", 40.0, None, "MB", "rival", 0.5)
    assert stopped["ratio"] is None and stopped["theirs"] is None
    assert bench.line(stopped) == "| memory | 40 MB | stopped at 10 GB |  | ≤ 0.5 | rival |  |"
    alone = measuring.row("step", 3.0, None, "ms", "", missing="", network=0.812, metric="time")
    assert bench.line(alone) == "| step | 3 ms |  |  |  |  | network 0.812, metric time |"
    assert measuring.median_of([[3.0, 1.0], [5.0, 2.0], [4.0, 9.0]], 0) == 4.0
    assert measuring.median_of([[3.0, 1.0], None], 1) is None


def test_rounds_are_taken_in_turn_and_the_first_does_not_count(measuring):
    calls, times = [], {"a": iter([9.0, 1.0, 5.0, 2.0]), "b": iter([0.0, 4.0, 3.0, 8.0])}
    works = {name: lambda name=name: calls.append(name) or next(times[name]) for name in times}
    assert measuring.interleaved(works, rounds=3) == {"a": 2.0, "b": 4.0}
    assert calls == ["a", "b"] * 4


def test_a_file_keeps_rows_of_other_comparisons_and_machines(bench, tmp_path):
    path = tmp_path / "bench.jsonl"
    old = [{"what": w, "rival": "r", "hardware": h, "ours": 1} for w, h in (("x", "cpu"), ("x", "gpu"), ("y", "cpu"))]
    bench.keep(old, path)
    bench.keep([old[0] | {"ours": 2}], path)
    assert [json.loads(text) for text in path.read_text().splitlines()] == [*old[1:], old[0] | {"ours": 2}]


def tiny(name):
    return get_recipe(name, "smoke", backbone="tiny", batch_size=8)


@pytest.fixture(scope="module")
def source(measuring):
    return measuring.noise(32, 32)


@pytest.mark.parametrize("name", ["npid", "npid_cld", "moco", "simclr", "byol", "infomin"])
def test_parts_are_those_of_the_step(methods, source, name):
    """The step on the views of ``make_views`` is the step; without loss and memory it still trains, nothing else."""
    recipe = tiny(name)
    batch = {"image": tf.constant(source.images[:8]), "index": tf.range(8, dtype=tf.int64)}
    model, whole = (methods.build(recipe, source)[0] for _ in range(2))
    views = methods.make_views(model, batch)
    with methods.given_views(model, views):
        loss = model.train_step(batch)["loss"]
    np.testing.assert_allclose(loss, whole.train_step(batch)["loss"], rtol=1e-5)

    memory = model.bank.rows if hasattr(model, "bank") else model.queue.rings if hasattr(model, "queue") else None
    kernel = next(v for v in model.backbone.trainable_variables if "block4_conv" in v.path)
    remembered, trained = (None if v is None else v.numpy() for v in (memory, kernel))
    methods.network_of(model, xla=False).python_function(batch, views)
    assert np.abs(kernel.numpy() - trained).max() > 0
    arguments, write = methods.loss_of(model, batch)
    value, _ = methods.objective(model)(*arguments)[:2]
    assert np.isfinite(value) and value > 0
    assert (write is None) == (memory is None)
    if write is not None:
        np.testing.assert_array_equal(memory.numpy(), remembered)
        write()
        assert np.abs(memory.numpy() - remembered).max() > 0


def test_a_step_has_its_shares(methods, source):
    found = methods.step_row("npid", tiny("npid"), source, rounds=1)
    shares = [found[part] for part in ("views", "network", "loss", "memory")]
    assert all(share > 0 for share in shares) and found["sum"] == pytest.approx(sum(shares))
    assert found["images_per_second"] == pytest.approx(8000 / found["ours"])
    assert found["host_busy"] > 0 and 0 <= found["host_idle"] <= 1


def test_the_bank_is_updated_in_place(methods):
    """An update of 100,000 rows (51 MB) takes a fraction of the time of writing them anew; both write the same."""
    banks = [methods.MemoryBank(100_000, 128) for _ in range(2)]
    update, copy = methods.bank_works(banks[0], 16)[0], methods.bank_works(banks[1], 16)[1]

    def fastest(work):
        work = tf.function(work, autograph=False)
        times = []
        for _ in range(6):
            begun = time.perf_counter()
            work().numpy()
            times.append(time.perf_counter() - begun)
        return min(times[1:])

    assert fastest(update) < 0.3 * fastest(copy)
    np.testing.assert_allclose(banks[0].at(tf.range(16)), banks[1].at(tf.range(16)), rtol=1e-6)


def test_one_line_where_there_is_no_torch(bench, tmp_path):
    (line,) = bench.bench_torch(str(tmp_path / "python"))
    assert line.startswith(f"torch: no PyTorch in {tmp_path / 'python'}") and "--torch-python" in line


@pytest.mark.parametrize("name", ["rotation", "simclr", "moco_v2"])
def test_torch_reads_our_parameters_and_views(methods, source, tmp_path, name):
    """Every trainable variable, the views and MoCo's queue come back out of the file; the options are the recipe's."""
    rivals = importlib.import_module("benches.torch_rivals")
    preset, own = rivals.SETTINGS[name]
    recipe = get_recipe(name, preset, width=1, batch_size=8, **rivals.PLAIN | own)
    model, _ = methods.build(recipe, source)
    views = tf.random.stateless_uniform([8, 2, 32, 32, 3], [0, 1])
    rivals.write(tmp_path, name, model, recipe, views)
    options = json.loads((tmp_path / "options.json").read_text())
    flat, begin, found = np.fromfile(tmp_path / "tensors.bin", np.float32), 0, {}
    for path, shape in options["tensors"]:
        found[path] = flat[begin : begin + np.prod(shape)].reshape(shape)
        begin += np.prod(shape)
    assert begin == len(flat)
    for variable in model.trainable_variables:
        np.testing.assert_array_equal(found.pop(variable.path), variable.numpy())
    np.testing.assert_array_equal(found.pop("views"), views)
    if name == "moco_v2":
        np.testing.assert_array_equal(found.pop("queue"), model.queue.features)
    assert not found
    dense = {"rotation": ["rotation_logits"], "simclr": ["hidden", "branch1"], "moco_v2": ["hidden", "branch1"]}
    network = options["network"]
    assert list(network["dense"]) == dense[name] and network["channels"] == 16
    assert network["stem_stride"] == (2 if name == "rotation" else 1)
    assert options["temperature"] == getattr(recipe.task, "temperature", None)
    # The rate that the recipe's optimiser really has, which follows the batch where it scales.
    assert options["optimizer"]["lr"] == pytest.approx(float(model.optimizer.learning_rate))


def test_torch_takes_the_step_that_ours_is(bench):
    """Only where PyTorch is installed: the losses of the first step agree, or ``bench_torch`` itself refuses."""
    pytest.importorskip("torch", reason="PyTorch is no dependency of this package")
    rows = list(bench.bench_torch(methods=("rotation",), modes=("contiguous",), batch=8, steps=1, rounds=1))
    assert [row["target"] for row in rows] == [1.0] and rows[0]["loss_difference"] < 1e-3


def test_table2_is_relative_to_supervised(table2, monkeypatch):
    """With the published times per epoch and memories, the published training times come out."""
    published = table2.published_rows()
    children = {}

    def answer(command, limit):
        name = children[command[-2]]
        return [500 * published[name, "memory"], 2 * published[name, "time_per_epoch"]]

    for name in table2.METHODS:
        children[table2.command(table2.recipe_of(name, gpu=False), 1)[-2]] = name
    monkeypatch.setattr(table2, "capped", answer)
    rows = list(table2.bench_table2(rounds=2, steps=1))
    assert len(rows) == 12
    for row in rows:
        assert row["ratio"] == pytest.approx(row["published"], rel=1e-3), row["what"]
    times = {row["method"]: row for row in rows if row["metric"] == "time_per_epoch"}
    assert times["supervised"]["ours"] == 2 * (10_000 // 64)
    assert {name: row.get("target") for name, row in times.items() if "target" in row} == {"obow": 3.91}


def test_table2_has_one_network_and_leaves_out_what_has_no_recipe(table2, monkeypatch):
    for gpu in (False, True):
        recipes = [table2.recipe_of(name, gpu) for name in table2.METHODS]
        common = ("backbone", "width", "backbone_options", "batch_size", "precision")
        for field in common:
            assert len({getattr(recipe, field) for recipe in recipes}) == 1, field
        assert len({recipe.views.size for recipe in recipes}) == 1
    known = table2.recipe_of

    def without(name, gpu, **changes):
        if name == "obow":
            raise InputError("unknown pretext 'obow'")
        return known(name, gpu, **changes)

    monkeypatch.setattr(table2, "recipe_of", without)
    monkeypatch.setattr(table2, "capped", lambda command, limit: [100.0, 1.0])
    note, *rows = table2.bench_table2(("supervised", "obow"), rounds=1)
    assert note == "table2: obow left empty: unknown pretext 'obow'"
    for row in rows[3:]:
        assert row["ours"] is None and row["ratio"] is None and row["theirs"] > 0 and row["missing"] == "no recipe"


def test_a_child_of_table2_measures_a_training_run(table2, capsys):
    recipe = get_recipe("supervised", "smoke", backbone="tiny", batch_size=8)
    table2.child(table2.to_json(recipe), 1)
    megabytes, seconds = map(float, capsys.readouterr().out.split())
    assert megabytes > -1 and 0 < seconds < 60  # the system counts pages late


def test_rows_of_the_clustering_bench_are_plain_and_come_one_by_one(bench, monkeypatch):
    pytest.importorskip("faiss")
    clustering = importlib.import_module("benches.clustering")
    drawn = np.random.default_rng(0).normal(size=(1500, 8)).astype(np.float32)
    monkeypatch.setattr(clustering, "features", lambda n, d: drawn)
    first = json.loads(json.dumps(next(clustering.bench_clustering())))
    assert first["rival"] == "faiss-cpu" and first["target"] == 1.0 and first["ratio"] > 0
    assert first["objective_difference"] < 0.05
