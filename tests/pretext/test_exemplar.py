"""Exemplar: which crops it sees, which rows it compares, and that it learns."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.pretext.exemplar import Exemplar, ExemplarOptions
from revisit_ssl.pretext.losses import triplet_semihard
from revisit_ssl.recipe import ViewSpec

GOLDEN = pathlib.Path(__file__).parents[1] / "goldens" / "revisiting" / "exemplar_loss.npz"


def exemplar(views=None, seed=0, **options):
    """Exemplar on a network that only averages colours."""
    keras.utils.set_random_seed(seed)
    image = keras.Input([None, None, 3])
    backbone = keras.Model(image, {"pre_logits": keras.layers.GlobalAveragePooling2D()(image)})
    return Exemplar(backbone, options=ExemplarOptions(**options), views=views, seed=seed)


def noise(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


@pytest.mark.parametrize(("normalize", "prefix"), [("row", "row"), ("batch_legacy", "axis0")])
def test_loss_golden(normalize, prefix):
    golden = np.load(GOLDEN)
    model = exemplar(normalize=normalize, margin=float(golden["margin"]), crops=int(golden["crops_per_image"]))
    logits = tf.constant(golden["logits"])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss, embeddings = model.compare(logits, tf.constant(golden["labels"]), 1)
    np.testing.assert_allclose(embeddings, golden[f"{prefix}_normalised"], atol=1e-5)
    np.testing.assert_allclose(loss, golden[f"{prefix}_loss"], atol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), golden[f"{prefix}_gradient"], atol=1e-5)


@pytest.mark.parametrize("normalize", ["row", "batch_legacy"])
def test_a_loss_group_is_a_device_of_its_own(normalize):
    x, labels = tf.constant(noise(24, 5)), tf.repeat(tf.range(6), 4)
    model = exemplar(normalize=normalize)
    loss, rows = model.compare(x, labels, 3)
    alone = [model.compare(x[i : i + 8], labels[i : i + 8], 1) for i in (0, 8, 16)]
    np.testing.assert_allclose(loss, np.mean([each for each, _ in alone]), rtol=1e-6)
    np.testing.assert_allclose(rows, np.concatenate([each for _, each in alone]), rtol=1e-6)
    assert abs(float(loss) - float(model.compare(x, labels, 1)[0])) > 1e-3


def test_legacy_rows_are_as_long_as_the_recipe_says():
    # sqrt(d / rows) for 64 rows of 1000 numbers, so that two of them lie 31 apart and the margin hardly weighs.
    _, rows = exemplar(normalize="batch_legacy").compare(tf.random.stateless_normal([64, 1000], (0, 0)), [0] * 64, 1)
    assert np.linalg.norm(rows, axis=1).mean() == pytest.approx(3.95, abs=0.02)
    assert np.square(rows[0] - rows[1]).sum() == pytest.approx(31, rel=0.1)


def test_crops_of_an_image_are_gray_together_and_coloured_apart():
    model = exemplar(ViewSpec(size=16, gray_probability=0.5, gray="mean", color="inception", flip=True), crops=6)
    crops = tf.repeat(tf.constant(noise(32, 1, 16, 16, 3)), 6, axis=1)
    seen = model.augment_crops(crops, (0, 7), normalize="none").numpy().reshape(32, 6, 16, 16, 3)
    gray = np.ptp(seen, axis=-1).max(axis=(2, 3)) < 1e-5  # [32, 6]
    assert (gray.all(1) | ~gray.any(1)).all() and 8 <= gray[:, 0].sum() <= 24
    # Brightness is shifted for each crop by itself, also in gray images.
    assert len({round(float(value), 4) for value in seen.mean(axis=(2, 3, 4)).ravel()}) > 150
    # Gray is the mean of the channels before the colours change: only a shift is left of them.
    first = np.flatnonzero(gray[:, 0])[0]
    plain = noise(32, 1, 16, 16, 3)[first, 0].mean(-1)
    inner = (seen[first, 0, ..., 0] > 0.01) & (seen[first, 0, ..., 0] < 0.99)
    shifts = min((np.ptp((seen[first, 0, ..., 0] - turned)[inner]) for turned in (plain, plain[:, ::-1])), key=float)
    assert shifts < 1e-4


def test_the_network_sees_standardised_crops_image_by_image():
    views = ViewSpec(size=8, crop="resized", flip=False, color="none", normalize="standardize")
    model = exemplar(views, crops=3)
    assert (model.crops["image"].count, model.crops["image"].size) == (3, 8)
    images = tf.constant(noise(4, 12, 12, 3))
    crops = model.cut({"image": images}, (0, 1))["image"]
    seen = model.augment_crops(crops, (0, 1)).numpy()
    assert seen.shape == (12, 8, 8, 3)
    np.testing.assert_allclose(seen.mean((1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(seen.std((1, 2, 3)), 1, atol=1e-4)
    expected = crops[2, 1].numpy()
    np.testing.assert_allclose(seen[7], (expected - expected.mean()) / expected.std(), atol=1e-4)


def test_evaluation_compares_different_crops_with_fixed_draws():
    model = exemplar(ViewSpec(size=16, crop="resized", color="inception"), crops=4)
    images = (noise(6, 1, 1, 3) * 200 + noise(6, 16, 16, 3) * 50).astype(np.uint8)
    first = {name: float(value) for name, value in model.test_step({"image": tf.constant(images)}).items()}
    model.reset_metrics()
    again = {name: float(value) for name, value in model.test_step({"image": tf.constant(images)}).items()}
    assert first == again and first["accuracy"] < 1  # colours shift: no image finds its crops every time
    crops = model.cut({"image": tf.constant(images)}, (0, 0))["image"]
    assert np.abs(crops[:, 0] - crops[:, 1]).max() > 0.05
    embeddings = model.head(model.backbone(model.augment_crops(crops, (0, 0)))["pre_logits"])
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    assert first["loss"] == pytest.approx(float(triplet_semihard(unit, np.repeat(np.arange(6), 4), 0.5)), rel=1e-5)


def test_it_learns_to_find_crops_of_the_same_image():
    # Eight faint tints, each from dark on the left to bright on the right: to be learnt is to ignore the brightness.
    tints = 0.5 + 0.04 * np.stack([np.cos(np.arange(8) * np.pi / 4 + turn) for turn in (0, 2.1, 4.2)], -1)
    ramp = np.linspace(-0.3, 0.3, 32)[None, None, :, None]
    images = tf.constant(np.tile(np.uint8((tints[:, None, None] + ramp) * 255), [1, 32, 1, 1]))
    views = ViewSpec(size=8, crop="random", flip=False, color="none")
    model = exemplar(views, crops=4, embed_dim=8)
    model.compile(optimizer=keras.optimizers.Adam(0.03))

    def score():
        model.reset_metrics()
        return {name: float(value) for name, value in model.test_step({"image": images}).items()}

    before, step = score(), tf.function(model.train_step, autograph=False)
    for _ in range(50):
        step({"image": images})
    after = score()
    assert before["accuracy"] < 0.8 and after["accuracy"] > 0.95, (before, after)
    assert after["loss"] < 0.4 * before["loss"], (before, after)


def test_pictures_show_every_crop_in_the_range_of_a_picture():
    model = exemplar(ViewSpec(size=16, crop="resized", normalize="standardize"), crops=5)
    ((_, images, names),) = model.pictures({"image": tf.constant((noise(3, 20, 20, 3) * 255).astype(np.uint8))})
    assert images.shape == (15, 16, 16, 3) and len(names) == 15 and images.min() >= 0 and images.max() <= 1


def test_bad_options_are_refused():
    for options, message in (
        ({"crops": 1}, "task.crops 1 must be at least 2"),
        ({"embed_dim": 0}, "task.embed_dim 0"),
        ({"loss_group": 1}, "one has no negatives"),
        ({"margin": float("nan")}, "task.margin nan must be a finite number from 0 up"),
    ):
        with pytest.raises(InputError, match=message):
            ExemplarOptions(**options)
    with pytest.raises(InputError, match="1 image on a device has no negatives"):
        exemplar(ViewSpec(size=8)).check_batch(1)
    with pytest.raises(InputError, match="exemplar trains on whole crops, not on the patches of views.patch-grid 3"):
        exemplar(ViewSpec(size=24, patch_grid=3, patch_size=8)).check_batch(8)
    model = exemplar(ViewSpec(size=8), loss_group=4)
    model.check_batch(8, bn_group=32)
    with pytest.raises(InputError, match="loss_group 4 does not divide the 6 images"):
        model.check_batch(6)
    with pytest.raises(InputError, match=r"bn_group 48 does not divide the 64 rows \(8 images\) of a device"):
        model.check_batch(8, bn_group=48)
