"""Fine-tuning of a copy of the network on labels: on few (CLD supplement, section 5, and OpenSelfSup's benchmark; OBoW
supplement, C.4), or on all of ImageNet from a pretrained start (DeeperCluster supplement, section 3)."""

import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import Probe, Score, accuracies, topk_percent
from revisit_ssl.features.checks import check_labels


@dataclass(frozen=True, kw_only=True)
class Finetune(Probe):
    """The heads dropped, a linear layer on pre_logits, all weights trained on the few labels there are.

    The labels are those of the bench: 1 % or 10 %, class by class in the paper. Random resized crops and flips, softmax
    cross entropy, PyTorch's momentum SGD with L2 on every variable, batch normalisation in training mode. (lr,
    multiplier of the new layer's lr) is chosen on val. The network that is probed is the same to the bit afterwards;
    whatever endpoints are asked for, the score is of pre_logits, or with ``hidden`` layers of the deepest map.
    ``Score.extra``: val_top1; val_top1_by_candidate {"lr 0.01, head x100": percent}.
    """

    reads_features = False
    quick = {"batch_size": 48, "learning_rates": (0.1,), "head_multipliers": (100.0, 1000.0), "epochs": 6}

    scale: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's share of the image area."""
    batch_size: int = 256
    """Images per step; the number of training images where that is smaller."""
    learning_rates: tuple[float, ...] = (0.001, 0.01, 0.1)
    """Candidates, used as they are. The supplement prints 0.01 twice; OpenSelfSup has these."""
    head_multipliers: tuple[float, ...] = (1.0, 10.0, 100.0)
    """Candidates for what multiplies the rate of the new layer."""
    search: Literal["greedy", "grid"] = "greedy"
    """greedy: the rates with the middle multiplier, then the other multipliers with the best rate; grid: all pairs. The
    supplement says "greedy search" and no order. At equal accuracy on val the first wins."""
    epochs: int = 20
    """Length."""
    few_epochs: int | None = None
    """Length for up to 1 % of the labels, 40 in OBoW; None: the same. Also where they are a set of their own, such as
    imagenet2012_subset_1pct or a list of images."""
    decay_at: tuple[float, ...] = (0.6, 0.8)
    """Shares of the length after which the rate falls; epochs 12 and 16 of 20."""
    factor: float = 0.2
    """What a drop multiplies the rate with."""
    momentum: float = 0.9
    """Of the SGD: m <- momentum m + g + weight_decay w, w <- w - lr m."""
    weight_decay: float = 1e-4
    """L2 of every variable. Disputed: CLD's supplement 1e-4, OpenSelfSup's configurations 5e-4."""
    hidden: tuple[int, ...] = ()
    """Units of fully connected layers before the last one, which start anew on the deepest map, of at most 7 x 7 cells:
    4096 4096 are VGG's fc6 and fc7, kernels of deviation 0.01 and biases of 0.1; none: a linear layer on pre_logits."""
    dropout: float = 0.0
    """Share of the first hidden layer's values that are dropped in training."""
    endpoint: str | None = None
    """Layer that the new ones are put on instead."""
    fold_sobel: bool = False
    """A network that sees images by Sobel learns from their colours: Sobel becomes a part of conv1, equal at first."""
    eval_batch_size: int = 256
    """Images per step in evaluation."""

    def __post_init__(self):
        """InputError for values that cannot be."""
        for name in ("learning_rates", "head_multipliers"):
            given = getattr(self, name)
            require(given and min(given) > 0, f"finetune.{name} {given}: one or more numbers above 0")
        for name in ("epochs", "few_epochs", "batch_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"finetune.{name} {value} must be at least 1")
        decay = self.weight_decay
        require(0 <= decay < float("inf"), f"finetune.weight_decay {decay} must be a finite number from 0 up")
        require(min(self.hidden, default=1) >= 1, f"finetune.hidden {self.hidden}: units from 1 up, or none")
        require(0 <= self.dropout < 1, f"finetune.dropout {self.dropout} must lie in [0, 1)")

    @property
    def chooses(self):
        """See ProbeOptions."""
        return len(self.learning_rates) * len(self.head_multipliers) > 1

    @property
    def passes(self):
        """See Probe; a backward pass costs two forward ones."""
        rates, multipliers = len(self.learning_rates), len(self.head_multipliers)
        fits = rates * multipliers if self.search == "grid" else rates + multipliers - 1
        return 3 * self.epochs * fits

    def settled(self, task, labels=1.0):
        """See ProbeOptions: the length."""
        few = labels <= 0.01 and self.few_epochs is not None
        return replace(self, epochs=self.few_epochs, few_epochs=None) if few else self

    def length(self, bench):
        """Epochs on that bench."""
        return self.settled(bench.task, bench.label_share).epochs

    def measure(self, bench):
        """See Probe; one score."""
        from revisit_ssl.evaluators.tuning import Tuning  # TensorFlow

        started = time.perf_counter()
        train, val, test = (bench.images(split) for split in ("train", "val", "test"))
        for source in (train, val, test):
            check_labels(source.labels, bench.num_classes, f"{source.name} {source.split}")
        tuning = Tuning(self, bench)
        found = {}  # {(lr, multiplier): percent on val}
        best = None  # values of the network that is best on val so far

        def fit(*candidate):
            nonlocal best
            if candidate not in found:
                tuning.train(*candidate)
                top1 = topk_percent(tuning.score(val), val.labels, 1)
                best = tuning.network.values() if top1 > max(found.values(), default=-1.0) else best
                found[candidate] = top1
            return found[candidate]

        self._search(fit)
        (lr, multiplier), val_top1 = max(found.items(), key=lambda item: item[1])
        tuning.network.assign(best)
        scores = tuning.score(test)
        finite = np.isfinite(scores).all()
        require(finite, f"finetune: every candidate diverged ({len(found)} of them); give smaller learning rates")
        fixed = self.options("learning_rates", "head_multipliers", "few_epochs")
        fixed |= {"epochs": tuning.epochs, "batch_size": tuning.batch_size}
        fixed |= {"size": bench.view.size, "eval_view": bench.view.told}
        yield Score(
            **accuracies(scores, test.labels),
            hyperparameters=fixed | {"lr": lr, "head_multiplier": multiplier, "head_lr": lr * multiplier},
            seconds=time.perf_counter() - started,
            extra={
                "val_top1": val_top1,
                "val_top1_by_candidate": {f"lr {r:g}, head x{m:g}": top1 for (r, m), top1 in found.items()},
            },
            endpoint=tuning.network.endpoint,
        )

    def _search(self, fit):
        """Calls ``fit(lr, multiplier)``, which gives the accuracy on val, for the candidates that are tried."""
        if self.search == "grid":
            for lr in self.learning_rates:
                for multiplier in self.head_multipliers:
                    fit(lr, multiplier)
            return
        middle = self.head_multipliers[len(self.head_multipliers) // 2]
        lr = max(self.learning_rates, key=lambda lr: fit(lr, middle))
        for multiplier in self.head_multipliers:
            fit(lr, multiplier)
