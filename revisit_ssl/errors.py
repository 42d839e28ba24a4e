"""The one kind of exception that a user is meant to meet."""


class InputError(ValueError):
    """Bad input from outside: a flag, a file, a data set, a checkpoint.

    The message is one line: what came, what may come, what to do. The command-line scripts print it without a
    traceback and exit with status 2; library callers catch it as a ``ValueError``.
    """


class TrainingDiverged(InputError):
    """The loss or a weight is not finite, or the target network gives one feature everywhere."""


def require(condition, message):
    """Raises InputError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise InputError(message)


def check_choice(option, value, choices):
    """Raises InputError unless ``value`` is one of ``choices``; ``option`` says what it is the value of."""
    require(value in choices, f"{option} {value!r}; one of {', '.join(map(repr, choices))}")
