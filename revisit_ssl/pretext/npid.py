"""NPID (instance discrimination): an image is a class of its own (Wu et al., arXiv:1805.01978).

Follows the official lib/LinearAverage.py, NCEAverage.py and NCECriterion.py (zhirongw/lemniscate.pytorch), and for two
views and CLD (Wang et al., arXiv:2008.03813) the released train_cifar_npid_cld.py.
"""

from dataclasses import replace

import tensorflow as tf

from revisit_ssl.distribute import gather_replicas
from revisit_ssl.pretext.bank import MemoryBank
from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.cld import IN_CONTRACT
from revisit_ssl.pretext.heads import ProjectionHead, projected
from revisit_ssl.pretext.losses import cld_loss, cross_entropy, instance_softmax, nce, nce_constant
from revisit_ssl.pretext.options import NPIDOptions
from revisit_ssl.views.draws import fold, integers


class NPID(Pretext):
    """An image is a class of its own, among a bank of the last features of every image.

    Network, head and bank. Reports the loss; the instance part of it (log(N) in nats where all similarities are equal);
    the model's probability of the right image in [0, 1]; with CLD its loss and the accuracy among the groups.

    Args:
        size: int, images N of the training set.
        options: NPIDOptions.
    """

    Options = NPIDOptions
    contract_changes = IN_CONTRACT

    def __init__(self, backbone, size, *, options=None, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        o = self.options = options or NPIDOptions()
        self.head = ProjectionHead(o.head, o.units, o.hidden, o.cld.branches)
        self.head.build(backbone.output["pre_logits"].shape)
        self.bank = MemoryBank(size, o.units, o.bank_momentum, seed)
        if o.loss == "nce":
            # 0 until the first step has estimated it; the same on every replica.
            self.z = self.add_weight(
                shape=(), initializer="zeros", trainable=False, aggregation="only_first_replica", name="nce_constant"
            )
        self.ready("loss", "instance", "probability", *(("cld", "group_accuracy") if o.cld.weight else ()))

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        return cls(backbone, source.num_examples, options=recipe.task, views=recipe.views, seed=recipe.seed)

    @property
    def crops(self):
        return {"image": replace(super().crops["image"], count=self.options.views)}

    @property
    def exported(self):
        return projected(self.backbone, self.head)

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        self.options.cld.check_batch(images, self.distribute_strategy.num_replicas_in_sync)

    def train_step(self, batch):
        seed, index = self.step_seed(), batch["index"]
        crops = self.cut(batch, seed)["image"]  # [B, n, s, s, 3]
        views = [self.augment(crops[:, i], fold(seed, 310 + i), view=i) for i in range(self.options.views)]
        with tf.GradientTape() as tape:
            features, groups = [], []
            for view in views:  # one pass each: BatchNorm sees one view at a time
                outputs = self.head(self.backbone(view, training=True)["pre_logits"])
                features.append(outputs[0])  # [B, d]
                groups.append(outputs[-1])
            loss, scalars = self.objective(features, groups, index, fold(seed, 320))
        self.minimize(loss, tape)
        self.bank.update(features[::-1], index)  # view 2 first, as the official code's backward pass
        return self.report(loss=loss, **scalars)

    def objective(self, features, groups, index, seed):
        """(loss, scalars for the log) of unit rows, one float32 [B, d] for a view, and int64 [B], their images."""
        o = self.options
        if o.negatives:
            pairs = [self.sampled(f, index, fold(seed, i)) for i, f in enumerate(features)]
            terms, probabilities = zip(*pairs, strict=True)
            loss = tf.add_n(terms) / o.views
            right = tf.add_n(probabilities) / o.views
        else:
            bank = self.bank.features  # read once: reading may copy it
            terms = [instance_softmax(f, bank, index, o.temperature) for f in features]  # [B] each
            loss = tf.reduce_mean(tf.add_n(terms)) / o.views
            right = tf.reduce_mean(tf.exp(-tf.stack(terms)))
            if o.bank_semantics == "legacy":
                loss += self.legacy(features, terms[0], index) / o.views
        scalars = {"instance": loss, "probability": right}
        if o.cld.weight:
            scalars["cld"], scalars["group_accuracy"] = cld_loss(*groups, o.cld)
            loss += o.cld.weight * scalars["cld"]
        return loss, scalars

    def legacy(self, features, losses, index):
        """0, whose gradient is what view 1 gets more in the released code: its bank already holds view 2.

        There the gradient of the softmax is (p - y) V' / T with the new rows V' in place of the old V. Both banks
        differ in the rows of this batch alone, so (p - y) (V' - V) / T needs those columns of p only.

        Args:
            features: float32 [B, d] of both views.
            losses: float32 [B], -log p of view 1's own image.
            index: int64 [B].
        """
        everyones = gather_replicas(index)
        old = self.bank.at(everyones)  # [B_all, d]
        new = self.bank.moved(old, gather_replicas(features[1]))
        fixed = tf.stop_gradient(features[0])
        own = index[:, None] == everyones[None, :]  # [B, B_all]
        scores = tf.matmul(fixed / self.options.temperature, old, transpose_b=True)
        positive = tf.reduce_sum(fixed * self.bank.at(index), axis=1) / self.options.temperature
        p = tf.exp(scores - (positive + tf.stop_gradient(losses))[:, None])
        more = tf.matmul(p - tf.cast(own, tf.float32), new - old) / self.options.temperature  # [B, d]
        return tf.reduce_mean(tf.reduce_sum(tf.stop_gradient(more) * (features[0] - fixed), axis=1))

    def sampled(self, features, index, seed):
        """(loss, mean probability of the own image) by sampled negatives, which may hit the own image."""
        o = self.options
        negatives = integers(seed, [features.shape[0], o.negatives], 0, self.bank.size)
        return self.compare(features, index, negatives)

    def compare(self, features, index, negatives):
        """As ``sampled``; float32 [B, d], int64 [B], int [B, K], rows of the bank."""
        o = self.options
        places = tf.concat([index[:, None], tf.cast(negatives, index.dtype)], axis=1)
        drawn = tf.stop_gradient(self.bank.at(places))  # [B, 1 + K, d]
        scores = tf.einsum("bd,bkd->bk", features / o.temperature, drawn)
        if o.loss == "softmax":
            labels = tf.zeros_like(index)
            return cross_entropy(scores, labels), tf.reduce_mean(tf.nn.softmax(scores)[:, 0])
        estimate = nce_constant(scores, self.bank.size)
        self.z.assign(tf.where(self.z.value > 0, self.z.value, estimate))
        return nce(scores, self.z.value, self.bank.size), tf.reduce_mean(tf.exp(scores[:, 0])) / self.z.value

    def pictures(self, batch):
        few = {name: batch[name][:4] for name in batch}
        crops = self.cut(few, (self.seed, 0))["image"]
        n = self.options.views
        views = [self.augment(crops[:, i], fold(self.seed, 310 + i), view=i, normalize="none") for i in range(n)]
        images = tf.reshape(tf.stack(views, axis=1), [-1, *crops.shape[2:]])
        names = [f"view {i + 1}" for i in range(n)] * crops.shape[0]
        return [("each image is a class of its own", images.numpy(), names)]
