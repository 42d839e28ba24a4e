"""Visual words and the bags of them that OBoW predicts (Gidaris et al., arXiv:2012.11552).

Follows the official obow/builder_obow.py. Its vocabulary is a queue; those by online k-means are the alternatives of
the supplement's section D, of which no code is published. Here is what all share; vocabulary_kinds.py has the kinds.
"""

from typing import NamedTuple

import keras
import tensorflow as tf

from revisit_ssl.distribute import gather_replicas, sum_replicas, to_numpy
from revisit_ssl.errors import check_choice, require
from revisit_ssl.pretext.bags import bow_perplexity
from revisit_ssl.pretext.distances import Distances
from revisit_ssl.views.draws import fold, integers, normal

SAMPLINGS = ("local_average", "no_averaging", "global_average")
POOLS = ("max", "avg")

FIRST_MU = 0.5
SMALLEST_MU = 1e-6  # of a target network that gives one feature everywhere; mu divides

# Every replica writes the same, whatever the strategy makes of it: a sum would corrupt it silently.
STATE = {"trainable": False, "aggregation": "only_first_replica"}
COUNT = {"initializer": "zeros", "dtype": "int64", **STATE}


class Seen(NamedTuple):
    """What a vocabulary sees in a step.

    Attributes:
        rows: Distances of the cells to the words.
        cells: float32 [B, h, w, C], of this replica.
        nearest: int32 [B, h w], the word of every cell.
        counts: float32 [K], how often each word is the nearest, over all replicas.
        bias: of ``Vocabulary.balance``, or None.
    """

    rows: Distances
    cells: tf.Tensor
    nearest: tf.Tensor
    counts: tf.Tensor
    bias: tf.Tensor | None


def noise(seed):
    """Initialiser of first words: relu of standard normal numbers, which ``seed`` alone decides."""
    return lambda shape, dtype=None: tf.nn.relu(normal(fold(seed, 403), shape))


class Vocabulary(keras.layers.Layer):
    """K words of one level, to which every cell of a feature map is assigned: here words that are given once, BoWNet's.

    The words start as zeros and are set from outside; a cell is assigned to the nearest word alone. The kinds of OBoW
    derive from this class. The same on every replica: what a step adds comes from the images of all of them.
    Everything is float32, whatever the network computes in.

    Args:
        words: int, K.
        channels: int, C.
        pool: "max": of a word over all places; "avg": mean, which of hard assignments is the count.
        chunk: int, images whose distances to all words are in memory at a time.
        initializer: of the words.

    Raises:
        InputError: no such pool.
    """

    inv_delta = None
    """Hardness of soft assignments; None: the nearest word alone."""
    least = 3
    """Cells that a side of a map has to have."""

    def __init__(self, words, channels, *, pool="max", chunk=32, initializer="zeros", name="vocabulary"):
        super().__init__(name=name, dtype="float32")
        check_choice("task.pool", pool, POOLS)
        self.size = words
        self.pool = pool
        self.chunk = chunk
        self.words = self.add_weight(shape=(words, channels), initializer=initializer, name="words", **STATE)
        self.built = True

    def snapshot(self):
        """float32 [K, C]: the words as they are now; a later step does not change it."""
        return tf.identity(tf.convert_to_tensor(self.words.value))

    def check_batch(self, images):
        """InputError where ``images``, those of a step on all replicas, are too many for the words."""

    def target(self, features, snapshot, seed, training=True):
        """Bags of words of a batch, and in training the step of mu and of the words.

        Args:
            features: float [B, H, W, C], static, after ReLU, as the target network gives them; the cells at the border
                are left out.
            snapshot: float32 [K, C], the words to compare with: those before this step.
            seed: of this step and level.
            training: False leaves mu and the words as they are.

        Returns:
            (bags, scalars). The bags are float32 [B, K], >= 0, with rows of sum 1 and without gradient. The scalars:
            "perplexity": of the images' bags;
            "batch_perplexity": of the batch's;
            "usage_perplexity": of how often each word is the nearest of a cell of the batch, before any balancing;
            "used": share of the words that are the nearest of a cell at all;
            "mu": as the assignments use it, where there is one.

        Raises:
            InputError: a map that is too small, or more images than words.
        """
        cells = self.inner(features)  # [B, h, w, C]
        b, h, w, c = cells.shape
        rows = Distances(tf.reshape(cells, [b, h * w, c]), snapshot, self.chunk)
        nearest, least = rows.map(lambda d: (tf.argmin(d, -1, tf.int32), tf.reduce_min(d, -1)), (tf.int32, tf.float32))
        counts = tf.math.unsorted_segment_sum(tf.ones([b * h * w]), tf.reshape(nearest, [-1]), self.size)
        counts = sum_replicas(counts)  # [K]
        if training:
            self.measure(least)
        bias = self.balance(rows)
        bow = tf.stop_gradient(rows.map(lambda d: self.pooled(self.codes(d, bias)), tf.float32))
        if training:
            self.update(Seen(rows, cells, nearest, counts, bias), seed)
        image, batch = bow_perplexity(bow)
        shares = counts / tf.reduce_sum(counts)
        usage = tf.exp(-tf.reduce_sum(tf.math.xlogy(shares, shares)))
        used = tf.reduce_mean(tf.cast(counts > 0, tf.float32))
        scalars = {"perplexity": image, "batch_perplexity": batch, "usage_perplexity": usage, "used": used}
        return bow, scalars | self.scalars()

    def assign(self, features):
        """The word of every cell, with the words and mu as they are: for pictures.

        Args:
            features: as for ``target``.

        Returns:
            (ids, scores). The ids are int32 [B, H - 2, W - 2] in [0, K). The scores, float32 of that shape, are the
            word's share of the soft assignment in (0, 1], which words that are much alike split; where assignments are
            hard, minus the squared distance. Sinkhorn's equal shares, which are of a batch, are left out.
        """
        cells = self.inner(features)
        b, h, w, c = cells.shape

        def best(d):
            score = -tf.reduce_min(d, -1) if self.inv_delta is None else tf.reduce_max(self.codes(d), -1)
            return tf.argmin(d, -1, tf.int32), score

        rows = Distances(tf.reshape(cells, [b, h * w, c]), self.snapshot(), self.chunk)
        return tuple(tf.reshape(each, [b, h, w]) for each in rows.map(best, (tf.int32, tf.float32)))

    def inner(self, features):
        """The map without the cells at its border, which see padding: float32 [B, H - 2, W - 2, C]."""
        h, w, least = *features.shape[1:3], self.least
        require(min(h, w) >= least, f"maps of {h} x {w} cells; a vocabulary needs {least} x {least}: larger views")
        return tf.stop_gradient(tf.cast(features[:, 1:-1, 1:-1], tf.float32))

    def codes(self, distances, bias=None):
        """Assignments: squared distances float32 [..., K] -> [..., K], which add up to 1; ``bias`` as ``balance``'s."""
        return tf.one_hot(tf.argmin(distances, -1), self.size)

    def pooled(self, codes):
        """Bags of words: assignments [b, n, K] -> [b, K] with rows of sum 1."""
        bow = tf.reduce_max(codes, axis=1) if self.pool == "max" else tf.reduce_mean(codes, axis=1)
        return bow / tf.maximum(tf.reduce_sum(bow, axis=-1, keepdims=True), 1e-12)

    def measure(self, least):
        """Before the bags of a step of training: ``least`` float32 [B, h w], squared distances to the nearest word."""

    def balance(self, rows):
        """float32 [K]: what to add to the logits of each word, or None; ``rows`` are the Distances of the cells."""

    def update(self, seen, seed):
        """Moves the words, after the bags of a step of training; ``seen`` is a Seen, ``seed`` as in ``target``."""

    def scalars(self):
        """{name: float32 scalar}: what ``target`` reports of this kind alone."""
        return {}

    @property
    def run_down(self):
        """Whether the target network gives one feature everywhere, as far as this kind can tell."""
        return False


class MovingVocabulary(Vocabulary):
    """Words that follow the target network, and mu, the moving mean distance that scales their softmax.

    Args:
        options: OBoWOptions.
        channels: int, C.
        seed: of the first words, see ``noise``.

    Raises:
        InputError: no such pool or sampling.
    """

    def __init__(self, options, channels, *, seed=0, name="vocabulary"):
        pooled = {"pool": options.pool, "chunk": options.chunk}
        super().__init__(options.words, channels, initializer=noise(seed), name=name, **pooled)
        check_choice("task.sampling", options.sampling, SAMPLINGS)
        self.options = options
        self.inv_delta = options.inv_delta
        self.least = 5 if options.sampling == "local_average" else 3
        self.mu = self.add_weight(shape=(), initializer=keras.initializers.Constant(FIRST_MU), name="mu", **STATE)
        self.pointer = self.add_weight(shape=(), name="pointer", **COUNT)
        self.step = self.add_weight(shape=(), name="step", **COUNT)

    def check_batch(self, images):
        require(images <= self.size, f"{images} new words of a step do not fit into task.words {self.size}; raise it")

    def measure(self, least):
        """mu <- momentum mu + (1 - momentum) mean squared distance to the nearest word, over all replicas."""
        self.step.assign_add(1)
        # Rounding can make a distance slightly negative.
        mean = tf.reduce_mean(gather_replicas(tf.maximum(least, 0.0)))
        momentum = self.options.mu_momentum
        self.mu.assign(tf.maximum(momentum * self.mu.value + (1.0 - momentum) * mean, SMALLEST_MU))

    def corrected_mu(self):
        """mu, float32 scalar, without its start where ``bias_correct_mu`` is set.

        Divides (mu - start momentum^step) by (1 - momentum^step), as Adam. Not in the released code.
        """
        mu = tf.identity(tf.convert_to_tensor(self.mu.value))
        if self.options.bias_correct_mu:
            left = tf.pow(self.options.mu_momentum, tf.cast(self.step.value, tf.float32))  # of the start
            corrected = (mu - left * FIRST_MU) / tf.maximum(1.0 - left, SMALLEST_MU)
            mu = tf.where(self.step.value > 0, tf.maximum(corrected, SMALLEST_MU), mu)
        return mu

    def sharpness(self):
        """inv_delta / mu, float32 scalar: what a squared distance is multiplied by."""
        return self.inv_delta / self.corrected_mu()

    def codes(self, distances, bias=None):
        if self.inv_delta is None:
            return super().codes(distances)
        logits = -self.sharpness() * distances
        return tf.nn.softmax(logits if bias is None else logits + bias)

    def scalars(self):
        return {"mu": self.corrected_mu()}

    @property
    def run_down(self):
        return bool(to_numpy(self.mu) <= 1.01 * SMALLEST_MU)

    def picked(self, cells, seed):
        """One feature of every image: float32 [B, h, w, C] -> [B, C]."""
        sampling = self.options.sampling
        if sampling == "global_average":
            return tf.reduce_mean(cells, axis=(1, 2))
        if sampling == "local_average":
            cells = tf.nn.avg_pool2d(cells, 3, 1, "VALID")
        b, h, w, c = cells.shape
        return tf.gather(tf.reshape(cells, [b, h * w, c]), self.places(fold(seed, 411), b, h * w), batch_dims=1)

    def places(self, seed, images, cells):
        """Which cell of each image is taken, counted row by row: int32 [images] in [0, cells)."""
        return integers(seed, [images], 0, cells)

    def enqueue(self, picked):
        """Writes this replica's float32 [B, C] over the oldest words, replica 0's first.

        B need not divide K: the ring goes on at its beginning.
        """
        new = gather_replicas(picked)
        count = new.shape[0]
        self.check_batch(count)
        rows = tf.math.floormod(self.pointer.value + tf.range(count, dtype=tf.int64), self.size)
        # The step reads all words, so that writing in place would cost a copy as well, when reading.
        self.words.assign(tf.tensor_scatter_nd_update(self.words.value, rows[:, None], new))
        self.pointer.assign(tf.math.floormod(self.pointer.value + count, self.size))
