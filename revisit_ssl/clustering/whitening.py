"""PCA whitening of features that lie in files: covariance summed chunk by chunk, then unit rows."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from revisit_ssl.clustering.workers import Workers
from revisit_ssl.errors import require

ROUNDING = 1e-12  # share of the largest eigenvalue below which one of float32 features is noise


@dataclass(frozen=True)
class Whitening:
    """x -> diag(eigenvalues^-1/2) V' (x - mean).

    Attributes:
        mean: float32 [D].
        directions: float32 [D, d], V diag(eigenvalues^-1/2).
        eigenvalues: float64 [d], of the covariance (divided by n), descending, after the floor.
    """

    mean: np.ndarray
    directions: np.ndarray
    eigenvalues: np.ndarray

    def __call__(self, x):
        """float32 [n, D] -> [n, d] of unit length; a row that is the mean stays zero."""
        rows = (x - self.mean) @ self.directions
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def fit_whitening(rows, dim=None, *, floor=1e-5, chunk=8192, workers=None):
    """Whitening by the principal directions of the rows of all processes.

    Args:
        rows: clustering.rows.Rows, those of this process.
        dim: int, directions that are kept; None: all.
        floor: eigenvalues below this share of the largest are raised to it (DeeperCluster: 1e-5; faiss has none). The
            directions of an eigenvalue that is zero to rounding all the same are left at zero.
        chunk: int, rows in memory at a time.
        workers: Workers; None: this process alone.

    Returns:
        Whitening. The sign of a direction is such that its largest value is positive.

    Raises:
        InputError: more directions than there are, or rows that do not differ.
    """
    workers = workers or Workers()
    width = rows.width
    dim = width if dim is None else dim
    require(1 <= dim <= width, f"PCA to {dim} dimensions of features of {width}; at most {width}")
    total, products = np.zeros(width), tf.zeros([width, width], tf.float64)
    # Products are taken from the mean of the first rows, so that little is left to cancel.
    (first, count) = workers.sum(next(rows.chunks(chunk))[1].sum(axis=0, dtype=np.float64), min(chunk, len(rows)))
    origin = first / count
    for _, x in rows.chunks(chunk):
        shifted = tf.constant(x - origin)  # float64
        total += tf.reduce_sum(shifted, axis=0).numpy()
        products += tf.matmul(shifted, shifted, transpose_a=True)
    total, products, n = workers.sum(total, products, len(rows))
    mean = total / n
    values, vectors = np.linalg.eigh(products / n - np.outer(mean, mean))  # ascending
    values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
    require(values[0] > 0, "all features are the same: the network has collapsed, or its images do not differ")
    vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(dim)])
    values = np.maximum(values, floor * values[0])
    usable = values > ROUNDING * values[0]
    scales = np.where(usable, 1 / np.sqrt(np.where(usable, values, 1)), 0)
    return Whitening((origin + mean).astype(np.float32), (vectors * scales).astype(np.float32), values)
