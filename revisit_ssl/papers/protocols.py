"""How papers measure features, by name: --protocol. To add one: a mapping {probe: options} in the paper's folder.

"select", the default, is no paper's: every probe with its class's own options, which suit small sets and choose what is
free on the validation split.
"""

import dataclasses
import importlib

from revisit_ssl.errors import InputError, require
from revisit_ssl.evaluators import PROBES

SELECT = "select"
FOLDERS = ("revisiting", "cld", "obow")
PROTOCOLS = {
    name: protocol
    for folder in FOLDERS
    for name, protocol in importlib.import_module(f"revisit_ssl.papers.{folder}.protocols").PROTOCOLS.items()
}


def options_of(protocol, probe):
    """The options that a protocol has for a probe.

    Raises:
        InputError: unknown protocol or probe, or a protocol that does not define that probe.
    """
    if probe not in PROBES:
        raise InputError(f"unknown probe {probe!r}; one of {', '.join(sorted(PROBES))}")
    if protocol == SELECT:
        return PROBES[probe]()
    if protocol not in PROTOCOLS:
        raise InputError(f"unknown protocol {protocol!r}; one of {', '.join((SELECT, *PROTOCOLS))}")
    known = PROTOCOLS[protocol]
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
        protocol: of PROTOCOLS, or "select"; all options are then its. None: the recipe's, for probes that are new.

    Raises:
        InputError: see ``options_of``.
    """
    names = tuple(recipe.probes) if names is None else names
    kept = recipe.probes if protocol in (None, recipe.protocol) else {}
    protocol = protocol or recipe.protocol
    probes = {name: kept[name] if name in kept else options_of(protocol, name) for name in names}
    return dataclasses.replace(recipe, probes=probes, protocol=protocol)
