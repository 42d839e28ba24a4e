import pathlib

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from revisit_ssl.errors import InputError
from revisit_ssl.pretext.losses import accuracy, cross_entropy
from revisit_ssl.views import geometry

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "revisiting"


def test_rotation_golden():
    golden = np.load(GOLDENS / "rotation.npz")
    ours = geometry.rotations(tf.constant(golden["image"][None]))
    np.testing.assert_array_equal(ours, golden["rotated"])
    np.testing.assert_array_equal(geometry.rotation_labels(1), golden["rotated_labels"])
    np.testing.assert_array_equal(geometry.rotation_labels(3), golden["head_labels"])


def test_rotation_head_golden():
    golden = np.load(GOLDENS / "rotation.npz")
    logits, labels = golden["head_logits"], golden["head_labels"]
    np.testing.assert_allclose(cross_entropy(logits, labels), golden["head_loss"], rtol=1e-6)
    assert float(accuracy(logits, labels)) == golden["head_accuracy"]


def test_rotations_are_image_major_and_counter_clockwise():
    images = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
    ours = geometry.rotations(images)
    for row, label in enumerate(geometry.rotation_labels(2).numpy()):
        np.testing.assert_array_equal(ours[row], np.rot90(images[row // 4], label))


def test_four_quarter_turns_are_the_identity():
    images = np.random.default_rng(0).random((3, 5, 5, 3), np.float32)
    turned = images
    for _ in range(4):
        turned = geometry.rotations(turned)[1::4]
    np.testing.assert_array_equal(turned, images)


def test_flip_mirrors_half_of_the_images():
    images = tf.tile(tf.constant([[[[1.0], [2.0], [3.0]]]]), [20_000, 1, 1, 1])
    first = geometry.random_flip(images, (1, 1)).numpy()[:, 0, :, 0]
    assert set(map(tuple, np.unique(first, axis=0))) == {(1.0, 2.0, 3.0), (3.0, 2.0, 1.0)}
    # the golden's own rate is 0.495
    assert abs((first[:, 0] == 3).mean() - 0.495) < 0.015
    assert geometry.random_flip(tf.cast(images, tf.uint8), 1).dtype == tf.uint8


def test_wrong_arguments():
    with pytest.raises(InputError, match="square"):
        geometry.rotations(tf.ones([1, 3, 4, 3]))
    with pytest.raises(InputError, match="probability"):
        geometry.random_flip(tf.ones([1, 3, 4, 3]), 0, probability=2)


def erase_by_torchvision(rng, side, area=(0.02, 0.33), ratio=(0.3, 3.3)):
    """(height, width, top, left) of RandomErasing's box, as in the releases of 2020; None: nothing is erased."""
    for _ in range(10):
        pixels = side * side * rng.uniform(*area)
        aspect = rng.uniform(*ratio)
        h, w = round((pixels * aspect) ** 0.5), round((pixels / aspect) ** 0.5)
        if h < side and w < side:
            return h, w, rng.integers(0, side - h + 1), rng.integers(0, side - w + 1)


def test_erased_boxes_follow_torchvisions_law():
    count, side = 4000, 32
    images = tf.ones([count, side, side, 1])
    erased = geometry.random_erasing(images, 7).numpy()[..., 0] == 0
    heights, widths = erased.any(2).sum(1), erased.any(1).sum(1)
    np.testing.assert_array_equal(erased.sum((1, 2)), heights * widths)  # whole boxes
    tops, lefts = erased.any(2).argmax(1), erased.any(1).argmax(1)
    rng = np.random.default_rng(0)
    theirs = np.array([erase_by_torchvision(rng, side) for _ in range(count)])
    for own, other in zip((heights, widths, tops, lefts), theirs.T, strict=True):
        assert stats.ks_2samp(own, other).pvalue > 1e-3


def test_erasing_leaves_the_rest_and_some_images_alone():
    images = 1 + tf.random.stateless_uniform([1000, 8, 8, 3], [1, 2])
    erased = geometry.random_erasing(images, 7, probability=0.25, value=-1.0).numpy()
    box = (erased == -1).all(-1)
    np.testing.assert_array_equal(erased[~box], images.numpy()[~box])
    assert stats.binomtest(int(box.any((1, 2)).sum()), 1000, 0.25).pvalue > 1e-3
    with pytest.raises(InputError, match="probability"):
        geometry.random_erasing(images, 7, probability=2.0)
