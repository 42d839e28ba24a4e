"""Images with boxes: what a detector is trained on and judged by, whatever set they come from.

Boxes are (y1, x1, y2, x2) in pixels of the image as it is looked at, continuous: 0 is the left edge of the first pixel,
W the right edge of the last one, so that a box of one pixel is 1 wide.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import numpy as np

from revisit_ssl.errors import InputError, check_choice, require

SPLITS = ("train", "val", "trainval", "test")
METRICS = ("voc07", "voc12", "coco")
BEYOND = 1.0  # pixels that a box may reach over the border: annotators count from 0, from 1, or round


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Annotated:
    """One image and its n objects.

    Attributes:
        image: uint8 [H, W, 3], or a function without arguments that loads it.
        boxes: float32 [n, 4], (y1, x1, y2, x2) in pixels.
        classes: int32 [n], from 0.
        difficult: bool [n]; None: none is. Such an object trains and is ignored in VOC's test.
        crowd: bool [n]; None: none is. Such a region trains nothing; COCO's test counts what is found in it for
            nothing.
        masks: bool [n, H, W], or a function that loads them; None where there are none.
        areas: float64 [n], the pixels of each object, by which COCO's test calls it small, medium or large; None: those
            of its mask, or else of its box.
        image_id: int or str, unique in its split.
        size: (H, W); may be left out where ``image`` is an array.

    Raises:
        InputError: shapes that do not fit together, a class below 0, a box that is not finite, has no inside or
            reaches over the border.
    """

    image: np.ndarray | Callable
    boxes: np.ndarray
    classes: np.ndarray
    difficult: np.ndarray | None = None
    crowd: np.ndarray | None = None
    masks: np.ndarray | Callable | None = None
    areas: np.ndarray | None = None
    image_id: int | str = 0
    size: tuple | None = None

    def __post_init__(self):
        put = functools.partial(object.__setattr__, self)
        count = len(self.boxes)
        put("boxes", np.asarray(self.boxes, np.float32).reshape(count, 4) if count else np.zeros((0, 4), np.float32))
        put("classes", np.asarray(self.classes, np.int32))
        for name in ("difficult", "crowd"):
            value = getattr(self, name)
            put(name, np.zeros(count, bool) if value is None else np.asarray(value, bool))
        if self.size is None:
            require(not callable(self.image), f"image {self.image_id} is loaded later; its size has to be said")
            put("size", tuple(self.image.shape[:2]))
        self._check()

    def _check(self):
        count, what = len(self.boxes), f"image {self.image_id}"
        for name in ("classes", "difficult", "crowd"):
            found = getattr(self, name).shape
            require(found == (count,), f"{what} has {count} boxes and {name} of shape {list(found)}")
        require(count == 0 or self.classes.min() >= 0, f"{what} has a class below 0; classes are numbered from 0")
        if self.masks is not None and not callable(self.masks):
            found, expected = list(self.masks.shape), [count, *self.size]
            require(found == expected, f"{what} has masks of shape {found}; expected {expected}")
        wrong = np.flatnonzero(wrong_boxes(self.boxes, self.size))
        if len(wrong):
            raise InputError(f"{what}: box {what_is_wrong(self.boxes[wrong[0]], self.size)}")

    @property
    def wide(self):
        """Whether it is wider than high, for batches of like shape (``batches.grouped_batches``)."""
        return self.size[1] > self.size[0]

    def loaded(self):
        """The same with ``image`` and ``masks`` as arrays.

        Raises:
            InputError: the image cannot be read, or is not of the size that its annotation says.
        """
        image = self.image() if callable(self.image) else self.image
        masks = self.masks() if callable(self.masks) else self.masks
        return dataclasses.replace(self, image=image, masks=masks)

    def inside(self):
        """The same with boxes that end at the border, over which they may reach by BEYOND; without what lies beyond."""
        boxes = np.clip(self.boxes, 0, [*self.size, *self.size]).astype(np.float32)
        if np.array_equal(boxes, self.boxes):
            return self
        rows = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(1))
        return dataclasses.replace(self.kept(rows), boxes=boxes[rows])

    def kept(self, rows):
        """The same with the objects ``rows`` (indices or bool [n]) alone."""
        part = {name: getattr(self, name)[rows] for name in ("boxes", "classes", "difficult", "crowd")}
        masks = self.masks
        if callable(masks):
            part["masks"] = lambda: masks()[rows]
        elif masks is not None:
            part["masks"] = masks[rows]
        return dataclasses.replace(self, areas=None if self.areas is None else self.areas[rows], **part)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class DetectionSet:
    """A set of annotated images; ``found["train"]`` is a sequence of ``Annotated``, whose images load when asked for.

    Attributes:
        name: as given to ``open_detection``.
        classes: names, in the order of their numbers.
        parts: {split: function that gives its sequence}, of "train", "val", "trainval" and "test" those that there are.
        metric: how detections on it are judged: "voc07" (11 points), "voc12" (area) or "coco".
        absent: by VOC's rules, what a class without an object in the test is worth: ``voc_ap``'s ``absent``.
        masks: whether its objects have masks.
    """

    name: str
    classes: tuple
    parts: dict
    metric: str = "coco"
    absent: str = "left out"
    masks: bool = False

    def __post_init__(self):
        check_choice(f"{self.name} is judged by", self.metric, METRICS)
        object.__setattr__(self, "_opened", {})

    def __getitem__(self, split):
        """A sequence of ``Annotated``, opened once; InputError for a split that there is not, or is damaged."""
        require(split in self.parts, f"{self.name} has no split {split!r}; one of {', '.join(self.parts)}")
        if split not in self._opened:
            self._opened[split] = tuple(self.parts[split]())
        return self._opened[split]

    def fingerprint(self, split):
        """str, the same for the same annotations of the same images in the same order."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        for one in self[split]:
            digest.update(f"{one.image_id} {one.size}".encode())
            for name in ("boxes", "classes", "difficult", "crowd"):
                digest.update(getattr(one, name).tobytes())
        return f"{self.name.partition(':')[0]}-{split}-{digest.hexdigest()[:16]}"


def for_training(images):
    """Those of ``images`` that show an object to learn from, as detectron2 filters: one that is no crowd.

    Difficult objects count, so that an image of nothing else trains. Boxes end at the border.
    """
    return tuple(one.inside() for one in images if (~one.crowd).any())


def wrong_boxes(boxes, size):
    """bool [n]: boxes (y1, x1, y2, x2) that cannot be of an image of ``size`` (H, W): not finite, without an inside, or
    more than BEYOND over the border."""
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore"):
        over = (boxes[:, :2] < -BEYOND).any(1) | (boxes[:, 2:] > np.add(size, BEYOND)).any(1)
        return ~np.isfinite(boxes).all(1) | over | (boxes[:, 2:] <= boxes[:, :2]).any(1)


def what_is_wrong(box, size):
    """What is wrong with one of the ``wrong_boxes``, for an error line."""
    y1, x1, y2, x2 = (float(value) for value in box)
    said = f"x {x1:g} to {x2:g}, y {y1:g} to {y2:g}"
    if not np.isfinite([y1, x1, y2, x2]).all():
        return f"{said} is not finite"
    if y2 <= y1 or x2 <= x1:
        return f"{said} has no inside"
    return f"{said} reaches over the border of an image of {size[1]} x {size[0]} pixels"


def check_boxes(boxes, size, names):
    """InputError for a box (y1, x1, y2, x2) that cannot be; ``names`` say whose they are."""
    wrong = np.flatnonzero(wrong_boxes(boxes, size))
    if len(wrong):
        raise InputError(f"{names[wrong[0]]}: box {what_is_wrong(boxes[wrong[0]], size)}; mend it or leave it out")
