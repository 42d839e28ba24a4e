"""Parts of ImageNet on tiny stand-ins: folders, and TFDS's own builder fed with archives of a few images."""

import gzip
import io
import pathlib
import tarfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

from revisit_ssl.data import DATASETS, EvalView, TfdsSet, eval_batches, imagenet, open_source, sources, train_batches
from revisit_ssl.data.imagenet_lists import read_entries
from revisit_ssl.errors import InputError
from revisit_ssl.views.crops import CropSpec

CLASSES = ("n01440764", "n01443537", "n01558993", "n01692333")  # the last two belong to ImageNet-100
KEPT = CLASSES[2:]
EACH = 6  # training images of a class


def grey_of(name):
    """The level of grey that an image of this file name is filled with."""
    return 5 * (int(name[1:9]) % 7) + 31 * (int(name.rpartition("_")[2].partition(".")[0]) % 7)


def jpeg(name):
    file = io.BytesIO()
    Image.new("RGB", (20, 16), (grey_of(name),) * 3).save(file, "jpeg", quality=95)
    return file.getvalue()


def official_validation():
    """{name: class} of the first official validation images, and of none but CLASSES."""
    labels = pathlib.Path(tfds.core.tfds_path("datasets/imagenet2012/validation_labels.txt")).read_text().split()
    names = {f"ILSVRC2012_val_{i:08}.JPEG": label for i, label in enumerate(labels, 1)}
    return {name: label for name, label in names.items() if label in CLASSES}


TRAIN = {f"{c}_{i}.JPEG": c for c in CLASSES for i in range(EACH)}


@pytest.fixture(scope="module")
def folder_dir(tmp_path_factory):
    """ImageNet's folders; two validation images of each class."""
    place = tmp_path_factory.mktemp("folders")
    files = [f"train/{c}/{name}" for name, c in TRAIN.items()]
    files += [f"val/{c}/ILSVRC2012_val_{n:04}{i}.JPEG" for n, c in enumerate(CLASSES) for i in range(2)]
    for file in files:
        path = place / "imagenet" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg("n00000000_1" if "val" in path.name else path.name))
    return str(place)


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """TFDS's imagenet2012, made by its own builder out of archives that hold a few images."""

    def pack(path, files):
        with tarfile.open(path, "w") as tar:
            for name, contents in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(contents)
                tar.addfile(entry, io.BytesIO(contents))

    place = tmp_path_factory.mktemp("tfds")
    manual = place / "downloads" / "manual"
    manual.mkdir(parents=True)
    for c in CLASSES:
        pack(manual / f"{c}.tar", {name: jpeg(name) for name, of in TRAIN.items() if of == c})
    pack(manual / "ILSVRC2012_img_train.tar", {f"{c}.tar": (manual / f"{c}.tar").read_bytes() for c in CLASSES})
    some = sorted(official_validation())[:40]
    everything = {f"ILSVRC2012_val_{i:08}.JPEG": b"" for i in range(1, int(some[-1][15:23]) + 1)}
    pack(manual / "ILSVRC2012_img_val.tar", everything | {name: jpeg("n00000000_1") for name in some})
    with pytest.MonkeyPatch.context() as patch:  # none of the others: their labels would be right, but not their images
        from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

        whole = imagenet_common.generate_examples_validation
        patch.setattr(
            imagenet_common, "generate_examples_validation",
            lambda archive, labels: ((n, e) for n, e in whole(archive, labels) if n in some),
        )
        tfds.builder("imagenet2012", data_dir=str(place)).download_and_prepare()
    return str(place)


@pytest.fixture(params=["folders", "tfds", "tfds, larger than memory"])
def place(request, monkeypatch):
    """Where ImageNet lies, in one form or the other; of 24 training images, 20 train and 4 validate."""
    open_source.cache_clear()
    slices = {"train": "train[:20]", "val": "train[20:]", "trainval": "train", "test": "validation"}
    monkeypatch.setitem(DATASETS, "imagenet2012", TfdsSet("imagenet2012", slices))
    monkeypatch.setattr(imagenet, "HELD", 0.2)
    monkeypatch.setattr(imagenet, "imagenet100_classes", lambda: KEPT)
    if "larger" in request.param:
        monkeypatch.setattr(sources, "MAX_BYTES", 0)
    yield request.getfixturevalue("folder_dir" if request.param == "folders" else "tfds_dir")
    open_source.cache_clear()


def classes_seen(source):
    """The class that each image shows by its grey, in the order of evaluation; labels must agree in both passes."""
    (batch,) = eval_batches(source, 100, view=EvalView(size=8, method="squash"))
    np.testing.assert_array_equal(batch["label"], source.labels)
    np.testing.assert_array_equal(batch["index"], np.arange(source.num_examples))
    return batch["image"].numpy()[:, 4, 4, 0], source.labels


def names_of(source, greys):
    """File names by grey: unique among the training images."""
    by_grey = {grey_of(name): name for name in TRAIN}
    return [by_grey[min(by_grey, key=lambda g: abs(g - int(grey)))] for grey in greys]


def test_greys_tell_the_images_apart():
    greys = sorted(map(grey_of, TRAIN))
    assert len(set(greys)) == len(TRAIN) and np.diff(greys).min() >= 3 and greys[-1] < 256


def test_the_shipped_class_list():
    found = imagenet.imagenet100_classes()
    assert len(found) == len(set(found)) == 100 and list(found) == sorted(found)
    assert set(KEPT) < set(found) and not set(CLASSES[:2]) & set(found)
    known = pathlib.Path(tfds.core.tfds_path("datasets/imagenet2012/labels.txt")).read_text().split()
    assert set(found) < set(known)


def test_the_shipped_class_list_is_cmcs(real_data):
    path = pathlib.Path(real_data).parent / "lists" / "imagenet" / "imagenet100_cmc.txt"
    assert set(path.read_text().split()) == set(imagenet.imagenet100_classes())


def test_imagenet100(place, request):
    found = {s: open_source("imagenet100", s, data_dir=place) for s in ("train", "val", "trainval", "test")}
    kind = {"folders": "files", "tfds": "encoded"}.get(request.node.callspec.params["place"], "stream")
    for split, source in found.items():
        assert (source.name, source.split, source.kind) == ("imagenet100", split, kind)
        assert source.class_names == KEPT and source.num_classes == 2
        greys, labels = classes_seen(source)
        if split != "test":
            names = names_of(source, greys)
            assert [TRAIN[name] for name in names] == [KEPT[c] for c in labels]
            found[split] = (source, set(names))
    (train, a), (val, b), (trainval, c) = found["train"], found["val"], found["trainval"]
    assert a | b == c == {name for name, of in TRAIN.items() if of in KEPT} and not a & b
    assert len({train.fingerprint, val.fingerprint, trainval.fingerprint, found["test"].fingerprint}) == 4
    part = open_source("imagenet100", "trainval", data_dir=place, fraction=0.5, balanced=True)
    np.testing.assert_array_equal(np.bincount(part.labels), [3, 3])


def test_imagenet20_is_the_first_images_of_each_class(place, monkeypatch):
    monkeypatch.setattr(imagenet, "FIRST", 4)
    seen = {}
    for split in ("train", "trainval"):
        source = open_source("imagenet20", split, data_dir=place)
        greys, labels = classes_seen(source)
        names = names_of(source, greys)
        assert [source.class_names[c] for c in labels] == [TRAIN[name] for name in names]
        assert (source.name, source.split) == ("imagenet20", split)
        seen[split] = set(names)
    assert seen["trainval"] == {f"{c}_{i}.JPEG" for c in CLASSES for i in range(4)}
    held = {next(c for c in CLASSES if name.startswith(c)) for name in seen["trainval"] - seen["train"]}
    assert seen["train"] < seen["trainval"] and held == set(CLASSES)
    whole = open_source("imagenet20", "test", data_dir=place)
    assert whole.num_examples == (8 if place.endswith("folders0") else 40) and whole.split == "test"


def test_first_rows_go_by_the_text_of_the_file_names():
    names = ["a/n1_9.JPEG", "a/n1_10.JPEG", "b/n2_3.JPEG", "a/n1_2.JPEG"]  # as PyTorch's ImageFolder sorts: 10, 2, 9
    np.testing.assert_array_equal(imagenet.first_rows(names, [0, 0, 1, 0], 2), [1, 2, 3])


def test_labels_of_training_batches(place):
    source = open_source("imagenet100", "trainval", data_dir=place)
    data = train_batches(source, batch_size=4, crops={"image": CropSpec(size=8, method="center")}, seed=0)
    for batch in data.take(3):
        assert batch["image"].shape == (4, 1, 8, 8, 3)
        names = names_of(source, batch["image"].numpy()[:, 0, 4, 4, 0])
        assert [KEPT[c] for c in batch["label"]] == [TRAIN[name] for name in names]
        np.testing.assert_array_equal(source.labels[batch["index"].numpy()], batch["label"])


def write_lists(folder, packed=False):
    """ImageNet-LT in small: a tail over four classes, and its own validation and test images."""
    val = official_validation()
    some = {c: next(name for name in sorted(val) if val[name] == c) for c in CLASSES}
    lines = {
        "train": [f"train/{c}/{c}_{i}.JPEG {n}" for n, c in enumerate(CLASSES) for i in range(5 - n)],
        "val": [f"train/{c}/{c}_5.JPEG {n}" for n, c in enumerate(CLASSES)],
        "test": [f"val/{c}/{some[c]} {n}" for n, c in enumerate(CLASSES)],
    }
    folder.mkdir(exist_ok=True)
    for split, of in lines.items():
        path, text = folder / f"ImageNet_LT_{split}.txt", "\n".join(of) + "\n"
        if packed:
            pathlib.Path(f"{path}.gz").write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
    return lines


def test_imagenet_lt(place, tmp_path):
    lines = write_lists(tmp_path / "lists", packed="folders" in place)
    name = f"imagenet_lt:{tmp_path / 'lists'}"
    for split in ("train", "trainval", "val"):
        source = open_source(name, split, data_dir=place)
        greys, labels = classes_seen(source)
        wanted = {line.split()[0].split("/")[-1]: line.split()[1] for line in lines[split.removesuffix("val") or "val"]}
        assert {n: str(c) for n, c in zip(names_of(source, greys), labels, strict=True)} == wanted
        assert source.class_names == CLASSES and source.name == name and source.split == split
    np.testing.assert_array_equal(np.bincount(open_source(name, "train", data_dir=place).labels), [5, 4, 3, 2])
    if "folders" in place:  # the stand-in's validation images are called otherwise
        with pytest.raises(InputError, match="is missing, the first of .*ImageNet_LT_test.txt"):
            open_source(name, "test", data_dir=place)
    else:
        test = open_source(name, "test", data_dir=place)
        assert test.num_examples == 4 and sorted(test.labels) == [0, 1, 2, 3]


def test_semi_supervised_list(place, tmp_path):
    """SimCLR's form: names alone. A tenth of each class, at least one image, validates; the official set tests."""
    path = tmp_path / "1percent.txt"
    wanted = {f"{c}_{i}.JPEG": c for c in KEPT for i in (0, 2, 3)}
    path.write_text("\n".join(sorted(wanted, reverse=True)))
    name = f"imagenet_list:{path}"
    seen = {}
    for split in ("train", "val", "trainval"):
        source = open_source(name, split, data_dir=place)
        greys, labels = classes_seen(source)
        seen[split] = set(names_of(source, greys))
        assert source.class_names == KEPT
        assert [wanted[n] for n in names_of(source, greys)] == [KEPT[c] for c in labels]
    assert seen["trainval"] == set(wanted) == seen["train"] | seen["val"] and not seen["train"] & seen["val"]
    assert len(seen["val"]) == 2
    test = open_source(name, "test", data_dir=place)
    assert test.class_names == KEPT and set(test.labels) == {0, 1} and test.name == name


def test_published_lists_can_be_read(real_data):
    lists = pathlib.Path(real_data).parent / "lists" / "imagenet"
    for name, count in (("1percent.txt", 12_811), ("10percent.txt", 128_116)):
        entries = read_entries(str(lists / name), "trainval")
        assert len(entries.names) == count and len(entries.class_names) == len(set(entries.labels)) == 1000
    train, val = (read_entries(str(lists / "1percent.txt"), split) for split in ("train", "val"))
    assert len(train.names) + len(val.names) == 12_811 and not set(train.names) & set(val.names)
    assert np.bincount(val.labels).tolist() == [1] * 1000
    tail = read_entries(str(lists / "imageNet_100_LT_train.txt.gz"), "trainval")
    assert len(tail.names) == 12_205 and tail.class_names == imagenet.imagenet100_classes()
    counts = np.bincount(tail.labels)
    assert (counts.max(), counts.min()) == (1280, 6)
    for name, each in (("ImageNet_LT_val.txt.gz", 20), ("ImageNet_LT_test.txt.gz", 50)):
        entries = read_entries(str(lists / name), "trainval")
        with gzip.open(lists / name, "rt") as file:  # the label of a list is the place of its class
            assert [int(line.split()[1]) for line in file] == entries.labels.tolist()
        assert np.bincount(entries.labels).tolist() == [each] * 1000


def test_what_is_wrong_is_said(folder_dir, tfds_dir, tmp_path, monkeypatch):
    def message(name, split="train", data_dir=folder_dir):
        open_source.cache_clear()
        with pytest.raises(InputError) as error:
            open_source(name, split, data_dir=str(data_dir))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "has 2 of the 100 classes; n01729322 is missing" in message("imagenet100")
    (tmp_path / "empty").mkdir()
    text = message("imagenet100", data_dir=tmp_path / "empty")
    assert "imagenet100 needs ImageNet, as folders imagenet/train/<class>" in text
    assert "ILSVRC2012_img_train.tar" in text and str(tmp_path / "empty") in text
    assert "OpenLongTailRecognition" in message("imagenet_lt", data_dir=tmp_path)
    assert "holds no list that ends in train.txt" in message(f"imagenet_lt:{tmp_path / 'empty'}")
    assert "needs a list behind its name: imagenet_list:/path/1percent.txt" in message("imagenet_list")
    assert "no list of images '/no/such.txt'" in message("imagenet_list:/no/such.txt")
    path = tmp_path / "list.txt"
    for line, words in (
        ("cat.jpg", "line 2 is 'cat.jpg'; expected train/n01440764/n01440764_762.JPEG 0"),
        ("n01440764_1.JPEG 0 1", "line 2 is"),
        ("n01440764_0.JPEG", "names 1 images more than once"),
    ):
        path.write_text(f"n01440764_0.JPEG\n{line}\n")
        assert words in message(f"imagenet_list:{path}")
    path.write_text("n01440764_0.JPEG\n")
    assert "is too short to hold out a val split" in message(f"imagenet_list:{path}", "val")
    path.write_text("n01440764_99.JPEG\n")
    assert "n01440764_99.JPEG is missing, the first of" in message(f"imagenet_list:{path}", "trainval")
    monkeypatch.setitem(DATASETS, "imagenet2012", TfdsSet("imagenet2012", {"trainval": "train", "test": "x"}))
    assert "imagenet2012 lacks 1 of the 1 images" in message(f"imagenet_list:{path}", "trainval", tfds_dir)
    path.write_text("\n")
    assert "names no images" in message(f"imagenet_list:{path}")
    write_lists(tmp_path / "lists")
    (tmp_path / "lists" / "ImageNet_LT_val.txt").write_text("train/n09999999/n09999999_1.JPEG 0\n")
    assert "class n09999999" in message(f"imagenet_lt:{tmp_path / 'lists'}", "val")
    (tmp_path / "lists" / "other_train.txt").write_text("")
    assert "holds the lists ImageNet_LT_train.txt and other_train.txt" in message(f"imagenet_lt:{tmp_path / 'lists'}")
    (tmp_path / "broken.txt.gz").write_bytes(b"no gzip")
    assert "cannot be read as a list" in message(f"imagenet_list:{tmp_path / 'broken.txt.gz'}")
    assert "imagenet100 takes nothing behind its name" in message("imagenet100:/path")


def test_of_classes_can_be_asked_twice(toy_dir, set_limits):
    set_limits(0, 0)
    whole = open_source("toy_scenes_tiny", "val", data_dir=toy_dir)
    two = whole.of_classes(("cup", "boat", "tree")).of_classes(("tree", "cup"))
    assert [whole.class_names[c] for c in whole.labels if whole.class_names[c] in ("tree", "cup")] == [
        ("tree", "cup")[c] for c in two.labels
    ]
    read = [int(label) for _, _, label in two.records.in_order()]
    np.testing.assert_array_equal(read, two.labels)
    with pytest.raises(InputError, match="toy_scenes_tiny has no class 'cat'"):
        whole.of_classes(("cat",))
    assert isinstance(two.records.new_labels, np.ndarray) and tf.is_tensor(two.records._new_labels)
