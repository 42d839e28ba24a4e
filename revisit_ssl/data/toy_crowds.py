"""The images of toy_detection, drawn when they are opened: several toy objects in a scene, each of ten classes."""

import functools

import numpy as np

from revisit_ssl.data.dataset import Dataset, sizes_of
from revisit_ssl.data.sources import Source
from revisit_ssl.errors import DataNotHere
from revisit_ssl.scenes import CLASSES
from revisit_ssl.scenes.crowds import SIZE
from revisit_ssl.scenes.drawing import drawn_crowds
from revisit_ssl.startup import cores

FIRST = {"train": 0, "val": 1_000_000, "test": 2_000_000}  # number of the first scene
COUNTS = {"train": 1600, "val": 200, "test": 400}


@functools.lru_cache(maxsize=6)
def crowds_of(split, count):
    """The first ``count`` scenes of "train", "val" or "test": tuple of ``crowds.Crowd``.

    Drawn by as many processes as there are cores, some 11 ms a scene, and kept as long as the process lives: a pretext
    and a detector look at the same ones.
    """
    return tuple(drawn_crowds(FIRST[split], count, cores()))


class ToyCrowds(Dataset):
    """toy_detection without its boxes: pictures of no single thing, as COCO's. Several labels each: which of the ten
    classes of toy_scenes are to be seen, -1 where hardly (``crowds.HARDLY``)."""

    sizes = sizes_of(**COUNTS)
    multi_label_names = CLASSES
    image_shape = (SIZE, SIZE, 3)

    def open(self, request):
        parts = ("train", "val") if request.split == "trainval" else (request.split,)
        if not request.make:  # a plan needs to know its size alone
            raise DataNotHere(f"data set {request.name} is not in memory; it is drawn where it is used")
        scenes = [scene for part in parts for scene in crowds_of(part, COUNTS[part])]
        labels = np.zeros((len(scenes), len(CLASSES)), np.int8)
        for row, scene in zip(labels, scenes, strict=True):
            row[scene.labels[scene.difficult]] = -1
            row[scene.labels[~scene.difficult]] = 1
        return Source(
            name=request.name, split=request.split, kind="memory", num_examples=len(scenes),
            fingerprint=f"toy_detection-1-{request.split}", images=np.stack([scene.image for scene in scenes]),
            multi_labels=labels, multi_label_names=CLASSES,
        )
