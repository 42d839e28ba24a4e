"""Every number of a detector and of its training; needs no TensorFlow."""

from dataclasses import asdict, dataclass

from revisit_ssl.errors import require

# Numbers that training does not depend on.
OF_THE_TEST = (
    "test_shorter", "test_longest", "test_proposals", "precise_batches", "score_threshold", "detection_iou",
    "detections",
)


@dataclass(frozen=True, kw_only=True)
class DetectorOptions:
    """Faster or Mask R-CNN on the C4 map of a network. The defaults are small; the papers' are in their protocols."""

    iterations: int = 500
    """Training steps."""
    batch_size: int = 8
    """Images per step; 16 in the papers."""
    learning_rate: float = 0.02
    """Used as it is."""
    decay_at: tuple[float, ...] = (0.75, 22 / 24)
    """Shares of the steps after which the rate falls; 18,000 and 22,000 of 24,000."""
    factor: float = 0.1
    """What a drop multiplies the rate with."""
    warmup: int = 100
    """Steps in which the rate rises in a straight line from a thousandth."""
    momentum: float = 0.9
    """Of the SGD: m <- momentum m + g + weight_decay w, w <- w - lr m."""
    weight_decay: float = 1e-4
    """L2 of weights and biases, not of scale and offset of batch normalisation."""
    flip: float = 0.5
    """Chance that a training image is mirrored."""
    shorter_sides: tuple[int, ...] = (128,)
    """Shorter sides of training images, one is drawn for each; 480 512 … 800 in the papers."""
    longest: int = 256
    """Most pixels of their longer side; 1333, or 1200 in OpenSelfSup's COCO files."""
    test_shorter: int = 128
    """Shorter side of a test image; 800."""
    test_longest: int = 256
    """Most pixels of its longer side; 1333."""
    endpoint: str = "block3"
    """Map that boxes are found on, of stride 16; what follows it judges regions."""
    anchor_sizes: tuple[float, ...] = (16.0, 32.0, 64.0)
    """Square roots of the anchors' areas in pixels; 32 64 128 256 512 in the papers."""
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Heights over widths."""
    anchors_per_image: int = 64
    """Anchors that a step learns from, at most half of them positive; 256."""
    train_proposals: tuple[int, int] = (600, 200)
    """Before and after non-maximum suppression in training; 12000 2000."""
    test_proposals: tuple[int, int] = (600, 100)
    """The same in the test; 6000 1000."""
    proposal_iou: float = 0.7
    """Threshold of that suppression."""
    regions: int = 32
    """Regions of an image that a step learns from; 512."""
    region_share: float = 0.25
    """Most of them that show an object."""
    pool: int = 8
    """Cells of a region's side, 14 in the papers; the head halves them, masks have as many again."""
    extra_norm: bool = True
    """One more batch normalisation after the head's last ReLU, as MoCo's detectors."""
    mask_channels: int = 256
    """Of the transposed convolution of the mask head."""
    precise_batches: int = 40
    """Training batches over which all statistics of batch normalisation are taken anew at the end; 200."""
    score_threshold: float = 0.05
    """Detections below are left out."""
    detection_iou: float = 0.5
    """Threshold of the suppression within a class."""
    detections: int = 100
    """Most of an image."""

    def __post_init__(self):
        """InputError for values that cannot be."""
        for name in (
            "iterations", "batch_size", "anchors_per_image", "regions", "mask_channels", "precise_batches",
            "detections", "longest", "test_longest", "test_shorter",
        ):
            require(getattr(self, name) >= 1, f"{self.title}.{name} {getattr(self, name)} must be at least 1")
        for name in ("shorter_sides", "anchor_sizes", "anchor_ratios", "train_proposals", "test_proposals"):
            given = getattr(self, name)
            require(given and min(given) > 0, f"{self.title}.{name} {given}: one or more numbers above 0")
        for name in ("proposal_iou", "region_share", "detection_iou"):
            require(0 < getattr(self, name) <= 1, f"{self.title}.{name} {getattr(self, name)} must lie in (0, 1]")
        for name in ("flip", "score_threshold", "momentum"):
            require(0 <= getattr(self, name) <= 1, f"{self.title}.{name} {getattr(self, name)} must lie in [0, 1]")
        even = self.pool >= 2 and self.pool % 2 == 0
        require(even, f"{self.title}.pool {self.pool} must be an even number from 2 up")
        require(self.learning_rate > 0, f"{self.title}.learning_rate {self.learning_rate} must be above 0")
        require(self.warmup >= 0, f"{self.title}.warmup {self.warmup} must not be negative")
        require(self.region_share * self.regions >= 1, f"{self.title}.region_share leaves no region with an object")

    title = "detection"
    """What error lines call it."""

    def trained(self):
        """{field: value} of those that decide the weights."""
        return {name: value for name, value in asdict(self).items() if name not in OF_THE_TEST}

    @property
    def anchors_per_cell(self):
        """How many anchors every cell of the map has."""
        return len(self.anchor_sizes) * len(self.anchor_ratios)
