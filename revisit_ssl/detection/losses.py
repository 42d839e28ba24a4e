"""The five losses of Mask R-CNN, each a sum over what a step learns from, by a denominator that the caller gives.

A step on several devices gives each the denominator of all, so that their sum is the loss of the whole batch.
"""

import tensorflow as tf


def objectness_loss(logits, positive, taken, denominator):
    """Binary cross entropy of sampled anchors (Faster R-CNN, arXiv:1506.01497, eq. 1, first term).

    Args:
        logits: float32 [B, S].
        positive, taken: bool [B, S].
        denominator: scalar; 256 anchors for each image, even where fewer were there.

    Returns:
        Scalar float32, in nats.
    """
    each = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(positive, logits.dtype), logits)
    return tf.reduce_sum(tf.where(taken, each, 0.0)) / denominator


def box_loss(deltas, targets, positive, denominator):
    """L1 distance of encoded boxes, summed over their four numbers: smooth L1 with beta 0, as detectron2's models.

    Args:
        deltas, targets: float32 [..., 4].
        positive: bool [...], which boxes are to find an object.
        denominator: scalar; of the proposals 256 anchors for each image, of the regions all that were sampled.

    Returns:
        Scalar float32.
    """
    each = tf.reduce_sum(tf.abs(deltas - targets), axis=-1)
    return tf.reduce_sum(tf.where(positive, each, 0.0)) / denominator


def class_loss(logits, labels, taken, denominator):
    """Cross entropy over the classes and the background.

    Args:
        logits: float32 [M, K + 1], the background last.
        labels: int32 [M] in [0, K].
        taken: bool [M].
        denominator: scalar, all regions that were sampled.

    Returns:
        Scalar float32, in nats.
    """
    each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return tf.reduce_sum(tf.where(taken, each, 0.0)) / denominator


def mask_loss(logits, targets, positive, denominator):
    """Binary cross entropy of each pixel of the true class' mask (Mask R-CNN, arXiv:1703.06870, section 3).

    Args:
        logits: float32 [M, s, s], of the true class alone.
        targets: bool [M, s, s].
        positive: bool [M].
        denominator: scalar, regions with an object; the loss is their mean over regions and pixels.

    Returns:
        Scalar float32, in nats; 0 where no region has an object.
    """
    each = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(targets, logits.dtype), logits)
    each = tf.reduce_mean(each, axis=(1, 2))
    return tf.reduce_sum(tf.where(positive, each, 0.0)) / tf.maximum(denominator, 1.0)
