"""Relative patch location: which neighbour of the centre is it (Doersch et al., arXiv:1505.05192).

Follows Kolesnikov et al. (arXiv:1901.09005), supplement section 1, and the official
self_supervision/relative_patch_location.py: all eight neighbours of every image in each step.
"""

import numpy as np
import tensorflow as tf

from revisit_ssl.errors import require
from revisit_ssl.pretext.losses import accuracy, cross_entropy
from revisit_ssl.pretext.options import PatchOptions
from revisit_ssl.pretext.patch_head import HeadShape, PatchPretext, check_grid, concat_patches
from revisit_ssl.views.draws import fold
from revisit_ssl.views.resample import resize


class RelativePatch(PatchPretext):
    """Classifier of the pair (neighbour, centre): eight classes, the neighbour's cells in raster order.

    Reports the loss in nats (log 8 = 2.079 for a constant answer) and the accuracy in [0, 1] (chance 0.125).

    Args:
        views: ViewSpec with patches, one of them in the middle.
        options: PatchOptions.
        base: norm, bn_group and seed, as in PatchPretext.

    Raises:
        InputError: an even grid, or none.
    """

    def __init__(self, backbone, *, views, options=None, **base):
        check_grid("relative_patch", views, least=3)
        grid = views.patch_grid
        require(grid % 2 == 1, f"relative_patch needs an odd views.patch-grid, which has a centre; it is {grid}")
        pairs = neighbour_pairs(grid)
        options = options or PatchOptions()
        shape = HeadShape(classes=len(pairs), positions=2, rows=len(pairs))
        super().__init__(backbone, shape, options=options, views=views, **base)
        self.pairs = pairs

    def train_step(self, batch):
        seed = self.step_seed()
        crops = self.cut(batch, seed)["image"][:, 0]  # [B, s, s, 3]
        patches = self.patches(crops, seed)  # [9B, p, p, 3], image-major
        labels = tf.tile(tf.range(len(self.pairs)), [crops.shape[0]])  # [0 .. 7] * B
        with tf.GradientTape() as tape:
            vectors = self.embed(patches, training=True)  # [B, 9, d]
            rows = concat_patches(vectors, self.pairs)  # [8B, 2d]
            logits = self.head.classify(rows, training=True, seed=fold(seed, 204))  # [8B, 8]
            loss = cross_entropy(logits, labels)
        self.minimize(loss, tape)
        return self.report(loss=loss, accuracy=accuracy(logits, labels))

    def test_step(self, batch):
        """All pairs of every image: uint8 [B, s, s, 3] of ``score_view``."""
        vectors = self.embed(self.central_patches(batch["image"]), training=False)
        logits = self.head.classify(concat_patches(vectors, self.pairs))
        labels = tf.tile(tf.range(len(self.pairs)), [tf.shape(vectors)[0]])
        return self.report(loss=cross_entropy(logits, labels), accuracy=accuracy(logits, labels))

    def pictures(self, batch):
        seed, grid = (self.seed, 0), self.view_spec.patch_grid
        crops = self.cut({name: batch[name][:4] for name in batch}, seed)["image"][:, 0]
        patches = self.patches(crops, seed, normalize="none")
        patches = resize(patches, [crops.shape[1] // 2 - 2] * 2).numpy()  # as large as two fit side by side
        shown = self.pairs[:: len(self.pairs) // 8]  # a sheet has nine columns
        images = []
        for crop, own in zip(crops.numpy(), np.split(patches, len(crops)), strict=True):
            images += [crop, *(self.spread(own, pair, 2) for pair in shown)]
        names = ["crop", *(direction(pair, grid) for pair in shown)] * len(crops)
        return [("where does the left patch lie, seen from the right one, the centre", np.stack(images), names)]


def neighbour_pairs(grid):
    """int32 [grid^2 - 1, 2]: (cell, centre) for every other cell in raster order; the row is the class."""
    centre = grid**2 // 2
    return np.array([(cell, centre) for cell in range(grid**2) if cell != centre], np.int32)


def direction(pair, grid):
    """Words for a pair: "up left", "right", in larger grids "2 down right"."""
    (y, x), (cy, cx) = (divmod(int(cell), grid) for cell in pair)
    steps = ((cy - y, "up"), (y - cy, "down"), (cx - x, "left"), (x - cx, "right"))
    return " ".join(word if n == 1 else f"{n} {word}" for n, word in steps if n > 0)
