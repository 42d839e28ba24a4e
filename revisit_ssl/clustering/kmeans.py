"""Lloyd's k-means over rows that lie in files: chunk by chunk, on several devices and processes, deterministic.

Squared Euclidean distance, centroids that are plain means, a fixed number of updates, then one assignment: as
DeeperCluster's code (src/distributed_kmeans.py) and faiss, which DeepCluster calls.
"""

import contextlib
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from revisit_ssl.clustering.workers import Workers
from revisit_ssl.errors import check_choice, require

TILE = 2**24  # distances of a chunk to all centroids at a time: 64 MB
EMPTY = ("split", "same_donor", "leave")


@dataclass(frozen=True)
class Clustering:
    """What ``kmeans`` found.

    Attributes:
        centroids: float32 [k, d].
        labels: int32 [n], of this process's rows.
        counts: int64 [k], rows of each label over all processes.
        objectives: [float], mean squared distance to the nearest centroid, before each update and at the end.
    """

    centroids: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    objectives: list


def kmeans(rows, centroids, iterations=10, *, empty="split", chunk=8192, seed=0, workers=None):
    """Lloyd's k-means from given centroids.

    Each of ``iterations`` updates assigns every row to the nearest centroid (ties to the lowest index) and moves
    the centroids to the means; a last pass assigns alone. Once no centroid moves, the rest is left out, which changes
    nothing.

    Args:
        rows: clustering.rows.Rows, those of this process.
        centroids: float32 [k, d] to begin with, the same in every process.
        iterations: int >= 0, updates.
        empty: of clusters without rows after an update. "split": each takes the centroid of a larger one, drawn with
            a chance in proportion to its count - 1, and both move by 1/1024 of their values, to opposite sides (faiss).
            "same_donor": one donor for all of them, drawn with equal chances, both move by 1e-7, and its first rows
            change their label, also after the last pass (DeeperCluster's code). "leave": they keep their centroid.
        chunk: int, rows in memory at a time; fewer where k is large.
        seed: int, of the donors.
        workers: Workers; None: this process and one device.

    Returns:
        Clustering. The same bits on every run of one machine where TensorFlow's operations are deterministic, as on
        CPUs; over several processes the same to rounding.

    Raises:
        InputError: centroids that do not fit the rows, or an unknown rule.
    """
    check_choice("empty", empty, EMPTY)
    centroids = np.array(centroids, np.float32)
    shape, width = centroids.shape, rows.width
    fits = len(shape) == 2 and shape[0] >= 1 and shape[1] == width
    require(fits, f"centroids of shape {shape} do not fit rows of {width} values; [k, {width}] do")
    require(iterations >= 0, f"iterations {iterations} must not be negative")
    workers = workers or Workers()
    passes = [Pass(device, *shape) for device in workers.devices]
    size = max(1, min(chunk, TILE // shape[0]))
    objectives = []
    with full_float32():
        for update in range(iterations + 1):
            labels, counts, sums, objective = one_pass(rows, centroids, passes, size, workers, update < iterations)
            objectives.append(objective)
            before = centroids.copy()
            if update < iterations:
                held = counts > 0
                centroids[held] = sums[held] / counts[held, None]
            random = np.random.Generator(np.random.Philox(key=[seed, update]))
            if empty == "same_donor":
                give_rows(centroids, counts, labels, random)
            elif empty == "split" and update < iterations:
                split(centroids, counts.copy(), random)
            if update < iterations and np.array_equal(before, centroids) and empty != "same_donor":
                break  # the labels are those of these centroids
    (counts,) = workers.sum(np.bincount(labels, minlength=shape[0]))
    return Clustering(centroids, labels, counts.astype(np.int64), objectives)


def one_pass(rows, centroids, passes, size, workers, moves):
    """Every row to its nearest centroid: (labels of this process, counts [k], sums [k, d] or None, mean distance)."""
    middle = centroids.mean(axis=0)
    for each in passes:
        each.begin(centroids - middle, middle)
    labels, far = [], []
    for i, (_, x) in enumerate(rows.chunks(size)):
        nearest, distance = passes[i % len(passes)].assign(x, moves)
        labels.append(nearest)
        far.append(distance)
    labels = np.concatenate([each.numpy() for each in labels] or [np.zeros(0, np.int32)])
    total = sum(float(each) for each in far)
    counts, sums = np.bincount(labels, minlength=len(centroids)), None
    if moves:
        # Summed in the order of the devices, whatever their speed.
        counts, sums, (total, n) = workers.sum(counts, sum(p.sums.numpy() for p in passes), [total, len(labels)])
    else:
        counts, (total, n) = workers.sum(counts, [total, len(labels)])
    return labels, counts, sums, float(total / max(n, 1))


class Pass:
    """Nearest centroids and sums of the chunks that one device gets."""

    def __init__(self, device, k, d):
        self.device = device
        with tf.device(device):
            # float64: of many rows a float32 sum soon no longer feels the next one.
            self.sums = tf.Variable(tf.zeros([k, d], tf.float64), trainable=False)
            self.points = tf.Variable(tf.zeros([k, d]), trainable=False)
            self.middle = tf.Variable(tf.zeros([d]), trainable=False)
        options = {"input_signature": [tf.TensorSpec([None, d], tf.float32)], "autograph": False}
        self._assign = {
            moves: tf.function(lambda x, moves=moves: self._nearest(x, moves), **options) for moves in (False, True)
        }

    def begin(self, points, middle):
        """Starts a pass: centroids float32 [k, d] minus ``middle`` [d]."""
        self.sums.assign(tf.zeros_like(self.sums))
        self.points.assign(points)
        self.middle.assign(middle)

    def assign(self, x, moves):
        """float32 [n, d] -> (int32 [n], float64 sum of squared distances); adds to the sums where ``moves``."""
        with tf.device(self.device):
            return self._assign[moves](tf.constant(x))

    def _nearest(self, x, moves):
        # argmin |x - c|^2 = argmax x.c - |c|^2 / 2, both taken from the centroids' middle: a product rounds relative to
        # its factors, and of features that are nearly the same it would leave no difference.
        shifted = x - self.middle
        scores = tf.matmul(shifted, self.points, transpose_b=True)
        scores -= tf.reduce_sum(tf.square(self.points), axis=1) / 2
        labels = tf.argmax(scores, axis=1, output_type=tf.int32)
        best = tf.gather(scores, labels, batch_dims=1)
        squares = tf.maximum(tf.reduce_sum(tf.square(shifted), axis=1) - 2 * best, 0.0)
        if moves:
            self.sums.scatter_add(tf.IndexedSlices(tf.cast(x, tf.float64), labels))
        return labels, tf.reduce_sum(tf.cast(squares, tf.float64))


def split(centroids, counts, random):
    """Gives every empty cluster half of a larger one, as faiss does; changes both arrays.

    Args:
        centroids: float32 [k, d].
        counts: float64 [k].
        random: np.random.Generator.
    """
    signs = np.where(np.arange(centroids.shape[1]) % 2 == 0, 1 / 1024, -1 / 1024).astype(np.float32)
    for cluster in np.flatnonzero(counts == 0):
        spare = np.maximum(counts - 1, 0)
        if not spare.sum():
            return  # fewer rows than clusters
        donor = random.choice(len(counts), p=spare / spare.sum())
        centroids[cluster] = centroids[donor] * (1 + signs)
        centroids[donor] *= 1 - signs
        counts[cluster] = counts[donor] // 2
        counts[donor] -= counts[cluster]


def give_rows(centroids, counts, labels, random):
    """DeeperCluster's rule for empty clusters; changes centroids, counts and labels.

    The generator is seeded anew for each of them there, so that all have one donor. It keeps half of its count, rounded
    up, and gives as many of its first rows; on each process as many as are there.

    Args:
        centroids: float32 [k, d].
        counts: float64 [k].
        labels: int32 [n], of this process.
        random: np.random.Generator, or an int, the donor.
    """
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return
    held = np.flatnonzero(counts)
    donor = random if isinstance(random, int) else held[random.integers(len(held))]
    signs = np.where(np.arange(centroids.shape[1]) % 2 == 0, -1e-7, 1e-7).astype(np.float32)
    for cluster in empty:
        centroids[cluster] = centroids[donor] + signs
        centroids[donor] -= signs
        counts[cluster] = counts[donor] // 2
        counts[donor] -= counts[cluster]
        labels[np.flatnonzero(labels == donor)[: int(counts[donor])]] = cluster


def first_centroids(rows, k, seed, *, workers=None):
    """k different rows to begin with, drawn over all processes; with repetitions where there are fewer.

    Args:
        rows: Rows of this process.
        k: int >= 1.
        seed: int.
        workers: Workers; None: this process alone.

    Returns:
        float32 [k, d], the same in every process.

    Raises:
        InputError: no row at all.
    """
    workers = workers or Workers()
    sizes = np.zeros(workers.count)
    sizes[workers.index] = len(rows)
    sizes = workers.sum(sizes)[0].astype(np.int64)
    total, first = int(sizes.sum()), int(sizes[: workers.index].sum())
    require(total > 0, "no features to cluster")
    random = np.random.Generator(np.random.Philox(key=[seed, 1 << 32]))
    chosen = random.choice(total, k, replace=total < k)
    mine = (chosen >= first) & (chosen < first + len(rows))
    centroids = np.zeros([k, rows.width])
    centroids[mine] = rows.read(chosen[mine] - first)
    return workers.sum(centroids)[0].astype(np.float32)


@contextlib.contextmanager
def full_float32():
    """float32 products without TF32, which on a GPU would round distances at 1e-3."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
