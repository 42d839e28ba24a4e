"""Which recipes train the same weights, and which lines of results are draws of one thing: hashes of recipes."""

import dataclasses
import hashlib
import json

from revisit_ssl.recipe import Pretraining

LENGTH = ("split", "fraction", "batch_size", "epochs", "max_steps")  # fields of a Recipe: how long on what
# Fields of BenchSpec that a Result says of itself, or that change no number of it.
TOLD = ("dataset", "fraction", "split", "endpoints", "untrained")


def recipe_id(recipe):
    """Eight hex digits that are the same for recipes that train the same weights, however they are probed."""
    return digest(trained(recipe))


def setting_id(recipe):
    """Eight hex digits that the seeds of one setting share, whatever else its Result says of data, split and probe.

    Hash of what trains the weights, how the bench cuts and pools images, and the options of probes; of non-default
    values only, so that adding a field, or one more probe at its defaults, keeps old hashes valid.
    """
    values = {name: value for name, value in trained(recipe).items() if name != "seed"}
    bench = seen(recipe.bench)
    # With what they take from the pretext: two sigmas are two settings, whoever said them.
    probes = {name: chosen(options.settled(recipe.task)) for name, options in recipe.probes.items()}
    # A Result says the schedule among its hyper-parameters.
    probes = {name: {k: v for k, v in own.items() if k != "schedule"} for name, own in probes.items()}
    return digest(values | {"bench": bench, "probes": {name: own for name, own in probes.items() if own}})


def seen(bench):
    """{field: value} of a BenchSpec that a Result says nowhere else, where the value is not the default."""
    return {name: value for name, value in chosen(bench).items() if name not in TOLD}


def trained(recipe):
    """{field: value} of what trains the weights, where the value is not the default.

    The network's options stand among them, as fields of the recipe, which they were: hashes outlive that.
    """
    values = chosen(recipe, Pretraining)
    options = values.pop("backbone_options", {})
    return values | options


def trained_values(recipe):
    """{field: plain value} of all that trains the weights, defaults too: what a checkpoint says of its recipe."""
    values = dataclasses.asdict(recipe)
    return {f.name: values[f.name] for f in dataclasses.fields(Pretraining)}


def differing(held, wanted, but=()):
    """The fields in which two recipes differ, for a line; "" where they do not.

    Args:
        held, wanted: recipes, or plain values; a field that one of the two lacks is not compared where they are plain,
            as they may have been written by another version.
        but: names of fields that may differ.
    """
    a, b = flatten(held), flatten(wanted)
    names = [name for name in {**a, **b} if name.partition(".")[0] not in but]
    if isinstance(held, dict):
        names = [name for name in names if name in a and name in b]
        a, b = ({name: json.loads(json.dumps(values[name])) for name in names} for values in (a, b))
    changed = [f"{name}: {a.get(name)} there, {b.get(name)} here" for name in names if a.get(name) != b.get(name)]
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return "; ".join(changed[:3]) + more


def flatten(value, prefix=""):
    """{"optimizer.lr": 0.1, …} of nested dataclasses and mappings."""
    flat = {}
    for name, field in (value if isinstance(value, dict) else vars(value)).items():
        nested = hasattr(field, "__dataclass_fields__") or isinstance(field, dict)
        flat.update(flatten(field, f"{prefix}{name}.") if nested else {prefix + name: field})
    return flat


def digest(values):
    """Eight hex digits of plain values, whatever their order."""
    values = json.loads(json.dumps(values), parse_int=float)  # 6 epochs and 6.0 are the same
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def chosen(spec, kind=None):
    """{field: value} of a dataclass where the value is not the default; nested ones likewise.

    Args:
        spec: an instance.
        kind: a class that it derives from, whose fields alone count; None: its own.
    """
    values = {}
    for f in dataclasses.fields(kind or spec):
        value = getattr(spec, f.name)
        default = getattr(spec, "formerly", {}).get(f.name, f.default)
        if dataclasses.is_dataclass(value):
            value, default = chosen(value), {}
        if value != default:
            values[f.name] = value
    return values
