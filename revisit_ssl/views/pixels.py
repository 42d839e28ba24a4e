"""The range of pixel values: from bytes to [0, 1], and to what a network is given."""

import math

import numpy as np
import tensorflow as tf

from revisit_ssl.errors import InputError, check_choice

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # those that every CIFAR script copies


def to_float(images):
    """uint8 0..255 -> float32 [0, 1]; floats are taken to be in [0, 1] already and only cast to float32."""
    images = tf.convert_to_tensor(images)
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    if not images.dtype.is_floating:
        raise InputError(f"Images are uint8 (0..255) or float (0..1); got {images.dtype.name}.")
    return tf.cast(images, tf.float32)


def standardize(images):
    """Zero mean and unit standard deviation per image, over its last three axes [..., H, W, C].

    The standard deviation is floored at 1 / sqrt(H * W * C), as in ``tf.image.per_image_standardization``. The floor
    is absolute, so a nearly constant image depends on the range it comes in: the official patch pretexts standardise
    0..255, Exemplar [-1, 1].
    """
    images = tf.cast(images, tf.float32)
    mean, variance = tf.nn.moments(images, axes=(-3, -2, -1), keepdims=True)
    floor = 1.0 / math.sqrt(np.prod(images.shape[-3:]))
    return (images - mean) / tf.maximum(tf.sqrt(variance), floor)


def normalize(images, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    """(x - mean) / std per channel."""
    return (images - tf.constant(mean, tf.float32)) / tf.constant(std, tf.float32)


def normalize_input(images, mode):
    """What a network is given for images in [0, 1].

    Args:
        images: float32 [..., H, W, 3] in [0, 1].
        mode: "pm1": to [-1, 1]; "standardize": zero mean, unit standard deviation per image (of 0..255, see below);
            "imagenet", "cifar": minus mean, by standard deviation of that set's channels; "none".
    """
    check_choice("normalisation", mode, ("pm1", "standardize", "imagenet", "cifar", "none"))
    if mode == "pm1":
        return images * 2.0 - 1.0
    if mode == "standardize":
        # Deviation: the official Exemplar standardises [-1, 1], the patch tasks 0..255; here both do the latter. It
        # matters for flat images alone: the floor of the deviation is 0.33 grey levels there, 0.0026 here (224 px).
        return standardize(images * 255.0)
    if mode == "cifar":
        return normalize(images, CIFAR_MEAN, CIFAR_STD)
    return normalize(images) if mode == "imagenet" else images
