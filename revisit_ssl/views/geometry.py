"""Flips and quarter turns."""

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.views import draws


def random_flip(images, seed, *, probability=0.5):
    """Mirrors left and right with a probability per image: [B, H, W, C], any dtype."""
    if not 0 <= probability <= 1:
        raise InputError(f"A probability lies in [0, 1]; got {probability}.")
    batch = images.shape[0] if images.shape[0] is not None else tf.shape(images)[0]
    chosen = draws.bernoulli(seed, [batch], probability)
    return draws.select(chosen, tf.reverse(images, [2]), images)


def rotations(images):
    """All four quarter turns of each image.

    Args:
        images: [B, H, H, C], any dtype.

    Returns:
        [4B, H, H, C], image-major: row 4 * b + q is image b turned counter-clockwise by q quarter turns
        (``np.rot90(image, q)``).

    Raises:
        InputError: images that are not square.
    """
    side, width = images.shape[1:3]
    if side is None or side != width:
        raise InputError(f"Rotations need square images [B, H, H, C]; got shape {tuple(images.shape)}.")
    transposed = tf.transpose(images, [0, 2, 1, 3])
    turned = [images, tf.reverse(transposed, [1]), tf.reverse(images, [1, 2]), tf.reverse(transposed, [2])]
    batch = images.shape[0] if images.shape[0] is not None else tf.shape(images)[0]
    return tf.reshape(tf.stack(turned, axis=1), [4 * batch, side, side, images.shape[3]])


def rotation_labels(batch):
    """int32 [4 * batch]: 0, 1, 2, 3 for each image, the labels of ``rotations``."""
    return tf.tile(tf.range(4), [batch])
