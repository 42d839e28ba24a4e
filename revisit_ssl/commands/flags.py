"""What all commands share: flags from dataclasses, one line for every bad input."""

import contextlib
import io
import os
import re
import signal
import sys
import threading

import tyro

from revisit_ssl.errors import InputError, Interrupted, reason


class Terminated(BaseException):
    """SIGTERM came while nothing was handling it, as training does."""


@contextlib.contextmanager
def raising_on_sigterm():
    """SIGTERM raises Terminated: what is half-written is removed on the way out."""

    def end(number, frame):
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only there do signals arrive
        return
    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def guarded(work, command, *, resume=""):
    """Runs ``work``; turns bad input, signals and TensorFlow's own errors into one line and an exit status.

    Args:
        work: called without arguments.
        command: what was typed, for the line that says how to go on.
        resume: the flag that it needs to go on.

    Returns:
        What ``work`` returns where that is an exit status, else 0, also after SIGTERM, or the error's: 2 for bad input,
        130 after Ctrl-C.
    """
    again = command if not resume or resume in command else f"{command} {resume}"
    try:
        with raising_on_sigterm():
            return work() or 0
    except Terminated:
        print(f"stopped by SIGTERM; go on with: {again}", file=sys.stderr)
        return 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as stopped:
        print(f"saved {stopped.checkpoint}\nresume with: {again}", file=sys.stderr)
        return 0 if stopped.signal == signal.SIGTERM else 130
    except BrokenPipeError:  # whoever read this, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("stopped; nothing after the last checkpoint is kept. Go on with --resume", file=sys.stderr)
        return 130
    except Exception as error:
        tf = sys.modules.get("tensorflow")  # where it has not been loaded, no error is its
        if tf is None or not isinstance(error, tf.errors.OpError):
            raise
        # A damaged file, memory that ran out, a worker that is gone.
        print(
            f"error: TensorFlow stopped: {reason(error)[:300]}; go on from the last checkpoint with --resume",
            file=sys.stderr,
        )
        return 2


def refuse(message):
    """argparse's complaint as the one line that every bad input gets."""
    raise InputError(message)


def read_flags(cls, arguments, **options):
    """``cls`` from flags; tyro's boxed complaint becomes the one line that every bad input gets.

    Args:
        cls: dataclass.
        arguments: [str].
        **options: of ``tyro.cli``.

    Raises:
        InputError: an unknown flag, or a value that is none.
        SystemExit: after --help.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(cls, args=arguments, **options)
    except SystemExit as left:
        if not left.code:
            raise
        lines = (line.strip("│╭╮╰╯─+| \n") for line in complaint.getvalue().splitlines()[1:])
        text = " ".join(line for line in lines if line.strip("-"))
        # What a recipe's own checks say names the flag already; tyro puts the Python name before it.
        ours = re.fullmatch(r"Error parsing [a-z][.\w-]*: (.*) For full helptext, see .*", text)
        raise InputError(ours[1] if ours else text) from None


def whole_number(name, text):
    """The int that ``text`` says, or None for None; InputError for what is none."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} {text!r} is no whole number; expected 1, 2, 4, 8, 12, 16 …") from None
