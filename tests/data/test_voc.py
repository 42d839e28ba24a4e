"""VOC 2007: the folder of the archives and TFDS say the same; difficult objects; errors that say what to get."""

import dataclasses
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.data import DATASETS, EvalView, eval_batches, open_source, voc
from revisit_ssl.errors import InputError

SPLITS = {"train": ["000005", "000007"], "val": ["000009"], "test": ["000001", "000002"]}
# Of the 20 classes: 000005 has a chair, 000007 a difficult car, 000009 a horse and a person; every test image a dog.
SAID = {"chair": {"000005": 1}, "car": {"000007": 0}, "horse": {"000009": 1}, "person": {"000009": 1}}
SAID |= {"dog": {"000001": 1, "000002": 1}}


@pytest.fixture
def devkit(make_folder):
    """Five images of noise in the layout of the archives; the folder that holds VOCdevkit."""
    main = "VOCdevkit/VOC2007/ImageSets/Main"
    names = [name for part in SPLITS.values() for name in part]
    root = make_folder({f"VOCdevkit/VOC2007/JPEGImages/{name}.jpg": (30, 40) for name in names}, "data")
    parts = SPLITS | {"trainval": SPLITS["train"] + SPLITS["val"]}
    (root / main).mkdir(parents=True)
    for part, images in parts.items():
        (root / main / f"{part}.txt").write_text("".join(f"{name}\n" for name in images))
    for name in voc.CLASSES:
        for part in ("trainval", "test"):
            lines = [f"{image} {SAID.get(name, {}).get(image, -1):2}\n" for image in parts[part]]
            (root / main / f"{name}_{part}.txt").write_text("".join(lines))
    yield root
    open_source.cache_clear()


def test_folder_of_the_archives(devkit):
    found = {s: open_source("voc", s, data_dir=str(devkit)) for s in ("train", "val", "trainval", "test")}
    assert {s: source.num_examples for s, source in found.items()} == {"train": 2, "val": 1, "trainval": 3, "test": 2}
    whole = found["trainval"]
    assert (whole.kind, whole.labels, whole.num_classes, whole.multi_label_names) == ("files", None, None, voc.CLASSES)
    expected = np.zeros((3, 20), int)
    for (row, name), value in {(0, "chair"): 1, (1, "car"): -1, (2, "horse"): 1, (2, "person"): 1}.items():
        expected[row, voc.CLASSES.index(name)] = value
    np.testing.assert_array_equal(whole.multi_labels, expected)
    np.testing.assert_array_equal(found["train"].multi_labels, expected[:2])
    np.testing.assert_array_equal(whole.subset([0, 2]).multi_labels, expected[[0, 2]])
    np.testing.assert_array_equal(whole.subset([1, 2]).multi_labels, expected[1:])
    assert found["test"].multi_labels.sum() == 2 and found["test"].multi_labels[:, voc.CLASSES.index("dog")].all()
    assert len({source.fingerprint for source in found.values()}) == 4
    # Short side to 24, then 20 x 20 whatever the ratio.
    (batch,) = eval_batches(whole, 3, view=EvalView(size=20, resize=24, method="warp"))
    image = tf.io.decode_jpeg(tf.io.read_file(whole.paths[2]))
    expected = tf.image.resize(tf.image.resize(image, (24, 32)), (20, 20))
    np.testing.assert_array_equal(batch["image"][2], np.rint(expected))
    for place in (devkit / "VOCdevkit", devkit / "VOCdevkit/VOC2007"):
        named = open_source(f"voc:{place}", "test", data_dir="/no/such/place")
        assert named.fingerprint == found["test"].fingerprint


def test_the_sample_from_its_folder_and_from_tfds_against_the_official_labels(real_data, monkeypatch):
    monkeypatch.setitem(DATASETS, "voc_sample", dataclasses.replace(DATASETS["voc"], tfds="voc2007_sample"))
    data = pathlib.Path(real_data).parent
    folder = data / "voc2007_sample" / "VOCdevkit"
    official = np.load(data / "lists" / "voc" / "voc2007_classification_labels.npz")
    # All images of the sample are of the official test split: -1 absent, 0 difficult, 1 present.
    official = dict(zip(official["test_ids"], np.choose(official["test_labels"] + 1, [0, -1, 1]), strict=True))
    for split, count in (("train", 10), ("val", 10), ("trainval", 20), ("test", 12)):
        tfds, raw = open_source("voc_sample", split, data_dir=real_data), open_source(f"voc:{folder}", split)
        assert tfds.num_examples == raw.num_examples == count and tfds.multi_label_names == raw.multi_label_names
        by_bytes = {tfds.encoded[i].numpy(): tfds.multi_labels[i] for i in range(count)}  # TFDS has shuffled them
        for path, row in zip(raw.paths, raw.multi_labels, strict=True):
            true = official[pathlib.Path(path.numpy().decode()).stem]
            np.testing.assert_array_equal(by_bytes[tf.io.read_file(path).numpy()], true)
            np.testing.assert_array_equal(row, np.abs(true))  # the sample's own lists call no object difficult
        assert split == "train" or -1 in tfds.multi_labels
    open_source.cache_clear()


def test_difficult_objects_in_tfds():
    rows = voc.from_tfds([{"labels": np.array([3, 7]), "labels_no_difficult": np.array([7])}])
    assert rows.tolist() == [[0, 0, 0, -1, 0, 0, 0, 1] + [0] * 12]


def test_refusals(devkit, tmp_path):
    with pytest.raises(InputError, match="data set voc .*unpack VOCtrainval.*or name their folder: voc:/path/VOCd"):
        open_source("voc", "test", data_dir=str(tmp_path / "empty"))
    with pytest.raises(InputError, match="no VOC 2007 at /no/such; expected VOC2007 with ImageSets/Main"):
        open_source("voc:/no/such", "test")
    main = devkit / "VOCdevkit/VOC2007/ImageSets/Main"
    lines = {
        "says nothing of image 000007": ("car_trainval.txt", "000005 -1\n000009 -1\n"),
        "line 1 is not an image with 1, 0 or -1": ("car_trainval.txt", "000005 yes\n"),
        "000008.jpg is missing, an image of trainval.txt": ("trainval.txt", "000008\n"),
        "car_trainval.txt is missing or empty": ("car_trainval.txt", "\n"),
    }
    for message, (name, text) in lines.items():
        old = (main / name).read_text()
        (main / name).write_text(text)
        if name == "trainval.txt":  # the lists know the image, only its file is gone
            shutil.copytree(main, tmp_path / "lists")
            for path in main.glob("*_trainval.txt"):
                path.write_text(path.read_text() + "000008 -1\n")
        with pytest.raises(InputError, match=message):
            open_source("voc", "trainval", data_dir=str(devkit))
        (main / name).write_text(old)
