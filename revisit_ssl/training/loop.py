"""The steps of a run: epochs and their parts, checkpoints, signals."""

import contextlib
import os
import signal
import sys

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.data import train_batches
from revisit_ssl.data.pipelines import untune_devices
from revisit_ssl.distribute import gather_workers, of_workers
from revisit_ssl.errors import Interrupted, TrainingDiverged
from revisit_ssl.features.batchnorm import average_statistics
from revisit_ssl.startup import handling
from revisit_ssl.training.checkpoints import list_checkpoints, save_checkpoint


def train(model, recipe, source, plan, start, strategy, callbacks, keeper=None):
    """Runs the steps start..total: the rest of a begun epoch, then the others in one call of fit.

    A pretext that draws its images is asked for them epoch by epoch, in a call of fit of its own: batches are prepared
    ahead, which must not reach into an epoch whose images are not known yet.

    Args:
        model: compiled Pretext, made inside of the strategy's scope; trained in place.
        recipe: Recipe: batch size and seed.
        source: data.Source.
        plan: Plan.
        start: steps that are done.
        strategy: tf.distribute.Strategy.
        callbacks: [keras.callbacks.Callback].
        keeper: Keeper; it comes after the callbacks. None: nothing is saved.
    """
    options = batch_options(model, recipe)
    callbacks = [*callbacks, *([keeper] if keeper else []), LastStep(plan.total - start)]
    for first, steps, epochs in segments(start, plan, model.draws_images):
        epoch = first // plan.per_epoch
        if model.draws_images:
            average_statistics(model)  # of the network that gives the features
            if model.begin_epoch(epoch, source, keeper and keeper.workdir) and keeper:
                keeper.save()
            options["order"] = model.epoch_order(epoch, plan.per_epoch * recipe.batch_size)
        batches = distributed_batches(source, strategy, first, options)
        length = {"initial_epoch": epoch, "epochs": epoch + epochs, "steps_per_epoch": steps}
        model.fit(batches, callbacks=callbacks, shuffle=False, verbose=0, **length)
    average_statistics(model)


def trace(model, recipe, source, start, strategy):
    """Traces the training step, so that whatever it refuses is refused before anything is written; ``train`` takes the
    trace over. Arguments as of ``train``; returns the traced function, None where steps run eagerly."""
    batches = distributed_batches(source, strategy, start, batch_options(model, recipe))
    model.make_train_function()
    if model.run_eagerly:
        return None
    # Only what the batches look like: an iterator would begin to read images.
    alone = isinstance(batches, tf.data.Dataset)
    looks = tf.data.IteratorSpec(batches.element_spec) if alone else iter(batches)
    return model.train_function.get_concrete_function(looks)


def batch_options(model, recipe):
    """What ``data.train_batches`` takes of a recipe and its pretext."""
    return {"batch_size": recipe.batch_size, "crops": model.crops, "seed": recipe.seed}


def segments(start, plan, alone=False):
    """[(first step, steps per epoch, epochs)]: calls of fit that cover start..total and respect epoch boundaries.

    The last epoch may be a part of one: ``LastStep`` ends it. (A call of its own would cost a start of its own.)
    ``alone``: every epoch in a call of its own.
    """
    parts = []
    while start < plan.total:
        begun = start % plan.per_epoch
        epochs = 1 if begun or alone else -(-(plan.total - start) // plan.per_epoch)
        parts.append((start, plan.per_epoch - begun, epochs))
        start += plan.per_epoch * epochs - begun
    return parts


def distributed_batches(source, strategy, first, options):
    """The batches from step ``first`` on, each replica getting its rows of every global batch."""
    n = strategy.num_replicas_in_sync
    if n == 1:
        return train_batches(source, start_step=first, **options)
    untune_devices()

    def for_worker(context):
        each = n // context.num_input_pipelines
        mine = range(context.input_pipeline_id * each, (context.input_pipeline_id + 1) * each)
        batches = train_batches(source, start_step=first, replicas=n, replica_ids=tuple(mine), **options)
        # Declared infinite: otherwise several workers expect a smaller last batch and lose the static shape.
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.experimental.INFINITE_CARDINALITY))

    return strategy.distribute_datasets_from_function(for_worker)


class LastStep(keras.callbacks.Callback):
    """Ends fit after ``left`` more steps, in the middle of an epoch too."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.model.stop_training = True


class Keeper(keras.callbacks.Callback):
    """Saves every ``save_every`` steps, at the end and when ``stop`` holds a signal; ends a run that diverged.

    Args:
        model: compiled Pretext.
        workdir: of the run.
        steps: {"start", "last", "save_every"}.
        log: progress.Log, which counts a step before this callback does; written down before each checkpoint.
        trained: ``runs.identity.trained_values`` of the recipe, which a checkpoint carries.
        write: whether this process writes files.
        stop: list of signals, see ``stop_signals``.
    """

    def __init__(self, model, workdir, steps, *, log, trained, write, stop):
        super().__init__()
        self.pretext = model
        self.workdir = workdir
        self.folder = os.path.join(workdir, "checkpoints")
        self.step = steps["start"]
        self.last = steps["last"]
        self.save_every = steps["save_every"]
        self.log = log
        self.trained = trained
        self.write = write
        self.stop = stop
        # Reading the loss waits for the device: free on a CPU, a stall of the pipeline on an accelerator.
        self.check_every = 1 if {d.device_type for d in tf.config.list_logical_devices()} == {"CPU"} else 50

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        stop = self.asked_to_stop()
        save = self.step % self.save_every == 0 or self.step == self.last or stop
        if (save or self.step % self.check_every == 0) and not np.isfinite(float(logs["loss"])):
            self.diverged(f"loss is {float(logs['loss'])}")
        if save:
            self.save(stop)

    def save(self, stop=0):
        """A checkpoint of the state after ``step``; ``stop``: the number of the signal that is obeyed then."""
        average_statistics(self.pretext)
        self.log.flush()
        about = {"recipe": self.trained, "log": self.log.open_window()}
        path = save_checkpoint(self.folder, self.pretext, self.step, about=about, write=self.write)
        if path is None:
            self.diverged("a weight is not finite")
        if stop:
            raise Interrupted(stop, path)

    def asked_to_stop(self):
        """The number of the signal, or 0. Several workers stop after the same step, whichever of them was asked."""
        number = self.stop[0] if self.stop else 0
        if not of_workers(self.pretext.distribute_strategy):
            return number
        return int(gather_workers(self.pretext.distribute_strategy, [number])[:, 0].max()) if self.looks() else 0

    def looks(self):
        """Whether this is a step at which the host waits for the device."""
        return self.step % self.check_every == 0 or self.step == self.last

    def diverged(self, what):
        self.log.flush()
        rate = float(np.asarray(self.pretext.optimizer.learning_rate))
        good = (list_checkpoints(self.folder) or ["none yet"])[-1]
        raise TrainingDiverged(
            f"{what} at step {self.step} (learning rate {rate:.3g}); last good checkpoint: {good}; "
            "lower --optimizer.lr or lengthen --optimizer.warmup-epochs, in a new --workdir"
        )


@contextlib.contextmanager
def stop_signals():
    """A list that Ctrl-C or SIGTERM puts its number into; a second Ctrl-C interrupts at once."""
    stop = []

    def note(number, frame):
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.append(number)
        print("\nstopping after this step and saving …", file=sys.stderr, flush=True)

    with handling(note, signal.SIGINT, signal.SIGTERM):
        yield stop
