"""Clusters of the test features as DeepCluster makes them: what they tell of the classes, and how much is colour."""

import time
from dataclasses import dataclass

import numpy as np

from revisit_ssl.clustering.agreement import colour_deviation, nmi, purity
from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import Probe, Score, check_splits

IMAGES_EACH, MOST = 40, 200  # images of a cluster, and clusters, where their number is not given


@dataclass(frozen=True, kw_only=True)
class Clusters(Probe):
    """k-means on whitened test features of unit length, many more clusters than classes; nothing is trained or chosen.

    ``Score.metrics``, in percent: nmi, with the classes, by the geometric mean of both entropies (DeepCluster's
    main.py); purity, images in the class that their cluster has most of; colour_deviation, the median over clusters
    of how far images' mean colours lie from that of their cluster, of the range of a channel (DeeperCluster
    supplement, Figure 2); chance_deviation, the same of a random partition into clusters of these sizes.
    """

    quick = {"clusters": 6}

    clusters: int | None = None
    """k; None: one for 40 test images, at least as many as classes and at most 200."""
    dim_pca: int = 256
    """Dimensions that PCA keeps; at most a tenth of the images."""
    iterations: int = 20
    """Updates of k-means."""
    starts: int = 3
    """Random starts, of which the one with the smallest distances counts."""

    def __post_init__(self):
        """InputError for numbers below 1."""
        for name in ("clusters", "dim_pca", "iterations", "starts"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"clusters.{name} {value} must be at least 1")

    def measure(self, bench):
        """See Probe; only the test split is looked at, and the seed is that of the starts."""
        colours = mean_colours(bench.images("test"), bench.view)
        for endpoint in bench.endpoints:
            test = bench.split("test", endpoint)
            yield self.score(test, num_classes=bench.num_classes, seed=bench.seed, colours=colours).of(endpoint)

    def score(self, test, *, num_classes, seed=0, colours=None):
        """Score of a FeatureSplit; ``seed``: of the starts; ``colours``: float [N, 3], mean RGB of the images in
        [0, 1], without which nothing is said of them."""
        from revisit_ssl.clustering.flat import flat_clusters  # TensorFlow

        started = time.perf_counter()
        (test,) = check_splits([test], num_classes)
        count = len(test.features)
        k = min(self.clusters or max(num_classes, min(MOST, count // IMAGES_EACH)), count)
        options = {"iterations": self.iterations, "starts": self.starts, "seed": seed}
        labels, _ = flat_clusters(test.features, k, self.dim_pca, **options)
        metrics = {"nmi": nmi(test.labels, labels), "purity": purity(labels, test.labels)}
        if colours is not None:
            by_chance = np.random.default_rng([seed, 5]).permutation(labels)
            for name, each in (("colour_deviation", labels), ("chance_deviation", by_chance)):
                metrics[name] = float(np.median(colour_deviation(colours, each)))
        return Score(
            metrics={name: 100.0 * value for name, value in metrics.items()},
            hyperparameters=self.options() | {"clusters": k},
            seconds=time.perf_counter() - started,
        )


def mean_colours(source, view):
    """float64 [N, 3]: the mean RGB in [0, 1] of each image of a Source as an EvalView shows it."""
    from revisit_ssl.data import eval_batches  # TensorFlow

    batches = eval_batches(source, 256, view=view)
    return np.concatenate([np.asarray(batch["image"], np.float64).mean(axis=(1, 2)) / 255 for batch in batches])
