"""FC68 and ALL on VOC: the official loss and average precisions, steps against NumPy, what is chosen."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.data import Source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators.bench import Bench
from revisit_ssl.evaluators.multi_label import MultiLabel, multi_label_loss
from revisit_ssl.evaluators.transfer import NewLayers, Trained
from revisit_ssl.evaluators.voc_classification import VOCFC68, VOCAll, precisions
from revisit_ssl.recipe import BenchSpec, Recipe, ViewSpec

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
FAST = {"hidden": (5,), "dropout": 0.0, "batch_size": 16, "learning_rates": (0.1,), "share": 6 / 150_000, "crops": 2}
DROPS = {"drop_every": 100_000}  # after 4 of the 6 iterations


def test_loss_equals_the_official_one():
    golden = np.load(GOLDENS / "deepercluster" / "probe_pooling_bce.npz")
    logits = tf.Variable(golden["logits"])
    for difficult in (255, -1):
        labels = golden["labels_255_difficult"]
        with tf.GradientTape() as tape:
            loss = multi_label_loss(logits, tf.constant(np.where(labels == 255, difficult, labels)))
        assert float(loss) == pytest.approx(float(golden["loss"]), abs=1e-10)
        np.testing.assert_allclose(tape.gradient(loss, logits), golden["grad_logits"], atol=1e-10)


def test_both_average_precisions_equal_the_official_ones():
    golden = np.load(GOLDENS / "evaluation" / "voc_classification_ap.npz")
    metrics, extra = precisions(golden["scores"], golden["labels"], tuple("abcdef"))
    np.testing.assert_allclose(list(extra["ap"].values()), 100 * golden["ap_step_sklearn_positives_lowered"], atol=1e-3)
    np.testing.assert_allclose(list(extra["ap_11_point"].values())[:5], 100 * golden["ap_11_point"], atol=1e-3)
    assert metrics["map"] == pytest.approx(100 * float(golden["map_step"]), abs=1e-3)
    few = np.where(np.arange(3) == 1, 1, golden["labels"][:, :3])
    assert precisions(golden["scores"][:, :3], few, tuple("abc"))[1]["left_out"] == ["b"]
    with pytest.raises(InputError, match="sample is too small"):
        precisions(golden["scores"][:, :1], np.ones_like(few[:, :1]), ("a",))


def trunk():
    image = keras.Input((8, 8, 3), name="image")
    initial = keras.initializers.GlorotUniform(0)
    x = keras.layers.Conv2D(4, 1, kernel_initializer=initial, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm", epsilon=1e-5)(x)
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(image, {"block1": x, "pre_logits": mean})
    model.get_layer("norm").moving_mean.assign([0.1, -0.2, 0.3, 0.0])
    model.trainable = False
    return model


def source(split, count=48):
    """Images of one colour each, so that every crop of one is the same to the network; a tenth of labels difficult."""
    draw = np.random.default_rng(len(split))
    labels = draw.choice([1, 0, -1], (count, 3), p=[0.3, 0.6, 0.1]).astype(np.int8)
    colors = draw.integers(0, 60, (count, 3)) + 150 * (labels == 1)
    images = np.tile(colors[:, None, None].astype(np.uint8), (1, 8, 8, 1))
    return Source(
        name="rgb", split=split, kind="memory", num_examples=count, fingerprint=f"rgb-{split}", images=images,
        multi_labels=labels, multi_label_names=("r", "g", "b"),
    )


def bench_of(backbone):
    spec = BenchSpec(endpoints=("pre_logits",), method="none")
    recipe = Recipe(pretext="rotation", views=ViewSpec(size=8, normalize="pm1"), bench=spec)
    counts = {"train": 48, "test": 50, "fit": 32, "val": 24}
    return Bench(backbone, {split: source(split, count) for split, count in counts.items()}, recipe)


@pytest.mark.parametrize("probe", [VOCFC68, VOCAll])
def test_steps_equal_numpy(probe, trained_on):
    """8 x 8 cells of a map of one value are max-pooled to 4 x 4; ReLU; clipped gradients; L2; the rate halves."""
    backbone = trunk()
    before = [np.asarray(w) for w in backbone.weights]
    options = probe(**FAST | DROPS, weight_decay=0.05, clip=0.2)
    model = MultiLabel(options, bench_of(backbone))
    assert model.network.endpoint == "block1" and model.network.pool == 2
    k1, b1, k2, b2 = (v.numpy().astype(np.float64) for v in model.network.head)
    assert k1.shape == (64, 5) and k1.std() == pytest.approx(0.01, rel=0.2) and set(b1) == set(b2) == {b1[0]}
    assert b1[0] == pytest.approx(0.1)
    train = source("train")
    model.train(train, 0.1)
    x = train.images[:, 0, 0].astype(np.float64) / 127.5 - 1
    w, c = (np.asarray(v, np.float64) for v in backbone.get_layer("conv").weights)
    gamma, beta, mean, var = (np.asarray(v, np.float64) for v in backbone.get_layer("norm").weights)
    values = [w[0, 0], c, gamma, beta, k1, b1, k2, b2]
    trained = range(8) if options.trunk else range(4, 8)
    buffers = [0.0] * 8
    assert len(trained_on) == 6
    for step, rows in enumerate(trained_on):
        w, c, gamma, beta, k1, b1, k2, b2 = values
        plain = (x[rows] @ w + c - mean) / np.sqrt(var + 1e-5)
        z = np.tile(plain * gamma + beta, (1, 16))
        hidden = z @ k1 + b1
        kept = np.maximum(hidden, 0)
        labels = train.multi_labels[rows]
        residual = np.where(labels >= 0, 1 / (1 + np.exp(-kept @ k2 - b2)) - labels, 0) / len(rows)
        back = residual @ k2.T * (hidden > 0)
        below = (back @ k1.T).reshape(-1, 16, 4).sum(axis=1)
        inside = below * gamma / np.sqrt(var + 1e-5)
        gradients = [
            x[rows].T @ inside, inside.sum(axis=0), (below * plain).sum(axis=0), below.sum(axis=0),
            z.T @ back, back.sum(axis=0), kept.T @ residual, residual.sum(axis=0),
        ]
        norm = np.sqrt(sum((gradients[i] ** 2).sum() for i in trained))
        assert norm > 0.2, "the clip is not tested"
        for i in trained:
            buffers[i] = 0.9 * buffers[i] + gradients[i] * min(1, 0.2 / norm) + 0.05 * values[i]
            values[i] = values[i] - 0.1 * 0.5 ** (step >= 4) * buffers[i]
    found = [v.numpy() for v in model.network.trunk + model.network.head]
    for own, expected in zip(found, [values[0][None, None], *values[1:]], strict=True):
        np.testing.assert_allclose(own, expected, rtol=0, atol=2e-5)
    np.testing.assert_allclose(model.network.network.get_layer("norm").moving_mean, [0.1, -0.2, 0.3, 0.0], atol=1e-7)
    assert all(np.array_equal(old, np.asarray(new)) for old, new in zip(before, backbone.weights, strict=True))


@pytest.mark.parametrize("crops", ["random", "ten"])
def test_scores_are_sums_over_crops(crops):
    """Every crop of an image of one colour gives the same logits."""
    backbone, times = trunk(), {"random": 3, "ten": 10}[crops]
    options = VOCFC68(**FAST | {"test_crops": crops, "crops": 3, "hidden": ()})
    model = MultiLabel(options, bench_of(backbone))
    test = source("test", 50)
    once = model.network.logits(tf.constant(test.images / np.float32(255)), training=False)
    np.testing.assert_allclose(model.scores(test), times * once.numpy(), rtol=1e-4, atol=1e-3)


def test_encoded_images_give_the_same_crops_every_time():
    images = np.random.default_rng(0).integers(0, 256, (9, 20, 24, 3), np.uint8)
    encoded = tf.stack([tf.io.encode_png(image) for image in images])
    test = dataclasses.replace(source("test", 9), kind="encoded", images=None, encoded=encoded)
    model = MultiLabel(VOCFC68(**FAST), bench_of(trunk()))
    first = model.scores(test)
    assert first.shape == (9, 3) and np.isfinite(first).all() and len(np.unique(first, axis=0)) == 9
    np.testing.assert_array_equal(model.scores(test), first)


def test_rates_are_chosen_on_val_of_train_and_the_best_is_trained_on_all():
    backbone = trunk()
    fast = FAST | {"hidden": (), "share": 60 / 150_000}
    (score,) = VOCFC68(**fast | {"learning_rates": (1e-9, 0.3)}).measure(bench_of(backbone))
    assert score.hyperparameters["lr"] == 0.3 and score.hyperparameters["iterations"] == 60
    on_val = score.extra["val_map_by_candidate"]
    assert list(on_val) == ["lr 1e-09", "lr 0.3"] and on_val["lr 0.3"] > on_val["lr 1e-09"] + 5
    (alone,) = VOCFC68(**fast | {"learning_rates": (0.3,)}).measure(bench_of(backbone))
    assert alone.metrics == score.metrics and alone.metrics["map"] > 80 and "val_map_by_candidate" not in alone.extra
    assert VOCFC68(learning_rates=(1.0, 2.0)).chooses and not VOCAll().chooses and alone.endpoint == "block1"


def test_dropout_is_on_in_training_alone_and_drawn_by_the_step():
    layers = NewLayers(hidden=(64, 5), dropout=0.5, bias=0.1)
    bench = bench_of(trunk())
    network = Trained(bench.backbone, bench.network_input, 3, 0, 8, "block1", layers)
    values = tf.random.stateless_normal([4, 64], [1, 2])
    first, second = (network.classify(values, tf.constant(step, tf.int64)).numpy() for step in (1, 2))
    assert not np.allclose(first, second, atol=1e-9)
    np.testing.assert_array_equal(first, network.classify(values, tf.constant(1, tf.int64)))
    np.testing.assert_array_equal(network.classify(values), network.classify(values))


@pytest.mark.parametrize(("options", "message"), [
    ({"learning_rates": ()}, "learning_rates"), ({"hidden": (0,)}, "hidden"), ({"dropout": 1.0}, "dropout"),
    ({"share": 0.0}, "share"), ({"crops": 0}, "crops"), ({"clip": 0.0}, "clip"),
])
def test_bad_options(options, message):
    with pytest.raises(InputError, match=f"voc_fc68.{message}"):
        VOCFC68(**options)
