"""Proposals: the best anchors, moved, without those that others cover. Shapes are static; XLA can compile all of it."""

import tensorflow as tf

from revisit_ssl.detection.boxes import clip, decode

LOWEST = -3e38  # scores below it are no candidates


def suppress(boxes, scores, most, threshold):
    """Non-maximum suppression: the best box, then the best one that overlaps none before by more than ``threshold``.

    Args:
        boxes: float32 [M, 4].
        scores: float32 [M]; -inf: is left out.
        most: int, boxes that are kept at most.
        threshold: of the IoU.

    Returns:
        indices int32 [most], best first, and how many of them are meant, an int32 scalar.
    """
    return tf.raw_ops.NonMaxSuppressionV4(
        boxes=boxes, scores=scores, max_output_size=most, iou_threshold=threshold, score_threshold=LOWEST,
        pad_to_max_output_size=True,
    )


def propose(logits, deltas, anchors, extents, *, before, after, threshold):
    """What the region proposal network hands on.

    Args:
        logits: float32 [B, A], objectness.
        deltas: float32 [B, A, 4], see ``boxes.encode``.
        anchors: float32 [A, 4].
        extents: float32 [B, 2], height and width of each image in pixels, without padding.
        before, after: boxes that go into the suppression and come out of it, at most.
        threshold: IoU of the suppression.

    Returns:
        boxes float32 [B, after, 4], zeros in unused places; present bool [B, after]. No gradient flows back.
    """
    logits, deltas = tf.stop_gradient(logits), tf.stop_gradient(deltas)
    scores, index = tf.math.top_k(logits, min(before, logits.shape[1]))
    boxes = clip(decode(tf.gather(deltas, index, batch_dims=1), tf.gather(anchors, index)), extents)
    there = tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1)
    scores = tf.where(there, scores, float("-inf"))
    after = min(after, scores.shape[1])

    def of_image(one):
        own, own_scores = one
        kept, count = suppress(own, own_scores, after, threshold)
        present = tf.range(after) < count
        return tf.where(present[:, None], tf.gather(own, kept), 0.0), present

    spec = tf.TensorSpec([after, 4], tf.float32), tf.TensorSpec([after], tf.bool)
    return tf.map_fn(of_image, (boxes, scores), fn_output_signature=spec)
