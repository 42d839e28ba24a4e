"""A quiet start: the first lines a user reads should be ours."""

import contextlib
import os


@contextlib.contextmanager
def quiet_import():
    """Hides what TensorFlow's C++ side prints while it is loaded: those lines come before any log level counts.

    Python errors are not hidden. REVISIT_SSL_VERBOSE=1 shows everything.
    """
    if os.environ.get("REVISIT_SSL_VERBOSE"):
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
