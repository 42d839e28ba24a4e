"""Clustering of a batch inside the training graph: k-means as CLD's code runs it, spherical k-means, spectral."""

import tensorflow as tf


def kmeans(x, k, iterations=5, spherical=False, points=None):
    """Lloyd's k-means from the first k rows (official spectral_clustering.py::KMeans of arXiv:2008.03813).

    Each iteration assigns rows to the nearest centroid (squared distance, ties to the lowest index), then takes means;
    labels are not assigned again after the last means. A cluster without rows has the centroid 0, which takes part in
    the next assignment and may be refilled there. With k >= N rows of unit length, every row is its own cluster
    (label = first row equal to it) and the k - N last centroids are 0.

    Args:
        x: float32 [N, d], static N.
        k: int >= 1, clusters.
        iterations: int >= 1.
        spherical: of unit rows, assign by cosine and give the means unit length, as the paper's text says; the code
            does neither.
        points: float32 [N, c] to cluster instead of x; the centroids are the means of x all the same.

    Returns:
        labels int32 [N] in [0, k), without gradient; centroids float32 [k, d], whose gradient reaches all members.
        Lengths of centroids of unit rows: at most 1; 1 or 0 where spherical.
    """
    fixed = tf.stop_gradient(x if points is None else points)
    # A product rounds relative to its factors, at 1e-3 where a GPU takes TF32. Of features that are nearly the same it
    # would leave no difference: both factors are taken from their middle, which changes no assignment.
    middle = tf.reduce_mean(fixed, axis=0)
    centroids = fixed[:k]
    for _ in range(iterations):
        # argmin |p - c|^2 = argmax (p - m).(c - m) - |c - m|^2 / 2, which is p.c - |c|^2 / 2 and what all c share.
        scores = tf.matmul(fixed - middle, centroids - middle, transpose_b=True)
        scores -= tf.reduce_sum(tf.square(centroids - middle), axis=1) / 2
        if spherical:  # score of an empty centroid (zero vector): subtract the 1/2 that every unit centroid lost above
            scores -= tf.where(tf.reduce_any(centroids != 0, axis=1), 0.0, 0.5)
        labels = tf.argmax(scores, axis=1, output_type=tf.int32)  # [N]
        centroids = group_means(fixed, labels, k, spherical)
    return labels, group_means(x, labels, k, spherical)


def group_means(x, labels, k, spherical=False):
    """Means of the rows of each label: float32 [N, d], int32 [N] -> [k, d], 0 where there are none.

    ``spherical``: means scaled to unit length.
    """
    counts = tf.math.unsorted_segment_sum(tf.ones_like(x[:, :1]), labels, k)  # [k, 1]
    means = tf.math.unsorted_segment_sum(x, labels, k) / tf.maximum(counts, 1.0)
    return tf.math.l2_normalize(means, axis=1) if spherical else means


def spectral(x, k, eigenvectors=10, iterations=5, normalize_rows=False):
    """Spectral clustering (official spectral_clustering.py::spectral_clustering of arXiv:2008.03813).

    k-means on ``spectral_embedding``; the centroids are the means of the rows of x.

    Args:
        x: float32 [N, d], unit rows, static N.
        k, iterations: as for ``kmeans``.
        eigenvectors, normalize_rows: as for ``spectral_embedding``.

    Returns:
        As ``kmeans``; the gradient flows through the means alone.
    """
    points = spectral_embedding(tf.stop_gradient(x), eigenvectors, normalize_rows)
    return kmeans(x, k, iterations, points=points)


def spectral_embedding(x, eigenvectors, normalize_rows=False):
    """Rows as coordinates of the smallest eigenvectors of the normalised Laplacian of the graph of absolute cosines.

    W = |x x^T| with diagonal 0, D its row sums, L = D^-1/2 (D - W) D^-1/2, the eigenvectors of the smallest
    eigenvalues (the supplement says the largest; the code takes these), each times D^-1/2. The code also divides all
    by one entry, which no step of k-means sees.

    Args:
        x: float32 [N, d], unit rows.
        eigenvectors: int >= 1; no more than N exist.
        normalize_rows: unit rows, as the supplement says; the code has them as they are.

    Returns:
        float32 [N, min(eigenvectors, N)]; the sign of each column is arbitrary.
    """
    n = x.shape[0]
    w = tf.linalg.set_diag(tf.abs(tf.matmul(x, x, transpose_b=True)), tf.zeros([n], x.dtype))
    scale = tf.math.rsqrt(tf.maximum(tf.reduce_sum(w, axis=1), 1e-12))  # [N], D^-1/2
    laplacian = tf.eye(n) - scale[:, None] * w * scale[None, :]
    _, vectors = tf.linalg.eigh(laplacian)  # ascending eigenvalues
    rows = vectors[:, :eigenvectors] * scale[:, None]
    return tf.math.l2_normalize(rows, axis=1) if normalize_rows else rows
