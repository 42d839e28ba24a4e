"""Images of annotated sets, read when they are asked for, and held to the size that their annotation says."""

import functools
import io
import os

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from revisit_ssl.data.looking import EXTENSIONS
from revisit_ssl.errors import InputError, reason, require


def loader(where, size, contents=None):
    """A function that gives the image as uint8 [H, W, 3].

    Args:
        where: its path; of an image without one, what to call it.
        size: (H, W) of its annotation.
        contents: its encoded bytes; None: those of the file.
    """
    return functools.partial(read_image, where, size, contents)


def read_image(where, size, contents=None):
    """The image of ``loader``: upright, or as it lies in its file where only that fits its annotation.

    Raises:
        InputError: it cannot be read, or is of another size.
    """
    try:
        with Image.open(io.BytesIO(read_bytes(where) if contents is None else contents)) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.size[::-1] != tuple(size) and image.size[::-1] == tuple(size):
                upright = image
            pixels = np.asarray(upright.convert("RGB"))
    except InputError:
        raise
    except Exception as error:  # Pillow's plug-ins let through whatever a damaged file brings about
        raise InputError(f"{where} is no readable image ({reason(error)}); get it again") from None
    found, said = ("{} x {}".format(*shape[1::-1]) for shape in (pixels.shape, size))
    require(pixels.shape[:2] == tuple(size), f"{where} has {found} pixels, its annotation says {said}; mend either")
    return pixels


def read_bytes(path):
    """All of a file; InputError where it cannot be read."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except (OSError, tf.errors.OpError) as error:
        raise InputError(f"{path} cannot be read ({reason(error)})") from None


def size_of(where, contents):
    """(H, W) of an encoded image as it is looked at, from its head alone; InputError where it cannot be read."""
    try:
        with Image.open(io.BytesIO(contents)) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return image.size if turned else image.size[::-1]
    except Exception as error:
        raise InputError(f"{where} is no readable image ({reason(error)}); get it again") from None


def by_stem(*folders):
    """{name without ending: path} of the images in the first of the folders that is there; {} where none is."""
    for folder in folders:
        if tf.io.gfile.isdir(folder):
            names = sorted(name for name in tf.io.gfile.listdir(folder) if name.lower().endswith(EXTENSIONS))
            return {os.path.splitext(name)[0]: os.path.join(folder, name) for name in names}
    return {}
