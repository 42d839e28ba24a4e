"""Parts of ImageNet (ILSVRC-2012): some of its classes, or the images of published lists.

Classes are WordNet numbers (n01440764) and labels follow their order, as in every common copy of ImageNet. The images
lie in folders train/<class>/ and val/<class>/, or in the TFDS set imagenet2012: ``sources`` opens either. A part of the
TFDS set has to read the whole set's files once to find its images, and again in every epoch: folders are faster.
"""

import dataclasses
import gzip
import hashlib
import importlib.resources
import os
import re

import numpy as np
import tensorflow as tf

from revisit_ssl.data import folders, splits
from revisit_ssl.errors import InputError

FOLDER = "imagenet"  # in the folder of the TFDS sets: train/<class>/*.JPEG and val/<class>/*.JPEG
LT_FOLDER = "ImageNet_LT"  # there: ImageNet_LT_train.txt, ImageNet_LT_val.txt, ImageNet_LT_test.txt
HELD = 50_046 / 1_281_167  # share of the training images that validates, as of the whole ImageNet
FIRST = 260  # training images of a class in imagenet20
_CLASS = re.compile(r"n\d{8}")


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
    return tuple(sorted(name.rstrip("/") for name in names if _CLASS.fullmatch(name.rstrip("/"))))


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
    part = folders.scan(root, tuple(class_names), only=True)
    absent = np.setdiff1d(np.arange(len(class_names)), part.labels)
    if len(absent):
        raise InputError(
            f"{root} has {len(class_names) - len(absent)} of the {len(class_names)} classes; "
            f"{class_names[absent[0]]} is missing"
        )
    if split in ("trainval", "test"):
        return part
    return folders.take(part, part_rows(part.labels, split), split)


@dataclasses.dataclass(frozen=True)
class Entries:
    """Images of a published list, or of a part of it.

    Attributes:
        names: as in the list, "train/n01440764/n01440764_762.JPEG" or "n01440764_762.JPEG".
        labels: int64 [n].
        class_names: tuple of str, of the whole training list.
        path: the list.
        fingerprint: str.
    """

    names: tuple
    labels: np.ndarray
    class_names: tuple
    path: str
    fingerprint: str


def read_entries(path, split):
    """The images of one split, by published lists.

    Args:
        path: a list, such as SimCLR's 1percent.txt: "trainval" is all of it, "val" a tenth of every class, "train" the
            rest; there is no "test". Or a folder with one list that is called ...train.txt, one ...val.txt and one
            ...test.txt, such as those of ImageNet-LT: "train" and "trainval" are the training list, since the images of
            "val" lie outside of it. Lists may be packed as .txt.gz.
        split: "train", "val", "trainval" or "test".

    Returns:
        ``Entries``, or None for the test images of a single list.

    Raises:
        InputError: no list, or several; a line that names no image; a class that the training list does not have.
    """
    if tf.io.gfile.isdir(path):
        train = _find(path, "train")
        wanted = train if split in ("train", "trainval") else _find(path, split)
        return _read(wanted, _class_names(train))
    entries = _read(path, _class_names(path))
    if split == "test":
        return None
    if split == "trainval":
        return entries
    kept, held = splits.holdout(entries.labels, folders.HELD, seed=0)
    rows = kept if split == "train" else held
    if len(rows) == 0:
        raise InputError(f"{path} is too short to hold out a {split} split; use trainval")
    return dataclasses.replace(
        entries,
        names=tuple(entries.names[i] for i in rows),
        labels=entries.labels[rows],
        fingerprint=f"{entries.fingerprint}-{split}",
    )


def list_entries(place, entries):
    """The ``folders.Listing`` of these images in ``place``/imagenet; InputError where the first one is not there."""
    root = os.path.join(place, FOLDER)
    whole = [name if "/" in name else f"train/{name.partition('_')[0]}/{name}" for name in entries.names]
    paths = [os.path.join(root, name) for name in whole]
    if not tf.io.gfile.exists(paths[0]):
        raise InputError(f"{paths[0]} is missing, the first of {entries.path}; expected ImageNet's images in {root}")
    return folders.Listing(paths, entries.labels, entries.class_names, entries.fingerprint)


def entry_rows(file_names, entries):
    """Rows of the images in a set that holds them by file name ("n01440764_762.JPEG").

    Args:
        file_names: [N] str, all different.
        entries: ``Entries``.

    Returns:
        int64 [n] ascending.

    Raises:
        InputError: some are not there.
    """
    places = {name: row for row, name in enumerate(file_names)}
    rows = [places.get(os.path.basename(name), -1) for name in entries.names]
    if -1 in rows:
        raise InputError(
            f"imagenet2012 lacks {rows.count(-1)} of the {len(rows)} images of {entries.path}, "
            f"such as {entries.names[rows.index(-1)]}"
        )
    return np.sort(np.array(rows, np.int64))


def _find(folder, split):
    found = sorted(name for name in tf.io.gfile.listdir(folder) if re.search(rf"{split}\.txt(\.gz)?$", name))
    if len(found) != 1:
        what = f"the lists {' and '.join(found)}" if found else f"no list that ends in {split}.txt"
        raise InputError(f"{folder} holds {what}; expected one such as ImageNet_LT_{split}.txt")
    return os.path.join(folder, found[0])


def _class_names(path):
    return tuple(sorted({_class(name) for name in _lines(path)[0]}))


def _read(path, class_names):
    names, digest = _lines(path)
    numbers = {name: number for number, name in enumerate(class_names)}
    classes = [_class(name) for name in names]
    unknown = next((c for c in classes if c not in numbers), None)
    if unknown:
        raise InputError(f"class {unknown} of {path} is not among the {len(class_names)} classes of the training list")
    labels = np.array([numbers[c] for c in classes], np.int64)
    return Entries(names, labels, class_names, path, digest)


def _lines(path):
    """(names, digest) of a list. What stands behind a name is its label in that list, which its class says already."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            contents = file.read()
        text = (gzip.decompress(contents) if path.endswith(".gz") else contents).decode()
    except tf.errors.OpError:
        raise InputError(f"no list of images {path!r}; expected a file such as 1percent.txt, or a folder") from None
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list ({error}); get it again") from None
    names = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words and (len(words) > 2 or _class(words[0]) is None):
            raise InputError(
                f"{path} line {number} is {line[:60]!r}; expected train/n01440764/n01440764_762.JPEG 0, "
                f"or n01440764_762.JPEG"
            )
        names += words[:1]
    if not names:
        raise InputError(f"{path} names no images; get it again")
    if len(set(names)) < len(names):
        raise InputError(f"{path} names {len(names) - len(set(names))} images more than once; get it again")
    return tuple(names), hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _class(name):
    """n01440764 of train/n01440764/n01440764_762.JPEG, of val/n01440764/ILSVRC2012_val_00029930.JPEG and the like."""
    parts = name.split("/")
    found = _CLASS.fullmatch(parts[-2]) if len(parts) > 1 else _CLASS.match(parts[-1])
    return found and found.group()
