"""A clustering that dies is made again alike: runs of DeeperCluster that are killed in any phase and go on."""

import importlib
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from revisit_ssl.distribute import to_numpy
from revisit_ssl.recipe import override, to_json
from revisit_ssl.testing.pretext import small_recipe
from revisit_ssl.training.build import build_pretext, compile_pretext, open_pretraining, plan_steps
from revisit_ssl.training.checkpoints import list_checkpoints, load_checkpoint
from revisit_ssl.training.pretrain import pretrain

ROOT = pathlib.Path(__file__).parents[2]

WHERE = {  # what is killed: a function in whose place one stands that dies when it is called for the n-th time
    "features": "revisit_ssl.pretext.reclustering.extract_features",
    "pca": "revisit_ssl.pretext.reclustering.fit_whitening",
    "kmeans": "revisit_ssl.clustering.two_levels.kmeans",
    "heads": "revisit_ssl.pretext.deepercluster.new_values",
    "training": "revisit_ssl.training.loop.save_checkpoint",  # after 0, 3, 6, 9, 10, 12 and 14 steps
}
RUN = """
import importlib, os, signal, sys
import revisit_ssl
from revisit_ssl.training.pretrain import pretrain
from revisit_ssl.training.workdir import read_recipe_file
from revisit_ssl.backbones import BACKBONES
from revisit_ssl.testing import tiny_backbone
BACKBONES["tiny"] = tiny_backbone
recipe, folder, where, calls = read_recipe_file(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
if where != "none":
    module, _, name = where.rpartition(".")
    module, seen = importlib.import_module(module), []
    right = getattr(module, name)
    def dies(*args, **options):
        seen.append(1)
        if len(seen) == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return right(*args, **options)
    setattr(module, name, dies)
pretrain(recipe, folder, resume=True, save_every=5, quiet=True)
"""


def restart_recipe():
    # Ten steps an epoch.
    return small_recipe("deepercluster", max_steps=24, epochs=3, fraction=0.14, deterministic=True, probes={})


def in_a_process(recipe_file, folder, where, calls):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RUN, str(recipe_file), str(folder), where, str(calls)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_run_that_is_killed_twice_goes_on_to_the_bit(tmp_path):
    """Killed in the second extraction of features, gone on, killed in k-means, gone on: as if nothing had happened."""
    recipe = restart_recipe()
    (tmp_path / "recipe.json").write_text(to_json(recipe))
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, where, calls in ((whole, "none", 0), (cut, "features", 2), (cut, "kmeans", 3), (cut, "none", 0)):
        process = in_a_process(tmp_path / "recipe.json", folder, WHERE.get(where, where), calls)
        _, said = process.communicate(timeout=300)
        assert process.returncode == (0 if where == "none" else -signal.SIGKILL), said[-2000:]
    states = newest(whole), newest(cut)
    for key, value in states[0].items():
        np.testing.assert_array_equal(states[1][key], value, err_msg=key)
    assert not (cut / "clustering-0").exists()


class Killed(Exception):
    """Stands for a process that dies."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """State at the end of a run in which nothing died."""
    return last_state(short_recipe(), tmp_path_factory.mktemp("whole"))


def short_recipe():
    """Its second clustering is the last."""
    return override(restart_recipe(), deterministic=False, max_steps=14)


@pytest.mark.parametrize(("phase", "calls"), [("features", 2), ("pca", 2), ("kmeans", 4), ("kmeans", 5), ("heads", 5),
                                             ("training", 3), ("training", 7)])
def test_every_phase_is_done_again_alike(phase, calls, undisturbed, tmp_path, monkeypatch):
    """As above in one process, phase by phase: the clustering of the second epoch dies and is made again."""
    recipe = short_recipe()
    seen, where = [], WHERE[phase]
    right = resolve(where)

    def dies(*args, **options):
        seen.append(1)
        if len(seen) == calls:
            raise Killed
        return right(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(where, dies)
        with pytest.raises(Killed):
            last_state(recipe, tmp_path / "cut")
    again = last_state(recipe, tmp_path / "cut")
    for key, value in undisturbed.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)


def last_state(recipe, folder):
    pretrain(recipe, folder, resume=True, save_every=3, quiet=True)
    return newest(folder)


def newest(folder):
    """{place: array} of the newest checkpoint: all variables, without the times of the log."""
    with np.load(list_checkpoints(folder / "checkpoints")[-1]) as stored:
        return {name: stored[name] for name in stored.files if name.isdigit()}


def resolve(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_a_clustering_is_saved_as_soon_as_it_is_made(tmp_path, monkeypatch):
    recipe = override(restart_recipe(), deterministic=False)

    def interrupts(*args, **options):
        raise Killed

    monkeypatch.setattr("revisit_ssl.pretext.base.Pretext.fit", interrupts, raising=False)
    with pytest.raises(Killed):
        pretrain(recipe, tmp_path, quiet=True)
    model = build_pretext(recipe, source := open_pretraining(recipe))
    compile_pretext(model, recipe, plan_steps(recipe, source))
    assert load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[-1], model) == 0
    assert not model.begin_epoch(0, source) and to_numpy(model.clustering.labels).any()
