"""Annotated images as batches of static shape: scaled, mirrored, padded, in an order that can start at any step."""

import concurrent.futures
import math

import numpy as np
from PIL import Image

from revisit_ssl.detection.annotations import for_training
from revisit_ssl.detection.masks import crop_masks
from revisit_ssl.errors import require

MOST = 100  # objects of an image; COCO's most is 93
GRID = 32  # sides of a batch are multiples of it, so that no stride leaves a rest
AHEAD = 3  # batches that are prepared while a step works


def scaled_size(size, shorter, longest):
    """(height, width) of an image of ``size`` whose shorter side is made ``shorter``, or its longer one ``longest``
    where that would be exceeded; rounded as detectron2 does."""
    scale = min(shorter / min(size), longest / max(size))
    return tuple(int(side * scale + 0.5) for side in size)


def canvas(sizes):
    """(height, width) that holds images of those sizes, in whole cells of GRID."""
    return tuple(math.ceil(max(sides) / GRID) * GRID for sides in zip(*sizes, strict=True))


def order(wide, batch_size, seed, start=0):
    """Yields int64 [batch_size], the images of each step from ``start`` on, for ever; wide images are among themselves.

    Every epoch is a new order of all; what does not fill a batch waits for the next one.

    Args:
        wide: bool [N].
        batch_size: int.
        seed: int.
        start: steps that are done.
    """
    waiting, step, epoch = {True: [], False: []}, 0, 0
    while True:
        for i in np.random.default_rng([seed, 1, epoch]).permutation(len(wide)):
            same = waiting[bool(wide[i])]
            same.append(i)
            if len(same) == batch_size:
                if step >= start:
                    yield np.array(same)
                step += 1
                same.clear()
        epoch += 1


class TrainingBatches:
    """What a detector learns from.

    Args:
        images: sequence of Annotated; those without an object to learn from are left out.
        options: DetectorOptions: sizes, mirroring, images of a batch.
        seed: int.
        masks: whether masks are wanted, which the images then need to have.

    Attributes:
        images: those that are learnt from.
        padded: whether any image is smaller than the batch that it is in.

    Raises:
        InputError: no image shows an object.
    """

    def __init__(self, images, options, seed, masks=False):
        self.images = for_training(images)
        require(self.images, "no training image shows an object; a detector has nothing to learn from")
        self.options, self.seed, self.masks = options, seed, masks
        self.wide = np.array([one.wide for one in self.images])
        sizes = {
            kind: [
                scaled_size(one.size, shorter, options.longest)
                for one in self.images if one.wide == kind for shorter in options.shorter_sides
            ]
            for kind in (False, True)
        }
        self.canvases = {kind: canvas(own) for kind, own in sizes.items() if own}
        self.padded = any(size != self.canvases[kind] for kind, own in sizes.items() for size in own)
        most = max(int((~one.crowd).sum()) for one in self.images)
        self.objects = min(MOST, math.ceil(most / 4) * 4)

    def __call__(self, start=0):
        """Yields the batches of ``Detector.training_losses`` as NumPy arrays, from step ``start`` on, for ever."""
        rows = order(self.wide, self.options.batch_size, self.seed, start)
        with concurrent.futures.ThreadPoolExecutor(max_workers=4) as workers:
            waiting, step = [], start
            while True:
                while len(waiting) < AHEAD:
                    waiting.append(self._begin(workers, next(rows), step))
                    step += 1
                one = [work.result() for work in waiting.pop(0)]
                yield {name: np.stack([row[name] for row in one]) for name in one[0]}

    def _begin(self, workers, rows, step):
        draw = np.random.default_rng([self.seed, 2, step])
        shorter = draw.choice(self.options.shorter_sides, len(rows))
        mirrored = draw.random(len(rows)) < self.options.flip
        return [workers.submit(self.row, *one) for one in zip(rows, shorter, mirrored, strict=True)]

    def row(self, i, shorter, mirrored):
        """One image of a batch: {"image", "boxes", "classes", "count"}, "extent" where there is padding, "masks"."""
        one = self.images[i]
        one = one.kept(~one.crowd).loaded() if self.masks else one.kept(~one.crowd)
        pixels = one.image() if callable(one.image) else one.image
        size = scaled_size(one.size, int(shorter), self.options.longest)
        height, width = self.canvases[one.wide]
        # Deviation: of more objects than MOST the first ones; detectron2 has all.
        boxes = scaled(one.boxes[: self.objects], one.size, size)
        pixels = resize(pixels, size)
        if mirrored:
            pixels, boxes = pixels[:, ::-1], mirror(boxes, size[1])
        found = {
            "image": np.pad(pixels, [(0, height - size[0]), (0, width - size[1]), (0, 0)]),
            "boxes": filled(boxes, self.objects), "classes": filled(one.classes[: self.objects], self.objects),
            "count": np.int32(len(boxes)),
        }
        if self.padded:
            found["extent"] = np.array(size, np.float32)
        if self.masks:
            crops = crop_masks(one.masks[: self.objects], one.boxes[: self.objects])
            found["masks"] = filled(crops[:, :, ::-1] if mirrored else crops, self.objects)
        return found


def inference_batches(images, options, batch_size):
    """Yields (rows int64 [n], uint8 [batch_size, H, W, 3], float32 [batch_size, 2] extents) of all images, those of one
    shape together; where fewer are left, n of the images are meant."""
    canvases = {}
    for i, one in enumerate(images):
        size = scaled_size(one.size, options.test_shorter, options.test_longest)
        canvases.setdefault(canvas([size]), []).append(i)

    def row(i, sides):
        size = scaled_size(images[i].size, options.test_shorter, options.test_longest)
        pixels = images[i].image() if callable(images[i].image) else images[i].image
        margins = [(0, side - own) for side, own in zip(sides, size, strict=True)]
        return np.pad(resize(pixels, size), [*margins, (0, 0)]), np.array(size, np.float32)

    with concurrent.futures.ThreadPoolExecutor(max_workers=4) as workers:
        for sides, rows in canvases.items():
            for begin in range(0, len(rows), batch_size):
                own = rows[begin : begin + batch_size]
                full = own + own[-1:] * (batch_size - len(own))
                pixels, extents = zip(*workers.map(row, full, [sides] * batch_size), strict=True)
                yield np.array(own), np.stack(pixels), np.stack(extents)


def resize(pixels, size):
    """uint8 [H, W, 3] scaled to (height, width), bilinearly with antialiasing, as Pillow and detectron2 do."""
    if pixels.shape[:2] == tuple(size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BILINEAR))


def scaled(boxes, old, new):
    """Boxes [n, 4] of an image of size ``old`` in one of size ``new``, both (height, width)."""
    return boxes * np.array([new[0] / old[0], new[1] / old[1]] * 2, np.float32)


def mirror(boxes, width):
    """Boxes [n, 4] of an image of that width, left and right exchanged."""
    return np.stack([boxes[:, 0], width - boxes[:, 3], boxes[:, 2], width - boxes[:, 1]], axis=1)


def filled(rows, count):
    """[n, ...] with zeros up to ``count`` rows."""
    return np.concatenate([rows, np.zeros([count - len(rows), *rows.shape[1:]], rows.dtype)])
