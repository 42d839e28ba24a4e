"""Linear classifier by momentum SGD on cached features (P section 4.7; spec D.2 without its augmentation)."""

import time
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import tensorflow as tf

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import FeatureProbe, ProbeScore, Standardizer, accuracies, check_splits, topk_percent
from revisit_ssl.evaluators.sgd import curve_epochs, glorot, normal, train_candidates
from revisit_ssl.features.checks import blocks
from revisit_ssl.views import draws


@dataclass(frozen=True, kw_only=True)
class Linear(FeatureProbe):
    """One dense layer with bias, softmax cross entropy; (lr, epochs) chosen on val.

    ``ProbeScore.extra``: val_top1; val_top1_by_candidate {"lr 0.1, 30 epochs": percent}; curve [[epoch, percent on
    val]] of the chosen candidate.
    """

    learning_rates: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)
    """Candidates, for 256 images; used times batch_size / 256. At equal accuracy on val the first wins."""
    scale_lr: bool = True
    """Off: they are used as they are."""
    epochs: tuple[int, ...] = (10, 30)
    """Candidates for the length."""
    decay_at: tuple[float, ...] = (3 / 7, 5 / 7)
    """Shares of the length after which the rate falls to a tenth; the paper's 30 / 50 / 70 epochs."""
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

    @classmethod
    def paper(cls):
        """lr 0.1 * B / 256, B 2048, 520 epochs, raw features: the paper's numbers, on features without augmentation."""
        return cls(
            learning_rates=(0.1,), epochs=(520,), decay_at=(480 / 520, 500 / 520), batch_size=2048, standardize=False
        )

    @classmethod
    def obow(cls):
        """OBoW's on a part of ImageNet: lr 10, a tenth after 15, 30 and 45 of 50 epochs, L2, raw features, flips."""
        return cls(
            learning_rates=(10.0,), epochs=(50,), decay_at=(0.3, 0.6, 0.9), standardize=False, weight_decay=2e-6,
            flip=True, start="normal",
        )  # fmt: skip

    def __call__(self, train, val, test, *, num_classes, seed=0):
        """See FeatureProbe."""
        require(len(self.learning_rates) > 0 and len(self.epochs) > 0, "linear: give at least one lr and one length")
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
        fixed = {k: v for k, v in asdict(self).items() if k not in ("learning_rates", "epochs")}
        return ProbeScore(
            **accuracies(scores, test.labels),
            hyperparameters=fixed | {"lr": lr, "epochs": epochs, "batch_size": batch_size},
            seconds=time.perf_counter() - started,
            extra={
                "val_top1": curve[-1][1],
                "val_top1_by_candidate": {f"lr {f[0]:g}, {f[1]} epochs": f[2][-1][1] for f in found},
                "curve": curve,
            },
        )

    def _train(self, train, val, standardizer, num_classes, batch_size, epochs, seed):
        """Kernels [G, d, C], biases [G, C] and curves [[epoch, percent on val]], one per learning rate."""
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

        train_candidates(
            train.features, train.labels, standardizer, [kernels, biases], loss,
            rates=[lr * (batch_size / 256 if self.scale_lr else 1) for lr in self.learning_rates],
            batch_size=batch_size, epochs=epochs, decay_epochs=drops, momentum=self.momentum, seed=seed, watch=watch,
            weight_decay=self.weight_decay, mirrored=train.mirrored if self.flip else None,
        )  # fmt: skip
        return kernels.numpy(), biases.numpy(), curves


def _scores(features, standardizer, kernel, bias):
    with np.errstate(over="ignore", invalid="ignore"):  # a candidate may have diverged; its scores then count as wrong
        return np.concatenate([standardizer(block) @ kernel + bias for _, block in blocks(features)])
