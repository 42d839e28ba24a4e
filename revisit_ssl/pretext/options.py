"""The options of the pretexts: what a recipe's ``task`` may be. They need no TensorFlow, so that help does not either.

Those with crops of several sizes are in ``multicrop_options``.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from revisit_ssl.errors import require
from revisit_ssl.pretext.cld import CLDSpec
from revisit_ssl.recipe import TaskOptions


@dataclass(frozen=True, kw_only=True)
class ExemplarOptions(TaskOptions):
    """Options of Exemplar."""

    crops: int = 8
    """Crops of each image in a step."""
    embed_dim: int = 1000
    """Size of the embedding."""
    margin: float = 0.5
    """Margin of the triplet loss, in squared distances."""
    normalize: Literal["row", "batch_legacy"] = "row"
    """What of the embeddings gets unit length. Disputed: the texts do not say; the released code divides each column by
    its norm over the batch (batch_legacy), the authors' later code each row. By columns, rows have length
    sqrt(1000 / rows): 3.95 at 64 rows, 2.80 at 128, so that two random ones lie 31 or 16 apart instead of 2, the margin
    weighs that much less, and the loss depends on the batch size."""
    loss_group: int | None = None
    """Images whose crops are compared with each other; None: all of the replica's. Disputed for one large device: each
    of the paper's TPU cores compared its own 16 images (released configuration: 8)."""

    def __post_init__(self):
        require(self.crops >= 2, f"task.crops {self.crops} must be at least 2: a crop needs another one to be near to")
        require(self.embed_dim >= 1, f"task.embed_dim {self.embed_dim} must be at least 1")
        require(0 <= self.margin < float("inf"), f"task.margin {self.margin} must be a finite number from 0 up")
        group = self.loss_group
        require(group is None or group >= 2, f"task.loss_group {group} must be at least 2 images: one has no negatives")


@dataclass(frozen=True, kw_only=True)
class PatchOptions(TaskOptions):
    """Options of both patch tasks."""

    embed_dim: int = 1000
    """Size of the vector that a linear layer makes of each patch's pre_logits. Disputed: the paper's text concatenates
    pre_logits and has two hidden layers; the code has this linear layer and one hidden one."""
    hidden: int = 4096
    """Units of the head's hidden layer."""
    dropout: float = 0.5
    """Share of the hidden units that a training step leaves out."""
    head_bn_momentum: float = 0.997
    """Share of the old moving statistics that a step keeps in the head's BatchNorm; shorter runs need less."""

    def __post_init__(self):
        require(self.embed_dim >= 1, f"task.embed_dim {self.embed_dim} must be at least 1")
        require(self.hidden >= 1, f"task.hidden {self.hidden} must be at least 1")
        require(0 <= self.dropout < 1, f"task.dropout {self.dropout} must lie in [0, 1)")
        momentum = self.head_bn_momentum
        require(0 <= momentum < 1, f"task.head_bn_momentum {momentum} must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class JigsawOptions(PatchOptions):
    """Options of Jigsaw."""

    permutations: int = 16
    """Orders of each image's patches in a step, all different. Disputed: supplement 16 for each image; code 8, the same
    for all images (see shared_subset)."""
    shared_subset: bool = False
    """Draw those orders once for the global batch, not for each image. Disputed: the supplement draws for each image;
    the code shares (each TPU core its own draw) and takes 8 unless told otherwise."""
    permutation_count: int = 100
    """Size of the set of permutations, which is the number of classes; a permutation_file has its own."""
    permutation_file: str | None = None
    """The set in Noroozi and Favaro's format (permutations_100_max.bin), as in the official code; None: a set of our
    own by the same law."""
    permutation_seed: int = 0
    """Which set of our own."""

    def __post_init__(self):
        super().__post_init__()
        require(self.permutations >= 1, f"task.permutations {self.permutations} must be at least 1")
        require(self.permutation_seed >= 0, f"task.permutation_seed {self.permutation_seed} must not be negative")


@dataclass(frozen=True, kw_only=True)
class SimCLROptions(TaskOptions):
    """Options of SimCLR."""

    head: Literal["linear", "mlp"] = "mlp"
    """mlp: linear, ReLU, linear, as the paper's text; linear: its ablation. Disputed: the official code has BatchNorm
    after each layer of its head, of which the text says nothing."""
    units: int = 128
    """Size of the projection."""
    hidden: int | None = None
    """Units of the hidden layer; None: as many as pre_logits has."""
    temperature: float = 0.1
    """Temperature of NT-Xent: 0.1 on ImageNet, 0.5 on CIFAR-10 (the paper's appendix B.9)."""

    def __post_init__(self):
        require(self.units >= 1, f"task.units {self.units} must be at least 1")
        require(self.hidden is None or self.hidden >= 1, f"task.hidden {self.hidden} must be at least 1")
        require(0 < self.temperature < float("inf"), f"task.temperature {self.temperature} must be above 0")


@dataclass(frozen=True, kw_only=True)
class NPIDOptions(TaskOptions):
    """Options of NPID."""

    head: Literal["linear", "normlinear", "mlp", "normmlp"] = "linear"
    """linear: the official head; normlinear: CLD's cosines; mlp, normmlp: with a hidden layer."""
    units: int = 128
    """Size of the projection."""
    hidden: int | None = None
    """Units of an MLP's hidden layer; None: as many as pre_logits has."""
    temperature: float = 0.1
    """Temperature of the softmax over images: 0.1 on CIFAR, 0.07 on ImageNet."""
    loss: Literal["softmax", "nce"] = "softmax"
    """softmax: over all images, or the positive and the negatives; nce: noise-contrastive, needs negatives."""
    negatives: int = 0
    """Images drawn for each row, with replacement; 0: all. Disputed on ImageNet: 4096 by NCE in the paper, 65536 by
    softmax in the authors' later model. Each step gathers batch * negatives rows of the bank."""
    bank_momentum: float = 0.5
    """Share of a bank's row that an update keeps."""
    crops: Literal[1, 2] | None = None
    """Views of an image in a step, of which the loss is the mean; None: 2 with CLD, else 1."""
    bank_semantics: Literal["clean", "legacy"] = "clean"
    """Two views. clean: both see the bank as it was before the step; legacy: the gradient of view 1 sees what view 2
    has written, as in the released CLD code and its published numbers. Values, bank and view 2 are the same."""
    cld: Annotated[CLDSpec, tyro.conf.arg(prefix_name=False)] = field(default_factory=CLDSpec)
    """Cross-level discrimination between the two views."""

    def __post_init__(self):
        require(self.units >= 1, f"task.units {self.units} must be at least 1")
        require(self.hidden is None or self.hidden >= 1, f"task.hidden {self.hidden} must be at least 1")
        require(0 < self.temperature < float("inf"), f"task.temperature {self.temperature} must be above 0")
        require(self.negatives >= 0, f"task.negatives {self.negatives} must not be negative")
        require(self.loss != "nce" or self.negatives > 0, "task.loss nce needs task.negatives, such as 4096")
        require(0 <= self.bank_momentum <= 1, f"task.bank_momentum {self.bank_momentum} must lie in [0, 1]")
        require(self.views == 2 or not self.cld.weight, "task.crops 1 has one view and CLD compares two; take 2")
        legacy = self.bank_semantics == "legacy"
        require(not legacy or self.views == 2, "task.bank_semantics legacy is of two views; add task.crops 2")
        require(not legacy or not self.negatives, "task.bank_semantics legacy is of the full softmax; drop negatives")

    @property
    def views(self):
        """Crops of an image."""
        return self.crops or (2 if self.cld.weight else 1)


@dataclass(frozen=True, kw_only=True)
class MoCoOptions(TaskOptions):
    """Options of MoCo."""

    head: Literal["linear", "normlinear", "mlp", "normmlp"] = "linear"
    """linear: v1; mlp: v2; normlinear, normmlp: with CLD's cosines instead of the last linear layer."""
    units: int = 128
    """Size of the projection."""
    hidden: int | None = None
    """Units of an MLP's hidden layer; None: as many as pre_logits has."""
    temperature: float = 0.07
    """Temperature of the softmax over key and queue: 0.07 in v1, 0.2 in v2, 0.1 in the CIFAR-10 notebook."""
    momentum: float = 0.999
    """Share of the target's old parameters that a step keeps; 0.99 in the CIFAR-10 notebook."""
    update_target: Literal["before", "after"] = "before"
    """before: the target is updated before it encodes the keys (official MoCo); after: once the optimiser has stepped
    (CLD's CIFAR script)."""
    queue_size: int = 65536
    """Keys in the queue; 4096 in the CIFAR-10 notebook."""
    queue_start: Literal["normal", "uniform"] = "normal"
    """First content: normal: random directions; uniform: rows that are not of unit length (CLD's CIFAR script)."""
    queue_scope: Literal["global", "local"] = "global"
    """Under replicas: one queue of the keys of all, or a queue for each of its own."""
    shuffle_bn: bool = True
    """Encode the keys of an image among other images than its query: in other places of the global batch. It hides
    something only where parts of that are normalised apart: on several devices, or with bn_group."""
    symmetric: bool = False
    """Either view is query and key; the sum of both losses (CIFAR-10 notebook)."""
    crops: Literal[2, 3] | None = None
    """2: a query and a key. 3: two queries, whose losses are averaged, and a key (CLD's scripts). None: 3 with CLD
    unless symmetric, else 2. Disputed: how CLD's plain MoCo rows were trained is not published; the script without its
    term has 3."""
    cld: Annotated[CLDSpec, tyro.conf.arg(prefix_name=False)] = field(default_factory=CLDSpec)
    """Cross-level discrimination between the two queries."""

    def __post_init__(self):
        require(self.units >= 1, f"task.units {self.units} must be at least 1")
        require(self.hidden is None or self.hidden >= 1, f"task.hidden {self.hidden} must be at least 1")
        require(0 < self.temperature < float("inf"), f"task.temperature {self.temperature} must be above 0")
        require(0 <= self.momentum <= 1, f"task.momentum {self.momentum} must lie in [0, 1]")
        require(self.queue_size >= 1, f"task.queue_size {self.queue_size} must be at least 1")
        require(not self.symmetric or self.crops != 3, "task.symmetric has two crops; leave task.crops at None")
        two = self.symmetric or self.crops != 2 or not self.cld.weight
        require(two, "task.crops 2 has one query and CLD compares two; take 3, or task.symmetric")

    @property
    def views(self):
        """Crops of an image."""
        return self.crops or (3 if self.cld.weight and not self.symmetric else 2)


@dataclass(frozen=True, kw_only=True)
class BYOLOptions(TaskOptions):
    """Options of BYOL."""

    hidden: int = 4096
    """Units of the hidden layers of projector and predictor."""
    units: int = 256
    """Size of the projection and of its prediction."""
    last_bias: bool = False
    """Whether their last layers have a bias. Disputed: not in DeepMind's code, there is one in OpenSelfSup's."""
    head_bn_momentum: float = 0.9
    """Share of the old moving statistics that a step keeps in their BatchNorm."""
    momentum: float = 0.99
    """Share of the target's old parameters that a step keeps, at first. DeepMind: 0.97 for 40 epochs, 0.99 for 100 and
    300, 0.996 for 1000; OpenSelfSup: 0.996 for 200 at 256 images, 0.99 at 4096."""
    momentum_schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: the momentum rises to 1 at the end of training."""
    group_head: Literal["linear", "normlinear"] = "linear"
    """Last layer of CLD's group branch. Not stated in any text."""
    cld: Annotated[CLDSpec, tyro.conf.arg(prefix_name=False)] = field(default_factory=CLDSpec)
    """Cross-level discrimination between the two views of the online network."""

    def __post_init__(self):
        require(self.hidden >= 1, f"task.hidden {self.hidden} must be at least 1")
        require(self.units >= 1, f"task.units {self.units} must be at least 1")
        for name in ("momentum", "head_bn_momentum"):
            require(0 <= getattr(self, name) <= 1, f"task.{name} {getattr(self, name)} must lie in [0, 1]")


@dataclass(frozen=True, kw_only=True)
class InfoMinOptions(TaskOptions):
    """Options of InfoMin."""

    head: Literal["linear", "normlinear", "mlp", "normmlp"] = "mlp"
    """normlinear, normmlp: with CLD's cosines instead of the last linear layers, also in the jigsaw branch."""
    units: int = 128
    """Size of the projection."""
    hidden: int | None = None
    """Units of an MLP's hidden layer; None: as many as pre_logits has."""
    temperature: float = 0.15
    """Temperature of the softmax over key and queue."""
    momentum: float = 0.999
    """Share of the target's old parameters that a step keeps."""
    queue_size: int = 65536
    """Keys in the queue."""
    queue_scope: Literal["global", "local"] = "global"
    """Under replicas: one queue of the keys of all, or a queue for each of its own."""
    shuffle_bn: bool = True
    """Encode the keys of an image among other images than its query: in other places of the global batch. It hides
    something only where parts of that are normalised apart: on several devices, or with bn_group."""
    jigsaw_weight: float = 0.5
    """Weight (beta) of the jigsaw branch, the queries' weight being 1 - beta; 0: no such branch."""
    jigsaw_size: int | None = None
    """Side of the crop that the nine patches come from; None: 255 for views of 224 pixels, others in proportion."""
    jigsaw_scale: tuple[float, float] = (0.6, 1.0)
    """Range of that crop's share of the image area."""
    patch_size: int | None = None
    """Side of a patch, cut anywhere in its cell; None: 64 for cells of 85 pixels, others in proportion."""
    crops: Literal[2, 3] | None = None
    """2: a query and a key. 3: two queries, whose losses are averaged, and a key (CLD's script). None: 3 with CLD."""
    legacy_double_enqueue: bool = False
    """Write the keys before the second query as well, as the released code of CLD does. Disputed: the text has no such
    thing; there the second query's positive is among its negatives, and the queue holds half as many steps."""
    cld: Annotated[CLDSpec, tyro.conf.arg(prefix_name=False)] = field(default_factory=CLDSpec)
    """Cross-level discrimination between the two queries."""

    def __post_init__(self):
        require(self.units >= 1, f"task.units {self.units} must be at least 1")
        require(self.hidden is None or self.hidden >= 1, f"task.hidden {self.hidden} must be at least 1")
        require(0 < self.temperature < float("inf"), f"task.temperature {self.temperature} must be above 0")
        require(0 <= self.momentum <= 1, f"task.momentum {self.momentum} must lie in [0, 1]")
        require(self.queue_size >= 1, f"task.queue_size {self.queue_size} must be at least 1")
        require(0 <= self.jigsaw_weight <= 1, f"task.jigsaw_weight {self.jigsaw_weight} must lie in [0, 1]")
        size = self.jigsaw_size
        require(size is None or size >= 12, f"task.jigsaw_size {size} must be at least 12 pixels")
        require(
            self.patch_size is None or self.patch_size >= 4, f"task.patch_size {self.patch_size} must be at least 4"
        )
        require(self.crops != 2 or not self.cld.weight, "task.crops 2 has one query and CLD compares two; take 3")
        double = not self.legacy_double_enqueue or self.views == 3
        require(double, "task.legacy_double_enqueue is of two queries; add task.crops 3")

    @property
    def views(self):
        """Crops of an image, without the one of the patches."""
        return self.crops or (3 if self.cld.weight else 2)

    def cell(self, size):
        """Side of one of the nine cells, for views of ``size`` pixels."""
        return (self.jigsaw_size or max(12, round(size * 255 / 224))) // 3

    def patch(self, size):
        """Side of a patch, for views of ``size`` pixels."""
        return self.patch_size or max(4, round(self.cell(size) * 64 / 85))
