"""The heads of super-classes and their loss (DeeperCluster, arXiv:1905.01278), and the order that feeds them."""

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.errors import require
from revisit_ssl.pretext.losses import cross_entropy
from revisit_ssl.views.draws import fold, normal, uniform


class SubHeads(keras.layers.Layer):
    """One linear classifier for each super-class, as one weight.

    Args:
        groups: S, super-classes.
        inputs: d, values of a feature.
        classes: K, clusters that each tells apart.
    """

    def __init__(self, groups, inputs, classes, name="sub_heads"):
        super().__init__(name=name, dtype="float32")
        self.kernel = self.add_weight(shape=(groups, inputs, classes), initializer="zeros", name="kernel")
        self.bias = self.add_weight(shape=(groups, classes), initializer="zeros", name="bias")
        self.built = True

    def call(self, features):
        """float32 [B, S, d] -> logits [B, S, K]."""
        return tf.einsum("bsd,sdk->bsk", features, self.kernel.value) + self.bias.value


def new_values(variables, inputs, seed, start="torch"):
    """[float32 tensor]: first values of a linear layer's kernels and biases.

    Args:
        variables: of which the shapes and the names are looked at.
        inputs: int, values of a feature.
        seed: of these values.
        start: "torch": uniform within 1 / sqrt(inputs); "normal": kernels with deviation 0.01, biases 0.
    """
    bound, values = inputs**-0.5, []
    for i, variable in enumerate(variables):
        shape, own = tuple(variable.shape), fold(seed, i)
        if start == "torch":
            values.append(uniform(own, shape, -bound, bound))
        else:
            is_kernel = variable.path.rsplit("/", 1)[-1] == "kernel"
            values.append(normal(own, shape, stddev=0.01) if is_kernel else tf.zeros(shape))
    return values


def super_class_loss(features, labels, super_head, sub_heads, groups, head_grad="group_mean"):
    """L = mean CE(V f, y) + mean CE(W_y f, z), y the super-class of an image, z its cluster.

    Source: DeeperCluster, the formula of the paper and src/trainer.py.

    Args:
        features: float [B, d]; row i is of super-class i % S, so that every replica has all of them alike.
        labels: int [B] in [0, K), z.
        super_head: layer [B, d] -> [B, S], or None where S is 1.
        sub_heads: SubHeads, or None where K is 1.
        groups: S.
        head_grad: "group_mean": of a sub head the gradient is S times that of L, the mean over its own images, as on
            workers that have one super-class each; "global_mean": that of L.

    Returns:
        (objective, {"loss": L, "super_loss", "sub_loss", "accuracy"}), float32 scalars. The objective is what is
        differentiated; its gradient by features and super head is that of L. accuracy: both labels right.
    """
    features = tf.cast(features, tf.float32)
    rows = tf.reshape(features, [-1, groups, features.shape[-1]])  # [B/S, S, d]
    classes = tf.tile(tf.range(groups), [rows.shape[0]])  # [B]
    objective, scalars, right = 0.0, {}, tf.ones([features.shape[0]])
    if super_head is not None:
        logits = super_head(features)
        objective += (loss := cross_entropy(logits, classes))
        scalars["super_loss"] = loss
        right *= hits(logits, classes)
    if sub_heads is not None:
        scale = groups if head_grad == "group_mean" else 1
        # Through the features a sub head's loss counts once, for its own weights S times.
        rows = rows / scale + tf.stop_gradient(rows - rows / scale)
        logits = tf.reshape(sub_heads(rows), [-1, sub_heads.kernel.shape[-1]])  # [B, K]
        scalars["sub_loss"] = loss = cross_entropy(logits, labels)  # equal groups: the mean of their means
        objective += scale * loss
        right *= hits(logits, labels)
    require(scalars, "one super-class of one cluster tells nothing apart; raise task.clusters or task.rotations")
    return objective, {"loss": tf.add_n(list(scalars.values())), **scalars, "accuracy": tf.reduce_mean(right)}


def hits(logits, labels):
    """float32 [B]: 1 where the largest logit is the label's."""
    return tf.cast(tf.equal(tf.argmax(logits, -1, labels.dtype), labels), tf.float32)


def uniform_order(members, total, random):
    """Images of one super-class for an epoch, all clusters alike (UnifLabelSampler of DeepCluster's code).

    Of each cluster that holds an image floor(total / clusters) + 1 are drawn, with replacement where it does not hold
    more than that; they are shuffled and cut to ``total``.

    Args:
        members: int [n], the cluster of each image; -1 for images that are left out.
        total: int >= 1, images that are wanted.
        random: np.random.Generator.

    Returns:
        int64 [total], places in ``members``.

    Raises:
        InputError: no image in any cluster.
    """
    order = np.argsort(members, kind="stable")
    order = order[np.searchsorted(members[order], 0) :]
    require(len(order) > 0, "a super-cluster holds no image: the features hardly differ; use fewer super-clusters")
    _, starts = np.unique(members[order], return_index=True)
    each = total // len(starts) + 1
    drawn = [
        cluster[random.integers(len(cluster), size=each)] if len(cluster) <= each
        else random.choice(cluster, each, replace=False)
        for cluster in np.split(order, starts[1:])
    ]
    return random.permutation(np.concatenate(drawn))[:total]


def natural_order(members, total, random):
    """Images of one super-class for an epoch, each as often as the others; arguments and result of ``uniform_order``.
    Where there are fewer than ``total``, one permutation of them follows another."""
    places = np.flatnonzero(members >= 0)
    require(len(places) > 0, "a super-cluster holds no image: the features hardly differ; use fewer super-clusters")
    passes = -(-total // len(places))
    return np.concatenate([random.permutation(places) for _ in range(passes)])[:total]
