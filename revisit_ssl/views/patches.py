"""3x3 patches for Jigsaw and relative patch location (arXiv:1901.09005, supplement 1; official patch_utils.py)."""

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.views import draws
from revisit_ssl.views.crops import center_crop


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


def probe_patches(images, *, size=64, grid=3):
    """Patches for reading out features: the centre, cut into a gapless grid.

    images [B, H, W, C], already scaled (official code: shorter side 224 by area; supplement: 255 x 255) ->
    [B, grid^2, size, size, C].
    """
    return grid_patches(center_crop(images, grid * size), grid=grid, cell=size, size=size)
