"""Masks: small ones in the frame of an object's box, which travel with a batch; what a region is to find; pasting."""

import numpy as np
import tensorflow as tf
from PIL import Image

from revisit_ssl.detection.boxes import xyxy
from revisit_ssl.detection.roi_align import roi_align

SIDE = 56  # pixels of a mask in the frame of its box


def crop_masks(masks, boxes):
    """Each object's mask as its box shows it.

    Args:
        masks: bool or uint8 [n, H, W], above 0 on the object.
        boxes: float [n, 4] as y1, x1, y2, x2 in pixels of the masks.

    Returns:
        uint8 [n, SIDE, SIDE], 255 on the object, between at its border.
    """
    found = np.zeros([len(boxes), SIDE, SIDE], np.uint8)
    for i, (mask, (y1, x1, y2, x2)) in enumerate(zip(masks, boxes, strict=True)):
        height, width = mask.shape
        box = max(x1, 0.0), max(y1, 0.0), min(x2, width), min(y2, height)
        if box[2] > box[0] and box[3] > box[1]:
            whole = Image.fromarray((np.asarray(mask) > 0).astype(np.uint8) * 255)
            found[i] = np.asarray(whole.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=tuple(map(float, box))))
    return found


def mask_targets(crops, boxes, regions, size):
    """What the mask head is to find in each region: its object's mask where it lies in the region.

    Args:
        crops: uint8 [M, SIDE, SIDE], of ``crop_masks``, of each region's object.
        boxes: float32 [M, 4], the object's box.
        regions: float32 [M, 4].
        size: pixels of a side of the target.

    Returns:
        bool [M, size, size]; nothing outside of the object's box.
    """
    scale = SIDE / tf.maximum(boxes[:, 2:] - boxes[:, :2], 1e-3)  # [M, 2]
    corners = tf.tile(boxes[:, :2], [1, 2])
    inside = (regions - corners) * tf.tile(scale, [1, 2])
    # A ring of zeros, since RoIAlign repeats the border of a map for one cell.
    framed = tf.pad(tf.cast(crops, tf.float32) / 255.0, [[0, 0], [1, 1], [1, 1]])[..., None]
    read = roi_align(framed, xyxy(inside + 1.0)[:, None], size, stride=1, sampling=0, form="separable")
    return read[:, 0, :, :, 0] >= 0.5


def paste(masks, boxes, size, threshold=0.5):
    """Predicted masks at their places in the image, read bilinearly between the centres of their pixels (detectron2).

    Args:
        masks: float32 [n, s, s] in [0, 1].
        boxes: float32 [n, 4] as y1, x1, y2, x2 in pixels of the image.
        size: (H, W).
        threshold: from here on a pixel belongs to the object.

    Returns:
        bool [n, H, W].
    """
    found = np.zeros([len(masks), *size], bool)
    for i, (mask, (y1, x1, y2, x2)) in enumerate(zip(masks, boxes, strict=True)):
        side = mask.shape[0]
        rows, columns = (slice(max(int(low), 0), min(int(np.ceil(high)), most)) for low, high, most in (
            (y1, y2, size[0]), (x1, x2, size[1])
        ))
        if rows.stop <= rows.start or columns.stop <= columns.start or y2 <= y1 or x2 <= x1:
            continue
        down = (np.arange(rows.start, rows.stop) + 0.5 - y1) / (y2 - y1) * side - 0.5
        across = (np.arange(columns.start, columns.stop) + 0.5 - x1) / (x2 - x1) * side - 0.5
        values = _between(_between(mask, down).T, across).T
        found[i, rows, columns] = values >= threshold
    return found


def _between(values, places):
    """Rows of [s, k] read at fractional places, 0 outside of them: [len(places), k]."""
    framed = np.pad(values, [(1, 1), (0, 0)])
    places = np.clip(places + 1, 0, len(framed) - 1)
    low = np.minimum(places.astype(int), len(framed) - 2)
    share = (places - low)[:, None]
    return framed[low] * (1 - share) + framed[low + 1] * share
