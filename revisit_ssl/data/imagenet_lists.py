"""Published lists of ImageNet's images, which make sets of their own: ImageNet-LT, 1 % and 10 % of the labels."""

import dataclasses
import gzip
import hashlib
import os
import re

import numpy as np
import tensorflow as tf

from revisit_ssl.data import folders, splits
from revisit_ssl.data.imagenet import CLASS, FOLDER, ImageNetPart, finished, has_folders
from revisit_ssl.errors import DataNotHere, InputError

CLASSES = 1000  # of ImageNet
LT_FOLDER = "ImageNet_LT"  # in the folder of the TFDS sets: ImageNet_LT_train.txt, ..._val.txt, ..._test.txt


class ImageNetList(ImageNetPart):
    """The images of a list that is named; see ``read_entries``."""

    argument = "a list of ImageNet's images (imagenet_list:/path/1percent.txt)"
    fewer_of = "imagenet2012"

    def open(self, request):
        path = self.lists(request)
        entries = read_entries(path, request.split)
        if entries is None:  # the official test images of the list's classes
            return self.of_classes(request, read_entries(path, "trainval").class_names)
        if has_folders(request.place):
            return folders.listed_source(request, list_entries(request.place, entries))
        source = self.whole(request, "test" if request.split == "test" else "trainval")
        source = source.subset(entry_rows(source.text("file_name"), entries))
        return finished(request, source.of_classes(entries.class_names))

    def labelled(self, argument=""):
        path = os.path.expanduser(argument)
        if tf.io.gfile.isdir(path):  # with validation and test images of its own
            return None
        entries = read_entries(path, "trainval")
        return len(entries.names) if len(entries.class_names) == CLASSES else None

    def lists(self, request):
        """Path of the list or of the folder of lists; InputError where the request has to name one."""
        if not request.argument:
            raise InputError("data set imagenet_list needs a list behind its name: imagenet_list:/path/1percent.txt")
        return os.path.expanduser(request.argument)


class ImageNetLT(ImageNetList):
    """ImageNet-LT (Liu et al., CVPR 2019) by its three lists, in LT_FOLDER unless another folder is named."""

    argument = "a folder of ImageNet_LT_train.txt, ImageNet_LT_val.txt and ImageNet_LT_test.txt"
    sizes = {"train": 115_846, "val": 20_000, "trainval": 115_846, "test": 50_000}  # val: none of the others
    num_classes = CLASSES
    fewer_of = ""  # a long tail is another question than few labels

    def lists(self, request):
        path = os.path.expanduser(request.argument) or os.path.join(request.place, LT_FOLDER)
        if not request.argument and not tf.io.gfile.isdir(path):
            raise DataNotHere(f"data set imagenet_lt is not in {request.place}; {self.how_to_get(request.place)}")
        return path

    def how_to_get(self, place):
        return (
            "put its lists ImageNet_LT_train.txt, ImageNet_LT_val.txt and ImageNet_LT_test.txt "
            f"(github.com/zhmiao/OpenLongTailRecognition-OLTR) into {os.path.join(place, LT_FOLDER)}, or name their "
            "folder: imagenet_lt:/path"
        )


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
    found = CLASS.fullmatch(parts[-2]) if len(parts) > 1 else CLASS.match(parts[-1])
    return found and found.group()
