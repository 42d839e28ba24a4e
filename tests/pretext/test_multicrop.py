"""OBoW's views: sizes, proportions, what is shared within an image and what is not, device and host alike."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.data.decoding import decode_crops
from revisit_ssl.errors import InputError
from revisit_ssl.pretext.multicrop import MultiCrop, MultiCropOptions
from revisit_ssl.recipe import ViewSpec
from revisit_ssl.testing import tiny_backbone

PLAIN = ViewSpec(crop="resized", size=32, scale=(0.08, 0.6), color="none", flip=False, normalize="none")


def multicrop(views=PLAIN, **options):
    return MultiCrop(tiny_backbone(1, input_shape=(None, None, 3)), options=MultiCropOptions(**options), views=views)


def ramp(count, side):
    """Images whose first two channels say where a pixel lies, from 0 to 1, and whose third one says which image."""
    y, x = np.mgrid[:side, :side] / (side - 1)
    images = np.stack([y, x, np.zeros_like(x)], -1)[None].repeat(count, 0)
    images[..., 2] = np.arange(count)[:, None, None] / count
    return images.astype(np.float32)


@pytest.mark.parametrize(
    ("size", "sides"),
    [(224, (160, 96, 24, 256)), (96, (72, 40, 10, 108)), (64, (48, 24, 6, 72)), (32, (24, 16, 4, 36))],
)
def test_sides_keep_the_official_proportions(size, sides):
    assert MultiCropOptions().sides(size) == sides
    given = MultiCropOptions(crop_size=40, patch_size=32, patch_jitter=8, resize_to=72)
    assert given.sides(64) == (40, 32, 8, 72)


def test_shapes_and_order_of_the_views():
    model = multicrop(crops=2, patches=5)
    target, views = model.views({"image": tf.constant(ramp(3, 40))}, (0, 1))
    assert target.shape == (3, 32, 32, 3) and {k: v.shape for k, v in views.items()} == {
        "crops": (6, 24, 24, 3),
        "patches": (15, 16, 16, 3),
    }
    for images, n in ((views["crops"], 2), (views["patches"], 5)):  # an image's crops together
        np.testing.assert_allclose(images[:, 0, 0, 2], np.repeat(np.arange(3) / 3, n), atol=1e-5)
    assert set(multicrop(patches=0).views({"image": tf.constant(ramp(3, 40))}, 0)[1]) == {"crops"}
    only = multicrop(crops=0)
    assert set(only.views({"image": tf.constant(ramp(3, 40))}, 0)[1]) == {"patches"} and "image" not in only.crops


@pytest.mark.parametrize(("resize", "options"), [("bilinear", {"method": "area"}), ("antialias", {"antialias": True})])
def test_what_the_target_sees_is_the_middle_of_the_resized_image(resize, options):
    image = ramp(2, 64)
    model = multicrop(replace(PLAIN, resize=resize), patches=0)
    target, _ = model.views({"image": tf.constant(image)}, (0, 1))
    expected = tf.image.resize(image, (36, 36), **options)[:, 2:34, 2:34]
    np.testing.assert_allclose(target, expected, atol=1e-5)


def test_large_crops_and_patches_are_drawn_by_their_laws():
    model, n = multicrop(crops=2, patches=5), 300
    _, views = model.views({"image": tf.constant(np.repeat(ramp(1, 48), n, 0))}, (5, 6))
    crops = views["crops"].numpy().reshape(n, 2, 24, 24, 3)
    height, width = (np.ptp(crops[..., c], axis=(2, 3)) for c in (0, 1))
    area = (height * 47 + 1) * (width * 47 + 1) / 48**2
    # A box of share a is rounded to whole pixels and its outer half pixels are not reached where it is enlarged.
    assert 0.05 < area.min() < 0.12 and 0.5 < area.max() < 0.68
    assert abs(np.corrcoef(area.T)[0, 1]) < 4.5 / np.sqrt(n), "the two crops of an image are drawn independently"
    patches = views["patches"].numpy().reshape(n, 5, 16, 16, 3)
    pitch = patches[..., 9, 0, 0] - patches[..., 8, 0, 0]  # steps of the ramp: one box for all patches of an image
    np.testing.assert_allclose(pitch, pitch[:, :1].repeat(5, 1), atol=1e-4)
    assert pitch.std() > 0.001
    corners = patches[:, :, 0, 0, :2]
    apart = np.abs(corners[:, :, None] - corners[:, None]).max(-1) + np.eye(5)
    assert apart.min() > 0.5 * pitch.min(), "five different patches"


def test_colours_and_flip_are_shared_by_patches_and_drawn_for_each_crop():
    strong = ViewSpec(
        crop="resized",
        size=32,
        scale=(0.9999, 1.0),
        ratio=(0.9999, 1.0001),
        color="jitter",
        jitter=(0.4, 0.0, 0.0, 0.0),
        blur_probability=(1.0,),
        blur_sigma=(1.9, 2.0),
        normalize="imagenet",
    )
    model = multicrop(strong, crops=2, patches=9, patch_scale=(0.9999, 1.0), patch_jitter=0)
    image = np.full((64, 32, 32, 3), 0.4, np.float32)
    image[:, :, 16:] = 0.5  # the right half is brighter, so that a flip shows
    target, views = model.views({"image": tf.constant(image)}, (1, 2))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    target = target.numpy() * std + mean
    flipped = target[:, 0, 0, 0] > 0.45
    assert set(np.round(np.unique(target[:, 0, [0, -1]]), 4)) == {0.4, 0.5} and 0.3 < flipped.mean() < 0.7
    crops, patches = (
        (views[k].numpy() * std + mean).reshape(64, n, side, side, 3)
        for k, n, side in (("crops", 2, 24), ("patches", 9, 16))
    )
    total = crops[:, :, 5, 0, 0] + crops[:, :, 5, -1, 0]  # both halves: brightness times 0.9
    assert abs(np.corrcoef(total.T)[0, 1]) < 0.5
    left, right = patches[:, ::3, 8, 0, 0], patches[:, 2::3, 8, -1, 0]
    np.testing.assert_allclose(left, left[:, :1].repeat(3, 1), atol=1e-4)
    np.testing.assert_allclose(right, right[:, :1].repeat(3, 1), atol=1e-4)
    turned = left[:, 0] > right[:, 0]
    assert 0.3 < turned.mean() < 0.7
    assert abs(np.mean(turned == flipped) - 0.5) < 0.25, "the target's flip is its own"
    # Patches are not blurred: on a resized edge at most three columns are between the two values, on a blurred more.
    between = [
        np.mean((x > x.min((2, 3, 4), keepdims=True) + 0.01) & (x < x.max((2, 3, 4), keepdims=True) - 0.01), (2, 3, 4))
        for x in (crops, patches[:, 1:9:3])
    ]
    assert between[0].mean() > 0.1 and between[1].max() <= 3 / 16


def test_crops_made_on_the_host_have_the_same_shapes_and_ranges():
    model = multicrop(crops=2, patches=5)
    image = (ramp(1, 48)[0] * 255).astype(np.uint8)
    host = decode_crops(tf.io.encode_png(image), model.crops, (0, 1))
    batch = {name: crops[None] for name, crops in host.items()}
    target, views = model.views(batch, (0, 1))
    on_device, _ = model.views({"image": tf.constant(image[None])}, (0, 1))
    np.testing.assert_allclose(target[..., :2], on_device[..., :2], atol=0.5 / 255 + 1e-4)
    assert views["crops"].shape == (2, 24, 24, 3) and views["patches"].shape == (5, 16, 16, 3)
    same = decode_crops(tf.io.encode_png(image), multicrop(crops=1, patches=0).crops, (0, 1))
    np.testing.assert_array_equal(same["target"], host["target"])


def test_pictures_are_of_one_size():
    model = multicrop(crops=2, patches=5)
    ((title, images, names),) = model.pictures({"image": tf.constant(ramp(6, 40))})
    assert images.shape == (4 * 8, 32, 32, 3) and len(names) == 32 and title == model.title
    assert images.min() >= 0 and images.max() <= 1
    np.testing.assert_array_equal(images[1, 0, 0], 1.0)  # white around a crop of 24


def test_bad_options():
    for options, words in [
        ({"crops": 0, "patches": 0}, "both 0"),
        ({"patches": 10}, "task.patches 10: from 0 to 9"),
        ({"crop_size": 4}, "task.crop_size 4 must be at least 8"),
        ({"patch_jitter": -1}, "task.patch_jitter -1"),
    ]:
        with pytest.raises(InputError, match=words):
            MultiCropOptions(**options)
    with pytest.raises(InputError, match="resize_to 24 is smaller than views.size 32"):
        multicrop(resize_to=24)
    with pytest.raises(InputError, match="patches of 32 pixels, moved by up to 8, do not fit"):
        multicrop(patch_size=32)
    with pytest.raises(InputError, match="takes images of 32 pixels alone"):
        MultiCrop(tiny_backbone(1, input_shape=(32, 32, 3)), options=MultiCropOptions(), views=PLAIN)
