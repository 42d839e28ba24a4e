"""What Jigsaw and relative patch location share: patches, a vector for each, a small network on their sequence.

Follows Kolesnikov et al. (arXiv:1901.09005), supplement section 1, and the official self_supervision/patch_utils.py.
"""

import dataclasses
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.backbones.parts import normalisation
from revisit_ssl.data.decoding import EvalView
from revisit_ssl.errors import require
from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.options import PatchOptions
from revisit_ssl.views.color import random_grayscale
from revisit_ssl.views.draws import dropout, fold
from revisit_ssl.views.patches import grid_patches
from revisit_ssl.views.pixels import normalize_input, to_float
from revisit_ssl.views.resample import center_crop


def concat_patches(vectors, order):
    """Puts patch vectors side by side, as the official code interleaves them.

    Args:
        vectors: float [B, P, C], P patches of each image.
        order: int [M, K], or [B, M, K] for other orders in each image: the patch at each of K positions.

    Returns:
        float [B * M, C * K]; row = image * M + order, column = channel * K + position.
    """
    ordered = tf.gather(vectors, order, axis=1, batch_dims=len(order.shape) - 2)  # [B, M, K, C]
    return tf.reshape(tf.transpose(ordered, [0, 1, 3, 2]), [-1, vectors.shape[2] * order.shape[-1]])


class PatchHead(keras.layers.Layer):
    """Hidden layer, BatchNorm, ReLU, dropout, logits ("fc7", "fc8" of the original AlexNets): [N, d] -> [N, classes].

    Kernels truncated normal of deviation 0.005, hidden bias 0.1; BatchNorm with TF's old ResNet constants 0.997 and
    1e-5. The name "patch_head" in the kernels' paths is what OptimizerSpec.head_weight_decay goes by.

    Args:
        classes: int.
        options: PatchOptions.
        norm: as Recipe.norm.
        group: rows normalised together in training (ghost batches); None: all.
    """

    def __init__(self, classes, options, norm="batch", group=None):
        super().__init__(name="patch_head", dtype="float32")
        self.rate = options.dropout
        self.hidden = keras.layers.Dense(
            options.hidden,
            bias_initializer=keras.initializers.Constant(0.1),
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.005),
            dtype="float32",
            name="hidden",
        )
        self.norm = normalisation(norm, options.head_bn_momentum, 1e-5, "hidden_norm", "float32", group)
        self.logits = keras.layers.Dense(
            classes, kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.005), dtype="float32", name="logits"
        )

    def build(self, input_shape):
        self.hidden.build(input_shape)
        shape = (input_shape[0], self.hidden.units)
        self.norm.build(shape)
        self.logits.build(shape)
        self.built = True

    def classify(self, x, training=False, seed=None):
        """Logits; ``seed`` (of ``views.draws``) is needed in training only. Not call(): Keras refuses such an argument.

        Args:
            x: float32 [N, d].

        Returns:
            float32 [N, classes].
        """
        x = tf.nn.relu(self.norm(self.hidden(x), training=training))
        if training:
            x = dropout(x, self.rate, seed)
        return self.logits(x)


class HeadShape(NamedTuple):
    """What the head of a patch task classifies: ``positions`` patch vectors at once into ``classes``, in ``rows`` rows
    of each image in training."""

    classes: int
    positions: int
    rows: int


class PatchPretext(Pretext):
    """The patches of a crop, the network on each of them, the head on some of their vectors.

    Args:
        shape: HeadShape.
        options: PatchOptions.
        views: ViewSpec with patches.
        norm, bn_group: as in Recipe, for the head, whose ghost batches are of the same images as the trunk's.

    Raises:
        InputError: a ghost batch that is not of whole images.
    """

    Options = PatchOptions
    cuts_patches = True

    def __init__(self, backbone, shape, *, options, views, norm="batch", bn_group=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        images, rest = divmod(bn_group or 0, views.patch_grid**2)
        require(rest == 0, f"bn_group {bn_group} is not a multiple of an image's {views.patch_grid**2} patches")
        self.options = options
        # The official network's own last layer; with the trunk's weight decay, hence not in the head.
        self.embedding = keras.layers.Dense(options.embed_dim, dtype="float32", name="embedding")
        self.embedding.build(backbone.output["pre_logits"].shape)
        self.head = PatchHead(shape.classes, options, norm, images * shape.rows or None)
        self.head.build((None, shape.positions * options.embed_dim))
        self.ready("loss", "accuracy")

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        norm = {"norm": recipe.norm, "bn_group": recipe.bn_group}
        return cls(backbone, options=recipe.task, views=recipe.views, seed=recipe.seed, **norm)

    @property
    def rows_per_image(self):
        return self.view_spec.patch_grid**2

    def patches(self, crops, seed, **changes):
        """One jittered patch from each cell: float32 [B, s, s, 3] in [0, 1] -> [B * grid^2, p, p, 3], image-major.

        Changes of all pixels alike are made to the crop, before it is cut; ``changes`` as for ``augment``.
        """
        v = dataclasses.replace(self.view_spec, **changes)
        late = v.gray_probability if v.gray_per_patch else 0.0
        crops = self.augment(crops, seed, normalize="none", **({"gray_probability": 0.0} if late else {}))
        patches = self.cells(crops, fold(seed, 201))
        if late:
            patches = random_grayscale(patches, fold(seed, 202), probability=late, mode=v.gray)
        return normalize_input(patches, v.normalize)

    def central_patches(self, images):
        """The middle of each cell, in colour: uint8 [B, s, s, 3] -> float32 [B * grid^2, p, p, 3]."""
        # Deviation: the official evaluation tosses the coin for gray too, so that its score is random.
        return normalize_input(self.cells(to_float(images)), self.view_spec.normalize)

    def cells(self, crops, seed=None):
        """[B, s, s, 3] -> [B * grid^2, p, p, 3]; pixels beyond the last whole cell are cut off all round."""
        v = self.view_spec
        cell = v.size // v.patch_grid
        crops = center_crop(crops, cell * v.patch_grid)
        patches = grid_patches(crops, seed, grid=v.patch_grid, cell=cell, size=v.patch_size)
        return tf.reshape(patches, [-1, *patches.shape[2:]])

    def embed(self, patches, training):
        """The network on every patch: [B * P, p, p, 3] -> float32 [B, P, embed_dim]."""
        vectors = self.embedding(self.backbone(patches, training=training)["pre_logits"])
        return tf.reshape(vectors, [-1, self.view_spec.patch_grid**2, self.options.embed_dim])

    def score_view(self, view):
        v = self.view_spec
        # As in training, with the central crop: the probes' view has no gaps between the patches.
        side = max(v.size, v.resize_to or view.resize or v.size)
        return EvalView(size=v.size, resize=side, method="squash", kernel=v.resize)

    def spread(self, patches, order, columns):
        """Patches on a white sheet of the crop's size, for pictures.

        Args:
            patches: float32 [P, p, p, 3] in [0, 1].
            order: ints, the patch at each place in raster order.
            columns: int, places side by side.

        Returns:
            float32 [s, s, 3].
        """
        side, p = self.view_spec.size, patches.shape[1]
        sheet = np.ones([side, side, 3], np.float32)
        place, rows = side // columns, -(-len(order) // columns)
        left, top = (place - p) // 2, (side - rows * place + place - p) // 2
        for i, patch in enumerate(order):
            y, x = top + i // columns * place, left + i % columns * place
            sheet[y : y + p, x : x + p] = patches[patch]
        return sheet


def check_grid(name, views, least=2):
    """InputError unless the view has patches for the pretext ``name``."""
    require(views.patch_grid >= least, f"{name} needs views.patch-grid of at least {least}; it is {views.patch_grid}")
