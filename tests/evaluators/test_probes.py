"""What a line in PROBES promises; every probe of the registry goes through the same tests."""

import dataclasses

import keras
import numpy as np
import pytest

from revisit_ssl.data import Source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import PROBES, FeatureProbe, FeatureSplit, ImageProbe, MultiLabelProbe
from revisit_ssl.evaluators.base import check_splits, topk_percent
from revisit_ssl.features.representation import NetworkInput

CLASSES, ROWS = 6, {"train": 480, "val": 240, "test": 480}
FEATURE_PROBES = sorted(name for name, probe in PROBES.items() if issubclass(probe, FeatureProbe))
# No accuracy of a classifier of all classes: test_nmi_retrieval.py, test_few_shot.py and test_voc_svm.py see to them.
NO_TOP1 = ("few_shot", "nmi", "retrieval", "voc_svm")
CLASSIFIERS = sorted(set(PROBES) - set(NO_TOP1))
# Image probes are set up for ImageNet; these numbers make them small.
SMALL = {
    "linear_images": {"resize": 12, "size": 8, "batch_size": 48, "learning_rates": (20.0,), "schedule": (4, 5, 6)},
    "finetune": {"size": 8, "batch_size": 48, "learning_rates": (0.1,), "head_multipliers": (100, 1000), "epochs": 6},
}


def labels_of(split):
    return np.random.default_rng(list(ROWS).index(split)).integers(0, CLASSES, ROWS[split])


def features_of(split, signal):
    """[N, 20]: class c has mean ``signal`` in column c; unit noise; columns of very different scale."""
    labels = labels_of(split)
    draw = np.random.default_rng(100 + list(ROWS).index(split))
    values = draw.normal(size=(ROWS[split], 20)) + signal * np.eye(CLASSES, 20)[labels]
    return FeatureSplit((values * np.linspace(0.5, 2, 20) + 1).astype(np.float32), labels)


def images_of(split, signal):
    """uint8 [N, 8, 10, 3]: flat images in one of 6 colours (signal 1) or gray ones (signal 0), with noise."""
    labels = labels_of(split)
    draw = np.random.default_rng(200 + list(ROWS).index(split))
    colors = 128 + 100 * signal * np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]])
    images = np.clip(colors[labels][:, None, None] + 20 * draw.normal(size=(len(labels), 8, 10, 3)), 0, 255)
    return source(split, images.astype(np.uint8), labels)


def source(split, images, labels):
    return Source(
        name="colors", split=split, kind="memory", num_examples=len(images), fingerprint=f"colors-{split}",
        class_names=tuple("abcdef"), known_labels=labels, images=images,
    )  # fmt: skip


def color_backbone():
    image = keras.Input((None, None, 3), name="image")
    mean = keras.layers.GlobalAveragePooling2D(name="pool")(image)
    model = keras.Model(image, {"block1": keras.layers.AveragePooling2D(2, name="half")(image), "pre_logits": mean})
    model.trainable = False
    return model


def probe(name, signal, seed=0, test_labels=None):
    """ProbeScore of a probe on data of the given signal (image probes: of pre_logits)."""
    if name in FEATURE_PROBES:
        splits = [features_of(s, signal) for s in ROWS]
        if test_labels is not None:
            splits[2] = dataclasses.replace(splits[2], labels=test_labels)
        return PROBES[name]()(*splits, num_classes=CLASSES, seed=seed)
    splits = [images_of(s, min(signal, 1)) for s in ROWS]
    if test_labels is not None:
        splits[2] = dataclasses.replace(splits[2], known_labels=test_labels)
    scores = PROBES[name](**SMALL[name])(
        color_backbone(), *splits, endpoints=("pre_logits",), network_input=NetworkInput(normalize="pm1"),
        num_classes=CLASSES, seed=seed,
    )  # fmt: skip
    return scores["pre_logits"]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_perfect_on_separable_data(name):
    score = probe(name, 12)
    assert score.top1 >= 99 and score.top5 >= 99.9 and score.extra["val_top1"] >= 99
    assert score.seconds > 0 and score.hyperparameters
    shares = np.bincount(labels_of("test"), minlength=CLASSES) / ROWS["test"]
    assert np.dot(score.per_class, shares) == pytest.approx(score.top1)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_chance_on_noise_same_seed_same_numbers_and_choices_that_do_not_depend_on_the_test_labels(name):
    score = probe(name, 0, seed=3)
    assert abs(score.top1 - 100 / 6) < 7 and abs(score.top5 - 500 / 6) < 7  # four standard deviations
    twice = probe(name, 0, seed=3)
    assert (twice.top1, twice.top5) == (score.top1, score.top5)
    # Same seed, other test labels: on noise the candidates differ, and all that does not measure test stays the same.
    again = probe(name, 0, seed=3, test_labels=(labels_of("test") + 1) % CLASSES)
    assert again.hyperparameters == score.hyperparameters
    chosen = {k: v for k, v in score.extra.items() if k not in ("paper_top1", "paper_top5")}  # these measure test
    assert {k: again.extra[k] for k in chosen} == chosen
    assert (again.top1, again.top5) != (score.top1, score.top5)


@pytest.mark.parametrize("name", sorted(PROBES))
def test_settings_have_a_paper_form_and_refuse_unknown_fields(name):
    assert isinstance(PROBES[name].paper(), PROBES[name])
    assert sum(issubclass(PROBES[name], kind) for kind in (FeatureProbe, ImageProbe, MultiLabelProbe)) == 1
    with pytest.raises(TypeError):
        PROBES[name](sed=1)


@pytest.mark.parametrize("name", FEATURE_PROBES)
def test_few_classes_have_no_top5_and_bad_input_gets_one_line(name):
    good = features_of("val", 12)
    binary = FeatureSplit(good.features, good.labels % 2, "block1 of val")
    fast = PROBES[name](**({"ways": 2} if name == "few_shot" else {}))
    score = fast(binary, binary, binary, num_classes=2, seed=0)
    assert score.top5 is None and (name in NO_TOP1 or score.top1 > 75)
    broken = good.features.copy()
    broken[17, 2] = np.nan
    cases = [
        (FeatureSplit(broken, good.labels, "block3 of test"), "block3 of test.*not finite.*row 17"),
        (FeatureSplit(good.features, good.labels - 1, "block3"), "unlabelled"),
        (FeatureSplit(good.features, None, "block3"), "block3 has no labels"),
        (FeatureSplit(good.features, good.labels + 1, "block3"), "label 6; with 6 classes"),
        (FeatureSplit(good.features, good.labels[:9], "block3"), "240 rows and 9 labels"),
        (FeatureSplit(good.features[:, :4], good.labels, "block3"), "different shapes"),
    ]
    for bad, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            fast(good, good, bad, num_classes=CLASSES, seed=0)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="expected \\[images, values\\]|\\[images, values\\]"):
        maps = FeatureSplit(good.features.reshape(-1, 5, 2, 2), good.labels)
        fast(maps, maps, maps, num_classes=CLASSES, seed=0)
    with pytest.raises(InputError, match="1 classes"):
        fast(good, good, good, num_classes=1, seed=0)


@pytest.mark.parametrize("name", sorted(set(FEATURE_PROBES) - set(NO_TOP1)))
def test_a_class_that_train_does_not_have(name):
    train, test = features_of("train", 12), features_of("test", 12)
    seen = train.labels != 2
    train = FeatureSplit(train.features[seen], train.labels[seen])
    score = PROBES[name]()(train, train, test, num_classes=CLASSES, seed=0)
    assert score.top1 == pytest.approx(100 * np.mean(test.labels != 2), abs=2)


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
