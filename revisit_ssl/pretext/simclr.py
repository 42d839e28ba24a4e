"""SimCLR: find the other view of an image in the batch (Chen et al., arXiv:2002.05709)."""

from dataclasses import replace

import tensorflow as tf

from revisit_ssl.errors import require
from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.heads import ProjectionHead, projected
from revisit_ssl.pretext.losses import nt_xent
from revisit_ssl.pretext.options import SimCLROptions
from revisit_ssl.views.draws import fold


class SimCLR(Pretext):
    """Find the other view of an image among all other views of the global batch.

    Network and head. Reports the loss in nats (log(2B - 1) where all similarities are equal, B images on all replicas)
    and the accuracy in [0, 1]: how often the most similar of all other rows is the other view.

    Args:
        options: SimCLROptions.
    """

    Options = SimCLROptions

    def __init__(self, backbone, *, options=None, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        o = self.options = options or SimCLROptions()
        self.head = ProjectionHead(o.head, o.units, o.hidden)
        self.head.build(backbone.output["pre_logits"].shape)
        self.ready("loss", "accuracy")

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        return cls(backbone, options=recipe.task, views=recipe.views, seed=recipe.seed)

    @property
    def crops(self):
        return {"image": replace(super().crops["image"], count=2)}

    @property
    def rows_per_image(self):
        return 2

    @property
    def exported(self):
        return projected(self.backbone, self.head)

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        everyones = images * self.distribute_strategy.num_replicas_in_sync
        require(everyones >= 2, "simclr needs at least 2 images in a step: one has no negatives; raise batch-size")

    def train_step(self, batch):
        with tf.GradientTape() as tape:
            z1, z2 = tf.split(self.project(batch, self.step_seed(), training=True), 2)  # [B, d] each
            loss, accuracy = nt_xent(z1, z2, self.options.temperature)
        self.minimize(loss, tape)
        return self.report(loss=loss, accuracy=accuracy)

    def test_step(self, batch):
        """Loss and accuracy among two training views of the evaluation images, uint8 [B, s, s, 3], with fixed draws."""
        z1, z2 = tf.split(self.project(batch, (self.seed, 0), training=False), 2)
        loss, accuracy = nt_xent(z1, z2, self.options.temperature)
        return self.report(loss=loss, accuracy=accuracy)

    def project(self, batch, seed, training):
        """Unit rows of all first views, then of all second ones: float32 [2B, d]."""
        # One pass for both views: BatchNorm normalises them together, as the official code does.
        views = tf.concat(self.views(batch, seed), axis=0)  # [2B, s, s, 3]
        return self.head(self.backbone(views, training=training)["pre_logits"])[0]

    def views(self, batch, seed, **changes):
        """Two float32 [B, s, s, 3]."""
        crops = self.cut(batch, seed)["image"]  # [B, 2, s, s, 3]
        return [self.augment(crops[:, i], fold(seed, 310 + i), view=i, **changes) for i in range(2)]

    def pictures(self, batch):
        few = {name: batch[name][:4] for name in batch}
        images = tf.stack(self.views(few, (self.seed, 0), normalize="none"), axis=1)  # [4, 2, s, s, 3]
        names = ["view 1", "view 2"] * images.shape[0]
        return [("find the other view", tf.reshape(images, [-1, *images.shape[2:]]).numpy(), names)]
