"""Losses and batch accuracies: pure functions of tensors."""

import warnings

import numpy as np
import tensorflow as tf

from revisit_ssl.errors import InputError


def cross_entropy(logits, labels):
    """Mean softmax cross-entropy.

    Args:
        logits: float [N, C].
        labels: int [N], 0 <= label < C.

    Returns:
        float32 scalar in nats, mean over N; log(C) where all logits are equal.
    """
    logits = tf.cast(logits, tf.float32)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def accuracy(logits, labels):
    """Share of rows whose largest logit is the label's; float32 scalar."""
    return tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), tf.cast(labels, tf.int32)), tf.float32))


def pairwise_distances(embeddings, distance="squared_l2"):
    """Distance of every row to every row.

    Args:
        embeddings: float [N, d].
        distance: "squared_l2"; "l2", with gradient 0 where it is 0; "angular": 1 - cosine, rows normalised here.

    Returns:
        float32 [N, N], symmetric up to rounding, >= 0, diagonal 0. It is computed as |a|^2 - 2ab + |b|^2, so a distance
        far below the norms is rounding; TF32 products of a GPU make that 1e-3 of the norms.

    Raises:
        InputError: unknown distance.
    """
    if distance not in ("squared_l2", "l2", "angular"):
        raise InputError(f"unknown distance {distance!r}; one of squared_l2, l2, angular")
    x = tf.cast(embeddings, tf.float32)
    if distance == "angular":
        x = tf.math.l2_normalize(x, axis=1)
    products = tf.matmul(x, x, transpose_b=True)
    if distance == "angular":
        d = 1.0 - products
    else:
        norms = tf.reduce_sum(tf.square(x), axis=1)
        d = norms[:, None] - 2.0 * products + norms[None, :]
    rows = tf.range(tf.shape(x)[0])
    apart = (d > 0.0) & (rows[:, None] != rows[None, :])
    d = tf.where(apart, d, 0.0)
    # The root of 0 has no gradient: it is taken of 1 there, and not used.
    return tf.where(apart, tf.sqrt(tf.where(apart, d, 1.0)), 0.0) if distance == "l2" else d


def triplet_semihard(embeddings, labels, margin, distance="squared_l2"):
    """Triplet loss with semi-hard negatives (FaceNet, arXiv:1503.03832), as ``tfa.losses.triplet_semihard_loss``.

    The mean of max(0, margin + d(a, p) - d(a, n)) over all ordered pairs (a, p) of different rows with one label, where
    n is the nearest row of another label that is farther from a than p is, or the farthest one where none is. The
    negatives of a row are sorted once and each positive finds its place among them: N^2 numbers, the original has N^3.

    Args:
        embeddings: float [N, d]; normalise them before.
        labels: int [N].
        margin: float; 0.5 in Revisiting SSL.
        distance: as in ``pairwise_distances``; the official Exemplar takes the square.

    Returns:
        float32 scalar >= 0. Where all labels are the same, d(a, n) counts as 0, as in the original.

    Raises:
        InputError: unknown distance.
    """
    labels = tf.convert_to_tensor(labels)
    known = tf.get_static_value(labels)
    if known is not None and len(np.unique(known)) == len(known):
        warnings.warn("triplet_semihard: no two rows share a label, so the loss is 0", stacklevel=2)
    d = pairwise_distances(embeddings, distance)  # [N, N], anchor by other row
    same = labels[:, None] == labels[None, :]
    rows = tf.range(tf.shape(d)[0])
    positive = same & (rows[:, None] != rows[None, :])
    count = tf.reduce_sum(tf.cast(~same, tf.int32), axis=1, keepdims=True)  # [N, 1], negatives of each anchor

    # A choice, not a function to differentiate. The largest float stands for infinity, of which TPUs make NaN.
    fixed = tf.stop_gradient(d)
    masked = tf.where(same, tf.float32.max, fixed)
    order = tf.argsort(masked, axis=1)  # negatives by distance, then the rest
    place = tf.searchsorted(tf.gather(masked, order, batch_dims=1), fixed, side="right")  # negatives not beyond p
    chosen = tf.gather(order, tf.clip_by_value(place, 0, tf.maximum(count - 1, 0)), batch_dims=1)  # [N, N]

    to_negative = tf.where(count > 0, tf.gather(d, chosen, batch_dims=1), 0.0)
    terms = tf.where(positive, tf.maximum(margin + d - to_negative, 0.0), 0.0)
    # Deviation: no positive pair at all gives 0; the original divides 0 by 0.
    pairs = tf.reduce_sum(tf.cast(positive, tf.float32))
    return tf.reduce_sum(terms) / tf.maximum(pairs, 1.0)


def retrieval_accuracy(embeddings, labels):
    """Share of rows whose nearest other row (squared distance) has the same label; float32 scalar.

    With n crops of each of B images, chance is (n - 1) / (n * B - 1).

    Args:
        embeddings: float [N, d], N >= 2.
        labels: int [N].
    """
    d = pairwise_distances(embeddings)
    rows = tf.range(tf.shape(d)[0])
    nearest = tf.argmin(tf.where(rows[:, None] == rows[None, :], tf.float32.max, d), axis=1, output_type=tf.int32)
    return tf.reduce_mean(tf.cast(tf.gather(labels, nearest) == labels, tf.float32))
