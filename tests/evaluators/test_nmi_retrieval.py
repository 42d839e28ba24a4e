"""NMI and retrieval: stored values, the formulas in loops, perfect and chance, ties; groups of a long tail."""

import pathlib

import numpy as np
import pytest

from revisit_ssl.evaluators import PROBES, FeatureSplit
from revisit_ssl.evaluators.base import accuracies, class_groups
from revisit_ssl.evaluators.nmi import NMI, cluster, nmi
from revisit_ssl.evaluators.retrieval import Retrieval, nearest_others, recall

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "cld"
NORMALIZERS = {
    "arithmetic": lambda a, b: (a + b) / 2, "geometric": lambda a, b: np.sqrt(a * b), "min": min, "max": max,
}


@pytest.mark.parametrize("normalizer", sorted(NORMALIZERS))
def test_nmi_equals_the_stored_values_and_the_formula(normalizer):
    golden = np.load(GOLDENS / "nmi.npz")
    cases = [name.removeprefix("clusters_") for name in golden.files if name.startswith("clusters_")]
    assert len(cases) == 6
    for case in cases:
        labels, clusters = golden["labels"], golden[f"clusters_{case}"]
        found = nmi(labels, clusters, normalizer)
        assert found == pytest.approx(float(golden[f"nmi_{normalizer}_{case}"]), abs=1e-6), case
        assert found == pytest.approx(nmi_in_loops(labels, clusters, normalizer), abs=1e-9), case


def test_nmi_of_all_pairs_equals_the_stored_values():
    golden = np.load(GOLDENS.parent / "evaluation" / "nmi.npz")
    for normalizer in ("geometric", "arithmetic"):
        found = [[nmi(a, b, normalizer) for b in golden["labels"]] for a in golden["labels"]]
        np.testing.assert_allclose(found, golden[f"nmi_{normalizer}"], rtol=0, atol=1e-10)


def nmi_in_loops(labels, clusters, normalizer):
    n, information, entropies = len(labels), 0.0, []
    for values in (labels, clusters):
        shares = [np.mean(values == v) for v in set(values.tolist())]
        entropies.append(-sum(p * np.log(p) for p in shares))
    for c in set(labels.tolist()):
        for k in set(clusters.tolist()):
            both = np.sum((labels == c) & (clusters == k)) / n
            if both:
                information += both * np.log(both / (np.mean(labels == c) * np.mean(clusters == k)))
    mean = NORMALIZERS[normalizer](*entropies)
    return information / mean if mean > 0 else 0.0


def split(signal, rows=480, classes=6, seed=0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, classes, rows)
    return FeatureSplit((draw.normal(size=(rows, 20)) + signal * np.eye(classes, 20)[labels]).astype("f4"), labels)


@pytest.mark.parametrize("name", ["nmi", "retrieval"])
def test_perfect_on_separable_features_and_chance_on_noise(name):
    perfect, chance = (PROBES[name]().score(split(signal), num_classes=6) for signal in (12.0, 0.0))
    assert all(value > 99 for value in perfect.metrics.values())
    # 1 - (5/6)^k of the classes; clusters of 480 random rows share little with six classes.
    expected = {"nmi": (0, 5), "recall1": (16.7, 7), "recall5": (59.8, 9), "recall10": (83.8, 7)}
    for metric, value in chance.metrics.items():
        assert abs(value - expected[metric][0]) < expected[metric][1], metric
    assert perfect.top1 is None and perfect.top5 is None and perfect.per_class is None
    again = PROBES[name]().score(split(0.0), num_classes=6)
    assert again.metrics == chance.metrics and again.seconds > 0


def test_retrieval_equals_a_loop():
    data = split(1.0, rows=60)
    unit = data.features / np.linalg.norm(data.features, axis=1, keepdims=True)
    hits = {k: 0 for k in (1, 3, 10)}
    for i in range(60):
        others = sorted((j for j in range(60) if j != i), key=lambda j: -float(unit[i] @ unit[j]))
        for k in hits:
            hits[k] += any(data.labels[j] == data.labels[i] for j in others[:k])
    score = Retrieval(ranks=(1, 3, 10)).score(data, num_classes=6)
    assert score.metrics == {f"recall{k}": pytest.approx(100 * n / 60) for k, n in hits.items()}


def test_an_image_does_not_find_itself_even_among_equals():
    same = np.ones((7, 3), np.float32)  # a collapsed network
    rows = nearest_others(same, 3)
    assert rows.shape == (7, 3) and not (rows == np.arange(7)[:, None]).any()
    assert recall(rows, np.arange(7), 3) == 0 and nearest_others(same[:2], 10).tolist() == [[1], [0]]
    labels = np.array([0, 0, 0, 1, 1, 1, 1])
    score = NMI().score(FeatureSplit(same, labels), num_classes=2)  # one cluster is all there is to find
    assert score.metrics == {"nmi": 0.0}


def test_clusters_are_of_directions():
    draw = np.random.default_rng(0)
    rows = np.concatenate([draw.normal(size=(40, 1)) ** 2 * direction for direction in np.eye(3)]) + 1e-3
    found = cluster(rows.astype(np.float32), 3)
    assert nmi(np.repeat([0, 1, 2], 40), found) > 0.99, "lengths that differ a thousandfold do not matter"


def test_groups_of_a_long_tail():
    counts = [1280, 100, 99, 21, 20, 5]
    assert {k: v.tolist() for k, v in class_groups(counts).items()} == {"many": [0, 1], "medium": [2, 3], "few": [4, 5]}
    assert list(class_groups([5000, 139, 83, 50])) == ["many", "medium"], "CIFAR-10-LT has no class with few"
    assert class_groups([120, 95, 101]) == {} and class_groups([500, 51]) == {}


def test_accuracy_of_each_class():
    scores = np.eye(4)[[0, 1, 1, 2, 2, 2]]
    found = accuracies(scores, np.array([0, 0, 1, 2, 2, 1]))
    assert found["per_class"] == [50.0, 50.0, 100.0, None]
    assert found["top1"] == pytest.approx(100 * 4 / 6) and found["top5"] is None
