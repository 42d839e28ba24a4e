"""Images as people have them: of whatever kind, upright and in Pillow's colours, on every way to the network."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps, PngImagePlugin

from revisit_ssl.data import EvalView, decoding, eval_batches, open_source, train_batches
from revisit_ssl.data.viewing import decode
from revisit_ssl.views.crops import CropSpec

HEIGHT, WIDTH = 40, 56


def scene(height=HEIGHT, width=WIDTH):
    """Smooth, so that JPEG hardly changes it, and different in each of its eight orientations."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [x * 255 / (width - 1), y * 255 / (height - 1), 255 - (x + y) * 255 / (height + width - 2)]
    return Image.fromarray(np.rint(np.stack(channels, -1)).astype(np.uint8))


def file(kind, mode="RGB", **options):
    """The scene as bytes of a file; ``turn``: the EXIF orientation that it says it has."""
    buffer, image = io.BytesIO(), scene().convert(mode)
    if "turn" in options:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = options.pop("turn")
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def frames(kind):
    return file(kind, save_all=True, append_images=[ImageOps.invert(scene()), scene().convert("L").convert("RGB")])


def with_xmp(turn):
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><tiff:Orientation>{turn}</tiff:Orientation></x:xmpmeta>'
    return file("JPEG", xmp=xmp.encode())


def with_text(turn):
    """A PNG whose EXIF stands in a text, as ImageMagick writes it."""
    exif = Image.Exif()
    exif[0x0112] = turn
    text = PngImagePlugin.PngInfo()
    data = b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0")
    text.add_text("Raw profile type exif", f"\nexif\n{len(data):8d}\n{data.hex()}\n", zip=True)
    return file("PNG", pnginfo=text)


def with_long_tag(order):
    """EXIF whose orientation, 6, has four bytes; ``order``: of the bytes, "big" or "little"."""
    number = lambda value, size: value.to_bytes(size, order)  # noqa: E731
    tag = number(0x0112, 2) + number(4, 2) + number(1, 4) + number(6, 4)
    tiff = {"big": b"MM", "little": b"II"}[order] + number(42, 2) + number(8, 4) + number(1, 2) + tag + number(0, 4)
    return file("JPEG", exif=b"Exif\0\0" + tiff)


def exif_after_icc():
    """EXIF that does not come first."""
    contents = file("JPEG", turn=8)
    start = contents.find(b"\xff\xe1")
    length = 2 + int.from_bytes(contents[start + 2 : start + 4])
    exif, rest = contents[start : start + length], contents[:start] + contents[start + length :]
    comment = b"\xff\xe2" + (40_002).to_bytes(2) + bytes(40_000)
    return rest[:20] + comment + exif + rest[20:]


KINDS = {
    "JPEG": lambda: file("JPEG"),
    "grey JPEG": lambda: file("JPEG", "L"),
    "CMYK JPEG": lambda: file("JPEG", "CMYK"),
    "progressive JPEG": lambda: file("JPEG", progressive=True),
    "JPEG with a comment": lambda: file("JPEG", comment=b"made by hand"),
    "JPEG, damaged EXIF": lambda: file("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03"),
    "JPEG, no such orientation": lambda: file("JPEG", turn=9),
    "JPEG, XMP orientation": lambda: with_xmp(6),
    "JPEG, EXIF behind others": exif_after_icc,
    "JPEG, Motorola's long orientation": lambda: with_long_tag("big"),
    "JPEG, Intel's long orientation": lambda: with_long_tag("little"),
    "JPEG, upright EXIF": lambda: file("JPEG", turn=1),
    "MPO": lambda: frames("MPO"),
    "PNG": lambda: file("PNG"),
    "palette PNG": lambda: file("PNG", "P"),
    "1-bit PNG": lambda: file("PNG", "1"),
    "grey PNG with alpha": lambda: file("PNG", "LA"),
    "PNG with alpha": lambda: file("PNG", "RGBA"),
    "PNG, ImageMagick's EXIF": lambda: with_text(6),
    "animated PNG": lambda: frames("PNG"),
    "BMP": lambda: file("BMP"),
    "palette BMP": lambda: file("BMP", "P"),
    "1-bit BMP": lambda: file("BMP", "1"),
    "grey BMP": lambda: file("BMP", "L"),
    "BMP with alpha": lambda: file("BMP", "RGBA"),
    "GIF": lambda: file("GIF", "P"),
    "animated GIF": lambda: frames("GIF"),
    "GIF with transparency": lambda: file("GIF", "P", transparency=3),
    "WebP": lambda: file("WEBP"),
    "lossless WebP": lambda: file("WEBP", lossless=True),
    "WebP with alpha": lambda: file("WEBP", "RGBA"),
    "animated WebP": lambda: frames("WEBP"),
    "TIFF": lambda: file("TIFF"),
    "LZW TIFF": lambda: file("TIFF", compression="tiff_lzw"),
    "CMYK TIFF": lambda: file("TIFF", "CMYK"),
    "1-bit TIFF": lambda: file("TIFF", "1"),
    "several pages": lambda: frames("TIFF"),
    "AVIF": lambda: file("AVIF"),
    "JPEG 2000": lambda: file("JPEG2000"),
    "PPM": lambda: file("PPM"),
    "TGA": lambda: file("TGA", "RGBA"),
    "QOI": lambda: file("QOI"),
}
TURNS = [("JPEG", turn) for turn in range(2, 9)]
TURNS += [(kind, turn) for kind in ("PNG", "WEBP", "TIFF", "AVIF") for turn in (6, 8)]
KINDS |= {f"{kind}, orientation {turn}": lambda kind=kind, turn=turn: file(kind, turn=turn) for kind, turn in TURNS}


@tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.string)])
def cut_both(contents):
    """Crops that need the whole image, and such as need a part of it."""
    whole = {"view": CropSpec(size=48, method="center", resize_to=48)}
    crops = {"view": CropSpec(size=16, count=2, method="center"), "other": CropSpec(size=8, method="random")}
    return [decoding.decode_crops(contents, specs, 3) for specs in (whole, crops)]


@pytest.mark.parametrize("what", KINDS)
def test_as_pillow_shows_it(what):
    contents = KINDS[what]()
    with Image.open(io.BytesIO(contents)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"), np.int64)
    seen = decode(contents).numpy()
    assert seen.dtype == np.uint8 and seen.shape == expected.shape
    # TensorFlow's JPEGs are decoded by a faster cosine transform.
    assert np.abs(seen - expected).max() <= (6 if contents.startswith(b"\xff\xd8") else 0)
    every, few = cut_both(contents)
    reference = tf.image.resize(expected.astype(np.uint8), (48, 48)).numpy()
    assert np.abs(every["view"][0].numpy() - reference).max() <= 6.5
    top, left = (expected.shape[0] - 16) // 2, (expected.shape[1] - 16) // 2
    assert np.abs(few["view"].numpy() - expected[top : top + 16, left : left + 16]).max() <= 8  # chroma at its edges
    assert few["other"].shape == (1, 8, 8, 3)


@pytest.mark.parametrize(
    ("kind", "dtype", "largest"),
    [("PNG", np.uint16, 65535), ("TIFF", np.uint16, 65535), ("TIFF", np.int32, 65535), ("TIFF", np.int32, 255),
     ("TIFF", np.float32, 1), ("TIFF", np.float32, 255)],
)
def test_grey_of_more_than_8_bits_is_scaled_not_cut_off(kind, dtype, largest):
    ramp = np.linspace(0, largest, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(dtype)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, kind)
    expected = np.floor(ramp.astype(np.float64) * {65535: 1 / 256, 255: 1, 1: 255}[largest])
    np.testing.assert_array_equal(decode(buffer.getvalue()).numpy(), np.repeat(expected[..., None], 3, -1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF"])
def test_half_a_file_is_an_error(kind):
    contents = file(kind, "P" if kind == "GIF" else "RGB")
    for damaged in (contents[: len(contents) // 2], contents[:10], b""):
        with pytest.raises((tf.errors.OpError, ValueError)):
            decode(damaged)


def test_a_phone_held_on_its_side_changes_no_batch(tmp_path):
    """One upright scene in files of four kinds, stored upright and stored turned: the same in every batch."""
    up = np.zeros((48, 48, 3), np.uint8)
    up[:24], up[24:] = [135, 190, 255], [60, 120, 40]
    for name, turn in (("plain", 1), ("phone", 6)):
        (tmp_path / name).mkdir()
        exif = Image.Exif()
        exif[0x0112] = turn
        image = Image.fromarray(up) if turn == 1 else Image.fromarray(up).transpose(Image.Transpose.ROTATE_90)
        for i in range(12):
            image.save(tmp_path / name / f"{i}.{('jpg', 'png', 'webp', 'tif')[i % 4]}", exif=exif)
    source = open_source(f"folder:{tmp_path}", "trainval")
    crops = {
        "part": CropSpec(size=24, method="center"),
        "whole": CropSpec(size=24, method="center", resize_to=24),
    }
    (seen,) = train_batches(source, batch_size=source.num_examples, crops=crops, seed=0).take(1).as_numpy_iterator()
    assert set(seen["label"]) == {0, 1}
    view = EvalView(24, resize=24, method="shorter_side")
    (scored,) = eval_batches(source, source.num_examples, view=view).as_numpy_iterator()
    middle, small = up[12:36, 12:36].astype(int), up[::2, ::2].astype(int)
    for images, expected in ((seen["part"][:, 0], middle), (seen["whole"][:, 0], small), (scored["image"], small)):
        difference = np.abs(images - expected).max((2, 3))  # of each row of each image
        difference[:, 10:14] = 0  # the horizon, of which JPEG and WebP make waves
        assert difference.max() <= 6
