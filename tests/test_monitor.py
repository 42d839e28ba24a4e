"""--monitor knn:N: a look every N epochs, a warning when the features collapse, nothing selected."""

import numpy as np
import pytest

from revisit_ssl.errors import InputError
from revisit_ssl.monitor import Monitor
from revisit_ssl.progress import read_log
from revisit_ssl.recipes import get_recipe
from revisit_ssl.training import build_backbone, parse_monitor, pretrain


def test_looks_are_logged_and_do_not_change_the_run(tmp_path):
    recipe = get_recipe("rotation", "smoke", batch_size=256, epochs=2.0, max_steps=None)
    watched = pretrain(recipe, tmp_path / "watched", monitor="knn:1", quiet=True)
    plain = pretrain(recipe, tmp_path / "plain", quiet=True)
    rows = read_log(tmp_path / "watched" / "monitor.csv")
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(10 < row["knn_top1"] <= 100 and row["effective_rank"] > 1 for row in rows)
    for a, b in zip(watched.weights, plain.weights, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-3, atol=1e-4)


def test_collapse_is_said_aloud(tmp_path, capsys):
    recipe = get_recipe("rotation", "smoke")
    backbone = build_backbone(recipe)
    for weight in backbone.weights:
        if weight.path.endswith("/kernel"):
            weight.assign(np.zeros(weight.shape))  # every image gets the same features
    monitor = Monitor(backbone, recipe, 1, str(tmp_path), None)
    monitor.set_model(type("Model", (), {"optimizer": type("O", (), {"iterations": 3})})())
    monitor.on_epoch_end(0)
    assert "warning: features have collapsed at epoch 1" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["svm:1", "knn", "knn:0", "knn:x"])
def test_bad_monitor(text):
    with pytest.raises(InputError, match="expected knn:N"):
        parse_monitor(text)
