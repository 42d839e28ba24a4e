"""Batches of annotated images: sizes, boxes and masks together, an order that can start anywhere."""

import dataclasses
import itertools

import numpy as np
import pytest
from drawn import drawn_images

from revisit_ssl.detection import feeding
from revisit_ssl.detection.annotations import Annotated
from revisit_ssl.detection.feeding import TrainingBatches, canvas, inference_batches, order, scaled_size
from revisit_ssl.detection.options import DetectorOptions
from revisit_ssl.errors import InputError

OPTIONS = DetectorOptions(batch_size=2, shorter_sides=(64,), longest=128, test_shorter=32, test_longest=64)


@pytest.mark.parametrize(
    "size, shorter, longest, expected",
    [((480, 640), 800, 1333, (800, 1067)), ((375, 500), 480, 1333, (480, 640)), ((333, 500), 800, 1200, (799, 1200)),
     ((500, 100), 800, 1333, (1333, 267))],
)
def test_sizes_are_detectron2s(size, shorter, longest, expected):
    assert scaled_size(size, shorter, longest) == expected


def test_two_canvases_hold_the_papers_images():
    assert canvas([scaled_size((480, 640), 800, 1333), scaled_size((300, 1000), 800, 1333)]) == (800, 1344)


def test_the_order_has_every_image_once_an_epoch_and_can_start_at_any_step():
    wide = np.array([True] * 6 + [False] * 4)
    steps = list(itertools.islice(order(wide, 2, 0), 10))
    assert sorted(np.concatenate(steps[:5])) == list(range(10)) == sorted(np.concatenate(steps[5:]))
    assert all(len(set(wide[rows])) == 1 for rows in steps)
    assert [list(a) for a in steps[:5]] != [list(a) for a in steps[5:]]
    later = list(itertools.islice(order(wide, 2, 0, start=7), 3))
    assert [list(a) for a in later] == [list(a) for a in steps[7:]]


def test_a_batch_that_is_begun_waits_for_the_next_epoch():
    rows = list(itertools.islice(order(np.zeros(3, bool), 2, 0), 3))
    assert sorted(np.concatenate(rows)) == [0, 0, 1, 1, 2, 2]


def test_boxes_masks_and_image_are_mirrored_and_scaled_together():
    images = drawn_images(1, side=48)
    batches = TrainingBatches(images, dataclasses.replace(OPTIONS, shorter_sides=(96,)), 0, masks=True)
    plain, turned = batches.row(0, 96, False), batches.row(0, 96, True)
    np.testing.assert_array_equal(plain["image"], turned["image"][:, ::-1])
    assert plain["count"] == 2
    for row in (plain, turned):
        for (y1, x1, y2, x2), kind, crop in zip(row["boxes"][:2], row["classes"], row["masks"], strict=False):
            inner = row["image"][int(y1) + 4 : int(y2) - 4, int(x1) + 4 : int(x2) - 4].astype(float).mean((0, 1))
            assert inner.argmax() == kind  # the colour of the class
            assert crop.mean() > 150
    np.testing.assert_allclose(plain["boxes"][:2], images[0].boxes * 2, atol=1e-4)
    np.testing.assert_array_equal(plain["masks"], turned["masks"][:, :, ::-1])


def test_images_are_padded_at_the_right_and_below_where_sizes_differ():
    images = drawn_images(2, side=64)
    options = dataclasses.replace(OPTIONS, shorter_sides=(40, 64))
    batches = TrainingBatches(images, options, 0)
    assert batches.padded and batches.canvases == {False: (64, 64)}
    row = batches.row(0, 40, False)
    assert row["extent"].tolist() == [40, 40] and not row["image"][40:].any() and not row["image"][:, 40:].any()
    assert "extent" not in TrainingBatches(images, OPTIONS, 0).row(0, 64, False)


def test_batches_are_a_function_of_seed_and_step():
    images = drawn_images(5)
    options = dataclasses.replace(OPTIONS, shorter_sides=(48, 64))
    first = list(itertools.islice(TrainingBatches(images, options, 7)(), 5))
    again = list(itertools.islice(TrainingBatches(images, options, 7)(3), 2))
    for one, other in zip(first[3:], again, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    assert len({tuple(row["extent"][:, 0]) for row in first}) > 1


def test_crowds_teach_nothing_and_difficult_objects_do():
    one = drawn_images(1)[0]
    both = dataclasses.replace(one, crowd=np.array([True, False]), difficult=np.array([False, True]))
    row = TrainingBatches([both], OPTIONS, 0, masks=True).row(0, 64, False)
    assert row["count"] == 1
    np.testing.assert_allclose(row["boxes"][0], one.boxes[1])
    empty = Annotated(image=one.image, boxes=np.zeros((0, 4)), classes=np.zeros(0, int))
    assert len(TrainingBatches([both, empty], OPTIONS, 0).images) == 1
    with pytest.raises(InputError, match="no training image shows an object"):
        TrainingBatches([empty], OPTIONS, 0)


def test_every_test_image_comes_once_with_those_of_its_shape():
    images = [*drawn_images(3, side=64), *drawn_images(2, side=96)]
    wide = Annotated(image=np.zeros((64, 128, 3), np.uint8), boxes=np.zeros((0, 4)), classes=np.zeros(0, int))
    rows, shapes = [], []
    for own, pixels, extents in inference_batches([*images, wide], OPTIONS, 2):
        assert pixels.shape[0] == 2 == len(extents) and pixels.dtype == np.uint8
        rows.extend(own)
        shapes.append(pixels.shape[1:3])
    assert sorted(rows) == list(range(6)) and set(shapes) == {(32, 32), (32, 64)}


def test_more_objects_than_a_batch_holds_are_left_out(monkeypatch):
    monkeypatch.setattr(feeding, "MOST", 3)
    boxes = np.array([[i, i, i + 8, i + 8] for i in range(5)])
    many = Annotated(image=np.zeros((64, 64, 3), np.uint8), boxes=boxes, classes=np.arange(5))
    row = TrainingBatches([many], OPTIONS, 0).row(0, 64, False)
    assert row["count"] == 3 and row["classes"].tolist() == [0, 1, 2]
