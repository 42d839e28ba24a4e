"""The kinds of OBoW's vocabularies: how the words follow the target network.

To add one: a class that derives from MovingVocabulary and says in ``update`` how its words move, and its line in
VOCABULARIES.
"""

import tensorflow as tf

from revisit_ssl.distribute import gather_replicas, replica_id, replicas, sum_replicas
from revisit_ssl.errors import check_choice, require
from revisit_ssl.pretext.vocabulary import COUNT, STATE, MovingVocabulary, noise
from revisit_ssl.views.draws import as_seed, fold, uniform

STARTS = ("noise", "features")
SMALLEST_COUNT = 1e-6  # the count of a word that is never used halves in 69 steps and would reach 0


class Queue(MovingVocabulary):
    """One local feature of every image of a step replaces the oldest words."""

    def update(self, seen, seed):
        self.enqueue(self.picked(seen.cells, seed))


class KMeans(MovingVocabulary):
    """A word is the moving average of the features nearest to it, as in VQ-VAE.

    With ``start`` "features" the first words are those that the queue would have after its first K / B steps; they are
    not averaged until then.
    """

    def __init__(self, options, channels, *, seed=0, name="vocabulary"):
        super().__init__(options, channels, seed=seed, name=name)
        check_choice("task.start", options.start, STARTS)
        # Moving averages of how many features a word has and of their sum.
        self.counts = self.add_weight(shape=(self.size,), initializer="ones", name="counts", **STATE)
        self.sums = self.add_weight(shape=self.words.shape, initializer=noise(seed), name="sums", **STATE)

    def check_batch(self, images):
        if self.options.start == "features":
            super().check_batch(images)

    def update(self, seen, seed):
        words, counts, sums = self.moved(seen, seed)
        if self.options.start == "features":
            self.enqueue(self.picked(seen.cells, seed))
            filling = (self.step.value - 1) * seen.cells.shape[0] * replicas() < self.size
            words, sums = (tf.where(filling, self.words.value, moved) for moved in (words, sums))
            counts = tf.where(filling, 1.0, counts)
        self.counts.assign(counts)
        self.sums.assign(sums)
        self.words.assign(words)

    def moved(self, seen, seed):
        """(float32 [K, C], [K], [K, C]): words, counts and sums after the step.

        count <- momentum count + (1 - momentum) features of the word, their sum likewise, word <- sum / count where the
        count has not run out.
        """
        keep = self.options.word_momentum
        counts, sums = self.members(seen)
        counts = keep * self.counts.value + (1.0 - keep) * counts
        sums = keep * self.sums.value + (1.0 - keep) * sums
        means = sums / tf.maximum(counts, SMALLEST_COUNT)[:, None]
        return tf.where((counts > SMALLEST_COUNT)[:, None], means, self.words.value), counts, sums

    def members(self, seen):
        """(float32 [K], [K, C]): how many features of all replicas a word has, and their sum."""
        flat = tf.reshape(seen.cells, [-1, seen.cells.shape[-1]])
        sums = tf.math.unsorted_segment_sum(flat, tf.reshape(seen.nearest, [-1]), self.size)
        return seen.counts, sum_replicas(sums)


class ReplacingKMeans(KMeans):
    """KMeans whose words that have not been the nearest of any feature for ``rare_after`` steps are replaced by
    features of the batch."""

    def __init__(self, options, channels, **named):
        super().__init__(options, channels, **named)
        self.last_used = self.add_weight(shape=(self.size,), name="last_used", **COUNT)

    def moved(self, seen, seed):
        words, counts, sums = super().moved(seen, seed)
        now = self.step.value
        last_used = tf.where(seen.counts > 0, now, self.last_used.value)
        rare = now - last_used > self.options.rare_after
        fresh = self.drawn(tf.reshape(seen.cells, [-1, seen.cells.shape[-1]]), rare, fold(seed, 412))
        self.last_used.assign(tf.where(rare, now, last_used))
        words, sums = (tf.where(rare[:, None], fresh, old) for old in (words, sums))
        return words, tf.where(rare, 1.0, counts), sums

    def drawn(self, flat, chosen, seed):
        """A feature for each chosen word, all different while there are enough: float32 [N, C], bool [K] -> [K, C].

        Drawn from the features of all replicas, the same on each.
        """
        own = flat.shape[0]
        total = own * replicas()
        count = min(self.size, total)
        order = tf.argsort(uniform(as_seed(seed).key, [total]))[:count] - replica_id() * own
        here = (order >= 0) & (order < own)
        features = tf.gather(flat, tf.clip_by_value(order, 0, own - 1))
        features = sum_replicas(tf.where(here[:, None], features, 0.0))  # [count, C]
        return tf.gather(features, tf.math.floormod(tf.cumsum(tf.cast(chosen, tf.int32)) - 1, count))


class SinkhornKMeans(KMeans):
    """KMeans with soft assignments that give all words equal shares of the batch; they are also the codes of the
    targets.

    Raises:
        InputError: inv_delta None, as MovingVocabulary.
    """

    def __init__(self, options, channels, **named):
        require(options.inv_delta, "task.vocabulary kmeans_sinkhorn needs a task.inv_delta")
        super().__init__(options, channels, **named)

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
        for _ in range(self.options.sinkhorn_iterations):
            words = rows.map(lambda d, bias=bias: totals(d, bias), tf.float32)  # [chunks, K]
            words = tf.reduce_logsumexp(gather_replicas(words), axis=0)
            bias = -words if bias is None else bias - words
        return bias

    def members(self, seen):
        """(float32 [K], [K, C]): how many features of all replicas a word has by soft assignments, and their sum."""

        def of(cells, distances):
            codes = self.codes(distances, seen.bias)
            return tf.reduce_sum(codes, axis=(0, 1)), tf.einsum("bnk,bnc->kc", codes, cells)

        counts, sums = seen.rows.total(of)
        return sum_replicas(counts), sum_replicas(sums)


VOCABULARIES = {
    "queue": Queue,
    "kmeans": KMeans,
    "kmeans_replace": ReplacingKMeans,
    "kmeans_sinkhorn": SinkhornKMeans,
}
