"""MaskCo: contrastive mask prediction (Zhao, Wang, Luo, Zeng, Zha, ICCV 2021, arXiv:2108.07954).

Follows Algorithm 1 of the supplement. No code was published and the paper's text was not to be had: what Algorithm 1
and the supplement's A.2 leave open is reconstructed and a field of ``MaskCoOptions``.
"""

import keras
import tensorflow as tf

from revisit_ssl.backbones import find_backbone
from revisit_ssl.backbones.parts import Parts
from revisit_ssl.detection.roi_align import roi_align
from revisit_ssl.distribute import gather_replicas, replica_id
from revisit_ssl.errors import require
from revisit_ssl.features.checks import check_endpoints
from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.heads import ProjectionHead, unit
from revisit_ssl.pretext.losses import accuracy, cross_entropy
from revisit_ssl.pretext.mask_options import MaskCoOptions
from revisit_ssl.pretext.mph import mask_prediction_head
from revisit_ssl.pretext.target import make_target, momentum_update
from revisit_ssl.views.draws import batch_size, fold, normal
from revisit_ssl.views.pairs import PairSpec, covered, mirrored


class MaskCo(Pretext):
    """Predict the features of a masked region: find them among regions of other images.

    Network, mask prediction head (MPH) and projection head, and a target of all three.

    Reports the loss (log(497) or log(513) in nats where all similarities are equal), the accuracy in [0, 1] (how often
    the positive is the most similar of all), the mean cosines of the queries with their positives and with their
    negatives, and the cosine of the masked region with the same region of the whole view, as the target sees it, before
    and after MPH, both before the projection.

    Args:
        options: MaskCoOptions.
        parts: backbones.parts.Parts, how MPH is normalised.

    Raises:
        InputError: an unknown endpoint, or one that is no map.
    """

    Options = MaskCoOptions
    # One group of all images, which two replicas share; few negatives, since an image of digits has little in it.
    contract_changes = {"task__group": 8, "task__negatives": 4}
    kept_columns = ("loss", "accuracy", "cosine_before_mph", "cosine_after_mph")

    def __init__(self, backbone, *, options=None, parts=None, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        o = self.options = options or MaskCoOptions()
        check_endpoints(backbone, (o.endpoint,))
        side = self.view_spec.size
        self.map_shape = backbone.compute_output_shape((1, side, side, 3))[o.endpoint]  # (1, h, w, c)
        flat = f"task.endpoint {o.endpoint} of {backbone.name} has shape {list(self.map_shape[1:])}; take a map"
        require(len(self.map_shape) == 4, flat)
        kind = keras.KerasTensor(self.map_shape, dtype=backbone.output[o.endpoint].dtype)
        self.mph = mask_prediction_head(o.mph, o.mph_depth, kind, parts or Parts(), o.mph_width)
        self.head = ProjectionHead("mlp", o.units, o.hidden)
        self.head.build((None, None, self.map_shape[3]))
        self.target, self.target_head = make_target(backbone), make_target(self.head)
        self.target_mph = make_target(self.mph) if self.mph is not None and o.mph_on_key else None
        if o.fill == "token":
            self.token = self.add_weight(shape=(3,), initializer="zeros", name="mask_token")
        predicted = ("cosine_after_mph",) if self.mph is not None else ()
        self.ready("loss", "accuracy", "positive", "negative", "cosine_before_mph", *predicted)

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        parts = find_backbone(recipe.backbone).parts(recipe.backbone_options)
        return cls(backbone, options=recipe.task, parts=parts, views=recipe.views, seed=recipe.seed)

    @property
    def crops(self):
        image = super().crops["image"]
        return {"image": PairSpec(**vars(image) | {"count": 2} | self.options.pair(image.size))}

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        group, replicas = self.options.group, self.distribute_strategy.num_replicas_in_sync
        fits = images % group == 0 or (group % images == 0 and images * replicas % group == 0)
        told = f"task.group {group} does not fit into {images} images on each of {replicas} devices"
        require(fits, f"{told}: take a batch of whole groups, or change the group and with it the number of negatives")

    def train_step(self, batch):
        o, seed = self.options, self.step_seed()
        query, masked, key, key_boxes = self.views(batch, seed)
        keys, whole = self.encode_keys(key, key_boxes)  # [B, m + n, d], [B, m, c]
        with tf.GradientTape() as tape:
            maps = self.backbone(self.mask(query, masked, fold(seed, 330)), training=True)[o.endpoint]
            predicted = self.regions(self.mph(maps, training=True) if self.mph else maps, masked)  # [B, m, c]
            loss, scalars = self.objective(self.head(predicted)[0], keys)
        self.minimize(loss, tape)
        self.update_target()  # once the optimiser has stepped
        scalars["cosine_before_mph"] = cosine(self.regions(maps, masked), whole)
        if self.mph:
            scalars["cosine_after_mph"] = cosine(predicted, whole)
        return self.report(loss=loss, **scalars)

    def views(self, batch, seed, **changes):
        """The two views of each image, ready for the networks but for the mask, and the boxes in them.

        Args:
            batch: dict with whole images, or with the crops and boxes made on the host.
            seed: of this step.
            **changes: as for ``augment``.

        Returns:
            (query view float32 [B, s, s, 3], its masked boxes float32 [B, m, 4], key view, its boxes [B, m + n, 4]:
            the same places, then the negatives); boxes x1, y1, x2, y2 in pixels.
        """
        cut, m, found = self.cut(batch, seed), self.options.masks, []
        boxes = cut["image_boxes"][:, :m], cut["image_boxes"][:, m:]
        for i, box in enumerate(boxes):
            # Mirrored here and not in ``augment``, so that the boxes are too; colours and blur have no left or right.
            view = self.augment(cut["image"][:, i], fold(seed, 310 + i), view=i, flip=False, **changes)
            found += mirrored(view, box, fold(seed, 320 + i)) if self.view_spec.flip else (view, box)
        return tuple(found)

    def mask(self, images, boxes, seed):
        """Covers boxes float32 [B, m, 4] of normalised images float32 [B, s, s, 3]."""
        kind = self.options.fill
        if kind == "none":
            return images
        value = tf.zeros_like(images[:1, :1, :1])
        if kind == "mean":
            value = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        elif kind == "noise":
            value = normal(seed, [batch_size(images), *images.shape[1:]])
        elif kind == "token":
            value = tf.reshape(tf.convert_to_tensor(self.token), [1, 1, 1, 3])
        return tf.where(covered(boxes, images.shape[1]), value, images)

    def regions(self, maps, boxes):
        """float32 [B, n, c]: the mean of the maps [B, h, w, c] over each of the boxes [B, n, 4] of the views."""
        o, stride = self.options, self.view_spec.size / self.map_shape[1]
        found = roi_align(
            maps, boxes, 1, stride=stride, sampling=o.samples, aligned=o.aligned, compiled=bool(self.jit_compile)
        )
        return tf.cast(found[:, :, 0, 0], tf.float32)

    def encode_keys(self, images, boxes):
        """(float32 [B, n, d]: unit rows of all boxes; [B, m, c]: the regions of the first ones before the head)."""
        maps = self.target(images, training=True)[self.options.endpoint]
        maps = self.target_mph(maps, training=True) if self.target_mph else maps
        found = self.regions(maps, boxes)
        return tf.stop_gradient(self.target_head(found)[0]), tf.stop_gradient(found[:, : self.options.masks])

    def objective(self, queries, keys):
        """(loss, scalars for the log) of unit rows float32 [B, m, d] and [B, m + n, d]."""
        o, m = self.options, queries.shape[1]
        positive = tf.reduce_sum(queries * keys[:, :m], axis=-1)  # [B, m]
        negative, own = by_group(queries, keys[:, m:], o.group)  # [G, g, m, j, n], bool [g, j]
        barred = own[None, :, None, :, None] & (not o.intra)
        # Entries are masked, not left out: every shape is static.
        logits = tf.where(barred, -1e9, negative / o.temperature)
        logits = tf.reshape(logits, [*positive.shape, -1])  # [B, m, j * n]
        logits = tf.concat([positive[..., None] / o.temperature, logits], axis=-1)
        logits = tf.reshape(logits, [-1, logits.shape[-1]])  # the positive is number 0
        labels = tf.zeros([logits.shape[0]], tf.int32)
        counted = tf.broadcast_to(tf.cast(~barred, tf.float32), negative.shape)
        return cross_entropy(logits, labels), {
            "accuracy": accuracy(logits, labels),
            "positive": tf.reduce_mean(positive),
            "negative": tf.reduce_sum(counted * negative) / tf.reduce_sum(counted),
        }

    def update_target(self):
        pairs = [(self.target, self.backbone), (self.target_head, self.head)]
        pairs += [(self.target_mph, self.mph)] if self.target_mph else []
        for target, online in pairs:
            momentum_update(target, online, self.options.momentum)

    def pictures(self, batch):
        few = {name: batch[name][:4] for name in batch}
        query, masked, key, boxes = self.views(few, (self.seed, 0), normalize="none")
        m = self.options.masks
        if self.options.fill != "none":
            query = tf.where(covered(masked, query.shape[1]), 0.5, query)
        query, key = outlined(query, masked, GREEN), outlined(outlined(key, boxes[:, m:], GREY), boxes[:, :m], GREEN)
        images = tf.reshape(tf.stack([query, key], axis=1), [-1, *query.shape[1:]])
        names = ["query", "key: the same region, and others"] * query.shape[0]
        return [("predict what the mask covers", images.numpy(), names)]


GREEN, GREY = (0.1, 0.8, 0.2), (0.75, 0.75, 0.75)


def by_group(queries, keys, group):
    """Cosines of the queries with the keys of all images of their group.

    Args:
        queries: float32 [B, m, d], unit rows.
        keys: float32 [B, n, d], unit rows.
        group: images of a group, g: consecutive ones of the global batch; B is a multiple of it, or it of B.

    Returns:
        float32 [G, r, m, g, n], in the order of the queries, G * r = B; bool [r, g]: the image's own keys.
    """
    batch, m, d = queries.shape
    if batch % group == 0:
        keys = tf.reshape(keys, [-1, group, *keys.shape[1:]])
        queries = tf.reshape(queries, [-1, group, m, d])
        return tf.einsum("grmd,gjnd->grmjn", queries, keys), tf.eye(group, dtype=tf.bool)
    # The group lies on several replicas.
    first = replica_id() * batch
    everyones = gather_replicas(keys)
    keys = tf.slice(everyones, [first // group * group, 0, 0], [group, *keys.shape[1:]])
    own = tf.one_hot(first % group + tf.range(batch), group, on_value=True, off_value=False, dtype=tf.bool)
    return tf.einsum("rmd,jnd->rmjn", queries, keys)[None], own


def cosine(regions, others):
    """Mean cosine of the rows of float32 [B, m, c] with those of another; float32 scalar, no gradient."""
    return tf.stop_gradient(tf.reduce_mean(tf.reduce_sum(unit(regions) * unit(others), axis=-1)))


def outlined(images, boxes, color):
    """Images float32 [B, s, s, 3] with the outlines of boxes float32 [B, n, 4] in one colour."""
    x1, y1, x2, y2 = tf.unstack(boxes / (images.shape[1] - 1), axis=-1)
    return tf.image.draw_bounding_boxes(images, tf.stack([y1, x1, y2, x2], axis=-1), [color])
