"""Faster R-CNN and Mask R-CNN on the C4 map (arXiv:1506.01497, arXiv:1703.06870) with one more BatchNorm in the head,
as MoCo's features are fine-tuned (arXiv:1911.05722, section 4.2)."""

import keras
import tensorflow as tf

from revisit_ssl.backbones.normalisation import BatchNorm, inside, within
from revisit_ssl.detection import boxes as box
from revisit_ssl.detection import losses
from revisit_ssl.detection.anchors import anchors
from revisit_ssl.detection.masks import mask_targets
from revisit_ssl.detection.matching import match, sample
from revisit_ssl.detection.proposals import propose
from revisit_ssl.detection.regions import at_once, pool_regions
from revisit_ssl.detection.selection import select
from revisit_ssl.detection.trunk import cut, stride_of
from revisit_ssl.distribute import sum_replicas
from revisit_ssl.views import draws
from revisit_ssl.views.pixels import normalize_input, to_float

REGION_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # of dy, dx, dh, dw in the second stage; 1 in the first


class Detector(keras.Model):
    """A detector whose trunk and head are copies of the two parts of a backbone.

    Args:
        backbone: keras.Model, see ``trunk.cut``; is left alone.
        options: DetectorOptions.
        num_classes: K; the background is class K.
        masks: whether there is a mask head.
        normalize: range of the network's images, see ``views.pixels.normalize_input``.
        seed: of the initial values of the new layers.
        synchronized: batch normalisation over all replicas.

    Attributes:
        stride: pixels between two cells of the map.
        mask_size: pixels of a side of a predicted mask.
    """

    def __init__(
        self, backbone, options, num_classes, *, masks=False, normalize="imagenet", seed=0, synchronized=False
    ):
        super().__init__(name="detector")
        self.options, self.num_classes, self.has_masks, self.normalize = options, num_classes, masks, normalize
        self.trunk, self.head = cut(backbone, options.endpoint, synchronized)
        self.stride = stride_of(self.trunk)
        channels, each = self.trunk.output_shape[-1], options.anchors_per_cell
        regions = self.head.compute_output_shape((None, options.pool, options.pool, channels))
        self.mask_size = 2 * regions[1]
        self.rpn_conv = keras.layers.Conv2D(channels, 3, padding="same", activation="relu", name="rpn_conv")
        self.rpn_logits = keras.layers.Conv2D(each, 1, name="rpn_logits")
        self.rpn_deltas = keras.layers.Conv2D(4 * each, 1, name="rpn_deltas")
        self.classifier = keras.layers.Dense(num_classes + 1, name="classifier")
        self.regressor = keras.layers.Dense(4 * num_classes, name="regressor")
        norm = {"momentum": 0.9, "epsilon": 1e-5, "synchronized": synchronized, "name": "extra_norm"}
        self.extra_norm = BatchNorm(**norm) if options.extra_norm else keras.layers.Identity(name="extra_norm")
        shapes = {
            self.rpn_conv: (None, None, None, channels), self.rpn_logits: (None, None, None, channels),
            self.rpn_deltas: (None, None, None, channels), self.classifier: (None, regions[-1]),
            self.regressor: (None, regions[-1]), self.extra_norm: regions,
        }
        if masks:
            self.mask_conv = keras.layers.Conv2DTranspose(
                options.mask_channels, 2, strides=2, activation="relu", name="mask_conv"
            )
            self.mask_logits = keras.layers.Conv2D(num_classes, 1, name="mask_logits")
            shapes |= {self.mask_conv: regions, self.mask_logits: (None, None, None, options.mask_channels)}
        for layer, shape in shapes.items():
            layer.build(shape)
        self._start(seed)
        self.built = True

    @property
    def fresh(self):
        """Layers that start anew; all other weights are the backbone's."""
        found = [self.rpn_conv, self.rpn_logits, self.rpn_deltas, self.classifier, self.regressor, self.extra_norm]
        return found + ([self.mask_conv, self.mask_logits] if self.has_masks else [])

    def _start(self, seed):
        """Initial kernels as in detectron2; biases are 0."""
        deviations = {"rpn_conv": 0.01, "rpn_logits": 0.01, "rpn_deltas": 0.01, "classifier": 0.01}
        deviations |= {"regressor": 0.001, "mask_logits": 0.001}
        if self.has_masks:
            # Kaiming normal by what PyTorch takes for fan out: of a transposed convolution the inputs, 2 x 2 each.
            deviations["mask_conv"] = (2 / (4 * self.mask_conv.kernel.shape[-1])) ** 0.5
        named = {layer.name: layer for layer in self.fresh}
        for i, (name, deviation) in enumerate(sorted(deviations.items())):
            if name in named:
                kernel = named[name].kernel
                kernel.assign(draws.normal(draws.fold(seed, 40 + i), kernel.shape, stddev=deviation))

    def prepare(self, images, extents):
        """uint8 [B, H, W, 3] -> float32, in the network's range; what lies beyond ``extents`` is 0 after that.

        Args:
            images: padded at the right and below.
            extents: float32 [B, 2], height and width of each; None: none is padded.
        """
        images = to_float(images)
        if extents is None:
            return normalize_input(images, self.normalize)
        height, width = images.shape[1:3]
        cells = tf.cast(inside(extents / [height, width], height, width), tf.float32)[..., None]
        if self.normalize != "standardize":
            return normalize_input(images, self.normalize) * cells
        count = 3 * tf.reduce_sum(cells, axis=(1, 2, 3), keepdims=True)
        mean = tf.reduce_sum(images * cells, axis=(1, 2, 3), keepdims=True) / count
        return standardize_within(images, cells, mean, count)

    def features(self, images, extents, training):
        """uint8 images as of ``prepare`` -> the map [B, h, w, c]."""
        shares = None if extents is None else extents / list(images.shape[1:3])
        with within(shares):
            return tf.cast(self.trunk(self.prepare(images, extents), training=training), tf.float32)

    def first_stage(self, maps):
        """Objectness [B, A], deltas [B, A, 4] and the anchors float32 [A, 4] of a map."""
        hidden, options = self.rpn_conv(maps), self.options
        height, width = maps.shape[1:3]
        found = anchors(height, width, self.stride, options.anchor_sizes, options.anchor_ratios)
        logits = tf.reshape(self.rpn_logits(hidden), [-1, len(found)])
        return logits, tf.reshape(self.rpn_deltas(hidden), [-1, len(found), 4]), tf.constant(found)

    def second_stage(self, maps, boxes, training):
        """Class logits [B * R, K + 1], deltas [B * R, K, 4], the head's map [B * R, p, p, d] of boxes [B, R, 4]."""
        # Normalised by the batch all regions have to be there together; else a few at a time need less memory.
        some = boxes.shape[1] if training else at_once(boxes.shape[1], *[self.options.pool] * 2, maps.shape[-1])
        parts = []
        for i in range(0, boxes.shape[1], some):
            regions = pool_regions(maps, boxes[:, i : i + some], self.options.pool, self.stride)
            part = self.extra_norm(self.head(regions, training=training), training=training)
            parts.append(tf.reshape(part, [-1, min(some, boxes.shape[1] - i), *part.shape[1:]]))
        found = tf.concat(parts, axis=1)
        found = tf.reshape(found, [-1, *found.shape[2:]])
        values = tf.reduce_mean(found, axis=(1, 2))
        return self.classifier(values), tf.reshape(self.regressor(values), [-1, self.num_classes, 4]), found

    def masks_of(self, found, classes):
        """Mask logits [M, s, s] of the given class, int32 [M], of a head's map [M, p, p, d]."""
        logits = self.mask_logits(self.mask_conv(found))
        return tf.gather(tf.transpose(logits, [0, 3, 1, 2]), classes, batch_dims=1)

    def training_losses(self, batch, seed):
        """The losses of a batch in training mode; the sum over replicas is that of the whole batch.

        Args:
            batch: {"image": uint8 [B, H, W, 3], "boxes": float32 [B, G, 4], "classes": int32 [B, G], "count": int32
                [B], how many of the G objects are there, from the first on; where images are padded "extent": float32
                [B, 2]; for masks "masks": uint8 [B, G, SIDE, SIDE], see ``masks.crop_masks``}.
            seed: draws.Seed of this step.

        Returns:
            {name: float32 scalar}: rpn_class, rpn_box, class, box, and mask.
        """
        extents = batch.get("extent")
        maps = self.features(batch["image"], extents, training=True)
        height, width = batch["image"].shape[1:3]
        if extents is None:
            extents = tf.tile([[float(height), float(width)]], [maps.shape[0], 1])
        present = tf.range(batch["boxes"].shape[1])[None] < batch["count"][:, None]
        logits, deltas, every = self.first_stage(maps)
        images = sum_replicas(tf.constant(float(maps.shape[0])))
        found = self._first_losses(logits, deltas, every, (batch["boxes"], present), images, draws.fold(seed, 1))
        before, after = self.options.train_proposals
        known = {"before": before, "after": after, "threshold": self.options.proposal_iou}
        boxes, there = propose(logits, deltas, every, extents, **known)
        boxes, there = tf.concat([boxes, batch["boxes"]], axis=1), tf.concat([there, present], axis=1)
        return found | self._second_losses(maps, (boxes, there), batch, present, draws.fold(seed, 2))

    def _first_losses(self, logits, deltas, every, objects, images, seed):
        def of_image(one):
            return match(box.iou(every, one[0]), one[1], 0.3, 0.7, best_of_each=True)

        owner, label = _each(of_image, objects, every.shape[0])
        count = self.options.anchors_per_image
        index, taken, positive = sample(label, draws.uniform(seed, label.shape), count, 0.5)
        mine = tf.gather(objects[0], tf.gather(owner, index, batch_dims=1), batch_dims=1)
        targets = box.encode(mine, tf.gather(every, index))
        pick = lambda values: tf.gather(values, index, batch_dims=1)  # noqa: E731
        total = count * images
        return {
            "rpn_class": losses.objectness_loss(pick(logits), positive, taken, total),
            "rpn_box": losses.box_loss(pick(deltas), tf.stop_gradient(targets), positive, total),
        }

    def _second_losses(self, maps, candidates, batch, present, seed):
        boxes, there = candidates

        def of_image(one):
            owner, label = match(box.iou(one[0], one[1]), one[2], 0.5, 0.5)
            return owner, tf.where(one[3], label, -1)

        owner, label = _each(of_image, (boxes, batch["boxes"], present, there), boxes.shape[1])
        options = self.options
        keys = draws.uniform(seed, label.shape)
        index, taken, positive = sample(label, keys, options.regions, options.region_share)
        regions = tf.stop_gradient(tf.gather(boxes, index, batch_dims=1))
        owner = tf.gather(owner, index, batch_dims=1)  # [B, R]
        mine = tf.gather(batch["boxes"], owner, batch_dims=1)
        classes = tf.gather(batch["classes"], owner, batch_dims=1)
        logits, deltas, heads = self.second_stage(maps, regions, training=True)
        flat = lambda values: tf.reshape(values, [-1, *values.shape[2:]])  # noqa: E731
        labels = flat(tf.where(positive, classes, self.num_classes))
        sampled = sum_replicas(tf.reduce_sum(tf.cast(taken, tf.float32)))
        targets = box.encode(flat(mine), flat(regions), REGION_WEIGHTS)
        own = tf.gather(deltas, flat(tf.where(positive, classes, 0)), batch_dims=1)
        found = {
            "class": losses.class_loss(logits, labels, flat(taken), sampled),
            "box": losses.box_loss(own, targets, flat(positive), sampled),
        }
        if self.has_masks:
            # Objects come first, so that the mask head need not see more than there can be.
            most = min(int(options.regions * options.region_share), index.shape[1])
            first = lambda values: flat(values[:, :most])  # noqa: E731
            crops = first(tf.gather(batch["masks"], owner, batch_dims=1))
            wanted = mask_targets(crops, first(mine), first(regions), self.mask_size)
            heads = first(tf.reshape(heads, [*index.shape, *heads.shape[1:]]))
            masks = self.masks_of(heads, first(tf.where(positive, classes, 0)))
            number = sum_replicas(tf.reduce_sum(tf.cast(positive, tf.float32)))
            found["mask"] = losses.mask_loss(masks, wanted, first(positive), number)
        return found

    def detect(self, images, extents=None):
        """What it finds, by the moving statistics.

        Args:
            images: uint8 [B, H, W, 3], padded at the right and below.
            extents: float32 [B, 2], height and width of each without padding; None: none is padded.

        Returns:
            {"boxes": float32 [B, D, 4] in pixels of ``images``, "scores": float32 [B, D], best first, "classes": int32
            [B, D], "count": int32 [B], how many there are, and with masks "masks": float32 [B, D, s, s] in [0, 1], each
            in the frame of its box}.
        """
        maps = self.features(images, extents, training=False)
        if extents is None:
            extents = tf.tile([[float(side) for side in images.shape[1:3]]], [maps.shape[0], 1])
        before, after = self.options.test_proposals
        logits, deltas, every = self.first_stage(maps)
        known = {"before": before, "after": after, "threshold": self.options.proposal_iou}
        boxes, there = propose(logits, deltas, every, extents, **known)
        count = boxes.shape[1]
        logits, deltas, _ = self.second_stage(maps, boxes, training=False)
        scores = tf.reshape(tf.nn.softmax(logits)[:, :-1], [-1, count, self.num_classes])
        deltas = tf.reshape(deltas, [-1, count, self.num_classes, 4])
        moved = box.clip(box.decode(deltas, boxes[:, :, None], REGION_WEIGHTS), extents)
        options = self.options
        found = select(scores, moved, there, options.score_threshold, options.detection_iou, options.detections)
        if self.has_masks:
            _, _, heads = self.second_stage(maps, found["boxes"], training=False)
            masks = tf.sigmoid(self.masks_of(heads, tf.reshape(found["classes"], [-1])))
            found["masks"] = tf.reshape(masks, [*found["scores"].shape, self.mask_size, self.mask_size])
        return found


def standardize_within(images, cells, mean, count):
    """``views.pixels.standardize`` of 0..255 over ``cells`` alone, which are 1 in float32 [B, H, W, 1]; 0 elsewhere."""
    left = (images - mean) * cells * 255.0
    deviation = tf.sqrt(tf.reduce_sum(tf.square(left), axis=(1, 2, 3), keepdims=True) / count)
    return left / tf.maximum(deviation, tf.math.rsqrt(count))


def _each(function, tensors, count):
    """Owner and label int32 [B, count] by ``function`` of each image in turn: all at once would hold [B, M, G]."""
    found = tf.map_fn(function, tensors, fn_output_signature=(tf.TensorSpec([count], tf.int32),) * 2)
    return [tf.ensure_shape(value, [tensors[0].shape[0], count]) for value in found]
