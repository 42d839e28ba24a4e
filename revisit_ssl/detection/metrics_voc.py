"""AP of boxes by VOC's rules as detectron2's evaluator has them, which is what AP, AP50 and AP75 on VOC mean.

Not COCO's: a box counts the pixels at both of its ends (so +1 to each side), scores are rounded to three decimals and
detected boxes to one, a box is right if its IoU is more than the threshold, and the precision is averaged over eleven
recalls (2007) or over all of them (from 2010 on).
"""

import numpy as np

IOUS = tuple(percent / 100 for percent in range(50, 100, 5))
SHIFT = (1, 1, 0, 0)  # from continuous edges to pixels counted from 1, of which both ends belong to the box


def voc_ap(detections, images, num_classes, *, area=False, absent="zero"):
    """Average precision of boxes.

    Args:
        detections: [N] of {"boxes": [m, 4] (y1, x1, y2, x2) in pixels, "scores": [m], "classes": int [m]}, in the order
            of the images.
        images: sequence of N ``Annotated``.
        num_classes: K.
        area: the area under the envelope of the precision, VOC's from 2010 on; else its mean at eleven recalls.
        absent: what a class without an object that counts is worth: "zero", as in detectron2, or "left out" of the
            means. (With ``area`` detectron2 gives such a class, once detected, no number at all, and so the mean none.)

    Returns:
        {"AP": mean over ``IOUS``, "AP50", "AP75": means over the classes in percent, None where none counts;
        "per_class": {"AP", "AP50", "AP75": [K] percent, None for a class that is left out}}.
    """
    table = np.full((num_classes, len(IOUS)), np.nan)
    for c in range(num_classes):
        number, difficult, matched = _matched(detections, images, c)
        if number or absent == "zero":
            table[c] = [_ap(*_curve(number, difficult, *matched, iou), area) for iou in IOUS]
    return summary(100 * table)


def summary(table):
    """``voc_ap``'s answer from float [K, len(IOUS)] in percent, nan for what is left out."""
    columns = {"AP": slice(None), "AP50": [IOUS.index(0.5)], "AP75": [IOUS.index(0.75)]}
    per_class = {name: table[:, rows].mean(axis=1) for name, rows in columns.items()}
    means = {name: values[np.isfinite(values)] for name, values in per_class.items()}
    return {name: float(values.mean()) if len(values) else None for name, values in means.items()} | {
        "per_class": {
            name: [float(value) if np.isfinite(value) else None for value in values]
            for name, values in per_class.items()
        }
    }


def voc_curve(detections, images, which, iou=0.5):
    """(recall, precision), float64 [m] in [0, 1]: of one class behind each of its detections, best first; empty without
    an object that counts. Arguments as of ``voc_ap``."""
    number, difficult, matched = _matched(detections, images, which)
    return _curve(number, difficult, *matched, iou) if number else (np.zeros(0), np.zeros(0))


def _matched(detections, images, c):
    """Detections of class ``c`` and the objects that they overlap most.

    Returns:
        (how many objects count, bool [objects] which do not because they are difficult, (IoU [m], object [m]) of the
        detections, best first; -inf and -1 in an image without an object of the class).
    """
    scores, overlaps, objects, difficult, first = [], [], [], [], 0
    for one, image in zip(detections, images, strict=True):
        own = image.classes == c
        truth = image.boxes[own].astype(np.float64) + SHIFT
        difficult.append(image.difficult[own])
        chosen = np.asarray(one["classes"]) == c
        found = _written(np.asarray(one["boxes"])[chosen])
        scores.append([float(f"{score:.3f}") for score in np.asarray(one["scores"])[chosen].tolist()])
        iou = _overlap(found, truth)
        objects.append(first + iou.argmax(axis=1) if len(truth) else np.full(len(found), -1))
        overlaps.append(iou.max(axis=1, initial=-np.inf))
        first += len(truth)
    # Equal scores, which rounding makes many of, keep their order; detectron2 leaves it to NumPy's quicksort.
    order = np.argsort(-np.concatenate([*scores, []]), kind="stable")
    difficult = np.concatenate([*difficult, np.zeros(0, bool)])
    matched = np.concatenate([*overlaps, []])[order], np.concatenate([*objects, []])[order].astype(np.int64)
    return int((~difficult).sum()), difficult, matched


def _written(boxes):
    """Boxes [m, 4] as detectron2 writes them to its text files: x1 and y1 counted from 1, then all to one decimal."""
    rows = [[float(f"{value + by:.1f}") for value, by in zip(box, SHIFT, strict=True)] for box in boxes.tolist()]
    return np.array(rows, np.float64).reshape(-1, 4)


def _overlap(a, b):
    """IoU [m, n] of boxes that count the pixels at both ends."""
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    sides = np.maximum(np.minimum(a[:, None, 2:], b[None, :, 2:]) - corner + 1, 0)
    common = sides[..., 0] * sides[..., 1]
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1) for boxes in (a, b)]
    return common / (areas[0][:, None] + areas[1] - common)


def _curve(number, difficult, overlaps, objects, iou):
    """(recall, precision) behind each detection, best first. The first to match an object is right, further ones are
    wrong, and those that match a difficult one count for nothing."""
    match = overlaps > iou
    _, first = np.unique(objects[match], return_index=True)
    right = np.zeros(len(overlaps), bool)
    right[np.flatnonzero(match)[first]] = True
    ignored = np.zeros(len(overlaps), bool)
    ignored[match] = difficult[objects[match]]
    hits, misses = np.cumsum(right & ~ignored), np.cumsum(~right & ~ignored)
    # A class without an object that counts has recall 0, and so precision 0 at every recall.
    recall = hits / number if number else np.zeros(len(hits))
    return recall, hits / np.maximum(hits + misses, np.finfo(np.float64).eps)


def _ap(recall, precision, area):
    if not area:
        # Multiples of 0.1 in binary, of which 0.3, 0.6 and 0.7 lie a hair above the tenth.
        return float(np.mean([precision[recall >= t].max(initial=0.0) for t in np.arange(11) * 0.1]))
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))
