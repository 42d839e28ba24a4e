"""Flat clusters of features as DeepCluster makes them (arXiv:1807.05520): whitened, of unit length, then k-means."""

import numpy as np

from revisit_ssl.clustering.kmeans import first_centroids, kmeans
from revisit_ssl.clustering.rows import Rows
from revisit_ssl.clustering.whitening import fit_whitening


def flat_clusters(features, k, dim=256, *, iterations=20, starts=3, seed=0):
    """Clusters of a set that fits into memory: of several random starts the one with the smallest distances.

    Args:
        features: float32 [n, d].
        k: int >= 1; with fewer different rows than that some clusters stay empty.
        dim: int, directions that PCA keeps; at most d, and at most a tenth of n.
        iterations: int, updates of k-means.
        starts: int >= 1.
        seed: int, of the starts.

    Returns:
        (labels int32 [n], similarity float32 [n] of each whitened unit row to the centroid of its cluster).

    Raises:
        InputError: features that do not differ.
    """
    features = np.asarray(features, np.float32)
    n, width = features.shape
    rows = fit_whitening(Rows(features), max(1, min(dim, width, n // 10)))(features)
    begun = (first_centroids(Rows(rows), min(k, n), seed * starts + i) for i in range(starts))
    found = min((kmeans(Rows(rows), start, iterations) for start in begun), key=lambda c: c.objectives[-1])
    return found.labels, np.einsum("nd,nd->n", rows, found.centroids[found.labels])
