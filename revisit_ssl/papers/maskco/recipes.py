"""Zhao, Wang, Luo, Zeng, Zha: Self-Supervised Visual Representations Learning by Contrastive Mask Prediction (ICCV
2021, arXiv:2108.07954).

maskco     predict a masked region among regions of other images.
maskco_in  among other regions of the same image too.

No code was published and the paper's main text was not to be had: these recipes are made of the supplement and, where
that says nothing, of the MoCo v2 of OpenSelfSup, on which the authors built (``--help`` says which is which).

paper                ImageNet, ResNet50.
conceptual_captions  the same on the images of Conceptual Captions, a folder (--dataset folder:/path).
coco                 the same on COCO.

imagenette  our own: 4,500 images at 64 px with ResNet18 of 16 channels, minutes on two cores.
cifar10     our own: 10,000 images of CIFAR-10 with the same network. Called small, too.
stages      our own: the nine methods of Table 1 on the same 10,000 images of CIFAR-10, with one network and one probe.
sample      our own: scenes of several objects at 64 px on a laptop, minutes; probes on toy_scenes.
smoke       our own: digits, a few steps, for tests of the machinery. Its features are worth nothing.
"""

import dataclasses

from revisit_ssl.backbones import fit_options
from revisit_ssl.evaluators import KNN, MultiLayer, at_defaults
from revisit_ssl.papers.maskco.protocols import PROTOCOLS
from revisit_ssl.papers.mocos import EPOCH_COSINE, IMAGENET_PLUS
from revisit_ssl.pretext import find_options
from revisit_ssl.recipe import BenchSpec, OptimizerSpec, Recipe, ViewSpec

PRETEXT_OF = {"maskco": "maskco", "maskco_in": "maskco"}
ABOUT = {"maskco_in": "MaskCo with negatives of the same image."}
GPU = 32  # images of each of the paper's GPUs, which are compared and normalised together


def options(name, **changes):
    """The options of the recipe."""
    return find_options(PRETEXT_OF[name])(intra=name == "maskco_in", **changes)


# --- published scale --------------------------------------------------------------------------------------------------

MIDDLE = BenchSpec(
    dataset="imagenet2012", method="shorter_side", resize=256, resize_by="antialias", size=224, train="trainval",
    endpoints=("pre_logits",),
)


def published(name, width, backbone, *, dataset, split, epochs, source):
    """All three sets have the hyper-parameters of ImageNet (supplement, A.2)."""
    backbone = backbone or "resnet50_torch"
    return Recipe(
        pretext=PRETEXT_OF[name],
        backbone=backbone,
        width=width or 4,
        backbone_options=fit_options(backbone, bn_group=GPU),
        task=options(name),
        dataset=dataset,
        split=split,
        views=IMAGENET_PLUS,
        batch_size=256,
        epochs=epochs,
        optimizer=EPOCH_COSINE,
        bench=MIDDLE,
        probes=PROTOCOLS["maskco"],
        protocol="maskco",
        source=f"{source}; reconstructed: supplement (Algorithm 1, A.2) and OpenSelfSup's MoCo v2",
    )


def paper(name, width, backbone):
    """ImageNet."""
    return published(
        name, width, backbone, dataset="imagenet2012", split="trainval", epochs=200,
        source="8 GPUs of 32 images; published: 65.1 (conv5, Table 1) without negatives of the same image",
    )


def conceptual_captions(name, width, backbone):
    """The 3.3 million images of Conceptual Captions, as a folder."""
    # Reconstructed: about as many steps as on ImageNet.
    return published(
        name, width, backbone, dataset="folder:/data/conceptual_captions", split="train", epochs=80,
        source="Conceptual Captions by its list of addresses; epochs not stated, 80 are about ImageNet's steps",
    )


def coco(name, width, backbone):
    """The 118,000 training images of COCO."""
    # Reconstructed: what DenseCL trains on COCO for, whose rate is another.
    return published(
        name, width, backbone, dataset="coco", split="trainval", epochs=800,
        source="COCO; epochs not stated, 800 as DenseCL's; published without MPH: 55.3, 38.5 (conv4, conv5)",
    )


# --- our own ----------------------------------------------------------------------------------------------------------

# Deviation: in these short runs of small images the target follows faster (momentum 0.99), a batch is one or two groups
# and boxes have sides of a cell and a half of the last map or more, in proportion larger than those of 224 pixels.
AS_THEY_ARE = BenchSpec(method="none", endpoints=("pre_logits",), untrained="initial")


def network(backbone, width, **own):
    """ResNet18 of 16 channels unless told otherwise."""
    backbone = backbone or "resnet18"
    options = fit_options(backbone, bn_momentum=0.9, **own)
    return {"backbone": backbone, "width": width or 1, "backbone_options": options}


def short(name, size, **changes):
    """Options for short runs at views of ``size`` pixels."""
    sides = {"mask_side": size * 3 / 8, "overlap": size / 2}
    return options(name, **{"hidden": 128, "units": 64, "momentum": 0.99, **sides, **changes})


def rate(lr, **changes):
    """The optimiser of short runs."""
    return OptimizerSpec(
        **{"lr": lr, "scale_lr": False, "schedule": "cosine", "warmup_epochs": 0.5, "weight_decay": 5e-4,
           "decay": "all"} | changes
    )


def sample(name, width, backbone):
    """Minutes on two CPU cores."""
    return Recipe(
        pretext=PRETEXT_OF[name],
        # The last block keeps its map at 8 x 8 cells: of 4 x 4 a box would be one.
        **network(backbone, width, stem="small", strides=(2, 2, 1)),
        task=short(name, 64, mask_area=(0.15, 0.4)),
        dataset="toy_detection",  # several objects a scene, so that a masked one has neighbours
        # As Exemplar's: a smaller crop may miss the objects, and with weaker colours a scene is known by its ground.
        views=dataclasses.replace(
            IMAGENET_PLUS, size=64, scale=(0.5, 1.0), jitter=(0.8, 0.8, 0.8, 0.5), jitter_probability=1.0,
            gray_probability=0.0, blur_probability=(0.0,), normalize="standardize", resize="bilinear",
        ),
        batch_size=32,
        epochs=20,  # as many steps as 6 of toy_scenes, on which the setting was chosen
        optimizer=rate(0.05, warmup_epochs=1.5),
        bench=dataclasses.replace(AS_THEY_ARE, dataset="toy_scenes"),
        probes={"multi_layer": MultiLayer(schedule=(2, 3, 4)), "knn": KNN()},
        source="our own: the third setting that was tried, by the five stages on the validation split of toy_scenes",
    )


def cifar10(name, width, backbone):
    """10,000 images of CIFAR-10; the network has the size of the other methods' small recipes, its last map 4 x 4."""
    return Recipe(
        pretext=PRETEXT_OF[name],
        **network(backbone, width, stem="small", strides=(2, 2, 1)),
        task=short(name, 32),
        dataset="cifar10",
        fraction=2 / 9,  # of the 45,000 images that are not for validation
        views=dataclasses.replace(IMAGENET_PLUS, size=32, blur_probability=(0.0,), normalize="cifar"),
        batch_size=128,
        epochs=24,
        optimizer=rate(0.06, warmup_epochs=1),
        bench=dataclasses.replace(AS_THEY_ARE, fraction=0.25),
        probes=at_defaults("multi_layer", "knn"),
        source="our own: not tuned; data, batch, rate and length of moco_v2/small",
    )


# Epochs of 10,000 images: ten minutes or less on two cores.
STAGES = {
    "random": 0, "supervised": 20, "relative_patch": 12, "rotation": 12, "npid": 20, "moco_v2": 16, "simclr": 20,
    "byol": 16, "maskco": 20, "maskco_in": 20,
}  # fmt: skip


def stages(name, width, backbone):
    """A row of Table 1: each method's small recipe, but for the data, their length, the last map and the probe."""
    from revisit_ssl.papers import get_recipe  # here, for it imports this file

    if name in PRETEXT_OF:
        recipe = cifar10(name, width, backbone)
    else:
        recipe = get_recipe(name, "small", width=width, backbone=backbone)
    # MaskCo's boxes need a map of 4 x 4 cells; networks of patches keep their own stem.
    changes = {"strides": (2, 2, 1)}
    if getattr(recipe.task, "shuffle_bn", False):  # hides something only where fewer images are normalised together
        changes["bn_group"] = recipe.batch_size // 8
    network = fit_options(recipe.backbone, **vars(recipe.backbone_options) | changes)
    seen = {"fraction": 0.25, "endpoints": ("pre_logits",), "untrained": "initial", "train": "train"}
    return dataclasses.replace(
        recipe,
        backbone_options=network,
        fraction=2 / 9,
        epochs=STAGES[name],
        views=dataclasses.replace(recipe.views, resize="bilinear"),  # crops of 32 pixels never shrink
        bench=dataclasses.replace(recipe.bench, **seen),
        probes=at_defaults("multi_layer"),
        protocol="select",
        source=f"our own: {name}/small with a shorter length; not tuned",
    )


def imagenette(name, width, backbone):
    """4,500 images at 64 px of a shorter side of 72."""
    return Recipe(
        pretext=PRETEXT_OF[name],
        **network(backbone, width, stem="small", strides=(2, 2, 1)),
        task=short(name, 64),
        dataset="imagenette_subset160",
        views=dataclasses.replace(IMAGENET_PLUS, size=64, blur_probability=(0.0,)),
        batch_size=64,
        epochs=20,
        optimizer=rate(0.06, warmup_epochs=1),
        bench=dataclasses.replace(AS_THEY_ARE, method="shorter_side", resize=72, resize_by="antialias", size=64),
        probes=at_defaults("multi_layer", "knn"),
        source="our own: not tuned; rate of moco_v2/small",
    )


def smoke(name, width, backbone):
    """Seconds: twelve steps on digits."""
    return Recipe(
        pretext=PRETEXT_OF[name],
        **network(backbone, width, stem="cifar", strides=(2, 2, 1)),
        task=short(name, 32, hidden=32, units=16, group=16),
        dataset="digits",
        views=ViewSpec(crop="resized", size=32, scale=(0.6, 1.0), color="none", flip=False),
        batch_size=32,
        epochs=1,
        max_steps=12,
        optimizer=rate(0.05, warmup_epochs=0),
        bench=AS_THEY_ARE,
        probes={"multi_layer": MultiLayer(schedule=(1, 2)), "knn": KNN()},
        source="small enough for a test",
    )


RECIPES = {
    f"{name}/stages": (lambda width=None, backbone=None, name=name: stages(name, width, backbone)) for name in STAGES
} | {
    f"{name}/{preset}": (lambda width=None, backbone=None, make=make, name=name: make(name, width, backbone))
    for preset, make in (
        ("sample", sample),
        ("imagenette", imagenette),
        ("cifar10", cifar10),
        ("paper", paper),
        ("conceptual_captions", conceptual_captions),
        ("coco", coco),
        ("smoke", smoke),
    )
    for name in PRETEXT_OF
}
