"""What a line in PROBES promises, checked: for the probes here, and for one of one's own.

>>> from revisit_ssl.testing import check_probe
>>> PROBES["mine"] = Mine
>>> check_probe("mine")

It is perfect on classes that lie apart and no better than chance on noise; the same seed gives the same numbers; what
it reports of its choices does not depend on the labels that it is scored on; the network is the same to the bit; its
options survive flags and recipe.json. All on a few hundred small images of one colour each. Of one that trains a
detector only what a few steps show is checked: the numbers of a seed, the network, the options.
"""

import dataclasses
import json

import keras
import numpy as np

from revisit_ssl.commands.run import parse_run
from revisit_ssl.data import Source
from revisit_ssl.data.queries import ONE, Queries
from revisit_ssl.evaluators import PROBES
from revisit_ssl.evaluators.bench import Bench
from revisit_ssl.recipe import BenchSpec, Recipe, ViewSpec, to_json
from revisit_ssl.testing.boxes import box_bench
from revisit_ssl.testing.networks import tiny_backbone
from revisit_ssl.training.workdir import from_json

CLASSES = 6
ROWS = {"train": 480, "val": 240, "test": 480}
ASKED = 40  # queries to the test images
COLORS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]])
# Of accuracy among six classes, or among the five of an episode, four standard deviations; of an NMI far more.
MOST_BY_CHANCE = 28.0


def check_probe(name):
    """AssertionError, or an InputError, where the probe of that name does not keep what a probe has to.

    Args:
        name: in PROBES.
    """
    probe = PROBES[name](**PROBES[name].quick)
    _check_options(name)
    if probe.labels == "boxes":
        return _check_detector(name, probe)
    backbone = _backbone(probe.stages)
    before = [np.array(w) for w in backbone.weights]
    apart = list(probe.measure(color_bench(backbone, probe, signal=1.0)))
    assert apart and all(score.hyperparameters and score.seconds >= 0 for score in apart), f"{name} measures nothing"
    best = _numbers(apart[0])
    assert best[0] >= 95, f"{name} finds {best[0]:.1f} of classes that lie apart; expected at least 95"
    noise = list(probe.measure(color_bench(backbone, probe, signal=0.0, seed=3)))
    first = _numbers(noise[0])
    assert first[0] <= MOST_BY_CHANCE, f"{name} finds {first[0]:.1f} in noise; expected at most {MOST_BY_CHANCE}"
    again = list(probe.measure(color_bench(backbone, probe, signal=0.0, seed=3)))
    assert [_numbers(s) for s in again] == [_numbers(s) for s in noise], f"{name} gives other numbers for the same seed"
    turned = list(probe.measure(color_bench(backbone, probe, signal=0.0, seed=3, turn=1)))
    for score, other in zip(noise, turned, strict=True):
        same = other.hyperparameters == score.hyperparameters
        assert same, f"{name} chooses {other.hyperparameters} instead of {score.hyperparameters} by the test labels"
        chosen = {k: v for k, v in score.extra.items() if k.startswith("val_")}
        assert {k: other.extra[k] for k in chosen} == chosen, f"{name} reports another validation accuracy"
    kept = all(np.array_equal(old, np.array(new)) for old, new in zip(before, backbone.weights, strict=True))
    assert kept and not backbone.trainable_variables, f"{name} has changed the network"


def _check_detector(name, probe):
    """The part of the promises that a few steps can show: the same seed, the same numbers, an untouched network."""
    backbone = tiny_backbone(1)
    backbone.trainable = False
    before = [np.array(w) for w in backbone.weights]
    (one,), (again,) = (list(probe.measure(box_bench(backbone, {"train": 4, "test": 2}))) for _ in range(2))
    numbers = _numbers(one)
    assert numbers and all(0 <= value <= 100 for value in numbers), f"{name} finds {numbers}, which are no percents"
    assert numbers == _numbers(again), f"{name} gives other numbers for the same seed"
    kept = all(np.array_equal(old, np.array(new)) for old, new in zip(before, backbone.weights, strict=True))
    assert kept and not backbone.trainable_variables, f"{name} has changed the network"


def color_bench(backbone, probe, *, signal, seed=0, turn=0):
    """A Bench of images in the colours of their classes (signal 1), or in none (0), each with noise of its own.

    Args:
        backbone: frozen keras.Model with pre_logits, of images of any size.
        probe: Probe; says whether images have one label or several, or are asked for by queries.
        signal: in [0, 1].
        seed: of the probe.
        turn: added to the classes of the test images.
    """
    views = ViewSpec(size=8, normalize="pm1")
    spec = BenchSpec(endpoints=("pre_logits",), method="none")
    recipe = Recipe(pretext="rotation", views=views, bench=spec, seed=seed)
    sources = {}
    for i, (split, rows) in enumerate(ROWS.items()):
        several, asked = probe.labels == "several", probe.labels == "queries"
        rows = rows // 4 if asked else rows  # seen one by one
        labels = np.random.default_rng(i).integers(0, CLASSES, rows)
        colors = 128 + 100 * signal * COLORS[labels][:, None, None]
        images = np.clip(colors + 20 * np.random.default_rng(10 + i).normal(size=(rows, 8, 8, 3)), 0, 255)
        if split == "test":
            labels = (labels + turn) % CLASSES
        names = tuple("abcdef")
        sources[split] = Source(
            name="colors", split=split, kind="memory", num_examples=rows, fingerprint=f"colors-{split}-{signal}",
            class_names=None if several or asked else names, known_labels=None if several or asked else labels,
            images=images.astype(np.uint8), multi_labels=np.eye(CLASSES, dtype=np.int8)[labels] if several else None,
            multi_label_names=names if several else None,
        )
        if asked and split == "test":
            sources[split] = _with_queries(sources[split], labels)
    return Bench(backbone, sources, recipe)


def _with_queries(database, labels):
    """The source as a database, asked with its first images: of their class is what answers, they themselves are junk.
    """
    few = np.arange(ASKED)
    relation = np.equal.outer(labels[few], labels).astype(np.int8)
    relation[few, few] = 3
    listed = np.stack([(relation == value).sum(axis=1) for value in range(4)], axis=1)
    asked = Queries(
        source=database.subset(few), relation=relation, boxes=np.full((ASKED, 4), np.nan), listed=listed, measures=ONE,
        names=tuple(map(str, few)),
    )
    return dataclasses.replace(database, queries=asked)


def _backbone(stages=False):
    image = keras.Input((None, None, 3), name="image")
    mean = keras.layers.GlobalAveragePooling2D(name="pool")(image)
    # Few values that are spread unevenly, and weights that a probe could change.
    spread = keras.layers.Dense(8, kernel_initializer=keras.initializers.Orthogonal(seed=0), name="spread")(mean)
    outputs = {"pre_logits": spread}
    if stages:
        maps = [keras.layers.Conv2D(4, 3, 1 if i < 2 else 2, "same", name=f"stage{i}")(image) for i in range(5)]
        outputs = dict(zip(("after_root", "block1", "block2", "block3", "block4"), maps, strict=True)) | outputs
    model = keras.Model(image, outputs)
    model.trainable = False
    return model


def _numbers(score):
    """All that a Score measures on test, its main number first."""
    return [value for value in (score.top1, score.top5, *score.metrics.values()) if value is not None]


def _check_options(name):
    """Flags and recipe.json say the probe's options, and say them again."""
    recipe = parse_run(["rotation", "--probes", name]).recipe
    assert recipe.probes == {name: PROBES[name]()}, f"{name} has other options by flags: {recipe.probes}"
    assert from_json(to_json(recipe), kinds=PROBES) == recipe, f"the options of {name} do not survive recipe.json"
    fields = dataclasses.fields(PROBES[name])
    told = json.loads(to_json(recipe))["probes"][name]
    assert set(told) == {f.name for f in fields}, f"recipe.json says {sorted(told)} of {name}"
