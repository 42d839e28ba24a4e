"""DeepCluster: which of k clusters an image is in (Caron et al., ECCV 2018, arXiv:1807.05520).

Follows facebookresearch/deepcluster, main.py and clustering.py.
"""

from revisit_ssl.pretext.cluster_options import DeepClusterOptions
from revisit_ssl.pretext.deepercluster import DeeperCluster


class DeepCluster(DeeperCluster):
    """DeeperCluster with one super-class: flat clusters, images that are not turned.

    The head starts at small random values and its optimiser has no momentum, as in the authors' code.

    Args:
        options: DeepClusterOptions.
    """

    Options = DeepClusterOptions
    head_start = "normal"
    without_momentum = ("sub_heads",)
    contract_changes = {"task__clusters": 8, "task__dim_pca": 8}
