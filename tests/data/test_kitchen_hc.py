"""Kitchen-HC out of scenes that the test films itself, and out of a ready folder."""

import itertools
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from revisit_ssl.data import DATASETS, kitchen_hc_builder, open_source
from revisit_ssl.errors import InputError

HEIGHT, WIDTH, FRAMES = 40, 60, 3
OBJECTS = {"rice": (200, 40, 40), "soap": (40, 200, 40), "soda": (40, 40, 200)}
SCENES = 4
XML = "<annotation><filename>{frame}</filename>{boxes}</annotation>"
BOX = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def boxes_of(scene, frame):
    """[(class, (left, top, right, bottom))] of whole objects: seen from elsewhere in every frame, never overlapping."""
    shift = 3 * frame + scene
    found = [("rice", (2 + shift, 4, 12 + shift, 20)), ("soap", (2 + shift, 22, 10 + shift, 38))]
    if scene != 3 or frame == 0:
        found.append(("soda", (30 + shift, 10, 44 + shift, 30)))
    return found


def film(root):
    """Scenes as GMU-Kitchens lays them out; every object is a block of its colour on black, with a white edge."""
    for scene in range(1, SCENES + 1):
        folder = root / f"gmu_scene_{scene:03}"
        for name in ("Images", "Annotations"):
            (folder / name).mkdir(parents=True)
        for frame in range(FRAMES):
            pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            for name, (left, top, right, bottom) in boxes_of(scene, frame):
                pixels[top:bottom, left:right] = 255
                pixels[top + 1 : bottom - 1, left + 1 : right - 1] = OBJECTS[name]
            number = 9 + frame  # rgb_9, rgb_10: not in alphabetical order
            Image.fromarray(pixels).save(folder / "Images" / f"rgb_{number}.png")
            boxes = "".join(BOX.format(name, *box) for name, box in boxes_of(scene, frame))
            if frame == 0:  # a box that is a line, and one that lies outside
                boxes += BOX.format("rice", 5, 5, 6, 30) + BOX.format("soap", WIDTH + 3, 5, WIDTH + 20, 30)
            text = XML.format(frame=f"rgb_{number}.png", boxes=boxes)
            (folder / "Annotations" / f"rgb_{number}.xml").write_text(text)
    return root


def crops_in(source):
    """[(class, height, width)] of a source, each image checked: tight, of its class's colour, with its white edge."""
    found = []
    for contents, label in zip(source.encoded, source.labels, strict=True):
        image = tf.io.decode_png(contents).numpy()
        name = source.class_names[label]
        inner, edge = image[1:-1, 1:-1].reshape(-1, 3), np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (inner == OBJECTS[name]).all() and (edge == 255).all()
        found.append((name, *image.shape[:2]))
    return sorted(found)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(folder of TFDS sets, what was printed while kitchen_hc was made there at its first use)."""
    place = tmp_path_factory.mktemp("tensorflow_datasets")
    film(place / "downloads" / "manual")
    import contextlib
    import io

    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        open_source("kitchen_hc", "train", data_dir=str(place))
    return str(place), printed.getvalue()


def test_crops_are_tight_and_whole_scenes_apart(made):
    place, _ = made
    found = {s: open_source("kitchen_hc", s, data_dir=place) for s in ("train", "val", "trainval", "test")}
    crops = {split: crops_in(source) for split, source in found.items()}
    assert sorted(crops["train"] + crops["val"]) == crops["trainval"]
    for source in found.values():
        assert source.kind == "encoded" and source.class_names == ("rice", "soap", "soda")
        assert source.name == "kitchen_hc" and source.labels.dtype == np.int64
    # Scene 3 has fewest boxes, 7 of 34; it validates. Of the others, which are alike, the first one tests.
    expected = {"train": (2, 4), "val": (3,), "test": (1,)}
    for split, scenes in expected.items():
        boxes = [(n, b[3] - b[1], b[2] - b[0]) for s in scenes for f in range(FRAMES) for n, b in boxes_of(s, f)]
        assert crops[split] == sorted(boxes), split
    data = tfds.load("kitchen_hc", split="validation", data_dir=place, download=False)
    assert {example["scene"] for example in data.as_numpy_iterator()} == {b"gmu_scene_003"}


def test_what_was_made_is_printed_beside_what_was_published(made):
    (line,) = [line for line in made[1].splitlines() if line.startswith("kitchen_hc:")]
    assert line == (
        "kitchen_hc: ours (published): train 18 (20,800), validation 7 (4,000), test 9 (14,400); classes 3 (11); "
        "scenes: train 002 004, validation 003, test 001"
    )


def test_behaves_as_a_source(made):
    place, _ = made
    whole = open_source("kitchen_hc", "train", data_dir=place)
    part = open_source("kitchen_hc", "train", data_dir=place, fraction=0.5, balanced=True)
    np.testing.assert_array_equal(np.bincount(part.labels), [3, 3, 3])
    open_source.cache_clear()
    again = open_source("kitchen_hc", "train", data_dir=place)
    assert again.fingerprint == whole.fingerprint != part.fingerprint
    np.testing.assert_array_equal(again.labels, whole.labels)


def test_boxes_are_clipped_and_slivers_left_out(tmp_path):
    folder = film(tmp_path) / "gmu_scene_001"
    objects = [
        ("a", -5, -3, 10, 8),
        ("b", 55, 30, 99, 99),
        ("c", 0, 0, 1, 30),
        ("d", 4, 4, 6, 6),
        ("e", 58.6, 1, 70, 9),
    ]
    text = XML.format(frame="x", boxes="".join(BOX.format(*o) for o in objects))
    (folder / "Annotations" / "rgb_10.xml").write_text(text)
    frames = kitchen_hc_builder.read_scene(str(folder))
    assert [path.rpartition("/")[2] for path, _ in frames] == ["rgb_9.png", "rgb_10.png", "rgb_11.png"]
    assert frames[0][1] == boxes_of(1, 0)
    assert frames[1][1] == [("a", (0, 0, 10, 8)), ("b", (55, 30, 60, 40)), ("d", (4, 4, 6, 6))]


def test_nine_scenes_are_split_as_published():
    """Against all 504 splits of five, one and three scenes, by brute force."""
    counts = np.random.default_rng(0).integers(150, 700, (9, 11))
    train, val, test = kitchen_hc_builder.split_scenes(counts)
    assert (len(train), len(val), len(test)) == (5, 1, 3) and sorted(train + val + test) == list(range(9))
    sizes = counts.sum(1)

    def distance(val, test):
        parts = np.array([sizes.sum() - sizes[[val, *test]].sum(), sizes[val], sizes[list(test)].sum()])
        return np.abs(parts / sizes.sum() - np.array([20.8, 4.0, 14.4]) / 39.2).sum()

    every = [distance(v, t) for t in itertools.combinations(range(9), 3) for v in range(9) if v not in t]
    assert len(every) == 504
    assert distance(val[0], test) == pytest.approx(min(every))


def test_classes_are_seen_in_training_where_that_can_be():
    counts = np.full((9, 2), 100)
    counts[:, 1] = 0
    counts[4, 1] = 1  # one scene alone has the second class
    for shift in range(9):
        train, _, _ = kitchen_hc_builder.split_scenes(np.roll(counts, shift, 0))
        assert (4 + shift) % 9 in train


@pytest.mark.parametrize("with_val", [False, True])
def test_ready_folder(tmp_path, capsys, with_val):
    ready = tmp_path / "downloads" / "manual" / "kitchen_hc"
    sizes = {"train": 10, "test": 4} | ({"val": 3} if with_val else {})
    for part, each in sizes.items():
        for name, colour in OBJECTS.items():
            (ready / part / name).mkdir(parents=True)
            for i in range(each):
                pixels = np.full((8 + i, 9, 3), 255, np.uint8)
                pixels[1:-1, 1:-1] = colour
                Image.fromarray(pixels).save(ready / part / name / f"{i}.png")
    found = {s: open_source("kitchen_hc", s, data_dir=str(tmp_path)) for s in ("train", "val", "trainval", "test")}
    counts = {split: len(crops_in(source)) for split, source in found.items()}
    train, val = (30, 9) if with_val else (27, 3)
    assert counts == {"train": train, "val": val, "trainval": train + val, "test": 12}
    assert crops_in(found["test"]) == sorted((name, 8 + i, 9) for name in OBJECTS for i in range(4))
    assert f"train {train} (20,800), validation {val} (4,000), test 12 (14,400)" in capsys.readouterr().err


def test_what_is_wrong_is_said(tmp_path):
    def message():
        open_source.cache_clear()
        with pytest.raises(InputError) as error:
            open_source("kitchen_hc", "train", data_dir=str(tmp_path))
        text = str(error.value)
        assert "\n" not in text and not (tmp_path / "kitchen_hc" / "1.0.0").exists()
        return text

    text = message()
    assert f"data set kitchen_hc is not in {tmp_path}; put the folders gmu_scene_001" in text
    assert str(tmp_path / "downloads" / "manual") in text and "CLD-UnsupervisedLearning" in text
    manual = tmp_path / "downloads" / "manual"
    film(manual)
    scene = manual / "gmu_scene_002"
    note, frame = scene / "Annotations" / "rgb_10.xml", scene / "Images" / "rgb_10.png"
    whole = note.read_text()
    for broken in (
        "<annotation>",
        whole.replace("<xmin>", "<x>").replace("</xmin>", "</x>"),
        whole.replace("8<", "?<"),
    ):
        note.write_text(broken)
        assert "gmu_scene_002/Annotations/rgb_10.xml is no VOC annotation" in message()
    note.write_text(whole)
    good = frame.read_bytes()
    frame.write_bytes(good[:200])
    assert f"cannot decode the frame {frame}" in message()
    frame.write_bytes(good)
    shutil.rmtree(scene / "Annotations")
    assert "gmu_scene_002 has no frame with its boxes; expected Images/rgb_1.png" in message()
    for number in (2, 3):
        shutil.rmtree(manual / f"gmu_scene_{number:03}")
    assert "has 2 of the nine scenes; at least three are needed" in message()


def test_frames_without_boxes_are_counted(tmp_path, capsys):
    folder = film(tmp_path) / "gmu_scene_001"
    (folder / "Annotations" / "rgb_9.xml").unlink()
    (folder / "Images" / "rgb_11.png").unlink()
    assert [path[-10:] for path, _ in kitchen_hc_builder.read_scene(str(folder))] == ["rgb_10.png"]
    assert "2 frames or annotations without the other are left out" in capsys.readouterr().err


def test_is_registered():
    assert DATASETS["kitchen_hc"].tfds in tfds.list_builders()
