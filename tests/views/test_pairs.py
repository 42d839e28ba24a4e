"""Pairs of crops and their boxes (MaskCo; the specification's A.3): law, geometry, host and device alike."""

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.data.decoding import decode_crops
from revisit_ssl.detection.roi_align import roi_align
from revisit_ssl.errors import InputError
from revisit_ssl.views.crops import cut_with_boxes
from revisit_ssl.views.draws import fold
from revisit_ssl.views.pairs import PairSpec, covered, from_view, iou, mirrored, to_view

SPEC = PairSpec(size=64, scale=(0.2, 1.0), overlap=24.0, smallest=14.0)
HEIGHT, WIDTH, MANY = 90, 120, 400


@pytest.fixture(scope="module")
def drawn():
    crops, boxes = SPEC.draw(MANY, HEIGHT, WIDTH, (3, 4))
    return crops.numpy().astype(float), boxes.numpy()


def corners(crops):
    top, left, height, width = np.moveaxis(crops, -1, 0)
    return np.stack([left, top, left + width, top + height], axis=-1)


def in_image(box, crop):
    """A.3: u = (X - x0) * size / w, solved for X, typed once more."""
    x0, y0, x1, y1 = crop
    return np.array([x0 + box[i] * (x1 - x0) / 64 if i % 2 == 0 else y0 + box[i] * (y1 - y0) / 64 for i in range(4)])


def test_both_views_show_what_they_should(drawn):
    query, key = np.moveaxis(corners(drawn[0]), 1, 0)
    shared = np.minimum(query[:, 2:], key[:, 2:]) - np.maximum(query[:, :2], key[:, :2])
    sides = np.maximum(query[:, 2:] - query[:, :2], key[:, 2:] - key[:, :2])
    seen = (shared * 64 / sides).min(axis=1)
    assert (seen >= 24).mean() > 0.98  # ten pairs, most of which have it
    assert (query[:, 2:] > query[:, :2]).all() and (query >= 0).all() and (key <= [WIDTH, HEIGHT] * 2).all()


def test_the_masked_box_and_the_positive_are_one_place(drawn):
    crops, boxes = drawn
    assert boxes.shape == (MANY, 18, 4) and boxes.dtype == np.float32
    query, key = np.moveaxis(corners(crops), 1, 0)
    for i in range(MANY):
        place = in_image(boxes[i, 0], query[i])
        np.testing.assert_allclose(place, in_image(boxes[i, 1], key[i]), atol=1e-3)
        low, high = np.maximum(query[i, :2], key[i, :2]), np.minimum(query[i, 2:], key[i, 2:])
        assert (place[:2] >= low - 1e-3).all() and (place[2:] <= high + 1e-3).all()
    # All 17 boxes of the key view, and the masked one, lie in their views.
    assert boxes.min() > -1e-3 and boxes.max() < 64 + 1e-3


def test_sizes_follow_the_law(drawn):
    boxes = drawn[1][:, 2:].reshape(-1, 4)  # of the negatives, which nothing cuts off
    sides = boxes[:, 2:] - boxes[:, :2]
    area = sides.prod(axis=1) / 64**2
    assert sides.min() > 14 - 1e-3 and area.min() > 0.095 and area.max() < 0.3 + 1e-3
    assert area.mean() == pytest.approx(0.2, abs=0.01)  # uniform in (0.1, 0.3)
    logs = np.log(sides[:, 0] / sides[:, 1])
    assert abs(logs).max() < np.log(2) + 1e-3 and logs.mean() == pytest.approx(0, abs=0.03)
    assert logs.std() == pytest.approx(np.log(4) / np.sqrt(12), abs=0.02)
    masked = drawn[1][:, 0]
    assert ((masked[:, 2:] - masked[:, :2]) <= 64).all()


def test_negatives_of_the_same_image_lie_beside_the_positive():
    spec = PairSpec(**vars(SPEC) | {"most_iou": 0.3})
    boxes = spec.draw(MANY, HEIGHT, WIDTH, (3, 4))[1]
    found = iou(boxes[:, 2:], boxes[:, 1:2])[..., 0].numpy()
    # A positive may fill the key view, which no box can keep away from.
    assert (found <= 0.3 + 1e-5).all(axis=1).mean() > 0.9
    before = SPEC.draw(MANY, HEIGHT, WIDTH, (3, 4))[1]
    assert (iou(before[:, 2:], before[:, 1:2]).numpy() > 0.3).mean() > 2 * (found > 0.3).mean()
    np.testing.assert_array_equal(before[:, :2], boxes[:, :2])
    a, b = np.array([[[0, 0, 2, 2.0]]]), np.array([[[1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 2, 1.0]]])
    np.testing.assert_allclose(iou(tf.constant(a), tf.constant(b)), [[[1 / 7, 0, 0.5]]])


def ramp():
    """float32 [1, H, W, 3]: a pixel is its own column and row; decoded and cut, it still says where it was."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    return np.stack([x / WIDTH, y / HEIGHT, 0 * x], axis=-1)[None] + 0.5 / np.array([WIDTH, HEIGHT, 1], np.float32)


def test_regions_of_a_ramp_say_the_same_place_whatever_is_mirrored():
    # The specification's F.8: read by RoIAlign, both boxes see the same place within a pixel of the image.
    images = tf.constant(np.repeat(ramp(), 64, axis=0))
    crops, boxes = cut_with_boxes(images, SPEC, (5, 6))
    found = []
    for i, box in enumerate((boxes[:, :1], boxes[:, 1:2])):
        view, box = mirrored(crops[:, i], box, fold((7, 8), i))
        means = roi_align(view, box, 1, stride=1, sampling=14)[:, 0, 0, 0, :2] * [WIDTH, HEIGHT]
        found.append(means.numpy())
    assert np.abs(found[0] - found[1]).max() < 1
    middles = (boxes[:, 0, :2] + boxes[:, 0, 2:]).numpy() / 2
    crop = SPEC.draw(64, HEIGHT, WIDTH, (5, 6))[0].numpy()[:, 0].astype(float)
    expected = crop[:, [1, 0]] + middles * crop[:, [3, 2]] / 64
    assert np.abs(found[0] - expected).max() < 1
    turned = np.abs(mirrored(crops[:, 0], boxes[:, :1], fold((7, 8), 0))[1] - boxes[:, :1]).max(axis=(1, 2)) > 1e-3
    assert 16 < turned.sum() < 48  # half of them, and mirroring moved their boxes


def test_host_and_device_have_one_definition():
    # The host draws with the seed of the image, the device for a batch: of one image both are the same.
    image = tf.cast(ramp()[0] * 255, tf.uint8)
    device, boxes = cut_with_boxes(image[None], SPEC, fold((1, 2), 0))
    for encoded in (tf.io.encode_png(image), tf.io.encode_jpeg(image, quality=100)):
        host = decode_crops(encoded, {"image": SPEC}, (1, 2))
        np.testing.assert_allclose(host["image_boxes"], boxes[0], atol=1e-4)
        assert np.abs(host["image"].numpy() / 255.0 - device[0]).max() < 0.05
    assert set(host) == {"image", "image_boxes"} and host["image_boxes"].shape == (18, 4)


def test_to_view_and_back_and_the_covered_pixels():
    crop = tf.constant([[10.0, 20.0, 42.0, 84.0]])
    box = tf.constant([[[18.0, 36.0, 34.0, 52.0]]])
    view = to_view(box, crop, 64)
    np.testing.assert_allclose(view, [[[16, 16, 48, 32]]])
    np.testing.assert_allclose(from_view(view, crop, 64), box)
    mask = covered(tf.constant([[[1.2, 2.0, 3.1, 4.0], [6.0, 6.0, 7.0, 7.5]]]), 8)[0, :, :, 0].numpy()
    expected = np.zeros((8, 8), bool)
    expected[2:4, 1:4] = expected[6:8, 6:7] = True  # floor of the first corner, ceil of the last
    np.testing.assert_array_equal(mask, expected)


def test_views_without_a_common_place_are_one_crop():
    spec = PairSpec(size=32, scale=(0.01, 0.02), tries=1, overlap=8.0, smallest=6.0)
    crops, boxes = spec.draw(200, 100, 100, 0)
    query, key = np.moveaxis(corners(crops.numpy().astype(float)), 1, 0)
    assert ((np.minimum(query[:, 2:], key[:, 2:]) - np.maximum(query[:, :2], key[:, :2])) > 0).all()
    assert (query == key).all(axis=1).mean() > 0.5 and np.isfinite(boxes).all()


@pytest.mark.parametrize("wrong", [
    {"count": 3}, {"overlap": 65.0}, {"smallest": 0.0}, {"negatives": 65}, {"most_iou": 2.0}, {"area": (0.3, 0.1)},
    {"masks": 0},
])  # fmt: skip
def test_bad_numbers_get_one_line(wrong):
    with pytest.raises(InputError) as caught:
        PairSpec(**{"size": 64, "smallest": 14.0, **wrong})
    assert "\n" not in str(caught.value)
