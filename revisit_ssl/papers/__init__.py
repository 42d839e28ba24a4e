"""The papers by name, and every setting of theirs: get_recipe("rotation", "paper").

To add a paper: a folder with recipes.py (RECIPES, ABOUT), sweeps.py (SWEEPS), protocols.py (PROTOCOLS), paper.py
(PAPER) and numbers.csv, and its line in PAPERS; or a ``spec.Paper`` of one's own in PAPERS, as an object.
"""

import dataclasses
import importlib

from revisit_ssl.backbones import fit_options
from revisit_ssl.errors import require, unknown
from revisit_ssl.evaluators import PROBES
from revisit_ssl.recipe import override

SELECT = "select"
"""The protocol of no paper: each probe's own options, which suit small sets and choose what is free on val."""

# A name stands for a folder beside this file, whose parts are imported when they are asked for: a recipe needs nothing
# of what draws a page.
PAPERS = {
    "revisiting": "revisit_ssl.papers.revisiting",
    "cld": "revisit_ssl.papers.cld",
    "obow": "revisit_ssl.papers.obow",
    "deepercluster": "revisit_ssl.papers.deepercluster",
    "maskco": "revisit_ssl.papers.maskco",
}
PRESETS = (
    "sample", "small", "imagenette", "cifar10", "cifar10-first", "supplement", "demo", "cifar100", "cifar10_lt",
    "cifar100_lt", "stl10", "kitchen_hc", "imagenet100", "imagenet20", "imagenet_lt", "imagenet", "paper",
    "conceptual_captions", "coco", "semi_1pct", "semi_10pct", "openselfsup", "v3-8", "gpu", "smoke",
)


ALIASES = {"small": "cifar10"}
"""Presets by another name, for recipes that have none of that name: what runs for minutes on CIFAR-10 is called small
everywhere."""


def find_paper(name):
    """The spec.Paper of that name.

    Raises:
        InputError: no such paper.
    """
    require(name in PAPERS, f"no paper {name!r}; one of {', '.join(PAPERS)}")
    found = PAPERS[name]
    return importlib.import_module(f"{found}.paper").PAPER if isinstance(found, str) else found


def recipes_of(paper):
    """{"npid/small": function of width and backbone} of one paper."""
    return _part(paper, "recipes")


def sweeps():
    """{name of a sweep: [spec.Variant]} of all papers."""
    return {name: variants for paper in PAPERS for name, variants in _part(paper, "sweeps").items()}


def protocols():
    """{name: {probe: options}}: how the papers measure features."""
    return {name: known for paper in PAPERS for name, known in _part(paper, "protocols").items()}


def about():
    """{name of a recipe: a line} of those that are not called as their pretext."""
    return {name: line for paper in PAPERS for name, line in _part(paper, "about", "recipes").items()}


def names():
    """What recipes are called: the pretexts, and combinations such as npid_cld."""
    return tuple(dict.fromkeys(key.partition("/")[0] for paper in PAPERS for key in recipes_of(paper)))


def _part(paper, part, module=None):
    found = PAPERS[paper]
    if isinstance(found, str):
        return getattr(importlib.import_module(f"{found}.{module or part}"), part.upper())
    return getattr(found, part)


def presets_of(name):
    """The presets that there are for a recipe name, in the order of PRESETS; those of other papers behind them."""
    found = [key.partition("/")[2] for paper in PAPERS for key in recipes_of(paper) if key.startswith(f"{name}/")]
    found += [alias for alias, preset in ALIASES.items() if preset in found and alias not in found]
    return sorted(found, key=lambda preset: PRESETS.index(preset) if preset in PRESETS else len(PRESETS))


def get_recipe(name, preset="sample", *, width=None, backbone=None, probes=None, protocol=None, **changes):
    """A recipe, with changes.

    Args:
        name: of NAMES: a pretext, such as "rotation", or one with a term, such as "npid_cld".
        preset: of PRESETS, such as "sample" (embedded data, minutes), "cifar10", "paper" or "smoke".
        width: widening factor; None takes the preset's. Given here, a preset may fit batch and steps to it.
        backbone: name in BACKBONES; None takes the preset's. Given here, a preset fits stem and strides to it.
        probes: names in PROBES instead of the preset's, () for none; or {name: options}.
        protocol: where the options of probes come from, see ``with_probes``.
        **changes: recipe fields; ``optimizer__lr=0.05`` reaches into a nested one, ``task__cld__weight=0.25`` too,
            ``probes__knn__temperature=0.07`` into the options of a probe, ``bench__fraction=0.1`` into what probes see,
            ``backbone_options__stem="small"`` into the options of the network.

    Returns:
        Recipe, which keeps name and preset, and the name of its paper.

    Raises:
        InputError: unknown name, preset, probe, protocol, field, or a width below 1.
    """
    known = presets_of(name)
    if not known:
        raise unknown("pretext", name, sorted(names()))
    if preset not in known:
        raise unknown("preset", preset, sorted(known), of=f" for {name}")
    require(width is None or width >= 1, f"width {width} must be at least 1 (the paper has 4, 8, 12 and 16)")
    everything = {key: paper for paper in reversed(PAPERS) for key in recipes_of(paper)}
    preset = preset if f"{name}/{preset}" in everything else ALIASES[preset]
    key = f"{name}/{preset}"
    paper = everything[key]
    made = dataclasses.replace(recipes_of(paper)[key](width, backbone), name=name, preset=preset, paper=paper)
    made = with_backbone(made)
    if isinstance(probes, dict):
        made = dataclasses.replace(made, probes=probes, protocol=protocol or made.protocol)
    elif probes is not None or protocol is not None:
        made = with_probes(made, probes, protocol)
    return override(made, **changes)


def published_recipe(name, preset, protocol=None, **network):
    """``get_recipe`` with every probe of its protocol, or of another, beside its own: what its numbers are made by.
    ``network``: width and backbone.

    Raises:
        InputError: as ``get_recipe``; no such protocol.
    """
    recipe = get_recipe(name, preset, **network)
    require(protocol is None or protocol in PROTOCOLS, f"no protocol {protocol!r}; one of {', '.join(PROTOCOLS)}")
    known = PROTOCOLS.get(protocol or recipe.protocol, {})
    own = recipe.probes if protocol in (None, recipe.protocol) else {}
    return dataclasses.replace(recipe, probes=known | own)


def with_backbone(recipe, backbone=None):
    """The recipe with another network, or its own, and of the network's options with those that this one has.

    Raises:
        InputError: there is no such network.
    """
    backbone = backbone or recipe.backbone
    options = fit_options(backbone, **vars(recipe.backbone_options))
    return dataclasses.replace(recipe, backbone=backbone, backbone_options=options)


def options_of(protocol, probe):
    """The options that a protocol has for a probe.

    Raises:
        InputError: unknown protocol or probe, or a protocol that does not define that probe.
    """
    if probe not in PROBES:
        raise unknown("probe", probe, sorted(PROBES))
    if protocol == SELECT:
        return PROBES[probe]()
    known = protocols().get(protocol)
    if known is None:
        raise unknown("protocol", protocol, (SELECT, *protocols()))
    require(
        probe in known,
        f"protocol {protocol} does not define {probe}; it defines {', '.join(known)}; take another --protocol",
    )
    return known[probe]


def with_probes(recipe, names=None, protocol=None):
    """The recipe with the named probes instead of its own.

    Args:
        recipe: Recipe.
        names: of PROBES; () for none, None for the recipe's own. One that the recipe has keeps its options there.
        protocol: of ``protocols``, or "select"; all options are then its. None: the recipe's, for probes that are new.

    Raises:
        InputError: see ``options_of``.
    """
    names = tuple(recipe.probes) if names is None else names
    kept = recipe.probes if protocol in (None, recipe.protocol) else {}
    protocol = protocol or recipe.protocol
    probes = {name: kept[name] if name in kept else options_of(protocol, name) for name in names}
    return dataclasses.replace(recipe, probes=probes, protocol=protocol)


RECIPES = {key: make for paper in PAPERS for key, make in recipes_of(paper).items()}
"""Every setting of this repository's papers."""
NAMES = names()
ABOUT = about()
PROTOCOLS = protocols()
