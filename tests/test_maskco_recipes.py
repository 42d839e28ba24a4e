"""Recipes, numbers, tables, claims and pictures of MaskCo against what the supplement says, typed once more."""

import collections
import dataclasses
import statistics

import pytest

from revisit_ssl.data import open_source
from revisit_ssl.evaluation.rows import of_run
from revisit_ssl.papers import find_paper, get_recipe
from revisit_ssl.papers.maskco import prediction
from revisit_ssl.papers.maskco.claims import chance, maskco_claims
from revisit_ssl.papers.maskco.methods import methods_table, name_of, settings_of
from revisit_ssl.papers.maskco.tables import paper_tables
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.spec import Variant
from revisit_ssl.report.blocks import Picture, Table
from revisit_ssl.report.claims import FAILS, HOLDS, OPEN
from revisit_ssl.runs.results import Result
from revisit_ssl.training.build import build_pretext

ROWS = load_published("maskco")
STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5")


@pytest.mark.parametrize(
    ("paper", "table", "count", "mean"),
    # Worked out from the sources' own tables: a slip in any cell shows.
    [("maskco", "Table 1", 45, 38.8956), ("maskco", "Table 2", 10, 59.0), ("openselfsup", "model zoo", 81, 50.6078)],
)
def test_every_cell_of_the_tables(paper, table, count, mean):
    cells = [r["value"] for r in ROWS if (r["paper"], r["table"]) == (paper, table)]
    assert len(cells) == count and statistics.mean(cells) == pytest.approx(mean, abs=5e-5)


@pytest.mark.parametrize(("pretext", "endpoint", "value"), [
    ("maskco", "conv4", 59.6), ("maskco", "conv5", 65.1), ("supervised", "conv5", 76.2), ("byol", "conv3", 47.2),
    ("random", "conv2", 16.2), ("relative_patch", "conv5", 40.2),
])  # fmt: skip
def test_numbers_of_table_1(pretext, endpoint, value):
    found = [r for r in ROWS if (r["table"], r["pretext"], r["endpoint"]) == ("Table 1", pretext, endpoint)]
    assert [r["value"] for r in found] == [value]


def test_one_line_per_number():
    names = [name for name in ROWS[0] if name not in ("value", "confirmed", "source")]
    assert max(collections.Counter(tuple(row[n] for n in names) for row in ROWS).values()) == 1


def test_the_mask_inverts_the_top_in_the_published_numbers():
    found = {(r["setting"].split()[0], r["endpoint"]): r["value"] for r in ROWS
             if r["table"] == "Table 2" and r["endpoint"]}  # fmt: skip
    assert found == {("fill=zero", "conv4"): 55.3, ("fill=zero", "conv5"): 38.5, ("fill=none", "conv4"): 51.8,
                     ("fill=none", "conv5"): 51.1}  # fmt: skip


def test_the_rows_of_table_1_at_small_scale_share_data_network_and_probe():
    recipes = [get_recipe(v.recipe, "stages") for v in find_paper("maskco").sweeps["maskco-table1"]]
    assert len(recipes) == 9 and {r.pretext for r in recipes} == {
        "random", "supervised", "relative_patch", "rotation", "npid", "moco", "simclr", "byol", "maskco",
    }
    same = [(r.dataset, r.split, r.fraction, r.backbone, r.width, r.backbone_options.strides, r.probes,
             r.bench.fraction, r.bench.split, r.batch_size) for r in recipes]  # fmt: skip
    assert all(one == same[0] for one in same)


# --- our own runs


def lines(name, numbers, preset="stages", seed=0, weights="pretrained", log=None, probe="multi_layer", **changes):
    """[Result] of a run: ``numbers`` of the five stages; ``log``: {column: number at the end}."""
    recipe = get_recipe(name, preset, seed=seed, **changes)
    place = {"split": "test", "probe_dataset": recipe.probed_dataset, "weights": weights, "probe_train": "train"}
    shared = of_run(recipe, 100) | {"labels": 0.25 if preset == "stages" else 1.0}
    found = [Result(probe=probe, metric="top1", endpoint=stage, value=value, **shared, **place)
             for stage, value in zip(STAGES, numbers, strict=True)]  # fmt: skip
    for column, value in (log or {}).items():
        extra = {"curve": [[1.0, 2 * value], [2.0, value]]}
        found.append(Result(probe="vocabulary", metric=column, endpoint="", value=value, extra=extra,
                            **shared, **place | {"split": "train"}))  # fmt: skip
    return found


LOG = {"loss": 3.0, "accuracy": 0.4, "cosine_before_mph": 0.2, "cosine_after_mph": 0.9}
TABLE = {"relative_patch": (14, 31, 45, 49, 40), "rotation": (12, 34, 44, 55, 49), "npid": (14, 31, 40, 54, 57),
         "moco_v2": (14, 32, 45, 61, 66), "byol": (15, 34, 47, 62, 71)}  # fmt: skip


def all_runs():
    found = []
    for name, numbers in TABLE.items():
        found += lines(name, numbers)
    found += lines("maskco", (15, 33, 45, 55, 60), log=LOG)
    found += lines("maskco", (15, 30, 40, 40, 40), weights="random")
    found += lines("maskco_in", (15, 33, 45, 55, 60), log=LOG | {"loss": 3.5})
    found += lines("maskco", (15, 33, 45, 55, 38), task__mph="none")
    found += lines("maskco", (15, 33, 45, 52, 51), task__mph="none", task__fill="none")
    return found


def test_claims_are_weighed_by_the_common_rule():
    settings = settings_of(all_runs())
    claims = {c.number: c for c in maskco_claims(settings)}
    assert [c.verdict for c in claims.values()] == [HOLDS] * 6
    assert claims[6].reason.startswith("conv5 +20.0")
    worse = settings_of([*lines("maskco", (15, 33, 45, 66, 79), task__mph="none"), *lines("moco_v2", (1, 1, 1, 1, 50)),
                         *lines("maskco", (15, 33, 45, 59, 65))])  # fmt: skip
    assert [c.verdict for c in maskco_claims(worse)] == [OPEN, OPEN, FAILS, OPEN, FAILS, OPEN]
    assert chance(vars(get_recipe("maskco", "paper").task)) == pytest.approx(6.2086, abs=1e-4)
    assert chance(vars(get_recipe("maskco_in", "paper").task)) == pytest.approx(6.2403, abs=1e-4)


def test_tables_figures_and_the_page():
    settings = settings_of(all_runs())
    table = methods_table(settings)
    assert [row[0] for row in table.rows[::3]] == [
        "Relative-Pos", "Rotation", "NPID", "MoCo v2", "BYOL", "MaskCo", "MaskCo(+in)",
    ]
    assert table.rows[3 * 5][2:] == ["15.0 (1)", "30.0 (1)", "40.0 (1)", "40.0 (1)", "40.0 (1)"]
    names = {name_of(s) for s in settings}
    assert {"MaskCo", "MaskCo, mask, no MPH", "MaskCo, no mask, no MPH", "MaskCo(+in)"} <= names
    blocks = find_paper("maskco").ours(all_runs())
    drawn = [b for b in blocks if isinstance(b, Picture)]
    assert [p.path for p in drawn] == ["maskco/stages.png", "maskco/training.png"]
    assert all(p.png[:4] == b"\x89PNG" for p in drawn)
    (verdicts,) = [b for b in blocks if isinstance(b, Table) and "verdict" in b.columns]
    assert [row[2] for row in verdicts.rows] == [f"**{HOLDS}**"] * 6


def test_ours_of_the_published_scale_stands_beside_its_number():
    mine = lines("maskco", (1.5, 2.5, 3.5, 4.5, 5.5), preset="paper")
    mine = [dataclasses.replace(r, probe_train="trainval") for r in mine]
    short = lines("maskco", (1.5, 2.5, 3.5, 4.5, 5.5), preset="paper", epochs=3)
    for results, text in ((mine, "5.5 (1)"), (short, "")):
        (_, table), *_ = paper_tables(settings_of(results), ROWS)
        (line,) = [line for line in table.rows if line[0] == "MaskCo"]
        assert line[9:11] == ["65.1", text]


def test_the_cells_of_the_mask_sweep_are_options_of_a_run():
    found = {v.name: v for v in find_paper("maskco").sweeps["maskco-mask"]}
    assert set(found) == {"maskco-mask_nomph", "maskco-mask_mph", "maskco-nomask_nomph", "maskco-nomask_mph"}
    assert isinstance(found["maskco-mask_mph"], Variant)
    assert found["maskco-nomask_nomph"].flags == ("--task.fill", "none", "--task.mph", "none")


def test_the_picture_of_what_mph_predicts():
    recipe = get_recipe("maskco", "smoke", backbone="tiny")
    source = open_source("digits", "val")
    model = build_pretext(recipe, source)
    found = prediction.predicted(model, source.first(24), 0, shown=2)
    assert set(found.cosines) == {(view, step) for view in ("masked", "whole") for step in ("before", "after")}
    for values in (*found.cosines.values(), *found.others.values()):
        assert values.shape == (24,) and (abs(values) <= 1 + 1e-5).all()
    assert found.images.shape == found.covered.shape == (2, 32, 32, 3) and found.boxes.shape == (2, 4)
    assert found.maps["after"].shape[0] == 2
    # A network that has seen nothing sees the whole region more like the target does, which is its copy.
    assert found.cosines["whole", "before"].mean() > found.cosines["masked", "before"].mean()
    assert prediction.rows_figure(found)[:4] == b"\x89PNG"
    table = prediction.numbers_table(found)
    assert len(table.rows) == 2 and "24 images" in table.notes[0]
