"""Reference rows: the same network trained with labels, and the same network not trained at all."""

import keras
import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.losses import accuracy, cross_entropy
from revisit_ssl.views.pixels import normalize_input, to_float


class Supervised(Pretext):
    """Softmax classifier on pre_logits: the upper reference of every table.

    Args:
        num_classes: int.
    """

    def __init__(self, backbone, *, num_classes, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        self.head = keras.layers.Dense(num_classes, dtype="float32", name="class_logits")
        self.head.build(backbone.output["pre_logits"].shape)
        self.ready("loss", "accuracy")

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        if source.num_classes is None:
            raise InputError(f"supervised needs labels and {source.name} has none; choose a labelled set")
        return cls(backbone, num_classes=source.num_classes, views=recipe.views, seed=recipe.seed)

    def train_step(self, batch):
        seed = self.step_seed()
        images = self.augment(self.cut(batch, seed)["image"][:, 0], seed)  # [B, s, s, 3]
        with tf.GradientTape() as tape:
            logits = self.head(self.backbone(images, training=True)["pre_logits"])  # [B, C]
            loss = cross_entropy(logits, batch["label"])
        self.minimize(loss, tape)
        return self.report(loss=loss, accuracy=accuracy(logits, batch["label"]))

    def test_step(self, batch):
        """Evaluation view: uint8 [B, s, s, 3]."""
        images = normalize_input(to_float(batch["image"]), self.view_spec.normalize)
        logits = self.head(self.backbone(images, training=False)["pre_logits"])
        return self.report(loss=cross_entropy(logits, batch["label"]), accuracy=accuracy(logits, batch["label"]))


class RandomInit(Pretext):
    """The network as it was initialised: the row that every pretext has to beat."""

    trains = False

    def __init__(self, backbone, *, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        self.ready("loss")

    def train_step(self, batch):
        raise InputError("random is a baseline and is not trained; set epochs to 0")
