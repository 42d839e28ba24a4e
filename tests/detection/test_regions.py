"""Regions of a map, read a few at a time."""

import math

import numpy as np
import tensorflow as tf

from revisit_ssl.detection import regions
from revisit_ssl.detection.roi_align import roi_align

COUNT, SIDE, MAP = 512, 14, (50, 84, 1024)  # of an image of 800 x 1344 pixels


def largest():
    """Values of the largest tensor between maps and regions, and in the gradient, at the papers' size."""

    @tf.function(autograph=False)
    def gradient(maps, boxes):
        with tf.GradientTape() as tape:
            tape.watch(maps)
            found = regions.pool_regions(maps, boxes, SIDE, 16)
        return tape.gradient(found, maps)

    graph = gradient.get_concrete_function(tf.TensorSpec([1, *MAP]), tf.TensorSpec([1, COUNT, 4])).graph
    sizes = {
        math.prod(out.shape) for op in graph.get_operations() for out in op.outputs if out.shape.is_fully_defined()
    }
    return max(size for size in sizes if size != COUNT * SIDE * SIDE * MAP[2])  # but for the regions themselves


def test_512_regions_of_an_image_need_little_more_memory_than_they_are(monkeypatch):
    assert largest() <= regions.MOST_VALUES  # 64 MB
    monkeypatch.setattr(regions, "MOST_VALUES", 1 << 40)
    assert largest() == COUNT * SIDE * 84 * MAP[2]  # 2.5 GB


def test_parts_give_what_all_at_once_gives(monkeypatch):
    draw = np.random.default_rng(0)
    maps = tf.constant(draw.normal(size=(2, 20, 24, 3)).astype(np.float32))
    corners = draw.uniform(0, 200, (2, 7, 2))
    boxes = tf.constant(np.concatenate([corners, corners + draw.uniform(8, 150, (2, 7, 2))], -1).astype(np.float32))
    expected = roi_align(maps, tf.gather(boxes, [1, 0, 3, 2], axis=-1), 4, stride=16, sampling=0)
    monkeypatch.setattr(regions, "MOST_VALUES", 2 * 4 * 24 * 3)  # two at a time
    assert regions.at_once(7, 4, 24, 3) == 2
    found = regions.pool_regions(maps, boxes, 4, 16)
    np.testing.assert_allclose(found, tf.reshape(expected, [14, 4, 4, 3]), atol=1e-5)
