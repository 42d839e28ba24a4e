"""Clusters of the test features against their classes: normalised mutual information (CLD supplement, section 7)."""

import time
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from revisit_ssl.evaluators.base import FeatureProbe, ProbeScore, check_splits


@dataclass(frozen=True, kw_only=True)
class NMI(FeatureProbe):
    """k-means over unit test features, as many clusters as classes; how much the clusters tell of the labels.

    CLD takes it for the mutual information at large, beside retrieval, the local one. Nothing is trained or chosen.
    ``ProbeScore.metrics``: nmi, in percent: 100 for clusters that are the classes, 0 for independent ones. The paper
    does not say how it clusters or normalises; these are scikit-learn's ways.
    """

    splits = ("test",)

    clusters: int | None = None
    """k; None: the number of classes. At most the number of test images."""
    restarts: int = 10
    """Starts by k-means++, of which the one with the smallest distances counts."""
    normalizer: Literal["arithmetic", "geometric", "min", "max"] = "arithmetic"
    """Which mean of both entropies divides the mutual information."""

    def __call__(self, train, val, test, *, num_classes, seed=0):
        """See FeatureProbe. ``train`` and ``val`` are checked and not used; ``seed`` is that of the starts."""
        started = time.perf_counter()
        test = check_splits([s for s in (train, val, test) if s is not None], num_classes)[-1]
        k = min(self.clusters or num_classes, len(test.features))
        found = cluster(test.features, k, self.restarts, seed)
        return ProbeScore(
            metrics={"nmi": 100.0 * nmi(test.labels, found, self.normalizer)},
            hyperparameters=asdict(self) | {"clusters": k},
            seconds=time.perf_counter() - started,
        )


def cluster(features, k, restarts=10, seed=0):
    """int32 [N]: the k-means cluster of every row [N, d] made unit length; zero rows stay zero."""
    # float64: scikit-learn's threads add up in any order, and a rounded distance must not decide a row.
    unit = np.asarray(features, np.float64)
    unit = unit / np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-12)
    k = min(k, len(np.unique(unit, axis=0)))  # a collapsed network has fewer different rows than classes
    return KMeans(k, n_init=restarts, random_state=seed).fit_predict(unit)


def nmi(labels, clusters, normalizer="arithmetic"):
    """Mutual information of two labellings [N] over a mean of their entropies, in [0, 1]; 0 for a single cluster.

    Source: scikit-learn, whose function the official evaluation script of CLD imports.
    """
    return float(normalized_mutual_info_score(labels, clusters, average_method=normalizer))
