"""A few images with boxes and masks, for the probes that find objects."""

import numpy as np

from revisit_ssl.detection.annotations import Annotated
from revisit_ssl.detection.sources import BoxSource
from revisit_ssl.evaluators.bench import Bench
from revisit_ssl.recipe import BenchSpec, Recipe, ViewSpec

SIDE, CLASSES = 64, 3


def squares(count, seed=0):
    """Annotated images of SIDE pixels, each with two squares in the colours of their classes on noise."""
    draw, found = np.random.default_rng(seed), []
    for number in range(count):
        image = draw.integers(100, 150, (SIDE, SIDE, 3)).astype(np.uint8)
        classes, boxes = draw.integers(0, CLASSES, 2), []
        masks = np.zeros((2, SIDE, SIDE), bool)
        for i, kind in enumerate(classes):
            side = int(draw.integers(16, 24))
            top, left = int(draw.integers(0, SIDE - side)), int(draw.integers(0, SIDE // 2 - side)) + i * SIDE // 2
            image[top : top + side, left : left + side] = 20
            image[top : top + side, left : left + side, kind] = 230
            masks[i, top : top + side, left : left + side] = True
            boxes.append([top, left, top + side, left + side])
        found.append(Annotated(image=image, boxes=np.array(boxes), classes=classes, masks=masks, image_id=number))
    return tuple(found)


def box_bench(backbone, counts, seed=0):
    """A Bench of ``squares``, as many for each split as ``counts`` says."""
    views = ViewSpec(size=SIDE, normalize="pm1")
    recipe = Recipe(pretext="rotation", views=views, bench=BenchSpec(endpoints=("pre_logits",)), seed=seed)
    kind = {"name": "squares", "class_names": ("red", "green", "blue"), "metric": "voc12", "masks": True}
    drawn = {split: squares(count, i) for i, (split, count) in enumerate(counts.items())}
    sources = {split: BoxSource(split=split, images=images, **kind) for split, images in drawn.items()}
    return Bench(backbone, sources, recipe)
