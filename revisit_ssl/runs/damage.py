"""Side files that are damaged: set aside under another name, said in one line, never in the way of a run.

A run needs its recipe and a checkpoint, or its backbone.keras; what else lies in its folder it can do without.
"""

import json
import sys

import tensorflow as tf

from revisit_ssl.errors import reason


def read_or_set_aside(path, parse, otherwise):
    """What a side file says.

    Args:
        path: local or gs://.
        parse: function of its text; whatever that raises says that the file is damaged.
        otherwise: returned where there is no such file, or a damaged one, which is set aside.
    """
    if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
        return otherwise
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return parse(file.read().decode())
    except Exception as error:  # JSON, UTF-8 and file systems each have errors of their own for a damaged file
        set_aside(path, reason(error))
        return otherwise


def read_json(path):
    """{name: value} of a JSON side file; {} where there is none, or a damaged one, which is set aside."""
    return read_or_set_aside(path, lambda text: dict(json.loads(text).items()), {})


def set_aside(path, why):
    """Renames a damaged file to path.damaged (or path.damaged-2, …) and says so; False where that is not possible."""
    path = str(path)
    aside, number = f"{path}.damaged", 2
    try:
        while tf.io.gfile.exists(aside):
            aside, number = f"{path}.damaged-{number}", number + 1
        tf.io.gfile.rename(path, aside)
        done = f"set aside as {aside}"
    except (OSError, tf.errors.OpError) as error:
        done = f"left out; it cannot be renamed ({reason(error)})"
    print(f"warning: {path} is damaged ({why}); {done}", file=sys.stderr, flush=True)
    return done.startswith("set")
