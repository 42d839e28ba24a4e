"""RandAugment on whole batches: the fifteen operations that InfoMin uses, one drawn for each image and layer.

Every operation of a layer belongs to one of three families, and each family is computed once for the batch:

    tables   auto_contrast, equalize, invert, posterize, solarize, solarize_add: 256 new values per image and channel
    blends   contrast, brightness, color, sharpness: away from, or towards, another picture made of the image
    motions  rotate, shear, translate: one bilinear resampling with a matrix per image

so that a layer costs one histogram, one look-up, one 3x3 mean and four gathers, whatever is drawn, with static shapes.
Pillow's values are met to one grey level: it rounds to 8 bits after every operation, here only tables do.
"""

import math

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.views import draws
from revisit_ssl.views.color import to_gray
from revisit_ssl.views.pixels import IMAGENET_MEAN

TABLES = ("auto_contrast", "equalize", "invert", "posterize", "solarize", "solarize_add")
BLENDS = ("contrast", "brightness", "color", "sharpness")
MOTIONS = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = TABLES + BLENDS + MOTIONS
MAX_MAGNITUDE = 10.0


def rand_augment(
    images, seed, *, layers=2, magnitude=10.0, deviation=0.5, probability=0.5, operations=OPERATIONS, fill=IMAGENET_MEAN
):
    """``layers`` operations per image, one after the other (RandAugment, arXiv:1909.13719, as InfoMin's code has it).

    Args:
        images: float32 [B, H, W, 3] in [0, 1], H and W static.
        seed: anything ``draws.as_seed`` takes.
        layers: int; operations are drawn with replacement.
        magnitude, deviation: strength ~ N(magnitude, deviation^2) for each operation, clipped to [0, 10].
        probability: that a drawn operation is applied. InfoMin's code has 0.5; the RandAugment paper applies always.
        operations: names in OPERATIONS to draw from.
        fill: three floats, the colour that comes in from outside the image.

    Returns:
        float32 [B, H, W, 3] in [0, 1].

    Raises:
        InputError: no such operation, no layer, or numbers out of range.
    """
    unknown = [name for name in operations if name not in OPERATIONS]
    if unknown or not operations:
        raise InputError(f"Unknown operations {unknown}; some of {', '.join(OPERATIONS)}.")
    if layers < 1 or not 0 <= magnitude <= MAX_MAGNITUDE or deviation < 0 or not 0 <= probability <= 1:
        raise InputError(
            f"RandAugment has one layer or more, a magnitude in [0, 10], a deviation >= 0, a probability in [0, 1]; "
            f"got {layers}, {magnitude}, {deviation}, {probability}."
        )
    batch = draws.batch_size(images)
    numbers = tf.constant([OPERATIONS.index(name) for name in operations])
    for layer in range(layers):
        key = draws.fold(seed, layer)
        drawn = tf.gather(numbers, draws.integers(draws.fold(key, 0), [batch], 0, len(operations)))
        applied = draws.bernoulli(draws.fold(key, 1), [batch], probability)
        strength = draws.normal(draws.fold(key, 2), [batch], magnitude, deviation)
        strength = tf.clip_by_value(strength, 0.0, MAX_MAGNITUDE)
        sign = tf.where(draws.bernoulli(draws.fold(key, 3), [batch], 0.5), -1.0, 1.0)
        images = augment(images, tf.where(applied, drawn, -1), strength, sign, fill=fill)
    return images


def augment(images, operation, magnitude, sign, *, fill=IMAGENET_MEAN):
    """One given operation for each image.

    Args:
        images: float32 [B, H, W, 3] in [0, 1].
        operation: int32 [B], index into OPERATIONS; -1: the image as it is.
        magnitude: float32 [B] in [0, 10]. Of the tables: posterize keeps int(4 m / 10) bits, solarize inverts from grey
            level int(256 m / 10) on, solarize_add adds int(110 m / 10) below 128. Blends: factor 0.1 + 1.8 m / 10.
            Motions: m / 10 of 30 degrees, of a shear of 0.3 or of 0.45 of the image.
        sign: float32 [B], +1 or -1: the direction of a motion.
        fill: three floats, the colour outside the image.

    Returns:
        float32 [B, H, W, 3] in [0, 1].
    """
    level = magnitude / MAX_MAGNITUDE
    first_blend, first_motion = len(TABLES), len(TABLES) + len(BLENDS)
    images = draws.select((operation >= 0) & (operation < first_blend), _by_table(images, operation, level), images)
    is_blend = (operation >= first_blend) & (operation < first_motion)
    images = draws.select(is_blend, _by_blend(images, operation, 0.1 + 1.8 * level), images)
    return draws.select(operation >= first_motion, _by_motion(images, operation, level * sign, fill), images)


def _pick(operation, choices):
    """[B, ...]: of ``choices``, {name: tensor that broadcasts to [B, ...]}, the one of each image's operation."""
    picked = 0.0
    for name, value in choices.items():
        chosen = operation == OPERATIONS.index(name)
        picked = tf.where(tf.reshape(chosen, [-1] + [1] * (len(value.shape) - 1)), value, picked)
    return picked


def _by_table(images, operation, level):
    batch, side = draws.batch_size(images), images.shape[1:3]
    values = tf.cast(tf.floor(images * 255.0 + 0.5), tf.int32)
    rows = 3 * tf.range(batch)[:, None, None, None] + tf.range(3)  # one histogram per image and channel
    bins = tf.reshape(256 * rows + values, [-1])
    counts = tf.math.unsorted_segment_sum(tf.ones_like(bins), bins, batch * 3 * 256)
    counts = tf.reshape(counts, [batch, 3, 256])
    grey = tf.range(256)
    level = tf.reshape(level, [-1, 1, 1])  # [B, 1, 1]
    lost = tf.bitwise.left_shift(1, 8 - tf.cast(4 * level, tf.int32))  # steps of grey that posterize makes one
    table = _pick(
        operation,
        {
            "auto_contrast": _stretch(counts, grey),
            "equalize": _equalize(counts, grey),
            "invert": (255.0 - tf.cast(grey, tf.float32))[None, None],
            "posterize": tf.cast(grey // lost * lost, tf.float32),
            "solarize": tf.cast(tf.where(grey < tf.cast(256 * level, tf.int32), grey, 255 - grey), tf.float32),
            "solarize_add": tf.cast(
                tf.where(grey < 128, tf.minimum(grey + tf.cast(110 * level, tf.int32), 255), grey), tf.float32
            ),
        },
    )  # [B, 3, 256]
    table = tf.reshape(tf.broadcast_to(table / 255.0, [batch, 3, 256]), [-1])
    return tf.reshape(tf.gather(table, bins), [batch, *side, 3])


def _stretch(counts, grey):
    """Tables of auto_contrast: the smallest value of a channel becomes 0, the largest 255; a flat channel is kept."""
    there = counts > 0
    low = tf.reduce_min(tf.where(there, grey, 255), axis=-1, keepdims=True)
    high = tf.reduce_max(tf.where(there, grey, 0), axis=-1, keepdims=True)
    stretched = tf.clip_by_value((grey - low) * 255 // tf.maximum(high - low, 1), 0, 255)
    return tf.cast(tf.where(high > low, stretched, grey), tf.float32)


def _equalize(counts, grey):
    """Tables of equalize, by Pillow's integer arithmetic: the sum of the counts below each value, in steps."""
    total = tf.reduce_sum(counts, axis=-1, keepdims=True)
    last = tf.reduce_max(tf.where(counts > 0, grey, 0), axis=-1, keepdims=True)
    step = (total - tf.reduce_sum(tf.where(grey == last, counts, 0), axis=-1, keepdims=True)) // 255
    below = tf.cumsum(counts, axis=-1, exclusive=True)
    spread = tf.minimum((step // 2 + below) // tf.maximum(step, 1), 255)
    return tf.cast(tf.where(step > 0, spread, grey), tf.float32)


def _by_blend(images, operation, factor):
    gray = to_gray(images)
    mean = tf.floor(255.0 * tf.reduce_mean(gray, axis=(1, 2, 3), keepdims=True) + 0.5) / 255.0  # Pillow rounds it
    # "Smooth" of Pillow: the 3x3 neighbours count 1, the middle 5; the border is left as it is.
    wide = images[:, :, :-2] + images[:, :, 1:-1] + images[:, :, 2:]
    nine = wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]
    change = (nine + 4.0 * images[:, 1:-1, 1:-1]) / 13.0 - images[:, 1:-1, 1:-1]
    smooth = images + tf.pad(change, [[0, 0], [1, 1], [1, 1], [0, 0]])
    toward = {"contrast": mean, "brightness": tf.zeros_like(mean), "color": gray, "sharpness": smooth}
    factor = tf.reshape(factor, [-1, 1, 1, 1])
    return tf.clip_by_value(_pick(operation, toward) * (1.0 - factor) + images * factor, 0.0, 1.0)


def _by_motion(images, operation, amount, fill):
    """The image read at a b c / d e f times (x, y, 1), the pixel centres of the output; ``amount``: level with sign."""
    height, width = images.shape[1:3]
    turn = -math.radians(30) * amount
    cos, sin, shear = tf.cos(turn), tf.sin(turn), 0.3 * amount
    is_turned = operation == OPERATIONS.index("rotate")
    a = e = tf.where(is_turned, cos, 1.0)
    b = tf.where(is_turned, sin, tf.where(operation == OPERATIONS.index("shear_x"), shear, 0.0))
    d = tf.where(is_turned, -sin, tf.where(operation == OPERATIONS.index("shear_y"), shear, 0.0))
    move_x = tf.where(operation == OPERATIONS.index("translate_x"), 0.45 * width * amount, 0.0)
    move_y = tf.where(operation == OPERATIONS.index("translate_y"), 0.45 * height * amount, 0.0)
    middle_x, middle_y = width / 2, height / 2  # of a rotation
    c = tf.where(is_turned, middle_x - cos * middle_x - sin * middle_y, move_x)
    f = tf.where(is_turned, middle_y + sin * middle_x - cos * middle_y, move_y)
    a, b, c, d, e, f = (tf.reshape(part, [-1, 1, 1]) for part in (a, b, c, d, e, f))
    y, x = tf.meshgrid(tf.range(0.5, height), tf.range(0.5, width), indexing="ij")
    return _read(images, a * x + b * y + c, d * x + e * y + f, fill)


def _read(images, x, y, fill):
    """Bilinear values at x, y [B, H, W] (pixel centres at .5); outside the image ``fill``, at its border the border."""
    height, width = images.shape[1:3]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x - 0.5, y - 0.5
    left, top = tf.floor(x), tf.floor(y)
    right_share, lower_share = (x - left)[..., None], (y - top)[..., None]

    def at(rows, columns):
        rows = tf.cast(tf.clip_by_value(rows, 0.0, height - 1.0), tf.int32)
        columns = tf.cast(tf.clip_by_value(columns, 0.0, width - 1.0), tf.int32)
        pixels = tf.reshape(images, [-1, height * width, 3])
        return tf.gather(pixels, rows * width + columns, axis=1, batch_dims=1)  # [B, H, W, 3]

    upper = at(top, left) * (1 - right_share) + at(top, left + 1) * right_share
    lower = at(top + 1, left) * (1 - right_share) + at(top + 1, left + 1) * right_share
    return tf.where(inside[..., None], upper * (1 - lower_share) + lower * lower_share, tf.constant(fill, tf.float32))
