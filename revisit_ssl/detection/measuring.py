"""What a probe says of detections: the numbers of a set's own rule, under the names of the papers' tables."""

import numpy as np

from revisit_ssl.detection.metrics_coco import NAMES, coco_ap
from revisit_ssl.detection.metrics_voc import voc_ap, voc_curve

SHORT = {"AP": "ap", "AP50": "ap50", "AP75": "ap75"}


def measure(metric, detections, images, num_classes, *, absent="zero"):
    """Judges detections.

    Args:
        metric: "voc07", "voc12" or "coco", ``DetectionSet.metric``. By "coco" masks are judged too, where they were
            found and are there.
        detections, images, num_classes, absent: as of ``voc_ap`` and ``coco_ap``; COCO leaves absent classes out.

    Returns:
        {"metrics": {"box_ap", "box_ap50", "box_ap75", and of masks "mask_ap", …: percent}, "extra": {"box": further
        numbers and "per_class", of masks "mask"}, "curves": {class: (recall, precision)} of boxes at IoU 0.5, of the
        classes that there are}.

    Raises:
        InputError: no pycocotools for "coco".
    """
    if metric != "coco":
        found = {"box": voc_ap(detections, images, num_classes, area=metric == "voc12", absent=absent)}
        curves = {c: voc_curve(detections, images, c) for c in range(num_classes)}
    else:
        found = {"box": coco_ap(detections, images, num_classes)}
        recall, precision = found["box"]["curves"]
        curves = {c: (recall, row) for c, row in enumerate(precision)}
        if has_masks(detections, images):
            found["mask"] = coco_ap(detections, images, num_classes, masks=True)
    return {
        "metrics": {f"{what}_{SHORT[name]}": one[name] for what, one in found.items() for name in SHORT},
        "extra": {
            what: {name: one[name] for name in (*NAMES[3:], "per_class") if name in one} for what, one in found.items()
        },
        "curves": {c: curve for c, curve in curves.items() if len(curve[0]) and np.min(curve[1]) >= 0},
    }


def has_masks(detections, images):
    """Whether masks were found, if anything was, and are there to compare with."""
    found = [one.get("masks") is not None for one in detections if len(one["boxes"])]
    return bool(found) and all(found) and all(one.masks is not None for one in images if len(one.boxes))
