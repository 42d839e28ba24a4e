"""The target network (momentum encoder) of MoCo, InfoMin and BYOL."""

import math

import keras
import tensorflow as tf

from revisit_ssl.distribute import gather_replicas, replica_id, to_numpy
from revisit_ssl.views.draws import as_seed, uniform


def make_target(online):
    """A copy of a built functional model or layer, with the same values, that gradients never change.

    Its variables are frozen one by one: ``trainable = False`` of the model would put BatchNorm into inference mode.
    """
    if isinstance(online, keras.Model):
        target = keras.models.clone_model(online)
    else:
        target = type(online).from_config(online.get_config())
        target.build_from_config(online.get_build_config())
    for copy, original in zip(target.weights, online.weights, strict=True):
        copy.assign(to_numpy(original))
        copy.trainable = False
    return target


def momentum_update(target, online, momentum):
    """target <- momentum * target + (1 - momentum) * online, of parameters only (MoCo, arXiv:1911.05722, equation 2).

    BatchNorm's moving statistics are each network's own, as in every official code.

    Args:
        target, online: model or layer and what ``make_target`` made of it.
        momentum: float or float32 scalar tensor in [0, 1].
    """
    for copy, original in zip(target.weights, online.weights, strict=True):
        if original.trainable:
            copy.assign(copy * momentum + original * (1.0 - momentum))


def cosine_momentum(base, step, total):
    """``base`` at step 0, 1 at ``total``, between them 1 - (1 - base) (1 + cos(pi step / total)) / 2.

    BYOL, arXiv:2006.07733, section 3.3. Worked out in float64: 1 - momentum near the end has few digits of float32.

    Args:
        base: float in [0, 1].
        step: integer scalar tensor or variable, steps done.
        total: int >= 1; later steps count as the last one.

    Returns:
        float32 scalar.
    """
    done = tf.minimum(tf.cast(step, tf.float64) / total, 1.0)
    return tf.cast(1.0 - (1.0 - base) * (1.0 + tf.cos(math.pi * done)) / 2.0, tf.float32)


def shuffled(encode, images, seed):
    """Shuffling BN (MoCo, section 3.3): ``encode`` sees other rows together than the queries' network did.

    The images of all replicas change places, so that the statistics of a replica (and, on one device, of a ghost batch)
    are of other images than the queries'; the rows that come out go back.

    Args:
        encode: function of this replica's images that returns a row for each.
        images: [B, ...].
        seed: anything ``as_seed`` takes; all replicas draw the same order.

    Returns:
        [B, ...], in the order of ``images``.
    """
    everyones = gather_replicas(images)
    count, own = everyones.shape[0], images.shape[0]
    order = tf.argsort(uniform(as_seed(seed).key, [count]))
    mine = replica_id() * own + tf.range(own)
    rows = gather_replicas(encode(tf.gather(everyones, tf.gather(order, mine))))
    return tf.gather(rows, tf.gather(tf.math.invert_permutation(order), mine))
