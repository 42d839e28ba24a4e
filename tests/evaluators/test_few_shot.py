"""Few-shot episodes: the official numbers, the formula in a loop, what episodes hold, what is refused."""

import pathlib

import numpy as np
import pytest

from revisit_ssl.data import open_source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import FeatureSplit
from revisit_ssl.evaluators.few_shot import FewShot, cosines, low_shot_classes, prototypes
from revisit_ssl.papers import PROTOCOLS

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "obow"


@pytest.mark.parametrize("shots", [1, 5])
def test_episodes_equal_the_official_ones(shots):
    g = np.load(GOLDENS / f"few_shot_{shots}shot.npz")
    ways, right = g["scores"].shape[2], []
    for e in range(len(g["scores"])):
        means = prototypes(g["support_features"][e], g["support_labels"][e], ways)
        found = cosines(g["query_features"][e], means)
        np.testing.assert_allclose(means, g["prototypes_before_l2"][e], rtol=0, atol=1e-10)
        np.testing.assert_allclose(10 * found, g["scores"][e], rtol=0, atol=1e-10)
        right.append(found.argmax(axis=1) == g["query_labels"][e])
        assert 100 * np.mean(right[e]) == pytest.approx(g["accuracy_percent_per_episode"][e], abs=1e-3)
    assert 100 * np.mean(right) == pytest.approx(float(g["accuracy_percent_all"]), abs=1e-3)
    # From maps: averaged over the cells, as pre_logits are.
    pooled = [
        cosines(q, prototypes(s, y, ways)).argmax(axis=1)
        for q, s, y in zip(
            *(g[f"{part}_maps"].mean((2, 3)) for part in ("query", "support")), g["support_labels"], strict=True
        )
    ]
    assert 100 * np.mean(pooled == g["query_labels"]) == pytest.approx(float(g["accuracy_percent_maps"]), abs=1e-3)


def split(signal, classes=12, each=30):
    draw = np.random.default_rng(0)
    labels = np.tile(np.arange(classes), each)
    features = draw.normal(size=(len(labels), 20)) + signal * np.eye(classes, 20)[labels]
    return FeatureSplit(features.astype("f4"), labels, "pre_logits of test")


def test_an_episode_equals_a_loop(monkeypatch):
    data, seen = split(2.0), []
    real = np.unique
    monkeypatch.setattr(np, "unique", lambda images, **k: seen.append(images) or real(images, **k))
    score = FewShot(ways=4, shots=(3,), queries=2, episodes=10).score(data, num_classes=12)
    accuracies = []
    for images in seen:  # [4, 3 + 2] rows of the test features, support first
        right, means = 0, []
        for own in images:
            mean = sum(data.features[i] / np.linalg.norm(data.features[i]) for i in own[:3]) / 3
            means.append(mean / np.linalg.norm(mean))
        for c, own in enumerate(images):
            for i in own[3:]:
                right += max(range(4), key=lambda k, i=i: float(data.features[i] @ means[k])) == c
        accuracies.append(100 * right / 8)
    assert score.metrics == {"few_shot_4way_3shot": pytest.approx(np.mean(accuracies))}
    deviation = np.sqrt(sum((a - np.mean(accuracies)) ** 2 for a in accuracies) / 9 / 10)
    assert score.extra == {"standard_error": {"few_shot_4way_3shot": pytest.approx(deviation, abs=1e-3)}, "classes": 12}


def test_perfect_on_separable_features_and_chance_on_noise():
    perfect, chance = (FewShot().score(split(s), num_classes=12) for s in (20.0, 0.0))
    assert list(perfect.metrics) == ["few_shot_5way_1shot", "few_shot_5way_5shot"] and perfect.top1 is None
    assert min(perfect.metrics.values()) > 99
    for name, value in chance.metrics.items():
        assert abs(value - 20) < 4 * chance.extra["standard_error"][name] + 1, name
    again = FewShot(shots=(5,)).score(split(0.0), num_classes=12)
    name = "few_shot_5way_5shot"
    assert again.metrics[name] == chance.metrics[name], "all seeds and choices of shots get the same episodes"
    assert FewShot(shots=(5,), draw=1).score(split(0.0), num_classes=12).metrics != again.metrics


def test_support_and_queries_are_different_images():
    """Rows at right angles: a query that were in the support would find its class; others go to the first one."""
    labels = np.tile(np.arange(6), 7)
    data = FeatureSplit(np.eye(42, dtype="f4"), labels)
    for ways in (2, 6):
        score = FewShot(ways=ways, shots=(5,), queries=2, episodes=30).score(data, num_classes=6)
        assert list(score.metrics.values()) == [pytest.approx(100 / ways)]


def test_papers_classes():
    found = low_shot_classes()
    first, second = (set(found[name].tolist()) for name in ("novel_1", "novel_2"))
    assert (len(first), len(second), len(first & second)) == (300, 311, 0)
    assert found["novel_1"][[0, -1]].tolist() == [3, 998] and found["novel_2"][[0, -1]].tolist() == [8, 997]
    labels = np.repeat(np.arange(1000), 6)
    features = np.eye(1000, dtype="f4")[labels]
    features[np.isin(labels, list(first), invert=True)] = np.nan  # none of them is looked at
    probe, seen = PROTOCOLS["obow"]["few_shot"], set()
    assert (probe.ways, probe.shots, probe.queries, probe.episodes) == (50, (1, 5), 1, 200)
    rows = {c: np.flatnonzero(labels == c) for c in probe._pool(labels, 1000, "test")}
    assert set(rows) == first
    for _ in range(3):
        seen.add(probe._episode(features, rows, np.array(list(rows)), 5, np.random.default_rng(0)))
    assert seen == {100.0}


def test_refusals():
    data = split(1.0)
    for changes, message in (
        ({"ways": 13}, "13 ways of pre_logits of test, which has 12 classes; lower --few-shot.ways"),
        ({"ways": 1}, "ways 1: an episode needs at least 2"),
        ({"shots": (1, 20)}, r"class 0 of pre_logits of test has 30 images; an episode needs 35 \(20 shots, 15 quer"),
        ({"shots": (0,)}, "numbers from 1 up"),
        ({"queries": 0}, "queries 0 must be at least 1"),
        ({"episodes": 1}, "episodes 1: their spread"),
        ({"classes": "novel_1"}, "novel_1 are classes of ImageNet's 1,000, and pre_logits of test has 12; set --few"),
    ):
        with pytest.raises(InputError, match=message):
            FewShot(**changes).score(data, num_classes=12)
    with pytest.raises(InputError, match="11 ways of digits test, which has 10 classes"):
        FewShot(ways=11).check({"test": open_source("digits", "test")})
