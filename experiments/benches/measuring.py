"""How the benchmarks take times and memory, and the rows that they write."""

import os
import re
import statistics
import subprocess
import time

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.data import Source
from revisit_ssl.errors import InputError

LIMIT = 10 * 1024  # MB that a child may hold


def interleaved(works, rounds=5):
    """{name: median seconds} of callables that return seconds, called in turn.

    The first round warms up and does not count.
    """
    times = [[work() for work in works.values()] for _ in range(rounds + 1)][1:]
    return dict(zip(works, map(statistics.median, zip(*times, strict=True)), strict=True))


def alternate(ours, theirs, rounds=5):
    """Median seconds of both callables, called in turn."""
    return tuple(interleaved({"ours": ours, "theirs": theirs}, rounds).values())


def compiled(function, xla):
    """A graph of the function; no Python control flow of tensors in it."""
    return tf.function(function, autograph=False, jit_compile=xla)


def timed(work):
    """A callable that returns the seconds which ``work`` takes, until all tensors that it returns are there."""

    def run():
        begun = time.perf_counter()
        wait(work())
        return time.perf_counter() - begun

    return run


def wait(tensors):
    """Returns once the device has computed them; anything that is no tensor is ready."""
    for tensor in tf.nest.flatten(tensors):
        if tf.is_tensor(tensor):
            tf.reshape(tensor, [-1])[:1].numpy()


def row(what, ours, theirs, unit, rival, target=None, **more):
    """One comparison; None for a side that was stopped, or of which ``missing`` says why it is not there.

    Lower is better, for ``ratio`` = ours / theirs and ``target``, which it should not exceed, too.
    """
    ratio = ours / theirs if ours is not None and theirs is not None else None
    return {"what": what, "ours": ours, "theirs": theirs, "ratio": ratio, "unit": unit, "rival": rival} | (
        {"target": target} if target else {}
    ) | more


def shown(value, unit, missing=f"stopped at {LIMIT // 1024} GB"):
    return f"{value:.3g} {unit}" if value is not None else missing


def noise(count, side, classes=10):
    """A Source of random images uint8 [count, side, side, 3], kept in memory: as fast to read as any other such set."""
    draw = np.random.default_rng(0)
    return Source(
        name="noise", split="train", kind="memory", num_examples=count, fingerprint=f"noise-{count}-{side}-{classes}",
        class_names=tuple(map(str, range(classes))), known_labels=draw.integers(0, classes, count),
        images=draw.integers(0, 256, (count, side, side, 3), np.uint8),
    )


class Stopwatch(keras.callbacks.Callback):
    """Seconds a step within one fit, without the first ``skip`` steps: those fill the pipeline."""

    def __init__(self, skip=3):
        super().__init__()
        self.skip = skip

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.skip - 1:
            self.begun = time.perf_counter()
        self.steps = batch + 1 - self.skip
        self.loss = logs["loss"]

    def on_train_end(self, logs=None):
        float(self.loss)  # waits for the device
        self.seconds = (time.perf_counter() - self.begun) / self.steps


def fit_seconds(model, data, steps=13, skip=3):
    def run():
        watch = Stopwatch(skip)
        model.fit(data, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[watch])
        return watch.seconds

    return run


def median_of(values, i):
    """Median of the i-th numbers; None where a child was stopped."""
    return None if None in values else statistics.median(value[i] for value in values)


def capped(command, limit):
    """The numbers on the last line that ``command`` prints, or None: stopped since it held more than ``limit`` MB."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, **pipes) as child:
        stopped = False
        while child.poll() is None and not stopped:
            time.sleep(0.02)
            stopped = resident(child.pid) > limit
        if stopped:
            child.kill()
        output, errors = child.communicate()
    if stopped:
        return None
    if child.returncode:
        raise InputError(f"a benchmark's process failed: {(errors.strip().splitlines() or ['no message'])[-1]}")
    return [float(number) for number in output.splitlines()[-1].split()]


def resident(pid):
    """MB of memory that a process holds; 0 where it has ended, or the system does not say (no Linux)."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0


def held(peak=False):
    """MB that this process holds now, or held at most; of the allocator where there is a GPU. None: no such system."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak" if peak else "current"] / 2**20
    try:
        # Not ru_maxrss: a child inherits that from its parent.
        with open("/proc/self/status") as file:
            return int(re.search(("VmHWM" if peak else "VmRSS") + r":\s+(\d+)", file.read()).group(1)) / 1024
    except (OSError, AttributeError):
        return None


def peak_of(work):
    """MB by which the peak of a GPU's memory exceeds what was held before ``work``; None on a CPU.

    There TensorFlow keeps what it frees, so that the process tells nothing.
    """
    if not tf.config.list_physical_devices("GPU"):
        return None
    wait(work())
    tf.config.experimental.reset_memory_stats("GPU:0")
    before = held()
    wait(work())
    return held(peak=True) - before
