"""Masks as COCO's JSON has them: polygons, and run lengths as numbers or as text."""

import math

import numpy as np

from revisit_ssl.detection.metrics_coco import pycocotools
from revisit_ssl.errors import InputError, require


def check_segmentation(said, size, name):
    """What is kept of an annotation's "segmentation": a list of polygons, or run lengths.

    Args:
        said: [[x, y, x, y …], …] in pixels, or {"size": [H, W], "counts": numbers, down the columns, of pixels that are
            outside and inside in turn, or the same as COCO's text}.
        size: (H, W) of its image.
        name: of the annotation, for an error line.

    Returns:
        [float64 [2 points], …] or {"size", "counts"}.

    Raises:
        InputError: it is something else, or has more or fewer pixels than its image.
    """
    if isinstance(said, list) and said:
        return [_polygon(points, name) for points in said]
    require(isinstance(said, dict) and {"size", "counts"} <= said.keys(), f"{name} has no polygons and no run lengths")
    found = said["size"]
    require(found == list(size), f"{name} has run lengths of a mask of {found}, its image is of {list(size)}")
    counts = said["counts"]
    runs = _runs_of_text(counts, name) if isinstance(counts, str) else counts
    whole = isinstance(runs, list) and all(isinstance(n, int) and n >= 0 for n in runs)
    pixels = math.prod(size)
    broken = f"{name} has broken run lengths: they do not add up to its image's {pixels} pixels"
    require(whole and sum(runs) == pixels, broken)
    return {"size": found, "counts": counts.encode() if isinstance(counts, str) else np.array(runs, np.uint32)}


def _polygon(points, name):
    try:
        found = np.array(points, np.float64)
    except (TypeError, ValueError):
        found = np.zeros(0)
    fits = found.ndim == 1 and len(found) >= 6 and len(found) % 2 == 0 and np.isfinite(found).all()
    require(fits, f"{name} has a polygon of {len(found)} numbers; it needs three points or more, x and y of each")
    return found


def _runs_of_text(text, name):
    """[int] of COCO's text: six bits a character from "0" on, of which five are of a number, the lowest first, and one
    says that it goes on; from the fourth on each number is its difference to the last but one."""
    runs, value, place = [], 0, 0
    for character in text:
        bits = ord(character) - 48
        require(0 <= bits < 64, f"{name} has broken run lengths: {character!r} is none of their characters")
        value |= (bits & 31) << place
        place += 5
        if not bits & 32:
            if bits & 16:  # negative
                value -= 1 << place
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value, place = 0, 0
    require(place == 0, f"{name} has broken run lengths: they end inside of a number")
    return runs


def as_mask(kept, size):
    """bool [H, W] of what ``check_segmentation`` gave."""
    tools = pycocotools().mask
    if isinstance(kept, list):
        runs = tools.merge(tools.frPyObjects([points.tolist() for points in kept], *size))
    elif isinstance(kept["counts"], bytes):
        runs = kept
    else:
        runs = tools.frPyObjects({"size": kept["size"], "counts": kept["counts"].tolist()}, *size)
    return tools.decode(runs).astype(bool)


def as_masks(every, size):
    """bool [n, H, W] of n of them."""
    try:
        return np.stack([as_mask(kept, size) for kept in every]) if every else np.zeros((0, *size), bool)
    except ValueError as error:
        raise InputError(f"pycocotools cannot read a mask ({error}); mend its segmentation") from None
