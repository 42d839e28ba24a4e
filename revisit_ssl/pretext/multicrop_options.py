"""Options of the pretexts with crops of several sizes; see ``options``."""

from dataclasses import dataclass
from typing import Literal

from revisit_ssl.errors import require
from revisit_ssl.recipe import TaskOptions


@dataclass(frozen=True, kw_only=True)
class MultiCropOptions(TaskOptions):
    """What is cut from an image. Sides that are None keep the proportions of the official 224, 160, 96, 256 and 24
    pixels, at views.size in place of 224."""

    crops: int = 2
    """Large crops of an image; 1 in vanilla OBoW. Their law is views.crop, views.scale and views.ratio."""
    patches: int = 5
    """Small patches of an image, of the nine that overlap; 0 in vanilla OBoW."""
    crop_size: int | None = None
    """Side of a large crop in pixels; None: 160 of 224, as a multiple of 8."""
    patch_size: int | None = None
    """Side of a patch in pixels; None: 96 of 224, as a multiple of 8."""
    patch_jitter: int | None = None
    """Pixels by which a patch is moved at most; None: a quarter of its side."""
    patch_scale: tuple[float, float] = (0.6, 1.0)
    """Range of the share of the image's area that the nine patches are cut from."""
    resize_to: int | None = None
    """Length of the shorter side before the target network's central crop of views.size, and side of the square that
    the patches are cut from; None: 256 of 224, as a multiple of 4."""

    def __post_init__(self):
        require(self.crops >= 0, f"task.crops {self.crops} must not be negative")
        require(0 <= self.patches <= 9, f"task.patches {self.patches}: from 0 to 9")
        require(self.crops + self.patches >= 1, "task.crops and task.patches are both 0; the network needs a view")
        for name in ("crop_size", "patch_size", "resize_to"):
            side = getattr(self, name)
            require(side is None or side >= 8, f"task.{name} {side} must be at least 8 pixels")
        low, high = self.patch_scale
        require(0 < low <= high <= 1, f"task.patch_scale {self.patch_scale}: a pair 0 < low <= high <= 1")
        jitter = self.patch_jitter
        require(jitter is None or jitter >= 0, f"task.patch_jitter {jitter} must not be negative")

    def sides(self, size):
        """(side of a large crop, of a patch, largest move of a patch, side before the central crop) for views of
        ``size`` pixels."""
        patch = self.patch_size or nearest(size * 96 / 224, 8)
        jitter = patch // 4 if self.patch_jitter is None else self.patch_jitter
        return self.crop_size or nearest(size * 160 / 224, 8), patch, jitter, self.resize_to or nearest(size * 8 / 7, 4)


def nearest(value, step):
    """The multiple of ``step`` next to ``value``, at least one."""
    return max(step, step * int(value / step + 0.5))


@dataclass(frozen=True, kw_only=True)
class OBoWOptions(MultiCropOptions):
    """Options of OBoW."""

    levels: Literal[1, 2] = 2
    """Feature maps that have a vocabulary: 1: block4's (vanilla); 2: also block3's (full)."""
    words: int = 8192
    """Words K of each vocabulary; 32 to 64 times the images of a step."""
    inv_delta: float | None = 15.0
    """Softness of the assignment to words, softmax(-inv_delta / mu * squared distance); None: the nearest alone.
    Disputed: the supplement has 15 (its ResNet50), the official ResNet18 configurations 10."""
    kappa: float = 8.0
    """Factor of the student's features in the logits. Disputed: the supplement has 8 (its ResNet50), the official
    ResNet18 configurations 5."""
    vocabulary: Literal["queue", "kmeans", "kmeans_replace", "kmeans_sinkhorn"] = "queue"
    """queue: local features of the last images; kmeans: online k-means, a moving average as in VQ-VAE; kmeans_replace:
    with new words for those that are not used; kmeans_sinkhorn: with balanced assignments."""
    sampling: Literal["local_average", "no_averaging", "global_average"] = "local_average"
    """queue: what an image adds: at one place, the mean of 3x3 cells or one cell, or the mean of all. Disputed: the
    supplement does not mention the 3x3 mean, the code's default takes it."""
    pool: Literal["max", "avg"] = "max"
    """Over the cells of an image: a word's largest assignment, or the mean (with inv_delta None: counts)."""
    mu_momentum: float = 0.99
    """Share of mu, the mean squared distance to the nearest word, that a step keeps."""
    bias_correct_mu: bool = False
    """Correct mu for its start at 0.5, which makes the assignments of the first hundreds of steps too hard or too soft;
    not in the official code."""
    word_momentum: float = 0.99
    """k-means: gamma, the share of a word's count and sum that a step keeps; 0.99 in the supplement."""
    rare_after: int = 1000
    """kmeans_replace: steps without use until a word is replaced; 1000 of the 81,200 steps of the official run."""
    sinkhorn_iterations: int = 3
    """kmeans_sinkhorn: normalisations of rows and columns. Not stated in any text; SwAV has 3."""
    start: Literal["noise", "features"] = "noise"
    """kmeans: first words: noise as the queue's, or local features of the first images. Not stated in any text."""
    chunk: int = 32
    """Images whose distances to all words are in memory at once: a cell has words * 4 bytes of them."""
    momentum: float = 0.99
    """Share of the target's old parameters that a step keeps, at first."""
    momentum_schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: the momentum rises to 1 at the end of training."""
    crop_loss: Literal["sum_of_means", "mean"] = "sum_of_means"
    """sum_of_means: large crops and patches count the same as kinds, whatever their numbers; mean: as crops. Disputed:
    the supplement does not say; the code adds up the means."""
    monitor: bool = False
    """Train a linear classifier on what the target makes of the whole image, for the log alone: needs labels and
    changes nothing else."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("words", "rare_after", "sinkhorn_iterations", "chunk"):
            require(getattr(self, name) >= 1, f"task.{name} {getattr(self, name)} must be at least 1")
        for name in ("inv_delta", "kappa"):
            value = getattr(self, name)
            require(value is None or 0 < value < float("inf"), f"task.{name} {value} must be above 0")
        for name in ("momentum", "mu_momentum", "word_momentum"):
            require(0 <= getattr(self, name) <= 1, f"task.{name} {getattr(self, name)} must lie in [0, 1]")
        corrected = not self.bias_correct_mu or self.mu_momentum < 1
        require(corrected, "task.bias_correct_mu needs a task.mu_momentum below 1")


@dataclass(frozen=True, kw_only=True)
class BoWNetOptions(MultiCropOptions):
    """Options of BoWNet."""

    teacher: str | None = None
    """Folder of a finished run, or its backbone.keras: the network whose words are predicted. In the paper a RotNet,
    then, once more, the BoWNet learnt from it. None: a network of the same kind with random weights, as a control and
    for tests; it needs no file."""
    level: Literal["block3", "block4"] = "block4"
    """Feature map of the teacher that has the words. Not stated in what could be read; a reproduction
    (arXiv:2201.03556) takes the third of four blocks."""
    words: int = 2048
    """Words K."""
    vocabulary_images: int = 4096
    """Images whose local features the words are made of."""
    bag: Literal["counts", "binary"] = "binary"
    """What a bag holds before it is divided by its sum: how many cells a word has, or whether it has any. Disputed: the
    paper has both; the reproduction counts."""
    gamma: float = 5.0
    """First value of the factor of the logits, which is learnt. Not stated in what could be read."""
    crops: int = 1
    """Perturbed crops of an image."""
    patches: int = 0
    """Small patches of an image, as OBoW's; none in BoWNet."""
    cutmix: float = 0.0
    """Chance that a crop gets a box of another image's; its bag is then the mean of both by the shares of the area. The
    paper uses it, how often is not stated in what could be read."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("words", "vocabulary_images"):
            require(getattr(self, name) >= 1, f"task.{name} {getattr(self, name)} must be at least 1")
        require(0 < self.gamma < float("inf"), f"task.gamma {self.gamma} must be above 0")
        require(0 <= self.cutmix <= 1, f"task.cutmix {self.cutmix} must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class MoCoMultiCropOptions(MultiCropOptions):
    """Options of MoCo v2 with several crops: MoCo's, and how an image is cut."""

    units: int = 128
    """Size of the projection."""
    hidden: int | None = None
    """Units of the head's hidden layer; None: as many as pre_logits has."""
    temperature: float = 0.2
    """Temperature of the softmax over key and queue. Not stated; MoCo v2's."""
    momentum: float = 0.999
    """Share of the target's old parameters that a step keeps. Not stated; MoCo's."""
    queue_size: int = 65536
    """Keys in the queue, to which every step adds one for each large crop. Not stated; MoCo's."""
    shuffle_bn: bool = True
    """Encode the keys of an image among other images than its queries: in other places of the global batch."""

    def __post_init__(self):
        super().__post_init__()
        fewer = "task.crops 1 and no task.patches leave no query: a crop is no query for its own key"
        require(self.crops >= 1, "task.crops 0: there are no keys")
        require(self.crops >= 2 or self.patches, fewer)
        for name in ("units", "queue_size"):
            require(getattr(self, name) >= 1, f"task.{name} {getattr(self, name)} must be at least 1")
        require(self.hidden is None or self.hidden >= 1, f"task.hidden {self.hidden} must be at least 1")
        require(0 < self.temperature < float("inf"), f"task.temperature {self.temperature} must be above 0")
        require(0 <= self.momentum <= 1, f"task.momentum {self.momentum} must lie in [0, 1]")
