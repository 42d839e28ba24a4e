"""Weighted nearest neighbours by cosine similarity (InstDisc, arXiv:1805.01978, section 3.4; CLD `test.py` kNN)."""

import time
from dataclasses import dataclass

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import Probe, Score, accuracies, check_splits, topk_percent


@dataclass(frozen=True, kw_only=True)
class KNN(Probe):
    """The k nearest training rows vote for their class with exp(cosine / temperature); nothing is trained or chosen.

    ``Score.extra``: val_top1 (if there is a val); note, where k had to be cut to the size of the gallery.
    """

    neighbours: int = 200
    """k; the number of training rows where that is smaller."""
    temperature: float = 0.1
    """sigma; at least 0.002, below which exp(1 / sigma) overflows. The CLD scripts take that of the instance loss."""

    def __post_init__(self):
        """InputError for values that cannot be."""
        require(self.neighbours >= 1, f"knn.neighbours {self.neighbours} must be at least 1")
        require(self.temperature >= 0.002, f"knn.temperature {self.temperature} must be at least 0.002")

    def measure(self, bench):
        """See Probe; the seed changes nothing."""
        for endpoint in bench.endpoints:
            yield self.score(*bench.three(endpoint), num_classes=bench.num_classes).of(endpoint)

    def score(self, train, val, test, *, num_classes):
        """Score of FeatureSplits; ``val`` may be None."""
        from revisit_ssl.features.neighbours import class_scores  # TensorFlow

        started = time.perf_counter()
        train, *scored = check_splits([s for s in (train, val, test) if s is not None], num_classes)
        k = min(self.neighbours, len(train.features))
        extra = {}
        if k < self.neighbours:
            extra["note"] = f"{self.neighbours} neighbours cut to the {k} training rows"
        scores = [
            class_scores(s.features, train.features, train.labels, num_classes, k, self.temperature) for s in scored
        ]
        if val is not None:
            extra["val_top1"] = topk_percent(scores[0], scored[0].labels, 1)
        return Score(
            **accuracies(scores[-1], scored[-1].labels),
            hyperparameters=self.options() | {"neighbours": k},
            seconds=time.perf_counter() - started,
            extra=extra,
        )
