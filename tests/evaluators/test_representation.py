"""Patches through a frozen network against a loop over them, one at a time; sizes, memory, refusals."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import BACKBONES
from revisit_ssl.data import EvalView, Source
from revisit_ssl.errors import InputError
from revisit_ssl.features.extract import FeatureSpec, extract_features
from revisit_ssl.features.pooling import pool_endpoint
from revisit_ssl.features.representation import NetworkInput, check_input, feature_widths, images_at_once, represent
from revisit_ssl.papers import get_recipe

NINE = NetworkInput(normalize="standardize", patch_grid=3, patch_size=8)


def network(width=6):
    image = keras.Input((None, None, 3), name="image")
    initial = keras.initializers.GlorotUniform(0)
    x = keras.layers.Conv2D(width, 3, strides=2, padding="same", kernel_initializer=initial, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    model = keras.Model(image, {"block1": x, "pre_logits": keras.layers.GlobalAveragePooling2D(name="mean")(x)})
    model.get_layer("norm").moving_mean.assign(np.linspace(-1, 1, width))
    model.trainable = False
    return model


def one_at_a_time(model, image, size, combine, max_values, pooling):
    """Features of a uint8 image [s, s, 3]: its 3 x 3 patches of 8 pixels, cut, standardised and pooled in a loop."""
    start = (len(image) - 3 * size) // 2
    rows = {name: [] for name in model.output}
    for i in range(3):
        for j in range(3):
            top, left = start + i * size, start + j * size
            patch = image[top : top + size, left : left + size].astype(np.float64)
            outputs = model(((patch - patch.mean()) / patch.std())[None].astype("f4"), training=False)
            for name, value in outputs.items():
                rows[name].append(pool_endpoint(value, max_values, pooling).numpy()[0])
    join = {"mean": np.mean, "max": np.max, "concat": lambda r, axis: np.concatenate(r)}[combine]
    return {name: join(r, axis=0) for name, r in rows.items()}


@pytest.mark.parametrize("pooling", ["max", "adaptive_max"])
@pytest.mark.parametrize("combine", ["mean", "max", "concat"])
def test_nine_patches_equal_a_loop(combine, pooling):
    model = network()
    known = dataclasses.replace(NINE, combine=combine)
    images = np.random.default_rng(0).integers(0, 256, (5, 26, 26, 3), np.uint8)  # one pixel over on every side
    found = represent(model, images, known, max_values=54, pooling=pooling)
    # 4 x 4 x 6 = 96 values a patch, pooled to at most 54; side by side to a ninth of that, which is one cell.
    expected = [one_at_a_time(model, x, 8, combine, 6 if combine == "concat" else 54, pooling) for x in images]
    widths = feature_widths(model, 26, known, 54, pooling)
    assert widths["pre_logits"] == (54 if combine == "concat" else 6)
    for name in model.output:
        assert found[name].shape == (5, widths[name]) and found[name].dtype == tf.float32
        np.testing.assert_allclose(found[name], [e[name] for e in expected], rtol=1e-4, atol=1e-4)
    # The same in a graph whose number of images is not known, compiled, and from floats.
    wide, pixels = represent(model, images, known), images / np.float32(255)
    for signature, compiled in ([tf.TensorSpec([None, 26, 26, 3])], False), (None, True):
        options = {"input_signature": signature, "jit_compile": compiled, "autograph": False}
        traced = tf.function(lambda x: represent(model, x, known), **options)
        np.testing.assert_allclose(traced(pixels)["block1"], wide["block1"], rtol=1e-4, atol=1e-4)


def test_undivided_images():
    model, images = network(), np.random.default_rng(0).integers(0, 256, (5, 26, 26, 3), np.uint8)
    whole = represent(model, images, dataclasses.replace(NINE, combine="whole"))["pre_logits"]
    x = images.astype(np.float64)
    x = (x - x.mean(axis=(1, 2, 3), keepdims=True)) / x.std(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(whole, model(x.astype("f4"), training=False)["pre_logits"], rtol=1e-4, atol=1e-4)
    plain = represent(model, images, NetworkInput(normalize="pm1"))["pre_logits"]
    np.testing.assert_allclose(plain, model(images / 127.5 - 1, training=False)["pre_logits"], rtol=1e-4, atol=1e-4)


def test_features_on_disk_are_those_of_represent(tmp_path):
    model, images = network(), np.random.default_rng(0).integers(0, 256, (7, 24, 24, 3), np.uint8)
    source = Source(name="a", split="train", kind="memory", num_examples=7, fingerprint="f", images=images)
    options = {"batch_size": 4, "cache_dir": tmp_path}
    view = EvalView(size=24, resize=26, method="squash")
    spec = FeatureSpec(endpoints=("block1",), view=view, network_input=NINE, max_values=54)
    found = extract_features(model, source, spec, **options)
    seen = tf.image.resize(images, (26, 26))[:, 1:25, 1:25]
    seen = tf.cast(tf.round(seen), tf.uint8)
    np.testing.assert_allclose(found["block1"], represent(model, seen, NINE, max_values=54)["block1"], atol=1e-5)
    # Another way to combine them is another file.
    largest = dataclasses.replace(NINE, combine="max")
    extract_features(model, source, dataclasses.replace(spec, network_input=largest), **options)
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_what_a_recipe_says():
    recipe = get_recipe("jigsaw", "paper")
    assert NetworkInput.of(recipe) == NetworkInput(normalize="standardize", patch_grid=3, patch_size=64)
    assert NetworkInput.of(recipe).side(192) == 64 and NetworkInput.of(recipe).rows == 9
    changed = get_recipe("jigsaw", "paper", bench__normalize="pm1", bench__combine="whole")
    assert NetworkInput.of(changed).normalize == "pm1" and NetworkInput.of(changed).rows == 1
    # What the network learnt on is not what it is probed on.
    assert NetworkInput.of_training(changed) == NetworkInput.of(recipe)
    assert NetworkInput.of(get_recipe("rotation", "paper")) == NetworkInput(normalize="pm1")


def test_images_at_once_fit_the_budget():
    model, plain = network(), NetworkInput(normalize="pm1")  # 8 x 8 pixels: block1 is 4 x 4 x 6
    image_bytes = 4 * 4 * 6 * 4 * 4
    assert images_at_once(model, 8, plain, budget=10 * image_bytes) == 10
    assert images_at_once(model, 8, plain, budget=10 * image_bytes - 1) == 9
    assert images_at_once(model, 16, plain, budget=10 * image_bytes) == 2  # four times the values
    assert images_at_once(model, 8, plain, budget=1) == 1 and images_at_once(model, 8, plain) == 256
    assert images_at_once(model, 8, plain, limit=7) == 7
    # Nine patches of 8 pixels: nine times the maps of one.
    assert images_at_once(model, 24, NINE, budget=90 * image_bytes) == 10
    assert images_at_once(model, 24, NINE, budget=90 * image_bytes - 1) == 9
    # The paper's stem keeps 56 x 56 x 64 k values of 224 pixels.
    revnet = BACKBONES["revnet50"](1)
    assert images_at_once(revnet, 224, plain) == min(256, 2**30 // (16 * 56 * 56 * 64))


def test_refusals():
    image = keras.Input((8, 8, 3), name="image")
    fixed = keras.Model(image, {"pre_logits": keras.layers.Dense(2)(keras.layers.Flatten()(image))}, name="vgg")
    check_input(fixed, NINE, 24)
    with pytest.raises(InputError, match="vgg takes 8x8 pixels, not the 24x24 .*--probe-combine to mean"):
        check_input(fixed, dataclasses.replace(NINE, combine="whole"), 24)
    with pytest.raises(InputError, match="vgg takes 8x8 pixels, not the 24x24 .*--probe-size"):
        represent(fixed, np.zeros((1, 24, 24, 3), np.uint8), NetworkInput(normalize="pm1"))
    with pytest.raises(InputError, match="23 pixels hold no 3x3 patches of 8; set --probe-size 24"):
        represent(network(), np.zeros((1, 23, 23, 3), np.uint8), NINE)
