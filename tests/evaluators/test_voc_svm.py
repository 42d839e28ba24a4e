"""SVMs on VOC: the official weights, costs and average precisions; AP by hand; what is left out and refused."""

import pathlib

import numpy as np
import pytest

from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import FeatureSplit
from revisit_ssl.evaluators.voc_svm import COSTS, VOCSVM, envelope_ap, unit

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "evaluation"


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDENS / "voc_svm.npz")


def test_costs(golden):
    assert len(COSTS) == 23
    np.testing.assert_allclose(COSTS, golden["costs"], rtol=1e-12)


def test_fits_equal_the_official_ones(golden):
    x, labels = unit(golden["train_features"]), golden["train_labels"]
    assert (labels == -1).any(), "a difficult object counts as absent"
    for c in range(4):
        fit = VOCSVM().fit(x, labels[:, c] == 1)
        scores, expected = fit.cv_results_["mean_test_score"], golden["cross_validation_ap"][c]
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-3)
        assert fit.best_params_["C"] == golden["chosen_cost"][c]
        weights = np.append(fit.best_estimator_.coef_[0], fit.best_estimator_.intercept_)
        np.testing.assert_allclose(weights, golden["weights_then_bias"][c], rtol=1e-3, atol=1e-3)
        decisions = fit.decision_function(unit(golden["test_features"]))
        np.testing.assert_allclose(decisions, golden["test_decision_values"][:, c], rtol=1e-3, atol=1e-3)


def test_map_equals_the_official_one(golden):
    train = FeatureSplit(golden["train_features"], golden["train_labels"])
    test = FeatureSplit(golden["test_features"], golden["test_labels"])
    score = VOCSVM().score(train, test, class_names=tuple("abcd"))
    assert score.metrics == {"map": pytest.approx(100 * float(golden["test_map"]), abs=0.1)}
    np.testing.assert_allclose(list(score.extra["ap"].values()), 100 * golden["test_ap"], rtol=0, atol=0.1)
    assert list(score.extra["costs"].values()) == golden["chosen_cost"].tolist() and "left_out" not in score.extra
    assert score.top1 is None and score.converged and "jobs" not in score.hyperparameters


def test_average_precision_equals_the_official_one():
    golden = np.load(GOLDENS / "voc_classification_ap.npz")
    for c, expected in enumerate(golden["ap_envelope_svm"]):
        counted = golden["labels"][:, c] >= 0
        found = envelope_ap(golden["labels"][counted, c] == 1, golden["scores"][counted, c])
        assert found == pytest.approx(expected, abs=1e-10)


def test_average_precision_by_hand():
    # N P N N P P: precisions at the positives 1/2, 2/5, 3/6; the envelope is 1/2 everywhere.
    assert envelope_ap(np.array([0, 1, 0, 0, 1, 1]), -np.arange(6)) == pytest.approx(0.5)
    # P N P N: 1 up to recall 1/2, then 2/3.
    assert envelope_ap(np.array([1, 0, 1, 0]), [4, 3, 2, 1]) == pytest.approx((1 + 2 / 3) / 2)
    assert envelope_ap(np.array([1, 1, 0]), [2, 1, 0]) == 1
    # A collapsed network: equal scores give the share of positives, whatever the order of the images.
    for present in ([1, 0, 0, 0, 1], [0, 0, 0, 1, 1]):
        assert envelope_ap(np.array(present), np.zeros(5)) == pytest.approx(2 / 5)
    assert envelope_ap(np.array([1, 0, 1, 0]), [1, 1, 1, 0]) == pytest.approx(2 / 3)


def noise(rows, labels, name="trainval"):
    return FeatureSplit(np.random.default_rng(rows).normal(size=(rows, 5)).astype("f4"), np.array(labels), name)


def test_classes_of_too_few_images_are_left_out():
    labels = np.zeros((12, 4), int)
    labels[:3, 0] = labels[:2, 1] = labels[:4, 2] = labels[:, 3] = 1  # the last one is everywhere
    tested = np.zeros((8, 4), int)
    tested[:2, 0] = tested[:2, 1] = tested[:2, 3] = 1
    tested[0, 2] = -1
    score = VOCSVM(costs=(1.0,)).score(noise(12, labels), noise(8, tested), class_names=("a", "b", "c", "d"))
    assert list(score.extra["ap"]) == ["a"] and score.extra["left_out"] == ["b", "c", "d"]
    assert score.metrics["map"] == score.extra["ap"]["a"]


def test_refusals():
    good, names = noise(12, np.eye(12, 3, dtype=int)), ("a", "b", "c")
    for train, changes, message in (
        (good, {}, "no class has 3 images in trainval"),
        (good, {"costs": ()}, "numbers above 0"),
        (noise(12, np.full((12, 3), 2)), {}, "must be 1 .present., 0 .absent., -1 .difficult."),
        (noise(12, np.zeros(12, int)), {}, r"12 rows of 3 classes and labels \[12\]"),
        (FeatureSplit(np.full((12, 5), np.nan, "f4"), np.zeros((12, 3), int), "x"), {}, "not finite"),
    ):
        with pytest.raises(InputError, match=message):
            VOCSVM(**changes).score(train, good, class_names=names)
