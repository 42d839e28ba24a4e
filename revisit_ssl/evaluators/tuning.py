"""Training of a copy of a whole network with new last layers: the arithmetic of ``Finetune``."""

import numpy as np
import tensorflow as tf

from revisit_ssl.data import steps_per_epoch
from revisit_ssl.evaluators.augment import crop_and_flip, crop_batches
from revisit_ssl.evaluators.sgd import descend
from revisit_ssl.evaluators.transfer import NewLayers, Trained
from revisit_ssl.features.extract import compile_frozen, padded_batches
from revisit_ssl.features.representation import check_input
from revisit_ssl.views.crops import CropSpec
from revisit_ssl.views.pixels import to_float


class Tuning:
    """The network of a bench and what trains and scores a copy of it.

    Args:
        options: Finetune.
        bench: Bench.

    Attributes:
        network: Trained.
        epochs, batch_size: as used on this bench.
    """

    def __init__(self, options, bench):
        self.options = options
        self.source = bench.images("train")
        self.seed = bench.seed
        self.view = bench.view
        self.epochs = options.length(bench)
        self.batch_size = min(options.batch_size, self.source.num_examples)
        kernel = bench.view.kernel or "bilinear"
        self.crop = CropSpec(method="resized", size=bench.view.size, scale=options.scale, kernel=kernel)
        check_input(bench.backbone, bench.network_input, bench.view.size)
        layers = NewLayers.of(options)
        endpoint, size = layers.place(bench.backbone), bench.view.size
        self.network = Trained(
            bench.backbone, bench.network_input, bench.num_classes, bench.seed, size, endpoint, layers
        )
        self._step = self._compiled_step()
        self._eval_batch_size = min(options.eval_batch_size, bench.images("val").num_examples)

        @tf.function(autograph=False, jit_compile=compile_frozen())
        def logits(images):
            return self.network.logits(to_float(images), training=False)

        self._logits = logits

    def train(self, lr, multiplier):
        """One candidate from the probed network on; every candidate sees the same images."""
        self.network.restart()
        per_epoch = steps_per_epoch(self.source, self.batch_size)
        batches = crop_batches(self.source, self.crop, self.batch_size, self.seed)
        drops = [round(share * self.epochs, 6) for share in self.options.decay_at]
        for epoch in range(self.epochs):
            rate = lr * self.options.factor ** sum(epoch >= drop for drop in drops)
            rates = tf.constant(rate, tf.float32), tf.constant(rate * multiplier, tf.float32)
            for i in range(per_epoch):
                self._step(*next(batches), tf.constant(epoch * per_epoch + i, tf.int64), *rates)

    def score(self, source):
        """Logits float32 [N, C] of the present network on the images that the bench's view gives."""
        batches = padded_batches(source, self._eval_batch_size, self.view)
        return np.concatenate([self._logits(images).numpy()[:n] for images, n in batches])

    def _compiled_step(self):
        """Function (images, labels, step int64, lr of the trunk, lr of the head): one step, in place."""
        network, options = self.network, self.options

        @tf.function(autograph=False, jit_compile=compile_frozen())
        def step(images, labels, number, lr, head_lr):
            images = crop_and_flip(images, self.crop, self.seed, number)
            with tf.GradientTape() as tape:
                logits = network.logits(images, training=True, number=number)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            rates = [lr] * len(network.trunk) + [head_lr] * len(network.head)
            variables = network.trunk + network.head
            gradients = tape.gradient(loss, variables)
            descend(variables, network.velocities, gradients, rates, options.momentum, options.weight_decay)

        return step
