"""Long-tailed CIFAR: exponentially fewer images of each further class, or the images of a published index list.

CLD does not state how its CIFAR-10-LT and CIFAR-100-LT were made. The recipe that nearly everybody uses is that of
LDAM-DRW (Cao et al., NeurIPS 2019, arXiv:1906.07413), and so do we, down to the very images.
"""

import dataclasses
import io

import numpy as np
import tensorflow as tf

from revisit_ssl.data import folders
from revisit_ssl.data.dataset import Dataset
from revisit_ssl.errors import InputError

FACTOR = 100  # imbalance factor where none is named: largest class over smallest class


@dataclasses.dataclass(frozen=True)
class LongTail(Dataset):
    """The long-tailed version of a balanced set of TFDS, out of the memory of the whole set.

    Attributes:
        whole: name of the balanced set, whose text feature "id" ends in an image's place in the official order.
        each: training images of each class there.
        test: test images there.
        num_classes, image_shape: see ``Dataset``.
    """

    whole: str
    each: int
    test: int
    num_classes: int
    image_shape: tuple
    argument: str = "an imbalance factor or a list of images (cifar10_lt:50, cifar10_lt:/path/indices.npy)"

    def open(self, request):
        wanted = parse(request.argument)
        if request.split == "test":
            return dataclasses.replace(request.other(self.whole, "test"), name=request.name)
        source = request.other(self.whole, "trainval")
        # TFDS has shuffled the set; the id of an image, train_00007, is its place in the official files.
        official = [int(text.rpartition("_")[2]) for text in source.text("id")]
        rows = split_rows(source.labels, np.array(official), wanted)[request.split]
        return dataclasses.replace(source.subset(rows), name=request.name, split=request.split)

    def known_sizes(self, argument=""):
        try:
            factor = float(argument or FACTOR)
        except ValueError:  # a list
            return {}
        counts = class_counts(self.each, self.num_classes, factor)
        held = round(folders.HELD * self.each)
        shared = sum(max(0, count + held - self.each) for count in counts)  # of val, what comes out of trainval
        val, trainval = held * self.num_classes, sum(counts)
        return {"train": trainval - shared, "val": val, "trainval": trainval, "test": self.test}


def class_counts(largest, classes, factor):
    """Images of each class: int(largest * factor^(-c / (classes - 1))) for c = 0..classes-1, a list of int."""
    share = 1 / factor  # share**x, not factor**-x: the last bit decides some int()
    return [int(largest * share ** (c / (classes - 1))) for c in range(classes)]


def draw(labels, factor, seed=0):
    """Which images of a balanced set belong to its long-tailed version.

    Args:
        labels: int [N] in the official order of the set.
        factor: imbalance factor, at least 1.
        seed: int; with 0 these are LDAM-DRW's own images, which come from NumPy's old generator.

    Returns:
        int64 [n] ascending positions in that order; class c has ``class_counts``[c] of them.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    random = np.random.RandomState(seed)
    chosen = []
    for c, count in zip(classes, class_counts(len(labels) // len(classes), len(classes), factor), strict=True):
        places = np.flatnonzero(labels == c)
        random.shuffle(places)
        chosen.append(places[:count])
    return np.sort(np.concatenate(chosen))


def parse(argument):
    """What stands behind a set's name: "50", a file (``read_indices``), or "" for FACTOR.

    Returns:
        An imbalance factor, float; or int64 [n] ascending, a published list of images.

    Raises:
        InputError: a factor below 1; a list that cannot be used.
    """
    try:
        factor = float(argument or FACTOR)
    except ValueError:
        return read_indices(argument)
    if not 1 <= factor < np.inf:
        raise InputError(f"imbalance factor {argument} must be at least 1, such as 100, 50 or 10")
    return factor


def split_rows(labels, official, wanted):
    """Rows of the splits of a long-tailed set.

    "trainval" is the published set, with all of its images. "val" is balanced: of every class a tenth of what the
    balanced set has of it on average, from images outside of "trainval" as far as there are any. The largest class has
    none left, so its validation images come out of "trainval"; "train" is "trainval" without "val".

    Args:
        labels: int [N] of the balanced set, as stored.
        official: int [N], the place of each stored image in the official order.
        wanted: from ``parse``, an imbalance factor or the images.

    Returns:
        {"train" | "val" | "trainval": int64 ascending rows of the stored set}.

    Raises:
        InputError: images that the set does not have.
    """
    labels, stored = np.asarray(labels), np.argsort(official)  # stored: row of each official place
    places = draw(labels[stored], wanted) if isinstance(wanted, float) else wanted
    if places[-1] >= len(labels):
        raise InputError(
            f"the list names image {places[-1]}, but the {len(labels)} training images are 0 to {len(labels) - 1}"
        )
    outside = np.setdiff1d(np.arange(len(labels)), places)
    random = np.random.default_rng([0, 4])
    classes = np.unique(labels)
    held = []
    for c in classes:
        first, then = (random.permutation(part[labels[stored][part] == c]) for part in (outside, places))
        held.append(np.concatenate([first, then])[: round(folders.HELD * len(labels) / len(classes))])
    held = np.concatenate(held)
    rows = {"train": np.setdiff1d(places, held), "val": held, "trainval": places}
    return {split: np.sort(stored[part]) for split, part in rows.items()}


def read_indices(path):
    """A published list of images, as numbers in the official order, from 0.

    Args:
        path: a text file of numbers, a .npy file, or a .npz file, with #name behind it where it holds several arrays.

    Returns:
        int64 [n] ascending.

    Raises:
        InputError: no such file or array; not numbers; a negative one; none; one of them twice.
    """
    path, _, key = path.partition("#")
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            contents = file.read()
    except tf.errors.OpError:
        raise InputError(
            f"no index list {path!r}; expected an imbalance factor, such as cifar10_lt:50, or a .txt, .npy or .npz file"
        ) from None
    try:
        if path.endswith((".npy", ".npz")):
            loaded = np.load(io.BytesIO(contents), allow_pickle=False)
            if path.endswith(".npz"):
                if key not in loaded and (key or len(loaded.files) > 1):
                    raise InputError(f"{path} has no array {key!r}; add #name to it, one of {', '.join(loaded.files)}")
                loaded = loaded[key or loaded.files[0]]
        else:
            loaded = np.array([int(word) for word in contents.decode().split()], np.int64)
    except InputError:
        raise
    except Exception as error:  # NumPy and zipfile raise several kinds
        raise InputError(f"{path} is no list of image numbers ({error}); get it again") from None
    if loaded.ndim != 1 or loaded.dtype.kind not in "iu" or not len(loaded):
        raise InputError(f"{path} holds {loaded.dtype} {list(loaded.shape)}; expected whole numbers [n], n at least 1")
    if loaded.min() < 0:
        raise InputError(f"{path} names image {loaded.min()}; the first one is 0")
    indices = np.unique(loaded.astype(np.int64))
    if len(indices) < len(loaded):
        raise InputError(f"{path} names {len(loaded) - len(indices)} images more than once; expected each at most once")
    return indices
