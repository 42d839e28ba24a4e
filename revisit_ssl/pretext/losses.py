"""Losses and batch accuracies: pure functions of tensors.

Products are float32; a GPU from Ampere on rounds their factors to TF32 (1e-3) unless the program calls
``tf.config.experimental.enable_tensor_float_32_execution(False)``: of unit rows that moves a logit by up to 1e-3 / T.
"""

import warnings

import numpy as np
import tensorflow as tf

from revisit_ssl.distribute import gather_replicas, replica_id
from revisit_ssl.errors import InputError
from revisit_ssl.pretext.clustering import kmeans, spectral


def cross_entropy(logits, labels):
    """Mean softmax cross-entropy.

    Args:
        logits: float [N, C].
        labels: int [N], 0 <= label < C.

    Returns:
        float32 scalar in nats, mean over N; log(C) where all logits are equal.
    """
    logits = tf.cast(logits, tf.float32)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def accuracy(logits, labels):
    """Share of rows whose largest logit is the label's; float32 scalar."""
    return tf.reduce_mean(tf.cast(tf.equal(tf.argmax(logits, -1, tf.int32), tf.cast(labels, tf.int32)), tf.float32))


def pairwise_distances(embeddings, distance="squared_l2"):
    """Distance of every row to every row.

    Args:
        embeddings: float [N, d].
        distance: "squared_l2"; "l2", with gradient 0 where it is 0; "angular": 1 - cosine, rows normalised here.

    Returns:
        float32 [N, N], symmetric up to rounding, >= 0, diagonal 0. It is computed as |a|^2 - 2ab + |b|^2, so a distance
        far below the norms is rounding; TF32 products of a GPU make that 1e-3 of the norms.

    Raises:
        InputError: unknown distance.
    """
    if distance not in ("squared_l2", "l2", "angular"):
        raise InputError(f"unknown distance {distance!r}; one of squared_l2, l2, angular")
    x = tf.cast(embeddings, tf.float32)
    if distance == "angular":
        x = tf.math.l2_normalize(x, axis=1)
    products = tf.matmul(x, x, transpose_b=True)
    if distance == "angular":
        d = 1.0 - products
    else:
        norms = tf.reduce_sum(tf.square(x), axis=1)
        d = norms[:, None] - 2.0 * products + norms[None, :]
    rows = tf.range(tf.shape(x)[0])
    apart = (d > 0.0) & (rows[:, None] != rows[None, :])
    d = tf.where(apart, d, 0.0)
    # The root of 0 has no gradient: it is taken of 1 there, and not used.
    return tf.where(apart, tf.sqrt(tf.where(apart, d, 1.0)), 0.0) if distance == "l2" else d


def triplet_semihard(embeddings, labels, margin, distance="squared_l2"):
    """Triplet loss with semi-hard negatives (FaceNet, arXiv:1503.03832), as ``tfa.losses.triplet_semihard_loss``.

    The mean of max(0, margin + d(a, p) - d(a, n)) over all ordered pairs (a, p) of different rows with one label, where
    n is the nearest row of another label that is farther from a than p is, or the farthest one where none is. The
    negatives of a row are sorted once and each positive finds its place among them: N^2 numbers, the original has N^3.

    Args:
        embeddings: float [N, d]; normalise them before.
        labels: int [N].
        margin: float; 0.5 in Revisiting SSL.
        distance: as in ``pairwise_distances``; the official Exemplar takes the square.

    Returns:
        float32 scalar >= 0. Where all labels are the same, d(a, n) counts as 0, as in the original.

    Raises:
        InputError: unknown distance.
    """
    labels = tf.convert_to_tensor(labels)
    known = tf.get_static_value(labels)
    if known is not None and len(np.unique(known)) == len(known):
        warnings.warn("triplet_semihard: no two rows share a label, so the loss is 0", stacklevel=2)
    d = pairwise_distances(embeddings, distance)  # [N, N], anchor by other row
    same = labels[:, None] == labels[None, :]
    rows = tf.range(tf.shape(d)[0])
    positive = same & (rows[:, None] != rows[None, :])
    count = tf.reduce_sum(tf.cast(~same, tf.int32), axis=1, keepdims=True)  # [N, 1], negatives of each anchor

    # A choice, not a function to differentiate. The largest float stands for infinity, of which TPUs make NaN.
    fixed = tf.stop_gradient(d)
    masked = tf.where(same, tf.float32.max, fixed)
    order = tf.argsort(masked, axis=1)  # negatives by distance, then the rest
    place = tf.searchsorted(tf.gather(masked, order, batch_dims=1), fixed, side="right")  # negatives not beyond p
    chosen = tf.gather(order, tf.clip_by_value(place, 0, tf.maximum(count - 1, 0)), batch_dims=1)  # [N, N]

    to_negative = tf.where(count > 0, tf.gather(d, chosen, batch_dims=1), 0.0)
    terms = tf.where(positive, tf.maximum(margin + d - to_negative, 0.0), 0.0)
    # Deviation: no positive pair at all gives 0; the original divides 0 by 0.
    pairs = tf.reduce_sum(tf.cast(positive, tf.float32))
    return tf.reduce_sum(terms) / tf.maximum(pairs, 1.0)


def retrieval_accuracy(embeddings, labels):
    """Share of rows whose nearest other row (squared distance) has the same label; float32 scalar.

    With n crops of each of B images, chance is (n - 1) / (n * B - 1).

    Args:
        embeddings: float [N, d], N >= 2.
        labels: int [N].
    """
    d = pairwise_distances(embeddings)
    rows = tf.range(tf.shape(d)[0])
    nearest = tf.argmin(tf.where(rows[:, None] == rows[None, :], tf.float32.max, d), axis=1, output_type=tf.int32)
    return tf.reduce_mean(tf.cast(tf.gather(labels, nearest) == labels, tf.float32))


def info_nce(queries, keys, negatives, temperature):
    """InfoNCE with one positive per query (MoCo, arXiv:1911.05722, equation 1).

    Args:
        queries: float32 [B, d], unit rows.
        keys: float32 [B, d], unit rows; row i is the positive of query i. Not differentiated.
        negatives: float32 [K, d], shared by all queries. Not differentiated.
        temperature: float > 0; 0.07 in MoCo v1, 0.2 in v2.

    Returns:
        (float32 scalar in nats, mean over B, log(K + 1) where all similarities are equal; share of the queries whose
        most similar row is the positive).
    """
    logits = info_nce_logits(queries, keys, negatives, temperature)
    labels = tf.zeros([logits.shape[0]], tf.int32)
    return cross_entropy(logits, labels), accuracy(logits, labels)


def info_nce_logits(queries, keys, negatives, temperature):
    """[q.k ; q.negatives] / T: float32 [B, 1 + K], the positive in column 0; arguments as for ``info_nce``."""
    scaled = queries / temperature
    positive = tf.reduce_sum(scaled * tf.stop_gradient(keys), axis=1, keepdims=True)
    return tf.concat([positive, tf.matmul(scaled, tf.stop_gradient(negatives), transpose_b=True)], axis=1)


def nt_xent(z1, z2, temperature):
    """Normalised temperature-scaled cross-entropy over the global batch (SimCLR, arXiv:2002.05709, equation 1).

    Each of the 2B rows of all replicas must find the other view of its image among the 2B - 1 other rows.

    Args:
        z1, z2: float32 [B, d], unit rows of this replica; row i of both is one image.
        temperature: float > 0.

    Returns:
        (float32 scalar in nats, mean over this replica's rows, log(2B - 1), B of all replicas, where all similarities
        are equal; share of the rows whose most similar other row is the positive).
    """
    everything = tf.concat([gather_replicas(z1), gather_replicas(z2)], axis=0)  # [2B, d]
    size, rows = (x.shape[0] or tf.shape(x)[0] for x in (z1, everything))  # static in training
    first = replica_id() * size + tf.range(size)
    own = tf.concat([first, first + rows // 2], axis=0)  # [2b], where this replica's rows are
    logits = tf.matmul(tf.concat([z1, z2], axis=0) / temperature, everything, transpose_b=True)
    logits = tf.where(own[:, None] == tf.range(rows)[None, :], tf.float32.min, logits)  # not with itself
    positives = (own + rows // 2) % rows
    return cross_entropy(logits, positives), accuracy(logits, positives)


def byol_loss(predictions, targets):
    """2 - 2 cos, the squared distance of unit vectors (BYOL, arXiv:2006.07733, equation 2).

    Args:
        predictions: float32 [B, d], any length.
        targets: float32 [B, d], any length. Not differentiated.

    Returns:
        float32 scalar in [0, 4], mean over B. BYOL adds up both orders of the views; OpenSelfSup leaves out the
        constant 2 of each.
    """
    cosines = tf.reduce_sum(
        tf.math.l2_normalize(predictions, axis=1) * tf.math.l2_normalize(tf.stop_gradient(targets), axis=1), axis=1
    )
    return 2.0 - 2.0 * tf.reduce_mean(cosines)


def bow_loss(logits, targets):
    """How far predicted word probabilities are from a bag of visual words (OBoW, arXiv:2012.11552; official _bow_loss).

    Args:
        logits: float [B * n, K], the n crops of an image together.
        targets: float32 [B, K], rows >= 0 of sum 1; all n crops of an image predict its row. Not differentiated.

    Returns:
        (Kullback-Leibler divergence of the prediction from the bag, 0 where they agree; entropy of the bags): float32
        scalars in nats, means over the rows. The cross-entropy, which has the same gradient, is their sum.
    """
    logits = tf.cast(logits, tf.float32)
    targets = tf.stop_gradient(tf.cast(targets, tf.float32))
    entropy = -tf.reduce_mean(tf.reduce_sum(tf.math.xlogy(targets, targets), axis=1))  # 0 log 0 = 0
    labels = tf.repeat(targets, logits.shape[0] // targets.shape[0], axis=0)  # [B * n, K], image-major
    cross = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    return cross - entropy, entropy


def instance_softmax(features, bank, index, temperature):
    """-log of the probability that an image is itself among all images (NPID, arXiv:1805.01978, equation 2).

    Args:
        features: float32 [B, d], unit rows.
        bank: float32 [N, d], a row for each image. Not differentiated.
        index: int64 [B], rows of the bank.
        temperature: float > 0.

    Returns:
        float32 [B] in nats; log(N) where all similarities are equal. The logits, B * N numbers, are the only large
        tensor of the forward pass.
    """
    logits = tf.matmul(features / temperature, tf.stop_gradient(bank), transpose_b=True)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=index, logits=logits)


def nce(scores, z, rows):
    """Noise-contrastive estimation with a uniform noise distribution (NPID, arXiv:1805.01978, section 3.2).

    P = exp(score) / Z is the model's probability of a row, Pn = 1 / rows the noise's, h = P / (P + K Pn); the loss is
    -log h of the positive - sum over the K negatives of log(1 - h).

    Args:
        scores: float32 [B, 1 + K], similarity / temperature, the positive in column 0.
        z: float32 scalar, the normalising constant; not differentiated.
        rows: int, rows of the bank.

    Returns:
        float32 scalar >= 0, sum over the columns, mean over B.
    """
    probabilities = tf.exp(scores) / tf.stop_gradient(z)
    noise = (scores.shape[1] - 1) / rows  # K Pn
    # 1e-7 is the official criterion's; it keeps the quotient defined.
    bottom = probabilities + noise + 1e-7
    positive = tf.math.log(probabilities[:, 0] / bottom[:, 0])
    negative = tf.math.log(noise / bottom[:, 1:])
    return -tf.reduce_mean(positive + tf.reduce_sum(negative, axis=1))


def nce_constant(scores, rows):
    """NPID's estimate of Z from a first batch: mean of exp(score) over [B, 1 + K], all replicas', times ``rows``."""
    return tf.stop_gradient(tf.reduce_mean(gather_replicas(tf.exp(scores)))) * rows


def cld_loss(g1, g2, spec):
    """Cross-level discrimination: find the group of your other view (CLD, arXiv:2008.03813; official trainers).

    With centroids M and labels y of each view, C(g, M, y) = mean of -log softmax(g . M / T)[y], the loss is
    1/2 [C(g1, M2, y2) + C(g2, M1, y1)]; 1/2 [C(g1, M1, y1) + C(g2, M2, y2)] without ``spec.cross``. With at least as
    many groups k as rows B it is -log(exp(s_ii / T) / (sum_j exp(s_ij / T) + k - B)), s = g1 . g2, both ways.

    Args:
        g1, g2: float32 [B, d], unit rows: group features of the two views; row i of both is one image.
        spec: pretext.cld.CLDSpec.

    Returns:
        (float32 scalar in nats, mean over the rows of both views, log(k) where all centroids are equal; share of the
        rows of view 1 whose most similar centroid is the right one). With scope global the means are over the rows of
        all replicas, the same on each.
    """
    if spec.scope == "global":
        g1, g2 = gather_replicas(g1), gather_replicas(g2)
    losses, hits = [], []
    for first, second in zip(tf.split(g1, spec.chunks), tf.split(g2, spec.chunks), strict=True):
        groups1, groups2 = cluster(first, spec), cluster(second, spec)
        if not spec.cross:
            groups1, groups2 = groups2, groups1
        logits1 = tf.matmul(first / spec.temperature, groups2[1], transpose_b=True)
        logits2 = tf.matmul(second / spec.temperature, groups1[1], transpose_b=True)
        losses.append((cross_entropy(logits1, groups2[0]) + cross_entropy(logits2, groups1[0])) / 2)
        hits.append(accuracy(logits1, groups2[0]))
    return tf.add_n(losses) / spec.chunks, tf.add_n(hits) / spec.chunks


def cluster(features, spec):
    """(labels int32 [B], centroids float32 [k, d]) of unit rows by the CLDSpec."""
    if spec.clustering == "spectral":
        labels, centroids = spectral(features, spec.groups, spec.eigenvectors, spec.iterations, spec.normalize_rows)
    else:
        labels, centroids = kmeans(features, spec.groups, spec.iterations, spec.clustering == "spherical")
    return labels, tf.stop_gradient(centroids) if spec.stop_gradient else centroids
