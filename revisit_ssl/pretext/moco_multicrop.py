"""MoCo v2 with the views of OBoW, as in Table 1 of the OBoW supplement (Gidaris et al., arXiv:2012.11552).

Neither text nor code says which of the seven crops are queries and which are keys. Here the target encodes the large
crops; every crop is a query for the keys of its image that are not its own, and all these pairs count the same.
"""

import tensorflow as tf

from revisit_ssl.backbones.normalisation import rows_of_an_image
from revisit_ssl.pretext.heads import ProjectionHead
from revisit_ssl.pretext.losses import info_nce
from revisit_ssl.pretext.momentum_encoder import MomentumEncoder
from revisit_ssl.pretext.multicrop import LARGE, PATCHES, MultiCrop
from revisit_ssl.pretext.multicrop_options import MoCoMultiCropOptions
from revisit_ssl.pretext.queue import Queue
from revisit_ssl.pretext.target import make_target
from revisit_ssl.views.draws import fold


class MoCoMultiCrop(MomentumEncoder, MultiCrop):
    """MoCo v2 with OBoW's views: from crops, find the target's key of the whole image among the keys of a queue.

    Network and head, their target, and the queue of the target's keys.

    Reports the loss, the mean over the pairs (log(K + 1) in nats where all similarities are equal), and the accuracy in
    [0, 1]: how often the positive is the most similar of all.

    Args:
        options: MoCoMultiCropOptions.
    """

    Options = MoCoMultiCropOptions
    title = "every crop finds the keys of its image's other large crops"
    sees_whole = False

    def __init__(self, backbone, *, options=None, views=None, seed=0):
        super().__init__(backbone, options=options, views=views, seed=seed)
        o = self.options
        self.head = ProjectionHead("mlp", o.units, o.hidden)
        self.head.build(backbone.output["pre_logits"].shape)
        self.target, self.target_head = make_target(backbone), make_target(self.head)
        self.queue = Queue(o.queue_size, o.units, seed=seed)
        self.ready("loss", "accuracy")

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        return cls(backbone, options=recipe.task, views=recipe.views, seed=recipe.seed)

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        self.check_keys(images * self.options.crops * self.distribute_strategy.num_replicas_in_sync)

    def train_step(self, batch):
        o, seed = self.options, self.step_seed()
        _, views = self.views(batch, seed)
        large = apart(views[LARGE], o.crops)  # [B, s, s, 3] each
        self.update_target()
        keys = [self.encode_keys(crops, fold(seed, 320 + i)) for i, crops in enumerate(large)]  # [B, d] each
        with tf.GradientTape() as tape:
            # As OBoW: one pass for each kind of crops.
            queries = {kind: self.project(crops, self.counts[kind]) for kind, crops in views.items()}
            loss, accuracy = self.objective(queries[LARGE], queries.get(PATCHES, []), keys)
        self.minimize(loss, tape)
        for each in keys:
            self.queue.enqueue(each)
        return self.report(loss=loss, accuracy=accuracy)

    def objective(self, large, patches, keys):
        """(loss, accuracy) of unit rows: lists of float32 [B, d], one for each large crop, patch and key."""
        negatives = self.queue.features  # read once: reading may copy it
        pairs = [(large[i], key) for j, key in enumerate(keys) for i in range(len(large)) if i != j]
        pairs += [(patch, key) for key in keys for patch in patches]
        terms = [info_nce(query, key, negatives, self.options.temperature) for query, key in pairs]
        losses, hits = zip(*terms, strict=True)
        return tf.add_n(losses) / len(losses), tf.add_n(hits) / len(hits)

    def project(self, crops, count):
        """float32 [B * count, s, s, 3], image-major -> list of ``count`` tensors [B, d], unit rows."""
        with rows_of_an_image(count):
            return apart(self.head(self.backbone(crops, training=True)["pre_logits"])[0], count)


def apart(rows, count):
    """[B * count, ...], image-major -> list of ``count`` tensors [B, ...]."""
    return tf.unstack(tf.reshape(rows, [rows.shape[0] // count, count, *rows.shape[1:]]), axis=1)
