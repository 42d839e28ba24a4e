"""The SGD loop of the linear and MLP probes against NumPy, their grids, and the paper's numbers."""

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.evaluators.base import FeatureSplit, Standardizer
from revisit_ssl.evaluators.linear import Linear
from revisit_ssl.evaluators.mlp import MLP
from revisit_ssl.evaluators.sgd import Descent, curve_epochs, glorot, normal, train_candidates
from revisit_ssl.papers import PROTOCOLS


def gaussians(rows, seed, width=8, classes=3, signal=1.0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, rows)
    features = draw.normal(size=(rows, width)) + signal * np.eye(classes, width)[labels]
    return FeatureSplit(features.astype(np.float32), labels)


def test_loop_equals_numpy_in_steps_schedule_and_order(tmp_path, monkeypatch):
    """Two candidates, 3 epochs of 4 batches (2 rows left over), a drop after 2 epochs, blocks of 3 batches, a map."""
    data, rates, momentum = gaussians(34, 0), [0.5, 0.05], 0.9
    np.save(tmp_path / "features.npy", data.features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    monkeypatch.setattr("revisit_ssl.evaluators.sgd._BLOCK_VALUES", 3 * 8 * 8)
    start = np.random.default_rng(1).normal(size=(8, 3)).astype("f4")
    kernels = tf.Variable(np.stack([start, start]))

    def loss(x, labels, step):
        seen.append(step)
        logits = tf.matmul(x, kernels)
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(tf.tile(labels[None], [2, 1]), logits), axis=1
        )

    seen = []
    standardizer = Standardizer.fit(data.features)
    train_candidates(
        mapped, data.labels, standardizer, [kernels], loss,
        Descent(rates=rates, batch_size=8, epochs=3, decay_epochs=(2,), momentum=momentum, seed=5),
    )

    x = (data.features - data.features.mean(0)) / data.features.std(0)
    for rate, ours in zip(rates, kernels.numpy(), strict=True):
        w, m = start.astype(np.float64), 0.0
        for epoch in range(3):
            order = np.random.default_rng((5, epoch)).permutation(34)
            for i in range(4):
                rows = order[8 * i : 8 * i + 8]
                odds = np.exp(x[rows] @ w)
                odds /= odds.sum(axis=1, keepdims=True)
                m = momentum * m + x[rows].T @ (odds - np.eye(3)[data.labels[rows]]) / 8
                w = w - rate * (0.1 if epoch >= 2 else 1.0) * m
        np.testing.assert_allclose(ours, w, rtol=0, atol=2e-5)


def test_mirrored_features_and_weight_decay_equal_numpy(monkeypatch):
    """m <- 0.9 m + g + decay w; which of an image's two rows comes is drawn at each access, half of them mirrored."""
    monkeypatch.setattr("revisit_ssl.evaluators.sgd._BLOCK_VALUES", 3 * 8 * 8)
    data, other = gaussians(34, 0), gaussians(34, 1).features
    taken, (w, b) = [], (np.random.default_rng(1).normal(size=(8, 3)), np.zeros(3))
    kernels, biases = tf.Variable(w[None].astype("f4")), tf.Variable(np.zeros((1, 3), "f4"))

    def loss(x, labels, step):
        tf.numpy_function(lambda rows: taken.append(rows), [x], [])
        logits = tf.matmul(x, kernels) + biases
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels[None], logits), axis=1)

    train_candidates(
        data.features, data.labels, Standardizer.fit(data.features, enabled=False), [kernels, biases], loss,
        Descent(rates=[0.5], batch_size=8, epochs=5, decay_epochs=(2, 4), momentum=0.9, seed=5, weight_decay=0.03),
        mirrored=other,
    )
    mw, mb, turned = 0.0, 0.0, []
    for step, x in enumerate(taken):
        rows = np.random.default_rng((5, step // 4)).permutation(34)[8 * (step % 4) :][:8]
        own = (x == data.features[rows]).all(axis=1)
        assert (own | (x == other[rows]).all(axis=1)).all()
        turned.append(~own)
        odds = np.exp(x @ w + b)
        residual = (odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[data.labels[rows]]) / 8
        mw, mb = 0.9 * mw + x.T @ residual + 0.03 * w, 0.9 * mb + residual.sum(axis=0) + 0.03 * b
        lr = 0.5 * 0.1 ** ((step >= 8) + (step >= 16))
        w, b = w - lr * mw, b - lr * mb
    assert len(taken) == 20 and 0.35 < np.mean(turned) < 0.65
    np.testing.assert_allclose(kernels[0], w, rtol=0, atol=2e-5)
    np.testing.assert_allclose(biases[0], b, rtol=0, atol=2e-5)


def test_linear_of_obow():
    probe = PROTOCOLS["obow"]["linear"]
    assert (probe.learning_rates, probe.epochs, probe.batch_size) == ((10.0,), (50,), 256)
    assert [share * 50 for share in probe.decay_at] == pytest.approx([15, 30, 45])
    assert (probe.weight_decay, probe.flip, probe.standardize, probe.start) == (2e-6, True, False, "normal")
    assert not Linear().flip and not Linear().weight_decay and not PROTOCOLS["revisiting"]["linear"].flip
    train, other = gaussians(300, 0), gaussians(300, 5)
    with pytest.raises(InputError, match="flip needs features of the mirrored images, and features has none"):
        probe.score(train, train, train, num_classes=3)
    twice = FeatureSplit(train.features, train.labels, mirrored=-other.features)
    fast = Linear(learning_rates=(0.3,), epochs=(5,), flip=True)
    flipped = fast.score(twice, train, train, num_classes=3).extra["curve"]
    plain = Linear(learning_rates=(0.3,), epochs=(5,)).score(twice, train, train, num_classes=3).extra["curve"]
    assert flipped != plain, "mirrored features are used, and by none but those who ask for them"
    short = FeatureSplit(train.features, train.labels, mirrored=other.features[:10])
    with pytest.raises(InputError, match=r"has \[300, 8\] features and \[10, 8\] of the mirrored images"):
        fast.score(short, train, train, num_classes=3)
    kernels = normal((1, 2), [3, 300, 100]).numpy()
    assert kernels.std() == pytest.approx(0.01, rel=0.02) and np.array_equal(kernels[0], kernels[2])


def test_a_candidate_is_not_disturbed_by_its_neighbours():
    train, val = gaussians(200, 0), gaussians(200, 1)
    settings = {"batch_size": 64, "epochs": (3,)}
    together = Linear(learning_rates=(0.1, 1e9), **settings).score(train, val, val, num_classes=3, seed=0)
    alone = Linear(learning_rates=(0.1,), **settings).score(train, val, val, num_classes=3, seed=0)
    name = "lr 0.1, 3 epochs"
    assert together.extra["val_top1_by_candidate"][name] == alone.extra["val_top1_by_candidate"][name]
    with pytest.raises(InputError, match="every learning rate .* diverged"):
        Linear(learning_rates=(1e39,), epochs=(5,)).score(train, val, val, num_classes=3, seed=0)


def test_linear_reports_what_it_chose():
    train, val, test = gaussians(300, 0), gaussians(300, 1), gaussians(300, 2)
    probe = Linear(learning_rates=(1e-6, 0.3), epochs=(1, 20), batch_size=32)
    score = probe.score(train, val, test, num_classes=3, seed=0)
    candidates = score.extra["val_top1_by_candidate"]
    assert len(candidates) == 4 and score.extra["val_top1"] == max(candidates.values())
    chosen = f"lr {score.hyperparameters['lr']:g}, {score.hyperparameters['epochs']} epochs"
    assert candidates[chosen] == score.extra["val_top1"] and score.hyperparameters["batch_size"] == 32
    # The Bayes rule of these three unit Gaussians is right in 63 % (a million draws).
    assert 55 < score.top1 < 70


def test_the_curve_of_the_chosen_candidate():
    train, val, test = gaussians(300, 0), gaussians(300, 1), gaussians(300, 2)
    probe = Linear(learning_rates=(1e-6, 0.03), epochs=(5,), decay_at=(0.4, 0.8), batch_size=32)
    score = probe.score(train, val, test, num_classes=3, seed=0)
    curve = score.extra["curve"]
    assert [epoch for epoch, _ in curve] == [2, 4, 5] and curve[-1][1] == score.extra["val_top1"]
    # A run that ends after four epochs, with the same drops, scores what the curve says.
    short = Linear(learning_rates=(0.03,), epochs=(4,), decay_at=(0.5, 1.0), batch_size=32)
    assert short.score(train, val, test, num_classes=3, seed=0).extra["val_top1"] == curve[1][1]
    assert len({top1 for _, top1 in curve}) > 1


@pytest.mark.parametrize("schedule", [(30, 50, 70), (120, 140, 160), (480, 500, 520)])
def test_looks_at_val_are_few_and_hold_the_drops(schedule):
    looks = curve_epochs(schedule, 1231121, 50046)
    assert looks == sorted(looks) and set(schedule) <= set(looks) and looks[-1] == schedule[2]
    assert 40 <= len(looks) <= 42 and looks[0] >= 1 and max(np.diff([0, *looks])) <= np.ceil(schedule[2] / 40)
    # A tenth of the labels: not more than a tenth of the images that training sees, besides drops and end.
    assert len(curve_epochs((30, 50, 70), 10000, 50000)) <= 2 + 3
    assert curve_epochs((0, 0, 1), 10, 1000) == [1]


def test_unscaled_rates():
    train, val = gaussians(200, 0), gaussians(200, 1)
    settings = {"batch_size": 64, "epochs": (3,)}
    plain = Linear(learning_rates=(0.025,), scale_lr=False, **settings).score(train, val, val, num_classes=3, seed=0)
    scaled = Linear(learning_rates=(0.1,), **settings).score(train, val, val, num_classes=3, seed=0)
    assert plain.extra["curve"] == scaled.extra["curve"] and plain.top1 == scaled.top1


def test_mlp_solves_what_no_linear_probe_can():
    def rings(rows, seed):
        x = np.random.default_rng(seed).normal(size=(rows, 2)).astype("f4")
        return FeatureSplit(x, (np.linalg.norm(x, axis=1) > 1.18).astype(int))

    train, val, test = rings(2000, 0), rings(500, 1), rings(500, 2)
    settings = {"hidden": 64, "epochs": 15, "batch_size": 64, "learning_rates": (0.1,), "penalties": (1e-5,)}
    mlp = MLP(**settings).score(train, val, test, num_classes=2, seed=0)
    linear = Linear(epochs=(5,)).score(train, val, test, num_classes=2, seed=0)
    assert mlp.top1 > 93 and linear.top1 < 65


def test_mlp_penalty_is_without_half_and_per_kernel_in_the_papers_setting():
    data = gaussians(64, 0)
    paper = PROTOCOLS["revisiting"]["mlp"]
    assert (paper.hidden, paper.dropout, paper.batch_size) == (1000, 0.5, 512)
    assert (paper.epochs, paper.decay_epochs) == (180, (60, 120))
    assert paper.learning_rates == (0.01,) and paper.momentum == 0.9 and not paper.standardize
    fast = MLP(hidden=10, epochs=1, penalties=None, learning_rates=(0.01,))
    chosen = fast.score(data, data, data, num_classes=3, seed=0).hyperparameters
    assert chosen["penalty_hidden"] == 100 / (8 * 10) and chosen["penalty_output"] == 100 / (10 * 3)
    # One step of one batch on zero features: only the penalty acts on the first kernel, w <- w - lr * 2 penalty w.
    zeros = FeatureSplit(np.zeros((64, 8), "f4"), data.labels)
    one = MLP(hidden=10, epochs=1, dropout=0.0, decay_epochs=())
    pairs = [(0.1, (0.7, 0.0)), (0.2, (0.3, 0.0))]
    standardizer = Standardizer.fit(zeros.features, enabled=False)
    kernels = one._train(zeros, standardizer, 3, 64, pairs, seed=0)[0]
    untouched = one._train(zeros, standardizer, 3, 64, [(0.1, (0.0, 0.0))], seed=0)[0][0]
    np.testing.assert_allclose(kernels[0], untouched * (1 - 0.1 * 2 * 0.7), rtol=1e-5)
    np.testing.assert_allclose(kernels[1], untouched * (1 - 0.2 * 2 * 0.3), rtol=1e-5)


# A field of the MLP probe, and the field of Descent (or its value) that it must become.
REACHES = [
    ({"batch_size": 24}, "batch_size", 24),
    ({"epochs": 3}, "epochs", 3),
    ({"decay_epochs": (1,)}, "decay_epochs", (1,)),
    ({"schedule": (2, 3, 5)}, "epochs", 5),
    ({"schedule": (2, 3, 5)}, "decay_epochs", (2, 3)),
    ({"learning_rates": (0.2,)}, "rates", [0.2, 0.2]),
    ({"momentum": 0.5}, "momentum", 0.5),
]


@pytest.mark.parametrize(("given", "field", "value"), REACHES)
def test_no_option_of_the_mlp_is_ignored(given, field, value, monkeypatch):
    seen = []
    monkeypatch.setattr("revisit_ssl.evaluators.sgd.train_candidates", lambda *a, **k: seen.append(a[-1]))
    data = gaussians(64, 0)
    score = MLP(hidden=4, **{"learning_rates": (0.1,)} | given).score(data, data, data, num_classes=3, seed=0)
    assert getattr(seen[0], field) == value
    assert score.hyperparameters.get("schedule") == given.get("schedule")


def test_bad_lengths_of_the_mlp():
    for given in ({"batch_size": 0}, {"epochs": 0}, {"schedule": (5, 3)}):
        with pytest.raises(InputError, match=f"mlp.{next(iter(given))}"):
            MLP(**given)


def test_glorot_law():
    kernels = glorot((1, 2), [3, 300, 100]).numpy()
    limit = np.sqrt(6 / 400)
    assert np.abs(kernels).max() <= limit and kernels.std() == pytest.approx(limit / np.sqrt(3), rel=0.01)
    np.testing.assert_array_equal(kernels[0], kernels[2])
