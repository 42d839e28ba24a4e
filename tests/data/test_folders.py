"""Image folders as people have them: layouts, links, names, strays; what is left out is said with names."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from revisit_ssl.data import SPLITS, about_source, data_report, folder_report, folders, looking, open_source
from revisit_ssl.errors import InputError


@pytest.fixture(autouse=True)
def forget():
    yield
    open_source.cache_clear()


def put(root, *names, count=None, number=0):
    """Images of noise, all different, under these names; with ``count`` so many in each of these folders."""
    for name in names if count is None else [f"{name}/{i:03}.png" for name in names for i in range(count)]:
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        seed = [number, *name.encode(errors="surrogateescape")]
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, format=None if name.lower().endswith(looking.EXTENSIONS) else "PNG")


def link(root, name, target):
    os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
    os.symlink(target, os.path.join(root, name))


def write(root, *names, text="no image"):
    for name in names:
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)


def both(*steps):
    return lambda root: [step(root) for step in steps]


def classes(*names, count=20):
    return lambda root: put(root, *names, count=count)


# what lies there; images of train, val, trainval, test; classes; words of the warnings, each of its own line
LAYOUTS = {
    "classes": (classes("a", "b"), (32, 4, 36, 4), "ab", []),
    "flat": (lambda root: put(root, *(f"{i}.png" for i in range(20))), (16, 2, 18, 2), None, []),
    "all in one folder": (classes("one"), (16, 2, 18, 2), None, []),
    "classes in one folder": (classes("data/a", "data/b"), (32, 4, 36, 4), "ab", []),
    "nested classes": (classes("a/x", "a/y", "b/z"), (48, 6, 54, 6), "ab", []),
    "capital Train and Test": (both(classes("Train/a", "Train/b"), classes("Test/a", "Test/b", count=5)),
                               (36, 4, 40, 10), "ab", []),
    "Training and Testing": (both(classes("Training/a", "Training/b"), classes("Testing/a", "Testing/b", count=5)),
                             (36, 4, 40, 10), "ab", []),
    "train, Validation, test": (classes(*(f"{s}/{c}" for s in ("train", "Validation", "test") for c in "ab"), count=5),
                                (10, 10, 20, 10), "ab", []),
    "val of COCO's years": (classes("train2017/a", "train2017/b", "val2017/a", "val2017/b"),
                            (36, 4, 40, 40), "ab", []),
    "training_set twice": (classes("training_set/training_set/a", "training_set/training_set/b", "test_set/test_set/a"),
                           (36, 4, 40, 20), "ab", ["no test image of 1 class (b)"]),
    "seg_train, seg_test, seg_pred": (
        both(classes("seg_train/a", "seg_train/b", "seg_test/a", "seg_test/b"), lambda r: put(r, "seg_pred/0.png")),
        (36, 4, 40, 40), "ab", ["left out 1 image outside of train, val and test (seg_pred/0.png)"]),
    "train alone": (classes("TRAIN/a", "TRAIN/b"), (32, 4, 36, 4), "ab", []),
    "a class called train": (classes("train", "bus"), (32, 4, 36, 4), ("bus", "train"), []),
    "flat test beside classes": (
        both(classes("train/a", "train/b"), lambda root: put(root, *(f"test/{i}.png" for i in range(15)))),
        (32, 4, 36, 4), "ab", ["left out 15 images of test, which has no class folders",
                               "(test/0.png, test/1.png, test/10.png and 12 more)"]),
    "Dogs vs Cats": (
        both(classes("train/cat", "train/dog"), lambda root: put(root, "test1/1.png", "test1/2.png")),
        (32, 4, 36, 4), ("cat", "dog"), ["left out 2 images of test"]),
    "flat test in a folder": (
        both(classes("train/a", "train/b"), classes("test/test", count=15)), (32, 4, 36, 4), "ab",
        ["left out 15 images of test"]),
    "flat val beside classes": (
        both(classes("train/a", "train/b", "test/a", "test/b"), lambda root: put(root, "val/0.png")),
        (36, 4, 40, 40), "ab", ["left out 1 image of val"]),
    "flat train and test": (
        lambda root: put(root, *(f"{s}/{i}.png" for s in ("train", "test") for i in range(10))),
        (9, 1, 10, 10), None, []),
    "classes in test alone": (
        both(lambda root: put(root, *(f"train/{i}.png" for i in range(10))), classes("test/a", "test/b")),
        (9, 1, 10, 40), None, []),
    "stray image": (both(classes("a", "b"), lambda root: put(root, "preview.png")), (32, 4, 36, 4), "ab",
                    ["left out 1 image beside the class folders (preview.png)"]),
    "stray images in test": (
        both(classes("train/a", "train/b", "test/a", "test/b"), lambda r: put(r, *(f"test/{i}.png" for i in range(5)))),
        (36, 4, 40, 40), "ab",
        ["left out 5 images beside the class folders of test (test/0.png, test/1.png, test/2.png and 2 more)"]),
    "stray image beside splits": (both(classes("train/a", "train/b"), lambda root: put(root, "logo.png")),
                                  (32, 4, 36, 4), "ab", ["left out 1 image outside of train, val and test (logo.png)"]),
    "most images lie loose": (both(classes("a", "b", count=4), lambda r: put(r, *(f"{i}.png" for i in range(12)))),
                              (16, 2, 18, 2), None, []),
    "hidden and system folders": (
        both(classes("a", "b"),
             classes("@eaDir", "a/@eaDir", "__MACOSX/a", ".cache", "#recycle", "lost+found", count=3),
             lambda root: write(root, "a/Thumbs.db", "b/desktop.ini", ".DS_Store", "a/._000.png")),
        (32, 4, 36, 4), "ab", []),
    "empty class folder": (both(classes("a", "b"), lambda root: os.makedirs(f"{root}/c/d")), (32, 4, 36, 4), "ab",
                           ["1 folder without a readable image (c)"]),
    "class of broken images": (both(classes("a", "b"), lambda root: write(root, "c/0.jpg", "c/1.jpg")),
                               (32, 4, 36, 4), "ab",
                               ["skipped 2 files that are no readable images (c/0.jpg, c/1.jpg)",
                                "1 folder without a readable image (c)"]),
    "class of 7": (both(classes("a"), lambda root: put(root, "b", count=7)), (21, 3, 24, 3), "ab", []),
    "class of 3": (both(classes("a"), lambda root: put(root, "b", count=3)), (17, 3, 20, 3), "ab", []),
    "class of 2": (both(classes("a"), lambda root: put(root, "b", count=2)), (17, 3, 20, 2), "ab",
                   ["no test image of 1 class (b)"]),
    "class of 1": (both(classes("a"), lambda root: put(root, "b", count=1)), (17, 2, 19, 2), "ab",
                   ["no validation image of 1 class (b)", "no test image of 1 class (b)"]),
    "loop": (both(classes("a", "b", "c"), lambda root: link(root, "a/self", "..")), (48, 6, 54, 6), "abc",
             ["skipped 1 link to what is there already (a/self)"]),
    "two loops": (both(classes("a", "b"), lambda root: [link(root, name, ".") for name in "xy"]),
                  (32, 4, 36, 4), "ab", ["skipped 2 links to what is there already (x, y)"]),
    "loop of links": (both(classes("a", "b"), lambda root: [link(root, "x", "y"), link(root, "y", "x")]),
                      (32, 4, 36, 4), "ab", ["skipped 2 links that lead nowhere (x, y)"]),
    "link to a folder above": (both(classes("a", "b"), lambda root: link(root, "a/up", "../..")), (32, 4, 36, 4), "ab",
                               ["skipped 1 link to what is there already (a/up)"]),
    "link that sorts before what it leads to": (
        both(classes("y", "z"), lambda root: link(root, "a", "z")), (32, 4, 36, 4), "yz",
        ["skipped 1 link to what is there already (a)"]),
    "test is a link to val": (both(classes("train/a", "train/b", "val/a", "val/b"), lambda r: link(r, "test", "val")),
                              (36, 4, 40, 40), "ab", ["skipped 1 link to what is there already (test)"]),
    "dangling link": (both(classes("a", "b"), lambda root: link(root, "a/gone.jpg", "/nowhere/gone.jpg")),
                      (32, 4, 36, 4), "ab", ["skipped 1 link that leads nowhere (a/gone.jpg)"]),
    "a second name of a file": (both(classes("a", "b"), lambda root: os.link(f"{root}/a/000.png", f"{root}/b/x.png")),
                                (32, 4, 36, 4), "ab", ["skipped 1 link to what is there already (b/x.png)"]),
    "files linked from elsewhere": (
        lambda root: [put(root, "../pool", count=40)] + [
            link(root, f"{'ab'[i % 2]}/{i}.png", f"../../pool/{i:03}.png") for i in range(40)],
        (32, 4, 36, 4), "ab", []),
    "names that are not UTF-8": (
        classes("a", "b\udcff"), (32, 4, 36, 4), ("a", "b\\xff"), []),
    "broken file whose name is not UTF-8": (
        both(classes("a", "b"), lambda root: write(root, "a/\udcfe.jpg")),
        (32, 4, 36, 4), "ab", ["skipped 1 file that is no readable image (a/\\xfe.jpg)"]),
    "names with blanks and quotes": (classes("a b", "c'\"d"), (32, 4, 36, 4), ("a b", "c'\"d"), []),
    "upper-case and rare suffixes": (
        lambda root: put(root, *(f"{c}/{i}{s}" for c in "ab" for i, s in enumerate(
            (".JPG", ".Jpeg", ".JFIF", ".jpe", ".PNG", ".BMP", ".GIF", ".WEBP", ".TIF", ".tiff", ".AVIF", ".ppm")))),
        (20, 2, 22, 2), "ab", []),
    "files of other kinds": (
        both(classes("a", "b"), lambda root: write(root, "notes.txt", "a/x.xml", "b/IMG_1.HEIC", "b/y.pdf")),
        (32, 4, 36, 4), "ab",
        ["skipped 4 files that are no readable images (a/x.xml, b/IMG_1.HEIC, b/y.pdf and 1 more); convert .heic"]),
    "empty file": (both(classes("a", "b"), lambda root: write(root, "a/x.jpg", text="")), (32, 4, 36, 4), "ab",
                   ["skipped 1 file that is no readable image (a/x.jpg)"]),
    "a pipe": (both(classes("a", "b"), lambda root: os.mkfifo(f"{root}/a/x.jpg")), (32, 4, 36, 4), "ab",
               ["skipped 1 file that is no readable image (a/x.jpg)"]),
    "dates": (classes("2019-01", "2019-02", "2020", "20210304 Rome"), (64, 8, 72, 8),
              ("2019-01", "2019-02", "2020", "20210304 Rome"), []),
}


# Of more than CHECK_ALL images only those that look broken are decoded.
LARGE = ["classes", "class of broken images", "empty file", "a pipe", "names that are not UTF-8", "loop"]
SIZES = [(what, 5000) for what in LAYOUTS] + [(what, 0) for what in LARGE]


@pytest.mark.parametrize(("what", "check_all"), SIZES)
def test_layout(what, check_all, tmp_path, monkeypatch, capfd):
    make, sizes, names, words = LAYOUTS[what]
    monkeypatch.setattr(looking, "CHECK_ALL", check_all)
    root = os.path.join(tmp_path, "images")
    os.mkdir(root)
    make(root)
    name = f"folder:{root}"
    found = {split: open_source(name, split) for split in SPLITS}
    assert tuple(found[split].num_examples for split in SPLITS) == sizes
    for source in found.values():
        assert source.class_names == (None if names is None else tuple(names))
        assert (source.labels is None) == (names is None)
        for path, label in zip(source.paths.numpy(), source.labels if names else (), strict=names is not None):
            assert f"/{source.class_names[label]}/" in looking.shown(os.fsdecode(path))
    paths = {split: source.paths.numpy().tolist() for split, source in found.items()}
    real = [os.path.realpath(path) for split in ("trainval", "test") for path in paths[split]]
    assert len(set(real)) == len(real), "a file counts twice"
    assert set(paths["train"]) <= set(paths["trainval"]) and not set(paths["train"]) & set(paths["test"])
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert all(any(word in line for line in lines) for word in words), lines
    assert len(lines) == len({word.split(" (")[0] for word in words if not word.startswith("(")}), lines
    about = about_source(name)
    assert f"{len(real):,} images ({sizes[0]:,} train, {sizes[1]:,} val, {sizes[3]:,} test)" in about[0]
    assert names is None or f"the {len(names)} folders in {root}" in about[1]
    assert any("look like dates" in line for line in about) == (what == "dates")


# what lies there, words of the line
REFUSED = {
    "no train": (classes("val/a", "val/b", "Test/a"), "has Test and val but no train; expected sub-folders train"),
    "two for one split": (classes("train/a", "train/b", "Train/a"), "has Train and train, which mean the same"),
    "foreign class": (
        classes("train/a", "train/b", "test/c/x", "test/d"), "class c, d of .*/test/ is not among the 2 classes of"),
    "one image": (lambda root: put(root, "0.png"), "too few to hold out a val split"),
    "nothing": (lambda root: write(root, "a.txt"), "holds no readable images; expected .jpg"),
    "only a loop": (lambda root: link(root, "a", "."), "holds no readable images"),
    "only HEIC": (lambda root: write(root, "a.heic"), "holds no readable images"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what, tmp_path):
    make, words = REFUSED[what]
    make(str(tmp_path))
    with pytest.raises(InputError, match=words) as error:
        open_source(f"folder:{tmp_path}", "val")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("check_all", [5000, 0], ids=["small", "large"])
@pytest.mark.parametrize("suffix", ["bmp", "png", "jpg", "tif", "ppm"])
def test_fingerprint_follows_what_the_files_hold(suffix, check_all, tmp_path, monkeypatch):
    """Names, byte sizes and times stay; only the pixels change. A copy elsewhere has the same fingerprint."""
    monkeypatch.setattr(looking, "CHECK_ALL", check_all)
    paths = [tmp_path / "here" / f"{i:02}.{suffix}" for i in range(10)]
    seen = []
    for turn in range(3):
        for i, path in enumerate(paths):
            path.parent.mkdir(exist_ok=True)
            value = 3 * i + (100 if turn == 1 and i == 0 else 0)
            Image.fromarray(np.full((9, 9, 3), value, np.uint8)).save(path)
            with open(path, "ab") as file:
                file.write(bytes(2000 - path.stat().st_size) if suffix in ("bmp", "ppm", "tif") else b"")
            os.utime(path, (1, 1))
        open_source.cache_clear()
        seen.append(open_source(f"folder:{tmp_path / 'here'}", "train").fingerprint)
    assert seen[0] == seen[2] != seen[1]
    (tmp_path / "here").rename(tmp_path / "there")
    assert open_source(f"folder:{tmp_path / 'there'}", "train").fingerprint == seen[0]


def test_a_bucket_is_read_as_a_folder_is(tmp_path, capfd):
    put(str(tmp_path), "a", "b", "@eaDir", count=10)
    write(str(tmp_path), "a/notes.txt", "b/.hidden.png")
    root = "ram://images"
    for path in filter(os.path.isfile, tmp_path.rglob("*")):
        tf.io.gfile.makedirs(f"{root}/{path.parent.relative_to(tmp_path)}")
        tf.io.gfile.copy(str(path), f"{root}/{path.relative_to(tmp_path)}")
    here, there = (open_source(f"folder:{place}", "train") for place in (tmp_path, root))
    assert there.num_examples == 16 and there.class_names == ("a", "b") and there.fingerprint == here.fingerprint
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 2 and all("skipped 1 file that is no readable image (a/notes.txt)" in line for line in lines)


def test_held_out_images_are_those_of_before_the_least_was_asked_for():
    """Every class of 8 and more gives round(0.2 n) images, as it did without ``least``."""
    labels = np.repeat([0, 1, 2], [8, 30, 101])
    for least in (1, 2):
        kept, held = folders.splits.holdout(labels, 0.2, seed=0, least=least)
        assert np.bincount(labels[held]).tolist() == [2, 6, 20] and len(kept) == 139 - 28


def test_about_says_what_is_taken_for_what(tmp_path):
    put(str(tmp_path), "ant", "bee", count=20)
    put(str(tmp_path), "wasp", count=10)
    put(str(tmp_path), "logo.png")
    Image.new("RGB", (64, 32)).save(tmp_path / "ant" / "000.png")
    images, named, held = about_source(f"folder:{tmp_path}")
    assert images == "50 images (40 train, 5 val, 5 test), from 12x8 over 12x8 to 64x32 pixels; 1 file left out"
    assert "3 folders" in named and "(ant, bee, wasp); the smallest is wasp with 9 to learn from" in named
    assert "--probe-dataset" in named and "10 % of each class for validation and 10 % for test" in held
    assert about_source("digits") == []


def test_data_report_names_files_that_equal_another_one(tmp_path, monkeypatch):
    put(str(tmp_path), "train/a", "train/b", "test/a", "test/b", count=10)
    name = f"folder:{tmp_path}"
    assert data_report(name) == [*about_source(name), "duplicates: none"]
    copies = {"train/a/copy.png": "train/a/003.png", "train/b/copy.png": "train/a/003.png",
              "test/a/copy.png": "train/b/001.png", "test/b/copy.png": "test/b/000.png"}
    for copy, of in copies.items():
        shutil.copy(tmp_path / of, tmp_path / copy)
    named = "train/a/copy.png = train/a/003.png, train/b/copy.png = train/a/003.png, test/a/copy.png = train/b/001.png"
    said = f"4 images that another one equals ({named} and 1 more); 1 picture in test and in train or val alike"
    for check_all, how in ((5000, ""), (0, ", by size and both ends of the files")):
        monkeypatch.setattr(looking, "CHECK_ALL", check_all)
        monkeypatch.setattr(folder_report, "CHECK_ALL", check_all)
        open_source.cache_clear()
        assert data_report(name)[-1] == f"duplicates{how}: {said}"


def test_data_report_of_a_set_by_name():
    images, named = data_report("digits")
    sizes = [open_source("digits", split).num_examples for split in ("train", "val", "test")]
    assert images.startswith(f"{sum(sizes):,} images ({sizes[0]:,} train, {sizes[1]:,} val, {sizes[2]:,} test), all of")
    counts = np.unique(open_source("digits", "train").labels, return_counts=True)[1]
    assert named == f"10 classes; the smallest is {counts.argmin()} with {counts.min()} train images"
