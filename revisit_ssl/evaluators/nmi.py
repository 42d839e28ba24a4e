"""Clusters of the test features against their classes: normalised mutual information (CLD supplement, section 7)."""

import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import Probe, Score, check_splits


@dataclass(frozen=True, kw_only=True)
class NMI(Probe):
    """k-means over unit test features, as many clusters as classes; how much the clusters tell of the labels.

    CLD takes it for the mutual information at large, beside retrieval, the local one. Nothing is trained or chosen.
    ``Score.metrics``: nmi, in percent: 100 for clusters that are the classes, 0 for independent ones. The paper
    does not say how it clusters or normalises; these are scikit-learn's ways.
    """

    clusters: int | None = None
    """k; None: the number of classes. At most the number of test images."""
    restarts: int = 10
    """Starts by k-means++, of which the one with the smallest distances counts."""
    normalizer: Literal["arithmetic", "geometric", "min", "max"] = "arithmetic"
    """Which mean of both entropies divides the mutual information."""

    def __post_init__(self):
        """InputError for fewer than 1 cluster or start."""
        require(self.clusters is None or self.clusters >= 1, f"nmi.clusters {self.clusters} must be at least 1")
        require(self.restarts >= 1, f"nmi.restarts {self.restarts} must be at least 1")

    def measure(self, bench):
        """See Probe; only the test split is looked at, and the seed is that of the starts."""
        for endpoint in bench.endpoints:
            test = bench.split("test", endpoint)
            yield self.score(test, num_classes=bench.num_classes, seed=bench.seed).of(endpoint)

    def score(self, test, *, num_classes, seed=0):
        """Score of a FeatureSplit; ``seed`` is that of the starts."""
        started = time.perf_counter()
        (test,) = check_splits([test], num_classes)
        k = min(self.clusters or num_classes, len(test.features))
        found = cluster(test.features, k, self.restarts, seed)
        return Score(
            metrics={"nmi": 100.0 * nmi(test.labels, found, self.normalizer)},
            hyperparameters=self.options() | {"clusters": k},
            seconds=time.perf_counter() - started,
        )


def cluster(features, k, restarts=10, seed=0):
    """int32 [N]: the k-means cluster of every row [N, d] made unit length; zero rows stay zero."""
    from sklearn.cluster import KMeans  # here, so that help need not wait for it

    # float64: scikit-learn's threads add up in any order, and a rounded distance must not decide a row.
    unit = np.asarray(features, np.float64)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    k = min(k, len(np.unique(unit, axis=0)))  # a collapsed network has fewer different rows than classes
    return KMeans(k, n_init=restarts, random_state=seed).fit_predict(unit)


def nmi(labels, clusters, normalizer="arithmetic"):
    """Mutual information of two labellings [N] over a mean of their entropies, in [0, 1]; 0 for a single cluster.

    Source: scikit-learn, whose function the official evaluation script of CLD imports.
    """
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels, clusters, average_method=normalizer))
