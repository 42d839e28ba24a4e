"""The options of the networks. They need no TensorFlow, so that help does not either."""

from dataclasses import dataclass, fields
from typing import Literal

from revisit_ssl.errors import check_choice, require
from revisit_ssl.recipe import BackboneOptions

STEMS = ("paper", "cifar", "small")


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
class BasicOptions(StemOptions):
    """Options of the ResNets of basic units."""

    stride_on_second: bool = False
    """Stride in the second 3x3 convolution of a unit (the authors' later code), not the first (He et al.)."""


@dataclass(frozen=True, kw_only=True)
class ResidualOptions(StemOptions):
    """Options of the ResNets v1, whose units end in a normalisation beside a shortcut."""

    zero_init_residual: bool = False
    """The scale of the last BN of each unit starts at 0, so that the untrained network is its shortcuts: in the
    official SimCLR, and in Haiku's ResNet50, which the official BYOL is made of."""
    sobel: bool = False
    """Put `Sobel` before the root, which then has two input channels; zeros around keep the size of the image."""

    def __post_init__(self):
        super().__post_init__()
        needs = "zero_init_residual needs normalised units, norm is 'none': --backbone.no-zero-init-residual"
        require(self.norm != "none" or not self.zero_init_residual, needs)


@dataclass(frozen=True, kw_only=True)
class ResNet18Options(BasicOptions, ResidualOptions):
    """Options of the ResNet18s with shortcuts."""


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
class SobelOptions(BackboneOptions):
    """Options of DeepCluster's networks: what they see, and their fully connected layers."""

    sobel: bool = False
    """Put `Sobel` before conv1, which then has two input channels."""
    dropout: float = 0.5
    """Share of the values that dropout before a fully connected layer leaves out in training: 0.3 for both RotNets of
    DeeperCluster. Disputed: its code has 0.5 written in and no option."""
    fc_start: Literal["torch", "normal"] = "torch"
    """First values of fc6 and fc7. torch: uniform within 1 / sqrt(inputs), biases too, as DeeperCluster's code; normal:
    deviation 0.01 and biases of zero, as DeepCluster's."""

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.dropout < 1, f"dropout {self.dropout} must lie in [0, 1)")
        check_choice("fc_start", self.fc_start, ("torch", "normal"))


@dataclass(frozen=True, kw_only=True)
class VGG16Options(SobelOptions):
    """Options of VGG16."""

    fc: int = 0
    """Units of fc6 and fc7 for each unit of width, 512 in the paper (4,096 at width 8); 0: the convolutions alone."""
    image_pad: Literal[0, 1, 2] | None = None
    """Zeros around the image, before Sobel, on top of what convolutions add; None: 2 before Sobel and 1 without it, as
    DeeperCluster's code, whose first maps are two pixels larger than the image. DeepCluster's has 1 before Sobel."""
    conv1_size: Literal[3, 5] = 3
    """Side of conv1's kernel. 5: what Sobel and a kernel of 3 fold into."""

    def __post_init__(self):
        super().__post_init__()
        require(self.fc >= 0, f"fc {self.fc}; units of a unit of width, such as 512, or 0 for none")
        check_choice("image_pad", self.image_pad, (None, 0, 1, 2))
        check_choice("conv1_size", self.conv1_size, (3, 5))


@dataclass(frozen=True, kw_only=True)
class AlexNetOptions(SobelOptions):
    """Options of AlexNet."""

    fc: int = 512
    """Units of fc6 and fc7 for each unit of width: 4,096 at width 8."""

    def __post_init__(self):
        super().__post_init__()
        require(self.fc >= 1, f"fc {self.fc}; units of a unit of width, such as 512")


def check_options(network, kind, names):
    """InputError where the class ``kind`` of the options of ``network`` lacks one of ``names``."""
    known = [field.name for field in fields(kind)]
    unknown = [repr(name) for name in names if name not in known]
    require(not unknown, f"{network} has no option {', '.join(unknown)}; it has {', '.join(known)}; leave it out")
