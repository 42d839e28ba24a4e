"""Random draws for views: stateless, made for the global batch, each replica taking its own rows.

A stateful generator is not saved with a model and gives every replica the same numbers. Here a draw is a function of
(seed, step) alone, and of n replicas replica r takes rows [r*B, (r+1)*B) of the draw for n*B rows. So replicas differ,
n replicas see exactly what one device with the whole batch sees, and a restarted run repeats nothing.

Floats are made here from the random bits: TensorFlow's own conversion differs between XLA and the plain graph, so that
the same seed would give other numbers when compilation is switched on (seen with TF 2.21). The generator is named
(Philox) because the automatic choice depends on the device.

The numbers are those of ``tf.random.stateless_uniform(..., alg="philox")``. That function takes forty-odd operations to
make a generator's state of a seed, ``_state`` ten: of a step's graph, which is traced and compiled, draws were half.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from revisit_ssl.errors import require

PHILOX = tf.random.Algorithm.PHILOX.value
SCRAMBLE = 0x02461E293EC8F720  # TensorFlow's key of the draw that makes a state of a seed
SECOND = np.array([0, 2**64 - 1], np.uint64)  # keeps the second of two numbers; (in a list the graph's becomes 0)


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
    return seed._replace(key=tf.stack([_words([], _key(seed), tf.int64), data]))


def uniform(seed, shape, low=0.0, high=1.0):
    """float32 of ``shape`` in [low, high], in steps of 2^-24 of the range; high itself only by rounding.

    ``shape[0]`` is the number of rows on this replica; it may be a scalar tensor, as may ``low`` and ``high``.
    """
    # 24 bits fit float32 without rounding; int32, since not every device converts uint32.
    return _rows(seed, shape, lambda s, full: low + tf.cast(_bits(s, full, 24), tf.float32) * 2.0**-24 * (high - low))


def integers(seed, shape, low, high):
    """int32 of ``shape`` in {low, ..., high - 1}."""


    def draw(s, full):
        key, counter = _state(s)
        options = {"shape": full, "key": key, "counter": counter, "alg": PHILOX, "minval": low, "maxval": high}
        return tf.raw_ops.StatelessRandomUniformIntV2(**options)

    return _rows(seed, shape, draw)


def normal(seed, shape, mean=0.0, stddev=1.0):
    """float32 of ``shape``, Gaussian, cut off at 5.3 standard deviations by the resolution of the uniform draw."""

    def draw(s, full):
        # Midpoints of 2^23 cells of (-1, 1) are exact in float32 and never +-1.
        cells = (tf.cast(_bits(s, full, 23), tf.float32) + 0.5) * 2.0**-22 - 1.0
        return mean + stddev * 2.0**0.5 * tf.math.erfinv(cells)

    return _rows(seed, shape, draw)


def bernoulli(seed, shape, probability):
    """bool of ``shape``, True with ``probability``, a float in [0, 1] (0 never, 1 always); else InputError."""
    require(0 <= probability <= 1, f"A probability lies in [0, 1]; got {probability}.")
    return uniform(seed, shape) < probability


def dropout(x, rate, seed):
    """Dropout with a stateless seed: each value is 0 with probability ``rate``, else x / (1 - rate).

    Args:
        x: float [B, ...]; B counts this replica's rows of the global batch.
        rate: float in [0, 1).
        seed: anything ``as_seed`` takes.

    Returns:
        As ``x``.

    Raises:
        InputError: rate outside [0, 1).
    """
    require(0 <= rate < 1, f"A dropout rate lies in [0, 1); got {rate}.")
    if rate == 0:
        return x
    shape = [tf.shape(x)[i] if side is None else side for i, side in enumerate(x.shape)]
    keep = bernoulli(seed, shape, 1.0 - rate)
    return tf.where(keep, x / tf.cast(1.0 - rate, x.dtype), tf.zeros([], x.dtype))


def select(chosen, yes, no):
    """Row b of ``yes`` where chosen[b], else of ``no``: bool [B], two tensors [B, ...] of one shape and dtype.

    The row form of Select copies whole rows; on the CPU it is seven times faster than tf.where with broadcasting.
    """
    return tf.raw_ops.Select(condition=chosen, x=yes, y=no)


def batch_size(images):
    """B of images [B, ...]: an int where it is static, else an int32 scalar tensor."""
    return tf.shape(images)[0] if images.shape[0] is None else images.shape[0]


def _key(seed):
    return tf.cast(seed.key, tf.int64)


def _state(key):
    """(key uint64 [1], counter uint64 [2]) of the generator for a seed int64 [2]."""
    seed = {"key": [SCRAMBLE], "counter": tf.cast(key, tf.uint64), "alg": PHILOX, "dtype": tf.uint32}
    mixed = tf.bitcast(tf.raw_ops.StatelessRandomUniformFullIntV2(shape=[2, 2], **seed), tf.uint64)
    return mixed[:1], tf.bitwise.bitwise_and(mixed, SECOND)


def _words(shape, key, dtype):
    """Integers of ``shape``, uniform over all that the dtype holds."""
    key, counter = _state(key)
    return tf.raw_ops.StatelessRandomUniformFullIntV2(shape=shape, key=key, counter=counter, alg=PHILOX, dtype=dtype)


def _bits(key, shape, bits):
    """int32 of ``shape``, uniform over {0, ..., 2^bits - 1}."""
    words = _words(shape, key, tf.int32)
    return tf.bitwise.right_shift(words, 32 - bits) & (2**bits - 1)  # the shift keeps the sign, the mask drops it


def _rows(seed, shape, draw):
    """This replica's rows of ``draw(key, shape of the global batch)``.

    The whole calculation is done for the global batch: the last bit of a vectorised function may depend on the shape.
    """
    seed = as_seed(seed)
    shape = list(shape)
    rows = shape[0]
    everything = draw(_key(seed), [rows * seed.replicas, *shape[1:]])
    if seed.replicas == 1:
        return everything
    return tf.slice(everything, [tf.cast(seed.replica, tf.int32) * rows] + [0] * (len(shape) - 1), shape)
