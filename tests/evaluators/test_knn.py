"""Weighted kNN against the official outputs of CLD and of the MoCo demo, and against a loop."""

import pathlib

import numpy as np
import pytest

from revisit_ssl.commands.run import parse_run
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators.base import FeatureSplit, topk_percent
from revisit_ssl.evaluators.knn import KNN
from revisit_ssl.features.neighbours import class_scores, nearest
from revisit_ssl.papers import get_recipe, sweeps
from revisit_ssl.recipe import override
from revisit_ssl.runs.identity import setting_id
from revisit_ssl.training.monitor import knn_temperature

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
    # Of one neighbour the official code counts four classes without a vote, in the order of its sort.
    assert score.top5 == pytest.approx(100 * CLD[f"{name}_top5"] if k > 1 else score.top1)


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


@pytest.mark.parametrize("k", [1, 3, 12])
def test_a_class_without_a_vote_is_no_hit(k):
    """top-5 = share of queries whose class is of one of the k nearest rows, and among the five with most votes."""
    draw = np.random.default_rng(1)
    rows, labels = draw.normal(size=(80, 4)), draw.integers(0, 10, 80)
    queries, own = draw.normal(size=(50, 4)), draw.integers(0, 10, 50)
    hits = 0
    for query, label in zip(queries, own, strict=True):
        cosines = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        votes = {}
        for i in np.argsort(-cosines)[:k]:
            votes[labels[i]] = votes.get(labels[i], 0.0) + np.exp(cosines[i] / 0.1)
        hits += label in sorted(votes, key=votes.get, reverse=True)[:5]
    gallery, asked = FeatureSplit(rows.astype("f4"), labels), FeatureSplit(queries.astype("f4"), own)
    score = KNN(neighbours=k).score(gallery, None, asked, num_classes=10)
    assert score.top5 == pytest.approx(100 * hits / 50)
    assert (score.top5 == score.top1) == (k == 1)


def test_a_label_without_a_score_is_no_hit_and_other_scores_are_as_before():
    scores, labels = np.array([[0.0, 2.0, 0.0, 0.0, 0.0]]), np.array([2])
    assert topk_percent(scores, labels, 5) == 100 and topk_percent(scores, labels, 5, above=0.0) == 0
    assert topk_percent(scores - 3, np.array([1]), 1) == 100, "logits may be negative"


# Typed flags, and the sigma that kNN then has: that of the instance loss unless it is given, 0.1 without such a loss.
SIGMAS = [
    (["npid_cld", "--preset", "cifar10"], 0.1),
    (["npid_cld", "--preset", "cifar10", "--task.temperature", "0.2"], 0.2),
    (["npid_cld", "--preset", "cifar10", "--task.temperature", "0.2", "--knn.temperature", "0.1"], 0.1),
    (["npid_cld", "--preset", "supplement"], 0.2),
    (["moco_cld", "--preset", "cifar100", "--task.temperature", "0.5"], 0.5),
    (["moco", "--preset", "stl10"], 0.07),
    (["simclr", "--preset", "small"], 0.2),
    (["moco_v2_plain", "--preset", "imagenette"], 0.2),
    (["byol", "--preset", "small"], 0.1),
    (["obow", "--preset", "cifar10"], 0.1),
    (["rotation", "--probes", "knn"], 0.1),
    (["moco", "--probes", "knn", "--protocol", "moco", "--task.temperature", "0.3"], 0.3),
]


@pytest.mark.parametrize(("arguments", "sigma"), SIGMAS)
def test_sigma_is_that_of_the_instance_loss_unless_it_is_given(arguments, sigma):
    recipe = parse_run(arguments).recipe
    assert recipe.probes["knn"].settled(recipe.task).temperature == sigma
    assert knn_temperature(recipe) == sigma, "the monitor's"
    given = override(recipe, probes=recipe.probes | {"knn": KNN(temperature=sigma)})
    assert setting_id(given) == setting_id(recipe), "whoever said it"


def test_a_sweep_over_the_temperature_moves_sigma_with_it():
    found = {}
    for variant in sweeps()["cld-a4"]:
        recipe = parse_run([variant.recipe, "--preset", "cifar100", *variant.flags]).recipe
        found[recipe.task.temperature] = recipe.probes["knn"].settled(recipe.task).temperature
    assert len(found) == 6 and all(sigma == t for t, sigma in found.items())


def test_the_score_says_the_sigma_that_was_used():
    class Two:
        endpoints, num_classes, task = ("pre_logits",), 6, get_recipe("moco", "smoke", task__temperature=0.3).task

        def three(self, endpoint):
            split = FeatureSplit(CLD["gallery_features"], CLD["gallery_labels"])
            return split, None, split

    (score,) = KNN().measure(Two())
    assert score.hyperparameters["temperature"] == 0.3


def test_bad_settings():
    split = FeatureSplit(CLD["gallery_features"], CLD["gallery_labels"])
    with pytest.raises(InputError, match="at least 1"):
        KNN(neighbours=0).score(split, split, split, num_classes=6)
    with pytest.raises(InputError, match="temperature 0 must be at least"):
        KNN(temperature=0).score(split, split, split, num_classes=6)
    with pytest.raises(InputError, match="0.001 must be at least 0.002, as must an instance loss's"):
        get_recipe("npid", "small", task__temperature=0.001)
