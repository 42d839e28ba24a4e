"""The embedded data set: procedural 64x64 colour scenes of one upright object each, drawn here, nothing to download.

Only the object says where up is: its silhouette and its own light, which comes from above. Texture, light and clutter
of the ground lie at random angles, so a network that solves the rotation task has looked at the object. (With a horizon
or one light for the whole scene the task is solved by that shortcut and the features are worth no more than random
ones.) Colours are drawn independently of the class.

Every scene is a function of its instance number alone. Shapes are signed distances in the object's own frame, turned
into pixel coverage and shaded along their edges.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

SIZE = 64
CLASSES = ("house", "tree", "car", "lamp", "person", "boat", "cup", "chair", "bottle", "mushroom")

_SEED = 20190109
_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) + 0.5  # pixel centres


@dataclasses.dataclass
class ToyScenesConfig(tfds.core.BuilderConfig):
    """Numbers of scenes; the scenes of a smaller configuration are the first ones of the larger."""

    train: int = 6000
    test: int = 2000


class ToyScenes(tfds.core.GeneratorBasedBuilder):
    """``tfds.load("toy_scenes")`` once this module is imported.

    Features:
        image: uint8 [64, 64, 3].
        label: class, 0..9; every aligned run of ten scenes holds each class once, so slices stay balanced.
        instance: int64, unique over both splits; ``draw_scene(instance)`` draws it again.
        bbox: of the object, in [0, 1].
        mask: uint8 [64, 64, 1], 255 on the object and 0 elsewhere.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        ToyScenesConfig(name="full", description="6,000 train and 2,000 test scenes."),
        ToyScenesConfig(name="tiny", description="Fewer scenes, for tests.", train=600, test=200),
    ]
    TEST_INSTANCES = 1_000_000  # the first instance number of the test split

    def _info(self):
        return self.dataset_info_from_configs(
            description="Procedural scenes of one upright object; nothing but the object says where up is.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                    "instance": np.int64,
                    "bbox": tfds.features.BBoxFeature(),
                    "mask": tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # classes already alternate, and slices of the train split stay balanced
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config
        bar = tqdm(total=config.train + config.test, desc="Drawing toy_scenes", unit=" scenes", mininterval=1)
        return {
            "train": self._generate_examples(0, config.train, bar),
            "test": self._generate_examples(self.TEST_INSTANCES, config.test, bar),
        }

    def _generate_examples(self, first, count, bar):
        for key in range(count):
            scene = draw_scene(first + key)
            rows, columns = np.flatnonzero(scene.mask.any(1)), np.flatnonzero(scene.mask.any(0))
            edges = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]) / SIZE
            yield (
                key,
                {
                    "image": scene.image,
                    "label": scene.label,
                    "instance": first + key,
                    "bbox": tfds.features.BBox(*edges.tolist()),
                    "mask": scene.mask[..., None],
                },
            )
            bar.update()
        if first == self.TEST_INSTANCES:
            bar.close()


@dataclasses.dataclass(frozen=True)
class Scene:
    """image: uint8 [64, 64, 3]; mask: uint8 [64, 64], 0 or 255; label: 0..9."""

    image: np.ndarray
    mask: np.ndarray
    label: int


def draw_scene(instance, *, with_object=True):
    """Scene number ``instance``; without its object the ground is the same and ``mask`` is empty."""
    block, place = divmod(instance, len(CLASSES))
    label = int(np.random.default_rng([_SEED, 0, block]).permutation(len(CLASSES))[place])
    rng = np.random.default_rng([_SEED, 1, instance])
    image, tone = _ground(rng)
    _clutter(image, rng)
    grain = rng.normal(0, rng.uniform(0.004, 0.02), image.shape).astype(np.float32)
    cover = np.zeros((SIZE, SIZE), np.float32)
    if with_object:
        _place(image, cover, _OBJECTS[CLASSES[label]](rng), tone, rng)
    pixels = (np.clip(image + grain, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Scene(pixels, np.where(cover > 0.5, 255, 0).astype(np.uint8), label)


# ---- shapes: a signed distance in the object's units (x right, y down), negative inside, and a bounding box ----


@dataclasses.dataclass(frozen=True)
class _Shape:
    distance: Callable
    box: tuple  # x0, y0, x1, y1


@dataclasses.dataclass(frozen=True)
class _Part:
    shape: _Shape
    paint: int  # which of the object's colours
    textured: bool = False


def _ellipse(x, y, rx, ry=None):
    ry = rx if ry is None else ry

    def distance(u, v):
        p, q = (u - x) / rx, (v - y) / ry
        k = np.sqrt(p * p + q * q) + 1e-6
        return k * (k - 1) / np.sqrt((p / rx) ** 2 + (q / ry) ** 2 + 1e-6)

    return _Shape(distance, (x - rx, y - ry, x + rx, y + ry))


def _box(x0, y0, x1, y1, radius=0.0):
    x, y, w, h = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    radius = min(radius, w, h)

    def distance(u, v):
        p, q = np.abs(u - x) - (w - radius), np.abs(v - y) - (h - radius)
        outside = np.sqrt(np.maximum(p, 0) ** 2 + np.maximum(q, 0) ** 2)
        return outside + np.minimum(np.maximum(p, q), 0) - radius

    return _Shape(distance, (x0, y0, x1, y1))


def _polygon(*points, radius=0.0):
    """Convex; ``radius`` rounds its corners by growing it."""
    points = np.array(points, np.float32)
    ahead = np.roll(points, -1, 0) - points
    turn = np.sign(np.sum(points[:, 0] * np.roll(points[:, 1], -1) - points[:, 1] * np.roll(points[:, 0], -1)))
    normals = turn * np.stack([ahead[:, 1], -ahead[:, 0]], 1) / np.linalg.norm(ahead, axis=1, keepdims=True)

    def distance(u, v):
        sides = [nx * (u - x) + ny * (v - y) for (x, y), (nx, ny) in zip(points, normals, strict=True)]
        return np.maximum.reduce(sides) - radius

    low, high = points.min(0) - radius, points.max(0) + radius
    return _Shape(distance, (*low.tolist(), *high.tolist()))


def _line(x0, y0, x1, y1, radius, radius_end=None):
    """A capsule, thicker or thinner at its end if asked."""
    dx, dy = x1 - x0, y1 - y0
    length2 = dx * dx + dy * dy
    grow = 0.0 if radius_end is None else radius_end - radius

    def distance(u, v):
        t = np.clip(((u - x0) * dx + (v - y0) * dy) / length2, 0, 1)
        return np.hypot(u - x0 - t * dx, v - y0 - t * dy) - (radius + grow * t)

    r = max(radius, radius + grow)
    return _Shape(distance, (min(x0, x1) - r, min(y0, y1) - r, max(x0, x1) + r, max(y0, y1) + r))


def _union(*shapes):
    boxes = np.array([s.box for s in shapes])
    box = (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())
    return _Shape(lambda u, v: np.minimum.reduce([s.distance(u, v) for s in shapes]), box)


def _cut(shape, hole, box=None):
    return _Shape(lambda u, v: np.maximum(shape.distance(u, v), -hole.distance(u, v)), box or shape.box)


def _top_half(shape, y):
    """The part of a shape above ``y``."""
    x0, y0, x1, _ = shape.box
    return _Shape(lambda u, v: np.maximum(shape.distance(u, v), v - y), (x0, y0, x1, y))


# ---- the ten objects: lists of parts from back to front, in any units ----


def _house(rng):
    half, roof, over = rng.uniform(0.34, 0.52), rng.uniform(0.28, 0.5), rng.uniform(0.03, 0.1)
    parts = []
    if rng.random() < 0.6:
        x = half * rng.choice([-1, 1]) * rng.uniform(0.4, 0.75)
        parts.append(_Part(_box(x - 0.06, roof * rng.uniform(0.1, 0.35), x + 0.06, roof), 2))
    parts.append(_Part(_box(-half, roof - 0.01, half, 1), 0, True))
    flat = rng.choice([0.0, rng.uniform(0.2, 0.6)]) * half
    tip = rng.uniform(-0.15, 0.15) * half
    parts.append(
        _Part(
            _polygon((-half - over, roof), (tip - flat - 0.02, 0), (tip + flat + 0.02, 0), (half + over, roof)), 1, True
        )
    )
    door, height = rng.uniform(0.07, 0.11), rng.uniform(0.26, 0.34)
    x = rng.uniform(-0.5, 0.5) * half
    parts.append(_Part(_box(x - door, 1 - height, x + door, 1, rng.choice([0, 0.07])), 2))
    pane = rng.uniform(0.06, 0.09)
    rows = [roof + 0.13, roof + 0.36] if roof < 0.4 and rng.random() < 0.5 else [roof + 0.15]
    for y in rows:
        for side in (-1, 1):
            wx = side * half * 0.62
            if abs(wx - x) > door + pane + 0.02 or y + pane < 1 - height - 0.02:
                parts.append(_Part(_box(wx - pane, y - pane, wx + pane, y + pane), 3))
    return parts


def _tree(rng):
    trunk, start = rng.uniform(0.04, 0.075), rng.uniform(0.5, 0.68)
    parts = [_Part(_polygon((-trunk, 0.3), (trunk, 0.3), (trunk * 1.4, 1), (-trunk * 1.4, 1)), 1)]
    kind = rng.integers(3)
    if kind == 0:  # round, of several balls
        wide = rng.uniform(0.26, 0.38)
        balls = [_ellipse(0, start / 2, wide * 0.85, start / 2)]
        for _ in range(rng.integers(2, 6)):
            angle, r = rng.uniform(0, 2 * np.pi), rng.uniform(0.13, 0.2)
            y = start / 2 + math.sin(angle) * start * 0.3
            balls.append(_ellipse(math.cos(angle) * wide * 0.75, max(y, r), r))
        parts.append(_Part(_union(*balls), 0, True))
    elif kind == 1:  # fir
        tiers, wide, bottom = rng.integers(2, 5), rng.uniform(0.28, 0.4), rng.uniform(0.75, 0.86)
        tiers_ = []
        for i in range(tiers):
            low = bottom * (i + 1) / tiers
            half = wide * (0.45 + 0.55 * (i + 1) / tiers)
            tiers_.append(_polygon((-half, low), (0, bottom * max(0, i - 0.45) / tiers), (half, low)))
        parts.append(_Part(_union(*tiers_), 0, True))
    else:  # poplar, egg-shaped
        wide, low = rng.uniform(0.17, 0.26), rng.uniform(0.72, 0.82)
        parts.append(_Part(_ellipse(0, low / 2, wide, low / 2), 0, True))
    if rng.random() < 0.4 and kind != 1:
        for _ in range(rng.integers(3, 8)):
            x, y = rng.uniform(-0.16, 0.16), start / 2 + rng.uniform(-0.2, 0.2)
            parts.append(_Part(_ellipse(x, y, 0.035), 2))
    return parts


def _car(rng):
    half, top, belt, floor = rng.uniform(0.66, 0.82), 0.0, rng.uniform(0.36, 0.46), rng.uniform(0.78, 0.84)
    front, back = rng.uniform(0.1, 0.45), rng.uniform(0.02, 0.4)  # how far the roof stands back from the bumpers
    slope_f, slope_b = rng.uniform(0.1, 0.25), rng.uniform(0.02, 0.18)
    x0, x1 = -half + back * half, half - front * half
    parts = [
        _Part(_polygon((x0, belt + 0.1), (x0 + slope_b, top), (x1 - slope_f, top), (x1, belt + 0.1)), 0),
        _Part(_box(-half, belt, half, floor, rng.uniform(0.06, 0.16)), 0, True),
    ]
    mid = (x0 + x1) / 2 + rng.uniform(-0.06, 0.06)
    for a, b, sa, sb in ((x0 + 0.07, mid - 0.025, slope_b * 0.8, 0), (mid + 0.025, x1 - 0.07, 0, slope_f * 0.8)):
        parts.append(_Part(_polygon((a, belt), (a + sa, top + 0.08), (b - sb, top + 0.08), (b, belt)), 3))
    wheel = rng.uniform(0.15, 0.2)
    for x in (-half * rng.uniform(0.52, 0.62), half * rng.uniform(0.52, 0.62)):
        parts.append(_Part(_ellipse(x, 1 - wheel, wheel), 2))
        parts.append(_Part(_ellipse(x, 1 - wheel, wheel * 0.45), 1))
    parts.append(_Part(_box(half - 0.1, belt + 0.07, half - 0.01, belt + 0.17, 0.04), 1))
    return parts


def _lamp(rng):
    shade, narrow, wide = rng.uniform(0.28, 0.45), rng.uniform(0.08, 0.2), rng.uniform(0.27, 0.4)
    stem, base = rng.uniform(0.02, 0.045), rng.uniform(0.16, 0.28)
    parts = [_Part(_line(0, shade - 0.05, 0, 0.95, stem), 1)]
    if rng.random() < 0.5:  # a vase for a foot
        parts.append(_Part(_ellipse(0, rng.uniform(0.68, 0.78), base * 0.6, 0.17), 2, True))
    if rng.random() < 0.5:
        parts.append(_Part(_top_half(_ellipse(0, 1, base, rng.uniform(0.08, 0.16)), 1), 1))
    else:
        parts.append(_Part(_box(-base, 0.94, base, 1, 0.02), 1))
    if rng.random() < 0.75:
        parts.append(_Part(_polygon((-wide, shade), (-narrow, 0), (narrow, 0), (wide, shade)), 0, True))
    else:
        parts.append(_Part(_top_half(_ellipse(0, shade, wide, shade), shade), 0, True))
    if rng.random() < 0.6:
        parts.append(_Part(_box(-wide, shade - 0.045, wide, shade), 3))
    if rng.random() < 0.4:  # pull chain
        x = wide * 0.5
        parts.append(_Part(_line(x, shade, x, shade + 0.14, 0.012), 3))
    return parts


def _person(rng):
    head, hip = rng.uniform(0.085, 0.11), rng.uniform(0.55, 0.62)
    neck, chest = 2 * head - 0.01, rng.uniform(0.1, 0.14)
    leg, stance = rng.uniform(0.045, 0.06), rng.uniform(0.05, 0.13)
    parts = []
    for side in (-1, 1):
        foot = side * (stance + rng.uniform(0, 0.05))
        parts.append(_Part(_line(side * 0.06, hip, foot, 0.95, leg, leg * 0.8), 1))
        parts.append(_Part(_line(foot, 0.965, foot + 0.05, 0.965, 0.035), 2))
    for side in (-1, 1):  # arms hang, stretch out, or go up
        angle = rng.choice([rng.uniform(0.2, 0.6), rng.uniform(1.1, 1.7), rng.uniform(2.2, 2.7)], p=[0.6, 0.25, 0.15])
        reach = rng.uniform(0.26, 0.32)
        x, y = side * (chest - 0.01), neck + 0.06
        hand = (x + side * reach * math.sin(angle), y + reach * math.cos(angle))
        parts.append(_Part(_line(x, y, *hand, 0.04, 0.032), 0))
        parts.append(_Part(_ellipse(*hand, 0.037), 3))
    if rng.random() < 0.4:  # a dress
        hem = rng.uniform(0.16, 0.24)
        parts.append(
            _Part(_polygon((-chest * 0.7, neck), (chest * 0.7, neck), (hem, hip + 0.16), (-hem, hip + 0.16)), 0, True)
        )
    else:
        parts.append(_Part(_box(-chest, neck, chest, hip + 0.03, 0.06), 0, True))
    parts.append(_Part(_ellipse(0, head, head * 0.88, head), 3))
    if rng.random() < 0.5:  # a hat
        parts.append(_Part(_box(-head * 1.4, head * 0.55, head * 1.4, head * 0.8, 0.02), 2))
        parts.append(_Part(_box(-head * 0.75, -0.07, head * 0.75, head * 0.6, 0.04), 2))
    else:  # hair
        parts.append(_Part(_top_half(_ellipse(0, head, head * 0.95, head * 1.05), head * 0.75), 2))
    return parts


def _boat(rng):
    half, keel, deck = rng.uniform(0.42, 0.6), rng.uniform(0.45, 0.75), rng.uniform(0.72, 0.8)
    bow = rng.uniform(0, 0.08)
    hull = _polygon((-half, deck), (half + bow, deck - 0.02), (half * keel, 1), (-half * keel, 1))
    parts = []
    if rng.random() < 0.7:  # sails
        mast = rng.uniform(-0.12, 0.12)
        parts.append(_Part(_line(mast, 0.01, mast, deck, 0.018), 2))
        boom, foot = deck - rng.uniform(0.05, 0.1), rng.uniform(0.03, 0.06)
        reach = rng.uniform(0.75, 0.95) * half
        parts.append(_Part(_polygon((mast + 0.025, foot), (mast + 0.025, boom), (mast + reach - 0.1, boom)), 1, True))
        if rng.random() < 0.7:
            parts.append(
                _Part(_polygon((mast - 0.025, foot + 0.1), (mast - 0.025, boom), (mast - reach * 0.75, boom)), 3)
            )
        else:
            parts.append(_Part(_polygon((mast, 0), (mast - 0.16, 0.05), (mast, 0.1)), 3))
    else:  # a steamer
        cabin, x = rng.uniform(0.2, 0.3), rng.uniform(-0.12, 0.05)
        roof = rng.uniform(0.36, 0.48)
        funnel = rng.uniform(0.06, 0.09)
        parts.append(_Part(_box(x - funnel, 0, x + funnel, roof + 0.02), 2))
        parts.append(_Part(_box(x - funnel, 0.07, x + funnel, 0.15), 3))
        parts.append(_Part(_box(x - cabin, roof, x + cabin, deck + 0.02), 1, True))
        for i in (-1, 0, 1):
            parts.append(_Part(_ellipse(x + i * cabin * 0.6, roof + 0.13, 0.05), 3))
    parts.append(_Part(hull, 0, True))
    if rng.random() < 0.6:
        parts.append(
            _Part(
                _polygon(
                    (-half, deck), (half + bow, deck - 0.02), (half * 0.96, deck + 0.06), (-half * 0.94, deck + 0.06)
                ),
                2,
            )
        )
    return parts


def _cup(rng):
    top, bottom, rim = rng.uniform(0.42, 0.56), rng.uniform(0.24, 0.42), rng.uniform(0.08, 0.13)
    low = 0.97
    ring_x, ring_y = top * 0.93, rng.uniform(0.42, 0.52)
    ring_r = rng.uniform(0.19, 0.26)
    parts = [
        _Part(
            _cut(_ellipse(ring_x, ring_y, ring_r, ring_r * 1.15), _ellipse(ring_x, ring_y, ring_r * 0.6, ring_r * 0.7)),
            1,
        )
    ]
    if rng.random() < 0.4:  # saucer
        parts.append(_Part(_ellipse(0, 0.93, top * 1.35, 0.07), 2))
        low = 0.93
    if rng.random() < 0.6:  # straight or tapering mug
        parts.append(
            _Part(
                _union(
                    _polygon((-top, rim), (top, rim), (bottom, low - 0.04), (-bottom, low - 0.04)),
                    _ellipse(0, low - 0.05, bottom, 0.06),
                ),
                0,
                True,
            )
        )
    else:  # bowl
        bowl = _ellipse(0, rim, top, low - rim)
        below = _Shape(lambda u, v: np.maximum(bowl.distance(u, v), rim - v), (-top, rim, top, low))
        parts.append(_Part(_union(below, _box(-bottom * 0.6, low - 0.08, bottom * 0.6, low)), 0, True))
    parts.append(_Part(_ellipse(0, rim, top, rim), 0))
    parts.append(_Part(_ellipse(0, rim * 1.05, top * 0.86, rim * 0.72), 3))
    return parts


def _chair(rng):
    half, seat, leg = rng.uniform(0.24, 0.34), rng.uniform(0.52, 0.6), rng.uniform(0.028, 0.045)
    thick, depth = rng.uniform(0.06, 0.09), rng.uniform(0.08, 0.14)
    skew = rng.uniform(0.05, 0.2)  # the seat runs forward and to one side
    parts = [_Part(_line(x, seat, x + 0.02, 0.9, leg), 2) for x in (-half + leg, half - leg)]
    kind = rng.integers(3)
    for x in (-half + leg, half - leg):
        parts.append(_Part(_line(x, leg, x, seat + 0.02, leg), 0))
    if kind == 0:
        parts.append(_Part(_box(-half, 0.02, half, rng.uniform(0.3, 0.46), 0.06), 1, True))
    elif kind == 1:
        for y in np.linspace(0.08, seat - 0.14, rng.integers(2, 4)):
            parts.append(_Part(_box(-half, y - 0.045, half, y + 0.045, 0.02), 1))
    else:
        parts.append(_Part(_box(-half, 0, half, 0.11, 0.04), 1))
        for x in np.linspace(-half + 0.12, half - 0.12, rng.integers(2, 4)):
            parts.append(_Part(_line(x, 0.08, x, seat, 0.025), 1))
    front = seat + depth
    for x in (-half + leg + skew, half - leg + skew):
        parts.append(_Part(_line(x, front, x, 1 - leg, leg), 0))
    parts.append(_Part(_polygon((-half, seat), (half, seat), (half + skew, front), (-half + skew, front)), 3, True))
    parts.append(_Part(_box(-half + skew, front - 0.01, half + skew, front - 0.01 + thick, 0.02), 0))
    return parts


def _bottle(rng):
    half, neck, shoulder = rng.uniform(0.14, 0.24), rng.uniform(0.05, 0.075), rng.uniform(0.3, 0.46)
    slope = rng.uniform(0.06, 0.2)
    cap = rng.uniform(0.06, 0.12)
    body = rng.integers(3)
    if body == 0:
        glass = _box(-half, shoulder, half, 1, 0.05)
        joint = _polygon(
            (-neck, shoulder - slope), (neck, shoulder - slope), (half, shoulder + 0.04), (-half, shoulder + 0.04)
        )
    elif body == 1:  # a flask
        half *= 1.3
        glass = _ellipse(0, (shoulder + 1) / 2 - 0.02, half, (1.04 - shoulder) / 2)
        joint = _box(-half * 0.55, 0.94, half * 0.55, 1, 0.02)
    else:  # round shoulders
        glass = _box(-half, shoulder, half, 1, 0.05)
        joint = _ellipse(0, shoulder + 0.03, half, slope + 0.06)
    throat = _box(-neck, 0.02, neck, shoulder + 0.06)
    parts = [_Part(_union(throat, glass, joint), 0, rng.random() < 0.4)]
    parts.append(_Part(_box(-neck - 0.02, 0, neck + 0.02, cap, 0.015), 2))
    if rng.random() < 0.75:
        top = rng.uniform(shoulder + 0.12, shoulder + 0.22)
        parts.append(_Part(_box(-half * 0.9, top, half * 0.9, top + rng.uniform(0.14, 0.24), 0.02), 1, True))
    return parts


def _mushroom(rng):
    half, cap, stem = rng.uniform(0.36, 0.52), rng.uniform(0.34, 0.5), rng.uniform(0.09, 0.14)
    foot = stem * rng.uniform(1.1, 1.7)
    parts = [
        _Part(
            _union(
                _polygon((-stem, cap - 0.06), (stem, cap - 0.06), (foot, 0.94), (-foot, 0.94)),
                _ellipse(0, 0.94, foot, 0.06),
            ),
            1,
        )
    ]
    if rng.random() < 0.5:  # a ring on the stem
        parts.append(_Part(_ellipse(0, cap + rng.uniform(0.12, 0.2), stem * 1.35, 0.04), 3))
    rim = rng.uniform(0.03, 0.09)
    parts.append(_Part(_ellipse(0, cap, half * 0.97, rim), 3))
    dome = _top_half(_ellipse(0, cap, half, cap), cap)
    if rng.random() < 0.3:  # pointed cap
        dome = _polygon((-half, cap), (-half * 0.42, cap * 0.3), (0, 0.02), (half * 0.42, cap * 0.3), (half, cap))
    parts.append(_Part(dome, 0, True))
    if rng.random() < 0.6:
        for _ in range(rng.integers(3, 7)):
            angle, far = rng.uniform(np.pi * 1.1, np.pi * 1.9), rng.uniform(0.25, 0.75)
            x, y = math.cos(angle) * half * far, cap + math.sin(angle) * cap * far
            parts.append(_Part(_ellipse(x, y, rng.uniform(0.035, 0.065), 0.04), 2))
    return parts


_OBJECTS = {
    "house": _house,
    "tree": _tree,
    "car": _car,
    "lamp": _lamp,
    "person": _person,
    "boat": _boat,
    "cup": _cup,
    "chair": _chair,
    "bottle": _bottle,
    "mushroom": _mushroom,
}


# ---- painting ----


def _place(image, cover, parts, ground, rng):
    """Paints the object upright at a random size, place and small tilt; adds its coverage to ``cover`` in place."""
    boxes = np.array([part.shape.box for part in parts])
    (x0, y0), (x1, y1) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    aspect = (x1 - x0) / (y1 - y0)
    height = SIZE * rng.uniform(0.55, max(0.56, min(0.9, 0.95 / aspect)))
    scale = height / (y1 - y0)  # pixels per unit
    tilt = math.radians(rng.uniform(-5, 5))
    spare = np.maximum((SIZE - np.array([height * aspect, height])) / 2 - 1, 0)
    cx, cy = SIZE / 2 + rng.uniform(-spare, spare)
    mirror = rng.choice([-1, 1])
    c, s = math.cos(tilt), math.sin(tilt)
    u = (mirror / scale * (c * (_X - cx) + s * (_Y - cy)) + (x0 + x1) / 2).astype(np.float32)
    v = (1 / scale * (-s * (_X - cx) + c * (_Y - cy)) + (y0 + y1) / 2).astype(np.float32)

    angle = math.radians(rng.uniform(-35, 35))  # the light: from above, and a little from a side
    light = (math.sin(angle), -math.cos(angle))
    strength, bevel = rng.uniform(0.15, 0.45), rng.uniform(2.0, 5.0)
    paints = _palette(ground, rng)
    textures = [_texture(rng) if rng.random() < 0.6 else None for _ in paints]
    for part in parts:
        bx0, by0, bx1, by1 = part.shape.box
        corners = np.array([(x, y) for x in (bx0, bx1) for y in (by0, by1)]) - ((x0 + x1) / 2, (y0 + y1) / 2)
        px = cx + scale * (c * corners[:, 0] * mirror - s * corners[:, 1])
        py = cy + scale * (s * corners[:, 0] * mirror + c * corners[:, 1])
        window = _window(px.min(), py.min(), px.max(), py.max())
        if window is None:
            continue
        distance = part.shape.distance(u[window], v[window]) * scale
        colour = paints[part.paint]
        texture = textures[part.paint] if part.textured else None
        alpha = _paint(image, window, distance, colour, texture, light, strength, bevel)
        cover[window] += alpha * (1 - cover[window])


def _clutter(image, rng):
    """One to three lit things that look the same whichever way up: discs, rings, bars, stars."""
    for _ in range(rng.integers(1, 4)):
        x, y = rng.uniform(0, SIZE, 2)
        radius = rng.uniform(4, 11)
        turn, angle = rng.uniform(0, 2 * np.pi, 2)
        c, s = math.cos(turn), math.sin(turn)
        window = _window(x - 1.5 * radius, y - 1.5 * radius, x + 1.5 * radius, y + 1.5 * radius)
        u, v = _X[window] - x, _Y[window] - y
        u, v = c * u + s * v, c * v - s * u
        kind = rng.integers(4)
        if kind == 0:
            distance = np.hypot(u, v) - radius * 0.8
        elif kind == 1:
            distance = np.abs(np.hypot(u, v) - radius * 0.7) - radius * rng.uniform(0.15, 0.3)
        elif kind == 2:
            distance = _box(-radius, -radius * 0.45, radius, radius * 0.45, rng.uniform(0, 4)).distance(u, v)
        else:
            points = rng.integers(3, 7)
            distance = np.hypot(u, v) - radius * (0.7 + 0.25 * np.cos(points * np.arctan2(v, u)))
        texture = _texture(rng) if rng.random() < 0.3 else None
        light = (math.cos(angle), math.sin(angle))
        _paint(image, window, distance, _colour(rng), texture, light, rng.uniform(0.15, 0.45), rng.uniform(2, 5))


def _paint(image, window, distance, colour, texture, light, strength, bevel):
    """Blends one shape in; ``distance`` in pixels. Edges that face the light are brighter, the others darker."""
    alpha = np.clip(0.5 - distance, 0, 1)
    dy, dx = np.gradient(distance)
    facing = np.clip(dx * light[0] + dy * light[1], -1, 1)
    shade = 1 + strength * facing * np.clip(1 + distance / bevel, 0, 1)
    shade *= 1 - 0.3 * np.clip(1.3 + distance, 0, 1)  # a thin dark contour
    if texture is None:
        colour = colour * shade[..., None]
    else:
        other, pattern = texture
        blend = pattern(_X[window], _Y[window])[..., None]
        colour = (colour + blend * (other - colour)) * shade[..., None]
    image[window] += alpha[..., None] * (np.clip(colour, 0, 1) - image[window])
    return alpha


def _window(x0, y0, x1, y1):
    """Slices of the pixels that a box can touch, or None if it is outside of the image."""
    left, top = max(int(x0 - 2), 0), max(int(y0 - 2), 0)
    right, bottom = min(int(x1 + 3), SIZE), min(int(y1 + 3), SIZE)
    return (slice(top, bottom), slice(left, right)) if right - left > 1 and bottom - top > 1 else None


def _colour(rng, saturation=(0.25, 0.95), value=(0.35, 1.0)):
    """RGB in [0, 1], float32 [3]; hue uniform."""
    hue, s, v = rng.uniform(0, 6), rng.uniform(*saturation), rng.uniform(*value)
    wheel = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return (v * (1 - s + s * wheel)).astype(np.float32)


def _palette(ground, rng):
    """Four colours that stand out against the ground and against each other."""
    chosen = []
    while len(chosen) < 4:
        for _ in range(30):
            colour = _colour(rng)
            if np.abs(colour - ground).sum() > 0.6 and all(np.abs(colour - c).sum() > 0.45 for c in chosen):
                break
        chosen.append(colour)
    return chosen


def _texture(rng):
    """(second colour, function of pixel coordinates giving its share in [0, 0.8]); the pattern lies at any angle."""
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    period, share = rng.uniform(4, 10), rng.uniform(0.3, 0.8)
    c, s = math.cos(angle) * 2 * np.pi / period, math.sin(angle) * 2 * np.pi / period
    kind = rng.integers(3)

    def pattern(x, y):
        a = np.sin(c * x + s * y + phase)
        if kind > 0:
            b = np.sin(c * y - s * x)
            a = a * b if kind == 1 else a + b - 0.8  # checks, dots
        return share * np.clip(0.5 + 2 * a, 0, 1)

    return _colour(rng), pattern


def _ground(rng):
    """Neutral ground with grain, waves or tiles and a light, all at random angles: (image [64, 64, 3], its colour)."""
    tone = _colour(rng, saturation=(0, 0.25), value=(0.3, 0.9))
    field = np.zeros((SIZE, SIZE), np.float32)
    for spread, cells in zip(_SPREADS, (3, 6, 12, 24), strict=True):
        field += rng.uniform(0, 0.09) * (spread @ rng.normal(size=(cells, cells)).astype(np.float32) @ spread.T)
    for _ in range(rng.integers(0, 3)):
        field += rng.uniform(0, 0.12) * (_texture(rng)[1](_X, _Y) - 0.3)
    angle = rng.uniform(0, 2 * np.pi)
    across = (math.cos(angle) * (_X - SIZE / 2) + math.sin(angle) * (_Y - SIZE / 2)) / SIZE
    field += rng.uniform(0, 0.5) * across
    tint = _colour(rng, saturation=(0, 0.25), value=(0.3, 0.9)) - tone
    patches = np.clip(_SPREADS[1] @ rng.uniform(-1, 1, (6, 6)).astype(np.float32) @ _SPREADS[1].T, 0, 1)
    image = (tone + rng.uniform(0, 0.8) * patches[..., None] * tint) * (1 + field[..., None])
    return image.astype(np.float32), tone


def _spread(cells):
    """Linear interpolation from ``cells`` equally spaced knots to pixels, [64, cells]; the same read backwards."""
    place = np.linspace(0, cells - 1, SIZE)[:, None]
    return np.maximum(0, 1 - np.abs(place - np.arange(cells))).astype(np.float32)


_SPREADS = [_spread(cells) for cells in (3, 6, 12, 24)]
