"""Colour of whole batches.

Images are float32 [B, H, W, 3] in [0, 1] unless a function says otherwise. ``adjust_*`` apply given parameters, one per
image, and do not clip; ``random_*`` draw the parameters, apply them with a probability per image, and clip to [0, 1].
Wherever two libraries mean different things by one word, both are here under names that tell them apart:

    brightness   mode "scale": x * f (torchvision, Pillow); "shift": x + d (tf.image, Inception preprocessing)
    contrast     around the mean grey of the image (torchvision, Pillow), or of each channel (tf.image)
    saturation   mode "luma": blend with the grey image (torchvision, Pillow); "hsv": S of HSV times f (tf.image)
    grey         mode "luma": ITU-R 601 weights (torchvision, Pillow); "mean": channel mean (Revisiting SSL)

Inside, colour is computed on planes [3, B, H, W]: sums and maxima over a last axis of 3 are several times slower.
"""

from typing import NamedTuple

import tensorflow as tf

from revisit_ssl.errors import InputError, check_choice
from revisit_ssl.views import draws

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601-2, as in Pillow; torchvision and tf.image round the first to 0.2989


def adjust_brightness(images, values, *, mode="scale"):
    """x * value ("scale") or x + value ("shift"); values: [B]."""
    check_choice("brightness mode", mode, ("scale", "shift"))
    values = _per_image(values, 4)
    return images * values if mode == "scale" else images + values


def adjust_contrast(images, factors, *, around="gray"):
    """Scales the distance from the mean luma of the image ("gray") or the mean of each channel ("channel") by [B]."""
    check_choice("contrast centre", around, ("gray", "channel"))
    planes = _planes(images)
    values = _luma(planes) if around == "gray" else planes
    return _images(_blend(planes, tf.reduce_mean(values, axis=(-2, -1), keepdims=True), _per_image(factors)))


def adjust_saturation(images, factors, *, mode="luma"):
    """Mode "luma": blend with the luma image; "hsv": S times the factor, at most 1, hue and V kept. factors: [B]."""
    check_choice("saturation mode", mode, ("luma", "hsv"))
    planes, factors = _planes(images), _per_image(factors)
    if mode == "luma":
        return _images(_blend(planes, _luma(planes), factors))
    return _images(_blend(planes, *_hsv_saturation(planes, factors)))


def adjust_hue(images, deltas):
    """Turns the hue of HSV by ``deltas`` [B], in turns (1 is the identity again); S and V are kept.

    Values as of ``tf.image.adjust_hue`` (torchvision has the same formula), with one delta per image.
    """
    return _images(_turn_hue(_planes(images), deltas))


def to_gray(images, *, mode="luma"):
    """Grey images with three equal channels; dtype and range are kept.

    "mean": channel mean, rounded down for integers (official ``to_gray``). "luma": ITU-R 601, for uint8 with the
    integer arithmetic of Pillow. images: [..., 3].
    """
    check_choice("grey mode", mode, ("mean", "luma"))
    if tf.as_dtype(images.dtype).is_floating:
        weights = LUMA if mode == "luma" else (1 / 3, 1 / 3, 1 / 3)
        gray = sum(weight * images[..., i : i + 1] for i, weight in enumerate(weights))
    else:
        weights, shift, divisor = ([1, 1, 1], 0, 3) if mode == "mean" else ([19595, 38470, 7471], 1 << 15, 1 << 16)
        total = tf.reduce_sum(tf.cast(images, tf.int32) * weights, axis=-1, keepdims=True)
        gray = tf.cast((total + shift) // divisor, images.dtype)
    return tf.concat([gray] * 3, axis=-1)


def solarize(images, threshold=0.5):
    """Inverts the values at or above the threshold: x -> 1 - x."""
    return tf.where(images < threshold, images, 1.0 - images)


def random_brightness(images, seed, *, strength, mode="scale", probability=1.0):
    """Mode "scale": x * U[1 - strength, 1 + strength] (from 0 at least); "shift": x + U[-strength, strength]."""
    check_choice("brightness mode", mode, ("scale", "shift"))
    interval = _interval("brightness", strength) if mode == "scale" else (-strength, strength)
    values = _draw(seed, images, interval, probability, neutral=1.0 if mode == "scale" else 0.0)
    return _clip(adjust_brightness(images, values, mode=mode))


def random_contrast(images, seed, *, strength, around="gray", probability=1.0):
    """Contrast times U[1 - strength, 1 + strength] (from 0 at least)."""
    factors = _draw(seed, images, _interval("contrast", strength), probability)
    return _clip(adjust_contrast(images, factors, around=around))


def random_saturation(images, seed, *, strength, mode="luma", probability=1.0):
    """Saturation times U[1 - strength, 1 + strength] (from 0 at least)."""
    factors = _draw(seed, images, _interval("saturation", strength), probability)
    return _clip(adjust_saturation(images, factors, mode=mode))


def random_hue(images, seed, *, strength, probability=1.0):
    """Hue turned by U[-strength, strength], in turns; strength at most 0.5."""
    return _clip(adjust_hue(images, _draw(seed, images, _hue_interval(strength), probability, neutral=0.0)))


class Strengths(NamedTuple):
    """How much ``color_jitter`` changes, 0 is off: brightness, contrast and saturation s for a factor
    U[max(0, 1 - s), 1 + s], or (low, high); hue h <= 0.5 for a turn U[-h, h], or (low, high)."""

    brightness: float | tuple = 0.0
    contrast: float | tuple = 0.0
    saturation: float | tuple = 0.0
    hue: float | tuple = 0.0


def color_jitter(images, seed, *, probability=1.0, order="random", saturation_mode="luma", **strengths):
    """Brightness (scale), contrast (around grey), saturation and hue, as torchvision's ColorJitter, per image.

    Args:
        images: float32 [B, H, W, 3] in [0, 1].
        seed: anything ``draws.as_seed`` takes.
        probability: of jittering an image at all.
        order: "random": of the four operations, for each image; "fixed": as named above.
        saturation_mode: "luma" (torchvision) or "hsv" (tf.image).
        strengths: brightness, contrast, saturation, hue: the fields of ``Strengths``.

    Returns:
        float32 [B, H, W, 3] in [0, 1]; clipped after each operation.
    """
    check_choice("jitter order", order, ("random", "fixed"))
    check_choice("saturation mode", saturation_mode, ("luma", "hsv"))
    *factors, hue = Strengths(**strengths)
    intervals = [_interval(name, strength) for name, strength in zip(Strengths._fields, factors, strict=False)]
    batch = draws.batch_size(images)
    factors = [draws.uniform(draws.fold(seed, 1 + i), [batch], *interval) for i, interval in enumerate(intervals)]
    factors = tf.stack(factors, axis=1)  # [B, 3]
    deltas = draws.uniform(draws.fold(seed, 4), [batch], *_hue_interval(hue))  # [B]
    has_hue = _hue_interval(hue) != (0.0, 0.0)

    # The ranks of four random numbers are a random order; they are made different, so that no operation is lost.
    # Brightness, contrast and saturation are all blends with something, so one blend per place in the order serves
    # whichever of the three an image has there. Hue is dear and not a blend: the three places are gone through before
    # it and after it, with factor 1 where it is not their turn.
    if order == "random":
        keys = 4 * draws.integers(draws.fold(seed, 5), [batch, 4], 0, 1 << 28) + tf.range(4)
    else:
        keys = tf.broadcast_to(tf.range(4), [batch, 4])
    blends, hue_key = keys[:, :3], keys[:, 3:]
    place = tf.reduce_sum(tf.cast(blends[:, None, :] < blends[:, :, None], tf.int32), axis=-1)  # [B, 3], 0 is first
    early = tf.where(blends < hue_key, factors, 1.0) if has_hue else factors
    late = tf.where(blends < hue_key, 1.0, factors)

    def all_blends(planes, factors):
        for turn in range(3):
            planes = _one_blend(planes, place == turn, factors, saturation_mode)
        return planes

    planes = all_blends(_planes(images), early)
    if has_hue:
        planes = _clip(_turn_hue(planes, deltas))
        if order == "random":
            planes = all_blends(planes, late)
    applied = draws.bernoulli(draws.fold(seed, 0), [batch], probability)
    return draws.select(applied, _images(planes), images)


def random_grayscale(images, seed, *, probability, mode="luma"):
    """Grey with a probability per image: [B, ..., 3] of any dtype, which is kept (see ``to_gray``)."""
    chosen = draws.bernoulli(seed, [draws.batch_size(images)], probability)
    return draws.select(chosen, to_gray(images, mode=mode), images)


def random_solarize(images, seed, *, probability, threshold=0.5):
    """Solarise with a probability per image: values at or above the threshold are inverted."""
    chosen = draws.bernoulli(seed, [draws.batch_size(images)], probability)
    return draws.select(chosen, solarize(images, threshold), images)


# AlexNet's (Krizhevsky et al., 2012): how ImageNet's colours in [0, 1] vary along their principal directions, and
# these, in columns, of red, green and blue.
PCA_VALUES = (0.2175, 0.0188, 0.0045)
PCA_DIRECTIONS = ((-0.5675, 0.7192, 0.4009), (-0.5808, -0.0045, -0.8140), (-0.5836, -0.6948, 0.4203))


def pca_lighting(images, seed, deviation=0.1):
    """Adds to every pixel of an image one colour along the principal directions of ImageNet's colours.

    Args:
        images: float32 [B, H, W, 3] in [0, 1].
        seed: anything ``draws.as_seed`` takes.
        deviation: of the three normal factors.

    Returns:
        As ``images``, not clipped: some values may lie outside of [0, 1], as in the original.
    """
    factors = draws.normal(seed, [draws.batch_size(images), 3], stddev=deviation)
    shift = tf.matmul(factors * tf.constant(PCA_VALUES), tf.constant(PCA_DIRECTIONS), transpose_b=True)
    return images + shift[:, None, None, :]


def inception_color(images, seed, *, brightness=32 / 255, saturation=(0.5, 1.5), order="fixed"):
    """Fast colour mode of the Inception preprocessing: shift by U[+-32/255], then HSV saturation by U[.5, 1.5], clip.

    In this fixed order and without a clip in between (slim ``inception_preprocessing.py``, ``fast_mode=True``); order
    "random": for each image in this one or the other, as older versions of that file.
    """
    check_choice("colour order", order, ("fixed", "random"))
    deltas = draws.uniform(draws.fold(seed, 0), [draws.batch_size(images)], -brightness, brightness)
    factors = draws.uniform(draws.fold(seed, 1), [draws.batch_size(images)], *saturation)
    fixed = adjust_saturation(adjust_brightness(images, deltas, mode="shift"), factors, mode="hsv")
    if order == "random":
        other = adjust_brightness(adjust_saturation(images, factors, mode="hsv"), deltas, mode="shift")
        fixed = draws.select(draws.bernoulli(draws.fold(seed, 2), [draws.batch_size(images)], 0.5), other, fixed)
    return _clip(fixed)


def _planes(images):
    """[B, H, W, 3] -> [3, B, H, W]; faster than a transpose on the CPU."""
    return tf.stack(tf.unstack(images, num=3, axis=-1))


def _images(planes):
    return tf.stack(tf.unstack(planes), axis=-1)


def _one_blend(planes, turn, factors, saturation_mode):
    """Applies to each image the one of (brightness, contrast, saturation) marked in ``turn`` bool [B, 3], and clips."""
    gray = _luma(planes)
    factor = _per_image(tf.reduce_sum(tf.where(turn, factors, 0.0), axis=1))
    # Sums with weights 0 and 1: a broadcasting tf.where is several times slower on the CPU. Brightness goes to black.
    is_contrast, is_saturation = (_per_image(tf.cast(turn[:, i], tf.float32)) for i in (1, 2))
    toward = is_contrast * tf.reduce_mean(gray, axis=(1, 2), keepdims=True)
    if saturation_mode == "luma":
        toward += is_saturation * gray
    else:
        value, capped = _hsv_saturation(planes, factor)
        toward += is_saturation * value
        factor += is_saturation * (capped - factor)
    return _clip(_blend(planes, toward, factor))


def _hsv_saturation(planes, factors):
    """HSV saturation as a blend: with V, the largest channel, by a factor that keeps S at 1 or below.

    Scaling S with H and V fixed scales the distance of every channel from V: x -> V + (x - V) * S'/S.
    """
    value = tf.reduce_max(planes, axis=0)
    chroma = value - tf.reduce_min(planes, axis=0)
    highest = tf.math.divide_no_nan(tf.maximum(value, 0.0), chroma)  # 1 / S; 0 for V <= 0, which HSV calls grey
    return value, tf.minimum(factors, highest)


def _turn_hue(planes, deltas):
    red, green, blue = tf.unstack(planes)
    value = tf.reduce_max(planes, axis=0)
    chroma = value - tf.reduce_min(planes, axis=0)
    by = tf.math.divide_no_nan(1.0, chroma)
    # In sixths of a turn. Not ``red == value``: a compiler may calculate both sides anew, each rounded in its own way,
    # and then no channel is the largest. At a tie of two, both give the same hue.
    after_red = tf.where(green >= blue, 2 + (blue - red) * by, 4 + (red - green) * by)
    hue = tf.where(tf.logical_and(red >= green, red >= blue), (green - blue) * by, after_red)
    hue += 6 * _per_image(deltas)
    # Back to colours: each channel is a trapezoid of the hue; red, green and blue are a third of a turn apart.
    turned = []
    for shift in (5.0, 3.0, 1.0):
        at = hue + shift
        at -= 6 * tf.floor(at / 6)  # not floormod: XLA calls a slow library function for it
        turned.append(value - chroma * tf.clip_by_value(tf.minimum(at, 4.0 - at), 0.0, 1.0))
    return tf.stack(turned)


def _blend(images, toward, factors):
    return images + (toward - images) * (1.0 - factors)  # in this form exactly the image where the factor is 1


def _luma(planes):
    return LUMA[0] * planes[0] + LUMA[1] * planes[1] + LUMA[2] * planes[2]


def _clip(images):
    return tf.clip_by_value(images, 0.0, 1.0)


def _per_image(values, rank=3):
    """[B] -> [B, 1, 1], to go with planes [3, B, H, W], or to any other rank."""
    return tf.reshape(values, [-1] + [1] * (rank - 1))


def _draw(seed, images, interval, probability, neutral=1.0):
    """[B] parameters, uniform in the interval with ``probability``, else neutral."""
    batch = draws.batch_size(images)
    values = draws.uniform(draws.fold(seed, 0), [batch], *interval)
    return tf.where(draws.bernoulli(draws.fold(seed, 1), [batch], probability), values, neutral)


def _interval(name, strength):
    """Factor range of a strength s, [max(0, 1 - s), 1 + s], or the pair itself."""
    low, high = strength if isinstance(strength, (tuple, list)) else (max(0.0, 1.0 - strength), 1.0 + strength)
    if not 0 <= low <= high:
        raise InputError(f"{name} is a strength >= 0 or a pair of factors 0 <= low <= high; got {strength}.")
    return low, high


def _hue_interval(strength):
    low, high = strength if isinstance(strength, (tuple, list)) else (-strength, strength)
    if not -0.5 <= low <= high <= 0.5:
        raise InputError(f"hue is a strength in [0, 0.5] turns or a pair -0.5 <= low <= high <= 0.5; got {strength}.")
    return low, high
