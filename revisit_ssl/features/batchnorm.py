"""Batch-norm statistics of short runs: replaced by those of the final weights."""

import weakref

import numpy as np
import tensorflow as tf

from revisit_ssl.data import EvalView, eval_batches
from revisit_ssl.distribute import averaging
from revisit_ssl.errors import InputError
from revisit_ssl.features.representation import NetworkInput

REESTIMATE_IMAGES = 2048
_AVERAGING = weakref.WeakKeyDictionary()  # {model: its function}, so that each is traced once


def reestimate_batch_norm(backbone, image_batches, forward=None):
    """Sets all moving statistics to the mean of the batch statistics under the present weights.

    A moving average with momentum 0.99 needs some hundred steps to forget its start; after a run of fewer it describes
    neither the first weights nor the last. Layers see inputs normalised by batch statistics, as in training. Nothing
    else of the backbone changes: weights, ``trainable`` flags and momenta are as before.

    Args:
        backbone: keras.Model; may be frozen.
        image_batches: iterable of float [B, H, W, 3], normalised as in training; batches count by their rows.
        forward: function that runs a batch through the model in training mode, where calling it does not; its batches
            may then be any nest of arrays with a row for each image.

    Returns:
        Number of images used; 0 if the backbone has no batch normalisation.

    Raises:
        InputError: no images, or statistics that are not finite (nothing is changed then).
    """
    layers = normalising_layers(backbone)
    statistics = [v for x in layers for v in (x.moving_mean, x.moving_variance)]
    if not layers:
        return 0
    before = [v.numpy() for v in statistics]
    settings = [(x.momentum, x.trainable, getattr(x, "group", None)) for x in layers]
    try:
        for x in layers:
            # momentum 0: one training-mode pass writes the batch statistics themselves; a frozen layer would not write.
            # Ghost batches are off: their size need not fit these batches.
            x.trainable, x.momentum, x.group = True, 0.0, None
        forward = forward or (lambda images: backbone(images, training=True))
        totals, images = _sum_over_batches(forward, statistics, image_batches)
    finally:
        for x, (momentum, trainable, group) in zip(layers, settings, strict=True):
            x.momentum, x.trainable, x.group = momentum, trainable, group
        for v, value in zip(statistics, before, strict=True):
            v.assign(value)
    if images == 0:
        raise InputError("no images to re-estimate batch-norm statistics on; the split is smaller than one batch")
    means = [total / images for total in totals]
    if not all(np.isfinite(m).all() for m in means):
        raise InputError("batch-norm statistics are not finite; the network has diverged, take an earlier checkpoint")
    for v, mean in zip(statistics, means, strict=True):
        v.assign(mean.astype(np.float32))
    return images


def normalising_layers(model):
    """[layer] of a Keras model, nested ones too, that keep moving statistics."""
    return [x for x in model._flatten_layers() if hasattr(x, "moving_mean") and hasattr(x, "moving_variance")]


def average_statistics(model):
    """Makes the moving statistics of every replica the mean over the replicas, as ghost groups have it on one device.

    Each replica moves its own, by its own rows. A moving average is linear: that of the mean is the mean of those of
    the replicas, so that it does not matter when, or how often, this is done.
    """
    strategy = model.distribute_strategy
    layers = [x for x in normalising_layers(model) if not getattr(x, "synchronized", False)]
    if strategy.num_replicas_in_sync == 1 or not layers:
        return
    if model not in _AVERAGING:
        _AVERAGING[model] = averaging(strategy, [v for x in layers for v in (x.moving_mean, x.moving_variance)])
    _AVERAGING[model]()


def _sum_over_batches(forward, statistics, image_batches):
    # A function of its own, traced while momentum is 0; the momentum is a Python number that tracing writes down.
    forward = tf.function(forward, autograph=False)
    totals, images = [np.zeros(v.shape, np.float64) for v in statistics], 0
    for batch in image_batches:
        batch = tf.nest.map_structure(tf.convert_to_tensor, batch)
        forward(batch)
        rows = int(tf.nest.flatten(batch)[0].shape[0])
        images += rows
        for total, v in zip(totals, statistics, strict=True):
            total += rows * v.numpy().astype(np.float64)
    return totals, images


def evaluation_images(recipe, source, count):
    """Batches of ``count`` images drawn by the seed as the network knows them: float32 [n, h, w, 3], normalised.

    Drawn, because the first images of a folder are all of one class. A network of patches sees patches.
    """
    known = NetworkInput.of_training(recipe)
    batch_size = 64 if known.rows == 1 else 32  # nine patches each: the 288 rows that a core of the paper normalised
    for batch in eval_batches(source.sample(count, recipe.seed), batch_size, view=EvalView.of(recipe)):
        yield known.prepare(batch["image"])
