"""Scenes of the same objects again: an object keeps its form, paints and textures; all else is drawn anew."""

import numpy as np

from revisit_ssl.scenes import CLASSES, SEED
from revisit_ssl.scenes.objects import OBJECTS
from revisit_ssl.scenes.painting import SIZE, draw_clutter, draw_ground, draw_look, place_object

NEUTRAL = np.full(3, 0.5, np.float32)  # what the paints of an object stand out against, whatever ground it is put on


def draw_view(identity, view):
    """A scene of object number ``identity``, upright: (uint8 [64, 64, 3], its box x1, y1, x2, y2 in pixels).

    Object i is of class i modulo 10. Size, place, mirroring, light, ground, clutter and grain are those of the view.
    """
    own = np.random.default_rng([SEED, 2, identity])
    parts, look = OBJECTS[CLASSES[identity % len(CLASSES)]](own), draw_look(NEUTRAL, own)
    rng = np.random.default_rng([SEED, 3, identity, view])
    image, tone = draw_ground(rng)
    draw_clutter(image, rng)
    grain = rng.normal(0, rng.uniform(0.004, 0.02), image.shape).astype(np.float32)
    cover = np.zeros((SIZE, SIZE), np.float32)
    place_object(image, cover, parts, tone, rng, look)
    pixels = (np.clip(image + grain, 0, 1) * 255 + 0.5).astype(np.uint8)
    rows, columns = (np.flatnonzero((cover > 0.5).any(axis=axis)) for axis in (1, 0))
    return pixels, (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
