"""Nearest neighbours by cosine similarity, and how they vote (InstDisc, arXiv:1805.01978, section 3.4; CLD test.py).

The probe ``knn`` and the training monitor share this rule.
"""

import numpy as np
import tensorflow as tf

from revisit_ssl.features.checks import blocks

_QUERIES = 512  # rows compared at a time; with gallery blocks of 8M values a block of similarities stays under 1 GB


def class_scores(queries, gallery, labels, num_classes, neighbours=200, temperature=0.1):
    """Sum of exp(cosine / temperature) over those of the nearest gallery rows that are of the class.

    Args:
        queries: float [Q, d]; rows of any length, zero rows have cosine 0 with everything.
        gallery: float [N, d], N >= neighbours.
        labels: int [N] in [0, num_classes).
        num_classes, neighbours, temperature: as the fields of KNN.

    Returns:
        float64 [Q, num_classes], 0 for a class without a neighbour.
    """
    similarities, indices = nearest(queries, gallery, neighbours)
    votes = np.exp(similarities.astype(np.float64) / temperature)
    scores = np.zeros((len(queries), num_classes))
    np.add.at(scores, (np.arange(len(queries))[:, None], np.asarray(labels)[indices]), votes)
    return scores


def nearest(queries, gallery, neighbours):
    """The nearest gallery rows of each query by cosine, nearest first; equal ones in gallery order.

    Both are read in blocks: neither, nor their [Q, N] similarities, need fit in memory.

    Returns:
        (float32 [Q, neighbours] cosines, int64 [Q, neighbours] gallery rows).
    """
    similarities = np.empty((len(queries), 0), np.float32)
    indices = np.empty((len(queries), 0), np.int64)
    for first, block in blocks(gallery):
        block = tf.math.l2_normalize(tf.constant(block), axis=1, epsilon=1e-24)
        found = [
            _top(tf.constant(rows), block, tf.constant(min(neighbours, block.shape[0])))
            for _, rows in blocks(queries, values=_QUERIES * queries.shape[1])
        ]
        similarities = np.concatenate([similarities, np.concatenate([f[0] for f in found])], axis=1)
        indices = np.concatenate([indices, np.concatenate([f[1] for f in found]) + np.int64(first)], axis=1)
        # Stable: of equal ones the earlier gallery row stays, as within a block.
        order = np.argsort(-similarities, axis=1, kind="stable")[:, :neighbours]
        similarities = np.take_along_axis(similarities, order, axis=1)
        indices = np.take_along_axis(indices, order, axis=1)
    return similarities, indices


@tf.function(autograph=False, reduce_retracing=True)
def _top(queries, gallery, k):
    """(cosines [q, k], rows [q, k]) of float32 [q, d] against unit rows [n, d]; lower rows first among equals."""
    queries = tf.math.l2_normalize(queries, axis=1, epsilon=1e-24)
    return tf.math.top_k(tf.matmul(queries, gallery, transpose_b=True), k)
