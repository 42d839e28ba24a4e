"""SimCLR's training step in PyTorch alone, for bench.py: python simclr_in_torch.py FOLDER LAYOUT

FOLDER holds options.json and tensors.bin (float32, one after the other, as options["tensors"] lists their names and
shapes): the initial parameters and the two views. LAYOUT: contiguous (NCHW) or channels_last. Prints one line when it
is ready; then for each line on its standard input, a number of steps, the seconds that they took and their mean loss.
"""

import json
import math
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional


class Network(nn.Module):
    """ResNet18 (v1 units, 3x3/2 stem without a pool) of ``channels`` in its root, and SimCLR's two-layer head."""

    def __init__(self, channels, hidden, units, epsilon, bn_momentum):
        super().__init__()
        self.layers = nn.ModuleDict()

        def conv(name, inputs, outputs, size, stride):
            self.layers[name] = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
            self.layers[f"{name}_norm"] = nn.BatchNorm2d(outputs, epsilon, 1 - bn_momentum)

        conv("root", 3, channels, 3, 2)
        inputs = channels
        for block in (1, 2, 3, 4):
            outputs = channels * 2 ** (block - 1)
            for unit in (1, 2):
                name, stride = f"block{block}_unit{unit}", 2 if block > 1 and unit == 1 else 1
                conv(f"{name}_conv1", inputs, outputs, 3, stride)
                conv(f"{name}_conv2", outputs, outputs, 3, 1)
                if inputs != outputs:
                    conv(f"{name}_proj", inputs, outputs, 1, stride)
                inputs = outputs
        self.layers["hidden"] = nn.Linear(inputs, hidden)
        self.layers["branch1"] = nn.Linear(hidden, units)

    def normed(self, name, x):
        return self.layers[f"{name}_norm"](self.layers[name](x))

    def forward(self, x):
        x = functional.relu(self.normed("root", x))
        for block in (1, 2, 3, 4):
            for unit in (1, 2):
                name = f"block{block}_unit{unit}"
                shortcut = self.normed(f"{name}_proj", x) if f"{name}_proj" in self.layers else x
                inner = functional.relu(self.normed(f"{name}_conv1", x))
                x = functional.relu(self.normed(f"{name}_conv2", inner) + shortcut)
        x = functional.relu(self.layers["hidden"](x.mean((2, 3))))
        return functional.normalize(self.layers["branch1"](x), dim=1)


def nt_xent(z, temperature):
    """(loss, accuracy) of unit rows, all first views before all second ones."""
    logits = (z / temperature) @ z.T
    logits.fill_diagonal_(torch.finfo(logits.dtype).min)
    own = torch.arange(len(z))
    positives = (own + len(z) // 2) % len(z)
    return functional.cross_entropy(logits, positives), (logits.argmax(1) == positives).float().mean()


def read(folder):
    """(options, {name: float32 tensor})."""
    with open(os.path.join(folder, "options.json")) as file:
        options = json.load(file)
    with open(os.path.join(folder, "tensors.bin"), "rb") as file:
        flat = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    tensors, begin = {}, 0
    for name, shape in options.pop("tensors"):
        end = begin + math.prod(shape)
        tensors[name], begin = flat[begin:end].reshape(shape), end
    return options, tensors


def load(network, tensors):
    """Sets all parameters from what Keras calls kernel, gamma, beta and bias."""
    missing = {name for name, _ in network.named_parameters()}
    with torch.no_grad():
        for path, values in tensors.items():
            layer, field = path.split("/")[-2:]
            if field == "kernel":
                values = values.permute(3, 2, 0, 1) if values.ndim == 4 else values.T
            name = f"layers.{layer}.{'bias' if field in ('beta', 'bias') else 'weight'}"
            parameter = network.get_parameter(name)
            if parameter.shape != values.shape:
                sys.exit(f"{path} is {tuple(values.shape)}, {name} {tuple(parameter.shape)}")
            parameter.copy_(values)
            missing.discard(name)
    if missing:
        sys.exit(f"not among the given tensors: {sorted(missing)}")


def main():
    folder, layout = sys.argv[1:]
    options, tensors = read(folder)
    views = tensors.pop("views").permute(0, 3, 1, 2)  # [2B, 3, s, s]
    temperature, optimizer = options.pop("temperature"), options.pop("optimizer")
    network = Network(**options)
    load(network, tensors)
    form = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    network, views = network.to(memory_format=form), views.contiguous(memory_format=form)
    optimizer = torch.optim.SGD(network.parameters(), **optimizer)
    network.train()
    print("torch", torch.__version__, flush=True)
    for line in sys.stdin:
        steps, losses, begun = int(line), [], time.perf_counter()
        for _ in range(steps):
            loss, _ = nt_xent(network(views), temperature)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(time.perf_counter() - begun, sum(losses) / steps, flush=True)


if __name__ == "__main__":
    main()
