"""Boxes: float32 [..., 4] as y1, x1, y2, x2 in pixels, edges in continuous coordinates (a pixel is one unit wide)."""

import math

import tensorflow as tf

LARGEST = math.log(1000 / 16)  # of dh and dw: an anchor of 16 pixels becomes at most 1,000 (detectron2)


def area(boxes):
    """[..., 4] -> [...]: square pixels, 0 where an edge lies before its opposite."""
    y1, x1, y2, x2 = tf.unstack(boxes, axis=-1)
    return tf.maximum(y2 - y1, 0.0) * tf.maximum(x2 - x1, 0.0)


def iou(some, others):
    """Intersection over union of [..., M, 4] and [..., N, 4] -> [..., M, N] in [0, 1]; 0 where both are empty."""
    low = tf.maximum(some[..., :, None, :2], others[..., None, :, :2])
    high = tf.minimum(some[..., :, None, 2:], others[..., None, :, 2:])
    common = tf.reduce_prod(tf.maximum(high - low, 0.0), axis=-1)
    union = area(some)[..., :, None] + area(others)[..., None, :] - common
    return tf.where(union > 0, common / tf.where(union > 0, union, 1.0), 0.0)


def encode(boxes, references, weights=(1.0, 1.0, 1.0, 1.0)):
    """What moves ``references`` to ``boxes`` (Girshick et al., arXiv:1311.2524, eq. 6 to 9).

    Args:
        boxes, references: [..., 4], references not empty.
        weights: what dy, dx, dh, dw are multiplied with.

    Returns:
        [..., 4]: dy, dx in heights and widths of the reference, dh, dw as logarithms of ratios; times the weights.
    """
    (y, x, h, w), (ry, rx, rh, rw) = _centres(boxes), _centres(references)
    # Boxes that stand in unused places may be empty; their values are never used but must be finite.
    h, w, rh, rw = (tf.maximum(side, 1e-6) for side in (h, w, rh, rw))
    moved = [(y - ry) / rh, (x - rx) / rw, tf.math.log(h / rh), tf.math.log(w / rw)]
    return tf.stack(moved, axis=-1) * tf.constant(weights)


def decode(deltas, references, weights=(1.0, 1.0, 1.0, 1.0)):
    """The boxes that ``encode`` made ``deltas`` of; dh and dw are at most LARGEST. Arguments [..., 4]."""
    dy, dx, dh, dw = tf.unstack(deltas / tf.constant(weights), axis=-1)
    ry, rx, rh, rw = _centres(references)
    y, x = ry + dy * rh, rx + dx * rw
    h, w = rh * tf.exp(tf.minimum(dh, LARGEST)), rw * tf.exp(tf.minimum(dw, LARGEST))
    return tf.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], axis=-1)


def clip(boxes, extents):
    """[B, ..., 4] cut off at the edges of images of ``extents`` [B, 2], heights and widths in pixels."""
    limits = tf.reshape(tf.tile(extents, [1, 2]), [-1, *[1] * (len(boxes.shape) - 2), 4])
    return tf.clip_by_value(boxes, 0.0, limits)


def xyxy(boxes):
    """y1, x1, y2, x2 to x1, y1, x2, y2, and back."""
    return tf.gather(boxes, [1, 0, 3, 2], axis=-1)


def _centres(boxes):
    y1, x1, y2, x2 = tf.unstack(boxes, axis=-1)
    h, w = y2 - y1, x2 - x1
    return y1 + h / 2, x1 + w / 2, h, w
