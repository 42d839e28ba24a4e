"""The features of many regions of a map, a few at a time: all at once would need more memory than the network."""

import tensorflow as tf

from revisit_ssl.detection.boxes import xyxy
from revisit_ssl.detection.roi_align import roi_align

MOST_VALUES = 1 << 24  # of what is between the two products of RoIAlign (64 MB)


def at_once(count, side, width, channels):
    """How many of ``count`` regions are read together: as many as MOST_VALUES allow, the parts being equally large."""
    most = max(1, MOST_VALUES // (side * width * channels))
    parts = -(-count // most)
    return -(-count // parts)


def pool_regions(maps, boxes, side, stride):
    """RoIAlign with adaptive sampling, aligned (ROIAlignV2 of detectron2).

    Args:
        maps: float32 [B, h, w, C], static h, w, C.
        boxes: float32 [B, R, 4] as y1, x1, y2, x2 in pixels, static R.
        side: cells of a region, P.
        stride: pixels between two cells of the map.

    Returns:
        [B * R, P, P, C].
    """
    batch, count = (tf.shape(maps)[0] if maps.shape[0] is None else maps.shape[0]), boxes.shape[1]
    _, _, width, channels = maps.shape
    some = at_once(count, side, width, channels)
    corners = xyxy(boxes)

    def read(one):
        own, own_boxes = one
        parts = [own_boxes[i : i + some] for i in range(0, count, some)]
        found = [roi_align(own[None], part[None], side, stride=stride, sampling=0)[0] for part in parts]
        return tf.concat(found, axis=0)

    if maps.shape[0] is None:
        found = tf.map_fn(read, (maps, corners), fn_output_signature=maps.dtype)
    else:
        found = tf.stack([read(one) for one in zip(tf.unstack(maps), tf.unstack(corners), strict=True)])
    return tf.reshape(found, [batch * count, side, side, channels])
