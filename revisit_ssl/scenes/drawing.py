"""Drawing many scenes, in as many processes as there are cores: they need NumPy alone and start at once."""

import contextlib
import os
import pickle
import queue
import struct
import subprocess
import sys
import threading
import zlib

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.scenes import SIZE, draw_scene
from revisit_ssl.scenes.crowds import draw_crowd

# Ctrl-C in a terminal reaches the children, too; they end with the pipe to whoever wanted the scenes.
CHILD = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); from revisit_ssl.scenes.drawing import child; "
    "child(sys.argv[1], *map(int, sys.argv[2:]))"
)


_begun = {}  # (first, count) -> queue of what is drawn already


def drawn(first, count, processes):
    """Yields {"image", "mask": PNG bytes; "label": int; "box": (top, left, bottom, right) of the object in [0, 1]} of
    ``count`` scenes from number ``first`` on, in their order. Those that ``begin`` has begun are not drawn anew.

    Raises:
        RuntimeError: a process ended before its scenes were drawn.
    """
    ready = _begun.pop((first, count), None)
    if ready is None:
        yield from _drawn(first, count, processes)
        return
    for _ in range(count):
        scene = ready.get()
        if isinstance(scene, Exception):
            raise scene
        yield scene


def begin(first, count, processes):
    """Starts to draw what ``drawn`` will be asked for: while TensorFlow is imported there is a core to spare."""
    ready = _begun[first, count] = queue.SimpleQueue()

    def draw():
        try:
            for scene in _drawn(first, count, processes):
                ready.put(scene)
        except Exception as error:  # for the thread that waits
            ready.put(error)

    threading.Thread(target=draw, daemon=True).start()


def drawn_crowds(first, count, processes):
    """Yields ``count`` ``crowds.Crowd``s from number ``first`` on, in their order; errors as of ``drawn``."""
    return _drawn(first, count, processes, "crowd")


def _drawn(first, count, processes, what="scene"):
    processes = min(processes, count)
    with contextlib.ExitStack() as stack:
        # Each draws every n-th scene, so that all of them are busy while their scenes are read in turn.
        children = [stack.enter_context(_started(what, first + i, first + count, processes)) for i in range(processes)]
        for number in range(count):
            child = children[number % processes]
            try:
                yield pickle.load(child.stdout)
            except EOFError:
                raise RuntimeError(f"drawing scene {first + number} failed with status {child.wait()}") from None


@contextlib.contextmanager
def _started(what, first, stop, step):
    # A command of its own, not multiprocessing: that would import the caller's script, and TensorFlow, once more.
    found = os.pathsep.join(path or os.getcwd() for path in sys.path)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, what, str(first), str(stop), str(step)],
        stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": found, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        yield child
    finally:
        child.kill()
        child.stdout.close()
        child.wait()


def child(what, first, stop, step):
    """Writes every ``step``-th "scene" or "crowd" to the standard output, for ``drawn`` and ``drawn_crowds``."""
    draw = {"scene": encoded, "crowd": draw_crowd}[what]
    with contextlib.suppress(BrokenPipeError):  # whoever wanted them has stopped
        for instance in range(first, stop, step):
            pickle.dump(draw(instance), sys.stdout.buffer)
            sys.stdout.buffer.flush()


def encoded(instance):
    """What ``drawn`` yields of one scene."""
    scene = draw_scene(instance)
    rows, columns = np.flatnonzero(scene.mask.any(1)), np.flatnonzero(scene.mask.any(0))
    edges = np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1]) / SIZE
    # The grain of an image hardly compresses, which takes longer than to draw a tenth of it.
    image, mask = png(scene.image, level=0), png(scene.mask, level=1)
    return {"image": image, "mask": mask, "label": scene.label, "box": edges.tolist()}


def png(pixels, level):
    """PNG bytes of uint8 [h, w] or [h, w, 3]; level: of zlib, 0 to 9.

    Raises:
        InputError: other pixels.
    """
    # Not by Pillow: it compares five filters for each row, whatever the level, and took a sixth of the time of a scene.
    fits = pixels.dtype == np.uint8 and (pixels.ndim == 2 or pixels.shape[2:] == (3,))
    require(fits, f"pixels {pixels.dtype} {list(pixels.shape)} must be uint8 [h, w] or [h, w, 3]")
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    grey, colour = 0, 2
    header = struct.pack(">IIBBBBB", width, height, 8, grey if pixels.ndim == 2 else colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows, level)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
