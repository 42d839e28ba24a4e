"""STL-10's labelled and unlabelled training images as one set of 105,000, on a small stand-in of the same layout."""

import dataclasses

import numpy as np
import pytest
import tensorflow_datasets as tfds

from revisit_ssl.data import DATASETS, EvalView, eval_batches, open_source
from revisit_ssl.errors import InputError

SIZES = {"train": 10, "unlabelled": 30, "test": 8}  # for 5,000, 100,000 and 8,000
FIRST = {"train": 0, "unlabelled": 100, "test": 200}  # level of grey of a split's first image


class StlStub(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"image": tfds.features.Image(shape=(6, 6, 3)), "label": tfds.features.ClassLabel(num_classes=10)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in SIZES}

    def _generate_examples(self, split):
        for i in range(SIZES[split]):
            label = -1 if split == "unlabelled" else i % 10
            yield i, {"image": np.full((6, 6, 3), FIRST[split] + i, np.uint8), "label": label}


@pytest.fixture
def stub(tmp_path, monkeypatch):
    tfds.builder("stl_stub", data_dir=str(tmp_path)).download_and_prepare()
    for name, spec in DATASETS.items():
        if name in ("stl10", "stl10_all"):
            small = {split: part.replace("4500", "8") for split, part in spec.splits.items()}
            monkeypatch.setitem(DATASETS, name, dataclasses.replace(spec, tfds="stl_stub", splits=small))
    open_source.cache_clear()
    yield str(tmp_path)
    open_source.cache_clear()


@pytest.mark.parametrize("kind", ["memory", "encoded", "stream"])
def test_all_training_images(stub, set_limits, kind):
    set_limits(128 if kind == "memory" else 0, 0 if kind == "stream" else 2**30)
    seen = {}
    for split in ("train", "val", "trainval", "test"):
        source = open_source("stl10_all", split, data_dir=stub)
        assert (source.kind, source.num_classes, source.labels) == (kind, None, None)
        (batch,) = eval_batches(source, 100, view=EvalView(size=6))
        assert (batch["label"].numpy() == -1).all()
        np.testing.assert_array_equal(batch["index"], np.arange(source.num_examples))
        seen[split] = batch["image"].numpy()[:, 0, 0, 0].tolist()
    labelled, unlabelled = set(range(10)), set(range(100, 130))
    assert set(seen["trainval"]) == labelled | unlabelled and len(seen["trainval"]) == 40
    assert len(seen["val"]) == 2 and set(seen["val"]) < labelled
    assert set(seen["train"]) == set(seen["trainval"]) - set(seen["val"])
    assert set(seen["test"]) == set(range(200, 208))
    # The labelled set is the gallery: the same validation images, all training images, the whole test split.
    gallery = {s: open_source("stl10", s, data_dir=stub) for s in ("val", "trainval", "test")}
    assert [gallery[s].num_examples for s in gallery] == [2, 10, 8]
    (batch,) = eval_batches(gallery["val"], 100, view=EvalView(size=6))
    assert batch["image"].numpy()[:, 0, 0, 0].tolist() == seen["val"]
    assert sorted(gallery["trainval"].labels) == list(range(10))


def test_no_labels_to_balance(stub):
    part = open_source("stl10_all", "trainval", data_dir=stub, fraction=0.5)
    assert part.num_examples == 20
    with pytest.raises(InputError, match="stl10_all has no labels to balance"):
        open_source("stl10_all", "trainval", data_dir=stub, fraction=0.5, balanced=True)


def test_published_sizes():
    """5,000 labelled and 100,000 unlabelled images; 500 of the labelled ones validate."""
    assert DATASETS["stl10_all"].splits == {
        "train": "train[:4500]+unlabelled", "val": "train[4500:]", "trainval": "train+unlabelled", "test": "test"
    }
