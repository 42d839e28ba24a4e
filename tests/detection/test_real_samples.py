"""The real VOC and COCO samples: the archives' folder, TFDS and the official JSON say the same; metrics on them."""

import dataclasses
import json
import pathlib
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from revisit_ssl.detection.annotations import for_training
from revisit_ssl.detection.measuring import measure
from revisit_ssl.detection.sets import DETECTION_SETS, open_detection
from revisit_ssl.errors import InputError
from revisit_ssl.testing import check_detection_set


@pytest.fixture
def samples(real_data):
    return pathlib.Path(real_data).parent


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    yield
    open_detection.cache_clear()


def from_truth(images, masks=False):
    """Detections that are the truth, but for crowds and difficult objects, which nobody has to find."""
    found = []
    for one in images:
        rows = np.flatnonzero(~one.crowd & ~one.difficult)
        full = one.loaded() if masks else one
        found.append(
            {"boxes": one.boxes[rows], "scores": np.linspace(0.9, 0.8, len(rows)), "classes": one.classes[rows],
             "masks": full.masks[rows] if masks else None}
        )
    return found


def test_voc_folder_and_tfds_and_the_files_themselves(samples, real_data, monkeypatch):
    folder = samples / "voc2007_sample" / "VOCdevkit"
    monkeypatch.setitem(
        DETECTION_SETS, "voc_sample", dataclasses.replace(DETECTION_SETS["voc07"], tfds={2007: "voc2007_sample"})
    )
    check_detection_set(f"voc07:{folder}")
    raw, tfds = open_detection(f"voc07:{folder}"), open_detection("voc_sample", real_data)
    counts = {"train": 10, "val": 10, "trainval": 20, "test": 12}
    assert {split: len(raw[split]) for split in counts} == {split: len(tfds[split]) for split in counts} == counts
    assert raw.metric == "voc07" and not raw.masks and raw.absent == "zero" and len(raw.classes) == 20
    boxes = 0
    for split in ("trainval", "test"):
        others = {one.image_id: one for one in tfds[split]}
        for one in raw[split]:
            other = others[one.image_id]
            assert one.size == other.size
            for name in ("boxes", "classes", "difficult", "crowd"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            np.testing.assert_array_equal(one.loaded().image, other.loaded().image)
            assert one.loaded().image.shape == (*one.size, 3)
            # The file says pixels from 1, both ends inside: an edge is one less at the left and above.
            tree = ElementTree.parse(folder / "VOC2007" / "Annotations" / f"{one.image_id}.xml")
            said = [
                [int(box.findtext(side)) - (side in ("ymin", "xmin")) for side in ("ymin", "xmin", "ymax", "xmax")]
                for box in tree.findall("object/bndbox")
            ]
            np.testing.assert_array_equal(one.boxes, said)
            names = [name.text for name in tree.findall("object/name")]
            assert [raw.classes[c] for c in one.classes] == names
            boxes += len(said)
    assert boxes == 123 and any(one.difficult.any() for one in raw["test"])
    assert len(for_training(raw["trainval"])) == 20
    found = measure(raw.metric, from_truth(raw["test"]), raw["test"], 20)
    there = {int(c) for one in raw["test"] for c in one.classes[~one.difficult]}
    assert found["metrics"]["box_ap"] == pytest.approx(100 * len(there) / 20) and set(found["curves"]) == there
    assert found["extra"]["box"]["per_class"]["AP75"] == [100.0 if c in there else 0.0 for c in range(20)]


def test_both_years(samples, tmp_path):
    """VOC07+12 is trainval of both, tested on 2007; here both years are the sample."""
    for year in (2007, 2012):
        (tmp_path / f"VOC{year}").symlink_to(samples / "voc2007_sample" / "VOCdevkit" / "VOC2007")
    both = open_detection(f"voc0712:{tmp_path}")
    assert [len(both[split]) for split in ("train", "val", "trainval", "test")] == [20, 20, 40, 12]
    later = open_detection(f"voc12:{tmp_path}")
    assert later.metric == "voc12" and len(later["trainval"]) == 20
    with pytest.raises(InputError, match="has no split 'test'; one of train, val, trainval"):
        later["test"]
    with pytest.raises(InputError, match="it is PASCAL|is PASCAL VOC 2007; name it voc07:"):
        open_detection(f"voc:{tmp_path}")
    (tmp_path / "VOC2012").unlink()
    open_detection.cache_clear()
    with pytest.raises(InputError, match="no VOC 2012 at .*; unpack the archives of .*voc2012 there"):
        open_detection(f"voc0712:{tmp_path}")


def test_coco_against_pycocotools_on_its_own_file(samples):
    coco = pytest.importorskip("pycocotools.coco")
    folder = samples / "coco2017_sample"
    check_detection_set(f"coco:{folder}")
    found = open_detection(f"coco:{folder}")
    assert found.metric == "coco" and found.masks and len(found.classes) == 80 and found.classes[0] == "person"
    assert [len(found[split]) for split in ("train", "val", "trainval", "test")] == [14, 2, 16, 12]
    path = folder / "annotations" / "instances_val2017.json"
    official = coco.COCO(str(path))
    kinds = sorted(official.cats)
    crowds = 0
    for one in found["test"]:
        own = official.imgToAnns[one.image_id]
        full = one.loaded()
        assert full.image.shape == (*one.size, 3) and full.masks.shape == (len(own), *one.size)
        for k, said in enumerate(own):
            x, y, w, h = said["bbox"]
            np.testing.assert_allclose(one.boxes[k], [y, x, y + h, x + w], rtol=1e-6)
            np.testing.assert_array_equal(full.masks[k], official.annToMask(said))
            assert (kinds[one.classes[k]], bool(one.crowd[k]), one.areas[k]) == (
                said["category_id"], said["iscrowd"] == 1, said["area"]
            )
            crowds += said["iscrowd"]
    assert crowds == 3
    detections = from_truth(found["test"], masks=True)
    draw = np.random.default_rng(0)
    for one in detections:  # some are missed, some moved
        keep = draw.random(len(one["boxes"])) < 0.8
        one.update({name: one[name][keep] for name in ("boxes", "scores", "classes", "masks")})
        one["boxes"] = one["boxes"] + draw.normal(0, 2, one["boxes"].shape)
    ours = measure(found.metric, detections, found["test"], 80)["metrics"]
    for what, name in (("bbox", "box"), ("segm", "mask")):
        stats = official_stats(official, detections, found["test"], kinds, what)
        expected = dict(zip(("ap", "ap50", "ap75"), 100 * stats[:3], strict=True))
        assert {k: ours[f"{name}_{k}"] for k in expected} == pytest.approx(expected, abs=1e-9)
    assert 20 < ours["box_ap"] < 99


def official_stats(official, detections, images, kinds, what):
    """COCOeval's numbers with the official file as the truth."""
    from pycocotools import cocoeval, mask

    results = []
    for one, image in zip(detections, images, strict=True):
        for k, (y1, x1, y2, x2) in enumerate(one["boxes"].tolist()):
            shape = {"bbox": [x1, y1, x2 - x1, y2 - y1]}
            if what == "segm":
                shape = {"segmentation": mask.encode(np.asfortranarray(one["masks"][k].astype(np.uint8)))}
            known = {"image_id": image.image_id, "category_id": kinds[one["classes"][k]], "score": one["scores"][k]}
            results.append(known | shape)
    test = cocoeval.COCOeval(official, official.loadRes(results), what)
    test.evaluate()
    test.accumulate()
    test.summarize()
    return test.stats


def test_coco_in_train_and_text_run_lengths(samples, tmp_path):
    """The same images as other tools export them: one folder for each part, crowds as text."""
    coco = pytest.importorskip("pycocotools.coco")
    mask = pytest.importorskip("pycocotools.mask")
    folder = samples / "coco2017_sample"
    usual = open_detection(f"coco:{folder}")
    for part, name in (("train", "train"), ("val", "valid")):
        path = folder / "annotations" / f"instances_{part}2017.json"
        said, official = json.loads(path.read_text()), coco.COCO(str(path))
        for one in said["annotations"]:
            if one["iscrowd"]:
                text = mask.encode(np.asfortranarray(official.annToMask(one)))
                one["segmentation"] = {"size": text["size"], "counts": text["counts"].decode()}
        (tmp_path / name).mkdir()
        for image in said["images"]:
            (tmp_path / name / image["file_name"]).symlink_to(folder / f"{part}2017" / image["file_name"])
        (tmp_path / name / "_annotations.coco.json").write_text(json.dumps(said))
    other = open_detection(f"coco:{tmp_path}")
    for split in ("trainval", "test"):
        assert usual.fingerprint(split) == other.fingerprint(split)
        for a, b in zip(usual[split], other[split], strict=True):
            np.testing.assert_array_equal(a.loaded().masks, b.loaded().masks)
    shown = for_training(usual["trainval"])
    assert len(shown) == sum((~one.crowd).any() for one in usual["trainval"])
