"""toy_detection: the set with boxes and masks that everyone has, drawn when it is opened (scenes.crowds)."""

import dataclasses
import functools

import numpy as np

from revisit_ssl.data.toy_crowds import COUNTS, FIRST, crowds_of
from revisit_ssl.detection.annotations import Annotated, DetectionSet
from revisit_ssl.scenes import CLASSES


@dataclasses.dataclass(frozen=True)
class ToyDetection:
    """Scenes of one to six of toy_scenes' objects, 128 x 128 pixels, with boxes and masks of what is seen of each.

    An object of which less than half is seen is difficult; none is a crowd. The scenes of a smaller set are the first
    ones of a larger. Judged as COCO is. Its images alone, for a pretext, are ``data.toy_crowds``.

    Attributes:
        train, val, test: numbers of scenes.
    """

    train: int = COUNTS["train"]
    val: int = COUNTS["val"]
    test: int = COUNTS["test"]
    argument: str = ""

    def open(self, name, argument, place):
        """``DetectionSet``; the arguments other than its name are not needed."""
        parts = {split: functools.partial(read, split, getattr(self, split)) for split in FIRST}
        parts["trainval"] = lambda: (*parts["train"](), *parts["val"]())
        return DetectionSet(name=name, classes=CLASSES, parts=parts, metric="coco", masks=True)

    def how_to_get(self, place):
        """It is always there."""
        return ""


def read(split, count):
    """The first ``count`` scenes of a split: tuple of ``Annotated`` with images and loaders of masks."""
    return tuple(_annotated(FIRST[split] + i, crowd) for i, crowd in enumerate(crowds_of(split, count)))


def _annotated(number, crowd):
    def masks():
        return crowd.owner == np.arange(1, len(crowd.labels) + 1, dtype=np.uint8)[:, None, None]

    areas = np.bincount(crowd.owner.ravel(), minlength=len(crowd.labels) + 1)[1:].astype(np.float64)
    return Annotated(
        image=crowd.image, boxes=crowd.boxes, classes=crowd.labels, difficult=crowd.difficult, masks=masks,
        areas=areas, image_id=number,
    )
