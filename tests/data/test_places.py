"""Places205 on tiny stand-ins for both layouts: official numbers, held-out images, errors that say what to get."""

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.data import EvalView, eval_batches, open_source, places
from revisit_ssl.errors import InputError

IMAGES = f"places205/{places.IMAGES}"
FOLDERS = {0: "a/abbey", 11: "b/bakery/shop", 204: "y/yard"}  # three of the 205


@pytest.fixture
def official(make_folder):
    """Both archives as they unpack: 20 training and 2 validation images a class, listed in no order."""
    lists = {
        name: [f"{folder}/gsun_{name}{i:02}.jpg {label}" for i in range(count) for label, folder in FOLDERS.items()]
        for name, count in (("train", 20), ("val", 2))
    }
    root = make_folder({f"{IMAGES}/{line.split()[0]}": (16, 20) for lines in lists.values() for line in lines}, "data")
    folder = root / "places205" / places.LISTS
    folder.mkdir()
    for name, lines in lists.items():
        (folder / f"{name}_places205.csv").write_text("\n".join(lines) + "\n")
    yield root
    open_source.cache_clear()


def test_official_archives(official):
    found = {s: open_source("places205", s, data_dir=str(official)) for s in ("train", "val", "trainval", "test")}
    assert {s: source.num_examples for s, source in found.items()} == {"train": 54, "val": 6, "trainval": 60, "test": 6}
    names = {0: "abbey", 11: "bakery_shop", 204: "yard"}
    for split, source in found.items():
        assert source.kind == "files" and source.num_classes == 205
        assert {c: source.class_names[c] for c in names} == names
        assert np.bincount(source.labels)[[0, 11, 204]].min() == source.num_examples // 3, split
        for path, label in zip(source.paths.numpy(), source.labels, strict=True):
            assert f"/{FOLDERS[label]}/gsun_{'val' if split == 'test' else 'train'}" in path.decode()
    train, val, trainval = (set(found[s].paths.numpy()) for s in ("train", "val", "trainval"))
    assert not train & val and train | val == trainval
    assert len({source.fingerprint for source in found.values()}) == 4
    (batch,) = eval_batches(found["val"], 6, view=EvalView(size=8, resize=12, method="squash"))
    image = tf.io.decode_jpeg(tf.io.read_file(found["val"].paths[4]))
    expected = np.rint(tf.image.resize(image, (12, 12)).numpy())[2:10, 2:10]
    np.testing.assert_array_equal(batch["image"][4], expected)
    np.testing.assert_array_equal(batch["label"], found["val"].labels)


def test_at_most_so_many_are_held_out(official, monkeypatch):
    monkeypatch.setattr(places, "HELD", 3)
    assert open_source("places205", "val", data_dir=str(official)).num_examples == 3


def test_class_folders(make_folder):
    classes = [f"class{i:03}" for i in range(places.CLASSES)]
    files = {f"places205/train/{c}/{i}.png": (4, 4) for c in classes for i in range(2)}
    root = make_folder(files | {f"places205/val/{c}/0.png": (4, 4) for c in classes}, "data")
    found = {s: open_source("places205", s, data_dir=str(root)) for s in ("train", "val", "trainval", "test")}
    assert {s: source.num_examples for s, source in found.items()} == dict(train=205, val=205, trainval=410, test=205)
    for source in found.values():  # in alphabetical order, as the official numbers
        assert source.class_names == tuple(classes)
        assert all(f"/class{c:03}/" in p.decode() for p, c in zip(source.paths.numpy(), source.labels, strict=True))
    assert all("/val/" in p.decode() for p in found["test"].paths.numpy())
    # The official test images change nothing: they have no labels.
    make_folder({"places205/test/0.png": (4, 4)}, "data")
    open_source.cache_clear()
    for split, source in found.items():
        again = open_source("places205", split, data_dir=str(root))
        assert (again.paths.numpy() == source.paths.numpy()).all(), split


def test_what_is_missing_is_said(official, make_folder, tmp_path):
    def message(folder):
        open_source.cache_clear()
        with pytest.raises(InputError) as error:
            open_source("places205", "train", data_dir=str(folder))
        assert "\n" not in str(error.value)
        return str(error.value)

    (tmp_path / "empty").mkdir()
    text = message(tmp_path / "empty")
    assert "places.csail.mit.edu" in text and "train/<class>" in text and str(tmp_path / "empty" / "places205") in text
    few = make_folder({f"places205/{s}/{c}/0.png": (4, 4) for s in ("train", "val") for c in "ab"}, "few")
    assert "2 class folders, not 205; use folder:" in message(few)
    path = official / "places205" / places.LISTS / "train_places205.csv"
    whole = path.read_text()
    for line in ("a/abbey/x.jpg", "a/abbey/x.jpg 205", "a/abbey/x.jpg abbey"):
        path.write_text(whole + line)
        assert "train_places205.csv line 61 is not an image with its class" in message(official)
    path.write_text("")
    assert "line 1 is not an image" in message(official)
    path.write_text("a/abbey/other.jpg 0\n")
    assert "other.jpg is missing" in message(official) and "imagesPlaces205_resize" in message(official)
    path.unlink()
    assert "train_places205.csv is missing" in message(official)
