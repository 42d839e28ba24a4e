"""What a frozen network makes of an image: its input range, patches where it was trained on patches, pooled endpoints.

A network of the patch tasks sees an image as 3 x 3 patches without gaps (spec D.5; supplement 2; official
patch_utils.py): every patch goes through it alone, every endpoint is pooled for each patch, and the mean over the nine
is the image's feature. All probes, the training monitor and the BatchNorm re-estimation go through here.
"""

import dataclasses
import math
from typing import Literal

import tensorflow as tf

from revisit_ssl.backbones.expects import Expects
from revisit_ssl.data import EvalView
from revisit_ssl.errors import require
from revisit_ssl.features.pooling import average_pool, averaged_shape, pool_endpoint, pooled_shape
from revisit_ssl.views.patches import probe_patches
from revisit_ssl.views.pixels import normalize_input, to_float


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """How images become what a network sees, and its outputs one feature per image.

    Attributes:
        normalize: mode of views.pixels.normalize_input, applied to each patch.
        patch_grid: an image is cut into grid x grid patches; 1: not at all.
        patch_size: side of a patch in pixels.
        combine: "mean", "max": over the patches; "concat": all side by side; "whole": the network sees the undivided
            image, which one without fully connected layers can.
    """

    normalize: str
    patch_grid: int = 1
    patch_size: int | None = None
    combine: Literal["mean", "max", "concat", "whole"] = "mean"

    @classmethod
    def of(cls, recipe):
        """What the probes of a recipe give its network."""
        v = recipe.views
        return cls(
            normalize=recipe.bench.normalize or v.normalize,
            patch_grid=v.patch_grid,
            patch_size=v.patch_size,
            combine=recipe.bench.combine,
        )

    @classmethod
    def of_training(cls, recipe):
        """The same with the range and the patches of training, for statistics of what the network has learnt on."""
        v = recipe.views
        return cls(normalize=v.normalize, patch_grid=v.patch_grid, patch_size=v.patch_size)

    @property
    def rows(self):
        """Images that the network sees of one image."""
        return 1 if self.combine == "whole" else self.patch_grid**2

    def side(self, size):
        """Side in pixels of what the network sees of an image of ``size`` x ``size``.

        Raises:
            InputError: the image is smaller than its patches together.
        """
        if self.rows == 1:
            return size
        grid, patch = self.patch_grid, self.patch_size
        fits = grid * patch <= size
        require(fits, f"{size} pixels hold no {grid}x{grid} patches of {patch}; set --probe-size {grid * patch}")
        return patch

    def prepare(self, images):
        """uint8 or float [0, 1] [B, s, s, 3] -> float32 [B * rows, side, side, 3], the patches of an image together."""
        images = to_float(images)
        if self.rows > 1:
            patches = probe_patches(images, size=self.patch_size, grid=self.patch_grid)  # [B, rows, p, p, 3]
            batch = -1 if images.shape[0] is None else images.shape[0] * self.rows
            images = tf.reshape(patches, [batch, *patches.shape[2:]])
        return normalize_input(images, self.normalize)

    def join(self, values):
        """float32 [B * rows, d] -> [B, d], or [B, rows * d] for "concat"."""
        if self.rows == 1:
            return values
        width = values.shape[1]
        if self.combine == "concat":
            return tf.reshape(values, [-1, self.rows * width])
        reduce = tf.reduce_mean if self.combine == "mean" else tf.reduce_max
        return reduce(tf.reshape(values, [-1, self.rows, width]), axis=1)

    def values(self, max_values):
        """Most values that an endpoint may have for one row, so that an image has at most ``max_values``."""
        # Deviation: the official code means to pool further before "concat", and does not.
        return max(1, max_values // self.rows) if self.combine == "concat" else max_values


def represent(network, images, network_input, *, max_values=9000, pooling="max", pools=None):
    """Features of images, as every probe gets them; a 9-patch network looks like any other. ``revisit_ssl.represent``
    does the same for photographs of any size, from a run's folder.

    Args:
        network: keras.Model whose output is {endpoint: [n, h, w, c] or [n, d]}; runs in inference mode.
        images: uint8 or float in [0, 1], [B, s, s, 3]; of a larger image than the patches need the middle is taken
            (``data.EvalView.of(recipe)`` says at which size the recipe's probes look).
        network_input: NetworkInput.
        max_values, pooling: see ``pooling.pool_endpoint``; applied to each patch.
        pools: {endpoint: (kernel, padding)} of endpoints that ``pooling.average_pool`` pools instead; None: of none.

    Returns:
        {endpoint: float32 [B, d]}.

    Raises:
        InputError: an image too small for its patches, or of a size that the network does not take.
    """
    check_input(network, network_input, images.shape[1])
    outputs = network(network_input.prepare(images), training=False)
    values = network_input.values(max_values)
    pools = pools or {}
    pooled = {
        name: average_pool(v, *pools[name]) if name in pools else pool_endpoint(v, values, pooling)
        for name, v in outputs.items()
    }
    return {name: network_input.join(v) for name, v in pooled.items()}


def expects_of(recipe):
    """The backbones.Expects of what a recipe's run exports: everything that ``represent`` needs to know of it."""
    view, known = EvalView.of(recipe), NetworkInput.of(recipe)
    return Expects(
        view=dataclasses.asdict(view), network_input=dataclasses.asdict(known), max_values=recipe.bench.values,
        pooling=recipe.bench.pooling,
    )


def feature_widths(network, size, network_input, max_values=9000, pooling="max", pools=None):
    """{endpoint: d} of ``represent`` for images of ``size`` x ``size`` pixels."""
    side = network_input.side(size)
    times = network_input.rows if network_input.combine == "concat" else 1
    values = network_input.values(max_values)
    shapes = network.compute_output_shape((1, side, side, 3))
    pools = pools or {}

    def pooled(name, shape):
        return averaged_shape(shape, *pools[name]) if name in pools else pooled_shape(shape, values, pooling)

    return {name: times * math.prod(pooled(name, tuple(shape[1:]))) for name, shape in shapes.items()}


def images_at_once(network, size, network_input, limit=256, budget=2**30):
    """How many images may go through a frozen network in one step.

    Args:
        network: keras.Model with all its endpoints: the largest of them stands for the maps between them.
        size: side of the images in pixels.
        network_input: NetworkInput; each of an image's patches has maps of its own.
        limit: at most so many.
        budget: bytes for one float32 map of the batch, 4 times as large as the largest endpoint's: what an endpoint
            gives has passed the stem's or the block's pool, which takes 4 values to 1.

    Returns:
        int in [1, limit].
    """
    side = network_input.side(size)
    largest = max(math.prod(shape[1:]) for shape in network.compute_output_shape((1, side, side, 3)).values())
    return max(1, min(limit, budget // (4 * 4 * largest * network_input.rows)))


def check_input(network, network_input, size):
    """InputError for a network that is bound to another input size (a VGG's fully connected layers are)."""
    side, taken = network_input.side(size), tuple(network.input_shape[1:3])
    if all(own in (None, side) for own in taken):
        return
    how = "set --probe-size to that"
    if network_input.patch_grid > 1:
        how = "with fully connected layers it sees patches alone, set --probe-combine to mean, max or concat"
    require(False, f"{network.name} takes {taken[0]}x{taken[1]} pixels, not the {side}x{side} of the probes; {how}")
