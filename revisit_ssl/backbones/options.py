"""The options of the networks. They need no TensorFlow, so that help does not either."""

from dataclasses import dataclass
from typing import Literal

from revisit_ssl.errors import check_choice, require

STEMS = ("paper", "cifar", "small")
NORMS = ("batch", "sync", "none")


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Options of every network. A family with more derives a class of its own from this one.

    Raises:
        InputError: a value out of range, also in the classes of the families.
    """

    norm: Literal["batch", "sync", "none"] = "batch"
    """batch: statistics of each replica, as in the paper; sync: of the global batch; none: convolutions get a bias."""
    bn_momentum: float | None = None
    """Share of the old moving statistics that a step keeps; None: the network's own (TF1's 0.99, PyTorch's 0.9)."""
    bn_epsilon: float | None = None
    """Added to the variance; None: the network's own (TF1's 1e-3, PyTorch's 1e-5)."""
    bn_group: int | None = None
    """Rows of a training batch that are normalised together (ghost batches); None: all of the device's."""

    def __post_init__(self):
        check_choice("norm", self.norm, NORMS)
        group = self.bn_group
        fits = group is None or (isinstance(group, int) and not isinstance(group, bool) and group >= 1)
        require(fits, f"bn_group {group!r}; an integer of at least 1, or None for all rows of a device")
        apart = f"bn_group {group} with norm 'sync'; a group lies on one device, take norm 'batch'"
        require(group is None or self.norm != "sync", apart)


@dataclass(frozen=True, kw_only=True)
class StemOptions(BackboneOptions):
    """Options of the networks that have a stem and four blocks."""

    stem: Literal["paper", "cifar", "small"] | None = None
    """paper: 7x7/2 and 3x3/2 max-pool; cifar: 3x3/1; small: 3x3/2, both without a pool; None: the network's own."""
    root_stride: int | None = None
    """Stride of the stem's convolution; None: the stem's own. The official patch tasks take 1."""
    strides: tuple[int, int, int] = (2, 2, 2)
    """Strides of blocks 2, 3, 4. The official patch tasks take 2, 2, 1; no text says so."""

    def __post_init__(self):
        super().__post_init__()
        check_choice("stem", self.stem, (*STEMS, None))
        check_choice("root_stride", self.root_stride, (None, 1, 2))
        fits = len(self.strides) == 3 and all(stride in (1, 2) for stride in self.strides)
        require(fits, f"strides {tuple(self.strides)!r}; three of 1 or 2, for blocks 2, 3 and 4, as (2, 2, 1)")


@dataclass(frozen=True, kw_only=True)
class ResNetOptions(StemOptions):
    """Options of the ResNets."""

    stride_on_second: bool = False
    """ResNet18: stride in the second 3x3 convolution of a unit (the authors' later code), not the first (He et al.)."""
    zero_init_residual: bool = False
    """ResNets v1: the scale of the last BN of each unit starts at 0, so that the untrained network is its shortcuts: in
    the official SimCLR, and in Haiku's ResNet50, which the official BYOL is made of."""


@dataclass(frozen=True, kw_only=True)
class RevNetOptions(StemOptions):
    """Options of the RevNets."""

    recompute: bool = False
    """Training keeps one tensor per block and recomputes the rest in the backward pass: less memory, about a third more
    time, the same gradients up to rounding. The weights do not depend on it."""
    representation_size: int | None = None
    """Values of pre_logits, through one more 1x1 convolution, BN and ReLU (the paper's Figure 6, as in the authors' S4L
    code); None: 512 * width. Its kernel, "revnet_representation", is not weight-decayed there."""
    endpoints_after_pool: bool = False
    """Give block1..block3 after the pooling and doubling that follows them, as S4L; the official code gives them
    before."""

    def __post_init__(self):
        super().__post_init__()
        size = self.representation_size
        fits = size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= 1)
        require(fits, f"representation_size {size!r}; an integer of at least 1, or None for 512 * width")


@dataclass(frozen=True, kw_only=True)
class VGG16Options(BackboneOptions):
    """Options of the VGG16 trunk."""

    sobel: bool = False
    """Put `Sobel` before conv1, which then has two input channels."""
