"""Linear classifiers on the endpoints of a frozen network that sees augmented images: ``LinearImages``' arithmetic."""

import math

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.backbones.normalisation import BatchNorm
from revisit_ssl.data import steps_per_epoch
from revisit_ssl.evaluators.augment import crop_and_flip, crop_batches
from revisit_ssl.evaluators.sgd import bottou_rate, descend, glorot, normal
from revisit_ssl.features.extract import compile_frozen, padded_batches
from revisit_ssl.features.representation import check_input, feature_widths, images_at_once, represent
from revisit_ssl.views import draws
from revisit_ssl.views.color import color_jitter, pca_lighting
from revisit_ssl.views.crops import CropSpec, ten_crops
from revisit_ssl.views.pixels import to_float
from revisit_ssl.views.randaugment import rand_augment


class Heads:
    """G candidates for a classifier on every endpoint, trained side by side on the same batches.

    Args:
        options: LinearImages.
        bench: Bench.

    Attributes:
        variables: {endpoint: (kernels [G, d, C], biases [G, 1, C])}; all candidates start at the same place.
        norms: {endpoint: BatchNorm before its classifiers}, PyTorch's; empty where there is none.
        batch_size: as used on this bench.
        crop: CropSpec of training.

    Raises:
        InputError: images of a size that the network does not take.
    """

    def __init__(self, options, bench):
        self.options, self.bench = options, bench
        size, source = bench.view.size, bench.images("train")
        check_input(bench.backbone, bench.network_input, size)
        resize, self.view = options.geometry(bench)
        kernel = bench.view.kernel
        self.crop = CropSpec(method="random", size=size, resize_to=resize, keep_ratio=True, kernel=kernel or "area")
        if options.crop == "resized":
            self.crop = CropSpec(method="resized", size=size, scale=options.scale, kernel=kernel or "bilinear")
        self.batch_size = min(options.batch_size, source.num_examples)
        pooled = _pooled(bench) | {"pools": options.squares}
        self.variables = self._start(feature_widths(_trunk(bench), size, bench.network_input, **pooled))
        self.norms = {}
        if options.batch_norm:
            norm = {"center": False, "scale": False, "momentum": 0.9, "epsilon": 1e-5}
            self.norms = {name: BatchNorm(**norm) for name in self.variables}
            for name, (kernels, _) in self.variables.items():
                width = bench.backbone.output[name].shape[-1] if options.per_channel else kernels.shape[1]
                self.norms[name].build((None, width))
        self.features = features_on(bench, options.squares)
        self._logits = self._compiled_logits()
        self._eval_batch_size = min(options.eval_batch_size, bench.images("val").num_examples)

    def _start(self, widths):
        key, classes = draws.fold(self.bench.seed, 1), self.bench.num_classes
        start, variables = {"glorot": glorot, "normal": normal}[self.options.start], {}
        for i, name in enumerate(self.bench.endpoints):
            count = len(self.options.candidates(name))
            kernels = start(draws.fold(key, i).key, [count, widths[name], classes])
            variables[name] = (tf.Variable(kernels), tf.Variable(tf.zeros([count, 1, classes])))
        return variables

    def train(self, watch):
        """Updates ``variables``, and the statistics of ``norms``; calls ``watch`` with the epochs done after each."""
        options, step = self.options, self._compiled_step()
        source = self.bench.images("train")
        per_epoch = steps_per_epoch(source, self.batch_size)
        batches = crop_batches(source, self.crop, self.batch_size, self.bench.seed)
        *drops, end = options.schedule
        for epoch in range(end):
            decay = options.factor ** sum(epoch >= drop for drop in drops)  # "bottou" has no use for it
            if options.decay == "cosine":
                decay = 0.5 * (1 + math.cos(math.pi * epoch / end))
            decay = tf.constant(decay, tf.float32)
            for i in range(per_epoch):
                step(*next(batches), tf.constant(epoch * per_epoch + i, tf.int64), decay)
            watch(epoch + 1)

    def scores(self, source):
        """{endpoint: logits [G, N, C]} of the present heads on what the view shows of a source; of ten crops the log of
        their mean softmax."""
        parts = {name: [] for name in self.variables}
        for images, n in padded_batches(source, self._eval_batch_size, self.view):
            for name, values in self._logits(images).items():
                parts[name].append(values.numpy()[:, :n])
        return {name: np.concatenate(values, axis=1) for name, values in parts.items()}

    def _compiled_logits(self):
        def of_crop(images):
            features = self._normalised(self.features(images), training=False)
            heads = self.variables.items()
            return {name: tf.matmul(features[name][None], kernel) + bias for name, (kernel, bias) in heads}

        @tf.function(autograph=False, jit_compile=compile_frozen())
        def logits(images):
            if self.options.test_crops == "one":
                return of_crop(to_float(images))
            crops = ten_crops(to_float(images), self.bench.view.size)  # [10, B, s, s, 3]
            found = [of_crop(crop) for crop in tf.unstack(crops)]
            means = {name: tf.add_n([tf.nn.softmax(f[name]) for f in found]) / 10 for name in self.variables}
            return {name: tf.math.log(mean + 1e-30) for name, mean in means.items()}

        return logits

    def _normalised(self, features, training):
        found = dict(features)
        for name, norm in self.norms.items():
            # Of values that lie channel by channel within each cell: all cells of a channel are one column.
            rows = tf.reshape(features[name], [-1, norm.moving_mean.shape[0]])
            found[name] = tf.reshape(norm(rows, training=training), features[name].shape)
        return found

    def _compiled_step(self):
        """Function (images, labels, step int64, what the rates are multiplied with): one step, in place."""
        options, seed = self.options, self.bench.seed
        rates = {n: tf.reshape(tf.constant(options.rates(self.batch_size, n)), [-1, 1, 1]) for n in self.variables}
        velocities = {name: [tf.Variable(tf.zeros_like(v)) for v in head] for name, head in self.variables.items()}

        @tf.function(autograph=False, jit_compile=compile_frozen())
        def step(images, labels, number, decay):
            images = crop_and_flip(images, self.crop, seed, number, options.flip)
            if options.randaugment_layers:
                strength = {"layers": options.randaugment_layers, "magnitude": options.randaugment_magnitude}
                images = rand_augment(images, draws.fold(draws.fold(seed, 4), number), **strength)
            images = self._recolored(images, number)
            # The trunk is outside the tape: it cannot get a gradient, and its activations need not be kept.
            features = self._normalised(self.features(images), training=True)
            for name, variables in self.variables.items():
                with tf.GradientTape() as tape:
                    logits = tf.matmul(features[name][None], variables[0]) + variables[1]  # [G, B, C]
                    rows = tf.tile(labels[None], [logits.shape[0], 1])
                    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(rows, logits)
                    # The sum: candidates share no variable, so each gets the gradient of its own mean.
                    loss = tf.reduce_sum(tf.reduce_mean(loss, axis=1))
                lr = decay * rates[name]
                if options.decay == "bottou":
                    lr = bottou_rate(rates[name], options.weight_decay, tf.cast(number, tf.float32))
                gradients, each = tape.gradient(loss, variables), [lr] * 2
                law = options.momentum, options.weight_decay, options.nesterov
                descend(variables, velocities[name], gradients, each, *law)

        return step

    def _recolored(self, images, number):
        """Training crops as the options change their colours; those that have none stay."""
        seed, options = self.bench.seed, self.options
        if any(options.jitter):
            names = zip(("brightness", "contrast", "saturation"), options.jitter, strict=True)
            images = color_jitter(images, draws.fold(draws.fold(seed, 6), number), **dict(names))
        if options.lighting:
            images = pca_lighting(images, draws.fold(draws.fold(seed, 7), number), options.lighting)
        return images


def features_on(bench, pools=None):
    """Function: float images [B, s, s, 3] in [0, 1], B and s static -> {endpoint: float32 [B, d]} of a bench;
    ``pools``: see ``represent``."""
    trunk, known, pooled = _trunk(bench), bench.network_input, _pooled(bench) | {"pools": pools}

    def forward(images01):
        return represent(trunk, images01, known, **pooled)

    def features_of(images01):
        # The paper's 2048 images of 224 pixels have maps of over 100 GB in its widest network. Frozen, it treats
        # each image alone, so parts of the batch, one after the other, give the same features.
        batch_size, size = images01.shape[:2]
        at_once = images_at_once(bench.backbone, size, known)
        if batch_size <= at_once:
            return forward(images01)
        parts = -(-batch_size // at_once)
        rows = -(-batch_size // parts)
        filled = tf.pad(images01, [[0, parts * rows - batch_size], [0, 0], [0, 0], [0, 0]])
        filled = tf.reshape(filled, [parts, rows, *images01.shape[1:]])
        widths = feature_widths(trunk, size, known, **pooled)
        signature = {k: tf.TensorSpec([rows, width]) for k, width in widths.items()}
        found = tf.map_fn(forward, filled, parallel_iterations=1, fn_output_signature=signature)
        return {k: tf.reshape(v, [parts * rows, widths[k]])[:batch_size] for k, v in found.items()}

    return features_of


def _trunk(bench):
    """The network with the bench's endpoints alone."""
    return keras.Model(bench.backbone.input, {name: bench.backbone.output[name] for name in bench.endpoints})


def _pooled(bench):
    return {"max_values": bench.spec.values, "pooling": bench.spec.pooling}
