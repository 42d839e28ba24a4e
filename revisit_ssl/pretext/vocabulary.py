"""Visual words and the bags of them that OBoW predicts (Gidaris et al., arXiv:2012.11552).

Follows the official obow/builder_obow.py. Its vocabulary is a queue; those by online k-means are the alternatives of
the supplement's section D, of which no code is published.
"""

import sys

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.backbones.parts import check_choice
from revisit_ssl.distribute import gather_replicas, is_chief, replica_id, replicas, sum_replicas, to_numpy
from revisit_ssl.errors import TrainingDiverged, require
from revisit_ssl.views.draws import as_seed, fold, integers, normal, uniform

KINDS = ("queue", "kmeans", "kmeans_replace", "kmeans_sinkhorn")
SAMPLINGS = ("local_average", "no_averaging", "global_average")
POOLS = ("max", "avg")
STARTS = ("noise", "features")

FIRST_MU = 0.5
SMALLEST_MU = 1e-6  # of a target network that gives one feature everywhere; mu divides
SMALLEST_COUNT = 1e-6  # the count of a word that is never used halves in 69 steps and would reach 0


class Vocabulary(keras.layers.Layer):
    """K words of one level, the mean distance mu that scales their softmax, and how both follow the target network.

    The same on every replica: what a step adds comes from the images of all of them. Everything is float32, whatever
    the network computes in.

    - queue: one local feature of every image of a step replaces the oldest words.
    - kmeans: a word is the moving average of the features nearest to it, as in VQ-VAE.
    - kmeans_replace: the same, and words that have not been the nearest of any feature for ``rare_after`` steps are
      replaced by features of the batch.
    - kmeans_sinkhorn: kmeans with soft assignments that give all words equal shares of the batch; they are also the
      codes of the targets.
    - fixed: words that are given once, as BoWNet's; they start as zeros, and there is no mu: inv_delta is None.

    Args:
        words: int, K.
        channels: int, C.
        kind: of KINDS, or "fixed".
        inv_delta: float > 0, hardness of the assignments: softmax of -inv_delta / mu times the squared distances; None:
            the nearest word alone.
        sampling: what the queue takes from an image: the mean of 3 x 3 neighbours ("local_average") or one cell
            ("no_averaging"), both at a place drawn uniformly, or the mean of all ("global_average"). Disputed: the
            supplement does not mention the mean of neighbours, the released code takes it.
        pool: "max": of a word over all places; "avg": mean, which of hard assignments is the count.
        mu_momentum: float in [0, 1], share of mu that a step keeps.
        bias_correct_mu: divide by (mu - start momentum^step) / (1 - momentum^step), as Adam, where mu would still
            remember its start of 0.5: for runs of hundreds of steps. Not in the released code.
        word_momentum: float in [0, 1], share of a word's count and sum that a step of k-means keeps.
        rare_after: int, steps.
        iterations: int, of Sinkhorn's normalisations. Not given in any text; 3 as in SwAV.
        start: k-means: "noise": first words as the queue's; "features": those that the queue would have after its first
            K / B steps, which are not averaged until then. Not given in any text.
        chunk: int, images whose distances to all words are in memory at a time.
        seed: int, of the first words.

    Raises:
        InputError: a value out of range.
    """

    def __init__(
        self, words, channels, *, kind="queue", inv_delta=15.0, sampling="local_average", pool="max", mu_momentum=0.99,
        bias_correct_mu=False, word_momentum=0.99, rare_after=1000, iterations=3, start="noise", chunk=32, seed=0,
        name="vocabulary",
    ):  # fmt: skip
        super().__init__(name=name, dtype="float32")
        check_choice("task.vocabulary", kind, (*KINDS, "fixed"))
        check_choice("task.sampling", sampling, SAMPLINGS)
        check_choice("task.pool", pool, POOLS)
        check_choice("task.start", start, STARTS)
        require(words >= 1, f"task.words {words} must be at least 1")
        require(inv_delta is None or 0 < inv_delta < float("inf"), f"task.inv_delta {inv_delta} must be above 0")
        require(kind != "kmeans_sinkhorn" or inv_delta, "task.vocabulary kmeans_sinkhorn needs a task.inv_delta")
        require(kind != "fixed" or inv_delta is None, "a fixed vocabulary has hard assignments: inv_delta is None")
        for label, value in (("mu_momentum", mu_momentum), ("word_momentum", word_momentum)):
            require(0 <= value <= 1, f"task.{label} {value} must lie in [0, 1]")
        require(not bias_correct_mu or mu_momentum < 1, "task.bias_correct_mu needs a task.mu_momentum below 1")
        for label, value in (("rare_after", rare_after), ("iterations", iterations), ("chunk", chunk)):
            require(value >= 1, f"task.{label} {value} must be at least 1")
        self.size = words
        self.kind = kind
        self.inv_delta = inv_delta
        self.sampling = sampling
        self.pool = pool
        self.mu_momentum = mu_momentum
        self.bias_correct_mu = bias_correct_mu
        self.word_momentum = word_momentum
        self.rare_after = rare_after
        self.iterations = iterations
        self.start = start
        self.chunk = chunk

        def first(shape, dtype=None):
            return tf.nn.relu(normal(fold(seed, 403), shape)) if kind != "fixed" else tf.zeros(shape)

        # Every replica writes the same, whatever the strategy makes of it: a sum would corrupt it silently.
        state = {"trainable": False, "aggregation": "only_first_replica"}
        count = {"initializer": "zeros", "dtype": "int64", **state}
        self.words = self.add_weight(shape=(words, channels), initializer=first, name="words", **state)
        if kind != "fixed":
            self.mu = self.add_weight(shape=(), initializer=keras.initializers.Constant(FIRST_MU), name="mu", **state)
            self.pointer = self.add_weight(shape=(), name="pointer", **count)
            self.step = self.add_weight(shape=(), name="step", **count)
        if kind.startswith("kmeans"):  # moving averages of how many features a word has and of their sum
            self.counts = self.add_weight(shape=(words,), initializer="ones", name="counts", **state)
            self.sums = self.add_weight(shape=(words, channels), initializer=first, name="sums", **state)
        if kind == "kmeans_replace":
            self.last_used = self.add_weight(shape=(words,), name="last_used", **count)
        self.built = True

    def snapshot(self):
        """float32 [K, C]: the words as they are now; a later step does not change it."""
        return tf.identity(tf.convert_to_tensor(self.words.value))

    def check_batch(self, images):
        """InputError where the images of a step on all replicas are more than the words."""
        require(images <= self.size, f"{images} new words of a step do not fit into task.words {self.size}; raise it")

    def target(self, features, snapshot, seed, training=True):
        """Bags of words of a batch, and in training the step of mu and of the words.

        Args:
            features: float [B, H, W, C], static, after ReLU, as the target network gives them; the cells at the border
                are left out.
            snapshot: float32 [K, C], the words to compare with: those before this step.
            seed: of this step and level.
            training: False leaves mu and the words as they are.

        Returns:
            (float32 [B, K] >= 0 with rows of sum 1, without gradient; {"perplexity": of the images' bags,
            "batch_perplexity": of the batch's, "usage_perplexity": of how often each word is the nearest of a cell of
            the batch, whatever Sinkhorn makes of it, "used": share of the words that are so at all, "mu" where there is
            one, as the codes use it}).

        Raises:
            InputError: a map that is too small, or more images than words.
        """
        training = training and self.kind != "fixed"
        cells = self.inner(features)  # [B, h, w, C]
        b, h, w, c = cells.shape
        rows = Distances(tf.reshape(cells, [b, h * w, c]), snapshot, self.chunk)
        nearest, least = rows.map(lambda d: (tf.argmin(d, -1, tf.int32), tf.reduce_min(d, -1)), (tf.int32, tf.float32))
        counts = tf.math.unsorted_segment_sum(tf.ones([b * h * w]), tf.reshape(nearest, [-1]), self.size)
        counts = sum_replicas(counts)  # [K]
        if training:
            self.step.assign_add(1)
            self.move_mu(least)
        bias = self.balance(rows) if self.kind == "kmeans_sinkhorn" else None
        bow = tf.stop_gradient(rows.map(lambda d: self.pooled(self.codes(d, bias)), tf.float32))
        if training and self.kind == "queue":
            self.enqueue(self.picked(cells, seed))
        elif training:
            self.move_means(rows, cells, nearest, counts, bias, seed)
        image, batch = bow_perplexity(bow)
        used = tf.reduce_mean(tf.cast(counts > 0, tf.float32))
        shares = counts / tf.reduce_sum(counts)
        usage = tf.exp(-tf.reduce_sum(tf.math.xlogy(shares, shares)))
        mu = {} if self.kind == "fixed" else {"mu": self.corrected_mu()}
        return bow, {"perplexity": image, "batch_perplexity": batch, "usage_perplexity": usage, "used": used} | mu

    def assign(self, features):
        """The word of every cell, with the words and mu as they are: for pictures.

        Args:
            features: as for ``target``.

        Returns:
            (int32 [B, H - 2, W - 2] in [0, K); float32 of that shape: the word's share of the soft assignment in
            (0, 1], which words that are much alike split; minus the squared distance where assignments are hard).
            Sinkhorn's equal shares, which are those of a batch, are left out.
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
        h, w = features.shape[1:3]
        least = 5 if self.sampling == "local_average" else 3
        require(min(h, w) >= least, f"maps of {h} x {w} cells; a vocabulary needs {least} x {least}: larger views")
        return tf.stop_gradient(tf.cast(features[:, 1:-1, 1:-1], tf.float32))

    def move_mu(self, least):
        """mu <- momentum mu + (1 - momentum) mean squared distance to the nearest word, over all replicas."""
        # Rounding can make a distance slightly negative.
        mean = tf.reduce_mean(gather_replicas(tf.maximum(least, 0.0)))
        mu = self.mu_momentum * self.mu.value + (1.0 - self.mu_momentum) * mean
        self.mu.assign(tf.maximum(mu, SMALLEST_MU))

    def corrected_mu(self):
        """mu, float32 scalar, without its start where ``bias_correct_mu`` is set."""
        mu = tf.identity(tf.convert_to_tensor(self.mu.value))
        if self.bias_correct_mu:
            left = tf.pow(self.mu_momentum, tf.cast(self.step.value, tf.float32))  # of the start
            corrected = (mu - left * FIRST_MU) / tf.maximum(1.0 - left, SMALLEST_MU)
            mu = tf.where(self.step.value > 0, tf.maximum(corrected, SMALLEST_MU), mu)
        return mu

    def sharpness(self):
        """inv_delta / mu, float32 scalar: what a squared distance is multiplied by."""
        return self.inv_delta / self.corrected_mu()

    def codes(self, distances, bias=None):
        """Assignments: squared distances float32 [..., K] -> [..., K], which add up to 1; ``bias`` as ``balance``'s."""
        if self.inv_delta is None:
            return tf.one_hot(tf.argmin(distances, -1), self.size)
        logits = -self.sharpness() * distances
        return tf.nn.softmax(logits if bias is None else logits + bias)

    def pooled(self, codes):
        """Bags of words: assignments [b, n, K] -> [b, K] with rows of sum 1."""
        bow = tf.reduce_max(codes, axis=1) if self.pool == "max" else tf.reduce_mean(codes, axis=1)
        return bow / tf.maximum(tf.reduce_sum(bow, axis=-1, keepdims=True), 1e-12)

    def picked(self, cells, seed):
        """One feature of every image: float32 [B, h, w, C] -> [B, C]."""
        if self.sampling == "global_average":
            return tf.reduce_mean(cells, axis=(1, 2))
        if self.sampling == "local_average":
            cells = tf.nn.avg_pool2d(cells, 3, 1, "VALID")
        b, h, w, c = cells.shape
        return tf.gather(tf.reshape(cells, [b, h * w, c]), self.places(fold(seed, 411), b, h * w), batch_dims=1)

    def places(self, seed, images, cells):
        """Which cell of each image is taken, counted row by row: int32 [images] in [0, cells)."""
        return integers(seed, [images], 0, cells)

    def enqueue(self, picked):
        """Writes this replica's float32 [B, C] over the oldest words, those of replica 0 first.

        B need not divide K: the ring goes on at its beginning.
        """
        new = gather_replicas(picked)
        count = new.shape[0]
        self.check_batch(count)
        rows = tf.math.floormod(self.pointer.value + tf.range(count, dtype=tf.int64), self.size)
        # The step reads all words, so that writing in place would cost a copy as well, when reading.
        self.words.assign(tf.tensor_scatter_nd_update(self.words.value, rows[:, None], new))
        self.pointer.assign(tf.math.floormod(self.pointer.value + count, self.size))

    def balance(self, rows):
        """Sinkhorn: what to add to the logits of each word so that all words get equal shares of the features.

        Rows (words) and columns (features, of all replicas) of Q are scaled to equal sums in turn, in logarithms; the
        columns last, by the softmax in ``codes``, so that the assignments of a feature add up to 1 exactly and the
        shares of the words are equal but for what the iterations left.

        Returns:
            float32 [K].
        """

        def totals(d, bias):
            logits = -self.sharpness() * d
            if bias is not None:
                logits += bias
                logits -= tf.reduce_logsumexp(logits, axis=-1, keepdims=True)  # features
            return tf.reduce_logsumexp(logits, axis=(0, 1))[None]  # [1, K]

        bias = None
        for _ in range(self.iterations):
            words = rows.map(lambda d, bias=bias: totals(d, bias), tf.float32)  # [chunks, K]
            words = tf.reduce_logsumexp(gather_replicas(words), axis=0)
            bias = -words if bias is None else bias - words
        return bias

    def move_means(self, rows, cells, nearest, counts, bias, seed):
        """The step of k-means: count <- momentum count + (1 - momentum) features of the word, their sum likewise, word
        <- sum / count where the count has not run out.

        Args:
            rows: Distances of the cells.
            cells: float32 [B, h, w, C].
            nearest: int32 [B, h w], their words; counts: float32 [K], how often, over all replicas.
            bias: of ``balance``, or None.
            seed: as in ``target``.
        """
        keep, now = self.word_momentum, self.step.value
        flat = tf.reshape(cells, [-1, cells.shape[-1]])
        if bias is None:
            sums = sum_replicas(tf.math.unsorted_segment_sum(flat, tf.reshape(nearest, [-1]), self.size))
        else:
            counts, sums = rows.total(lambda c, d: self.members(c, self.codes(d, bias)))
            counts, sums = sum_replicas(counts), sum_replicas(sums)
        used = counts > 0
        counts = keep * self.counts.value + (1.0 - keep) * counts
        sums = keep * self.sums.value + (1.0 - keep) * sums
        means = sums / tf.maximum(counts, SMALLEST_COUNT)[:, None]
        words = tf.where((counts > SMALLEST_COUNT)[:, None], means, self.words.value)
        if self.kind == "kmeans_replace":
            last_used = tf.where(used, now, self.last_used.value)
            rare = now - last_used > self.rare_after
            fresh = self.drawn(flat, rare, fold(seed, 412))
            words, sums = (tf.where(rare[:, None], fresh, old) for old in (words, sums))
            counts = tf.where(rare, 1.0, counts)
            self.last_used.assign(tf.where(rare, now, last_used))
        if self.start == "features":
            self.enqueue(self.picked(cells, seed))
            filling = (now - 1) * cells.shape[0] * replicas() < self.size
            words, sums = (tf.where(filling, self.words.value, moved) for moved in (words, sums))
            counts = tf.where(filling, 1.0, counts)
        self.counts.assign(counts)
        self.sums.assign(sums)
        self.words.assign(words)

    def members(self, cells, codes):
        """(float32 [K], [K, C]): how many of the features [b, n, C] a word has by soft assignments, and their sum."""
        return tf.reduce_sum(codes, axis=(0, 1)), tf.einsum("bnk,bnc->kc", codes, cells)

    def drawn(self, flat, chosen, seed):
        """A feature for each chosen word, all different while there are enough: float32 [N, C], bool [K] -> [K, C].

        Drawn from those of all replicas, the same on each.
        """
        own = flat.shape[0]
        total = own * replicas()
        count = min(self.size, total)
        order = tf.argsort(uniform(as_seed(seed).key, [total]))[:count] - replica_id() * own
        here = (order >= 0) & (order < own)
        features = tf.gather(flat, tf.clip_by_value(order, 0, own - 1))
        features = sum_replicas(tf.where(here[:, None], features, 0.0))  # [count, C]
        return tf.gather(features, tf.math.floormod(tf.cumsum(tf.cast(chosen, tf.int32)) - 1, count))


class CollapseAlarm(keras.callbacks.Callback):
    """Warns when the bags of a batch have shrunk to hardly any word; ends training when mu has run down to nothing.

    Looks every ``every`` steps, by when the noise is gone that a queue starts with (K / B steps, 32 to 64 there).
    A batch perplexity below 2, or below a thousandth of the words, is one word for nearly everything.

    Args:
        vocabularies: {level as in the log's batch_perplexity_<level>, "" where it has no level: Vocabulary}.
        every: int, steps.
    """

    def __init__(self, vocabularies, every=100):
        super().__init__()
        self.vocabularies = vocabularies
        self.every = every
        self.warned = set()

    def on_train_batch_end(self, batch, logs=None):
        step = int(to_numpy(self.model.optimizer.iterations))
        if step % self.every:
            return
        for level, words in self.vocabularies.items():
            of = f" of {level}" if level else ""
            if hasattr(words, "mu") and to_numpy(words.mu) <= 1.01 * SMALLEST_MU:
                raise TrainingDiverged(
                    f"the target network gives one feature everywhere{of} (step {step}, distance to the words 0); "
                    "lower the learning rate"
                )
            spread = float(np.asarray(logs[f"batch_perplexity_{level}" if level else "batch_perplexity"]))
            if spread >= max(2.0, words.size / 1000):
                self.warned.discard(level)
            elif level not in self.warned and is_chief():
                self.warned.add(level)
                print(
                    f"\nwarning: the visual words{of} have collapsed at step {step}: a batch spreads over {spread:.1f} "
                    f"of {words.size}",
                    file=sys.stderr,
                )


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


def bow_perplexity(bow):
    """How many words an image's bag spreads over, and how many those of the batch together.

    exp(-sum y log(y + 1e-5)), the mean over the images, and of the mean bag of all replicas. The 1e-5 is the official
    code's: equal shares of 8,192 words give 7,572.

    Args:
        bow: float32 [B, K].

    Returns:
        (float32 scalar of this replica's images, float32 scalar).
    """

    def spread(bags):
        shares = bags / tf.maximum(tf.reduce_sum(bags, axis=-1, keepdims=True), 1e-12)
        return tf.exp(-tf.reduce_sum(shares * tf.math.log(shares + 1e-5), axis=-1))

    return tf.reduce_mean(spread(bow)), spread(sum_replicas(tf.reduce_sum(bow, axis=0)))
