"""The exceptions that a user is meant to meet."""


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


def reason(error):
    """The first line of an exception, or its class where it says nothing."""
    text = str(getattr(error, "strerror", None) or getattr(error, "message", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
