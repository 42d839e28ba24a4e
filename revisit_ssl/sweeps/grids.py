"""Every sweep by name: which recipes it runs, and the flags that tell one run of a recipe from another."""

from dataclasses import dataclass

from revisit_ssl.papers.revisiting import recipes as revisiting


@dataclass(frozen=True)
class Variant:
    """A recipe with flags of run.py; ``label`` is what they are called in the name of the run's folder."""

    recipe: str
    flags: tuple = ()
    label: str = ""

    @property
    def name(self):
        """npid_cld, or npid_cld-kmeans_k10"""
        return f"{self.recipe}-{self.label}" if self.label else self.recipe


# The methods of the CLD paper, each with and without its term.
METHODS = (
    "npid", "npid_cld", "moco", "moco_cld", "moco_v2", "moco_v2_cld", "simclr", "byol", "byol_cld", "infomin",
    "infomin_cld",
)  # fmt: skip
GROUPS = (10, 64, 128, 256)
WEIGHTS = (0, 0.1, 0.25, 0.5, 1, 3)
TEMPERATURES = (0.07, 0.1, 0.2, 0.3, 0.4, 0.5)
NEGATIVES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 49152)


def clusterings():
    """CLD's Table A.1: clustering method by number of groups (Kitchen-HC)."""
    return [
        Variant("npid_cld", ("--cld.clustering", method, "--cld.groups", str(k)), f"{method}_k{k}")
        for method in ("kmeans", "spectral")
        for k in GROUPS
    ]


def branches():
    """Table A.2: no CLD, a shared head, a head of its own, and views that are compared with each other's groups.

    "None" is the same script with weight 0, which is what tells CLD's gain; the paper's is NPID's own recipe.
    """
    return [
        without("npid_cld"),
        Variant("npid_cld", ("--cld.branch", "shared", "--cld.no-cross"), "shared"),
        Variant("npid_cld", ("--cld.branch", "separate", "--cld.no-cross"), "separate"),
        Variant("npid_cld", ("--cld.branch", "separate", "--cld.cross"), "separate_cross"),
    ]


def weights():
    """Table A.3: the weight of CLD, on NPID and on MoCo (ImageNet-100)."""
    return [
        Variant(recipe, ("--cld.weight", str(weight)), f"weight{weight}") if weight else without(recipe)
        for recipe in ("npid_cld", "moco_cld")
        for weight in WEIGHTS
    ]


def without(recipe):
    """The recipe at weight 0 with as many crops of an image as CLD needs, so that the term alone is missing."""
    crops = {"npid_cld": "2", "moco_cld": "3"}[recipe]
    return Variant(recipe, ("--cld.weight", "0", "--task.crops", crops), "weight0")


def temperatures():
    """Table A.4: one temperature for instances and groups (CIFAR-100, ImageNet-100); MoCo + CLD by its best numbers."""
    return [
        Variant("moco_cld", ("--task.temperature", str(t), "--cld.temperature", str(t)), f"temperature{t}")
        for t in TEMPERATURES
    ]


def negatives():
    """Figure A.2: MoCo without CLD over sizes of the queue."""
    return [Variant("moco", ("--task.queue-size", str(k)), f"queue{k}") for k in NEGATIVES]


# OBoW's Table 1: vanilla and full, and MoCo v2 with its own views and with OBoW's.
OBOW = ("obow_vanilla", "obow", "moco_v2_plain", "moco_v2_multicrop")


def vocabularies():
    """The vocabularies of OBoW's supplement, section D, for vanilla OBoW.

    Those by k-means start with features: from noise they would begin with few words in use, whatever happens later.
    """
    kmeans = ("kmeans", "kmeans_replace", "kmeans_sinkhorn")
    flags = {kind: ("--task.vocabulary", kind, "--task.start", "features") for kind in kmeans}
    return [Variant("obow_vanilla"), *(Variant("obow_vanilla", flags[kind], kind) for kind in kmeans)]


FAMILIES = {
    "revisiting": [Variant(name) for name in revisiting.PRETEXTS],
    "cld": [Variant(name) for name in METHODS],
    "cld-a1": clusterings(),
    "cld-a2": branches(),
    "cld-a3": weights(),
    "cld-a4": temperatures(),
    "cld-figure-a2": negatives(),
    "obow": [Variant(name) for name in OBOW],
    "obow-vocabulary": vocabularies(),
}
"""Papers and their tables: what a sweep runs where it is told nothing else."""
