"""Every published setting by name: "rotation/paper". To add one: a function in the paper's file."""

from revisit_ssl.errors import InputError
from revisit_ssl.pretext import find_pretext
from revisit_ssl.recipe import override
from revisit_ssl.recipes import cld, revisiting

RECIPES = {**revisiting.RECIPES, **cld.RECIPES}
PRESETS = ("sample", "cifar10", "paper", "v3-8", "gpu", "smoke")


def get_recipe(name, preset="sample", *, width=None, backbone=None, **changes):
    """A recipe, with changes.

    Args:
        name: pretext, such as "rotation".
        preset: "sample" (embedded data, minutes), "cifar10", "paper", "v3-8", "gpu" or "smoke".
        width: widening factor; None takes the preset's. Given here, a preset may fit batch and steps to it.
        backbone: name in BACKBONES; None takes the preset's. Given here, a preset fits stem and strides to it.
        **changes: recipe fields; ``optimizer__lr=0.05`` reaches into a nested one.

    Returns:
        Recipe.

    Raises:
        InputError: unknown pretext, preset, field, or a width below 1.
    """
    find_pretext(name)
    if f"{name}/{preset}" not in RECIPES:
        known = ", ".join(sorted(key.partition("/")[2] for key in RECIPES if key.startswith(f"{name}/")))
        raise InputError(f"unknown preset {preset!r} for {name}; one of {known}")
    if width is not None and width < 1:
        raise InputError(f"width {width} must be at least 1 (the paper has 4, 8, 12 and 16)")
    return override(RECIPES[f"{name}/{preset}"](width, backbone), **changes)
