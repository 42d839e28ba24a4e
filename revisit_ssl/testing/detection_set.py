"""What a line in DETECTION_SETS promises."""

import numpy as np

from revisit_ssl.detection.annotations import for_training, wrong_boxes
from revisit_ssl.detection.sets import open_detection

LOOKED_AT = 8  # images of a split whose pixels and masks are looked at


def check_detection_set(name, data_dir=None):
    """Checks a set with boxes: splits, classes, images of the size that is said, masks that lie in their boxes.

    All annotations are read; LOOKED_AT images of each split are loaded.

    Args:
        name: as for ``open_detection``.
        data_dir: as there.

    Raises:
        AssertionError: a promise that the set does not keep; the message says which.
        InputError: the set is not there, or an annotation cannot be.
    """
    found = open_detection(name, data_dir)
    assert found.name == name, f"{name} calls itself {found.name}"
    assert found.classes and len(set(found.classes)) == len(found.classes), f"{name} has classes {found.classes}"
    assert {"train", "trainval"} <= set(found.parts), f"{name} has no train and trainval, but {', '.join(found.parts)}"
    for split in found.parts:
        images, where = found[split], f"{name} {split}"
        assert len(images) > 0, f"{where} has no images"
        assert len({one.image_id for one in images}) == len(images), f"{where} has two images of one image_id"
        for one in images:
            _check_annotation(one, found, f"{where} {one.image_id}")
        for row in np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)):
            _check_pixels(images[row], found, f"{where} {images[row].image_id}")
    assert for_training(found["train"]), f"{name} train shows no object to learn from"
    ids = {split: {one.image_id for one in found[split]} for split in found.parts}
    for split in ids.keys() & {"val", "test"}:
        assert not ids["train"] & ids[split], f"{name}: images of train are in {split} too"
    prints = {split: found.fingerprint(split) for split in found.parts}
    assert len(set(prints.values())) == len(prints), f"{name}: two splits have one fingerprint: {prints}"
    open_detection.cache_clear()
    again = open_detection(name, data_dir).fingerprint("train")
    assert again == prints["train"], f"{name}: opened again, train has another fingerprint"


def _check_annotation(one, found, where):
    assert not len(one.classes) or one.classes.max() < len(found.classes), f"{where} has a class that has no name"
    assert not wrong_boxes(one.boxes, one.size).any(), f"{where} has a box that cannot be"
    assert not found.masks or one.masks is not None or not len(one.boxes), f"{where} has no masks, the set has"
    assert one.areas is None or len(one.areas) == len(one.boxes), f"{where} has {len(one.boxes)} boxes and other areas"


def _check_pixels(one, found, where):
    full = one.loaded()
    kind = full.image.shape, full.image.dtype
    assert kind == ((*one.size, 3), np.uint8), f"{where} is {kind[1]} {list(kind[0])}, not uint8 of {one.size}"
    assert full.image.std() > 0, f"{where} has one colour"
    if not found.masks:
        return
    assert full.masks.dtype == bool and full.masks.shape == (len(one.boxes), *one.size), f"{where} has other masks"
    for mask, (y1, x1, y2, x2) in zip(full.masks, one.boxes, strict=True):
        rows, columns = np.nonzero(mask)
        if len(rows):
            inside = rows.min() >= y1 - 1 and rows.max() + 1 <= y2 + 1 and columns.min() >= x1 - 1
            assert inside and columns.max() + 1 <= x2 + 1, f"{where} has a mask that leaves its box"
