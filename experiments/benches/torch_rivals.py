"""SimCLR's step beside the same step in PyTorch, which runs in an interpreter of its own."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from benches.measuring import compiled, interleaved, noise, row
from benches.methods import build, given_views, make_views

from revisit_ssl.data import open_source, train_batches
from revisit_ssl.errors import InputError, require
from revisit_ssl.papers import get_recipe

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "simclr_in_torch.py")
LAYOUTS = ("contiguous", "channels_last")


def bench_torch_simclr(python=None, *, batch=64, side=64, steps=5, rounds=5):
    """Network (ResNet18 of 16 channels, 3x3/2 stem, head), NT-Xent and optimiser on two views made before.

    PyTorch alone has no views (torchvision has), so neither side makes any. Both start from the same parameters and
    see the same views: ``loss_difference`` is between the mean losses of their first steps. PyTorch runs as it comes
    (eagerly), in either memory layout. Yields a row for each, or one line where there is no PyTorch.

    Args:
        python: interpreter that has torch; None: this one.
        batch, side: images of a step, and pixels.
        steps, rounds: of each side in a turn, and turns.
    """
    python = python or sys.executable
    if tf.config.list_physical_devices("GPU"):
        yield "torch-simclr compares CPUs: run it with CUDA_VISIBLE_DEVICES=-1"
        return
    if not has_torch(python):
        yield f"torch-simclr: no PyTorch in {python}; name an interpreter that has it with --torch-python PATH"
        return
    # A constant rate, decay of all parameters: torch.optim.SGD. simclr/sample's warm-up and cosine cost nothing.
    changes = {"schedule": "constant", "warmup_epochs": 0.0}
    recipe = get_recipe(
        "simclr", "sample", batch_size=batch, views__size=side, **{f"optimizer__{k}": v for k, v in changes.items()}
    )
    source = open_source(recipe.dataset, recipe.split) if side == 64 else noise(2 * batch, side)
    model, xla = build(recipe, source)
    images = next(iter(train_batches(source, batch_size=batch, crops=model.crops, seed=0)))
    views = make_views(model, images)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        write(folder, model, recipe, views[0])
        sides = {"ours": ours(model, views, xla)}
        children = {layout: stack.enter_context(Child([python, SCRIPT, folder, layout])) for layout in LAYOUTS}
        sides |= {layout: child.take for layout, child in children.items()}

        losses = {name: side(1)[1] for name, side in sides.items()}  # of the first step: rounding errors grow
        seconds = interleaved({name: lambda side=side: side(steps)[0] / steps for name, side in sides.items()}, rounds)
        for layout, child in children.items():
            difference = abs(losses["ours"] / losses[layout] - 1)
            require(difference < 1e-3, f"{layout}: the losses differ by {difference:.1g}; that is not the same step")
            yield row(
                "simclr: network, loss, optimiser", 1000 * seconds["ours"], 1000 * seconds[layout], "ms/step",
                f"PyTorch {child.version}, {layout}", images_per_second=batch / seconds["ours"], batch=batch, side=side,
                loss_difference=difference,
            )  # fmt: skip


def has_torch(python):
    """Whether that interpreter exists and imports torch."""
    try:
        return subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0
    except OSError:
        return False


def ours(model, views, xla):
    """Function of a number of steps: (seconds, their mean loss)."""

    def step(views):
        with given_views(model, views):
            return model.train_step({})

    step = compiled(step, xla)
    step.get_concrete_function(views)  # traced before the clock runs

    def take(steps):
        model.trackers["loss"].reset_state()
        begun = time.perf_counter()
        for _ in range(steps):
            loss = float(step(views)["loss"])
        return time.perf_counter() - begun, loss

    return take


def write(folder, model, recipe, views):
    """What simclr_in_torch.py reads: its options, our initial parameters, and the views, first ones first."""
    tensors = {v.path: v.numpy() for v in model.trainable_variables}
    tensors["views"] = np.concatenate([views[:, 0], views[:, 1]])
    o, spec, norm = recipe.task, recipe.optimizer, model.backbone.get_layer("root_norm")
    options = {
        "channels": 16 * recipe.width, "hidden": model.head.hidden.units, "units": o.units,
        "epsilon": norm.epsilon, "bn_momentum": norm.momentum, "temperature": o.temperature,
        "optimizer": {"lr": spec.lr, "momentum": spec.momentum, "weight_decay": spec.weight_decay},
        "tensors": [(name, values.shape) for name, values in tensors.items()],
    }  # fmt: skip
    with open(os.path.join(folder, "options.json"), "w") as file:
        json.dump(options, file)
    with open(os.path.join(folder, "tensors.bin"), "wb") as file:
        for values in tensors.values():
            file.write(np.ascontiguousarray(values, np.float32).tobytes())


class Child:
    """A running simclr_in_torch.py; ends with its ``with`` block."""

    def __init__(self, command):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)

    def __enter__(self):
        self.version = self.read().split()[1]
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def take(self, steps):
        """(seconds, mean loss) of its next steps."""
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return tuple(map(float, self.read().split()))

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            reason = (self.process.stderr.read().strip().splitlines() or ["no message"])[-1]
            raise InputError(f"PyTorch's process ended: {reason}")
        return line
