"""Hierarchical k-means: coarse clusters of all rows, fine ones inside of each (DeeperCluster, arXiv:1905.01278)."""

from typing import NamedTuple

import numpy as np

from revisit_ssl.clustering.kmeans import first_centroids, kmeans
from revisit_ssl.clustering.workers import Workers
from revisit_ssl.errors import require

FIRST_SHARD = 16  # workers of a super-cluster in the official run


class TwoLevels(NamedTuple):
    """Clusters of clusters.

    Attributes:
        upper: float32 [m, d], centroids of the coarse clusters; zeros where m is 1.
        lower: float32 [m, K, d], centroids inside of each; zeros where K is 1.
        labels: int64 [n, 2], coarse cluster and fine one, of this process's rows.
    """

    upper: np.ndarray
    lower: np.ndarray
    labels: np.ndarray


def two_levels(rows, m, k, iterations=10, *, init="all", seed=0, workers=None, **options):
    """k-means with m centroids, then one with k inside of each of its clusters.

    Args:
        rows: clustering.rows.Rows, those of this process.
        m: int; 1: the second level alone.
        k: int; 1: the first level alone.
        iterations, workers: as of ``kmeans``.
        init: "all": first fine centroids are drawn from all rows of a cluster; "first_shard": from its first sixteenth.
        seed: int, of the first centroids.
        options: empty and chunk, as of ``kmeans``.

    Returns:
        TwoLevels.

    Raises:
        InputError: a coarse cluster that holds no row.
    """
    workers = workers or Workers()
    shared = {"workers": workers, **options}
    upper, coarse = np.zeros([m, rows.width], np.float32), np.zeros(len(rows), np.int32)
    if m > 1:
        start = first_centroids(rows, m, seed, workers=workers)
        found = kmeans(rows, start, iterations, seed=seed, **shared)
        upper, coarse = found.centroids, found.labels
    lower, labels = np.zeros([m, k, rows.width], np.float32), np.zeros([len(rows), 2], np.int64)
    labels[:, 0] = coarse
    for s in range(m if k > 1 else 0):
        members = np.flatnonzero(coarse == s)
        (size,) = workers.sum(len(members))
        told = f"super-cluster {s + 1} of {m} holds no image: the features hardly differ; use fewer super-clusters"
        require(size > 0, told)
        inside = rows.of(members)
        drawn = inside
        if init == "first_shard" and workers.index == 0:
            drawn = inside.of(np.arange(max(1, len(members) // FIRST_SHARD)))
        elif init == "first_shard":
            drawn = inside.of([])
        start = first_centroids(drawn, k, seed + 1 + s, workers=workers)
        found = kmeans(inside, start, iterations, seed=seed + 1 + s, **shared)
        lower[s], labels[members, 1] = found.centroids, found.labels
    return TwoLevels(upper, lower, labels)
