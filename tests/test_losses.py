"""Triplet loss and retrieval against the official numbers and loops typed from the formula."""

import pathlib
import warnings

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.pretext.losses import pairwise_distances, retrieval_accuracy, triplet_semihard

GOLDEN = pathlib.Path(__file__).parent / "goldens" / "revisiting" / "triplet_semihard.npz"
METRICS = {"L2": "l2", "squared_L2": "squared_l2", "angular": "angular"}  # the file's names: ours
BATCHES = (
    "balanced_unit_rows", "unbalanced_raw", "clustered_easy", "wide_scale_no_semihard", "all_same_label",
    "two_rows_same", "exact_duplicates",
)


def loss_and_gradient(x, labels, margin, distance="squared_l2", jit=False):
    @tf.function(autograph=False, jit_compile=jit)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = triplet_semihard(x, labels, margin, distance)
        return loss, tape.gradient(loss, x)

    return [value.numpy() for value in run(tf.constant(x, tf.float32))]


def brute_force(x, labels, margin):
    """FaceNet's loss and its gradient in float64, squared distances, triplet by triplet."""
    x = np.asarray(x, np.float64)
    loss, gradient, pairs = 0.0, np.zeros_like(x), 0
    for a in range(len(x)):
        for p in range(len(x)):
            if a == p or labels[a] != labels[p]:
                continue
            pairs += 1
            far = sum((x[a] - x[p]) ** 2)
            others = [(sum((x[a] - x[n]) ** 2), n) for n in range(len(x)) if labels[n] != labels[a]]
            semihard = [(d, n) for d, n in others if d > far]
            d, n = min(semihard) if semihard else max(others)
            if margin + far - d > 0:
                loss += margin + far - d
                gradient[a] += 2 * (x[a] - x[p]) - 2 * (x[a] - x[n])
                gradient[p] -= 2 * (x[a] - x[p])
                gradient[n] += 2 * (x[a] - x[n])
    return loss / pairs, gradient / pairs


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("batch", BATCHES)
def test_triplet_golden(batch, metric):
    golden = np.load(GOLDEN)
    x, labels = golden[f"{batch}__embeddings"], golden[f"{batch}__labels"]
    for margin in (0.5, 1.0):
        key = f"{batch}__{metric}__margin_{margin}"
        loss, gradient = loss_and_gradient(x, labels, margin, METRICS[metric])
        duplicates = batch == "exact_duplicates"  # which of two equal rows is taken is anyone's choice
        np.testing.assert_allclose(loss, golden[f"{key}__loss"], rtol=1e-6, atol=1e-3 if duplicates else 1e-5)
        if not duplicates:
            np.testing.assert_allclose(gradient, golden[f"{key}__gradient"], atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("groups", [[3, 3, 3, 3], [5, 1, 2, 4, 1], [8, 8]])
def test_triplet_is_the_formula(groups, jit):
    draw = np.random.default_rng(len(groups))
    labels = draw.permutation(np.repeat(np.arange(len(groups)) * 7 - 3, groups))
    x = draw.normal(size=(len(labels), 4)) + 0.8 * draw.normal(size=(30, 4))[labels]
    loss, gradient = loss_and_gradient(x, labels, 3.0, jit=jit)
    expected, expected_gradient = brute_force(np.float32(x), labels, 3.0)
    assert expected > 0.3
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-5)


def test_triplet_by_hand():
    # Row 0: positive at 1, negatives at 4 and 9. Row 1: positive at 1, negatives at 1 (not beyond) and 4.
    x, labels = [[0.0], [1.0], [2.0], [-3.0]], [0, 0, 1, 2]
    np.testing.assert_allclose(triplet_semihard(tf.constant(x), labels, 3.5), ((3.5 + 1 - 4) + 0) / 2)
    # Row 1: its negatives are at 1 and 16.
    np.testing.assert_allclose(triplet_semihard(tf.constant(x), labels, 20.0), ((20 + 1 - 4) + (20 + 1 - 16)) / 2)
    # A constant embedding costs the margin.
    assert float(triplet_semihard(tf.ones([6, 3]), [0, 0, 0, 1, 1, 1], 0.5)) == 0.5


def test_no_positive_pair_costs_nothing_and_is_said():
    x = np.random.default_rng(0).normal(size=(5, 3))
    with pytest.warns(UserWarning, match="no two rows share a label"):
        loss, gradient = loss_and_gradient(x, np.arange(5), 0.5, "l2")
    assert loss == 0 and not gradient.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss_and_gradient(x, np.array([0, 0, 1, 2, 3]), 0.5)


def test_triplet_keeps_numbers_finite_and_small():
    labels = np.repeat(np.arange(8), 8)
    run = tf.function(lambda x: tf.gradients(triplet_semihard(x, labels, 0.5, "l2"), x)[0], autograph=False)
    graph = run.get_concrete_function(tf.TensorSpec([64, 16])).graph
    constants = [op.get_attr("value") for op in graph.get_operations() if op.type == "Const"]
    assert all(np.isfinite(tf.make_ndarray(value)).all() for value in constants if value.dtype == 1)
    sizes = [t.shape.num_elements() for op in graph.get_operations() for t in op.outputs]
    assert None not in sizes and max(sizes) <= 3 * 64 * 64, "N^2 numbers (an index has three), never N^3"
    # Rows that coincide have distance 0, whose root has no derivative.
    assert np.isfinite(run(tf.ones([64, 16]))).all() and np.isfinite(run(tf.zeros([64, 16]))).all()


def test_distances_are_numpys():
    x = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for distance, expected in (("squared_l2", squared), ("l2", np.sqrt(squared)), ("angular", 1 - unit @ unit.T)):
        np.testing.assert_allclose(pairwise_distances(x, distance), expected, atol=1e-5)
    with pytest.raises(InputError, match="unknown distance 'cosine'; one of"):
        pairwise_distances(x, "cosine")


def test_retrieval_accuracy():
    x = tf.constant([[0.0], [1.0], [1.5], [10.0], [11.0], [5.9]])
    # Nearest: 0 -> 1, 1 -> 2, 2 -> 1, 3 -> 4, 4 -> 3, 5 -> 3.
    assert float(retrieval_accuracy(x, [0, 0, 1, 1, 2, 1])) == pytest.approx(2 / 6)
    assert float(retrieval_accuracy(x, [0, 0, 0, 1, 1, 1])) == 1.0
