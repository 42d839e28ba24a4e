"""Boxes at random: the laws by which crops and erased boxes are drawn.

A box is (top, left, height, width) in pixels of the image it is cut from. Boxes are sampled apart from cutting, so one
law serves a batch on the device (``crops.cut``) and a single JPEG on the host (``crops.sample_boxes`` +
``decode_and_crop_jpeg``). ``shape`` is the shape of the result without its last axis, ``height`` and ``width`` are
ints or integer scalar tensors, ``seed`` is anything ``draws.as_seed`` takes.
"""

import math

import tensorflow as tf

from revisit_ssl.views import draws

RESIZED_TRIES = 10  # torchvision, of crops and of erased boxes
INCEPTION_TRIES = 100  # slim


def random_boxes(shape, height, width, seed, *, size):
    """Boxes of given size at uniform places: int32 [*shape, 4]; every position is equally likely."""
    h, w = (tf.broadcast_to(side, shape) for side in size)
    return _place(shape, h, w, height, width, seed, closed=True)


def random_resized_boxes(shape, height, width, seed, *, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """Boxes by torchvision's RandomResizedCrop law.

    Area uniform in ``scale`` times the image's, aspect ratio log-uniform in ``ratio``; the first of 10 tries that fits
    into the image; if none does, the largest central box whose ratio lies in ``ratio``. The tries are drawn side by
    side and the first good one taken, which is the same law without a loop.

    Returns:
        int32 [*shape, 4].
    """
    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    tries = [*shape, RESIZED_TRIES]
    area = rows * columns * draws.uniform(draws.fold(seed, 1), tries, *scale)
    aspect = tf.exp(draws.uniform(draws.fold(seed, 2), tries, math.log(ratio[0]), math.log(ratio[1])))
    w, h = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    good = (w > 0) & (w <= columns) & (h > 0) & (h <= rows)
    found, h, w = _first(good, h, w)
    boxes = _place(shape, h, w, height, width, draws.fold(seed, 3), closed=True)
    h, w = tf.minimum(rows, tf.round(columns / ratio[0])), tf.minimum(columns, tf.round(rows * ratio[1]))
    central = tf.cast(tf.stack([(rows - h) // 2, (columns - w) // 2, h, w]), tf.int32)
    return tf.where(found[..., None], boxes, central)


def inception_boxes(shape, height, width, seed, *, area=(0.05, 1.0), ratio=(3 / 4, 4 / 3), min_object_covered=0.1):
    """Boxes by the law of ``tf.image.sample_distorted_bounding_box`` with the whole image as the object.

    Per try: aspect ratio a uniform in ``ratio``; height uniform over the integers between the heights that give the
    smallest and the largest area at that ratio (and that fit); width = round(height * a). Valid if the area lies in
    ``area`` and covers ``min_object_covered`` of the image. First valid of 100 tries, else the whole image. So the area
    is not uniform (mean 0.39, not 0.55), and a box that is smaller than the image never touches its lower right edge.

    Returns:
        int32 [*shape, 4].
    """
    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    tries = [*shape, INCEPTION_TRIES]
    aspect = draws.uniform(draws.fold(seed, 1), tries, *ratio)
    smallest, largest = area[0] * rows * columns, area[1] * rows * columns
    low = tf.round(tf.sqrt(smallest / aspect))
    high = tf.round(tf.sqrt(largest / aspect))
    fitting = tf.floor((columns + 0.5 - 1e-7) / aspect)  # the largest height whose rounded width fits
    fitting -= tf.cast(tf.round(fitting * aspect) > columns, tf.float32)
    high = tf.minimum(tf.where(tf.round(high * aspect) > columns, fitting, high), rows)
    low = tf.minimum(low, high)
    h = low + tf.floor(draws.uniform(draws.fold(seed, 2), tries) * (high - low + 1))
    h = tf.minimum(h, high)
    # Rounding may push the area just out of its range: one row more or less is tried before the box is given up.
    h += tf.cast(h * tf.round(h * aspect) < smallest, tf.float32)
    h -= tf.cast(h * tf.round(h * aspect) > largest, tf.float32)
    w = tf.round(h * aspect)
    good = (h > 0) & (w > 0) & (h <= rows) & (w <= columns) & (h * w >= smallest) & (h * w <= largest)
    good &= h * w >= min_object_covered * rows * columns
    found, h, w = _first(good, h, w)
    h, w = tf.where(found, h, rows), tf.where(found, w, columns)
    return _place(shape, h, w, height, width, draws.fold(seed, 3), closed=False)


def erasing_boxes(shape, height, width, seed, *, area=(0.02, 0.33), ratio=(0.3, 3.3)):
    """Boxes by torchvision's RandomErasing law.

    Area uniform in ``area`` times the image's, height / width uniform in ``ratio`` (as in the releases of 2020, which
    the CLD scripts ran on; later ones draw its logarithm); the first of 10 tries that is smaller than the image in both
    directions; if none is, an empty box.

    Returns:
        int32 [*shape, 4].
    """
    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    tries = [*shape, RESIZED_TRIES]
    pixels = rows * columns * draws.uniform(draws.fold(seed, 1), tries, *area)
    aspect = draws.uniform(draws.fold(seed, 2), tries, *ratio)
    h, w = tf.round(tf.sqrt(pixels * aspect)), tf.round(tf.sqrt(pixels / aspect))
    found, h, w = _first((h < rows) & (w < columns), h, w)
    h, w = tf.where(found, h, 0.0), tf.where(found, w, 0.0)
    return _place(shape, h, w, height, width, draws.fold(seed, 3), closed=True)


def _first(good, *values):
    """The first good try along the last axis: bool [...], and each value [...] there (any value where none is good)."""
    index = tf.argmax(tf.cast(good, tf.int32), axis=-1, output_type=tf.int32)
    chosen = tf.one_hot(index, good.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    picked = (tf.reduce_sum(tf.where(chosen, value, 0.0), axis=-1) for value in values)
    return tf.reduce_any(good, axis=-1), *picked


def _place(shape, h, w, height, width, seed, *, closed):
    """Boxes [*shape, 4] of sides ``h``, ``w`` at uniform offsets; ``closed``: the last position is possible too."""
    h, w = tf.cast(h, tf.int32), tf.cast(w, tf.int32)
    offsets = []
    for axis, (inner, outer) in enumerate(((h, height), (w, width))):
        room = tf.cast(outer, tf.int32) - inner
        places = room + 1 if closed else tf.maximum(room, 1)
        u = draws.uniform(draws.fold(seed, axis), shape)
        offsets.append(tf.minimum(tf.cast(u * tf.cast(places, tf.float32), tf.int32), places - 1))
    return tf.stack([*offsets, h, w], axis=-1)
