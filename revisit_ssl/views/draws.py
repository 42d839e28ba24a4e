"""Random draws for views: stateless, made for the global batch, each replica taking its own rows.

A stateful generator is not saved with a model and gives every replica the same numbers. Here a draw is a function of
(seed, step) alone, and of n replicas replica r takes rows [r*B, (r+1)*B) of the draw for n*B rows. So replicas differ,
n replicas see exactly what one device with the whole batch sees, and a restarted run repeats nothing.
"""

from typing import NamedTuple

import tensorflow as tf


class Seed(NamedTuple):
    """Key of a random draw and the rows of the global batch that belong here.

    Attributes:
        key: int64 [2], tensor or pair of ints.
        replica: int or int32 scalar tensor, 0 <= replica < replicas.
        replicas: static int, replicas that share the global batch.
    """

    key: object
    replica: object = 0
    replicas: int = 1


def as_seed(seed):
    """A ``Seed`` from a ``Seed``, an int, or a pair (tuple, list, tensor [2])."""
    if isinstance(seed, Seed):
        return seed
    if isinstance(seed, int):
        seed = (seed, 0)
    return Seed(tf.cast(tf.convert_to_tensor(seed), tf.int64))


def fold(seed, data):
    """A new seed for a named sub-draw: same (seed, data) -> same seed; other data -> independent draws.

    Args:
        seed: anything ``as_seed`` takes.
        data: int or integer scalar tensor (a step, an epoch, a constant per operation).
    """
    seed = as_seed(seed)
    data = tf.cast(tf.convert_to_tensor(data), tf.int64)
    return seed._replace(key=tf.random.experimental.stateless_fold_in(tf.cast(seed.key, tf.int64), data))


def uniform(seed, shape, low=0.0, high=1.0):
    """float32 of ``shape`` in [low, high); ``shape[0]`` is the number of rows on this replica (may be a tensor)."""
    return _rows(seed, shape, lambda s, full: tf.random.stateless_uniform(full, s, low, high))


def integers(seed, shape, low, high):
    """int32 of ``shape`` in {low, ..., high - 1}."""
    return _rows(seed, shape, lambda s, full: tf.random.stateless_uniform(full, s, low, high, dtype=tf.int32))


def normal(seed, shape, mean=0.0, stddev=1.0):
    """float32 of ``shape``, Gaussian."""
    return _rows(seed, shape, lambda s, full: tf.random.stateless_normal(full, s, mean, stddev))


def bernoulli(seed, shape, probability):
    """bool of ``shape``, True with ``probability`` in [0, 1] (0 never, 1 always)."""
    return uniform(seed, shape) < probability


def _rows(seed, shape, draw):
    seed = as_seed(seed)
    shape = list(shape)
    rows = shape[0]
    everything = draw(tf.cast(seed.key, tf.int64), [rows * seed.replicas, *shape[1:]])
    if seed.replicas == 1:
        return everything
    return tf.slice(everything, [seed.replica * rows] + [0] * (len(shape) - 1), shape)
