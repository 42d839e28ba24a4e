"""Which images a page shows with their nearest neighbours, and what these look like."""

import numpy as np

from revisit_ssl.data import eval_batches

QUERIES, NEIGHBOURS = 8, 5


def choose_queries(labels, count, queries=QUERIES):
    """Indices of the first image of each class, then of the second, …; evenly spaced where there are no labels."""
    if labels is None:
        return np.unique(np.linspace(0, count - 1, min(queries, count)).astype(int))
    occurrence = np.zeros(len(labels), int)
    for c in np.unique(labels):
        occurrence[labels == c] = np.arange((labels == c).sum())
    return np.lexsort((labels, occurrence))[:queries]


def cosine_neighbours(features):
    """Indices [N, k] of each row's nearest other rows, nearest first; features [N, d]."""
    values = np.asarray(features, np.float32)
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    similarity = values @ values.T
    np.fill_diagonal(similarity, -np.inf)
    k = min(NEIGHBOURS, len(values) - 1)
    return np.argsort(-similarity, axis=1, kind="stable")[:, :k]


def images_at(source, view, indices):
    """{index: float [H, W, 3] in [0, 1]} of a source, as the network sees them at evaluation."""
    images, start = {}, 0
    for batch in eval_batches(source, 256, view=view):
        values = np.asarray(batch["image"])
        for i in indices:
            if start <= i < start + len(values):
                images[i] = values[i - start] / 255.0
        start += len(values)
        if len(images) == len(indices):
            break
    return images
