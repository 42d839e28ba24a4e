"""YFCC100M and other stores: zips and folders, the id list, subsets, images of one colour, hashtags, errors."""

import gzip
import io
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from revisit_ssl.data import EvalView, eval_batches, open_source, train_batches, whole_images
from revisit_ssl.data.image_stores import LEFT_OUT, find_images, is_uniform, read_entry
from revisit_ssl.errors import DataNotHere, InputError
from revisit_ssl.testing import check_dataset
from revisit_ssl.views.crops import CropSpec

UNIFORM, BROKEN = "0007", "0011"


def picture(number):
    pixels = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
    return np.full_like(pixels, number % 256) if f"{number:04}" == UNIFORM else pixels


def encoded(number, kind="PNG"):
    if f"{number:04}" == BROKEN:
        return b"\x89PNG no image"
    file = io.BytesIO()
    Image.fromarray(picture(number)).save(file, kind)
    return file.getvalue()


@pytest.fixture
def store(tmp_path):
    """24 images: ten in a zip as they are, eight in a zip deflated, six in a folder."""
    root = tmp_path / "sets" / "yfcc100m"
    (root / "more" / "deep").mkdir(parents=True)
    methods = {"a.zip": zipfile.ZIP_STORED, "b.zip": zipfile.ZIP_DEFLATED}
    for name, numbers in (("a.zip", range(10)), ("b.zip", range(10, 18))):
        with zipfile.ZipFile(root / name, "w", methods[name]) as archive:
            archive.writestr("readme.txt", "not an image")
            for number in numbers:
                archive.writestr(f"folder/{number:04}.png", encoded(number))
    for number in range(18, 24):
        (root / "more" / "deep" / f"{number:04}.png").write_bytes(encoded(number))
    open_source.cache_clear()
    yield root
    open_source.cache_clear()


def numbers_of(source):
    """Numbers of the images, told by their pixels."""
    known = {picture(number).tobytes(): number for number in range(24)}
    return [known[np.asarray(example["image"]).tobytes()] for example in whole_images(source)]


def test_images_of_one_colour_and_broken_ones_are_left_out(store, capsys):
    source = open_source("yfcc100m", "trainval", data_dir=str(store.parent))
    assert source.labels is None and source.kind == "store"
    assert numbers_of(source) == [number for number in range(24) if f"{number:04}" not in (UNIFORM, BROKEN)]
    assert "images of one colour, once" in capsys.readouterr().err
    assert (store / LEFT_OUT).read_text().split()[2:] == [UNIFORM, BROKEN]
    open_source.cache_clear()
    again = open_source("yfcc100m", "trainval", data_dir=str(store.parent))
    assert again.fingerprint == source.fingerprint and "one colour" not in capsys.readouterr().err
    (store / "more" / "deep" / "0024.png").write_bytes(encoded(24))
    open_source.cache_clear()
    assert open_source("yfcc100m", "trainval", data_dir=str(store.parent)).num_examples == 23
    assert "one colour" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ids.txt", "ids.txt.gz", "ids.npy"])
def test_the_list_says_which_and_in_which_order(store, name, capsys):
    ids = ["0020", "0003", "9999", "0012", "0001", "0007"]
    if name == "ids.npy":
        np.save(store / name, np.array(ids))
    else:
        (gzip.open if name.endswith("gz") else open)(store / name, "wb").write("\n".join(ids).encode())
    source = open_source("yfcc100m", "trainval", data_dir=str(store.parent))
    assert numbers_of(source) == [20, 3, 12, 1, 7] and not (store / LEFT_OUT).exists()  # taken at its word
    assert "1 of 6 listed images are not there (9999)" in capsys.readouterr().err
    assert numbers_of(open_source("yfcc100m:3", "trainval", data_dir=str(store.parent))) == [20, 3, 12]


def test_subsets_lie_inside_each_other_and_splits_are_apart(store):
    name = f"unlabelled:{store}"
    few, more = (numbers_of(open_source(f"{name}:{count}", "trainval")) for count in (6, 14))
    assert len(few) == 6 and set(few) < set(more) and len(more) == 14
    train, val = (numbers_of(open_source(name, split)) for split in ("train", "val"))
    assert len(val) == 2 and sorted(train + val) == numbers_of(open_source(name, "trainval"))


def test_hashtags(store):
    (store / "hashtags.tsv").write_text("0003\tcat dog\n0099\tbird\n0020\télan\n")
    source = open_source("yfcc100m", "trainval", data_dir=str(store.parent))
    tags = dict(zip(numbers_of(source), source.text("hashtags"), strict=True))
    assert {number: tag for number, tag in tags.items() if tag} == {3: "cat dog", 20: "élan"}
    (store / "hashtags.tsv").unlink()
    with pytest.raises(InputError, match="has no hashtags of its images"):
        source.text("hashtags")


def test_members_are_what_zipfile_reads(store):
    ids, entries = find_images(str(store))
    for number, (image, entry) in enumerate(zip(ids, entries, strict=True)):
        assert image == f"{number:04}".encode() and read_entry(entry) == encoded(number)


def test_training_batches_and_a_broken_image(store):
    source = open_source(f"unlabelled:{store}", "trainval")
    crops = {"crop": CropSpec(size=8)}
    (batch,) = train_batches(source, batch_size=22, crops=crops, seed=0).take(1)
    assert batch["crop"].shape == (22, 1, 8, 8, 3) and (batch["label"].numpy() == -1).all()
    (store / "ids.txt").write_text(f"{BROKEN} 0001 0002")
    listed = open_source("yfcc100m", "trainval", data_dir=str(store.parent))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"cannot decode this image file.*b\.zip"):
        list(eval_batches(listed, 3, view=EvalView(8)))


def test_contract(tmp_path):
    (tmp_path / "own").mkdir()
    for number in range(100, 160):
        (tmp_path / "own" / f"{number}.jpg").write_bytes(encoded(number, "JPEG"))
    check_dataset(f"unlabelled:{tmp_path / 'own'}")


@pytest.mark.parametrize(("image", "expected"), [
    (np.full((4, 5, 3), 7, np.uint8), True),
    (np.full((4, 5, 3), 7, np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None] * 2, True),
    (np.tile(np.array([9, 200, 30], np.uint8), (4, 5, 1)), True),
    (np.full((4, 5, 3), 7, np.uint8) + np.arange(4, dtype=np.uint8)[:, None, None] * 3, False),
])
def test_what_one_colour_is(image, expected):
    """At most 8 grey levels between the darkest and the brightest pixel of each channel."""
    assert bool(is_uniform(image)) is expected


def test_refusals(store, tmp_path):
    cases = [
        ("unlabelled", "needs a folder behind its name"),
        (f"unlabelled:{tmp_path / 'nothing'}", "is not in .*nothing; put zips or folders of images"),
        (f"unlabelled:{store}:100", "has 22 images, not 100; take a smaller subset"),
        (f"unlabelled:{store}:1", "at least 2"),
        ("unlabelled:gs://bucket", "is no local folder"),
    ]
    (tmp_path / "empty").mkdir()
    cases.append((f"unlabelled:{tmp_path / 'empty'}", "holds no images"))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "x.zip").write_bytes(b"PK no zip")
    cases.append((f"unlabelled:{tmp_path / 'damaged'}", "x.zip is no readable zip"))
    for name, message in cases:
        with pytest.raises(InputError, match=message):
            open_source(name, "train")
    with pytest.raises(DataNotHere, match="data set yfcc100m is not in"):
        open_source("yfcc100m", "train", data_dir=str(tmp_path))
    (store / "more" / "0003.png").write_bytes(encoded(3))
    with pytest.raises(InputError, match="two images 0003, in .*a.zip and .*0003.png"):
        open_source(f"unlabelled:{store}", "train")
