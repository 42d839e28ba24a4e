"""Exemplar: crops of one image are one class of their own (Dosovitskiy et al., arXiv:1406.6909).

Follows Kolesnikov et al. (arXiv:1901.09005), supplement section 1 and the official self_supervision/exemplar.py, which
trains it with a triplet loss: 8 crops of each image, an embedding of 1000 numbers, semi-hard negatives, margin 0.5.
"""

from dataclasses import replace

import keras
import tensorflow as tf

from revisit_ssl.errors import require
from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.losses import retrieval_accuracy, triplet_semihard
from revisit_ssl.pretext.options import ExemplarOptions
from revisit_ssl.views.color import random_grayscale
from revisit_ssl.views.crops import cut
from revisit_ssl.views.draws import fold


class Exemplar(Pretext):
    """Embedding whose nearest neighbours are crops of the same image.

    Reports the loss (margin for a constant embedding) and the accuracy of retrieval in [0, 1]: how often the crop
    nearest to a crop, of all in the replica's batch of B images, is one of the same image (chance: 7 of 8 * B - 1).

    Args:
        options: ExemplarOptions.
    """

    Options = ExemplarOptions

    def __init__(self, backbone, *, options=None, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        self.options = options or ExemplarOptions()
        # The official network's last layer, a 1x1 convolution with bias on the pooled features.
        self.head = keras.layers.Dense(self.options.embed_dim, dtype="float32", name="embedding")
        self.head.build(backbone.output["pre_logits"].shape)
        self.ready("loss", "accuracy")

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        return cls(backbone, options=recipe.task, views=recipe.views, seed=recipe.seed)

    @property
    def crops(self):
        return {"image": replace(super().crops["image"], count=self.options.crops)}

    @property
    def rows_per_image(self):
        return self.options.crops

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        group = self.options.loss_group or images
        require(group >= 2, f"{images} image on a device has no negatives; exemplar needs at least 2, raise batch-size")
        require(images % group == 0, f"task.loss_group {group} does not divide the {images} images of a device")

    def train_step(self, batch):
        seed = self.step_seed()
        crops = self.cut(batch, seed)["image"]  # [B, n, s, s, 3]
        count = crops.shape[0]
        labels = tf.repeat(tf.range(count), self.options.crops)  # [Bn], image-major
        images = self.augment_crops(crops, seed)  # [Bn, s, s, 3]
        with tf.GradientTape() as tape:
            embeddings = self.head(self.backbone(images, training=True)["pre_logits"])  # [Bn, d]
            loss, embeddings = self.compare(embeddings, labels, count // (self.options.loss_group or count))
        self.minimize(loss, tape)
        return self.report(loss=loss, accuracy=retrieval_accuracy(embeddings, labels))

    def test_step(self, batch):
        """Loss and retrieval among training views of the evaluation images, uint8 [B, s, s, 3], with fixed draws."""
        # Deviation: the official evaluation compares 8 copies of one central crop, which says nothing.
        seed = (self.seed, 0)
        crops = cut(batch["image"], self.crops["image"], fold(seed, 0))
        labels = tf.repeat(tf.range(tf.shape(crops)[0]), self.options.crops)
        images = self.augment_crops(crops, seed)
        embeddings = self.head(self.backbone(images, training=False)["pre_logits"])
        loss, embeddings = self.compare(embeddings, labels, 1)
        return self.report(loss=loss, accuracy=retrieval_accuracy(embeddings, labels))

    def compare(self, embeddings, labels, groups):
        """(mean loss of that many groups of consecutive rows, their normalised embeddings [N, d])."""
        losses, rows = [], []
        for each, own in zip(tf.split(embeddings, groups), tf.split(labels, groups), strict=True):
            rows.append(tf.math.l2_normalize(each, axis=1 if self.options.normalize == "row" else 0))
            losses.append(triplet_semihard(rows[-1], own, self.options.margin))
        return tf.add_n(losses) / groups, tf.concat(rows, axis=0)

    def augment_crops(self, crops, seed, **changes):
        """float32 [B, n, s, s, 3] in [0, 1] -> [Bn, s, s, 3]: gray for all crops of an image or none, else one by one.

        The official code makes the whole image gray before it is cropped. The mean of the channels may be taken after
        cropping and scaling as well, but not after a change of colour.
        """
        v = self.view_spec
        if v.gray_probability:
            crops = random_grayscale(crops, fold(seed, 103), probability=v.gray_probability, mode=v.gray)
        images = tf.reshape(crops, [-1, *crops.shape[2:]])
        return self.augment(images, seed, gray_probability=0.0, **changes)

    def pictures(self, batch):
        seed, n = (self.seed, 0), self.options.crops
        crops = self.cut({name: batch[name][:4] for name in batch}, seed)["image"]
        images = self.augment_crops(crops, seed, normalize="none")
        names = [f"crop {i + 1}" for i in range(n)] * crops.shape[0]
        return [(f"a row, {n} crops of one image, is a class", images.numpy(), names)]
