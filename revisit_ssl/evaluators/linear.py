"""Linear classifier by momentum SGD on cached features (P section 4.7; spec D.2 without its augmentation)."""

import time
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import (
    Probe,
    Score,
    Standardizer,
    accuracies,
    check_schedule,
    check_splits,
    topk_percent,
)
from revisit_ssl.features.checks import blocks


@dataclass(frozen=True, kw_only=True)
class Linear(Probe):
    """One dense layer with bias, softmax cross entropy; (lr, epochs) chosen on val.

    ``Score.extra``: val_top1; val_top1_by_candidate {"lr 0.1, 30 epochs": percent}; curve [[epoch, percent on
    val]] of the chosen candidate.
    """

    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    """Candidates, for 256 images; used times batch_size / 256. At equal accuracy on val the first wins."""
    scale_lr: bool = True
    """Off: they are used as they are, which is all that the text says of its 0.1; supplement and code scale."""
    epochs: tuple[int, ...] = (10, 30)
    """Candidates for the length."""
    decay_at: tuple[float, ...] = (3 / 7, 5 / 7)
    """Shares of the length after which the rate falls to a tenth; the paper's 30 / 50 / 70 epochs."""
    schedule: tuple[int, ...] | None = None
    """Instead of both: epochs of the decays and the end, such as 30 50 70, 120 140 160 or 480 500 520."""
    batch_size: int = 256
    """Rows per step; the number of training rows where that is smaller."""
    momentum: float = 0.9
    """Of the SGD."""
    standardize: bool = True
    """Features to zero mean and unit deviation over the training split, so that one grid of rates serves all layers."""
    weight_decay: float = 0.0
    """L2 of the layer, its bias included."""
    flip: bool = False
    """Each time that a training image comes, its features or those of the mirrored image, drawn."""
    start: Literal["glorot", "normal"] = "glorot"
    """Initial weights: Glorot-uniform, or normal with deviation 0.01; the bias is 0."""

    def __post_init__(self):
        """InputError for values that cannot be."""
        rates = self.learning_rates
        require(rates and min(rates) > 0, f"linear.learning_rates {rates}: one or more numbers above 0")
        require(self.epochs and min(self.epochs) >= 1, f"linear.epochs {self.epochs}: one or more numbers from 1 up")
        require(self.batch_size >= 1, f"linear.batch_size {self.batch_size} must be at least 1")
        require(0 <= self.weight_decay < float("inf"), f"linear.weight_decay {self.weight_decay} must be from 0 up")
        if self.schedule is not None:
            check_schedule("linear", self.schedule)

    @property
    def chooses(self):
        """See ProbeOptions."""
        return len(self.learning_rates) * (1 if self.schedule else len(self.epochs)) > 1

    def measure(self, bench):
        """See Probe."""
        for endpoint in bench.endpoints:
            train = bench.split("train", endpoint, mirrored=self.flip)
            val, test = bench.split("val", endpoint), bench.split("test", endpoint)
            yield self.score(train, val, test, num_classes=bench.num_classes, seed=bench.seed).of(endpoint)

    def score(self, train, val, test, *, num_classes, seed=0):
        """Score of FeatureSplits."""
        if self.schedule is not None:
            *drops, end = self.schedule
            plain = replace(self, schedule=None, epochs=(end,), decay_at=tuple(drop / end for drop in drops))
            found = plain.score(train, val, test, num_classes=num_classes, seed=seed)
            return replace(found, hyperparameters=found.hyperparameters | {"schedule": self.schedule})
        started = time.perf_counter()
        train, val, test = check_splits((train, val, test), num_classes)
        mirrors = train.mirrored is not None or not self.flip
        require(mirrors, f"linear: flip needs features of the mirrored images, and {train.name} has none")
        standardizer = Standardizer.fit(train.features, self.standardize)
        batch_size = min(self.batch_size, len(train.features))
        found = []  # (lr, epochs, curve on val, kernel [d, C], bias [C])
        for epochs in self.epochs:
            kernels, biases, curves = self._train(train, val, standardizer, num_classes, batch_size, epochs, seed)
            for lr, kernel, bias, curve in zip(self.learning_rates, kernels, biases, curves, strict=True):
                found.append((lr, epochs, curve, kernel, bias))
        lr, epochs, curve, kernel, bias = max(found, key=lambda f: f[2][-1][1])
        require(
            np.isfinite(kernel).all(),
            f"linear: every learning rate of {self.learning_rates} diverged; give smaller ones",
        )
        scores = _scores(test.features, standardizer, kernel, bias)
        return Score(
            **accuracies(scores, test.labels),
            hyperparameters=self.options("learning_rates", "epochs", "schedule")
            | {"lr": lr, "epochs": epochs, "batch_size": batch_size},
            seconds=time.perf_counter() - started,
            extra={
                "val_top1": curve[-1][1],
                "val_top1_by_candidate": {f"lr {f[0]:g}, {f[1]} epochs": f[2][-1][1] for f in found},
                "curve": curve,
            },
        )

    def _train(self, train, val, standardizer, num_classes, batch_size, epochs, seed):
        """Kernels [G, d, C], biases [G, C] and curves [[epoch, percent on val]], one per learning rate."""
        import tensorflow as tf

        from revisit_ssl.evaluators.sgd import Descent, curve_epochs, glorot, normal, train_candidates
        from revisit_ssl.views import draws

        count = len(self.learning_rates)
        shape, key = [train.features.shape[1], num_classes], draws.as_seed(seed).key
        initial = glorot(key, [count, *shape]) if self.start == "glorot" else normal(key, [count, *shape])
        kernels = tf.Variable(initial)
        biases = tf.Variable(tf.zeros([count, num_classes]))

        def loss(x, labels, step):
            logits = tf.matmul(x, kernels) + biases[:, None]  # [G, B, C]
            labels = tf.tile(labels[None], [count, 1])
            return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), axis=1)

        drops = [round(share * epochs, 6) for share in self.decay_at]
        looks = curve_epochs((*drops, epochs), len(train.features), len(val.features))
        curves = [[] for _ in self.learning_rates]

        def watch(epoch):
            if epoch in looks:
                # One product for all candidates: [N, G * C].
                side_by_side = np.concatenate(kernels.numpy(), axis=1)
                scores = _scores(val.features, standardizer, side_by_side, biases.numpy().ravel())
                for own, curve in zip(np.split(scores, count, axis=1), curves, strict=True):
                    curve.append([epoch, topk_percent(own, val.labels, 1)])

        descent = Descent(
            rates=[lr * (batch_size / 256 if self.scale_lr else 1) for lr in self.learning_rates],
            batch_size=batch_size, epochs=epochs, decay_epochs=drops, momentum=self.momentum, seed=seed,
            weight_decay=self.weight_decay,
        )
        mirrored = train.mirrored if self.flip else None
        train_candidates(
            train.features, train.labels, standardizer, [kernels, biases], loss, descent, mirrored=mirrored, watch=watch
        )
        return kernels.numpy(), biases.numpy(), curves


def _scores(features, standardizer, kernel, bias):
    with np.errstate(over="ignore", invalid="ignore"):  # a candidate may have diverged; its scores then count as wrong
        return np.concatenate([standardizer(block) @ kernel + bias for _, block in blocks(features)])
