"""3x3 patches for Jigsaw and relative patch location (arXiv:1901.09005, supplement 1; official patch_utils.py)."""

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.views import draws
from revisit_ssl.views.color import random_grayscale
from revisit_ssl.views.crops import center_crop, random_crop, resize


def grid_patches(images, seed=None, *, grid=3, cell, size):
    """Cuts a square image into grid x grid cells and one patch from each.

    Args:
        images: [B, grid * cell, grid * cell, C], any dtype, which is kept.
        seed: each patch lies at a uniform place in its cell (gaps and jitter keep a network from solving the task by
            lines that run on); None: in the middle of its cell.
        cell, size: sides of cells and patches in pixels, size <= cell.

    Returns:
        [B, grid^2, size, size, C], cells in raster order.

    Raises:
        InputError: the image is not the size of the grid, or the patch larger than its cell.
    """
    if size > cell:
        raise InputError(f"A patch of {size} pixels does not fit into a cell of {cell}; lower size.")
    if images.shape.rank != 4 or tuple(images.shape[1:3]) != (grid * cell, grid * cell):
        raise InputError(
            f"A {grid}x{grid} grid of {cell}-pixel cells needs images [B, {grid * cell}, {grid * cell}, C]; "
            f"got shape {tuple(images.shape)}; crop first."
        )
    batch = images.shape[0] if images.shape[0] is not None else tf.shape(images)[0]
    channels = images.shape[3]
    cells = tf.reshape(images, [batch, grid, cell, grid, cell, channels])
    cells = tf.transpose(cells, [0, 1, 3, 2, 4, 5])  # [B, grid, grid, cell, cell, C]
    cells = tf.reshape(cells, [batch, grid * grid, cell, cell, channels])
    if seed is None:
        return center_crop(cells, size)
    offsets = draws.integers(seed, [batch, grid * grid, 2], 0, cell - size + 1)
    rows = offsets[..., 0, None] + tf.range(size)  # [B, cells, size]
    columns = offsets[..., 1, None] + tf.range(size)
    bands = tf.gather(cells, rows, axis=2, batch_dims=2)
    return tf.gather(bands, columns, axis=3, batch_dims=2)


def pretext_patches(
    images, seed, *, training, resize_to=292, crop=255, grid=3, size=64, gray_probability=2 / 3, kernel="bilinear"
):
    """Patches as the patch pretexts see them: squash, grey, crop, cells, patches.

    Args:
        images: float [B, H, W, 3] in [0, 1].
        seed: for grey, crop and jitter.
        training: False: central crop and centred patches. Grey is drawn all the same, as in the official code.
        resize_to: aspect ratio ignored.
        gray_probability: per image, channel mean (paper 2/3, code 0.66, supplement 1/3).
        kernel: "legacy" gives the official TF1 pixels.

    Returns:
        float32 [B, grid^2, size, size, 3] in [0, 1]; not standardised (``color.standardize`` does each patch).
    """
    images = resize(images, (resize_to, resize_to), kernel=kernel)
    images = random_grayscale(images, draws.fold(seed, 0), probability=gray_probability, mode="mean")
    images = random_crop(images, draws.fold(seed, 1), size=crop) if training else center_crop(images, crop)
    return grid_patches(images, draws.fold(seed, 2) if training else None, grid=grid, cell=crop // grid, size=size)


def probe_patches(images, *, size=64, grid=3):
    """Patches for reading out features: the centre, cut into a gapless grid.

    images [B, H, W, C], already scaled (official code: shorter side 224 by area; supplement: 255 x 255) ->
    [B, grid^2, size, size, C].
    """
    return grid_patches(center_crop(images, grid * size), grid=grid, cell=size, size=size)
