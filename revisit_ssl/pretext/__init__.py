"""Pretext tasks by name. To add one: a file here, a line below, a recipe."""

import ast
import importlib
from pathlib import Path

from revisit_ssl.pretext import cluster_options, mask_options, multicrop_options, options
from revisit_ssl.recipe import TaskOptions
from revisit_ssl.registry import Registry

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
    "deepercluster": ("deepercluster.DeeperCluster", cluster_options.DeeperClusterOptions),
    "deepcluster": ("deepcluster.DeepCluster", cluster_options.DeepClusterOptions),
    "rotnet": ("rotnet.RotNet", cluster_options.RotNetOptions),
    "maskco": ("maskco.MaskCo", mask_options.MaskCoOptions),
    "supervised": ("supervised.Supervised", TaskOptions),
    "random": ("supervised.RandomInit", TaskOptions),
}


class Pretexts(Registry):
    """{name: class derived from Pretext}."""

    def about(self, name):
        """The first line of a pretext's docstring, without importing the pretext."""
        if self.added[name] is not None:
            return self.added[name].__doc__.strip().splitlines()[0]
        module, _, cls = self.homes[name][0].partition(".")
        text = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
        node = next(n for n in ast.parse(text).body if isinstance(n, ast.ClassDef) and n.name == cls)
        return ast.get_docstring(node).splitlines()[0]


PRETEXTS = Pretexts(__name__, HOMES)

__all__ = ["PRETEXTS", "Pretext", "find_options", "find_pretext"]


def find_pretext(name):
    """The class of that name.

    Raises:
        InputError: unknown name.
    """
    return PRETEXTS.find(name, "pretext")


def find_options(name):
    """The class of that pretext's options, for which the pretext is not imported.

    Raises:
        InputError: unknown name.
    """
    return PRETEXTS.find_options(name, "pretext")


def __getattr__(name):
    if name == "Pretext":  # its base class is Keras'
        return importlib.import_module(f"{__name__}.base").Pretext
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
