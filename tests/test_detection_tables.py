"""The papers' tables of detectors: which of our lines stand in them, seeds, columns; every published number once."""

import dataclasses
import json

import pytest

from revisit_ssl.papers import find_paper, published_recipe
from revisit_ssl.papers.cld.protocols import PROTOCOLS
from revisit_ssl.papers.cld.tables import paper_tables
from revisit_ssl.papers.detection_tables import heading
from revisit_ssl.papers.maskco.tables import paper_tables as maskco_tables
from revisit_ssl.papers.pages import elsewhere
from revisit_ssl.papers.published import load_published
from revisit_ssl.recipe import override
from revisit_ssl.runs.identity import LENGTH, recipe_id
from revisit_ssl.runs.results import Result

PUBLISHED = load_published("cld")


def line(recipe, dataset, metric, value, seed=0, changed=(), **more):
    """A Result of a detector on a network of the published scale."""
    options = dataclasses.asdict(PROTOCOLS[dataset.partition(":")[0]]["detection"]) | dict(changed)
    return Result(
        pretext=recipe.pretext, name=recipe.name, backbone=recipe.backbone, width=recipe.width, dataset=recipe.dataset,
        task=json.loads(json.dumps(dataclasses.asdict(recipe.task))), recipe=recipe_id(recipe), steps=9, seed=seed,
        training={name: getattr(recipe, name) for name in LENGTH}, probe="detection", endpoint="block3",
        probe_dataset=dataset, hyperparameters=json.loads(json.dumps(options)), metric=metric, value=value,
        **{"weights": "pretrained", "split": "test"} | more,
    )


def table_of(results):
    return next(table for title, table in paper_tables([], PUBLISHED, results) if title.startswith("VOC, detection"))


def test_published_numbers_with_none_of_ours():
    table = table_of([])
    assert table.heads == (("", 2), ("VOC07+12, AP", 2), ("VOC07+12, AP50", 2), ("VOC07+12, AP75", 2))
    assert table.rows == [
        ["Supervised", "", "53.5", "", "81.3", "", "58.8", ""],
        ["MoCo", "200", "55.9", "", "81.5", "", "62.6", ""],
        ["MoCo v2", "200", "57.0", "", "82.4", "", "63.6", ""],
    ]


@pytest.mark.parametrize("name", ["cld", "obow"])
def test_rows_of_detectors_stand_in_a_table_and_not_among_the_others(name):
    paper = find_paper(name)
    rows = [r for r in paper.published if r["probe"] == "detection"]
    assert len(rows) == {"cld": 9, "obow": 21}[name] and {r["dataset"] for r in rows} == {"voc0712"}
    assert {r["metric"] for r in rows} == {"ap", "ap50", "ap75"}
    assert not [r for r in elsewhere(paper) if r["probe"] == "detection"]


def test_ours_by_the_protocol_stands_beside_with_its_seeds():
    plain, with_cld = (published_recipe(name, "paper") for name in ("moco_v2", "moco_v2_cld"))
    rows = [line(dataclasses.replace(with_cld, seed=s), "voc0712:/VOCdevkit", "ap50", 82 + s, s) for s in (0, 1, 2)]
    rows += [line(plain, "voc0712", "ap", 56.0), line(with_cld, "voc07", "ap", 48.0)]
    table = table_of(rows)
    found = {tuple(row[:2]): dict(zip(table.names, row, strict=True)) for row in table.rows}
    assert table.names[-1] == "VOC07, AP ours"
    ours = found["MoCo v2 + CLD", f"{with_cld.epochs:g}"]
    assert ours["VOC07+12, AP50 ours"] == "83.0 ± 1.0 (3)" and ours["VOC07, AP ours"] == "48.0 (1)"
    assert found["MoCo v2", f"{plain.epochs:g}"]["VOC07+12, AP ours"] == "56.0 (1)"
    assert found["MoCo v2", "200"]["VOC07+12, AP paper"] == "57.0"


@pytest.mark.parametrize(
    "more",
    [
        {"changed": {"iterations": 12_000}}, {"changed": {"learning_rate": 0.01}}, {"weights": "random"},
        {"split": "val"},
    ],
    ids=["fewer steps", "another rate", "untrained", "not the test"],
)
def test_another_protocol_stands_nowhere(more):
    recipe = published_recipe("moco_v2_cld", "paper")
    assert table_of([line(recipe, "voc0712", "ap", 50.0, **more)]).rows == table_of([]).rows
    shorter = dataclasses.replace(recipe, epochs=recipe.epochs / 2)
    assert table_of([line(shorter, "voc0712", "ap", 50.0)]).rows == table_of([]).rows


def test_tables_of_maskco():
    """OpenSelfSup's and MoCo's numbers by their authors; ours of MaskCo below; Table 2 takes ours of its ablation."""
    published, (recipe, ablated) = load_published("maskco"), (
        published_recipe("maskco", preset, backbone="resnet50_torch", width=4) for preset in ("paper", "coco")
    )
    ablated = override(ablated, task__fill="none", task__mph="none")
    rows = [line(recipe, "voc0712", "ap50", 82.0), line(ablated, "voc0712", "ap", 54.0)]
    found = maskco_tables([], published, rows)
    table = next(table for title, table in found if title.startswith("Detection on VOC07+12"))
    cells = {tuple(row[:3]): dict(zip(table.names, row, strict=True)) for row in table.rows}
    assert cells["MoCo v2", "", "OpenSelfSup"]["VOC07+12, AP50 paper"] == "82.2"
    assert cells["MoCo v2", "800", "MoCo"]["VOC07+12, AP75 paper"] == "64.0"
    assert cells["MaskCo", "200", "ours"]["VOC07+12, AP50 ours"] == "82.0 (1)"
    second = next(table for title, table in found if title.startswith("Table 2"))
    ours = {row[0]: dict(zip(second.names, row, strict=True))["VOC AP ours"] for row in second.rows}
    assert ours == {"mask": "", "no mask": "54.0 (1)"}
    coco = next(table for title, table in found if title.startswith("Boxes and masks on COCO"))
    supervised = coco.rows[0]
    assert supervised[:4] == ["Supervised", "", "OpenSelfSup", "40.0"] and supervised[-2:] == ["36.9", ""]
    assert [r for r in elsewhere(find_paper("maskco")) if r["probe"] == "segmentation"] == []


def test_names_of_columns():
    names = [heading(*pair) for pair in (("voc07", "ap"), ("coco", "box_ap50"), ("coco", "mask_ap75"))]
    assert names == ["VOC07, AP", "COCO, boxes, AP50", "COCO, masks, AP75"]
