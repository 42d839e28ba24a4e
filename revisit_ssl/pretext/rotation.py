"""Rotation prediction: which of four quarter turns was applied (Gidaris et al., arXiv:1803.07728).

Follows Kolesnikov et al. (arXiv:1901.09005), supplement section 1 and the official self_supervision/rotation.py: one
augmented crop of each image, all its four rotations in the same batch, labels [0, 1, 2, 3].
"""

import keras
import tensorflow as tf

from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.losses import accuracy, cross_entropy
from revisit_ssl.views.geometry import rotation_labels, rotations
from revisit_ssl.views.pixels import normalize_input, to_float


class Rotation(Pretext):
    """Four-way rotation classifier on pre_logits.

    Reports the loss in nats (log 4 = 1.386 for a constant answer) and the accuracy in [0, 1] (chance 0.25).
    """

    def __init__(self, backbone, *, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        self.head = keras.layers.Dense(4, dtype="float32", name="rotation_logits")
        self.head.build(backbone.output["pre_logits"].shape)
        self.ready("loss", "accuracy")

    @property
    def rows_per_image(self):
        return 4

    def train_step(self, batch):
        seed = self.step_seed()
        crops = self.cut(batch, seed)["image"][:, 0]  # [B, s, s, 3]
        images = rotations(self.augment(crops, seed))  # [4B, s, s, 3], image-major
        labels = rotation_labels(crops.shape[0])  # [0, 1, 2, 3] * B
        with tf.GradientTape() as tape:
            logits = self.head(self.backbone(images, training=True)["pre_logits"])  # [4B, 4]
            loss = cross_entropy(logits, labels)
        self.minimize(loss, tape)
        return self.report(loss=loss, accuracy=accuracy(logits, labels))

    def test_step(self, batch):
        """The same four rotations of the evaluation view: uint8 [B, s, s, 3]."""
        images = rotations(normalize_input(to_float(batch["image"]), self.view_spec.normalize))
        labels = rotation_labels(tf.shape(batch["image"])[0])
        logits = self.head(self.backbone(images, training=False)["pre_logits"])
        return self.report(loss=cross_entropy(logits, labels), accuracy=accuracy(logits, labels))

    def pictures(self, batch):
        seed = (self.seed, 0)
        crops = self.cut({name: batch[name][:4] for name in batch}, seed)["image"][:, 0]
        turned = tf.reshape(rotations(crops), [-1, *crops.shape[1:]])
        return [("the four rotations, each a class", turned.numpy(), ["0°", "90°", "180°", "270°"] * crops.shape[0])]
