"""Squared distances of local features to visual words, in pieces that fit into memory."""

import tensorflow as tf


class Distances:
    """Squared distances of the cells of a batch to all words, a few images at a time.

    All at once they are the largest tensor of a step: 1.1 GiB for 256 images of 144 cells and 8,192 words.

    Args:
        cells: float32 [B, n, C].
        words: float32 [K, C].
        chunk: int >= 1; the largest divisor of B that is not above it is the number of images at a time.
    """

    def __init__(self, cells, words, chunk):
        b, n, c = cells.shape
        each = max(size for size in range(1, min(chunk, b) + 1) if b % size == 0)
        # From the mean word instead of from 0, where nearly equal numbers would be subtracted.
        self.center = tf.reduce_mean(words, axis=0)
        self.words = tf.stop_gradient(words) - self.center
        self.groups = tf.reshape(cells, [b // each, each, n, c])
        self.only = self.of(cells) if each == b else None

    def of(self, cells):
        """|f|^2 + |v|^2 - 2 f.v of cells [b, n, C]: float32 [b, n, K]."""
        cells = cells - self.center
        lengths = tf.reduce_sum(tf.square(cells), -1, keepdims=True) + tf.reduce_sum(tf.square(self.words), -1)
        return lengths - 2.0 * tf.einsum("bnc,kc->bnk", cells, self.words)

    def map(self, function, dtypes):
        """What ``function`` makes of the distances [b, n, K] of some images, joined along the first axis.

        Args:
            function: its result is a tensor, or a tuple of tensors, with a first axis.
            dtypes: of the result.
        """
        if self.only is not None:
            return function(self.only)
        parts = tf.map_fn(
            lambda c: function(self.of(c)), self.groups, parallel_iterations=1, fn_output_signature=dtypes
        )
        return tf.nest.map_structure(lambda t: tf.reshape(t, [-1, *t.shape[2:]]), parts)

    def total(self, function):
        """Sum over the images of ``function``(cells [b, n, C], distances [b, n, K]), a tuple of tensors."""
        if self.only is not None:
            return function(self.groups[0], self.only)
        first = function(self.groups[0], self.of(self.groups[0]))

        def add(sums, cells):
            return tuple(a + b for a, b in zip(sums, function(cells, self.of(cells)), strict=True))

        return tf.foldl(add, self.groups[1:], first, parallel_iterations=1)
