"""Exact restart, NaN, workdirs: what a run survives and what it refuses."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

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
SHARED_DATA = ROOT.parent / "shared" / "data" / "tensorflow_datasets"
TINY = dict(backbone="tiny", bench__endpoints=("pre_logits",), batch_size=16, max_steps=6, epochs=1.0)

# Bit-exact operations cannot be switched off again: a process of its own, which runs all cases. What a kill leaves is
# the folder as it is at that moment: here it is copied then, and the copy is resumed.
EXACT = """
import json, shutil, sys
from revisit_ssl import get_recipe, pretrain
from revisit_ssl.backbones import BACKBONES
from revisit_ssl.startup import collect_rarely
from revisit_ssl.testing import tiny_backbone
from revisit_ssl.training.loop import Keeper

BACKBONES["tiny"] = tiny_backbone
collect_rarely()
kept = Keeper.on_train_batch_end

def copying(self, batch, logs=None):
    kept(self, batch, logs)
    if self.step == job["killed"] and "whole" in self.folder:
        shutil.copytree(job["whole"], job["cut"])

Keeper.on_train_batch_end = copying
for job in json.loads(sys.argv[1]):
    recipe = get_recipe(job["pretext"], "smoke", deterministic=True, **job["changes"])
    options = {"save_every": job["save_every"], "data_dir": job["data_dir"], "quiet": True}
    pretrain(recipe, job["whole"], **options)
    if job["shorter"]:
        pretrain(get_recipe(job["pretext"], "smoke", deterministic=True, **job["shorter"]), job["cut"], **options)
    pretrain(recipe, job["cut"], resume=True, **options)
"""


def final_state(workdir):
    with np.load(list_checkpoints(pathlib.Path(workdir) / "checkpoints")[-1]) as stored:
        return {name: stored[name] for name in stored.files if name.isdigit()}


def assert_equal_states(a, b):
    assert a.keys() == b.keys()
    different = [name for name in a if not np.array_equal(a[name], b[name])]
    assert not different, f"{len(different)} of {len(a)} arrays differ"


# What a recipe adds to a method whose state is more than weights: a bank, a queue, a target, CLD's group branch.
BANK = {"task__crops": 2, "task__cld__weight": 1.0, "task__cld__groups": 4, "task__cld__scope": "global"}
# Photographs that are cut while they are decoded, on the host, where they are there.
PHOTOGRAPHS = {"dataset": "imagenette_subset160", "views__size": 32} if SHARED_DATA.is_dir() else {}
GROWS = {**TINY, "optimizer__schedule": "constant", "max_steps": 7}
KILLS = {  # name: (pretext, changes of the recipe, changes of a shorter run that is made longer, or {})
    "rotation": ("rotation", {**TINY, "batch_size": 512, "epochs": 4.0, "max_steps": 8}, {}),  # two steps an epoch
    "npid": ("npid", {**TINY, **BANK, **PHOTOGRAPHS, "max_steps": 7}, {}),
    "obow": ("obow", {**TINY, "max_steps": 7}, {}),  # queue, mu and the step of its target's momentum
    "longer": ("rotation", GROWS, {**GROWS, "max_steps": 3}),
}
KILLED = 5  # the step after which the folder is copied: one after a checkpoint


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """Folder with two runs of each of KILLS: NAME/whole, and NAME/cut, which was killed or shorter and has gone on."""
    folder = tmp_path_factory.mktemp("exact")
    jobs = []
    for name, (pretext, changes, shorter) in KILLS.items():
        places = {"whole": str(folder / name / "whole"), "cut": str(folder / name / "cut")}
        job = {"pretext": pretext, "changes": changes, "shorter": shorter, "killed": 0 if shorter else KILLED}
        jobs.append(job | places | {"save_every": 2, "data_dir": str(SHARED_DATA)})
    done = subprocess.run(
        [sys.executable, "-c", EXACT, json.dumps(jobs)], cwd=ROOT, text=True, timeout=600, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return folder


@pytest.mark.parametrize("name", KILLS)
def test_a_run_that_was_killed_or_made_longer_equals_one_that_was_not(name, exact):
    """To the bit, and so its log, but for the speed."""
    whole, cut = exact / name / "whole", exact / name / "cut"
    assert_equal_states(final_state(whole), final_state(cut))
    rows, wanted = read_log(cut / "log.csv"), read_log(whole / "log.csv")
    assert [row["step"] for row in rows] == list(range(1, KILLS[name][1]["max_steps"] + 1))
    for row, other in zip(rows, wanted, strict=True):
        assert {**row, "images_per_second": 0} == {**other, "images_per_second": 0}
    environment = json.loads((cut / "environment.json").read_text())
    assert len(environment["resumed"]) == 1 and environment["command"] and environment["replicas"] == 1
    extended = json.loads((cut / "recipe.json").read_text())["extended_from"]
    assert extended == ([KILLS[name][2]["max_steps"]] if KILLS[name][2] else [])


def test_one_of_them_saw_photographs(exact, real_data):
    recipe = json.loads((exact / "npid" / "cut" / "recipe.json").read_text())
    assert open_source(recipe["dataset"], "train", data_dir=real_data).kind == "encoded"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of a run of TINY that has ended, what it exported)."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, pretrain(get_recipe("rotation", "smoke", **TINY), folder, quiet=True)


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of that folder."""
    return pathlib.Path(shutil.copytree(finished[0], tmp_path / "copy"))


def test_finished_run_resumes_at_once_and_a_second_run_is_refused(finished):
    recipe = get_recipe("rotation", "smoke", **TINY)
    folder, first = finished
    with pytest.raises(InputError, match="holds a finished run of this recipe; add --resume"):
        pretrain(recipe, folder, quiet=True)
    again = pretrain(recipe, folder, resume=True, quiet=True)
    for a, b in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    other = get_recipe("rotation", "smoke", **TINY, seed=5)
    with pytest.raises(InputError, match="holds another recipe .seed: 0 there, 5 here."):
        pretrain(other, folder, resume=True, quiet=True)
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == [
        "backbone.keras", "environment.json", "images.json", "log.csv", "pretext.json", "recipe.json",
    ]
    assert list((folder / "tensorboard").iterdir())
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


def test_short_runs_export_reestimated_statistics(finished):
    # Under 1,000 steps: the file holds the mean of the batch statistics, the checkpoint the moving averages.
    recipe = get_recipe("rotation", "smoke", **TINY)
    folder, exported = finished
    model = build_pretext(recipe, open_source("digits", "train"))
    compile_pretext(model, recipe, Plan(6, 6))
    load_checkpoint(list_checkpoints(folder / "checkpoints")[-1], model)
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


def test_an_unstarted_workdir_of_another_recipe_is_refused_too(copied):
    for path in [copied / "backbone.keras", *(copied / "checkpoints").iterdir()]:
        path.unlink()
    with pytest.raises(InputError, match="holds another recipe"):
        pretrain(get_recipe("rotation", "smoke", **TINY, seed=3), copied, quiet=True)


def test_nan_names_the_step_and_the_last_good_checkpoint(tmp_path):
    recipe = get_recipe("rotation", "smoke", **TINY, optimizer__lr=1e30)
    with pytest.raises(InputError, match=r"at step \d+ \(learning rate .*last good checkpoint: .*lower --optimizer.lr"):
        pretrain(recipe, tmp_path, save_every=1, quiet=True)
    for path in list_checkpoints(tmp_path / "checkpoints"):
        with np.load(path) as stored:
            assert all(np.isfinite(stored[name]).all() for name in stored.files if name.isdigit())


def test_damaged_and_foreign_checkpoints_are_refused(copied):
    recipe = get_recipe("rotation", "smoke", **TINY)
    source = open_source("digits", "train")
    path = pathlib.Path(list_checkpoints(copied / "checkpoints")[-1])
    model = build_pretext(recipe, source)
    compile_pretext(model, recipe, plan_steps(recipe, source))
    assert load_checkpoint(path, model) == 6
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="is damaged .*put a copy of it back, or start anew"):
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
        for alone in (False, True):
            covered = []
            for first, steps, epochs in segments(begin, Plan(per_epoch, total), alone):
                covered += range(first, first + steps * epochs)
                assert (first + steps) % per_epoch == 0 and (epochs == 1 or first % per_epoch == 0 and not alone)
            assert covered[: total - begin] == list(range(begin, total)) and len(covered) < total - begin + per_epoch
    assert segments(0, Plan(10, 35)) == [(0, 10, 4)], "a run that is not resumed is one call of fit"


def test_load_pretext_has_the_heads_and_the_exported_statistics(finished, tmp_path):
    recipe = get_recipe("rotation", "smoke", **TINY)
    folder, backbone = finished
    model, again = load_pretext(folder), build_pretext(recipe, open_source("digits", "train"))
    for ours, theirs in zip(model.backbone.weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    # The head is the trained one, not a new one.
    assert not np.array_equal(np.asarray(model.head.kernel), np.asarray(again.head.kernel))
    with pytest.raises(InputError, match="no run at"):
        load_pretext(tmp_path / "nowhere")
