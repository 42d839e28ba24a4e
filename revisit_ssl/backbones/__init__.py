"""Backbones: functional Keras models with named endpoints, built by the networks of BACKBONES.

``BACKBONES[name](width, **options)``, or `get_backbone`; the options are the fields of ``BACKBONES[name].Options``.
Every model maps images, float [B,H,W,C], to a dict of endpoints, the last of which is "pre_logits" [B,d]. Weight decay
is no part of a model: the optimiser applies it to every variable whose path ends in "/kernel".

To add a network: an instance of a `network.Network`, its line in HOMES, and `revisit_ssl.testing.check_backbone`.
"""

import dataclasses
import importlib

from revisit_ssl.backbones.options import (
    AlexNetOptions,
    BackboneOptions,
    BasicOptions,
    ResidualOptions,
    ResNet18Options,
    RevNetOptions,
    StemOptions,
    VGG16Options,
)
from revisit_ssl.registry import Registry

# name: file and Network, options.
HOMES = {
    "alexnet": ("alexnet.alexnet", AlexNetOptions),
    "resnet18": ("resnet.resnet18", ResNet18Options),
    "resnet18_cifar": ("resnet.resnet18_cifar", ResNet18Options),
    "resnet18_no_skip": ("resnet.resnet18_no_skip", BasicOptions),
    "resnet18_torch": ("resnet.resnet18_torch", ResNet18Options),
    "resnet50_torch": ("resnet.resnet50_torch", ResidualOptions),
    "resnet50_v1": ("resnet.resnet50_v1", ResidualOptions),
    "resnet50_v2": ("resnet.resnet50_v2", StemOptions),
    "resnet50_v2_minus": ("resnet.resnet50_v2_minus", StemOptions),
    "revnet50": ("revnet.revnet50", RevNetOptions),
    "revnet50_minus": ("revnet.revnet50_minus", RevNetOptions),
    "vgg16_bn": ("vgg.vgg16_bn", VGG16Options),
    "vgg19_bn": ("vgg.vgg19_bn", BackboneOptions),
}
BACKBONES = Registry(__name__, HOMES)
LATER = ("count_parameters", "load_backbone", "without_values")  # in models.py, which needs Keras

__all__ = ["BACKBONES", "find_backbone", "find_options", "fit_options", "get_backbone", *LATER]


def find_backbone(name):
    """The Network of that name.

    Raises:
        InputError: there is none.
    """
    return BACKBONES.find(name, "backbone")


def find_options(name):
    """The class of that network's options, for which the network is not imported.

    Raises:
        InputError: there is none.
    """
    return BACKBONES.find_options(name, "backbone")


def fit_options(name, **wanted):
    """The options of that network: of the wanted ones those that it has, the others at their defaults.

    Raises:
        InputError: there is no such network, or a value is out of range.
    """
    kind = find_options(name)
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{option: value for option, value in wanted.items() if option in known})


def get_backbone(name, width, options=None, *, input_shape=None, **changes):
    """Builds ``BACKBONES[name]``; the other arguments as `network.Network` takes them.

    Raises:
        InputError: there is no backbone of that name, or it refuses the width or an option.
    """
    return find_backbone(name)(width, options, input_shape=input_shape, **changes)


def __getattr__(name):
    if name in LATER:
        return getattr(importlib.import_module(f"{__name__}.models"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
