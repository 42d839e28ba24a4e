"""Linear classifiers on augmented images, the paper's SGD evaluation (P section 4.7, supplement 2; spec D.2)."""

import time
from dataclasses import asdict, dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.data import EvalView, steps_per_epoch, train_batches
from revisit_ssl.evaluators.base import (
    ImageProbe,
    ProbeScore,
    check_endpoints,
    check_finite,
    check_frozen,
    check_labels,
    topk_percent,
)
from revisit_ssl.evaluators.features import padded_batches, use_xla
from revisit_ssl.evaluators.representation import check_input, feature_widths, images_at_once, represent
from revisit_ssl.evaluators.sgd import curve_epochs, glorot
from revisit_ssl.recipe import require
from revisit_ssl.views import draws
from revisit_ssl.views.crops import CropSpec, cut, to_float


@dataclass(frozen=True, kw_only=True)
class LinearImages(ImageProbe):
    """One independent linear classifier on every endpoint, all trained in one pass over random crops.

    Dense layer with bias, Glorot start, softmax cross entropy, momentum SGD without warm-up and without weight decay.
    The defaults are the paper's and leave nothing to choose on val, which is only scored.
    ``ProbeScore.extra``: val_top1, val_top5, curve [[epoch, percent on val]]. ``seconds`` is the time of all endpoints
    together.
    """

    resize: int = 256
    """Shorter side of the image before the crop."""
    size: int = 224
    """Side of the crop: random in training (no flip, no colour), central in evaluation."""
    eval_view: EvalView | None = None
    """What is scored on val and test; None: the central crop. Disputed for the patch tasks: these have the official
    code's geometry in training (192 of 224) and the supplement's here (192 of 255 squashed)."""
    batch_size: int = 2048
    """Images per step; the number of training images where that is smaller."""
    lr: float = 0.1
    """For 256 images; used times batch_size / 256."""
    scale_lr: bool = True
    """Off: lr is used as it is."""
    schedule: tuple[int, int, int] = (480, 500, 520)
    """Epochs of the first and second drop to a tenth, and of the end; also 30 / 50 / 70 and 120 / 140 / 160."""
    momentum: float = 0.9
    """Of the SGD: m <- momentum m + g, w <- w - lr m."""
    max_values: int = 9000
    """Endpoints with more values are pooled."""
    pooling: Literal["max", "avg", "adaptive_max"] = "max"
    """See pooling.pool_endpoint."""
    eval_batch_size: int = 256
    """Images per step in evaluation."""

    def __call__(self, backbone, train, val, test, *, endpoints, network_input, num_classes, seed=0):
        """See ImageProbe."""
        started = time.perf_counter()
        check_frozen(backbone)
        check_endpoints(backbone, endpoints)
        for source in (train, val, test):
            check_labels(source.labels, num_classes, f"{source.name} {source.split}")
        view = self.eval_view or EvalView(size=self.size, resize=self.resize, method="shorter_side")
        require(view.size == self.size, f"linear_images: trained on {self.size} pixels, scored on {view.size}")
        check_input(backbone, network_input, self.size)
        features = self._features(backbone, endpoints, network_input)
        batch_size = min(self.batch_size, train.num_examples)
        heads = self._heads(features, num_classes, seed)
        score = self._scorer(features, heads, view, min(self.eval_batch_size, val.num_examples))
        looks = curve_epochs(self.schedule, train.num_examples, val.num_examples)
        curves, val_scores = {name: [] for name in endpoints}, {}

        def watch(epoch):
            if epoch in looks:
                val_scores.update(score(val))
                for name, curve in curves.items():
                    curve.append([epoch, topk_percent(val_scores[name], val.labels, 1)])

        self._train(features, heads, train, batch_size, seed, watch)
        scores = score(test)
        seconds = time.perf_counter() - started
        return {
            name: ProbeScore(
                top1=topk_percent(scores[name], test.labels, 1),
                top5=topk_percent(scores[name], test.labels, 5),
                hyperparameters=asdict(self) | {"batch_size": batch_size, "lr_used": self._rate(batch_size)},
                seconds=seconds,
                extra={
                    "val_top1": curves[name][-1][1],
                    "val_top5": topk_percent(val_scores[name], val.labels, 5),
                    "curve": curves[name],
                },
            )
            for name in endpoints
        }

    def _rate(self, batch_size):
        return self.lr * batch_size / 256 if self.scale_lr else self.lr

    def _heads(self, features_of, num_classes, seed):
        """{endpoint: (kernel [d, C], bias [C])}, variables."""
        traced = tf.function(features_of).get_concrete_function(tf.TensorSpec([1, self.size, self.size, 3]))
        heads, key = {}, draws.fold(seed, 1)
        for i, (name, output) in enumerate(traced.structured_outputs.items()):
            kernel = glorot(draws.fold(key, i).key, [1, output.shape[1], num_classes])[0]
            heads[name] = (tf.Variable(kernel), tf.Variable(tf.zeros([num_classes])))
        return heads

    def _train(self, features_of, heads, source, batch_size, seed, watch):
        """Updates ``heads``; calls ``watch`` with the number of epochs done after each."""
        spec = CropSpec(method="random", size=self.size, resize_to=self.resize, keep_ratio=True)
        per_epoch = steps_per_epoch(source, batch_size)
        key = draws.fold(seed, 2)
        velocities = {name: [tf.Variable(tf.zeros_like(v)) for v in head] for name, head in heads.items()}

        @tf.function(jit_compile=use_xla())
        def step(images, labels, number, lr):
            # In-memory sets come whole and are cut here; others were cut on the host, uint8 [B, 1, s, s, 3].
            if images.shape.rank == 4:
                images = cut(images, spec, draws.fold(key, number))[:, 0]
            else:
                images = to_float(images[:, 0])
            # The trunk is outside the tape: it cannot get a gradient, and its activations need not be kept.
            features = features_of(images)
            for name, variables in heads.items():
                with tf.GradientTape() as tape:
                    logits = tf.matmul(features[name], variables[0]) + variables[1]
                    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
                for w, m, g in zip(variables, velocities[name], tape.gradient(loss, variables), strict=True):
                    m.assign(self.momentum * m + g)
                    w.assign_sub(lr * m)

        batches = iter(train_batches(source, batch_size=batch_size, crops={"crop": spec}, seed=seed))
        first, second, end = self.schedule
        for epoch in range(end):
            lr = tf.constant(self._rate(batch_size) * 0.1 ** ((epoch >= first) + (epoch >= second)), tf.float32)
            for i in range(per_epoch):
                batch = next(batches)
                images = batch["crop"] if "crop" in batch else batch["image"]
                step(images, batch["label"], tf.constant(epoch * per_epoch + i, tf.int64), lr)
            watch(epoch + 1)

    def _features(self, backbone, endpoints, network_input):
        """float images [B, s, s, 3] in [0, 1], B and s static -> {endpoint: float32 [B, d]}"""
        trunk = keras.Model(backbone.input, {name: backbone.output[name] for name in endpoints})

        def forward(images01):
            return represent(trunk, images01, network_input, max_values=self.max_values, pooling=self.pooling)

        def features_of(images01):
            # The paper's 2048 images of 224 pixels have maps of over 100 GB in its widest network. Frozen, it treats
            # each image alone, so parts of the batch, one after the other, give the same features.
            batch_size, size = images01.shape[:2]
            at_once = images_at_once(backbone, size, network_input)
            if batch_size <= at_once:
                return forward(images01)
            parts = -(-batch_size // at_once)
            rows = -(-batch_size // parts)
            filled = tf.pad(images01, [[0, parts * rows - batch_size], [0, 0], [0, 0], [0, 0]])
            filled = tf.reshape(filled, [parts, rows, *images01.shape[1:]])
            widths = feature_widths(trunk, size, network_input, self.max_values, self.pooling)
            signature = {k: tf.TensorSpec([rows, width]) for k, width in widths.items()}
            found = tf.map_fn(forward, filled, parallel_iterations=1, fn_output_signature=signature)
            return {k: tf.reshape(v, [parts * rows, widths[k]])[:batch_size] for k, v in found.items()}

        return features_of

    def _scorer(self, features_of, heads, view, batch_size):
        """Function: a source -> {endpoint: logits [N, C]} of the present heads on the images that ``view`` gives."""

        @tf.function(jit_compile=use_xla())
        def logits(images):
            features = features_of(to_float(images))
            return {name: tf.matmul(features[name], kernel) + bias for name, (kernel, bias) in heads.items()}

        def score(source):
            parts = {name: [] for name in heads}
            for images, n in padded_batches(source, batch_size, view):
                for name, values in logits(images).items():
                    parts[name].append(values.numpy()[:n])
            found = {name: np.concatenate(values) for name, values in parts.items()}
            for name, values in found.items():
                check_finite(values, f"linear_images on {name}")
            return found

        return score
