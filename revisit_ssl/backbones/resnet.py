"""ResNets (He et al. 2015, 2016) as in "Revisiting Self-Supervised Visual Representation Learning" and PyTorch's."""

import functools

import keras

from revisit_ssl.backbones.parts import Parts, check_strides, check_width, image_input
from revisit_ssl.errors import InputError

RESNET18, RESNET50 = (2, 2, 2, 2), (3, 4, 6, 3)
# PyTorch's layer default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)), and "Kaiming normal, fan_out".
TORCH_UNIFORM = functools.partial(keras.initializers.VarianceScaling, 1 / 3, "fan_in", "uniform")
KAIMING_FAN_OUT = functools.partial(keras.initializers.VarianceScaling, 2.0, "fan_out", "untruncated_normal")


def resnet50_v1(width=4, *, name="resnet50_v1", **options):
    """ResNet50 with post-activation units; the stride is on the 3x3 convolution. Options: see `resnet`."""
    return resnet(width, name=name, **options)


def resnet50_v2(width=4, *, name="resnet50_v2", **options):
    """ResNet50 with pre-activation units and a last BN and ReLU before the average. Options: see `resnet`."""
    return resnet(width, name=name, preactivation=True, **options)


def resnet50_v2_minus(width=4, *, name="resnet50_v2_minus", **options):
    """The paper's "ResNet50 v2 (-)": v2 without the ReLU before the average (its BN stays). Options: see `resnet`."""
    return resnet(width, name=name, preactivation=True, last_relu=False, **options)


def resnet50_torch(width=4, *, name="resnet50_torch", bn_momentum=0.9, bn_epsilon=1e-5, **options):
    """ResNet50 as in torchvision: the graph of v1 with PyTorch's BN constants and initial values. Options: `resnet`."""
    options = {"initializer": KAIMING_FAN_OUT, **options}
    return resnet(width, name=name, bn_momentum=bn_momentum, bn_epsilon=bn_epsilon, **options)


def resnet18(width=4, *, name="resnet18", **options):
    """ResNet18 of 16k channels with basic units (v1 unless ``preactivation``). Options: see `resnet`."""
    return resnet(width, name=name, units=RESNET18, bottleneck=False, **options)


def resnet18_torch(width=4, *, name="resnet18_torch", bn_momentum=0.9, bn_epsilon=1e-5, **options):
    """ResNet18 as in torchvision: the same graph with PyTorch's BN constants and initial values. Options: `resnet`."""
    options = {"initializer": KAIMING_FAN_OUT, **options}
    return resnet18(width, name=name, bn_momentum=bn_momentum, bn_epsilon=bn_epsilon, **options)


def resnet18_no_skip(width=4, *, name="resnet18_no_skip", **options):
    """ResNet18 without the additions and without the projections of the shortcuts. Options: see `resnet`."""
    return resnet(width, name=name, units=RESNET18, bottleneck=False, skip=False, **options)


def resnet18_cifar(width=4, *, name="resnet18_cifar", stem="cifar", bn_momentum=0.9, bn_epsilon=1e-5, **options):
    """ResNet18 of CLD (arXiv:2008.03813) for small images: 3x3 stem, PyTorch's BN constants and initial values."""
    options = {"initializer": TORCH_UNIFORM, **options}
    return resnet18(width, name=name, stem=stem, bn_momentum=bn_momentum, bn_epsilon=bn_epsilon, **options)


def resnet(
    width,
    *,
    name,
    units=RESNET50,
    bottleneck=True,
    preactivation=False,
    last_relu=True,
    skip=True,
    stride_on_second=False,
    zero_init_residual=False,
    input_shape=(None, None, 3),
    stem="paper",
    root_stride=None,
    strides=(2, 2, 2),
    norm="batch",
    bn_momentum=0.99,
    bn_epsilon=1e-3,
    bn_group=None,
    initializer=keras.initializers.GlorotUniform,
):
    """A ResNet of widening factor ``width`` = k with 16k channels in its root (k = 4: the standard network).

    Args:
        width: int >= 1.
        name: of the model.
        units: of blocks 1 to 4.
        bottleneck: 1x1, 3x3, 1x1 units of 64k, 128k, 256k, 512k channels; else two 3x3 of 16k, 32k, 64k, 128k.
        preactivation: v2 units (BN, ReLU, convolution) instead of v1.
        last_relu: v2 only; False drops the ReLU between the last BN and the average.
        skip: False leaves out additions and projections.
        stride_on_second: basic units: stride in the second 3x3 (S4L's code) instead of the first (He et al., PyTorch).
        zero_init_residual: v1 only; the scale of the last BN of each unit starts at 0, so that the untrained network is
            its shortcuts: in the official SimCLR, and in Haiku's ResNet50, which the official BYOL is made of.
        input_shape: (height, width, channels) of the images; None for sides that vary.
        stem: "paper" (7x7/2 and max-pool), "cifar" (3x3/1) or "small" (3x3/2).
        root_stride: replaces the stride of the stem's convolution; the paper's patch tasks take 1.
        strides: of blocks 2, 3, 4; the paper's patch tasks take (2, 2, 1).
        norm: "batch", "sync" (statistics of the global batch) or "none" (convolutions get a bias).
        bn_momentum, bn_epsilon: Keras' sense; TF1's values are .99, 1e-3, PyTorch's .9, 1e-5.
        bn_group: rows of a training batch that are normalised together (see `BatchNorm`); None: all of the device's.
        initializer: makes one initialiser per kernel.

    Returns:
        Functional model, images [B,H,W,C] -> dict of "after_root", "block1".."block4" [B,h,w,c] and "pre_logits" [B,d]
        (float32).

    Raises:
        InputError: an option that is none of those above.

    Source: the specification's A.2, A.3, A.6; google/revisiting-self-supervised, models/resnet.py.
    """
    check_width(width)
    check_strides(root_stride, strides)
    if stride_on_second and bottleneck:
        raise InputError(f"stride_on_second is for the basic units of a ResNet18; {name} has bottlenecks, leave it off")
    if zero_init_residual and (preactivation or not skip or norm == "none"):
        raise InputError(
            f"zero_init_residual needs units that end in a normalisation beside a shortcut; {name} with norm {norm!r} "
            "has none: --no-zero-init-residual"
        )
    parts = Parts(norm, bn_momentum, bn_epsilon, initializer, bn_group=bn_group)
    inputs = image_input(input_shape)
    x = parts.root(inputs, 16 * width, stem, root_stride, activate=not preactivation)
    endpoints = {"after_root": x}
    unit = _unit_v2 if preactivation else functools.partial(_unit_v1, last="zeros" if zero_init_residual else "ones")
    for block, (count, stride) in enumerate(zip(units, (1, *strides), strict=True), 1):
        channels = 16 * width * 2 ** (block - 1) * (4 if bottleneck else 1)
        for i in range(count):
            convolutions = _branch(channels, stride if i == 0 else 1, bottleneck, stride_on_second)
            x = unit(parts, x, convolutions, skip, f"block{block}_unit{i + 1}")
        endpoints[f"block{block}"] = x
    if preactivation:
        x = parts.normalise(x, "last_norm")
        x = parts.relu(x, "last_relu") if last_relu else x
    endpoints["pre_logits"] = parts.average(x)
    return keras.Model(inputs, endpoints, name=name)


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
