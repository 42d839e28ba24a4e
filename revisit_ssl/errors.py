"""The one exception a user is meant to meet."""


class InputError(ValueError):
    """Bad input from outside: a flag, a file, a data set, a checkpoint.

    The message is one line: what came, what may come, what to do. The command-line scripts print it without a
    traceback and exit with status 2; library callers catch it as a ``ValueError``.
    """


def require(condition, message):
    """Raises InputError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise InputError(message)
