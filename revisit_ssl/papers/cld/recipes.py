"""Wang, Liu, Yu: Unsupervised Feature Learning by Cross-Level Instance-Group Discrimination (CVPR 2021,
arXiv:2008.03813), and the instance methods under it: NPID, MoCo, MoCo v2, SimCLR, BYOL, InfoMin.

A name with _cld is the method with CLD. Published scale, where the authors' own numbers exist:

cifar10, cifar100         npid: its own recipe; npid_cld, moco_cld: the released scripts, whose numbers the README has.
                          Other methods have no published setting there: the scripts' schedule, so that they compare.
supplement                npid_cld on CIFAR-10 as the supplement's text says, which is not what its scripts do.
cifar10-first             moco_cld: the first released version of its CIFAR-10 script.
demo                      moco: the official CIFAR-10 notebook.
cifar10_lt, cifar100_lt, stl10, kitchen_hc, imagenet100
                          npid and moco with and without CLD, from what the supplement says of them.
paper                     ImageNet.
imagenet_lt               npid and moco with and without CLD on ImageNet-LT, which has the same setting.
semi_1pct, semi_10pct     the weights of paper, fine-tuned on 1 % or 10 % of the labels, with the supplement's search.
openselfsup               byol, byol_cld: the configuration that BYOL + CLD was built on.

sample  our own: toy_scenes at 64 px on a laptop, minutes.
small   our own: 10,000 images of CIFAR-10 with ResNet18 of 16 channels, a quarter of an hour on two cores.
smoke   our own: digits, a few steps, for tests of the machinery. Its features are worth nothing.

A method with CLD and without it differ by CLD's weight alone, but in npid/cifar10, npid/cifar100 and the preset paper:
there the one without is the baseline that the paper prints, and the control is npid_cld --cld.weight 0.
"""

# Deviation: an epoch ends with its last full batch (195 of 256 images on CIFAR); the scripts take the other 80 too.

import dataclasses

from revisit_ssl.backbones import fit_options
from revisit_ssl.papers.cld.derived import few_labels, long_tailed
from revisit_ssl.papers.cld.our_own import sample, small, smoke
from revisit_ssl.papers.cld.parts import (
    BYOL,
    CIFAR,
    CIFAR_PLUS,
    DEMO,
    ENDPOINTS,
    INFOMIN,
    NO_FLIP,
    OPENSELFSUP,
    PRETEXT_OF,
    SIMCLR,
    STL,
    expected,
    options,
    plus,
    term,
)
from revisit_ssl.papers.cld.protocols import PROTOCOLS
from revisit_ssl.papers.mocos import EPOCH_COSINE, IMAGENET, IMAGENET_PLUS
from revisit_ssl.recipe import BenchSpec, OptimizerSpec, Recipe

ABOUT = {
    "npid_cld": "NPID with cross-level discrimination between its views.",
    "moco_cld": "MoCo with cross-level discrimination between its queries.",
    "moco_v2": "MoCo with an MLP head and MoCo v2's augmentation.",
    "moco_v2_cld": "MoCo v2 with cross-level discrimination between its queries.",
    "byol_cld": "BYOL with cross-level discrimination between its views.",
    "infomin_cld": "InfoMin with cross-level discrimination between its queries.",
}

# PyTorch's SGD decays every parameter. The warm-up of CLD's CIFAR scripts begins at a hundredth of the peak, whose 0.06
# is 0.03 on the command line, times 256 / 128.
SCRIPT = OptimizerSpec(
    lr=0.06, schedule="cosine", warmup_epochs=5, warmup_from=0.01, floor=1e-6, weight_decay=7e-4, decay="all"
)
STEPS = OptimizerSpec(
    lr=0.03, milestones=(120, 160), first_step_drops=True, warmup_epochs=0, weight_decay=1e-4, decay="all"
)

# The GPUs of the official runs, each of which normalised its own rows. One device stands for them with ghost groups;
# only there, too, does shuffling hide from MoCo and InfoMin whose statistics a key was normalised with.
GPUS, STL_GPUS = 8, 2

# What probes see, in torchvision's scripts: small images as they are, of ImageNet the middle.
AS_THEY_ARE = BenchSpec(method="none", resize_by="antialias", train="trainval", endpoints=ENDPOINTS)
SMALL = ("knn", "linear", "nmi", "retrieval")  # probes of small images
SQUASHED = dataclasses.replace(AS_THEY_ARE, method="squash", resize=32, size=32, train="train")
MIDDLE = dataclasses.replace(AS_THEY_ARE, method="shorter_side", resize=256, size=224, endpoints=("pre_logits",))


def published(name, dataset, width, backbone, *, task, source, numbers="", **fields):
    """A recipe at published scale: all training images, the official evaluation.

    Args:
        name, dataset: of PRETEXT_OF and DATASETS.
        width, backbone: None: the paper's.
        task: options of the pretext.
        source: where the values come from.
        numbers: what is published of it.
        fields: further fields of the Recipe, which replace those here, and ``network``, options of the network.
    """
    small = dataset.startswith(("cifar", "stl10", "kitchen"))
    backbone = backbone or ("resnet18_cifar" if small else "resnet50_torch")
    recipe = Recipe(
        pretext=PRETEXT_OF[name],
        backbone=backbone,
        backbone_options=fit_options(backbone, **fields.pop("network", {})),
        width=width or 4,
        task=task,
        dataset=dataset,
        split="trainval",
        epochs=200,
        # Official kNN: all labelled training images in the test transform, K 200, the last epoch here.
        bench=AS_THEY_ARE if small else MIDDLE,
        probes={name: PROTOCOLS["moco"][name] for name in SMALL} if small else on_images("moco"),
        protocol="moco",
        source=f"{source}; published: {numbers or 'none that we know of'}",
    )
    return dataclasses.replace(recipe, **fields)


def on_images(protocol, **changes):
    """Linear classifiers on augmented images by MoCo's script or InfoMin's."""
    return {"linear_images": dataclasses.replace(PROTOCOLS[protocol]["linear_images"], **changes)}


def cifar(name, dataset, width, backbone, *, first=False):
    """CLD's CIFAR scripts; NPID's own. ``first``: MoCo's CIFAR-10 script as first released."""
    hundred, numbers = dataset.startswith("cifar100"), None
    groups, views, optimizer, batch_size = 200 if hundred else 128, CIFAR, SCRIPT, 256
    if name == "npid" and dataset in ("cifar10", "cifar100"):
        # The learning rate of 0.03 is for its 128 images.
        optimizer = dataclasses.replace(STEPS, scale_lr=False, weight_decay=5e-4)
        task, views, batch_size = options(name, temperature=0.1, bank_momentum=0.5), NO_FLIP, 128
        source = "official cifar.py of NPID with nce-k 0: full softmax, one view, no flip; one GPU"
    elif PRETEXT_OF[name] == "npid":
        task = options(
            name, temperature=0.1, bank_momentum=0.5, crops=2, bank_semantics="legacy",
            cld=term(name, 1.0, groups=groups, temperature=0.2),
        )
        script = "cifar100" if hundred else "cifar10"
        source = f"scripts/cifar/train_{script}_npid_cld.sh with torch 1.6 (legacy bank), half precision, one GPU"
    elif name in ("moco", "moco_cld"):
        old = hundred or first
        cld = term(name, 0.25, groups=100) if old else term(name, 0.8, groups=200)
        task = options(
            name, head="normlinear", temperature=0.07, momentum=0.999, update_target="after", crops=3,
            queue_size=4096 if old else 12288, queue_start="uniform", shuffle_bn=False, cld=cld,
        )
        batch_size = 128 if old else 256
        views = CIFAR if old else dataclasses.replace(CIFAR_PLUS, erasing_probability=1.0)
        optimizer = optimizer if old else dataclasses.replace(optimizer, weight_decay=8e-4)
        script = f"scripts/cifar/train_{'cifar100' if hundred else 'cifar10'}_moco_cld.sh"
        source = f"{script}{' as first released (commit aee5af0)' if first else ''}, float32, one GPU"
        source += "" if name.endswith("_cld") else ", with weight 0; the recipe of the published row is not released"
    else:
        views, optimizer = plus(name), dataclasses.replace(SCRIPT, weight_decay=5e-4)
        task = unpublished(name, groups=groups, temperature=0.2)
        source = "not published: the augmentation of MoCo v2 or InfoMin, the schedule of CLD's CIFAR scripts"
        numbers = expected(name, dataset, "CIFAR-10 benchmark")
        numbers += " of lightly, best epoch on the test set" if numbers else ""
    if numbers is None:
        head = task.head
        numbers = expected(name, dataset, "README, CIFAR", head=head) or f"none that we know of with its {head} head"
    return published(
        name, dataset, width, backbone, task=task, views=views, optimizer=optimizer, batch_size=batch_size,
        source=source, numbers=numbers,
    )


def unpublished(name, **cld):
    """Options on small images of methods that have none published there: those of ImageNet, smaller."""
    cld = {} if name == "simclr" else {"cld": term(name, 0.25, **cld)}
    if name == "simclr":
        return options(name, temperature=0.5)  # of the paper's CIFAR-10, appendix B.9
    if PRETEXT_OF[name] == "byol":
        return options(name, hidden=1024, **cld)
    if PRETEXT_OF[name] == "infomin":
        return options(name, queue_size=4096, crops=3, **cld)
    return options(name, head="mlp", temperature=0.2, queue_size=4096, crops=3, **cld)


def cifar10(name, width, backbone):
    """``cifar`` on CIFAR-10."""
    return cifar(name, "cifar10", width, backbone)


def cifar10_first(name, width, backbone):
    """``cifar`` on CIFAR-10 by the first released version of its script."""
    return cifar(name, "cifar10", width, backbone, first=True)


def cifar100(name, width, backbone):
    """``cifar`` on CIFAR-100."""
    return cifar(name, "cifar100", width, backbone)


# Long tails. Disputed: the imbalance factor is not stated; ours is 100 (--dataset cifar10_lt:50 for 50). The supplement
# says a rate of 0.03 and a decay of 1e-4, as it does for CIFAR-10, whose script has others: the script's are taken.
def cifar10_lt(name, width, backbone):
    """``cifar`` on long-tailed CIFAR-10."""
    return cifar(name, "cifar10_lt", width, backbone)


def cifar100_lt(name, width, backbone):
    """``cifar`` on long-tailed CIFAR-100."""
    return cifar(name, "cifar100_lt", width, backbone)


def supplement(name, width, backbone):
    """CIFAR-10 by the supplement's sections 2 and 6, which its scripts contradict in rate, decay, T and weight."""
    recipe = cifar10(name, width, backbone)
    cld = dataclasses.replace(recipe.task.cld, weight=0.25, temperature=0.2)
    return dataclasses.replace(
        recipe,
        task=dataclasses.replace(recipe.task, temperature=0.2, cld=cld),
        optimizer=dataclasses.replace(recipe.optimizer, lr=0.03, weight_decay=1e-4),
        source="supplement, sections 2 and 6 (the best of Tables A.3 and A.4); what it does not say is the script's; "
        f"published: {expected(name, 'cifar10', 'Table A.2', 'cld.branch=separate cld.cross=yes')}",
    )


def as_stated(name, groups, weight, **moco):
    """Options where the supplement names no temperature: CIFAR's, with the queue of the first MoCo script.

    ``moco``: options of MoCo alone.
    """
    if PRETEXT_OF[name] == "npid":
        cld = term(name, weight, groups=groups)
        return options(name, temperature=0.1, crops=2, bank_semantics="legacy", cld=cld)
    cld = term(name, 0.25, groups=groups)
    moco = {"shuffle_bn": False} | moco  # on one GPU the script's shuffle changes nothing
    return options(
        name, head="normlinear", temperature=0.07, update_target="after", crops=3, queue_size=4096,
        queue_start="uniform", cld=cld, **moco,
    )


def stl10(name, width, backbone):
    """Supplement, section 2.3: 105,000 images at 96 px. Groups, temperatures, weight and epochs are not stated."""
    return published(
        name, "stl10_all", width, backbone, task=as_stated(name, 128, 1.0, shuffle_bn=True), views=STL, batch_size=256,
        network={"bn_group": 256 // STL_GPUS},
        optimizer=dataclasses.replace(SCRIPT, lr=0.03, weight_decay=1e-4),
        bench=dataclasses.replace(AS_THEY_ARE, dataset="stl10"),
        source="supplement, section 2.3; two GPUs there; temperatures, groups, weight and epochs as for CIFAR-10, the "
        "schedule as in the scripts: not stated. The average is over the whole map; the official code's covers its "
        "top left 7x7 of 12x12",
    )


def kitchen_hc(name, width, backbone):
    """Supplement, sections 1, 2.2 and Table A.1: the 10 groups of its best row. T and weight are not stated."""
    return published(
        name, "kitchen_hc", width, backbone, task=as_stated(name, 10, 1.0), views=CIFAR, batch_size=256, epochs=80,
        optimizer=dataclasses.replace(SCRIPT, lr=0.03, weight_decay=1e-4), split="train", bench=SQUASHED,
        source="supplement, sections 1, 2.2 and Table A.1; one GPU there; temperatures and weight as for CIFAR-10, the "
        "schedule as in the scripts: not stated",
        numbers=expected(name, "kitchen_hc", "Table A.1", "cld.clustering=kmeans cld.groups=10"),
    )


def imagenet100(name, width, backbone):
    """Supplement, section 2.1 and Tables A.3, A.4. Epochs, schedule, groups and negatives are not stated."""
    # 64 rows on each of 8 GPUs: as many groups as the ImageNet scripts have, which is more than there are rows.
    cld = term(name, 0.25, groups=120, temperature=0.2, chunks=8)
    if PRETEXT_OF[name] == "npid":
        task = options(name, temperature=0.2, crops=2, cld=cld)
    else:
        task = options(name, temperature=0.2, queue_size=65536, crops=3, cld=cld)
    row = (f"{PRETEXT_OF[name]}_cld", "imagenet100", "Table A.3", f"cld.weight={task.cld.weight:g}")
    return published(
        name, "imagenet100", width, backbone, task=task, views=IMAGENET, batch_size=512,
        network={"bn_group": 512 // GPUS},
        optimizer=dataclasses.replace(EPOCH_COSINE, lr=0.8, scale_lr=False),
        probes=on_images("moco", learning_rates=(10.0, 30.0)), bench=dataclasses.replace(MIDDLE, train="train"),
        source="supplement, section 2.1, Tables A.3 and A.4; 8 GPUs there; epochs, cosine, groups and negatives: not "
        "stated, as in the ImageNet scripts; the probe's rate by CMC, who found 10 better than MoCo's 30",
        numbers=expected(*row),
    )


def paper(name, width, backbone):
    """ImageNet: the released scripts of MoCo v2 + CLD and InfoMin + CLD, and each base method's own setting."""
    # Chunks stand for the 8 GPUs of the scripts. 64 rows on each, 120 groups (100 before 2021-05-06): one for each row.
    cld = {"groups": 120, "chunks": 8}
    views, optimizer, batch_size, changes = IMAGENET, STEPS, 256, {}
    table = "README, ImageNet"
    if name == "npid":
        task = options(name, temperature=0.07, loss="nce", negatives=4096)
        source = "official main.py of NPID: NCE with 4,096 negatives; the later model is a softmax over 65,536"
        table = "lemniscate README"
    elif name == "moco":
        task = options(name, temperature=0.07, momentum=0.999, queue_size=65536)
        source, table = "official MoCo, v1; 8 GPUs there", "README"
    elif name in ("npid_cld", "moco_cld"):
        kind = dict(negatives=4096) if name == "npid_cld" else dict(queue_size=65536, crops=3)
        spec = term(name, 0.25, groups=32, temperature=0.2, chunks=8)
        task = options(name, temperature=0.2, cld=spec, **kind)
        source = "supplement, section 2.1: 256 images, rate 0.03, 8 GPUs; weight and T of its ImageNet-100, groups and "
        source += "negatives not stated"
    elif name == "moco_v2":
        task = options(name, head="mlp", temperature=0.2, momentum=0.999, queue_size=65536)
        views, optimizer = IMAGENET_PLUS, EPOCH_COSINE
        source = "official MoCo, v2; 8 GPUs there"
    elif name == "moco_v2_cld":
        spec = term(name, 0.25, temperature=0.4, **cld)
        task = options(name, head="normmlp", temperature=0.2, momentum=0.999, queue_size=65536, crops=3, cld=spec)
        views, optimizer, batch_size = IMAGENET_PLUS, dataclasses.replace(EPOCH_COSINE, lr=0.2, scale_lr=False), 512
        source = "scripts/imagenet/train_imagenet_mocov2_cld.sh; 8 GPUs there"
    elif name == "simclr":
        task, views, batch_size = options(name, temperature=0.1), SIMCLR, 4096
        optimizer = OptimizerSpec(name="lars", lr=0.3, schedule="cosine", warmup_epochs=10, weight_decay=1e-6)
        changes = {"epochs": 100, "network": {"norm": "sync", "zero_init_residual": True}}
        source = "arXiv:2002.05709, section 2 and appendix A; 32 to 128 TPU cores there"
    elif name == "byol":
        task, views, batch_size = options(name, momentum=0.99), BYOL, 4096
        optimizer = OptimizerSpec(name="lars", lr=0.3, schedule="cosine", warmup_epochs=10, weight_decay=1e-6)
        changes = {"epochs": 300, "network": {"norm": "sync", "bn_momentum": 0.9, "zero_init_residual": True}}
        source = "official byol/, 300 epochs; 512 TPU cores there"
    elif name == "byol_cld":
        return openselfsup(name, width, backbone)
    elif name == "infomin":
        task, views = options(name), INFOMIN
        optimizer = dataclasses.replace(EPOCH_COSINE, schedule="infomin", floor=3e-5)
        changes = {"epochs": 100, "probes": on_images("infomin"), "protocol": "infomin"}
        source = "InfoMin of PyContrast; 8 GPUs there"
    elif name == "infomin_cld":
        task = options(name, head="normmlp", cld=term(name, 0.25, temperature=0.8, **cld))
        views, batch_size = INFOMIN, 512
        optimizer = dataclasses.replace(
            EPOCH_COSINE, schedule="infomin", lr=0.2, scale_lr=False, floor=2e-4, warmup_epochs=5, warmup_from=0.05
        )
        changes = {"epochs": 100, "probes": on_images("infomin"), "protocol": "infomin"}
        source = "scripts/imagenet/train_imagenet_infomin_cld.sh; 8 GPUs there; --epochs 200 for the longer rows"
    if PRETEXT_OF[name] in ("npid", "moco", "infomin"):
        changes["network"] = {"bn_group": batch_size // GPUS}
    own = {"epochs": changes.get("epochs", 200)} | ({"head": task.head} if hasattr(task, "head") else {})
    numbers = expected(name, "imagenet2012", table, **own)
    return published(
        name, "imagenet2012", width, backbone, task=task, views=views, optimizer=optimizer, batch_size=batch_size,
        source=source, numbers=numbers, **changes,
    )


def openselfsup(name, width, backbone):
    """OpenSelfSup's r50_bs256_ep200, on which BYOL + CLD was built; its code is not published."""
    spec = term(name, 0.25, groups=32, temperature=0.3, chunks=8)
    with_cld = "; CLD's groups, T and branch not stated: a group for each row of a GPU" if spec.weight else ""
    return published(
        name, "imagenet2012", width, backbone,
        task=options(name, momentum=0.996, last_bias=True, cld=spec), views=OPENSELFSUP, batch_size=256,
        network={"bn_group": 256 // GPUS},
        optimizer=OptimizerSpec(
            name="lars", form="openselfsup", lr=0.2, schedule="epoch_cosine", warmup_epochs=2, warmup_from=1e-4,
            weight_decay=1.5e-6,
        ),
        source=f"OpenSelfSup, configs/selfsup/byol/r50_bs256_ep200.py; 8 GPUs there{with_cld}",
        numbers=expected(name, "imagenet2012", "model zoo", "epochs=200"),
    )


def demo(name, width, backbone):
    """MoCo's CIFAR-10 notebook; --task.symmetric gives its other row. Eight groups stand for its split BatchNorm."""
    return published(
        name, "cifar10", width, backbone,
        task=options(name, temperature=0.1, momentum=0.99, queue_size=4096),
        views=DEMO, batch_size=512, network={"bn_group": 64},
        # The notebook's first epoch is number 1 of its cosine, as InfoMin's is; that of MoCo's script is number 0.
        optimizer=dataclasses.replace(EPOCH_COSINE, schedule="infomin", lr=0.06, scale_lr=False, weight_decay=5e-4),
        source="MoCo's CIFAR-10 notebook; one GPU",
        numbers=expected(name, "cifar10", "CIFAR-10 notebook", symmetric="no", epochs=200),
    )


BOTH = ("npid", "npid_cld", "moco", "moco_cld")
RECIPES = {
    f"{name}/{preset}": (lambda width=None, backbone=None, make=make, name=name: make(name, width, backbone))
    for preset, make, names in (
        ("sample", sample, tuple(PRETEXT_OF)),
        ("small", small, tuple(PRETEXT_OF)),
        ("cifar10", cifar10, tuple(PRETEXT_OF)),
        ("cifar10-first", cifar10_first, ("moco_cld",)),
        ("supplement", supplement, ("npid_cld",)),
        ("demo", demo, ("moco",)),
        ("cifar100", cifar100, BOTH),
        ("cifar10_lt", cifar10_lt, BOTH),
        ("cifar100_lt", cifar100_lt, BOTH),
        ("stl10", stl10, BOTH),
        ("kitchen_hc", kitchen_hc, BOTH),
        ("imagenet100", imagenet100, BOTH),
        ("paper", paper, tuple(PRETEXT_OF)),
        ("imagenet_lt", lambda *given: long_tailed(paper(*given)), BOTH),
        ("semi_1pct", lambda *given: few_labels(given[0], paper(*given), 0.01), tuple(PRETEXT_OF)),
        ("semi_10pct", lambda *given: few_labels(given[0], paper(*given), 0.1), tuple(PRETEXT_OF)),
        ("openselfsup", openselfsup, ("byol", "byol_cld")),
        ("smoke", smoke, tuple(PRETEXT_OF)),
    )
    for name in names
}
