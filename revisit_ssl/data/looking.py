"""What lies under a folder: each image file once, which of them can be read, what they hold, what is passed over."""

import collections
import dataclasses
import hashlib
import os

import numpy as np
import tensorflow as tf

from revisit_ssl.data.pipelines import untuned
from revisit_ssl.data.viewing import decode

EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".gif", ".webp", ".bmp", ".dib", ".tif", ".tiff",
    ".avif", ".jp2", ".jpx", ".j2k", ".pbm", ".pgm", ".ppm", ".pnm", ".tga", ".pcx", ".qoi",
)
CHECK_ALL = 5000  # sets up to this size are read and decoded once when opened; of larger ones what looks broken
ENDS = 4096  # bytes at both ends of a file that stand for all of it in larger sets
SAMPLE = 200  # images of a larger set whose sides are looked at
# What computers and network drives leave beside people's files, and hidden files, are not even counted.
_LEFT_BY_SYSTEMS = frozenset(
    ["@eadir", "__macosx", "@recycle", "#recycle", "#snapshot", "@recently-snapshot", "@sharebin", "$recycle.bin",
     "system volume information", "lost+found", "__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"]
)
# Why something is passed over, of one and of several.
BROKEN = ("file that is no readable image", "files that are no readable images")
TWICE = ("link to what is there already", "links to what is there already")
DANGLING = ("link that leads nowhere", "links that lead nowhere")
CLOSED = ("folder that cannot be read", "folders that cannot be read")


@dataclasses.dataclass(frozen=True)
class Found:
    """What a walk finds below a folder; all names are relative to it, with "/".

    Attributes:
        files: {name: bytes} of what is called an image, in the order of the names; 0 bytes in a bucket.
        folders: set of the names of all folders.
        skipped: {why: [names]} of what is passed over; why: BROKEN (here: files of other kinds), TWICE, ….
    """

    files: dict
    folders: set
    skipped: dict


def walk(root, only=None):
    """Each real file below ``root`` once, however many links lead to it; what lies in it before what is linked.

    A link to a folder above ``root`` is a loop as well: it is not followed.

    Args:
        root: folder, local or gs://.
        only: names of the folders in ``root`` that are looked into, or None for everything.

    Returns:
        ``Found``.
    """
    found = Found({}, set(), collections.defaultdict(list))
    if "://" in root:
        _walk_bucket(root, found, only)
    else:
        _Walk(root, found).run(only)
    skipped = {why: sorted(names) for why, names in found.skipped.items()}
    return Found(dict(sorted(found.files.items())), found.folders, skipped)


def _passed_over(name):
    return name.startswith(".") or name.lower() in _LEFT_BY_SYSTEMS


class _Walk:
    """A walk of a local folder: everything real first, then the links, by name."""

    def __init__(self, root, found):
        self.root, self.found = root, found
        self.real = os.path.realpath(root)
        self.folders, self.files, self.inodes = set(), set(), set()
        self.waiting, self.links = collections.deque([("", self.real)]), collections.deque()

    def run(self, only):
        while self.waiting or self.links:
            if self.waiting:
                self.look_into(*self.waiting.popleft(), only)
            else:
                self.follow(self.links.popleft())

    def look_into(self, name, real, only):
        self.folders.add(real)
        try:
            with os.scandir(real) as inside:
                entries = sorted(inside, key=lambda entry: entry.name)
        except OSError:
            self.found.skipped[CLOSED].append(name or self.root)
            return
        for entry in entries:
            if _passed_over(entry.name) or (only is not None and not name and entry.name not in only):
                continue
            below = f"{name}/{entry.name}" if name else entry.name
            if entry.is_symlink():
                self.links.append((below, entry.path))
            elif entry.is_dir(follow_symlinks=False):
                self.found.folders.add(below)
                self.waiting.append((below, entry.path))
            else:
                self.keep(below, entry.path)

    def follow(self, link):
        name, path = link
        real = os.path.realpath(path)
        if os.path.isdir(real):
            if real in self.folders or f"{self.real}/".startswith(f"{real.rstrip('/')}/"):
                self.found.skipped[TWICE].append(name)
            else:
                self.found.folders.add(name)
                self.waiting.append((name, real))
        elif os.path.exists(real):
            self.keep(name, real)
        else:
            self.found.skipped[DANGLING].append(name)

    def keep(self, name, real):
        if not (name.lower().endswith(EXTENSIONS) and os.path.isfile(real)):  # a pipe would never end
            self.found.skipped[BROKEN].append(name)
            return
        status = os.stat(real)
        inode = (status.st_dev, status.st_ino) if status.st_nlink > 1 else None
        if real in self.files or inode in self.inodes:
            self.found.skipped[TWICE].append(name)
            return
        self.files.add(real)
        self.inodes |= {inode} - {None}
        self.found.files[name] = status.st_size


def _walk_bucket(root, found, only):
    for place, _, files in tf.io.gfile.walk(root):
        inside = place[len(root) :].strip("/")
        parts = inside.split("/") if inside else []
        if any(_passed_over(part) for part in parts) or (only is not None and parts[:1] and parts[0] not in only):
            continue
        found.folders.update("/".join(parts[: i + 1]) for i in range(len(parts)))
        for file in files if parts or only is None else ():
            name = "/".join([*parts, file])
            if _passed_over(file):
                continue
            if file.lower().endswith(EXTENSIONS):
                found.files[name] = 0
            else:
                found.skipped[BROKEN].append(name)


@dataclasses.dataclass(frozen=True)
class Contents:
    """What files hold: digests int64 [N], -1 where a file cannot be read; sides int64 [n, 2], heights and widths of
    those that were decoded."""

    digests: np.ndarray
    sides: np.ndarray


def read_contents(paths, sizes):
    """Reads files once: which of them are images, and a digest that follows what is in them.

    Up to CHECK_ALL files are read and decoded whole. In a larger set a JPEG or PNG that begins and ends as it should is
    taken for whole, and its digest is of its size and of ENDS bytes at both ends; others are read. Of a larger set in a
    bucket nothing is read, where opening a million files takes longer than an epoch: all of its digests are 0.

    Args:
        paths: [N] str.
        sizes: [N] int, in bytes.

    Returns:
        ``Contents``.
    """
    digests = np.full(len(paths), -1, np.int64)
    rest = np.arange(len(paths))
    if len(paths) > CHECK_ALL:
        if "://" in paths[0]:
            digests[:] = 0
        else:
            digests[:] = [_digest_of_ends(path, size) for path, size in zip(paths, sizes, strict=True)]
        whole = np.flatnonzero(digests != -1)
        rest = np.flatnonzero(digests == -1)
        looked_at = np.concatenate([rest, whole[:: max(1, len(whole) // SAMPLE)]])
    else:
        looked_at = rest
    sides = []
    for i, digest, shape in _decoded([paths[i] for i in looked_at]):
        row = looked_at[i]
        digests[row] = digest if digests[row] == -1 else digests[row]
        sides.append(shape[:2])
    return Contents(digests, np.array(sides, np.int64).reshape(-1, 2))


def _decoded(paths):
    """(place in ``paths``, digest, shape) of those that decode; all are read, several at once."""
    if not paths:
        return
    data = tf.data.Dataset.from_tensor_slices((np.arange(len(paths)), [as_bytes(path) for path in paths]))
    looked = untuned(data.map(_look, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors())
    for i, digest, shape in looked.as_numpy_iterator():
        if shape.min() > 0:
            yield int(i), digest, shape


# A graph of its own, traced once: a folder is often opened several times.
@tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.string)])
def _look(i, path):
    """(i, digest, shape) of the image there."""
    contents = tf.io.read_file(path)
    # FarmHash, the same on all machines, of one bit less.
    return i, tf.strings.to_hash_bucket_fast(contents, 2**63 - 1), tf.shape(decode(contents))


def _digest_of_ends(path, size):
    """Of a JPEG or PNG that begins and ends as it should; -1 of others, which have to be decoded."""
    try:
        with open(path, "rb") as file:
            head = file.read(ENDS)
            file.seek(max(0, size - ENDS))
            tail = file.read()
    except OSError:
        return -1
    whole = (head.startswith(b"\xff\xd8\xff") and b"\xff\xd9" in tail[-64:]) or (
        head[1:4] == b"PNG" and b"IEND" in tail[-64:]
    )
    digest = hashlib.blake2b(head + tail + str(size).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1 if whole else -1


def as_bytes(path):
    """The path as its file system has it: a local name need not be UTF-8, which TensorFlow takes for granted."""
    return path.encode() if "://" in path else os.fsencode(path)


def shown(name):
    """The name as it can be printed: bytes that are not UTF-8 as \\xff."""
    return os.fsencode(name).decode(errors="backslashreplace")


def some(names, count=3):
    """The first names and how many more there are, for a line: "a, b, c and 11 more"."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(shown(name) for name in names[:count]) + more
