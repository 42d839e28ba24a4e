"""Instance retrieval with R-MAC: which images show the object that a query shows (DeeperCluster supplement, 4.1;
facebookresearch/deepcluster, eval_retrieval.py; the revisited measures of revisitop)."""

import time
from dataclasses import dataclass

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.evaluators.average_precision import retrieval_map
from revisit_ssl.evaluators.base import Probe, Score

PRECISION_RANKS = (1, 5, 10)


@dataclass(frozen=True, kw_only=True)
class InstanceRetrieval(Probe):
    """Every image of a database as one vector, R-MAC of an endpoint's map; queries, cut to their boxes, rank them.

    The network sees each image as a whole and in its own shape, also one that was trained on patches or on one size.
    An endpoint that is a vector already has one region. The whitening is learned on the regions of the training images,
    which are another set's. ``Score.metrics``: map in percent; of revisited sets map_easy, map_medium, map_hard;
    precision10 likewise (``average_precision.precision_at``). ``extra``: ap {measure: [percent of each query, None for
    one without positives]}, precision {measure: {k: percent}}. Nothing is chosen; the seed changes nothing.
    """

    labels = "queries"
    reads_features = False

    size: int | None = None
    """Length of the longer side that images are resized to before a query's box is cut; 1024 in the paper; None: images
    as they are."""
    levels: int = 3
    """L, the number of sizes of regions."""
    whiten: bool = True
    """Off: regions are summed as they are."""
    dimension: int = 512
    """Most values that the whitening leaves."""

    def __post_init__(self):
        """InputError for values that cannot be."""
        require(self.size is None or self.size >= 8, f"instance_retrieval.size {self.size} must be at least 8 pixels")
        for name in ("levels", "dimension"):
            value = getattr(self, name)
            require(value >= 1, f"instance_retrieval.{name} {value} must be at least 1")

    @property
    def learns(self):
        """See Probe."""
        return self.whiten

    def measure(self, bench):
        """See Probe."""
        from revisit_ssl.evaluators.descriptors import Descriptors  # TensorFlow

        started = time.perf_counter()
        database = bench.images("test")
        queries = database.queries
        what = "no queries; take a set such as toy_instances, oxford5k or retrieval:/path"
        require(queries is not None, f"instance_retrieval: {database.name} {database.split} has {what}")
        descriptors = Descriptors(bench, self.size, self.levels)
        if self.whiten:
            descriptors.learn(bench.images("train"), self.dimension)
        stored = descriptors.vectors(database)
        asked = descriptors.vectors(queries.source, queries.boxes, queries.names)
        for name in bench.endpoints:
            similarity = asked[name] @ stored[name].T
            yield self.score(similarity, queries, time.perf_counter() - started).of(name)

    def score(self, similarity, queries, seconds=0.0):
        """Score of the similarity [Q, N] of queries and database; ``queries``: data.queries.Queries."""
        metrics, extra = {}, {"ap": {}, "precision": {}}
        for measure, (right, junk) in queries.measures.items():
            listed = queries.listed[:, right].sum(axis=1)
            found = retrieval_map(
                similarity, queries.relation, right, junk, listed=listed, precision_ranks=PRECISION_RANKS
            )
            require(np.isfinite(found["map"]), f"instance_retrieval: no query has an image that answers it ({measure})")
            ending = measure.removeprefix("map")
            at_ten = {} if np.isnan(found["precision"][10]) else {f"precision10{ending}": 100 * found["precision"][10]}
            metrics |= {measure: 100 * found["map"]} | at_ten
            extra["ap"][measure] = [percent(ap) for ap in found["ap"]]
            extra["precision"][measure] = {k: percent(value) for k, value in found["precision"].items()}
        return Score(metrics=metrics, hyperparameters=self.options(), seconds=seconds, extra=extra)


def percent(share):
    """Rounded percent, None for nan."""
    return None if np.isnan(share) else round(100 * float(share), 3)
