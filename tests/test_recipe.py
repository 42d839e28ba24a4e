"""Recipes: JSON there and back, overrides, every registered one builds and names its source."""

import dataclasses
import functools
import json
import pathlib
import re

import pytest

from revisit_ssl.backbones import BACKBONES, find_options, fit_options, get_backbone, without_values
from revisit_ssl.backbones.options import BackboneOptions, ResNet18Options, RevNetOptions
from revisit_ssl.data import DATASETS, known_source
from revisit_ssl.errors import DataNotHere, InputError
from revisit_ssl.evaluation.sets import labelled_sources
from revisit_ssl.evaluators import PROBES
from revisit_ssl.papers import PROTOCOLS, RECIPES, get_recipe
from revisit_ssl.papers.cld import recipes as cld
from revisit_ssl.papers.deepercluster import recipes as deepercluster
from revisit_ssl.papers.maskco import recipes as maskco
from revisit_ssl.papers.obow import recipes as obow
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.revisiting import recipes as revisiting
from revisit_ssl.recipe import BenchSpec, Recipe, override, to_json
from revisit_ssl.runs.identity import flatten
from revisit_ssl.training.build import build_backbone, open_pretraining, plan_steps
from revisit_ssl.training.workdir import from_json


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_registered_recipe_survives_json_and_names_its_source(name):
    recipe, own = RECIPES[name](), name.partition("/")[0]
    known = (cld, obow, deepercluster, maskco)
    assert recipe.pretext == {n: p for paper in known for n, p in paper.PRETEXT_OF.items()}.get(own, own)
    assert recipe.source
    assert from_json(to_json(recipe), kinds=PROBES) == recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_registered_recipe_builds_its_network_and_knows_its_probes(name):
    recipe = RECIPES[name]()
    # shapes only: the widest has 86 M parameters
    backbone = shapes_of(recipe)
    exported = {"projection"} if recipe.pretext in cld.PRETEXT_OF else set()
    assert set(recipe.bench.endpoints) <= set(backbone.output) | exported
    assert set(recipe.probes) <= set(PROBES)
    assert recipe.dataset.partition(":")[0] in {*DATASETS, "folder"}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_registered_recipe_can_be_run_at_every_width(name):
    """Its batch fits into the set and its warm-up into the run, also where a preset is shorter for a wide network."""
    for width in (None, 4, 8, 12, 16):
        recipe = RECIPES[name](width=width)
        if recipe.dataset.startswith("folder:"):
            continue  # somebody's own
        try:
            source = open_pretraining(recipe, None, known)
        except DataNotHere:
            pytest.skip(f"{recipe.dataset} is not here and its size is not published")
        plan = plan_steps(recipe, source)
        assert plan.total > 0 or recipe.pretext == "random"


@functools.cache
def known(*place, **options):
    return known_source(*place, **options)


def shapes_of(recipe):
    """The recipe's network without values."""
    # Normalisation changes no shape: fewer networks to build.
    options = dataclasses.replace(
        recipe.backbone_options, norm="batch", bn_momentum=None, bn_epsilon=None, bn_group=None
    )
    return network(recipe.backbone, recipe.width, recipe.views.input_size, options)


@functools.cache  # many recipes have the same one
def network(backbone, width, size, options):
    return without_values(lambda: get_backbone(backbone, width, options, input_shape=(size, size, 3)))


# Supplement section 1 (batch, TPU cores) and the released configurations (batch on 8 cores); the rate is 0.1 B / 256.
SETTINGS = {
    "rotation": ("revnet50", 16, 1024, 128, 64, 0.025),
    "exemplar": ("resnet50_v1", 12, 512, 32, 64, 0.025),
    "jigsaw": ("resnet50_v1", 8, 1024, 32, 128, 0.05),
    "relative_patch": ("resnet50_v1", 8, 1024, 32, 128, 0.05),
}


@pytest.mark.parametrize("pretext", SETTINGS)
def test_paper_settings_are_those_of_the_supplement_and_of_the_released_configurations(pretext):
    backbone, width, batch, cores, batch_8, rate_8 = SETTINGS[pretext]
    recipe, released = get_recipe(pretext, "paper"), get_recipe(pretext, "v3-8")
    assert (recipe.backbone, recipe.width, recipe.batch_size, recipe.epochs) == (backbone, width, batch, 35)
    assert f"{cores} TPU cores there, {batch // cores} images a core" in recipe.source
    assert released.batch_size == batch_8
    assert released.optimizer.lr * released.batch_size / 256 == pytest.approx(rate_8)
    spec = recipe.optimizer
    assert (spec.lr, spec.scale_lr, spec.milestones, spec.factor, spec.warmup_epochs) == (0.1, True, (15, 25), 0.1, 5)
    assert (spec.momentum, spec.weight_decay, spec.schedule) == (0.9, 1e-4, "step")


# Section G of what is known to be disputed, and B.3, B.4, C, A.7.
def test_patch_tasks_have_the_official_numbers():
    for pretext in ("jigsaw", "relative_patch"):
        recipe = get_recipe(pretext, "paper")
        v, bench = recipe.views, recipe.bench
        assert (v.resize_to, v.size, v.patch_grid, v.patch_size, v.gray_probability) == (292, 255, 3, 64, 2 / 3)
        assert (bench.method, bench.resize, bench.size, v.normalize) == ("squash", 255, 192, "standardize")
        options = recipe.backbone_options
        assert (options.root_stride, options.strides, recipe.optimizer.head_weight_decay) == (1, (2, 2, 1), 5e-4)
        assert (recipe.task.embed_dim, recipe.task.hidden) == (1000, 4096)
        assert recipe.probes["linear_images"].batch_size == 1024
    assert get_recipe("jigsaw", "paper").task.permutations == 16
    with_vgg = get_recipe("jigsaw", "paper", backbone="vgg19_bn")
    assert with_vgg.backbone_options == BackboneOptions(bn_momentum=0.99, bn_epsilon=1e-3), "a VGG has no such strides"


def test_exemplar_has_the_official_numbers():
    recipe = get_recipe("exemplar", "paper")
    task = recipe.task
    assert (task.crops, task.embed_dim, task.margin, task.loss_group, task.normalize) == (8, 1000, 0.5, 16, "row")
    assert (recipe.views.crop, recipe.views.gray_probability, recipe.views.gray) == ("inception", 2 / 3, "mean")


# What the released configurations and the code's defaults have otherwise than the supplement (specification B, D, G).
RELEASED = [
    ("jigsaw", "task.permutations", 8), ("jigsaw", "task.shared_subset", True), ("exemplar", "task.loss_group", 8),
    ("exemplar", "task.normalize", "batch_legacy"), ("exemplar", "bench.normalize", "pm1"),
    *((pretext, "views.gray_probability", 0.66) for pretext in ("exemplar", "jigsaw", "relative_patch")),
    *((pretext, f"bench.{field}", value) for pretext in ("jigsaw", "relative_patch")
      for field, value in (("method", "shorter_side"), ("resize", 224), ("size", 192), ("normalize", None))),
    ("rotation", "views.gray_probability", 0.0), ("rotation", "bench.resize", 256),
    ("rotation", "bench.normalize", None),
    # Rows that one of its 8 cores normalised: images x rotations, crops, patches.
    ("rotation", "bn_group", 32), ("exemplar", "bn_group", 64), ("jigsaw", "bn_group", 144),
    ("relative_patch", "bn_group", 144),
    *((pretext, f"probes.linear_images.{field}", value) for pretext in SETTINGS
      for field, value in (("batch_size", 512), ("schedule", (30, 50, 70)), ("learning_rates", (0.1,)))),
]


@pytest.mark.parametrize(("pretext", "field", "value"), RELEASED)
def test_the_released_configuration_is_as_released(pretext, field, value):
    found = recipe = get_recipe(pretext, "v3-8")
    for name in field.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert found == value
    images = SETTINGS[pretext][4] // 8
    assert f"8 TPU cores, {images} images a core" in recipe.source
    assert recipe.source.count("images a core") == 1, "one batch is said, its own"


def test_one_gpu_normalises_the_rows_of_one_of_the_papers_cores():
    # Images a core x rotations, crops or patches: 8 x 4, 16 x 8, 32 x 9.
    groups = {pretext: get_recipe(pretext, "gpu").bn_group for pretext in SETTINGS}
    assert groups == {"rotation": 32, "exemplar": 128, "jigsaw": 288, "relative_patch": 288}


def test_table_2_is_fitted_on_train_and_val_together():
    recipe = get_recipe("rotation", "smoke", probes=("linear",), protocol="revisiting", bench__train="trainval")
    rows = {name: source.num_examples for name, source in labelled_sources(recipe, None).items()}
    assert rows == {"train": 1400, "val": 200, "test": 397}


def test_published_settings_are_the_columns_of_the_tables():
    settings = revisiting.published_settings()
    # 6 networks x (4 + 3 + 2 + 2 widths)
    assert len(set(settings)) == len(settings) == 66
    table_2 = {
        (row["pretext"], row["backbone"], row["width"])
        for row in load_published("revisiting")
        if row["table"] == "Suppl. Table 2"
    }
    assert set(settings) == table_2
    # Supplement, Table 2: RevNet50 16x 38.4; Table 4, exemplar, VGG 12x: 23.7.
    assert "38.4 (Suppl. Table 2, imagenet2012)" in get_recipe("rotation", "paper").source
    source = get_recipe("exemplar", "paper", backbone="vgg19_bn", width=12).source
    assert "23.7 (Suppl. Table 4, places205)" in source


@pytest.mark.parametrize("backbone", revisiting.BACKBONES)
@pytest.mark.parametrize("pretext", SETTINGS)
def test_every_published_network_can_be_built(pretext, backbone):
    widths = revisiting.TASKS[pretext].widths
    network = shapes_of(get_recipe(pretext, "paper", width=widths[0], backbone=backbone))
    # Spec A.1: pre_logits has 512 k values in every one of them.
    assert network.output["pre_logits"].shape[-1] == 512 * widths[0]


def test_override_reaches_nested_fields_and_leaves_the_rest():
    recipe = get_recipe("rotation", optimizer__lr=0.7, seed=3)
    assert (recipe.optimizer.lr, recipe.seed) == (0.7, 3)
    plain = get_recipe("rotation")
    assert override(recipe, optimizer__lr=plain.optimizer.lr, seed=0) == plain


def test_lists_become_tuples_so_that_a_recipe_equals_its_own_file():
    recipe = get_recipe("rotation", bench__endpoints=["pre_logits"], probes=["knn"])
    assert from_json(to_json(recipe), kinds=PROBES) == recipe


def test_networks_keep_their_own_batch_norm_unless_told_otherwise():
    def momenta(momentum):
        changes = {"backbone_options__stem": None, "backbone_options__bn_momentum": momentum}
        backbone = build_backbone(get_recipe("rotation", backbone="resnet18_cifar", **changes))
        return {layer.momentum for layer in backbone.layers if hasattr(layer, "moving_mean")}

    assert momenta(None) == {0.9}
    assert momenta(0.95) == {0.95}
    assert momenta(0.0) == {0.0}


def test_a_network_has_those_of_the_wanted_options_that_its_family_has():
    wanted = {"norm": "sync", "stem": "small", "recompute": True, "zero_init_residual": True}
    assert fit_options("revnet50", **wanted) == RevNetOptions(norm="sync", stem="small", recompute=True)
    assert fit_options("resnet18", **wanted) == ResNet18Options(norm="sync", stem="small", zero_init_residual=True)
    assert fit_options("vgg19_bn", **wanted) == BackboneOptions(norm="sync")
    recipe = get_recipe("jigsaw", "paper", backbone="revnet50", backbone_options__recompute=True)
    tf1 = {"bn_momentum": 0.99, "bn_epsilon": 1e-3}
    assert recipe.backbone_options == RevNetOptions(root_stride=1, strides=(2, 2, 1), recompute=True, **tf1)
    with pytest.raises(InputError, match="ResNet18Options has no field 'recompute'; it has norm, "):
        get_recipe("rotation", backbone="resnet18", backbone_options__recompute=True)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: get_recipe("rotatoin"), "unknown pretext 'rotatoin'; one of"),
        (lambda: get_recipe("rotation", "papr"), "unknown preset 'papr' for rotation; one of cifar10, gpu, paper"),
        (lambda: get_recipe("rotation", width=0), "width 0 must be at least 1"),
        (lambda: get_recipe("rotation", optimizer__rate=1.0), "OptimizerSpec has no field 'rate'"),
        (lambda: get_recipe("rotation", batch_size=0), "batch_size 0 must be at least 1"),
        (lambda: get_recipe("rotation", seed=-1), "seed -1 must lie in"),
        (lambda: get_recipe("rotation", epochs=float("inf")), "epochs inf must be a finite number"),
        (lambda: get_recipe("rotation", views__jitter=(0.4, 0.4, 0.4, 0.9)), "hue at most 0.5"),
        (lambda: get_recipe("rotation", bench__train="trainval"), "probe_train trainval: linear would choose"),
        (lambda: get_recipe("rotation", "paper", bench__train="trainval"), "trainval needs --probe-split test"),
        (
            lambda: get_recipe("rotation", backbone_options=BackboneOptions(bn_group=8, norm="none")),
            "bn_group 8 needs norm batch, not none",
        ),
        (lambda: get_recipe("rotation", bench__split="val"), "linear would choose numbers on val; take --protocol"),
        (lambda: get_recipe("rotation", bench__fraction=1.5), r"probe_fraction 1.5 must lie in \(0, 1\]"),
        (lambda: get_recipe("rotation", probes__linear__batch_size=0), "linear.batch_size 0 must be at least 1"),
        (lambda: get_recipe("rotation", probes__mlp__hidden=9), "this recipe has no probe 'mlp'; it has linear, knn"),
        (lambda: get_recipe("rotation", probes=("svm",)), "unknown probe 'svm'; one of clusters, .*knn"),
        (lambda: get_recipe("rotation", protocol="obow"), "protocol obow does not define knn; it defines linear"),
        (lambda: get_recipe("rotation", protocol="x"), "unknown protocol 'x'; one of select, revisiting, moco"),
        (lambda: get_recipe("rotation", backbone_options__bn_momentum=1.0), r"bn_momentum 1.0 must lie in \[0, 1\)"),
        (
            lambda: get_recipe("rotation", backbone_options__bn_epsilon=-1.0),
            "bn_epsilon -1.0 must be a finite number above 0",
        ),
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


def test_disputed_values_say_their_flags():
    text = (pathlib.Path(__file__).parents[1] / "docs" / "disputed.md").read_text()
    flags = set(re.findall(r"`--([a-z0-9.-]+)`", text))
    known = {"probes", "protocol"}
    for part in dataclasses.fields(BenchSpec):
        known.add("endpoints" if part.name == "endpoints" else f"probe-{part.name}")
    for name, kind in PROBES.items():
        known |= {f"{name}.{part.name}".replace("_", "-") for part in dataclasses.fields(kind)}
    presets = dict.fromkeys(("exemplar", "jigsaw", "npid_cld", "moco_cld", "byol_cld", "infomin_cld", "obow"), "paper")
    presets |= {"bownet": "cifar10", "deepercluster": "paper", "rotnet": "paper", "maskco": "paper"}
    for pretext, preset in presets.items():
        fields = flatten(get_recipe(pretext, preset))
        known |= {name.replace("task.cld.", "cld.").replace("_", "-") for name in fields}
    known |= {part.name.replace("_", "-") for part in dataclasses.fields(BackboneOptions)}
    for kind in {find_options(name) for name in BACKBONES}:
        known |= {f"backbone.{part.name}".replace("_", "-") for part in dataclasses.fields(kind)}
    assert len(flags) > 20 and flags <= known, flags - known


@pytest.mark.parametrize("protocol", ["select", "revisiting", "moco", "infomin", "obow", "obow_places"])
def test_a_recipe_of_flat_fields_is_read(protocol):
    """As it was written when probes had fields of the recipe; its settings are the protocols of today, but for two."""
    known = ("linear", "lbfgs", "mlp", "linear_images")
    if protocol in PROTOCOLS:  # detectors came later
        known = tuple(name for name, options in PROTOCOLS[protocol].items() if options.labels != "boxes")
    old = json.loads(to_json(get_recipe("jigsaw", "smoke", probes=())))
    del old["bench"], old["protocol"]
    old["views"] |= {"eval_method": "squash", "eval_resize": 32, "eval_size": 24, "eval_combine": "mean"}
    old |= {"probe_setting": "paper" if protocol == "revisiting" else protocol, "probes": list(known)}
    old |= {"endpoints": ["pre_logits"], "probe_fraction": 0.5, "probe_lr": None, "finetune_weight_decay": 1e-4}
    new = get_recipe("jigsaw", "smoke", probes=known, protocol=protocol, bench__fraction=0.5)
    new = override(new, bench__endpoints=("pre_logits",), bench__untrained="both")  # all that there was
    if protocol == "select":  # and the shorter linear probe of today's smoke was not
        new = dataclasses.replace(new, probes=new.probes | {"linear": PROBES["linear"]()})
    then = {"knn": {"temperature": 0.1}, "linear_images": {"randaugment_layers": 0}}
    changed = {name: dataclasses.replace(new.probes[name], **was) for name, was in then.items() if name in known}
    new = dataclasses.replace(new, probes=new.probes | changed)
    assert from_json(json.dumps(old), kinds=PROBES) == new


def test_flat_fields_become_options():
    flat = {"pretext": "rotation", "probes": ["knn", "linear", "finetune", "few_shot", "voc_svm", "mlp"]}
    flat |= {"knn_temperature": 0.07, "probe_schedule": [3, 5, 7], "probe_weight_decay": 1e-5, "probe_penalty": 9.0}
    flat |= {"finetune_rates": [0.02, 0.2], "few_shot_ways": 4, "voc_svm_crop": "center", "probe_train": "trainval"}
    probes = from_json(json.dumps(flat | {"probe_setting": "paper"}), kinds=PROBES).probes
    assert probes["knn"].temperature == 0.07 and probes["mlp"].penalty_scale == 9.0
    assert (probes["linear"].schedule, probes["linear"].weight_decay) == ((3, 5, 7), 1e-5)
    assert (probes["finetune"].learning_rates, probes["finetune"].head_multipliers) == ((0.02,), (10.0,))
    assert probes["few_shot"].ways == 4 and probes["voc_svm"].crop == "center"
    # Training reads it without the classes of probes, and keeps what it says.
    plain = from_json(json.dumps(flat | {"probe_setting": "paper"}))
    assert plain.bench.train == "trainval" and plain.probes["knn"] == {"temperature": 0.07}


def test_flat_fields_of_the_network_become_its_options():
    said = {"stem": "small", "strides": [2, 2, 1], "bn_momentum": 0.0, "norm": "sync", "zero_init_residual": True}
    silent = {"recompute": False, "root_stride": None, "representation_size": None, "stride_on_second": False}
    old = {"pretext": "rotation", "backbone": "resnet18"} | said | silent
    options = {**said, "strides": (2, 2, 1)}
    assert from_json(json.dumps(old)).backbone_options == ResNet18Options(**options)
    vgg = {"pretext": "rotation", "backbone": "vgg19_bn", "strides": None, "stem": None, "bn_group": 4}
    assert from_json(json.dumps(vgg)).backbone_options == BackboneOptions(bn_group=4)
    with pytest.raises(InputError, match="BackboneOptions has no field stem"):
        from_json(json.dumps(vgg | {"stem": "small"}))
