"""What a run says while it trains: a progress line, log.csv, TensorBoard."""

import contextlib
import contextvars
import csv
import io
import os
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.runs.damage import set_aside
from revisit_ssl.runs.files import write_atomically
from revisit_ssl.runs.telling import clock, tell

LOG, LOOKS = "log.csv", "monitor.csv"  # in a run's folder


_AFTERWARDS = contextvars.ContextVar("afterwards", default=None)


@contextlib.contextmanager
def followed_by(seconds):
    """While it lasts, training counts what comes after it as time that is left: only its caller knows of that.

    Args:
        seconds: function of (seconds to the end of the first step, seconds of the network's forward pass for one row,
            the network that will be exported).
    """
    token = _AFTERWARDS.set(seconds)
    try:
        yield
    finally:
        _AFTERWARDS.reset(token)


class Log(keras.callbacks.Callback):
    """Means over windows of steps, about 200 of them in a run, to log.csv, TensorBoard and the terminal.

    log.csv has one row per window: step, epoch, learning_rate, images_per_second, then the pretext's own scalars.
    On a restart the rows after the checkpoint are dropped, since those steps are made again; of a window that was open
    then the checkpoint has the sums so far, so that a run that was stopped logs what an undisturbed one does.

    Args:
        workdir, recipe, plan: of the run.
        start: steps that are done.
        window: ``open_window`` of that time, or {}.
        write: whether this process writes files.
        quiet: no line on the terminal.
        rows: of the network's batch that one image makes.
    """

    def __init__(self, workdir, recipe, plan, *, start, window, write, quiet, rows=1):
        super().__init__()
        self.path = os.path.join(workdir, LOG)
        self.plan = plan
        self.batch_size = recipe.batch_size
        self.rows_per_image = rows
        self.afterwards = _AFTERWARDS.get()
        self.every = max(1, min(plan.total // 200, 100))
        self.step = start
        self.write = write
        self.quiet = quiet or not write
        self.rows = [row for row in read_log(self.path) if row["step"] <= start]
        self.board = tf.summary.create_file_writer(os.path.join(workdir, "tensorboard")) if write else None
        self.begun = self.mark = self.steady = time.perf_counter()
        self.first = self.mark_step = start
        self.shown = self.flushed = 0.0
        self.sums, self.summed = window.get("sums", {}), window.get("steps", 0)  # of the open window
        self.since, self.means = 0, {}  # steps since Keras forgot its running means, and these

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.since, self.means = self.since + 1, logs
        if self.step == self.first + 1:  # the first step traces and compiles: no measure of speed
            self.mark, self.mark_step = time.perf_counter(), self.step
            self.steady = self.mark
            tell(f"first step after {self.steady - self.begun:.0f} s; {self.plan.total:,} in all", self.quiet)
        if self.step % self.every == 0 or self.step == self.plan.total:
            self.window()

    def on_epoch_end(self, epoch, logs=None):
        self.keep(self.open_window())  # Keras forgets its running means before the next epoch

    def open_window(self):
        """{"steps", "sums": {scalar: sum over them}} since the last row, plain values."""
        sums = {name: self.sums.get(name, 0.0) + self.since * float(np.asarray(v)) for name, v in self.means.items()}
        return {"steps": self.summed + self.since, "sums": sums if self.since else self.sums}

    def keep(self, window):
        self.sums, self.summed, self.since = window["sums"], window["steps"], 0

    def window(self):
        whole = self.open_window()
        scalars = {name: value / whole["steps"] for name, value in whole["sums"].items()}
        now = time.perf_counter()
        rate = (self.step - self.mark_step) * self.batch_size / max(now - self.mark, 1e-9)
        row = {
            "step": self.step,
            "epoch": self.step / self.plan.per_epoch,
            "learning_rate": float(np.asarray(self.model.optimizer.learning_rate)),
            "images_per_second": rate,
        } | scalars
        self.rows.append(row)
        self.mark, self.mark_step = now, self.step
        self.model.reset_metrics()  # so that each row is the mean of its own window
        self.keep({"steps": 0, "sums": {}})
        if self.write:
            with self.board.as_default(step=self.step):
                for name, value in row.items():
                    tf.summary.scalar(name, value)
        self.show(row, scalars, now)

    def show(self, row, scalars, now):
        terminal = sys.stderr.isatty()
        last = self.step == self.plan.total
        if self.quiet or not (last or now - self.shown > (0.2 if terminal else 15)) or not row["images_per_second"]:
            return
        self.shown = now
        if last or now - self.flushed > 15:  # it waits for the disk
            self.flush()
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in scalars.items())
        line = (
            f"step {self.step}/{self.plan.total}  epoch {row['epoch']:.1f}  {numbers}  "
            f"{row['images_per_second']:.0f} images/s  {self.left(now)}"
        )
        end = "\n" if last or not terminal else ""
        print(f"\r{line:<100}" if terminal else line, end=end, file=sys.stderr, flush=True)

    def left(self, now):
        """How long the run goes on, what follows the training included where it is known: 12:34 left. By the mean over
        all steps so far, which one slow window moves little."""
        step = (now - self.steady) / max(self.step - self.first - 1, 1)
        training = (self.plan.total - self.step) * step
        if self.afterwards is None:
            return f"{clock(training)} left of training" if training else ""
        # A step's forward pass is about a third of it.
        row = step / (3 * self.batch_size * self.rows_per_image)
        after = self.afterwards(self.steady - self.begun, row, self.model.exported)
        return f"{clock(training + after)} left"

    def flush(self):
        """Writes log.csv."""
        self.flushed = time.perf_counter()
        if self.write and self.rows:
            text = io.StringIO()
            table = csv.DictWriter(text, fieldnames=list(self.rows[-1]), restval="", extrasaction="ignore")
            table.writeheader()
            table.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in self.rows)
            write_atomically(self.path, text.getvalue())

    def on_train_end(self, logs=None):
        self.flush()

    @contextlib.contextmanager
    def kept(self):
        """Writes down what there is, however training ends."""
        try:
            yield
        finally:
            with contextlib.suppress(InputError):  # of a full disk, which another error tells of
                self.flush()


def read_log(path):
    """[{column: number}] of a log.csv or monitor.csv; [] where there is none.

    Of a damaged one the rows that are whole, which then are the file; as it was it is set aside.
    """
    if not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path, "rb") as file:
        header, *lines = file.read().decode(errors="replace").splitlines() or [""]
    names, rows, kept = header.split(","), [], []
    for line in lines:
        values = line.split(",")
        try:
            row = {k: int(v) if k == "step" else float(v) for k, v in zip(names, values, strict=True) if v}
        except ValueError:
            continue
        if {"step", "epoch"} <= set(row):
            rows.append(row)
            kept.append(line)
    if len(kept) < len(lines) or not {"step", "epoch"} <= set(names):
        damage = f"{len(lines) - len(kept)} of {len(lines)} rows cannot be read"
        if set_aside(path, damage) and kept:
            write_atomically(path, "\n".join([header, *kept]) + "\n")
    return rows
