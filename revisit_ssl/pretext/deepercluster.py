"""DeeperCluster: which rotation, which coarse cluster, and which cluster inside of it (Caron et al., arXiv:1905.01278).

Follows the official src/trainer.py and main.py; what the paper and its code disagree about is an option.
"""

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.data.decoding import EvalView
from revisit_ssl.errors import require
from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.cluster_options import DeeperClusterOptions
from revisit_ssl.pretext.reclustering import Clusters, recluster
from revisit_ssl.pretext.sub_heads import SubHeads, natural_order, new_values, super_class_loss, uniform_order
from revisit_ssl.views.draws import fold
from revisit_ssl.views.geometry import quarter_turns


class DeeperCluster(Pretext):
    """Predict super-class and cluster of a turned image; the clusters are made anew every few epochs.

    Network, heads and the state of the clustering, which a checkpoint holds whole: labels, centroids, PCA. Reports the
    loss in nats, its two parts, the accuracy in [0, 1] (both right), and of the last clustering the share of clusters
    in use, that of the largest one, the agreement with the clustering before and, where the set has classes, with
    those; nothing is chosen by them.

    Args:
        images: int, of the data set.
        classes: whether the set has classes, which are looked at for the log alone.
        options: DeeperClusterOptions.

    Raises:
        InputError: more dimensions of PCA than a feature has.
    """

    Options = DeeperClusterOptions
    draws_images = True
    head_start = "torch"
    # Sixteen images: two replicas with one of each super-class.
    contract_changes = {
        "task__super_clusters": 2, "task__clusters": 8, "task__every": 1, "task__dim_pca": 8, "batch_size": 16,
    }

    def __init__(self, backbone, images, *, classes=False, options=None, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        o = self.options = options or self.Options()
        self.endpoint = "fc7" if "fc7" in backbone.output else "pre_logits"
        # Also so that a size that does not fit is refused before anything is written.
        v = self.view_spec
        self.cluster_view = EvalView(v.size, o.resize, "shorter_side" if o.resize else "none", kernel=v.resize)
        width, inputs = (backbone.output[name].shape[-1] for name in (self.endpoint, "pre_logits"))
        dim = o.dim_pca or width
        require(dim <= width, f"task.dim_pca {dim} is more than the {width} values of {self.endpoint}; lower it")
        self.clustering = Clusters(images, o.super_clusters, o.sub_clusters, width, dim, classes)
        s, k = o.super_classes, o.sub_clusters
        require(s * k > 1, "one super-class of one cluster tells nothing apart; raise task.clusters or task.rotations")
        self.super_head = keras.layers.Dense(s, dtype="float32", name="super_head") if s > 1 else None
        self.sub_heads = SubHeads(s, inputs, k) if k > 1 else None
        if self.super_head is not None:
            self.super_head.build((None, inputs))
        self.renew_heads(0, [head for head in (self.super_head, self.sub_heads) if head is not None])
        parts = ("super_loss",) * (s > 1) + ("sub_loss",) * (k > 1)
        self.ready("loss", *parts, "accuracy", *self.clustering.facts)

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        told = f"{recipe.pretext} draws images by their cluster and {source.name} can only be read from front to back"
        require(source.kind != "stream", f"{told}; use a folder of images, folder:/path")
        classes = source.num_classes is not None
        return cls(
            backbone, source.num_examples, classes=classes, options=recipe.task, views=recipe.views, seed=recipe.seed
        )

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        s = self.options.super_classes
        fits = images % s == 0
        require(fits, f"{images} images of a device do not divide over {s} super-classes; use a batch of a multiple")

    def begin_epoch(self, epoch, source, folder=None):
        """Clusters all images anew where it is time to, see ``Pretext``; heads and their velocities start anew."""
        if not self.clustering.is_due(epoch, self.options.every):
            return False
        recluster(self, source, epoch, folder)
        # With one super-cluster the super-classes are the rotations, as before.
        heads = [self.super_head] if self.options.super_clusters > 1 else []
        heads += [self.sub_heads] if self.sub_heads is not None else []
        self.renew_heads(epoch, heads)
        self.optimizer.forget([variable for head in heads for variable in head.trainable_variables])
        return True

    def renew_heads(self, epoch, heads):
        """First values of the layers in ``heads``, by seed and epoch."""
        for i, head in enumerate(heads):
            seed = fold(fold(self.seed, 501 + i), epoch)
            variables = head.trainable_variables
            start = new_values(variables, self.backbone.output["pre_logits"].shape[-1], seed, self.head_start)
            for variable, value in zip(variables, start, strict=True):
                variable.assign(value)

    def epoch_order(self, epoch, count):
        """int64 [count]: the images of an epoch; the one at place i is of super-class i % S, which is r + R c."""
        o = self.options
        drawn = uniform_order if o.sampling == "uniform" else natural_order
        upper, lower = self.clustering.labels.value.numpy().T
        order = np.empty([count // o.super_classes, o.super_classes], np.int64)
        for s in range(o.super_classes):
            members = np.where(upper == s // o.rotations, lower, -1)
            # Anew for every rotation, as each of the authors' groups of workers draws.
            random = np.random.Generator(np.random.Philox(key=[self.seed, epoch * o.super_classes + s]))
            order[:, s] = drawn(members, len(order), random)
        return order.reshape(-1)

    def train_step(self, batch):
        o, seed = self.options, self.step_seed()
        crops = self.cut(batch, seed)["image"][:, 0]  # [B, s, s, 3]
        images = self.augment(crops, seed)
        if o.rotations > 1:
            images = quarter_turns(images)  # row i by i % 4
        labels = tf.gather(self.clustering.labels.value, batch["index"])[:, 1]  # [B]
        with tf.GradientTape() as tape:
            features = self.backbone(images, training=True)["pre_logits"]  # [B, d]
            heads = (self.super_head, self.sub_heads)
            objective, scalars = super_class_loss(features, labels, *heads, o.super_classes, o.head_grad)
        self.minimize(objective, tape)
        return self.report(**scalars, **self.clustering.scalars())

    def pictures(self, batch):
        few = {name: batch[name][:4] for name in batch}
        crops = self.cut(few, (self.seed, 0))["image"][:, 0]
        turned = self.options.rotations > 1
        images = self.augment(crops, (self.seed, 0), normalize="none")
        names = [f"{90 * i}°" if turned else "" for i in range(crops.shape[0])]
        images = quarter_turns(images) if turned and crops.shape[0] == 4 else images
        return [("turned by what is to be told", images.numpy(), names)]
