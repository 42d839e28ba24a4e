"""Which of all classes' boxes are detections."""

import tensorflow as tf

from revisit_ssl.detection.proposals import suppress


def select(scores, boxes, present, threshold, overlap, most):
    """The best boxes of an image, none of which overlaps a better one of its class.

    Args:
        scores: float32 [B, R, K], softmax without the background.
        boxes: float32 [B, R, K, 4], inside of the images.
        present: bool [B, R], regions that are there.
        threshold: scores have to lie above.
        overlap: IoU above which the worse of two boxes of a class is left out.
        most: int, detections of an image at most.

    Returns:
        {"boxes": float32 [B, most, 4], "scores": float32 [B, most], best first, "classes": int32 [B, most], "count":
        int32 [B]}; zeros in unused places.
    """
    count, classes = scores.shape[1:]
    flat = tf.reshape(tf.where(present[..., None] & (scores > threshold), scores, -1.0), [-1, count * classes])
    # Scores of a region add up to at most 1: above 0.05 there are no more than 20 of them.
    simultaneous = min(classes, int(1 / threshold)) if threshold else classes
    candidates = count * simultaneous
    best, index = tf.math.top_k(flat, candidates)
    boxes = tf.gather(tf.reshape(boxes, [-1, count * classes, 4]), index, batch_dims=1)
    classes_of = index % classes
    most = min(most, candidates)

    def of_image(one):
        own, own_scores, own_classes = one
        # One suppression for all classes: each lies in a plane of its own, beyond the edge of the one before.
        apart = own + (tf.reduce_max(own) + 1.0) * tf.cast(own_classes, tf.float32)[:, None]
        kept, number = suppress(apart, tf.where(own_scores > 0, own_scores, float("-inf")), most, overlap)
        there = tf.range(most) < number
        found = tf.where(there[:, None], tf.gather(own, kept), 0.0), tf.where(there, tf.gather(own_scores, kept), 0.0)
        return *found, tf.where(there, tf.gather(own_classes, kept), 0), number

    kinds = ([most, 4], tf.float32), ([most], tf.float32), ([most], tf.int32), ([], tf.int32)
    spec = tuple(tf.TensorSpec(*kind) for kind in kinds)
    found = tf.map_fn(of_image, (boxes, best, classes_of), fn_output_signature=spec)
    return dict(zip(("boxes", "scores", "classes", "count"), found, strict=True))
