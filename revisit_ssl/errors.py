"""The exceptions that a user is meant to meet, and what others say in one line."""

import difflib
import re


class InputError(ValueError):
    """Bad input from outside: a flag, a file, a data set, a checkpoint.

    The message is one line: what came, what may come, what to do. The command-line scripts print it without a
    traceback and exit with status 2; library callers catch it as a ``ValueError``.
    """


class DataNotHere(InputError):
    """A data set that is not where it was looked for."""


class TrainingDiverged(InputError):
    """The loss or a weight is not finite, or the target network gives one feature everywhere."""


class Interrupted(Exception):
    """Training stopped on a signal after saving; ``signal`` is its number, ``checkpoint`` the file to resume from."""

    def __init__(self, number, checkpoint):
        super().__init__(f"stopped by signal {number}; saved {checkpoint}")
        self.signal = number
        self.checkpoint = checkpoint


def require(condition, message):
    """Raises InputError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise InputError(message)


def check_choice(option, value, choices):
    """Raises InputError unless ``value`` is one of ``choices``; ``option`` says what it is the value of."""
    require(value in choices, f"{option} {value!r}; one of {', '.join(map(repr, choices))}")


def unknown(what, name, known, *, of="", others=""):
    """The InputError for a name that is none of ``known``: all of them, and which one it is near to.

    Args:
        what: what it would be the name of.
        name: str, as typed.
        known: names, in the order in which they are said.
        of: follows the name.
        others: follows the known ones.
    """
    near = nearest(name, known)
    meant = f"; did you mean {near}?" if near else ""
    return InputError(f"unknown {what} {name!r}{of}; one of {', '.join(known)}{others}{meant}")


def nearest(name, known):
    """Of ``known`` the name that is most like ``name``, or None; mocov2 and MoCo-v2 are like moco_v2."""
    plain = {re.sub(r"[^a-z0-9]", "", n.lower()): n for n in sorted(known, reverse=True)}
    near = difflib.get_close_matches(re.sub(r"[^a-z0-9]", "", name.lower()), plain, n=1, cutoff=0.75)
    return plain[near[0]] if near else None


# What TensorFlow says around the message of an error in a graph: headings, stack traces, the node that met it.
_AROUND = re.compile(
    r'Graph execution error:|Detected at node|File "|<stack traces|\[\[|\d+ root error|\d+ (successful|derived)|Hint:|'
    r"in user code:|Original stack|$"
)
_BEFORE = re.compile(
    r"(\{\{.*?\}\}\s*|\(\d+\)\s+[A-Z_]+:\s*|Error in user-defined function .*? Iterator::\S*:\s|InputError: )*"
)


def reason(error):
    """What an exception says, in one line: of an error inside of a graph the innermost message, which names the file or
    the operation; its class where it says nothing."""
    text = str(getattr(error, "strerror", None) or getattr(error, "message", None) or error)
    lines = [line.strip() for line in text.splitlines() if not _AROUND.match(line.strip())]
    line = re.sub(r"\s*\[Op:.*", "", _BEFORE.sub("", lines[0], count=1)) if lines else ""
    return line or type(error).__name__
