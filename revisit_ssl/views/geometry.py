"""Flips, quarter turns, erased boxes."""

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.views import draws
from revisit_ssl.views.boxes import erasing_boxes


def random_flip(images, seed, *, probability=0.5):
    """Mirrors left and right with a probability per image: [B, H, W, C], any dtype."""
    chosen = draws.bernoulli(seed, [draws.batch_size(images)], probability)
    return draws.select(chosen, tf.reverse(images, [2]), images)


def random_erasing(images, seed, *, area=(0.02, 0.33), ratio=(0.3, 3.3), probability=1.0, value=0.0):
    """Sets one random box per image to ``value``, with a probability per image (law: ``boxes.erasing_boxes``).

    Args:
        images: float32 [B, H, W, C], any range; H and W static.
        seed: anything ``draws.as_seed`` takes.
        area: smallest and largest share of the image's area.
        ratio: smallest and largest height / width.
        probability: of erasing at all.
        value: float that the box is filled with; 0 is the mean where images are normalised.

    Returns:
        As ``images``.

    Raises:
        InputError: probability outside [0, 1], or a range that is none.
    """
    if not (0 < area[0] <= area[1] <= 1 and 0 < ratio[0] <= ratio[1]):
        raise InputError(f"Pairs 0 < low <= high, area at most 1; got area {area}, ratio {ratio}.")
    height, width = images.shape[1:3]
    batch = draws.batch_size(images)
    chosen = draws.bernoulli(draws.fold(seed, 0), [batch], probability)
    boxes = erasing_boxes([batch], height, width, seed, area=area, ratio=ratio)
    top, left, h, w = (boxes[:, i, None] for i in range(4))
    rows, columns = tf.range(height), tf.range(width)
    down = (rows >= top) & (rows < top + h) & chosen[:, None]  # [B, H]
    across = (columns >= left) & (columns < left + w)  # [B, W]
    return tf.where((down[:, :, None] & across[:, None, :])[..., None], tf.cast(value, images.dtype), images)


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
    turned = [_turn(images, quarters) for quarters in range(4)]
    return tf.reshape(tf.stack(turned, axis=1), [4 * draws.batch_size(images), *images.shape[1:]])


def quarter_turns(images):
    """One quarter turn of each image: row i turned counter-clockwise by i % 4 of them.

    Args:
        images: [B, H, H, C], any dtype, B a multiple of 4.

    Returns:
        As ``images``.

    Raises:
        InputError: images that are not square, or another number of them.
    """
    if images.shape[0] is None or images.shape[0] % 4:
        raise InputError(f"Four rotations alike need a multiple of 4 images; got {images.shape[0]}.")
    fours = tf.reshape(images, [-1, 4, *images.shape[1:]])
    turned = [_turn(fours[:, quarters], quarters) for quarters in range(4)]
    return tf.reshape(tf.stack(turned, axis=1), images.shape)


def _turn(images, quarters):
    """[B, H, H, C] turned counter-clockwise by 0 to 3 quarters."""
    side, width = images.shape[1:3]
    if side is None or side != width:
        raise InputError(f"Rotations need square images [B, H, H, C]; got shape {tuple(images.shape)}.")
    turned = tf.transpose(images, [0, 2, 1, 3]) if quarters % 2 else images
    axes = ([], [1], [1, 2], [2])[quarters]
    return tf.reverse(turned, axes) if axes else turned


def rotation_labels(batch):
    """int32 [4 * batch]: 0, 1, 2, 3 for each image, the labels of ``rotations``."""
    return tf.tile(tf.range(4), [batch])
