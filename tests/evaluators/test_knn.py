"""Weighted kNN against the official outputs of CLD and of the MoCo demo, and against a loop."""

import pathlib

import numpy as np
import pytest

from revisit_ssl.errors import InputError
from revisit_ssl.evaluators.base import FeatureSplit, topk_percent
from revisit_ssl.evaluators.knn import KNN
from revisit_ssl.features.neighbours import class_scores, nearest

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
CLD = np.load(GOLDENS / "cld" / "knn.npz")
MOCO = np.load(GOLDENS / "moco" / "demo_knn_monitor.npz")


@pytest.mark.parametrize("k, sigma", [(12, 0.1), (60, 0.1), (1, 0.1), (12, 1.0)])
def test_scores_and_ranking_equal_cld(k, sigma):
    name = f"K{k}_sigma{sigma:g}"
    classes = int(CLD["n_classes"])
    scores = class_scores(CLD["test_features"], CLD["gallery_features"], CLD["gallery_labels"], classes, k, sigma)
    np.testing.assert_allclose(scores, CLD[f"{name}_class_scores"], rtol=1e-5)
    np.testing.assert_array_equal(scores.argmax(axis=1), CLD[f"{name}_ranking"][:, 0])
    gallery = FeatureSplit(CLD["gallery_features"], CLD["gallery_labels"])
    queries = FeatureSplit(CLD["test_features"], CLD["test_labels"])
    score = KNN(neighbours=k, temperature=sigma).score(gallery, None, queries, num_classes=classes)
    assert score.top1 == pytest.approx(100 * CLD[f"{name}_top1"])
    assert score.top5 == pytest.approx(100 * CLD[f"{name}_top5"])


def test_prediction_equals_the_moco_demo():
    classes = int(MOCO["num_classes"])
    scores = class_scores(
        MOCO["query_features"], MOCO["bank_features"], MOCO["bank_labels"], classes, int(MOCO["k"]), MOCO["temperature"]
    )
    ranking = MOCO["predicted_class_ranking"]
    np.testing.assert_array_equal(scores.argmax(axis=1), ranking[:, 0])
    assert topk_percent(scores, MOCO["query_labels"], 1) == pytest.approx(float(MOCO["top1_accuracy_percent"]))


def test_blocks_give_what_one_sort_gives(monkeypatch):
    draw = np.random.default_rng(0)
    gallery, queries = draw.normal(size=(97, 6)).astype("f4"), 5 * draw.normal(size=(23, 6)).astype("f4")
    gallery[50] = gallery[3]  # equal rows: the earlier one first
    queries[7] = 0  # no direction: cosine 0 with everything
    monkeypatch.setattr("revisit_ssl.features.checks.BLOCK_VALUES", 6 * 20)
    monkeypatch.setattr("revisit_ssl.features.neighbours._QUERIES", 10)
    similarities, indices = nearest(queries, gallery, 30)
    unit = gallery.astype(float) / np.linalg.norm(gallery.astype(float), axis=1, keepdims=True)
    expected = queries @ unit.T / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
    order = np.argsort(-expected, axis=1, kind="stable")[:, :30]
    np.testing.assert_allclose(similarities, np.take_along_axis(expected, order, 1), atol=1e-6)
    np.testing.assert_array_equal(indices[:7], order[:7])
    np.testing.assert_array_equal(indices[7], np.arange(30))
    assert all(len(set(row)) == 30 for row in indices.tolist())


def test_more_neighbours_than_images_are_cut_with_a_note():
    split = FeatureSplit(CLD["gallery_features"], CLD["gallery_labels"])
    score = KNN().score(split, split, split, num_classes=6)
    assert score.hyperparameters["neighbours"] == 60 and "60 training rows" in score.extra["note"]
    assert "note" not in KNN(neighbours=60).score(split, split, split, num_classes=6).extra


def test_bad_settings():
    split = FeatureSplit(CLD["gallery_features"], CLD["gallery_labels"])
    with pytest.raises(InputError, match="at least 1"):
        KNN(neighbours=0).score(split, split, split, num_classes=6)
    with pytest.raises(InputError, match="temperature 0 must be at least"):
        KNN(temperature=0).score(split, split, split, num_classes=6)
