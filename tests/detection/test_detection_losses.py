"""The five losses against NumPy loops typed from Faster R-CNN's and Mask R-CNN's formulas; masks, too."""

import numpy as np
import tensorflow as tf

from revisit_ssl.detection import losses
from revisit_ssl.detection.masks import SIDE, crop_masks, mask_targets, paste


def test_objectness_is_binary_cross_entropy_of_the_sampled_by_a_fixed_number():
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(2, 6)).astype(np.float32)
    positive, taken = draw.uniform(size=(2, 6)) > 0.6, draw.uniform(size=(2, 6)) > 0.3
    expected = 0.0
    for row, p, t in zip(logits.ravel(), positive.ravel(), taken.ravel(), strict=True):
        chance = 1 / (1 + np.exp(-row))
        expected -= t * (np.log(chance) if p else np.log(1 - chance))
    found = losses.objectness_loss(logits, tf.constant(positive), tf.constant(taken), 256 * 2.0)
    np.testing.assert_allclose(found, expected / 512, rtol=1e-5)


def test_box_loss_is_l1_of_those_with_an_object():
    draw = np.random.default_rng(1)
    deltas, targets = draw.normal(size=(2, 2, 5, 4)).astype(np.float32)
    positive = draw.uniform(size=(2, 5)) > 0.5
    expected = sum(abs(d - t).sum() for d, t, p in zip(
        deltas.reshape(-1, 4), targets.reshape(-1, 4), positive.ravel(), strict=True
    ) if p)
    np.testing.assert_allclose(losses.box_loss(deltas, targets, positive, 40.0), expected / 40, rtol=1e-5)


def test_class_loss_is_cross_entropy_with_the_background_last():
    draw = np.random.default_rng(2)
    logits, labels = draw.normal(size=(7, 4)).astype(np.float32), draw.integers(0, 4, 7).astype(np.int32)
    taken = np.arange(7) < 5
    expected = 0.0
    for row, label, t in zip(logits, labels, taken, strict=True):
        expected -= t * np.log(np.exp(row[label]) / np.exp(row).sum())
    np.testing.assert_allclose(losses.class_loss(logits, labels, taken, 5.0), expected / 5, rtol=1e-5)


def test_mask_loss_is_the_mean_over_pixels_and_regions_and_zero_without_regions():
    draw = np.random.default_rng(3)
    logits, targets = draw.normal(size=(4, 3, 3)).astype(np.float32), draw.uniform(size=(4, 3, 3)) > 0.5
    positive = np.array([True, True, False, False])
    expected = []
    for m in range(2):
        for y in range(3):
            for x in range(3):
                chance = 1 / (1 + np.exp(-logits[m, y, x]))
                expected.append(-np.log(chance if targets[m, y, x] else 1 - chance))
    found = losses.mask_loss(logits, tf.constant(targets), tf.constant(positive), tf.constant(2.0))
    np.testing.assert_allclose(found, np.mean(expected), rtol=1e-5)
    none = losses.mask_loss(logits, tf.constant(targets), tf.zeros(4, tf.bool), tf.constant(0.0))
    assert none == 0


def disc(size, centre, radius):
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


def test_targets_are_the_whole_mask_averaged_over_each_cell_of_the_region():
    """The long way: the mask at full size, the mean over every cell of the region, from half up."""
    mask = disc((120, 160), (60, 80), 40)
    boxes = np.array([[20, 40, 100, 120]], np.float32)
    regions = np.array([[20, 40, 100, 120], [0, 24, 84, 136], [48, 60, 104, 144]], np.float32)
    crops = np.repeat(crop_masks(mask[None], boxes), 3, axis=0)
    assert crops.shape == (3, SIDE, SIDE)
    found = mask_targets(crops, tf.constant(np.repeat(boxes, 3, axis=0)), tf.constant(regions), 14).numpy()
    for target, (y1, x1, y2, x2) in zip(found, regions.astype(int), strict=True):
        cells = mask[y1:y2, x1:x2].astype(float)
        h, w = (y2 - y1) // 14, (x2 - x1) // 14
        means = cells[: h * 14, : w * 14].reshape(14, h, 14, w).mean((1, 3))
        exact = (h * 14 == y2 - y1) and (w * 14 == x2 - x1)
        clear = np.abs(means - 0.5) > 0.15  # cells on the border may go either way
        if exact:
            assert (target == (means >= 0.5))[clear].all()
        assert abs(target.mean() - cells.mean()) < 0.03


def test_targets_are_empty_outside_of_the_object():
    crops = np.full((1, SIDE, SIDE), 255, np.uint8)
    found = mask_targets(crops, tf.constant([[10.0, 10.0, 20.0, 20.0]]), tf.constant([[0.0, 0.0, 30.0, 30.0]]), 6)
    expected = np.zeros((6, 6), bool)
    expected[2:4, 2:4] = True
    np.testing.assert_array_equal(found[0], expected)


def test_a_pasted_mask_is_the_mask_that_was_cropped():
    masks = np.stack([disc((64, 80), (30, 40), 20), disc((64, 80), (60, 5), 12)])
    boxes = np.array([[10, 20, 50, 60], [48, 0, 64, 17]], np.float32)
    again = paste(crop_masks(masks, boxes) / 255.0, boxes, (64, 80))
    for found, mask in zip(again, masks, strict=True):
        assert (found & mask).sum() / (found | mask).sum() > 0.97
    assert again.shape == masks.shape and not again[0, :9].any()


def test_paste_reads_bilinearly_between_the_centres_of_mask_pixels():
    mask = np.array([[[0.0, 1.0], [0.0, 1.0]]])
    found = paste(mask, np.array([[0, 0, 8, 8]], np.float32), (8, 8))
    # Column centres .5 .. 7.5 are at (x / 4 - .5) of the mask: half is reached at x = 4.
    assert found[0, 4].tolist() == [False] * 4 + [True] * 4
    assert not found[0, 0].all()  # the border fades to zeros, as in detectron2
