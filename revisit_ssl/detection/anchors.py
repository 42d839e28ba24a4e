"""Anchors: the boxes around every cell of a map that the region proposal network judges and moves."""

import numpy as np


def anchors(height, width, stride, sizes, ratios):
    """All anchors of a map, as detectron2 lays them: the first centre is pixel (0, 0), none is left out at the border.

    Args:
        height, width: cells of the map.
        stride: pixels between two cells.
        sizes: square roots of the areas in pixels.
        ratios: height / width.

    Returns:
        float32 [height * width * len(sizes) * len(ratios), 4] as y1, x1, y2, x2; cell by cell in rows, in a cell the
        ratios of the first size first.
    """
    shapes = [(size * ratio**0.5, size / ratio**0.5) for size in sizes for ratio in ratios]
    corners = np.array([[-h / 2, -w / 2, h / 2, w / 2] for h, w in shapes])
    y, x = np.meshgrid(np.arange(height) * stride, np.arange(width) * stride, indexing="ij")
    centres = np.stack([y, x, y, x], axis=-1)[:, :, None]  # [height, width, 1, 4]
    return (centres + corners).reshape(-1, 4).astype(np.float32)
