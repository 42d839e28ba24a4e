"""A clustering that dies is made again alike: runs of DeeperCluster that are killed in any phase and go on."""

import contextlib
import importlib
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from revisit_ssl.distribute import to_numpy
from revisit_ssl.recipe import to_json
from revisit_ssl.testing.pretext import small_recipe
from revisit_ssl.training.build import build_pretext, compile_pretext, open_pretraining, plan_steps
from revisit_ssl.training.checkpoints import list_checkpoints, load_checkpoint, step_of
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
import os, signal, sys
import revisit_ssl
from revisit_ssl.backbones import BACKBONES
from revisit_ssl.testing import tiny_backbone, two_devices
from revisit_ssl.training.workdir import read_recipe_file
from tests.pretext.test_reclustering import dying, last_state
BACKBONES["tiny"] = tiny_backbone
two_devices()
with dying(sys.argv[3], int(sys.argv[4]), lambda: os.kill(os.getpid(), signal.SIGKILL)):
    last_state(read_recipe_file(sys.argv[1]), sys.argv[2])
"""


def restart_recipe(**changes):
    """Ten steps an epoch; the second clustering is the last."""
    return small_recipe("deepercluster", max_steps=14, epochs=3, fraction=0.14, probes={}, **changes)


class Killed(Exception):
    """Stands for a process that dies."""


def dies():
    raise Killed


@contextlib.contextmanager
def dying(phase, calls, end=dies):
    """``end`` is called where a phase of WHERE begins for the ``calls``-th time."""
    module, _, name = WHERE[phase].rpartition(".")
    right, seen = getattr(importlib.import_module(module), name), []

    def counted(*args, **options):
        seen.append(1)
        if len(seen) == calls:
            end()
        return right(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WHERE[phase], counted)
        yield


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """State at the end of a run in which nothing died."""
    return last_state(restart_recipe(), tmp_path_factory.mktemp("whole"))


def assert_ends_alike(folder, undisturbed):
    """The run goes on to the end and has the weights, to the bit, of one in which nothing died."""
    again = last_state(restart_recipe(), folder)
    for key, value in undisturbed.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)


def test_a_clustering_that_dies_in_each_of_its_phases_is_made_again_alike(undisturbed, tmp_path):
    """A process is killed in the second extraction of features; gone on, the same clustering dies further on each time,
    in the whitening, in k-means of both levels, at the new heads."""
    recipe_file, folder = tmp_path / "recipe.json", tmp_path / "cut"
    recipe_file.write_text(to_json(restart_recipe()))
    command = [sys.executable, "-c", RUN, str(recipe_file), str(folder), "features", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    for phase, calls in (("pca", 1), ("kmeans", 1), ("kmeans", 2), ("heads", 1)):
        with dying(phase, calls), pytest.raises(Killed):
            last_state(restart_recipe(), folder)
        assert newest_step(folder) == 9, f"{phase}: nothing is saved before the clustering is whole"
    assert_ends_alike(folder, undisturbed)
    assert not list(folder.glob("clustering-*"))


@pytest.mark.parametrize("calls", [3, 7])
def test_training_that_dies_goes_on_with_its_clusters(calls, undisturbed, tmp_path):
    with dying("training", calls), pytest.raises(Killed):
        last_state(restart_recipe(), tmp_path)
    assert_ends_alike(tmp_path, undisturbed)


def last_state(recipe, folder):
    """{place: array} of the newest checkpoint when the run has ended: all variables, without the times of the log."""
    folder = pathlib.Path(folder)
    pretrain(recipe, folder, resume=True, save_every=3, quiet=True)
    with np.load(list_checkpoints(folder / "checkpoints")[-1]) as stored:
        return {name: stored[name] for name in stored.files if name.isdigit()}


def newest_step(folder):
    return step_of(list_checkpoints(folder / "checkpoints")[-1])


def test_a_clustering_is_saved_as_soon_as_it_is_made(tmp_path, monkeypatch):
    recipe = restart_recipe()
    monkeypatch.setattr("revisit_ssl.pretext.base.Pretext.fit", lambda *args, **options: dies(), raising=False)
    with pytest.raises(Killed):
        pretrain(recipe, tmp_path, quiet=True)
    model = build_pretext(recipe, source := open_pretraining(recipe))
    compile_pretext(model, recipe, plan_steps(recipe, source))
    assert load_checkpoint(list_checkpoints(tmp_path / "checkpoints")[-1], model) == 0
    assert not model.begin_epoch(0, source) and to_numpy(model.clustering.labels).any()
