"""How a process starts: signals, TensorFlow with oneDNN's kernels on a CPU, and quietly; on how many cores."""

import contextlib
import gc
import logging
import os
import platform
import signal
import sys
import threading

_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"
RARELY = (50_000, 20, 100)  # objects, and collections of younger ones, before the next collection


class Terminated(BaseException):
    """SIGTERM came while nothing was handling it, as training does."""


def raising_on_sigterm():
    """While it lasts SIGTERM raises Terminated: what is half-written is removed on the way out."""

    def end(number, frame):
        raise Terminated

    return handling(end, signal.SIGTERM)


@contextlib.contextmanager
def handling(handler, *numbers):
    """While it lasts, signals of these numbers call ``handler(number, frame)``, and afterwards what did before."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only there do signals arrive
        return
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


def prefer_onednn():
    """Has TensorFlow use oneDNN's kernels, unless the environment has decided: ``import revisit_ssl`` calls this.

    TensorFlow itself turns them on for the newest CPUs alone. On one with AVX2 and no AVX-512 a training step takes
    about twice as long without them (docs/speed.md). It reads the variable once, while it is imported: where it was
    imported earlier, one line on the logger "revisit_ssl" says what that costs.
    """
    if _ONEDNN in os.environ:
        return
    os.environ[_ONEDNN] = "1"  # processes that this one starts inherit it
    if onednn_is_on() is False and platform.machine().lower() in ("x86_64", "amd64"):
        logging.getLogger("revisit_ssl").warning(
            "TensorFlow was imported before revisit_ssl, without oneDNN: on a CPU its steps take about twice as long. "
            f"Import revisit_ssl first, or set {_ONEDNN}=1 (0 silences this line)."
        )


def onednn_is_on():
    """Whether the TensorFlow of this process uses oneDNN's kernels; None where none is loaded, or it does not say."""
    if "tensorflow" not in sys.modules:
        return None
    try:
        from tensorflow.python.util import _pywrap_util_port  # no public name tells it
    except ImportError:
        return None
    return bool(_pywrap_util_port.IsMklEnabled())


def cores():
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def collect_rarely():
    """Has Python look for garbage rarely, and never through what is there already; for a process of our own, once.

    Tracing a step makes hundreds of thousands of objects that live on, and Python looks through the young ones after
    every 700: a tenth of the time went there.
    """
    if gc.get_threshold() == RARELY:
        return
    gc.freeze()  # what little garbage there is by now, too: looking for it takes longer than it is worth
    gc.set_threshold(*RARELY)


@contextlib.contextmanager
def loading():
    """While the commands load TensorFlow, no garbage is looked for, and what its C++ side prints is hidden.

    Those lines come before any log level counts. Python errors are not hidden. REVISIT_SSL_VERBOSE=1 shows everything.
    """
    gc.disable()
    try:
        with _quiet():
            yield
    finally:
        gc.enable()
    collect_rarely()


@contextlib.contextmanager
def _quiet():
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
