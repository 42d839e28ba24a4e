"""k-means and PCA of whole data sets beside faiss and scikit-learn; how cost grows, and what is in memory."""

import os
import sys

import numpy as np
from benches.measuring import LIMIT, alternate, capped, row, timed

# Where faiss' threads wait spinning, they take the cores from TensorFlow's.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

MEMORY = """
import re, sys, tempfile
import numpy as np
import revisit_ssl
from revisit_ssl.clustering.kmeans import kmeans
from revisit_ssl.clustering.rows import Rows, write_rows
from revisit_ssl.clustering.whitening import fit_whitening
n, d, k, chunk = map(int, sys.argv[1:5])
def held(what):
    return int(re.search(what + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1))
with tempfile.TemporaryDirectory() as folder:
    draw = np.random.default_rng(0)
    parts = (draw.normal(size=(min(8192, n - i), d)) for i in range(0, n, 8192))
    rows = Rows(write_rows(f"{folder}/x.npy", n, d, parts))
    some = rows.of(np.arange(2 * k))
    kmeans(some, some.read(np.arange(k)), 1, chunk=chunk)  # what TensorFlow takes once
    before = held("RssAnon")
    peak, reading = before, rows.read
    def read(places):
        global peak
        peak = max(peak, held("RssAnon"))
        return reading(places)
    rows.read = read
    fit_whitening(rows, 64, chunk=chunk)
    kmeans(rows, reading(np.arange(k)), 2, chunk=chunk)
print((peak - before) / 1024)
"""


def features(n, d, groups=500):
    """float32 [n, d], unit rows around ``groups`` directions."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(n, d)) + draw.normal(size=(groups, d))[draw.integers(groups, size=n)]
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def ours(x, k, updates):
    """A callable that clusters x, whose first k rows are the start, and its mean distance."""
    from revisit_ssl.clustering.kmeans import kmeans
    from revisit_ssl.clustering.rows import Rows

    return lambda: kmeans(Rows(x), x[:k], updates).objectives[-1]


def faiss_kmeans(x, k, updates):
    """The same by faiss, which stops when no centroid moves, as ours."""
    import faiss

    def work():
        clustering = faiss.Clustering(x.shape[1], k)
        clustering.niter, clustering.max_points_per_centroid = updates, 10**9
        faiss.copy_array_to_vector(x[:k].ravel(), clustering.centroids)
        index = faiss.IndexFlatL2(x.shape[1])
        clustering.train(x, index)
        return index.search(x, 1)[0].mean()

    return work


def sklearn_kmeans(x, k, updates):
    """The same by scikit-learn."""
    from sklearn.cluster import KMeans

    options = {"n_init": 1, "max_iter": updates, "tol": 0, "algorithm": "lloyd"}
    return lambda: KMeans(k, init=x[:k], **options).fit(x).inertia_ / len(x)


def bench_clustering():
    """100,000 x 256 into 1,000 clusters; four sizes; memory beside the size of the features. Yields the rows."""
    x = features(100_000, 256)
    for rival, theirs, rounds in (("faiss-cpu", faiss_kmeans, 3), ("scikit-learn", sklearn_kmeans, 1)):
        mine, its = ours(x, 1000, 20), theirs(x, 1000, 20)
        difference = float(abs(mine() / its() - 1))  # of NumPy's float32, which JSON does not take
        seconds = alternate(timed(mine), timed(its), rounds)
        what = "k-means, 100,000 x 256, 1,000 clusters, 20 updates"
        yield row(what, *seconds, "s", rival, 1.0, objective_difference=difference)
    for n, k in ((25_000, 250), (50_000, 250), (25_000, 500), (50_000, 500)):
        part = x[:n]
        seconds = alternate(timed(ours(part, k, 5)), timed(faiss_kmeans(part, k, 5)), 3)
        per = 1e9 * seconds[0] / (6 * n * k * 256)  # five updates and the last assignment
        yield row(f"k-means, {n:,} x 256, {k} clusters, 5 updates", *seconds, "s", "faiss-cpu", ns_per_term=per)
    for n, chunk in ((50_000, 8192), (200_000, 8192), (200_000, 2048)):
        found = capped([sys.executable, "-c", MEMORY, *map(str, (n, 256, 100, chunk))], LIMIT)
        what = f"memory of PCA and k-means, {n:,} x 256 in a file, chunks of {chunk:,}"
        yield row(what, found and found[0], n * 256 * 4 / 2**20, "MB", "all features in memory")
