"""Cross-level discrimination (CLD, Wang et al., arXiv:2008.03813): a term that the instance methods may carry."""

import warnings
from dataclasses import dataclass
from typing import Literal

from revisit_ssl.errors import require


@dataclass(frozen=True, kw_only=True)
class CLDSpec:
    """Cross-level discrimination; the total loss is the method's own plus weight times this one."""

    weight: float = 0.0
    """Weight (lambda) of the CLD loss; 0: none, and no group branch. Disputed: the supplement's best is 0.25, the
    released CIFAR scripts have 1.0 (NPID) and 0.8 (MoCo)."""
    groups: int = 128
    """Clusters of each view's batch. From as many as there are rows on, each row is a group of its own."""
    iterations: int = 5
    """k-means steps, from the first rows of the batch."""
    temperature: float = 0.2
    """Temperature of the softmax over the groups."""
    clustering: Literal["kmeans", "spherical", "spectral"] = "kmeans"
    """kmeans: squared distances, plain means, as the released code; spherical: cosines and means of length 1, as the
    text says; spectral: k-means on the smallest eigenvectors of the graph of absolute cosines."""
    eigenvectors: int = 10
    """spectral: how many are kept."""
    normalize_rows: bool = False
    """spectral: give each row of the eigenvectors unit length. Disputed: the supplement does, the code does not."""
    branch: Literal["separate", "shared"] = "separate"
    """separate: the group branch has a last layer of its own; shared: it is the instance branch."""
    cross: bool = True
    """Compare a view with the groups of the other one; off: with its own."""
    stop_gradient: bool = False
    """Hold the centroids constant; the released code differentiates through them."""
    chunks: int = 1
    """Cluster that many parts of the batch alone, one after the other: 8 stands for the 8 devices of the ImageNet
    runs."""
    scope: Literal["local", "global"] = "local"
    """Under replicas: each clusters its own rows, as the released code, or all cluster the rows of all."""

    def __post_init__(self):
        require(0 <= self.weight < float("inf"), f"cld.weight {self.weight} must be a finite number from 0 up")
        for name in ("groups", "iterations", "eigenvectors", "chunks"):
            require(getattr(self, name) >= 1, f"cld.{name} {getattr(self, name)} must be at least 1")
        require(0 < self.temperature < float("inf"), f"cld.temperature {self.temperature} must be above 0")

    @property
    def branches(self):
        """Branches that the projection head needs: the instance one, and the group one where it is separate."""
        return 2 if self.weight and self.branch == "separate" else 1

    def check_batch(self, rows, replicas=1):
        """InputError where the rows of a replica's view are no whole chunks; warns where each row is its own group."""
        if not self.weight:
            return
        rows = rows * replicas if self.scope == "global" else rows
        require(rows % self.chunks == 0, f"cld.chunks {self.chunks} does not divide the {rows} rows that are clustered")
        each = rows // self.chunks
        if self.groups >= each:
            warnings.warn(
                f"cld.groups {self.groups} for {each} rows: each row is its own group, and CLD is InfoNCE between the "
                f"views with {self.groups - each} further logits of 0 (the official ImageNet setting; see cld.groups)",
                stacklevel=2,
            )


# Of the contract checks: fewer groups than rows, and of the rows of all replicas, so that two replicas have to give the
# numbers of one device.
IN_CONTRACT = {"task__cld__weight": 1.0, "task__cld__groups": 3, "task__cld__scope": "global"}
