"""Kolesnikov, Zhai, Beyer: Revisiting Self-Supervised Visual Representation Learning (CVPR 2019, arXiv:1901.09005).

paper   the supplement's setting: ImageNet, 224 px (patches: 64 px), the network that the paper's Table 2 names best;
        --backbone and --width give every other row. Each recipe's ``source`` says on how many TPU cores the authors
        trained it and what number they report.
v3-8    the released configurations for 8 TPU cores, which their README calls close to the paper, not identical.
gpu     the same on one GPU: a batch that fits, the same learning-rate rule, BatchNorm over the rows of one TPU core.
sample  our own: toy_scenes at 64 px on a laptop, minutes. Numbers chosen on its validation split.
cifar10 our own: CIFAR-10 at 32 px with ResNet18 of 16 channels, ten minutes on two cores. Called small, too.
smoke   our own: digits, a few steps, for tests of the machinery. Its features are worth nothing.
"""

import dataclasses
from dataclasses import dataclass

from revisit_ssl.backbones import fit_options
from revisit_ssl.evaluators import at_defaults
from revisit_ssl.evaluators.knn import KNN
from revisit_ssl.evaluators.linear import Linear
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.revisiting.protocols import REVISITING
from revisit_ssl.pretext import find_options
from revisit_ssl.recipe import BenchSpec, OptimizerSpec, Recipe, ViewSpec, override

ABOUT = {}  # every recipe has its pretext's name
PRETEXTS = ("rotation", "exemplar", "jigsaw", "relative_patch")
BACKBONES = ("revnet50", "resnet50_v2", "resnet50_v1", "revnet50_minus", "resnet50_v2_minus", "vgg19_bn")
ENDPOINTS = ("block1", "block2", "block3", "block4", "pre_logits")
TF1 = {"bn_momentum": 0.99, "bn_epsilon": 1e-3}

# Training: TF-slim's box of at least 5 % of the area (10 % in effect: it must hold a tenth of the image), flip, colour.
# Probes: shorter side 256, crop 224, no flip, [-1, 1].
INCEPTION = ViewSpec(crop="inception", size=224, scale=(0.05, 1.0), color="inception")
# The official code grays whole images before the crops and standardises each; the supplement mentions neither.
EXEMPLAR = dataclasses.replace(INCEPTION, gray_probability=2 / 3, gray="mean", normalize="standardize")
# No flip, no colour but gray. Probes see the supplement's geometry; the official code cuts 192 of shorter side 224.
PATCHES = ViewSpec(
    crop="random", size=255, resize_to=292, patch_grid=3, patch_size=64, flip=False, color="none",
    gray_probability=2 / 3, gray="mean", normalize="standardize",
)


def published_bench(views, **changes):
    """What the paper's probes see. The tables' endpoint; all five are 110 GB of features.

    Tables 1 and 2-4 of the supplement score val; the main paper's Table 2: --probe-train trainval --probe-split test.
    """
    seen = {"method": "shorter_side", "resize": 256}
    if views is PATCHES:
        seen = {"method": "squash", "resize": 255, "size": 192}
    return BenchSpec(**seen | {"split": "val", "endpoints": ("pre_logits",)} | changes)


@dataclass(frozen=True)
class Task:
    """A pretext's published setting (supplement section 1; official config/<pretext>)."""

    views: ViewSpec
    backbone: str
    """The best network of the paper's Table 2, and its width."""
    width: int
    widths: tuple[int, ...]
    """What the tables have: larger networks did not fit into memory."""
    batch_size: int
    cores: int
    rows_per_image: int
    batch_size_8: int
    """Of the released 8-core configuration."""

    @property
    def rows_per_core(self):
        """What one of the paper's cores normalised together; nothing was synchronised across cores."""
        return self.batch_size // self.cores * self.rows_per_image


TASKS = {
    "rotation": Task(INCEPTION, "revnet50", 16, (4, 8, 12, 16), 1024, 128, 4, 64),
    "exemplar": Task(EXEMPLAR, "resnet50_v1", 12, (4, 8, 12), 512, 32, 8, 64),
    "jigsaw": Task(PATCHES, "resnet50_v1", 8, (4, 8), 1024, 32, 9, 128),
    # "The same training setup as in the Jigsaw model" is taken to hold for the batch and the cores too.
    "relative_patch": Task(PATCHES, "resnet50_v1", 8, (4, 8), 1024, 32, 9, 128),
}


def published_settings():
    """[(pretext, backbone, width)]: every column of the paper's Table 1 and the supplement's Tables 2 to 4."""
    return [(pretext, backbone, k) for pretext in PRETEXTS for backbone in BACKBONES for k in TASKS[pretext].widths]


def expected(pretext, backbone, width):
    """The paper's top-1 of that network on ImageNet, as text with its table; values from memory are not repeated."""
    rows = [
        row
        for row in load_published("revisiting")
        if (row["paper"], row["pretext"], row["backbone"], row["width"]) == ("revisiting", pretext, backbone, width)
        and row["confirmed"] == "yes" and row["endpoint"] == "pre_logits" and row["metric"] == "top1"
    ]
    return ", ".join(f"{row['value']} ({row['table']}, {row['dataset']})" for row in rows) or "none confirmed"


def paper(pretext, width, backbone):
    """The supplement's section 1; supervised: the official config/supervised."""
    if pretext == "supervised":
        return fitted(Recipe(
            pretext=pretext,
            backbone=backbone or "resnet50_v2",
            width=width or 4,
            dataset="imagenet2012",
            views=INCEPTION,
            batch_size=256,
            epochs=90,
            optimizer=OptimizerSpec(milestones=(30, 60, 80)),
            bench=published_bench(INCEPTION),
            probes={name: REVISITING[name] for name in ("linear_images", "lbfgs")},
            protocol="revisiting",
            source="official config/supervised; probes of P 3.3; "
            "the supplement's ResNet18 reaches 69.6 with and 68.8 without skip connections",
        ), **TF1)
    task = TASKS["rotation" if pretext == "random" else pretext]
    backbone, width = backbone or task.backbone, width or task.width
    numbers = expected(pretext, backbone, width)
    return fitted(Recipe(
        pretext=pretext,
        backbone=backbone,
        width=width,
        task=options(pretext),
        dataset="imagenet2012",
        views=task.views,
        batch_size=task.batch_size,
        epochs=35,
        # lr 0.1 for 256 images. A weight decay is in the official code alone, 5e-4 for the head of the patch tasks.
        optimizer=OptimizerSpec(
            lr=0.1, milestones=(15, 25), warmup_epochs=5, weight_decay=1e-4,
            head_weight_decay=5e-4 if task.views is PATCHES else None,
        ),
        bench=published_bench(task.views),
        probes={
            "linear_images": on_crops(batch_size=1024 if task.views is PATCHES else 2048),
            "lbfgs": REVISITING["lbfgs"],
            "mlp": REVISITING["mlp"],
        },
        protocol="revisiting",
        source=f"supplement section 1; official config/{pretext}; {task.cores} TPU cores there, "
        f"{task.batch_size // task.cores} images a core; published: {numbers}",
    ), **TF1)


# What the released configurations and the code's defaults have otherwise than the supplement.
RELEASED = {
    "rotation": {},
    "exemplar": {"loss_group": 8, "normalize": "batch_legacy"},
    "jigsaw": {"permutations": 8, "shared_subset": True},
    "relative_patch": {},
}


def v3_8(pretext, width, backbone):
    """config/<pretext> as released: 8 TPU cores, smaller batch, the same rule for the rate (0.025 for 64 images); gray,
    Exemplar's unit length, Jigsaw's permutations and what probes see as in the code."""
    # Deviation: Jigsaw's permutations are our own set; the code reads a file (--task.permutation-file).
    recipe, task = paper(pretext, width, backbone), TASKS[pretext]
    images = task.batch_size_8 // 8
    seen = {"method": "shorter_side", "resize": 224, "size": 192} if task.views is PATCHES else {}
    seen |= {"normalize": "pm1"} if pretext == "exemplar" else {}
    return dataclasses.replace(
        recipe,
        batch_size=task.batch_size_8,
        backbone_options=override(recipe.backbone_options, bn_group=images * task.rows_per_image),
        task=override(recipe.task, **RELEASED[pretext]),
        views=recipe.views if pretext == "rotation" else dataclasses.replace(recipe.views, gray_probability=0.66),
        bench=dataclasses.replace(recipe.bench, **seen),
        probes=recipe.probes | {"linear_images": on_crops(batch_size=512, schedule=(30, 50, 70))},
        source=f"official config/{pretext} as released for 8 TPU cores, {images} images a core; its README calls the "
        "results close to the paper's, not identical; the supplement's L-BFGS and MLP beside its own linear probe; "
        f"published by the paper, with {task.cores} cores: {expected(pretext, recipe.backbone, recipe.width)}",
    )


def gpu(pretext, width, backbone):
    """One GPU of 80 GB: fewer images a step, a learning rate that follows, the statistics of the paper's cores."""
    recipe, task = paper(pretext, width or 4, backbone), TASKS[pretext]
    return dataclasses.replace(
        recipe,
        # 64 images are 512 rows of Exemplar: by estimate 44 GB of activations of ResNet50 4x.
        batch_size=64 if pretext == "exemplar" else 128,
        backbone_options=override(recipe.backbone_options, bn_group=task.rows_per_core),
        source=f"one GPU, otherwise: {recipe.source}",
    )


def on_crops(**changes):
    """The paper's linear classifiers on augmented images, with other numbers."""
    return dataclasses.replace(REVISITING["linear_images"], **changes)


def options(pretext, **changes):
    """The pretext's own options, each at its default (the recommended reading of paper and code) unless changed."""
    if pretext == "exemplar":
        changes = {"loss_group": 16} | changes  # images of one TPU core, on which the loss was computed
    return find_options(pretext)(**changes)


def fitted(recipe, **wanted):
    """The recipe with those of the wanted options that its network has: a VGG has no stem and no strides to choose."""
    if recipe.pretext == "random":
        recipe = dataclasses.replace(recipe, epochs=0)
    if recipe.views.patch_grid > 1:
        stem = {"stem": "cifar"} if wanted.get("stem") == "small" else {"root_stride": 1}
        wanted = wanted | {"strides": (2, 2, 1)} | stem
    return dataclasses.replace(recipe, backbone_options=fit_options(recipe.backbone, **wanted))


def small_patches(side, patch):
    """Patches of small images: a crop of 3 cells with the jitter that its cells leave; probes cut without gaps.

    Gray is left out: at this size colour is half of what there is to see.
    """
    return ViewSpec(
        crop="random", size=side, patch_grid=3, patch_size=patch, flip=False, color="none", normalize="standardize",
    )


def small_head(pretext):
    """A head that takes less time than the network below it: the paper's has 41 M weights."""
    few = {"permutations": 8} if pretext == "jigsaw" else {}
    return options(pretext, embed_dim=128, hidden=512, head_bn_momentum=0.9, **few)


def sample(pretext, width, backbone):
    """Minutes on two CPU cores. Width 4 and more: as many steps as fit, a run that reports and promises nothing."""
    width, stem = width or 1, "small"
    recipe = Recipe(
        pretext=pretext,
        backbone=backbone or "revnet50",
        width=width,
        task=options(pretext),
        dataset="toy_scenes",
        views=ViewSpec(crop="resized", size=64, scale=(0.5, 1.0), color="inception"),
        batch_size=64,
        epochs=8,
        optimizer=OptimizerSpec(lr=0.1, scale_lr=False, schedule="cosine", warmup_epochs=1),
        # The network as initialised is the harder to beat here (docs/results.md); the other takes a minute more.
        bench=BenchSpec(method="none", endpoints=("block3", "block4", "pre_logits"), untrained="initial"),
        probes=at_defaults("linear", "knn"),
        source="chosen on the validation split of toy_scenes",
    )
    if pretext == "rotation":
        # Half the batch at the same rate learns more in the same time: 76.3 on val after these 420 steps.
        schedule = dataclasses.replace(recipe.optimizer, warmup_epochs=0.5)
        recipe = dataclasses.replace(recipe, batch_size=32, epochs=2.5, optimizer=schedule)
    if pretext in ("exemplar", "jigsaw", "relative_patch"):
        recipe = dataclasses.replace(recipe, backbone=backbone or "resnet18")
    if pretext == "exemplar":
        # With the paper's weak colours a scene is known by its ground: features then fall below random ones (29 to 42).
        views = dataclasses.replace(recipe.views, color="jitter", jitter=(0.8, 0.8, 0.8, 0.5), normalize="standardize")
        recipe = dataclasses.replace(recipe, views=views, task=options(pretext, crops=4), batch_size=32, epochs=2)
    if pretext in ("jigsaw", "relative_patch"):
        seen = dataclasses.replace(recipe.bench, method="squash", resize=64, size=48)
        views = small_patches(60, 16)
        recipe = dataclasses.replace(recipe, views=views, bench=seen, task=small_head(pretext), epochs=3)
    if width >= 4:
        # The paper's stem halves the map once more: 16x RevNet50 then takes 1.2 to 3 s for 8 images x 4 rotations,
        # and features of 8,000 images minutes for each network: hence fewer labels.
        stem = "paper"
        recipe = dataclasses.replace(
            recipe, batch_size=8, max_steps=50, probes=at_defaults("linear"),
            bench=dataclasses.replace(recipe.bench, endpoints=("pre_logits",), fraction=0.25),
            optimizer=dataclasses.replace(recipe.optimizer, lr=0.0125, warmup_epochs=0.02),
            source="a run of the whole machinery at paper width; not trained long enough to beat random",
        )
    if pretext == "supervised":
        recipe = dataclasses.replace(recipe, epochs=16)
    return fitted(recipe, stem=stem, bn_momentum=0.9)


def cifar10(pretext, width, backbone):
    """ResNet18 of 16 channels with the 3x3/2 stem; every probe on every endpoint."""
    recipe = Recipe(
        pretext=pretext,
        backbone=backbone or "resnet18",
        width=width or 1,
        task=options(pretext),
        dataset="cifar10",
        views=ViewSpec(crop="resized", size=32, scale=(0.5, 1.0), color="inception"),
        batch_size=128,
        epochs=6,
        optimizer=OptimizerSpec(lr=0.1, scale_lr=False, schedule="cosine", warmup_epochs=0.5, weight_decay=1e-4),
        # A quarter of the labels and maps pooled to 1,024 values: all probes of all endpoints in minutes on a CPU.
        bench=BenchSpec(method="none", fraction=0.25, values=1024, endpoints=ENDPOINTS),
        probes=at_defaults("linear", "lbfgs", "mlp", "knn"),
        source="chosen on the last 5,000 training images",
    )
    if pretext == "exemplar":
        recipe = dataclasses.replace(
            recipe, views=dataclasses.replace(recipe.views, scale=(0.2, 1.0), normalize="standardize"),
            batch_size=32, epochs=1.5, optimizer=dataclasses.replace(recipe.optimizer, warmup_epochs=0.2),
        )
    if pretext in ("jigsaw", "relative_patch"):
        seen = dataclasses.replace(recipe.bench, method="squash", resize=32, size=24)
        views = small_patches(30, 8)
        recipe = dataclasses.replace(recipe, views=views, bench=seen, task=small_head(pretext), epochs=3)
    if pretext == "supervised":
        recipe = dataclasses.replace(recipe, epochs=20)
    return fitted(recipe, stem="small", bn_momentum=0.9)


def smoke(pretext, width, backbone):
    """Seconds: twelve steps on digits."""
    recipe = Recipe(
        pretext=pretext,
        backbone=backbone or "resnet18",
        width=width or 1,
        task=options(pretext),
        dataset="digits",
        views=ViewSpec(crop="resized", size=32, scale=(0.6, 1.0), color="none", flip=False),
        batch_size=32,
        epochs=1,
        max_steps=12,
        optimizer=OptimizerSpec(lr=0.05, scale_lr=False, schedule="cosine", warmup_epochs=0),
        bench=BenchSpec(method="none", endpoints=("block4", "pre_logits"), untrained="initial"),
        probes={"linear": Linear(epochs=(10,)), "knn": KNN()},
        source="small enough for a test",
    )
    if pretext == "exemplar":
        recipe = dataclasses.replace(recipe, task=options(pretext, crops=2, embed_dim=32, loss_group=4))
    if pretext in ("jigsaw", "relative_patch"):
        seen = dataclasses.replace(recipe.bench, method="squash", resize=32, size=24)
        few = {"permutations": 4, "permutation_count": 20} if pretext == "jigsaw" else {}
        task = options(pretext, embed_dim=16, hidden=32, head_bn_momentum=0.9, **few)
        recipe = dataclasses.replace(recipe, views=small_patches(30, 8), bench=seen, task=task)
    return fitted(recipe, stem="small", bn_momentum=0.9)


RECIPES = {
    f"{pretext}/{name}": (lambda width=None, backbone=None, make=make, pretext=pretext: make(pretext, width, backbone))
    for name, make, pretexts in (
        ("sample", sample, (*PRETEXTS, "supervised", "random")),
        ("cifar10", cifar10, (*PRETEXTS, "supervised", "random")),
        ("paper", paper, (*PRETEXTS, "supervised", "random")),
        ("v3-8", v3_8, PRETEXTS),
        ("gpu", gpu, PRETEXTS),
        ("smoke", smoke, (*PRETEXTS, "supervised", "random")),
    )
    for pretext in pretexts
}
