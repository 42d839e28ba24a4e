"""What a run says while it trains: a progress line, log.csv, TensorBoard."""

import csv
import io
import os
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.runs.damage import set_aside
from revisit_ssl.runs.results import write_atomically

LOG, LOOKS = "log.csv", "monitor.csv"  # in a run's folder


class Log(keras.callbacks.Callback):
    """Means over windows of steps, about 200 of them in a run, to log.csv, TensorBoard and the terminal.

    log.csv has one row per window: step, epoch, learning_rate, images_per_second, then the pretext's own scalars.
    On a restart the rows after the checkpoint are dropped, since those steps are made again.
    """

    def __init__(self, workdir, recipe, plan, *, start, write, quiet):
        super().__init__()
        self.path = os.path.join(workdir, LOG)
        self.plan = plan
        self.batch_size = recipe.batch_size
        self.every = max(1, min(plan.total // 200, 100))
        self.step = start
        self.write = write
        self.quiet = quiet or not write
        self.rows = [row for row in read_log(self.path) if row["step"] <= start]
        self.board = tf.summary.create_file_writer(os.path.join(workdir, "tensorboard")) if write else None
        self.begun = self.mark = time.perf_counter()
        self.first = self.mark_step = start
        self.shown = 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        if self.step == self.first + 1:  # the first step traces and compiles: no measure of speed
            self.mark, self.mark_step = time.perf_counter(), self.step
        if self.step % self.every == 0 or self.step == self.plan.total:
            self.window(logs)

    def window(self, logs):
        scalars = {name: float(np.asarray(value)) for name, value in logs.items()}
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
        self.flush()
        left = (self.plan.total - self.step) * self.batch_size / max(row["images_per_second"], 1e-9)
        numbers = "  ".join(f"{name} {value:.3f}" for name, value in scalars.items())
        line = (
            f"step {self.step}/{self.plan.total}  epoch {row['epoch']:.1f}  {numbers}  "
            f"{row['images_per_second']:.0f} images/s  {'' if last else f'{clock(left)} left'}"
        )
        end = "\n" if last or not terminal else ""
        print(f"\r{line:<100}" if terminal else line, end=end, file=sys.stderr, flush=True)

    def flush(self):
        if self.write and self.rows:
            text = io.StringIO()
            table = csv.DictWriter(text, fieldnames=list(self.rows[-1]), restval="", extrasaction="ignore")
            table.writeheader()
            table.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in self.rows)
            write_atomically(self.path, text.getvalue())

    def on_train_end(self, logs=None):
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


def clock(seconds):
    """1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
