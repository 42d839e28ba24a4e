"""What CLD's recipes are made of: each name's pretext, the augmentations, the term, the published numbers."""

import dataclasses

from revisit_ssl.papers.mocos import IMAGENET, ORDER
from revisit_ssl.papers.published import load_published
from revisit_ssl.pretext import find_options
from revisit_ssl.pretext.cld import CLDSpec
from revisit_ssl.recipe import ViewSpec

PRETEXT_OF = {
    "npid": "npid",
    "npid_cld": "npid",
    "moco": "moco",
    "moco_cld": "moco",
    "moco_v2": "moco",
    "moco_v2_cld": "moco",
    "simclr": "simclr",
    "byol": "byol",
    "byol_cld": "byol",
    "infomin": "infomin",
    "infomin_cld": "infomin",
}
ENDPOINTS = ("projection", "pre_logits")

# Augmentations of the paper and its base methods, each in the order of its code. Those of torchvision antialias.
CIFAR = ViewSpec(
    crop="resized", size=32, scale=(0.2, 1.0), color="jitter", jitter=(0.4, 0.4, 0.4, 0.4), gray_probability=0.2,
    order=ORDER, normalize="cifar", resize="antialias",
)
CIFAR_PLUS = dataclasses.replace(
    CIFAR, jitter=(0.4, 0.4, 0.4, 0.1), jitter_probability=0.8, blur_probability=(0.5,)
)  # as MoCo v2
NO_FLIP = dataclasses.replace(CIFAR, flip=False)  # NPID's own script has the line commented out
STL = dataclasses.replace(CIFAR, size=96, normalize="pm1")
INFOMIN = dataclasses.replace(  # "D" of InfoMin's code
    IMAGENET, order=("flip", "color", "blur", "randaugment", "gray", "solarize"), jitter=(0.8, 0.8, 0.8, 0.2),
    jitter_probability=0.8, blur_probability=(0.5,), blur_taps=23, randaugment_layers=2,
)
# Deviation: bilinear crops; SimCLR's and BYOL's own code (TensorFlow, not antialiased) and OpenSelfSup's (torchvision)
# are bicubic.
SIMCLR = dataclasses.replace(
    IMAGENET, scale=(0.08, 1.0), order=ViewSpec().order, jitter=(0.8, 0.8, 0.8, 0.2), jitter_probability=0.8,
    blur_probability=(0.5,), blur_taps=23, resize="bilinear",
)
BYOL = dataclasses.replace(
    SIMCLR, jitter=(0.4, 0.4, 0.2, 0.1), blur_probability=(1.0, 0.1), solarize_probability=(0.0, 0.2)
)
OPENSELFSUP = dataclasses.replace(BYOL, resize="antialias")
DEMO = dataclasses.replace(
    CIFAR, scale=(0.08, 1.0), order=ViewSpec().order, jitter=(0.4, 0.4, 0.4, 0.1), jitter_probability=0.8
)


def plus(name, **changes):
    """Views of small images: as of MoCo v2, or of InfoMin."""
    fields = ("order", "jitter", "jitter_probability", "blur_probability", "randaugment_layers")
    strong = {field: getattr(INFOMIN, field) for field in fields} if PRETEXT_OF[name] == "infomin" else {}
    return dataclasses.replace(CIFAR_PLUS, **strong | changes)


def term(name, weight, **fields):
    """CLD of a recipe whose name says that it has one; of another the same at weight 0."""
    return CLDSpec(weight=weight if name.endswith("_cld") else 0.0, **fields)


def options(name, **changes):
    """The options of the recipe's pretext."""
    return find_options(PRETEXT_OF[name])(**changes)


def expected(name, dataset, table, setting=None, **own):
    """What the recipe's row of that table says, as text.

    Args:
        name, dataset, table: of the row.
        setting: of a table that has several rows for a name.
        own: values of the recipe, such as its head, that a row has to share which names them.
    """
    def is_own(row):
        said = dict(part.split("=") for part in row["setting"].split())
        return all(said.get(option, f"{value}") == f"{value}" for option, value in own.items())

    rows = [
        row for row in load_published("cld")
        if (row["pretext"], row["dataset"], row["table"]) == (name, dataset, table) and row["metric"] == "top1"
        and setting in (None, row["setting"]) and is_own(row)
    ]
    return "; ".join(f"{row['value']} ({', '.join(filter(None, (row['table'], row['setting'])))})" for row in rows)
