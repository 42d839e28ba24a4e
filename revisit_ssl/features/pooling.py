"""Pooling of feature maps: to at most 9000 values (spec D.6; google-research revisiting, utils.py `adaptive_pool`), or
by squares of a given side (DeeperCluster and DeepCluster, eval_linear.py)."""

import math

import tensorflow as tf

POOLINGS = ("max", "avg", "adaptive_max")


def pool_endpoint(features, max_values=9000, mode="max"):
    """A feature map as one vector per image.

    Args:
        features: [B, h, w, c] with static h, w, c, or [B, d], which passes unchanged (as float32).
        max_values: maps with h * w * c values or fewer are only flattened.
        mode: "max" or "avg": kernel = stride = ceil(sqrt(h * w * c / max_values)), clipped to the map's side, no
            padding, so that rows and columns beyond the last whole cell are dropped, as the official code does.
            "adaptive_max": an s x s grid over the whole map; may exceed max_values a little (6 * 6 * 256 = 9216).

    Returns:
        float32 [B, values].

    Raises:
        ValueError: unknown mode, or a rank other than 2 and 4.
    """
    width = math.prod(pooled_shape(features.shape[1:], max_values, mode))
    return tf.reshape(pool_map(features, max_values, mode), [-1, width])


def pool_map(features, max_values=9000, mode="max"):
    """The map before flattening: float32 [B, h', w', c]; arguments as in ``pool_endpoint``."""
    _check(features.shape[1:], mode)
    features = tf.cast(features, tf.float32)
    shape = tuple(features.shape[1:])
    if len(shape) == 1 or math.prod(shape) <= max_values:
        return features
    if mode == "adaptive_max":
        side = adaptive_side(shape, max_values)
        return _bin_max(_bin_max(features, 1, min(side, shape[0])), 2, min(side, shape[1]))
    stride = pool_stride(shape, max_values)
    pool = tf.nn.max_pool2d if mode == "max" else tf.nn.avg_pool2d
    return pool(features, stride, stride, "VALID")


def pooled_shape(shape, max_values=9000, mode="max"):
    """(h', w', c) after pooling a map of ``shape`` (h, w, c); (d,) stays."""
    _check(shape, mode)
    shape = tuple(shape)
    if len(shape) == 1 or math.prod(shape) <= max_values:
        return shape
    height, width, channels = shape
    if mode == "adaptive_max":
        side = adaptive_side(shape, max_values)
        return min(side, height), min(side, width), channels
    stride = pool_stride(shape, max_values)
    return height // stride, width // stride, channels


def pool_stride(shape, max_values=9000):
    """Stride and kernel of "max" and "avg" for a map (h, w, c)."""
    # The official code clips to the height; min() keeps a map that is wider than high, or higher than wide, non-empty.
    return min(max(math.ceil(math.sqrt(math.prod(shape) / max_values)), 1), *shape[:2])


def average_pool(features, kernel, padding=0):
    """Means of squares of a map, side by side, as one vector per image: PyTorch's AvgPool2d with stride = kernel.

    Args:
        features: [B, h, w, c] with static h, w, c, or [B, d], which passes unchanged (as float32).
        kernel: side of a square in pixels; at most that of the map with its padding.
        padding: zeros around the map, which count in the means; rows and columns beyond the last whole square are
            dropped.

    Returns:
        float32 [B, values], flattened in the order (row, column, channel).
    """
    shape = tuple(features.shape[1:])
    width = math.prod(averaged_shape(shape, kernel, padding))
    features = tf.cast(features, tf.float32)
    if len(shape) == 3:
        around = [padding, padding]
        features = tf.pad(features, [[0, 0], around, around, [0, 0]])
        kernel = min(kernel, *features.shape[1:3])
        features = tf.nn.avg_pool2d(features, kernel, kernel, "VALID")
    return tf.reshape(features, [-1, width])


def averaged_shape(shape, kernel, padding=0):
    """(h', w', c) of ``average_pool`` of a map of ``shape`` (h, w, c); (d,) stays."""
    if len(shape) == 1:
        return tuple(shape)
    sides = [side + 2 * padding for side in shape[:2]]
    kernel = min(kernel, *sides)
    return *(side // kernel for side in sides), shape[2]


def adaptive_side(shape, max_values=9000):
    """Cells per side of "adaptive_max": floor or ceil of sqrt(max_values / c), whichever gives nearer to max_values."""
    exact = math.sqrt(max_values / shape[2])
    return min((max(1, math.floor(exact)), math.ceil(exact)), key=lambda side: abs(shape[2] * side**2 - max_values))


def _bin_max(features, axis, bins):
    # Deviation: the official code draws the cells anew at every call (fractional max-pooling); ours are fixed, disjoint
    # and of nearly equal size, so that features do not change between two readings of the same image.
    size = features.shape[axis]
    edges = [i * size // bins for i in range(bins + 1)]
    cells = [
        tf.reduce_max(tf.gather(features, range(a, b), axis=axis), axis=axis)
        for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]
    return tf.stack(cells, axis=axis)


def _check(shape, mode):
    if mode not in POOLINGS:
        raise ValueError(f"Unknown pooling {mode!r}; one of {POOLINGS}")
    if len(shape) not in (1, 3):
        raise ValueError(f"Pooling expects [B, h, w, c] or [B, d]; got {1 + len(shape)} dimensions")
