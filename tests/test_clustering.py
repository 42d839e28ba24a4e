"""k-means and spectral clustering against the official code, scikit-learn and loops typed from the text."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf
from sklearn.cluster import KMeans, SpectralClustering

from revisit_ssl.pretext.clustering import group_means, kmeans, spectral, spectral_embedding

GOLDENS = pathlib.Path(__file__).parent / "goldens" / "cld"
KMEANS = (
    "basic_it1",
    "basic_it2",
    "basic_it5",
    "basic_default10",
    "k_greater_than_B",
    "k_equal_B",
    "empty_natural",
    "empty_revived",
    "duplicate_init_tie",
)


def unit_rows(seed, n, d, centres=None, spread=0.2):
    draws = np.random.RandomState(seed)
    x = draws.normal(size=(n, d))
    if centres:
        directions = np.linalg.qr(draws.normal(size=(d, d)))[0][:centres]
        x = directions[np.arange(n) % centres] + spread * x / np.sqrt(d)
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def lloyd(x, k, iterations, spherical=False):
    """The text's k-means, row by row in float64."""
    x = x.astype(np.float64)
    centroids = [x[j] for j in range(min(k, len(x)))]
    for _ in range(iterations):
        labels = []
        for row in x:
            labels.append(int(np.argmin([-row @ c if spherical else ((row - c) ** 2).sum() for c in centroids])))
        centroids = []
        for j in range(k):
            members = [row for row, label in zip(x, labels, strict=True) if label == j]
            mean = np.mean(members, axis=0) if members else np.zeros(x.shape[1])
            centroids.append(mean / np.linalg.norm(mean) if spherical and members else mean)
    return np.array(labels), np.array(centroids)


@pytest.mark.parametrize(("case", "jit"), [*((case, False) for case in KMEANS), ("basic_it5", True)])
def test_kmeans_is_the_official_one(case, jit):
    g = np.load(GOLDENS / "kmeans.npz")
    k, iterations = int(g[f"{case}_k"]), int(g[f"{case}_n_iter"])
    run = tf.function(lambda x: kmeans(x, k, iterations), jit_compile=jit, autograph=False)
    labels, centroids = run(tf.constant(g[f"{case}_features"]))
    np.testing.assert_array_equal(labels, g[f"{case}_labels"])
    np.testing.assert_array_equal(np.bincount(labels, minlength=k), g[f"{case}_counts"])
    np.testing.assert_allclose(centroids, g[f"{case}_centroids"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize("k", [3, 12, 40])
def test_kmeans_is_the_loop_of_the_text(k, spherical):
    x = unit_rows(1, 32, 6)
    labels, centroids = kmeans(tf.constant(x), k, 5, spherical)
    expected_labels, expected = lloyd(x, k, 5, spherical)
    np.testing.assert_array_equal(labels, expected_labels)
    np.testing.assert_allclose(centroids, expected, atol=1e-6)
    lengths = np.linalg.norm(centroids, axis=1)
    full = np.bincount(labels, minlength=k) > 0
    assert (lengths <= 1 + 1e-6).all() and (lengths[~full] == 0).all()
    if spherical:
        np.testing.assert_allclose(lengths[full], 1, atol=1e-6)


@pytest.mark.parametrize("spherical", [False, True])
def test_features_that_are_nearly_the_same_are_told_apart(spherical):
    # 1e-4 apart, their squared distances are below the rounding of a product of unit rows.
    middle, offsets = np.eye(1, 8, dtype=np.float32), unit_rows(7, 40, 8, centres=4, spread=0.3)
    x = middle + 1e-4 * offsets
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels, _ = kmeans(tf.constant(x), 4, 5, spherical)
    np.testing.assert_array_equal(labels, np.arange(40) % 4)


def test_kmeans_is_scikit_learn_s_where_no_cluster_runs_empty():
    x = unit_rows(2, 60, 8, centres=5, spread=0.8)
    labels, centroids = kmeans(tf.constant(x), 5, iterations=30)
    theirs = KMeans(5, init=x[:5], n_init=1, algorithm="lloyd", tol=0, max_iter=300).fit(x)
    np.testing.assert_array_equal(labels, theirs.labels_)
    np.testing.assert_allclose(centroids, theirs.cluster_centers_, atol=1e-5)


def test_every_row_its_own_cluster():
    x = unit_rows(3, 6, 5)
    labels, centroids = kmeans(tf.constant(x), 9)
    np.testing.assert_array_equal(labels, np.arange(6))
    np.testing.assert_allclose(centroids[:6], x, atol=1e-7)
    np.testing.assert_array_equal(centroids[6:], np.zeros([3, 5]))


def test_means_carry_a_gradient_to_their_members_alone():
    x = tf.constant(unit_rows(4, 7, 3))
    labels = tf.constant([0, 0, 2, 2, 2, 0, 2])
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = tf.reduce_sum(group_means(x, labels, 4) * tf.constant([[1.0, 2, 3], [9, 9, 9], [4, 5, 6], [9, 9, 9]]))
    expected = [[1 / 3, 2 / 3, 1] if label == 0 else [1, 5 / 4, 6 / 4] for label in labels.numpy()]
    np.testing.assert_allclose(tape.gradient(value, x), expected, rtol=1e-6)


@pytest.mark.parametrize("case", ["general", "k_eigen_more_than_clusters", "two_blobs"])
def test_spectral_is_the_official_one(case):
    g = {k.removeprefix(f"{case}_"): v for k, v in np.load(GOLDENS / "spectral.npz").items() if k.startswith(case)}
    x = tf.constant(g["features"])
    embedding = spectral_embedding(x, int(g["k_eigen"])).numpy()
    embedding /= embedding[0, 0]  # as the official code does, to no effect on the labels
    signs = np.sign(np.sum(embedding * g["embedding"], axis=0))
    np.testing.assert_allclose(embedding * signs, g["embedding"], rtol=0, atol=1e-4 * np.abs(g["embedding"]).max())
    with tf.GradientTape() as tape:
        tape.watch(x)
        labels, centroids = spectral(x, int(g["clusters"]), int(g["k_eigen"]), int(g["n_iter"]))
        value = tf.reduce_sum(centroids * g["cotangent_centroids"])
    np.testing.assert_array_equal(labels, g["labels"])
    np.testing.assert_allclose(centroids, g["centroids"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(tape.gradient(value, x), g["grad_features"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("normalize_rows", [False, True])
def test_spectral_finds_scikit_learn_s_groups(normalize_rows):
    # Three blocks of positive features, since theirs takes no absolute value of the cosines.
    x = np.abs(unit_rows(5, 30, 9)) + np.kron(np.eye(3), np.ones(3))[np.arange(30) % 3].astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    labels, _ = spectral(tf.constant(x), 3, 3, 10, normalize_rows)
    similarity = x @ x.T
    np.fill_diagonal(similarity, 0)
    theirs = SpectralClustering(3, affinity="precomputed", random_state=0).fit_predict(similarity)
    pairs = set(zip(labels.numpy(), theirs, strict=True))
    assert len(pairs) == len(set(labels.numpy())) == 3, "the same partition, whatever the names"


def test_spectral_embedding_of_few_rows_and_its_options():
    x = tf.constant(unit_rows(6, 4, 5))
    assert spectral_embedding(x, 10).shape == (4, 4)
    rows = spectral_embedding(x, 3, normalize_rows=True)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
