"""The embedded scenes: 64x64 colour images of one upright object each, drawn by NumPy alone.

Only the object says where up is: its silhouette and its own light, which comes from above. Texture, light and clutter
of the ground lie at random angles, so a network that solves the rotation task has looked at the object. (With a horizon
or one light for the whole scene the task is solved by that shortcut and the features are worth no more than random
ones.) Colours are drawn independently of the class.

Every scene is a function of its instance number alone. Shapes are signed distances in the object's own frame, turned
into pixel coverage and shaded along their edges.
"""

import dataclasses
import functools

import numpy as np

from revisit_ssl.scenes.objects import OBJECTS
from revisit_ssl.scenes.painting import SIZE, draw_clutter, draw_ground, place_object

CLASSES = tuple(OBJECTS)

SPLITS = {"train": (0, 6000), "test": (1_000_000, 2000)}  # of toy_scenes: first scene, number of scenes

SEED = 20190109


@dataclasses.dataclass(frozen=True)
class Scene:
    """image: uint8 [64, 64, 3]; mask: uint8 [64, 64], 0 or 255; label: 0..9."""

    image: np.ndarray
    mask: np.ndarray
    label: int


def draw_scene(instance, *, with_object=True):
    """Scene number ``instance``; without its object the ground is the same and ``mask`` is empty."""
    block, place = divmod(instance, len(CLASSES))
    label = _labels(block)[place]
    rng = np.random.default_rng([SEED, 1, instance])
    image, tone = draw_ground(rng)
    draw_clutter(image, rng)
    grain = rng.normal(0, rng.uniform(0.004, 0.02), image.shape).astype(np.float32)
    cover = np.zeros((SIZE, SIZE), np.float32)
    if with_object:
        place_object(image, cover, OBJECTS[CLASSES[label]](rng), tone, rng)
    pixels = (np.clip(image + grain, 0, 1) * 255 + 0.5).astype(np.uint8)
    return Scene(pixels, np.where(cover > 0.5, 255, 0).astype(np.uint8), label)


@functools.lru_cache(maxsize=1)
def _labels(block):
    """The ten classes in the order in which ten scenes in a row show them."""
    return np.random.default_rng([SEED, 0, block]).permutation(len(CLASSES)).tolist()
