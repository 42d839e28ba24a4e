"""Result lines: written whole or not at all, replaced when measured again, refused when damaged."""

import dataclasses
import gc
import json
import os

import pytest

from revisit_ssl import startup
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.rows import of_run
from revisit_ssl.evaluators.knn import KNN
from revisit_ssl.evaluators.linear import Linear
from revisit_ssl.papers import get_recipe
from revisit_ssl.recipe import Recipe, override
from revisit_ssl.runs import machine
from revisit_ssl.runs.files import write_atomically
from revisit_ssl.runs.identity import recipe_id, setting_id, trained
from revisit_ssl.runs.results import Result, environment, provenance, read_results, write_results
from revisit_ssl.startup import onednn_is_on, prefer_onednn

ONE = Result(
    pretext="rotation", backbone="revnet50", width=1, dataset="toy_scenes", seed=0, steps=10, weights="pretrained",
    endpoint="pre_logits", probe="linear", probe_dataset="toy_scenes", split="test", metric="top1", value=50.0,
)
ONE_RECIPE = Recipe(pretext="rotation")


def test_a_second_measurement_replaces_the_first_and_other_keys_stay(tmp_path):
    path = tmp_path / "results.jsonl"
    write_results(path, [ONE, dataclasses.replace(ONE, seed=1)])
    write_results(path, [dataclasses.replace(ONE, value=60.0, seconds=3.0)])
    assert {r.seed: r.value for r in read_results(path)} == {0: 60.0, 1: 50.0}
    assert len(path.read_text().splitlines()) == 2


def test_damaged_line_is_named(tmp_path):
    path = tmp_path / "results.jsonl"
    write_results(path, [ONE])
    path.write_text(path.read_text() + '{"pretext": "rota')
    with pytest.raises(InputError, match="results.jsonl line 2 is not a result .*remove the line"):
        read_results(path)
    with pytest.raises(InputError, match="no results at .*nothing.jsonl"):
        read_results(tmp_path / "nothing.jsonl")


def test_failed_write_keeps_the_old_content(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    with pytest.raises(InputError, match="cannot write"):
        write_atomically(tmp_path / "file.txt" / "below", "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.txt"]


def test_provenance_says_when_where_and_from_which_commit():
    found = provenance()
    assert set(found) == {"date", "commit", "hardware"} and all(found.values())
    assert {"tensorflow", "keras", "command", "devices"} <= set(environment())
    json.dumps(environment())


def test_the_machine_is_named(tmp_path):
    """environment.json and the rows of bench.py say on what and how TensorFlow computed."""
    found = machine.machine()
    assert found.items() <= environment().items()
    assert found["cpu"] and found["cores"] >= 1 and found["threads"]["intra_op"] >= 1
    assert found["vector"] in {"AVX-512", "AVX2", "SSE4.2", "SVE", "NEON", "none"}
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: AMD EPYC: 9 \nprocessor : 1\nmodel name : B\n")
    assert machine.cpu_model(tmp_path / "cpuinfo") == "AMD EPYC: 9"
    assert machine.cpu_model(tmp_path / "no such file")


@pytest.mark.parametrize(
    "found, name",
    [
        (["X86_V3"], "AVX2"),
        (["X86_V3", "X86_V4"], "AVX-512"),
        (["AVX512F", "AVX2"], "AVX-512"),
        (["ASIMD"], "NEON"),
        ([], "none"),
    ],
)
def test_the_widest_vector_instructions_count(monkeypatch, found, name):
    config = {"SIMD Extensions": {"baseline": [], "found": found}}
    monkeypatch.setattr(machine.np, "show_config", lambda mode: config)
    assert machine.widest_vector() == name


def test_this_process_has_onednn_unless_it_is_told_otherwise():
    """tests/conftest.py imports the package before TensorFlow, as every script does."""
    assert onednn_is_on() in (None, os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1")


def test_garbage_is_looked_for_rarely_once_tensorflow_is_loaded():
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    with startup.loading():
        assert not gc.isenabled()
    assert gc.isenabled() and gc.get_threshold() == before == startup.RARELY  # conftest has asked for it
    assert gc.get_freeze_count() == frozen > 0  # once: what is frozen later is never given back


def test_the_environment_decides_about_onednn(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    prefer_onednn()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0"


def test_one_line_where_tensorflow_came_first_without_onednn(monkeypatch, caplog):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    monkeypatch.setattr(startup, "onednn_is_on", lambda: False)
    monkeypatch.setattr(startup.platform, "machine", lambda: "x86_64")
    prefer_onednn()
    (record,) = caplog.records
    assert "twice as long" in record.getMessage() and "\n" not in record.getMessage()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1"
    caplog.clear()
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS")
    monkeypatch.setattr(startup, "onednn_is_on", lambda: None)  # not loaded yet: nothing to say
    prefer_onednn()
    assert not caplog.records


def test_seeds_of_a_setting_share_its_hash_and_nothing_else_does():
    plain = override(get_recipe("rotation", "smoke"), probes={"linear": Linear(), "knn": KNN()})
    same = [
        {"seed": 3},
        {"probes": {"knn": KNN()}},
        {"bench__fraction": 0.5},
        {"bench__untrained": "initial"},
        {"probes": {"linear": Linear(schedule=(3, 5, 7))}},
        {"source": "x"},
        {"epochs": float(plain.epochs)},
    ]
    for changes in same:
        assert setting_id(override(plain, **changes)) == setting_id(plain), changes
    others = [{"epochs": 7}, {"width": 2}, {"optimizer__lr": 0.7}, {"bench__size": 24}, {"pretext": "supervised"}]
    # The same weights measured in another way; a Result does not say that its labels were drawn class by class.
    others += [{"probes__knn__temperature": 0.2}, {"bench__pooling": "avg"}, {"bench__balanced": True}]
    found = {setting_id(plain)} | {setting_id(override(plain, **changes)) for changes in others}
    assert len(found) == 1 + len(others)


def test_a_recipes_hash_is_of_what_decides_the_weights():
    plain = get_recipe("rotation", "smoke")
    probed = [
        {"probes": {"knn": KNN(temperature=0.2)}, "bench__endpoints": ("block1",), "protocol": "moco"},
        {"bench__pooling": "avg", "probes__linear__schedule": (3, 5, 7)},
        {"bench__fraction": 0.5, "bench__balanced": True, "bench__dataset": "toy_scenes"},
        {"bench__size": 24, "bench__method": "squash", "bench__normalize": "none"},
        {"source": "x"},
    ]
    assert {recipe_id(override(plain, **changes)) for changes in probed} == {recipe_id(plain)}
    others = [{"seed": 1}, {"views__size": 24}, {"backbone_options__bn_group": 4}, {"optimizer__lr": 0.7}, {"width": 2}]
    assert len({recipe_id(plain)} | {recipe_id(override(plain, **changes)) for changes in others}) == 1 + len(others)


def test_options_of_the_network_count_as_the_fields_of_the_recipe_that_they_were():
    """Runs that are there keep their hash."""
    assert trained(get_recipe("byol", "sample")).items() >= {
        "backbone": "resnet18", "stem": "small", "bn_momentum": 0.9, "zero_init_residual": True,
    }.items()
    vgg = trained(get_recipe("jigsaw", "paper", backbone="vgg19_bn"))
    assert (vgg["bn_momentum"], vgg["bn_epsilon"]) == (0.99, 1e-3)
    assert not {"backbone_options", "stem", "strides", "root_stride", "norm"} & set(vgg)


def test_a_setting_outlives_new_fields():
    """A class that gets a field with a default gives the same hash, or old runs would never be averaged with new."""
    for part in ("views", "optimizer", "bench"):
        spec = getattr(ONE_RECIPE, part)
        later = dataclasses.make_dataclass("Later", [("new", int, 5)], bases=(type(spec),), frozen=True, kw_only=True)
        values = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
        same, other = (dataclasses.replace(ONE_RECIPE, **{part: later(**values, **new)}) for new in ({}, {"new": 6}))
        assert setting_id(same) == setting_id(ONE_RECIPE) != setting_id(other)


def test_old_lines_are_read_and_new_fields_come_back(tmp_path):
    path = tmp_path / "results.jsonl"
    later = ("setting", "representation_size", "task", "training")
    old = {k: v for k, v in dataclasses.asdict(ONE).items() if k not in later}
    path.write_text(json.dumps(old) + "\n")
    (read,) = read_results(path)
    assert (read.setting, read.representation_size, read.task, read.training) == ("", None, {}, {}) and read == ONE
    new = dataclasses.replace(ONE, representation_size=512)
    write_results(path, [new])
    assert read_results(path) == [new]
    # The same weights probed in another way are another measurement.
    other = dataclasses.replace(new, setting="abc")
    write_results(path, [other])
    assert read_results(path) == [new, other]


def test_sgd_schedules_are_different_measurements(tmp_path):
    path = tmp_path / "results.jsonl"
    schedules = [(30, 50, 70), (120, 140, 160)]
    for value, schedule in enumerate(schedules):
        write_results(path, [dataclasses.replace(ONE, value=value, hyperparameters={"schedule": schedule})])
    assert {r.schedule: r.value for r in read_results(path)} == {(30, 50, 70): 0, (120, 140, 160): 1}
    write_results(path, [dataclasses.replace(ONE, value=2, hyperparameters={"schedule": (30, 50, 70)})])
    assert {r.schedule: r.value for r in read_results(path)} == {(30, 50, 70): 2, (120, 140, 160): 1}
    assert ONE.schedule is None


def test_a_result_says_the_options_of_its_pretext_and_how_long_it_trained_on_what():
    recipe = override(get_recipe("exemplar", "smoke"), batch_size=4, epochs=2.5, max_steps=7)
    row = of_run(recipe, steps=7)
    assert row["task"] == dataclasses.asdict(recipe.task) and row["task"]
    assert row["training"].items() >= {"split": "train", "batch_size": 4, "epochs": 2.5, "max_steps": 7}.items()
