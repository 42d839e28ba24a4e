"""A detector's part of a run's page: what is kept of its detections, the table of seeds, the pictures and captions."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from revisit_ssl.detection.annotations import Annotated
from revisit_ssl.detection.examples import IMAGES, LONGEST, matched, read_examples, write_examples
from revisit_ssl.detection.measuring import measure
from revisit_ssl.errors import InputError
from revisit_ssl.report import detections
from revisit_ssl.report.blocks import Picture, Table
from revisit_ssl.report.detections import (
    average_precisions,
    beside_truth,
    detection_blocks,
    examples_path,
    precision_recall,
)
from revisit_ssl.runs.results import Result

CLASSES = ("cat", "dog", "emu")


def annotated(i, size=(60, 80), masks=True):
    """A cat at the left and a difficult dog at the right."""
    boxes = np.array([[5, 5, 35, 30], [20, 40, 50, 75]], np.float32)
    shown = np.zeros((2, *size), bool)
    shown[0, 5:35, 5:30] = shown[1, 20:50, 40:75] = True
    image = np.full((*size, 3), 100 + i, np.uint8)
    return Annotated(
        image=image, boxes=boxes, classes=[0, 1], difficult=[False, True], masks=shown if masks else None, image_id=i
    )


def found_on(one, shift=0.0, classes=(0, 1)):
    """Both objects, moved by ``shift``, and a stray one of low score; not in the order of their scores."""
    boxes = np.concatenate([[[0, 0, 9, 9]], one.boxes + shift]).astype(np.float32)
    masks = None if one.masks is None else np.concatenate([np.zeros((1, *one.size), bool), one.masks])
    scores, kinds = np.array([0.2, 0.9, 0.8], np.float32), np.array([2, *classes])
    return {"boxes": boxes, "scores": scores, "classes": kinds, "masks": masks}


def kept(path, shift=0.0, count=IMAGES + 2, classes=(0, 1), masks=True, size=(60, 80)):
    images = [annotated(i, size, masks) for i in range(count)]
    found = [found_on(one, shift, classes) for one in images]
    write_examples(str(path), CLASSES, images, found, measure("voc12", found, images, 3, absent="left out"))
    return read_examples(str(path))


def test_what_is_kept_is_what_was_found(tmp_path):
    examples = kept(tmp_path / "a.npz")
    assert examples.classes == list(CLASSES) and len(examples.images) == IMAGES
    assert examples.ap50 == [100.0, None, None]  # a difficult dog counts for nothing, and there is no emu
    assert set(examples.curves) == {0} and examples.curves[0][1].max() == 1
    one = examples.images[3]
    assert one.image.shape == (60, 80, 3) and one.image[0, 0, 0] == 103
    np.testing.assert_array_equal(one.truth["boxes"], annotated(3).boxes)
    assert one.truth["difficult"].tolist() == [False, True] and one.truth["masks"].shape == (2, 60, 80)
    assert one.found["classes"].tolist() == [0, 1, 2] and one.found["scores"][0] == np.float32(0.9)  # best first
    assert matched(one).tolist() == [True, True, False]
    assert "masks" not in kept(tmp_path / "b.npz", masks=False).images[0].found


def test_right_is_an_iou_of_half_with_an_object_of_the_class(tmp_path):
    assert matched(kept(tmp_path / "a.npz", shift=3).images[0]).tolist() == [True, True, False]
    # 25 wide: moved by 13 both ways, the cat's IoU is (17 * 12) / (2 * 750 - 204) = 0.16
    assert matched(kept(tmp_path / "b.npz", shift=13).images[0]).tolist() == [False, False, False]
    assert matched(kept(tmp_path / "c.npz", classes=(1, 1)).images[0]).tolist() == [False, True, False]
    one = kept(tmp_path / "d.npz").images[0]
    twice = {name: np.concatenate([values[:1], values]) for name, values in one.found.items()}
    assert matched(type(one)(one.image, one.truth, twice)).tolist() == [True, False, True, False]


def test_large_images_are_kept_smaller_with_what_is_on_them(tmp_path):
    one = kept(tmp_path / "a.npz", size=(600, 800), count=2).images[0]
    assert one.image.shape == (300, LONGEST, 3)
    np.testing.assert_allclose(one.truth["boxes"], annotated(0, (600, 800)).boxes / 2)
    np.testing.assert_array_equal(one.truth["masks"], annotated(0, (600, 800)).masks[:, 1::2, 1::2])


def test_files_that_hold_none(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(InputError, match="x.npz cannot be read"):
        read_examples(str(path))
    path.write_bytes(b"none")
    with pytest.raises(InputError, match="x.npz holds no detections .*; probe again, or remove it"):
        read_examples(str(path))
    np.savez(path, other=np.zeros(3))
    with pytest.raises(InputError, match="x.npz holds no detections"):
        read_examples(str(path))


def result(metric, value, *, weights="pretrained", seed=0, probe="detection", extra=None):
    return Result(
        pretext="rotation", name="rotation", backbone="tiny", width=1, dataset="toy_scenes", endpoint="block3",
        probe_dataset="toy_detection", split="test", weights=weights, probe=probe, metric=metric, value=value,
        seed=seed, steps=7, setting="a", hyperparameters={"iterations": 900}, extra=extra or {},
    )


CURVE = [{"step": 1, "rpn_class": 0.7, "box": 0.2}, {"step": 2, "rpn_class": 0.5, "box": 0.1}]
LINES = [
    *(result(m, v + seed, seed=seed) for seed in (0, 1, 2) for m, v in (("ap", 30), ("ap50", 50), ("ap75", 25))),
    *(result(m, v, weights="random") for m, v in (("ap", 10), ("ap50", 20), ("ap75", 5))),
]


def test_table_of_seeds():
    table = average_precisions(LINES)
    assert table.columns == ["probe", "weights", "network", "set", "steps", "seeds", "AP", "AP50", "AP75"]
    same = ["tiny 1x", "toy detection", "900"]
    assert table.rows == [
        ["detection", "rotation", *same, "3", "31.0 ± 1.0", "51.0 ± 1.0", "26.0 ± 1.0"],
        ["detection", "untrained", *same, "1", "10.0", "20.0", "5.0"],
    ]
    both = average_precisions([result(m, v, probe="segmentation") for m, v in (("box_ap", 3.0), ("mask_ap50", 2.0))])
    assert both.columns[6:] == ["boxes, AP", "masks, AP50"] and both.rows[0][6:] == ["3.0", "2.0"]
    assert average_precisions([result("top1", 50.0, probe="linear")]) is None


def test_what_was_trained_otherwise_is_another_row():
    """Not averaged: another setting, another number of steps, another set, another network."""
    changes = [{"setting": "b"}, {"hyperparameters": {"iterations": 10}}, {"probe_dataset": "voc07"}, {"width": 2}]
    rows = [LINES[0], *(dataclasses.replace(LINES[0], value=90.0, **change) for change in changes)]
    assert [row[6] for row in average_precisions(rows).rows] == ["30.0", "90.0", "90.0", "90.0", "90.0"]
    # The untrained network of two runs is one, and counts once for each seed.
    low = result("ap", 10.0, weights="random")
    table = average_precisions([low, dataclasses.replace(low, name="supervised", setting="b")])
    assert [row[5:7] for row in table.rows] == [["1", "10.0"]]


def test_blocks_of_a_page(tmp_path):
    assert detection_blocks([result("top1", 50.0, probe="linear")], str(tmp_path)) == []
    first = dataclasses.replace(LINES[0], extra={"curve": CURVE})
    lines = [first, *LINES[1:]]
    blocks = detection_blocks(lines, str(tmp_path))
    assert [type(block) for block in blocks[:1]] == [Table]
    assert "no detections were kept: detection, rotation, untrained." in blocks[1].text
    assert isinstance(blocks[2], Picture) and "Losses of the detection probe on rotation" in blocks[2].caption
    kept(examples_path(tmp_path, "pretrained", "detection"), count=5)
    kept(examples_path(tmp_path, "random", "detection"), classes=(2, 1), count=5)
    found, curve, losses = (b for b in detection_blocks(lines, str(tmp_path)) if isinstance(b, Picture))
    assert "Right here: rotation: 10 of 10; untrained: 5 of 10." in found.caption
    assert "not picked by their result" in found.caption and "IoU of 0.5" in curve.caption
    sizes = [Image.open(io.BytesIO(one.png)).size for one in (found, curve, losses)]
    # Two rows of four images, of each the objects and two networks: higher than wide.
    assert 900 < sizes[0][0] < sizes[0][1] and all(min(size) > 150 for size in sizes)


def test_colour_is_not_all_that_tells_right_from_wrong(tmp_path, monkeypatch):
    """Without names of classes and in one colour a wrong detection still looks different: dashes, a cross."""
    monkeypatch.setattr(detections, "RED", detections.GREEN)
    both = kept(tmp_path / "a.npz", count=1), kept(tmp_path / "b.npz", count=1, classes=(1, 0))
    drawn = [beside_truth({"a": dataclasses.replace(one, classes=["x"] * 3)}) for one in both]
    pixels = (np.asarray(Image.open(io.BytesIO(png))).astype(int) for png in drawn)
    objects, found = zip(*(np.array_split(image, 2) for image in pixels), strict=True)
    np.testing.assert_array_equal(*(image[:-8] for image in objects))
    assert (abs(found[0] - found[1]).max(axis=-1) > 60).mean() > 0.001


def test_nothing_to_draw(tmp_path):
    none = {"boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0), "classes": np.zeros(0, int), "masks": None}
    images = [annotated(0, masks=False)]
    judged = measure("voc12", [none], images, 3, absent="left out")
    write_examples(str(tmp_path / "x.npz"), CLASSES, images, [none], judged)
    examples = read_examples(str(tmp_path / "x.npz"))
    assert beside_truth({"a": examples})[:4] == b"\x89PNG"
    with pytest.raises(InputError, match="there is no precision to draw"):
        precision_recall({"a": examples})
