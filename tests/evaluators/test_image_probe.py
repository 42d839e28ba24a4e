"""The linear probe on augmented images: what it sees, what it leaves alone, its steps against NumPy."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from revisit_ssl.evaluators.image_probe import LinearImages

from revisit_ssl.backbones import BACKBONES
from revisit_ssl.data import EvalView, Source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import image_probe as module
from revisit_ssl.features.representation import NetworkInput


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
    resize=8, size=8, batch_size=16, learning_rates=(20.0,), schedule=(2, 3, 4), max_values=30, eval_batch_size=20
)
PM1 = NetworkInput(normalize="pm1")
CALL = {"endpoints": ("block1", "pre_logits"), "network_input": PM1, "num_classes": 3}


def splits():
    return source("train"), source("val", 24), source("test", 50)


def test_trunk_is_the_same_to_the_bit_and_every_endpoint_gets_a_head():
    backbone = trunk()
    before = [np.asarray(w) for w in backbone.weights]
    scores = PROBE(backbone, *splits(), **CALL)
    for old, new in zip(before, backbone.weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
    assert list(scores) == ["block1", "pre_logits"] and not backbone.trainable_variables
    for score in scores.values():
        assert score.top1 > 60 and score.top5 is None and score.extra["val_top1"] > 60 and score.seconds > 0
        assert score.hyperparameters["schedule"] == (2, 3, 4) and score.hyperparameters["lr_used"] == 20 * 16 / 256


def test_heads_do_not_depend_on_which_others_are_trained():
    backbone = trunk()
    both = PROBE(backbone, *splits(), **CALL)
    alone = PROBE(backbone, *splits(), **(CALL | {"endpoints": ("block1",)}))
    assert alone["block1"].top1 == both["block1"].top1 and alone["block1"].extra == both["block1"].extra


def test_steps_equal_numpy(monkeypatch):
    """The crop is the whole image here, so that the features of each batch are known."""
    seen = []
    real = module.train_batches

    def recorded(*args, **kwargs):
        for batch in real(*args, **kwargs):
            seen.append(batch["index"].numpy())
            yield batch

    monkeypatch.setattr(module, "train_batches", recorded)
    monkeypatch.setattr(module, "glorot", lambda key, shape: tf.zeros(shape))
    backbone, train = trunk(), source("train")
    features_of = PROBE._features(backbone, ("pre_logits",), PM1)
    heads, epochs = PROBE._heads(features_of, 3, 0), []
    PROBE._train(features_of, heads, train, 16, 0, epochs.append)
    features = backbone(train.images.astype("f4") / 127.5 - 1, training=False)["pre_logits"].numpy().astype(np.float64)
    w, b, mw, mb = np.zeros((4, 3)), np.zeros(3), 0.0, 0.0
    assert len(seen) == 4 * 3 and epochs == [1, 2, 3, 4]
    for step, rows in enumerate(seen):
        odds = np.exp(features[rows] @ w + b)
        residual = (odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[train.labels[rows]]) / 16
        mw, mb = 0.9 * mw + features[rows].T @ residual, 0.9 * mb + residual.sum(axis=0)
        lr = 20 * 16 / 256 * 0.1 ** ((step >= 6) + (step >= 9))
        w, b = w - lr * mw, b - lr * mb
    np.testing.assert_allclose(heads["pre_logits"][0].numpy(), [w], rtol=0, atol=1e-4)
    np.testing.assert_allclose(heads["pre_logits"][1].numpy(), [[b]], rtol=0, atol=1e-4)


@pytest.mark.parametrize("compiled", [False, True])
def test_parts_of_a_batch_give_the_features_of_the_whole(monkeypatch, compiled):
    """19 images, 6 at a time: 4 parts of 5, the last one filled up. The reversible network has gradients of its own."""
    backbone = BACKBONES["revnet50"](1, stem="cifar")
    backbone.trainable = False
    images = np.random.default_rng(0).random((19, 8, 8, 3), np.float32)
    endpoints, seen = ("block1", "pre_logits"), []
    real = module.represent
    monkeypatch.setattr(module, "represent", lambda net, x, *a, **k: seen.append(x.shape[0]) or real(net, x, *a, **k))
    found = []
    for at_once in (19, 6):
        monkeypatch.setattr(module, "images_at_once", lambda *a, at_once=at_once: at_once)
        features_of = PROBE._features(backbone, endpoints, NetworkInput(normalize="standardize"))
        features_of = tf.function(features_of, jit_compile=compiled)
        found.append(features_of(images))
    assert seen == [19, 5]  # traced once, not once for each part
    for name in endpoints:
        assert found[1][name].shape == found[0][name].shape and found[1][name].shape[0] == 19
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-5, atol=1e-5)


def test_scores_do_not_depend_on_the_size_of_the_parts(monkeypatch):
    backbone = trunk()
    whole = PROBE(backbone, *splits(), **CALL)
    monkeypatch.setattr(module, "images_at_once", lambda *a: 3)
    parts = PROBE(backbone, *splits(), **CALL)
    assert [(s.top1, s.extra) for s in parts.values()] == [(s.top1, s.extra) for s in whole.values()]


@pytest.mark.filterwarnings("ignore:Even though the")
def test_training_sees_random_crops_and_evaluation_the_centre(monkeypatch):
    """Images whose pixels say where they are: every crop is size x size pixels of the resized image, unflipped."""
    place = np.stack([*np.indices((12, 12)), np.zeros((12, 12))], axis=-1) * 20
    pictures = np.tile(place.astype(np.uint8), (16, 1, 1, 1))
    train = source("train", 16, images=pictures)
    crops = []
    real = module.cut
    monkeypatch.setattr(
        module, "cut", lambda images, spec, seed: crops.append((spec, real(images, spec, (1, 2)))) or crops[-1][1]
    )
    tf.config.run_functions_eagerly(True)
    try:
        probe = LinearImages(resize=12, size=8, batch_size=16, schedule=(1, 1, 1))
        features_of = probe._features(trunk(), ("block1",), PM1)
        probe._train(features_of, probe._heads(features_of, 3, 0), train, 16, 0, lambda epoch: None)
    finally:
        tf.config.run_functions_eagerly(False)
    spec, cut = crops[0]
    assert (spec.method, spec.size, spec.resize_to, spec.keep_ratio, spec.count) == ("random", 8, 12, True, 1)
    corners = set()
    for crop in np.round(cut.numpy()[:, 0] * 255 / 20):
        top, left = crop[0, 0, :2]
        np.testing.assert_array_equal(crop[..., :2], place[int(top) : int(top) + 8, int(left) : int(left) + 8, :2] / 20)
        corners.add((top, left))
    assert len(corners) > 4


@pytest.mark.parametrize("view", [None, EvalView(size=8, resize=9, method="squash")])
def test_what_is_scored(monkeypatch, view):
    """The centre of the training geometry, or what the recipe looks at: the supplement's for patch networks."""
    views = []
    real = module.padded_batches
    monkeypatch.setattr(module, "padded_batches", lambda s, n, view: views.append(view) or real(s, n, view))
    probe = LinearImages(resize=12, size=8, batch_size=16, schedule=(1, 1, 1), eval_view=view)
    probe(trunk(), *splits(), **CALL)
    assert set(views) == {view or EvalView(size=8, resize=12, method="shorter_side")}
    with pytest.raises(InputError, match="trained on 8 pixels, scored on 16"):
        LinearImages(resize=12, size=8, eval_view=EvalView(size=16))(trunk(), *splits(), **CALL)


def test_a_network_of_patches_learns_from_their_mean(monkeypatch):
    """Training and scores see the mean of the four patches' features, in parts of a batch too."""
    monkeypatch.setattr(module, "images_at_once", lambda *a: 5)
    backbone = trunk()
    known = NetworkInput(normalize="standardize", patch_grid=2, patch_size=4)
    images = np.random.default_rng(0).random((16, 8, 8, 3), np.float32)
    found = PROBE._features(backbone, ("pre_logits",), known)(tf.constant(images))["pre_logits"]
    expected = []
    for image in images:
        patches = [image[y : y + 4, x : x + 4] for y in (0, 4) for x in (0, 4)]
        patches = np.stack([(p - p.mean()) / p.std() for p in patches])
        expected.append(backbone(patches, training=False)["pre_logits"].numpy().mean(axis=0))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    scores = PROBE(backbone, *splits(), **(CALL | {"network_input": dataclasses.replace(known, normalize="pm1")}))
    assert all(score.top1 > 60 for score in scores.values())


def test_the_curve_is_of_val_and_ends_where_the_probe_ends(monkeypatch):
    """A run that is cut short after an epoch scores what the curve says of that epoch."""
    backbone, (train, val, test) = trunk(), splits()
    probe = dataclasses.replace(PROBE, learning_rates=(3.0,), schedule=(2, 3, 5))
    score = probe(backbone, train, val, test, **CALL)["block1"]
    curve = score.extra["curve"]
    # 48 images in training, 24 of val: 0.1 * 5 * 48 / 24 = 1 look of its own at the end, and those at the drops.
    assert [epoch for epoch, _ in curve] == [2, 3, 5] and curve[-1][1] == score.extra["val_top1"]
    assert len({top1 for _, top1 in curve}) > 1
    seen = []
    real = module.padded_batches
    monkeypatch.setattr(module, "padded_batches", lambda s, *a: seen.append(s.split) or real(s, *a))
    short = dataclasses.replace(probe, schedule=(2, 3, 3))(backbone, train, val, test, **CALL)["block1"]
    assert short.extra["val_top1"] == curve[1][1] and seen == ["val", "val", "test"]


def test_learning_rate_as_it_is():
    probe, backbone = dataclasses.replace(PROBE, learning_rates=(1.25,), scale_lr=False), trunk()
    plain = probe(backbone, *splits(), **CALL)["block1"]
    scaled = PROBE(backbone, *splits(), **CALL)["block1"]  # 20 * 16 / 256 = 1.25
    assert plain.hyperparameters["lr_used"] == 1.25 and (plain.top1, plain.extra) == (scaled.top1, scaled.extra)


def test_paper_defaults():
    probe = LinearImages.paper()
    assert (probe.resize, probe.size, probe.batch_size, probe.learning_rates) == (256, 224, 2048, (0.1,))
    assert (probe.crop, probe.flip, probe.start, probe.factor) == ("random", False, "glorot", 0.1)
    assert (probe.schedule, probe.momentum, probe.max_values, probe.pooling) == ((480, 500, 520), 0.9, 9000, "max")


def test_imagenet_settings_of_the_contrastive_papers():
    moco, infomin = LinearImages.moco(), LinearImages.infomin()
    for probe in (moco, infomin):
        assert (probe.learning_rates, probe.batch_size, probe.momentum, probe.size) == ((30.0,), 256, 0.9, 224)
        assert (probe.crop, probe.flip, probe.start) == ("resized", True, "normal")
    assert (moco.schedule, moco.factor, moco.scale) == ((60, 80, 100), 0.1, (0.08, 1.0))
    assert (infomin.schedule, infomin.factor, infomin.scale) == ((30, 40, 50, 60), 0.2, (0.2, 1.0))
    features_of = moco._features(trunk(), ("pre_logits",), PM1)
    kernel, bias = moco._heads(features_of, 1000, 0)["pre_logits"]
    assert kernel.numpy().std() == pytest.approx(0.01, rel=0.05) and not bias.numpy().any()


def test_settings_of_obow():
    whole, places = LinearImages.obow(), LinearImages.obow_places()
    assert (whole.crop, whole.flip, whole.scale, whole.batch_size, whole.start) == (
        "resized", True, (0.08, 1.0), 1024, "normal",
    )  # fmt: skip
    assert (whole._rates(1024), whole.decay, whole.schedule, whole.weight_decay) == ([10.0], "cosine", (100,), 0.0)
    assert (places.crop, places.flip, places.resize, places.batch_size) == ("random", True, 256, 256)
    assert (places._rates(256), places.schedule, places.factor) == ([0.01], (5, 10, 14), 0.1)
    assert places.batch_norm and places.weight_decay == 1e-4 and not whole.batch_norm


def test_batch_norm_weight_decay_and_cosine_equal_numpy(monkeypatch):
    """Non-affine batch normalisation, eps 1e-5; unbiased moving variance, a tenth of each batch; lr cos per epoch."""
    seen, real = [], module.train_batches

    def recorded(*args, **kwargs):
        for batch in real(*args, **kwargs):
            seen.append(batch["index"].numpy())
            yield batch

    monkeypatch.setattr(module, "train_batches", recorded)
    monkeypatch.setattr(module, "glorot", lambda key, shape: tf.zeros(shape))
    probe = dataclasses.replace(
        PROBE, learning_rates=(2.0,), scale_lr=False, schedule=(4,), decay="cosine", batch_norm=True, weight_decay=0.02
    )
    backbone, train = trunk(), source("train")
    features_of = probe._features(backbone, ("pre_logits",), PM1)
    heads = probe._heads(features_of, 3, 0)
    norms = probe._norms(heads)
    probe._train(features_of, heads, train, 16, 0, lambda epoch: None, norms)
    features = backbone(train.images.astype("f4") / 127.5 - 1, training=False)["pre_logits"].numpy().astype(np.float64)
    w, b, mw, mb, mean, variance = np.zeros((4, 3)), np.zeros(3), 0.0, 0.0, np.zeros(4), np.ones(4)
    assert len(seen) == 4 * 3
    for step, rows in enumerate(seen):
        x = features[rows]
        mean, variance = 0.9 * mean + 0.1 * x.mean(axis=0), 0.9 * variance + 0.1 * x.var(axis=0, ddof=1)
        x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5)
        odds = np.exp(x @ w + b)
        residual = (odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[train.labels[rows]]) / 16
        mw, mb = 0.9 * mw + x.T @ residual + 0.02 * w, 0.9 * mb + residual.sum(axis=0) + 0.02 * b
        lr = 2.0 * (1 + np.cos(np.pi * (step // 3) / 4)) / 2
        w, b = w - lr * mw, b - lr * mb
    np.testing.assert_allclose(heads["pre_logits"][0].numpy(), [w], rtol=0, atol=2e-4)
    np.testing.assert_allclose(heads["pre_logits"][1].numpy(), [[b]], rtol=0, atol=2e-4)
    test = source("test", 50)
    score = probe._scorer(features_of, heads, EvalView(size=8), 20, norms)(test)["pre_logits"][0]
    x = backbone(test.images.astype("f4") / 127.5 - 1, training=False)["pre_logits"].numpy().astype(np.float64)
    np.testing.assert_allclose(score, (x - mean) / np.sqrt(variance + 1e-5) @ w + b, rtol=0, atol=2e-3)


def test_rates_are_tried_side_by_side_and_chosen_on_val():
    """Candidates trained together are what each is alone; the one that is best on val is taken, whatever test says."""
    backbone, images, call = trunk(), splits(), CALL | {"endpoints": ("pre_logits",)}
    base = dataclasses.replace(PROBE, crop="resized", scale=(0.5, 1.0), flip=True, schedule=(1, 2, 2, 2), factor=0.2)
    rates = (0.02, 20.0)
    alone = [dataclasses.replace(base, learning_rates=(lr,))(backbone, *images, **call)["pre_logits"] for lr in rates]
    three = dataclasses.replace(base, learning_rates=(np.inf, *rates))  # which diverges, and is never chosen
    score = three(backbone, *images, **call)["pre_logits"]
    on_val = [single.extra["val_top1"] for single in alone]
    assert score.extra["val_top1_by_candidate"] == {"lr inf": 0, "lr 0.02": on_val[0], "lr 20": on_val[1]}
    best = int(np.argmax(on_val))
    assert score.hyperparameters["lr"] == rates[best] and score.top1 == alone[best].top1
    assert score.extra["curve"] == alone[best].extra["curve"] and on_val[0] != on_val[1]


def test_refusals():
    backbone = trunk()
    backbone.trainable = True
    with pytest.raises(InputError, match="trainable variables.*backbone.trainable = False"):
        PROBE(backbone, *splits(), **CALL)
    backbone.trainable = False
    with pytest.raises(InputError, match="no endpoint 'block7'"):
        PROBE(backbone, *splits(), **(CALL | {"endpoints": ("block7",)}))
    with pytest.raises(InputError, match="rgb val has no labels"):
        PROBE(backbone, source("train"), source("val", known_labels=None), source("test"), **CALL)
    backbone.get_layer("norm").moving_mean.assign([np.nan] * 4)
    with pytest.raises(InputError, match="linear_images on block1 .*not finite"):
        PROBE(backbone, *splits(), **CALL)
