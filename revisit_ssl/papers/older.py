"""Lines of results.jsonl that were written before a line carried its recipe's name, preset and paper."""

import dataclasses
import functools
import json

from revisit_ssl.papers import get_recipe, names, presets_of
from revisit_ssl.report.settings import flat
from revisit_ssl.runs.identity import recipe_id


def named(results):
    """[Result], each with the name, preset, paper and probe_train of its recipe.

    A line that lacks them gets those of the recipe of its pretext that is nearest: of the same data first, then with
    the fewest other options and lengths; an untrained network's line those of the run that it belongs to. What an
    older line does not tell (which of several presets) stays empty.
    """
    results = list(results)
    runs = {}
    for r in results:
        if not r.name and r.weights == "pretrained":
            key = r.recipe, r.pretext, json.dumps([r.task, r.training], sort_keys=True), r.dataset
            if key not in runs:
                runs[key] = nearest(r)
    by_recipe = {key[0]: found for key, found in runs.items()} | {
        r.recipe: (r.name, r.preset, r.paper, r.probe_train) for r in results if r.name
    }

    def filled(r):
        if r.name:
            return r
        name, preset, paper, fitted = by_recipe.get(r.recipe, ("", "", "", ""))
        probed = r.probe not in ("pretext", "vocabulary")
        return dataclasses.replace(r, name=name, preset=preset, paper=paper, probe_train=fitted if probed else "")

    return [filled(r) for r in results]


def nearest(r):
    """(name, preset, paper, probe_train) of the recipe that a pretrained network's Result is of."""
    far = {}
    for name in names():
        for preset in presets_of(name):
            recipe = known(name, preset)
            if recipe.pretext == r.pretext and preset != "stages":  # no line that lacks its preset is of that one
                far[name, preset] = distance(r, recipe), name != r.pretext
    if not far:
        return r.pretext, "", "", ""
    least = min(far.values())
    found = [key for key, value in far.items() if value == least]
    first = known(*found[0])
    presets, weights = {known(*key).preset for key in found}, {recipe_id(known(*key)) for key in found}
    # A run of the preset's own data; of presets that train the same weights, the first.
    alone = 1 in (len(presets), len(weights)) and not least[0][0]
    return first.name, first.preset if alone else "", first.paper, first.bench.train if alone else ""


def distance(r, recipe):
    """(whether the data differ, how many of the line's options and lengths do)."""
    options = json.loads(json.dumps(dataclasses.asdict(recipe.task)))
    mine, its = dict(flat(r.task)), dict(flat(options))
    unlike = sum(mine[name] != its.get(name, mine[name]) for name in mine)
    unlike += sum(value != getattr(recipe, name) for name, value in r.training.items())
    return r.dataset != recipe.dataset, unlike


@functools.cache
def known(name, preset):
    """``get_recipe``, once for each name and preset."""
    return get_recipe(name, preset)
