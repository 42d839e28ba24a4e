"""Weighted nearest neighbours by cosine similarity (InstDisc, arXiv:1805.01978, section 3.4; CLD `test.py` kNN)."""

import math
import time
from dataclasses import dataclass, replace

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import Probe, Score, accuracies, check_splits, topk_percent


@dataclass(frozen=True, kw_only=True)
class KNN(Probe):
    """The k nearest training rows vote for their class with exp(cosine / temperature); nothing is trained or chosen.

    ``Score.extra``: val_top1 (if there is a val); note, where k had to be cut to the size of the gallery.
    """

    neighbours: int = 200
    """k; the number of training rows where that is smaller."""
    temperature: float | None = None
    """sigma; at least 0.002, below which exp(1 / sigma) overflows. None: that of the run's instance loss, as in the CLD
    scripts, and 0.1 of a pretext that has none."""

    formerly = {"temperature": 0.1}

    def __post_init__(self):
        """InputError for values that cannot be."""
        require(self.neighbours >= 1, f"knn.neighbours {self.neighbours} must be at least 1")
        sigma = self.temperature
        if sigma is not None:
            require(math.isfinite(sigma), f"knn.temperature {sigma} must be a finite number")
            fits = sigma >= 0.002
            require(fits, f"knn.temperature {sigma} must be at least 0.002, as must an instance loss's that it follows")

    def settled(self, task, labels=1.0):
        """See ProbeOptions: sigma."""
        given = self.temperature is not None
        return self if given else replace(self, temperature=getattr(task, "temperature", 0.1))

    def measure(self, bench):
        """See Probe; the seed changes nothing."""
        probe = self.settled(bench.task)
        for endpoint in bench.endpoints:
            yield probe.score(*bench.three(endpoint), num_classes=bench.num_classes).of(endpoint)

    def score(self, train, val, test, *, num_classes):
        """Score of FeatureSplits; ``val`` may be None. Without a temperature sigma is 0.1."""
        from revisit_ssl.features.neighbours import class_scores  # TensorFlow

        started, sigma = time.perf_counter(), self.settled(None).temperature
        train, *scored = check_splits([s for s in (train, val, test) if s is not None], num_classes)
        k = min(self.neighbours, len(train.features))
        extra = {}
        if k < self.neighbours:
            extra["note"] = f"{self.neighbours} neighbours cut to the {k} training rows"
        scores = [
            class_scores(s.features, train.features, train.labels, num_classes, k, sigma) for s in scored
        ]
        if val is not None:
            extra["val_top1"] = topk_percent(scores[0], scored[0].labels, 1)
        # Deviation: the official code sorts classes without a vote, 0, behind the others and counts them in its top-5.
        return Score(
            **accuracies(scores[-1], scored[-1].labels, above=0.0),
            hyperparameters=self.options() | {"neighbours": k, "temperature": sigma},
            seconds=time.perf_counter() - started,
            extra=extra,
        )
