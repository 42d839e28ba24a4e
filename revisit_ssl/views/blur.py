"""Gaussian blur of whole batches, one standard deviation for each image."""

import math

import numpy as np
import tensorflow as tf

from revisit_ssl.errors import InputError, check_choice
from revisit_ssl.views import draws

PADDINGS = {"REFLECT": "reflect", "SYMMETRIC": "symmetric", "CONSTANT": "constant"}  # TensorFlow's name: NumPy's


def gaussian_kernel(sigma, size):
    """Normalised Gaussian weights exp(-t^2 / (2 sigma^2)).

    Args:
        sigma: float32 [...], standard deviation in pixels, > 0.
        size: number of taps; t = 0 is tap (size - 1) // 2, so that an even size has its extra tap after the centre.

    Returns:
        float32 [..., size], summing to 1.
    """
    t = tf.range(size, dtype=tf.float32) - (size - 1) // 2
    # softmax is the normalised exponential, safe for tiny sigma
    return tf.nn.softmax(-0.5 * tf.square(t / tf.convert_to_tensor(sigma, tf.float32)[..., None]), axis=-1)


def gaussian_blur(images, sigma, size=None, *, padding="REFLECT", constant=0.0):
    """Separable Gaussian blur, as two products with one band matrix per image and axis.

    Args:
        images: [B, H, W, C], any real dtype and range.
        sigma: standard deviation in pixels: a float, (vertical, horizontal), or a tensor [B], one per image.
        size: taps: int, (vertical, horizontal), or None: out to 3 sigma, for which sigma must be Python numbers.
        padding: "REFLECT" (edge pixel not repeated), "SYMMETRIC" (repeated) or "CONSTANT".
        constant: value outside the image for "CONSTANT".

    Returns:
        [B, H, W, C], dtype of the images; integers are rounded down (as TensorFlow Addons does).

    Raises:
        InputError: unknown padding, a size below 1 or, for padding by reflection, wider than the image allows.
    """
    check_choice("padding", padding, tuple(PADDINGS))
    sigmas = sigma if isinstance(sigma, (tuple, list)) else (sigma, sigma)
    if size is None:
        size = tuple(_taps(s) for s in sigmas)
    sizes = size if isinstance(size, (tuple, list)) else (size, size)
    blurred = tf.cast(images, tf.float32)
    for equation, axis, s, taps in zip(("bih,bhwc->biwc", "bjw,biwc->bijc"), (1, 2), sigmas, sizes, strict=True):
        side = images.shape[axis]
        index = _padded_index(side, taps, padding)
        weights = tf.reshape(gaussian_kernel(s, taps), [-1, taps])  # [B or 1, taps]
        band = tf.einsum("bk,ikh->bih", weights, tf.one_hot(index, side))  # index -1, outside: no weight
        band = tf.broadcast_to(band, [tf.shape(blurred)[0], side, side])
        blurred = tf.einsum(equation, band, blurred)
        if padding == "CONSTANT" and constant:
            missing = constant * (1.0 - tf.reduce_sum(band, axis=-1))  # [B, side]
            blurred += missing[:, :, None, None] if axis == 1 else missing[:, None, :, None]
    return tf.cast(blurred, images.dtype)


def random_gaussian_blur(images, seed, *, sigma=(0.1, 2.0), size=None, probability=0.5):
    """Gaussian blur with sigma ~ U[sigma] pixels per image, with a probability per image.

    Args:
        size: taps of the kernel (static); None: out to 3 times the largest sigma, so that no draw is cut short (the
            reflected border allows at most 2 * side - 1).

    Pillow's GaussianBlur(radius) approximates the Gaussian of sigma = radius by three box blurs; this is the Gaussian.
    """
    if len(sigma) != 2 or not 0 < sigma[0] <= sigma[1]:
        raise InputError(f"sigma is a pair 0 < low <= high in pixels; got {tuple(sigma)}.")
    if size is None:
        size = min(_taps(sigma[1]), 2 * min(images.shape[1:3]) - 1)
    sigmas = draws.uniform(draws.fold(seed, 0), [draws.batch_size(images)], *sigma)
    chosen = draws.bernoulli(draws.fold(seed, 1), [draws.batch_size(images)], probability)
    return draws.select(chosen, gaussian_blur(images, sigmas, size), images)


def _taps(sigma):
    """Odd number of taps that reaches 3 sigma on both sides."""
    return 2 * math.ceil(3 * sigma) + 1


def _padded_index(side, taps, padding):
    """int [side, taps]: which pixel tap k of output i reads; -1 is outside."""
    before, after = (taps - 1) // 2, taps // 2
    widest = {"REFLECT": side - 1, "SYMMETRIC": side, "CONSTANT": math.inf}[padding]
    if taps < 1 or after > widest:
        raise InputError(f"{taps} blur taps do not fit {side} pixels padded by {padding}; 1 to {2 * widest + 1} do.")
    options = {"constant_values": -1} if padding == "CONSTANT" else {}
    padded = np.pad(np.arange(side), (before, after), mode=PADDINGS[padding], **options)
    return np.lib.stride_tricks.sliding_window_view(padded, taps).copy()
