"""Boxes in VOC's layout: PASCAL VOC 2007 and 2012, from their folder VOCdevkit or from TFDS, and a folder of one's own.

VOC counts pixels from 1 and both ends of a box belong to it, so that xmin and ymin become an edge by taking 1 away.
"""

import dataclasses
import functools
import math
import os
import xml.etree.ElementTree as ElementTree

import numpy as np
import tensorflow as tf

from revisit_ssl.data.voc import CLASSES, FOLDER
from revisit_ssl.detection.annotations import Annotated, DetectionSet, check_boxes
from revisit_ssl.detection.dividing import PARTS, arranged, held_out
from revisit_ssl.detection.reading import by_stem, loader, read_bytes, size_of
from revisit_ssl.errors import DataNotHere, InputError, require, unknown

SIDES = ("ymin", "xmin", "ymax", "xmax")
_TFDS = {"train": "train", "val": "validation", "trainval": "train+validation", "test": "test"}


@dataclasses.dataclass(frozen=True, eq=False)
class VOCSet:
    """VOC of some years: from VOCdevkit where that is named or there, else from TFDS. Tested on 2007.

    Difficult objects train, and are ignored in the test. Images of TFDS are kept encoded in memory, 0.5 GB of 2007.

    Attributes:
        years: of its images.
        tfds: {year: name of the set in TFDS}.
        metric: see ``DetectionSet``.
    """

    years: tuple
    tfds: dict
    metric: str = "voc07"
    argument: str = "the folder VOCdevkit of the official archives"

    def open(self, name, argument, place):
        """``DetectionSet`` with "train", "val", "trainval", and "test" where 2007 is among the years.

        Raises:
            DataNotHere: a year is not there.
        """
        folders = {year: year_folder(argument or place, year) for year in self.years}
        missing = [year for year, folder in folders.items() if folder is None]
        builders = {}
        if missing and not argument and len(missing) == len(folders):
            builders = {year: self._builder(year, place) for year in self.years}
            missing = [year for year, builder in builders.items() if builder is None]
        if missing:
            at = argument or os.path.join(place, FOLDER)
            raise DataNotHere(f"no VOC {missing[0]} at {at}; {self.how_to_get(at, missing[0])}")
        of_year = {year: self._of_builder(builders[year], year) for year in builders} or {
            year: functools.partial(read_list, folder, classes=CLASSES) for year, folder in folders.items()
        }
        parts = {
            split: functools.partial(_joined, [of_year[year] for year in self.years], split)
            for split in ("train", "val", "trainval")
        }
        if 2007 in self.years:  # the annotations of the tests of later years are not public
            parts["test"] = functools.partial(_joined, [of_year[2007]], "test")
        return DetectionSet(name=name, classes=CLASSES, parts=parts, metric=self.metric, absent="zero")

    def _builder(self, year, place):
        from revisit_ssl.data import tfds_reading  # imports TFDS

        return tfds_reading.find_builder(self.tfds[year], place, make=False)

    def _of_builder(self, builder, year):
        return lambda split: read_tfds(builder, _TFDS[split], self.tfds[year])

    def how_to_get(self, place, year=None):
        """For an error line."""
        year = year or self.years[0]
        return (
            f"unpack the archives of host.robots.ox.ac.uk/pascal/VOC/voc{year} there, so that it holds VOC{year}, or "
            f"get {self.tfds[year]} of TFDS"
        )


def _joined(readers, split):
    return tuple(one for read in readers for one in read(split))


def year_folder(place, year):
    """The folder VOC<year> in ``place``, in place/VOCdevkit or ``place`` itself; None where there is none."""
    name = f"VOC{year}"
    own = [place] if os.path.basename(os.path.normpath(place)) == name else []
    for path in (*own, os.path.join(place, name), os.path.join(place, FOLDER, name)):
        if tf.io.gfile.isdir(os.path.join(path, "ImageSets", "Main")):
            return path
    return None


def read_list(root, split, classes):
    """The images of ImageSets/Main/<split>.txt of a folder in VOC's layout: tuple of ``Annotated``.

    Raises:
        InputError: a list, an annotation or an image is missing, or an annotation says what cannot be.
    """
    names = _listed(os.path.join(root, "ImageSets", "Main", f"{split}.txt"))
    pictures = by_stem(os.path.join(root, "JPEGImages"), os.path.join(root, "images"))
    annotations = os.path.join(root, "Annotations")
    return tuple(read_annotation(os.path.join(annotations, f"{name}.xml"), classes, pictures) for name in names)


def _listed(path):
    """The names of a list of images, the first word of each line; InputError where there is none."""
    names = [line.split()[0] for line in read_bytes(path).decode(errors="replace").splitlines() if line.strip()]
    require(names, f"{path} names no image; write one a line, without its ending")
    return names


def read_annotation(path, classes, pictures):
    """One XML file as ``Annotated``.

    Args:
        path: of the file; its name without ending is the image's.
        classes: names that there may be.
        pictures: {name without ending: path of the image}.

    Raises:
        InputError: it has no image, is no annotation, or says what cannot be.
    """
    name = os.path.splitext(os.path.basename(path))[0]
    tree = parse(path)
    require(name in pictures, f"{path} has no image {name}; put it beside the others, or leave the annotation out")
    size = [_number(tree, f"size/{side}", path, default=0) for side in ("height", "width")]
    if min(size) < 1:  # some tools leave it out
        size = size_of(pictures[name], read_bytes(pictures[name]))
    size = tuple(int(side) for side in size)
    objects = tree.findall("object")
    boxes = np.zeros((len(objects), 4))
    labels, difficult = np.zeros(len(objects), np.int32), np.zeros(len(objects), bool)
    for k, one in enumerate(objects):
        label = (one.findtext("name") or "").strip()
        if label not in classes:
            raise unknown("class", label, classes, of=f" in {path}")
        labels[k] = classes.index(label)
        difficult[k] = _number(one, "difficult", path, default=0) == 1
        boxes[k] = [_number(one, f"bndbox/{side}", path) for side in SIDES]
    boxes -= (1, 1, 0, 0)
    check_boxes(boxes, size, [f"object {k + 1} of {path}" for k in range(len(boxes))])
    return Annotated(
        image=loader(pictures[name], size), size=size, boxes=np.clip(boxes, 0, [*size, *size]), classes=labels,
        difficult=difficult, image_id=name,
    )


def parse(path):
    """The root element of an XML file; InputError where it is none."""
    try:
        return ElementTree.fromstring(read_bytes(path))
    except ElementTree.ParseError as error:
        raise InputError(f"{path} is no XML ({error}); get it again") from None


def _number(element, name, path, default=None):
    text = element.findtext(name)
    if text is None and default is not None:
        return default
    try:
        value = float(text)
        if math.isfinite(value):
            return value
    except (TypeError, ValueError):
        pass
    said = "nothing" if text is None else repr(text.strip())
    raise InputError(f"{path} says {said} for {name}, where a number has to stand; mend it")


def read_tfds(builder, part, name):
    """A split of TFDS's voc as tuple of ``Annotated``; boxes are a share of the sides there, and not shifted."""
    from revisit_ssl.data import tfds_reading

    found = []
    features = ("image/filename", "objects")
    for example in tfds_reading.examples(builder, part, *features, encoded=("image",)):
        file, contents, objects = example["image/filename"].decode(), example["image"], example["objects"]
        size = size_of(f"{file} of {name}", contents)
        boxes = np.rint(objects["bbox"].astype(np.float64).reshape(-1, 4) * [*size, *size]) - (1, 1, 0, 0)
        found.append(
            Annotated(
                image=loader(f"{file} of {name}", size, contents), size=size, boxes=np.clip(boxes, 0, [*size, *size]),
                classes=objects["label"], difficult=objects["is_difficult"], image_id=os.path.splitext(file)[0],
            )
        )
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class VOCFolder:
    """voc:/path, boxes of one's own in VOC's layout: Annotations/*.xml, and JPEGImages or images; or sub-folders train,
    val and test, each with XML files and images. ImageSets/Main/<split>.txt divides it where it is there; else a tenth
    is held out, the same always. Classes are the lines of classes.txt, or else all names in the XML files, sorted.
    """

    argument: str = "the folder of Annotations and JPEGImages"

    def open(self, name, argument, place):
        """``DetectionSet``; InputError where the folder is not in that layout."""
        require(argument, "data set voc needs a folder behind its name: voc:/path; PASCAL's are voc07, voc12, voc0712")
        for year, key in ((2007, "voc07"), (2012, "voc12")):
            meant = f"{argument} is PASCAL VOC {year}; name it {key}:{argument}"
            require(year_folder(argument, year) is None, meant)
        files = _divided(argument)
        if not files:
            raise DataNotHere(f"{argument} has no XML files in Annotations, nor in train; that is VOC's layout")
        classes = _classes(argument, files)

        def read(paths, pictures):
            return tuple(read_annotation(path, classes, pictures) for path in paths)

        parts = {part: functools.partial(read, *found) for part, found in files.items()}
        return DetectionSet(name=name, classes=classes, parts=arranged(parts, held_out), metric="voc12")


def _divided(root):
    """{part: (paths of XML files, {name: path of image})} of a folder of one's own; {} where there is nothing."""
    lists, annotations = os.path.join(root, "ImageSets", "Main"), os.path.join(root, "Annotations")
    pictures = by_stem(os.path.join(root, "JPEGImages"), os.path.join(root, "images"), annotations)
    if tf.io.gfile.isdir(annotations):
        every = tf.io.gfile.glob(os.path.join(annotations, "*.xml"))
        listed = {part: os.path.join(lists, f"{part}.txt") for part in PARTS}
        listed = {part: path for part, path in listed.items() if tf.io.gfile.exists(path)}
        both = os.path.join(lists, "trainval.txt")
        if "train" not in listed and tf.io.gfile.exists(both):
            listed["train"] = both
        if "train" not in listed:
            return {"train": (sorted(every), pictures)} if every else {}
        names = {part: _listed(path) for part, path in listed.items()}
        return {part: ([os.path.join(annotations, f"{n}.xml") for n in own], pictures) for part, own in names.items()}
    found = {}
    for part, names in PARTS.items():
        for folder in (os.path.join(root, name) for name in names):
            files = sorted(tf.io.gfile.glob(os.path.join(folder, "*.xml")))
            if files and part not in found:
                found[part] = files, by_stem(folder)
    return found if "train" in found else {}


def _classes(root, files):
    path = os.path.join(root, "classes.txt")
    if tf.io.gfile.exists(path):
        names = [line.strip() for line in read_bytes(path).decode(errors="replace").splitlines()]
        return tuple(name for name in names if name)
    names = {
        (one.findtext("name") or "").strip()
        for paths, _ in files.values() for file in paths for one in parse(file).findall("object")
    }
    require(names - {""}, f"no annotation in {root} has an object; there is nothing to detect")
    return tuple(sorted(names - {""}))
