"""Options of the pretext that contrasts masked regions; see ``options``."""

from dataclasses import dataclass
from typing import Literal

from revisit_ssl.errors import require
from revisit_ssl.recipe import TaskOptions


@dataclass(frozen=True, kw_only=True)
class MaskCoOptions(TaskOptions):
    """Options of MaskCo. Of these numbers the sources say negatives, group, that intra adds 16, and masks; all others
    are reconstructed: neither the paper's text nor any code was to be had. Sides that are None keep the proportions of
    64 and 48 pixels in views of 224."""

    fill: Literal["zero", "mean", "noise", "token", "none"] = "zero"
    """What covers the masked box of the query view, after colours and normalisation. Reconstructed. zero: 0, the mean
    of the data where images are normalised; mean: the view's own; noise: normal numbers; token: one colour that is
    learnt; none: nothing is covered, as in the second row of the supplement's Table 2."""
    masks: int = 1
    """Masked boxes of an image; the algorithm has one."""
    mask_area: tuple[float, float] = (0.1, 0.3)
    """Range of the area of a box, masked or negative, as a share of its view's. Reconstructed."""
    mask_aspect: tuple[float, float] = (0.5, 2.0)
    """Range of its width / height. Reconstructed."""
    mask_side: float | None = None
    """Its least side in pixels. Reconstructed: 48 of 224, more than a cell of the last map."""
    overlap: float | None = None
    """Pixels in both directions of both views that what both show should have. Reconstructed: 64 of 224."""
    tries: int = 10
    """Pairs of crops that are drawn until one has that overlap. Reconstructed."""
    negatives: int = 16
    """Negative boxes of an image, anywhere in its key view."""
    intra: bool = False
    """Compare a query with the negative boxes of its own image too: MaskCo(+in)."""
    intra_iou: float = 0.3
    """intra: most overlap (intersection over union) of these with the positive box, as far as 64 candidates allow it;
    1: any. Reconstructed."""
    group: int = 32
    """Images whose negatives are compared with each other: those of one GPU in the paper, 31 others x 16 negatives. A
    device may hold several groups, or a group lie on several devices."""
    endpoint: str = "block4"
    """Map of the network that boxes are read from. Reconstructed: the last one."""
    mph: Literal["bottleneck", "conv", "transformer", "none"] = "bottleneck"
    """Mask prediction head, which makes of the map of a masked view that of a whole one. Reconstructed. bottleneck:
    residual units of a quarter of the channels; conv: 1x1 convolutions; transformer: blocks on the cells of the map."""
    mph_depth: int = 2
    """Its units, convolutions or blocks. Reconstructed."""
    mph_width: int = 512
    """transformer: values of a cell within the blocks, of 8 heads. Reconstructed."""
    mph_on_key: bool = True
    """Whether the key branch has it too, as the algorithm's comment says ("net_q: the backbone and MPH", net_k its
    moving average). Disputed: by what it is for, the query branch alone should; off: as BYOL's predictor."""
    samples: int = 14
    """Samples of RoIAlign along each side of a box, which becomes one vector. Reconstructed: the mean of 7 x 7 cells of
    2 x 2 samples is that of 14 x 14 samples."""
    aligned: bool = True
    """RoIAlign's convention, see there. Reconstructed."""
    units: int = 128
    """Size of the projection. Reconstructed, as in MoCo v2."""
    hidden: int | None = None
    """Units of the projection head's hidden layer; None: the channels of the map, 2048 of a ResNet50. Reconstructed."""
    temperature: float = 0.2
    """Temperature of the softmax. Reconstructed, as in MoCo v2."""
    momentum: float = 0.999
    """Share of the old target that a step keeps. Reconstructed, as in MoCo v2."""

    def __post_init__(self):
        for name, least in (("masks", 1), ("negatives", 1), ("tries", 1), ("mph_depth", 1), ("samples", 1),
                            ("units", 1), ("group", 1)):  # fmt: skip
            value = getattr(self, name)
            require(value >= least, f"task.{name} {value} must be at least {least}")
        require(self.negatives <= 64, f"task.negatives {self.negatives} must be at most 64")
        alone = f"task.group {self.group}: an image alone has no negatives but its own; take 2 or more, or --task.intra"
        require(self.group >= 2 or self.intra, alone)
        for name in ("mask_side", "overlap"):
            side = getattr(self, name)
            require(side is None or 0 < side < float("inf"), f"task.{name} {side} must be above 0")
        low, high = self.mask_area
        require(0 < low <= high <= 1, f"task.mask_area {self.mask_area}: a pair 0 < low <= high <= 1")
        low, high = self.mask_aspect
        require(0 < low <= high < float("inf"), f"task.mask_aspect {self.mask_aspect}: a pair 0 < low <= high")
        require(0 <= self.intra_iou <= 1, f"task.intra_iou {self.intra_iou} must lie in [0, 1]")
        require(self.hidden is None or self.hidden >= 1, f"task.hidden {self.hidden} must be at least 1")
        eight = self.mph_width >= 8 and self.mph_width % 8 == 0
        require(eight, f"task.mph_width {self.mph_width} must be a multiple of the 8 heads")
        require(0 < self.temperature < float("inf"), f"task.temperature {self.temperature} must be above 0")
        require(0 <= self.momentum <= 1, f"task.momentum {self.momentum} must lie in [0, 1]")

    def pair(self, size):
        """What a ``PairSpec`` of views of ``size`` pixels has of these options, as keywords."""
        return {
            "masks": self.masks,
            "negatives": self.negatives,
            "area": self.mask_area,
            "aspect": self.mask_aspect,
            "smallest": self.mask_side or size * 48 / 224,
            "overlap": self.overlap or size * 64 / 224,
            "tries": self.tries,
            "most_iou": self.intra_iou if self.intra else 1.0,
        }
