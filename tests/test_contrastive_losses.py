"""InfoNCE, NT-Xent, BYOL, NCE, CLD, OBoW: the official numbers and loops typed from formulas, value and gradient."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.distribute import get_strategy
from revisit_ssl.pretext.cld import CLDSpec
from revisit_ssl.pretext.losses import (
    bow_loss,
    byol_loss,
    cld_loss,
    cluster,
    cross_entropy,
    info_nce,
    info_nce_logits,
    nce,
    nce_constant,
    nt_xent,
)
from revisit_ssl.pretext.multicrop import image_major
from revisit_ssl.pretext.queue import Queue

GOLDENS = pathlib.Path(__file__).parent / "goldens"


def unit_rows(seed, n, d):
    x = np.random.RandomState(seed).normal(size=(n, d))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def with_gradients(function, *inputs):
    """(value, [gradient with respect to each input])"""
    inputs = [tf.constant(x, tf.float32) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = function(*inputs)
    return float(value), [None if g is None else g.numpy() for g in tape.gradient(value, inputs)]


def slope(function, inputs, i, at, step=1e-5):
    """Central difference of a float64 function in entry ``at`` of input ``i``."""
    moved = []
    for sign in (1, -1):
        copies = [x.astype(np.float64) for x in inputs]
        copies[i][at] += sign * step
        moved.append(function(*copies))
    return (moved[0] - moved[1]) / (2 * step)


def assert_gradient(gradient, function, inputs, i, atol=1e-5):
    for at in [(0, 0), (1, 2), (2, 1), (len(inputs[i]) - 1, inputs[i].shape[1] - 1)]:
        assert gradient[at] == pytest.approx(slope(function, inputs, i, at), abs=atol), at


@pytest.mark.parametrize(("case", "tolerance"), [("infonce_v1", 5e-6), ("infonce_v2_temperature", 2e-6)])
def test_info_nce_is_moco_s(case, tolerance):
    g = np.load(GOLDENS / "moco" / f"{case}.npz")
    temperature = float(g["temperature"])

    def loss(query, key, queue):
        q, k = (tf.math.l2_normalize(x, axis=1, epsilon=1e-24) for x in (query, key))
        return info_nce(q, k, queue, temperature)[0]

    value, (query, key, queue) = with_gradients(loss, g["query_raw"], g["key_raw"], g["queue_before"])
    assert value == pytest.approx(float(g["loss"]), abs=tolerance * max(1, float(g["loss"])))
    np.testing.assert_allclose(query, g["grad_wrt_query_raw"], rtol=0, atol=tolerance)
    assert key is None and queue is None, "only the query is differentiated"
    rows = [tf.constant(g[name], tf.float32) for name in ("query_normalised", "key_normalised", "queue_before")]
    logits = info_nce_logits(*rows, temperature)
    best = np.argmax(g["logits"], axis=1)
    assert float(info_nce(*rows, temperature)[1]) == pytest.approx(np.mean(best == 0))
    np.testing.assert_allclose(logits, g["logits"], rtol=0, atol=tolerance * np.abs(g["logits"]).max())
    _, (slopes,) = with_gradients(lambda logits: cross_entropy(logits, g["labels"]), logits)
    np.testing.assert_allclose(slopes, g["grad_wrt_logits"], rtol=0, atol=tolerance)
    queue = Queue(*g["queue_before"].shape)
    queue.rings.assign(g["queue_before"][None])
    queue.enqueue(rows[1])
    np.testing.assert_allclose(queue.features, g["queue_after"], rtol=0, atol=tolerance)
    assert int(queue.pointer.value) == g["pointer_after"]


def test_info_nce_of_equal_similarities():
    rows = np.tile(unit_rows(0, 1, 4), [3, 1])
    assert float(info_nce(rows, rows, np.tile(rows[:1], [6, 1]), 0.1)[0]) == pytest.approx(np.log(7), rel=1e-6)


def nt_xent_loop(z1, z2, temperature):
    z = np.concatenate([z1, z2])
    terms = []
    for i in range(len(z)):
        positive = (i + len(z1)) % len(z)
        bottom = sum(np.exp(z[i] @ z[k] / temperature) for k in range(len(z)) if k != i)
        terms.append(-np.log(np.exp(z[i] @ z[positive] / temperature) / bottom))
    return np.mean(terms)


def test_nt_xent_is_the_loop_of_equation_1():
    views = unit_rows(1, 6, 5), unit_rows(2, 6, 5)
    value, gradients = with_gradients(lambda a, b: nt_xent(a, b, 0.3)[0], *views)
    assert value == pytest.approx(nt_xent_loop(*(v.astype(np.float64) for v in views), 0.3), rel=1e-6)
    for i in range(2):
        assert_gradient(gradients[i], lambda a, b: nt_xent_loop(a, b, 0.3), views, i)
    z = np.concatenate(views)
    nearest = np.argmax(z @ z.T - 9 * np.eye(12), axis=1)
    assert float(nt_xent(*views, 0.3)[1]) == pytest.approx(np.mean(nearest == np.roll(np.arange(12), 6)))
    same = np.tile(views[0][:1], [4, 1])
    assert float(nt_xent(same, same, 0.1)[0]) == pytest.approx(np.log(7), rel=1e-6)


def on_two_replicas(loss, first, second):
    """(mean value, gradients with respect to both views) of two replicas with half of the rows each."""
    strategy = get_strategy("mirrored")
    views = tf.reshape(first, [2, -1, first.shape[1]]), tf.reshape(second, [2, -1, second.shape[1]])

    @tf.function(autograph=False)
    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        mine = [tf.ensure_shape(tf.gather(v, replica), v.shape[1:]) for v in views]
        with tf.GradientTape() as tape:
            tape.watch(mine)
            value = loss(*mine)
        return value, tape.gradient(value, mine, output_gradients=tf.ones_like(value) / 2)

    value, gradients = strategy.run(step)
    local = strategy.experimental_local_results
    joined = [np.concatenate([part.numpy() for part in local(g)]) for g in gradients]
    return np.mean([float(part) for part in local(value)]), joined


@pytest.mark.parametrize(
    "loss",
    [
        lambda a, b: nt_xent(a, b, 0.3)[0],
        lambda a, b: cld_loss(a, b, CLDSpec(groups=5, scope="global"))[0],
        lambda a, b: cld_loss(a, b, CLDSpec(groups=3, scope="global", chunks=2))[0],
    ],
    ids=["nt_xent", "cld", "cld_chunks"],
)
def test_two_replicas_give_the_loss_and_gradient_of_one_device(loss):
    views = unit_rows(3, 12, 6), unit_rows(4, 12, 6)
    value, gradients = with_gradients(loss, *views)
    value2, gradients2 = on_two_replicas(loss, *views)
    assert value2 == pytest.approx(value, rel=1e-6)
    for one, two in zip(gradients, gradients2, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-7)


def test_local_groups_of_two_replicas_are_two_chunks_of_one_device():
    views = unit_rows(5, 12, 6), unit_rows(6, 12, 6)
    value, gradients = with_gradients(lambda a, b: cld_loss(a, b, CLDSpec(groups=4, chunks=2))[0], *views)
    value2, gradients2 = on_two_replicas(lambda a, b: cld_loss(a, b, CLDSpec(groups=4))[0], *views)
    assert value2 == pytest.approx(value, rel=1e-6)
    for one, two in zip(gradients, gradients2, strict=True):
        np.testing.assert_allclose(two, one, atol=1e-7)


def test_byol_loss_is_2_minus_2_cosines():
    p, z = (np.random.RandomState(s).normal(size=(5, 4)).astype(np.float32) for s in (7, 8))

    def loop(p, z):
        return np.mean([2 - 2 * (a @ b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(p, z, strict=True)])

    value, (gradient, none) = with_gradients(byol_loss, p, z)
    assert value == pytest.approx(loop(p.astype(np.float64), z.astype(np.float64)), rel=1e-6)
    assert_gradient(gradient, loop, (p, z), 0)
    assert none is None, "targets carry no gradient"
    assert float(byol_loss(p, 3 * p)) == pytest.approx(0, abs=1e-6)
    assert float(byol_loss(p, -p)) == pytest.approx(4, abs=1e-6)


def test_nce_is_the_official_criterion():
    g = np.load(GOLDENS / "cld" / "npid_nce.npz")
    temperature, rows = float(g["temperature"]), int(g["n_data"])
    bank = g["bank_initial"]
    for step in range(3):
        places = np.concatenate([g["indices"][step][:, None], g["negatives"][step]], axis=1)  # [B, 1 + K]
        drawn = tf.constant(bank[places])
        z = tf.constant(g["Z_used"][step], tf.float32)

        def scores(features, drawn=drawn):
            return tf.einsum("bd,bkd->bk", features, drawn) / temperature

        value, (gradient,) = with_gradients(lambda f, s=scores, z=z: nce(s(f), z, rows), g["features"][step])
        assert value == pytest.approx(float(g["loss"][step]), abs=1e-5)
        np.testing.assert_allclose(gradient, g["grad_features"][step], rtol=0, atol=1e-5)
        given = scores(tf.constant(g["features"][step]))
        np.testing.assert_allclose(tf.exp(given) / z, g["probabilities"][step], rtol=1e-5)
        if step == 0:
            np.testing.assert_allclose(nce_constant(given, rows), g["Z_used"][0], rtol=1e-5)
            value, (gradient,) = with_gradients(
                lambda f, s=scores: nce(s(f), tf.constant(g["frozenZ_Z"], tf.float32), rows), g["features"][0]
            )
            assert value == pytest.approx(float(g["frozenZ_loss"]), abs=1e-5)
            np.testing.assert_allclose(gradient, g["frozenZ_grad_features"], rtol=0, atol=1e-5)
            np.testing.assert_allclose(tf.exp(given) / g["frozenZ_Z"], g["frozenZ_probabilities"], rtol=1e-5)
        bank = g["bank_after_step"][step]


def test_nce_is_the_loop_of_the_paper():
    scores, z, rows = np.random.RandomState(9).normal(size=(4, 6)).astype(np.float32), 30.0, 20

    def loop(scores):
        terms = []
        for row in scores:
            p, noise, k = np.exp(row) / z, 1 / rows, len(row) - 1
            h = p / (p + k * noise)
            terms.append(-np.log(h[0]) - np.log(1 - h[1:]).sum())
        return np.mean(terms)

    value, (gradient,) = with_gradients(lambda s: nce(s, tf.constant(z), rows), scores)
    assert value == pytest.approx(loop(scores.astype(np.float64)), rel=1e-5)
    assert_gradient(gradient, loop, (scores,), 0)


@pytest.mark.parametrize("case", ["general", "k_greater_than_B"])
@pytest.mark.parametrize("cross", [True, False])
@pytest.mark.parametrize("stop_gradient", [False, True])
def test_cld_is_the_official_one(case, cross, stop_gradient):
    g = np.load(GOLDENS / "cld" / "cld_loss.npz")
    spec = CLDSpec(
        groups=int(g[f"{case}_k"]), iterations=int(g[f"{case}_n_iter"]), temperature=float(g[f"{case}_temperature"]),
        cross=cross, stop_gradient=stop_gradient,
    )
    views = g[f"{case}_view1"], g[f"{case}_view2"]
    value, gradients = with_gradients(lambda a, b: cld_loss(a, b, spec)[0], *views)
    name = f"{case}_{'cross' if cross else 'nocross'}{'_stopgrad' if stop_gradient else ''}"
    assert value == pytest.approx(float(g[f"{name}_loss"]), abs=1e-5)
    for i in range(2):
        np.testing.assert_allclose(gradients[i], g[f"{name}_grad_view{i + 1}"], rtol=0, atol=1e-5)
        labels, centroids = cluster(tf.constant(views[i]), spec)
        np.testing.assert_array_equal(labels, g[f"{case}_labels_view{i + 1}"])
        np.testing.assert_allclose(centroids, g[f"{case}_centroids_view{i + 1}"], rtol=0, atol=1e-6)
    if cross:
        share = cld_loss(tf.constant(views[0]), tf.constant(views[1]), spec)[1]
        assert 100 * float(share) == pytest.approx(float(g[f"{case}_group_acc_percent"]), abs=1e-4)


def test_cld_of_chunks_is_the_mean_of_official_calls():
    g = np.load(GOLDENS / "cld" / "cld_loss.npz")
    spec = CLDSpec(groups=int(g["chunks2_k"]), temperature=float(g["chunks2_temperature"]), chunks=2)
    value, gradients = with_gradients(lambda a, b: cld_loss(a, b, spec)[0], g["chunks2_view1"], g["chunks2_view2"])
    assert value == pytest.approx(float(g["chunks2_loss"]), abs=1e-5)
    for i in range(2):
        np.testing.assert_allclose(gradients[i], g[f"chunks2_grad_view{i + 1}"], rtol=0, atol=1e-5)
    parts = zip(*(np.split(g[f"chunks2_view{i}"], 2) for i in (1, 2)), strict=True)
    each = [float(cld_loss(*map(tf.constant, part), dataclasses.replace(spec, chunks=1))[0]) for part in parts]
    np.testing.assert_allclose(each, g["chunks2_loss_each"], rtol=0, atol=1e-5)


def test_cld_with_a_group_for_each_row_is_the_closed_form():
    a, b = unit_rows(10, 8, 6), unit_rows(11, 8, 6)

    def closed(a, b, k=11, t=0.2):
        s = np.exp(a @ b.T / t)
        rows = -np.log(np.diag(s) / (s.sum(axis=1) + k - len(a)))
        columns = -np.log(np.diag(s) / (s.sum(axis=0) + k - len(a)))
        return (rows.mean() + columns.mean()) / 2

    value, gradients = with_gradients(lambda a, b: cld_loss(a, b, CLDSpec(groups=11))[0], a, b)
    assert value == pytest.approx(closed(a.astype(np.float64), b.astype(np.float64)), rel=1e-6)
    for i in range(2):
        assert_gradient(gradients[i], closed, (a, b), i)


@pytest.mark.parametrize("clustering", ["kmeans", "spherical", "spectral"])
def test_cld_treats_both_views_alike(clustering):
    a, b = unit_rows(12, 16, 6), unit_rows(13, 16, 6)
    spec = CLDSpec(groups=5, clustering=clustering, eigenvectors=4)
    value, (first, second) = with_gradients(lambda a, b: cld_loss(a, b, spec)[0], a, b)
    swapped, (first2, second2) = with_gradients(lambda b, a: cld_loss(b, a, spec)[0], b, a)
    assert value == pytest.approx(swapped, rel=1e-6)
    np.testing.assert_allclose(first, second2, atol=1e-6)
    np.testing.assert_allclose(second, first2, atol=1e-6)


def test_cld_differentiates_through_the_centroids():
    a, b = unit_rows(14, 12, 5), unit_rows(15, 12, 5)
    for stop in (False, True):
        spec = CLDSpec(groups=4, stop_gradient=stop)

        def loss(b, spec=spec):
            return cld_loss(tf.constant(a), b, spec)[0]

        _, (gradient,) = with_gradients(loss, b)
        # Float32 differences; the assignment stays the same over so short a step.
        moved = [float(loss(tf.constant(b + sign * 1e-2 * gradient))) for sign in (1, -1)]
        change = (moved[0] - moved[1]) / 2e-2
        whole = np.sum(gradient**2)
        assert (abs(change - whole) < 2e-2 * whole) is not stop


def bags(seed, rows, words):
    """Rows of sum 1 with many exact zeros."""
    y = np.maximum(np.random.RandomState(seed).normal(size=(rows, words)), 0)
    return (y / y.sum(1, keepdims=True)).astype(np.float32)


def bow_divergence(logits, targets):
    """Mean over the rows of sum_k y log(y / p), typed from the formula."""
    total = 0.0
    each = len(logits) // len(targets)
    for i, row in enumerate(logits.astype(np.float64)):
        for y, value in zip(targets[i // each], row, strict=True):
            if y > 0:
                total += y * (np.log(y) - (value - np.log(np.sum(np.exp(row)))))
    return total / len(logits)


def test_bow_loss_is_the_divergence_and_its_gradient_that_of_the_cross_entropy():
    targets, logits = bags(1, 3, 11), np.random.RandomState(2).normal(size=(6, 11)).astype(np.float32) * 3
    value, (gradient, none) = with_gradients(lambda x, y: bow_loss(x, y)[0], logits, targets)
    assert value == pytest.approx(bow_divergence(logits, targets), rel=1e-5) and none is None
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(gradient, (softmax - targets.repeat(2, 0)) / 6, atol=1e-6)
    entropy = float(bow_loss(tf.constant(logits), tf.constant(targets))[1])
    y = targets[targets > 0]
    assert entropy == pytest.approx(-(y * np.log(y)).sum() / 3, rel=1e-5)
    # The prediction is the bag itself; words that it does not have cannot be predicted at 0.
    y = np.exp(np.random.RandomState(3).normal(size=(2, 5)))
    y /= y.sum(1, keepdims=True)
    assert float(bow_loss(tf.constant(np.log(y), tf.float32), tf.constant(y))[0]) == pytest.approx(0, abs=1e-6)
    # One word, certain and at a logit where its probability is 1: no NaN from the zeros.
    one = tf.one_hot([1, 0], 4)
    value, (gradient,) = with_gradients(lambda x: bow_loss(x, one)[0], one * 1e4)
    assert value == 0 and np.isfinite(gradient).all()


@pytest.mark.parametrize("crops", [1, 2, 5])
def test_targets_are_repeated_as_in_the_official_code(crops):
    g = np.load(GOLDENS / "obow" / "target_repetition.npz")
    targets, expanded = g["target"], g[f"expanded_{crops}_crops"]
    logits = np.random.RandomState(4).normal(size=expanded.shape)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    divergence, entropy = bow_loss(tf.constant(logits), tf.constant(targets))
    assert float(divergence + entropy) == pytest.approx(-(expanded * log_p).sum(1).mean(), rel=1e-6)
    np.testing.assert_array_equal(image_major(g["crops_5d"]), g["crops_4d"])
