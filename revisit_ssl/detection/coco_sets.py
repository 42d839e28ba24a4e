"""Boxes and masks in COCO's layout: COCO 2017 and sets of one's own. TFDS has no masks of it, so it is not asked."""

import dataclasses
import functools
import json
import os

import numpy as np
import tensorflow as tf

from revisit_ssl.detection.annotations import Annotated, DetectionSet, check_boxes
from revisit_ssl.detection.dividing import PARTS, arranged, held_out
from revisit_ssl.detection.reading import loader, read_bytes
from revisit_ssl.detection.run_lengths import as_masks, check_segmentation
from revisit_ssl.errors import DataNotHere, InputError, require
from revisit_ssl.runs.telling import tell

FOLDERS = ("coco", "coco2017")
_GET = "unpack annotations_trainval2017.zip, train2017.zip and val2017.zip (cocodataset.org) there"


@dataclasses.dataclass(frozen=True)
class COCOSet:
    """coco or coco:/path: a folder in COCO's layout, annotations/instances_<part>*.json and images in <part>*; or, as
    many tools export, sub-folders train, valid and test, each with images and _annotations.coco.json; or one such file
    and its images in the folder itself. Of a set without a test its val is the test, as of COCO 2017.

    Images without boxes are part of the test; ``for_training`` leaves them out. A box without an inside, of which COCO
    has a few, is left out and counted.
    """

    argument: str = "the folder of annotations, train2017 and val2017"

    def open(self, name, argument, place):
        """``DetectionSet``.

        Raises:
            DataNotHere: no annotations there.
            InputError: they are damaged.
        """
        roots = [argument] if argument else [os.path.join(place, folder) for folder in FOLDERS]
        found = {}
        for root in roots:
            found = found or _files(root)
        if not found:
            what = f"no annotations/instances_train*.json and no _annotations.coco.json in {roots[0]}"
            raise DataNotHere(f"{what}; {self.how_to_get(roots[0])}, or name another folder: coco:/path")
        smallest = min(found.values(), key=lambda each: tf.io.gfile.stat(each[0]).length)
        said = read_json(smallest[0])
        classes = _classes(said, smallest[0])
        masks = bool(said["annotations"]) and all(a.get("segmentation") for a in said["annotations"])
        parts = {part: functools.partial(read_part, *each, classes, masks) for part, each in found.items()}
        names = tuple(classes.values())
        return DetectionSet(name=name, classes=names, parts=arranged(parts, held_out), metric="coco", masks=masks)

    def how_to_get(self, place):
        """For an error line."""
        return _GET


def _files(root):
    """{part: (JSON, folder of its images, root)}; {} where there is none."""
    found = {}
    for part, names in PARTS.items():
        for name in names:
            official = sorted(tf.io.gfile.glob(os.path.join(root, "annotations", f"instances_{name}*.json")))
            beside = os.path.join(root, name, "_annotations.coco.json")
            if official:
                path = official[-1]  # of 2014 and 2017 the later
                own = os.path.basename(path).removeprefix("instances_").removesuffix(".json")
                places = [os.path.join(root, own), os.path.join(root, "images", own), os.path.join(root, "images")]
                found.setdefault(part, (path, next(filter(tf.io.gfile.isdir, places), places[0]), root))
            elif tf.io.gfile.exists(beside):
                found.setdefault(part, (beside, os.path.dirname(beside), root))
    if "train" in found:
        return found
    for name in ("_annotations.coco.json", "annotations.json", "instances.json"):
        path, images = os.path.join(root, name), os.path.join(root, "images")
        if tf.io.gfile.exists(path):
            return {"train": (path, images if tf.io.gfile.isdir(images) else root, root)}
    return {}


def read_json(path):
    """{"images", "annotations", "categories": lists of dicts}; InputError where it is something else."""
    try:
        said = json.loads(read_bytes(path))
        for key in ("images", "annotations", "categories"):
            if not all(isinstance(one, dict) for one in said[key]):
                raise TypeError(f"{key} has something that is no object")
        return said
    except KeyError as error:
        raise InputError(f"{path} has no {error.args[0]!r}; COCO's JSON has images, annotations, categories") from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is no COCO JSON ({error}); get it again") from None


def _classes(said, path):
    """{id: name}, by their ids."""
    try:
        classes = {int(one["id"]): str(one["name"]) for one in said["categories"]}
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: a category has no id or no name") from None
    require(classes, f"{path} has no categories; there is nothing to detect")
    return dict(sorted(classes.items()))


def read_part(path, folder, root, classes, masks):
    """All images of a JSON as tuple of ``Annotated``, in its order.

    Args:
        path, folder, root: of the JSON, of its images, and of the set.
        classes: {id: name}, which the JSON has to have.
        masks: whether segmentations are read.

    Raises:
        InputError: an annotation without its image, an image without its file, an unknown class, a box or a mask that
            cannot be.
    """
    said = read_json(path)
    own = _classes(said, path)
    require(own == classes, f"{path} has other categories than the set's other files; all need the same ids and names")
    files = _images(said, path, folder, root)
    objects = {number: [] for number in files}
    ids, empty = list(classes), 0
    for one in said["annotations"]:
        name = f"annotation {one.get('id')} of {path}"
        number = one.get("image_id")
        present = isinstance(number, int | str) and number in files
        require(present, f"{name} is of image {number!r}, which is not among the images; leave it out")
        category = one.get("category_id")
        require(category in ids, f"{name} has the unknown category {category!r}; one of {', '.join(map(str, classes))}")
        box = _box(one, name)
        if min(box[2] - box[0], box[3] - box[1]) == 0:
            empty += 1
            continue
        kept = None
        if masks:
            require(one.get("segmentation"), f"{name} has no segmentation, others have; draw it, or leave all out")
            kept = check_segmentation(one["segmentation"], files[number][1], name)
        objects[number].append((name, box, one, kept))
    if empty:
        tell(f"{path}: {empty} boxes without an inside are left out")
    order = {number: c for c, number in enumerate(classes)}
    return tuple(_annotated(number, *files[number], objects[number], order, masks) for number in files)


def _images(said, path, folder, root):
    """{id: (path of the image, (H, W))}; InputError for an image without its file."""
    there = set(tf.io.gfile.listdir(folder)) if tf.io.gfile.isdir(folder) else set()
    found = {}
    for one in said["images"]:
        try:
            number, name, size = one["id"], one["file_name"], (int(one["height"]), int(one["width"]))
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{path}: image {one.get('id')!r} needs id, file_name, height and width") from None
        require(number not in found, f"{path} has two images with the id {number!r}")
        place = os.path.join(folder, name)
        if name not in there and not tf.io.gfile.exists(place):
            place = os.path.join(root, name)
            lost = f"{os.path.join(folder, name)} is not there, an image of {path}; get it again, or take it out"
            require(tf.io.gfile.exists(place), lost)
        found[number] = place, size
    require(found, f"{path} has no images")
    return found


def _box(one, name):
    """(y1, x1, y2, x2) of an annotation's x, y, width, height."""
    try:
        x, y, width, height = (float(value) for value in one["bbox"])
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{name} has bbox {one.get('bbox')!r}; it has to be x, y, width, height") from None
    return y, x, y + height, x + width


def _annotated(number, path, size, objects, order, masks):
    boxes = np.array([box for _, box, _, _ in objects], np.float64).reshape(-1, 4)
    check_boxes(boxes, size, [name for name, _, _, _ in objects])
    kept = [segmentation for _, _, _, segmentation in objects]
    plain = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    areas = [float(one.get("area", a)) for (_, _, one, _), a in zip(objects, plain, strict=True)]
    return Annotated(
        image=loader(path, size), size=size, boxes=boxes, image_id=number,
        classes=[order[one["category_id"]] for _, _, one, _ in objects],
        crowd=[bool(one.get("iscrowd", 0)) for _, _, one, _ in objects],
        masks=functools.partial(as_masks, kept, size) if masks else None, areas=np.array(areas, np.float64),
    )
