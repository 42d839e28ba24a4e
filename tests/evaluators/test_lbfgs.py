"""The L-BFGS probe against the stored optimum of the specification's problem, and against scikit-learn."""

import dataclasses
import pathlib
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression

from revisit_ssl.evaluators.base import FeatureSplit, Standardizer, topk_percent
from revisit_ssl.evaluators.lbfgs import LBFGS
from revisit_ssl.evaluators.logistic import LogisticRegression

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "revisiting" / "lbfgs_logistic_regression.npz")
CASES = ["lambda_100_over_MC", "lambda_1e-2", "lambda_1e-3"]
CLASSES = 4


def problem(dtype):
    return LogisticRegression(GOLDEN["train_features"], GOLDEN["train_labels"], CLASSES, dtype=dtype)


def check_point():
    """The check point before it was rounded to float32 for storage (which alone moves the objective by up to 7e-8).

    The stored float64 gradients give it back: two of them differ by 2 (lambda1 - lambda2) W, and the bias follows from
    its part of the gradient by Newton's method, up to a constant that changes nothing.
    """
    gradients = [GOLDEN[f"f64_{case}__check_point_gradient"] for case in CASES]
    penalties = [float(GOLDEN[f"f64_{case}__lambda"]) for case in CASES]
    weights = ((gradients[0] - gradients[1])[:32] / (2 * (penalties[0] - penalties[1]))).reshape(8, CLASSES)
    bias = GOLDEN["check_point__bias"].astype(np.float64)
    features, target = GOLDEN["train_features"].astype(np.float64), np.eye(CLASSES)[GOLDEN["train_labels"]]
    for _ in range(3):
        odds = np.exp(features @ weights + bias)
        odds /= odds.sum(axis=1, keepdims=True)
        hessian = np.diag(odds.mean(axis=0)) - odds.T @ odds / len(odds)
        bias = bias - np.linalg.pinv(hessian) @ ((odds - target).mean(axis=0) - gradients[1][32:])
    np.testing.assert_allclose(weights, GOLDEN["check_point__weights"], rtol=0, atol=3e-8)
    np.testing.assert_allclose(bias, GOLDEN["check_point__bias"], rtol=0, atol=3e-8)
    return np.concatenate([weights.ravel(), bias])


@pytest.mark.parametrize("case", CASES)
def test_objective_and_gradient_at_the_check_point(case):
    penalty = float(GOLDEN[f"f64_{case}__lambda"])
    value, gradient = problem("float64").objective(check_point(), penalty)
    np.testing.assert_allclose(value, GOLDEN[f"f64_{case}__check_point_objective"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(gradient, GOLDEN[f"f64_{case}__check_point_gradient"], rtol=0, atol=1e-9)
    value, gradient = problem("float32").objective(check_point(), penalty)
    np.testing.assert_allclose(value, GOLDEN[f"f64_{case}__check_point_objective"], rtol=1e-6)
    np.testing.assert_allclose(gradient, GOLDEN[f"f64_{case}__check_point_gradient"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES)
def test_scipys_default_settings_reach_the_stored_minimum(case, dtype):
    fit = problem(dtype).minimize(float(GOLDEN[f"f64_{case}__lambda"]))
    np.testing.assert_allclose(fit.objective, GOLDEN[f"f64_{case}__default_settings_objective"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(fit.objective, GOLDEN[f"f64_{case}__optimum_objective"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(fit.weights, GOLDEN[f"f64_{case}__default_settings_weights"], rtol=0, atol=1e-2)
    np.testing.assert_allclose(fit.weights, GOLDEN[f"f64_{case}__optimum_weights"], rtol=0, atol=1e-2)
    assert fit.converged and fit.iterations <= 800
    for split in ("train", "test"):
        accuracy = topk_percent(fit.scores(GOLDEN[f"{split}_features"]), GOLDEN[f"{split}_labels"].astype(int), 1)
        np.testing.assert_allclose(accuracy, 100 * GOLDEN[f"{case}__{split}_accuracy"], rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_tight_tolerances_reach_the_optimum(case):
    fit = problem("float64").minimize(
        float(GOLDEN[f"f64_{case}__lambda"]), gradient_tolerance=1e-10, function_tolerance=0.0
    )
    np.testing.assert_allclose(fit.weights, GOLDEN[f"f64_{case}__optimum_weights"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(fit.weights, GOLDEN[f"f64_{case}__sklearn_weights"], rtol=0, atol=1e-5)
    bias = fit.bias - fit.bias.mean()
    np.testing.assert_allclose(bias, GOLDEN[f"f64_{case}__optimum_bias_centred"], rtol=0, atol=1e-6)


def test_paper_mode_is_the_paper_penalty_on_raw_features():
    train, test = (FeatureSplit(GOLDEN[f"{s}_features"], GOLDEN[f"{s}_labels"]) for s in ("train", "test"))
    score = LBFGS(mode="paper").score(train, test, test, num_classes=CLASSES)
    assert score.hyperparameters["penalty"] == 100 / (8 * CLASSES) == GOLDEN["f64_lambda_100_over_MC__lambda"]
    np.testing.assert_allclose(score.top1, 100 * GOLDEN["lambda_100_over_MC__test_accuracy"], rtol=1e-6)
    assert score.top5 is None and score.converged


def test_penalty_scale_turns_the_mean_over_images_into_a_sum():
    # mean + (s / N) / (M C) |W|^2 has the minimum of sum + s / (M C) |W|^2.
    train = FeatureSplit(GOLDEN["train_features"], GOLDEN["train_labels"])
    probe = dataclasses.replace(LBFGS(mode="paper"), penalty_scale=100 / len(train.features))
    score = probe.score(train, train, train, num_classes=CLASSES)
    assert score.hyperparameters["penalty"] == 100 / len(train.features) / (8 * CLASSES)
    paper = LBFGS(mode="paper").score(train, train, train, num_classes=CLASSES)
    assert score.extra["objective"] < paper.extra["objective"]


def blobs(rows, seed, width=16, classes=6, spread=2.0, scale=1.0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, rows)
    centres = np.random.default_rng(99).normal(size=(classes, width))
    return FeatureSplit(((centres[labels] + spread * draw.normal(size=(rows, width))) * scale).astype("f4"), labels)


def test_agrees_with_scikit_learn_on_many_blocks_of_a_memory_map(tmp_path, monkeypatch):
    data = blobs(700, 0)
    np.save(tmp_path / "features.npy", data.features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    monkeypatch.setattr("revisit_ssl.evaluators.lbfgs._RESIDENT_BYTES", 0)
    monkeypatch.setattr("revisit_ssl.features.checks.BLOCK_VALUES", 16 * 150)  # 5 blocks, the last one shorter
    penalty = 1e-3
    ours = LogisticRegression(mapped, data.labels, 6).minimize(penalty, gradient_tolerance=1e-6, function_tolerance=0)
    theirs = SklearnLogisticRegression(C=1 / (2 * 700 * penalty), tol=1e-8, max_iter=800).fit(
        data.features.astype(np.float64), data.labels
    )
    # Where the gradient is below the tolerance, weights may be off by it over the least curvature, 2 * penalty: 5e-4.
    # Which of them the float32 products end at depends on their order, oneDNN's or Eigen's.
    np.testing.assert_allclose(ours.weights, theirs.coef_.T, rtol=0, atol=5e-4)
    np.testing.assert_allclose(ours.bias - ours.bias.mean(), theirs.intercept_, rtol=0, atol=5e-4)


def test_select_takes_the_penalty_that_is_best_on_val():
    train, val, test = blobs(60, 0, width=40), blobs(800, 1, width=40), blobs(800, 2, width=40)
    score = LBFGS().score(train, val, test, num_classes=6)
    accuracy = score.extra["val_top1_by_penalty"]
    assert score.extra["val_top1"] == max(accuracy.values()) == accuracy[f"{score.hyperparameters['penalty']:g}"]
    # From strong to weak, until two in a row have not beaten the best.
    assert list(accuracy) == ["0.1", "0.01", "0.001", "0.0001", "1e-05", "1e-06"][: len(accuracy)]
    assert len(accuracy) == 6 or list(accuracy.values())[-3] == score.extra["val_top1"]
    every = LBFGS(patience=6).score(train, val, test, num_classes=6)
    assert len(every.extra["val_top1_by_penalty"]) == 6 and every.top1 == score.top1
    # The path is independent of warm starts: the chosen one alone gives the same accuracy.
    alone = LBFGS(penalties=(score.hyperparameters["penalty"],)).score(train, val, test, num_classes=6)
    assert alone.top1 == pytest.approx(score.top1, abs=0.3)


def test_standardised_fit_does_not_depend_on_units():
    """Features times 1000, shifted by 500, and one constant column: the same classifier."""
    train, val, test = (blobs(300, s) for s in range(3))

    def changed(split):
        extra = np.full((len(split.features), 1), 7.0, np.float32)
        return FeatureSplit(np.hstack([split.features * 1000 + 500, extra]), split.labels)

    plain = LBFGS(penalties=(1e-3,)).score(train, val, test, num_classes=6)
    units = LBFGS(penalties=(1e-3,)).score(changed(train), changed(val), changed(test), num_classes=6)
    assert units.top1 == pytest.approx(plain.top1, abs=0.4)
    assert units.extra["objective"] == pytest.approx(plain.extra["objective"], rel=1e-4)


def test_standardizer_against_numpy():
    features = blobs(200, 3).features
    features[:, 2] = -4.0
    out = Standardizer.fit(features)(features)
    keep = [i for i in range(16) if i != 2]
    expected = (features[:, keep] - features[:, keep].mean(0)) / features[:, keep].std(0)
    np.testing.assert_allclose(out[:, keep], expected, atol=1e-4)
    np.testing.assert_array_equal(out[:, 2], 0)


def test_too_few_iterations_are_reported_as_not_converged():
    data = blobs(200, 0)
    score = LBFGS(mode="paper", max_iterations=2).score(data, data, data, num_classes=6)
    assert score.converged is False and score.extra["iterations"] == 2 and "ITERATIONS" in score.extra["message"]


def test_a_class_without_images_is_never_predicted_and_does_no_harm():
    data = blobs(300, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with_empty = LBFGS(penalties=(1e-3,)).score(data, data, data, num_classes=9)
    without = LBFGS(penalties=(1e-3,)).score(data, data, data, num_classes=6)
    assert with_empty.top1 == pytest.approx(without.top1, abs=0.5)
