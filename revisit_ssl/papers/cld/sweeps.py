"""The CLD paper's sweeps, each with the cells of one table or figure."""

from revisit_ssl.papers.cld.ablations import ABLATIONS, NEGATIVES
from revisit_ssl.papers.spec import Variant, swept

# The methods, each with and without its term.
METHODS = (
    "npid", "npid_cld", "moco", "moco_cld", "moco_v2", "moco_v2_cld", "simclr", "byol", "byol_cld", "infomin",
    "infomin_cld",
)
SWEEPS = {
    "cld": [Variant(name) for name in METHODS],
    **{ablation.sweep: swept(ablation) for ablation in (*ABLATIONS, NEGATIVES)},
}
