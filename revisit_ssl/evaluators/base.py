"""What every probe shares: its interface, its score, its checks, top-k accuracy, the standardiser.

A probe is a frozen dataclass of hyper-parameters only; data go to ``measure``, through a ``Bench``. What a probe is
free to choose it chooses on the validation split, or by cross-validation; the test split is scored once. The backbone
is frozen and the same to the bit afterwards: a probe that trains the network trains a copy.
"""

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.features.checks import blocks, check_finite, check_labels
from revisit_ssl.recipe import ProbeOptions


@dataclass(frozen=True)
class FeatureSplit:
    """Features of one split at one endpoint.

    Attributes:
        features: float32 [N, d], an array or a memory map; probes read it in blocks.
        labels: integers [N] in [0, num_classes); or [N, C], 1 present, 0 absent, -1 difficult (``multi_labels``).
        name: what error messages call it; the endpoint, as a rule.
        mirrored: the same of the mirrored images, where a probe asks for them, else None.
    """

    features: np.ndarray
    labels: np.ndarray
    name: str = "features"
    mirrored: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a probe found of one endpoint.

    Attributes:
        top1, top5: percent of the test split. top5 is None where there are fewer than 5 classes, both where the probe
            measures something else.
        metrics: {name: value} of what else it measures on the test split, such as "recall1" in percent.
        per_class: percent of the test images of each class, [num_classes], None for a class without any; or None.
        hyperparameters: what was used, the chosen values among them.
        seconds: wall time of everything the probe did, choosing included.
        converged: the optimiser's own word; None where it has none (SGD, kNN).
        extra: further facts; "val_top1" (percent) beside every top1, others as the probe's docstring says.
        endpoint: whose features they are.
        variant: what follows the probe's name where it gives several scores of an endpoint, as in lbfgs_paper.
    """

    hyperparameters: dict
    seconds: float
    top1: float | None = None
    top5: float | None = None
    metrics: dict = field(default_factory=dict)
    per_class: list | None = None
    converged: bool | None = None
    extra: dict = field(default_factory=dict)
    endpoint: str = ""
    variant: str = ""

    def of(self, endpoint):
        """The same score, said to be of that endpoint."""
        return dataclasses.replace(self, endpoint=endpoint)


@dataclass(frozen=True, kw_only=True)
class Probe(ProbeOptions):
    """Base of all probes: hyper-parameters as fields, and ``measure``.

    To add one: a file with such a dataclass, and a line in PROBES. Its fields are its flags (``--knn.temperature``) and
    its entry in recipe.json; bad values are refused in ``__post_init__``. TensorFlow is imported where it measures, so
    that the command line's help need not wait for it. ``testing.check_probe`` says what it has to keep.
    """

    labels = "one"
    """Labels that it needs of an image: "one", "several" (``Source.multi_labels``), "queries" to the test images
    instead of labels (``Source.queries``), or "boxes" (``detection.sources.BoxSource``)."""
    learns = True
    """Whether training images are looked at; only one with ``labels`` "queries" may do without."""
    reads_features = True
    """Whether it asks the bench for features, which are then extracted and stored, or only for images."""
    stages = False
    """Whether it wants a network of five stages (``features.stages``), whatever the endpoints."""
    quick = {}
    """Fields that make it fit for a few small images, where the defaults would take long."""

    @property
    def passes(self):
        """How often the training images go through the network besides the extraction of features, for plans."""
        return 0

    def check(self, sources):
        """InputError for {split: Source} that it cannot use, as far as that can be known without features."""

    def measure(self, bench):
        """Yields a Score for each of ``bench.endpoints``, or as many as it has to say.

        Args:
            bench: Bench.

        Raises:
            InputError: features that are not finite (not looked for in read-only memory maps: ``extract_features`` has
                done it) or not [N, d], labels that are missing or not in [0, num_classes), an unknown endpoint, images
                of a wrong size.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it measures")

    def options(self, *left_out):
        """{field: value} of its fields but those: what the hyper-parameters of its scores start from."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in left_out}


def check_splits(splits, num_classes):
    """The splits with int64 labels, after all checks that every probe of one label makes (``Probe.measure``)."""
    widths = {split.features.shape[1:] for split in splits}
    require(len(widths) == 1, f"the splits of {splits[0].name} have features of different shapes: {sorted(widths)}")
    checked = []
    for split in splits:
        features, name = split.features, split.name
        require(features.ndim == 2, f"{name} has shape {list(features.shape)}; a probe expects [images, values]")
        labels = check_labels(split.labels, num_classes, name)
        require(len(labels) == len(features), f"{name} has {len(features)} rows and {len(labels)} labels")
        _check_rows(features, name)
        if split.mirrored is not None:
            shapes = list(features.shape), list(split.mirrored.shape)
            require(shapes[0] == shapes[1], f"{name} has {shapes[0]} features and {shapes[1]} of the mirrored images")
            _check_rows(split.mirrored, f"{name}, mirrored")
        checked.append(dataclasses.replace(split, labels=labels))
    return checked


def check_multi_label_splits(splits, num_classes):
    """The checks that every probe of several labels makes of its FeatureSplits."""
    for split in splits:
        features, labels, name = split.features, np.asarray(split.labels), split.name
        require(features.ndim == 2, f"{name} has shape {list(features.shape)}; a probe expects [images, values]")
        fits = labels.shape == (len(features), num_classes)
        require(fits, f"{name} has {len(features)} rows of {num_classes} classes and labels {list(labels.shape)}")
        require(np.isin(labels, (-1, 0, 1)).all(), f"labels of {name} must be 1 (present), 0 (absent), -1 (difficult)")
        _check_rows(features, name)


def _check_rows(features, name):
    # Read-only memory maps come from extract_features, which checked every batch; another pass takes minutes.
    if not isinstance(features, np.memmap) or features.flags.writeable:
        check_finite(features, name)


def check_schedule(name, schedule):
    """InputError unless the epochs of the drops and of the end ascend, the end being above 0."""
    ascend = len(schedule) > 0 and schedule[0] >= 0 and list(schedule) == sorted(schedule) and schedule[-1] > 0
    require(ascend, f"{name}.schedule {schedule}: epochs must ascend")


def topk_percent(scores, labels, k, above=-np.inf):
    """Percent of rows whose label is among the k highest scores; ties go to the lower class, as argmax has it.

    Counting a tie as a hit would give a collapsed network (all scores equal) 100 %.

    Args:
        scores: [N, C]; a row that is not finite counts as wrong.
        labels: int [N].
        k: at least 1.
        above: a label with this score or a lower one is no hit whatever its rank: no votes are no guess.

    Returns:
        float in [0, 100], or None for k > C: top-5 of fewer than 5 classes says nothing.
    """
    scores = np.asarray(scores)
    if k > scores.shape[1]:
        return None
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    earlier = np.arange(scores.shape[1]) < labels[:, None]
    rank = (scores > own).sum(axis=1) + ((scores == own) & earlier).sum(axis=1)
    hits = (rank < k) & (own[:, 0] > above)
    return float(100.0 * np.mean(hits & np.isfinite(scores).all(axis=1)))


def accuracies(scores, labels, above=-np.inf):
    """{"top1", "top5", "per_class"} of a Score, from class scores [N, C] and int labels [N]; see topk_percent."""
    return {
        "top1": topk_percent(scores, labels, 1, above),
        "top5": topk_percent(scores, labels, 5, above),
        "per_class": [
            topk_percent(scores[labels == c], labels[labels == c], 1, above) if (labels == c).any() else None
            for c in range(scores.shape[1])
        ],
    }


def class_groups(counts):
    """Classes by their number of training images: ImageNet-LT's many, medium and few (CLD main_lincls.py).

    Args:
        counts: int [C], training images of each class.

    Returns:
        {"many": classes with at least 100, "medium": 21 to 99, "few": at most 20}, int arrays, without empty groups;
        {} for a set that is not long-tailed: its largest class has less than ten times the images of its smallest.
    """
    counts = np.asarray(counts)
    if counts.max() < 10 * counts.min():
        return {}
    groups = {"many": counts >= 100, "medium": (counts > 20) & (counts < 100), "few": counts <= 20}
    return {name: np.flatnonzero(members) for name, members in groups.items() if members.any()}


@dataclass(frozen=True)
class Standardizer:
    """x -> (x - mean) * scale per feature, fitted on the training split alone."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, features, enabled=True):
        """Mean and 1 / population standard deviation, in float64; a constant feature becomes 0. The identity if not
        ``enabled``, so that callers need no second path."""
        width = features.shape[1]
        if not enabled:
            return cls(np.zeros(width, np.float32), np.ones(width, np.float32))
        total = sum(block.sum(axis=0, dtype=np.float64) for _, block in blocks(features))
        mean = total / len(features)
        # Two passes: the one-pass formula cancels when the mean is large beside the deviation.
        square = sum(np.square(block - mean).sum(axis=0) for _, block in blocks(features))
        deviation = np.sqrt(square / len(features))
        constant = deviation <= 1e-6 * np.abs(mean) + 1e-12
        scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))
        return cls(mean.astype(np.float32), scale.astype(np.float32))

    def __call__(self, block):
        """float32 [n, d] -> float32 [n, d], array or tensor."""
        return (block - self.mean) * self.scale
