"""What is known of a set that is not here: its sizes and classes, without a folder made or a file read."""

import contextlib

import numpy as np
import pytest

from revisit_ssl.data import DATASETS, known_source, open_source, train_batches
from revisit_ssl.data.known import PICTURE, stand_in
from revisit_ssl.errors import DataNotHere, InputError
from revisit_ssl.views.crops import CropSpec


@pytest.fixture
def nowhere(tmp_path):
    yield str(tmp_path)
    assert not list(tmp_path.iterdir()), "something was made"


def test_published_sizes_and_classes(nowhere):
    source = known_source("imagenet2012", "trainval", data_dir=nowhere)
    assert (source.kind, source.num_examples, source.num_classes) == ("known", 1_281_167, 1000)
    assert source.images is None and np.bincount(source.labels).max() == 1282
    assert known_source("cifar10_lt:10", "trainval", data_dir=nowhere).num_examples == 20_431
    voc = known_source("voc", "test", data_dir=nowhere)
    assert voc.multi_labels.shape == (4_952, 20) and voc.num_classes is None and voc.labels is None
    assert known_source("stl10_all", "trainval", data_dir=nowhere).labels is None
    # Published is trainval alone; every class gives its rounded share to val.
    parts = [known_source("imagenet100", split, data_dir=nowhere).num_examples for split in ("train", "val", "test")]
    assert sum(parts[:2]) == 126_689 and abs(parts[1] - 50 * 100) < 100 and parts[2] == 5_000


def test_a_set_that_would_be_drawn_is_not(nowhere):
    for name, size in (("toy_scenes", 5_400), ("toy_scenes_tiny", 500)):
        source = known_source(name, "train", data_dir=nowhere)
        assert (source.kind, source.num_examples, source.image_shape) == ("known", size, (64, 64, 3))
        assert source.images.base.nbytes < 64, "all images are one in memory"
        with pytest.raises(DataNotHere, match=f"{name} .* is not in"):
            open_source(name, "train", data_dir=nowhere, make=False)


def test_a_share_is_as_large_as_of_the_set(toy_dir, tmp_path):
    for balanced in (False, True):
        part = {"fraction": 0.1, "balanced": balanced, "seed": 3}
        here = known_source("toy_scenes_tiny", "train", data_dir=toy_dir, **part)
        assert here is open_source("toy_scenes_tiny", "train", data_dir=toy_dir, make=False, **part)
        known = known_source("toy_scenes_tiny", "train", data_dir=str(tmp_path), **part)
        assert (here.kind, known.kind) == ("memory", "known") and here.num_examples == known.num_examples == 50


def test_sets_of_no_known_size_and_mistakes_are_refused(nowhere):
    for name in ("kitchen_hc", "folder:/no/such/place", "voc:/no/such", "cifar10_lt:no.npy", "cifar11"):
        with pytest.raises(InputError):
            known_source(name, "train", data_dir=nowhere)
    with pytest.raises(InputError, match="coco has no split|no labels|not in"):
        known_source("kitchen_hc", "val", data_dir=nowhere)
    with pytest.raises(InputError, match="fraction must lie in"):
        known_source("cifar10", "train", data_dir=nowhere, fraction=2)


@pytest.mark.parametrize(("name", "kind"), [("cifar10", "memory"), ("imagenet2012", "encoded")])
def test_batches_of_a_stand_in(name, kind, nowhere):
    images = stand_in(known_source(name, "train", data_dir=nowhere), 6)
    assert images.kind == kind and images.num_examples == 6
    crops = {"image": CropSpec(count=1, size=24)}
    (batch,) = train_batches(images, batch_size=6, crops=crops, seed=0).take(1)
    assert sorted(batch["label"].numpy()) == list(range(6)) and batch["image"].numpy().std() > 20
    if kind == "encoded":
        assert 50_000 < len(images.encoded[0].numpy()) < 200_000, "as a photograph of ImageNet"
        assert PICTURE[0] * PICTURE[1] > 150_000
    digits = open_source("digits", "test")
    assert stand_in(digits, 6) is digits


def test_every_set_says_whether_it_is_known(nowhere):
    found = {name: None for name in DATASETS if name != "digits"}
    for name in found:
        with contextlib.suppress(InputError):
            found[name] = known_source(name, [*DATASETS[name].splits][-1], data_dir=nowhere).num_examples
    unknown = {"kitchen_hc", "imagenet_list", "retrieval", "unlabelled", "yfcc100m"}
    assert {name for name, size in found.items() if size is None} == unknown
