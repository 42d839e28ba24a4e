"""Features of a frozen backbone: every endpoint of every image, in one pass, once, on disk."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import secrets
import shutil
import zlib

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.data import EvalView, eval_batches
from revisit_ssl.errors import InputError, reason, require
from revisit_ssl.features.checks import blocks, check_endpoints, check_finite, check_frozen
from revisit_ssl.features.pooling import POOLINGS
from revisit_ssl.features.representation import NetworkInput, check_input, feature_widths, images_at_once, represent
from revisit_ssl.runs.files import discard, locked, remove_left_overs
from revisit_ssl.runs.telling import Bar

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Which features are wanted of each image.

    Attributes:
        endpoints: names of the network's outputs.
        view: data.EvalView, what is cut from each image.
        network_input: NetworkInput, what the network sees of that; each of the patches of an image goes through alone.
        max_values, pooling: see ``representation.represent``.
        mirror: of the images with left and right exchanged.
    """

    endpoints: tuple
    view: EvalView
    network_input: NetworkInput
    max_values: int = 9000
    pooling: str = "max"
    mirror: bool = False

    def key(self, backbone, source):
        """What the features of one network and source depend on, as JSON: cached files are named by its hash."""
        extra = {"mirror": self.mirror, "kernel": self.view.kernel}
        return {
            "weights": weights_hash(backbone),
            "source": source.fingerprint,
            "view": repr(self.view),
            "network_input": repr(self.network_input),
            "max_values": self.max_values,
            "pooling": self.pooling,
        } | {name: value for name, value in extra.items() if value}  # left out when off: existing files stay valid

    def widths(self, backbone):
        """{endpoint: d}."""
        known, size = self.network_input, self.view.size
        widths = feature_widths(backbone, size, known, self.max_values, self.pooling)
        return {name: widths[name] for name in self.endpoints}


def extract_features(backbone, source, spec, *, cache_dir=None, batch_size=None, frozen=True, traced=None, quiet=True):
    """Pooled features of all images of a source, in the source's order.

    The network runs in inference mode. With ``cache_dir`` each endpoint is a ``.npy`` file beside a ``.json`` with its
    checksum; its name holds a hash of the weights, the architecture, the source and the settings. What lies there
    already is not computed again; a damaged file is, with a note in the log.

    Args:
        backbone: functional keras.Model whose output is {endpoint: [B, h, w, c] or [B, d]}.
        source: data.Source; labels are not needed.
        spec: FeatureSpec.
        cache_dir: local folder; None keeps the features in memory.
        batch_size: images per step, ``images_at_once`` if None; the last batch is padded, so that all steps have one
            static shape.
        frozen: refuse a trainable backbone. Only the training monitor, which scores nothing, turns this off.
        quiet: show no bar.
        traced: dict that keeps what was traced for further sources of the same network and ``batch_size``.

    Returns:
        {endpoint: float32 [N, d]}, a read-only np.memmap each where there is a ``cache_dir``.

    Raises:
        InputError: a trainable backbone, an unknown endpoint or pooling, images of a wrong size, features that are not
            finite, a disk that is full (nothing half-written is left), a ``cache_dir`` that is not local.
    """
    if frozen:
        check_frozen(backbone)
    check_endpoints(backbone, spec.endpoints)
    check_input(backbone, spec.network_input, spec.view.size)
    require(spec.pooling in POOLINGS, f"unknown pooling {spec.pooling!r}; one of {', '.join(POOLINGS)}")
    found, writers = {}, {name: _Memory() for name in spec.endpoints}
    if cache_dir is not None:
        found, writers = _cached(backbone, source, spec, cache_dir)
    if writers:
        missing = dataclasses.replace(spec, endpoints=tuple(writers))
        if cache_dir is not None:
            _check_space(str(cache_dir), source.num_examples, missing.widths(backbone))
        batch_size = batch_size or images_at_once(backbone, spec.view.size, spec.network_input)
        # A traced step takes batches of one size: smaller sources are filled up to it.
        batch_size = batch_size if traced is not None else min(batch_size, source.num_examples)
        key = missing, batch_size
        traced = {} if traced is None else traced
        if key not in traced:
            traced[key] = _traced(backbone, missing, batch_size)
        bar = Bar(f"features of {source.split}, images", source.num_examples, quiet)
        found |= _extract(traced[key], source, writers, spec.view, batch_size, bar)
    return {name: found[name] for name in spec.endpoints}


def _cached(backbone, source, spec, cache_dir):
    """({endpoint: features} of what lies in the folder, {endpoint: _File} for the rest)."""
    check_cache_dir(cache_dir)
    remove_left_overs(str(cache_dir))
    found, writers, key = {}, {}, spec.key(backbone, source)
    for name in spec.endpoints:
        path = feature_path(cache_dir, name, key)
        cached = _load(path)
        if cached is None or len(cached) != source.num_examples:
            writers[name] = _File(path, source.num_examples, key | {"endpoint": name})
        else:
            found[name] = cached
    return found, writers


def check_cache_dir(folder):
    """InputError for a folder that features cannot be kept in; None is right. Nothing is made."""
    if folder is None:
        return
    there = str(folder)
    require("://" not in there, f"features are memory-mapped and cannot lie at {there}; use a local folder")
    while not os.path.lexists(there) and os.path.dirname(there) != there:
        there = os.path.dirname(there) or "."
    fits = os.path.isdir(there) and os.access(there, os.W_OK)
    require(fits, f"features cannot be written to {folder}: {there} is no folder to write to; use another one")


def _traced(backbone, spec, batch_size):
    """The graph: uint8 [batch_size, side, side, 3] -> {endpoint: float32 [batch_size, d]}."""
    # Only the asked-for outputs: a shallow endpoint does not pay for the layers above it.
    trunk = keras.Model(backbone.input, {name: backbone.output[name] for name in spec.endpoints})

    @tf.function(autograph=False, jit_compile=compile_frozen())
    def forward(images):
        images = images[:, :, ::-1] if spec.mirror else images
        return represent(trunk, images, spec.network_input, max_values=spec.max_values, pooling=spec.pooling)

    return forward.get_concrete_function(tf.TensorSpec([batch_size, spec.view.size, spec.view.size, 3], tf.uint8))


def _extract(forward, source, writers, view, batch_size, bar):
    """{endpoint: features} of the endpoints in ``writers``; on any error all their files are removed."""
    rows = 0
    try:
        for images, n in padded_batches(source, batch_size, view):
            for name, values in forward(images).items():
                writers[name].append(values.numpy()[:n], name)
            rows += n
            bar(rows)
        require(rows == source.num_examples, f"{source.name} gave {rows} of {source.num_examples} images")
        return {name: writer.finish() for name, writer in writers.items()}
    except BaseException:
        for writer in writers.values():
            writer.abandon()
        raise


def padded_batches(source, batch_size, view):
    """Yields (uint8 [batch_size, s, s, 3], images among them): the last batch is filled up with black ones, so that a
    network is traced, and compiled, for one shape."""
    for batch in eval_batches(source, batch_size, view=view):
        images = batch["image"]
        n = int(images.shape[0])
        yield tf.pad(images, [[0, batch_size - n], [0, 0], [0, 0], [0, 0]]), n


def compile_frozen():
    """Whether XLA is to compile a frozen trunk: on an accelerator, where Keras 3 has no fused batch-norm kernel.

    On CPUs compiled code is slower.
    """
    return bool(tf.config.list_physical_devices("GPU"))


def _check_space(folder, rows, widths):
    """Makes ``folder``; InputError unless float32 [rows, width] of all endpoints together fit on its disk."""
    try:
        os.makedirs(folder, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InputError(f"cannot write features to {folder} ({reason(error)}); choose another --workdir") from None
    needed = 4 * rows * sum(widths.values())
    require(
        needed <= free,
        f"features of {', '.join(widths)} need {needed / 2**20:.0f} MB and {folder} has {free / 2**20:.0f}; "
        "free some space or choose another --workdir",
    )


class _Memory:
    def __init__(self):
        self.parts = []

    def append(self, values, name):
        check_finite(values, name)
        self.parts.append(values)

    def finish(self):
        return np.concatenate(self.parts)

    def abandon(self):
        pass


class _File:
    """A .npy file written front to back under a temporary name, then its .json; several processes may do so at once.

    It is locked while it is written to, so that others can tell it from what a killed process has left.

    Not through a memory map: writing to a mapped page on a full disk kills the process with SIGBUS, ``write`` raises.
    """

    def __init__(self, path, rows, key):
        self.path, self.rows, self.key = path, rows, key
        self.partial = f"{path}.partial-{secrets.token_hex(4)}"  # process numbers repeat between machines
        self.file, self.width, self.checksum = None, None, 0

    def append(self, values, name):
        check_finite(values, name)
        try:
            if self.file is None:
                self._open(values.shape[1])
            data = np.ascontiguousarray(values, "<f4").tobytes()
            self.checksum = zlib.crc32(data, self.checksum)
            self.file.write(data)
        except OSError as error:
            raise self._full(error) from None

    def _open(self, width):
        self.width = width
        while self.file is None or not os.path.exists(self.partial):  # removed as a left-over before it was locked
            self.file = open(self.partial, "wb")  # noqa: SIM115 - closed by finish or abandon
            with contextlib.suppress(OSError):  # a file system without locks: there nobody removes anything
                locked(self.file)
        header = {"descr": "<f4", "fortran_order": False, "shape": (self.rows, width)}
        np.lib.format.write_array_header_1_0(self.file, header)

    def finish(self):
        facts = {"shape": [self.rows, self.width], "crc32": self.checksum, "key": self.key}
        notes = f"{self.partial}.json"
        try:
            self.file.flush()
            with open(notes, "w") as file:
                file.write(json.dumps(facts, indent=2) + "\n")
            os.replace(notes, f"{self.path}.json")
            os.replace(self.partial, self.path)  # last: what is there counts
            self.file.close()  # not before: its lock is that of both
        except OSError as error:
            discard(notes)
            raise self._full(error) from None
        return np.load(self.path, mmap_mode="r")

    def abandon(self):
        if self.file is not None:
            # Closing flushes, which fails once more on a full disk; that error is being reported already.
            with contextlib.suppress(OSError):
                self.file.close()
            discard(self.partial)

    def _full(self, error):
        return InputError(
            f"cannot write features to {self.path} ({reason(error)}); free some space or choose another --workdir"
        )


def _load(path):
    """The memory map at ``path``, or None where it is missing or damaged (said in the log)."""
    if not os.path.exists(path):
        return None
    try:
        with open(f"{path}.json") as file:
            facts = json.load(file)
        features = np.load(path, mmap_mode="r")
        checksum = 0
        for _, block in blocks(features):
            checksum = zlib.crc32(block.tobytes(), checksum)
        if checksum == facts["crc32"] and list(features.shape) == facts["shape"]:
            return features
        damage = "checksum differs"
    except Exception as error:  # JSON, NumPy and mmap each have errors of their own for a damaged file
        damage = reason(error)
    _log.warning("features at %s are damaged (%s); computing them again", path, damage)
    return None


def feature_path(cache_dir, endpoint, key):
    """Where the features of an endpoint lie: cache_dir/<endpoint>-<hash of the key>.npy."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return os.path.join(str(cache_dir), f"{endpoint}-{digest}.npy")


def weights_hash(backbone):
    """Hex digest of the architecture and of every weight, moving statistics included.

    The architecture counts too: networks may differ in a stride or a last ReLU and share all weights.
    """
    digest = hashlib.sha256(backbone.to_json().encode())
    for weight in backbone.weights:
        digest.update(f"{weight.path}{weight.shape}{weight.dtype}".encode())
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).tobytes())
    return digest.hexdigest()
