"""Exact restart, two worker processes, signals, NaN, workdirs: what a run survives and what it refuses."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from revisit_ssl.data import open_source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.evaluate import evaluate, evaluate_random
from revisit_ssl.papers import get_recipe
from revisit_ssl.runs.results import read_results
from revisit_ssl.training.build import Plan, build_pretext, compile_pretext, load_pretext, plan_steps
from revisit_ssl.training.checkpoints import list_checkpoints, load_checkpoint
from revisit_ssl.training.images import check_images, note_images
from revisit_ssl.training.loop import segments
from revisit_ssl.training.pretrain import pretrain
from revisit_ssl.training.progress import read_log

ROOT = pathlib.Path(__file__).parents[1]
TINY = dict(backbone="tiny", bench__endpoints=("pre_logits",), batch_size=16, max_steps=6, epochs=1.0)

# One training run in a process of its own: pretext, workdir, JSON of recipe changes, JSON of arguments of pretrain.
RUNNER = """
import json, sys
sys.path.insert(0, "tests")
import conftest
from revisit_ssl import get_recipe, pretrain
from revisit_ssl.backbones import BACKBONES
BACKBONES["tiny"] = conftest.tiny_backbone
changes, arguments = json.loads(sys.argv[3]), json.loads(sys.argv[4])
pretrain(get_recipe(sys.argv[1], "smoke", **changes), sys.argv[2], quiet=True, **arguments)
"""


def start(workdir, changes, environment=None, pretext="rotation", **arguments):
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, pretext, str(workdir), json.dumps(changes), json.dumps(arguments)],
        cwd=ROOT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )


def finish(process, seconds=600):
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output[-3000:]
    return output


def final_state(workdir):
    with np.load(list_checkpoints(pathlib.Path(workdir) / "checkpoints")[-1]) as stored:
        return {name: stored[name] for name in stored.files}


def assert_equal_states(a, b):
    assert a.keys() == b.keys()
    different = [name for name in a if not np.array_equal(a[name], b[name])]
    assert not different, f"{len(different)} of {len(a)} arrays differ"


def wait_for_checkpoint(process, workdir, seconds=600):
    deadline = time.time() + seconds
    while not list_checkpoints(pathlib.Path(workdir) / "checkpoints"):
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.time() < deadline
        time.sleep(0.05)


def kill_and_resume(tmp_path, changes, **arguments):
    """Trains once undisturbed and once killed after a checkpoint and resumed; compares every array to the bit."""
    changes = {**changes, "deterministic": True}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    undisturbed = start(whole, changes, save_every=1000, **arguments)  # at the same time
    process = start(cut, changes, save_every=1, **arguments)
    wait_for_checkpoint(process, cut)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(undisturbed)
    step = int(list_checkpoints(cut / "checkpoints")[-1][-13:-4])
    assert step < changes["max_steps"], "the run was over before it was killed: nothing was tested"
    finish(start(cut, changes, resume=True, **arguments))
    assert_equal_states(final_state(whole), final_state(cut))
    return cut


@pytest.mark.slow
def test_killed_run_resumes_to_the_bit(tmp_path):
    # An epoch has 18 steps: the kill comes early, the rest crosses many boundaries.
    cut = kill_and_resume(tmp_path, {**TINY, "batch_size": 64, "epochs": 9.0, "max_steps": 150})
    steps = [row["step"] for row in read_log(cut / "log.csv")]
    assert steps == sorted(set(steps)), "each step is logged once"


# What a recipe adds to a method whose state is more than weights: a bank, a queue, a target, CLD's group branch.
STATEFUL = {
    "moco": {"task__cld__weight": 1.0, "task__cld__groups": 4, "task__cld__scope": "global"},
    "npid": {"task__crops": 2, "task__cld__weight": 1.0, "task__cld__groups": 4, "task__cld__scope": "global"},
}


@pytest.mark.slow
@pytest.mark.parametrize("pretext", [*STATEFUL, "obow"])
def test_killed_run_of_a_method_with_state_resumes_to_the_bit(pretext, tmp_path):
    # OBoW: queue, mu and the step of its target's momentum.
    own = STATEFUL.get(pretext, {})
    kill_and_resume(tmp_path, {**TINY, **own, "max_steps": 20}, pretext=pretext)


@pytest.mark.slow
def test_killed_run_on_tfrecords_resumes_to_the_bit(tmp_path, real_data):
    changes = {**TINY, "dataset": "imagenette_subset160", "max_steps": 60, "views__size": 32}
    kill_and_resume(tmp_path, changes, data_dir=real_data)


def test_finished_run_resumes_at_once_and_a_second_run_is_refused(tmp_path):
    recipe = get_recipe("rotation", "smoke", **TINY)
    first = pretrain(recipe, tmp_path, quiet=True)
    with pytest.raises(InputError, match="holds a finished run of this recipe; add --resume"):
        pretrain(recipe, tmp_path, quiet=True)
    again = pretrain(recipe, tmp_path, resume=True, quiet=True)
    for a, b in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    other = get_recipe("rotation", "smoke", **TINY, seed=5)
    with pytest.raises(InputError, match="holds another recipe .seed: 0 there, 5 here."):
        pretrain(other, tmp_path, resume=True, quiet=True)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "backbone.keras", "environment.json", "images.json", "log.csv", "pretext.json", "recipe.json",
    ]
    assert list((tmp_path / "tensorboard").iterdir())
    assert first.trainable_variables == []


def test_a_run_does_not_go_on_with_other_images(tmp_path):
    for i in range(20):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i:02}.png")

    def opened(fraction=None):
        open_source.cache_clear()
        return open_source(f"folder:{tmp_path}", "train", fraction=fraction)

    check_images(tmp_path, opened())  # a run of before has noted nothing
    note_images(tmp_path, opened())
    check_images(tmp_path, opened())
    with pytest.raises(InputError, match=r"folder:.* train have changed since the run .* \(16 then, 8 now\)"):
        check_images(tmp_path, opened(fraction=0.5))
    Image.new("RGB", (8, 8), (99, 99, 99)).save(tmp_path / "05.png")
    with pytest.raises(InputError, match=r"changed .*\(others of the same number\); restore them, or begin anew"):
        check_images(tmp_path, opened())
    (tmp_path / "images.json").write_text("damaged")
    check_images(tmp_path, opened())


def test_short_runs_export_reestimated_statistics(tmp_path):
    # Under 1,000 steps: the file holds the mean of the batch statistics, the checkpoint the moving averages.
    recipe = get_recipe("rotation", "smoke", **TINY)
    exported = pretrain(recipe, tmp_path, quiet=True)
    model = build_pretext(recipe, open_source("digits", "train"))
    compile_pretext(model, recipe, Plan(6, 6))
    load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[-1], model)
    for ours, trained in zip(exported.weights, model.backbone.weights, strict=True):
        same = np.array_equal(np.asarray(ours), np.asarray(trained))
        assert same is not ours.path.endswith(("moving_mean", "moving_variance")), ours.path


def test_a_whole_run_on_two_devices_exports_what_one_device_exports(tmp_path):
    recipe = get_recipe("rotation", "smoke", **TINY, backbone_options__norm="sync")
    one = pretrain(recipe, tmp_path / "one", quiet=True)
    two = pretrain(recipe, tmp_path / "two", strategy="mirrored", quiet=True)
    for a, b in zip(one.weights, two.weights, strict=True):
        np.testing.assert_allclose(a.value.numpy(), b.value.numpy(), rtol=5e-3, atol=5e-4)
    scores = [json.loads((tmp_path / name / "pretext.json").read_text()) for name in ("one", "two")]
    assert scores[1]["val_loss"] == pytest.approx(scores[0]["val_loss"], rel=1e-2)


def test_a_bucket_is_as_good_as_a_folder():
    recipe = get_recipe("rotation", "smoke", **TINY, probes=("knn",))
    workdir = "ram://runs/bucket"
    backbone = pretrain(recipe, workdir, quiet=True)
    again = pretrain(recipe, workdir, resume=True, quiet=True)
    np.testing.assert_array_equal(np.asarray(backbone.weights[0]), np.asarray(again.weights[0]))
    found = evaluate(again, recipe, workdir=workdir, quiet=True)
    assert read_results(f"{workdir}/results.jsonl") == found


def test_the_untrained_network_is_probed_both_ways(tmp_path):
    recipe = get_recipe("rotation", "smoke", **TINY, probes=("knn",), bench__untrained="both")
    found = evaluate_random(recipe, quiet=True)
    assert {(r.pretext, r.weights) for r in found} == {("random", "random"), ("random", "random, BN re-estimated")}


def test_an_unstarted_workdir_of_another_recipe_is_refused_too(tmp_path):
    pretrain(get_recipe("rotation", "smoke", **TINY), tmp_path, quiet=True)
    for path in [tmp_path / "backbone.keras", *(tmp_path / "checkpoints").iterdir()]:
        path.unlink()
    with pytest.raises(InputError, match="holds another recipe"):
        pretrain(get_recipe("rotation", "smoke", **TINY, seed=3), tmp_path, quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize("pretext", ["rotation", *STATEFUL])
def test_two_worker_processes_equal_one_device(pretext, tmp_path):
    ports = []
    for _ in range(2):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            ports.append(s.getsockname()[1])
    changes = {**TINY, **STATEFUL.get(pretext, {}), "max_steps": 3, "backbone_options__norm": "none"}
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    processes = [
        start(
            tmp_path / "two", changes, strategy="multiworker", pretext=pretext,
            environment={"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}})},
        )
        for i in range(2)
    ]
    for process in processes:
        finish(process)
    pretrain(get_recipe(pretext, "smoke", **changes), tmp_path / "one", quiet=True)
    one, two = final_state(tmp_path / "one"), final_state(tmp_path / "two")
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=2e-3, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["preempted", "ctrl-c"])
def test_a_signal_saves_and_says_how_to_go_on(number, status, tmp_path):
    command = [sys.executable, "experiments/run.py", "rotation", "--preset", "smoke"]
    command += ["--workdir", str(tmp_path / "run"), "--max-steps", "100000", "--epochs", "1000", "--save-every", "1"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    wait_for_checkpoint(process, tmp_path / "run")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors[-2000:]
    assert "resume with: python experiments/run.py rotation" in errors and errors.rstrip().endswith("--resume")
    assert "Traceback" not in errors


def test_nan_names_the_step_and_the_last_good_checkpoint(tmp_path):
    recipe = get_recipe("rotation", "smoke", **TINY, optimizer__lr=1e30)
    with pytest.raises(InputError, match=r"at step \d+ \(learning rate .*last good checkpoint: .*lower --optimizer.lr"):
        pretrain(recipe, tmp_path, save_every=1, quiet=True)
    for path in list_checkpoints(tmp_path / "checkpoints"):
        with np.load(path) as stored:
            assert all(np.isfinite(stored[name]).all() for name in stored.files)


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path):
    recipe = get_recipe("rotation", "smoke", **TINY)
    source = open_source("digits", "train")
    pretrain(recipe, tmp_path, quiet=True)
    path = pathlib.Path(list_checkpoints(tmp_path / "checkpoints")[-1])
    model = build_pretext(recipe, source)
    compile_pretext(model, recipe, plan_steps(recipe, source))
    assert load_checkpoint(path, model) == 6
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="is damaged .*delete it and --resume from the one before"):
        load_checkpoint(path, model)
    path.write_bytes(bytes(data[: len(data) // 3]))
    with pytest.raises(InputError, match="is damaged"):
        load_checkpoint(path, model)


def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    recipe = get_recipe("rotation", "smoke", **TINY)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    with pytest.raises(InputError, match="cannot write checkpoint .*No space left on device.*checkpoints are kept"):
        pretrain(recipe, tmp_path, quiet=True)
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_segments_cover_every_step_once_and_respect_epochs():
    for per_epoch, total, begin in [(10, 35, 0), (10, 35, 7), (10, 30, 30), (10, 30, 29), (4, 3, 0), (5, 5, 2)]:
        covered = []
        for first, steps, epochs in segments(begin, Plan(per_epoch, total)):
            covered += range(first, first + steps * epochs)
            assert first % per_epoch + steps <= per_epoch
            assert epochs == 1 or (steps == per_epoch and first % per_epoch == 0)
        assert covered == list(range(begin, total))


def test_load_pretext_has_the_heads_and_the_exported_statistics(tmp_path):
    recipe = get_recipe("rotation", "smoke", backbone="tiny", max_steps=3)
    backbone = pretrain(recipe, tmp_path / "run", quiet=True)
    model, again = load_pretext(tmp_path / "run"), build_pretext(recipe, open_source("digits", "train"))
    for ours, theirs in zip(model.backbone.weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    # The head is the trained one, not a new one.
    assert not np.array_equal(np.asarray(model.head.kernel), np.asarray(again.head.kernel))
    with pytest.raises(InputError, match="no run at"):
        load_pretext(tmp_path / "nowhere")
