"""Names are kept: what was typed is in every recipe and result line; older lines get theirs from the nearest recipe."""

import dataclasses
import os

import pytest

from revisit_ssl.evaluation.rows import of_run
from revisit_ssl.papers import PAPERS, RECIPES, get_recipe
from revisit_ssl.papers.older import named
from revisit_ssl.recipe import to_json
from revisit_ssl.report import tables
from revisit_ssl.runs.identity import recipe_id, setting_id
from revisit_ssl.runs.results import read_results
from revisit_ssl.training.workdir import from_json

RESULTS = os.path.join(os.path.dirname(__file__), "..", "experiments", "results")
FILES = ("revisiting", "cld", "obow", "toy_scenes", "toy_scenes_k16", "toy_scenes_others")


def committed(name):
    return read_results(os.path.join(RESULTS, f"{name}.jsonl"))


def test_every_recipe_knows_its_name_preset_and_paper():
    for key in RECIPES:
        recipe = get_recipe(*key.split("/"))
        assert f"{recipe.name}/{recipe.preset}" == key and recipe.paper in PAPERS
    recipe = get_recipe("obow_vanilla", "smoke", epochs=2)
    assert (recipe.name, recipe.preset, recipe.paper) == ("obow_vanilla", "smoke", "obow")
    again = from_json(to_json(recipe))
    assert (again.name, again.preset, again.paper) == ("obow_vanilla", "smoke", "obow")
    row = of_run(recipe, 3)
    assert (row["name"], row["preset"], row["paper"]) == ("obow_vanilla", "smoke", "obow")


def test_names_decide_nothing():
    recipe = get_recipe("npid_cld", "smoke")
    bare = dataclasses.replace(recipe, name="", preset="", paper="")
    assert bare == recipe  # so that a run which was begun before recipes had names can be resumed
    assert (recipe_id(bare), setting_id(bare)) == (recipe_id(recipe), setting_id(recipe))


@pytest.mark.parametrize("file", FILES)
def test_older_lines_get_their_names(file):
    results = committed(file)
    bare = [dataclasses.replace(r, name="", preset="", paper="", probe_train="") for r in results]
    assert named(bare) == results  # the committed files were rewritten by it, once
    assert named(results) == results
    known = [r for r in results if r.weights == "pretrained"]
    assert all(r.name and r.preset and r.paper in PAPERS for r in known)
    assert {r.probe_train for r in known if r.probe not in ("pretext", "vocabulary")} == {"train"}


def test_an_older_line_of_unknown_options_keeps_what_is_not_known_empty():
    row = next(r for r in committed("cld") if r.name == "npid_cld")
    old = dataclasses.replace(row, name="", preset="", paper="", task={}, training={})
    assert [(r.name, r.preset, r.paper) for r in named([old])] == [("npid", "", "cld")]
    changed = dataclasses.replace(row, name="", preset="", task=row.task | {"cld": row.task["cld"] | {"groups": 7}})
    assert [(r.name, r.preset) for r in named([changed])] == [("npid_cld", "small")]


def test_headings_of_obow_tell_its_settings_apart():
    headings = [heading for heading, _ in tables.result_table(committed("obow"))]
    firsts = [heading.partition("**,")[0] for heading in headings]
    assert len(set(firsts)) == len(firsts) == 9
    assert sum("obow_vanilla" in text for text in firsts) == 6
    assert sum("vocabulary kmeans" in text for text in firsts) == 3
