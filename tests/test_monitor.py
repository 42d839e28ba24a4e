"""--monitor knn:N: a look every N epochs, a warning when the features collapse, nothing selected."""

import dataclasses

import keras
import numpy as np
import pytest

from revisit_ssl.data import open_source
from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.training.build import Plan, build_backbone
from revisit_ssl.training.monitor import Monitor, parse_monitor
from revisit_ssl.training.pretrain import pretrain
from revisit_ssl.training.progress import read_log


def test_looks_are_logged_every_n_epochs(tmp_path):
    recipe = get_recipe("rotation", "smoke", backbone="tiny", batch_size=512, epochs=4.0, max_steps=None)
    pretrain(recipe, tmp_path, monitor="knn:2", quiet=True)
    rows = read_log(tmp_path / "monitor.csv")
    assert [(row["epoch"], row["step"]) for row in rows] == [(2, 4), (4, 8)]
    assert all(10 < row["knn_top1"] <= 100 and row["effective_rank"] > 1 for row in rows)


def test_a_look_that_a_kill_has_prevented_is_made_up_for(tmp_path):
    recipe = get_recipe("rotation", "smoke", backbone="tiny")
    monitor = Monitor(build_backbone(recipe), recipe, 2, str(tmp_path), None, plan=Plan(per_epoch=2, total=9))
    for step in (0, 3, 4, 4, 6, 8, 9):  # where a run may go on: it looks after steps 4 and 8, once
        monitor.catch_up(step)
    assert [(row["epoch"], row["step"]) for row in read_log(tmp_path / "monitor.csv")] == [(2, 4), (4, 8)]


def test_a_look_changes_no_weight(tmp_path):
    recipe = get_recipe("rotation", "smoke", backbone="tiny")
    backbone = build_backbone(recipe)
    before = [np.asarray(w) for w in backbone.weights]
    scores = Monitor(backbone, recipe, 1, str(tmp_path), None).look()
    assert set(scores) == {"knn_top1", "effective_rank", "feature_std_ratio"}
    for a, b in zip(before, backbone.weights, strict=True):
        np.testing.assert_array_equal(a, np.asarray(b))
    assert backbone.trainable_variables, "still trainable afterwards"


def test_collapse_is_said_aloud(tmp_path, capsys):
    recipe = get_recipe("rotation", "smoke", backbone="tiny")
    backbone = build_backbone(recipe)
    for weight in backbone.weights:
        if weight.path.endswith("/kernel"):
            weight.assign(np.zeros(weight.shape))  # every image gets the same features
    monitor = Monitor(backbone, recipe, 1, str(tmp_path), None)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD())
    monitor.set_model(model)
    monitor.on_epoch_end(0)
    assert "warning: features have collapsed at epoch 1" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["svm:1", "knn", "knn:0", "knn:x"])
def test_bad_monitor(text):
    with pytest.raises(InputError, match="expected knn:N"):
        parse_monitor(text)


def test_the_monitor_refuses_unlabelled_images_before_training(tmp_path, monkeypatch):
    digits = open_source("digits", "train")
    some = dataclasses.replace(digits, known_labels=np.where(np.arange(digits.num_examples) % 2, digits.labels, -1))
    monkeypatch.setattr("revisit_ssl.training.monitor.open_source", lambda *args, **options: some)
    recipe = get_recipe("rotation", "smoke", backbone="tiny")
    with pytest.raises(InputError, match="digits train holds unlabelled images .* give a labelled set"):
        Monitor(build_backbone(recipe), recipe, 1, str(tmp_path), None)
