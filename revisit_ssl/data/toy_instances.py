"""A small set for instance retrieval that is drawn when it is opened: the same toy objects in other scenes, upright."""

import numpy as np

from revisit_ssl.data import queries
from revisit_ssl.data.dataset import Dataset
from revisit_ssl.data.sources import Source
from revisit_ssl.scenes import SIZE
from revisit_ssl.scenes.instances import draw_view

OBJECTS, VIEWS = 30, 4  # what is asked for, each seen so often in the database
OTHERS, LEARNED = 80, 120  # further objects in the database, and others that a whitening is learned on


class ToyInstances(Dataset):
    """test: the database of OBJECTS * VIEWS + OTHERS scenes, asked with one more view of each object, its box given.
    Ten classes, so that an object's likes are among the others. train: LEARNED scenes of objects that are not there.
    """

    splits = ("train", "test")
    asks = True
    sizes = {"train": LEARNED, "test": OBJECTS * VIEWS + OTHERS}
    image_shape = (SIZE, SIZE, 3)

    def open(self, request):
        if request.split == "train":
            first = OBJECTS + OTHERS
            return _source(request.name, "train", [draw_view(first + i, 0)[0] for i in range(LEARNED)])
        shown = [(i, view) for i in range(OBJECTS) for view in range(VIEWS)]
        shown += [(OBJECTS + i, 0) for i in range(OTHERS)]
        asked = [draw_view(i, VIEWS) for i in range(OBJECTS)]
        relation = np.equal.outer(np.arange(OBJECTS), [i for i, _ in shown]).astype(np.int8)
        found = queries.Queries(
            source=_source(request.name, "queries", [image for image, _ in asked]),
            relation=relation,
            boxes=np.array([box for _, box in asked], np.float64),
            listed=np.tile([0, VIEWS, 0, 0], (OBJECTS, 1)),
            measures=queries.ONE,
            names=tuple(f"object {i}" for i in range(OBJECTS)),
        )
        return _source(request.name, "test", [draw_view(*which)[0] for which in shown], queries=found)


def _source(name, split, images, **more):
    return Source(
        name=name, split=split, kind="memory", num_examples=len(images), fingerprint=f"toy_instances-1-{split}",
        images=np.stack(images), **more,
    )
