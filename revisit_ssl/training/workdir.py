"""The folder of a run: what it is called, the recipe in it, and how far the run has come."""

import json
import os

import tensorflow as tf

from revisit_ssl.backbones import find_options as find_backbone_options
from revisit_ssl.errors import InputError
from revisit_ssl.pretext import find_options, find_pretext
from revisit_ssl.recipe import Recipe
from revisit_ssl.runs.damage import read_json
from revisit_ssl.runs.old_recipe import upgrade
from revisit_ssl.runs.results import discard, provenance, results_of_run, write_atomically
from revisit_ssl.training.checkpoints import list_checkpoints
from revisit_ssl.values import build

RECIPE, FINISHED = "recipe.json", "finished.json"


def run_name(recipe, variant=""):
    """rotation-revnet50-k1-toy_scenes-s0; ``variant`` stands for the pretext where one has several recipes."""
    data = recipe.dataset.replace("folder:", "").strip("/").replace("/", "_").replace(":", "_").replace("#", "_")
    return f"{variant or recipe.pretext}-{recipe.backbone}-k{recipe.width}-{data}-s{recipe.seed}"


def read_recipe(workdir, kinds=None):
    """The Recipe of the run in ``workdir``; ``kinds``: of its probes, as for ``from_json``.

    Raises:
        InputError: no run there, or a damaged recipe.json.
    """
    path = os.path.join(str(workdir), RECIPE)
    if not tf.io.gfile.exists(path):
        raise InputError(f"no run at {workdir}: it has no {RECIPE}; give the workdir of a finished run")
    return read_recipe_file(path, kinds)


def read_recipe_file(path, kinds=None):
    """The Recipe in a file, as a run writes one into its workdir; ``kinds``: of its probes, as for ``from_json``.

    Raises:
        InputError: no such file, or no recipe.
    """
    if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
        raise InputError(f"no recipe at {path}; a run writes {RECIPE} into its workdir")
    with tf.io.gfile.GFile(path, "rb") as file:
        return from_json(file.read().decode(errors="replace"), path, kinds)


def from_json(text, path="this text", kinds=None):
    """The Recipe that ``to_json`` wrote, also as it was written when the options of probes and networks were fields of
    its own.

    Args:
        text: of recipe.json.
        path: what an error line calls it.
        kinds: {name: class} of the probes' options, ``evaluators.PROBES``; those of others stay plain values.

    Raises:
        InputError: not JSON, an unknown or a missing field, or a value of the wrong kind.
    """
    try:
        values = upgrade(json.loads(text))
        options = find_options(values["pretext"])
        values["task"] = build(options, values.get("task", {}))
        kind = find_backbone_options(values.get("backbone", Recipe.backbone))
        values["backbone_options"] = build(kind, values.get("backbone_options", {}))
        probes = values.get("probes", {}).items()
        values["probes"] = {name: build(kinds[name], own) if name in (kinds or {}) else own for name, own in probes}
        return build(Recipe, values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is not a recipe ({what}); restore it, or start anew") from None


def mark_finished(workdir, *, untrained, seconds):
    """Writes finished.json, the last file of a run: all probes are in results.jsonl, the report is written.

    Args:
        workdir: the run's folder, local or gs://.
        untrained: whether the untrained network was probed too.
        seconds: wall time of the process that finished the run.
    """
    facts = {"untrained": untrained, "seconds": round(seconds, 1)} | provenance()
    write_atomically(os.path.join(str(workdir), FINISHED), json.dumps(facts) + "\n")


def unmark_finished(workdir):
    """Removes finished.json, before a run is probed once more."""
    discard(os.path.join(str(workdir), FINISHED))


def check_workdir(recipe, workdir, *, resume):
    """State of this recipe's run in the workdir: "new", "begun" or "trained".

    Raises:
        InputError: the workdir holds a run of another recipe, or of this one and ``resume`` is off.
    """
    if tf.io.gfile.exists(workdir) and not tf.io.gfile.isdir(workdir):
        raise InputError(f"workdir {workdir} is a file; choose a folder with --workdir")
    path = os.path.join(workdir, RECIPE)
    done = tf.io.gfile.exists(os.path.join(workdir, "backbone.keras"))
    begun = done or bool(list_checkpoints(os.path.join(workdir, "checkpoints")))
    if not begun and not tf.io.gfile.exists(path):
        return "new"
    if not tf.io.gfile.exists(path):
        raise InputError(f"workdir {workdir} holds a run without recipe.json; choose another --workdir")
    held = read_recipe_file(path, {name: type(options) for name, options in recipe.probes.items()})
    if held != recipe:
        changed = difference(held, recipe)
        raise InputError(f"workdir {workdir} holds another recipe ({changed}); choose another --workdir")
    if begun and not resume:
        state = "a finished" if done else "an unfinished"
        raise InputError(f"workdir {workdir} holds {state} run of this recipe; add --resume or change --workdir")
    return "trained" if done else "begun" if begun else "new"


def difference(held, wanted):
    """The fields in which two recipes differ, for an error line."""
    a, b = flatten(held), flatten(wanted)
    if set(held.probes) != set(wanted.probes):  # then their names say enough
        a, b = ({k: v for k, v in flat.items() if not k.startswith("probes.")} for flat in (a, b))
        a["probes"], b["probes"] = (" ".join(recipe.probes) or "none" for recipe in (held, wanted))
    changed = [f"{name}: {a.get(name)} there, {b.get(name)} here" for name in {**a, **b} if a.get(name) != b.get(name)]
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return "; ".join(changed[:3]) + more


def flatten(value, prefix=""):
    """{"optimizer.lr": 0.1, …} of nested dataclasses and mappings."""
    flat = {}
    for name, field in (value if isinstance(value, dict) else vars(value)).items():
        nested = hasattr(field, "__dataclass_fields__") or isinstance(field, dict)
        flat.update(flatten(field, f"{prefix}{name}.") if nested else {prefix + name: field})
    return flat


def run_state(recipe, workdir, *, untrained=True):
    """How far the recipe's run in the folder has come.

    Args:
        recipe: Recipe.
        workdir: the run's folder; it need not exist.
        untrained: whether a finished run has to have the rows of the untrained network.

    Returns:
        "new"; "begun": there is a checkpoint; "trained": backbone.keras is there, not all of its rows are;
        "finished": nothing is left to do.

    Raises:
        InputError: the folder holds another recipe, or a damaged file.
    """
    state = check_workdir(recipe, str(workdir), resume=True)
    if state != "trained":
        return state
    return "finished" if _probed(recipe, str(workdir), untrained) else "trained"


def _probed(recipe, workdir, untrained):
    """Whether the marker and, in case someone has deleted those, the rows are there."""
    marker = read_json(os.path.join(workdir, FINISHED))
    if not marker:
        return False
    trains = find_pretext(recipe.pretext).trains
    needed = {"pretrained"} if trains else set()
    if untrained or not trains:
        needed.add("random")
        if not marker.get("untrained"):
            return False
    if not recipe.probes:
        return True
    return needed <= {r.weights for r in results_of_run(os.path.join(workdir, "results.jsonl"))}
