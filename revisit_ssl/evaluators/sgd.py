"""Momentum SGD on cached features: the loop behind the linear and the MLP probe.

All candidates of a grid are trained side by side on the same batches, as one wide head: a matrix product with G times
the columns costs far less than G passes over the features, and candidates differ in nothing but their numbers.
"""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from revisit_ssl.training.optimizers import momentum_sgd

_BLOCK_VALUES = 1 << 24  # features handed to the device at a time (64 MB)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Descent:
    """How G candidates are trained.

    Per step: m <- momentum * m + g + weight_decay * w, w <- w - rate * m (TF1's and PyTorch's momentum), rate times 0.1
    after each of ``decay_epochs``. Each epoch is a new permutation, a function of (seed, epoch); the last partial batch
    is dropped.

    Attributes:
        rates: float [G], learning rates as used (already scaled with the batch size).
        batch_size: at most N is used.
        epochs, decay_epochs: int, tuple of numbers.
        momentum: in [0, 1).
        seed: int.
        weight_decay: L2 of every variable.
    """

    rates: list
    batch_size: int
    epochs: int
    decay_epochs: tuple
    momentum: float
    seed: int
    weight_decay: float = 0.0


def train_candidates(features, labels, standardizer, variables, loss, descent, *, mirrored=None, watch=None):
    """Trains G candidates; updates ``variables`` in place.

    Args:
        features: float32 [N, d], array or memory map.
        labels: int64 [N].
        standardizer: applied to every batch.
        variables: tf.Variables [G, ...], candidate first.
        loss: (x [B, d], labels [B], step int64) -> [G], one loss per candidate, each a function of its own slices.
        descent: Descent.
        mirrored: like features, of the mirrored images; each time that an image comes, one of its two rows is drawn.
        watch: called after each epoch with the number of epochs done; None: nobody looks.
    """
    rows = len(features)
    batch_size = min(descent.batch_size, rows)
    steps = rows // batch_size
    velocities = [tf.Variable(tf.zeros_like(v)) for v in variables]
    rates, width = tf.constant(descent.rates, tf.float32), features.shape[1]
    mean, scale = tf.constant(standardizer.mean), tf.constant(standardizer.scale)

    @tf.function(autograph=False)
    def run(x, y, first_step, factor):
        # x [S * B, d], y [S * B]: S whole batches.
        def step(i):
            batch = (tf.slice(x, [i * batch_size, 0], [batch_size, width]) - mean) * scale
            target = tf.slice(y, [i * batch_size], [batch_size])
            with tf.GradientTape() as tape:
                # The sum: candidates share no variable, so each gets the gradient of its own loss.
                total = tf.reduce_sum(loss(batch, target, first_step + tf.cast(i, tf.int64)))
            gradients = tape.gradient(total, variables)
            each = [tf.reshape(rates * factor, [-1] + [1] * (len(w.shape) - 1)) for w in variables]
            descend(variables, velocities, gradients, each, descent.momentum, descent.weight_decay)
            return i + 1

        tf.while_loop(lambda i: i < tf.shape(x)[0] // batch_size, step, [0], parallel_iterations=1)

    # One trace for blocks of all lengths.
    run = run.get_concrete_function(
        tf.TensorSpec([None, width]), tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64), tf.TensorSpec([])
    )
    run_steps = max(1, min(steps, _BLOCK_VALUES // (batch_size * width)))
    for epoch in range(descent.epochs):
        order = np.random.default_rng((descent.seed, epoch)).permutation(rows)[: steps * batch_size]
        factor = tf.constant(0.1 ** sum(epoch >= boundary for boundary in descent.decay_epochs), tf.float32)
        for first in range(0, steps, run_steps):
            chosen = order[first * batch_size : (first + run_steps) * batch_size]
            x = _gather(features, chosen)
            if mirrored is not None:
                turned = np.random.default_rng((descent.seed, epoch, first)).random(len(chosen)) < 0.5
                x[turned] = _gather(mirrored, chosen[turned])
            x, y = tf.constant(x), tf.constant(labels[chosen])
            run(x, y, tf.constant(epoch * steps + first, tf.int64), factor)
        if watch:
            watch(epoch + 1)


def descend(variables, velocities, gradients, rates, momentum, weight_decay=0.0, nesterov=False):
    """One step of momentum SGD, in place; ``rates``: one for each variable. See ``optimizers.momentum_sgd``."""
    for w, m, g, rate in zip(variables, velocities, gradients, rates, strict=True):
        velocity, step = momentum_sgd(w, m, g, momentum, weight_decay, nesterov)
        m.assign(velocity)
        w.assign_sub(rate * step)


def bottou_rate(lr0, weight_decay, iteration):
    """The learning rate at an iteration, from 0: lr0 / sqrt(1 + lr0 weight_decay iteration); numbers or tensors.

    Source: ``learning_rate_decay`` of DeepCluster's util.py and DeeperCluster's eval_linear.py.
    """
    return lr0 / (1 + lr0 * weight_decay * iteration) ** 0.5


def curve_epochs(schedule, train_rows, val_rows):
    """Epochs after which a probe looks at val for its accuracy curve (supplement Figure 1).

    At most 40 at equal distances, fewer where they would cost more than a tenth of the images seen in training; then
    the drops of the rate and the end.

    Args:
        schedule: epochs of the drops, ascending, and of the end.
        train_rows, val_rows: images.

    Returns:
        ascending ints in [1, end], the last is the end.
    """
    end = schedule[-1]
    points = max(1, min(40, end, int(0.1 * end * train_rows / val_rows)))
    return sorted({*(-(-i * end // points) for i in range(1, points + 1)), *map(round, schedule)} - {0})


def glorot(key, shape):
    """Glorot-uniform float32 [G, fan_in, fan_out]: one start for all candidates, so that only their numbers differ."""
    limit = math.sqrt(6.0 / (shape[1] + shape[2]))
    return tf.tile(tf.random.stateless_uniform([1, *shape[1:]], key, -limit, limit), [shape[0], 1, 1])


def normal(key, shape):
    """Normal float32 [G, fan_in, fan_out] with deviation 0.01, the same for all candidates."""
    return tf.tile(tf.random.stateless_normal([1, *shape[1:]], key, stddev=0.01), [shape[0], 1, 1])


def _gather(features, rows):
    """float32 rows of an array; a memory map is read in file order, which a disk serves much faster."""
    if not isinstance(features, np.memmap):
        return np.asarray(features[rows], np.float32)
    order = np.argsort(rows)
    out = np.empty((len(rows), features.shape[1]), np.float32)
    out[order] = features[rows[order]]
    return out
