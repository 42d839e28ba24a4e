"""BYOL: predict what a slowly moving target makes of another view (Grill et al., arXiv:2006.07733).

Follows the official deepmind-research byol/, and where it differs OpenSelfSup's, on which BYOL + CLD (Wang et al.,
arXiv:2008.03813) was built. No code of BYOL + CLD is published: its group branch here is a last layer of its own on the
projector's hidden layer, of the online network only, since CLD's author says that it needs no target.
"""

from dataclasses import replace

import keras
import tensorflow as tf

from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.cld import IN_CONTRACT
from revisit_ssl.pretext.heads import BatchNormMLP, NormLinear, linear, unit
from revisit_ssl.pretext.losses import byol_loss, cld_loss
from revisit_ssl.pretext.options import BYOLOptions
from revisit_ssl.pretext.target import cosine_momentum, make_target, momentum_update
from revisit_ssl.views.draws import fold


class BYOL(Pretext):
    """Predict what a slowly moving target makes of another view; nothing is a negative.

    Network, projector and predictor; the target has the first two.

    Reports the loss; the instance part of it, 2 - 2 cos in both orders of the views, in [0, 8]; with CLD its loss and
    the accuracy among the groups.

    Args:
        options: BYOLOptions.
        norm, bn_group: as in Recipe, for projector and predictor.
    """

    Options = BYOLOptions
    # In the second step a row lies so near between two of three groups that rounding decides: here each is its own.
    contract_changes = IN_CONTRACT | {"task__cld__groups": 8}

    def __init__(self, backbone, *, options=None, norm="batch", bn_group=None, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        o = self.options = options or BYOLOptions()
        normalised = {"norm": norm, "momentum": o.head_bn_momentum, "group": bn_group}
        self.projector = BatchNormMLP(o.hidden, o.units, o.last_bias, norm=normalised, name="projector")
        self.projector.build(backbone.output["pre_logits"].shape)
        self.predictor = BatchNormMLP(o.hidden, o.units, o.last_bias, norm=normalised, name="predictor")
        self.predictor.build((None, o.units))
        if o.cld.branches == 2:
            normed = o.group_head == "normlinear"
            self.group = NormLinear(o.units, "group") if normed else linear(o.units, "group")
            self.group.build((None, o.hidden))
        self.target, self.target_projector = make_target(backbone), make_target(self.projector)
        self.ready("loss", "instance", *(("cld", "group_accuracy") if o.cld.weight else ()))

    @classmethod
    def needs_end(cls, options):
        return options.momentum_schedule == "cosine"

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        norm = {"norm": recipe.norm, "bn_group": recipe.bn_group}
        return cls(backbone, options=recipe.task, views=recipe.views, seed=recipe.seed, **norm)

    @property
    def crops(self):
        return {"image": replace(super().crops["image"], count=2)}

    @property
    def exported(self):
        projection = self.projector(self.backbone.output["pre_logits"])
        projection = keras.layers.UnitNormalization(dtype="float32", name="projection")(projection)
        return keras.Model(self.backbone.input, {**self.backbone.output, "projection": projection})

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        self.options.cld.check_batch(images, self.distribute_strategy.num_replicas_in_sync)

    def train_step(self, batch):
        seed, step = self.step_seed(), tf.identity(self.optimizer.iterations)
        crops = self.cut(batch, seed)["image"]  # [B, 2, s, s, 3]
        views = [self.augment(crops[:, i], fold(seed, 310 + i), view=i) for i in range(2)]
        targets = [
            self.target_projector(self.target(view, training=True)["pre_logits"], training=True) for view in views
        ]  # [B, d] each
        with tf.GradientTape() as tape:
            predictions, groups = zip(
                *[self.predict_target(self.backbone(view, training=True)["pre_logits"]) for view in views], strict=True
            )
            loss, scalars = self.objective(predictions, targets, groups)
        self.minimize(loss, tape)
        self.update_target(step)
        return self.report(loss=loss, **scalars)

    def predict_target(self, pre_logits):
        """(prediction, group feature, unit rows) of one view in training: float32 [B, c] -> [B, d] each."""
        hidden = self.projector.activations(pre_logits, training=True)
        projection = self.projector.last(hidden)
        group = self.group(hidden) if self.options.cld.branches == 2 else projection
        return self.predictor(projection, training=True), unit(group)

    def objective(self, predictions, targets, groups):
        """(loss, scalars for the log); each of the arguments holds float32 [B, d] of view 1 and of view 2."""
        loss = byol_loss(predictions[0], targets[1]) + byol_loss(predictions[1], targets[0])
        scalars = {"instance": loss}
        cld = self.options.cld
        if cld.weight:
            scalars["cld"], scalars["group_accuracy"] = cld_loss(*groups, cld)
            loss += cld.weight * scalars["cld"]
        return loss, scalars

    def update_target(self, step):
        """The target after optimiser step number ``step``, counted from 0."""
        momentum = self.options.momentum
        if self.options.momentum_schedule == "cosine":
            momentum = cosine_momentum(momentum, step, self.total_steps)
        for target, online in ((self.target, self.backbone), (self.target_projector, self.projector)):
            momentum_update(target, online, momentum)

    def pictures(self, batch):
        few = {name: batch[name][:4] for name in batch}
        crops = self.cut(few, (self.seed, 0))["image"]
        views = [self.augment(crops[:, i], fold(self.seed, 310 + i), view=i, normalize="none") for i in range(2)]
        images = tf.reshape(tf.stack(views, axis=1), [-1, *crops.shape[2:]])
        return [("each view predicts the other", images.numpy(), ["view 1", "view 2"] * crops.shape[0])]
