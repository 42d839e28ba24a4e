"""Every published setting by name: "rotation/paper". To add one: a function in the paper's file."""

import dataclasses

from revisit_ssl.errors import InputError
from revisit_ssl.papers.cld import recipes as cld
from revisit_ssl.papers.obow import recipes as obow
from revisit_ssl.papers.protocols import PROTOCOLS as PROTOCOLS
from revisit_ssl.papers.protocols import with_probes
from revisit_ssl.papers.revisiting import recipes as revisiting
from revisit_ssl.recipe import override

RECIPES = {**revisiting.RECIPES, **cld.RECIPES, **obow.RECIPES}
PRESETS = (
    "sample", "small", "imagenette", "cifar10", "cifar10-first", "supplement", "demo", "cifar100", "cifar10_lt",
    "cifar100_lt", "stl10", "kitchen_hc", "imagenet100", "imagenet20", "paper", "openselfsup", "v3-8", "gpu", "smoke",
)  # fmt: skip
NAMES = tuple(dict.fromkeys(key.partition("/")[0] for key in RECIPES))
"""What recipes are called: the pretexts, and combinations such as npid_cld."""
ABOUT = {**cld.ABOUT, **obow.ABOUT}
"""{name: a line} of those that are no pretext's."""


def presets_of(name):
    """The presets that there are for a recipe name, in the order of PRESETS."""
    return [preset for preset in PRESETS if f"{name}/{preset}" in RECIPES]


def get_recipe(name, preset="sample", *, width=None, backbone=None, probes=None, protocol=None, **changes):
    """A recipe, with changes.

    Args:
        name: of NAMES: a pretext, such as "rotation", or one with a term, such as "npid_cld".
        preset: of PRESETS, such as "sample" (embedded data, minutes), "cifar10", "paper" or "smoke".
        width: widening factor; None takes the preset's. Given here, a preset may fit batch and steps to it.
        backbone: name in BACKBONES; None takes the preset's. Given here, a preset fits stem and strides to it.
        probes: names in PROBES instead of the preset's, () for none; or {name: options}.
        protocol: where the options of probes come from, see ``protocols.with_probes``.
        **changes: recipe fields; ``optimizer__lr=0.05`` reaches into a nested one, ``task__cld__weight=0.25`` too,
            ``probes__knn__temperature=0.07`` into the options of a probe, ``bench__fraction=0.1`` into what probes see.

    Returns:
        Recipe.

    Raises:
        InputError: unknown name, preset, probe, protocol, field, or a width below 1.
    """
    known = presets_of(name)
    if not known:
        raise InputError(f"unknown pretext {name!r}; one of {', '.join(sorted(NAMES))}")
    if preset not in known:
        raise InputError(f"unknown preset {preset!r} for {name}; one of {', '.join(sorted(known))}")
    if width is not None and width < 1:
        raise InputError(f"width {width} must be at least 1 (the paper has 4, 8, 12 and 16)")
    recipe = RECIPES[f"{name}/{preset}"](width, backbone)
    if isinstance(probes, dict):
        recipe = dataclasses.replace(recipe, probes=probes, protocol=protocol or recipe.protocol)
    elif probes is not None or protocol is not None:
        recipe = with_probes(recipe, probes, protocol)
    return override(recipe, **changes)
