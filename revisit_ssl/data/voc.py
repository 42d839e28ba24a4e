"""PASCAL VOC 2007 classification: several classes an image, from TFDS's labels or from the folder VOCdevkit."""

import dataclasses
import hashlib
import os

import numpy as np
import tensorflow as tf

from revisit_ssl.data.sources import Source
from revisit_ssl.data.tfds_sets import TfdsSet
from revisit_ssl.errors import InputError

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
FOLDER = "VOCdevkit"
_VALUES = {"1": 1, "-1": 0, "0": -1}  # the lists' present, absent and difficult as ours
_ARCHIVES = "VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar (host.robots.ox.ac.uk/pascal/VOC/voc2007)"


@dataclasses.dataclass(frozen=True)
class VOC(TfdsSet):
    """VOC 2007 from the folder of its archives where that is named or there, else from TFDS: several labels each."""

    multi_label_names = CLASSES
    label: str | None = None
    argument: str = "the folder VOCdevkit of the official archives (voc:/path/VOCdevkit)"

    def open(self, request):
        root = find(os.path.expanduser(request.argument) or request.place)
        if root:
            return _from_folder(request, root)
        if request.argument:
            raise InputError(
                f"no VOC 2007 at {os.path.expanduser(request.argument)}; expected VOC2007 with ImageSets/Main: "
                f"{_unpack(request.place)}"
            )
        return super().open(request)

    def read(self, builder, request):
        from revisit_ssl.data import tfds_reading  # imports TFDS

        source = super().read(builder, request)
        said = tfds_reading.examples(builder, self.splits[request.split], "labels", "labels_no_difficult")
        return dataclasses.replace(source, multi_labels=from_tfds(said), multi_label_names=CLASSES)

    def how_to_get(self, place):
        return f"{super().how_to_get(place)}, or {_unpack(place)}"


def _from_folder(request, root):
    paths, labels, digest = list_split(root, request.split)
    with tf.device("CPU"):
        return Source(
            name=request.name,
            split=request.split,
            kind="files",
            num_examples=len(paths),
            fingerprint=f"voc2007-{request.split}-{digest}",
            multi_labels=labels,
            multi_label_names=CLASSES,
            paths=tf.constant(paths),
        )


def find(place):
    """The folder VOC2007 in ``place``, in place/VOC2007 or in place/VOCdevkit/VOC2007; None where there is none."""
    for path in (place, os.path.join(place, "VOC2007"), os.path.join(place, FOLDER, "VOC2007")):
        if tf.io.gfile.isdir(os.path.join(path, "ImageSets", "Main")):
            return path
    return None


def list_split(root, split):
    """The images of one split and what they show.

    Args:
        root: folder VOC2007 with ImageSets/Main, JPEGImages.
        split: "train", "val", "trainval" or "test".

    Returns:
        (paths [N] in the list's order, int8 [N, 20], fingerprint): 1 where an object of the class is in the image, 0
        where none is, -1 where all of them are marked difficult.

    Raises:
        InputError: a list or an image is missing, or a line is not what the archives hold.
    """
    lists = os.path.join(root, "ImageSets", "Main")
    names = [line.split()[0] for line in _lines(os.path.join(lists, f"{split}.txt"))]
    labels = np.empty((len(names), len(CLASSES)), np.int8)
    for c, name in enumerate(CLASSES):
        path = os.path.join(lists, f"{name}_{'test' if split == 'test' else 'trainval'}.txt")
        said = {}
        for number, line in enumerate(_lines(path), 1):
            image, _, value = line.partition(" ")
            if value.strip() not in _VALUES:
                raise InputError(f"{path} line {number} is not an image with 1, 0 or -1; unpack {_ARCHIVES} again")
            said[image] = _VALUES[value.strip()]
        left_out = next((image for image in names if image not in said), None)
        if left_out:
            raise InputError(f"{path} says nothing of image {left_out} of {split}.txt; unpack {_ARCHIVES} again")
        labels[:, c] = [said[image] for image in names]
    paths = [os.path.join(root, "JPEGImages", f"{name}.jpg") for name in names]
    missing = next((path for path in paths if not tf.io.gfile.exists(path)), None)
    if missing:
        raise InputError(f"{missing} is missing, an image of {split}.txt; unpack {_ARCHIVES} again")
    digest = hashlib.sha256("\n".join(names).encode() + labels.tobytes()).hexdigest()[:16]
    return paths, labels, digest


def from_tfds(examples):
    """int8 [N, 20] as of ``list_split``, from the features "labels" and "labels_no_difficult" of TFDS's voc."""
    rows = []
    for example in examples:
        row = np.zeros(len(CLASSES), np.int8)
        row[example["labels"]] = -1
        row[example["labels_no_difficult"]] = 1
        rows.append(row)
    return np.stack(rows)


def _unpack(place):
    return f"unpack {_ARCHIVES} into {place}, or name their folder: voc:/path/{FOLDER}"


def _lines(path):
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except tf.errors.OpError:
        lines = []
    if not lines:
        raise InputError(f"{path} is missing or empty; unpack {_ARCHIVES} again")
    return lines
