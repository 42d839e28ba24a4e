"""Training steps beside the same steps in PyTorch, which runs in an interpreter of its own."""

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

from revisit_ssl.data import train_batches
from revisit_ssl.errors import InputError, require
from revisit_ssl.papers import get_recipe

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "in_torch.py")
MODES = ("contiguous", "channels_last", "compiled")
# A constant rate and the decay of all parameters: torch.optim.SGD. Warm-ups and cosines cost nothing.
PLAIN = {"optimizer__schedule": "constant", "optimizer__warmup_epochs": 0.0, "optimizer__decay": "all"}
SETTINGS = {
    "rotation": ("sample", {"backbone": "resnet18"}),
    "simclr": ("cifar10", {}),
    # One query and one key; on one device without ghost batches the shuffle of BatchNorm changes nothing.
    "moco_v2": ("cifar10", {"task__crops": 2, "task__shuffle_bn": False}),
}


def bench_torch(python=None, *, methods=tuple(SETTINGS), modes=MODES, batch=64, steps=2, rounds=5, **changes):
    """Network, loss and optimiser of a step on views made before: rotation with ResNet18 of 16 channels at 64 px,
    SimCLR and MoCo v2 with CIFAR's ResNet18 of 64 channels at 32 px.

    PyTorch alone has no views (torchvision has), so neither side makes any. Both start from the same parameters and
    see the same views: ``loss_difference`` is between the losses of their first steps. PyTorch runs eagerly in either
    memory layout, and compiled where torch.compile works; the target, 1.0, is of the fastest of them. Yields a row for
    each, or one line where there is no PyTorch.

    Args:
        python: interpreter that has torch; None: this one.
        methods, modes: of SETTINGS and MODES.
        batch: images of a step.
        steps, rounds: of each side in a turn, and turns.
        **changes: recipe fields that differ, for tests.
    """
    python = python or sys.executable
    if tf.config.list_physical_devices("GPU"):
        yield "torch compares CPUs: run it with CUDA_VISIBLE_DEVICES=-1"
        return
    if not has_torch(python):
        yield f"torch: no PyTorch in {python}; name an interpreter that has it with --torch-python PATH"
        return
    for name in methods:
        preset, own = SETTINGS[name]
        recipe = get_recipe(name, preset, batch_size=batch, **PLAIN | own | changes)
        yield from compare(name, recipe, python, modes, steps, rounds)


def compare(name, recipe, python, modes, steps, rounds):
    """Yields the rows of one method, and a line for each mode that does not work."""
    source = noise(2 * recipe.batch_size, recipe.views.size)
    model, xla = build(recipe, source)
    batches = train_batches(source, batch_size=recipe.batch_size, crops=model.crops, seed=0)
    views = make_views(model, next(iter(batches)))
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        write(folder, name, model, recipe, views[0])
        take = ours(model, views, xla)
        loss = take(1)[1]  # of the first step: rounding errors grow
        children, losses = {}, {}
        for mode in modes:
            try:
                child = stack.enter_context(Child([python, SCRIPT, folder, mode]))
                losses[mode] = child.take(1)[1]
                children[mode] = child
            except InputError as error:
                yield f"torch: {name}, {mode}: {error}"
        sides = {"ours": take} | {mode: child.take for mode, child in children.items()}
        seconds = interleaved({side: lambda take=take: take(steps)[0] / steps for side, take in sides.items()}, rounds)
    best = min(children, key=seconds.get, default=None)
    for mode, child in children.items():
        difference = abs(loss / losses[mode] - 1)
        require(difference < 1e-3, f"{name}, {mode}: the losses differ by {difference:.1g}; that is not the same step")
        yield row(
            f"{name}: network, loss, optimiser", 1000 * seconds["ours"], 1000 * seconds[mode], "ms/step",
            f"PyTorch {child.version}, {mode}", 1.0 if mode == best else None,
            images_per_second=recipe.batch_size / seconds["ours"], batch=recipe.batch_size, side=recipe.views.size,
            loss_difference=difference,
        )


def has_torch(python):
    """Whether that interpreter exists and imports torch."""
    try:
        return subprocess.run([python, "-c", "import torch"], capture_output=True).returncode == 0
    except OSError:
        return False


def ours(model, views, xla):
    """Function of a number of steps: (seconds, their mean loss)."""
    empty = {"index": tf.range(views[0].shape[0], dtype=tf.int64)}

    def step(views):
        with given_views(model, views):
            return model.train_step(empty)

    step = compiled(step, xla)
    step.get_concrete_function(views)  # traced before the clock runs

    def take(steps):
        model.trackers["loss"].reset_state()
        begun = time.perf_counter()
        for _ in range(steps):
            loss = float(step(views)["loss"])
        return time.perf_counter() - begun, loss

    return take


def write(folder, name, model, recipe, views):
    """What in_torch.py reads: its options, our initial parameters, and the views float32 [B, n, s, s, 3]."""
    tensors = {v.path: v.numpy() for v in model.trainable_variables} | {"views": views.numpy()}
    if hasattr(model, "queue"):
        tensors["queue"] = model.queue.features.numpy()
    kernels = {path.split("/")[-2]: v.shape for path, v in tensors.items() if path.endswith("/kernel") and v.ndim == 2}
    dense = {name: kernels[name] for name in sorted(kernels, key=lambda name: name != "hidden")}  # the hidden one first
    root, norm = (model.backbone.get_layer(layer) for layer in ("root", "root_norm"))
    spec = recipe.optimizer
    options = {
        "method": name,
        "network": {
            "channels": root.filters, "stem_stride": root.strides[0], "dense": dense, "epsilon": norm.epsilon,
            "bn_momentum": norm.momentum,
        },
        "temperature": getattr(recipe.task, "temperature", None),
        "momentum": getattr(recipe.task, "momentum", None),
        "optimizer": {
            "lr": spec.lr * recipe.batch_size / 256 if spec.scale_lr else spec.lr, "momentum": spec.momentum,
            "weight_decay": spec.weight_decay,
        },
        "tensors": [(path, values.shape) for path, values in tensors.items()],
    }
    with open(os.path.join(folder, "options.json"), "w") as file:
        json.dump(options, file)
    with open(os.path.join(folder, "tensors.bin"), "wb") as file:
        for values in tensors.values():
            file.write(np.ascontiguousarray(values, np.float32).tobytes())


class Child:
    """A running in_torch.py; ends with its ``with`` block."""

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
            lines = self.process.stderr.read().strip().splitlines() or ["no message"]
            errors = [line for line in lines if "Error" in line.partition(":")[0]]  # advice may follow the message
            raise InputError(f"PyTorch's process ended: {(errors or lines)[-1]}")
        return line
