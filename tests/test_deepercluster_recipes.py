"""Recipes and numbers of DeeperCluster against what the supplement says, typed from there once more."""

import collections
import statistics

import pytest

from revisit_ssl.evaluation.rows import of_run
from revisit_ssl.papers import RECIPES, get_recipe
from revisit_ssl.papers.deepercluster.methods import settings_of
from revisit_ssl.papers.deepercluster.tables import paper_tables
from revisit_ssl.papers.published import load_published
from revisit_ssl.runs.results import Result

ROWS = load_published("deepercluster")
# Supplement 5: network, Sobel, batch, rate, dropout, epochs between clusterings, clusters, super-clusters, PCA.
SETTINGS = {
    "rotnet/paper": ("vgg16_bn", False, 512, 0.05, 0.3),
    "rotnet/imagenet": ("vgg16_bn", False, 512, 0.05, 0.3),
    "deepcluster/paper": ("vgg16_bn", True, 256, 0.05, 0.5, 2, 10_000, 1, 256),
    "deepercluster/paper": ("vgg16_bn", True, 3072, 0.1, 0.5, 3, 320_000, 4, None),
    "deepercluster/imagenet": ("vgg16_bn", True, 768, 0.1, 0.5, 5, 10_000, 1, None),
    "deepcluster/imagenet": ("alexnet", True, 256, 0.05, 0.5, 1, 10_000, 1, 256),
}


@pytest.mark.parametrize("key", SETTINGS)
def test_hyper_parameters_of_the_six_experiments(key):
    recipe = get_recipe(*key.split("/"))
    task, o, options = recipe.task, recipe.optimizer, recipe.backbone_options
    found = [recipe.backbone, options.sobel, recipe.batch_size, o.lr, options.dropout]
    if recipe.pretext != "rotnet":
        found += [task.every, task.clusters, task.super_clusters, task.dim_pca]
    assert tuple(found) == SETTINGS[key]
    assert (o.name, o.momentum, o.weight_decay, o.decay, o.schedule) == ("sgd", 0.9, 1e-5, "all", "constant")
    assert not o.scale_lr and not o.nesterov and o.warmup_epochs == 0
    v = recipe.views
    assert (v.crop, v.size, v.scale, v.ratio, v.operations) == ("resized", 224, (0.08, 1.0), (3 / 4, 4 / 3), ("flip",))
    assert (v.normalize, recipe.width, options.fc) == ("imagenet", 8, 512)


def test_numbers_of_k_means():
    deeper, flat = (get_recipe(name, "paper").task for name in ("deepercluster", "deepcluster"))
    assert (deeper.iterations, deeper.eigenvalue_floor, deeper.head_grad) == (10, 1e-5, "group_mean")
    assert (deeper.sub_clusters, deeper.super_classes, deeper.resize) == (80_000, 16, 256)
    assert (flat.iterations, flat.eigenvalue_floor, flat.super_classes) == (20, 0.0, 1)


@pytest.mark.parametrize("name", ["deepercluster", "deepercluster_rgb", "deepcluster", "deepcluster_rgb", "rotnet",
                                  "rotnet_sobel"])
@pytest.mark.parametrize("preset", ["sample", "cifar10"])
def test_colours_and_sobel_differ_in_nothing_else(name, preset):
    recipe = get_recipe(name, preset)
    sobel = name in ("deepercluster", "deepcluster", "rotnet_sobel")
    assert recipe.backbone_options.sobel == sobel
    other = get_recipe(name.partition("_")[0], preset)
    assert (recipe.task, recipe.views, recipe.epochs, recipe.optimizer) == (
        other.task, other.views, other.epochs, other.optimizer,
    )
    assert recipe.batch_size % getattr(recipe.task, "super_classes", 4) == 0


@pytest.mark.parametrize(
    ("table", "count", "mean"),
    # Worked out from the supplement's own tables: a slip in any cell shows.
    [("Table 1", 78, 31.8115), ("Table 2", 7, 74.0286), ("Table 3", 18, 54.6444), ("Table 4", 4, 71.975)],
)
def test_every_cell_of_the_supplements_tables(table, count, mean):
    cells = [row["value"] for row in ROWS if row["table"] == table and row["confirmed"] == "yes"]
    assert len(cells) == count
    assert statistics.mean(cells) == pytest.approx(mean, abs=5e-5)


@pytest.mark.parametrize(
    ("pretext", "dataset", "endpoint", "value"),
    [("deepercluster", "imagenet2012", "conv12", 49.2), ("rotnet", "places205", "conv11", 38.8),
     ("supervised", "imagenet2012", "conv13", 70.2), ("deepcluster", "paris6k", "conv13", None)],
)
def test_confirmed_numbers(pretext, dataset, endpoint, value):
    found = [r["value"] for r in ROWS if (r["pretext"], r["dataset"], r["endpoint"]) == (pretext, dataset, endpoint)]
    assert found == ([value] if value else [74.9, 74.6])


def test_one_line_per_number():
    names = [name for name in ROWS[0] if name not in ("value", "confirmed", "source")]
    counts = collections.Counter(tuple(row[name] for name in names) for row in ROWS)
    assert max(counts.values()) == 1


def test_ours_of_the_published_scale_stands_beside_its_number():
    recipe = get_recipe("deepercluster", "paper")
    place = {"probe": "linear_images", "metric": "top1", "split": "test", "probe_train": "trainval"}
    place |= {"weights": "pretrained", "endpoint": "conv12", "probe_dataset": "imagenet2012"}
    mine = [Result(value=12.3, **of_run(recipe, 9), **place)]
    short = [Result(value=45.6, **of_run(get_recipe("deepercluster", "paper", epochs=3), 9), **place)]
    for results, text in ((mine, "12.3 (1)"), (short, "")):
        (_, table), *_ = paper_tables(settings_of(results), ROWS)
        (line,) = [line for line in table.rows if line[:2] == ["ImageNet", "DeeperCluster"]]
        assert line[2 + 2 * 11 : 4 + 2 * 11] == ["49.2", text]


def test_all_names_have_a_sample_and_a_smoke():
    names = {key.partition("/")[0] for key in RECIPES if RECIPES[key].__module__.endswith("deepercluster.recipes")}
    assert len(names) == 6
    assert all({f"{name}/{preset}" for preset in ("sample", "cifar10", "smoke")} <= set(RECIPES) for name in names)
