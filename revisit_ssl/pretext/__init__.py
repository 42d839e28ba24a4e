"""Pretext tasks by name. To add one: a file here, a line below, a recipe."""

from revisit_ssl.errors import InputError
from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.bownet import BoWNet
from revisit_ssl.pretext.byol import BYOL
from revisit_ssl.pretext.exemplar import Exemplar
from revisit_ssl.pretext.infomin import InfoMin
from revisit_ssl.pretext.jigsaw import Jigsaw
from revisit_ssl.pretext.moco import MoCo
from revisit_ssl.pretext.moco_multicrop import MoCoMultiCrop
from revisit_ssl.pretext.npid import NPID
from revisit_ssl.pretext.obow import OBoW
from revisit_ssl.pretext.relative_patch import RelativePatch
from revisit_ssl.pretext.rotation import Rotation
from revisit_ssl.pretext.simclr import SimCLR
from revisit_ssl.pretext.supervised import RandomInit, Supervised

PRETEXTS = {
    "exemplar": Exemplar,
    "jigsaw": Jigsaw,
    "relative_patch": RelativePatch,
    "rotation": Rotation,
    "moco": MoCo,
    "npid": NPID,
    "simclr": SimCLR,
    "byol": BYOL,
    "infomin": InfoMin,
    "obow": OBoW,
    "bownet": BoWNet,
    "moco_v2_multicrop": MoCoMultiCrop,
    "supervised": Supervised,
    "random": RandomInit,
}

__all__ = ["PRETEXTS", "Pretext", "find_pretext"]


def find_pretext(name):
    """The class of that name.

    Raises:
        InputError: unknown name.
    """
    if name not in PRETEXTS:
        raise InputError(f"unknown pretext {name!r}; one of {', '.join(sorted(PRETEXTS))}")
    return PRETEXTS[name]
