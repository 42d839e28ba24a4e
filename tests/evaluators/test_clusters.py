"""The probe of clusters: whitening and NMI against scikit-learn, colour by hand."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import normalized_mutual_info_score

from revisit_ssl.clustering.flat import flat_clusters
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import PROBES, FeatureSplit


def groups(n=400, k=8, d=12, seed=0):
    """Rows around k directions on very different scales, and the direction of each."""
    random = np.random.default_rng(seed)
    labels = random.integers(k, size=n)
    x = random.normal(size=(k, d))[labels] + 0.15 * random.normal(size=(n, d))
    return (x * np.linspace(0.1, 5, d)).astype(np.float32), labels


def test_distances_are_those_of_scikit_learns_whitened_rows():
    """DeepCluster: PCA, x / sqrt(eigenvalue), rows of unit length, k-means; the objective within 1 %."""
    x, _ = groups()
    labels, near = flat_clusters(x, 8, 10, starts=8)
    rows = PCA(10, whiten=True).fit_transform(x.astype(np.float64))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([rows[labels == c].mean(axis=0) for c in range(8)])
    ours = np.square(rows - means[labels]).sum()
    assert ours <= 1.01 * KMeans(8, n_init=8, random_state=0).fit(rows).inertia_
    # Signs of directions are free; products are not.
    np.testing.assert_allclose(near, np.einsum("nd,nd->n", rows, means[labels]), atol=1e-3)


def test_numbers_of_clusters():
    x, labels = groups()
    colours = np.eye(3)[labels % 3] * 0.5  # three colours, each 0.5 / sqrt(3 / 2) or so from their mean
    found = PROBES["clusters"](clusters=8, starts=8).score(
        FeatureSplit(x, labels % 4), num_classes=4, colours=colours
    )
    mine, _ = flat_clusters(x, 8, starts=8)
    wanted = normalized_mutual_info_score(labels % 4, mine, average_method="geometric")
    assert found.metrics["nmi"] == pytest.approx(100 * wanted)
    assert found.metrics["purity"] == 100.0 and found.metrics["colour_deviation"] == pytest.approx(0, abs=1e-6)
    # By chance a cluster has all colours: sqrt of the sum of their variances.
    assert found.metrics["chance_deviation"] == pytest.approx(100 * np.sqrt(colours.var(axis=0).sum()), rel=0.05)
    assert found.top1 is None and found.hyperparameters["clusters"] == 8


def test_how_many_clusters():
    x, labels = groups(600)
    score = PROBES["clusters"]().score(FeatureSplit(x, labels % 4), num_classes=4)
    assert score.hyperparameters["clusters"] == 15 and set(score.metrics) == {"nmi", "purity"}
    many = PROBES["clusters"](clusters=900).score(FeatureSplit(x, labels % 4), num_classes=4)
    assert many.hyperparameters["clusters"] == 600
    with pytest.raises(InputError, match="clusters.starts 0 must be at least 1"):
        PROBES["clusters"](starts=0)
