"""Every set that is here keeps the promises of its line in DATASETS; a set is added by an object and a line."""

import dataclasses
import re

import numpy as np
import pytest

from revisit_ssl.data import (
    DATASETS,
    SPLITS,
    Dataset,
    Source,
    known_size,
    long_tail,
    open_source,
    sources,
    toy_crowds,
    train_batches,
)
from revisit_ssl.data.dataset import sizes_of
from revisit_ssl.errors import InputError
from revisit_ssl.testing import check_dataset

MADE_HERE = ("digits", "toy_scenes_tiny")
# toy_scenes_tiny has the builder of toy_scenes, and test_long_tail.py checks a smaller tail in less than half a minute;
# toy_detection takes as long to draw: the smaller one below.
CHECKED = sorted(set(DATASETS) - {"toy_scenes", "cifar10_lt", "cifar100_lt", "toy_detection"})
# Small images, all decoded when a split is opened: a slice of each split is, and the whole is counted.
SLICES = {"train": "train[:200]", "val": "train[200:300]", "trainval": "train[:300]", "test": "test[:100]"}


@pytest.mark.parametrize("name", CHECKED)
def test_contract(name, request, toy_dir, set_limits, monkeypatch):
    data_dir = toy_dir if name in MADE_HERE else request.getfixturevalue("real_data")
    if name in ("cifar10", "cifar100"):
        set_limits(sources.MAX_SIDE, sources.MAX_BYTES)  # as they are: forgets the whole set, and the slices afterwards
        monkeypatch.setitem(DATASETS, name, dataclasses.replace(DATASETS[name], splits=SLICES, sizes={}))
    try:
        check_dataset(name, data_dir)
    except InputError as error:
        if not re.search("is not in|needs a (list|folder)", str(error)):
            raise
        pytest.skip(str(error).partition(";")[0])


def test_the_whole_of_real_cifar10(real_data, set_limits):
    """As a stream, which decodes nothing: sizes of the splits, classes of all images that test."""
    set_limits(0, 0)
    found = {split: open_source("cifar10", split, data_dir=real_data) for split in SPLITS}
    assert {split: source.num_examples for split, source in found.items()} == DATASETS["cifar10"].sizes
    assert {source.num_classes for source in found.values()} == {DATASETS["cifar10"].num_classes}
    assert len({source.fingerprint for source in found.values()}) == len(SPLITS)
    assert np.bincount(found["test"].labels).tolist() == [1000] * 10


def test_contract_of_fewer_crowds(monkeypatch):
    monkeypatch.setattr(toy_crowds, "COUNTS", {"train": 60, "val": 40, "test": 50})
    monkeypatch.setattr(toy_crowds.ToyCrowds, "sizes", sizes_of(60, 40, 50))
    check_dataset("toy_detection")
    open_source.cache_clear()


@pytest.mark.parametrize("name", ["voc", "coco"])
def test_contract_of_samples(name, real_data, monkeypatch):
    """32 images of VOC 2007, 20 and 12 of COCO 2017, under the features of the whole sets."""
    slices = {"train": "train", "test": "test" if name == "voc" else "validation"}
    small = {"tfds": {"voc": "voc2007_sample", "coco": "coco2017_sample"}[name], "splits": slices, "sizes": {}}
    monkeypatch.setitem(DATASETS, name, dataclasses.replace(DATASETS[name], **small))
    check_dataset(name, real_data)
    open_source.cache_clear()


@pytest.mark.parametrize("kind", ["encoded", "stream"])
def test_contract_of_larger_sets(kind, toy_dir, set_limits, monkeypatch):
    set_limits(0, 0 if kind == "stream" else 2**30)
    monkeypatch.setitem(DATASETS, "toy_scenes_tiny", dataclasses.replace(DATASETS["toy_scenes_tiny"], image_shape=None))
    check_dataset("toy_scenes_tiny", toy_dir)
    assert open_source("toy_scenes_tiny", "val", data_dir=toy_dir).kind == kind


def test_contract_of_a_folder(make_folder):
    check_dataset(f"folder:{make_folder({f'{c}/{i:02}.png': (20, 24) for c in 'abc' for i in range(60)})}")


# ---- a set from outside: an object and a line ----


class Stripes(Dataset):
    """As many white rows as the label says, on a random grey."""

    splits = ("train", "test")
    argument = "how many classes"
    sizes = {"train": 60, "test": 30}
    num_classes = 3
    image_shape = (8, 8, 3)

    def open(self, request):
        count, classes = self.sizes[request.split], int(request.argument or 3)
        labels = np.arange(count) % classes
        grey = np.random.default_rng(count).integers(0, 200, (count, 1, 1, 1), np.uint8)
        images = np.tile(grey, (1, 8, 8, 3))
        for image, label in zip(images, labels, strict=True):
            image[:label] = 255
        return Source(
            name=request.name, split=request.split, kind="memory", num_examples=count,
            fingerprint=f"{request.name}-{request.split}", class_names=tuple("abcdefgh"[:classes]),
            known_labels=labels, images=images,
        )


@pytest.fixture
def register(monkeypatch):
    """Function of a Dataset: makes it the set "stripes"."""

    def add(dataset):
        monkeypatch.setitem(DATASETS, "stripes", dataset)
        open_source.cache_clear()

    yield add
    open_source.cache_clear()


def test_a_set_is_added_by_an_object_and_a_line(register):
    register(Stripes())
    check_dataset("stripes")
    source = open_source("stripes", "train")
    assert (source.num_examples, source.num_classes, source.image_shape) == (60, 3, (8, 8, 3))
    (batch,) = train_batches(source, batch_size=60, crops={}, seed=0).take(1)
    np.testing.assert_array_equal((batch["image"].numpy() == 255).all((2, 3)).sum(1), batch["label"])
    half = open_source("stripes", "train", fraction=0.5, balanced=True)
    np.testing.assert_array_equal(np.bincount(half.labels), [10, 10, 10])
    assert source.sample(12, seed=3).num_examples == 12
    assert open_source("stripes:5", "test").num_classes == 5 and open_source("stripes:5", "test").num_examples == 30
    assert open_source("stripes", "train") is source
    with pytest.raises(InputError, match="stripes has no split 'val'; one of train, test"):
        open_source("stripes", "val")
    near = "stripes, toy_detection, toy_instances, toy_scenes"
    with pytest.raises(InputError, match=f"unknown data set 'strips'; one of .*, {near}"):
        open_source("strips", "train")


def test_a_set_that_takes_nothing_behind_its_name(register):
    plain = Stripes()
    plain.argument = ""
    register(plain)
    with pytest.raises(InputError, match="data set stripes takes nothing behind its name, but 'stripes:5' has '5'"):
        open_source("stripes:5", "train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda source: {"num_examples": 59}, "train has 59 images, not 60"),
        (lambda source: {"class_names": ("a", "b")}, "train has 2 classes"),
        (lambda source: {"known_labels": source.labels + 1}, "labels 1 to 3 of 3 classes"),
        (lambda source: {"known_labels": source.labels.astype(np.int32)}, "not int64"),
        (lambda source: {"images": source.images[:, :7]}, r"images \(7, 8, 3\), not \(8, 8, 3\)"),
        (lambda source: {"images": np.random.default_rng().permutation(source.images)}, "an index .* another image"),
        (lambda source: {"fingerprint": str(np.random.default_rng().random())}, "has another fingerprint"),
        (lambda source: {"fingerprint": "always"}, "train and test have the same fingerprint"),
        (lambda source: {"split": "val"}, "calls itself stripes val"),
        (lambda source: {"multi_labels": source.labels[:, None], "multi_label_names": "a"}, "labels .* not int8"),
    ],
)
def test_the_check_sees_what_is_wrong(register, change, message):
    class Broken(Stripes):
        def open(self, request):
            source = super().open(request)
            return dataclasses.replace(source, **change(source))

    register(Broken())
    with pytest.raises(AssertionError, match=message):
        check_dataset("stripes")


# ---- what is known without a set ----


def test_known_sizes():
    """Published: ImageNet, CLD's STL-10 of 105,000, LDAM-DRW's long tails, ImageNet-LT."""
    sizes = {name: [known_size(name, split) for split in SPLITS] for name in DATASETS}
    assert sizes["imagenet2012"] == [1_231_121, 50_046, 1_281_167, 50_000]
    assert sizes["stl10_all"] == [104_500, 500, 105_000, 8_000]
    assert sizes["cifar10_lt"] == [11_906, 5_000, 12_406, 10_000]  # 500 of the largest class validate
    assert sizes["cifar100_lt"] == [10_765, 5_000, 10_847, 10_000]
    rows = long_tail.split_rows(np.repeat(np.arange(100), 500), np.arange(50_000), 100.0)
    assert sizes["cifar100_lt"][:3] == [len(rows[split]) for split in SPLITS[:3]]
    assert sizes["imagenet_lt"] == [115_846, 20_000, 115_846, 50_000]
    assert known_size("cifar10_lt:10", "trainval") == 20_431
    unknown = [known_size(name, "train") for name in ("cifar10_lt:/path/list.npy", "voc:/path", "folder:/path")]
    assert unknown == [None] * 3 and sizes["kitchen_hc"] == [None] * 4 and sizes["imagenet100"][0] is None
    with pytest.raises(InputError, match="unknown data set 'cifar11'"):
        known_size("cifar11", "train")
    assert sizes_of(3, 2, 1) == {"train": 3, "val": 2, "trainval": 5, "test": 1}
