import dataclasses
import io
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from revisit_ssl.data import decoding
from revisit_ssl.data.decoding import EvalView
from revisit_ssl.errors import InputError
from revisit_ssl.views import draws
from revisit_ssl.views.crops import CropSpec, cut, sample_boxes
from revisit_ssl.views.resample import FILTERS, resize_on_host, shorter_side_size


def smooth(height, width):
    """A picture without noise, so that JPEG hardly changes it."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [np.sin(x / 17 + y / 23), np.cos(x / 31 - y / 13), np.sin(x / 41) * np.cos(y / 29)]
    return np.rint(127.5 + 110 * np.stack(channels, -1)).astype(np.uint8)


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


SPECS = {
    "view": CropSpec(size=32, count=3),
    "whole": CropSpec(size=20, method="inception"),
    "middle": CropSpec(size=40, method="center"),
    "any": CropSpec(size=24, method="random"),
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_crops_are_the_boxes_of_sample_boxes(kind):
    image = smooth(90, 130)
    contents = encode(image, kind, **({"quality": 98} if kind == "JPEG" else {}))
    full = tf.io.decode_image(contents, channels=3)
    crops = decoding.decode_crops(contents, SPECS, 5)
    for i, (name, spec) in enumerate(SPECS.items()):
        assert crops[name].dtype == tf.uint8 and crops[name].shape == (spec.count, spec.size, spec.size, 3)
        boxes = sample_boxes(spec, 90, 130, draws.fold(5, i)).numpy()
        for crop, (top, left, height, width) in zip(crops[name].numpy(), boxes, strict=True):
            part = full[top : top + height, left : left + width]
            expected = np.rint(tf.image.resize(part, (spec.size, spec.size)).numpy())
            error = np.abs(crop - expected)
            # A part of a JPEG is decoded without the chroma of its neighbours.
            assert error.mean() < (0.4 if kind == "JPEG" else 1e-6) and error.max() <= (8 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kernel", FILTERS)
def test_host_crops_equal_device_crops_for_the_same_boxes(kernel):
    image = np.random.default_rng(0).integers(0, 256, (64, 72, 3), np.uint8)
    for spec in (
        CropSpec(size=32, count=4, kernel=kernel),
        CropSpec(size=32, resize_to=80, kernel=kernel),
        CropSpec(size=20, method="center", resize_to=30, kernel=kernel),
        CropSpec(size=20, method="random", resize_to=30, keep_ratio=True, kernel=kernel),
    ):
        host = decoding.decode_crops(encode(image), {"view": spec}, 3)["view"].numpy().astype(np.float32)
        device = cut(image[None], spec, draws.fold(3, 0))[0] * 255
        assert np.abs(host - device.numpy()).max() <= 0.5 + 1e-2


def photographs():
    """[uint8 [h, w, 3]]; the test is skipped, saying so, where they are not there."""
    folder = pathlib.Path(__file__).parents[3] / "shared" / "data" / "voc2007_sample" / "VOCdevkit" / "VOC2007"
    if not folder.is_dir():
        pytest.skip("photographs of VOC 2007 are not on this machine")
    return [np.asarray(Image.open(path)) for path in sorted((folder / "JPEGImages").glob("*.jpg"))[:4]]


def test_photographs_are_cropped_as_torchvision_does():
    """RandomResizedCrop on PIL images is crop().resize(BILINEAR), which antialiases; TensorFlow's bilinear does not."""
    spec, off = CropSpec(size=96, count=3, scale=(0.2, 1.0), kernel="antialias"), []
    for i, image in enumerate(photographs()):
        contents = encode(image)
        ours = decoding.decode_crops(contents, {"view": spec}, i)["view"].numpy().astype(float)
        plain = decoding.decode_crops(contents, {"view": dataclasses.replace(spec, kernel="bilinear")}, i)["view"]
        boxes = sample_boxes(spec, *image.shape[:2], draws.fold(i, 0)).numpy()
        for crop, other, (top, left, height, width) in zip(ours, plain.numpy().astype(float), boxes, strict=True):
            cut = Image.fromarray(image).crop((left, top, left + width, top + height))
            pillow = np.asarray(cut.resize((96, 96), Image.Resampling.BILINEAR), float)
            assert np.abs(crop - pillow).max() <= 1
            off.append(np.abs(other - pillow).mean())
    assert np.mean(off) > 1.5, "what the filter is for"


def test_photographs_are_evaluated_as_torchvision_does():
    view = EvalView(size=112, resize=128, method="shorter_side", kernel="antialias")
    for image in photographs():
        height, width = shorter_side_size(*image.shape[:2], 128)
        top, left = (height - 112) // 2, (width - 112) // 2
        pillow = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        expected = np.asarray(pillow.crop((left, top, left + 112, top + 112)), float)
        assert np.abs(decoding.apply_view(tf.constant(image), view).numpy() - expected).max() <= 1


def test_resize_to_looks_at_the_whole_image():
    image = smooth(60, 120)
    crop = decoding.decode_crops(encode(image, "JPEG"), {"view": CropSpec(size=50, method="center", resize_to=50)}, 0)
    expected = tf.image.resize(tf.io.decode_image(encode(image, "JPEG")), (50, 50))
    assert np.abs(crop["view"][0].numpy() - expected.numpy()).max() <= 0.5


def test_too_small_an_image_is_enlarged():
    crop = (
        decoding.decode_crops(encode(smooth(20, 30)), {"view": CropSpec(size=64, method="random")}, 0)["view"]
        .numpy()
        .astype(np.float32)
    )
    assert crop.shape == (1, 64, 64, 3)


def test_shorter_side_view():
    image = smooth(300, 400)
    out = decoding.apply_view(tf.constant(image), EvalView(size=112, resize=128, method="shorter_side")).numpy()
    resized = tf.image.resize(image, (128, 171), method="area").numpy()  # 400 * 128 / 300 = 170.67
    np.testing.assert_allclose(out, resized[8:120, 29:141], atol=0.51)


@pytest.mark.parametrize("kernel", FILTERS)
@pytest.mark.parametrize("method", ["shorter_side", "central_fraction", "squash", "warp", "none"])
def test_every_view_takes_every_kernel(method, kernel):
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    view = EvalView(size=20, resize=24, method=method, kernel=kernel)
    out = decoding.apply_view(tf.constant(image), view).numpy().astype(float)

    def resized(part, height, width):
        return resize_on_host(part, (height, width), kernel=kernel).numpy()

    expected = {
        "shorter_side": lambda: resized(image, 24, 32)[2:22, 6:26],
        "central_fraction": lambda: resized(image[3:57, 5:75], 20, 20),
        "squash": lambda: resized(image, 24, 24)[2:22, 2:22],
        "warp": lambda: resized(resized(image, 24, 32), 20, 20),
        "none": lambda: resized(image, 20, 20),
    }[method]()
    assert np.abs(out - expected).max() <= 0.51
    usual = {"shorter_side": "area"}.get(method, "bilinear")
    plain = decoding.apply_view(tf.constant(image), EvalView(size=20, resize=24, method=method)).numpy()
    assert np.array_equal(plain, out) == (kernel == usual)


def test_central_fraction_view():
    image = smooth(300, 400)  # the middle 87.5 % is rounded up to 264 x 350
    out = decoding.apply_view(tf.constant(image), EvalView(size=64, method="central_fraction")).numpy()
    expected = tf.image.resize(image[18:282, 25:375], (64, 64)).numpy()
    np.testing.assert_allclose(out, expected, atol=0.51)
    reference = tf.image.resize(tf.image.central_crop(image, 0.875), (64, 64)).numpy()
    np.testing.assert_allclose(expected, reference)


def test_plain_views():
    image = smooth(40, 40)
    np.testing.assert_array_equal(decoding.apply_view(tf.constant(image), EvalView(40)), image)
    np.testing.assert_array_equal(decoding.apply_view(tf.constant(image), EvalView(40, method="squash")), image)
    assert decoding.apply_view(tf.constant(smooth(30, 50)), EvalView(40)).shape == (40, 40, 3)


def test_squash_and_cut_the_centre():
    """The supplement's patch probes: to 255 x 255, ratio ignored, then the middle 192 x 192."""
    image, view = smooth(300, 400), EvalView(size=192, resize=255, method="squash")
    out = decoding.apply_view(tf.constant(image), view).numpy()
    expected = np.rint(tf.image.resize(image, (255, 255)).numpy())[31:223, 31:223]
    np.testing.assert_array_equal(out, expected)
    assert not view.keeps_own_size and not EvalView(192, resize=200, method="shorter_side").keeps_own_size
    for resize in (None, 192):
        assert EvalView(192, resize=resize, method="squash").keeps_own_size


def test_a_batch_is_cut_as_its_images_are():
    images = np.random.default_rng(0).integers(0, 256, (3, 30, 40, 3), np.uint8)
    for view in (
        EvalView(20, resize=24, method="squash"),
        EvalView(20, resize=24, method="shorter_side"),
        EvalView(20, method="central_fraction"),
        EvalView(20),
    ):
        batch = decoding.apply_view(tf.constant(images), view)
        np.testing.assert_array_equal(batch, [decoding.apply_view(tf.constant(x), view) for x in images])


def test_bad_views():
    with pytest.raises(InputError, match="unknown evaluation view 'centre'"):
        EvalView(224, method="centre")
    with pytest.raises(InputError, match="resize=200"):
        EvalView(224, resize=200, method="shorter_side")
    with pytest.raises(InputError, match="resampling kernel 'bicubic'; one of 'bilinear', 'antialias', 'area'"):
        EvalView(224, kernel="bicubic")


def test_crop_after_resizing_the_shorter_side_keeps_the_ratio():
    # The linear probe's training view: shorter side to 16 by AREA, then 8 x 8 pixels as they are.
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    contents = tf.io.encode_png(image)
    spec = CropSpec(method="random", size=8, resize_to=16, keep_ratio=True, kernel="area")
    ours = decoding.decode_crops(contents, {"crop": spec}, (3, 4))["crop"].numpy()[0]
    resized = np.round(tf.image.resize(image, (16, 24), method="area").numpy()).astype(np.uint8)
    places = [(y, x) for y in range(9) for x in range(17) if np.array_equal(resized[y : y + 8, x : x + 8], ours)]
    assert len(places) == 1
