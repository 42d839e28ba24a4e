"""Training of a detector and its detections: the arithmetic of ``Detection`` and ``Segmentation``."""

import hashlib
import itertools
import json
import time

import numpy as np
import tensorflow as tf

from revisit_ssl.detection.detector import Detector
from revisit_ssl.detection.feeding import TrainingBatches, inference_batches, scaled, scaled_size
from revisit_ssl.detection.masks import paste
from revisit_ssl.detection.packed import PackedMasks
from revisit_ssl.distribute import get_strategy, step_seed, sum_replicas, to_numpy, use_xla
from revisit_ssl.errors import Interrupted, TrainingDiverged
from revisit_ssl.features.batchnorm import reestimate_batch_norm
from revisit_ssl.runs.telling import Bar, tell
from revisit_ssl.training.checkpoints import load_newest, save_checkpoint
from revisit_ssl.training.loop import stop_signals
from revisit_ssl.training.optimizers import MomentumSGD
from revisit_ssl.training.schedules import StepDecay

WINDOWS = 60  # rows of the curve of a training's losses
SAVE_SECONDS = 300  # between two checkpoints


class DetectorTraining:
    """A detector on a network, trained from it on annotated images; goes on where it was killed.

    Args:
        options: DetectorOptions.
        backbone: frozen keras.Model, which is left alone.
        images: sequence of Annotated to learn from.
        num_classes: of their objects.
        masks: whether masks are learnt too.
        normalize: range of the network's images.
        seed: of new layers, order, scales, mirroring and samples.

    Attributes:
        detector: Detector.
        curve: [{"step", loss: its mean since the row before}].
    """

    def __init__(self, options, backbone, images, num_classes, *, masks=False, normalize="imagenet", seed=0):
        self.options, self.seed = options, seed
        self.batches = TrainingBatches(images, options, seed, masks)
        self._backbone = backbone
        self._kind = {"num_classes": num_classes, "masks": masks, "normalize": normalize, "seed": seed}
        self.detector, self.curve = None, []

    def run(self, *, folder=None, strategy=None, xla=None, quiet=True, save_every=None, watch=None):
        """Trains ``detector`` to its end, its statistics of batch normalisation taken anew under the last weights.

        Args:
            folder: of checkpoints, from which it goes on; None: nothing is kept.
            strategy: tf.distribute.Strategy of one machine; None: all of its GPUs where they divide a batch, or else
                one device.
            xla: whether XLA compiles the step; None: on one accelerator.
            quiet: say nothing.
            save_every: steps between checkpoints; None: by SAVE_SECONDS.
            watch: called with the number of steps done after each; None: nobody looks.

        Raises:
            Interrupted: a signal came; what was done is saved.
            TrainingDiverged: a loss is not finite.
            InputError: checkpoints of another training in the folder, or none of them can be read.
        """
        strategy = strategy or of_this_machine(self.options.batch_size)
        self._build(strategy)
        start, sums = self._resume(folder)
        total, step = self.options.iterations, self._compiled(strategy, xla)
        bar, saved = Bar("detector, training steps", total - start, quiet), time.perf_counter()
        every, batches = max(1, total // WINDOWS), self.batches(start)
        with stop_signals() as stop:
            for done in range(start + 1, total + 1):
                found = step(self._distributed(next(batches), strategy))
                sums.append([float(value) for value in found.values()])
                if not np.isfinite(sums[-1]).all():
                    raise TrainingDiverged(f"detection: a loss at step {done} is not finite; lower its learning rate")
                if done % every == 0 or done == total:
                    means = np.mean(sums, axis=0).round(5).tolist()
                    self.curve.append({"step": done} | dict(zip(found, means, strict=True)))
                    sums = []
                late = time.perf_counter() - saved > SAVE_SECONDS
                due = done % save_every == 0 if save_every else late and done % every == 0
                if folder and (due or done == total or stop):
                    path, saved = self._save(folder, done, sums), time.perf_counter()
                if stop:
                    raise Interrupted(stop[0], path if folder else "nothing, there is no --workdir")
                bar(done - start)
                if watch:
                    watch(done)
        self._finish(strategy, total, quiet)

    def _build(self, strategy):
        options, (drops, warmup) = self.options, (self.options.decay_at, self.options.warmup)
        several = strategy.num_replicas_in_sync > 1
        with strategy.scope():
            self.detector = Detector(self._backbone, options, synchronized=several, **self._kind)
            # A new rate holds from the step of the drop on, as PyTorch's.
            ends = sorted({max(0, round(share * options.iterations) - 1) for share in drops})
            ramp = {"warmup_steps": warmup, "warmup_from": options.learning_rate / 1000}
            rate = StepDecay(options.learning_rate, ends, options.factor, **ramp)
            known = {"momentum": options.momentum, "weight_decay": options.weight_decay}
            optimizer = MomentumSGD(rate, **known, exclude=("/gamma", "/beta"), decay="all")
            optimizer.build(self.detector.trainable_variables)
            self.detector.compile(optimizer=optimizer, jit_compile=False)

    def _compiled(self, strategy, xla):
        """Function of a batch: one step in place, {loss: of the whole batch}."""
        detector, optimizer = self.detector, self.detector.optimizer

        def step(batch):
            variables = detector.trainable_variables
            with tf.GradientTape() as tape:
                found = detector.training_losses(batch, step_seed(self.seed, optimizer.iterations))
                loss = tf.add_n(list(found.values()))
            # Not by the number of replicas: each has its part of the sum.
            optimizer.apply(tape.gradient(loss, variables), variables)
            return {name: sum_replicas(value) for name, value in found.items()}

        xla = use_xla(strategy) if xla is None else xla
        if strategy.num_replicas_in_sync == 1:
            return tf.function(step, autograph=False, jit_compile=xla)

        def each(batch):
            found = strategy.run(step, args=(batch,))
            return {name: strategy.experimental_local_results(value)[0] for name, value in found.items()}

        return tf.function(each, autograph=False)

    def _distributed(self, batch, strategy):
        replicas = strategy.num_replicas_in_sync
        if replicas == 1:
            return {name: tf.convert_to_tensor(values) for name, values in batch.items()}

        def own(context):
            parts = {name: np.split(values, replicas) for name, values in batch.items()}
            return {name: tf.convert_to_tensor(part[context.replica_id_in_sync_group]) for name, part in parts.items()}

        return strategy.experimental_distribute_values_from_function(own)

    def identity(self):
        """What decides the weights at each step, in plain values: a checkpoint of another training is refused."""
        digest = hashlib.sha256()
        for variable in self._backbone.weights:
            digest.update(to_numpy(variable).tobytes())
        for one in self.batches.images:
            digest.update(f"{one.image_id} {one.size}".encode() + one.boxes.tobytes() + one.classes.tobytes())
        return self.options.trained() | self._kind | {"weights_and_images": digest.hexdigest()[:16]}

    @property
    def key(self):
        """A short name of ``identity``, for folders."""
        return hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:8]

    def _save(self, folder, done, sums):
        about = {"recipe": self.identity(), "curve": self.curve, "sums": sums}
        path = save_checkpoint(folder, self.detector, done, about=about)
        if path is None:
            raise TrainingDiverged(f"detection: a weight at step {done} is not finite; lower its learning rate")
        return path

    def _resume(self, folder):
        start, about = load_newest(folder, self.detector, self.identity()) if folder else (0, {})
        self.curve = about.get("curve", self.curve)
        return start, about.get("sums", [])

    def _finish(self, strategy, total, quiet):
        if strategy.num_replicas_in_sync > 1:  # what follows is of one device
            alone = Detector(self._backbone, self.options, **self._kind)
            for new, old in zip(alone.weights, self.detector.weights, strict=True):
                new.assign(to_numpy(old))
            self.detector = alone
        count = self.options.precise_batches
        tell(f"statistics of batch normalisation over {count} training batches", quiet)
        numbered = zip(itertools.count(total), self.batches(total), strict=False)
        batches = ({"step": np.full(len(batch["image"]), i), **batch} for i, batch in itertools.islice(numbered, count))

        def forward(batch):
            batch = dict(batch)
            return self.detector.training_losses(batch, step_seed(self.seed, batch.pop("step")[0]))

        reestimate_batch_norm(self.detector, batches, forward)

    def detections(self, images, *, quiet=True):
        """What the detector finds on images, in their own pixels.

        Args:
            images: sequence of Annotated, of which only images and sizes are looked at.
            quiet: say nothing.

        Returns:
            [{"boxes": float32 [m, 4], "scores": float32 [m], "classes": int32 [m], "masks": PackedMasks [m, H, W] or
            None}], best first, in the order of ``images``.
        """
        options, found = self.options, [None] * len(images)
        detect = tf.function(self.detector.detect, autograph=False)
        bar, done = Bar("detector, test images", len(images), quiet), 0
        for rows, pixels, extents in inference_batches(images, options, min(options.batch_size, len(images))):
            parts = {name: values.numpy() for name, values in detect(pixels, extents).items()}
            for i, row in enumerate(rows):
                one = {name: values[i] for name, values in parts.items()}
                found[row] = as_detections(one, images[row].size, options)
            done += len(rows)
            bar(done)
        return found


def of_this_machine(batch_size):
    """The strategy of all GPUs where there are several and each gets as many images of a batch; else of one device."""
    count = len(tf.config.list_logical_devices("GPU"))
    several = count > 1 and batch_size % count == 0
    return get_strategy("mirrored") if several else tf.distribute.get_strategy()


def as_detections(one, size, options):
    """What ``Detector.detect`` gives of one image, in pixels of the image of ``size`` (H, W)."""
    count = int(one["count"])
    seen = scaled_size(size, options.test_shorter, options.test_longest)
    boxes = scaled(one["boxes"][:count], seen, size)
    masks = PackedMasks(paste(one["masks"][:count], boxes, size)) if "masks" in one else None
    return {"boxes": boxes, "scores": one["scores"][:count], "classes": one["classes"][:count], "masks": masks}
