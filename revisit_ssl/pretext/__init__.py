"""Pretext tasks by name. To add one: a file here, a line below, a recipe."""

import ast
import importlib
import importlib.util
from collections.abc import MutableMapping
from pathlib import Path

from revisit_ssl.errors import InputError
from revisit_ssl.pretext import multicrop_options, options
from revisit_ssl.recipe import TaskOptions

# name: file and class, options. A class is imported when it is first asked for: help needs none, and no TensorFlow.
HOMES = {
    "exemplar": ("exemplar.Exemplar", options.ExemplarOptions),
    "jigsaw": ("jigsaw.Jigsaw", options.JigsawOptions),
    "relative_patch": ("relative_patch.RelativePatch", options.PatchOptions),
    "rotation": ("rotation.Rotation", TaskOptions),
    "moco": ("moco.MoCo", options.MoCoOptions),
    "npid": ("npid.NPID", options.NPIDOptions),
    "simclr": ("simclr.SimCLR", options.SimCLROptions),
    "byol": ("byol.BYOL", options.BYOLOptions),
    "infomin": ("infomin.InfoMin", options.InfoMinOptions),
    "obow": ("obow.OBoW", multicrop_options.OBoWOptions),
    "bownet": ("bownet.BoWNet", multicrop_options.BoWNetOptions),
    "moco_v2_multicrop": ("moco_multicrop.MoCoMultiCrop", multicrop_options.MoCoMultiCropOptions),
    "supervised": ("supervised.Supervised", TaskOptions),
    "random": ("supervised.RandomInit", TaskOptions),
}


class Pretexts(MutableMapping):
    """{name: class derived from Pretext}; those of this package are imported when they are asked for."""

    def __init__(self, homes):
        self.homes = homes
        self.added = dict.fromkeys(homes)  # name: class, None while it is not imported

    def __getitem__(self, name):
        if self.added[name] is None:
            module, _, cls = self.homes[name][0].partition(".")
            self.added[name] = getattr(importlib.import_module(f"{__name__}.{module}"), cls)
        return self.added[name]

    def __setitem__(self, name, pretext):
        self.added[name] = pretext

    def __delitem__(self, name):
        del self.added[name]

    def __iter__(self):
        return iter(self.added)

    def __len__(self):
        return len(self.added)

    def __contains__(self, name):
        return name in self.added  # without importing it, as Mapping would

    def options(self, name):
        """The class of a pretext's options, without importing the pretext."""
        known = self.added[name] is None
        return self.homes[name][1] if known else self.added[name].Options

    def about(self, name):
        """The first line of a pretext's docstring, without importing the pretext."""
        if self.added[name] is not None:
            return self.added[name].__doc__.strip().splitlines()[0]
        module, _, cls = self.homes[name][0].partition(".")
        text = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
        node = next(n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name == cls)
        return ast.get_docstring(node).splitlines()[0]


PRETEXTS = Pretexts(HOMES)

__all__ = ["PRETEXTS", "Pretext", "find_options", "find_pretext"]


def find_pretext(name):
    """The class of that name.

    Raises:
        InputError: unknown name.
    """
    return PRETEXTS[known(name)]


def find_options(name):
    """The class of that pretext's options, for which the pretext is not imported.

    Raises:
        InputError: unknown name.
    """
    return PRETEXTS.options(known(name))


def known(name):
    """``name``, or an InputError where no pretext has it."""
    if name not in PRETEXTS:
        raise InputError(f"unknown pretext {name!r}; one of {', '.join(sorted(PRETEXTS))}")
    return name


def __getattr__(name):
    if name == "Pretext":  # its base class is Keras'
        return importlib.import_module(f"{__name__}.base").Pretext
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
