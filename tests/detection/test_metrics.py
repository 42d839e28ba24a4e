"""AP of boxes and masks: the goldens of detectron2 and pycocotools, loops typed from the rules, cases by hand."""

import pathlib

import numpy as np
import pytest

from revisit_ssl.detection.annotations import Annotated
from revisit_ssl.detection.measuring import measure
from revisit_ssl.detection.metrics_coco import NAMES, coco_ap
from revisit_ssl.detection.metrics_voc import IOUS, voc_ap, voc_curve
from revisit_ssl.detection.packed import PackedMasks
from revisit_ssl.errors import InputError

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "evaluation"


def annotated(boxes, classes, *, size=(200, 200), **more):
    """An image of which nobody looks at the pixels."""
    return Annotated(image=lambda: None, size=size, boxes=boxes, classes=classes, **more)


def detected(boxes=(), scores=(), classes=(), **more):
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    return {"boxes": boxes, "scores": np.asarray(scores), "classes": np.asarray(classes, int), **more}


def test_voc_as_detectron2_answers():
    """Golden: official PascalVOCDetectionEvaluator; tolerance 1e-8."""
    golden = np.load(GOLDENS / "voc_detection_ap.npz")
    truth, found = golden["gt_image_class_x1y1x2y2_difficult"], golden["detections_image_class_x1y1x2y2_score"]
    images, detections = [], []
    for i in range(golden["number_of_images"]):
        own, mine = truth[truth[:, 0] == i], found[found[:, 0] == i]
        boxes = own[:, [3, 2, 5, 4]] - (1, 1, 0, 0)  # one-based pixels in, continuous edges out
        images.append(annotated(boxes, own[:, 1], difficult=own[:, 6] == 1, size=(400, 400)))
        detections.append({"boxes": mine[:, [3, 2, 5, 4]], "scores": mine[:, 6], "classes": mine[:, 1].astype(int)})
    assert golden["ious"].tolist() == list(IOUS)
    for area, name in ((False, "11_point"), (True, "area")):
        ours = voc_ap(detections, images, int(golden["number_of_classes"]), area=area)
        for metric in ("AP", "AP50", "AP75"):
            np.testing.assert_allclose(ours[metric], golden[f"{metric}_{name}"], rtol=0, atol=1e-8)
        table = golden[f"ap_{name}_per_class_per_iou"]
        np.testing.assert_allclose(ours["per_class"]["AP"], table.mean(axis=1), rtol=0, atol=1e-8)
        np.testing.assert_allclose(ours["per_class"]["AP75"], table[:, 5], rtol=0, atol=1e-8)


def voc_loop(detections, images, c, iou):
    """(recall, precision) by the devkit's rules, a detection at a time."""
    lines, used, number = [], set(), 0
    for i, (one, image) in enumerate(zip(detections, images, strict=True)):
        number += sum(1 for k, d in zip(image.classes, image.difficult, strict=True) if k == c and not d)
        for box, score, k in zip(one["boxes"], one["scores"], one["classes"], strict=True):
            if k == c:
                y1, x1, y2, x2 = box.tolist()
                y1, x1, y2, x2 = (float(f"{v:.1f}") for v in (y1 + 1, x1 + 1, y2, x2))
                lines.append((round(float(score), 3), i, (x1, y1, x2, y2)))
    right, wrong, curve = 0, 0, []
    for _, i, (x1, y1, x2, y2) in sorted(lines, key=lambda line: -line[0]):  # stable
        best, which = -1.0, None
        for g, (k, (v1, u1, v2, u2)) in enumerate(zip(images[i].classes, images[i].boxes.tolist(), strict=True)):
            if k != c:
                continue
            v1, u1 = v1 + 1, u1 + 1
            w, h = min(x2, u2) - max(x1, u1) + 1, min(y2, v2) - max(y1, v1) + 1
            common = max(w, 0) * max(h, 0)
            union = (x2 - x1 + 1) * (y2 - y1 + 1) + (u2 - u1 + 1) * (v2 - v1 + 1) - common
            if common / union > best:
                best, which = common / union, g
        if which is not None and best > iou and images[i].difficult[which]:
            pass
        elif which is not None and best > iou and (i, which) not in used:
            used.add((i, which))
            right += 1
        else:
            wrong += 1
        curve.append((right / number if number else 0.0, right / max(right + wrong, 1)))
    return np.array(curve).reshape(-1, 2).T


def random_case(seed, classes=3, images=12):
    """Images with difficult objects, and noisy, doubled, tied and stray detections."""
    draw, truth, found = np.random.default_rng(seed), [], []
    for i in range(images):
        count = int(draw.integers(0, 5))
        corners = draw.integers(0, 140, (count, 2))
        boxes = np.concatenate([corners, corners + draw.integers(8, 60, (count, 2))], 1).astype(float)
        labels = draw.integers(0, classes, count)
        truth.append(annotated(boxes, labels, difficult=draw.random(count) < 0.25, image_id=i))
        rows = draw.integers(0, count, int(draw.integers(0, 8))) if count else np.zeros(0, int)
        noisy = boxes[rows] + draw.normal(0, 3, (len(rows), 4))
        stray = np.array([[5, 5, 40.5, 60.25]] * int(draw.integers(0, 3))).reshape(-1, 4)
        both = np.concatenate([noisy, stray]).astype(np.float32)
        kinds = np.concatenate([labels[rows], draw.integers(0, classes, len(stray))]).astype(int)
        found.append({"boxes": both, "scores": draw.integers(0, 12, len(both)) / 11.7, "classes": kinds})
    return found, truth


@pytest.mark.parametrize("seed", range(4))
def test_voc_against_a_loop(seed):
    found, truth = random_case(seed)
    for c in range(3):
        for iou in (0.5, 0.75):
            recall, precision = voc_loop(found, truth, c, iou)
            ours = voc_curve(found, truth, c, iou)
            np.testing.assert_allclose(ours[0], recall, atol=1e-12)
            np.testing.assert_allclose(ours[1], precision, atol=1e-12)
    # The area under the envelope, as the devkit of 2010 writes it, and the eleven points of 2007.
    areas, points = [], []
    for c in range(3):
        recall, precision = voc_loop(found, truth, c, 0.5)
        r, p = np.concatenate([[0], recall, [1]]), np.concatenate([[0], precision, [0]])
        for k in range(len(p) - 2, -1, -1):
            p[k] = max(p[k], p[k + 1])
        areas.append(sum((r[k + 1] - r[k]) * p[k + 1] for k in range(len(r) - 1)))
        points.append(sum(max([p for r, p in zip(recall, precision, strict=True) if r >= t], default=0) / 11
                          for t in np.arange(0.0, 1.1, 0.1)))
    assert voc_ap(found, truth, 3, area=True)["AP50"] == pytest.approx(100 * np.mean(areas), abs=1e-9)
    assert voc_ap(found, truth, 3)["AP50"] == pytest.approx(100 * np.mean(points), abs=1e-9)


BOX = [10, 20, 50, 60]


def test_voc_cases_by_hand():
    one, other = annotated([BOX], [0]), annotated([BOX], [0], difficult=[True])
    right, twice = detected([BOX], [0.9], [0]), detected([BOX, BOX], [0.9, 0.8], [0, 0])
    assert voc_ap([right], [one], 1)["AP"] == 100
    # A second detection of the same object is wrong, and comes too late to matter.
    assert voc_ap([twice], [one], 1)["AP50"] == 100
    np.testing.assert_allclose(voc_curve([twice], [one], 0), [[1, 1], [1, 0.5]])
    # One that is found first in the image where there is none: precision 1/2 at every recall.
    stray = detected([BOX], [0.95], [0])
    assert voc_ap([right, stray], [one, annotated([], [])], 1)["AP50"] == pytest.approx(50)
    # What finds a difficult object counts for nothing.
    assert voc_ap([right, stray], [one, other], 1)["AP50"] == 100
    # IoU must be more than the threshold: 40 of 80 pixels, both ends counted, is 0.5.
    half = detected([[0, 0, 40, 10]], [0.9], [0])
    assert voc_ap([half], [annotated([[0, 0, 80, 10]], [0])], 1)["AP50"] == 0
    # Scores equal after rounding: the first image's comes first.
    near = detected([BOX], [0.9001], [0]), detected([BOX], [0.9004], [0])
    assert voc_ap(near, [one, annotated([], [])], 1)["AP50"] == 100
    assert voc_ap(near[::-1], [annotated([], []), one], 1)["AP50"] == pytest.approx(50)
    # Rounding is to the nearest decimal of the number as it is stored: 0.25 to 0.2, 0.35, a hair less, to 0.3.
    edge = detected([[0, 0, 10.25, 10.35]], [0.5], [0])
    assert voc_curve([edge], [annotated([[0, 0, 10, 10]], [0])], 0, iou=100 / (10.2 * 10.3) - 1e-9)[0].tolist() == [1]
    assert voc_curve([edge], [annotated([[0, 0, 10, 10]], [0])], 0, iou=100 / (10.2 * 10.3) + 1e-9)[0].tolist() == [0]


@pytest.mark.parametrize("area", [False, True])
def test_voc_without_objects_or_detections(area):
    one, none = annotated([BOX], [0]), annotated([], [])
    right = detected([BOX, BOX], [0.9, 0.8], [0, 1])
    found = voc_ap([right], [one], 3, area=area)
    assert found["AP"] == pytest.approx(100 / 3) and found["per_class"]["AP"] == [100, 0, 0]
    found = voc_ap([right], [one], 3, area=area, absent="left out")
    assert found["AP"] == 100 and found["per_class"]["AP50"] == [100, None, None]
    assert voc_ap([detected()], [one], 1, area=area)["AP"] == 0
    assert voc_ap([detected()], [none], 1, area=area)["AP"] == 0
    assert voc_ap([right], [none], 2, area=area, absent="left out")["AP"] is None
    hidden = annotated([BOX], [0], difficult=[True])
    assert voc_ap([right], [hidden], 2, area=area)["AP50"] == 0
    assert voc_ap([right], [hidden], 2, area=area, absent="left out")["AP50"] is None
    assert voc_ap([], [], 2, area=area)["AP"] == 0


def golden_coco(masks):
    golden = np.load(GOLDENS / "coco_detection_ap.npz")
    truth, found = golden["gt_image_category_xywh_crowd"], golden["detections_image_category_xywh_score"]
    height, width = golden["image_height_width"]
    categories = golden["category_ids"].tolist()
    rows, columns = np.mgrid[:height, :width] + 0.5

    def drawn(boxes):
        """Ellipses in boxes x, y, w, h, as the golden's table has them."""
        ellipses = [
            ((columns - x - w / 2) / (w / 2)) ** 2 + ((rows - y - h / 2) / (h / 2)) ** 2 <= 1 for x, y, w, h in boxes
        ]
        return np.array(ellipses, bool).reshape(-1, height, width)

    def edges(boxes):
        x, y, w, h = boxes.T
        return np.stack([y, x, y + h, x + w], 1)

    images, detections = [], []
    for i in range(golden["number_of_images"]):
        own, mine = truth[:, 0] == i, found[found[:, 0] == i]
        images.append(
            annotated(
                edges(truth[own, 2:6]), [categories.index(c) for c in truth[own, 1]], size=(int(height), int(width)),
                crowd=truth[own, 6] == 1, masks=drawn(truth[own, 2:6]), image_id=i,
                areas=golden["gt_area_segm" if masks else "gt_area_bbox"][own],
            )
        )
        detections.append(
            detected(edges(mine[:, 2:6]), mine[:, 6], [categories.index(c) for c in mine[:, 1]],
                     masks=drawn(mine[:, 2:6]))
        )
    return golden, detections, images


@pytest.mark.parametrize(("masks", "what", "atol"), [(False, "bbox", 1e-8), (True, "segm", 1e-6)])
def test_coco_as_pycocotools_answers(masks, what, atol):
    """Golden: official COCOeval on its own input; ours goes through Annotated and detections."""
    pytest.importorskip("pycocotools")
    golden, detections, images = golden_coco(masks)
    ours = coco_ap(detections, images, len(golden["category_ids"]), masks=masks)
    assert tuple(golden["stat_names"]) == NAMES
    stats = [-1 if ours[name] is None else ours[name] / 100 for name in NAMES]
    np.testing.assert_allclose(stats, golden[f"stats_{what}"], rtol=0, atol=atol)
    table = golden[f"ap_{what}_per_iou_per_category"]
    np.testing.assert_allclose(ours["per_class"]["AP"], 100 * table.mean(axis=0), rtol=0, atol=100 * atol)
    np.testing.assert_allclose(ours["per_class"]["AP50"], 100 * table[0], rtol=0, atol=100 * atol)
    np.testing.assert_allclose(ours["curves"][1].mean(axis=1), table[0], rtol=0, atol=atol)


def test_masks_may_be_packed():
    """As detectors give them: the same numbers, a hundredth of the memory."""
    pytest.importorskip("pycocotools")
    _, detections, images = golden_coco(True)
    expected = coco_ap(detections, images, 4, masks=True)
    packed = [one | {"masks": PackedMasks(one["masks"])} for one in detections]
    found = coco_ap(packed, images, 4, masks=True)
    assert {name: found[name] for name in NAMES} == {name: expected[name] for name in NAMES}
    one, masks = packed[0]["masks"], detections[0]["masks"]
    np.testing.assert_array_equal(np.asarray(one), masks)
    np.testing.assert_array_equal(one[1], masks[1])
    assert one[1].dtype == bool and len(one) == len(masks) and one.shape == masks.shape
    assert one.nbytes < masks.nbytes / 100
    none = PackedMasks(np.zeros((0, 5, 7), bool))
    assert np.asarray(none).shape == (0, 5, 7) and len(none) == 0


def test_coco_cases_by_hand():
    """Class 0, images without detections and the crowd: where other wrappers of pycocotools go wrong."""
    pytest.importorskip("pycocotools")
    one = annotated([BOX], [0], image_id="a")
    right = detected([BOX], [0.9], [0])
    assert coco_ap([right], [one], 1)["AP"] == pytest.approx(100)
    # Half of the objects are in an image of which nothing was found: recalls up to 0.5 are 51 of 101.
    half = coco_ap([right, detected()], [one, annotated([BOX], [0], image_id="b")], 2)
    assert half["AP"] == pytest.approx(100 * 51 / 101) and half["per_class"]["AP"][1] is None
    nothing = coco_ap([detected()], [one], 1)
    assert nothing["AP"] == 0 and nothing["AP_small"] is None and nothing["AR_100"] == 0
    assert coco_ap([right], [annotated([], [])], 1)["AP"] is None
    # A detection in a crowd of its class counts for nothing; elsewhere it is wrong.
    crowded = annotated([BOX, [0, 60, 100, 190]], [0, 0], crowd=[False, True])
    inside, outside = [20, 70, 60, 120], [110, 0, 150, 40]
    more = detected([inside, BOX], [0.95, 0.9], [0, 0])
    assert coco_ap([more], [crowded], 1)["AP50"] == pytest.approx(100)
    more = detected([outside, BOX], [0.95, 0.9], [0, 0])
    assert coco_ap([more], [crowded], 1)["AP50"] == pytest.approx(50)
    with pytest.raises(InputError, match="image a has no masks to compare with; judge boxes"):
        coco_ap([right], [one], 1, masks=True)
    with pytest.raises(InputError, match="no masks were found in 0"):
        coco_ap([right], [annotated([BOX], [0], masks=np.ones((1, 200, 200), bool))], 1, masks=True)


def test_the_size_of_an_object_is_its_mask_s_unless_it_is_said():
    pytest.importorskip("pycocotools")
    mask = np.zeros((1, 200, 200), bool)
    mask[0, 10:20, 20:30] = True  # 100 pixels, small; the box has 1,600, which is medium
    right = detected([BOX], [0.9], [0])
    sizes = {"AP_small": None, "AP_medium": None}
    for more, expected in (({}, "AP_medium"), ({"masks": mask}, "AP_small"), ({"areas": np.array([100.0])}, "AP_small"),
                           ({"masks": lambda: mask}, "AP_small")):
        found = coco_ap([right], [annotated([BOX], [0], **more)], 1)
        assert {name: found[name] for name in sizes} == sizes | {expected: pytest.approx(100)}


def test_measures_by_the_set_s_own_rule():
    """11 points, area and COCO differ on the same detections; the names are those of the tables."""
    pytest.importorskip("pycocotools")
    found, truth = random_case(0)
    for one in truth:
        assert one.masks is None
    named = {metric: measure(metric, found, truth, 3) for metric in ("voc07", "voc12", "coco")}
    assert {tuple(one["metrics"]) for one in named.values()} == {("box_ap", "box_ap50", "box_ap75")}
    for metric, area in (("voc07", False), ("voc12", True)):
        expected = voc_ap(found, truth, 3, area=area)
        assert named[metric]["metrics"] == {
            "box_ap": expected["AP"], "box_ap50": expected["AP50"], "box_ap75": expected["AP75"]
        }
    assert len({round(one["metrics"]["box_ap50"], 6) for one in named.values()}) == 3
    assert named["coco"]["metrics"]["box_ap"] == coco_ap(found, truth, 3)["AP"]
    assert set(named["voc07"]["curves"]) == {0, 1, 2}
    golden, detections, images = golden_coco(True)
    both = measure("coco", detections, images, 4)
    assert list(both["metrics"]) == ["box_ap", "box_ap50", "box_ap75", "mask_ap", "mask_ap50", "mask_ap75"]
    assert both["metrics"]["mask_ap"] == pytest.approx(100 * golden["stats_segm"][0], abs=1e-6)
    assert set(both["extra"]["box"]) == set(NAMES[3:]) | {"per_class"}
