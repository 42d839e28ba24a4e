"""What a line in PROBES promises; every probe of the registry goes through the same tests."""

import numpy as np
import pytest

from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import PROBES, FeatureSplit
from revisit_ssl.evaluators.base import check_splits, topk_percent
from revisit_ssl.evaluators.detection import Detection, Segmentation
from revisit_ssl.evaluators.voc_classification import VOCFC68, VOCAll
from revisit_ssl.testing import check_probe
from revisit_ssl.testing.probe import _check_options

CLASSES, ROWS = 6, {"train": 480, "val": 240, "test": 480}
# Those that are measured on arrays alone, and see one label of an image.
ON_ARRAYS = sorted(name for name, p in PROBES.items() if p.reads_features and p.labels == "one")
# Each is a part of others, which are checked: voc_all trains what voc_fc68 does (test_voc_classification.py measures
# that), segmentation finds boxes and masks. Of these the options alone are.
PARTS = {"voc_fc68": VOCFC68, "detection": Detection}
CLASSIFIERS = ("knn", "lbfgs", "linear", "mlp")


def features_of(split, signal):
    """[N, 20]: class c has mean ``signal`` in column c; unit noise; columns of very different scale."""
    labels = np.random.default_rng(list(ROWS).index(split)).integers(0, CLASSES, ROWS[split])
    draw = np.random.default_rng(100 + list(ROWS).index(split))
    values = draw.normal(size=(ROWS[split], 20)) + signal * np.eye(CLASSES, 20)[labels]
    return FeatureSplit((values * np.linspace(0.5, 2, 20) + 1).astype(np.float32), labels)


def score(name, train, val, test, classes=CLASSES, **fields):
    """Score of the probe on FeatureSplits; those that only look at test get no others."""
    splits = (train, val, test) if name in CLASSIFIERS else (test,)
    return PROBES[name](**fields).score(*splits, num_classes=classes)


@pytest.mark.parametrize("name", sorted(PROBES.keys() - PARTS))
def test_a_probe_keeps_what_it_promises(name):
    check_probe(name)


def test_a_part_of_another_probe_is_that_and_keeps_its_options():
    for name, kind in PARTS.items():
        assert PROBES[name] is kind
        _check_options(name)
    assert issubclass(Segmentation, Detection) and Segmentation.measure is Detection.measure
    assert VOCAll.measure is VOCFC68.measure


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_columns_of_any_scale_and_the_accuracy_of_each_class(name):
    splits = [features_of(split, 12) for split in ROWS]
    found = score(name, *splits)
    assert found.top1 >= 99 and found.top5 >= 99.9 and found.extra["val_top1"] >= 99
    shares = np.bincount(splits[2].labels, minlength=CLASSES) / ROWS["test"]
    assert np.dot(found.per_class, shares) == pytest.approx(found.top1)


@pytest.mark.parametrize("name", sorted(PROBES))
def test_unknown_fields_are_refused(name):
    with pytest.raises(TypeError):
        PROBES[name](sed=1)


@pytest.mark.parametrize("name", ON_ARRAYS)
def test_few_classes_have_no_top5_and_bad_input_gets_one_line(name):
    good = features_of("val", 12)
    binary = FeatureSplit(good.features, good.labels % 2, "block1 of val")
    few = {"ways": 2} if name == "few_shot" else {}
    found = score(name, binary, binary, binary, 2, **few)
    assert found.top5 is None and (name not in CLASSIFIERS or found.top1 > 75)
    broken = good.features.copy()
    broken[17, 2] = np.nan
    cases = [
        (FeatureSplit(broken, good.labels, "block3 of test"), "block3 of test.*not finite.*row 17"),
        (FeatureSplit(good.features, good.labels - 1, "block3"), "unlabelled"),
        (FeatureSplit(good.features, None, "block3"), "block3 has no labels"),
        (FeatureSplit(good.features, good.labels + 1, "block3"), "label 6; with 6 classes"),
        (FeatureSplit(good.features, good.labels[:9], "block3"), "240 rows and 9 labels"),
    ]
    if name in CLASSIFIERS:
        cases.append((FeatureSplit(good.features[:, :4], good.labels, "block3"), "different shapes"))
    for bad, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            score(name, good, good, bad, **few)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="expected \\[images, values\\]|\\[images, values\\]"):
        maps = FeatureSplit(good.features.reshape(-1, 5, 2, 2), good.labels)
        score(name, maps, maps, maps, **few)
    with pytest.raises(InputError, match="1 classes"):
        score(name, good, good, good, 1, **few)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_class_that_train_does_not_have(name):
    train, test = features_of("train", 12), features_of("test", 12)
    seen = train.labels != 2
    train = FeatureSplit(train.features[seen], train.labels[seen])
    found = score(name, train, train, test)
    assert found.top1 == pytest.approx(100 * np.mean(test.labels != 2), abs=2)


def test_files_of_features_are_not_read_once_more(tmp_path):
    data = features_of("val", 12)
    data.features[17, 2] = np.nan
    np.save(tmp_path / "features.npy", data.features)
    read_only, writable = (np.load(tmp_path / "features.npy", mmap_mode=m) for m in ("r", "r+"))
    # extract_features has checked what it hands out, read-only; everything else is looked at.
    assert check_splits([FeatureSplit(read_only, data.labels)], CLASSES)[0].features is read_only
    for features in (writable, np.array(read_only), read_only[np.arange(len(read_only))]):
        with pytest.raises(InputError, match="not finite.*row 17"):
            check_splits([FeatureSplit(features, data.labels)], CLASSES)


def test_topk_counts_ties_as_argmax_does():
    scores = np.array([[0, 0, 0, 0], [1, 3, 2, 2], [np.nan, 1, 2, 3]])
    labels = np.array([1, 3, 3])
    assert [topk_percent(scores, labels, k) for k in (1, 2, 3)] == pytest.approx([0, 100 / 3, 200 / 3])
    assert topk_percent(scores, np.array([0, 1, 3]), 1) == pytest.approx(200 / 3)
    assert topk_percent(scores, labels, 5) is None
    draw = np.random.default_rng(0)
    scores, labels = draw.normal(size=(200, 9)), draw.integers(0, 9, 200)
    expected = np.mean([l in np.argsort(-s)[:5] for s, l in zip(scores, labels, strict=True)])
    assert topk_percent(scores, labels, 5) == pytest.approx(100 * expected)
