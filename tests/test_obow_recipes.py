"""Recipes of OBoW against what the supplement and the released configurations say, typed from there once more."""

import dataclasses

import pytest

from revisit_ssl.commands.run import parse_run
from revisit_ssl.papers import NAMES, RECIPES, get_recipe, presets_of
from revisit_ssl.papers.obow import recipes as obow
from revisit_ssl.training.optimizers import build_optimizer

# Levels, large crops, patches, K, inv_delta, kappa, batch, epochs, decay: specification E.
SETTINGS = {
    "obow_vanilla/imagenet20": (1, 1, 0, 8192, 10, 5, 256, 80, 5e-4),
    "obow/imagenet20": (2, 2, 5, 8192, 10, 5, 128, 80, 5e-4),
    "obow/paper": (2, 2, 5, 8192, 15, 8, 256, 200, 1e-4),
}


@pytest.mark.parametrize("key", SETTINGS)
def test_hyper_parameters_of_the_runs(key):
    recipe = RECIPES[key]()
    task, optimizer = recipe.task, recipe.optimizer
    numbers = (task.levels, task.crops, task.patches, task.words, task.inv_delta, task.kappa)
    assert (*numbers, recipe.batch_size, recipe.epochs, optimizer.weight_decay) == SETTINGS[key]
    assert (optimizer.decay, optimizer.momentum, optimizer.nesterov, optimizer.name) == ("all", 0.9, False, "sgd")
    assert (task.vocabulary, task.sampling, task.pool, task.crop_loss) == (
        "queue", "local_average", "max", "sum_of_means",
    )
    assert (task.momentum, task.mu_momentum, task.bias_correct_mu, task.monitor) == (0.99, 0.99, False, False)
    assert recipe.split == recipe.bench.train == "trainval" and recipe.protocol == "obow"
    # Section D: 160 and 96 of 224 pixels, 256 before, moves of up to 24.
    assert task.sides(recipe.views.size) == (160, 96, 24, 256)


def test_networks_and_data():
    assert {get_recipe(name, "imagenet20").backbone for name in obow.OBOW} == {"resnet18_torch"}
    assert {get_recipe(name, "imagenet20").dataset for name in obow.OBOW} == {"imagenet20"}
    paper = get_recipe("obow", "paper")
    assert (paper.backbone, paper.width, paper.norm, paper.dataset) == ("resnet50_torch", 4, "sync", "imagenet2012")


def test_rates_change_once_an_epoch_and_warm_up_step_by_step():
    recipe = get_recipe("obow", "paper")
    schedule = build_optimizer(recipe.optimizer, batch_size=256, steps_per_epoch=10, total_steps=2000)._learning_rate
    # 0.03 at the end of the ten epochs of warm-up; 3.205e-5 in the last epoch (specification E).
    for step, rate in {0: 0.0, 50: 0.015, 100: 0.03, 105: 0.03, 1990: 3.205e-5, 1999: 3.205e-5}.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-3, abs=1e-9)
    recipe = get_recipe("obow_vanilla", "imagenet20")
    schedule = build_optimizer(recipe.optimizer, batch_size=256, steps_per_epoch=10, total_steps=800)._learning_rate
    for step, rate in {0: 0.05, 9: 0.05, 400: 0.025, 405: 0.025}.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-3)


@pytest.mark.parametrize("key", ["obow/paper", "obow_vanilla/imagenet20"])
def test_augmentations_in_their_order(key):
    views = RECIPES[key]().views
    assert tuple(name for name in views.order if name in views.operations) == ("color", "gray", "blur", "flip")
    assert (views.crop, views.size, views.scale, views.ratio) == ("resized", 224, (0.08, 0.6), (3 / 4, 4 / 3))
    assert (views.color, views.jitter, views.jitter_probability) == ("jitter", (0.4, 0.4, 0.4, 0.1), 0.8)
    assert (views.gray_probability, views.blur_probability, views.blur_sigma) == (0.2, (0.5,), (0.1, 2.0))
    bench = RECIPES[key]().bench
    assert (views.normalize, bench.method, bench.resize, bench.size) == ("imagenet", "shorter_side", 256, 224)
    assert RECIPES[key]().task.patch_scale == (0.6, 1.0)


@pytest.mark.parametrize(
    ("key", "numbers"),
    [
        ("obow_vanilla/imagenet20", ("42.11", "62.44", "45.86")),
        ("obow/imagenet20", ("44.18", "64.89", "50.89")),
        ("obow/paper", ("73.8",)),
    ],
)
def test_a_published_setting_says_what_is_reported_of_it(key, numbers):
    published = RECIPES[key]().source.partition("published: ")[2]
    assert all(f"{number} (" in published for number in numbers)


@pytest.mark.parametrize("preset", ["imagenette", "cifar10"])
def test_the_methods_of_the_study_differ_in_what_they_are_alone(preset):
    # Network, data, length and probes are the same, and the optimiser but for its rate.
    recipes = [get_recipe(name, preset) for name in obow.PRETEXT_OF if preset in presets_of(name)]
    assert len(recipes) > 2
    for field in ("backbone", "width", "dataset", "fraction", "batch_size", "epochs", "probes", "bench"):
        assert len({repr(getattr(recipe, field)) for recipe in recipes}) == 1, field
    # MoCo alone has keys that shuffling hides something from: an eighth of a batch, as on its 8 GPUs.
    assert len({dataclasses.replace(recipe.backbone_options, bn_group=None) for recipe in recipes}) == 1
    groups = {recipe.name: recipe.bn_group for recipe in recipes}
    assert {name for name, group in groups.items() if group == 4} == {"moco_v2_plain", "moco_v2_multicrop"}
    assert {group for name, group in groups.items() if "moco" not in name} == {None}
    assert len({dataclasses.replace(recipe.optimizer, lr=1.0) for recipe in recipes}) == 1
    # Deltas of section D: crops of 48, patches of 32 of 64 pixels, moves of 8.
    sides = {"imagenette": (48, 32, 8, 72), "cifar10": (24, 16, 4, 32)}
    assert get_recipe("obow", preset).task.sides(recipes[0].views.size) == sides[preset]


def test_words_live_32_steps_in_our_own_runs():
    for name in obow.OBOW:
        for preset in ("sample", "imagenette", "cifar10"):
            recipe = get_recipe(name, preset)
            assert 32 <= recipe.task.words / recipe.batch_size <= 64
    sample = get_recipe("obow", "sample")
    assert (sample.task.levels, sample.task.crops, sample.task.patches, sample.task.crop_size) == (1, 1, 0, 48)
    assert (sample.task.words, sample.batch_size) == (1024, 32)


def test_every_name_is_there_and_vanilla_is_what_its_name_says():
    assert {key.partition("/")[0] for key in obow.RECIPES} <= set(NAMES)
    full, vanilla = (parse_run([name, "--preset", "imagenette"]).recipe.task for name in obow.OBOW)
    assert (full.levels, full.crops, full.patches) == (2, 2, 5)
    assert (vanilla.levels, vanilla.crops, vanilla.patches) == (1, 1, 0)
    assert parse_run(["obow_vanilla", "--preset", "smoke", "--task.words", "96"]).recipe.task.words == 96


def test_teacher_maps_are_large_enough_for_border_and_mean():
    # 8 x 8 cells: 6 x 6 without the border, 4 x 4 places of the mean of 3 x 3.
    from revisit_ssl.backbones import without_values
    from revisit_ssl.training.build import build_backbone

    for preset in ("sample", "imagenette", "cifar10"):
        recipe = get_recipe("obow", preset)
        network = without_values(lambda recipe=recipe: build_backbone(recipe))
        size = recipe.views.size
        shapes = network.compute_output_shape((1, size, size, 3))
        assert shapes["block4"][1:3] == shapes["block3"][1:3] == (8, 8)
