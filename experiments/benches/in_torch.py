"""Training steps of rotation, SimCLR and MoCo v2 in PyTorch alone, for bench.py: python in_torch.py FOLDER MODE

FOLDER holds options.json and tensors.bin (float32, one after the other, as options["tensors"] lists their names and
shapes): the initial parameters, the views, MoCo's queue. MODE: contiguous (NCHW), channels_last, or compiled
(channels_last with torch.compile). Prints one line when it is ready; then for each line on its standard input, a number
of steps, the seconds that they took and their mean loss.
"""

import copy
import json
import math
import os
import sys
import time

import torch
from torch import nn
from torch.nn import functional

UNITS = [f"block{block}_unit{unit}" for block in (1, 2, 3, 4) for unit in (1, 2)]


class Network(nn.Module):
    """ResNet18 (v1 units, 3x3 stem without a pool) of ``channels`` in its root; its layers have our names.

    ``dense``: {name: (inputs, outputs)} of the layers of its head, in their order: one, or two with a ReLU between.
    """

    def __init__(self, channels, stem_stride, dense, epsilon, bn_momentum):
        super().__init__()
        self.layers = nn.ModuleDict()
        self.dense = list(dense)

        def conv(name, inputs, outputs, size, stride):
            self.layers[name] = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
            self.layers[f"{name}_norm"] = nn.BatchNorm2d(outputs, epsilon, 1 - bn_momentum)

        conv("root", 3, channels, 3, stem_stride)
        inputs = channels
        for name in UNITS:
            block = int(name[5])
            outputs = channels * 2 ** (block - 1)
            stride = 2 if block > 1 and name.endswith("unit1") else 1
            conv(f"{name}_conv1", inputs, outputs, 3, stride)
            conv(f"{name}_conv2", outputs, outputs, 3, 1)
            if inputs != outputs:
                conv(f"{name}_proj", inputs, outputs, 1, stride)
            inputs = outputs
        for name, sides in dense.items():
            self.layers[name] = nn.Linear(*sides)

    def normed(self, name, x):
        return self.layers[f"{name}_norm"](self.layers[name](x))

    def forward(self, x):
        x = functional.relu(self.normed("root", x))
        for name in UNITS:
            shortcut = self.normed(f"{name}_proj", x) if f"{name}_proj" in self.layers else x
            inner = functional.relu(self.normed(f"{name}_conv1", x))
            x = functional.relu(self.normed(f"{name}_conv2", inner) + shortcut)
        x = x.mean((2, 3))
        *hidden, last = self.dense
        for name in hidden:
            x = functional.relu(self.layers[name](x))
        return self.layers[last](x)


class Rotation:
    """Four turns of each image in one batch, image by image; which was it?"""

    def __init__(self, network, tensors, options, form):
        self.network, self.images = network, tensors["views"][:, 0].permute(0, 3, 1, 2)
        self.form = form

    def loss(self):
        turned = torch.stack([torch.rot90(self.images, q, (2, 3)) for q in range(4)], 1)
        rows = turned.flatten(0, 1).contiguous(memory_format=self.form)
        return functional.cross_entropy(self.network(rows), torch.arange(4).repeat(len(self.images)))


class SimCLR:
    """NT-Xent among two views of each image."""

    def __init__(self, network, tensors, options, form):
        views = tensors["views"].permute(1, 0, 4, 2, 3).flatten(0, 1)  # all first views before all second ones
        self.network, self.views = network, views.contiguous(memory_format=form)
        self.temperature = options["temperature"]

    def loss(self):
        z = functional.normalize(self.network(self.views), dim=1)
        logits = (z / self.temperature) @ z.T
        logits.fill_diagonal_(torch.finfo(logits.dtype).min)
        return functional.cross_entropy(logits, (torch.arange(len(z)) + len(z) // 2) % len(z))


class MoCo:
    """A query finds its key, which a target makes that follows the network, among those of a queue."""

    def __init__(self, network, tensors, options, form):
        views = tensors["views"].permute(1, 0, 4, 2, 3)
        self.query, self.key = (view.contiguous(memory_format=form) for view in views)
        self.network, self.target, self.queue = network, copy.deepcopy(network), tensors["queue"]
        for parameter in self.target.parameters():
            parameter.requires_grad_(False)
        self.momentum, self.temperature, self.pointer = options["momentum"], options["temperature"], 0

    def loss(self):
        with torch.no_grad():
            for old, new in zip(self.target.parameters(), self.network.parameters(), strict=True):
                old.mul_(self.momentum).add_(new, alpha=1 - self.momentum)
            keys = functional.normalize(self.target(self.key), dim=1)
        queries = functional.normalize(self.network(self.query), dim=1)
        positive = (queries * keys).sum(1, keepdim=True)
        logits = torch.cat([positive, queries @ self.queue.T.clone()], 1) / self.temperature
        loss = functional.cross_entropy(logits, torch.zeros(len(keys), dtype=torch.int64))
        self.queue[self.pointer : self.pointer + len(keys)] = keys
        self.pointer = (self.pointer + len(keys)) % len(self.queue)
        return loss


METHODS = {"rotation": Rotation, "simclr": SimCLR, "moco_v2": MoCo}


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
    """Sets all parameters from what Keras calls kernel, gamma, beta and bias; removes those from ``tensors``."""
    missing = {name for name, _ in network.named_parameters()}
    with torch.no_grad():
        for path in [path for path in tensors if "/" in path]:
            values, (layer, field) = tensors.pop(path), path.split("/")[-2:]
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
    folder, mode = sys.argv[1:]
    options, tensors = read(folder)
    form = torch.contiguous_format if mode == "contiguous" else torch.channels_last
    network = Network(**options["network"])
    load(network, tensors)
    network = network.to(memory_format=form).train()
    method = METHODS[options["method"]](network, tensors, options, form)
    optimizer = torch.optim.SGD(network.parameters(), **options["optimizer"])
    loss_of = torch.compile(method.loss) if mode == "compiled" else method.loss
    print("torch", torch.__version__, flush=True)
    for line in sys.stdin:
        steps, losses, begun = int(line), [], time.perf_counter()
        for _ in range(steps):
            loss = loss_of()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        print(time.perf_counter() - begun, sum(losses) / steps, flush=True)


if __name__ == "__main__":
    main()
