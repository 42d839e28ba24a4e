"""Annotations that cannot be: one line each that says which, or the rule of the paper's code. A case is one line."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from revisit_ssl.detection.annotations import Annotated, for_training
from revisit_ssl.detection.metrics_voc import voc_ap
from revisit_ssl.detection.sets import open_detection
from revisit_ssl.detection.sources import BoxSource
from revisit_ssl.errors import DataNotHere, InputError
from revisit_ssl.evaluators import Detection

BOX = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
SIZE = "<size><width>40</width><height>30</height><depth>3</depth></size>"


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    yield
    open_detection.cache_clear()


def xml(*objects, size=SIZE):
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def thing(name="cat", x1=5, y1=6, x2=20, y2=16):
    return f"<object><name>{name}</name>{BOX.format(x1, y1, x2, y2)}</object>"


def voc_folder(root, first=None, **more):
    """Six images a..f with a cat each; ``first``: what stands in a.xml; ``more``: {part: names} for ImageSets."""
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for name in "abcdef":
        Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(root / "JPEGImages" / f"{name}.png")
        (root / "Annotations" / f"{name}.xml").write_text(xml(thing()))
    if first is not None:
        (root / "Annotations" / "a.xml").write_text(first)
    for part, names in more.items():
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names) + "\n")
    return root


XML = [
    ("no XML", "not <xml", "a.xml is no XML"),
    ("cut off", xml(thing())[:-20], "a.xml is no XML"),
    ("a word for a number", xml(thing(x1="five")), "a.xml says 'five' for bndbox/xmin, where a number has to stand"),
    ("no number", xml(thing(y2="nan")), "a.xml says 'nan' for bndbox/ymax"),
    ("no box", xml("<object><name>cat</name></object>"), "a.xml says nothing for bndbox/ymin"),
    ("a box without an inside", xml(thing(), thing(x1=21, x2=20)), "object 2 of .*a.xml: box x 20 to 20, .* no inside"),
    ("a box the wrong way round", xml(thing(y1=25, y2=3)), "a.xml: box x 4 to 20, y 24 to 3 has no inside"),
    ("a box outside", xml(thing(x2=90)), "box x 4 to 90, y 5 to 16 reaches over the border of an image of 40 x 30"),
    ("a box left of the image", xml(thing(x1=-20)), "box x -21 to 20, y 5 to 16 reaches over the border"),
    ("an unknown class", xml(thing("catt")), "unknown class 'catt' in .*a.xml; one of cat, dog; did you mean cat?"),
    ("a class without a name", xml(thing("")), "unknown class '' in .*a.xml"),
]


@pytest.mark.parametrize(("what", "said", "line"), XML, ids=[case[0] for case in XML])
def test_xml(tmp_path, what, said, line):
    root = voc_folder(tmp_path / "own", said)
    (root / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match=line) as caught:
        open_detection(f"voc:{root}")["trainval"] + open_detection(f"voc:{root}")["test"]
    assert "\n" not in str(caught.value)


def test_a_set_is_read_once(tmp_path):
    name = f"voc:{voc_folder(tmp_path / 'own')}"
    found = open_detection(name)
    assert open_detection(name) is found and found["train"] is found["train"]
    open_detection.cache_clear()
    assert open_detection(name) is not found


def test_own_voc_folder(tmp_path):
    """Without lists a tenth tests and validates, at least one; a pixel too far is cut; a size may be missing."""
    over = xml(thing(x1=0, y1=0, x2=41, y2=30), size="")
    root = voc_folder(tmp_path / "own", over)
    found = open_detection(f"voc:{root}")
    assert found.classes == ("cat",) and found.metric == "voc12" and found.absent == "left out"
    sizes = {split: len(found[split]) for split in ("train", "val", "trainval", "test")}
    assert sizes == {"train": 4, "val": 1, "trainval": 5, "test": 1}
    every = {one.image_id: one for one in (*found["trainval"], *found["test"])}
    assert sorted(every) == list("abcdef") and every["a"].size == (30, 40)
    np.testing.assert_array_equal(every["a"].boxes, [[0, 0, 30, 40]])
    assert [one.image_id for one in open_detection(f"voc:{root}")["test"]] == [one.image_id for one in found["test"]]
    lists = voc_folder(tmp_path / "lists", train="abc", val="d", test="ef")
    found = open_detection(f"voc:{lists}")
    assert [len(found[split]) for split in ("train", "val", "trainval", "test")] == [3, 1, 4, 2]
    beside = tmp_path / "beside"
    for part, names in (("train", "abcd"), ("valid", "ef")):
        (beside / part).mkdir(parents=True)
        for name in names:
            shutil.copy(lists / "Annotations" / f"{name}.xml", beside / part)
            shutil.copy(lists / "JPEGImages" / f"{name}.png", beside / part)
    found = open_detection(f"voc:{beside}")
    assert [len(found[split]) for split in ("train", "val", "trainval", "test")] == [3, 1, 4, 2]


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(InputError, match="data set voc needs a folder behind its name: voc:/path; PASCAL's are voc07,"):
        open_detection("voc")
    with pytest.raises(DataNotHere, match="has no XML files in Annotations, nor in train"):
        open_detection(f"voc:{tmp_path}")
    with pytest.raises(DataNotHere, match="no VOC 2007 at .*; unpack the archives of .* or get voc/2007 of TFDS"):
        open_detection("voc0712", str(tmp_path))
    with pytest.raises(DataNotHere, match="no annotations/instances_train.*json .*; unpack annotations_trainval2017"):
        open_detection("coco", str(tmp_path))
    root = voc_folder(tmp_path / "own", train="abxd", test="ef")
    with pytest.raises(InputError, match="x.xml cannot be read"):
        open_detection(f"voc:{root}")["trainval"]
    root = voc_folder(tmp_path / "empty", train=["", ""], test="ef")
    with pytest.raises(InputError, match="train.txt names no image; write one a line, without its ending"):
        open_detection(f"voc:{root}")
    root = voc_folder(tmp_path / "lost")
    (root / "JPEGImages" / "a.png").unlink()
    with pytest.raises(InputError, match="a.xml has no image a; put it beside the others, or leave the annotation out"):
        open_detection(f"voc:{root}")["trainval"] + open_detection(f"voc:{root}")["test"]
    few = voc_folder(tmp_path / "few")
    for name in "abc":
        (few / "Annotations" / f"{name}.xml").unlink()
    with pytest.raises(InputError, match="3 images cannot be divided"):
        open_detection(f"voc:{few}")["train"]
    open_detection.cache_clear()
    for name in "def":
        (few / "Annotations" / f"{name}.xml").write_text(xml())
    with pytest.raises(InputError, match="no annotation in .* has an object; there is nothing to detect"):
        open_detection(f"voc:{few}")


def test_images_are_read_when_asked_for(tmp_path):
    root = voc_folder(tmp_path / "own", train="abcd", test="ef")
    one = open_detection(f"voc:{root}")["trainval"][0]
    assert one.loaded().image.shape == (30, 40, 3)
    picture = root / "JPEGImages" / "a.png"
    Image.fromarray(np.zeros((31, 40, 3), np.uint8)).save(picture)
    with pytest.raises(InputError, match="a.png has 40 x 31 pixels, its annotation says 40 x 30; mend either"):
        one.loaded()
    picture.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="a.png is no readable image"):
        one.loaded()
    picture.unlink()
    with pytest.raises(InputError, match="a.png cannot be read"):
        one.loaded()


def test_a_turned_photograph(tmp_path):
    """Annotated as it is looked at, or as it lies in its file: whichever has the size that is said."""
    root = voc_folder(tmp_path / "own", train="abcd", test="ef")
    pixels = np.zeros((40, 30, 3), np.uint8)
    pixels[:20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(root / "JPEGImages" / "a.png", exif=exif)
    image = open_detection(f"voc:{root}")["train"][0].loaded().image  # 30 x 40 is how it is looked at
    assert image.shape == (30, 40, 3) and image[:, 20:].min() == 255 and image[:, :20].max() == 0
    open_detection.cache_clear()
    turned = xml(thing(y2=30), size="<size><width>30</width><height>40</height></size>")
    (root / "Annotations" / "a.xml").write_text(turned)
    image = open_detection(f"voc:{root}")["train"][0].loaded().image  # as it lies in its file
    assert image.shape == (40, 30, 3) and image[:20].min() == 255 and image[20:].max() == 0


# The text of a mask of 12 x 10 with rows 2 to 5 and columns 3 to 6, as pycocotools writes it, is made in the test.
RECTANGLE = {"size": [10, 12], "counts": [32, 4, 6, 4, 6, 4, 6, 4, 54]}
CORNERS = [[3.0, 2.0, 7.0, 2.0, 7.0, 6.0, 3.0, 6.0]]


def coco_folder(root, change=lambda said: None, images=4):
    """Images of 12 x 10 with a rectangle each, whose JSON ``change`` changes."""
    (root / "annotations").mkdir(parents=True)
    (root / "train").mkdir()
    said = {"categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}], "images": [], "annotations": []}
    for i in range(images):
        Image.fromarray(np.full((10, 12, 3), 50, np.uint8)).save(root / "train" / f"{i}.png")
        said["images"].append({"id": i, "file_name": f"{i}.png", "height": 10, "width": 12})
        said["annotations"].append(
            {"id": 10 + i, "image_id": i, "category_id": 3, "bbox": [3, 2, 4, 4], "area": 16, "iscrowd": 0,
             "segmentation": CORNERS}
        )
    change(said)
    (root / "annotations" / "instances_train.json").write_text(json.dumps(said))
    return root


def first(**values):
    """A change of the first annotation."""
    return lambda said: said["annotations"][0].update(values)


def counts(numbers, size=(10, 12)):
    return first(segmentation={"size": list(size), "counts": numbers})


def image(**values):
    return lambda said: said["images"][0].update(values)


def without(key):
    return lambda said: said.pop(key)


COCO = [
    ("no image of that number", first(image_id=99), "annotation 10 .* is of image 99, which is not among the images"),
    ("an image without its file", image(file_name="x.png"), "x.png is not there, an image of .*instances_train.json"),
    ("two images of a number", image(id=1), "has two images with the id 1"),
    ("an image without its size", image(height=None), "image 0 needs id, file_name, height and width"),
    ("no categories", without("categories"), "has no 'categories'; COCO's JSON has images, annotations, categories"),
    ("no images", lambda said: said.update(images=[], annotations=[]), "instances_train.json has no images"),
    ("an unknown class", first(category_id=2), "annotation 10 .* has the unknown category 2; one of 1, 3"),
    ("a list for a class", first(category_id=[3]), "has the unknown category \\[3\\]"),
    ("a box of three numbers", first(bbox=[1, 2, 3]), "annotation 10 .* bbox \\[1, 2, 3\\]; it has to be x, y, width,"),
    ("a box of words", first(bbox=["a", 0, 1, 1]), "it has to be x, y, width, height"),
    ("a box as corners", first(bbox=[3, 2, 27, 6]), "annotation 10 .*: box x 3 to 30, y 2 to 8 reaches over"),
    ("a box outside", first(bbox=[30, 2, 4, 4]), "x 30 to 34, y 2 to 6 reaches over the border of an image of 12 x 10"),
    ("a negative width", first(bbox=[3, 2, -1, 4]), "box x 3 to 2, y 2 to 6 has no inside"),
    ("a box of no number", first(bbox=[3, 2, float("nan"), 4]), "is not finite"),
    ("run lengths of fewer pixels", counts([32, 4, 6]), "broken run lengths: they do not add up to its image's 120"),
    ("negative run lengths", counts([130, -10]), "annotation 10 .* broken run lengths"),
    ("run lengths of words", counts(["a"]), "broken run lengths"),
    ("run lengths of another image", counts([100], (10, 10)), "run lengths of a mask of \\[10, 10\\], its image is of"),
    ("text cut off", counts("Po"), "annotation 10 .* broken run lengths"),
    ("text of other characters", counts("a\u00e9"), "'\u00e9' is none of their characters"),
    ("a polygon of two points", first(segmentation=[[1, 2, 3, 4]]), "a polygon of 4 numbers; it needs three points or"),
    ("half a point", first(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "a polygon of 7 numbers"),
    ("a polygon of words", first(segmentation=[["a"] * 6]), "a polygon of 0 numbers"),
    ("a number for a mask", first(segmentation=7), "annotation 10 .* has no polygons and no run lengths"),
]


@pytest.mark.parametrize(("what", "change", "line"), COCO, ids=[case[0] for case in COCO])
def test_json(tmp_path, what, change, line):
    root = coco_folder(tmp_path / "own", change)
    with pytest.raises(InputError, match=line) as caught:
        found = open_detection(f"coco:{root}")
        found["trainval"] + found["test"]
    assert "\n" not in str(caught.value)


def test_json_that_is_none(tmp_path):
    root = coco_folder(tmp_path / "own")
    path = root / "annotations" / "instances_train.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(InputError, match="instances_train.json is no COCO JSON"):
        open_detection(f"coco:{root}")
    path.write_text("[]")  # what failed is not remembered
    with pytest.raises(InputError, match="instances_train.json is no COCO JSON"):
        open_detection(f"coco:{root}")
    path.write_text('{"images": [1], "annotations": [], "categories": []}')
    with pytest.raises(InputError, match="images has something that is no object"):
        open_detection(f"coco:{root}")


def test_parts_that_disagree(tmp_path):
    root = coco_folder(tmp_path / "own")
    said = json.loads((root / "annotations" / "instances_train.json").read_text())
    said["categories"][0]["name"] = "horse"
    (root / "val").mkdir()
    for one in said["images"]:
        shutil.copy(root / "train" / one["file_name"], root / "val")
    (root / "annotations" / "instances_val.json").write_text(json.dumps(said))
    found = open_detection(f"coco:{root}")
    with pytest.raises(InputError, match="has other categories than the set's other files"):
        found["trainval"] + found["test"]


def test_own_coco_folder(tmp_path, capsys):
    """Classes by their numbers; polygons, run lengths as numbers and as text are the same mask; a box without an inside
    and an image without boxes are the rule of detectron2."""
    mask = pytest.importorskip("pycocotools.mask")
    true = np.zeros((10, 12), bool)
    true[2:6, 3:7] = True
    text = mask.encode(np.asfortranarray(true.astype(np.uint8)))["counts"].decode()

    def change(said):
        said["annotations"][1]["segmentation"] = RECTANGLE
        said["annotations"][2].update(segmentation={"size": [10, 12], "counts": text}, iscrowd=1)
        said["annotations"].append({**said["annotations"][0], "id": 99, "bbox": [3, 2, 4, 0]})
        del said["annotations"][3]

    root = coco_folder(tmp_path / "own", change, images=5)
    found = open_detection(f"coco:{root}")
    assert found.classes == ("cat", "dog") and found.masks
    every = {one.image_id: one for one in (*found["trainval"], *found["test"])}
    assert "1 boxes without an inside are left out" in "".join(capsys.readouterr())
    for number in (0, 1, 2):
        np.testing.assert_array_equal(every[number].loaded().masks, true[None])
        np.testing.assert_array_equal(every[number].boxes, [[2, 3, 6, 7]])
        assert every[number].classes.tolist() == [1] and every[number].areas.tolist() == [16]
    assert every[3].boxes.shape == (0, 4) and every[3].loaded().masks.shape == (0, 10, 12)
    assert every[2].crowd.all()
    # Neither an image of nothing nor one of a crowd alone trains; both are tested.
    assert [one.image_id for one in for_training(every.values())] == [
        one.image_id for one in every.values() if one.image_id in (0, 1, 4)
    ]
    boxes = coco_folder(tmp_path / "boxes", lambda said: [one.pop("segmentation") for one in said["annotations"]])
    plain = open_detection(f"coco:{boxes}")
    assert not plain.masks and plain["trainval"][0].masks is None


def test_of_two_years_the_later_counts(tmp_path):
    root = coco_folder(tmp_path / "own")
    annotations = root / "annotations"
    for year in (2014, 2017):
        shutil.copy(annotations / "instances_train.json", annotations / f"instances_train{year}.json")
        shutil.copytree(root / "train", root / f"train{year}")
    (annotations / "instances_train.json").unlink()
    shutil.rmtree(root / "train2014")
    found = open_detection(f"coco:{root}")
    assert len(found["trainval"]) + len(found["test"]) == 4


def test_without_the_library_it_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    found = open_detection(f"coco:{coco_folder(tmp_path / 'own')}")
    with pytest.raises(InputError, match=r"masks .* need pycocotools; install it with: .*revisit_ssl\[detection\]"):
        found["trainval"][0].loaded()
    source = BoxSource(
        name="a", split="train", images=found["trainval"], class_names=found.classes, metric="coco", masks=True
    )
    with pytest.raises(InputError, match="need pycocotools"):
        Detection().check({"train": source})
    Detection().check({"train": dataclasses.replace(source, metric="voc12")})


def test_some_have_masks(tmp_path):
    root = coco_folder(tmp_path / "own")
    said = json.loads((root / "annotations" / "instances_train.json").read_text())
    (root / "val").mkdir()
    for one in said["images"]:
        shutil.copy(root / "train" / one["file_name"], root / "val")
    (root / "annotations" / "instances_val.json").write_text(json.dumps({**said, "info": {}}, separators=(",", ":")))
    said["annotations"][1].pop("segmentation")
    (root / "annotations" / "instances_train.json").write_text(json.dumps(said, indent=1))
    found = open_detection(f"coco:{root}")
    assert found.masks
    with pytest.raises(InputError, match="annotation 11 .* has no segmentation, others have; draw it, or leave"):
        found["trainval"]


PIXELS = np.zeros((20, 30, 3), np.uint8)
ARRAYS = [
    ("a box outside", {"boxes": [[0, 0, 40, 10]], "classes": [0]}, "image 7: box x 0 to 10, y 0 to 40 reaches over"),
    ("an empty box", {"boxes": [[5, 5, 5, 10]], "classes": [0]}, "image 7: box x 5 to 10, y 5 to 5 has no inside"),
    ("no number", {"boxes": [[np.nan, 0, 5, 5]], "classes": [0]}, "is not finite"),
    ("a class below 0", {"boxes": [[0, 0, 5, 5]], "classes": [-1]}, "image 7 has a class below 0"),
    ("fewer classes", {"boxes": [[0, 0, 5, 5]] * 2, "classes": [0]}, "2 boxes and classes of shape \\[1\\]"),
    ("more flags", {"boxes": [[0, 0, 5, 5]], "classes": [0], "crowd": [True] * 2}, "1 boxes and crowd of"),
    ("masks of another size", {"boxes": [[0, 0, 5, 5]], "classes": [0], "masks": np.ones((1, 30, 20), bool)},
     "image 7 has masks of shape \\[1, 30, 20\\]; expected \\[1, 20, 30\\]"),
    ("no size", {"image": lambda: PIXELS, "boxes": [], "classes": []}, "image 7 is loaded later; its size has to be"),
]


@pytest.mark.parametrize(("what", "values", "line"), ARRAYS, ids=[case[0] for case in ARRAYS])
def test_arrays(what, values, line):
    with pytest.raises(InputError, match=line):
        Annotated(**{"image": PIXELS, "image_id": 7, **values})


def test_a_pixel_over_the_border_is_cut_for_training():
    boxes = [[-0.5, 2, 10, 30.8], [5, 30.2, 9, 30.9]]
    masks = np.ones((2, 20, 30), bool)
    one = Annotated(image=PIXELS, boxes=boxes, classes=[0, 1], masks=lambda: masks, areas=np.array([5.0, 6.0]))
    (kept,) = for_training([one])
    np.testing.assert_array_equal(kept.boxes, np.array([[0, 2, 10, 30]], np.float32))
    assert kept.loaded().masks.shape == (1, 20, 30) and kept.classes.tolist() == [0] and kept.areas.tolist() == [5]
    assert one.boxes.shape == (2, 4)  # the test sees them as they were said


def test_all_difficult():
    """VOC's rule: they train, and nothing in them counts in the test."""
    one = Annotated(image=PIXELS, boxes=[[2, 2, 9, 9]], classes=[0], difficult=[True])
    assert for_training([one]) == (one,)
    found = {"boxes": np.array([[2.0, 2, 9, 9]]), "scores": np.array([0.9]), "classes": np.array([0])}
    assert voc_ap([found], [one], 1)["AP"] == 0 and voc_ap([found], [one], 1, absent="left out")["AP"] is None
