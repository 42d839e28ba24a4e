"""A recipe: every number that decides what a run computes, as frozen dataclasses with JSON in and out.

What only decides where and how fast a run goes (workdir, data folder, devices) is not in here, so that the recipe of a
paper's row is the same file on a laptop and on a TPU slice.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from revisit_ssl.errors import check_choice, require
from revisit_ssl.values import check_pair, check_plain, check_share, check_values
from revisit_ssl.values import override as override
from revisit_ssl.values import to_json as to_json

Normalization = Literal["pm1", "standardize", "imagenet", "cifar", "none"]


def _flag(name):
    return tyro.conf.arg(name=name, prefix_name=False)


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """Optimiser and learning-rate schedule; epochs may be fractions."""

    name: Literal["sgd", "lars"] = "sgd"
    """sgd: momentum SGD with coupled L2, as TF1 and PyTorch write it."""
    lr: float = 0.1
    """Base learning rate for 256 images; the peak is lr * batch_size / 256 unless scale_lr is off."""
    scale_lr: bool = True
    """Scale lr with the global batch, counted in images (never in crops, patches or rotated copies)."""
    momentum: float = 0.9
    """Momentum of the optimiser."""
    weight_decay: float = 1e-4
    """L2: adds weight_decay * w to the gradient of every kernel (TF1's 0.5 * wd * sum(w^2)). Disputed for VGG: its
    function's default is 5e-4, but the official factory passes 1e-4, which is what runs."""
    decay: Literal["kernels", "all"] = "kernels"
    """Which variables weight_decay is of. kernels: as TF1's code; all: biases and BatchNorm too, as torch.optim."""
    head_weight_decay: float | None = None
    """L2 of kernels in a layer named patch_head (5e-4 in the official patch tasks); None: weight_decay."""
    exclude: tuple[str, ...] = ("revnet_root", "revnet_representation")
    """Kernels whose path holds one of these strings are not decayed (the official RevNet root is not)."""
    nesterov: bool = False
    """Nesterov momentum."""
    eta: float = 1e-3
    """lars: the trust coefficient."""
    form: Literal["deepmind", "openselfsup"] = "deepmind"
    """lars: which of the two published forms, see optimizers.LARS."""
    schedule: Literal["step", "cosine", "epoch_cosine", "infomin", "obow", "constant"] = "step"
    """How the learning rate falls after the warm-up. cosine: step by step, from the end of the warm-up; epoch_cosine:
    from the start of the run, once an epoch (MoCo); infomin: the same, a whole epoch ahead; obow: from the end of the
    warm-up, once an epoch."""
    milestones: tuple[float, ...] = (15.0, 25.0)
    """step: epochs after which lr is multiplied by factor."""
    first_step_drops: bool = False
    """step: the new rate holds from the first step after the milestone on, as in PyTorch; off: from the second, as in
    the Revisiting code."""
    factor: float = 0.1
    """step: the multiplier."""
    floor: float = 0.0
    """Cosines: the last rate, not scaled with the batch."""
    warmup_epochs: float = 5.0
    """Linear warm-up, in epochs."""
    warmup_from: float = 0.0
    """Share of the peak that it starts from: 0.01 in CLD's CIFAR scripts, 0.05 (0.01 of 0.2) in InfoMin's."""


@dataclass(frozen=True, kw_only=True)
class ViewSpec:
    """What the network sees of a training image."""

    crop: Literal["inception", "resized", "random", "center"] = "inception"
    """inception: TF-slim's distorted box; resized: torchvision's random resized crop; random, center: fixed size."""
    size: int = 224
    """Side of the crop in pixels."""
    scale: tuple[float, float] = (0.08, 1.0)
    """resized: range of the crop's share of the image area."""
    ratio: tuple[float, float] = (0.75, 1.3333333333333333)
    """resized: range of width / height."""
    resize_to: int | None = None
    """Resize the image to this square before cropping."""
    resize: Literal["bilinear", "antialias", "area"] = "bilinear"
    """How a crop is scaled to its size; it matters where the crop shrinks. antialias: as Pillow and torchvision, every
    pixel counts; bilinear: as tf.image.resize, between the four nearest pixels; area: the mean of the pixels that one
    covers."""
    patch_grid: int = 1
    """The network sees the cells of a grid x grid division of the crop, one patch from each; 1: the crop itself."""
    patch_size: int | None = None
    """Side of a patch in pixels, cut anywhere in its cell; the rest is jitter."""
    order: tuple[Literal["flip", "color", "gray", "blur", "solarize", "randaugment"], ...] = (
        "flip", "color", "gray", "blur", "solarize", "randaugment",
    )
    """The order in which those of the six run that are switched on. The CLD scripts flip last; MoCo v1 grays first."""
    flip: bool = True
    """Random horizontal flip."""
    color: Literal["inception", "jitter", "none"] = "inception"
    """inception: brightness +-32/255, then saturation x U[0.5, 1.5]; jitter: the four colour changes, random order."""
    color_order: Literal["fixed", "random"] = "fixed"
    """inception: brightness first, or either for each image. Disputed: versions of the official preprocessing differ;
    the one that the official code calls has the fixed order."""
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)
    """jitter: strengths of brightness, contrast, saturation, hue."""
    jitter_probability: float = 1.0
    """jitter: chance that an image is changed at all."""
    gray_probability: float = 0.0
    """Chance that an image is made gray. Disputed for the patch tasks and Exemplar: paper 2/3, official code 0.66,
    supplement 1/3 (patch tasks only; neither text mentions it for Exemplar)."""
    gray_per_patch: bool = False
    """Toss that coin for each patch. Disputed: the paper's text does, the code and the supplement toss per image."""
    gray: Literal["luma", "mean"] = "luma"
    """luma: the eye's weights, as torchvision; mean: the mean of the channels, as the Revisiting code."""
    blur_probability: tuple[float, ...] = (0.0,)
    """Chance of a Gaussian blur: one number for every view, or one for each (BYOL: 1 0.1); the last serves the rest."""
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    """Range of its standard deviation in pixels of the crop; 0.1 to 2 at 224 px and, in the CLD scripts, at 32 px."""
    blur_taps: int | None = None
    """Length of its kernel (23 in InfoMin and BYOL); None: out to three of the largest standard deviations."""
    solarize_probability: tuple[float, ...] = (0.0,)
    """Chance that values from 0.5 up are inverted: one number for every view, or one for each (BYOL: 0 0.2)."""
    randaugment_layers: int = 0
    """RandAugment operations of an image, one after the other; 0: none. InfoMin: 2."""
    randaugment_magnitude: float = 10.0
    """Mean strength, of at most 10."""
    randaugment_deviation: float = 0.5
    """Standard deviation of the strength; drawn for each operation, then clipped to [0, 10]."""
    randaugment_probability: float = 0.5
    """Chance that a drawn operation is applied; 0.5 in the code of InfoMin, whose text does not say."""
    erasing_probability: float = 0.0
    """Chance that a random box becomes 0, after the normalisation. Disputed: CLD's released CIFAR-10 script of MoCo has
    1, its first version had none."""
    erasing_area: tuple[float, float] = (0.02, 0.33)
    """Share of the image that the box covers."""
    erasing_ratio: tuple[float, float] = (0.3, 3.3)
    """Range of the box's height / width."""
    normalize: Normalization = "pm1"
    """Input range: [-1, 1] (mean and deviation 0.5), per-image (per-patch) standardisation, mean and deviation of
    ImageNet or of CIFAR-10, or [0, 1]."""

    def __post_init__(self):
        """InputError for values that no image can be cut or changed by."""
        require(self.size >= 8, f"views.size {self.size} must be at least 8 pixels")
        require(self.patch_grid >= 1, f"views.patch_grid {self.patch_grid} must be at least 1")
        if self.patch_grid > 1:
            cell = self.size // self.patch_grid
            fits = self.patch_size is not None and 4 <= self.patch_size <= cell
            require(fits, f"views.patch_size {self.patch_size}: from 4 to the {cell} pixels of a cell of the grid")
        jitter = self.jitter
        require(min(jitter) >= 0 and jitter[3] <= 0.5, f"views.jitter {jitter}: from 0 up, hue at most 0.5")
        for name in ("jitter", "gray", "blur", "solarize", "randaugment", "erasing"):
            chance = getattr(self, f"{name}_probability")
            chances = chance if isinstance(chance, tuple) else (chance,)
            lies = len(chances) > 0 and all(0 <= p <= 1 for p in chances)
            require(lies, f"views.{name}_probability {chance} must lie in [0, 1]")
        require(len(set(self.order)) == len(self.order), f"views.order {self.order} names an operation twice")
        left_out = [name for name in self.operations if name not in self.order]
        require(not left_out, f"views.order {self.order} leaves out {', '.join(left_out)}, which is switched on")
        widest = 2 * self.size - 1  # by reflection; smaller views than the crop say so when the step is traced
        taps = f"views.blur_taps {self.blur_taps}: from 1 to {widest} for crops of {self.size} pixels"
        require(self.blur_taps is None or 1 <= self.blur_taps <= widest, taps)
        magnitude = self.randaugment_magnitude
        require(0 <= magnitude <= 10, f"views.randaugment_magnitude {magnitude} must lie in [0, 10]")
        for name in ("layers", "deviation"):
            value = getattr(self, f"randaugment_{name}")
            require(value >= 0, f"views.randaugment_{name} {value} must not be negative")
        for name in ("scale", "erasing_area"):
            check_pair(f"views.{name}", getattr(self, name), 1)
        for name in ("ratio", "blur_sigma", "erasing_ratio"):
            check_pair(f"views.{name}", getattr(self, name))

    @property
    def input_size(self):
        """Side of what the network sees in training, in pixels: the crop or one patch."""
        return self.size if self.patch_grid == 1 else self.patch_size

    @property
    def operations(self):
        """Those of the six operations of ``order`` that are switched on."""
        on = {
            "flip": self.flip, "color": self.color != "none", "gray": self.gray_probability > 0,
            "blur": max(self.blur_probability, default=0) > 0,
            "solarize": max(self.solarize_probability, default=0) > 0,
            "randaugment": self.randaugment_layers > 0,
        }
        return tuple(name for name, is_on in on.items() if is_on)


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Options of every network; a family with more derives a class of its own from this one.

    Raises:
        InputError: a value out of range, also in the classes of the families.
    """

    # Normalisation is an option of the network, but the heads of pretexts follow norm and bn_group: as flags these four
    # have no prefix, and recipes of all networks have them.
    norm: Annotated[Literal["batch", "sync", "none"], _flag("norm")] = "batch"
    """batch: statistics of each replica, as in the paper; sync: of the global batch; none: convolutions get a bias."""
    bn_momentum: Annotated[float | None, _flag("bn-momentum")] = None
    """Share of the old moving statistics that a step keeps; None: the network's own (TF1's 0.99, PyTorch's 0.9)."""
    bn_epsilon: Annotated[float | None, _flag("bn-epsilon")] = None
    """Added to the variance; None: the network's own (TF1's 1e-3, PyTorch's 1e-5)."""
    bn_group: Annotated[int | None, _flag("bn-group")] = None
    """Rows (rotated copies, crops, patches) whose statistics BatchNorm takes together on one device (ghost batches);
    None: all of the replica's. Disputed for one large device: each of the paper's TPU cores normalised its own 32 rows
    of rotation (8 images), 128 of Exemplar, 288 patches. MoCo's and InfoMin's count images: a pass over several crops
    or patches of each takes as many times the rows."""

    def __post_init__(self):
        check_choice("norm", self.norm, ("batch", "sync", "none"))
        momentum, epsilon, group = self.bn_momentum, self.bn_epsilon, self.bn_group
        require(momentum is None or 0 <= momentum < 1, f"bn_momentum {momentum} must lie in [0, 1)")
        require(epsilon is None or 0 < epsilon < float("inf"), f"bn_epsilon {epsilon} must be a finite number above 0")
        fits = group is None or (isinstance(group, int) and not isinstance(group, bool) and group >= 1)
        require(fits, f"bn_group {group!r}; an integer of at least 1, or None for all rows of a device")
        apart = f"bn_group {group} needs norm batch, not {self.norm}: a group lies on one device"
        require(group is None or self.norm == "batch", apart)


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """A pretext's own numbers; each method that has some derives its class from this one."""


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """A probe's own numbers; each probe derives its class from this one (``evaluators.base.Probe``)."""

    chooses = False
    """Whether it chooses some of its numbers on the validation split, which it must then not be scored on."""
    formerly = {}
    """{field: default} of those whose default was another when lines of results were first hashed (``setting_id``)."""

    def settled(self, task, labels=1.0):
        """The options with every number that they leave to the pretext's ``task`` or to the share of the labels;
        InputError where one cannot be."""
        return self


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """What decides the weights: pretext, network, data, training. The half of a recipe that training needs."""

    pretext: Annotated[str, tyro.conf.Suppress]
    """Name in PRETEXTS."""
    backbone: str = "revnet50"
    """Name in BACKBONES."""
    width: int = 1
    """Widening factor k of the paper: ResNet and RevNet start with 16k channels, VGG with 8k."""
    backbone_options: Annotated[BackboneOptions, tyro.conf.arg(name="backbone")] = field(
        default_factory=BackboneOptions
    )
    """The network's own options, of its family's class. As flags: --backbone.NAME."""
    task: TaskOptions = field(default_factory=TaskOptions)
    """The pretext's own options."""

    dataset: str = "toy_scenes"
    """Name in DATASETS, or folder:/path/to/images. Labels, where there are any, are not used by a pretext."""
    split: str = "train"
    """Split to pretrain on."""
    fraction: float | None = None
    """Share of that split to pretrain on, drawn by the seed; None: all of it."""
    views: ViewSpec = field(default_factory=ViewSpec)
    """Crops, colours, input range."""
    batch_size: int = 256
    """Images per step over all devices."""
    epochs: float = 35.0
    """Passes over the split; more of them and --resume make a run longer, if its schedule is constant or step."""
    max_steps: int | None = None
    """Stop (and end the schedule) after this many steps, if that comes before epochs."""
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    """Optimiser and schedule."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """Arithmetic of the network; heads, normalisation, losses and weights stay float32."""
    deterministic: bool = False
    """Bit-exact operations: a resumed run equals an uninterrupted one to the bit. Slower; turns XLA off."""
    seed: int = 0
    """Seed of the initial weights, the order of the images and every random view."""

    def __post_init__(self):
        """InputError for values that no run can use."""
        check_values(self)
        require(self.width >= 1, f"width {self.width} must be at least 1")
        require(self.width <= 1000, f"width {self.width} must be at most 1000 (the paper has up to 16)")
        require(self.batch_size >= 1, f"batch_size {self.batch_size} must be at least 1")
        require(0 <= self.epochs <= 1e9, f"epochs {self.epochs} must lie in [0, 10^9]")
        require(self.max_steps is None or self.max_steps >= 0, f"max_steps {self.max_steps} must not be negative")
        require(0 <= self.seed < 2**31, f"seed {self.seed} must lie in [0, 2^31)")
        o = self.optimizer
        require(o.lr >= 0, f"optimizer.lr {o.lr} must not be negative")
        require(0 <= o.warmup_from <= 1, f"optimizer.warmup_from {o.warmup_from} must lie in [0, 1]")
        check_share("fraction", self.fraction)

    @property
    def norm(self):
        """How network and heads are normalised."""
        return self.backbone_options.norm

    @property
    def bn_group(self):
        """Rows that BatchNorm of network and heads takes together, or None."""
        return self.backbone_options.bn_group


@dataclass(frozen=True, kw_only=True)
class BenchSpec:
    """What probes see: which labelled images, how they are cut, which layers' values. As flags: --probe-NAME."""

    dataset: Annotated[str | None, _flag("probe-dataset")] = None
    """Labelled set; the pretraining set where this is not given."""
    fraction: Annotated[float | None, _flag("probe-fraction")] = None
    """Share of the labelled training images that probes may use (0.1 for the 10 % tables)."""
    balanced: Annotated[bool, _flag("probe-balanced")] = False
    """Draw that share class by class; the paper's text does not say, so uniformly by default."""
    train: Annotated[Literal["train", "trainval"], _flag("probe-train")] = "train"
    """Split that probes are fitted on. trainval: Table 2 of Revisiting; for probes that choose nothing."""
    split: Annotated[Literal["test", "val"], _flag("probe-split")] = "test"
    """Split that is scored. val: every table of Revisiting but Table 2; for probes that choose nothing."""
    endpoints: Annotated[tuple[str, ...], _flag("endpoints")] = ("block1", "block2", "block3", "block4", "pre_logits")
    """Layers whose features the probes get; projection: the unit vectors of a contrastive pretext's instance head."""
    method: Annotated[
        Literal["none", "shorter_side", "central_fraction", "squash"], _flag("probe-method")
    ] = "central_fraction"
    """How an image is cut. none: the image as it is; central_fraction: middle 87.5 %; shorter_side: resize, then
    centre; squash: resize, ratio ignored, then centre. Disputed for patch probes: supplement squash, code
    shorter_side."""
    resize: Annotated[int | None, _flag("probe-resize")] = None
    """shorter_side, squash: length of the (shorter) side before the central crop."""
    resize_by: Annotated[Literal["bilinear", "antialias", "area"] | None, _flag("probe-resize-by")] = None
    """How an image is scaled, in the words of --views.resize. None: shorter_side by area, the others bilinearly, as the
    Revisiting code does."""
    size: Annotated[int | None, _flag("probe-size")] = None
    """Side of the image in pixels; None: that of a training crop."""
    combine: Annotated[Literal["mean", "max", "concat", "whole"], _flag("probe-combine")] = "mean"
    """How one feature is made of an image's patches: mean as in the paper, the largest value, all side by side, or
    whole: the network sees the undivided image."""
    normalize: Annotated[Normalization | None, _flag("probe-normalize")] = None
    """Input range; None: the one of training. Disputed for Exemplar: the official code trains on standardised crops
    and probes on [-1, 1]."""
    untrained: Annotated[Literal["both", "initial"], _flag("untrained")] = "both"
    """The network without training that is probed beside the trained one. initial: as initialised; both: with BatchNorm
    statistics re-estimated on 2,048 images too; the better one is the row to beat."""
    values: Annotated[int, _flag("probe-values")] = 9000
    """Endpoints with more values than this are pooled to at most so many; 9000 in the paper."""
    pooling: Annotated[Literal["max", "avg", "adaptive_max"], _flag("probe-pooling")] = "max"
    """How. Disputed: the official function's default is adaptive_max, all its configurations say max."""

    def __post_init__(self):
        """InputError for values that no probe can use."""
        for name in self.endpoints:
            check_plain(name, "endpoint")
        check_share("probe_fraction", self.fraction)
        require(self.values >= 1, f"probe_values {self.values} must be at least 1")
        require(self.size is None or self.size >= 8, f"probe_size {self.size} must be at least 8 pixels")


@dataclass(frozen=True, kw_only=True)
class Recipe(Pretraining):
    """One run: how the weights are trained, and how they are probed."""

    name: tyro.conf.Suppress[tyro.conf.Fixed[str]] = field(default="", compare=False)
    """What was typed: the pretext, or a recipe of it such as npid_cld. This and the next two decide nothing."""
    preset: tyro.conf.Suppress[tyro.conf.Fixed[str]] = field(default="", compare=False)
    """Where the values come from, before any were changed."""
    paper: tyro.conf.Suppress[tyro.conf.Fixed[str]] = field(default="", compare=False)
    """Whose recipe it is: name in PAPERS."""
    extended_from: tyro.conf.Suppress[tyro.conf.Fixed[tuple[int, ...]]] = field(default=(), compare=False)
    """Steps at which the run was made longer than it was to be; its weights are those of one so long from the start."""
    bench: BenchSpec = field(default_factory=BenchSpec)
    """What the probes see."""
    probes: Annotated[dict[str, ProbeOptions], tyro.conf.arg(name="")] = field(default_factory=dict)
    """{name in PROBES: its options}. Plain values where the recipe was read without PROBES, as training reads it."""
    protocol: Annotated[str, tyro.conf.Suppress] = "select"
    """Name in papers.PROTOCOLS: where the options of a probe come from that is only named."""
    source: str = ""
    """Where the numbers come from: paper and table, official file, or who chose them and how."""

    @property
    def probed_dataset(self):
        """Name of the labelled set."""
        return self.bench.dataset or self.dataset

    def __post_init__(self):
        """InputError for values that no run can use."""
        super().__post_init__()
        bench = self.bench
        require(not self.probes or len(bench.endpoints) > 0, "endpoints is empty; name one, such as pre_logits")
        for options in self.probes.values():
            if isinstance(options, ProbeOptions):
                options.settled(self.task)
        # A probe that chooses its numbers on the validation split must not be scored there.
        choosing = [name for name, options in self.probes.items() if getattr(options, "chooses", False)]
        told = f"{', '.join(choosing)} would choose numbers on val; take --protocol revisiting, or one candidate"
        require(bench.split == "test" or not choosing, f"probe_split val: {told}")
        require(bench.train == "train" or not choosing, f"probe_train trainval: {told}")
        apart = bench.train == "train" or bench.split == "test"
        require(apart, "probe_train trainval needs --probe-split test: val is part of it")
