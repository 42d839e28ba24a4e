"""Dataclasses and plain values: built from JSON with every kind checked, changed by the names of their fields."""

import dataclasses
import json
import math
import re
import types
import typing
from typing import Literal

from revisit_ssl.errors import InputError, require


def override(spec, **changes):
    """A copy of a recipe, or of any of its parts, with fields replaced; ``optimizer__lr=0.1`` reaches into nested ones,
    ``probes__knn__temperature=0.07`` into the options of a probe that it has.

    Raises:
        InputError: no such field, or a value of the wrong kind.
    """
    mapping = isinstance(spec, dict)
    known = list(spec) if mapping else [f.name for f in dataclasses.fields(spec)]
    nested, flat = {}, {}
    for name, value in changes.items():
        head, _, rest = name.partition("__")
        if head not in known:
            what = "this recipe has no probe" if mapping else f"{type(spec).__name__} has no field"
            raise InputError(f"{what} {head!r}; it has {', '.join(known)}")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            flat[name] = _tuples(value)
    if not mapping:
        hints = typing.get_type_hints(type(spec))
        for name, value in flat.items():
            expected = f"{type(spec).__name__}.{name} is {value!r}; expected {name_of(hints[name])}"
            require(fits(value, hints[name]), expected)
    for head, inner in nested.items():
        flat[head] = override(flat.get(head, spec[head] if mapping else getattr(spec, head)), **inner)
    return {**spec, **flat} if mapping else dataclasses.replace(spec, **flat)


def build(cls, values):
    """A dataclass from plain JSON values: lists become tuples, mappings become the annotated dataclass.

    Raises:
        InputError: an unknown field, or a value of the wrong kind.
    """
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    require(not unknown, f"{cls.__name__} has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    built = {}
    for name, value in values.items():
        hint = hints[name]
        value = build(hint, value) if isinstance(value, dict) and dataclasses.is_dataclass(hint) else _tuples(value)
        require(fits(value, hint), f"{cls.__name__}.{name} is {value!r}; expected {name_of(hint)}")
        built[name] = value
    return cls(**built)


def to_json(recipe):
    """The recipe as indented JSON text, stable from run to run."""
    return json.dumps(dataclasses.asdict(recipe), indent=2) + "\n"


def _tuples(value):
    """JSON's lists as tuples, those inside of lists too."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def fits(value, hint):
    """Whether a value is of the kind that a type hint names; an integer is a float too, a truth value no number."""
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in typing.get_args(hint))
    if origin is tuple:
        parts = typing.get_args(hint)
        if not isinstance(value, tuple):
            return False
        parts = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(value) == len(parts) and all(map(fits, value, parts))
    if origin is dict:
        return isinstance(value, dict)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def name_of(hint):
    """What an error line calls a type hint."""
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        count = "" if parts[-1] is Ellipsis else f"{len(parts)} of "
        return f"a list of {count}{name_of(parts[0])}"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(name_of(part) for part in typing.get_args(hint))
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))


def check_values(spec, name=""):
    """InputError for a number that is not finite or that no run could hold, and for a text that is empty, anywhere in a
    dataclass: nested ones, mappings and tuples too.

    Args:
        spec: instance of a dataclass, a mapping, or a value of one.
        name: what the line calls it.
    """
    if dataclasses.is_dataclass(spec):
        # What decides nothing (compare=False: what a recipe is called) may be empty, and so may the text on its source.
        spec = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec) if f.compare and f.name != "source"}
    if isinstance(spec, dict):
        prefix = PREFIXES.get(name, f"{name}." if name else "")
        for field, value in spec.items():
            check_values(value, f"{prefix}{field}")
    elif isinstance(spec, (tuple, list)):
        for value in spec:
            check_values(value, name)
    elif isinstance(spec, str):
        require(spec.strip(), f"{name} is empty; name something, or leave it out")
    elif isinstance(spec, float):
        require(math.isfinite(spec), f"{name} {spec} must be a finite number")
    elif isinstance(spec, int):
        require(abs(spec) < 2**31, f"{name} {spec} is too large; it must stay below 2^31")


def check_pair(name, pair, most=math.inf):
    """InputError unless the pair is a range of numbers above 0, the upper one at most ``most``."""
    low, high = pair
    top = "" if most == math.inf else f" <= {most}"
    require(0 < low <= high <= most, f"{name} {low} {high}: a pair 0 < low <= high{top}")


def check_share(name, share):
    """InputError unless ``share`` is None or lies in (0, 1]."""
    require(share is None or 0 < share <= 1, f"{name} {share} must lie in (0, 1]")


def check_plain(name, what):
    """InputError for a name that is more than a name: in files of others a path may stand, and names become files."""
    plain = isinstance(name, str) and re.fullmatch("[A-Za-z0-9_][A-Za-z0-9_.-]*", name)
    require(plain, f"{what} {name!r} is no plain name; expected letters, digits, and _ . - between them")


# How messages, and flags, call the fields of some parts of a recipe.
PREFIXES = {"bench": "probe_", "probes": "", "backbone_options": "backbone.", "task.cld": "cld."}
