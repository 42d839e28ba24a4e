"""Every paper keeps what a line in PAPERS promises, and one that is added by one line is reported and swept too."""

import dataclasses
import pathlib
import re

import pytest

from revisit_ssl.commands import report as report_command
from revisit_ssl.commands import sweep as sweep_command
from revisit_ssl.evaluation.rows import of_run
from revisit_ssl.papers import NAMES, PAPERS, find_paper, get_recipe, sweeps
from revisit_ssl.papers.pages import compare
from revisit_ssl.papers.spec import Paper, Variant
from revisit_ssl.report import pivots, settings
from revisit_ssl.report.settings import Measure, choose, settings_of
from revisit_ssl.runs.results import Result, read_results, write_results
from revisit_ssl.testing import check_paper

ROOT = pathlib.Path(__file__).parents[1]
LINEAR = Measure("linear", "pre_logits")


@pytest.mark.parametrize("name", list(PAPERS))
def test_contract(name):
    check_paper(name)


def test_the_engine_knows_no_paper_and_no_method():
    known = {*PAPERS, *(name for name in NAMES if name not in ("random", "supervised"))}
    for path in (ROOT / "revisit_ssl" / "report").glob("*.py"):
        found = set(re.findall(r"[a-z0-9]+(?:_[a-z0-9]+)*", path.read_text().lower())) & known
        assert not found, f"{path.name} speaks of {', '.join(sorted(found))}"


@pytest.mark.parametrize(
    ("name", "cells"),
    [("revisiting-table1", 66), ("revisiting-suppl2", 66), ("revisiting-suppl3", 66), ("revisiting-suppl4", 66),
     ("revisiting-table2", 4), ("revisiting-suppl1", 6), ("revisiting-figure1", 4), ("cld", 11), ("cld-a1", 8),
     ("cld-a2", 4), ("cld-a3", 12), ("cld-a4", 6), ("cld-figure-a2", 9), ("obow", 4), ("obow-vocabulary", 4),
     ("maskco-table1", 9), ("maskco-mask", 4), ("maskco-negatives", 2)],
)
def test_a_sweep_has_the_cells_of_its_table(name, cells):
    assert len(sweeps()[name]) == cells


def test_the_sweep_of_table_1_has_its_networks():
    rows = [r for r in find_paper("revisiting").published if r["table"] == "Table 1"]
    printed = {(r["pretext"], r["backbone"], r["width"]) for r in rows}
    assert {(v.recipe, v.backbone, v.width) for v in sweeps()["revisiting-table1"]} == printed


@pytest.mark.parametrize("table", ["A.1", "A.2", "A.3", "A.4"])
def test_the_sweeps_of_ablations_have_the_values_of_their_tables(table):
    rows = [r for r in find_paper("cld").published if r["paper"] == "cld" and r["table"] == f"Table {table}"]
    printed = {(r["pretext"], tuple(pivots.options_of(r).items())) for r in rows}
    variants = sweeps()[f"cld-{table.replace('.', '').lower()}"]
    ours = {(v.recipe, tuple((o, x) for o, x in v.options.items() if o != "crops")) for v in variants}
    # Table A.2 prints NPID's own recipe where our sweep has the same script without the term.
    assert printed - {("npid", ())} == ours - ({("npid_cld", (("cld.weight", 0),))} if table == "A.2" else set())


# --- the one rule


def line(value, *, seed=0, **more):
    fields = {
        "pretext": "rotation", "backbone": "resnet18", "width": 1, "dataset": "cifar10", "steps": 100, "split": "test",
        "weights": "pretrained", "endpoint": "pre_logits", "probe": "linear", "probe_dataset": "cifar10",
        "metric": "top1", "setting": "a", "recipe": f"a{seed}",
    } | more
    return Result(value=value, seed=seed, **fields)


def test_most_seeds_stand_in_a_cell_then_most_steps():
    one = [line(50.0, setting="long", steps=900)]
    two = [line(v, seed=s, setting="two", steps=500) for s, v in enumerate((40.0, 42.0))]
    short = [line(v, seed=s, setting="short", steps=100) for s, v in enumerate((30.0, 32.0))]
    val = [line(99.0, split="val", setting="val")]
    for results in ([*one, *two, *short], [*short, *two, *one]):
        assert choose(settings_of(results), LINEAR).score(LINEAR) == 41.0
    assert choose(settings_of([*two, *val]), LINEAR, split="val").score(LINEAR) == 99.0
    assert choose([]) is None


def test_gains_are_paired_by_seed_and_clear_from_two_deviations_on():
    assert settings.gain({0: 40, 1: 42}, {1: 43, 0: 43}) == "+2.0 ± 1.4 (2)"
    assert settings.gain({0: 40}, {1: 43}) == "+3.0" and settings.gain({}, {0: 1}) == ""
    assert settings.is_clear({0: 40, 1: 41}, {0: 43, 1: 44}) and not settings.is_clear({0: 40}, {0: 90})


def test_obows_settings_are_not_folded_into_one():
    results = read_results(str(ROOT / "experiments" / "results" / "obow.jsonl"))
    names = {s.name for s in settings_of(results)}
    assert names == {"obow", "obow_vanilla", "moco_v2_plain", "moco_v2_multicrop"}
    assert len(settings_of(results)) == 9


def test_results_are_compared_with_their_own_paper():
    results = read_results(str(ROOT / "experiments" / "results" / "cld.jsonl"))
    assert "The tables of “cld” hold no number for" in compare(results)
    assert "The tables of “revisiting”" in compare(results, "revisiting")


# --- a paper that is added by one line


def toy(width=None, backbone=None):
    return dataclasses.replace(get_recipe("rotation", "smoke", width=width, backbone=backbone), source="made up")


def number(width, value):
    return {
        "paper": "toy", "table": "Table 1", "pretext": "toy", "backbone": "resnet18", "width": width, "labels": 1.0,
        "dataset": "digits", "probe": "linear", "endpoint": "pre_logits", "metric": "top1", "value": value,
        "confirmed": "yes", "setting": "", "source": "", "note": "",
    }


def tables(results, published, folder):
    theirs = {((f"{r['width']}x",), "top-1"): r for r in published}
    ours = {((f"{s.width}x",), "top-1"): s.cell(LINEAR) for s in settings_of(results) if s.name == "toy"}
    return [("Table 1: widths", pivots.pivot(("width",), theirs, ours))]


TOY = Paper(
    name="toy", title="A toy paper", arxiv="", published=[number(1, 50.0), number(2, 60.0)], printed=("Table 1",),
    recipes={"toy/smoke": toy}, sweeps={"toy": [Variant("toy", width=k) for k in (1, 2)]}, tables=tables,
)


def test_a_toy_paper_is_reported_and_swept_like_the_real_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PAPERS, "toy", TOY)
    check_paper("toy")
    assert sweep_command.main(["toy", "--preset", "smoke", "--plan", "--no-timing", "--workdir", str(tmp_path)]) == 0
    assert "sweep of 2 runs" in capsys.readouterr().out
    run = of_run(get_recipe("toy", "smoke", width=2), 2)
    place = {"probe": "linear", "endpoint": "pre_logits", "metric": "top1", "split": "test", "probe_dataset": "digits"}
    write_results(tmp_path / "results.jsonl", [Result(value=42.0, weights="pretrained", **run, **place)])
    options = ["--paper", "toy", "--out-dir", str(tmp_path)]
    assert report_command.main([str(tmp_path / "results.jsonl"), *options]) == 0
    assert "left out: 1 of 2 cells of toy: revisit-ssl sweep toy --preset smoke" in capsys.readouterr().err
    text = (tmp_path / "toy.md").read_text()
    assert "| 2x | 60.0 | 42.0 (1) |" in text and "| 1x | 50.0 |  |" in text
