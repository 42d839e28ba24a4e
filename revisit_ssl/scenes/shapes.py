"""Shapes as signed distances, in the object's own units: x to the right, y down; negative inside."""

import dataclasses
from collections.abc import Callable

import numpy as np

_RIGHT_ANGLE = np.array([1, -1], np.float32)


@dataclasses.dataclass(frozen=True)
class Shape:
    """``distance(x, y)`` of arrays of points, and the box that holds what is inside."""

    distance: Callable
    box: tuple  # x0, y0, x1, y1


@dataclasses.dataclass(frozen=True)
class Part:
    """A shape of an object and how it is painted."""

    shape: Shape
    paint: int  # which of the object's colours
    textured: bool = False


def ellipse(x, y, rx, ry=None):
    """Around (x, y) with radii rx and ry; a circle without ry."""
    ry = rx if ry is None else ry

    def distance(u, v):
        p, q = (u - x) / rx, (v - y) / ry
        k = np.sqrt(p * p + q * q) + 1e-6
        return k * (k - 1) / np.sqrt((p / rx) ** 2 + (q / ry) ** 2 + 1e-6)

    return Shape(distance, (x - rx, y - ry, x + rx, y + ry))


def box(x0, y0, x1, y1, radius=0.0):
    """From (x0, y0) to (x1, y1), its corners rounded by ``radius``."""
    x, y, w, h = (x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) / 2, (y1 - y0) / 2
    radius = min(radius, w, h)

    def distance(u, v):
        p, q = np.abs(u - x) - (w - radius), np.abs(v - y) - (h - radius)
        outside = np.sqrt(np.maximum(p, 0) ** 2 + np.maximum(q, 0) ** 2)
        return outside + np.minimum(np.maximum(p, q), 0) - radius

    return Shape(distance, (x0, y0, x1, y1))


def polygon(*points, radius=0.0):
    """Convex; ``radius`` rounds its corners by growing it."""
    following = np.array([*points[1:], points[0]], np.float32)
    points = np.array(points, np.float32)
    ahead = following - points
    turn = np.sign(np.sum(points[:, 0] * following[:, 1] - points[:, 1] * following[:, 0]))
    normals = turn * (ahead[:, ::-1] * _RIGHT_ANGLE) / np.sqrt((ahead * ahead).sum(1, keepdims=True))

    def distance(u, v):
        sides = [nx * (u - x) + ny * (v - y) for (x, y), (nx, ny) in zip(points, normals, strict=True)]
        return np.maximum.reduce(sides) - radius

    low, high = points.min(0) - radius, points.max(0) + radius
    return Shape(distance, (*low.tolist(), *high.tolist()))


def line(x0, y0, x1, y1, radius, radius_end=None):
    """A capsule, thicker or thinner at its end if asked."""
    dx, dy = x1 - x0, y1 - y0
    length2 = dx * dx + dy * dy
    grow = 0.0 if radius_end is None else radius_end - radius

    def distance(u, v):
        t = np.clip(((u - x0) * dx + (v - y0) * dy) / length2, 0, 1)
        return np.hypot(u - x0 - t * dx, v - y0 - t * dy) - (radius + grow * t)

    r = max(radius, radius + grow)
    return Shape(distance, (min(x0, x1) - r, min(y0, y1) - r, max(x0, x1) + r, max(y0, y1) + r))


def union(*shapes):
    """What is inside of any of the shapes."""
    boxes = np.array([s.box for s in shapes])
    box = (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())
    return Shape(lambda u, v: np.minimum.reduce([s.distance(u, v) for s in shapes]), box)


def cut(shape, hole, box=None):
    """A shape without what is inside of another; ``box``: of what is left, if smaller."""
    return Shape(lambda u, v: np.maximum(shape.distance(u, v), -hole.distance(u, v)), box or shape.box)


def top_half(shape, y):
    """The part of a shape above ``y``."""
    x0, y0, x1, _ = shape.box
    return Shape(lambda u, v: np.maximum(shape.distance(u, v), v - y), (x0, y0, x1, y))
