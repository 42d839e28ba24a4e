"""Recipes of CLD and its base methods against what the scripts and the supplement say, typed from there once more."""

import dataclasses
import math

import pytest

from revisit_ssl.commands.run import parse_run
from revisit_ssl.errors import InputError
from revisit_ssl.papers import NAMES, RECIPES, get_recipe
from revisit_ssl.papers.cld import recipes as cld
from revisit_ssl.runs.identity import chosen, recipe_id
from revisit_ssl.training.monitor import knn_temperature
from revisit_ssl.training.optimizers import build_optimizer

# Batch, groups, T_I, T_G, weight, decay of the runs whose scripts are released, and of ImageNet-100 (supplement).
SETTINGS = {
    "npid_cld/cifar10": (256, 128, 0.1, 0.2, 1.0, 7e-4),
    "npid_cld/cifar100": (256, 200, 0.1, 0.2, 1.0, 7e-4),
    "moco_cld/cifar10": (256, 200, 0.07, 0.2, 0.8, 8e-4),
    "moco_cld/cifar10-first": (128, 100, 0.07, 0.2, 0.25, 7e-4),
    "moco_cld/cifar100": (128, 100, 0.07, 0.2, 0.25, 7e-4),
    "moco_v2_cld/paper": (512, 120, 0.2, 0.4, 0.25, 1e-4),
    "infomin_cld/paper": (512, 120, 0.15, 0.8, 0.25, 1e-4),
    "npid_cld/supplement": (256, 128, 0.2, 0.2, 0.25, 1e-4),
    "npid_cld/imagenet100": (512, 120, 0.2, 0.2, 0.25, 1e-4),
    "moco_cld/imagenet100": (512, 120, 0.2, 0.2, 0.25, 1e-4),
    "npid_cld/kitchen_hc": (256, 10, 0.1, 0.2, 1.0, 1e-4),
    "npid_cld/stl10": (256, 128, 0.1, 0.2, 1.0, 1e-4),
    "npid_cld/cifar10_lt": (256, 128, 0.1, 0.2, 1.0, 7e-4),
    "npid_cld/cifar100_lt": (256, 200, 0.1, 0.2, 1.0, 7e-4),
}
# Peak rate, whatever it is written as in a recipe.
PEAKS = {
    "npid/cifar10": 0.03,
    "npid_cld/cifar10": 0.06,
    "moco_cld/cifar10": 0.06,
    "moco_cld/cifar10-first": 0.03,
    "moco_cld/cifar100": 0.03,
    "npid_cld/supplement": 0.03,
    "npid_cld/kitchen_hc": 0.03,
    "npid_cld/stl10": 0.03,
    "npid_cld/imagenet100": 0.8,
    "moco/demo": 0.06,
    "moco/paper": 0.03,
    "moco_v2/paper": 0.03,
    "moco_v2_cld/paper": 0.2,
    "infomin/paper": 0.03,
    "infomin_cld/paper": 0.2,
    "byol/paper": 4.8,
    "byol/openselfsup": 0.2,
    "simclr/paper": 4.8,
}
# What the README, the supplement and the base methods' own pages report of these very settings.
NUMBERS = {
    "npid/cifar10": "80.8",
    "npid/cifar100": "51.6",
    "npid_cld/cifar10": "86.8",
    "npid_cld/cifar100": "58.8",
    "npid_cld/supplement": "86.5",
    "npid_cld/kitchen_hc": "78.9",
    "npid/imagenet100": "75.3",
    "npid_cld/imagenet100": "79.7",
    "moco/imagenet100": "77.6",
    "moco_cld/imagenet100": "81.7",
    "moco_cld/cifar100": "59.7",
    "moco/demo": "82.6",
    "moco/paper": "60.8",
    "moco_v2/paper": "67.5",
    "moco_v2_cld/paper": "70.0",
    "infomin/paper": "67.4",
    "infomin_cld/paper": "70.1",
    "byol/openselfsup": "71.61",
}


def recipe_of(key):
    return RECIPES[key]()


@pytest.mark.parametrize("key", SETTINGS)
def test_hyper_parameters_of_the_runs(key):
    recipe = recipe_of(key)
    task, spec = recipe.task, recipe.task.cld
    numbers = (recipe.batch_size, spec.groups, task.temperature, spec.temperature, spec.weight)
    assert (*numbers, recipe.optimizer.weight_decay) == SETTINGS[key]
    assert spec.iterations == 5 and recipe.optimizer.decay == "all" and recipe.optimizer.momentum == 0.9
    assert (spec.clustering, spec.branch, spec.cross, spec.stop_gradient) == ("kmeans", "separate", True, False)


def test_memories_and_heads():
    def of(key):
        task = recipe_of(key).task
        return (task.queue_size, task.momentum, task.head)

    assert of("moco_cld/cifar10") == (12288, 0.999, "normlinear")
    assert of("moco_cld/cifar100") == of("moco_cld/cifar10-first") == (4096, 0.999, "normlinear")
    assert of("moco_v2_cld/paper") == of("infomin_cld/paper") == (65536, 0.999, "normmlp")
    assert of("moco/demo") == (4096, 0.99, "linear") and recipe_of("moco/demo").bn_group == 512 // 8
    npid = recipe_of("npid_cld/cifar10").task
    assert (npid.loss, npid.negatives, npid.bank_momentum, npid.bank_semantics) == ("softmax", 0, 0.5, "legacy")
    assert (npid.views, npid.head, recipe_of("moco_cld/cifar10").task.views) == (2, "linear", 3)
    first = recipe_of("npid/paper").task
    assert (first.loss, first.negatives, first.temperature) == ("nce", 4096, 0.07)
    byol = recipe_of("byol/paper").task
    assert (byol.hidden, byol.units, byol.momentum, byol.last_bias) == (4096, 256, 0.99, False)
    assert (recipe_of("byol/openselfsup").task.momentum, recipe_of("byol/openselfsup").task.last_bias) == (0.996, True)


@pytest.mark.parametrize("key", PEAKS)
def test_peak_rates(key):
    recipe = recipe_of(key)
    spec = dataclasses.replace(recipe.optimizer, schedule="constant", warmup_epochs=0)
    optimizer = build_optimizer(spec, batch_size=recipe.batch_size, steps_per_epoch=10, total_steps=100)
    assert float(optimizer.learning_rate) == pytest.approx(PEAKS[key])


def test_the_schedule_of_the_cifar_script():
    # Spec H2 (8): the script's 196 steps an epoch, of which the last has 80 images.
    recipe = recipe_of("npid_cld/cifar10")
    optimizer = build_optimizer(recipe.optimizer, batch_size=256, steps_per_epoch=196, total_steps=39200)
    rates = {0: 6e-4, 196: 0.01248, 980: 0.06, 19600: 0.031208, 39199: 1e-6}
    schedule = optimizer._learning_rate
    for step, rate in rates.items():
        assert float(schedule(step)) == pytest.approx(rate, rel=5e-4)
    assert recipe.epochs == 200 and recipe.split == "trainval"


@pytest.mark.parametrize(("key", "first"), [("moco/demo", 1), ("moco_v2/paper", 0), ("byol/openselfsup", 0)])
def test_rates_that_change_once_an_epoch(key, first):
    # peak (1 + cos(pi (e + first) / 200)) / 2 in epoch e. The notebook counts from 1, MoCo and OpenSelfSup from 0.
    recipe = recipe_of(key)
    schedule = build_optimizer(
        recipe.optimizer, batch_size=recipe.batch_size, steps_per_epoch=10, total_steps=2000
    )._learning_rate
    for epoch in (2, 100, 199):
        rate = PEAKS[key] * (1 + math.cos(math.pi * (epoch + first) / 200)) / 2
        for step in (10 * epoch, 10 * epoch + 9):
            assert float(schedule(step)) == pytest.approx(rate, rel=1e-5, abs=1e-9)
    if key == "byol/openselfsup":  # mmcv's linear warm-up over two epochs, from 1e-4 of the rate
        assert [float(schedule(step)) for step in (0, 10)] == pytest.approx([2e-5, 0.1], rel=1e-3)


def test_infomin_s_schedule_ends_at_a_thousandth_of_its_rate():
    for key in ("infomin/paper", "infomin_cld/paper"):
        spec = recipe_of(key).optimizer
        assert spec.floor == pytest.approx(1e-3 * spec.lr)
    assert (spec.warmup_epochs, spec.warmup_from * spec.lr) == (5, pytest.approx(0.01))


# Section D of the specification: order, crop's smallest area, jitter and its chance, gray, blur, flip.
AUGMENTATIONS = {
    "npid_cld/cifar10": (("color", "gray", "flip"), 32, 0.2, (0.4, 0.4, 0.4, 0.4), 1.0),
    "moco_cld/cifar10": (("color", "gray", "blur", "flip"), 32, 0.2, (0.4, 0.4, 0.4, 0.1), 0.8),
    "npid_cld/kitchen_hc": (("color", "gray", "flip"), 32, 0.2, (0.4, 0.4, 0.4, 0.4), 1.0),
    "npid_cld/stl10": (("color", "gray", "flip"), 96, 0.2, (0.4, 0.4, 0.4, 0.4), 1.0),
    "moco/paper": (("gray", "color", "flip"), 224, 0.2, (0.4, 0.4, 0.4, 0.4), 1.0),
    "moco_v2_cld/paper": (("color", "gray", "blur", "flip"), 224, 0.2, (0.4, 0.4, 0.4, 0.1), 0.8),
    # Of the base methods (B1, B3, B4 and MoCo's notebook).
    "npid/cifar10": (("color", "gray"), 32, 0.2, (0.4, 0.4, 0.4, 0.4), 1.0),
    "moco/demo": (("flip", "color", "gray"), 32, 0.08, (0.4, 0.4, 0.4, 0.1), 0.8),
    "infomin_cld/paper": (
        ("flip", "color", "blur", "randaugment", "gray"), 224, 0.2, (0.8, 0.8, 0.8, 0.2), 0.8,
    ),
    "simclr/paper": (("flip", "color", "gray", "blur"), 224, 0.08, (0.8, 0.8, 0.8, 0.2), 0.8),
    "byol/paper": (("flip", "color", "gray", "blur", "solarize"), 224, 0.08, (0.4, 0.4, 0.2, 0.1), 0.8),
}


@pytest.mark.parametrize("key", AUGMENTATIONS)
def test_augmentations_in_their_order(key):
    order, size, area, jitter, chance = AUGMENTATIONS[key]
    views = recipe_of(key).views
    assert tuple(name for name in views.order if name in views.operations) == order
    assert (views.crop, views.size, views.scale, views.ratio) == ("resized", size, (area, 1.0), (3 / 4, 4 / 3))
    assert (views.color, views.jitter, views.jitter_probability) == ("jitter", jitter, chance)
    assert (views.gray_probability, views.gray, views.blur_sigma) == (0.2, "luma", (0.1, 2.0))


def test_what_only_some_augmentations_have():
    script = recipe_of("moco_cld/cifar10").views
    assert (script.erasing_probability, script.erasing_area, script.erasing_ratio) == (1.0, (0.02, 0.33), (0.3, 3.3))
    assert recipe_of("moco_cld/cifar10-first").views == recipe_of("npid_cld/cifar10").views  # neither of the two
    assert script.blur_probability == recipe_of("moco_v2/paper").views.blur_probability == (0.5,)
    byol = recipe_of("byol/paper").views
    assert (byol.blur_probability, byol.solarize_probability) == ((1.0, 0.1), (0.0, 0.2))
    infomin = recipe_of("infomin/paper").views
    assert (infomin.randaugment_layers, infomin.randaugment_magnitude, infomin.randaugment_deviation) == (2, 10.0, 0.5)
    assert (infomin.blur_probability, infomin.blur_taps, infomin.randaugment_probability) == ((0.5,), 23, 0.5)
    inputs = {"npid_cld/cifar10": "cifar", "npid_cld/stl10": "pm1", "moco/paper": "imagenet", "moco/demo": "cifar"}
    assert {key: recipe_of(key).views.normalize for key in inputs} == inputs
    kitchen = recipe_of("npid_cld/kitchen_hc").bench
    assert (kitchen.method, kitchen.resize, kitchen.size) == ("squash", 32, 32)


@pytest.mark.parametrize("key", NUMBERS)
def test_a_published_setting_says_what_is_reported_of_it(key):
    assert f"published: {NUMBERS[key]} (" in recipe_of(key).source or f"; {NUMBERS[key]} (" in recipe_of(key).source


@pytest.mark.parametrize("key", [key for key in RECIPES if key.partition("/")[0].endswith("_cld")])
def test_with_and_without_cld_differ_by_its_weight_alone(key):
    name, _, preset = key.partition("/")
    base = f"{name.removesuffix('_cld')}/{preset}"
    other_recipe = {"npid/cifar10", "npid/cifar100"}
    of_imagenet = preset in ("paper", "imagenet_lt", "semi_1pct", "semi_10pct")
    if base not in RECIPES or base in other_recipe or of_imagenet:
        return
    with_it, without = (chosen(recipe_of(k)) for k in (key, base))
    assert with_it["task"].pop("cld")["weight"] > 0
    spec = without["task"].pop("cld", {})
    assert spec.get("weight", 0.0) == 0
    for recipe in (with_it, without):
        recipe.pop("source")
        if preset == "smoke":  # the base method as it is by itself: one view, or two
            recipe["task"].pop("crops", None)
    assert with_it == without


def test_the_command_line_takes_cld_by_its_name():
    recipe = parse_run(["npid_cld", "--preset", "smoke", "--cld.weight", "0.5", "--cld.groups", "7"]).recipe
    assert (recipe.pretext, recipe.task.cld.weight, recipe.task.cld.groups) == ("npid", 0.5, 7)
    control = parse_run(["npid_cld", "--preset", "cifar10", "--cld.weight", "0"]).recipe
    assert control == get_recipe("npid_cld", "cifar10", task__cld__weight=0.0)
    assert control.task.views == 2, "the same script without the term"


def test_runs_of_a_method_with_and_without_cld_have_folders_of_their_own():
    from revisit_ssl.training.workdir import run_name

    names = {run_name(parsed.recipe, parsed.name) for parsed in (parse_run([n]) for n in ("npid", "npid_cld"))}
    assert names == {"npid-resnet18-k1-toy_scenes-s0", "npid_cld-resnet18-k1-toy_scenes-s0"}


def test_every_name_is_there_and_unknown_ones_get_one_line():
    assert set(cld.PRETEXT_OF) <= set(NAMES)
    with pytest.raises(InputError, match="unknown pretext 'npid_clD'; one of bownet, byol, byol_cld"):
        get_recipe("npid_clD")
    with pytest.raises(InputError, match="unknown preset 'v3-8' for npid_cld; one of cifar10, cifar100"):
        get_recipe("npid_cld", "v3-8")


def test_imagenet_lt_is_imagenets_setting_on_its_own_lists():
    for name in ("npid", "npid_cld", "moco", "moco_cld"):
        recipe, plain = recipe_of(f"{name}/imagenet_lt"), recipe_of(f"{name}/paper")
        assert (recipe.dataset, recipe.probed_dataset, recipe.bench.split) == ("imagenet_lt", "imagenet_lt", "test")
        same = dataclasses.replace(recipe, dataset="imagenet2012", source=plain.source)
        assert same == plain and (recipe.batch_size, recipe.epochs) == (256, 200)


@pytest.mark.parametrize(("preset", "share"), [("semi_1pct", 0.01), ("semi_10pct", 0.1)])
def test_semi_supervised_runs_have_the_weights_of_paper_and_the_search_of_the_supplement(preset, share):
    for name in cld.PRETEXT_OF:
        recipe, plain = recipe_of(f"{name}/{preset}"), recipe_of(f"{name}/paper")
        assert recipe_id(recipe) == recipe_id(plain), "the same weights"
        assert (recipe.bench.fraction, recipe.bench.balanced, recipe.bench.train) == (share, True, "train")
        (probe,) = recipe.probes.values()
        assert (probe.learning_rates, probe.head_multipliers) == ((0.001, 0.01, 0.1), (1.0, 10.0, 100.0))
        assert (probe.search, probe.epochs, probe.decay_at, probe.factor) == ("greedy", 20, (0.6, 0.8), 0.2)
    published = {"npid": (27.95, 57.22), "moco_v2": (39.07, 61.8), "simclr": (36.09, 58.46)}
    for name, values in published.items():
        assert f"published: {values[share == 0.1]:g} (top-1, openselfsup)" in recipe_of(f"{name}/{preset}").source


# A recipe and what its source must not say: numbers of another head than its own.
HEADS = [
    ("moco/cifar10", "82.1"), ("moco_cld/cifar10", "87.5"), ("moco_cld/cifar100", "59.1"), ("moco/cifar100", "53.1"),
    ("moco_v2_cld/paper", "69.2"), ("infomin_cld/paper", "69.5"), ("infomin_cld/paper", "71.5"), ("moco/demo", "85.3"),
]


@pytest.mark.parametrize(("key", "number"), HEADS)
def test_a_source_says_the_numbers_of_its_own_head_and_length(key, number):
    source = recipe_of(key).source
    assert number not in source and "published: " in source
    if key.endswith("cifar10"):
        assert source.endswith("published: none that we know of with its normlinear head")


def test_published_settings_train_on_all_images_and_choose_nothing_on_those_they_are_scored_on():
    for key in RECIPES:
        name, _, preset = key.partition("/")
        if name not in cld.PRETEXT_OF or preset in ("sample", "small", "stages", "smoke"):
            continue
        recipe = recipe_of(key)
        # Kitchen-HC has a validation split of its own; ImageNet-100's probe chooses its rate on held-out images.
        assert recipe.split == ("train" if preset == "kitchen_hc" else "trainval"), key
        chooses = preset in ("kitchen_hc", "imagenet100", "semi_1pct", "semi_10pct")
        assert (recipe.bench.train, recipe.bench.split) == ("train" if chooses else "trainval", "test"), key
        assert recipe.protocol != "select" and knn_temperature(recipe) == getattr(recipe.task, "temperature", 0.1)
