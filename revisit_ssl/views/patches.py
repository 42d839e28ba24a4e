"""3x3 patches: apart, for Jigsaw and relative patch location (arXiv:1901.09005, supplement 1; official patch_utils.py);
overlapping, for OBoW (arXiv:2012.11552, supplement F; official datasets.py)."""

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.views import draws
from revisit_ssl.views.resample import center_crop, slice_boxes


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
    batch = draws.batch_size(images)
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


def overlapping_patches(images, seed, *, size, jitter, count, grid=3):
    """``count`` patches of a grid x grid of overlapping ones, each at a place of its own drawing.

    Args:
        images: [B, H, W, C], any dtype, which is kept.
        seed: anything ``draws.as_seed`` takes.
        size: side of a patch in pixels.
        jitter: a patch is moved down and right by 0 to this many pixels, each patch by its own.
        count: patches of an image, drawn without replacement and in the order drawn; all grid^2 come in raster order.

    Returns:
        [B, count, size, size, C].

    Raises:
        InputError: a patch and its jitter do not fit into the image, or more patches than there are.
    """
    batch, height, width = images.shape[:3]
    if size + jitter > min(height, width):
        raise InputError(
            f"A patch of {size} pixels moved by up to {jitter} does not fit into {height}x{width} images; lower either."
        )
    if not 1 <= count <= grid**2:
        raise InputError(f"A {grid}x{grid} grid has from 1 to {grid**2} patches; got count={count}.")
    batch = tf.shape(images)[0] if batch is None else batch
    moves = draws.integers(draws.fold(seed, 0), [batch, grid**2, 2], 0, jitter + 1)
    if count == grid**2:
        chosen = tf.tile(tf.range(count)[None], [batch, 1])
    else:
        chosen = tf.math.top_k(draws.uniform(draws.fold(seed, 1), [batch, grid**2]), count).indices
    return slice_boxes(images, overlapping_corners(height, width, moves, chosen, size, jitter, grid), (size, size))


def overlapping_corners(height, width, moves, chosen, size, jitter, grid=3):
    """Top and left of the patches of ``overlapping_patches`` for given draws: int32 [B, count, 2].

    Args:
        height, width: of the image in pixels.
        moves: int32 [B, grid^2, 2] in 0..jitter, down and right, in raster order.
        chosen: int32 [B, count] in 0..grid^2 - 1.
        size, jitter, grid: as there. The cells are (side - size - jitter) // (grid - 1) pixels apart, so that the grid
            reaches from edge to edge where that divides evenly.
    """
    steps = tf.stack([(side - size - jitter) // max(grid - 1, 1) for side in (height, width)])
    cells = tf.stack(tf.meshgrid(tf.range(grid), tf.range(grid), indexing="ij"), axis=-1)  # [grid, grid, 2]
    corners = tf.reshape(cells * steps, [grid**2, 2]) + moves
    return tf.gather(corners, chosen, axis=1, batch_dims=1)
