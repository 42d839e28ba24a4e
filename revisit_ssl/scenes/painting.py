"""Painting: grounds, clutter and objects onto a square image float32 [size, size, 3] in [0, 1], in place.

Some of this is written for speed: a scene is some hundred operations on small arrays, so that calls count, not numbers.
"""

import dataclasses
import functools
import math

import numpy as np

from revisit_ssl.scenes.shapes import box

SIZE = 64  # of the scenes with one object
_HUES = (0, 4, 2)  # of red, green and blue on a wheel of six
SATURATION, VALUE = (0.25, 0.95), (0.35, 1.0)  # of paints: least and most
_CELLS = (3, 6, 12, 24)  # of the ground's waves, across the image


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where an object stands: how many pixels a unit of its own is, its centre there and in pixels, its tilt as
    (cosine, sine), and 1, or -1 where it is mirrored. ``extents``: x0, y0, x1, y1 in pixels of each of its parts."""

    scale: float
    middle: tuple
    centre: tuple
    tilt: tuple
    mirror: int
    extents: list

    @property
    def box(self):
        """x0, y0, x1, y1 in pixels of all parts; it may reach over the border."""
        every = np.array(self.extents)
        return (*every[:, :2].min(0), *every[:, 2:].max(0))


def place_object(image, cover, parts, ground, rng, look=None):
    """Paints the object upright at a random size, place and small tilt; adds its coverage to ``cover`` in place.

    ``look``: its (paints, textures) as of ``draw_look``; None: drawn here, to stand out against the ``ground``.
    """
    paint_object(image, cover, parts, draw_pose(parts, len(image), rng), ground, rng, look)


def draw_pose(parts, size, rng, share=(0.55, 0.9), over=0.0):
    """A random ``Pose`` in an image of side ``size``.

    Args:
        parts: of the object.
        size: pixels.
        rng: np.random.Generator.
        share: (least, most) height, as a share of the image's.
        over: how much of its width and height may reach over the border, a share of them.
    """
    boxes = np.array([part.shape.box for part in parts])
    (x0, y0), (x1, y1) = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    aspect = (x1 - x0) / (y1 - y0)
    height = size * rng.uniform(share[0], max(share[0] + 0.01, min(share[1], 0.95 / aspect)))
    scale = height / (y1 - y0)  # pixels per unit
    tilt = math.radians(rng.uniform(-5, 5))
    sides = np.array([height * aspect, height])
    spare = np.maximum((size - sides) / 2 - 1 + over * sides, 0)
    cx, cy = size / 2 + rng.uniform(-spare, spare)
    mirror = (-1, 1)[rng.integers(2)]
    c, s = math.cos(tilt), math.sin(tilt)
    # The corners of all boxes at once: [parts, 4] pixels.
    corners = boxes[:, [0, 0, 2, 2]] - (x0 + x1) / 2, boxes[:, [1, 3, 1, 3]] - (y0 + y1) / 2
    px = cx + scale * (c * corners[0] * mirror - s * corners[1])
    py = cy + scale * (s * corners[0] * mirror + c * corners[1])
    extents = np.stack([px.min(1), py.min(1), px.max(1), py.max(1)], 1).tolist()
    return Pose(scale, ((x0 + x1) / 2, (y0 + y1) / 2), (cx, cy), (c, s), mirror, extents)


def paint_object(image, cover, parts, pose, ground, rng, look=None):
    """Paints the object at its ``Pose`` in a light of its own; otherwise as ``place_object``."""
    rows, columns = pixel_centres(len(image))
    (cx, cy), (c, s), mirror, scale = pose.centre, pose.tilt, pose.mirror, pose.scale
    x, y = columns - cx, rows - cy
    u = (mirror / scale * (c * x + s * y) + pose.middle[0]).astype(np.float32)
    v = (1 / scale * (-s * x + c * y) + pose.middle[1]).astype(np.float32)
    angle = math.radians(rng.uniform(-35, 35))  # the light: from above, and a little from a side
    light = (math.sin(angle), -math.cos(angle))
    strength, bevel = rng.uniform(0.15, 0.45), rng.uniform(2.0, 5.0)
    paints, textures = draw_look(ground, rng) if look is None else look
    for part, extent in zip(parts, pose.extents, strict=True):
        window = pixels_of(*extent, len(image))
        if window is None:
            continue
        distance = part.shape.distance(u[window], v[window]) * scale
        texture = textures[part.paint] if part.textured else None
        alpha = paint_shape(image, window, distance, paints[part.paint], texture, light, (strength, bevel))
        cover[window] += alpha * (1 - cover[window])


def draw_look(ground, rng):
    """(four paints, their textures or None) of an object that is to stand out against the ground."""
    paints = draw_palette(ground, rng)
    return paints, [draw_texture(rng) if rng.random() < 0.6 else None for _ in paints]


def draw_clutter(image, rng, most=3):
    """One to ``most`` lit things that look the same whichever way up: discs, rings, bars, stars."""
    size = len(image)
    rows, columns = pixel_centres(size)
    for _ in range(rng.integers(1, most + 1)):
        x, y = rng.uniform(0, size, 2)
        radius = rng.uniform(4, 11)
        turn, angle = rng.uniform(0, 2 * np.pi, 2)
        c, s = math.cos(turn), math.sin(turn)
        window = pixels_of(x - 1.5 * radius, y - 1.5 * radius, x + 1.5 * radius, y + 1.5 * radius, size)
        u, v = columns[:, window[1]] - x, rows[window[0]] - y
        u, v = c * u + s * v, c * v - s * u
        kind = rng.integers(4)
        if kind == 0:
            distance = np.hypot(u, v) - radius * 0.8
        elif kind == 1:
            distance = np.abs(np.hypot(u, v) - radius * 0.7) - radius * rng.uniform(0.15, 0.3)
        elif kind == 2:
            distance = box(-radius, -radius * 0.45, radius, radius * 0.45, rng.uniform(0, 4)).distance(u, v)
        else:
            points = rng.integers(3, 7)
            distance = np.hypot(u, v) - radius * (0.7 + 0.25 * np.cos(points * np.arctan2(v, u)))
        texture = draw_texture(rng) if rng.random() < 0.3 else None
        light = (math.cos(angle), math.sin(angle))
        colour = draw_colour(rng)
        paint_shape(image, window, distance, colour, texture, light, (rng.uniform(0.15, 0.45), rng.uniform(2, 5)))


def paint_shape(image, window, distance, colour, texture, light, relief):
    """Blends one shape in. Edges that face the light are brighter, the others darker.

    Args:
        image: float32 [size, size, 3]; changed in ``window``.
        window: slices of the pixels that the shape may touch, h x w of them.
        distance: float [h, w], signed distance in pixels, negative inside.
        colour: RGB float32 [3].
        texture: what ``draw_texture`` gives, or None.
        light: unit vector (x, y) towards the light.
        relief: (strength of light and shade, width of the lit edge in pixels).

    Returns:
        float [h, w]: how much of each pixel the shape covers, in [0, 1].
    """
    strength, bevel = relief
    alpha = _clip(0.5 - distance, 0, 1)
    dy, dx = _slopes(distance)
    shade = 1 + strength * _clip(dx * light[0] + dy * light[1], -1, 1) * _clip(1 + distance / bevel, 0, 1)
    shade *= 1 - 0.3 * _clip(1.3 + distance, 0, 1)  # a thin dark contour
    if texture is None:
        colour = colour * shade[..., None]
    else:
        other, pattern = texture
        rows, columns = pixel_centres(len(image))
        blend = pattern(columns[:, window[1]], rows[window[0]])[..., None]
        colour = (colour + blend * (other - colour)) * shade[..., None]
    part = image[window]
    part += alpha[..., None] * (_clip(colour, 0, 1) - part)
    return alpha


def pixels_of(x0, y0, x1, y1, size):
    """Slices of the pixels that a box can touch, or None if it is outside of the image of that side."""
    left, top = max(int(x0 - 2), 0), max(int(y0 - 2), 0)
    right, bottom = min(int(x1 + 3), size), min(int(y1 + 3), size)
    return (slice(top, bottom), slice(left, right)) if right - left > 1 and bottom - top > 1 else None


def draw_colour(rng, saturation=SATURATION, value=VALUE):
    """RGB in [0, 1], float32 [3]; hue uniform."""
    return np.array(_draw_colour(rng, saturation, value), np.float32)


def _draw_colour(rng, saturation, value):
    """[RGB] in Python's numbers: for three of them NumPy takes twice the time."""
    hue, s, v = rng.uniform(0, 6), rng.uniform(*saturation), rng.uniform(*value)
    wheel = (min(max(abs((hue + place) % 6 - 3) - 1, 0), 1) for place in _HUES)
    return [v * (1 - s + s * share) for share in wheel]


def draw_palette(ground, rng):
    """Four colours that stand out against the ground and against each other."""
    ground, chosen = ground.tolist(), []
    while len(chosen) < 4:
        for _ in range(30):
            colour = _draw_colour(rng, SATURATION, VALUE)
            if _apart(colour, ground) > 0.6 and all(_apart(colour, other) > 0.45 for other in chosen):
                break
        chosen.append(colour)
    return [np.array(colour, np.float32) for colour in chosen]


def _apart(a, b):
    """Sum of the differences of two colours, in [0, 3]."""
    return abs(a[0] - b[0]) + abs(a[1] - b[1]) + abs(a[2] - b[2])


def draw_texture(rng):
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
        return share * _clip(0.5 + 2 * a, 0, 1)

    return draw_colour(rng), pattern


def draw_ground(rng, size=SIZE):
    """Neutral ground with grain, waves or tiles and a light, all at random angles: (image [size, size, 3], its colour).
    """
    rows, columns = pixel_centres(size)
    knots = _knots(size)
    tone = draw_colour(rng, saturation=(0, 0.25), value=(0.3, 0.9))
    field = np.zeros((size, size), np.float32)
    for weights, cells in zip(knots, _CELLS, strict=True):
        field += rng.uniform(0, 0.09) * (weights @ rng.normal(size=(cells, cells)).astype(np.float32) @ weights.T)
    for _ in range(rng.integers(0, 3)):
        field += rng.uniform(0, 0.12) * (draw_texture(rng)[1](columns, rows) - 0.3)
    angle = rng.uniform(0, 2 * np.pi)
    across = (math.cos(angle) * (columns - size / 2) + math.sin(angle) * (rows - size / 2)) / size
    field += rng.uniform(0, 0.5) * across
    tint = draw_colour(rng, saturation=(0, 0.25), value=(0.3, 0.9)) - tone
    patches = _clip(knots[1] @ rng.uniform(-1, 1, (6, 6)).astype(np.float32) @ knots[1].T, 0, 1)
    image = (tone + rng.uniform(0, 0.8) * patches[..., None] * tint) * (1 + field[..., None])
    return image.astype(np.float32), tone


def _clip(values, low, high):
    """np.clip without what it looks at first."""
    return np.minimum(np.maximum(values, low), high)


def _slopes(values):
    """np.gradient of a plane: (down, right), central differences inside and one-sided ones at the border."""
    down, right = np.empty_like(values), np.empty_like(values)
    np.subtract(values[2:], values[:-2], out=down[1:-1])
    np.subtract(values[:, 2:], values[:, :-2], out=right[:, 1:-1])
    down[1:-1] /= 2
    right[:, 1:-1] /= 2
    down[0], down[-1] = values[1] - values[0], values[-1] - values[-2]
    right[:, 0], right[:, -1] = values[:, 1] - values[:, 0], values[:, -1] - values[:, -2]
    return down, right


@functools.cache
def pixel_centres(size):
    """(rows, columns): the coordinates y and x of all pixels, float32 [size, 1] and [1, size]."""
    return tuple(places.astype(np.float32) + 0.5 for places in np.ogrid[0:size, 0:size])


@functools.cache
def _knots(size):
    """For each number of _CELLS the weights of as many equally spaced knots for each pixel, [size, cells]; the same
    read backwards."""
    weights = []
    for cells in _CELLS:
        place = np.linspace(0, cells - 1, size)[:, None]
        weights.append(np.maximum(0, 1 - np.abs(place - np.arange(cells))).astype(np.float32))
    return weights
