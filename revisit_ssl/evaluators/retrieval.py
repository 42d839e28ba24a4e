"""Whether the images nearest to an image are of its class: recall at k within the test split (CLD supplement 7)."""

import time
from dataclasses import dataclass

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import Probe, Score, check_splits


@dataclass(frozen=True, kw_only=True)
class Retrieval(Probe):
    """Each test image looks for its nearest others by cosine; a hit at k where one of the first k has its class.

    CLD takes it for the mutual information nearby, beside NMI, that at large. Nothing is trained or chosen.
    ``Score.metrics``: recall1, recall5, recall10, in percent. An image that is alone in its class is a miss. The
    paper does not say what it retrieves from; the test split without the query is our choice.
    """

    ranks: tuple[int, ...] = (1, 5, 10)
    """The k's."""

    def __post_init__(self):
        """InputError for ranks below 1."""
        require(self.ranks and min(self.ranks) >= 1, f"retrieval.ranks {self.ranks}: numbers from 1 up")

    def measure(self, bench):
        """See Probe; only the test split is looked at, and the seed changes nothing."""
        for endpoint in bench.endpoints:
            yield self.score(bench.split("test", endpoint), num_classes=bench.num_classes).of(endpoint)

    def score(self, test, *, num_classes):
        """Score of a FeatureSplit."""
        started = time.perf_counter()
        (test,) = check_splits([test], num_classes)
        neighbours = nearest_others(test.features, max(self.ranks))
        return Score(
            metrics={f"recall{k}": recall(neighbours, test.labels, k) for k in self.ranks},
            hyperparameters=self.options(),
            seconds=time.perf_counter() - started,
        )


def nearest_others(features, k):
    """int64 [N, min(k, N - 1)]: the rows nearest to each row [N, d] by cosine, without itself, nearest first."""
    from revisit_ssl.features.neighbours import nearest  # TensorFlow

    k = min(k, len(features) - 1)
    _, rows = nearest(features, features, k + 1)
    own = rows == np.arange(len(rows))[:, None]
    # A row with many equals need not be among its own nearest: then the last one goes.
    own[~own.any(axis=1), -1] = True
    return rows[~own].reshape(len(rows), k)


def recall(neighbours, labels, k):
    """Percent of rows with one of their own label among the first k of ``neighbours`` [N, K]."""
    return float(100.0 * np.mean((labels[neighbours[:, :k]] == labels[:, None]).any(axis=1)))
