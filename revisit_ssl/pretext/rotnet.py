"""RotNet as DeeperCluster's authors train it: one rotation of each image (arXiv:1905.01278; Gidaris et al.'s task)."""

import tensorflow as tf

from revisit_ssl.errors import require
from revisit_ssl.pretext.cluster_options import RotNetOptions
from revisit_ssl.pretext.losses import accuracy, cross_entropy
from revisit_ssl.pretext.rotation import Rotation
from revisit_ssl.views.geometry import quarter_turns, rotations


class RotNet(Rotation):
    """Four-way rotation classifier, with one rotation of an image in a step or all four.

    Reports the loss in nats (log 4 = 1.386 for a constant answer) and the accuracy in [0, 1] (chance 0.25).

    Args:
        options: RotNetOptions.
    """

    Options = RotNetOptions

    def __init__(self, backbone, *, options=None, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        self.options = options or RotNetOptions()

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        return cls(backbone, options=recipe.task, views=recipe.views, seed=recipe.seed)

    @property
    def rows_per_image(self):
        return self.options.copies

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        fits = self.options.copies == 4 or images % 4 == 0
        require(fits, f"{images} images of a device do not divide over 4 rotations; use a batch of a multiple")

    def train_step(self, batch):
        seed = self.step_seed()
        images = self.augment(self.cut(batch, seed)["image"][:, 0], seed)  # [B, s, s, 3]
        # Images come in a new order each epoch, so that the rotation of a row is random and a batch has all four alike.
        images = rotations(images) if self.options.copies == 4 else quarter_turns(images)
        labels = tf.range(images.shape[0]) % 4
        with tf.GradientTape() as tape:
            logits = self.head(self.backbone(images, training=True)["pre_logits"])
            loss = cross_entropy(logits, labels)
        self.minimize(loss, tape)
        return self.report(loss=loss, accuracy=accuracy(logits, labels))
