"""The linear probe on augmented images: what it sees, what it leaves alone, its steps against NumPy."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import BACKBONES
from revisit_ssl.data import EvalView, Source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import augment, heads
from revisit_ssl.evaluators.bench import Bench
from revisit_ssl.evaluators.heads import Heads, features_on
from revisit_ssl.evaluators.linear_images import LinearImages
from revisit_ssl.evaluators.sgd import bottou_rate
from revisit_ssl.papers import PROTOCOLS
from revisit_ssl.recipe import BenchSpec, Recipe, ViewSpec


def trunk():
    image = keras.Input((None, None, 3), name="image")
    initial = keras.initializers.GlorotUniform(0)
    x = keras.layers.Conv2D(4, 3, strides=2, padding="same", kernel_initializer=initial, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(image, {"block1": x, "pre_logits": keras.layers.GlobalAveragePooling2D(name="mean")(x)})
    model.get_layer("norm").moving_mean.assign([0.1, -0.2, 0.3, 0.0])
    model.trainable = False
    return model


def source(split, count=48, side=8, seed=0, **changes):
    draw = np.random.default_rng((seed, len(split)))
    labels = draw.integers(0, 3, count)
    values = draw.integers(0, 100, (count, side, side, 3)) + 150 * np.eye(3)[labels][:, None, None]
    facts = {"class_names": ("r", "g", "b"), "known_labels": labels, "images": values.astype(np.uint8)}
    return Source(
        name="rgb", split=split, kind="memory", num_examples=count, fingerprint=f"rgb-{split}", **(facts | changes)
    )


PROBE = LinearImages(
    resize=8, batch_size=16, learning_rates=(20.0,), schedule=(2, 3, 4), eval_batch_size=20
)


def splits():
    return source("train"), source("val", 24), source("test", 50)


def bench_of(backbone, data=None, endpoints=("block1", "pre_logits"), seen=None, **views):
    """A bench of 8 x 8 pixels; ``seen`` are fields of its BenchSpec, ``views`` of the ViewSpec."""
    views = ViewSpec(**{"size": 8, "normalize": "pm1"} | views)
    spec = BenchSpec(**{"endpoints": endpoints, "values": 30, "method": "none"} | (seen or {}))
    recipe = Recipe(pretext="rotation", views=views, bench=spec)
    return Bench(backbone, dict(zip(("train", "val", "test"), data or splits(), strict=True)), recipe)


def measured(probe, *bench, **facts):
    """{endpoint: Score} of the probe on ``bench_of`` the rest."""
    return {score.endpoint: score for score in probe.measure(bench_of(*bench, **facts))}


@pytest.fixture(scope="module")
def probed():
    """(network, its weights before, {endpoint: Score} of PROBE on it): what further probes are compared with."""
    backbone = trunk()
    before = [np.array(w) for w in backbone.weights]
    return backbone, before, measured(PROBE, backbone)


def test_trunk_is_the_same_to_the_bit_and_every_endpoint_gets_a_head(probed):
    backbone, before, scores = probed
    for old, new in zip(before, backbone.weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
    assert list(scores) == ["block1", "pre_logits"] and not backbone.trainable_variables
    for score in scores.values():
        assert score.top1 > 60 and score.top5 is None and score.extra["val_top1"] > 60 and score.seconds > 0
        assert score.hyperparameters["schedule"] == (2, 3, 4) and score.hyperparameters["lr_used"] == 20 * 16 / 256


def test_heads_do_not_depend_on_which_others_are_trained(probed):
    backbone, _, both = probed
    alone = measured(PROBE, backbone, endpoints=("block1",))
    assert alone["block1"].top1 == both["block1"].top1 and alone["block1"].extra == both["block1"].extra


def test_steps_equal_numpy(trained_on, monkeypatch):
    """The crop is the whole image here, so that the features of each batch are known."""
    monkeypatch.setattr(heads, "glorot", lambda key, shape: tf.zeros(shape))
    backbone, train = trunk(), source("train")
    found, epochs = Heads(PROBE, bench_of(backbone, endpoints=("pre_logits",))), []
    found.train(epochs.append)
    features = backbone(train.images.astype("f4") / 127.5 - 1, training=False)["pre_logits"].numpy().astype(np.float64)
    w, b, mw, mb = np.zeros((4, 3)), np.zeros(3), 0.0, 0.0
    assert len(trained_on) == 4 * 3 and epochs == [1, 2, 3, 4]
    for step, rows in enumerate(trained_on):
        odds = np.exp(features[rows] @ w + b)
        residual = (odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[train.labels[rows]]) / 16
        mw, mb = 0.9 * mw + features[rows].T @ residual, 0.9 * mb + residual.sum(axis=0)
        lr = 20 * 16 / 256 * 0.1 ** ((step >= 6) + (step >= 9))
        w, b = w - lr * mw, b - lr * mb
    np.testing.assert_allclose(found.variables["pre_logits"][0].numpy(), [w], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.variables["pre_logits"][1].numpy(), [[b]], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def reversible():
    backbone = BACKBONES["revnet50"](1, stem="cifar")
    backbone.trainable = False
    return backbone


@pytest.mark.parametrize("compiled", [False, True])
def test_parts_of_a_batch_give_the_features_of_the_whole(monkeypatch, reversible, compiled):
    """19 images, 6 at a time: 4 parts of 5, the last one filled up. The reversible network has gradients of its own,
    in the first of its blocks as in all others."""
    images = np.random.default_rng(0).random((19, 8, 8, 3), np.float32)
    endpoints, seen = ("after_root", "block1"), []
    real = heads.represent
    monkeypatch.setattr(heads, "represent", lambda net, x, *a, **k: seen.append(x.shape[0]) or real(net, x, *a, **k))
    found = []
    for at_once in (19, 6):
        monkeypatch.setattr(heads, "images_at_once", lambda *a, at_once=at_once: at_once)
        features_of = features_on(bench_of(reversible, endpoints=endpoints, normalize="standardize"))
        features_of = tf.function(features_of, jit_compile=compiled, autograph=False)
        found.append(features_of(images))
    assert seen == [19, 5]  # traced once, not once for each part
    for name in endpoints:
        assert found[1][name].shape == found[0][name].shape and found[1][name].shape[0] == 19
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-5, atol=1e-5)


def test_scores_do_not_depend_on_the_size_of_the_parts(monkeypatch, probed):
    backbone, _, whole = probed
    monkeypatch.setattr(heads, "images_at_once", lambda *a: 3)
    parts = measured(PROBE, backbone)
    assert [(s.top1, s.extra) for s in parts.values()] == [(s.top1, s.extra) for s in whole.values()]


@pytest.mark.filterwarnings("ignore:Even though the")
def test_training_sees_random_crops_and_evaluation_the_centre(monkeypatch):
    """Images whose pixels say where they are: every crop is size x size pixels of the resized image, unflipped."""
    place = np.stack([*np.indices((12, 12)), np.zeros((12, 12))], axis=-1) * 20
    pictures = np.tile(place.astype(np.uint8), (16, 1, 1, 1))
    train = source("train", 16, images=pictures)
    crops = []
    real = augment.cut
    monkeypatch.setattr(
        augment, "cut", lambda images, spec, seed: crops.append((spec, real(images, spec, (1, 2)))) or crops[-1][1]
    )
    tf.config.run_functions_eagerly(True)
    try:
        probe = LinearImages(resize=12, batch_size=16, schedule=(1, 1, 1))
        data = train, source("val", 24), source("test", 50)
        Heads(probe, bench_of(trunk(), data, endpoints=("block1",))).train(lambda epoch: None)
    finally:
        tf.config.run_functions_eagerly(False)
    spec, cut = crops[0]
    assert (spec.method, spec.size, spec.resize_to, spec.keep_ratio, spec.count) == ("random", 8, 12, True, 1)
    assert spec.kernel == "area"
    corners = set()
    for crop in np.round(cut.numpy()[:, 0] * 255 / 20):
        top, left = crop[0, 0, :2]
        np.testing.assert_array_equal(crop[..., :2], place[int(top) : int(top) + 8, int(left) : int(left) + 8, :2] / 20)
        corners.add((top, left))
    assert len(corners) > 4


@pytest.mark.parametrize(
    ("probe", "view"),
    [
        (LinearImages(resize=12), EvalView(size=8, resize=12, method="shorter_side")),
        (LinearImages(crop="resized"), EvalView(size=8, resize=9, method="squash")),
    ],
)
def test_what_is_scored(monkeypatch, probe, view):
    """The centre of the training geometry, or what the other probes see where that has no centre."""
    views = []
    real = heads.padded_batches
    monkeypatch.setattr(heads, "padded_batches", lambda s, n, view: views.append(view) or real(s, n, view))
    fast = dataclasses.replace(probe, batch_size=16, schedule=(1, 1, 1))
    scores = measured(fast, trunk(), endpoints=("block1",), seen={"method": "squash", "resize": 9})
    assert set(views) == {view}
    assert scores["block1"].hyperparameters["eval_view"] == view.told


def test_a_network_of_patches_learns_from_their_mean(monkeypatch):
    """Training and scores see the mean of the four patches' features, in parts of a batch too."""
    monkeypatch.setattr(heads, "images_at_once", lambda *a: 5)
    backbone = trunk()
    patches = {"patch_grid": 2, "patch_size": 4}
    images = np.random.default_rng(0).random((16, 8, 8, 3), np.float32)
    bench = bench_of(backbone, endpoints=("pre_logits",), normalize="standardize", **patches)
    found = features_on(bench)(tf.constant(images))["pre_logits"]
    cut = [image[y : y + 4, x : x + 4] for image in images for y in (0, 4) for x in (0, 4)]
    cut = np.stack([(p - p.mean()) / p.std() for p in cut])
    expected = backbone(cut, training=False)["pre_logits"].numpy().reshape(16, 4, -1).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    scores = measured(PROBE, backbone, endpoints=("pre_logits",), **patches)
    assert scores["pre_logits"].top1 > 60


def test_the_curve_is_of_val_and_ends_where_the_probe_ends(monkeypatch):
    """A run that is cut short after an epoch scores what the curve says of that epoch."""
    backbone = trunk()
    probe = dataclasses.replace(PROBE, learning_rates=(3.0,), schedule=(2, 3, 5))
    score = measured(probe, backbone, endpoints=("block1",))["block1"]
    curve = score.extra["curve"]
    # 48 images in training, 24 of val: 0.1 * 5 * 48 / 24 = 1 look of its own at the end, and those at the drops.
    assert [epoch for epoch, _ in curve] == [2, 3, 5] and curve[-1][1] == score.extra["val_top1"]
    assert len({top1 for _, top1 in curve}) > 1
    seen = []
    real = heads.padded_batches
    monkeypatch.setattr(heads, "padded_batches", lambda s, *a: seen.append(s.split) or real(s, *a))
    short = measured(dataclasses.replace(probe, schedule=(2, 3, 3)), backbone, endpoints=("block1",))["block1"]
    assert short.extra["val_top1"] == curve[1][1] and seen == ["val", "val", "test"]


def test_learning_rate_as_it_is(probed):
    backbone, _, scores = probed
    probe, scaled = dataclasses.replace(PROBE, learning_rates=(1.25,), scale_lr=False), scores["block1"]
    plain = measured(probe, backbone, endpoints=("block1",))["block1"]  # 20 * 16 / 256 = 1.25
    assert plain.hyperparameters["lr_used"] == 1.25 and (plain.top1, plain.extra) == (scaled.top1, scaled.extra)


def test_randaugment_changes_what_is_trained_on_and_not_what_is_scored(monkeypatch):
    """Layers, magnitude and the step's own draws reach rand_augment; the crops come flipped and in [0, 1]."""
    seen = []

    def recorded(images, seed, *, layers, magnitude):
        seen.append((images.shape.as_list(), layers, magnitude))
        return 0.0 * images + 0.5

    monkeypatch.setattr(heads, "rand_augment", recorded)
    backbone = trunk()
    probe = dataclasses.replace(PROBE, randaugment_layers=2, randaugment_magnitude=7.0)
    found = Heads(probe, bench_of(backbone, endpoints=("pre_logits",)))
    found.train(lambda epoch: None)
    assert seen == [([16, 8, 8, 3], 2, 7.0)]  # traced once
    kernels = found.variables["pre_logits"][0].numpy()[0]
    moved = kernels - Heads(probe, bench_of(backbone, endpoints=("pre_logits",))).variables["pre_logits"][0].numpy()[0]
    features = backbone(np.zeros((1, 8, 8, 3), "f4"), training=False)["pre_logits"].numpy()[0]
    # Every gradient is an outer product with the one feature that was seen.
    np.testing.assert_allclose(moved, np.outer(features, moved[0] / features[0]), rtol=1e-3, atol=1e-4)
    plain = Heads(PROBE, bench_of(backbone, endpoints=("pre_logits",)))
    plain.train(lambda epoch: None)
    assert len(seen) == 1, "off unless it is asked for"
    with pytest.raises(InputError, match="randaugment_magnitude 11 must lie in"):
        LinearImages(randaugment_magnitude=11)


def test_numbers_of_revisiting():
    probe = PROTOCOLS["revisiting"]["linear_images"]
    assert (probe.batch_size, probe.learning_rates, probe.rates(2048)) == (2048, (0.1,), [pytest.approx(0.8)])
    assert (probe.crop, probe.flip, probe.start, probe.factor) == ("random", False, "glorot", 0.1)
    assert (probe.schedule, probe.momentum, probe.weight_decay) == ((480, 500, 520), 0.9, 0.0)


def test_imagenet_settings_of_the_contrastive_papers():
    moco, infomin = (PROTOCOLS[name]["linear_images"] for name in ("moco", "infomin"))
    for probe in (moco, infomin):
        assert (probe.learning_rates, probe.batch_size, probe.momentum) == ((30.0,), 256, 0.9)
        assert (probe.crop, probe.flip, probe.start) == ("resized", True, "normal")
    assert (moco.schedule, moco.factor, moco.scale) == ((60, 80, 100), 0.1, (0.08, 1.0))
    assert (infomin.schedule, infomin.factor, infomin.scale) == ((30, 40, 50, 60), 0.2, (0.2, 1.0))
    assert (infomin.randaugment_layers, infomin.randaugment_magnitude, moco.randaugment_layers) == (2, 10.0, 0)
    kernel, bias = Heads(moco, bench_of(trunk(), endpoints=("block1",))).variables["block1"]
    assert kernel.numpy().std() == pytest.approx(0.01, rel=0.2) and not bias.numpy().any()


def test_settings_of_obow():
    whole, places = (PROTOCOLS[name]["linear_images"] for name in ("obow", "obow_places"))
    assert (whole.crop, whole.flip, whole.scale, whole.batch_size, whole.start) == (
        "resized", True, (0.08, 1.0), 1024, "normal",
    )
    assert (whole.rates(1024), whole.decay, whole.schedule, whole.weight_decay) == ([10.0], "cosine", (100,), 0.0)
    assert (places.crop, places.flip, places.resize, places.batch_size) == ("random", True, None, 256)
    assert (places.rates(256), places.schedule, places.factor) == ([0.01], (5, 10, 14), 0.1)
    assert places.batch_norm and places.weight_decay == 1e-4 and not whole.batch_norm


def test_batch_norm_weight_decay_and_cosine_equal_numpy(trained_on, monkeypatch):
    """Non-affine batch normalisation, eps 1e-5; unbiased moving variance, a tenth of each batch; lr cos per epoch."""
    monkeypatch.setattr(heads, "glorot", lambda key, shape: tf.zeros(shape))
    probe = dataclasses.replace(
        PROBE, learning_rates=(2.0,), scale_lr=False, schedule=(4,), decay="cosine", batch_norm=True, weight_decay=0.02
    )
    backbone, train = trunk(), source("train")
    found = Heads(probe, bench_of(backbone, endpoints=("pre_logits",)))
    found.train(lambda epoch: None)
    features = backbone(train.images.astype("f4") / 127.5 - 1, training=False)["pre_logits"].numpy().astype(np.float64)
    w, b, mw, mb, mean, variance = np.zeros((4, 3)), np.zeros(3), 0.0, 0.0, np.zeros(4), np.ones(4)
    assert len(trained_on) == 4 * 3
    for step, rows in enumerate(trained_on):
        x = features[rows]
        mean, variance = 0.9 * mean + 0.1 * x.mean(axis=0), 0.9 * variance + 0.1 * x.var(axis=0, ddof=1)
        x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
        odds = np.exp(x @ w + b)
        residual = (odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[train.labels[rows]]) / 16
        mw, mb = 0.9 * mw + x.T @ residual + 0.02 * w, 0.9 * mb + residual.sum(axis=0) + 0.02 * b
        lr = 2.0 * (1 + np.cos(np.pi * (step // 3) / 4)) / 2
        w, b = w - lr * mw, b - lr * mb
    np.testing.assert_allclose(found.variables["pre_logits"][0].numpy(), [w], rtol=0, atol=2e-4)
    np.testing.assert_allclose(found.variables["pre_logits"][1].numpy(), [[b]], rtol=0, atol=2e-4)
    test = source("test", 50)
    score = found.scores(test)["pre_logits"][0]
    x = backbone(test.images.astype("f4") / 127.5 - 1, training=False)["pre_logits"].numpy().astype(np.float64)
    np.testing.assert_allclose(score, (x - mean) / np.sqrt(variance + 1e-5) @ w + b, rtol=0, atol=2e-3)


def test_bottou_rates_equal_the_official_ones():
    golden = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "evaluation" / "linear_probe_lr.npz")
    lr0, decay = np.transpose(golden["lr0_and_weight_decay"])
    found = bottou_rate(lr0[:, None], decay[:, None], golden["iteration"])
    np.testing.assert_allclose(found, golden["lr"], rtol=1e-12)


def test_squares_and_rates_of_layers_equal_numpy(trained_on, monkeypatch):
    """block1 by means of 2 x 2 squares, at its own rate by Bottou's law; pre_logits as the bench says, at two rates."""
    monkeypatch.setattr(heads, "glorot", lambda key, shape: tf.zeros(shape))
    probe = dataclasses.replace(
        PROBE, learning_rates=(2.0, 3.0), layer_rates=(("block1", 0.5),), scale_lr=False, schedule=(3,), decay="bottou",
        weight_decay=0.1, pools=(("block1", 2, 0),),
    )
    backbone, train = trunk(), source("train")
    found = Heads(probe, bench_of(backbone))
    found.train(lambda epoch: None)
    maps = backbone(train.images.astype("f4") / 127.5 - 1, training=False)["block1"].numpy().astype(np.float64)
    features = maps.reshape(48, 2, 2, 2, 2, 4).mean(axis=(2, 4)).reshape(48, 16)
    w, b, mw, mb = np.zeros((16, 3)), np.zeros(3), 0.0, 0.0
    assert len(trained_on) == 3 * 3
    for step, rows in enumerate(trained_on):
        odds = np.exp(features[rows] @ w + b)
        residual = (odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[train.labels[rows]]) / 16
        mw, mb = 0.9 * mw + features[rows].T @ residual + 0.1 * w, 0.9 * mb + residual.sum(axis=0) + 0.1 * b
        lr = 0.5 / np.sqrt(1 + 0.5 * 0.1 * step)
        w, b = w - lr * mw, b - lr * mb
    np.testing.assert_allclose(found.variables["block1"][0].numpy(), [w], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.variables["block1"][1].numpy(), [[b]], rtol=0, atol=1e-4)
    assert found.variables["pre_logits"][0].shape == (2, 4, 3)
    scores = measured(probe, backbone)
    assert scores["block1"].hyperparameters["lr"] == 0.5 and scores["block1"].hyperparameters["pool"] == (2, 0)
    assert "pool" not in scores["pre_logits"].hyperparameters and scores["pre_logits"].hyperparameters["lr"] in (2, 3)


def test_ten_crops_are_the_mean_of_their_softmaxes():
    probe = dataclasses.replace(PROBE, test_crops="ten", resize=12)
    found = Heads(probe, bench_of(trunk(), endpoints=("pre_logits",)))
    test = source("test", 50, side=12)
    scores = np.exp(found.scores(test)["pre_logits"])  # [G, N, C]
    np.testing.assert_allclose(scores.sum(axis=-1), 1, atol=1e-5)
    kernel, bias = (v.numpy() for v in found.variables["pre_logits"])
    expected = 0
    for images in (test.images, test.images[:, :, ::-1]):
        for top, left in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)):
            crop = images[:, top : top + 8, left : left + 8].astype("f4") / 127.5 - 1
            odds = np.exp(found.bench.backbone(crop)["pre_logits"].numpy() @ kernel[0] + bias[0])
            expected = expected + odds / odds.sum(axis=1, keepdims=True) / 10
    np.testing.assert_allclose(scores[0], expected, atol=1e-5)


@pytest.mark.parametrize(("changes", "message"), [
    ({"layer_rates": (("block1", 0.0),)}, "layer_rates.*rates above 0"),
    ({"pools": (("block1", 0, 0),)}, "pools.*sides of at least 1"),
])
def test_bad_rates_and_squares(changes, message):
    with pytest.raises(InputError, match=message):
        LinearImages(**changes)


def test_rates_are_tried_side_by_side_and_chosen_on_val():
    """Candidates trained together are what each is alone; the one that is best on val is taken, whatever test says."""
    backbone, call = trunk(), {"endpoints": ("pre_logits",)}
    base = dataclasses.replace(PROBE, crop="resized", scale=(0.5, 1.0), flip=True, schedule=(1, 2, 2, 2), factor=0.2)
    rates = (0.02, 20.0)
    alone = [measured(dataclasses.replace(base, learning_rates=(lr,)), backbone, **call)["pre_logits"] for lr in rates]
    three = dataclasses.replace(base, learning_rates=(np.inf, *rates))  # which diverges, and is never chosen
    score = measured(three, backbone, **call)["pre_logits"]
    on_val = [single.extra["val_top1"] for single in alone]
    assert score.extra["val_top1_by_candidate"] == {"lr inf": 0, "lr 0.02": on_val[0], "lr 20": on_val[1]}
    best = int(np.argmax(on_val))
    assert score.hyperparameters["lr"] == rates[best] and score.top1 == alone[best].top1
    assert score.extra["curve"] == alone[best].extra["curve"] and on_val[0] != on_val[1]


def test_refusals():
    backbone = trunk()
    backbone.trainable = True
    with pytest.raises(InputError, match="trainable variables.*backbone.trainable = False"):
        measured(PROBE, backbone)
    backbone.trainable = False
    with pytest.raises(InputError, match="no endpoint 'block7'"):
        measured(PROBE, backbone, endpoints=("block7",))
    with pytest.raises(InputError, match="rgb val has no labels"):
        measured(PROBE, backbone, (source("train"), source("val", known_labels=None), source("test")))
    backbone.get_layer("norm").moving_mean.assign([np.nan] * 4)
    with pytest.raises(InputError, match="linear_images on block1 .*not finite"):
        measured(PROBE, backbone)
