"""One encoded image on the host: bytes in, uint8 crops or the evaluation view out.

Of a JPEG that lies upright in its file only what the crops need is decoded; ``viewing.decode`` gives all others whole.
"""

import dataclasses
import functools
from typing import Literal

import tensorflow as tf

from revisit_ssl.data.viewing import decode, is_upright_jpeg
from revisit_ssl.errors import InputError, check_choice
from revisit_ssl.views import draws
from revisit_ssl.views.resample import FILTERS, resize_on_host, shorter_side_size


@dataclasses.dataclass(frozen=True)
class EvalView:
    """How an image is cut for evaluation.

    Attributes:
        size: side of the square that comes out, in pixels.
        resize: length of the shorter side ("shorter_side") or of both ("squash") before the central crop; None:
            ``size``.
        method: "shorter_side": resize keeping the ratio, cut the centre (256 and 224 for the paper's linear probes);
            "central_fraction": the middle 87.5 % of both sides, scaled to ``size``, ratio ignored (Inception
            evaluation); "squash": resize, ratio ignored, cut the centre (255 and 192 for the supplement's patch
            probes); "warp": resize the shorter side keeping the ratio, then squash the whole image (256 and 224 for the
            SVMs on VOC, as cv2 resizes); "none": the image as it is; one of another size is squashed to ``size``.
        kernel: one of ``resample.FILTERS``; None: "area" for "shorter_side", as Revisiting's code shrinks, else
            "bilinear".
    """

    size: int
    resize: int | None = None
    method: Literal["shorter_side", "central_fraction", "squash", "warp", "none"] = "none"
    # Not in the name of a file of features, which says it where it is chosen: existing files stay valid.
    kernel: Literal["bilinear", "antialias", "area"] | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def of(cls, recipe):
        """What the probes of a recipe see of an image, and the monitor."""
        bench = recipe.bench
        size = bench.size or recipe.views.size
        return cls(size=size, resize=bench.resize, method=bench.method, kernel=bench.resize_by)

    @property
    def told(self):
        """Its attributes for a line of results; no kernel where none was chosen, as in older lines."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name != "kernel" or value}

    @property
    def keeps_own_size(self):
        """Whether a square image of side ``size`` passes unchanged."""
        unscaled = self.method in ("shorter_side", "squash", "warp") and self.resize in (None, self.size)
        return self.method == "none" or unscaled

    def __post_init__(self):
        methods = ("shorter_side", "central_fraction", "squash", "warp", "none")
        if self.method not in methods:
            raise InputError(f"unknown evaluation view {self.method!r}; one of {', '.join(methods)}")
        if self.kernel is not None:
            check_choice("resampling kernel", self.kernel, FILTERS)
        if self.size < 1 or (self.resize or self.size) < self.size:
            raise InputError(f"evaluation resize={self.resize} must not be smaller than size={self.size} >= 1")


def decode_crops(contents, crops, seed):
    """All crops of a pretext from one decode.

    Args:
        contents: scalar string, an encoded image.
        crops: {name: CropSpec}.
        seed: of this image and visit, anything ``draws.as_seed`` takes; every name gets its own fold.

    Returns:
        {name: uint8 [count, size, size, 3]}, and {name_boxes: float32 [n, 4]} of those whose crops come with boxes, as
        of ``CropSpec.draw``.
    """

    # One whole image is decoded only where it has to be resized first, or does not lie upright in its file.
    in_part = is_upright_jpeg(contents) & (not any(spec.resize_to for spec in crops.values()))
    image, shape = tf.cond(in_part, lambda: _nothing_of(contents), lambda: _whole_of(contents))
    drawn = [spec.draw(1, shape[0], shape[1], draws.fold(seed, i)) for i, spec in enumerate(crops.values())]
    boxes = [found[0] for found, _ in drawn]

    def part():
        every = tf.concat(boxes, 0)
        corner = tf.reduce_min(every[:, :2], 0)
        sides = tf.reduce_max(every[:, :2] + every[:, 2:], 0) - corner
        return tf.io.decode_and_crop_jpeg(contents, tf.concat([corner, sides], 0), channels=3), corner

    image, corner = tf.cond(in_part, part, lambda: (image, tf.zeros([2], tf.int32)))
    moved = [box - tf.concat([corner, [0, 0]], 0) for box in boxes]
    return {name: _cut(image, box, spec) for (name, spec), box in zip(crops.items(), moved, strict=True)} | {
        f"{name}_boxes": tf.ensure_shape(regions[0], [spec.regions, 4])
        for (name, spec), (_, regions) in zip(crops.items(), drawn, strict=True) if spec.regions
    }


def _nothing_of(contents):
    """(no pixels, the shape int32 [3] that the JPEG says of itself)."""
    return tf.zeros([0, 0, 3], tf.uint8), tf.io.extract_jpeg_shape(contents)


def _whole_of(contents):
    """(pixels, their shape int32 [3])."""
    image = decode(contents)
    return image, tf.shape(image)


def apply_view(images, view):
    """uint8 [..., h, w, 3], one image or a batch of equal size -> uint8 [..., view.size, view.size, 3]."""
    height, width = tf.shape(images)[-3], tf.shape(images)[-2]
    size, kernel = (view.size, view.size), view.kernel or ("area" if view.method == "shorter_side" else "bilinear")
    resize = functools.partial(resize_on_host, kernel=kernel)
    if view.method == "shorter_side":
        sides = shorter_side_size(height, width, view.resize or view.size)
        images = _middle(resize(images, sides), sides, view.size)
    elif view.method == "central_fraction":  # crops.central_fraction for sides known only at run time
        top, left = (
            tf.cast((s - s * 0.875) / 2, tf.int32) for s in (tf.cast(height, tf.float64), tf.cast(width, tf.float64))
        )
        images = resize(images[..., top : height - top, left : width - left, :], size)
    elif view.method == "warp":
        sides = shorter_side_size(height, width, view.resize or view.size)
        images = resize(resize(images, sides), size)
    elif view.method == "squash" and view.resize:
        images = _middle(resize(images, (view.resize, view.resize)), (view.resize, view.resize), view.size)
    else:
        images = resize(images, size)
    return _to_uint8(tf.ensure_shape(images, [*images.shape[:-3], *size, 3]))


def _middle(images, sides, size):
    top, left = (sides[0] - size) // 2, (sides[1] - size) // 2
    return images[..., top : top + size, left : left + size, :]


def _cut(image, boxes, spec):
    if spec.resize_to:
        image = resize_on_host(image, spec.resized(tf.shape(image)[0], tf.shape(image)[1]), kernel=spec.kernel)
    crops = []
    for top, left, height, width in (tf.unstack(box) for box in tf.unstack(boxes, spec.count)):
        part = image[top : top + height, left : left + width]
        crops.append(resize_on_host(part, (spec.size, spec.size), kernel=spec.kernel))  # as it is if it has that size
    return _to_uint8(tf.ensure_shape(tf.stack(crops), [spec.count, spec.size, spec.size, 3]))


def _to_uint8(image):
    return tf.cast(tf.round(tf.clip_by_value(image, 0, 255)), tf.uint8)
