"""Crops: what a pretext wants cut from an image, and the cutting."""

import dataclasses

import tensorflow as tf

from revisit_ssl.errors import InputError, check_choice
from revisit_ssl.views.boxes import inception_boxes, random_boxes, random_resized_boxes
from revisit_ssl.views.pixels import to_float
from revisit_ssl.views.resample import (
    FILTERS,
    check_fit,
    resample,
    resize,
    shorter_side_size,
    slice_boxes,
    static_shape,
)

METHODS = ("resized", "inception", "center", "random")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropSpec:
    """What a pretext wants cut from every image.

    Attributes:
        size: side of the square crop that comes out, in pixels.
        count: independent crops per image (n).
        method: "resized": random area and aspect ratio (torchvision's RandomResizedCrop law), scaled to ``size``;
            "inception": random box of the Inception preprocessing, scaled to ``size``, aspect ratio ignored;
            "center", "random": ``size`` x ``size`` pixels as they are, from the middle or from anywhere.
        scale: smallest and largest area of the box as a part of the image's ("resized", "inception"; the Inception
            preprocessing itself has (0.05, 1)).
        ratio: smallest and largest width / height of the box ("resized", "inception").
        resize_to: the image is first resized to this side in both directions, aspect ratio ignored; None: not at all.
        keep_ratio: ``resize_to`` is the length of the shorter side and the aspect ratio is kept.
        kernel: one of ``resample.FILTERS``, for every change of size.
    """

    size: int
    count: int = 1
    method: str = "resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    resize_to: int | None = None
    keep_ratio: bool = False
    kernel: str = "bilinear"

    regions = 0
    """How many boxes come with the crops of an image."""

    def draw(self, batch, height, width, seed):
        """What is cut from images of one size.

        Args:
            batch, height, width, seed: as for ``batch_boxes``.

        Returns:
            (crops int32 [batch, count, 4]: top, left, height, width in the image; boxes in these, as the class says,
            float32 [batch, regions, 4], or None where there are none).
        """
        return batch_boxes(self, batch, height, width, seed), None

    def resized(self, height, width):
        """(height, width) in pixels of the image that is cropped; ints or integer scalar tensors, as given."""
        if self.resize_to is None:
            return height, width
        if self.keep_ratio:
            return shorter_side_size(height, width, self.resize_to)
        return self.resize_to, self.resize_to

    def __post_init__(self):
        check_choice("crop method", self.method, METHODS)
        check_choice("resampling kernel", self.kernel, FILTERS)
        if self.size < 1 or self.count < 1:
            raise InputError(f"Crop size and count are at least 1; got size={self.size}, count={self.count}.")
        check_range("scale", self.scale, high=1.0)
        check_range("ratio", self.ratio)
        if self.resize_to is not None:
            if self.resize_to < 1:
                raise InputError(f"resize_to is at least 1 pixel or None; got {self.resize_to}.")
            if self.method in ("center", "random") and self.size > self.resize_to:
                raise InputError(f"A {self.size}-pixel crop does not fit into resize_to={self.resize_to}; lower size.")


def cut(images, spec, seed):
    """The crops of ``spec``, cut from a batch on the device.

    Args:
        images: uint8 in 0..255 or float32 in [0, 1], [B, H, W, 3], H and W static.
        spec: a ``CropSpec``.
        seed: anything ``draws.as_seed`` takes; not used by "center".

    Returns:
        float32 [B, spec.count, spec.size, spec.size, 3] in [0, 1].

    Raises:
        InputError: a crop that is not scaled ("center", "random") does not fit into the images.
    """
    return cut_with_boxes(images, spec, seed)[0]


def cut_with_boxes(images, spec, seed):
    """(the crops as of ``cut``, the boxes that come with them as of ``CropSpec.draw``, or None); arguments as of
    ``cut``."""
    images = tf.convert_to_tensor(images)
    batch, height, width = static_shape(images)
    boxes, regions = spec.draw(batch, height, width, seed)
    return _crops_at(images, boxes, spec), regions


def _crops_at(images, boxes, spec):
    _, height, width = static_shape(images)
    size = (spec.size, spec.size)
    if spec.method in ("center", "random") and spec.resize_to is None:
        check_fit(spec.size, height, width)
        return to_float(slice_boxes(images, boxes[..., :2], size))
    images = to_float(images)
    if spec.method in ("center", "random"):
        # Resizing and then cutting whole pixels is sampling the original on a shifted grid: one pass does both.
        scale = tf.constant([height, width] * 2, tf.float32) / tf.constant(spec.resized(height, width) * 2, tf.float32)
        return resample(images, tf.cast(boxes, tf.float32) * scale, size, kernel=spec.kernel, clamp_to_box=False)
    if spec.resize_to is not None:
        images = resize(images, spec.resized(height, width), kernel=spec.kernel)
    return resample(images, boxes, size, kernel=spec.kernel)


def sample_boxes(spec, height, width, seed):
    """Boxes for one image, for cutting on the host.

    Args:
        spec: a ``CropSpec``.
        height, width: size of the image in pixels, ints or integer scalar tensors. With ``spec.resize_to`` the boxes
            are in pixels of the resized image.
        seed: of this image alone (folded with its index or position).

    Returns:
        int32 [spec.count, 4]: top, left, height, width, inside the image. "center" and "random" boxes have sides
        min(spec.size, side of the image): an image that is too small is to be enlarged.
    """
    return batch_boxes(spec, 1, height, width, seed)[0]


def batch_boxes(spec, batch, height, width, seed, count=None):
    """As ``sample_boxes`` for ``batch`` images of equal size: int32 [batch, spec.count, 4]; ``count``: instead of the
    spec's."""
    height, width = spec.resized(height, width)
    shape = [batch, count or spec.count]
    if spec.method == "resized":
        return random_resized_boxes(shape, height, width, seed, scale=spec.scale, ratio=spec.ratio)
    if spec.method == "inception":
        return inception_boxes(shape, height, width, seed, area=spec.scale, ratio=spec.ratio)
    h, w = tf.minimum(spec.size, height), tf.minimum(spec.size, width)
    if spec.method == "center":
        box = tf.stack([(height - h) // 2, (width - w) // 2, h, w])
        return tf.tile(box[None, None], [*shape, 1])
    return random_boxes(shape, height, width, seed, size=(h, w))


def random_resized_crop(images, seed, *, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """One random-resized crop per image (torchvision's law): float [B, H, W, C] -> float32 [B, size, size, C]."""
    check_range("scale", scale, high=1.0)
    check_range("ratio", ratio)
    batch, height, width = static_shape(images)
    boxes = random_resized_boxes([batch, 1], height, width, seed, scale=scale, ratio=ratio)
    return resample(images, boxes, (size, size))[:, 0]


def inception_crop(images, seed, *, size, area=(0.05, 1.0), ratio=(3 / 4, 4 / 3)):
    """One Inception crop per image: float [B, H, W, C] -> float32 [B, size, size, C], aspect ratio not kept."""
    check_range("area", area, high=1.0)
    check_range("ratio", ratio)
    batch, height, width = static_shape(images)
    boxes = inception_boxes([batch, 1], height, width, seed, area=area, ratio=ratio)
    return resample(images, boxes, (size, size))[:, 0]


def random_crop(images, seed, *, size):
    """``size`` x ``size`` pixels from a uniform place in every image: [B, H, W, C] -> [B, size, size, C], any dtype."""
    batch, height, width = static_shape(images)
    check_fit(size, height, width)
    boxes = random_boxes([batch, 1], height, width, seed, size=(size, size))
    return slice_boxes(images, boxes[..., :2], (size, size))[:, 0]


def check_range(name, values, high=None):
    """InputError unless ``values`` are a pair 0 < low <= high, at most ``high``."""
    if len(values) != 2 or not 0 < values[0] <= values[1] or (high is not None and values[1] > high):
        top = f" <= {high:g}" if high is not None else ""
        raise InputError(f"{name} is a pair 0 < low <= high{top}; got {tuple(values)}.")


def ten_crops(images, size):
    """The corners and the centre of images, and their mirror images, as torchvision's TenCrop.

    Args:
        images: [B, H, W, 3], H and W static and at least ``size``.
        size: side of a crop.

    Returns:
        [10, B, size, size, 3] of the same dtype: top left, top right, bottom left, bottom right, centre, then the five
        of the mirrored image.
    """
    _, height, width = static_shape(images)
    check_fit(size, height, width)
    bottom, right = height - size, width - size
    corners = ((0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2)))
    shown = (images, images[:, :, ::-1])
    return tf.stack([part[:, top : top + size, left : left + size] for part in shown for top, left in corners])
