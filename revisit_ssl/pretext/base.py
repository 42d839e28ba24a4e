"""What every pretext shares: the views of a batch, one gradient step, the running means."""

import dataclasses

import keras
import tensorflow as tf

from revisit_ssl.data.decoding import EvalView
from revisit_ssl.distribute import replicas, step_seed
from revisit_ssl.errors import require
from revisit_ssl.recipe import TaskOptions, ViewSpec
from revisit_ssl.views.blur import random_gaussian_blur
from revisit_ssl.views.color import color_jitter, inception_color, random_grayscale, random_solarize
from revisit_ssl.views.crops import CropSpec, cut_with_boxes
from revisit_ssl.views.draws import fold
from revisit_ssl.views.geometry import random_erasing, random_flip
from revisit_ssl.views.pixels import normalize_input, to_float
from revisit_ssl.views.randaugment import rand_augment


class Pretext(keras.Model):
    """A backbone, what is trained on top of it, and how.

    A method derives from this class, builds its heads in ``__init__`` (then calls ``self.ready(...)``) and writes its
    ``train_step`` whole. Losses, queues and targets are its own business; a queue is made with
    ``self.add_weight(trainable=False)``, since Keras neither tracks nor saves a bare tf.Variable.

    Args:
        backbone: functional model whose output is a dict of endpoints.
        views: ViewSpec.
        seed: int; with the optimiser's step it decides every random draw.
    """

    Options = TaskOptions
    """Dataclass of the method's own recipe fields (``Recipe.task``)."""
    trains = True
    """False for a baseline that only builds its network."""
    cuts_patches = False
    """True where the network is trained on the patches of ``views.patch_grid``."""
    kept_columns = ()
    """Columns of the log whose last values and curves a run keeps as results; a level behind them is told apart."""
    contract_changes = {}
    """Recipe fields that ``testing.check_pretext`` changes, as for ``override``: a term that the method may carry, or
    sizes at which rounding decides nothing, so that two replicas can give the numbers of one device."""
    draws_images = False
    """True where the images of an epoch are not a permutation of all but what ``epoch_order`` says."""
    without_momentum = ()
    """Parts of the paths of variables that the optimiser moves without momentum."""
    total_steps = None
    """Optimiser steps of the whole run, for schedules of the method's own; known once the model is compiled. Who uses
    it says so in ``needs_end``."""

    def __init__(self, backbone, *, views=None, seed=0):
        super().__init__(name=type(self).__name__.lower())
        self.backbone = backbone
        self.view_spec = views or ViewSpec()
        self.seed = seed

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        """The pretext for a recipe; ``source`` tells the number of images and classes."""
        return cls(backbone, views=recipe.views, seed=recipe.seed)

    @classmethod
    def needs_end(cls, options):
        """Whether a step depends on ``total_steps``: such a run cannot be made longer."""
        return False

    @property
    def crops(self):
        """{name: CropSpec}: what this pretext cuts from an image, on the host or on the device."""
        v = self.view_spec
        box = {"method": v.crop, "scale": v.scale, "ratio": v.ratio}
        return {"image": CropSpec(size=v.size, **box, resize_to=v.resize_to, kernel=v.resize)}

    @property
    def exported(self):
        """Functional model that is saved as backbone.keras and probed: the backbone.

        A method whose head is part of what the paper evaluates adds that as one more endpoint of the same layers, as in
        ``keras.Model(backbone.input, {**backbone.output, "projection": f})`` with unit rows f float32 [B, d].
        """
        return self.backbone

    @property
    def rows_per_image(self):
        """Rows of the network's training batch that come from one image."""
        return 1

    def check_batch(self, images, bn_group=None):
        """InputError where ``images`` on a device are no training batch; ``bn_group`` is the recipe's."""
        grid = self.view_spec.patch_grid
        # Probes would cut patches that the network has never seen.
        whole = f"{self.name} trains on whole crops, not on the patches of views.patch-grid {grid}; leave it at 1"
        require(grid == 1 or self.cuts_patches, whole)
        rows = images * self.rows_per_image
        fits = bn_group is None or rows % bn_group == 0
        require(fits, f"bn_group {bn_group} does not divide the {rows} rows ({images} images) of a device")

    def ready(self, *scalars):
        """Ends ``__init__``: names the running means and marks the model as built."""
        self.trackers = {name: keras.metrics.Mean(name=name) for name in scalars}
        self.built = True

    def step_seed(self):
        """Seed of this step's draws on this replica."""
        return step_seed(self.seed, self.optimizer.iterations)

    def cut(self, batch, seed):
        """{name: float32 [B, n, s, s, 3] in [0, 1]}: crops made on the host, or cut here from whole images; the boxes
        that come with some, float32 [B, n, 4], under name_boxes.

        Sets of one image size kept in memory arrive as {"image": uint8 [B, H, W, 3]}: cutting on the device is
        cheaper than sending crops. Encoded sets arrive already cut: uint8 [B, n, s, s, 3].
        """
        found = {}
        whole = "image" in batch and batch["image"].shape.rank == 4
        for i, (name, spec) in enumerate(self.crops.items()):
            if whole:
                found[name], boxes = cut_with_boxes(batch["image"], spec, fold(seed, i))
            else:
                found[name], boxes = to_float(batch[name]), batch.get(f"{name}_boxes")
            found |= {f"{name}_boxes": boxes} if spec.regions else {}
        return found

    def augment(self, images, seed, view=0, **changes):
        """The ViewSpec's operations in its order, its input range, its erased box; float32 [B, H, W, 3] -> same.

        Args:
            images: in [0, 1].
            seed: of this view alone: two views of one seed get the same draws.
            view: int, which of the views of an image this is; probabilities with one number for each go by it.
            **changes: replace fields of the ViewSpec, as in ``gray_probability=0.0`` where gray came before.
        """
        v = dataclasses.replace(self.view_spec, **changes)
        for name in v.order:
            if name not in v.operations:
                continue
            if name == "flip":
                images = random_flip(images, fold(seed, 101))
            elif name == "color" and v.color == "inception":
                images = inception_color(images, fold(seed, 102), order=v.color_order)
            elif name == "color":
                b, c, s, h = v.jitter
                images = color_jitter(
                    images,
                    fold(seed, 102),
                    brightness=b,
                    contrast=c,
                    saturation=s,
                    hue=h,
                    probability=v.jitter_probability,
                )
            elif name == "gray":
                images = random_grayscale(images, fold(seed, 103), probability=v.gray_probability, mode=v.gray)
            elif name == "blur":
                chance = of_view(v.blur_probability, view)
                images = random_gaussian_blur(
                    images, fold(seed, 104), sigma=v.blur_sigma, size=v.blur_taps, probability=chance
                )
            elif name == "solarize":
                images = random_solarize(images, fold(seed, 105), probability=of_view(v.solarize_probability, view))
            elif name == "randaugment":
                images = rand_augment(
                    images,
                    fold(seed, 106),
                    layers=v.randaugment_layers,
                    magnitude=v.randaugment_magnitude,
                    deviation=v.randaugment_deviation,
                    probability=v.randaugment_probability,
                )
        images = normalize_input(images, v.normalize)
        if v.erasing_probability:
            images = random_erasing(
                images, fold(seed, 107), area=v.erasing_area, ratio=v.erasing_ratio, probability=v.erasing_probability
            )
        return images

    def minimize(self, loss, tape):
        """One optimiser step on the mean of ``loss`` over the replicas.

        Keras adds up the gradients of the replicas; each therefore differentiates its loss divided by their number.
        """
        share = tf.ones_like(loss) / replicas()
        gradients = tape.gradient(loss, self.trainable_variables, output_gradients=share)
        self.optimizer.apply(gradients, self.trainable_variables)

    def report(self, **scalars):
        """Adds to the running means since the last log line and returns them."""
        for name, value in scalars.items():
            self.trackers[name].update_state(value)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    @property
    def metrics(self):
        return list(self.trackers.values())

    def callbacks(self, source):
        """Keras callbacks that the method needs during training, such as re-clustering between epochs."""
        return []

    def begin_epoch(self, epoch, source, folder=None):
        """What a method that ``draws_images`` does before the first batch of an epoch; again after a restart within it.

        Args:
            epoch: int.
            source: data.Source.
            folder: of the run, for files that may be large; None: none is kept.

        Returns:
            Whether the state of the model is another one now.
        """
        return False

    def epoch_order(self, epoch, count):
        """int64 [count]: the images of an epoch in turn, of a method that ``draws_images``; after ``begin_epoch``."""
        raise NotImplementedError

    def score_view(self, view):
        """EvalView of the images that ``test_step`` is scored on; ``view``: the one of the probes.

        After Inception crops it is the middle 87.5 %, the paper's evaluation view of a pretext.
        """
        v = self.view_spec
        return EvalView(size=v.size, method="central_fraction", kernel=v.resize) if v.crop == "inception" else view

    def pictures(self, batch):
        """[(title, float32 [n, H, W, 3] in [0, 1], names [n])]: what the pretext sees, for the report."""
        return []

    def make_train_function(self, force=False):
        # Keras 3's own function reduces over replicas in a way that MultiWorkerMirroredStrategy refuses.
        if self.train_function is None or force:
            self.train_function = self._distributed(self.train_step)

    def make_test_function(self, force=False):
        if self.test_function is None or force:
            self.test_function = self._distributed(self.test_step)

    def _distributed(self, step):
        strategy = self.distribute_strategy
        if self.jit_compile:
            step = tf.function(step, autograph=False, jit_compile=True, reduce_retracing=True)

        def one_step(iterator):
            logs = strategy.run(step, args=(next(iterator),))
            return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}

        # As in Keras, a step has no Python control flow of tensors; AutoGraph would look for it for seconds.
        return one_step if self.run_eagerly else tf.function(one_step, autograph=False, reduce_retracing=True)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        # Built in __init__; Keras would draw a batch and call the model, which has no call().
        pass


def of_view(values, view):
    """The number of view ``view`` of a tuple with one for every view, or one for each; the last serves the rest."""
    return values[min(view, len(values) - 1)]
