"""Training and scores of a network whose images show several classes: the arithmetic of ``VOCClassification``."""

import dataclasses

import numpy as np
import tensorflow as tf

from revisit_ssl.data import EvalView, eval_crops
from revisit_ssl.evaluators.augment import crop_and_flip, crop_batches
from revisit_ssl.evaluators.sgd import descend
from revisit_ssl.evaluators.transfer import NewLayers, Trained
from revisit_ssl.features.extract import compile_frozen, padded_batches
from revisit_ssl.features.representation import check_input, images_at_once
from revisit_ssl.views import draws
from revisit_ssl.views.crops import CropSpec, cut, ten_crops
from revisit_ssl.views.geometry import random_flip
from revisit_ssl.views.pixels import to_float


def multi_label_loss(logits, labels):
    """Sigmoid cross entropy, summed over the classes that count and averaged over the images.

    Args:
        logits: float [B, C].
        labels: int [B, C]: 1 present, 0 absent; of any other value (-1 or 255, difficult) nothing counts.

    Returns:
        Scalar of the logits' dtype, in nats.
    """
    counted = tf.logical_or(tf.equal(labels, 0), tf.equal(labels, 1))
    present = tf.cast(tf.equal(labels, 1), logits.dtype)
    each = tf.nn.sigmoid_cross_entropy_with_logits(present, logits)
    total = tf.reduce_sum(tf.where(counted, each, tf.zeros_like(each)))
    return total / tf.cast(tf.shape(logits)[0], logits.dtype)


class MultiLabel:
    """A copy of a bench's network with new layers, trained on several labels for each image.

    Args:
        options: VOCClassification.
        bench: Bench.

    Attributes:
        network: Trained.
        variables, velocities: of what is trained.
    """

    def __init__(self, options, bench):
        self.options, self.seed, self.size = options, bench.seed, bench.view.size
        check_input(bench.backbone, bench.network_input, self.size)
        self.crop = CropSpec(method="resized", size=self.size, scale=options.scale, ratio=options.ratio)
        layers = NewLayers(hidden=options.hidden, dropout=options.dropout, endpoint=options.endpoint, bias=0.1)
        endpoint = dataclasses.replace(layers, hidden=(1,)).place(bench.backbone)  # a map, where there is one
        self.network = Trained(
            bench.backbone, bench.network_input, bench.num_classes, self.seed, self.size, endpoint, layers
        )
        frozen = 0 if options.trunk else len(self.network.trunk)
        self.variables = (self.network.trunk + self.network.head)[frozen:]
        self.velocities = self.network.velocities[frozen:]
        self._step = self._compiled_step()
        compiled = {"autograph": False, "jit_compile": compile_frozen(), "reduce_retracing": True}
        self._summed = tf.function(self._logits_of_crops, **compiled)
        self._at_once = max(1, images_at_once(bench.backbone, self.size, bench.network_input) // options.crops)

    def train(self, source, lr):
        """From the transferred network on; every candidate sees the same images."""
        self.network.restart()
        iterations, between = self.options.steps
        batch_size = min(self.options.batch_size, source.num_examples)
        batches = crop_batches(source, self.crop, batch_size, self.seed, "index")
        labels = tf.constant(source.multi_labels, tf.int32)
        for i in range(iterations):
            images, index = next(batches)
            rate = tf.constant(lr * self.options.factor ** (i // between), tf.float32)
            self._step(images, tf.gather(labels, index), tf.constant(i, tf.int64), rate)

    def scores(self, source):
        """float32 [N, C]: the logits of the present network, summed over the crops of each image."""
        if self.options.test_crops == "ten":
            # Deviation: of the square in the middle; the authors' option takes the corners of the whole image.
            resize = round(self.size * 256 / 224)
            view = EvalView(size=resize, resize=resize, method="shorter_side")
            batches = padded_batches(source, min(self._at_once, source.num_examples), view)
            return np.concatenate([self._summed(images, tf.constant(0, tf.int64)).numpy()[:n] for images, n in batches])
        several, found = dataclasses.replace(self.crop, count=self.options.crops), []
        for number, batch in enumerate(eval_crops(source, self._at_once, crops={"crop": several}, seed=self.seed)):
            images = batch["crop"] if "crop" in batch else batch["image"]
            found.append(self._summed(images, tf.constant(number, tf.int64)).numpy())
        return np.concatenate(found)

    def _logits_of_crops(self, images, number):
        """[B, C] of images to be cut or [B, n, s, s, 3], cut already; ``number`` of the batch draws crops and flips."""
        if self.options.test_crops == "ten":
            crops = ten_crops(to_float(images), self.size)  # [10, B, s, s, 3]
            return tf.add_n([self.network.logits(crop, training=False) for crop in tf.unstack(crops)])
        count = self.options.crops
        if images.shape.rank == 4:
            several = dataclasses.replace(self.crop, count=count)
            images = cut(images, several, draws.fold(draws.fold(self.seed, 5), number))
        else:
            images = to_float(images)
        flat = tf.reshape(images, [-1, self.size, self.size, 3])
        flat = random_flip(flat, draws.fold(draws.fold(self.seed, 6), number))
        logits = self.network.logits(flat, training=False)
        return tf.reduce_sum(tf.reshape(logits, [-1, count, logits.shape[-1]]), axis=1)

    def _compiled_step(self):
        """Function (images, labels int32 [B, C], step int64, learning rate): one step, in place."""
        network, options, trunk = self.network, self.options, self.options.trunk

        @tf.function(autograph=False, jit_compile=compile_frozen())
        def step(images, labels, number, lr):
            images = crop_and_flip(images, self.crop, self.seed, number)
            values = None if trunk else network.features(images, training=False)  # no gradient, so outside of the tape
            with tf.GradientTape() as tape:
                values = network.features(images, training=False) if trunk else values
                loss = multi_label_loss(network.classify(values, number), labels)
            gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, self.variables), options.clip)
            rates = [lr] * len(self.variables)
            descend(self.variables, self.velocities, gradients, rates, options.momentum, options.weight_decay)

        return step
