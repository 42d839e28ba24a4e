"""Few-shot classification of frozen features by cosine prototypes (OBoW supplement, C.2; obow/fewshot.py)."""

import functools
import importlib.resources
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import Probe, Score, check_splits


@dataclass(frozen=True, kw_only=True)
class FewShot(Probe):
    """Episodes of a few classes of the test split: some images of each are the support, others are to be told apart.

    The prototype of a class is the mean of its unit support features, made unit length; a query belongs to the class
    of the nearest one by cosine. Nothing is trained or chosen. ``Score.metrics``: few_shot_5way_1shot and so on,
    mean accuracy over the episodes in percent; ``extra``: standard_error {metric: of that mean}, classes: how many are
    drawn from. All networks and seeds get the same episodes.
    """

    ways: int = 5
    """Classes in an episode; 50 in the paper."""
    shots: tuple[int, ...] = (1, 5)
    """Support images of a class; one measurement each."""
    queries: int = 15
    """Images of a class to be classified in an episode. 1 in the paper: more expect the same and vary less."""
    episodes: int = 200
    """Of each measurement."""
    classes: Literal["all", "novel_1", "novel_2"] = "all"
    """Classes that episodes are drawn from. Disputed on ImageNet: the supplement says 300, novel_1 of the low-shot
    benchmark; the official code takes its 311 novel_2 when it only evaluates."""
    draw: int = 0
    """Seed of the episodes."""

    def __post_init__(self):
        """InputError for values that make no episode."""
        require(self.ways >= 2, f"few_shot.ways {self.ways}: an episode needs at least 2 classes")
        require(self.shots and min(self.shots) >= 1, f"few_shot.shots {self.shots}: numbers from 1 up")
        require(self.queries >= 1, f"few_shot.queries {self.queries} must be at least 1")
        require(self.episodes >= 2, f"few_shot.episodes {self.episodes}: their spread needs at least 2")

    def measure(self, bench):
        """See Probe; only the test split is looked at, and the seed changes nothing."""
        for endpoint in bench.endpoints:
            yield self.score(bench.split("test", endpoint), num_classes=bench.num_classes).of(endpoint)

    def check(self, sources):
        """See Probe: as many classes, and images of each, as an episode needs."""
        test = sources["test"]
        self._pool(test.labels, test.num_classes, f"{test.name} {test.split}")

    def score(self, test, *, num_classes):
        """Score of a FeatureSplit."""
        started = time.perf_counter()
        (test,) = check_splits([test], num_classes)
        pool = self._pool(test.labels, num_classes, test.name)
        rows = {c: np.flatnonzero(test.labels == c) for c in pool}
        metrics, errors = {}, {}
        for shots in self.shots:
            draw = np.random.default_rng([self.draw, shots])
            found = [self._episode(test.features, rows, pool, shots, draw) for _ in range(self.episodes)]
            name = f"few_shot_{self.ways}way_{shots}shot"
            metrics[name] = float(np.mean(found))
            errors[name] = round(float(np.std(found, ddof=1) / np.sqrt(len(found))), 3)
        return Score(
            metrics=metrics,
            hyperparameters=self.options(),
            seconds=time.perf_counter() - started,
            extra={"standard_error": errors, "classes": len(pool)},
        )

    def _pool(self, labels, num_classes, name):
        """The classes to draw from, int64 ascending, or an InputError that says what is missing."""
        pool = np.arange(num_classes)
        if self.classes != "all":
            whole = num_classes == 1000
            what = f"{self.classes} are classes of ImageNet's 1,000, and {name} has {num_classes}"
            require(whole, f"few_shot: {what}; set --few-shot.classes all")
            pool = low_shot_classes()[self.classes]
        enough = len(pool) >= self.ways
        require(enough, f"few_shot: {self.ways} ways of {name}, which has {len(pool)} classes; lower --few-shot.ways")
        counts, needed = np.bincount(labels[labels >= 0], minlength=num_classes)[pool], max(self.shots) + self.queries
        require(
            counts.min() >= needed,
            f"few_shot: class {pool[counts.argmin()]} of {name} has {counts.min()} images; an episode needs {needed} "
            f"({max(self.shots)} shots, {self.queries} queries), lower --few-shot.queries or take a larger split",
        )
        return pool

    def _episode(self, features, rows, pool, shots, draw):
        """Percent of the queries of one episode that go to their class."""
        chosen = draw.choice(pool, self.ways, replace=False)
        images = np.stack([draw.choice(rows[c], shots + self.queries, replace=False) for c in chosen])
        images, order = np.unique(images, return_inverse=True)  # a memory map is read in file order
        values = np.asarray(features[images], np.float64)[order.reshape(self.ways, -1)]
        support, queries = values[:, :shots].reshape(-1, values.shape[2]), values[:, shots:]
        means = prototypes(support, np.repeat(np.arange(self.ways), shots), self.ways)
        found = cosines(queries.reshape(-1, values.shape[2]), means).argmax(axis=1)
        return 100.0 * np.mean(found == np.repeat(np.arange(self.ways), self.queries))


def prototypes(support, labels, ways):
    """Means of the unit support features of each class: float [S, d], int [S] in [0, ways) -> float64 [ways, d].

    Every class needs a row; zero rows count as they are. Not yet unit length.
    """
    members = np.equal(np.arange(ways)[:, None], np.asarray(labels)).astype(np.float64)
    return members @ unit(support) / members.sum(axis=1, keepdims=True)


def cosines(queries, means):
    """float64 [Q, ways] of queries [Q, d] with prototypes [ways, d] of any length."""
    return unit(queries) @ unit(means).T


def unit(rows):
    """float64 rows divided by max(norm, 1e-12)."""
    rows = np.asarray(rows, np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


@functools.cache
def low_shot_classes():
    """{"novel_1": int [300], "novel_2": int [311]}, places among ImageNet's sorted WordNet numbers."""
    text = importlib.resources.files("revisit_ssl.data").joinpath("lists/low_shot_classes.txt").read_text()
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, numbers = line.split(":")
            found[name] = found.get(name, []) + [int(number) for number in numbers.split()]
    return {name: np.array(numbers) for name, numbers in found.items()}
