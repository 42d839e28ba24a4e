"""Weighted nearest neighbours by cosine similarity (InstDisc, arXiv:1805.01978, section 3.4; CLD `test.py` kNN)."""

import time
from dataclasses import asdict, dataclass

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import FeatureProbe, ProbeScore, accuracies, check_splits, topk_percent
from revisit_ssl.features.neighbours import class_scores


@dataclass(frozen=True, kw_only=True)
class KNN(FeatureProbe):
    """The k nearest training rows vote for their class with exp(cosine / temperature); nothing is trained or chosen.

    ``ProbeScore.extra``: val_top1 (if there is a val); note, where k had to be cut to the size of the gallery.
    """

    neighbours: int = 200
    """k; the number of training rows where that is smaller."""
    temperature: float = 0.1
    """sigma; at least 0.002, below which exp(1 / sigma) overflows."""

    def __call__(self, train, val, test, *, num_classes, seed=0):
        """See FeatureProbe. ``val`` may be None; ``seed`` changes nothing."""
        require(self.neighbours >= 1, f"knn: {self.neighbours} neighbours; expected at least 1")
        require(self.temperature >= 0.002, f"knn: temperature {self.temperature} must be at least 0.002")
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
        return ProbeScore(
            **accuracies(scores[-1], scored[-1].labels),
            hyperparameters=asdict(self) | {"neighbours": k},
            seconds=time.perf_counter() - started,
            extra=extra,
        )
