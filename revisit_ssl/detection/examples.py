"""What a probe keeps of its detections for the pictures of a report: eight test images, and the curves of all."""

import dataclasses
import io
import json

import numpy as np
from PIL import Image

from revisit_ssl.detection.reading import read_bytes
from revisit_ssl.errors import InputError, reason
from revisit_ssl.runs.files import write_atomically

IMAGES = 8  # the first of the test set, not picked by their result
LONGEST = 400  # pixels that are kept of the longer side
FOUND = 20  # detections that are kept of an image, the best
RIGHT = 0.5  # IoU with an object of its class that makes a detection right


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """A test image with its objects and what was found.

    Attributes:
        image: uint8 [H, W, 3].
        truth: {"boxes": float32 [n, 4] (y1, x1, y2, x2), "classes": int [n], "difficult", "crowd": bool [n], "masks":
            bool [n, H, W] where there are any}.
        found: {"boxes", "classes", "scores", "masks"} of its detections, best first.
    """

    image: np.ndarray
    truth: dict
    found: dict


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """What ``write_examples`` kept: classes [K] names; images [Example]; curves {class: (recall, precision)} at an IoU
    of 0.5; ap50 [K] percent, None for a class without objects."""

    classes: list
    images: list
    curves: dict
    ap50: list


def write_examples(path, classes, images, detections, judged):
    """Keeps what a report draws.

    Args:
        path: of the file, .npz.
        classes: names.
        images, detections: of the test set, as ``measuring.measure`` takes them.
        judged: what that answered.

    Raises:
        InputError: the file cannot be written, or an image cannot be read.
    """
    arrays = {}
    for i, (one, found) in enumerate(zip(images[:IMAGES], detections[:IMAGES], strict=True)):
        full = one.loaded()
        best = np.argsort(-np.asarray(found["scores"]), kind="stable")[:FOUND]
        truth = {name: getattr(full, name) for name in ("boxes", "classes", "difficult", "crowd", "masks")}
        kept = {name: None if found.get(name) is None else np.asarray(found[name])[best] for name in _FOUND}
        image, (truth, kept) = _smaller(full.image, (truth, kept))
        arrays[f"{i}/image"] = image
        for kind, values in (("truth", truth), ("found", kept)):
            arrays |= {f"{i}/{kind}/{name}": value for name, value in values.items() if value is not None}
    for c, (recall, precision) in judged["curves"].items():
        arrays[f"curve/{c}"] = np.stack(_thinned(recall, precision)).astype(np.float32)
    ap50 = judged["extra"]["box"]["per_class"]["AP50"]
    said = {"classes": list(classes), "images": len(images[:IMAGES]), "ap50": ap50}
    arrays["said"] = np.frombuffer(json.dumps(said).encode(), np.uint8)
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    write_atomically(path, data.getvalue())


_FOUND = ("boxes", "classes", "scores", "masks")


def read_examples(path):
    """Examples of ``write_examples``; InputError where the file is none."""
    try:
        with np.load(io.BytesIO(read_bytes(path))) as file:
            said = json.loads(file["said"].tobytes())
            parts = {name: file[name] for name in file.files}
            curves = {int(n.removeprefix("curve/")): tuple(v) for n, v in parts.items() if n.startswith("curve/")}
            images = [
                Example(parts[f"{i}/image"], *({
                    name.rpartition("/")[2]: value for name, value in parts.items() if name.startswith(f"{i}/{kind}/")
                } for kind in ("truth", "found")))
                for i in range(said["images"])
            ]
            return Examples(said["classes"], images, curves, said["ap50"])
    except InputError:
        raise
    except Exception as error:  # zip, NumPy and JSON each have errors of their own
        raise InputError(f"{path} holds no detections ({reason(error)}); probe again, or remove it") from None


def matched(example):
    """bool [m]: which detections are right: the best one of each object of its class, by an IoU of at least RIGHT."""
    truth, found, used = example.truth, example.found, set()
    right = np.zeros(len(found["boxes"]), bool)
    for k, (box, c) in enumerate(zip(found["boxes"], found["classes"], strict=True)):
        overlaps = [
            _iou(box, other) if other_class == c and g not in used else 0.0
            for g, (other, other_class) in enumerate(zip(truth["boxes"], truth["classes"], strict=True))
        ]
        if overlaps and max(overlaps) >= RIGHT:
            used.add(int(np.argmax(overlaps)))
            right[k] = True
    return right


def _iou(a, b):
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    common = float(np.prod(sides))
    return common / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - common)


def _smaller(image, kinds):
    """An image of at most LONGEST pixels a side, with the boxes and masks on it."""
    scale = LONGEST / max(image.shape[:2])
    if scale >= 1:
        return image, kinds
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    factors = np.array([height / image.shape[0], width / image.shape[1]] * 2, np.float32)
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) / (new / old), old - 1).astype(int)
        for new, old in zip((height, width), image.shape[:2], strict=True)
    )
    kinds = [
        {**kind, "boxes": kind["boxes"] * factors}
        | ({} if kind["masks"] is None else {"masks": kind["masks"][:, rows][:, :, columns]})
        for kind in kinds
    ]
    small = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small), kinds


def _thinned(recall, precision, most=300):
    """A curve of at most so many points, evenly spaced, its ends kept."""
    rows = np.unique(np.linspace(0, len(recall) - 1, most).astype(int)) if len(recall) > most else slice(None)
    return np.asarray(recall)[rows], np.asarray(precision)[rows]
