"""Image folders: which files are there, what their classes are, which of them can be read."""

import dataclasses
import functools
import hashlib
import os
import sys

import numpy as np
import tensorflow as tf

from revisit_ssl.data import splits
from revisit_ssl.data.dataset import Dataset
from revisit_ssl.data.decoding import decode
from revisit_ssl.data.sources import Source
from revisit_ssl.errors import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
CHECK_ALL = 5000  # folders up to this size are decoded once when opened; of larger ones only what looks broken
HELD = 0.1  # share of the images that makes a validation (and a test) split where no folder does
_NAMES = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}


@dataclasses.dataclass(frozen=True)
class Listing:
    """paths [N] sorted; labels int64 [N] and class_names, or None for unlabelled images; fingerprint of all that."""

    paths: list
    labels: np.ndarray | None
    class_names: tuple | None
    fingerprint: str


class Folder(Dataset):
    """folder:/path/to/images, which ``open_source`` asks for with that path as the place; see ``list_split``."""

    argument = "the path of a folder of images"

    def open(self, request):
        return listed_source(request, list_split(request.place, request.split))


def listed_source(request, listing):
    """The Source of a ``Listing``, for the ``Request`` that asked for it."""
    with tf.device("CPU"):
        paths = tf.constant(listing.paths)
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

    Sub-folders train, val, test are the splits where they exist. With train and val only, val is the test set and the
    validation images are held out of train, as for ImageNet. Without any, 10 % are validation and 10 % test images.
    Held-out images are drawn once for all runs, each class giving its share. In a split every first-level folder is a
    class; images that lie in the split itself, or all in one folder, are unlabelled.

    Args:
        root: folder, local or on a file system that ``tf.io.gfile`` knows (gs://).
        split: "train", "val", "trainval" or "test".

    Returns:
        ``Listing``. Files that are no readable images are left out, with one warning that counts them.

    Raises:
        InputError: no such folder; no images; classes that train does not have.
    """
    if not tf.io.gfile.isdir(root):
        what = "is a file" if tf.io.gfile.exists(root) else "does not exist"
        raise InputError(f"image folder {root} {what}; expected folder:/path with images or class folders in it")
    entries = {name.rstrip("/") for name in tf.io.gfile.listdir(root)}
    found = {s: next((n for n in names if n in entries), None) for s, names in _NAMES.items()}
    folder = {s: os.path.join(root, name) for s, name in found.items() if name}
    if "train" not in folder or len(folder) == 1:
        return _part(scan(folder.get("train", root)), split, with_test=True)
    train = scan(folder["train"])
    if split == "test":
        return scan(folder.get("test") or folder["val"], train.class_names)
    if len(folder) == 2:
        return train if split == "trainval" else _part(train, split, with_test=False)
    if split == "train":
        return train
    val = scan(folder["val"], train.class_names)
    return val if split == "val" else _join(train, val)


def _part(listing, split, *, with_test):
    """One split of images that come undivided: val and test are HELD of every class each, the same for all runs."""
    labels = np.zeros(len(listing.paths), np.int64) if listing.labels is None else listing.labels
    kept, held = splits.holdout(labels, 2 * HELD if with_test else HELD, seed=0)
    rows = {"train": kept, "val": held}
    if with_test:
        val, test = splits.holdout(labels[held], 0.5, seed=0)
        rows |= {"val": held[val], "test": held[test]}
    rows["trainval"] = np.sort(np.concatenate([rows["train"], rows["val"]]))
    rows = rows[split]
    if len(rows) == 0:
        count = len(listing.paths)
        raise InputError(f"{count} images are too few to hold out a {split} split; make sub-folders train, val, test")
    return take(listing, rows, split)


def take(listing, rows, name):
    """The Listing of the images ``rows`` (int [n]); ``name`` goes into its fingerprint."""
    labels = None if listing.labels is None else listing.labels[rows]
    paths = [listing.paths[i] for i in rows]
    return Listing(paths, labels, listing.class_names, f"{listing.fingerprint}-{name}")


def _join(a, b):
    labels = None if a.labels is None else np.concatenate([a.labels, b.labels])
    return Listing(a.paths + b.paths, labels, a.class_names, f"{a.fingerprint}-{b.fingerprint}")


def scan(folder, class_names=None, only=False):
    """The Listing of all readable images under ``folder``; with ``class_names``, labelled by their order.

    Raises:
        InputError: no images; a class that is not among ``class_names``, unless ``only`` passes over others.
    """
    paths, others = [], []
    walk = tf.io.gfile.walk(folder) if "://" in folder else os.walk(folder, followlinks=True)
    for place, folders, files in walk:
        if isinstance(folders, list):
            folders[:] = [name for name in folders if not name.startswith(".")]
            if only and place == folder:
                folders[:], files = [name for name in folders if name in class_names], []
        for name in files:
            if not name.startswith("."):
                (paths if name.lower().endswith(EXTENSIONS) else others).append(os.path.join(place, name))
    paths.sort()
    sizes = [(0, 0) if "://" in path else _size_and_time(path) for path in paths]
    broken = _unreadable(folder, tuple(paths), tuple(sizes), tuple(sorted(others)))
    sizes = [size for i, (size, _) in enumerate(sizes) if i not in broken]
    paths = [path for i, path in enumerate(paths) if i not in broken]
    if not paths:
        raise InputError(f"image folder {folder} holds no readable images; expected {' '.join(EXTENSIONS)} files")

    relative = [
        os.path.relpath(path, folder) if "://" not in folder else path[len(folder) :].strip("/") for path in paths
    ]
    tops = [name.split("/", 1)[0] if "/" in name else None for name in relative]
    found = tuple(sorted(set(tops) - {None}))
    labelled = None not in tops and (len(found) > 1 or class_names is not None)
    labels = None
    if labelled:
        class_names = class_names or found
        unknown = sorted(set(found) - set(class_names))
        if unknown:
            raise InputError(f"class {unknown[0]!r} of {folder} is not among the {len(class_names)} classes of train")
        numbers = {name: number for number, name in enumerate(class_names)}
        labels = np.array([numbers[top] for top in tops], np.int64)
    digest = hashlib.sha256("\n".join(relative).encode())
    digest.update(np.array(sizes, np.int64).tobytes())
    return Listing(paths, labels, class_names if labelled else None, digest.hexdigest()[:16])


def _size_and_time(path):
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


@functools.lru_cache(maxsize=8)
def _unreadable(folder, paths, sizes, others):
    """Places of the files that do not decode (large folders: of those without a proper beginning and end).

    Counts them and the files of ``others`` in one warning. Remembered, so that the splits of a folder are not checked
    and warned of one by one; ``sizes`` is there to check again when a file has changed.
    """
    check = list(range(len(paths)))
    if len(paths) > CHECK_ALL:
        remote = "://" in paths[0]  # opening a million remote files takes longer than an epoch
        check = [] if remote else [i for i in check if not _looks_whole(paths[i], sizes[i][0])]
    bad = set(check)
    if check:
        data = tf.data.Dataset.from_tensor_slices((check, [paths[i] for i in check]))
        # The decoded size is asked for so that the graph cannot leave the decoding out.
        data = data.map(
            lambda i, path: (i, tf.size(decode(tf.io.read_file(path)))), num_parallel_calls=tf.data.AUTOTUNE
        )
        bad -= {int(i) for i, size in data.ignore_errors().as_numpy_iterator() if size > 0}
    names = [*(paths[i] for i in sorted(bad)), *others]
    if names:
        what = "file that is no readable image" if len(names) == 1 else "files that are no readable images"
        print(f"warning: {folder}: skipped {len(names)} {what} ({names[0]})", file=sys.stderr)
    return frozenset(bad)


def _looks_whole(path, size):
    """A JPEG or PNG that starts and ends as it should; other kinds are always decoded."""
    with open(path, "rb") as file:
        head = file.read(8)
        file.seek(max(0, size - 64))
        tail = file.read()
    return (head.startswith(b"\xff\xd8\xff") and b"\xff\xd9" in tail) or (head[1:4] == b"PNG" and b"IEND" in tail)
