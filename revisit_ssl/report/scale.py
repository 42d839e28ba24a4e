"""Which runs are of a published scale: trained and probed as a recipe says, in everything that decides a number."""

import dataclasses
import itertools
import json

from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import PROBES
from revisit_ssl.report.settings import choose
from revisit_ssl.runs.identity import LENGTH, recipe_id, seen
from revisit_ssl.values import build

SCALE = (
    "Ours stands here only if it is of the published scale: the same network and normalisation, data, views, "
    "optimiser, batch, epochs, options, and the same probe. Other runs are in the tables above."
)
CHOSEN = {"learning_rates": "lr", "head_multipliers": "head_multiplier"}  # what a probe chooses of its candidates
NOT_COMPARED = ("eval_batch_size", "dtype")  # of a probe: how fast, not what


def of_scale(settings, recipe, changed=None, **more):
    """The Setting of a recipe's published scale that stands in a cell, with the lines that were probed as it says; None
    where there is none. ``changed``, ``more``: of ``at_scale``."""
    found, labelled = [], (recipe.probed_dataset, recipe.bench.split, recipe.bench.fraction or 1.0)
    for setting in settings:
        if (setting.probe_dataset, setting.split, setting.labels) != labelled:
            continue
        if not at_scale(setting.run, recipe, changed, **more):
            continue
        lines = {
            measure: alike for measure, seeds in setting.lines.items()
            if (alike := {seed: r for seed, r in seeds.items() if probed_as(r, recipe)})
        }
        found += [dataclasses.replace(setting, lines=lines)] if lines else []
    return choose(found)


def at_scale(r, recipe, changed=None, *, epochs=None, plain=None):
    """Whether a Result's run has a recipe's network, data, views, optimiser, length and options but for ``changed``.

    Args:
        r: Result.
        recipe: Recipe of the published scale.
        changed: {option: value} that the run has instead, such as {"temperature": 0.1}.
        epochs: of the published number, where it is not the recipe's.
        plain: function of (pretext, options) that writes options that mean the same alike.
    """
    network = (r.pretext, r.backbone, r.width, r.dataset)
    same = network == (recipe.pretext, recipe.backbone, recipe.width, recipe.dataset)
    recipe = dataclasses.replace(recipe, epochs=epochs) if epochs else recipe
    if not same or {name: r.training.get(name) for name in LENGTH} != {name: getattr(recipe, name) for name in LENGTH}:
        return False
    mine, wanted = (json.loads(json.dumps(options)) for options in (r.task, dataclasses.asdict(recipe.task)))
    for name, value in (changed or {}).items():
        *path, last = name.split(".")
        (wanted[path[0]] if path else wanted)[last] = value
    if plain:
        mine, wanted = plain(r.pretext, mine), plain(r.pretext, wanted)
    return mine == wanted and trained_as(r, recipe)


def trained_as(r, recipe):
    """Whether the hash of a Result's recipe is that of ``recipe`` with the Result's own options and seed: views,
    optimiser and normalisation are in no other field of it. How exactly the machine computes may differ."""
    try:
        own = dataclasses.replace(recipe, seed=r.seed, task=task_of(r, recipe))
    except InputError:  # options that there are no more
        return False
    networks = [own.backbone_options]
    if hasattr(own.backbone_options, "recompute"):
        networks = [dataclasses.replace(own.backbone_options, recompute=yes) for yes in (False, True)]
    ways = itertools.product(("float32", "mixed_bfloat16"), (False, True), networks)
    return r.recipe in {
        recipe_id(dataclasses.replace(own, precision=precision, deterministic=exact, backbone_options=network))
        for precision, exact, network in ways
    }


def probed_as(r, recipe, left_out=()):
    """Whether a Result's probe has the options that the recipe has for it, and saw images as the recipe says.

    Args:
        r: Result; of a probe that the recipe does not have it passes, and what an older line does not tell does too.
        recipe: Recipe.
        left_out: options of the probe, or fields of the bench, that may differ.
    """
    if r.bench is not None and differ(r.bench, seen(recipe.bench), left_out):
        return False
    # A score's name may say more than its probe's: knn_monitor, lbfgs_paper.
    named = [name for name in PROBES if r.probe == name or r.probe.startswith(f"{name}_")]
    probe = recipe.probes.get(max(named, key=len, default=""))
    if probe is None:
        return True
    options = dataclasses.asdict(probe.settled(task_of(r, recipe), r.labels))
    return all(
        agrees(wanted, r.hyperparameters.get(CHOSEN.get(name, name)))
        for name, wanted in options.items() if name not in (*NOT_COMPARED, *left_out)
    )


def task_of(r, recipe):
    """The options of a Result's pretext, of the recipe's class; the recipe's own where the line does not tell them."""
    return build(type(recipe.task), r.task) if r.task else recipe.task


def differ(one, other, left_out):
    """Whether two mappings do, as JSON has them, in anything that is not left out."""
    kept = ({name: value for name, value in each.items() if name not in left_out} for each in (one, other))
    one, other = (json.loads(json.dumps(each)) for each in kept)
    return one != other


def agrees(wanted, found):
    """Whether a hyper-parameter is the option's value, or one of its candidates; None is open, or was not written."""
    if wanted is None or found is None:
        return True
    if isinstance(wanted, (tuple, list)) and not isinstance(found, (tuple, list)):
        return found in wanted
    return json.loads(json.dumps(found)) == json.loads(json.dumps(wanted))
