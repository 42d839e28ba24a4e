"""Which object a box is to find, and which boxes a step learns from."""

import tensorflow as tf

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
ROUNDING = 1e-6  # of an IoU; several times what float32 leaves open


def match(overlaps, present, low, high, *, best_of_each=False):
    """Gives each box the object that it overlaps most, and a label.

    Args:
        overlaps: float32 [M, G], IoU of M boxes with G objects.
        present: bool [G], which objects are there; the others are filling.
        low, high: below low a box is negative, from high on positive, between them ignored.
        best_of_each: the boxes with the largest IoU of an object are positive too, all of them where several have it
            (as in Faster R-CNN, arXiv:1506.01497, 3.1.2). They still are to find the object that they overlap most.

    Returns:
        owner int32 [M], an object's number, of no meaning unless positive; label int32 [M].
    """
    overlaps = tf.where(present[None], overlaps, -1.0)
    best = tf.reduce_max(overlaps, axis=1)
    label = tf.where(best >= high, POSITIVE, tf.where(best < low, NEGATIVE, IGNORED))
    if best_of_each:
        most = tf.reduce_max(overlaps, axis=0, keepdims=True)
        # Not ``==``: a compiler may calculate the overlaps once more, rounded otherwise, and then no box has the most.
        # Deviation: an object that no box overlaps makes all boxes positive in detectron2.
        chosen = tf.reduce_any((overlaps >= most * (1 - ROUNDING)) & (most > 0), axis=1)
        label = tf.where(chosen, POSITIVE, label)
    return tf.argmax(overlaps, axis=1, output_type=tf.int32), label


def sample(labels, keys, count, share):
    """Draws ``count`` boxes of each image, at most ``share`` of them positive, the others negative.

    Args:
        labels: int32 [B, M], see ``match``.
        keys: float32 [B, M] in [0, 1), random; the largest ones of each label are taken.
        count: int, most boxes of an image; fewer where there are not as many negative ones.
        share: in (0, 1].

    Returns:
        indices int32 [B, S], positive boxes first; taken bool [B, S]; positive bool [B, S], a part of taken.
        S = min(count, M). Places that are not taken repeat boxes that are.
    """
    size = min(count, labels.shape[1])
    most = min(int(count * share), size)
    positives, first = tf.math.top_k(tf.where(labels == POSITIVE, keys, -1.0), most)
    negatives, second = tf.math.top_k(tf.where(labels == NEGATIVE, keys, -1.0), size)
    n_positive = tf.reduce_sum(tf.cast(positives >= 0, tf.int32), axis=1, keepdims=True)  # [B, 1]
    n_negative = tf.reduce_sum(tf.cast(negatives >= 0, tf.int32), axis=1, keepdims=True)
    n_taken = tf.minimum(n_positive + n_negative, size)
    place = tf.range(size)[None]
    again = place % tf.maximum(n_taken, 1)
    source = tf.where(again < n_positive, again, most + again - n_positive)
    indices = tf.gather(tf.concat([first, second], axis=1), source, batch_dims=1)
    return indices, place < n_taken, place < tf.minimum(n_positive, n_taken)
