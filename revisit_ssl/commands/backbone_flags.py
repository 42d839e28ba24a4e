"""--backbone.NAME, an option of the network: which of them there are depends on --backbone."""

import dataclasses
import re

from revisit_ssl.backbones import BACKBONES, find_options
from revisit_ssl.backbones.options import BackboneOptions, check_options

PREFIX = "--backbone."


def under_backbone(arguments):
    """The arguments with every option of a family under --backbone: --stem, as it was called first, is
    --backbone.stem, and --no-zero-init-residual is --backbone.no-zero-init-residual."""
    families = {field.name for name in BACKBONES for field in dataclasses.fields(find_options(name))}
    own = families - {field.name for field in dataclasses.fields(BackboneOptions)}
    return [f"{PREFIX}{argument[2:]}" if option_of(argument, "--") in own else argument for argument in arguments]


def check_backbone_flags(arguments, recipe):
    """InputError for an option that the recipe's network does not have."""
    named = [option_of(argument, PREFIX) for argument in arguments if argument.startswith(PREFIX)]
    check_options(recipe.backbone, type(recipe.backbone_options), named)


def option_of(argument, prefix):
    """zero_init_residual of --no-zero-init-residual; "" of what does not start with the prefix."""
    found = re.fullmatch(rf"{re.escape(prefix)}(?:no[-_])?([\w-]+)(?:=.*)?", argument, re.DOTALL)
    return found[1].replace("-", "_") if found else ""
