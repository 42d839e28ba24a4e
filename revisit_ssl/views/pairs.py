"""Two crops that overlap, and boxes that both show: what a contrast of regions is made of (MaskCo, arXiv:2108.07954).

The paper's text and code are not to be had: what follows is reconstructed, and every number is a field.
"""

import dataclasses
import math

import tensorflow as tf

from revisit_ssl.errors import InputError, require
from revisit_ssl.views import draws
from revisit_ssl.views.crops import CropSpec, batch_boxes, check_range


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairSpec(CropSpec):
    """Two crops of every image, a query view and a key view, and boxes in them.

    The boxes of an image, float32 [2 * masks + negatives, 4], x1, y1, x2, y2 in pixels of the view that they lie in,
    not rounded: ``masks`` boxes of the query view; the same places in the key view; ``negatives`` boxes anywhere in the
    key view.

    Attributes:
        count: 2.
        overlap: side in pixels, in both views and directions, that what both views show should have.
        tries: pairs of crops that are drawn; the first with that overlap is taken, else the one with the largest. Where
            no pair overlaps both views are the same crop.
        masks, negatives: boxes, see above.
        area: smallest and largest area of a box as a share of a view's, uniform between them.
        aspect: smallest and largest width / height of a box, its logarithm uniform between them.
        smallest: least side of a box in pixels of the view that it is drawn in. A box that both views show is no larger
            than what they share.
        candidates: boxes drawn for the ``negatives``.
        most_iou: the first negatives are taken whose intersection over union with the boxes of ``masks`` is at most
            this, then those with the least; 1: the first ones.
    """

    count: int = 2
    overlap: float = 64.0
    tries: int = 10
    masks: int = 1
    negatives: int = 16
    area: tuple[float, float] = (0.1, 0.3)
    aspect: tuple[float, float] = (0.5, 2.0)
    smallest: float = 48.0
    candidates: int = 64
    most_iou: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        require(self.count == 2, f"A pair has 2 crops; got count={self.count}.")
        require(self.tries >= 1 and self.masks >= 1, f"tries {self.tries} and masks {self.masks} are at least 1")
        few = f"negatives {self.negatives}: from 0 to the {self.candidates} candidates"
        require(0 <= self.negatives <= self.candidates, few)
        require(0 <= self.most_iou <= 1, f"most_iou {self.most_iou} lies in [0, 1]")
        check_range("area", self.area, high=1.0)
        check_range("aspect", self.aspect)
        for name in ("overlap", "smallest"):
            if not 0 < getattr(self, name) <= self.size:
                raise InputError(f"{name} {getattr(self, name)}: above 0, at most the {self.size} pixels of a view.")

    @property
    def regions(self):
        """How many boxes come with the crops of an image."""
        return 2 * self.masks + self.negatives

    def draw(self, batch, height, width, seed):
        """See CropSpec."""
        crops = self._pair(batch, height, width, draws.fold(seed, 11))  # int32 [batch, 2, 4]
        query, key = tf.unstack(_corners(crops), axis=1)  # [batch, 4] each, in pixels of the image
        both = tf.concat([tf.maximum(query[:, :2], key[:, :2]), tf.minimum(query[:, 2:], key[:, 2:])], axis=-1)
        shared = to_view(both[:, None], query, self.size)[:, 0]
        masked = self._boxes([batch, self.masks], shared, draws.fold(seed, 12))
        positive = to_view(from_view(masked, query, self.size), key, self.size)
        whole = tf.constant([0.0, 0.0, self.size, self.size])
        boxes = [masked, positive]
        if self.negatives:
            drawn = self.candidates if self.most_iou < 1 else self.negatives
            boxes.append(self._away(self._boxes([batch, drawn], whole, draws.fold(seed, 13)), positive))
        return crops, tf.concat(boxes, axis=1)

    def _pair(self, batch, height, width, seed):
        pairs = batch_boxes(self, batch, height, width, seed, count=2 * self.tries)
        pairs = tf.reshape(pairs, [batch, self.tries, 2, 4])
        corners = _corners(pairs)
        sides = tf.reduce_min(corners[:, :, :, 2:], axis=2) - tf.reduce_max(corners[:, :, :, :2], axis=2)
        longest = tf.reduce_max(corners[:, :, :, 2:] - corners[:, :, :, :2], axis=2)  # [batch, tries, 2], x and y
        seen = tf.reduce_min(sides * self.size / longest, axis=-1)  # in the view that shows it smaller
        first = float(2 * self.size) - tf.range(self.tries, dtype=tf.float32) / self.tries
        chosen = tf.argmax(tf.where(seen >= self.overlap, first, seen), axis=1)
        pair = tf.gather(pairs, chosen, axis=1, batch_dims=1)
        apart = tf.reduce_max(seen, axis=1) <= 0
        return tf.where(apart[:, None, None], pair[:, :1], pair)

    def _boxes(self, shape, room, seed):
        """float32 [*shape, 4] inside ``room``, float32 [batch, 4] or [4]."""
        room = tf.broadcast_to(room, [shape[0], 4])[:, None]
        area = self.size**2 * draws.uniform(draws.fold(seed, 1), shape, *self.area)
        aspect = tf.exp(draws.uniform(draws.fold(seed, 2), shape, *map(math.log, self.aspect)))
        sides = tf.stack([tf.sqrt(area * aspect), tf.sqrt(area / aspect)], axis=-1)  # [*shape, 2]: x, y
        sides = tf.minimum(tf.maximum(sides, self.smallest), room[..., 2:] - room[..., :2])
        place = draws.uniform(draws.fold(seed, 3), [*shape, 2])
        first = room[..., :2] + place * (room[..., 2:] - room[..., :2] - sides)
        return tf.concat([first, first + sides], axis=-1)

    def _away(self, boxes, positive):
        """``negatives`` of the candidates, float32 [batch, candidates, 4], that do not lie on ``positive``."""
        if self.most_iou == 1:
            return boxes
        overlap = tf.reduce_max(iou(boxes, positive), axis=-1)
        order = tf.argsort(tf.maximum(overlap - self.most_iou, 0.0), axis=-1, stable=True)[:, : self.negatives]
        return tf.gather(boxes, order, axis=1, batch_dims=1)


def to_view(boxes, crop, size):
    """Boxes [B, n, 4] in pixels of an image -> in those of the view of side ``size`` that ``crop`` [B, 4] shows; all
    x1, y1, x2, y2."""
    scale = size / (crop[:, None, 2:] - crop[:, None, :2])
    return (boxes - tf.tile(crop[:, None, :2], [1, 1, 2])) * tf.tile(scale, [1, 1, 2])


def from_view(boxes, crop, size):
    """The inverse of ``to_view``."""
    scale = (crop[:, None, 2:] - crop[:, None, :2]) / size
    return boxes * tf.tile(scale, [1, 1, 2]) + tf.tile(crop[:, None, :2], [1, 1, 2])


def iou(boxes, others):
    """Intersection over union: float [B, n, 4], [B, m, 4] (x1, y1, x2, y2) -> [B, n, m]; 0 where both are empty."""
    a, b = boxes[:, :, None], others[:, None]
    sides = tf.nn.relu(tf.minimum(a[..., 2:], b[..., 2:]) - tf.maximum(a[..., :2], b[..., :2]))
    inside = sides[..., 0] * sides[..., 1]
    areas = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (a, b)]
    return tf.math.divide_no_nan(inside, areas[0] + areas[1] - inside)


def mirrored(images, boxes, seed):
    """Mirrors half of the images left and right, and their boxes with them.

    Args:
        images: [B, s, s, C], any dtype.
        boxes: float32 [B, n, 4], x1, y1, x2, y2 in their pixels.
        seed: anything ``draws.as_seed`` takes.

    Returns:
        (images, boxes).
    """
    chosen = draws.bernoulli(seed, [draws.batch_size(images)], 0.5)
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    width = images.shape[2]
    turned = tf.stack([width - x2, y1, width - x1, y2], axis=-1)
    return draws.select(chosen, tf.reverse(images, [2]), images), tf.where(chosen[:, None, None], turned, boxes)


def covered(boxes, size):
    """bool [B, size, size, 1]: the pixels that any of the boxes float [B, n, 4] touches."""
    low, high = tf.floor(boxes[..., :2]), tf.math.ceil(boxes[..., 2:])  # [B, n, 2]
    pixels = tf.range(size, dtype=tf.float32)
    in_columns, in_rows = ((pixels >= low[..., i, None]) & (pixels < high[..., i, None]) for i in range(2))
    return tf.reduce_any(in_rows[:, :, :, None] & in_columns[:, :, None, :], axis=1)[..., None]


def _corners(boxes):
    """int [..., 4] top, left, height, width -> float32 [..., 4] x1, y1, x2, y2."""
    top, left, height, width = tf.unstack(tf.cast(boxes, tf.float32), axis=-1)
    return tf.stack([left, top, left + width, top + height], axis=-1)
