"""RoIAlign (He et al., Mask R-CNN, arXiv:1703.06870): the features of a box, read between the cells of a map.

With the conventions of detectron2's ROIAlign. It is linear in the map and separable: each output cell of a box is the
mean of samples on a grid, each sample mixes the two nearest rows and columns of the map.
"""

import tensorflow as tf

from revisit_ssl.errors import check_choice, require

FORMS = ("auto", "kron", "separable", "crop_and_resize")
NEAR = 2e-5  # cells: as much as rounding may move a sample that lies exactly one cell outside, which still counts
SMALL = 200  # cells of a map: up to here one product with the whole map is the fastest form


def roi_align(maps, boxes, size, *, stride, sampling=2, aligned=True, form="auto", compiled=False):
    """The features of boxes of a batch of maps. No gradient reaches the boxes.

    Args:
        maps: float32, bfloat16 or float16 [N, H, W, C]; H and W static.
        boxes: float [N, R, 4]: x1, y1, x2, y2 in pixels of the image, continuous (a pixel is one unit wide); they may
            leave the image. A box of no size is allowed.
        size: cells of the output along each side (P), or a pair (rows, columns).
        stride: pixels of the image per cell of the map.
        sampling: samples of each output cell along each axis, at least 1; 0: adaptive, as many as map cells that it is
            long, rounded up (then a box of no size has features of 0).
        aligned: True: the centre of the first cell lies half a cell from the image's edge (ROIAlignV2). False: the
            older convention, half a cell off, in which a box has at least the size of a cell.
        form: how it is worked out; all give the same numbers, up to rounding:
            "kron": one product [R * P * P, H * W] x [H * W, C] for an image, the fastest for small maps;
            "separable": rows first, then columns; large maps under XLA and on accelerators;
            "crop_and_resize": TensorFlow's kernel, the fastest for large maps on CPUs; fixed sampling alone, no XLA;
            "auto": kron up to 200 cells; else crop_and_resize on machines without a GPU, where it can; else separable.
        compiled: whether XLA compiles what this is part of ("auto" then leaves out crop_and_resize).

    Returns:
        [N, R, P, P, C] of the maps' dtype. A sample more than one cell outside the map counts as 0; one nearer to it
        has the value of the edge.

    Raises:
        InputError: an unknown form, sampling or size below what may come, crop_and_resize with adaptive sampling, a map
            of unknown sides.
    """
    check_choice("form of RoIAlign", form, FORMS)
    rows, columns = (size, size) if isinstance(size, int) else size
    require(rows >= 1 and columns >= 1, f"RoIAlign gives at least 1 x 1 cells; got size {size}")
    require(sampling >= 0, f"RoIAlign takes at least 1 sample, or 0 for adaptive sampling; got {sampling}")
    height, width = maps.shape[1:3]
    require(None not in (height, width), f"RoIAlign needs a static height and width; got shape {tuple(maps.shape)}")
    if form == "auto":
        form = _fastest(height * width, sampling, compiled)
    fixed = form != "crop_and_resize" or sampling
    require(fixed, "crop_and_resize takes a fixed number of samples; set sampling, or take another form")

    corners = tf.stop_gradient(tf.cast(boxes, tf.float32)) / stride - (0.5 if aligned else 0.0)
    x1, y1, x2, y2 = tf.unstack(corners, axis=-1)  # [N, R] each, in cells; cell i has its centre at i
    least = 0.0 if aligned else 1.0
    down, across = (y1, tf.maximum(y2 - y1, least), rows), (x1, tf.maximum(x2 - x1, least), columns)
    if form == "crop_and_resize":
        return _crop_and_resize(maps, down, across, sampling)
    in_rows = tf.cast(_weights(*down, height, sampling), maps.dtype)  # [N, R, P, H]
    in_columns = tf.cast(_weights(*across, width, sampling), maps.dtype)  # [N, R, P, W]
    if form == "kron":
        return _kron(maps, in_rows, in_columns)
    return tf.einsum("nrqw,nrpwc->nrpqc", in_columns, tf.einsum("nrph,nhwc->nrpwc", in_rows, maps))


def _fastest(cells, sampling, compiled):
    if cells <= SMALL:
        return "kron"
    on_cpu = not tf.config.list_logical_devices("GPU") and not tf.config.list_logical_devices("TPU")
    return "crop_and_resize" if on_cpu and sampling and not compiled else "separable"


def _kron(maps, in_rows, in_columns):
    n, height, width, channels = maps.shape
    r, p, q = in_rows.shape[1], in_rows.shape[2], in_columns.shape[2]
    n, r = (tf.shape(in_rows)[i] if side is None else side for i, side in enumerate((n, r)))
    both = tf.einsum("nrph,nrqw->nrpqhw", in_rows, in_columns)
    cells = tf.reshape(maps, [n, height * width, channels])
    return tf.reshape(tf.reshape(both, [n, r * p * q, height * width]) @ cells, [n, r, p, q, channels])


def _weights(start, length, bins, side, sampling):
    """How the cells of one axis of the map are mixed: float32 [N, R, bins, side], a row for each output cell.

    The samples of an output cell lie at equal distances, so those between two cells of the map are counted and summed
    in closed form; no axis of samples is needed, and a box may be of any size.

    Args:
        start, length: float32 [N, R] of the boxes, in cells.
        bins: output cells.
        side: cells of the map.
        sampling: as of ``roi_align``.
    """
    start, length = start[..., None, None], length[..., None, None]
    bin_length = length / bins
    count = tf.fill(tf.shape(bin_length), float(sampling)) if sampling else tf.math.ceil(bin_length)
    step = bin_length / tf.maximum(count, 1.0)
    first = start + bin_length * tf.range(bins, dtype=tf.float32)[:, None] + step / 2  # [N, R, bins, 1]
    cell = tf.range(side, dtype=tf.float32)  # [side]

    def before(place):
        """How many samples lie before ``place``."""
        return tf.clip_by_value(tf.math.ceil((place - first) / tf.maximum(step, 1e-12)), 0.0, count)

    def middle(low, high):
        """Mean place, relative to the cell, of the samples number low .. high - 1."""
        return first - cell + step * (low + high - 1.0) / 2

    low = before(tf.where(cell == 0, -1.0 - NEAR, cell - 1))
    here = before(cell)
    high = before(tf.where(cell == side - 1, side + NEAR, cell + 1))
    # Between two cells a sample is shared by its distances; outside the map the edge has all of it.
    left = tf.where(cell == 0, 1.0, 1.0 + middle(low, here))
    right = tf.where(cell == side - 1, 1.0, 1.0 - middle(here, high))
    return ((here - low) * left + (high - here) * right) / tf.maximum(count, 1.0)


def _crop_and_resize(maps, down, across, sampling):
    """All samples by TensorFlow's kernel, then their means; outside of the map, repeated at its edges, it has 0."""
    height, width = maps.shape[1:3]
    (_, regions), count = down[0].shape, tf.shape(down[0])[1]
    padded = tf.pad(tf.cast(maps, tf.float32), [[0, 0], [1, 1], [1, 1], [0, 0]], "SYMMETRIC")
    ends = []
    for (start, length, bins), side in ((down, height), (across, width)):
        half = length / (2 * bins * sampling)
        ends.append(((start + half + 1.0) / (side + 1), (start + length - half + 1.0) / (side + 1)))
    (top, bottom), (left, right) = ends
    boxes = tf.reshape(tf.stack([top, left, bottom, right], axis=-1), [-1, 4])
    owner = tf.repeat(tf.range(tf.shape(maps)[0]), count)
    rows, columns = down[2], across[2]
    samples = tf.image.crop_and_resize(padded, boxes, owner, [rows * sampling, columns * sampling])
    cells = tf.reshape(samples, [-1, rows, sampling, columns, sampling, maps.shape[3]])
    means = tf.reshape(tf.reduce_mean(cells, axis=(2, 4)), [-1, count, rows, columns, maps.shape[3]])
    return tf.cast(tf.ensure_shape(means, [maps.shape[0], regions, rows, columns, maps.shape[3]]), maps.dtype)
