"""Checkpoints of a training run: every weight and optimiser variable, the step, and whose they are, in one atomically
written file."""

import json
import os
import re
import tempfile

import numpy as np
import tensorflow as tf

from revisit_ssl.distribute import is_chief, to_numpy
from revisit_ssl.errors import InputError, reason, require
from revisit_ssl.runs.damage import set_aside
from revisit_ssl.runs.files import discard, put_in_place
from revisit_ssl.runs.identity import differing

_NAME = re.compile(r"step-(\d{9,})\.npz")


class DamagedCheckpoint(InputError):
    """A checkpoint that cannot be read; ``why``: what reading it said."""

    def __init__(self, path, why, others="", advice="put a copy of it back, or start anew in another --workdir"):
        super().__init__(f"checkpoint {path} is damaged ({why}){others}; {advice}")
        self.path, self.why = path, why


def save_checkpoint(folder, model, step, *, about=None, keep=2, write=True):
    """Writes ``folder``/step-000000123.npz and removes all but the newest ``keep``.

    Args:
        folder: local path or gs:// address.
        model: compiled Pretext.
        step: int, optimiser steps done.
        about: plain values that go with it: "recipe", the fields that train it, and "log", its open window.
        write: False on workers that only take part in reading distributed variables.

    Returns:
        The path, or None if the state holds a value that is not finite: such a state is never written, so that the
        newest checkpoint is always a good one.

    Raises:
        InputError: the disk is full; the older checkpoints are still there.
    """
    arrays = {f"{i:05d}": to_numpy(v) for i, v in enumerate(_state(model))}
    if not all(np.isfinite(a).all() for a in arrays.values() if a.dtype.kind == "f"):
        return None
    path = os.path.join(str(folder), f"step-{step:09d}.npz")
    if not write:
        return path
    partial = f"{path}.partial"
    try:
        tf.io.gfile.makedirs(str(folder))
        with tempfile.TemporaryDirectory() as scratch:
            # np.savez seeks in its file, which a remote one cannot do: those are written here and copied.
            local = os.path.join(scratch, "step.npz") if "://" in partial else partial
            with open(local, "wb") as file:
                np.savez(file, step=np.int64(step), about=np.array(json.dumps(about or {})), **arrays)
            if local != partial:
                tf.io.gfile.copy(local, partial, overwrite=True)
        put_in_place(partial, path)
    except (OSError, tf.errors.OpError) as error:
        discard(partial)
        raise InputError(
            f"cannot write checkpoint {path} ({reason(error)}); earlier checkpoints are kept: free some space, "
            "then go on with --resume"
        ) from None
    for old in list_checkpoints(folder)[:-keep]:
        discard(old)
    return path


def load_newest(folder, model, trained=None, *, but=()):
    """Restores ``model`` from the newest checkpoint that can be read.

    Damaged ones that are newer are set aside under another name, each with a line that says so, once a good one is
    found: the first worker does that, and all others pass them over.

    Args:
        folder: of checkpoints.
        model, trained, but: as of ``load_checkpoint``.

    Returns:
        (its step, what was saved ``about`` it); (0, {}) where there is no checkpoint.

    Raises:
        InputError: all are damaged, and stay where they are; or the newest that can be read is of another network,
            recipe or step.
    """
    unread = []
    for path in reversed(list_checkpoints(folder)):
        try:
            step, about = load_checkpoint(path, model, trained, but=but), read_about(path)
        except DamagedCheckpoint as error:
            unread.append(error)
            continue
        for error in unread if is_chief() else ():
            set_aside(error.path, error.why)
        return step, about
    if unread:
        others = f", and so {'are' if len(unread) > 2 else 'is'} the {len(unread) - 1} before it" if unread[1:] else ""
        raise DamagedCheckpoint(unread[0].path, unread[0].why, others)
    return 0, {}


def load_checkpoint(path, model, trained=None, *, but=()):
    """Restores ``model`` to the bit and returns its step.

    Args:
        path: of the checkpoint.
        model: compiled Pretext.
        trained: the fields that train it, ``runs.identity.trained_values`` of its recipe; None: they are not compared.
        but: fields that may differ.

    Raises:
        DamagedCheckpoint: every array carries a CRC.
        InputError: of another network, recipe or step than its name says.
    """
    state = _state(model)
    try:
        with tf.io.gfile.GFile(str(path), "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = [stored[f"{i:05d}"] for i in range(sum(name.isdigit() for name in stored.files))]
            step = int(stored["step"])
    except Exception as error:  # zip, zlib and NumPy each have errors of their own for a damaged file
        raise DamagedCheckpoint(path, reason(error)) from None
    named = _NAME.fullmatch(os.path.basename(str(path)))
    other = "it was renamed or copied: delete it and --resume from the one before"
    own = named is not None and int(named.group(1)) == step
    require(own, f"checkpoint {path} holds step {step}, which is not what its name says; {other}")
    foreign = differing(read_about(path).get("recipe", {}), trained or {}, but)
    require(not foreign, f"checkpoint {path} is of another recipe ({foreign}); {other}, or choose another --workdir")
    shapes = [tuple(v.shape) for v in state]
    if shapes != [a.shape for a in arrays]:
        raise InputError(
            f"checkpoint {path} holds {len(arrays)} arrays that do not fit this network's {len(shapes)} variables; "
            "use the recipe it was made with, or another --workdir"
        )
    for variable, array in zip(state, arrays, strict=True):
        variable.assign(array)
    return step


def read_about(path):
    """What ``save_checkpoint`` was given as ``about``; {} of an older file.

    Raises:
        DamagedCheckpoint: it cannot be read.
    """
    try:
        with tf.io.gfile.GFile(str(path), "rb") as file, np.load(file, allow_pickle=False) as stored:
            return json.loads(str(stored["about"])) if "about" in stored.files else {}
    except Exception as error:  # zip, zlib and NumPy each have errors of their own for a damaged file
        raise DamagedCheckpoint(path, reason(error)) from None


def list_checkpoints(folder):
    """Paths of the complete checkpoints, oldest first."""
    folder = str(folder)
    if not tf.io.gfile.isdir(folder):
        return []
    names = sorted(name for name in tf.io.gfile.listdir(folder) if _NAME.fullmatch(name))
    return [os.path.join(folder, name) for name in names]


def step_of(path):
    """The step in a checkpoint's name."""
    return int(_NAME.fullmatch(os.path.basename(str(path))).group(1))


def _state(model):
    # weights, not variables: running means of the log are no part of the state.
    return [*model.weights, *model.optimizer.variables]
