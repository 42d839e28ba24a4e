"""Linear classifiers on augmented images: the SGD evaluation of Revisiting (P section 4.7, supplement 2; spec D.2), of
MoCo and CLD (`main_lincls.py`), of InfoMin (`utils/infomin_test_options.py`), of OBoW (supplement, C.4), of
DeeperCluster and DeepCluster (`eval_linear.py`)."""

import time
from dataclasses import dataclass
from typing import Literal

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import Probe, Score, accuracies, check_schedule, topk_percent
from revisit_ssl.features.checks import check_finite, check_labels


@dataclass(frozen=True, kw_only=True)
class LinearImages(Probe):
    """One independent linear classifier on every endpoint, all trained in one pass over random crops.

    Dense layer with bias, softmax cross entropy, momentum SGD without warm-up; the last epoch counts (MoCo's and
    InfoMin's scripts report the best one on the images that they score). Only the learning rate is chosen on val, where
    several are given, side by side on the same batches. The defaults are for small sets: Revisiting's shortest
    schedule, 30 / 50 / 70, over five. ``Score.extra``: val_top1, val_top5, curve [[epoch, percent on val]], all of the
    chosen rate; val_top1_by_candidate {"lr 10": percent}, of several rates. ``seconds`` is the time of all endpoints
    together.
    """

    reads_features = False
    quick = {"batch_size": 48, "learning_rates": (20.0,), "schedule": (4, 5, 6)}
    per_channel = False
    """Whether ``batch_norm`` takes all cells of a channel together, not each value by itself."""
    jitter, lighting, nesterov = (0.0, 0.0, 0.0), 0.0, False
    """Fields of ``multi_layer``."""

    resize: int | None = None
    """random: shorter side of the image before the crop. None: 256 for crops of 224, in that proportion; of patches
    224 for 192, as in the official code."""
    crop: Literal["random", "resized"] = "random"
    """In training, without colour. random: a square of the image as ``resize`` makes it; resized: torchvision's random
    resized crop of the image as it is. Scored is what the bench sees; random crops of whole images have their centre
    scored. Disputed for the patch tasks: these have the official code's geometry in training (192 of 224) and the
    supplement's when they are scored (192 of 255 squashed)."""
    scale: tuple[float, float] = (0.08, 1.0)
    """resized: range of the crop's share of the image area."""
    flip: bool = False
    """Mirror half of the training crops."""
    randaugment_layers: int = 0
    """RandAugment operations of a training crop, after the flip, each applied with chance 0.5; 0: none. Disputed for
    InfoMin: its script's default is none, the released command has --aug_linear RA, which is 2."""
    randaugment_magnitude: float = 10.0
    """Their mean strength, of at most 10; its deviation is 0.5."""
    batch_size: int = 256
    """Images per step; the number of training images where that is smaller. Disputed for the patch tasks: supplement
    1024, a comment in the code 2048."""
    learning_rates: tuple[float, ...] = (0.1,)
    """Candidates, for 256 images; used times batch_size / 256. At equal accuracy on val the first wins."""
    layer_rates: tuple[tuple[str, float], ...] = ()
    """Endpoints with a rate of their own instead, as "conv13 0.02"; nothing is chosen there."""
    scale_lr: bool = True
    """Off: they are used as they are, which is all that the text says of its 0.1; supplement and code scale."""
    schedule: tuple[int, ...] = (6, 10, 14)
    """Epochs of the drops of the rate, and of the end; 30 50 70, 120 140 160 and 480 500 520 in Revisiting."""
    decay: Literal["steps", "cosine", "bottou"] = "steps"
    """steps: at those epochs; cosine: from epoch to epoch down to 0 at the end, whatever the drops; bottou: by
    1 / sqrt(1 + lr weight_decay t) at iteration t, whatever the drops."""
    factor: float = 0.1
    """What a drop multiplies the rate with."""
    pools: tuple[tuple[str, int, int], ...] = ()
    """Endpoints whose maps are averaged over squares instead of pooled as the bench says: name, side, zeros around."""
    batch_norm: bool = False
    """Features normalised by the batch, without scale or offset; by the moving statistics when they are scored.
    Disputed for OBoW on Places205: README and the benchmark it follows have it, the supplement does not say."""
    start: Literal["glorot", "normal"] = "glorot"
    """Initial weights: Glorot-uniform, or normal with deviation 0.01; the bias is 0."""
    momentum: float = 0.9
    """Of the SGD: m <- momentum m + g + weight_decay w, w <- w - lr m."""
    weight_decay: float = 0.0
    """L2 of the layer, its bias included. Disputed for OBoW on Places205: supplement 1e-4, README 1e-5 (the name of its
    run says 1e-4)."""
    test_crops: Literal["one", "ten"] = "one"
    """ten: corners and centre of the square that the image is resized to, and their mirror images; their softmaxes are
    averaged (DeepCluster's option)."""
    eval_batch_size: int = 256
    """Images per step in evaluation."""

    def __post_init__(self):
        """InputError for values that cannot be."""
        rates = self.learning_rates
        require(rates and min(rates) > 0, f"linear_images.learning_rates {rates}: one or more numbers above 0")
        require(self.batch_size >= 1, f"linear_images.batch_size {self.batch_size} must be at least 1")
        decay = self.weight_decay
        require(0 <= decay < float("inf"), f"linear_images.weight_decay {decay} must be a finite number from 0 up")
        layers, strength = self.randaugment_layers, self.randaugment_magnitude
        require(layers >= 0, f"linear_images.randaugment_layers {layers} must not be negative")
        require(0 <= strength <= 10, f"linear_images.randaugment_magnitude {strength} must lie in [0, 10]")
        check_schedule("linear_images", self.schedule)
        own = [rate for _, rate in self.layer_rates]
        require(min(own, default=1) > 0, f"linear_images.layer_rates {self.layer_rates}: rates above 0")
        fits = all(kernel >= 1 and padding >= 0 for _, kernel, padding in self.pools)
        require(fits, f"linear_images.pools {self.pools}: sides of at least 1, zeros from 0 up")

    @property
    def chooses(self):
        """See ProbeOptions."""
        return len(self.learning_rates) > 1

    @property
    def passes(self):
        """See Probe."""
        return self.schedule[-1]

    def candidates(self, endpoint):
        """The learning rates of an endpoint, for 256 images."""
        own = dict(self.layer_rates)
        return (own[endpoint],) if endpoint in own else self.learning_rates

    def rates(self, batch_size, endpoint=""):
        """The learning rates of an endpoint as they are used."""
        return [lr * batch_size / 256 if self.scale_lr else lr for lr in self.candidates(endpoint)]

    @property
    def squares(self):
        """{endpoint: (side, zeros around)} of ``pools``."""
        return {name: (kernel, padding) for name, kernel, padding in self.pools}

    def geometry(self, bench):
        """(shorter side before a random crop, EvalView that is scored) on that bench."""
        from revisit_ssl.data import EvalView  # TensorFlow

        size, whole = bench.view.size, bench.network_input.patch_grid == 1
        resize = self.resize or round(size * (256 / 224 if whole else 224 / 192))
        if self.test_crops == "ten":
            require(whole, "linear_images.test_crops ten is for networks that see whole images, not patches")
            # Deviation: of the square of the centre, as DeepCluster; for crops of the whole image the authors' differ.
            return resize, EvalView(size=resize, resize=resize, method="shorter_side")
        central = self.crop == "random" and whole
        seen = EvalView(size=size, resize=resize, method="shorter_side", kernel=bench.view.kernel)
        return resize, seen if central else bench.view

    def measure(self, bench):
        """See Probe."""
        from revisit_ssl.evaluators.heads import Heads  # TensorFlow
        from revisit_ssl.evaluators.sgd import curve_epochs

        started = time.perf_counter()
        train, val, test = (bench.images(split) for split in ("train", "val", "test"))
        for source in (train, val, test):
            check_labels(source.labels, bench.num_classes, f"{source.name} {source.split}")
        heads = Heads(self, bench)
        looks = curve_epochs(self.schedule, train.num_examples, val.num_examples)
        curves, val_scores = {name: [[] for _ in self.candidates(name)] for name in bench.endpoints}, {}

        def watch(epoch):
            if epoch in looks:
                val_scores.update(heads.scores(val))
                for name, candidates in curves.items():
                    for own, curve in zip(val_scores[name], candidates, strict=True):
                        curve.append([epoch, topk_percent(own, val.labels, 1)])

        heads.train(watch)
        scores = heads.scores(test)
        resize, view = self.geometry(bench)
        fixed = self.options("learning_rates", "layer_rates", "pools")
        fixed |= {"batch_size": heads.batch_size, "resize": resize, "size": bench.view.size, "eval_view": view.told}
        fixed |= {"max_values": bench.spec.values, "pooling": bench.spec.pooling}
        for name, candidates in curves.items():
            ends = [curve[-1][1] for curve in candidates]
            best = max(range(len(ends)), key=ends.__getitem__)
            check_finite(scores[name][best], f"linear_images on {name}")
            extra = {
                "val_top1": ends[best],
                "val_top5": topk_percent(val_scores[name][best], val.labels, 5),
                "curve": candidates[best],
            }
            if len(ends) > 1:
                labels = (f"lr {lr:g}" for lr in self.candidates(name))
                extra["val_top1_by_candidate"] = dict(zip(labels, ends, strict=True))
            used = {"lr": self.candidates(name)[best], "lr_used": self.rates(heads.batch_size, name)[best]}
            used |= {"pool": self.squares[name]} if name in self.squares else {}
            yield Score(
                **accuracies(scores[name][best], test.labels),
                hyperparameters=fixed | used,
                seconds=time.perf_counter() - started,
                extra=extra,
                endpoint=name,
            )
