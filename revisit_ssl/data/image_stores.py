"""Large sets of unlabelled images: YFCC100M by a list of its ids, or any folder; zips of images, or files.

For hundreds of millions of images: names are fixed-width arrays, nothing is unpacked, and a zip's images are read where
they lie in it.
"""

import dataclasses
import gzip
import hashlib
import os
import struct
import sys
import zipfile
import zlib

import numpy as np
import tensorflow as tf

from revisit_ssl.data import splits
from revisit_ssl.data.dataset import Dataset
from revisit_ssl.data.folders import HELD
from revisit_ssl.data.looking import EXTENSIONS
from revisit_ssl.data.pipelines import untuned
from revisit_ssl.data.sources import Source
from revisit_ssl.data.viewing import decode
from revisit_ssl.errors import DataNotHere, InputError, require

HELD_IMAGES = 50_000  # validate, or a tenth where that is fewer
TOLERANCE = 8  # grey levels between the darkest and the brightest pixel of each channel of an image of one colour
LISTS = ("ids.txt", "ids.txt.gz", "ids.npy")
HASHTAGS = ("hashtags.tsv", "hashtags.tsv.gz")
LEFT_OUT = "uniform_colour.txt"
WHOLE = -1  # in place of a zip's method: the file itself


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageStore(Dataset):
    """A local folder of unlabelled images, of which those of one colour are left out.

    Images are files or members of zips anywhere below, called by their ids: 1234567.jpg. A list of ids (LISTS), such as
    the official one of 95,920,149, says which count, in its order, and is taken at its word; without one all images are
    decoded once, and those of one colour or unreadable are left out and remembered in LEFT_OUT. hashtags.tsv, lines of
    an id, a tab and tags between blanks, is ``Source.text("hashtags")``. "name:/folder:1000" or "name:1000" is a
    subset: the first 1,000 of the list, or else drawn once for all; a smaller one lies inside a larger. A part of a
    store validates: HELD_IMAGES, at most a tenth; there are no test images.

    Attributes:
        folder: where it is looked for in the folder of the TFDS sets; "": a folder has to be named.
    """

    folder: str = ""
    splits: tuple = ("train", "val", "trainval")
    argument: str = "a folder, how many of its images, or both: NAME:/folder:1000000"

    def open(self, request):
        root, count = _parsed(request.argument)
        named = root or self.folder
        key = request.name.partition(":")[0]
        require(named, f"data set {key} needs a folder behind its name: {key}:/path/of/images")
        root = os.path.expanduser(root) if root else os.path.join(request.place, self.folder)
        require("://" not in root, f"data set {key} reads its zips where they lie, and {root} is no local folder")
        if not os.path.isdir(root):
            raise DataNotHere(f"data set {key} is not in {root}; {self.how_to_get(request.place)}")
        ids, entries = find_images(root)
        ids, entries = chosen(root, ids, entries, count)
        kept, held = splits.holdout(np.zeros(len(ids), np.int64), min(HELD, HELD_IMAGES / len(ids)), seed=0)
        rows = {"train": kept, "val": held, "trainval": np.arange(len(ids))}[request.split]
        require(len(rows), f"{root} has {len(ids)} images, too few to hold out any for {request.split}")
        return _source(request, root, ids[rows], entries[rows])

    def how_to_get(self, place):
        where = f"{os.path.join(place, self.folder)}" if self.folder else "the folder that is named"
        return f"put zips or folders of images, called by their ids, into {where}, and their list as ids.txt"


def _parsed(argument):
    """(folder or "", count or None) of "/folder:1000", "/folder", "1000"."""
    head, _, tail = argument.rpartition(":")
    if not tail.isdigit():
        return argument, None
    require(int(tail) >= 2, f"a subset of {tail} images is too small; at least 2")
    return head, int(tail)


def find_images(root):
    """(ids, entries) of all images below a folder, bytes arrays [N], ordered by id.

    An entry is "path|0|bytes|-1" of a file, "archive|offset of its header|stored bytes|method" of a member of a zip.

    Raises:
        InputError: no images, a damaged zip, two images of one id.
    """
    ids, entries = [], []
    for place, folders, files in os.walk(root, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = os.path.join(place, name)
            if name.lower().endswith(EXTENSIONS) and not name.startswith("."):
                ids.append([_id(name)])
                entries.append([f"{path}|0|{os.path.getsize(path)}|{WHOLE}"])
            elif name.lower().endswith(".zip"):
                members = _members(path)
                ids.append([_id(member.filename) for member in members])
                where = ((m.header_offset, m.compress_size, m.compress_type) for m in members)
                entries.append([f"{path}|{offset}|{size}|{method}" for offset, size, method in where])
    parts = [np.array(part, "S") for part in ids if part]
    require(parts, f"{root} holds no images, in files {' '.join(EXTENSIONS)} or in zips of them")
    ids = np.concatenate(parts)
    entries = np.concatenate([np.array([os.fsencode(e) for e in part], "S") for part in entries if part])
    order = np.argsort(ids, kind="stable")
    ids, entries = ids[order], entries[order]
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        both = " and ".join(os.fsdecode(entry).rsplit("|", 3)[0] for entry in entries[twice[0] : twice[0] + 2])
        raise InputError(f"{root} has two images {ids[twice[0]].decode()}, in {both}; remove one of them")
    return ids, entries


def _id(name):
    return os.path.splitext(os.path.basename(name))[0].encode()


def _members(path):
    """ZipInfo of the images in a zip, in their order."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = [m for m in archive.infolist() if m.filename.lower().endswith(EXTENSIONS)]
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is no readable zip ({error}); remove it or get it again") from None
    odd = next((m for m in found if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)), None)
    require(odd is None, f"{path} is compressed in another way than by deflate; zip its images again")
    return found


def read_entry(entry):
    """The encoded image of an entry of ``find_images``: bytes -> bytes."""
    path, *where = os.fsdecode(entry).rsplit("|", 3)
    offset, size, method = map(int, where)
    with open(path, "rb") as file:
        if method == WHOLE:
            return file.read()
        file.seek(offset)
        name, extra = struct.unpack("<26x2H", file.read(30))  # lengths of the member's name and extra field
        file.seek(name + extra, os.SEEK_CUR)
        data = file.read(size)
    return data if method == zipfile.ZIP_STORED else zlib.decompress(data, -zlib.MAX_WBITS)


def chosen(root, ids, entries, count=None):
    """The images of a store that count: those of its list, else all that are not of one colour; at most ``count``.

    Args:
        root: folder.
        ids, entries: of ``find_images``.
        count: None for all.

    Returns:
        (ids, entries).

    Raises:
        InputError: none of the listed images is there; fewer than ``count``.
    """
    listed = read_ids(root)
    if listed is None:
        left_out = left_out_of(root, ids, entries)
        rows = np.flatnonzero(~np.isin(ids, left_out))
        if count is not None and count < len(rows):
            rows = np.sort(rows[np.random.default_rng([0, 3]).permutation(len(rows))[:count]])
    else:
        places = np.minimum(np.searchsorted(ids, listed), len(ids) - 1)
        there = ids[places] == listed
        absent = len(there) - int(there.sum())
        if absent:
            first = listed[np.argmin(there)].decode()
            print(f"warning: {root}: {absent} of {len(listed)} listed images are not there ({first})", file=sys.stderr)
        rows = places[there][:count]
    require(len(rows) >= 2, f"{root} has {len(rows)} images that count; a set needs at least 2")
    require(count is None or len(rows) >= count, f"{root} has {len(rows)} images, not {count}; take a smaller subset")
    return ids[rows], entries[rows]


def read_ids(root):
    """The ids of a store's list in its order, bytes [n]; None where it has none."""
    path = _first(root, LISTS)
    if path is None:
        return None
    if path.endswith(".npy"):
        return np.load(path, allow_pickle=False).astype("S")
    with _opened(path) as file:
        return np.array(file.read().split(), "S")


def is_uniform(image, tolerance=TOLERANCE):
    """Whether an image uint8 [h, w, 3] has one colour: each channel within ``tolerance`` grey levels. Bool tensor."""
    flat = tf.reshape(tf.cast(image, tf.int32), [-1, 3])
    return tf.reduce_all(tf.reduce_max(flat, axis=0) - tf.reduce_min(flat, axis=0) <= tolerance)


def left_out_of(root, ids, entries):
    """Ids of the images of one colour and of those that do not decode: read from LEFT_OUT, or else looked for."""
    path, digest = os.path.join(root, LEFT_OUT), _digest(ids, entries)
    if os.path.exists(path):
        with open(path, "rb") as file:
            first, *known = file.read().split(b"\n")
        if first == f"of {digest}".encode():
            return np.array([line for line in known if line], "S")
    print(f"{root}: looking for images of one colour, once", file=sys.stderr, flush=True)
    data = tf.data.Dataset.from_tensor_slices((np.arange(len(entries)), entries))
    data = data.map(lambda i, e: (i, is_uniform(decode(read_tensor(e)))), num_parallel_calls=tf.data.AUTOTUNE)
    fine = [i for i, uniform in untuned(data.ignore_errors()).as_numpy_iterator() if not uniform]
    found = np.delete(ids, fine)
    text = b"\n".join([f"of {digest}".encode(), *found.tolist()]) + b"\n"
    try:
        with open(f"{path}.partial", "wb") as file:
            file.write(text)
        os.replace(f"{path}.partial", path)
    except OSError:  # a store that cannot be written to is looked through again
        pass
    return found


def read_tensor(entry):
    """``read_entry`` in a graph: string scalar -> string scalar."""
    return tf.ensure_shape(tf.numpy_function(read_entry, [entry], tf.string, stateful=False), [])


def hashtags(root, ids):
    """Tags of the images ``ids``, a tuple of str, tags with blanks between; "" for an image without any."""
    path, places = _first(root, HASHTAGS), {image: i for i, image in enumerate(ids.tolist())}
    found = [""] * len(ids)
    with _opened(path) as file:
        for line in file:
            image, _, tags = line.rstrip(b"\r\n").partition(b"\t")
            if image in places:
                found[places[image]] = tags.decode()
    return tuple(found)


def _source(request, root, ids, entries):
    def text(name):
        require(name == "hashtags" and _first(root, HASHTAGS), f"{root} has no {name} of its images; add {HASHTAGS[0]}")
        return hashtags(root, ids)

    with tf.device("CPU"):
        paths = tf.constant(entries)
    return Source(
        name=request.name, split=request.split, kind="store", num_examples=len(ids),
        fingerprint=f"store-{_digest(ids, entries)}", paths=paths, text=text,
    )


def _digest(ids, entries):
    """16 hex digits of names, places and sizes; the folder that the store lies in does not count."""
    digest = hashlib.sha256(ids.tobytes())
    digest.update(b"\n".join(b"|".join(entry.rsplit(b"|", 3)[1:]) for entry in entries.tolist()))
    return digest.hexdigest()[:16]


def _first(root, names):
    return next((path for path in (os.path.join(root, name) for name in names) if os.path.exists(path)), None)


def _opened(path):
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")
