"""Parts of ImageNet (ILSVRC-2012): some of its classes, or some images of each; ``imagenet_lists`` has published lists.

Classes are WordNet numbers (n01440764) and labels follow their order, as in every common copy of ImageNet. The images
lie in folders train/<class>/ and val/<class>/, or in the TFDS set imagenet2012: either is opened here. A part of the
TFDS set has to read the whole set's files once to find its images, and again in every epoch: folders are faster.
"""

import dataclasses
import importlib.resources
import os
import re
import sys

import numpy as np
import tensorflow as tf

from revisit_ssl.data import folders, splits
from revisit_ssl.data.dataset import Dataset, sizes_of
from revisit_ssl.data.sources import keep_if_small
from revisit_ssl.errors import InputError

FOLDER = "imagenet"  # in the folder of the TFDS sets: train/<class>/*.JPEG and val/<class>/*.JPEG
HELD = 50_046 / 1_281_167  # share of the training images that validates, as of the whole ImageNet
FIRST = 260  # training images of a class in imagenet20
CLASS = re.compile(r"n\d{8}")


class ImageNetPart(Dataset):
    """What all parts of ImageNet share: where the whole of it is looked for."""

    def how_to_get(self, place):
        return "ImageNet, as folders imagenet/train/<class> and imagenet/val/<class> or from TFDS"

    def of_classes(self, request, class_names):
        """The split of some classes of ImageNet, from its folders where they are, else from TFDS's imagenet2012.

        Args:
            request: ``Request``.
            class_names: the classes, in the order of their labels.

        Returns:
            ``Source``.

        Raises:
            InputError: ImageNet or one of the classes is not there.
        """
        if has_folders(request.place):
            return folders.listed_source(request, list_classes(request.place, request.split, class_names))
        return finished(request, self.whole(request, request.split).of_classes(class_names))

    def whole(self, request, split):
        """TFDS's imagenet2012, a split of which the request asks a part of; InputError where it is not there."""
        try:
            source = request.other("imagenet2012", split)
        except InputError as error:
            raise type(error)(f"{request.name} needs {self.how_to_get(request.place)}: {error}") from None
        if source.kind == "stream":
            faster = f"folders train/<class> and val/<class> in {os.path.join(request.place, FOLDER)} are faster"
            text = f"{request.name}: looking through all files of imagenet2012 ({split}); {faster}"
            print(text, file=sys.stderr, flush=True)
        return source


class ImageNet100(ImageNetPart):
    """The 100 classes that CMC drew."""

    sizes = {"trainval": 126_689, "test": 5_000}
    held = HELD  # every class gives its rounded share to val
    num_classes = 100

    def open(self, request):
        return self.of_classes(request, imagenet100_classes())


class ImageNet20(ImageNetPart):
    """A fifth of ImageNet: the first FIRST training images of each class; all of its test images."""

    sizes = sizes_of(250_000, 10_000, 50_000)
    num_classes = 1000

    def open(self, request):
        place, split = request.place, request.split
        if has_folders(place):
            classes = folder_classes(place)
            if split == "test":
                return folders.listed_source(request, list_classes(place, split, classes))
            whole = list_classes(place, "trainval", classes)
            part = folders.take(whole, first_rows(whole.paths, whole.labels, FIRST), f"first{FIRST}")
            return folders.listed_source(request, folders.take(part, part_rows(part.labels, split), split))
        if split == "test":
            return finished(request, self.whole(request, split))
        source = self.whole(request, "trainval")
        source = source.subset(first_rows(source.text("file_name"), source.labels, FIRST))
        return finished(request, source.subset(part_rows(source.labels, split)))


def finished(request, source):
    """``source`` under the name and split that were asked for, in memory where it is small enough."""
    return keep_if_small(dataclasses.replace(source, name=request.name, split=request.split))


def imagenet100_classes():
    """The 100 classes of ImageNet-100, ascending; a tuple of str."""
    text = importlib.resources.files("revisit_ssl.data").joinpath("lists/imagenet100.txt").read_text()
    return tuple(line for line in text.split("\n") if line and not line.startswith("#"))


def has_folders(place):
    """Whether ImageNet's folders lie in ``place``/imagenet."""
    return all(tf.io.gfile.isdir(os.path.join(place, FOLDER, name)) for name in ("train", "val"))


def folder_classes(place):
    """The classes that ``place``/imagenet/train has, ascending; a tuple of str."""
    names = tf.io.gfile.listdir(os.path.join(place, FOLDER, "train"))
    return tuple(sorted(name.rstrip("/") for name in names if CLASS.fullmatch(name.rstrip("/"))))


def first_rows(names, labels, count):
    """Rows of each class's first images in the order of their file names, as OBoW (arXiv:2012.11552) takes a fifth.

    Args:
        names: [N] str, paths or file names, in any order.
        labels: int [N].
        count: of a class.

    Returns:
        int64 [n] ascending.
    """
    names = [os.path.basename(name) for name in names]
    kept, taken = [], {}
    for row in sorted(range(len(names)), key=names.__getitem__):
        label = int(labels[row])
        taken[label] = taken.get(label, 0) + 1
        kept += [row] if taken[label] <= count else []
    return np.sort(np.array(kept, np.int64))


def part_rows(labels, split):
    """Rows of a split of some training images: "trainval" is all of them, "val" HELD of every class; int64 [n]."""
    if split == "trainval":
        return np.arange(len(labels))
    kept, held = splits.holdout(labels, HELD, seed=0)
    return kept if split == "train" else held


def list_classes(place, split, class_names):
    """One split of some classes of ImageNet's folders.

    Args:
        place: folder that holds imagenet/train/<class>/ and imagenet/val/<class>/; other classes are passed over.
        split: "train", "val" (HELD of every class of train/, the same images for all runs), "trainval" (all of
            train/), "test" (val/).
        class_names: the classes, in the order of their labels.

    Returns:
        ``folders.Listing``.

    Raises:
        InputError: a class is not there.
    """
    root = os.path.join(place, FOLDER, "val" if split == "test" else "train")
    part = folders.scan(root, class_names)
    absent = np.setdiff1d(np.arange(len(class_names)), part.labels)
    if len(absent):
        raise InputError(
            f"{root} has {len(class_names) - len(absent)} of the {len(class_names)} classes; "
            f"{class_names[absent[0]]} is missing"
        )
    if split in ("trainval", "test"):
        return part
    return folders.take(part, part_rows(part.labels, split), split)
