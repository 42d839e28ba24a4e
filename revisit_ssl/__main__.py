"""python -m revisit_ssl run | evaluate | sweep | report"""

import atexit
import contextlib
import importlib
import os
import sys

from revisit_ssl.startup import Terminated, raising_on_sigterm


def start(form=None, command="main"):
    """Runs a command of ``revisit_ssl.commands`` and leaves with its status; Ctrl-C and SIGTERM get one line also while
    modules are loaded.

    Args:
        form: how it was called, for hints; None: as the console script.
        command: name of the module.
    """
    try:
        with raising_on_sigterm():
            main = importlib.import_module(f"revisit_ssl.commands.{command}").main
            status = main(**({} if form is None else {"form": form}))
    except (KeyboardInterrupt, Terminated) as stopped:
        print("stopped before anything was done", file=sys.stderr)
        sys.exit(0 if isinstance(stopped, Terminated) else 130)
    leave(status)


def leave(status):
    """Ends the process without taking TensorFlow to pieces, module by module, which takes two seconds."""
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError):  # nobody reads any more, as of ``| head``
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status or 0)


if __name__ == "__main__":
    start("python -m revisit_ssl")
