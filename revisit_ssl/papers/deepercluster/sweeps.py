"""The DeeperCluster paper's sweeps, each with the cells of one table or figure."""

from revisit_ssl.papers.spec import Variant

METHODS = ("rotnet", "rotnet_sobel", "deepcluster", "deepcluster_rgb", "deepercluster", "deepercluster_rgb")
SWEEPS = {
    # All methods, on colours and on Sobel's derivatives.
    "deepercluster": [Variant(name) for name in METHODS],
    # Table 4: what Sobel does for both.
    "deepercluster-table4": [Variant(name) for name in METHODS if not name.startswith("deepcluster")],
}
