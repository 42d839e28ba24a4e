"""Batch normalisation with the moving statistics of TF1 and PyTorch, and of ghost batches."""

import contextlib
import contextvars
import math

import keras
import tensorflow as tf

from revisit_ssl.distribute import sum_replicas
from revisit_ssl.errors import InputError

# Of the pass that is being traced. Replicas are traced in threads of their own, each with its own value.
_ROWS = contextvars.ContextVar("rows_of_an_image", default=1)
_SHARES = contextvars.ContextVar("within", default=None)


@contextlib.contextmanager
def rows_of_an_image(rows):
    """Inside, a pass of a network has that many rows of each image side by side, and a ghost group as many times the
    rows: it stands for a device's images, whatever a method cuts from each."""
    token = _ROWS.set(rows)
    try:
        yield
    finally:
        _ROWS.reset(token)


def rows_at_once():
    """How many rows of an image the pass has that is being traced: what ``rows_of_an_image`` says, else 1."""
    return _ROWS.get()


@contextlib.contextmanager
def within(shares):
    """Inside, the training statistics of maps are of that part alone, at the upper left, of each image's map: the rest
    is padding, which is normalised as well.

    Args:
        shares: float32 [B, 2] in (0, 1], of height and width; None: no image is padded.
    """
    token = _SHARES.set(shares)
    try:
        yield
    finally:
        _SHARES.reset(token)


def inside(shares, height, width):
    """bool [B, height, width]: cells of maps whose first pixel lies in the part of ``within``."""
    down = tf.range(height, dtype=tf.float32) < shares[:, :1] * height - 1e-3
    across = tf.range(width, dtype=tf.float32) < shares[:, 1:] * width - 1e-3
    return down[:, :, None] & across[:, None, :]


@keras.saving.register_keras_serializable("revisit_ssl")
class BatchNorm(keras.layers.BatchNormalization):
    """``keras.layers.BatchNormalization`` whose moving variance takes the unbiased batch variance.

    TF1's fused kernel (which the official networks use) and PyTorch normalise with the biased variance of the batch but
    move the *unbiased* one, s^2 n / (n - 1), into the moving variance; Keras 3 moves the biased one. The training pass
    is the same; inference differs (7 % in the variance where n = 16). Arguments, shapes and dtypes are as in the
    Keras layer; statistics are float32 also under mixed precision.

    With ``synchronized=True`` the statistics are the global batch's and n counts it, on the assumption (true of
    every batch of this package) that all replicas hold equally many rows.

    Args:
        group: rows that are normalised together in training (ghost batches, arXiv:1705.08741): rows 0..group - 1 with
            their own statistics, the next ``group`` with theirs, and so on, as if each group sat on a device of its
            own. The moving statistics take the mean of the groups' means and of their unbiased variances. Inside of
            ``rows_of_an_image`` it is that many times as large. None: all.
        interleaved: of g groups, group i has rows i, i + g, i + 2g, ..., as in MoCo's CIFAR-10 demo; off: consecutive
            rows. No recipe sets it, moco/demo neither: a batch is shuffled images, so that both groupings are equally
            random. It is here to be checked against the demo's numbers.
        kwargs: arguments of the Keras layer; ``axis`` is the last one where there is a group.

    Raises:
        InputError: in training, rows that are not whole groups.
    """

    def __init__(self, group=None, interleaved=False, **kwargs):
        super().__init__(**kwargs)
        self.group = group
        self.interleaved = interleaved

    def get_config(self):
        return {**super().get_config(), "group": self.group, "interleaved": self.interleaved}

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable):
            return super().call(inputs, training=False)
        x = keras.ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        fusible = len(x.shape) == 4 and self.axis in (-1, 3) and x.dtype == "float32" and self.scale and self.center
        shares = _SHARES.get() if len(x.shape) == 4 else None
        if shares is not None:
            outputs, mean, unbiased = self._inside(x, inside(shares, x.shape[1], x.shape[2]))
        elif self.group:
            outputs, mean, unbiased = self._ghost(x)
        elif fusible and not self.synchronized and mask is None:
            # Half the time of moments + normalisation on a CPU, and the kernel that the official networks ran on.
            empty = tf.zeros([0], tf.float32)  # no old statistics wanted: the op returns the batch's
            outputs, mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=self.gamma.value,
                offset=self.beta.value,
                mean=empty,
                variance=empty,
                epsilon=self.epsilon,
                exponential_avg_factor=1.0,
                is_training=True,
            )
        else:
            mean, variance = self._moments(x, mask)
            outputs = keras.ops.batch_normalization(
                x, mean, variance, self.axis, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
            )
            count = tf.cast(tf.size(x) / x.shape[self.axis], x.dtype)
            if self.synchronized:
                count *= tf.distribute.get_strategy().num_replicas_in_sync
            unbiased = variance * count / tf.maximum(count - 1.0, 1.0)  # a single value has no variance: keep 0
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, unbiased)):
            moving.assign(moving * self.momentum + keras.ops.cast(batch, moving.dtype) * (1.0 - self.momentum))
        return keras.ops.cast(outputs, self.compute_dtype)

    def _inside(self, x, cells):
        """float32 [B, h, w, C] -> the same normalised, mean [C] and unbiased variance [C] of ``cells``, bool [B, h, w].

        With ``synchronized`` the cells of all replicas are counted, however many each has.
        """
        total = sum_replicas if self.synchronized else lambda value: value
        weights = tf.cast(cells, x.dtype)[..., None]
        count = total(tf.reduce_sum(weights))
        mean = total(tf.reduce_sum(weights * x, axis=(0, 1, 2))) / count
        variance = total(tf.reduce_sum(weights * tf.square(x - mean), axis=(0, 1, 2))) / count
        outputs = tf.nn.batch_normalization(x, mean, variance, self.beta.value, self.gamma.value, self.epsilon)
        return outputs, mean, variance * count / tf.maximum(count - 1.0, 1.0)

    def _ghost(self, x):
        """float32 [B, ..., C] -> the same normalised group by group, mean [C] and unbiased variance [C] over groups."""
        shape = keras.ops.shape(x)  # ints where static
        group = self.group * rows_at_once()
        if isinstance(shape[0], int) and shape[0] % group:
            raise InputError(f"bn_group {group} does not divide the {shape[0]} rows of a training step")
        pixels = math.prod(shape[1:-1])
        count = group * pixels
        if self.interleaved:
            rows, axes = tf.reshape(x, [group, -1, pixels, shape[-1]]), (0, 2)
        else:
            rows, axes = tf.reshape(x, [-1, count, shape[-1]]), 1
        mean, variance = tf.nn.moments(rows, axes=axes, keepdims=True)  # [groups, 1, C] or [1, groups, 1, C]
        scale = self.gamma.value * tf.math.rsqrt(variance + self.epsilon)
        outputs = tf.reshape(rows * scale + (self.beta.value - mean * scale), shape)
        # The authors' TPUs kept the moving statistics of one core; the mean of all is the same with less noise.
        bessel = tf.cast(count / tf.maximum(count - 1, 1), x.dtype)
        over = list(range(len(mean.shape) - 1))
        return outputs, tf.reduce_mean(mean, axis=over), tf.reduce_mean(variance, axis=over) * bessel
