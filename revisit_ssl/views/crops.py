"""Crops and resizing: box samplers, and one resampler made of two matrix products.

A box is (top, left, height, width) in pixels of the image it is cut from. Boxes are sampled apart from cutting, so one
law serves a batch on the device (``cut``) and a single JPEG on the host (``sample_boxes`` + ``decode_and_crop_jpeg``).

Cutting and scaling is linear in the image and separable, so it is written as ``rows @ image @ columns`` with one
interpolation matrix per box and axis: any box in any batch has the same static shapes and compiles under XLA, where
``tf.image.crop_and_resize`` does not. On Ampere and later GPUs TensorFlow lets the products run in TF32 (10 bits of
mantissa: an error of up to 1/4 of a grey level); ``tf.config.experimental.enable_tensor_float_32_execution(False)``
gives full float32.
"""

import dataclasses
import math

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.views import draws

METHODS = ("resized", "inception", "center", "random")
KERNELS = ("bilinear", "antialias", "area", "legacy")
RESIZED_TRIES = 10  # torchvision, of crops and of erased boxes
INCEPTION_TRIES = 100  # slim


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
    """

    size: int
    count: int = 1
    method: str = "resized"
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    resize_to: int | None = None
    keep_ratio: bool = False

    def resized(self, height, width):
        """(height, width) in pixels of the image that is cropped; ints or integer scalar tensors, as given."""
        if self.resize_to is None:
            return height, width
        if self.keep_ratio:
            return shorter_side_size(height, width, self.resize_to)
        return self.resize_to, self.resize_to

    def __post_init__(self):
        if self.method not in METHODS:
            raise InputError(f"Unknown crop method {self.method!r}; one of {', '.join(METHODS)}.")
        if self.size < 1 or self.count < 1:
            raise InputError(f"Crop size and count are at least 1; got size={self.size}, count={self.count}.")
        _check_range("scale", self.scale, high=1.0)
        _check_range("ratio", self.ratio)
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
    images = tf.convert_to_tensor(images)
    batch, height, width = _static_shape(images)
    boxes = batch_boxes(spec, batch, height, width, seed)
    size = (spec.size, spec.size)
    if spec.method in ("center", "random") and spec.resize_to is None:
        _check_fit(spec.size, height, width)
        return to_float(slice_boxes(images, boxes[..., :2], size))
    images = to_float(images)
    if spec.method in ("center", "random"):
        # Resizing and then cutting whole pixels is sampling the original on a shifted grid: one pass does both.
        scale = tf.constant([height, width] * 2, tf.float32) / tf.constant(spec.resized(height, width) * 2, tf.float32)
        return resample(images, tf.cast(boxes, tf.float32) * scale, size, clamp_to_box=False)
    if spec.resize_to is not None:
        images = resize(images, spec.resized(height, width))
    return resample(images, boxes, size)


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


def batch_boxes(spec, batch, height, width, seed):
    """As ``sample_boxes`` for ``batch`` images of equal size: int32 [batch, spec.count, 4]."""
    height, width = spec.resized(height, width)
    shape = [batch, spec.count]
    if spec.method == "resized":
        return random_resized_boxes(shape, height, width, seed, scale=spec.scale, ratio=spec.ratio)
    if spec.method == "inception":
        return inception_boxes(shape, height, width, seed, area=spec.scale, ratio=spec.ratio)
    h, w = tf.minimum(spec.size, height), tf.minimum(spec.size, width)
    if spec.method == "center":
        box = tf.stack([(height - h) // 2, (width - w) // 2, h, w])
        return tf.tile(box[None, None], [*shape, 1])
    return random_boxes(shape, height, width, seed, size=(h, w))


def random_boxes(shape, height, width, seed, *, size):
    """Boxes of given size at uniform places: int32 [*shape, 4]; every position is equally likely."""
    h, w = (tf.broadcast_to(side, shape) for side in size)
    return _place(shape, h, w, height, width, seed, closed=True)


def random_resized_boxes(shape, height, width, seed, *, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """Boxes by torchvision's RandomResizedCrop law.

    Area uniform in ``scale`` times the image's, aspect ratio log-uniform in ``ratio``; the first of 10 tries that fits
    into the image; if none does, the largest central box whose ratio lies in ``ratio``. The tries are drawn side by
    side and the first good one taken, which is the same law without a loop.

    Returns:
        int32 [*shape, 4].
    """
    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    tries = [*shape, RESIZED_TRIES]
    area = rows * columns * draws.uniform(draws.fold(seed, 1), tries, *scale)
    aspect = tf.exp(draws.uniform(draws.fold(seed, 2), tries, math.log(ratio[0]), math.log(ratio[1])))
    w, h = tf.round(tf.sqrt(area * aspect)), tf.round(tf.sqrt(area / aspect))
    good = (w > 0) & (w <= columns) & (h > 0) & (h <= rows)
    found, h, w = _first(good, h, w)
    boxes = _place(shape, h, w, height, width, draws.fold(seed, 3), closed=True)
    h, w = tf.minimum(rows, tf.round(columns / ratio[0])), tf.minimum(columns, tf.round(rows * ratio[1]))
    central = tf.cast(tf.stack([(rows - h) // 2, (columns - w) // 2, h, w]), tf.int32)
    return tf.where(found[..., None], boxes, central)


def inception_boxes(shape, height, width, seed, *, area=(0.05, 1.0), ratio=(3 / 4, 4 / 3), min_object_covered=0.1):
    """Boxes by the law of ``tf.image.sample_distorted_bounding_box`` with the whole image as the object.

    Per try: aspect ratio a uniform in ``ratio``; height uniform over the integers between the heights that give the
    smallest and the largest area at that ratio (and that fit); width = round(height * a). Valid if the area lies in
    ``area`` and covers ``min_object_covered`` of the image. First valid of 100 tries, else the whole image. So the area
    is not uniform (mean 0.39, not 0.55), and a box that is smaller than the image never touches its lower right edge.

    Returns:
        int32 [*shape, 4].
    """
    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    tries = [*shape, INCEPTION_TRIES]
    aspect = draws.uniform(draws.fold(seed, 1), tries, *ratio)
    smallest, largest = area[0] * rows * columns, area[1] * rows * columns
    low = tf.round(tf.sqrt(smallest / aspect))
    high = tf.round(tf.sqrt(largest / aspect))
    fitting = tf.floor((columns + 0.5 - 1e-7) / aspect)  # the largest height whose rounded width fits
    fitting -= tf.cast(tf.round(fitting * aspect) > columns, tf.float32)
    high = tf.minimum(tf.where(tf.round(high * aspect) > columns, fitting, high), rows)
    low = tf.minimum(low, high)
    h = low + tf.floor(draws.uniform(draws.fold(seed, 2), tries) * (high - low + 1))
    h = tf.minimum(h, high)
    # Rounding may push the area just out of its range: one row more or less is tried before the box is given up.
    h += tf.cast(h * tf.round(h * aspect) < smallest, tf.float32)
    h -= tf.cast(h * tf.round(h * aspect) > largest, tf.float32)
    w = tf.round(h * aspect)
    good = (h > 0) & (w > 0) & (h <= rows) & (w <= columns) & (h * w >= smallest) & (h * w <= largest)
    good &= h * w >= min_object_covered * rows * columns
    found, h, w = _first(good, h, w)
    h, w = tf.where(found, h, rows), tf.where(found, w, columns)
    return _place(shape, h, w, height, width, draws.fold(seed, 3), closed=False)


def erasing_boxes(shape, height, width, seed, *, area=(0.02, 0.33), ratio=(0.3, 3.3)):
    """Boxes by torchvision's RandomErasing law.

    Area uniform in ``area`` times the image's, height / width uniform in ``ratio`` (as in the releases of 2020, which
    the CLD scripts ran on; later ones draw its logarithm); the first of 10 tries that is smaller than the image in both
    directions; if none is, an empty box.

    Returns:
        int32 [*shape, 4].
    """
    rows, columns = tf.cast(height, tf.float32), tf.cast(width, tf.float32)
    tries = [*shape, RESIZED_TRIES]
    pixels = rows * columns * draws.uniform(draws.fold(seed, 1), tries, *area)
    aspect = draws.uniform(draws.fold(seed, 2), tries, *ratio)
    h, w = tf.round(tf.sqrt(pixels * aspect)), tf.round(tf.sqrt(pixels / aspect))
    found, h, w = _first((h < rows) & (w < columns), h, w)
    h, w = tf.where(found, h, 0.0), tf.where(found, w, 0.0)
    return _place(shape, h, w, height, width, draws.fold(seed, 3), closed=True)


def random_resized_crop(images, seed, *, size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """One random-resized crop per image (torchvision's law): float [B, H, W, C] -> float32 [B, size, size, C]."""
    _check_range("scale", scale, high=1.0)
    _check_range("ratio", ratio)
    batch, height, width = _static_shape(images)
    boxes = random_resized_boxes([batch, 1], height, width, seed, scale=scale, ratio=ratio)
    return resample(images, boxes, (size, size))[:, 0]


def inception_crop(images, seed, *, size, area=(0.05, 1.0), ratio=(3 / 4, 4 / 3)):
    """One Inception crop per image: float [B, H, W, C] -> float32 [B, size, size, C], aspect ratio not kept."""
    _check_range("area", area, high=1.0)
    _check_range("ratio", ratio)
    batch, height, width = _static_shape(images)
    boxes = inception_boxes([batch, 1], height, width, seed, area=area, ratio=ratio)
    return resample(images, boxes, (size, size))[:, 0]


def random_crop(images, seed, *, size):
    """``size`` x ``size`` pixels from a uniform place in every image: [B, H, W, C] -> [B, size, size, C], any dtype."""
    batch, height, width = _static_shape(images)
    _check_fit(size, height, width)
    boxes = random_boxes([batch, 1], height, width, seed, size=(size, size))
    return slice_boxes(images, boxes[..., :2], (size, size))[:, 0]


def center_crop(images, size):
    """The middle ``size`` x ``size`` pixels, [..., H, W, C] of any dtype; odd remainders leave more right and below."""
    height, width = images.shape[-3:-1]
    _check_fit(size, height, width)
    top, left = (height - size) // 2, (width - size) // 2
    return images[..., top : top + size, left : left + size, :]


def central_fraction(images, fraction=0.875):
    """The middle part of each side, [..., H, W, C] of any dtype.

    The side is H - 2 * floor((H - H * fraction) / 2), so it is rounded up: 300 -> 264, not 262 (as ``tf.image`` and the
    Inception preprocessing do it).
    """
    if not 0 < fraction <= 1:
        raise InputError(f"A central fraction lies in (0, 1]; got {fraction}.")
    top, left = (int((side - side * fraction) / 2) for side in images.shape[-3:-1])
    height, width = images.shape[-3:-1]
    return images[..., top : height - top, left : width - left, :]


def resize(images, size, *, kernel="bilinear"):
    """Resizes a batch, aspect ratio ignored: [B, H, W, C] of any real dtype -> float32 [B, *size, C], same range.

    Args:
        size: (height, width) of the output.
        kernel: as in ``resample``.
    """
    batch, height, width = _static_shape(images)
    boxes = tf.broadcast_to(tf.constant([0, 0, height, width]), [batch, 1, 4])
    return resample(images, boxes, size, kernel=kernel)[:, 0]


def shorter_side_size(height, width, side):
    """(height, width) after scaling the shorter side to ``side``, ratio kept, rounded half to even; ints or tensors."""
    if not tf.is_tensor(height):
        scale = side / min(height, width)
        return round(height * scale), round(width * scale)
    sides = tf.cast(tf.stack([height, width]), tf.float64)
    return tuple(tf.unstack(tf.cast(tf.round(sides * (side / tf.reduce_min(sides))), tf.int32)))


def resize_shorter_side(images, side, *, kernel="bilinear"):
    """Resizes the shorter side to ``side`` pixels, ratio kept: [B, H, W, C] -> float32 [B, h, w, C], same range."""
    return resize(images, shorter_side_size(*_static_shape(images)[1:], side), kernel=kernel)


def resample(images, boxes, size, *, kernel="bilinear", clamp_to_box=True):
    """Cuts boxes and scales them to one size.

    Args:
        images: [B, H, W, C], any real dtype; H and W static.
        boxes: [B, n, 4] top, left, height, width in pixels, int or float, inside the images.
        size: (height, width) of the output.
        kernel: "bilinear": between the four nearest pixels (``tf.image.resize``);
            "antialias": a triangle as wide as the shrinking demands (Pillow, ``tf.image.resize(antialias=True)``);
            "area": mean over the area that an output pixel covers (``tf.image.resize(method="area")``);
            "legacy": bilinear as TF1 sampled it, pixel i at i * scale without half-pixel centres (old checkpoints and
            goldens only: it is not symmetric under rotation, a shortcut for a rotation pretext).
        clamp_to_box: True: the box is cut first, so nothing outside of it is seen. False ("bilinear" only): samples
            near its edge mix with the image around it, as when the whole image is resized first and cut afterwards.

    Returns:
        float32 [B, n, height, width, C] in the range of the input.
    """
    if kernel not in KERNELS:
        raise InputError(f"Unknown resampling kernel {kernel!r}; one of {', '.join(KERNELS)}.")
    images = tf.cast(images, tf.float32)
    boxes = tf.cast(boxes, tf.float32)
    height, width = images.shape[1:3]
    rows = _interpolation(boxes[..., 0], boxes[..., 2], height, size[0], kernel, clamp_to_box)  # [B, n, h, H]
    columns = _interpolation(boxes[..., 1], boxes[..., 3], width, size[1], kernel, clamp_to_box)  # [B, n, w, W]
    return tf.einsum("bnjw,bniwc->bnijc", columns, tf.einsum("bnih,bhwc->bniwc", rows, images))


def slice_boxes(images, corners, size):
    """Cuts boxes of one size without scaling; pixel values are kept exactly.

    Args:
        images: [B, H, W, C], any dtype.
        corners: int32 [B, n, 2]: top, left.
        size: (height, width) of the boxes, which must lie inside the images.

    Returns:
        [B, n, height, width, C], dtype of the images.
    """
    n = corners.shape[1]
    rows = corners[..., 0, None] + tf.range(size[0])  # [B, n, height]
    columns = corners[..., 1, None] + tf.range(size[1])  # [B, n, width]
    bands = tf.gather(images, rows, axis=1, batch_dims=1)  # [B, n, height, W, C]
    return tf.gather(bands, tf.ensure_shape(columns, [None, n, size[1]]), axis=3, batch_dims=2)


def to_float(images):
    """uint8 0..255 -> float32 [0, 1]; floats are taken to be in [0, 1] already and only cast to float32."""
    images = tf.convert_to_tensor(images)
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    if not images.dtype.is_floating:
        raise InputError(f"Images are uint8 (0..255) or float (0..1); got {images.dtype.name}.")
    return tf.cast(images, tf.float32)


def _interpolation(start, length, side, out, kernel, clamp_to_box):
    """Weights [..., out, side] of one axis: row i says how output pixel i mixes the input pixels; rows sum to 1."""
    start, length = start[..., None, None], length[..., None, None]
    scale = length / out
    i = tf.range(out, dtype=tf.float32)[:, None]
    pixels = tf.range(side, dtype=tf.float32)
    if kernel == "area":
        low = start + i * scale
        return tf.nn.relu(tf.minimum(low + scale, pixels + 1) - tf.maximum(low, pixels)) / scale
    at = start + (i * scale if kernel == "legacy" else (i + 0.5) * scale - 0.5)
    first, last = (start, start + length - 1) if clamp_to_box else (0.0, side - 1.0)
    if kernel != "antialias":
        return tf.nn.relu(1.0 - tf.abs(tf.clip_by_value(at, first, last) - pixels))
    # A kernel wider than a pixel is cut off at the edge and normalised, which is what Pillow does.
    weights = tf.nn.relu(1.0 - tf.abs(at - pixels) / tf.maximum(scale, 1.0))
    weights *= tf.cast((pixels >= first) & (pixels <= last), tf.float32)
    return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)


def _first(good, *values):
    """The first good try along the last axis: bool [...], and each value [...] there (any value where none is good)."""
    index = tf.argmax(tf.cast(good, tf.int32), axis=-1, output_type=tf.int32)
    chosen = tf.one_hot(index, good.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    picked = (tf.reduce_sum(tf.where(chosen, value, 0.0), axis=-1) for value in values)
    return tf.reduce_any(good, axis=-1), *picked


def _place(shape, h, w, height, width, seed, *, closed):
    """Boxes [*shape, 4] of sides ``h``, ``w`` at uniform offsets; ``closed``: the last position is possible too."""
    h, w = tf.cast(h, tf.int32), tf.cast(w, tf.int32)
    offsets = []
    for axis, (inner, outer) in enumerate(((h, height), (w, width))):
        room = tf.cast(outer, tf.int32) - inner
        places = room + 1 if closed else tf.maximum(room, 1)
        u = draws.uniform(draws.fold(seed, axis), shape)
        offsets.append(tf.minimum(tf.cast(u * tf.cast(places, tf.float32), tf.int32), places - 1))
    return tf.stack([*offsets, h, w], axis=-1)


def _static_shape(images):
    """(batch, height, width) of [B, H, W, C]: ints where static; height and width must be."""
    shape = tf.TensorShape(images.shape)
    if shape.rank != 4:
        raise InputError(f"A batch of images has 4 axes [B, H, W, C]; got shape {tuple(shape)}.")
    batch, height, width = shape[:3]
    if height is None or width is None:
        raise InputError(f"Images need a static height and width; got shape {tuple(images.shape)}.")
    return tf.shape(images)[0] if batch is None else batch, height, width


def _check_fit(size, height, width):
    if size > min(height, width):
        raise InputError(f"A {size}-pixel crop does not fit into {height}x{width} images; lower size or resize first.")


def _check_range(name, values, high=None):
    if len(values) != 2 or not 0 < values[0] <= values[1] or (high is not None and values[1] > high):
        top = f" <= {high:g}" if high is not None else ""
        raise InputError(f"{name} is a pair 0 < low <= high{top}; got {tuple(values)}.")
