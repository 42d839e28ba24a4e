"""The folder of a run: what it is called, the recipe in it, and how far the run has come."""

import contextlib
import dataclasses
import json
import os

import tensorflow as tf

from revisit_ssl.backbones import find_options as find_backbone_options
from revisit_ssl.distribute import is_chief
from revisit_ssl.errors import InputError, require
from revisit_ssl.pretext import find_options, find_pretext
from revisit_ssl.recipe import Recipe
from revisit_ssl.runs.damage import read_json
from revisit_ssl.runs.files import discard, only_here, remove_left_overs, write_atomically
from revisit_ssl.runs.identity import differing
from revisit_ssl.runs.old_recipe import upgrade
from revisit_ssl.runs.results import provenance, results_of_run
from revisit_ssl.training.checkpoints import list_checkpoints, step_of
from revisit_ssl.values import build

RECIPE, FINISHED, BACKBONE, LOCK = "recipe.json", "finished.json", "backbone.keras", "run.lock"
LENGTH = ("epochs", "max_steps")  # the fields of a recipe that say how long


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


@contextlib.contextmanager
def writing(workdir):
    """Holds the lock of a run's folder and removes what killed runs have left half-written; workers that write nothing
    hold nothing.

    Raises:
        InputError: another process writes there, or it cannot be written to.
    """
    check_folder(workdir)
    with only_here(workdir, LOCK, "another run", again=True) if is_chief() else contextlib.nullcontext():
        for folder in (workdir, os.path.join(workdir, "checkpoints")) if is_chief() else ():
            remove_left_overs(folder)
        yield


def check_folder(workdir):
    """InputError where the workdir is a file."""
    is_file = tf.io.gfile.exists(workdir) and not tf.io.gfile.isdir(workdir)
    require(not is_file, f"workdir {workdir} is a file; choose a folder with --workdir")


def can_grow(recipe):
    """Whether a longer run of the recipe begins as this one does: no schedule knows where it ends."""
    timeless = recipe.optimizer.schedule in ("constant", "step")
    return timeless and not find_pretext(recipe.pretext).needs_end(recipe.task)


def check_workdir(recipe, workdir, *, resume, grow=False):
    """State of this recipe's run in the workdir: "new", "begun", "trained", or, with ``grow``, "shorter".

    Args:
        recipe: Recipe.
        workdir: str.
        resume: whether a run that is there may go on.
        grow: whether it may have been meant to be shorter, where no schedule knows of that; "shorter" says that it was.

    Raises:
        InputError: the workdir holds a run of another recipe, or of this one and ``resume`` is off.
    """
    check_folder(workdir)
    path = os.path.join(workdir, RECIPE)
    done = tf.io.gfile.exists(os.path.join(workdir, BACKBONE))
    begun = done or bool(list_checkpoints(os.path.join(workdir, "checkpoints")))
    if not begun and not tf.io.gfile.exists(path):
        return "new"
    if not tf.io.gfile.exists(path):
        raise InputError(f"workdir {workdir} holds a run without recipe.json; choose another --workdir")
    held = read_recipe_file(path, {name: type(options) for name, options in recipe.probes.items()})
    if held != recipe:
        longer = begun and grow and is_longer(held, recipe)
        if longer and resume and can_grow(recipe):
            return "shorter"
        changed, why = difference(held, recipe), ""
        if longer:
            why = "; add --resume to make it longer" if can_grow(recipe) else "; its schedule depends on its length"
        raise InputError(f"workdir {workdir} holds another recipe ({changed}){why}; choose another --workdir")
    if begun and not resume:
        state = "a finished" if done else "an unfinished"
        raise InputError(f"workdir {workdir} holds {state} run of this recipe; add --resume or change --workdir")
    return "trained" if done else "begun" if begun else "new"


def is_longer(held, wanted):
    """Whether two recipes differ in their length alone, and the second one is the longer."""
    shortened = dataclasses.replace(wanted, **{name: getattr(held, name) for name in LENGTH})
    ends = [recipe.max_steps if recipe.max_steps is not None else float("inf") for recipe in (held, wanted)]
    return shortened == held and wanted.epochs >= held.epochs and ends[1] >= ends[0]


def reopen(recipe, workdir):
    """Makes of a run one that is to be longer: what it left at its end is removed, its results get another name.

    Returns:
        The recipe, which says at which step that was.
    """
    step = step_of(list_checkpoints(os.path.join(workdir, "checkpoints"))[-1])
    # The recipe is written after this: whoever finds backbone.keras beside a recipe takes it for that one's.
    for name in (FINISHED, BACKBONE, "pretext.json"):
        discard(os.path.join(workdir, name))
    path = os.path.join(workdir, "results.jsonl")
    if tf.io.gfile.exists(path):
        tf.io.gfile.rename(path, os.path.join(workdir, f"results-{step}-steps.jsonl"), overwrite=True)
    return dataclasses.replace(recipe, extended_from=(*recipe.extended_from, step))


def as_held(recipe, workdir):
    """The recipe with what the one in the workdir says of its past."""
    path = os.path.join(workdir, RECIPE)
    if not tf.io.gfile.exists(path):
        return recipe
    return dataclasses.replace(recipe, extended_from=read_recipe_file(path).extended_from)


def difference(held, wanted):
    """The fields in which two recipes differ, for an error line."""
    if set(held.probes) == set(wanted.probes):
        return differing(held, wanted, but=("extended_from",))
    names = [" ".join(recipe.probes) or "none" for recipe in (held, wanted)]  # they say enough
    rest = differing(held, wanted, but=("extended_from", "probes"))
    return "; ".join(filter(None, (rest, f"probes: {names[0]} there, {names[1]} here")))


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
