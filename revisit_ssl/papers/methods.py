"""What the papers call the pretexts, in the order in which they stand in tables; what is not here keeps its name."""

METHODS = {
    "rotation": "Rotation",
    "exemplar": "Exemplar",
    "relative_patch": "RelPatchLoc",
    "jigsaw": "Jigsaw",
    "supervised": "Supervised",
    "npid": "NPID",
    "moco": "MoCo",
    "moco_v2": "MoCo v2",
    "simclr": "SimCLR",
    "byol": "BYOL",
    "infomin": "InfoMin",
    "rotnet": "RotNet",
    "deepcluster": "DeepCluster",
    "deepercluster": "DeeperCluster",
    "obow": "OBoW",
    "bownet": "BoWNet",
    "maskco": "MaskCo",
    "maskco_in": "MaskCo(+in)",
}


def method_name(name):
    """MoCo v2 + CLD of moco_v2_cld"""
    base = name.removesuffix("_cld")
    return METHODS.get(base, base) + (" + CLD" if name.endswith("_cld") else "")
