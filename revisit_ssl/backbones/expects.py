"""What images a saved network was trained and probed on: kept inside of its file, and said when it is loaded."""

import functools
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import asdict, dataclass

import keras
import tensorflow as tf

from revisit_ssl.errors import InputError, require

RANGES = {
    "pm1": "in [-1, 1]", "none": "in [0, 1]", "standardize": "of mean 0 and deviation 1 in each image",
    "imagenet": "less ImageNet's mean, by its deviation", "cifar": "less CIFAR's mean, by its deviation",
}


@dataclass(frozen=True, kw_only=True)
class Expects:
    """How an image becomes what a network sees, and its outputs features.

    Attributes:
        view: {field: value} of data.EvalView, how it is cut.
        network_input: {field: value} of features.NetworkInput: range, patches.
        max_values, pooling: of the features, see ``features.pooling.pool_endpoint``.
    """

    view: dict
    network_input: dict
    max_values: int
    pooling: str

    @property
    def side(self):
        """Of what the network itself takes, in pixels."""
        known = self.network_input
        whole = known["patch_grid"] == 1 or known["combine"] == "whole"
        return self.view["size"] if whole else known["patch_size"]

    def __str__(self):
        known = self.network_input
        grid = "" if self.side == self.view["size"] else f" (an image is {known['patch_grid']}² of them)"
        values = RANGES.get(known["normalize"], known["normalize"])
        return f"float32 [n, {self.side}, {self.side}, 3], values {values}{grid}"


def save(model, path, expects=None):
    """Writes ``model`` to a .keras file, local or what tf.io.gfile writes, with ``expects`` inside of it."""
    if "://" not in path:
        return _save(model, path, expects)
    with tempfile.TemporaryDirectory() as folder:
        local = os.path.join(folder, "backbone.keras")
        _save(model, local, expects)
        with open(local, "rb") as file, tf.io.gfile.GFile(path, "wb") as remote:
            shutil.copyfileobj(file, remote)


def _save(model, path, expects):
    model.save(path)
    if expects is not None:
        # The archive's comment: Keras would unpack the weights to disk once more for a member that is not its own.
        text = json.dumps(asdict(expects), sort_keys=True)
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = json.dumps({"expects": text, "crc32": zlib.crc32(text.encode())}).encode()


def read(path):
    """The Expects in a .keras file; None where it was written without.

    Raises:
        InputError: it is damaged.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file, zipfile.ZipFile(file) as archive:
            comment = archive.comment
        if not comment:
            return None
        kept = json.loads(comment)
        require(zlib.crc32(kept["expects"].encode()) == kept["crc32"], "its checksum is another")
        return Expects(**json.loads(kept["expects"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile, tf.errors.OpError) as error:
        raise InputError(f"{path!r} is damaged: what images it takes cannot be read ({error})") from None


def tell(model, expects):
    """``model`` with what it takes in ``model.expects``; called on integers it refuses, since 0..255 would go through
    it silently and come out as features of nothing.

    Args:
        model: functional keras.Model; changed in place, its layers and its file are not.
        expects: Expects, or None where it is not known.
    """
    if getattr(model, "expects", None) is None:
        call = model.call

        @functools.wraps(call)
        def checked(images, *arguments, **options):
            kind = keras.backend.standardize_dtype(images.dtype) if hasattr(images, "dtype") else "float32"
            if not kind.startswith(("float", "bfloat")):
                takes = model.expects or "floats in the range that it was trained on"
                raise InputError(f"{model.name} takes {takes}, not {kind}; represent(…) makes that of uint8 images")
            return call(images, *arguments, **options)

        model.call = checked
    model.expects = expects
    return model
