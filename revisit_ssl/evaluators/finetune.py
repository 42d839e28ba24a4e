"""Semi-supervised fine-tuning of a copy of the network (CLD supplement, section 5, and OpenSelfSup's benchmark; OBoW
supplement, C.4)."""

import time
from dataclasses import asdict, dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.data import EvalView, steps_per_epoch, train_batches
from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import ImageProbe, ProbeScore, accuracies, check_labels, topk_percent
from revisit_ssl.features.checks import check_endpoints, check_frozen
from revisit_ssl.features.extract import padded_batches, use_xla
from revisit_ssl.features.representation import check_input
from revisit_ssl.views import draws
from revisit_ssl.views.crops import CropSpec, cut
from revisit_ssl.views.geometry import random_flip
from revisit_ssl.views.pixels import to_float

ENDPOINT = "pre_logits"


@dataclass(frozen=True, kw_only=True)
class Finetune(ImageProbe):
    """The heads dropped, a linear layer on pre_logits, all weights trained on the few labels there are.

    The labels are those of the recipe's probe_fraction, 1 % or 10 %, with probe_balanced as in the paper. Random
    resized crops and flips, softmax cross entropy, PyTorch's momentum SGD with L2 on every variable, batch
    normalisation in training mode. (lr, multiplier of the new layer's lr) is chosen on val. The network that is
    probed is the same to the bit afterwards; whatever endpoints are asked for, the score is of pre_logits.
    ``ProbeScore.extra``: val_top1; val_top1_by_candidate {"lr 0.01, head x100": percent}.
    """

    size: int = 224
    """Side of the crop in pixels."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's share of the image area."""
    eval_view: EvalView | None = None
    """What is scored on val and test; None: a shorter side of 8/7 ``size``, then the centre."""
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
    decay_at: tuple[float, ...] = (0.6, 0.8)
    """Shares of the length after which the rate falls; epochs 12 and 16 of 20."""
    factor: float = 0.2
    """What a drop multiplies the rate with."""
    momentum: float = 0.9
    """Of the SGD: m <- momentum m + g + weight_decay w, w <- w - lr m."""
    weight_decay: float = 1e-4
    """L2 of every variable. Disputed: CLD's supplement 1e-4, OpenSelfSup's configurations 5e-4."""
    eval_batch_size: int = 256
    """Images per step in evaluation."""

    @classmethod
    def paper(cls):
        """The pair that the supplement found best for every method, lr 0.01 and 100 times that; nothing is chosen."""
        return cls(learning_rates=(0.01,), head_multipliers=(100.0,))

    @classmethod
    def obow(cls):
        """OBoW's for 10 % of the labels: lr 2e-4, 0.5 for the new layer, no L2. For 1 % it takes 40 epochs."""
        return cls(learning_rates=(2e-4,), head_multipliers=(2500.0,), weight_decay=0.0)

    @property
    def passes(self):
        """Forward passes over the training images, for plans: a backward pass costs two."""
        rates, multipliers = len(self.learning_rates), len(self.head_multipliers)
        fits = rates * multipliers if self.search == "grid" else rates + multipliers - 1
        return 3 * self.epochs * fits

    def __call__(self, backbone, train, val, test, *, endpoints, network_input, num_classes, seed=0):
        """See ImageProbe."""
        started = time.perf_counter()
        require(self.learning_rates and self.head_multipliers, "finetune: give at least one lr and one multiplier")
        require(self.epochs >= 1, f"finetune: {self.epochs} epochs; expected at least 1")
        check_frozen(backbone)
        check_endpoints(backbone, (ENDPOINT,))
        for source in (train, val, test):
            check_labels(source.labels, num_classes, f"{source.name} {source.split}")
        view = self.eval_view or EvalView(size=self.size, resize=round(self.size * 8 / 7), method="shorter_side")
        require(view.size == self.size, f"finetune: trained on {self.size} pixels, scored on {view.size}")
        check_input(backbone, network_input, self.size)
        batch_size = min(self.batch_size, train.num_examples)
        network = Trained(backbone, network_input, num_classes, seed)
        step = self._step(network, seed)
        score = self._scorer(network, view, min(self.eval_batch_size, val.num_examples))
        found = {}  # {(lr, multiplier): percent on val}
        best = None  # values of the network that is best on val so far

        def fit(*candidate):
            nonlocal best
            if candidate not in found:
                network.restart()
                self._train(step, train, batch_size, *candidate, seed)
                top1 = topk_percent(score(val), val.labels, 1)
                best = network.values() if top1 > max(found.values(), default=-1.0) else best
                found[candidate] = top1
            return found[candidate]

        if self.search == "grid":
            for lr in self.learning_rates:
                for multiplier in self.head_multipliers:
                    fit(lr, multiplier)
        else:
            middle = self.head_multipliers[len(self.head_multipliers) // 2]
            lr = max(self.learning_rates, key=lambda lr: fit(lr, middle))
            for multiplier in self.head_multipliers:
                fit(lr, multiplier)
        (lr, multiplier), val_top1 = max(found.items(), key=lambda item: item[1])
        network.assign(best)
        scores = score(test)
        finite = np.isfinite(scores).all()
        require(finite, f"finetune: every candidate diverged ({len(found)} of them); give smaller learning rates")
        candidates = ("learning_rates", "head_multipliers")
        fixed = {k: v for k, v in asdict(self).items() if k not in candidates} | {"batch_size": batch_size}
        return {
            ENDPOINT: ProbeScore(
                **accuracies(scores, test.labels),
                hyperparameters=fixed | {"lr": lr, "head_multiplier": multiplier, "head_lr": lr * multiplier},
                seconds=time.perf_counter() - started,
                extra={
                    "val_top1": val_top1,
                    "val_top1_by_candidate": {f"lr {r:g}, head x{m:g}": top1 for (r, m), top1 in found.items()},
                },
            )
        }

    def _step(self, network, seed):
        """Function (images, labels, step int64, lr of the trunk, lr of the head): one step, in place."""
        spec, crops, mirrored = self._crop, draws.fold(seed, 2), draws.fold(seed, 3)

        @tf.function(jit_compile=use_xla())
        def step(images, labels, number, lr, head_lr):
            # In-memory sets come whole and are cut here; others were cut on the host, uint8 [B, 1, s, s, 3].
            if images.shape.rank == 4:
                images = cut(images, spec, draws.fold(crops, number))[:, 0]
            else:
                images = to_float(images[:, 0])
            images = random_flip(images, draws.fold(mirrored, number))
            with tf.GradientTape() as tape:
                logits = network.logits(images, training=True)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            rates = [lr] * len(network.trunk) + [head_lr] * len(network.head)
            variables = network.trunk + network.head
            gradients = tape.gradient(loss, variables)
            for w, m, g, rate in zip(variables, network.velocities, gradients, rates, strict=True):
                m.assign(self.momentum * m + g + self.weight_decay * w)
                w.assign_sub(rate * m)

        return step

    @property
    def _crop(self):
        return CropSpec(method="resized", size=self.size, scale=self.scale)

    def _train(self, step, source, batch_size, lr, multiplier, seed):
        """One candidate from the network as it is, ``epochs`` long; every candidate sees the same images."""
        per_epoch = steps_per_epoch(source, batch_size)
        batches = iter(train_batches(source, batch_size=batch_size, crops={"crop": self._crop}, seed=seed))
        drops = [round(share * self.epochs, 6) for share in self.decay_at]
        for epoch in range(self.epochs):
            rate = lr * self.factor ** sum(epoch >= drop for drop in drops)
            rates = tf.constant(rate, tf.float32), tf.constant(rate * multiplier, tf.float32)
            for i in range(per_epoch):
                batch = next(batches)
                images = batch["crop"] if "crop" in batch else batch["image"]
                step(images, batch["label"], tf.constant(epoch * per_epoch + i, tf.int64), *rates)

    def _scorer(self, network, view, batch_size):
        """Function: a source -> logits [N, C] of the present network on the images that ``view`` gives."""

        @tf.function(jit_compile=use_xla())
        def logits(images):
            return network.logits(to_float(images), training=False)

        def score(source):
            parts = [logits(images).numpy()[:n] for images, n in padded_batches(source, batch_size, view)]
            return np.concatenate(parts)

        return score


class Trained:
    """A trainable copy of a network up to pre_logits, and a linear layer on it; starts anew for each candidate.

    Attributes:
        trunk, head: tf.Variables that are trained.
        velocities: those of the SGD, in the order of trunk, then head.
    """

    def __init__(self, backbone, network_input, num_classes, seed):
        whole = keras.Model(backbone.input, {ENDPOINT: backbone.output[ENDPOINT]})  # without the heads
        self.network = keras.models.clone_model(whole)
        # Not network.trainable = True: a clone's layers are frozen like the originals', and Keras does not tell them.
        for layer in self.network._flatten_layers():
            layer.trainable = True
        self.network_input = network_input
        width = whole.output[ENDPOINT].shape[-1] * (network_input.rows if network_input.combine == "concat" else 1)
        key = draws.fold(seed, 1).key
        self.kernel = tf.Variable(tf.random.stateless_normal([width, num_classes], key, stddev=0.01))
        self.bias = tf.Variable(tf.zeros([num_classes]))
        self.trunk = [v.value for v in self.network.trainable_variables]
        self.head = [self.kernel, self.bias]
        self.velocities = [tf.Variable(tf.zeros_like(v)) for v in self.trunk + self.head]
        self.start = [v.numpy() for v in whole.weights], [v.numpy() for v in self.head]
        self.restart()

    def logits(self, images, training):
        """float images [B, s, s, 3] in [0, 1] -> float32 [B, C]"""
        values = self.network(self.network_input.prepare(images), training=training)[ENDPOINT]
        return tf.matmul(self.network_input.join(tf.cast(values, tf.float32)), self.kernel) + self.bias

    def restart(self):
        """The probed network's weights and statistics, the first head, no velocity."""
        self.assign(self.start)
        for v in self.velocities:
            v.assign(tf.zeros_like(v))

    def values(self):
        """What ``assign`` takes."""
        return [w.numpy() for w in self.network.weights], [v.numpy() for v in self.head]

    def assign(self, values):
        for own, given in zip((self.network.weights, self.head), values, strict=True):
            for v, value in zip(own, given, strict=True):
                v.assign(value)
