"""Long-tailed CIFAR: the counts of the recipe, the images of the published draws, the splits, the index lists."""

import gzip
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from revisit_ssl.data import DATASETS, TfdsSet, long_tail, open_source, splits
from revisit_ssl.errors import InputError
from revisit_ssl.testing import check_dataset

EACH, TESTS = 60, 3  # training and test images of each class of the small stand-in


class CifarStub(tfds.core.GeneratorBasedBuilder):
    """CIFAR-10 as TFDS keeps it, but small: shuffled; an image's place in the official files is its id and a pixel."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "image": tfds.features.Image(shape=(4, 4, 3)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples("train", EACH), "test": self._generate_examples("test", TESTS)}

    def _generate_examples(self, split, each):
        for i in range(10 * each):
            image = np.zeros((4, 4, 3), np.uint8)
            image[0, 0] = i // 256, i % 256, 0
            yield i, {"id": f"{split}_{i:05}", "image": image, "label": official_labels(each)[i]}


def official_labels(each):
    return np.random.default_rng(0).permutation(np.repeat(np.arange(10), each))


def official_places(source):
    """Read back from the pixels."""
    return source.images[:, 0, 0, 0].astype(int) * 256 + source.images[:, 0, 0, 1]


@pytest.fixture(scope="module")
def stub_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tensorflow_datasets"))
    tfds.builder("cifar_stub", data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture
def stub(stub_dir, monkeypatch):
    slices = {"train": "train[:540]", "val": "train[540:]", "trainval": "train", "test": "test"}
    monkeypatch.setitem(DATASETS, "cifar10", TfdsSet("cifar_stub", slices))
    open_source.cache_clear()
    yield stub_dir
    open_source.cache_clear()


def ldam_draw(labels, factor):
    """The published recipe, typed from its description: class by class, shuffle the places, keep the first ones."""
    np.random.seed(0)
    chosen = []
    classes = labels.max() + 1
    for c in range(classes):
        places = np.where(labels == c)[0]
        np.random.shuffle(places)
        chosen += list(places[: int(len(labels) / classes * (1 / factor) ** (c / (classes - 1.0)))])
    return sorted(chosen)


@pytest.mark.parametrize(
    ("factor", "cifar10", "cifar100"), [(100, 12_406, 10_847), (50, 13_996, 12_608), (10, 20_431, 19_573)]
)
def test_published_counts(factor, cifar10, cifar100):
    ten, hundred = long_tail.class_counts(5000, 10, factor), long_tail.class_counts(500, 100, factor)
    assert (sum(ten), sum(hundred)) == (cifar10, cifar100)
    assert (ten[0], ten[-1], hundred[0], hundred[-1]) == (5000, 5000 // factor, 500, 500 // factor)
    if factor == 100:
        assert ten == [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
    assert (np.diff(ten) < 0).all() and (np.diff(hundred) <= 0).all()


@pytest.mark.parametrize("factor", [1, 10, 100])
def test_draw_is_the_published_one(factor):
    labels = official_labels(EACH)
    np.testing.assert_array_equal(long_tail.draw(labels, factor), ldam_draw(labels, factor))
    if factor > 1:
        assert not np.array_equal(long_tail.draw(labels, factor), long_tail.draw(labels, factor, seed=1))


@pytest.mark.parametrize(("name", "factor"), [("cifar10_lt", 100), ("cifar10_lt:10", 10), ("cifar10_lt:2.5", 2.5)])
def test_source(stub, name, factor):
    found = {s: open_source(name, s, data_dir=stub) for s in ("train", "val", "trainval", "test")}
    counts = long_tail.class_counts(EACH, 10, factor)
    for split, source in found.items():
        assert (source.name, source.split, source.kind, source.num_classes) == (name, split, "memory", 10)
        assert source.labels.dtype == np.int64 and len(source.labels) == len(source.images) == source.num_examples
        each = TESTS if split == "test" else EACH
        np.testing.assert_array_equal(source.labels, official_labels(each)[official_places(source)])
    places = {split: official_places(source) for split, source in found.items()}
    np.testing.assert_array_equal(np.sort(places["trainval"]), ldam_draw(official_labels(EACH), factor))
    np.testing.assert_array_equal(np.bincount(found["trainval"].labels, minlength=10), counts)
    np.testing.assert_array_equal(np.bincount(found["test"].labels), [TESTS] * 10)
    # Six of each class validate. The first class has no others, so its own come out of what is trained on.
    np.testing.assert_array_equal(np.bincount(found["val"].labels), [6] * 10)
    shared = set(places["trainval"]) & set(places["val"])
    assert set(places["train"]) == set(places["trainval"]) - shared
    assert np.bincount(official_labels(EACH)[list(shared)], minlength=10)[0] == 6
    if factor == 100:
        np.testing.assert_array_equal(np.bincount(found["train"].labels, minlength=10), [54, *counts[1:]])
    assert len({source.fingerprint for source in found.values()}) == 4
    again = open_source(name, "trainval", data_dir=stub, seed=5)
    assert again.fingerprint == found["trainval"].fingerprint  # the draw is the set's, not the run's


def test_contract(stub, monkeypatch):
    monkeypatch.setitem(DATASETS, "cifar10_lt", long_tail.LongTail("cifar10", EACH, 10 * TESTS, 10, (4, 4, 3)))
    check_dataset("cifar10_lt:5", stub)


def test_default_factor_parts_and_seeds(stub):
    whole = open_source("cifar10_lt", "trainval", data_dir=stub)
    assert whole.fingerprint == open_source("cifar10_lt:100", "trainval", data_dir=stub).fingerprint
    assert whole.fingerprint != open_source("cifar10_lt:50", "trainval", data_dir=stub).fingerprint
    part = open_source("cifar10_lt", "trainval", data_dir=stub, fraction=0.5)
    assert part.num_examples == round(whole.num_examples / 2)
    balanced = open_source("cifar10_lt", "trainval", data_dir=stub, fraction=0.1, balanced=True)
    np.testing.assert_array_equal(np.bincount(balanced.labels), np.minimum(2, np.bincount(whole.labels)))


@pytest.mark.parametrize("kind", ["txt", "npy", "npz", "npz of several"])
def test_published_lists(stub, tmp_path, kind):
    wanted = np.random.default_rng(1).permutation(10 * EACH)[:90]
    path = tmp_path / f"list.{kind[:3]}"
    if kind == "txt":
        path.write_text("\n".join(map(str, wanted)))
    elif kind == "npy":
        np.save(path, wanted.astype(np.int32))
    else:
        np.savez(path, tail=wanted, **({"other": wanted[:5]} if kind != "npz" else {}))
    name = f"cifar10_lt:{path}" + ("#tail" if kind == "npz of several" else "")
    found = {s: open_source(name, s, data_dir=stub) for s in ("train", "val", "trainval")}
    assert set(official_places(found["trainval"])) == set(wanted) and found["trainval"].num_examples == 90
    np.testing.assert_array_equal(np.bincount(found["val"].labels), [6] * 10)
    assert not set(official_places(found["train"])) & set(official_places(found["val"]))


def test_bad_factors_and_lists_get_one_line(stub, tmp_path):
    def message(argument):
        with pytest.raises(InputError) as error:
            open_source(f"cifar10_lt:{argument}", "train", data_dir=stub)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "imbalance factor 0.5 must be at least 1" in message("0.5")
    assert "must be at least 1" in message("nan") and "must be at least 1" in message("inf")
    assert "no index list '/no/such.npy'; expected an imbalance factor" in message("/no/such.npy")
    assert "no index list 'ten'" in message("ten")
    path = tmp_path / "list.npy"
    for array, text in (
        ([0, 600], "names image 600, but the 600 training images are 0 to 599"),
        ([-1, 3], "names image -1; the first one is 0"),
        ([3, 3, 4], "names 1 images more than once"),
        ([0.5], "float64 [1]; expected whole numbers"),
        ([[1]], "int64 [1, 1]; expected whole numbers"),
        (np.zeros(0, int), "int64 [0]; expected whole numbers"),
    ):
        np.save(path, np.array(array))
        assert text in message(path)
    path.write_bytes(b"no array")
    assert "is no list of image numbers" in message(path)
    np.save(path, np.array([None]), allow_pickle=True)
    assert "is no list of image numbers" in message(path)
    (tmp_path / "list.txt").write_text("1 two")
    assert "is no list of image numbers" in message(tmp_path / "list.txt")
    np.savez(tmp_path / "list.npz", a=[1], b=[2])
    assert "has no array ''; add #name to it, one of a, b" in message(tmp_path / "list.npz")
    assert "has no array 'c'" in message(f"{tmp_path / 'list.npz'}#c")
    with pytest.raises(InputError, match="cifar10 takes nothing behind its name"):
        open_source("cifar10:50", "train", data_dir=stub)
    with pytest.raises(InputError, match="unknown data set 'cifar11_lt:50'"):
        open_source("cifar11_lt:50", "train", data_dir=stub)


def test_real_cifar10(real_data, set_limits):
    """TFDS's order against the official one; the long tail of LDAM-DRW and the published lists of SDCLR."""
    set_limits(0, 2**30)  # kept encoded: there are 50,000 images, and none needs to be looked at
    lists = pathlib.Path(real_data).parent / "lists" / "cifar"
    with gzip.open(lists / "cifar10_official_order.tsv.gz", "rt") as file:
        lines = [line.split("\t") for line in file]
    labels = np.array([int(label) for split, _, label, _ in lines if split == "train"])
    whole = open_source("cifar10", "trainval", data_dir=real_data)
    found = open_source("cifar10_lt", "trainval", data_dir=real_data)
    np.testing.assert_array_equal(np.bincount(found.labels), long_tail.class_counts(5000, 10, 100))
    digests, of_found = (tf.strings.to_hash_bucket_fast(s.encoded, 2**63 - 1).numpy() for s in (whole, found))
    rows = {digest: row for row, digest in enumerate(digests)}
    assert len(rows) == len(labels)
    stored = [rows[digest] for digest in of_found]
    official = np.array([int(text[6:]) for text in whole.text("id")])
    np.testing.assert_array_equal(labels[official], whole.labels)
    np.testing.assert_array_equal(np.sort(official[stored]), ldam_draw(labels, 100))
    path = lists / "cifar10_sdclr_longtail_index_splits.npz"
    balanced = open_source(f"cifar10_lt:{path}#split1_D_b", "trainval", data_dir=real_data)
    np.testing.assert_array_equal(np.bincount(balanced.labels), [1116] * 10)  # so only in the official order
    tail = open_source(f"cifar10_lt:{path}#split1_D_i", "trainval", data_dir=real_data)
    assert np.bincount(tail.labels).tolist() == [348, 969, 125, 208, 1617, 75, 4500, 581, 2697, 45]


def test_shot_groups():
    groups = splits.shot_groups([100, 99, 21, 20, 0, 1280])
    assert {name: classes.tolist() for name, classes in groups.items()} == {
        "many": [0, 5],
        "medium": [1, 2],
        "few": [3, 4],
    }
    sizes = {name: len(c) for name, c in splits.shot_groups(long_tail.class_counts(500, 100, 100)).items()}
    assert sizes == {
        "many": 35,
        "medium": 34,
        "few": 31,
    }  # the class of exactly 20 images is few here, medium elsewhere
