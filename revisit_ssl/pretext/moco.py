"""MoCo v1 and v2: find the key among the keys of a queue (He et al., arXiv:1911.05722; Chen et al., arXiv:2003.04297).

Follows the official moco/builder.py and main_moco.py, their CIFAR-10 notebook (symmetric loss), and for CLD (Wang et
al., arXiv:2008.03813) the released train_cifar_moco_cld.py and main_imagenet_moco_cld.py.
"""

from dataclasses import replace

import tensorflow as tf

from revisit_ssl.pretext.cld import IN_CONTRACT
from revisit_ssl.pretext.heads import ProjectionHead
from revisit_ssl.pretext.losses import cld_loss, info_nce
from revisit_ssl.pretext.momentum_encoder import MomentumEncoder
from revisit_ssl.pretext.options import MoCoOptions
from revisit_ssl.pretext.queue import Queue
from revisit_ssl.pretext.target import make_target
from revisit_ssl.views.draws import fold


class MoCo(MomentumEncoder):
    """Find the key, what a slowly moving target makes of another view, among the keys of a queue.

    Network and head, their target, and the queue of the target's keys.

    Reports the loss; the instance part of it (log(K + 1) in nats where all similarities are equal, twice that where
    symmetric); the accuracy in [0, 1], how often the positive is the most similar of all; with CLD its loss and the
    accuracy among the groups.

    Args:
        options: MoCoOptions.
    """

    Options = MoCoOptions
    contract_changes = IN_CONTRACT

    def __init__(self, backbone, *, options=None, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        o = self.options = options or MoCoOptions()
        self.head = ProjectionHead(o.head, o.units, o.hidden, o.cld.branches)
        self.head.build(backbone.output["pre_logits"].shape)
        self.target, self.target_head = make_target(backbone), make_target(self.head)
        self.queue = Queue(o.queue_size, o.units, o.queue_start, o.queue_scope, seed)
        self.ready("loss", "instance", "accuracy", *(("cld", "group_accuracy") if o.cld.weight else ()))

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        return cls(backbone, options=recipe.task, views=recipe.views, seed=recipe.seed)

    @property
    def crops(self):
        return {"image": replace(super().crops["image"], count=self.options.views)}

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        o, replicas = self.options, self.distribute_strategy.num_replicas_in_sync
        self.check_keys(images * (replicas if o.queue_scope == "global" else 1))
        o.cld.check_batch(images, replicas)

    def train_step(self, batch):
        o, seed = self.options, self.step_seed()
        crops = self.cut(batch, seed)["image"]  # [B, n, s, s, 3]
        views = [self.augment(crops[:, i], fold(seed, 310 + i), view=i) for i in range(o.views)]
        if o.update_target == "before":
            self.update_target()
        keys = [
            self.encode_keys(view, fold(seed, 320 + i)) for i, view in enumerate(views if o.symmetric else views[-1:])
        ]  # [B, d] each
        with tf.GradientTape() as tape:
            queries, groups = [], []
            for view in views if o.symmetric else views[:-1]:  # one pass each: BatchNorm sees one view at a time
                outputs = self.head(self.backbone(view, training=True)["pre_logits"])
                queries.append(outputs[0])  # [B, d]
                groups.append(outputs[-1])
            loss, scalars = self.objective(queries, keys[::-1] if o.symmetric else keys * len(queries), groups)
        self.minimize(loss, tape)
        for each in keys:
            self.queue.enqueue(each)
        if o.update_target == "after":
            self.update_target()
        return self.report(loss=loss, **scalars)

    def objective(self, queries, keys, groups):
        """(loss, scalars for the log) of unit rows, each of the arguments a list of float32 [B, d], one for a query."""
        o = self.options
        negatives = self.queue.features  # read once: reading may copy it
        terms = [info_nce(query, key, negatives, o.temperature) for query, key in zip(queries, keys, strict=True)]
        losses, hits = zip(*terms, strict=True)
        loss = tf.add_n(losses) / (1 if o.symmetric else len(losses))
        scalars = {"instance": loss, "accuracy": tf.add_n(hits) / len(hits)}
        if o.cld.weight:
            scalars["cld"], scalars["group_accuracy"] = cld_loss(*groups, o.cld)
            loss += o.cld.weight * scalars["cld"]
        return loss, scalars

    def pictures(self, batch):
        few = {name: batch[name][:4] for name in batch}
        crops = self.cut(few, (self.seed, 0))["image"]
        n = self.options.views
        views = [self.augment(crops[:, i], fold(self.seed, 310 + i), view=i, normalize="none") for i in range(n)]
        images = tf.reshape(tf.stack(views, axis=1), [-1, *crops.shape[2:]])
        names = [*(f"query {i + 1}" for i in range(n - 1)), "key"] * crops.shape[0]
        return [("a query finds the key of its own image", images.numpy(), names)]
