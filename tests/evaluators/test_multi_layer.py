"""The probes multi_layer and last_layer against OpenSelfSup's files, typed once more (the specification's B.1, B.2)."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import get_backbone
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import LastLayer, MultiLayer, heads
from revisit_ssl.evaluators.heads import Heads
from revisit_ssl.evaluators.linear_images import LinearImages
from revisit_ssl.features.stages import STAGES, StagePool, staged, stages
from revisit_ssl.papers import PROTOCOLS
from revisit_ssl.views.color import pca_lighting
from tests.evaluators.test_linear_images import bench_of, source, trunk


def five_stages(side=None):
    """A network whose maps have 8, 8, 4, 2 and 2 cells a side of images of 8 pixels."""
    image = keras.Input((side, side, 3), name="image")
    x, outputs = image, {}
    for i, (name, stride) in enumerate(zip(("after_root", "block1", "block2", "block3", "block4"), (1, 1, 2, 2, 1),
                                           strict=True)):  # fmt: skip
        start = keras.initializers.GlorotUniform(i)
        x = keras.layers.Conv2D(3 + i, 3, stride, "same", kernel_initializer=start, name=f"conv{i}")(x)
        outputs[name] = x
    outputs["pre_logits"] = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(image, outputs)
    model.trainable = False
    return model


def adaptive(image, bins):
    """PyTorch's AdaptiveAvgPool2d of [h, w, c], cell by cell."""
    h, w, c = image.shape
    out = np.zeros((min(bins, h), min(bins, w), c))
    for p, q in np.ndindex(*out.shape[:2]):
        rows = slice(p * h // len(out), math.ceil((p + 1) * h / len(out)))
        columns = slice(q * w // out.shape[1], math.ceil((q + 1) * w / out.shape[1]))
        out[p, q] = image[rows, columns].mean(axis=(0, 1))
    return out


@pytest.mark.parametrize(("stage", "side", "window", "step", "zeros", "cells", "values"), [
    ("conv1", 112, 10, 10, 4, 12, 9216), ("conv2", 56, 16, 8, 0, 6, 9216), ("conv3", 28, 13, 5, 0, 4, 8192),
    ("conv4", 14, 8, 3, 0, 3, 9216), ("conv5", 7, 6, 1, 0, 2, 8192),
])  # fmt: skip
def test_full_size_maps_are_averaged_as_the_file_says(stage, side, window, step, zeros, cells, values):
    image = np.random.default_rng(0).normal(size=(side, side, 2))
    padded = np.pad(image, ((zeros, zeros), (zeros, zeros), (0, 0)))
    found = StagePool(stage)(tf.constant(image[None], tf.float32)).numpy()[0]
    expected = [[padded[p * step : p * step + window, q * step : q * step + window].mean(axis=(0, 1))
                 for q in range(cells)] for p in range(cells)]  # fmt: skip
    np.testing.assert_allclose(found, expected, atol=1e-5)
    channels = dict(zip(STAGES, (64, 256, 512, 1024, 2048), strict=True))[stage]
    assert StagePool(stage).compute_output_spec(keras.KerasTensor((1, side, side, channels))).shape == (
        1, cells, cells, channels,
    )
    assert cells**2 * channels == values


@pytest.mark.parametrize(("height", "width"), [(17, 13), (8, 8), (3, 5)])
def test_other_maps_are_averaged_adaptively(height, width):
    image = np.random.default_rng(1).normal(size=(height, width, 3))
    for stage, bins in zip(STAGES, (12, 6, 4, 3, 2), strict=True):
        expected = adaptive(image, bins)
        for known in (True, False):
            shape = [1, height, width, 3] if known else [1, None, None, 3]
            pool = tf.function(StagePool(stage), [tf.TensorSpec(shape)], autograph=False)
            np.testing.assert_allclose(pool(tf.constant(image[None], tf.float32))[0], expected, atol=1e-5)


def test_the_stages_of_networks():
    backbone = get_backbone("resnet18", 1, stem="paper", input_shape=(64, 64, 3))
    found = stages(backbone)
    # Before the pool, after normalisation and ReLU.
    assert found["conv1"].shape[1:] == (32, 32, 16) and backbone.output["after_root"].shape[1:] == (16, 16, 16)
    relu = keras.Model(backbone.input, {"mine": found["conv1"], "relu": backbone.get_layer("root_relu").output})
    values = relu(tf.random.stateless_normal([1, 64, 64, 3], [1, 2]))
    np.testing.assert_array_equal(values["mine"], values["relu"])
    assert [found[s].shape[1] for s in STAGES[1:]] == [16, 8, 4, 2]
    frozen = staged(backbone)
    assert not frozen.trainable_variables and [frozen.output[s].shape[1] for s in STAGES] == [12, 6, 4, 3, 2]
    vgg = get_backbone("vgg16_bn", 1, input_shape=(32, 32, 3))
    assert stages(vgg)["conv5"] is vgg.output["conv13"] and stages(vgg)["conv1"] is vgg.output["conv2"]
    with pytest.raises(InputError, match="has no five stages"):
        next(iter(MultiLayer().measure(bench_of(trunk()))))


def test_steps_equal_numpy(trained_on, monkeypatch):
    """Average, normalise channel by channel, classify; Nesterov and L2 as torch.optim.SGD has them."""
    monkeypatch.setattr(heads, "normal", lambda key, shape: tf.zeros(shape))
    probe = MultiLayer(
        crop="random", resize=8, flip=False, jitter=(0.0,) * 3, lighting=0.0, batch_size=16, learning_rates=(2.0,),
        schedule=(2, 3, 4), weight_decay=0.01,
    )
    backbone, train = five_stages(), source("train")
    found = Heads(probe, probe.on_stages(bench_of(backbone)))
    found.train(lambda epoch: None)
    maps = backbone(train.images.astype("f4") / 127.5 - 1, training=False)
    for stage, name, bins in (("conv1", "after_root", 12), ("conv3", "block2", 4), ("conv4", "block3", 3)):
        pooled = np.stack([adaptive(m, bins) for m in maps[name].numpy().astype(np.float64)])
        width = pooled[0].size
        w, b, mw, mb = np.zeros((width, 3)), np.zeros(3), 0.0, 0.0
        moving = 0.0
        for step, rows in enumerate(trained_on):
            x = pooled[rows]
            mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))  # over images and cells
            x = ((x - mean) / np.sqrt(variance + 1e-5)).reshape(16, -1)
            odds = np.exp(x @ w + b)
            residual = (odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[train.labels[rows]]) / 16
            gw, gb = x.T @ residual + 0.01 * w, residual.sum(axis=0) + 0.01 * b
            mw, mb = 0.9 * mw + gw, 0.9 * mb + gb
            lr = 2 * 16 / 256 * 0.1 ** ((step >= 6) + (step >= 9))
            w, b = w - lr * (gw + 0.9 * mw), b - lr * (gb + 0.9 * mb)
            moving = 0.9 * moving + 0.1 * mean
        np.testing.assert_allclose(found.variables[stage][0].numpy(), [w], rtol=0, atol=2e-4)
        np.testing.assert_allclose(found.variables[stage][1].numpy(), [[b]], rtol=0, atol=2e-4)
        np.testing.assert_allclose(found.norms[stage].moving_mean, moving, atol=1e-5)
        assert not found.norms[stage].trainable_variables  # no scale, no offset


def test_scores_are_of_the_five_stages_whatever_the_endpoints(monkeypatch):
    probe = MultiLayer(batch_size=48, schedule=(1, 1, 1))
    scores = {s.endpoint: s for s in probe.measure(bench_of(five_stages()))}
    assert tuple(scores) == STAGES
    told = scores["conv3"].hyperparameters
    assert (told["lr"], told["nesterov"], told["jitter"]) == (0.1, True, (0.4, 0.4, 0.4)) and "pooling" not in told
    seen = []
    monkeypatch.setattr(LinearImages, "measure", lambda self, bench: seen.append(bench) or iter(()))
    assert list(LastLayer().measure(bench_of(five_stages(), endpoints=("block1",)))) == []
    assert seen[0].endpoints == ("pre_logits",)


def test_lighting_is_the_principal_colours():
    images = tf.zeros([4000, 1, 1, 3]) + 0.5
    shifts = (pca_lighting(images, (1, 2), 0.1) - images).numpy()[:, 0, 0]
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    factors = shifts @ np.linalg.inv(vectors).T / [0.2175, 0.0188, 0.0045]  # shift = vectors @ (factors * values)
    np.testing.assert_allclose(factors.mean(axis=0), 0, atol=0.01)
    np.testing.assert_allclose(factors.std(axis=0), 0.1, atol=0.006)
    same = pca_lighting(tf.random.uniform([2, 3, 3, 3]), 3)
    assert same.shape == (2, 3, 3, 3)


def test_protocols_are_the_files_and_the_supplements_words():
    multi, last = PROTOCOLS["maskco"]["multi_layer"], PROTOCOLS["maskco"]["last_layer"]
    assert (multi.batch_size, multi.learning_rates, multi.nesterov, multi.weight_decay) == (256, (0.01,), True, 1e-4)
    assert (multi.schedule, multi.factor, multi.momentum, multi.start) == ((30, 60, 90), 0.1, 0.9, "normal")
    assert (multi.crop, multi.scale, multi.flip, multi.jitter, multi.lighting) == (
        "resized", (0.08, 1.0), True, (0.4, 0.4, 0.4), 0.1,
    )
    assert (last.learning_rates, last.weight_decay, last.schedule) == ((30.0,), 0.0, (60, 80, 100))
    text = PROTOCOLS["maskco_text"]["multi_layer"]
    assert text == dataclasses.replace(multi, learning_rates=(0.1,), nesterov=False)
