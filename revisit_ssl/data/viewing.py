"""An encoded image as a viewer shows it: upright, in RGB.

TensorFlow decodes JPEG and PNG as Pillow does, in its own threads, and ignores how the camera was held. Pillow decodes
the rest, which TensorFlow gets wrong (BMP with a palette), in part (WebP without alpha) or not at all (TIFF, AVIF).
"""

import io

import numpy as np
import tensorflow as tf
from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag: 1 upright, 2 to 8 mirrored or turned
_UPRIGHT = np.int64(1)
HEAD = 2**16  # bytes of a JPEG in which EXIF or XMP is looked for; they come first
ENDS = 2**14  # bytes of a PNG, before its pixels and behind them
# The tag with a value of 2 to 8 in one byte, two or four, as Motorola or Intel writes numbers; the same in XMP's words.
_TURNED = (
    r"(?s)\C*(\x01\x12\x00[\x01-\x04]\x00\x00\x00\x01(\x00|\x00\x00\x00)?[\x02-\x08]"
    r"|\x12\x01[\x01-\x04]\x00\x01\x00\x00\x00[\x02-\x08]|Orientation(=.|>)[2-8])\C*"
)


def decode(contents):
    """The whole image: scalar string -> uint8 [h, w, 3], the first frame of several, alpha dropped."""
    image = tf.cond(
        _is_ordinary_jpeg(contents), lambda: tf.io.decode_jpeg(contents, channels=3), lambda: _decode_other(contents)
    )
    return tf.ensure_shape(image, [None, None, 3])


def is_upright_jpeg(contents):
    """Whether it is a JPEG that lies in its file as it is looked at: scalar string -> bool."""
    jpeg = lambda: tf.cond(tf.io.is_jpeg(contents), lambda: _orientation(contents) == 1, _no)  # noqa: E731
    return tf.cond(_is_ordinary_jpeg(contents), lambda: tf.constant(True), jpeg)


def _decode_other(contents):
    # Deviation: the papers' loaders ignore EXIF, which a few images of ImageNet have; ours turns those as well.
    image, turned = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: (tf.io.decode_jpeg(contents, channels=3), _orientation(contents)),
        lambda: tf.cond(
            _is_plain_png(contents),
            lambda: (tf.io.decode_png(contents, channels=3), tf.constant(_UPRIGHT)),
            lambda: tuple(tf.numpy_function(_open, [contents], [tf.uint8, tf.int64], stateful=False)),
        ),
    )
    image = tf.ensure_shape(image, [None, None, 3])
    return tf.cond(turned == _UPRIGHT, lambda: image, lambda: upright(image, turned))


def _is_ordinary_jpeg(contents):
    """Whether nothing stands between JFIF's header and the first table, as in most JPEGs: these say no orientation.

    Two comparisons, so that these are decoded as fast as if nothing had been asked.
    """
    start, behind_jfif = _markers(contents)
    return (start == b"\xff\xd8\xff\xe0") & (behind_jfif == b"\xff\xdb")


def _markers(contents):
    """The first four bytes, and the two that come behind JFIF's header where there is one."""
    head = tf.strings.join([tf.strings.substr(contents, 0, 22), b"\0" * 22])
    return tf.strings.substr(head, 0, 4), tf.strings.substr(head, 20, 2)


def _orientation(contents):
    """EXIF's or XMP's orientation of a JPEG, 1 to 8: scalar string -> int64.

    The head is searched, and only where it seems to say that the image is turned is Pillow asked, some 0.4 ms. Where
    EXIF comes first, as it should, its first tags are near: searching all of HEAD takes as long as Pillow.
    """
    start, behind_jfif = _markers(contents)
    first = (tf.strings.substr(start, 2, 2) == b"\xff\xe1") | (behind_jfif == b"\xff\xe1")
    head = tf.strings.substr(contents, 0, tf.where(first, HEAD // 16, HEAD))
    return tf.cond(
        tf.strings.regex_full_match(head, _TURNED),
        lambda: tf.ensure_shape(tf.numpy_function(_orientation_of_jpeg, [contents], tf.int64, stateful=False), []),
        lambda: tf.constant(_UPRIGHT),
    )


def upright(image, turned):
    """uint8 [h, w, 3] as stored, with its orientation, int64 2 to 8 -> [h, w, 3] or [w, h, 3] as it is looked at."""
    image = tf.cond(turned > 4, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    rows, columns = (tf.reduce_any(turned == those) for those in ([3, 4, 7, 8], [2, 3, 6, 7]))
    # Which axes are reversed is known only at run time; a slice by negative steps takes several times as long.
    return tf.raw_ops.Reverse(tensor=image, dims=tf.stack([rows, columns, False]))


def _is_plain_png(contents):
    """Whether it is a PNG that says nothing of an orientation, by EXIF, XMP or ImageMagick's text."""

    def says_none():
        tail = tf.minimum(tf.strings.length(contents), ENDS)
        ends = tf.strings.join([tf.strings.substr(contents, 0, ENDS), tf.strings.substr(contents, -tail, tail)])
        return ~tf.strings.regex_full_match(ends, r"(?s)\C*(eXIf|Orientation|profile type)\C*")

    return tf.cond(tf.strings.substr(contents, 0, 8) == b"\x89PNG\r\n\x1a\n", says_none, _no)


def _no():
    return tf.constant(False)


def _orientation_of_jpeg(contents):
    try:
        with Image.open(io.BytesIO(contents)) as image:
            return _said(image)
    except (OSError, Image.DecompressionBombError):  # decoding it will say what is wrong
        return _UPRIGHT


def _open(contents):
    """(uint8 [h, w, 3], orientation) of what Pillow can read; ValueError for what it cannot."""
    try:
        with Image.open(io.BytesIO(contents)) as image:
            image.load()  # what comes behind the pixels of a PNG is known then, and a TIFF has been turned
            pixels = _deep(image) if image.mode[0] in "IF" else np.asarray(image.convert("RGB"))
            return pixels, _said(image)
    # Pillow's plug-ins let through whatever a damaged file brings about.
    except Exception as error:
        raise ValueError(f"no image that Pillow {Image.__version__} can read ({type(error).__name__})") from None


def _deep(image):
    """uint8 [h, w, 3] of a grey image with more than 8 bits, of which Pillow would cut off all above 255."""
    values = np.asarray(image, np.float64)
    largest = float(values.max(initial=0))
    if image.mode == "F":
        scale = 255.0 if largest <= 1 else 1.0
    else:  # as TensorFlow and Pillow's colours: the upper byte of 16 bits
        scale = 1 / 256 if image.mode.startswith("I;16") or largest > 255 else 1.0
    grey = np.clip(np.nan_to_num(values * scale), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def _said(image):
    """Of an opened image; 1 where it says none, or one that there is not."""
    try:
        said = image.getexif().get(ORIENTATION, 1)
    except Exception:  # EXIF is written by many hands; a damaged one says nothing
        said = 1
    return np.int64(said) if said in range(1, 9) else _UPRIGHT
