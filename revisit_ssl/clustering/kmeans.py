"""Lloyd's k-means over rows that lie in files: chunk by chunk, on several devices and processes, deterministic.

Squared Euclidean distance, centroids that are plain means, a fixed number of updates, then one assignment: as
DeeperCluster's code (src/distributed_kmeans.py) and faiss, which DeepCluster calls.

What cannot have changed is not calculated again. Once most centroids stand still, a row whose own is among them is
compared with those that moved alone (Kaukoranta, Fränti, Nevalainen: A fast exact GLA based on code vector activity
detection, 2000); and sums of clusters change by the rows that changed their cluster.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor
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
    passes = [Pass(device, centroids) for device in workers.devices]
    size = max(1, min(chunk, TILE // shape[0]))
    near, squares = np.full(len(rows), -1, np.int32), np.zeros(len(rows), np.float32)
    moved, objectives = np.ones(shape[0], bool), []
    with full_float32():
        for update in range(iterations + 1):
            for each in passes:
                each.begin(centroids, moved)
            near, squares = one_pass(rows, (near, squares), passes, size, update < iterations)
            counts, sums, objective = sums_of(near, squares, passes, workers)
            objectives.append(objective)
            before = centroids.copy()
            if update < iterations:
                held = counts > 0
                centroids[held] = sums[held] / counts[held, None]
            random = np.random.Generator(np.random.Philox(key=[seed, update]))
            labels = near
            if empty == "same_donor":
                labels = near.copy()  # the sums know the rows where they were
                give_rows(centroids, counts, labels, random)
            elif empty == "split" and update < iterations:
                split(centroids, counts.copy(), random)
            moved = (before != centroids).any(axis=1)
            if update < iterations and not moved.any() and empty != "same_donor":
                break  # the labels are those of these centroids
    (counts,) = workers.sum(np.bincount(labels, minlength=shape[0]))
    return Clustering(centroids, labels, counts.astype(np.int64), objectives)


def one_pass(rows, known, passes, size, moves):
    """Every row of this process to its nearest centroid.

    Args:
        rows: Rows.
        known: (labels int32 [n], squares float32 [n]) of the pass before; label -1: of none yet.
        passes: [Pass], begun.
        size: rows of a chunk.
        moves: whether their sums follow.

    Returns:
        (labels int32 [n], squared distances float32 [n]).
    """
    labels, squares = np.empty_like(known[0]), np.empty_like(known[1])

    def work(first):  # every so many-th chunk, whichever device is faster
        for start in range(first * size, len(rows), len(passes) * size):
            part = slice(start, min(start + size, len(rows)))
            x = rows.read(np.arange(part.start, part.stop))
            labels[part], squares[part] = passes[first].assign(x, known[0][part], known[1][part], moves)

    with ThreadPoolExecutor(len(passes)) as pool:
        list(pool.map(work, range(len(passes))))
    return labels, squares


def sums_of(labels, squares, passes, workers):
    """Over all processes: (counts [k], sums of rows [k, d], mean squared distance), float64."""
    total, n = squares.sum(dtype=np.float64), len(labels)
    # Summed in the order of the devices, whatever their speed.
    sums = sum(each.sums.numpy() for each in passes)
    counts, sums, (total, n) = workers.sum(np.bincount(labels, minlength=len(sums)), sums, [total, n])
    return counts, sums, float(total / max(n, 1))


class Pass:
    """Nearest centroids of the chunks that one device gets, and the sums of its clusters.

    Args:
        device: its name.
        centroids: float32 [k, d], the first ones.
    """

    def __init__(self, device, centroids):
        self.device = device
        # What is compared is taken from the centroids' middle: a product rounds relative to its factors, and of
        # features that are nearly the same it would leave no difference.
        self.middle = centroids.mean(axis=0)
        with tf.device(device):
            # float64: of many rows a float32 sum soon no longer feels the next one.
            self.sums = tf.Variable(tf.zeros(centroids.shape, tf.float64), trainable=False)

    def begin(self, centroids, moved):
        """Starts a pass: centroids float32 [k, d]; moved bool [k], which of them are not those of the pass before."""
        self.stirred, self.moved = moved, np.flatnonzero(moved).astype(np.int32)
        with tf.device(self.device):
            self.points = tf.constant(centroids - self.middle)
            self.movers = tf.gather(self.points, self.moved)

    def assign(self, x, before, squares, moves):
        """A chunk x float32 [n, d], with what is known of it -> (int32 [n], float32 [n]), as of ``one_pass``."""
        labels, found = before.copy(), squares.copy()
        # Every centroid may be the nearest of a row whose own has moved; of another, its own or one that has.
        anew = (before < 0) | self.stirred[before]
        with tf.device(self.device):
            rows = tf.constant(x)
            shifted = rows - self.middle
            if anew.any():
                few = shifted if anew.all() else tf.boolean_mask(shifted, anew)
                labels[anew], found[anew] = nearest(few, self.points)
            rest = np.flatnonzero(~anew)
            if len(rest) and len(self.moved):
                label, square = (each.numpy() for each in nearest(tf.gather(shifted, rest), self.movers))
                label = self.moved[label]
                nearer = (square < found[rest]) | ((square == found[rest]) & (label < before[rest]))
                labels[rest[nearer]], found[rest[nearer]] = label[nearer], square[nearer]
            if moves:
                changed = np.flatnonzero(labels != before)
                self._add(rows, labels, changed, 1.0)
                self._add(rows, before, changed[before[changed] >= 0], -1.0)
        return labels, found

    def _add(self, rows, labels, places, sign):
        values = tf.cast(tf.gather(rows, places), tf.float64) * sign
        self.sums.scatter_add(tf.IndexedSlices(values, tf.constant(labels[places])))


def nearest(shifted, points):
    """The nearest of points float32 [m, d] to each row of shifted [n, d]: (int32 [n], squared distances [n])."""
    # argmin |x - c|^2 = argmax x.c - |c|^2 / 2
    halves = -tf.reduce_sum(tf.square(points), axis=1) / 2
    scores = tf.nn.bias_add(tf.matmul(shifted, points, transpose_b=True), halves)
    labels = tf.argmax(scores, axis=1, output_type=tf.int32)
    best = tf.gather(scores, labels, batch_dims=1)
    return labels, tf.maximum(tf.reduce_sum(tf.square(shifted), axis=1) - 2 * best, 0.0)


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
