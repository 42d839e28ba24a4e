import pathlib

import numpy as np
import pytest
import scipy.ndimage
import skimage.color
import tensorflow as tf
from PIL import Image, ImageOps
from scipy import stats

from revisit_ssl.errors import InputError
from revisit_ssl.views import blur, color, draws, pixels, resample

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "revisiting"
DRAWS = 20_000


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def follows_uniform(values, low, high):
    return stats.kstest(np.asarray(values, float), stats.uniform(low, high - low).cdf).pvalue > 1e-3


def numpy_luma(images):
    return (images @ np.float32([0.299, 0.587, 0.114]))[..., None]


def numpy_hue(images, deltas):
    hsv = skimage.color.rgb2hsv(images)
    hsv[..., 0] = (hsv[..., 0] + np.reshape(deltas, (-1, 1, 1))) % 1
    return skimage.color.hsv2rgb(hsv)


# --- values -----------------------------------------------------------------------------------------------------------


def test_brightness_both_ways():
    images = noise(2, 4, 4, 3)
    values = np.float32([0.5, 1.2])
    np.testing.assert_allclose(color.adjust_brightness(images, values), images * values[:, None, None, None])
    for i in range(2):
        shifted = color.adjust_brightness(images, values, mode="shift")[i]
        np.testing.assert_allclose(shifted, tf.image.adjust_brightness(images[i], values[i]), atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_contrast_both_ways(factor):
    images = noise(2, 5, 6, 3)
    mean = numpy_luma(images).mean((1, 2), keepdims=True)
    ours = color.adjust_contrast(images, [factor] * 2)
    np.testing.assert_allclose(ours, factor * images + (1 - factor) * mean, atol=1e-6)
    ours = color.adjust_contrast(images, [factor] * 2, around="channel")
    np.testing.assert_allclose(ours, tf.image.adjust_contrast(images, factor), atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4, 4.0])
def test_saturation_both_ways(factor):
    images = noise(3, 5, 6, 3)
    images[0, 0] = 0.0, 0.0, 0.0
    images[0, 1] = 0.3, 0.3, 0.3
    images[0, 2] = 1.0, 0.0, 0.0
    ours = color.adjust_saturation(images, [factor] * 3)
    np.testing.assert_allclose(ours, factor * images + (1 - factor) * numpy_luma(images), atol=2e-6)
    ours = color.adjust_saturation(images, [factor] * 3, mode="hsv")
    np.testing.assert_allclose(ours, tf.image.adjust_saturation(images, factor), atol=2e-6)
    hsv = skimage.color.rgb2hsv(images)
    hsv[..., 1] = np.minimum(hsv[..., 1] * factor, 1)
    np.testing.assert_allclose(ours, skimage.color.hsv2rgb(hsv), atol=2e-6)


def test_hue():
    images = noise(5, 6, 6, 3)
    images[0, 0] = 0.3, 0.3, 0.3
    images[1, 0] = np.eye(3, dtype=np.float32)[[0, 1, 2, 0, 1, 2]]
    deltas = np.float32([-0.5, -0.1, 0.0, 0.1, 0.5])
    ours = color.adjust_hue(images, deltas)
    np.testing.assert_allclose(ours, numpy_hue(images, deltas), atol=2e-6)
    for i in range(5):
        np.testing.assert_allclose(ours[i], tf.image.adjust_hue(images[i], deltas[i]), atol=5e-6)


def test_saturation_golden_outside_the_unit_range():
    golden = np.load(GOLDENS / "inception_train.npz")
    images = np.stack([golden["saturation_only__input"]] * 5)
    ours = color.adjust_saturation(images, golden["saturation_only__factors"], mode="hsv")
    np.testing.assert_allclose(ours, golden["saturation_only__output"], atol=1e-3)


def test_inception_train_golden_examples():
    golden = np.load(GOLDENS / "inception_train.npz")
    y, x, c = np.mgrid[:300, :400, :3]
    image = ((7 * y + 3 * x + 50 * c + x * y // 16) % 256).astype(np.uint8)
    boxes = golden["examples__crop_top_left_height_width"][None]
    ours = resample.resample(pixels.to_float(image[None]), boxes, (224, 224), kernel="legacy")[0]
    ours = tf.where(golden["examples__flipped"][:, None, None, None], ours[:, :, ::-1], ours)
    ours = color.adjust_brightness(ours, golden["examples__brightness_delta"], mode="shift")
    ours = color.adjust_saturation(ours, golden["examples__saturation_factor"], mode="hsv")
    ours = pixels.normalize_input(tf.clip_by_value(ours, 0, 1), "pm1").numpy()
    np.testing.assert_allclose(ours[:, ::9, ::9], golden["examples__output_every_9th_pixel"], atol=1e-3)
    np.testing.assert_allclose(ours.mean((1, 2, 3)), golden["examples__output_mean"], atol=1e-4)


def test_gray_both_ways():
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    pillow = [np.asarray(Image.fromarray(image).convert("L"))[..., None] for image in images]
    np.testing.assert_array_equal(color.to_gray(images), np.repeat(pillow, 3, -1))
    scaled = images / np.float32(255)
    np.testing.assert_allclose(color.to_gray(scaled)[..., :1], numpy_luma(scaled), atol=1e-6)
    golden = np.load(GOLDENS / "patch_preprocessing.npz")
    gray = color.to_gray(golden["to_gray_uint8_input"], mode="mean")
    assert gray.dtype == tf.uint8
    np.testing.assert_array_equal(gray, golden["to_gray_uint8_output"])
    gray = color.to_gray(golden["to_gray_uint8_input"].astype(np.float32), mode="mean")
    np.testing.assert_allclose(gray, golden["to_gray_float_output"], atol=5e-3)


def test_solarize_is_pillows():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    ours = color.solarize(image[None] / np.float32(255))[0] * 255
    np.testing.assert_allclose(ours, np.asarray(ImageOps.solarize(Image.fromarray(image))), atol=1e-4)


@pytest.mark.parametrize("case", range(6))
def test_blur_golden(case):
    golden = np.load(GOLDENS / "gaussian_filter2d.npz")
    sigma = tuple(golden[f"case{case}__sigma_vertical_horizontal"])
    size = tuple(golden[f"case{case}__filter_height_width"])
    options = {"padding": str(golden[f"case{case}__padding"]), "constant": float(golden[f"case{case}__constant_value"])}
    for name, images in (("image", golden["image"][None]), ("batch", golden["batch"])):
        expected = golden[f"case{case}__{name}_output"].reshape(images.shape)
        ours = blur.gaussian_blur(images, sigma, size, **options)
        assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()


def test_blur_golden_impulses_and_uint8():
    golden = np.load(GOLDENS / "gaussian_filter2d.npz")
    for name, size, sigma in (("impulse_response_7x7_sigma_1p3", 7, 1.3), ("impulse_response_4x4_sigma_1", 4, 1.0)):
        expected = golden[name]
        impulse = np.zeros((1, *expected.shape, 1), np.float32)
        impulse[0, expected.shape[0] // 2, expected.shape[1] // 2] = 1
        # without the mirrored border: the stored response was taken in the middle of a larger image
        ours = blur.gaussian_blur(impulse, sigma, size, padding="CONSTANT")[0, ..., 0]
        np.testing.assert_allclose(ours, expected, atol=1e-5 * expected.max())
    ours = blur.gaussian_blur(golden["uint8_input"][None], 1.0, 3)[0]
    np.testing.assert_array_equal(ours, golden["uint8_output_3x3_sigma1"])


def test_blur_is_scipys_with_one_sigma_per_image():
    images = noise(3, 17, 21, 2)
    sigmas = np.float32([0.4, 1.0, 2.5])
    for padding, mode in (("REFLECT", "mirror"), ("SYMMETRIC", "reflect"), ("CONSTANT", "constant")):
        ours = blur.gaussian_blur(images, tf.constant(sigmas), 2 * 8 + 1, padding=padding)
        for image, sigma, blurred in zip(images, sigmas, ours, strict=True):
            theirs = scipy.ndimage.gaussian_filter(image, (sigma, sigma, 0), mode=mode, radius=(8, 8, 0))
            np.testing.assert_allclose(blurred, theirs, atol=1e-5)


def test_standardize_golden():
    golden = np.load(GOLDENS / "patch_preprocessing.npz")
    for name in ("float", "tiny_variance"):
        ours = pixels.standardize(golden[f"standardise_{name}_input"])
        np.testing.assert_allclose(ours, golden[f"standardise_{name}_output"], atol=1e-3)
    np.testing.assert_allclose(pixels.standardize(np.full((2, 4, 4, 3), 0.3, np.float32)), 0, atol=1e-6)


def test_input_ranges():
    images = noise(2, 5, 5, 3)
    np.testing.assert_allclose(pixels.normalize_input(images, "pm1"), images * 2 - 1, atol=1e-6)
    np.testing.assert_array_equal(pixels.normalize_input(images, "none"), images)
    expected = (images - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(pixels.normalize_input(images, "imagenet"), expected, atol=1e-5)
    expected = tf.image.per_image_standardization(images * 255)
    np.testing.assert_allclose(pixels.normalize_input(images, "standardize"), expected, atol=1e-5)
    # One grey level of difference is far above the floor of 0..255 (0.05 levels here), and far below that of [0, 1].
    faint = np.full((1, 10, 13, 3), 100 / 255, np.float32)
    faint[:, :5] = 101 / 255
    np.testing.assert_allclose(np.std(pixels.normalize_input(faint, "standardize")), 1, atol=1e-3)
    assert np.std(pixels.standardize(faint)) < 0.05


# --- laws of the random parameters ------------------------------------------------------------------------------------


def one_pixel_images(*rgb, side=1):
    return tf.tile(tf.constant(rgb, tf.float32)[None, None, None], [DRAWS, side, side, 1])


def test_brightness_law_and_probability():
    scaled = color.random_brightness(one_pixel_images(0.5, 0.5, 0.5), 1, strength=0.4)[:, 0, 0, 0] / 0.5
    assert follows_uniform(scaled, 0.6, 1.4)
    shifted = color.random_brightness(one_pixel_images(0.5, 0.5, 0.5), 2, strength=0.3, mode="shift")[:, 0, 0, 0] - 0.5
    assert follows_uniform(shifted, -0.3, 0.3)
    some = color.random_brightness(one_pixel_images(0.5, 0.5, 0.5), 3, strength=0.4, probability=0.8)[
        :, 0, 0, 0
    ].numpy()
    assert abs((some == 0.5).mean() - 0.2) < 4 * np.sqrt(0.16 / DRAWS)
    assert follows_uniform(some[some != 0.5] / 0.5, 0.6, 1.4)


def test_contrast_law():
    images = np.zeros((DRAWS, 1, 2, 3), np.float32)
    images[:, 0, 0], images[:, 0, 1] = 0.4, 0.6
    ours = color.random_contrast(images, 1, strength=0.4).numpy()
    assert follows_uniform((ours[:, 0, 1, 0] - ours[:, 0, 0, 0]) / 0.2, 0.6, 1.4)


@pytest.mark.parametrize("mode", ["luma", "hsv"])
def test_saturation_law(mode):
    ours = color.random_saturation(one_pixel_images(0.5, 0.4, 0.4), 1, strength=0.4, mode=mode).numpy()[:, 0, 0]
    assert follows_uniform((ours.max(-1) - ours.min(-1)) / 0.1, 0.6, 1.4)


def test_hue_law():
    ours = color.random_hue(one_pixel_images(0.2, 0.6, 0.3), 1, strength=0.1).numpy()
    turned = skimage.color.rgb2hsv(ours)[..., 0] - skimage.color.rgb2hsv(np.float32([0.2, 0.6, 0.3]))[0]
    assert follows_uniform(turned.ravel(), -0.1, 0.1)


def test_blur_law():
    impulse = np.zeros((2000, 1, 25, 1), np.float32)
    impulse[:, 0, 12] = 1
    # a height of one pixel allows one tap: blurred along the row only
    rows = blur.gaussian_blur(impulse, draws.uniform(draws.fold(4, 0), [2000], 0.3, 2.0), (1, 25)).numpy()[:, 0, :, 0]
    assert follows_uniform(np.sqrt(0.5 / np.log(rows[:, 12] / rows[:, 13])), 0.3, 2.0)
    images = np.tile(noise(1, 9, 9, 3), (2000, 1, 1, 1))
    ours = blur.random_gaussian_blur(images, 4, sigma=(0.3, 2.0), size=9, probability=0.5).numpy()
    blurred = (ours != images).any((1, 2, 3))
    assert abs(blurred.mean() - 0.5) < 4 * np.sqrt(0.25 / 2000)
    sigmas = draws.uniform(draws.fold(4, 0), [2000], 0.3, 2.0)
    np.testing.assert_allclose(ours[blurred], blur.gaussian_blur(images, sigmas, 9)[blurred], atol=1e-6)


def test_gray_and_solarize_probability():
    images = one_pixel_images(0.9, 0.2, 0.1)
    gray = color.random_grayscale(images, 1, probability=0.2).numpy()[:, 0, 0]
    solar = color.random_solarize(images, 1, probability=0.2).numpy()[:, 0, 0]
    for chosen in (gray[:, 0] == gray[:, 1], solar[:, 0] < 0.5):
        assert abs(chosen.mean() - 0.2) < 4 * np.sqrt(0.16 / DRAWS)


def test_inception_color_golden_law():
    """Grey stays grey under saturation and so shows the shift; a coloured pixel then shows the factor."""
    golden = np.load(GOLDENS / "inception_train.npz")
    images = np.full((DRAWS, 1, 2, 3), 0.5, np.float32)
    images[:, 0, 1] = 0.55, 0.5, 0.5
    ours = color.inception_color(images, 3).numpy()[:, 0]
    measured = {
        "brightness_delta": ours[:, 0, 0] - 0.5,
        "saturation_factor": (ours[:, 1, 0] - ours[:, 1, 1]) / 0.05,
    }
    for name, values in measured.items():
        up_to = np.searchsorted(np.sort(values), golden[f"{name}__percentiles"], "right") / DRAWS
        assert np.abs(up_to - golden["percentiles"] / 100).max() < 0.0195, name
    assert abs(np.corrcoef(*measured.values())[0, 1]) < 4 / np.sqrt(DRAWS)


# --- the jitter -------------------------------------------------------------------------------------------------------


def numpy_jitter(image, order, brightness, contrast, saturation, hue):
    """torchvision's ColorJitter of one image in one order, in NumPy."""
    operations = [
        lambda x: x * brightness,
        lambda x: contrast * x + (1 - contrast) * numpy_luma(x).mean(),
        lambda x: saturation * x + (1 - saturation) * numpy_luma(x),
        lambda x: numpy_hue(x[None], hue)[0],
    ]
    for i in order:
        image = np.clip(operations[i](image), 0, 1)
    return image


def jitter_parameters(seed, batch, probability):
    """What ``color_jitter`` draws for strengths .4, .4, .4, .1: who is jittered, in which order, by how much."""
    applied = draws.bernoulli(draws.fold(seed, 0), [batch], probability).numpy()
    factors = [draws.uniform(draws.fold(seed, 1 + i), [batch], 0.6, 1.4) for i in range(3)]
    hue = draws.uniform(draws.fold(seed, 4), [batch], -0.1, 0.1)
    keys = draws.integers(draws.fold(seed, 5), [batch, 4], 0, 1 << 28).numpy()
    return applied, np.argsort(keys, axis=1, kind="stable"), np.stack([*factors, hue], axis=1)


STRENGTHS = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}


def test_jitter_is_torchvisions_in_an_order_of_each_images_own():
    batch = 300
    images = noise(batch, 3, 3, 3)
    applied, orders, parameters = jitter_parameters((3, 1), batch, 0.8)
    ours = color.color_jitter(images, (3, 1), **STRENGTHS, probability=0.8).numpy()
    np.testing.assert_array_equal(ours[~applied], images[~applied])
    for i in np.flatnonzero(applied):
        np.testing.assert_allclose(ours[i], numpy_jitter(images[i], orders[i], *parameters[i]), atol=1e-5)
    assert abs(applied.mean() - 0.8) < 4 * np.sqrt(0.16 / batch)


def test_jitter_orders_are_equally_frequent():
    orders = jitter_parameters((3, 2), DRAWS, 1.0)[1]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3


def test_jitter_in_fixed_order():
    images = noise(50, 3, 3, 3)
    parameters = jitter_parameters((3, 1), 50, 1.0)[2]
    ours = color.color_jitter(images, (3, 1), **STRENGTHS, order="fixed")
    for i in range(50):
        np.testing.assert_allclose(ours[i], numpy_jitter(images[i], range(4), *parameters[i]), atol=1e-5)


def test_jitter_parts():
    images = noise(40, 4, 4, 3)
    np.testing.assert_array_equal(color.color_jitter(images, 1), images)
    ours = color.color_jitter(images, 1, saturation=(0.5, 0.5), saturation_mode="hsv")
    np.testing.assert_allclose(ours, tf.image.adjust_saturation(images, 0.5), atol=1e-6)
    ours = color.color_jitter(images, 1, brightness=(0.5, 0.5), hue=(0.2, 0.2))
    np.testing.assert_allclose(ours, tf.image.adjust_hue(images * 0.5, 0.2), atol=5e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda x: color.color_jitter(x, 0, brightness=-0.1), "brightness"),
        (lambda x: color.color_jitter(x, 0, contrast=(2, 1)), "contrast"),
        (lambda x: color.color_jitter(x, 0, hue=0.6), "hue"),
        (lambda x: color.color_jitter(x, 0, probability=1.1), "probability"),
        (lambda x: color.color_jitter(x, 0, order="shuffled"), "shuffled.*'random', 'fixed'"),
        (lambda x: color.color_jitter(x, 0, saturation_mode="yuv"), "yuv"),
        (lambda x: color.random_brightness(x, 0, strength=0.1, mode="add"), "add"),
        (lambda x: color.random_contrast(x, 0, strength=0.1, around="median"), "median"),
        (lambda x: color.random_saturation(x, 0, strength=-2), "saturation"),
        (lambda x: color.random_grayscale(x, 0, probability=-0.1), "probability"),
        (lambda x: color.random_grayscale(x, 0, probability=0.1, mode="max"), "max"),
        (lambda x: color.random_solarize(x, 0, probability=2), "probability"),
        (lambda x: blur.random_gaussian_blur(x, 0, sigma=(0, 1)), "sigma"),
        (lambda x: blur.gaussian_blur(x, 1.0, 9), "9 blur taps"),
        (lambda x: blur.gaussian_blur(x, 1.0, 0), "0 blur taps"),
        (lambda x: blur.gaussian_blur(x, 1.0, 3, padding="WRAP"), "WRAP"),
        (lambda x: pixels.normalize_input(x, "tanh"), "tanh.*pm1"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(InputError, match=message):
        make(tf.ones([1, 4, 4, 3]))


def test_inception_color_in_random_order_is_for_each_image_one_order_or_the_other():
    images = tf.random.stateless_uniform([64, 4, 4, 3], [5, 6])
    fixed, mixed = (color.inception_color(images, 9, order=order).numpy() for order in ("fixed", "random"))
    same = np.isclose(fixed, mixed, atol=1e-6).all(axis=(1, 2, 3))
    assert 0.3 < same.mean() < 0.7
    deltas = draws.uniform(draws.fold(9, 0), [64], -32 / 255, 32 / 255).numpy()
    factors = draws.uniform(draws.fold(9, 1), [64], 0.5, 1.5).numpy()
    for i in np.flatnonzero(~same):
        other = tf.image.adjust_saturation(images[i], factors[i]) + deltas[i]
        np.testing.assert_allclose(mixed[i], np.clip(other, 0, 1), atol=2e-5)
