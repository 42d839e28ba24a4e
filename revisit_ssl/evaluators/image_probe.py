"""Linear classifiers on augmented images: the SGD evaluation of Revisiting (P section 4.7, supplement 2; spec D.2), of
MoCo and CLD (`main_lincls.py`), of InfoMin (`utils/infomin_test_options.py`) and of OBoW (supplement, C.4)."""

import math
import time
from dataclasses import asdict, dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.backbones.normalisation import BatchNorm
from revisit_ssl.data import EvalView, steps_per_epoch, train_batches
from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import ImageProbe, ProbeScore, accuracies, check_labels, topk_percent
from revisit_ssl.evaluators.sgd import curve_epochs, glorot, normal
from revisit_ssl.features.checks import check_endpoints, check_finite, check_frozen
from revisit_ssl.features.extract import padded_batches, use_xla
from revisit_ssl.features.representation import check_input, feature_widths, images_at_once, represent
from revisit_ssl.views import draws
from revisit_ssl.views.crops import CropSpec, cut
from revisit_ssl.views.geometry import random_flip
from revisit_ssl.views.pixels import to_float


@dataclass(frozen=True, kw_only=True)
class LinearImages(ImageProbe):
    """One independent linear classifier on every endpoint, all trained in one pass over random crops.

    Dense layer with bias, softmax cross entropy, momentum SGD without warm-up; the last epoch counts (MoCo's and
    InfoMin's scripts report the best one on the images that they score). Only the learning rate is chosen on val, where
    several are given, side by side on the same batches; the defaults are Revisiting's. ``ProbeScore.extra``: val_top1,
    val_top5, curve [[epoch, percent on val]], all of the chosen rate; val_top1_by_candidate {"lr 10": percent}, of
    several rates. ``seconds`` is the time of all endpoints together.
    """

    resize: int = 256
    """Shorter side of the image before the crop."""
    size: int = 224
    """Side of the crop: random in training (no colour), central in evaluation."""
    crop: Literal["random", "resized"] = "random"
    """In training. random: size x size pixels of the image as ``resize`` makes it; resized: torchvision's random
    resized crop of the image as it is."""
    scale: tuple[float, float] = (0.08, 1.0)
    """resized: range of the crop's share of the image area."""
    flip: bool = False
    """Mirror half of the training crops."""
    eval_view: EvalView | None = None
    """What is scored on val and test; None: the central crop. Disputed for the patch tasks: these have the official
    code's geometry in training (192 of 224) and the supplement's here (192 of 255 squashed)."""
    batch_size: int = 2048
    """Images per step; the number of training images where that is smaller."""
    learning_rates: tuple[float, ...] = (0.1,)
    """Candidates, for 256 images; used times batch_size / 256. At equal accuracy on val the first wins."""
    scale_lr: bool = True
    """Off: they are used as they are."""
    schedule: tuple[int, ...] = (480, 500, 520)
    """Epochs of the drops of the rate, and of the end; also 30 / 50 / 70 and 120 / 140 / 160."""
    decay: Literal["steps", "cosine"] = "steps"
    """steps: at those epochs; cosine: from epoch to epoch down to 0 at the end, whatever the drops."""
    factor: float = 0.1
    """What a drop multiplies the rate with."""
    batch_norm: bool = False
    """Features normalised by the batch, without scale or offset; by the moving statistics when they are scored."""
    start: Literal["glorot", "normal"] = "glorot"
    """Initial weights: Glorot-uniform, or normal with deviation 0.01; the bias is 0."""
    momentum: float = 0.9
    """Of the SGD: m <- momentum m + g + weight_decay w, w <- w - lr m."""
    weight_decay: float = 0.0
    """L2 of the layer, its bias included."""
    max_values: int = 9000
    """Endpoints with more values are pooled."""
    pooling: Literal["max", "avg", "adaptive_max"] = "max"
    """See pooling.pool_endpoint."""
    eval_batch_size: int = 256
    """Images per step in evaluation."""

    @classmethod
    def moco(cls):
        """ImageNet by MoCo's script, which is CLD's too: lr 30, 100 epochs, drops at 60 and 80."""
        return cls(
            crop="resized", flip=True, batch_size=256, learning_rates=(30.0,), schedule=(60, 80, 100), start="normal"
        )

    @classmethod
    def infomin(cls):
        """ImageNet by InfoMin's script: lr 30, 60 epochs, drops to a fifth at 30, 40 and 50.

        Its released command adds RandAugment to the training images, which is not done here.
        """
        # Deviation: no RandAugment of the training images (the released command's --aug_linear RA; an option there).
        return cls(
            crop="resized", scale=(0.2, 1.0), flip=True, batch_size=256, learning_rates=(30.0,),
            schedule=(30, 40, 50, 60), factor=0.2, start="normal",
        )  # fmt: skip

    @classmethod
    def obow(cls):
        """OBoW's on ImageNet: 1,024 images a step, lr 10 (2.5 for 256 images), a cosine of 100 epochs."""
        return cls(
            crop="resized", flip=True, batch_size=1024, learning_rates=(2.5,), schedule=(100,), decay="cosine",
            start="normal",
        )  # fmt: skip

    @classmethod
    def obow_places(cls):
        """OBoW's on Places205: 14 epochs, drops after 5 and 10. Disputed: the README has 28, 10 and 20, and L2 1e-5."""
        return cls(
            flip=True, batch_size=256, learning_rates=(0.01,), schedule=(5, 10, 14), weight_decay=1e-4,
            batch_norm=True, start="normal",
        )  # fmt: skip

    @property
    def passes(self):
        """Forward passes over the training images, for plans."""
        return self.schedule[-1]

    def __call__(self, backbone, train, val, test, *, endpoints, network_input, num_classes, seed=0):
        """See ImageProbe."""
        started = time.perf_counter()
        require(len(self.learning_rates) > 0, "linear_images: give at least one learning rate")
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
        norms = self._norms(heads)
        score = self._scorer(features, heads, view, min(self.eval_batch_size, val.num_examples), norms)
        looks = curve_epochs(self.schedule, train.num_examples, val.num_examples)
        curves, val_scores = {name: [[] for _ in self.learning_rates] for name in endpoints}, {}

        def watch(epoch):
            if epoch in looks:
                val_scores.update(score(val))
                for name, candidates in curves.items():
                    for own, curve in zip(val_scores[name], candidates, strict=True):
                        curve.append([epoch, topk_percent(own, val.labels, 1)])

        self._train(features, heads, train, batch_size, seed, watch, norms)
        scores, found = score(test), {}
        fixed = {k: v for k, v in asdict(self).items() if k != "learning_rates"} | {"batch_size": batch_size}
        for name, candidates in curves.items():
            ends = [curve[-1][1] for curve in candidates]
            best = max(range(len(ends)), key=ends.__getitem__)
            check_finite(scores[name][best], f"linear_images on {name}")
            extra = {
                "val_top1": ends[best],
                "val_top5": topk_percent(val_scores[name][best], val.labels, 5),
                "curve": candidates[best],
            }
            if len(ends) > 1:
                labels = (f"lr {lr:g}" for lr in self.learning_rates)
                extra["val_top1_by_candidate"] = dict(zip(labels, ends, strict=True))
            used = {"lr": self.learning_rates[best], "lr_used": self._rates(batch_size)[best]}
            found[name] = ProbeScore(
                **accuracies(scores[name][best], test.labels),
                hyperparameters=fixed | used,
                seconds=time.perf_counter() - started,
                extra=extra,
            )
        return found

    def _rates(self, batch_size):
        return [lr * batch_size / 256 if self.scale_lr else lr for lr in self.learning_rates]

    def _heads(self, features_of, num_classes, seed):
        """{endpoint: (kernels [G, d, C], biases [G, 1, C])}, variables; all candidates start at the same place."""
        traced = tf.function(features_of).get_concrete_function(tf.TensorSpec([1, self.size, self.size, 3]))
        heads, key, count = {}, draws.fold(seed, 1), len(self.learning_rates)
        for i, (name, output) in enumerate(traced.structured_outputs.items()):
            shape, own = [output.shape[1], num_classes], draws.fold(key, i).key
            kernels = (glorot if self.start == "glorot" else normal)(own, [count, *shape])
            heads[name] = (tf.Variable(kernels), tf.Variable(tf.zeros([count, 1, num_classes])))
        return heads

    def _norms(self, heads):
        """{endpoint: BatchNorm before its classifiers}, PyTorch's; empty where there is none."""
        if not self.batch_norm:
            return {}
        norms = {name: BatchNorm(center=False, scale=False, momentum=0.9, epsilon=1e-5) for name in heads}
        for name, (kernels, _) in heads.items():
            norms[name].build((None, kernels.shape[1]))
        return norms

    def _train(self, features_of, heads, source, batch_size, seed, watch, norms=None):
        """Updates ``heads``, and the statistics of ``norms``; calls ``watch`` with the epochs done after each."""
        spec = CropSpec(method="random", size=self.size, resize_to=self.resize, keep_ratio=True)
        if self.crop == "resized":
            spec = CropSpec(method="resized", size=self.size, scale=self.scale)
        per_epoch = steps_per_epoch(source, batch_size)
        key, mirrored = draws.fold(seed, 2), draws.fold(seed, 3)
        count, rates = len(self.learning_rates), tf.reshape(tf.constant(self._rates(batch_size)), [-1, 1, 1])
        velocities = {name: [tf.Variable(tf.zeros_like(v)) for v in head] for name, head in heads.items()}

        @tf.function(jit_compile=use_xla())
        def step(images, labels, number, decay):
            # In-memory sets come whole and are cut here; others were cut on the host, uint8 [B, 1, s, s, 3].
            if images.shape.rank == 4:
                images = cut(images, spec, draws.fold(key, number))[:, 0]
            else:
                images = to_float(images[:, 0])
            if self.flip:
                images = random_flip(images, draws.fold(mirrored, number))
            # The trunk is outside the tape: it cannot get a gradient, and its activations need not be kept.
            features = features_of(images)
            features |= {name: norm(features[name], training=True) for name, norm in (norms or {}).items()}
            for name, variables in heads.items():
                with tf.GradientTape() as tape:
                    logits = tf.matmul(features[name][None], variables[0]) + variables[1]  # [G, B, C]
                    rows = tf.tile(labels[None], [count, 1])
                    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(rows, logits)
                    # The sum: candidates share no variable, so each gets the gradient of its own mean.
                    loss = tf.reduce_sum(tf.reduce_mean(loss, axis=1))
                for w, m, g in zip(variables, velocities[name], tape.gradient(loss, variables), strict=True):
                    m.assign(self.momentum * m + g + self.weight_decay * w)
                    w.assign_sub(decay * rates * m)

        batches = iter(train_batches(source, batch_size=batch_size, crops={"crop": spec}, seed=seed))
        *drops, end = self.schedule
        for epoch in range(end):
            decay = self.factor ** sum(epoch >= drop for drop in drops)
            if self.decay == "cosine":
                decay = 0.5 * (1 + math.cos(math.pi * epoch / end))
            decay = tf.constant(decay, tf.float32)
            for i in range(per_epoch):
                batch = next(batches)
                images = batch["crop"] if "crop" in batch else batch["image"]
                step(images, batch["label"], tf.constant(epoch * per_epoch + i, tf.int64), decay)
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

    def _scorer(self, features_of, heads, view, batch_size, norms=None):
        """Function: a source -> {endpoint: logits [G, N, C]} of the present heads on what ``view`` shows of it."""

        @tf.function(jit_compile=use_xla())
        def logits(images):
            features = features_of(to_float(images))
            features |= {name: norm(features[name], training=False) for name, norm in (norms or {}).items()}
            return {name: tf.matmul(features[name][None], kernel) + bias for name, (kernel, bias) in heads.items()}

        def score(source):
            parts = {name: [] for name in heads}
            for images, n in padded_batches(source, batch_size, view):
                for name, values in logits(images).items():
                    parts[name].append(values.numpy()[:, :n])
            return {name: np.concatenate(values, axis=1) for name, values in parts.items()}

        return score
