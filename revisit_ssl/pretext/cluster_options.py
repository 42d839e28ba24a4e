"""The options of the pretexts that predict clusters. They need no TensorFlow, so that help does not either."""

from dataclasses import dataclass
from typing import Literal

from revisit_ssl.errors import require
from revisit_ssl.recipe import TaskOptions


@dataclass(frozen=True, kw_only=True)
class ClusterOptions(TaskOptions):
    """Options of the clustering between epochs."""

    clusters: int = 10_000
    """k, clusters in all. Disputed for DeeperCluster on ImageNet: whether 10,000 is of all super-clusters or of each,
    and whether there are any."""
    every: int = 1
    """Epochs from one clustering to the next; heads are new after each."""
    dim_pca: int | None = None
    """Dimensions that PCA keeps of the features before they are whitened; None: all."""
    eigenvalue_floor: float = 1e-5
    """Eigenvalues below this share of the largest count as that much."""
    iterations: int = 10
    """Updates of k-means, before the last assignment."""
    empty: Literal["split", "same_donor"] = "split"
    """Clusters without images. split: take half of a larger one, drawn by its size, as faiss does; same_donor: half of
    one and the same donor. Disputed: the latter is what DeeperCluster's code does, by a seed set inside of its loop."""
    init: Literal["all", "first_shard"] = "all"
    """First centroids of a super-cluster are drawn from all of its images, or from its first sixteenth. Disputed: of
    the code's 16 workers on a super-cluster the first draws, from its own images."""
    sampling: Literal["uniform", "natural"] = "uniform"
    """How often an image is drawn. uniform: so that all clusters of a super-class come alike, as in the codes; natural:
    all of its images alike."""
    resize: int | None = 256
    """Shorter side that images are scaled to before the middle is cut, for features to cluster; None: whole images,
    squashed to the size of a crop."""
    chunk: int = 8192
    """Features in memory at a time."""

    @property
    def super_clusters(self):
        """m, coarse clusters."""
        return 1

    @property
    def rotations(self):
        """R, quarter turns that are told apart; 1: images are not turned."""
        return 1

    @property
    def head_grad(self):
        """What the gradient of a head is a mean over: of one super-class both are the same."""
        return "group_mean"

    @property
    def super_classes(self):
        """S = m R, the classes of the first head and the number of the others."""
        return self.super_clusters * self.rotations

    @property
    def sub_clusters(self):
        """K = k / m, clusters of one super-cluster."""
        return self.clusters // self.super_clusters

    def __post_init__(self):
        m, k = self.super_clusters, self.clusters
        require(m >= 1, f"task.super_clusters {m} must be at least 1")
        fits = k >= m and k % m == 0
        require(fits, f"task.clusters {k} do not divide over {m} super-clusters; use a multiple of {m}")
        for name in ("every", "iterations", "chunk"):
            require(getattr(self, name) >= 1, f"task.{name} {getattr(self, name)} must be at least 1")
        require(self.dim_pca is None or self.dim_pca >= 1, f"task.dim_pca {self.dim_pca} must be at least 1")
        floor = self.eigenvalue_floor
        require(0 <= floor <= 1, f"task.eigenvalue_floor {floor} must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class DeeperClusterOptions(ClusterOptions):
    """Options of DeeperCluster. m = 1, R = 1 is DeepCluster with its own optimiser for all; m = 1, k = 1 is RotNet."""

    clusters: int = 320_000
    """k, clusters in all; 80,000 of each of four super-clusters."""
    every: int = 3
    """Epochs from one clustering to the next; heads are new after each."""
    super_clusters: int = 4
    """m, coarse clusters; 1: none."""
    rotations: Literal[1, 4] = 4
    """R, quarter turns that are told apart; 1: images are not turned."""
    head_grad: Literal["group_mean", "global_mean"] = "group_mean"
    """What the gradient of a super-class's head is a mean over. group_mean: its own images, as in the code, where a
    worker has one super-class; global_mean: all images, S times less, as the formula of the paper says. Disputed: code
    and formula differ."""


@dataclass(frozen=True, kw_only=True)
class DeepClusterOptions(ClusterOptions):
    """Options of DeepCluster."""

    dim_pca: int | None = 256
    """Dimensions that PCA keeps of the features before they are whitened; None: all."""
    eigenvalue_floor: float = 0.0
    """Eigenvalues below this share of the largest count as that much; faiss has none."""
    iterations: int = 20
    """Updates of k-means, before the last assignment."""


@dataclass(frozen=True, kw_only=True)
class RotNetOptions(TaskOptions):
    """Options of RotNet."""

    copies: Literal[1, 4] = 1
    """Rotations of an image in a step. 1: one, as in DeeperCluster's code; 4: all, as in the original RotNet. Disputed:
    an epoch is a quarter as many rows with 1."""
