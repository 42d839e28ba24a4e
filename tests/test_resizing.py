"""How crops are scaled: by whose recipe, in every crop of every pretext, and what older files of recipes say of it."""

import json

import pytest

from revisit_ssl.commands.run import parse_run
from revisit_ssl.data import EvalView, open_source
from revisit_ssl.evaluators import PROBES
from revisit_ssl.evaluators.bench import Bench
from revisit_ssl.evaluators.heads import Heads
from revisit_ssl.evaluators.tuning import Tuning
from revisit_ssl.papers import RECIPES, get_recipe
from revisit_ssl.papers.cld.protocols import CLD, MOCO
from revisit_ssl.papers.obow.protocols import PLACES
from revisit_ssl.pretext import PRETEXTS
from revisit_ssl.recipe import override, to_json
from revisit_ssl.runs.identity import recipe_id
from revisit_ssl.training.build import build_backbone, build_pretext
from revisit_ssl.training.workdir import from_json

# Code that crops PIL images with torchvision antialiases; TensorFlow's, for SimCLR and BYOL the authors' own, does not.
TORCHVISION = {"npid", "npid_cld", "moco", "moco_cld", "moco_v2", "moco_v2_cld", "infomin", "infomin_cld"}
TORCHVISION |= {"maskco", "maskco_in"}
WHOLE = {"obow", "obow_vanilla", "bownet", "moco_v2_multicrop", "moco_v2_plain"}
WHOLE |= {"deepercluster", "deepercluster_rgb", "deepcluster", "deepcluster_rgb", "rotnet", "rotnet_sobel"}
TENSORFLOW = {"rotation", "exemplar", "jigsaw", "relative_patch", "supervised", "random"}
OF_PAPER = {name: "antialias" for name in TORCHVISION | WHOLE | {"byol_cld"}}
OF_PAPER |= {name: "bilinear" for name in TENSORFLOW | {"simclr", "byol"}}
OWN = ("sample", "small", "smoke")  # of CLD's methods: crops as large as the images
AS_PAPER = ("paper", "imagenet", "imagenet_lt", "semi_1pct", "semi_10pct")


@pytest.mark.parametrize("key", RECIPES)
def test_a_recipe_scales_as_its_source_does(key):
    name, _, preset = key.partition("/")
    recipe = RECIPES[key]()
    if preset == "smoke" or name not in WHOLE and preset in OWN:
        expected = "bilinear"
    elif name in TENSORFLOW or preset in AS_PAPER:
        expected = OF_PAPER[name]
    else:  # SimCLR and BYOL on CIFAR by CLD's script, BYOL by OpenSelfSup's
        expected = "antialias"
    assert recipe.views.resize == expected
    # Probes of ImageNet are torchvision's for all but the first paper's methods.
    scaled = recipe.bench.method != "none"
    assert not scaled or recipe.bench.resize_by == (None if name in TENSORFLOW else "antialias")


@pytest.mark.parametrize("name", [name for name in PRETEXTS if name != "random"])
def test_every_crop_and_every_view_of_a_pretext_is_scaled_as_its_views_say(name):
    antialias = {"views__resize": "antialias", "bench__resize_by": "antialias"}
    recipe = get_recipe(name, "smoke", backbone="tiny", **antialias)
    model = build_pretext(recipe, open_source("digits", "train"))
    assert {spec.kernel for spec in model.crops.values()} == {"antialias"}
    assert model.score_view(EvalView.of(recipe)).kernel == "antialias"
    model.view_spec = override(recipe, views__crop="inception").views
    assert model.score_view(EvalView(size=30)).kernel == "antialias"


@pytest.mark.parametrize("resize_by", [None, "antialias"])
def test_probes_that_crop_images_scale_them_as_the_bench_does(resize_by):
    recipe = get_recipe("rotation", "smoke", backbone="tiny", bench__resize_by=resize_by)
    backbone = build_backbone(recipe)
    backbone.trainable = False
    splits = {split: open_source("digits", split) for split in ("train", "val", "test")}
    bench = Bench(backbone, splits, recipe)
    random, resized = (Heads(options, bench) for options in (PLACES["linear_images"], MOCO))
    assert random.crop.kernel == (resize_by or "area")
    assert resized.crop.kernel == Tuning(CLD["finetune"], bench).crop.kernel == (resize_by or "bilinear")
    assert random.view.kernel == bench.view.kernel == resize_by


def test_the_flags():
    flags = ["moco", "--preset", "paper", "--views.resize", "area", "--probe-resize-by", "bilinear"]
    recipe = parse_run(flags).recipe
    assert (recipe.views.resize, EvalView.of(recipe).kernel) == ("area", "bilinear")


# {what was run before there was a choice: its hash}
OLDER = {"obow/cifar10": "c20f4e7d", "obow_vanilla/cifar10": "7f8b2694", "obow/sample": "f3609374"}


@pytest.mark.parametrize("key", [*OLDER, "npid_cld/small", "rotation/paper"])
def test_a_recipe_from_before_is_bilinear_as_it_was_run(key):
    recipe = RECIPES[key]()
    old = json.loads(to_json(recipe))
    del old["views"]["resize"], old["bench"]["resize_by"]
    read = from_json(json.dumps(old), kinds=PROBES)
    assert read == override(recipe, views__resize="bilinear", bench__resize_by=None)
    assert EvalView.of(read).told == {"size": read.bench.size or read.views.size} | {
        name: getattr(read.bench, name) for name in ("resize", "method")
    }
    if key in OLDER:
        assert recipe_id(read) == OLDER[key] != recipe_id(recipe)
    else:
        assert recipe_id(read) == recipe_id(recipe)
