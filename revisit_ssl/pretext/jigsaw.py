"""Jigsaw: in which of 100 orders do the nine patches of an image come (Noroozi and Favaro, arXiv:1603.09246).

Follows Kolesnikov et al. (arXiv:1901.09005), supplement section 1, and the official self_supervision/jigsaw.py.
"""

import numpy as np
import tensorflow as tf

from revisit_ssl.errors import require
from revisit_ssl.pretext.losses import accuracy, cross_entropy
from revisit_ssl.pretext.options import JigsawOptions
from revisit_ssl.pretext.patch_head import HeadShape, PatchPretext, check_grid, concat_patches
from revisit_ssl.views.draws import as_seed, fold, uniform
from revisit_ssl.views.permutations import load_permutations, make_permutations


class Jigsaw(PatchPretext):
    """Classifier of permutations.

    Class c says: position q shows the patch of cell ``permutations[c, q]``. So the label undoes the shuffling:
    ``restored[permutations[c]] = shown``.

    Reports the loss in nats (log 100 = 4.605 for a constant answer) and the accuracy in [0, 1] (chance 0.01), in
    training over the orders drawn, at evaluation over all orders of every image.

    Args:
        views: ViewSpec with patches.
        options: JigsawOptions.
        base: norm, bn_group and seed, as in PatchPretext.

    Raises:
        InputError: no patches, or permutations that do not fit their number.
    """

    Options = JigsawOptions

    def __init__(self, backbone, *, views, options=None, **base):
        check_grid("jigsaw", views)
        options = options or JigsawOptions()
        permutations = permutation_set(options, views.patch_grid**2)
        count, positions = permutations.shape
        few = f"task.permutations {options.permutations} is more than the {count} of the set; ask for fewer"
        require(options.permutations <= count, few)
        shape = HeadShape(classes=count, positions=positions, rows=options.permutations)
        super().__init__(backbone, shape, options=options, views=views, **base)
        self.permutations = permutations

    def train_step(self, batch):
        seed = self.step_seed()
        crops = self.cut(batch, seed)["image"][:, 0]  # [B, s, s, 3]
        patches = self.patches(crops, seed)  # [9B, p, p, 3], image-major
        classes = self.draw_classes(crops.shape[0], fold(seed, 203))  # [B, M]
        labels = tf.reshape(classes, [-1])
        with tf.GradientTape() as tape:
            vectors = self.embed(patches, training=True)  # [B, 9, d]
            rows = concat_patches(vectors, tf.gather(self.permutations, classes))  # [BM, 9d]
            logits = self.head.classify(rows, training=True, seed=fold(seed, 204))  # [BM, 100]
            loss = cross_entropy(logits, labels)
        self.minimize(loss, tape)
        return self.report(loss=loss, accuracy=accuracy(logits, labels))

    def test_step(self, batch):
        """All permutations of every image: uint8 [B, s, s, 3] of ``score_view``."""
        vectors = self.embed(self.central_patches(batch["image"]), training=False)
        logits = self.head.classify(concat_patches(vectors, self.permutations))  # [100 B, 100]
        labels = tf.tile(tf.range(len(self.permutations)), [tf.shape(vectors)[0]])
        return self.report(loss=cross_entropy(logits, labels), accuracy=accuracy(logits, labels))

    def draw_classes(self, count, seed):
        """int32 [count, M]: M classes for each of ``count`` images, without replacement; all rows equal if shared."""
        m, n = self.options.permutations, len(self.permutations)
        if self.options.shared_subset:
            shared = uniform(as_seed(seed).key, [1, n])  # without the replica: one draw for the global batch
            return tf.tile(tf.math.top_k(shared, m).indices, [count, 1])
        return tf.math.top_k(uniform(seed, [count, n]), m).indices

    def pictures(self, batch):
        seed, grid = (self.seed, 0), self.view_spec.patch_grid
        crops = self.cut({name: batch[name][:4] for name in batch}, seed)["image"][:, 0]
        patches = self.patches(crops, seed, normalize="none").numpy()
        count = len(self.permutations)
        classes = sorted({i * count // 4 for i in range(4)})
        images = []
        for crop, own in zip(crops.numpy(), np.split(patches, len(crops)), strict=True):
            orders = [range(grid**2), *self.permutations[classes]]
            images += [crop, *(self.spread(own, order, grid) for order in orders)]
        names = ["crop", "its patches", *(f"class {c}" for c in classes)] * len(crops)
        return [(f"which of {count} orders is it", np.stack(images), names)]


def permutation_set(options, positions):
    """int32 [classes, positions] of the options; InputError where a file does not fit the grid."""
    if options.permutation_file is None:
        return make_permutations(options.permutation_count, positions, options.permutation_seed)
    permutations = load_permutations(options.permutation_file)
    size = permutations.shape[1]
    wrong = f"{options.permutation_file!r} permutes {size} patches, the grid has {positions}; change views.patch-grid"
    require(size == positions, wrong)
    return permutations
