"""represent(): a run's features of images as people have them, the same as its probes get."""

import os

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.backbones import load_backbone
from revisit_ssl.data import EvalView
from revisit_ssl.data.decoding import apply_view
from revisit_ssl.errors import InputError, require
from revisit_ssl.features import representation
from revisit_ssl.features.representation import NetworkInput, expects_of, images_at_once
from revisit_ssl.training.build import freeze
from revisit_ssl.training.workdir import RECIPE, read_recipe


def represent(network, images, network_input=None, *, max_values=None, pooling=None):
    """Features of images by a trained network, as its probes get them: cut, brought into its range, pooled.

    >>> features = represent("runs/mine", images)["pre_logits"]

    Args:
        network: the folder of a run, its backbone.keras, or what ``pretrain`` or ``load_backbone`` returned.
        images: uint8 [n, h, w, 3], floats in [0, 1] of that shape, or a sequence of such images of any sizes, each
            [h, w, 3]. They are cut as the run's probes cut theirs.
        network_input: NetworkInput, for a network that does not know its own; images are then taken as they are.
        max_values, pooling: see ``features.pooling.pool_endpoint``; None: the run's own.

    Returns:
        {endpoint: float32 [n, d]}; a 9-patch network gives one feature for each image too.

    Raises:
        InputError: no run there, a file that does not say what the network takes, or images of another kind.
    """
    network, known = loaded(network)
    if network_input is None:
        require(known, f"{network.name} does not know what images it takes; give the folder of its run as the network")
        network_input, view = NetworkInput(**known.network_input), EvalView(**known.view)
    else:
        view = None
    limits = {
        "max_values": max_values or (known.max_values if known else 9000),
        "pooling": pooling or (known.pooling if known else "max"),
    }
    found, at_once = {}, images_at_once(network, view.size if view else images[0].shape[0], network_input)
    for start in range(0, len(images), at_once):
        batch = prepared(images[start : start + at_once], view)
        for name, values in representation.represent(network, batch, network_input, **limits).items():
            found.setdefault(name, []).append(values)
    require(found, "no images to represent")
    return {name: tf.concat(parts, axis=0) for name, parts in found.items()}


def loaded(network):
    """(frozen keras.Model, its Expects or None) of a model, a file or a run's folder."""
    if isinstance(network, keras.Model):
        return network, getattr(network, "expects", None)
    place = os.fspath(network)
    model = freeze(load_backbone(place))
    folder = os.path.dirname(place) if place.endswith(".keras") else place
    if model.expects is None and tf.io.gfile.exists(os.path.join(folder, RECIPE)):
        return model, expects_of(read_recipe(folder))  # a file from before it knew
    return model, model.expects


def prepared(images, view):
    """[n, s, s, 3], uint8 or float [0, 1]: checked, and cut by an EvalView; None cuts nothing."""
    if not hasattr(images, "shape"):  # a sequence, each of its own size
        require(view, "images of several sizes need a network that knows what it takes")
        return tf.concat([prepared(np.asarray(image)[None], view) for image in images], axis=0)
    images = tf.convert_to_tensor(images)
    shaped = images.shape.rank == 4 and images.shape[-1] == 3
    require(shaped, f"images have shape {list(images.shape)}; expected [n, height, width, 3]")
    if images.dtype != tf.uint8:
        check_range(images)
        images = tf.cast(images, tf.float32)
    side = images.shape[1], images.shape[2]
    if view is None or (side == (view.size, view.size) and view.keeps_own_size):
        return images
    if images.dtype != tf.uint8:
        images = tf.cast(tf.round(255 * images), tf.uint8)  # bytes, as in files
    return apply_view(images, view)


def check_range(images):
    """InputError for numbers that are neither bytes nor in [0, 1]."""
    if not images.dtype.is_floating:
        raise InputError(f"images are {images.dtype.name}; expected uint8 (0..255) or floats in [0, 1]")
    low, high = float(tf.reduce_min(images)), float(tf.reduce_max(images))
    inside = low >= 0 and high <= 1
    require(inside, f"images lie in [{low:g}, {high:g}]; expected uint8 (0..255) or floats in [0, 1]")
