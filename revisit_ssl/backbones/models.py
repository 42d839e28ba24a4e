"""Built backbones: counted without values, and read from files."""

import concurrent.futures
import contextlib
import importlib
import io
import json
import math
import os
import re
import zipfile

import keras
import tensorflow as tf

from revisit_ssl.backbones import BACKBONES, expects, get_backbone
from revisit_ssl.errors import InputError, reason
from revisit_ssl.values import check_plain


def count_parameters(name, width, options=None, *, input_shape=None, **changes):
    """The number of trainable parameters of a backbone, without allocating them (558 M take a second).

    Arguments and errors as of `get_backbone`.
    """
    model = without_values(lambda: get_backbone(name, width, options, input_shape=input_shape, **changes))
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def without_values(build):
    """What ``build()`` returns, a keras.Model whose variables have shapes only."""

    def shapes_only():
        # Variables made in this scope get their values after it; here never.
        with keras.StatelessScope(initialize_variables=False):
            return build()

    # Keras notes per thread which variables wait for their values: with a thread of its own the note is dropped.
    with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(shapes_only).result()


def part_of(path, name):
    """The text of one of the files in a ``.keras`` file; "{}" where it cannot be read."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file, zipfile.ZipFile(io.BytesIO(file.read())) as stored:
            return stored.read(name).decode()
    except Exception:  # zip, zlib and file systems each have errors of their own
        return "{}"


def keras_of(path):
    """Version of the Keras that wrote a ``.keras`` file, or None where it does not say."""
    with contextlib.suppress(ValueError, TypeError, AttributeError):
        return json.loads(part_of(path, "metadata.json")).get("keras_version")


def import_layers(path):
    """Imports the modules of this package whose layers a ``.keras`` file holds: Keras knows those of imported ones."""
    for module in sorted(set(re.findall(r'"module": "(revisit_ssl(?:\.\w+)+)"', part_of(path, "config.json")))):
        with contextlib.suppress(ImportError):  # it has moved since then
            importlib.import_module(module)


def load_backbone(path):
    """A backbone from a ``.keras`` file, or from a working directory that holds ``backbone.keras``.

    Args:
        path: str or path-like, local or what ``tf.io.gfile`` reads.

    Returns:
        Functional keras.Model with a dict of endpoints. ``expects`` says what images it takes (``Expects``; None where
        the file does not know); integers are refused. ``revisit_ssl.represent`` makes what it takes of photographs.

    Raises:
        InputError: nothing there, no Keras file or a damaged one, or a model without the endpoint "pre_logits".
    """
    dict(BACKBONES)  # a file may hold the layers of any network, and Keras knows those of imported ones
    path = os.fspath(path)
    if tf.io.gfile.isdir(path):
        path = os.path.join(path, "backbone.keras")
    if not tf.io.gfile.exists(path):
        raise InputError(f"no backbone at {path!r}; give a .keras file or the working directory of a finished run")
    if not path.endswith(".keras"):
        raise InputError(f"{path!r} is no .keras file; give the backbone.keras of a run")
    try:
        import_layers(path)  # of heads too, which stand above the networks
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # zip, HDF5, JSON and Keras each have their own errors for a damaged file
        said, wrote = f"{type(error).__name__}: {reason(error)[:200]}", keras_of(path)
        why = "it is damaged or was not written by this package, export it again"
        if wrote not in (None, keras.__version__):
            here = f"Keras {wrote} wrote it and this is Keras {keras.__version__}"
            why = f"{here}: pip install keras=={wrote}, or export it again"
        raise InputError(f"{path!r} cannot be read as a backbone ({said}); {why}") from error
    if not isinstance(getattr(model, "output", None), dict) or "pre_logits" not in model.output:
        raise InputError(
            f"{path!r} holds {type(model).__name__} {model.name!r}, which has no endpoint 'pre_logits'; give a backbone"
        )
    for name in model.output:
        check_plain(name, f"{path!r}: endpoint")
    return expects.tell(model, expects.read(path))
