"""ResNets (He et al. 2015, 2016) as in "Revisiting Self-Supervised Visual Representation Learning" and PyTorch's."""

import functools
from dataclasses import dataclass, replace

import keras

from revisit_ssl.backbones.network import Network
from revisit_ssl.backbones.options import BasicOptions, ResidualOptions, ResNet18Options, StemOptions
from revisit_ssl.backbones.parts import TORCH_UNIFORM
from revisit_ssl.backbones.sobel import seen

RESNET18, RESNET50 = (2, 2, 2, 2), (3, 4, 6, 3)
# "Kaiming normal, fan_out".
KAIMING_FAN_OUT = functools.partial(keras.initializers.VarianceScaling, 2.0, "fan_out", "untruncated_normal")


@dataclass(frozen=True, kw_only=True)
class ResNet(Network):
    """A ResNet; of widening factor k it has 16k channels in its root (k = 4: the standard network).

    Endpoints: "after_root", "block1".."block4" [B,h,w,c] and "pre_logits" [B,d] (float32).

    Attributes:
        units: of blocks 1 to 4.
        bottleneck: 1x1, 3x3, 1x1 units of 64k, 128k, 256k, 512k channels; else two 3x3 of 16k, 32k, 64k, 128k.
        preactivation: v2 units (BN, ReLU, convolution) instead of v1.
        last_relu: v2 only; False drops the ReLU between the last BN and the average.
        skip: False leaves out additions and projections.
        stem: where the options have None.

    Source: the specification's A.2, A.3, A.6; google/revisiting-self-supervised, models/resnet.py.
    """

    units: tuple[int, int, int, int] = RESNET50
    bottleneck: bool = True
    preactivation: bool = False
    last_relu: bool = True
    skip: bool = True
    stem: str = "paper"

    @property
    def Options(self):
        """The class of its options, which follow from its units."""
        if self.skip and not self.preactivation:
            return ResidualOptions if self.bottleneck else ResNet18Options
        return StemOptions if self.bottleneck else BasicOptions

    def endpoints(self, image, width, options):
        parts = self.parts(options)
        stem = options.stem or self.stem
        image = seen(image, True, 1) if getattr(options, "sobel", False) else image
        x = parts.root(image, 16 * width, stem, options.root_stride, activate=not self.preactivation)
        endpoints = {"after_root": x}
        last = "zeros" if getattr(options, "zero_init_residual", False) else "ones"
        on_second = getattr(options, "stride_on_second", False)
        unit = _unit_v2 if self.preactivation else functools.partial(_unit_v1, last=last)
        for block, (count, stride) in enumerate(zip(self.units, (1, *options.strides), strict=True), 1):
            channels = 16 * width * 2 ** (block - 1) * (4 if self.bottleneck else 1)
            for i in range(count):
                first = stride if i == 0 else 1
                convolutions = _branch(channels, first, self.bottleneck, on_second)
                x = unit(parts, x, convolutions, self.skip, f"block{block}_unit{i + 1}")
            endpoints[f"block{block}"] = x
        if self.preactivation:
            x = parts.normalise(x, "last_norm")
            x = parts.relu(x, "last_relu") if self.last_relu else x
        return endpoints | {"pre_logits": parts.average(x)}


def _branch(channels, stride, bottleneck, stride_on_second):
    """(filters, kernel size, stride) of the convolutions of one unit."""
    if bottleneck:
        return (channels // 4, 1, 1), (channels // 4, 3, stride), (channels, 1, 1)
    first, second = (1, stride) if stride_on_second else (stride, 1)
    return (channels, 3, first), (channels, 3, second)


def _shortcut(parts, x, raw, convolutions, name):
    """1x1 projection of ``x`` where the shape changes, else ``raw`` itself."""
    channels = convolutions[-1][0]
    stride = max(stride for _, _, stride in convolutions)
    if stride == 1 and raw.shape[-1] == channels:
        return raw, False
    return parts.conv(x, channels, 1, f"{name}_proj", stride), True


def _unit_v1(parts, x, convolutions, skip, name, last):
    if skip:
        shortcut, projected = _shortcut(parts, x, x, convolutions, name)
        if projected:
            shortcut = parts.normalise(shortcut, f"{name}_proj_norm")
    for i, (filters, size, stride) in enumerate(convolutions, 1):
        x = parts.conv(x, filters, size, f"{name}_conv{i}", stride)
        x = parts.normalise(x, f"{name}_conv{i}_norm", gamma=last if i == len(convolutions) else "ones")
        if i < len(convolutions):
            x = parts.relu(x, f"{name}_conv{i}_relu")
    if skip:
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return parts.relu(x, f"{name}_relu")


def _unit_v2(parts, x, convolutions, skip, name):
    raw = x
    for i, (filters, size, stride) in enumerate(convolutions, 1):
        x = parts.normalise_relu(x, f"{name}_pre{i}")
        if i == 1 and skip:
            # The projection reads the activated tensor and has no BN of its own.
            shortcut, _ = _shortcut(parts, x, raw, convolutions, name)
        x = parts.conv(x, filters, size, f"{name}_conv{i}", stride)
    return keras.layers.Add(name=f"{name}_add")([x, shortcut]) if skip else x


TORCH = {"bn_momentum": 0.9, "bn_epsilon": 1e-5, "initializer": KAIMING_FAN_OUT}

resnet50_v1 = ResNet(name="resnet50_v1")
"""Post-activation units; the stride is on the 3x3 convolution."""
resnet50_v2 = ResNet(name="resnet50_v2", preactivation=True)
"""Pre-activation units and a last BN and ReLU before the average."""
resnet50_v2_minus = replace(resnet50_v2, name="resnet50_v2_minus", last_relu=False)
"""The paper's "ResNet50 v2 (-)": v2 without the ReLU before the average (its BN stays)."""
resnet50_torch = replace(resnet50_v1, name="resnet50_torch", **TORCH)
"""As in torchvision: the graph of v1 with PyTorch's BN constants and initial values."""
resnet18 = ResNet(name="resnet18", units=RESNET18, bottleneck=False)
"""Basic units, post-activation."""
resnet18_torch = replace(resnet18, name="resnet18_torch", **TORCH)
"""As in torchvision: the same graph with PyTorch's BN constants and initial values."""
resnet18_no_skip = replace(resnet18, name="resnet18_no_skip", skip=False)
"""Without the additions and without the projections of the shortcuts."""
resnet18_cifar = replace(resnet18_torch, name="resnet18_cifar", stem="cifar", initializer=TORCH_UNIFORM)
"""CLD's (arXiv:2008.03813) for small images: 3x3 stem, the initial values of PyTorch's layers."""
