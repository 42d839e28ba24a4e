"""The MaskCo paper's sweeps, each with the cells of one table."""

from revisit_ssl.papers.spec import Variant

# Supplement, Table 1, in its order. At small scale every method has its own small recipe, of one network.
TABLE_1 = ("random", "supervised", "relative_patch", "rotation", "npid", "moco_v2", "simclr", "byol", "maskco")
# Supplement, Table 2, whose rows have no MPH, and the two cells that it does not have.
MASK = {"zero": "mask", "none": "nomask"}
MPH = {"none": "nomph", "bottleneck": "mph"}

SWEEPS = {
    "maskco-table1": [Variant(name) for name in TABLE_1],
    "maskco-mask": [
        Variant("maskco", {"fill": fill, "mph": mph}, f"{masked}_{head}")
        for fill, masked in MASK.items()
        for mph, head in MPH.items()
    ],
    "maskco-negatives": [Variant("maskco"), Variant("maskco_in")],
}
