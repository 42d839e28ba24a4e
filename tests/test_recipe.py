"""Recipes: JSON there and back, overrides, every registered one builds and names its source."""

import dataclasses

import pytest

from revisit_ssl import backbones
from revisit_ssl.data import DATASETS
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import PROBES
from revisit_ssl.recipe import Recipe, from_json, override, to_json
from revisit_ssl.recipes import RECIPES, get_recipe
from revisit_ssl.training import build_backbone


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_registered_recipe_survives_json_and_names_its_source(name):
    recipe = RECIPES[name](None)
    assert recipe.pretext == name.partition("/")[0]
    assert recipe.source
    assert from_json(to_json(recipe)) == recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_registered_recipe_builds_its_network_and_knows_its_probes(name):
    recipe = RECIPES[name](None)
    size = recipe.views.size
    options = {} if recipe.backbone.startswith("vgg") or recipe.stem is None else {"stem": recipe.stem}
    # shapes only: the widest has 86 M parameters
    backbone = backbones._without_values(recipe.backbone, recipe.width, input_shape=(size, size, 3), **options)
    assert set(recipe.endpoints) <= set(backbone.output)
    assert set(recipe.probes) <= set(PROBES)
    assert recipe.dataset in DATASETS


def test_paper_rotation_has_the_supplements_numbers():
    # Supplement section 1: batch 1024, lr 0.1 * B / 256, 35 epochs, x 0.1 at 15 and 25, warm-up 5; table 2: 16x.
    recipe = get_recipe("rotation", "paper")
    assert (recipe.backbone, recipe.width, recipe.batch_size, recipe.epochs) == ("revnet50", 16, 1024, 35)
    spec = recipe.optimizer
    assert (spec.lr, spec.scale_lr, spec.milestones, spec.factor, spec.warmup_epochs) == (0.1, True, (15, 25), 0.1, 5)
    assert (spec.momentum, spec.weight_decay, recipe.bn_momentum, recipe.bn_epsilon) == (0.9, 1e-4, 0.99, 1e-3)


def test_override_reaches_nested_fields_and_leaves_the_rest():
    recipe = get_recipe("rotation", optimizer__lr=0.7, seed=3)
    assert (recipe.optimizer.lr, recipe.seed) == (0.7, 3)
    plain = get_recipe("rotation")
    assert override(recipe, optimizer__lr=plain.optimizer.lr, seed=0) == plain


def test_lists_become_tuples_so_that_a_recipe_equals_its_own_file():
    recipe = get_recipe("rotation", endpoints=["pre_logits"], probes=["knn"])
    assert from_json(to_json(recipe)) == recipe


def test_networks_keep_their_own_batch_norm_unless_told_otherwise():
    def momenta(**changes):
        backbone = build_backbone(get_recipe("rotation", backbone="resnet18_cifar", stem=None, **changes))
        return {layer.momentum for layer in backbone.layers if hasattr(layer, "moving_mean")}

    assert momenta(bn_momentum=None) == {0.9}
    assert momenta(bn_momentum=0.95) == {0.95}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: get_recipe("rotatoin"), "unknown pretext 'rotatoin'; one of"),
        (lambda: get_recipe("rotation", "papr"), "unknown preset 'papr' for rotation; one of cifar10, paper"),
        (lambda: get_recipe("rotation", width=0), "width 0 must be at least 1"),
        (lambda: get_recipe("rotation", optimizer__rate=1.0), "OptimizerSpec has no field 'rate'"),
        (lambda: get_recipe("rotation", batch_size=0), "batch_size 0 must be at least 1"),
        (lambda: get_recipe("rotation", seed=-1), "seed -1 must lie in"),
        (lambda: get_recipe("rotation", epochs=float("inf")), "epochs inf must be a finite number"),
        (lambda: get_recipe("rotation", views__jitter=(0.4, 0.4, 0.4, 0.9)), "hue at most 0.5"),
        (lambda: get_recipe("rotation", probe_split="val"), "probe_split val needs --probe-setting paper"),
        (lambda: get_recipe("rotation", probe_fraction=1.5), r"probe_fraction 1.5 must lie in \(0, 1\]"),
        (lambda: from_json("{}"), "is not a recipe"),
        (lambda: from_json('{"pretext": "rotation", "widht": 3}'), "Recipe has no field widht"),
        (lambda: from_json('{"pretext": "rotation", "width": "3"}'), "Recipe.width is '3'; expected int"),
        (lambda: from_json('{"pretext": "rotation", "stem": "big"}'), "expected one of 'paper', 'cifar', 'small'"),
    ],
)
def test_bad_recipe_says_what_may_come(call, words):
    with pytest.raises(InputError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


def test_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe(pretext="rotation").width = 2
