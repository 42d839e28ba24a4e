"""Scenes of several of the ten objects, 128 x 128 pixels, with a mask of each: what toy_detection is made of.

A scene is a function of its number alone. The objects stand one before the other, each in a light of its own, as the
object of a scene with one does (``scenes``). A pixel belongs to the object that is nearest of those that cover more
than half of it, so that a mask is what is seen of an object, and its box is drawn around that.
"""

import dataclasses

import numpy as np

from revisit_ssl.scenes import CLASSES, SEED
from revisit_ssl.scenes.objects import OBJECTS
from revisit_ssl.scenes.painting import draw_clutter, draw_ground, draw_pose, paint_object

SIZE = 128
MOST = 6  # objects in a scene
SHARE = (0.16, 0.6)  # height of an object, as a share of the image's
OVER = 0.12  # of its width and height that may lie beyond the border
ALIKE = 0.35  # how often an object is of a class that the scene shows already
OVERLAP = 0.7  # of the smaller of two boxes that the other may cover
HARDLY = 0.5  # share of an object that is seen, under which it is difficult
LEAST = 16  # pixels that have to be seen for an object to be annotated


@dataclasses.dataclass(frozen=True, eq=False)
class Crowd:
    """A scene with n objects, from back to front.

    Attributes:
        image: uint8 [128, 128, 3].
        owner: uint8 [128, 128], 0 on the ground and k + 1 on object k.
        labels: int32 [n], classes of ``scenes.CLASSES``.
        boxes: float32 [n, 4], (y1, x1, y2, x2) in pixels around what is seen of it, edges.
        difficult: bool [n], less than half of it is seen, because of others or of the border.
    """

    image: np.ndarray
    owner: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    difficult: np.ndarray


def draw_crowd(number, size=SIZE):
    """Scene ``number``, with one to MOST objects, in an image of side ``size``."""
    rng = np.random.default_rng([SEED, 4, number])
    image, tone = draw_ground(rng, size)
    draw_clutter(image, rng, most=6)
    grain = rng.normal(0, rng.uniform(0.004, 0.02), image.shape).astype(np.float32)
    owner, whole, labels = np.zeros((size, size), np.uint8), [], []
    for label, parts, pose in _place(rng, size):
        cover = np.zeros((size, size), np.float32)
        paint_object(image, cover, parts, pose, tone, rng)
        labels.append(label)
        owner[cover > 0.5] = len(labels)
        x0, y0, x1, y1 = pose.box
        inside = max(min(x1, size) - max(x0, 0), 0) * max(min(y1, size) - max(y0, 0), 0)
        whole.append((cover > 0.5).sum() * (x1 - x0) * (y1 - y0) / max(inside, 1))  # also what the border cuts off
    pixels = (np.clip(image + grain, 0, 1) * 255 + 0.5).astype(np.uint8)
    return _annotated(pixels, owner, np.array(labels, np.int32), np.array(whole))


def _place(rng, size):
    """[(class, parts, Pose)] from back to front: smaller objects tend to stand behind, as far things do."""
    placed, labels = [], []
    for _ in range(rng.integers(1, MOST + 1)):
        again = labels and rng.random() < ALIKE
        label = int(rng.choice(labels)) if again else int(rng.integers(len(CLASSES)))
        parts = OBJECTS[CLASSES[label]](rng)
        for _ in range(12):
            pose = draw_pose(parts, size, rng, SHARE, OVER)
            if all(_covered(pose.box, other.box) <= OVERLAP for _, _, other in placed):
                placed.append((label, parts, pose))
                labels.append(label)
                break
    return sorted(placed, key=lambda each: each[2].box[3])  # what stands lower is nearer


def _covered(a, b):
    """Share of the smaller of two boxes (x0, y0, x1, y1) that lies in the other."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(width, 0) * max(height, 0) / smaller


def _annotated(pixels, owner, labels, whole):
    """``Crowd`` of what is seen; objects of fewer than LEAST pixels are left out."""
    seen = np.bincount(owner.ravel(), minlength=len(labels) + 1)[1:]
    kept = np.flatnonzero(seen >= LEAST)
    number = np.zeros(len(labels) + 1, np.uint8)
    number[kept + 1] = np.arange(1, len(kept) + 1)
    owner = number[owner]
    boxes = np.zeros((len(kept), 4), np.float32)
    for k in range(len(kept)):
        rows, columns = np.flatnonzero((owner == k + 1).any(1)), np.flatnonzero((owner == k + 1).any(0))
        boxes[k] = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
    return Crowd(pixels, owner, labels[kept], boxes, seen[kept] < HARDLY * whole[kept])
