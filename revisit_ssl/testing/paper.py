"""What a line in PAPERS promises, checked: for the papers here, and for one of one's own.

>>> PAPERS["mine"] = Paper(name="mine", …)
>>> check_paper("mine")

Every published number lands in exactly one cell of the page; every recipe builds and says where its numbers come from;
every sweep plans its cells; the page is written without a run and with one.
"""

import functools
import os
import re
import tempfile

from revisit_ssl.commands.run import parse_run
from revisit_ssl.commands.sweep import Sweep
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.rows import of_run
from revisit_ssl.evaluators import PROBES
from revisit_ssl.papers import PRESETS, find_paper, get_recipe, presets_of
from revisit_ssl.papers.pages import elsewhere, write_paper_report
from revisit_ssl.recipe import to_json
from revisit_ssl.report.pages import others_table
from revisit_ssl.runs.results import Result
from revisit_ssl.sweeps.sweep import grid
from revisit_ssl.training.workdir import from_json

MARK = 70000  # a published number that none is, so that its cell can be found


def check_paper(name):
    """Runs every check of a paper; seconds.

    Args:
        name: in PAPERS.

    Raises:
        AssertionError: what the paper does not keep.
        InputError: no such paper.
    """
    paper = find_paper(name)
    assert paper.name == name, f"PAPERS[{name!r}] calls itself {paper.name!r}"
    for check in (check_recipes, check_numbers, check_sweeps, check_page):
        check(paper)


def check_recipes(paper):
    """Every recipe builds, keeps its name, survives its file and says where its numbers come from."""
    for key in paper.recipes:
        recipe = get_recipe(*key.split("/"))
        assert (f"{recipe.name}/{recipe.preset}", recipe.paper) == (key, paper.name), f"{key} is {recipe.name}"
        assert recipe.source, f"{key} has no source"
        assert from_json(to_json(recipe), kinds=PROBES) == recipe, f"{key} is not what its file holds"


def check_numbers(paper):
    """Every published number lands in exactly one cell of the page."""
    rows = [row | {"value": float(MARK + i)} for i, row in enumerate(paper.published)]
    tables = [table for _, table in paper.tables([], rows, None)]
    tables.append(others_table(elsewhere(paper, rows), paper.method))
    cells = [cell for table in tables for row in table.rows for cell in row]
    found = [float(number) for cell in cells for number in re.findall(r"\d+(?:\.\d+)?", cell)]
    for row, original in zip(rows, paper.published, strict=True):
        count = found.count(row["value"])
        what = {name: original[name] for name in ("paper", "table", "pretext", "metric", "value", "setting")}
        assert count == 1, f"{what} stands in {count} cells"


def check_sweeps(paper):
    """Every sweep plans each of its cells, by one preset at least."""
    parsed = functools.cache(lambda words: parse_run(list(words)))  # sweeps of one paper share many of their cells
    for name, variants in paper.sweeps.items():
        refused = []
        for preset in (p for p in PRESETS if all(p in presets_of(v.recipe) for v in variants)):
            try:
                runs = grid(Sweep(family=name, preset=preset), [], "runs", lambda words: parsed(tuple(words)))
            except InputError as error:
                refused.append(f"{preset}: {error}")
                continue
            assert len(runs) == len(variants), f"{name} plans {len(runs)} runs for {len(variants)} cells"
            break
        else:
            raise AssertionError(f"{name} fits no preset: {'; '.join(refused) or 'none has all of its recipes'}")


def check_page(paper):
    """The page is written without a run, and with one."""
    recipe = get_recipe(*next(iter(paper.recipes)).split("/"))
    place = {"probe_dataset": recipe.dataset, "endpoint": "pre_logits", "split": "test", "weights": "pretrained"}
    run = [
        Result(probe=probe, metric="top1", value=50.0, probe_train="train", **of_run(recipe, 3), **place)
        for probe in ("linear", "knn")
    ]
    for results, says in (([], "**0** runs of ours"), (run, "**1** run of ours")):
        with tempfile.TemporaryDirectory() as folder:
            path = write_paper_report(results, folder, paper.name)
            assert os.path.getsize(path), f"{path} is empty"
            with open(os.path.join(folder, f"{paper.name}.md"), encoding="utf-8") as file:
                text = file.read()
        assert says in text, f"the page of {paper.name} does not say {says!r}"
        assert all(title in text for title, _ in paper.tables(results, paper.published, None))
