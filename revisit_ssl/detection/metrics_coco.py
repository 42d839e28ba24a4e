"""AP of boxes and of masks by COCO's rules: pycocotools counts, this says to it what was found and what is there."""

import contextlib
import io

import numpy as np

from revisit_ssl.errors import InputError, require

# pycocotools' twelve numbers, in its order.
NAMES = (
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR_1", "AR_10", "AR_100", "AR_small", "AR_medium", "AR_large",
)


def coco_ap(detections, images, num_classes, *, masks=False):
    """Average precision and recall of boxes, or of masks.

    Args:
        detections: [N] of {"boxes": [m, 4] (y1, x1, y2, x2) in pixels, "scores": [m], "classes": int [m], for masks
            "masks": bool [m, H, W]}, in the order of the images.
        images: sequence of N ``Annotated``. What is found in a crowd counts for nothing; difficult objects count.
        num_classes: K.
        masks: whether masks are compared instead of boxes.

    Returns:
        {each of NAMES: percent, None where there is no such object; "per_class": {"AP", "AP50", "AP75": [K] percent,
        None for a class without objects}; "curves": (float64 [101] recalls, float64 [K, 101] precisions at IoU 0.5 in
        [0, 1], -1 for a class without objects)}.

    Raises:
        InputError: no pycocotools; masks are asked for and there are none.
    """
    tools = pycocotools()
    ids, sizes = _ids(images), [one.size for one in images]
    with contextlib.redirect_stdout(io.StringIO()):  # it tells of each of its steps
        truth = tools.COCO()
        truth.dataset = {
            "images": [{"id": i, "height": h, "width": w} for i, (h, w) in zip(ids, sizes, strict=True)],
            "categories": [{"id": c} for c in range(num_classes)],
            "annotations": list(_objects(images, ids, masks, tools.mask)),
        }
        truth.createIndex()
        found = list(_found(detections, images, ids, masks, tools.mask))
        result = truth.loadRes(found) if found else _nothing(truth, tools)
        test = tools.COCOeval(truth, result, "segm" if masks else "bbox")
        test.evaluate()
        test.accumulate()
        test.summarize()
    stats = [100 * float(value) if value >= 0 else None for value in test.stats]
    precision = test.eval["precision"][:, :, :, 0, -1]  # [IoU, recall, class], objects of all sizes, 100 detections
    rows = {"AP": slice(None), "AP50": slice(0, 1), "AP75": slice(5, 6)}
    per_class = {name: [_mean(precision[part, :, c]) for c in range(num_classes)] for name, part in rows.items()}
    return dict(zip(NAMES, stats, strict=True)) | {
        "per_class": per_class,
        "curves": (np.asarray(test.params.recThrs), precision[0].T.copy()),
    }


def pycocotools():
    """The modules of the library: .COCO, .COCOeval, .mask.

    Raises:
        InputError: it is not installed.
    """
    try:
        from pycocotools import mask
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        what = "COCO's masks and its average precision need pycocotools"
        raise InputError(f'{what}; install it with: python -m pip install "revisit_ssl[detection]"') from None
    return _Tools(COCO, COCOeval, mask)


class _Tools:
    def __init__(self, coco, evaluation, mask):
        self.COCO, self.COCOeval, self.mask = coco, evaluation, mask


def run_length(mask, tools):
    """A mask, bool [H, W], as pycocotools' run lengths."""
    return tools.encode(np.asfortranarray(mask, np.uint8))


def _ids(images):
    """The images' own numbers, in whose order pycocotools goes through them; where they are none, their places."""
    own = [one.image_id for one in images]
    numbers = all(isinstance(i, int | np.integer) for i in own) and len(set(own)) == len(own)
    return [int(i) for i in own] if numbers else list(range(len(own)))


def _objects(images, ids, masks, tools):
    number = 0
    for i, one in zip(ids, images, strict=True):
        pixels = one.masks() if callable(one.masks) and (masks or one.areas is None) else one.masks
        require(not masks or pixels is not None, f"image {one.image_id} has no masks to compare with; judge boxes")
        for k, (y1, x1, y2, x2) in enumerate(one.boxes.astype(np.float64).tolist()):
            number += 1  # from 1 on: pycocotools takes 0 for no match
            area = (y2 - y1) * (x2 - x1)
            if one.areas is not None:
                area = float(one.areas[k])
            elif pixels is not None:
                area = float(pixels[k].sum())
            known = {"segmentation": run_length(pixels[k], tools)} if masks else {}
            yield known | {
                "id": number, "image_id": i, "category_id": int(one.classes[k]), "iscrowd": int(one.crowd[k]),
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area,
            }


def _found(detections, images, ids, masks, tools):
    for i, one, image in zip(ids, detections, images, strict=True):
        boxes = np.asarray(one["boxes"], np.float64).reshape(-1, 4).tolist()
        require(not masks or not boxes or one.get("masks") is not None, f"no masks were found in {image.image_id}")
        for k, (y1, x1, y2, x2) in enumerate(boxes):
            if masks:  # without a box of its own a detection is as large as its mask
                what = {"segmentation": run_length(one["masks"][k], tools)}
            else:
                what = {"bbox": [x1, y1, x2 - x1, y2 - y1]}
            yield what | {"image_id": i, "category_id": int(one["classes"][k]), "score": float(one["scores"][k])}


def _nothing(truth, tools):
    """What ``loadRes`` cannot make of an empty list."""
    result = tools.COCO()
    result.dataset = {**truth.dataset, "annotations": []}
    result.createIndex()
    return result


def _mean(precision):
    """Percent; None where pycocotools has -1."""
    known = precision[precision > -1]
    return 100 * float(known.mean()) if known.size else None
