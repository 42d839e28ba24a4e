"""The OBoW paper's sweeps, each with the cells of one table or figure."""

from revisit_ssl.papers.obow.methods import SECTION_D
from revisit_ssl.papers.spec import Variant, swept

# Table 1: vanilla and full, and MoCo v2 with its own views and with OBoW's.
METHODS = ("obow_vanilla", "obow", "moco_v2_plain", "moco_v2_multicrop")
SWEEPS = {"obow": [Variant(name) for name in METHODS], SECTION_D.sweep: swept(SECTION_D)}
