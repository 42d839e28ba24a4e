"""Losses and batch accuracies: pure functions of tensors."""

import tensorflow as tf


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
