"""Which runs stand beside a paper's number: those that were trained and probed as published, in all that decides it."""

import dataclasses

import pytest

from revisit_ssl.evaluation.rows import of_run
from revisit_ssl.papers import get_recipe, published_recipe
from revisit_ssl.papers.cld.methods import settings_of as cld_settings
from revisit_ssl.papers.cld.tables import paper_tables as cld_tables
from revisit_ssl.papers.obow.tables import paper_tables as obow_tables
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.revisiting.tables import paper_tables as revisiting_tables
from revisit_ssl.recipe import override
from revisit_ssl.report import scale
from revisit_ssl.runs.identity import recipe_id, seen
from revisit_ssl.runs.results import Result


def line(recipe, probe, value, *, endpoint="pre_logits", metric="top1", **more):
    """The Result that a run of the recipe writes for a probe of it, with the options that it has there."""
    options = recipe.probes[probe].settled(recipe.task) if probe in recipe.probes else None
    told = {
        "weights": "pretrained", "endpoint": endpoint, "metric": metric, "value": value, "probe": probe,
        "probe_dataset": recipe.probed_dataset, "split": recipe.bench.split, "labels": recipe.bench.fraction or 1.0,
        "probe_train": recipe.bench.train, "bench": seen(recipe.bench),
        "hyperparameters": dataclasses.asdict(options) if options else {},
    }
    return Result(**of_run(recipe, 1000) | told | more)


def cells_of(found, start, *labels):
    """The cells of the row of that table that begins with the labels."""
    (table,) = [table for title, table in found if title.startswith(start)]
    (row,) = [row for row in table.rows if tuple(cell.strip("*") for cell in row[: len(labels)]) == labels]
    return [cell.strip("*") for cell in row]


def shown(rows):
    """Whether NPID + CLD on CIFAR-10 has a number of ours."""
    cells = cells_of(cld_tables(cld_settings(rows), load_published("cld")), "CIFAR", "NPID + CLD")
    return [cell for cell in cells if cell.startswith("86.0")] == ["86.0 (1)"]


# What no option and no length of a line says, but what decides its number; how exactly a machine computes may differ.
CIFAR = [
    ({}, True), ({"precision": "mixed_bfloat16", "deterministic": True}, True), ({"seed": 3}, True),
    ({"views__scale": (0.08, 1.0)}, False), ({"optimizer__lr": 0.03}, False),
    ({"optimizer__weight_decay": 1e-4}, False),
    ({"backbone_options__norm": "sync"}, False), ({"backbone_options__bn_group": 32}, False),
    ({"probes__knn__temperature": 0.07}, False), ({"probes__knn__neighbours": 20}, False),
    ({"bench__method": "central_fraction"}, False), ({"bench__train": "train"}, False),
    ({"bench__fraction": 0.1}, False), ({"bench__dataset": "stl10"}, False), ({"task__cld__groups": 17}, False),
    ({"epochs": 100}, False), ({"batch_size": 64}, False), ({"fraction": 0.5}, False),
]


@pytest.mark.parametrize(("changes", "stands"), CIFAR)
def test_a_cell_of_clds_tables_is_of_runs_as_published(changes, stands):
    recipe = get_recipe("npid_cld", "cifar10", **changes)
    assert shown([line(recipe, "knn", 86.0, endpoint="projection")]) == stands


@pytest.mark.parametrize(("sigma", "alike"), [(0.2, True), (0.1, False)])
def test_sigma_moves_with_the_temperature_that_a_table_varies(sigma, alike):
    recipe, published = (make("npid_cld", "cifar10") for make in (get_recipe, published_recipe))
    recipe = override(recipe, task__temperature=0.2)
    row = line(recipe, "knn", 86.0, hyperparameters={"temperature": sigma})
    assert scale.at_scale(row, published, {"temperature": 0.2}) and not scale.at_scale(row, published)
    assert scale.probed_as(row, published) == alike


# A reading of Revisiting's setting, changes of its recipe, whether it stands in Table 1.
ROTATION = [
    ("paper", {}, True), ("v3-8", {}, True), ("gpu", {}, True), ("paper", {"precision": "mixed_bfloat16"}, True),
    ("paper", {"backbone_options__recompute": True}, True),
    ("paper", {"views__color": "none"}, False), ("paper", {"optimizer__weight_decay": 0.0}, False),
    ("paper", {"backbone_options__norm": "sync"}, False), ("paper", {"batch_size": 256}, False),
    ("paper", {"bench__pooling": "avg"}, False), ("paper", {"probes__lbfgs__penalty_scale": 1.0}, False),
    ("paper", {"epochs": 20}, False), ("paper", {"fraction": 0.5}, False),
]


@pytest.mark.parametrize(("preset", "changes", "stands"), ROTATION)
def test_a_cell_of_revisitings_tables_is_of_runs_as_published(preset, changes, stands):
    recipe = get_recipe("rotation", preset, width=4, backbone="revnet50", **changes)
    cells = cells_of(revisiting_tables([line(recipe, "lbfgs", 46.0)]), "Table 1:", "Rotation", "RevNet50")
    assert ("46.0 (1)" in cells) == stands


# A set of fewer labels of ImageNet, and the column that its fine-tuning belongs to: 9 is 1 %, 10 is 10 %.
FEW = [
    ("imagenet2012", 0.01, 40, 9), ("imagenet2012_subset_1pct", 0.01, 40, 9),
    ("imagenet_list:/1percent.txt", 0.01, 40, 9), ("imagenet_list:/10percent.txt", 0.1, 20, 10),
    ("imagenet2012_subset", 0.1, 20, 10),
    ("imagenet2012_subset_1pct", 0.01, 20, None),  # fine-tuned half as long as published
    ("imagenet_list:/hundred_classes.txt", 1.0, 20, None), ("imagenet_lt", 0.01, 40, None),
]


@pytest.mark.parametrize(("dataset", "labels", "epochs", "column"), FEW)
def test_few_labels_stand_in_their_column_as_whatever_set_they_come(dataset, labels, epochs, column):
    recipe = get_recipe("obow", "paper")
    told = {"hyperparameters": {"epochs": epochs, "lr": 2e-4, "head_multiplier": 2500.0, "weight_decay": 0.0}}
    row = line(recipe, "finetune", 81.0, metric="top5", probe_dataset=dataset, labels=labels, **told)
    (table,) = [t for title, t in obow_tables([], [row], load_published("obow")) if title.startswith("Main table")]
    last = table.rows[-1]
    found = [i for i, cell in enumerate(last) if cell == "81.0" and last[0].startswith("**OBoW, ours")]
    assert found == ([] if column is None else [column])


def test_a_line_of_options_that_there_are_no_more_is_not_at_scale():
    recipe = get_recipe("rotation", "paper")
    row = dataclasses.replace(line(recipe, "lbfgs", 1.0), task={"forgotten": 1})
    assert recipe_id(recipe) == row.recipe and not scale.trained_as(row, recipe)
