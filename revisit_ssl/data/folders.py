"""Image folders: what is in them, divided into splits."""

import dataclasses
import functools
import hashlib
import os

import numpy as np
import tensorflow as tf

from revisit_ssl.data import folder_report, looking, splits
from revisit_ssl.data.dataset import Dataset
from revisit_ssl.data.layouts import find_layout
from revisit_ssl.data.looking import shown
from revisit_ssl.data.sources import Source
from revisit_ssl.errors import InputError, require

HELD = 0.1  # share of the images that makes a validation (and a test) split where no folder does


@dataclasses.dataclass(frozen=True)
class Listing:
    """paths [N] sorted; labels int64 [N] and class_names, or None for unlabelled images; fingerprint of all that and of
    what the images hold."""

    paths: list
    labels: np.ndarray | None
    class_names: tuple | None
    fingerprint: str


class Folder(Dataset):
    """folder:/path/to/images, which ``open_source`` asks for with that path as the place; see ``list_split``."""

    argument = "the path of a folder of images"

    def open(self, request):
        return listed_source(request, list_split(request.place, request.split))

    def about(self, place):
        return divide(place).about

    def report(self, place):
        return [*divide(place).about, divide(place).doubles]


def listed_source(request, listing):
    """The Source of a ``Listing``, for the ``Request`` that asked for it."""
    with tf.device("CPU"):
        paths = tf.constant([looking.as_bytes(path) for path in listing.paths])
    return Source(
        name=request.name,
        split=request.split,
        kind="files",
        num_examples=len(listing.paths),
        fingerprint=f"folder-{listing.fingerprint}",
        class_names=listing.class_names,
        known_labels=listing.labels,
        paths=paths,
    )


def list_split(root, split):
    """The images of one split of a folder.

    Sub-folders train, val, test, in any common spelling (Training, valid, test_set, val2017), are the splits where they
    exist. With train and val only, val is the test set and the validation images are held out of train, as for
    ImageNet. Without any, 10 % are validation and 10 % test images. Held-out images are drawn once for all runs, each
    class giving its share. In a split every first-level folder is a class; images that lie in the split itself, or all
    in one folder, are unlabelled. A lone folder that holds everything is looked through.

    Where train has classes, a few images beside their folders are left out, and a val or test without class folders is
    as if it were not there: nothing could be scored on it. Each real file counts once, whatever links there are.

    Args:
        root: folder, local or on a file system that ``tf.io.gfile`` knows (gs://).
        split: "train", "val", "trainval" or "test".

    Returns:
        ``Listing``. What is left out is said once for the whole folder, a warning for each reason.

    Raises:
        InputError: no such folder; no images; no train, or two; classes that train does not have; too few images.
    """
    parts = divide(root).parts
    if not parts[split].paths:
        count = len(parts["trainval"].paths)
        raise InputError(f"{count} images are too few to hold out a {split} split; make sub-folders train, val, test")
    return parts[split]


def take(listing, rows, name):
    """The Listing of the images ``rows`` (int [n]); ``name`` goes into its fingerprint."""
    labels = None if listing.labels is None else listing.labels[rows]
    paths = [listing.paths[i] for i in rows]
    return Listing(paths, labels, listing.class_names, f"{listing.fingerprint}-{name}")


@dataclasses.dataclass(frozen=True)
class Division:
    """parts: {split: Listing} of all four splits; about and doubles: what ``folder_report`` says of them."""

    parts: dict
    about: list
    doubles: str


@functools.lru_cache(maxsize=8)
def divide(root):
    """The ``Division`` of a folder, read once and remembered until ``divide.cache_clear()``; see ``list_split``."""
    _check_folder(root)
    found = looking.walk(root)
    layout = find_layout(root, list(found.files))
    digests, sides = _read(root, found, [name for names in layout.names.values() for name in names])
    if not digests:
        folder_report.warn_of(root, found.skipped)
        kinds = " ".join(looking.EXTENSIONS)
        raise InputError(f"image folder {shown(root)} holds no readable images; expected {kinds} files")
    left_out = layout.left_out
    layout = find_layout(root, list(digests))  # once more: a class may have lost its last image
    layout = dataclasses.replace(layout, left_out=left_out | layout.left_out)
    listings = {
        split: _listing(root, names, [layout.class_of(split, name) for name in names], layout.classes, digests)
        for split, names in layout.names.items()
    }
    parts = _parts(listings)
    seen = [name for names in [digests, *layout.left_out.values()] for name in names]
    folder_report.warn_of(root, found.skipped, layout.left_out, _empty(found.folders, seen), parts)
    about = folder_report.about(root, layout, parts, sides, found.skipped)
    return Division(parts, about, folder_report.doubles(root, parts, digests))


def scan(root, class_names):
    """The Listing of the images in the folders ``class_names`` of ``root``, labelled in that order; others are passed
    over.

    Raises:
        InputError: no images.
    """
    found = looking.walk(root, class_names)
    digests, _ = _read(root, found, [name for name in found.files if "/" in name])
    folder_report.warn_of(root, found.skipped)
    require(digests, f"image folder {root} holds no readable images of the classes that are asked for")
    return _listing(root, list(digests), [name.partition("/")[0] for name in digests], tuple(class_names), digests)


def _check_folder(root):
    local = "://" not in root
    # Of what lies in it any name will do, but this one stands in recipes, results and reports.
    require(shown(root) == root, f"the name of image folder {shown(root)} is not UTF-8; rename it or link to it")
    if not (os.path.isdir(root) if local else tf.io.gfile.isdir(root)):
        there = os.path.lexists(root) if local else tf.io.gfile.exists(root)
        what = "is a file" if there else "does not exist"
        raise InputError(f"image folder {shown(root)} {what}; expected folder:/path with images or class folders in it")


def _read(root, found, names):
    """({name: digest} of the files that can be read, sides of some of them); the others join what is skipped."""
    contents = looking.read_contents([os.path.join(root, name) for name in names], [found.files[n] for n in names])
    bad = [name for name, digest in zip(names, contents.digests, strict=True) if digest == -1]
    if bad:
        found.skipped[looking.BROKEN] = bad + found.skipped.get(looking.BROKEN, [])
    digests = {name: int(digest) for name, digest in zip(names, contents.digests, strict=True) if digest != -1}
    return digests, contents.sides


def _listing(root, names, tops, classes, digests):
    """The Listing of these images; ``tops``: the class folder of each."""
    labels = None
    if classes:
        numbers = {name: number for number, name in enumerate(classes)}
        labels = np.array([numbers[top] for top in tops], np.int64)
    digest = hashlib.sha256(os.fsencode("\n".join([*names, *(classes or ())])))
    digest.update(np.array([digests[name] for name in names], "<i8").tobytes())
    paths = [os.path.join(root, name) for name in names]
    return Listing(paths, labels, tuple(map(shown, classes)) if classes else None, digest.hexdigest()[:16])


def _parts(listings):
    """{split: Listing} of all four splits."""
    train = listings["train"]
    if len(listings) == 1:
        return _held_out(train, with_test=True)
    if len(listings) == 2:
        return _held_out(train, with_test=False) | {"trainval": train, "test": listings.get("test") or listings["val"]}
    return listings | {"trainval": _join(train, listings["val"])}


def _held_out(listing, *, with_test):
    """The splits of images that come undivided: val and test are HELD of every class each, the same for all runs."""
    labels = np.zeros(len(listing.paths), np.int64) if listing.labels is None else listing.labels
    kept, held = splits.holdout(labels, 2 * HELD if with_test else HELD, seed=0, least=2 if with_test else 1)
    rows = {"train": kept, "val": held}
    if with_test:
        val, test = splits.holdout(labels[held], 0.5, seed=0)
        rows |= {"val": held[val], "test": held[test]}
    rows["trainval"] = np.sort(np.concatenate([rows["train"], rows["val"]]))
    return {split: take(listing, part, split) for split, part in rows.items()}


def _join(a, b):
    labels = None if a.labels is None else np.concatenate([a.labels, b.labels])
    return Listing(a.paths + b.paths, labels, a.class_names, f"{a.fingerprint}-{b.fingerprint}")


def _empty(folders, names):
    """The folders without an image, and not those inside of them."""
    filled = {""}
    for name in names:
        while (name := name.rpartition("/")[0]) not in filled:
            filled.add(name)
    return sorted(name for name in folders - filled if name.rpartition("/")[0] in filled)


def readable(root):
    """{name: digest of what it holds} of all images below a folder that can be read, by their paths from it; whatever
    else lies there is passed over without a word."""
    found = looking.walk(root)
    digests, _ = _read(root, found, list(found.files))
    bad = [name for name in found.files if name not in digests]
    folder_report.warn_of(root, {looking.BROKEN: bad} if bad else {})
    return digests


def of_files(paths, names, digests):
    """The Listing of unlabelled images in a given order; ``names`` are what they are called wherever they lie."""
    digest = hashlib.sha256(os.fsencode("\n".join(names)))
    digest.update(np.array(digests, "<i8").tobytes())
    return Listing(list(paths), None, None, digest.hexdigest()[:16])
