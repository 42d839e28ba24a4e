"""Classification on VOC 2007 with new fully connected layers (facebookresearch/DeeperCluster, eval_voc_classif.py)."""

import time
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.evaluators.average_precision import average_precision, eleven_point_ap, lowered
from revisit_ssl.evaluators.base import Probe, Score

ITERATIONS = 150_000


@dataclass(frozen=True, kw_only=True)
class VOCClassification(Probe):
    """fc6, fc7 and fc8 start anew on the deepest map of a copy of the network, and learn which classes an image shows.

    One sigmoid for each class, cross entropy summed over the classes and averaged over the images, momentum SGD on
    random resized crops and flips; batch normalisation always by its moving statistics, dropout on. A class of which an
    image has difficult objects alone counts neither in training nor in its test. ``Score.metrics``: map, the mean over
    the classes of scikit-learn's average precision with 1e-5 taken from the scores of positives, so that ties count
    against us, and map_11_point, VOC 2007's own; percent. ``extra``: ap, ap_11_point {class: percent}; left_out,
    classes without positives or negatives in the test; val_map_by_candidate {"lr 0.003": percent}, where several rates
    are given, which are trained on train, scored on val, and the best then trained on trainval.
    """

    # Deviation: each epoch has an order of its own; the authors shuffle once.
    labels = "several"
    reads_features = False
    quick = {"hidden": (), "batch_size": 48, "learning_rates": (0.3,), "share": 0.0008, "test_crops": "ten"}
    trunk: ClassVar[bool] = False
    """Whether the transferred layers are trained, too."""

    endpoint: str | None = None
    """Layer that the new ones are put on; None: the deepest map."""
    hidden: tuple[int, ...] = (256, 256)
    """Units of fc6 and fc7; 4096 each in the paper. A map of more than 7 x 7 cells is max-pooled to that before."""
    dropout: float = 0.5
    """Share of fc6's values that are dropped in training."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's share of the image area; 0.1 to 0.5 in DeepCluster."""
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    """Range of the crop's width / height; 1 in DeepCluster."""
    batch_size: int = 16
    """Images per step; the number of training images where that is smaller."""
    learning_rates: tuple[float, ...] = (0.003,)
    """Candidates, used as they are."""
    weight_decay: float = 1e-5
    """L2 of every variable that is trained."""
    momentum: float = 0.9
    """Of the SGD."""
    clip: float = 10.0
    """Largest norm of all gradients together, before L2."""
    drop_every: int = 20_000
    """Iterations, of 150,000, after which the rate falls."""
    factor: float = 0.5
    """What a drop multiplies the rate with."""
    share: float = 0.02
    """Of the 150,000 iterations, and of those between drops; 1 in the paper."""
    test_crops: Literal["random", "ten"] = "random"
    """random: the logits of ``crops`` crops drawn as in training are added; ten: of corners, centre and their mirror
    images, from the square of 8/7 of the size."""
    crops: int = 10
    """random: crops of a test image."""

    def __post_init__(self):
        """InputError for values that cannot be."""
        rates, name = self.learning_rates, type(self).__name__.lower().replace("voc", "voc_")
        require(rates and min(rates) > 0, f"{name}.learning_rates {rates}: one or more numbers above 0")
        require(min(self.hidden, default=1) >= 1, f"{name}.hidden {self.hidden}: units from 1 up, or none")
        require(0 <= self.dropout < 1, f"{name}.dropout {self.dropout} must lie in [0, 1)")
        require(0 < self.share <= 1, f"{name}.share {self.share} must lie in (0, 1]")
        for field in ("batch_size", "drop_every", "crops"):
            require(getattr(self, field) >= 1, f"{name}.{field} {getattr(self, field)} must be at least 1")
        require(self.clip > 0, f"{name}.clip {self.clip} must be above 0")

    @property
    def chooses(self):
        """See ProbeOptions."""
        return len(self.learning_rates) > 1

    @property
    def steps(self):
        """(iterations, those between two drops)"""
        return max(1, round(self.share * ITERATIONS)), max(1, round(self.share * self.drop_every))

    @property
    def passes(self):
        """See Probe; of the 5,011 images of VOC 2007, a backward pass as two forward ones."""
        return round((3 if self.trunk else 1) * self.steps[0] * self.batch_size / 5011)

    def measure(self, bench):
        """See Probe; one score."""
        from revisit_ssl.evaluators.multi_label import MultiLabel  # TensorFlow

        started = time.perf_counter()
        model, rates, on_val = MultiLabel(self, bench), self.learning_rates, {}
        if self.chooses:
            for lr in rates:
                model.train(bench.images("fit"), lr)
                on_val[lr] = self.precisions(model, bench, "val")[0]["map"]
        lr = max(rates, key=lambda rate: on_val.get(rate, 0.0))
        model.train(bench.images("train"), lr)
        metrics, extra = self.precisions(model, bench, "test")
        if on_val:
            extra["val_map_by_candidate"] = {f"lr {rate:g}": round(found, 3) for rate, found in on_val.items()}
        fixed = self.options("learning_rates", "endpoint") | {"lr": lr, "iterations": self.steps[0]}
        yield Score(
            metrics=metrics,
            hyperparameters=fixed | {"size": bench.view.size, "eval_view": bench.view.told},
            seconds=time.perf_counter() - started,
            extra=extra,
            endpoint=model.network.endpoint,
        )

    def precisions(self, model, bench, split):
        """({"map", "map_11_point"}, {"ap", "ap_11_point", "left_out"}) of the present network on a split."""
        scores, labels = model.scores(bench.images(split)), bench.labels(split)
        require(np.isfinite(scores).all(), f"voc classification diverged on {split}; give smaller learning rates")
        return precisions(scores, labels, bench.class_names)


@dataclass(frozen=True, kw_only=True)
class VOCFC68(VOCClassification):
    """See VOCClassification: the transferred layers stay as they are, their batch normalisation whole."""


@dataclass(frozen=True, kw_only=True)
class VOCAll(VOCClassification):
    """See VOCClassification: all layers are trained, scale and offset of batch normalisation too."""

    quick = VOCClassification.quick | {"learning_rates": (0.1,)}
    trunk: ClassVar[bool] = True

    weight_decay: float = 1e-4
    """L2 of every variable that is trained."""
    drop_every: int = 10_000
    """Iterations, of 150,000, after which the rate falls."""


def precisions(scores, labels, class_names):
    """Average precisions of multi-label scores in both flavours.

    Args:
        scores: float [N, C].
        labels: int [N, C]: 1 present, 0 absent, anything else is left out.
        class_names: C names.

    Returns:
        ({"map", "map_11_point"}: percent, means over the classes that can be measured, {"ap", "ap_11_point": {class:
        percent}, and "left_out": names, where there are any}).

    Raises:
        InputError: no class can be measured.
    """
    ap, eleven, left_out = {}, {}, []
    for c, name in enumerate(class_names):
        counted = np.isin(labels[:, c], (0, 1))
        present, own = labels[counted, c] == 1, scores[counted, c]
        if not present.any() or present.all():
            left_out.append(name)
            continue
        ap[name] = round(100 * average_precision(present, lowered(present, own)), 3)
        eleven[name] = round(100 * eleven_point_ap(present, own), 3)
    require(ap, "no class has an image that shows it and one that does not; the sample is too small")
    metrics = {"map": float(np.mean(list(ap.values()))), "map_11_point": float(np.mean(list(eleven.values())))}
    return metrics, {"ap": ap, "ap_11_point": eleven} | ({"left_out": left_out} if left_out else {})
