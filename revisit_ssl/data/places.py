"""Places205 (Zhou et al., NIPS 2014): the official archives as they unpack, or one folder per class.

There is no TFDS builder, and the images are given out only at places.csail.mit.edu, after registration.
"""

import hashlib
import os

import numpy as np
import tensorflow as tf

from revisit_ssl.data import folders, splits
from revisit_ssl.data.dataset import Dataset
from revisit_ssl.errors import DataNotHere, InputError

CLASSES = 205
# The official validation images are the test set. The paper "follows the same procedure" as for ImageNet, so that its
# own validation images come out of train; it does not say how many. 50,046 there, about as many here.
HELD = 50_000
IMAGES = os.path.join("data", "vision", "torralba", "deeplearning", "images256")  # imagesPlaces205_resize.tar.gz
LISTS = "trainvalsplit_places205"  # trainvalsplit_places205.tar.gz
HOW = (
    f"get imagesPlaces205_resize.tar.gz and {LISTS}.tar.gz from places.csail.mit.edu and unpack both there, or make "
    "train/<class> and val/<class>, or set --data-dir"
)


class Places205(Dataset):
    """Places205 in the folder places205; see ``list_split``."""

    sizes = {"trainval": 2_448_873, "test": 20_500}
    held = HELD / 2_448_873  # every class gives its rounded share to val
    num_classes = CLASSES

    def open(self, request):
        listing = list_split(os.path.join(request.place, "places205"), request.split)
        return folders.listed_source(request, listing)

    def how_to_get(self, place):
        return HOW


def list_split(root, split):
    """The images of one split of Places205.

    Args:
        root: folder with data/vision/torralba/deeplearning/images256/ and trainvalsplit_places205/ (both archives
            unpacked there), or with train/<class>/ and val/<class>/.
        split: "train", "val" (HELD images of train, at most a tenth, each class giving its share, the same for all
            runs), "trainval" (train and val), "test" (the official validation images).

    Returns:
        ``folders.Listing``. Labels are the official numbers, which are the classes in alphabetical order.

    Raises:
        InputError: nothing there, or not all of it; a damaged list.
    """
    if tf.io.gfile.isdir(os.path.join(root, LISTS)):
        part = _official(root, "val" if split == "test" else "train")
    elif all(tf.io.gfile.isdir(os.path.join(root, name)) for name in ("train", "val")):
        # The official test images have no labels, so that folders take them for none.
        part = folders.list_split(root, "test" if split == "test" else "trainval")
        found = len(part.class_names or ())
        if found != CLASSES:
            where = os.path.join(root, "train")
            raise InputError(f"{where} holds {found} class folders, not {CLASSES}; use folder:{root} for a part of it")
    else:
        raise DataNotHere(f"data set places205 is not in {root}; {HOW}")
    if split in ("trainval", "test"):
        return part
    kept, held = splits.holdout(part.labels, min(folders.HELD, HELD / len(part.paths)), seed=0)
    return folders.take(part, kept if split == "train" else held, split)


def _official(root, name):
    """The Listing of train_places205.csv or val_places205.csv: lines "a/abbey/gsun_0003.jpg 0"."""
    path = os.path.join(root, LISTS, f"{name}_places205.csv")
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            text = file.read().decode(errors="replace")
    except tf.errors.OpError:
        raise InputError(f"{path} is missing; unpack trainvalsplit_places205.tar.gz in {root} again") from None
    lines = [line.split() for line in text.splitlines() if line.strip()]
    numbers = {str(i) for i in range(CLASSES)}
    wrong = next((i for i, x in enumerate(lines, 1) if len(x) != 2 or x[1] not in numbers), None)
    if wrong or not lines:
        raise InputError(f"{path} line {wrong or 1} is not an image with its class, a number up to 204; get it again")
    images, labels = zip(*lines, strict=True)
    labels = np.array(labels, np.int64)
    paths = [os.path.join(root, IMAGES, image) for image in images]
    if not tf.io.gfile.exists(paths[0]):
        raise InputError(f"{paths[0]} is missing, the first of {path}; unpack imagesPlaces205_resize.tar.gz in {root}")
    return folders.Listing(paths, labels, _class_names(images, labels), hashlib.sha256(text.encode()).hexdigest()[:16])


def _class_names(images, labels):
    """205 names, from the folder of each class's first image: b/bakery/shop is bakery_shop."""
    names = list(map(str, range(CLASSES)))
    for label, first in zip(*np.unique(labels, return_index=True), strict=True):
        names[label] = "_".join(images[first].split("/")[1:-1]) or names[label]
    return tuple(names)
