"""Vectors of whole images of any shape: a frozen network without the layers that bind it to one size, and R-MAC."""

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.data import whole_images
from revisit_ssl.errors import InputError, reason, require
from revisit_ssl.features.checks import check_finite
from revisit_ssl.features.rmac import Whitening, aggregate, region_vectors
from revisit_ssl.views.pixels import normalize_input, to_float

SMALLEST = 8  # pixels of a side of what the network sees


class Descriptors:
    """R-MAC vectors of images by every endpoint of a bench.

    Args:
        bench: Bench.
        size: length of the longer side that images are resized to; None: as they are.
        levels: of the regions.

    Raises:
        InputError: an endpoint that sees images of one size alone.
    """

    def __init__(self, bench, size, levels):
        self.size, self.levels = size, levels
        self.normalize = bench.network_input.normalize
        self.endpoints = bench.endpoints
        self.whitenings = dict.fromkeys(bench.endpoints)
        trunk = for_any_size(bench.backbone, bench.endpoints)
        # No XLA: it would compile anew for every shape.
        self._maps = tf.function(
            lambda images: trunk(images, training=False), autograph=False,
            input_signature=[tf.TensorSpec([1, None, None, 3])],
        )

    def learn(self, source, dimension):
        """Learns a whitening for each endpoint from the regions of all images of a source."""
        learned = {name: Whitening() for name in self.endpoints}
        for number, image in enumerate(_images(source)):
            for name, vectors in self.regions(image, f"image {number} of {source.name} {source.split}").items():
                learned[name].add(vectors)
        self.whitenings = {name: whitening.finish(dimension) for name, whitening in learned.items()}

    def vectors(self, source, boxes=None, names=None):
        """{endpoint: float32 [N, d]}, unit rows; ``boxes`` [N, 4] are cut before, rows of nan are not."""
        found = {name: [] for name in self.endpoints}
        for number, image in enumerate(_images(source)):
            what = names[number] if names else f"image {number} of {source.name} {source.split}"
            for name, regions in self.regions(image, what, None if boxes is None else boxes[number]).items():
                found[name].append(aggregate(regions, self.whitenings[name]))
        found = {name: np.stack(rows) for name, rows in found.items()}
        for name, rows in found.items():
            check_finite(rows, f"instance_retrieval on {name}")
        return found

    def regions(self, image, what, box=None):
        """{endpoint: unit vectors [R, C]} of the regions of an image uint8 [h, w, 3], called ``what`` in errors."""
        shown = cut_box(*resize_longer_side(image, self.size), box)
        small = f"{what} is {shown.shape[1]}x{shown.shape[0]} pixels; the network needs {SMALLEST} a side"
        require(min(shown.shape[:2]) >= SMALLEST, f"{small}, set --instance-retrieval.size or a larger box")
        # Deviation: a network of the patch tasks sees the undivided image, so that there is a map to take regions of.
        images = normalize_input(to_float(shown)[None], self.normalize)
        try:
            maps = self._maps(images)
        except tf.errors.InvalidArgumentError:
            raise InputError(f"{what} is too small for this network; set --instance-retrieval.size") from None
        found = {}
        for name in self.endpoints:
            values = tf.cast(maps[name][0], tf.float32).numpy()
            values = values[None, None] if values.ndim == 1 else values
            require(values.size, f"{what} is too small for {name}; set --instance-retrieval.size or a larger box")
            found[name] = region_vectors(values, self.levels)
        return found


def resize_longer_side(image, size):
    """(uint8 or float image [h, w, 3] with that longer side, by how much it was scaled); ``size`` None: as it is."""
    height, width = image.shape[:2]
    if size is None or max(height, width) == size:
        return image, 1.0
    ratio = size / max(height, width)
    sides = [max(1, round(side * ratio)) for side in (height, width)]
    resized = tf.image.resize(image, sides)  # bilinear between four pixels, as cv2's
    return tf.cast(tf.round(resized), tf.uint8), ratio


def cut_box(image, ratio, box):
    """The part of a resized image that a box x1, y1, x2, y2 of the original holds; all of it for None or nan."""
    if box is None or np.isnan(box).any():
        return image
    left, top, right, bottom = np.maximum(np.round(np.asarray(box) * ratio), 0).astype(int)
    return image[top:bottom, left:right]


def for_any_size(backbone, endpoints):
    """The network with those endpoints alone, on images of any size.

    Raises:
        InputError: an endpoint behind a layer that covers the whole map, as fully connected ones do.
    """
    trunk = _trunk(backbone, endpoints)
    if trunk is not None:
        return trunk
    alone = {name: _trunk(backbone, (name,)) is not None for name in endpoints}
    bound = ", ".join(name for name, fits in alone.items() if not fits)
    others = [name for name in backbone.output if len(backbone.output[name].shape) == 4] or ["none"]
    raise InputError(f"{bound} of {backbone.name} sees images of one size; --endpoints with maps: {', '.join(others)}")


def _trunk(backbone, endpoints):
    trunk = keras.Model(backbone.input, {name: backbone.output[name] for name in endpoints})
    if all(side is None for side in trunk.input_shape[1:3]):
        return trunk
    try:
        free = keras.models.clone_model(trunk, input_tensors=keras.Input((None, None, trunk.input_shape[3])))
        free.set_weights(trunk.get_weights())
    except (ValueError, TypeError):
        return None
    if any(output.shape[-1] is None for output in free.output.values()):  # a flattened map
        return None
    free.trainable = False
    return free


def _images(source):
    try:
        for example in whole_images(source):
            yield example["image"]
    except tf.errors.OpError as error:
        raise InputError(f"{source.name} {source.split}: {reason(error)}") from None
