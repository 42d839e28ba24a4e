"""InfoMin: MoCo with stronger views and a jigsaw branch (Tian et al., arXiv:2005.10243; PIRL, arXiv:1912.01991).

Follows the InfoMin of HobbitLong/PyContrast, and for CLD (Wang et al., arXiv:2008.03813) the infomin/ folder of its
code. The views, "D" of the paper, are the ViewSpec's business.
"""

from dataclasses import replace

import keras
import tensorflow as tf

from revisit_ssl.backbones.normalisation import rows_of_an_image
from revisit_ssl.errors import require
from revisit_ssl.pretext.cld import IN_CONTRACT
from revisit_ssl.pretext.heads import NormLinear, ProjectionHead, linear, unit
from revisit_ssl.pretext.losses import cld_loss, info_nce
from revisit_ssl.pretext.momentum_encoder import MomentumEncoder
from revisit_ssl.pretext.options import InfoMinOptions
from revisit_ssl.pretext.queue import Queue
from revisit_ssl.pretext.target import make_target
from revisit_ssl.views.crops import CropSpec
from revisit_ssl.views.draws import fold, uniform
from revisit_ssl.views.geometry import random_flip
from revisit_ssl.views.patches import grid_patches
from revisit_ssl.views.pixels import normalize_input

PATCHES = 9


@keras.saving.register_keras_serializable("revisit_ssl")
class JigsawHead(keras.layers.Layer):
    """The vectors of an image's patches, in any order, to one unit vector: float [B * 9, c] -> float32 [B, units].

    Args:
        kind, units, hidden: as for ProjectionHead; each patch passes such a head (without its normalisation), and the
            nine outputs side by side one more linear or NormLinear layer.
    """

    def __init__(self, kind="mlp", units=128, hidden=None, name="jigsaw_head", dtype="float32", **base):
        super().__init__(name=name, dtype=dtype, **base)
        self.deep = kind.endswith("mlp")
        self.hidden_units = hidden
        self.each, self.joint = (
            NormLinear(units, label) if kind.startswith("norm") else linear(units, label) for label in ("each", "joint")
        )

    def build(self, input_shape):
        if self.deep:
            self.hidden = linear(self.hidden_units or input_shape[-1], "hidden")
            self.hidden.build(input_shape)
            input_shape = (input_shape[0], self.hidden.units)
        self.each.build(input_shape)
        self.joint.build((None, PATCHES * self.each.units))
        self.built = True

    def call(self, x, order):
        """``order`` int [B, 9]: the patch at each place."""
        x = tf.cast(x, tf.float32)
        if self.deep:
            x = tf.nn.relu(self.hidden(x))
        vectors = tf.reshape(self.each(x), [-1, PATCHES, self.each.units])
        shuffled_vectors = tf.gather(vectors, order, batch_dims=1)
        return unit(self.joint(tf.reshape(shuffled_vectors, [-1, PATCHES * self.each.units])))


class InfoMin(MomentumEncoder):
    """MoCo with stronger views, and a jigsaw branch that finds the same key from patches.

    Network, head and jigsaw head, a target of the first two, and the queue of the target's keys.

    Reports the loss; the instance part of it (log(K + 1) in nats where all similarities are equal); the accuracies in
    [0, 1] of the queries and of the jigsaw branch, how often the positive is the most similar of all; with CLD its loss
    and the accuracy among the groups.

    Args:
        options: InfoMinOptions.

    Raises:
        InputError: a jigsaw branch on a network of one input size, or a patch larger than its cell.
    """

    Options = InfoMinOptions
    contract_changes = IN_CONTRACT

    def __init__(self, backbone, *, options=None, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        o = self.options = options or InfoMinOptions()
        shape = backbone.output["pre_logits"].shape
        self.head = ProjectionHead(o.head, o.units, o.hidden, o.cld.branches)
        self.head.build(shape)
        if o.jigsaw_weight:
            side, size = backbone.input.shape[1], self.view_spec.size
            fixed = f"{backbone.name} takes images of {side} pixels alone, no patches; set task.jigsaw-weight to 0"
            require(side is None or side == o.patch(size), fixed)
            cell, patch = o.cell(size), o.patch(size)
            require(patch <= cell, f"task.patch_size {patch} is more than the {cell} pixels of a cell")
            self.jigsaw_head = JigsawHead(o.head, o.units, o.hidden)
            self.jigsaw_head.build(shape)
        self.target, self.target_head = make_target(backbone), make_target(self.head)
        self.queue = Queue(o.queue_size, o.units, scope=o.queue_scope, seed=seed)
        jigsaw = ("jigsaw_accuracy",) if o.jigsaw_weight else ()
        self.ready("loss", "instance", "accuracy", *jigsaw, *(("cld", "group_accuracy") if o.cld.weight else ()))

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        return cls(backbone, options=recipe.task, views=recipe.views, seed=recipe.seed)

    @property
    def crops(self):
        o, crops = self.options, {"image": replace(super().crops["image"], count=self.options.views)}
        if o.jigsaw_weight:
            size, kernel = 3 * o.cell(self.view_spec.size), self.view_spec.resize
            crops["jigsaw"] = CropSpec(size=size, method="resized", scale=o.jigsaw_scale, kernel=kernel)
        return crops

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        o, replicas = self.options, self.distribute_strategy.num_replicas_in_sync
        self.check_keys(images * (replicas if o.queue_scope == "global" else 1))
        o.cld.check_batch(images, replicas)

    def train_step(self, batch):
        o, seed = self.options, self.step_seed()
        crops = self.cut(batch, seed)
        images = crops["image"]  # [B, n, s, s, 3]
        views = [self.augment(images[:, i], fold(seed, 310 + i), view=i) for i in range(o.views)]
        keys = self.encode_keys(views[-1], fold(seed, 320))  # [B, d]
        negatives = self.negatives(keys)
        with tf.GradientTape() as tape:
            queries, groups, jigsaw = [], [], None
            for view in views[:-1]:  # one pass each: BatchNorm sees one view at a time
                outputs = self.head(self.backbone(view, training=True)["pre_logits"])
                queries.append(outputs[0])  # [B, d]
                groups.append(outputs[-1])
            if o.jigsaw_weight:
                patches = self.patches(crops["jigsaw"][:, 0], fold(seed, 330))  # [9B, p, p, 3], image-major
                order = tf.argsort(uniform(fold(seed, 331), [images.shape[0], PATCHES]), axis=1)
                with rows_of_an_image(PATCHES):  # BatchNorm sees the patches of as many images as of queries
                    vectors = self.backbone(patches, training=True)["pre_logits"]
                jigsaw = self.jigsaw_head(vectors, order)  # [B, d]
            loss, scalars = self.objective(queries, keys, negatives, jigsaw, groups)
        self.minimize(loss, tape)
        self.queue.enqueue(keys)
        # Once the optimiser has stepped, in both code bases; MoCo's does it before the keys are encoded.
        self.update_target()
        return self.report(loss=loss, **scalars)

    def objective(self, queries, keys, negatives, jigsaw, groups):
        """(loss, scalars for the log).

        Args:
            queries, groups: lists of float32 [B, d], unit rows, one for a query.
            keys: float32 [B, d], unit rows.
            negatives: list of float32 [K, d], one for a query.
            jigsaw: float32 [B, d], unit rows; None: no such branch.
        """
        o, n = self.options, len(queries)
        terms = [info_nce(query, keys, rows, o.temperature) for query, rows in zip(queries, negatives, strict=True)]
        loss, accuracy = (tf.add_n(values) / n for values in zip(*terms, strict=True))
        scalars = {"accuracy": accuracy}
        if jigsaw is not None:
            terms = [info_nce(jigsaw, keys, rows, o.temperature) for rows in negatives]
            solved, scalars["jigsaw_accuracy"] = (tf.add_n(values) / n for values in zip(*terms, strict=True))
            loss = (1 - o.jigsaw_weight) * loss + o.jigsaw_weight * solved
        scalars["instance"] = loss
        if o.cld.weight:
            scalars["cld"], scalars["group_accuracy"] = cld_loss(*groups, o.cld)
            loss += o.cld.weight * scalars["cld"]
        return loss, scalars

    def negatives(self, keys):
        """What each query is compared with: the queue; the second one sees it with the new keys where legacy."""
        rows = [self.queue.features] * (self.options.views - 1)
        if self.options.legacy_double_enqueue:
            # Deviation: the released code writes keys in the order of its shuffled batch. It decides nothing but which
            # keys survive where the queue is no multiple of the keys that a step writes.
            self.queue.enqueue(keys)
            rows[1] = self.queue.features
        return rows

    def patches(self, crops, seed, normalize=None):
        """One jittered patch from each cell: float32 [B, j, j, 3] in [0, 1] -> [B * 9, p, p, 3]; flipped, no colour."""
        o, v = self.options, self.view_spec
        crops = random_flip(crops, fold(seed, 101)) if v.flip else crops
        patches = grid_patches(crops, fold(seed, 201), cell=o.cell(v.size), size=o.patch(v.size))
        return normalize_input(tf.reshape(patches, [-1, *patches.shape[2:]]), normalize or v.normalize)

    def pictures(self, batch):
        few = {name: batch[name][:4] for name in batch}
        crops, seed, n = self.cut(few, (self.seed, 0)), self.seed, self.options.views
        images = crops["image"]
        views = [self.augment(images[:, i], fold(seed, 310 + i), view=i, normalize="none") for i in range(n)]
        rows = tf.reshape(tf.stack(views, axis=1), [-1, *images.shape[2:]])
        names = [*(f"query {i + 1}" for i in range(n - 1)), "key"] * images.shape[0]
        sheets = [("a query finds the key of its own image", rows.numpy(), names)]
        if self.options.jigsaw_weight:
            patches = self.patches(crops["jigsaw"][:, 0], fold(seed, 330), normalize="none")
            places = [f"patch {i + 1}" for i in range(PATCHES)] * images.shape[0]
            sheets.append(("so do nine patches in any order", patches.numpy(), places))
        return sheets
