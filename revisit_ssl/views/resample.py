"""Cutting and resizing: one resampler made of two matrix products, and cuts that keep the pixels as they are.

Filters differ where an image shrinks. Pillow, and so torchvision, widens its triangle by the factor ("antialias"), so
that every pixel counts; TensorFlow's resize looks at the four nearest pixels whatever the factor ("bilinear"), which
leaves a shrunk picture sharper, with aliases. Where nothing shrinks the filters agree.

Cutting and scaling is linear in the image and separable, so it is written as ``rows @ image @ columns`` with one
interpolation matrix per box and axis: any box in any batch has the same static shapes and compiles under XLA, where
``tf.image.crop_and_resize`` does not. On Ampere and later GPUs TensorFlow lets the products run in TF32 (10 bits of
mantissa: an error of up to 1/4 of a grey level); ``tf.config.experimental.enable_tensor_float_32_execution(False)``
gives full float32.
"""

import tensorflow as tf

from revisit_ssl.errors import InputError, check_choice

KERNELS = ("bilinear", "antialias", "area", "legacy")
FILTERS = KERNELS[:3]  # those that a recipe may ask for


def resample(images, boxes, size, *, kernel="bilinear", clamp_to_box=True):
    """Cuts boxes and scales them to one size.

    Args:
        images: [B, H, W, C], any real dtype; H and W static.
        boxes: [B, n, 4] top, left, height, width in pixels, int or float, inside the images.
        size: (height, width) of the output.
        kernel: "bilinear": between the four nearest pixels (``tf.image.resize``);
            "antialias": a triangle as wide as the shrinking demands (Pillow, ``tf.image.resize(antialias=True)``);
            "area": mean over the area that an output pixel covers (``tf.image.resize(method="area")``), bilinear for a
            box of which a side is enlarged;
            "legacy": bilinear as TF1 sampled it, pixel i at i * scale without half-pixel centres (old checkpoints and
            goldens only: it is not symmetric under rotation, a shortcut for a rotation pretext).
        clamp_to_box: True: the box is cut first, so nothing outside of it is seen, as torchvision does. False: samples
            near its edge mix with the image around it, as when the whole image is resized first and cut afterwards
            (Pillow's ``resize(box=...)``).

    Returns:
        float32 [B, n, height, width, C] in the range of the input.
    """
    check_choice("resampling kernel", kernel, KERNELS)
    images = tf.cast(images, tf.float32)
    boxes = tf.cast(boxes, tf.float32)
    height, width = images.shape[1:3]

    def weights(kernel):
        rows = _interpolation(boxes[..., 0], boxes[..., 2], height, size[0], kernel, clamp_to_box)  # [B, n, h, H]
        return rows, _interpolation(boxes[..., 1], boxes[..., 3], width, size[1], kernel, clamp_to_box)  # [B, n, w, W]

    rows, columns = weights(kernel)
    if kernel == "area":
        # Deviation: the official code of Revisiting enlarges by area too, which only repeats pixels.
        shrunk = tf.reduce_all(boxes[..., 2:] >= tf.constant(size, tf.float32), axis=-1)[..., None, None]
        rows, columns = (
            tf.where(shrunk, *pair) for pair in zip((rows, columns), weights("bilinear"), strict=True)
        )
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


def resize(images, size, *, kernel="bilinear"):
    """Resizes a batch, aspect ratio ignored: [B, H, W, C] of any real dtype -> float32 [B, *size, C], same range.

    Args:
        size: (height, width) of the output.
        kernel: as in ``resample``.
    """
    batch, height, width = static_shape(images)
    boxes = tf.broadcast_to(tf.constant([0, 0, height, width]), [batch, 1, 4])
    return resample(images, boxes, size, kernel=kernel)[:, 0]


def resize_on_host(images, size, *, kernel="bilinear"):
    """``resize`` by the kernels of ``tf.image``, for images whose size is known at run time alone; no XLA, no GPU.

    Args:
        images: [..., H, W, C], one image or a batch, any real dtype.
        size: (height, width) of the output, ints or integer scalar tensors.
        kernel: one of FILTERS, as in ``resample``.

    Returns:
        float32 [..., *size, C], same range; an image that has that size already may come back as it is.
    """
    check_choice("resampling kernel", kernel, FILTERS)
    if kernel != "area":
        return tf.image.resize(images, size, antialias=kernel == "antialias")
    return tf.cond(
        tf.reduce_all(tf.stack(size) <= tf.shape(images)[-3:-1]),
        lambda: tf.image.resize(images, size, method="area"),
        lambda: tf.image.resize(images, size),
    )


def resize_shorter_side(images, side, *, kernel="bilinear"):
    """Resizes the shorter side to ``side`` pixels, ratio kept: [B, H, W, C] -> float32 [B, h, w, C], same range."""
    return resize(images, shorter_side_size(*static_shape(images)[1:], side), kernel=kernel)


def shorter_side_size(height, width, side):
    """(height, width) after scaling the shorter side to ``side``, ratio kept, rounded half to even; ints or tensors."""
    if not tf.is_tensor(height):
        scale = side / min(height, width)
        return round(height * scale), round(width * scale)
    sides = tf.cast(tf.stack([height, width]), tf.float64)
    return tuple(tf.unstack(tf.cast(tf.round(sides * (side / tf.reduce_min(sides))), tf.int32)))


def center_crop(images, size):
    """The middle ``size`` x ``size`` pixels, [..., H, W, C] of any dtype; odd remainders leave more right and below."""
    height, width = images.shape[-3:-1]
    check_fit(size, height, width)
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


def static_shape(images):
    """(batch, height, width) of [B, H, W, C]: ints where static; InputError where height or width is not."""
    shape = tf.TensorShape(images.shape)
    if shape.rank != 4:
        raise InputError(f"A batch of images has 4 axes [B, H, W, C]; got shape {tuple(shape)}.")
    batch, height, width = shape[:3]
    if height is None or width is None:
        raise InputError(f"Images need a static height and width; got shape {tuple(images.shape)}.")
    return tf.shape(images)[0] if batch is None else batch, height, width


def check_fit(size, height, width):
    """InputError unless ``size`` x ``size`` pixels fit into an image of these sides."""
    if size > min(height, width):
        raise InputError(f"A {size}-pixel crop does not fit into {height}x{width} images; lower size or resize first.")


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
