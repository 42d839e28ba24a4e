"""pretrain(): recipe -> devices, data, network, training with exact restart -> backbone.keras."""

import contextlib
import json
import math
import os
import signal
import sys
import threading
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.backbones import get_backbone, load_backbone
from revisit_ssl.data import EvalView, eval_batches, open_source, steps_per_epoch, train_batches
from revisit_ssl.distribute import get_strategy, is_chief, use_xla
from revisit_ssl.errors import InputError
from revisit_ssl.features.batchnorm import reestimate_batch_norm
from revisit_ssl.features.checks import check_endpoints
from revisit_ssl.features.representation import NetworkInput, check_input
from revisit_ssl.pretext import find_pretext
from revisit_ssl.recipe import from_json, to_json
from revisit_ssl.runs import results
from revisit_ssl.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from revisit_ssl.training.monitor import Monitor
from revisit_ssl.training.optimizers import build_optimizer
from revisit_ssl.training.progress import Log

# Below this many steps the moving statistics still remember their start (0.99^1000 = 4e-5 of it would be left).
REESTIMATE_BELOW = 1000
REESTIMATE_IMAGES = 2048


class TrainingDiverged(InputError):
    """The loss or a weight is not finite."""


class Interrupted(Exception):
    """Training stopped on a signal after saving; ``signal`` is its number, ``checkpoint`` the file to resume from."""

    def __init__(self, number, checkpoint):
        super().__init__(f"stopped by signal {number}; saved {checkpoint}")
        self.signal = number
        self.checkpoint = checkpoint


def pretrain(
    recipe,
    workdir,
    *,
    strategy="auto",
    data_dir=None,
    resume=False,
    xla=None,
    save_every=200,
    monitor=None,
    quiet=False,
):
    """Trains the recipe's pretext and returns its backbone.

    Args:
        recipe: Recipe.
        workdir: folder (or gs:// address) for recipe.json, environment.json, log.csv, tensorboard/, checkpoints/ and
            backbone.keras. One workdir holds one recipe.
        strategy: name for ``get_strategy`` or a tf.distribute.Strategy.
        data_dir: where TFDS data sets lie.
        resume: go on from the newest checkpoint, or return at once what a finished run left.
        xla: compile the step with XLA; None decides by the device.
        save_every: steps between checkpoints.
        monitor: "knn:N" to watch the features every N epochs; "knn_test:N": kNN accuracy on the test split instead.
        quiet: no progress bar.

    Returns:
        Functional keras.Model with named endpoints (``Pretext.exported``), frozen (trainable=False), also saved as
        backbone.keras.

    Raises:
        InputError: see the message: another recipe in the workdir, missing data, devices or checkpoints.
        TrainingDiverged: NaN or infinity.
        Interrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    workdir = str(workdir)
    watched = parse_monitor(monitor)
    if save_every < 1:
        raise InputError(f"save_every {save_every} must be at least 1 step")
    path = os.path.join(workdir, "backbone.keras")
    if check_workdir(recipe, workdir, resume=resume) == "finished":
        return freeze(load_backbone(path))
    strategy = get_strategy(strategy) if isinstance(strategy, str) else strategy
    xla = use_xla(strategy, recipe.deterministic) if xla is None else xla
    check_devices(recipe, strategy, xla)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    source = open_pretraining(recipe, data_dir)
    plan = plan_steps(recipe, source)
    with strategy.scope():
        model = build_pretext(recipe, source)
        if plan.total:
            compile_pretext(model, recipe, plan, xla)
    exported = check_model(model, recipe, plan, strategy.num_replicas_in_sync)
    try_views(model, source)
    start = restore(model, workdir) if resume and plan.total else 0
    if is_chief():  # nothing is written before all that can be checked is checked
        results.write_atomically(os.path.join(workdir, "recipe.json"), to_json(recipe))
        environment = json.dumps(results.environment(), indent=2) + "\n"
        results.write_atomically(os.path.join(workdir, "environment.json"), environment)
    if start < plan.total:
        callbacks = [*model.callbacks(source), Log(workdir, recipe, plan, start=start, write=is_chief(), quiet=quiet)]
        if watched:
            split, every = watched
            callbacks.append(Monitor(exported, recipe, every, workdir, data_dir, split=split, last=plan.total))
        with stop_signals() as stop:
            steps = {"start": start, "last": plan.total, "save_every": save_every}
            keeper = Keeper(model, workdir, steps, write=is_chief(), stop=stop)
            train(model, recipe, source, plan, start, strategy, [*callbacks, keeper])
    score = pretext_score(model, recipe, data_dir) if plan.total else {}
    if 0 < plan.total < REESTIMATE_BELOW and recipe.norm != "none":
        reestimate_batch_norm(exported, evaluation_images(recipe, source, REESTIMATE_IMAGES))
    if is_chief():
        if score:
            results.write_atomically(os.path.join(workdir, "pretext.json"), json.dumps(score) + "\n")
        export_backbone(exported, path)
    return freeze(exported)


@dataclass(frozen=True)
class Plan:
    """Steps of a run: per epoch and in total."""

    per_epoch: int
    total: int


def open_pretraining(recipe, data_dir=None):
    """The Source that the recipe pretrains on: its split, or the share of it that it names."""
    options = {"data_dir": data_dir, "fraction": recipe.fraction, "seed": recipe.seed}
    return open_source(recipe.dataset, recipe.split, **options)


def plan_steps(recipe, source):
    """Plan for the recipe on this source; InputError where a batch is larger than the set."""
    per_epoch = steps_per_epoch(source, recipe.batch_size)
    total = math.ceil(recipe.epochs * per_epoch)
    return Plan(per_epoch, total if recipe.max_steps is None else min(total, recipe.max_steps))


def build_backbone(recipe, input_shape=(None, None, 3)):
    """The recipe's network with initial weights that depend on its seed alone."""
    keras.utils.set_random_seed(recipe.seed)
    names = (
        "stem", "bn_momentum", "bn_epsilon", "bn_group", "root_stride", "strides", "representation_size",
        "stride_on_second", "zero_init_residual", "endpoints_after_pool", "recompute",
    )  # fmt: skip
    options = {name: getattr(recipe, name) for name in names if getattr(recipe, name) not in (None, False)}
    for name in ("recompute", "representation_size", "endpoints_after_pool"):
        if name in options and "revnet" not in recipe.backbone:
            raise InputError(f"{name} needs a RevNet, not {recipe.backbone}; one of revnet50, revnet50_minus")
    if recipe.backbone.startswith("vgg"):
        # The first fully connected kernel is as large as the last map: the input size is part of the network.
        input_shape = (recipe.views.input_size, recipe.views.input_size, 3)
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        return get_backbone(recipe.backbone, recipe.width, input_shape=input_shape, norm=recipe.norm, **options)
    finally:
        keras.config.set_dtype_policy(previous)


def build_pretext(recipe, source):
    """The recipe's pretext on a fresh network; call it inside ``strategy.scope()``."""
    return find_pretext(recipe.pretext).from_recipe(recipe, build_backbone(recipe), source)


def build_untrained(recipe, data_dir=None):
    """What the recipe's run would export before its first step; heads only where the recipe probes one."""
    backbone = build_backbone(recipe)
    if all(name in backbone.output for name in recipe.bench.endpoints):
        return backbone
    return build_pretext(recipe, open_pretraining(recipe, data_dir)).exported


def read_recipe(workdir, kinds=None):
    """The Recipe of the run in ``workdir``; ``kinds``: of its probes, as for ``from_json``.

    Raises:
        InputError: no run there, or a damaged recipe.json.
    """
    path = os.path.join(str(workdir), "recipe.json")
    if not tf.io.gfile.exists(path):
        raise InputError(f"no run at {workdir}: it has no recipe.json; give the workdir of a finished run")
    with tf.io.gfile.GFile(path, "rb") as file:
        return from_json(file.read().decode(errors="replace"), path, kinds)


def load_pretext(workdir, *, data_dir=None):
    """The whole pretext of a run, heads included, as its newest checkpoint has it: to look at what it learned.

    Args:
        workdir: of a run that has trained.
        data_dir: where TFDS data sets lie.

    Returns:
        Pretext; what it exports has the BatchNorm statistics of backbone.keras where the run has finished.

    Raises:
        InputError: no run there, no checkpoint, or a damaged one.
    """
    recipe = read_recipe(workdir)
    source = open_pretraining(recipe, data_dir)
    model = build_pretext(recipe, source)
    compile_pretext(model, recipe, plan_steps(recipe, source))
    if not restore(model, str(workdir)):
        raise InputError(f"{workdir} holds no checkpoint; train first")
    path = os.path.join(str(workdir), "backbone.keras")
    if tf.io.gfile.exists(path):
        for mine, its in zip(model.exported.weights, load_backbone(path).weights, strict=True):
            mine.assign(its)
    return model


def compile_pretext(model, recipe, plan, xla=False):
    """Gives the pretext the recipe's optimiser, with its variables made, so that a checkpoint can be loaded."""
    optimizer = build_optimizer(
        recipe.optimizer, batch_size=recipe.batch_size, steps_per_epoch=plan.per_epoch, total_steps=plan.total
    )
    model.compile(optimizer=optimizer, jit_compile=xla)
    model.total_steps = plan.total
    optimizer.build(model.trainable_variables)


def check_devices(recipe, strategy, xla):
    """InputError for combinations that would fail, or silently compute something else."""
    n = strategy.num_replicas_in_sync
    if recipe.batch_size % n:
        raise InputError(f"batch size {recipe.batch_size} does not divide over {n} replicas; use a multiple of {n}")
    if xla and n > 1:
        raise InputError(f"XLA cannot compile the whole step on {n} replicas; use --xla auto, or --strategy none")
    if xla and recipe.deterministic:
        raise InputError("--deterministic turns XLA off; choose one of --xla on and --deterministic")


def check_model(model, recipe, plan, replicas=1):
    """What the pretext exports; InputError for what it, its network and the probes cannot do together.

    Looks at no value of a weight.
    """
    exported = model.exported
    if recipe.probes:
        check_endpoints(exported, recipe.bench.endpoints)
    if plan.total and not model.trains:
        raise InputError(f"{recipe.pretext} is a baseline and is not trained; leave epochs at 0")
    size = evaluation_view(recipe).size
    check_input(exported, NetworkInput.of(recipe), size)
    NetworkInput.of_training(recipe).side(size)  # of images for BatchNorm, also where probes see them undivided
    if plan.total:
        model.check_batch(recipe.batch_size // replicas, recipe.bn_group)
    return exported


def train(model, recipe, source, plan, start, strategy, callbacks):
    """Runs the steps start..total: the rest of a begun epoch, the whole epochs, the part of the last one."""
    options = {"batch_size": recipe.batch_size, "crops": model.crops, "seed": recipe.seed}
    for first, steps, epochs in segments(start, plan):
        batches = distributed_batches(source, strategy, first, options)
        epoch = first // plan.per_epoch
        length = {"initial_epoch": epoch, "epochs": epoch + epochs, "steps_per_epoch": steps}
        model.fit(batches, callbacks=callbacks, shuffle=False, verbose=0, **length)


def segments(start, plan):
    """[(first step, steps per epoch, epochs)]: calls of fit that cover start..total and respect epoch boundaries."""
    parts = []
    while start < plan.total:
        boundary = (start // plan.per_epoch + 1) * plan.per_epoch
        if start % plan.per_epoch or boundary > plan.total:
            parts.append((start, min(boundary, plan.total) - start, 1))
            start = min(boundary, plan.total)
        else:
            epochs = (plan.total - start) // plan.per_epoch
            parts.append((start, plan.per_epoch, epochs))
            start += epochs * plan.per_epoch
    return parts


def distributed_batches(source, strategy, first, options):
    """The batches from step ``first`` on, each replica getting its rows of every global batch."""
    n = strategy.num_replicas_in_sync
    if n == 1:
        return train_batches(source, start_step=first, **options)

    def for_worker(context):
        each = n // context.num_input_pipelines
        mine = range(context.input_pipeline_id * each, (context.input_pipeline_id + 1) * each)
        batches = train_batches(source, start_step=first, replicas=n, replica_ids=tuple(mine), **options)
        # Said to be endless, or several workers would expect a last, smaller batch and forget its static shape.
        return batches.apply(tf.data.experimental.assert_cardinality(tf.data.experimental.INFINITE_CARDINALITY))

    return strategy.distribute_datasets_from_function(for_worker)


def evaluation_view(recipe):
    """EvalView of the recipe: how probes and monitors crop an image."""
    return EvalView.of(recipe)


def evaluation_images(recipe, source, count):
    """Batches of ``count`` images drawn by the seed as the network knows them: float32 [n, h, w, 3], normalised.

    Drawn, because the first images of a folder are all of one class. A network of patches sees patches.
    """
    known = NetworkInput.of_training(recipe)
    batch_size = 64 if known.rows == 1 else 32  # nine patches each: the 288 rows that a core of the paper normalised
    for batch in eval_batches(source.sample(count, recipe.seed), batch_size, view=evaluation_view(recipe)):
        yield known.prepare(batch["image"])


def try_views(model, source):
    """Cuts two images of a set in memory, so that a crop that cannot be cut is refused before anything is written.

    Of other sets, whose images differ in size, only the numbers of the crops are checked, as they are made.
    """
    crops = model.crops
    if crops and source.images is not None:
        model.cut({"image": tf.constant(source.images[:2])}, (0, 0))


def export_backbone(backbone, path):
    """Writes backbone.keras, all or nothing."""
    partial = path.removesuffix(".keras") + ".partial.keras"
    try:
        backbone.save(partial)
        tf.io.gfile.rename(partial, path, overwrite=True)
    except (OSError, tf.errors.OpError) as error:
        results.discard(partial)
        raise InputError(f"cannot write {path} ({results.reason(error)}); free some space, then --resume") from None


def freeze(backbone):
    """The backbone with trainable=False, as every probe demands."""
    backbone.trainable = False
    return backbone


def pretext_score(model, recipe, data_dir, count=2048, batch_size=32):
    """{"val_loss", "val_accuracy", ...} of the pretext on ``count`` validation images; {} where it cannot be measured.

    The view is the pretext's own (``score_view``), else the one of the probes.
    """
    if type(model).test_step is keras.Model.test_step:
        return {}
    try:
        source = open_source(recipe.dataset, "val", data_dir=data_dir, seed=recipe.seed)
    except InputError as error:
        print(f"no validation score of the pretext: {error}", file=sys.stderr)
        return {}
    view = model.score_view(evaluation_view(recipe))
    step = tf.function(model.test_step, reduce_retracing=True)
    source, totals = source.sample(count, recipe.seed), {}
    for batch in eval_batches(source, batch_size, view=view):
        model.reset_metrics()
        for name, value in step(batch).items():  # the last batch may be smaller: each counts by its rows
            totals[name] = totals.get(name, 0.0) + float(value) * len(batch["image"]) / source.num_examples
    return {f"val_{name}": round(value, 6) for name, value in totals.items()}


def parse_monitor(text):
    """("val" of "knn:N" or "test" of "knn_test:N", N), or None."""
    if text is None:
        return None
    kind, _, every = str(text).partition(":")
    split = {"knn": "val", "knn_test": "test"}.get(kind)
    if split is None or not every.isdigit() or int(every) < 1:
        raise InputError(
            f"monitor {text!r} is not known; expected knn:N or knn_test:N, N epochs between two looks, such as knn:1"
        )
    return split, int(every)


def check_workdir(recipe, workdir, *, resume):
    """State of this recipe's run in the workdir: "new", "begun" or "finished".

    Raises:
        InputError: the workdir holds a run of another recipe, or of this one and ``resume`` is off.
    """
    if tf.io.gfile.exists(workdir) and not tf.io.gfile.isdir(workdir):
        raise InputError(f"workdir {workdir} is a file; choose a folder with --workdir")
    path = os.path.join(workdir, "recipe.json")
    done = tf.io.gfile.exists(os.path.join(workdir, "backbone.keras"))
    begun = done or bool(list_checkpoints(os.path.join(workdir, "checkpoints")))
    if not begun and not tf.io.gfile.exists(path):
        return "new"
    if not tf.io.gfile.exists(path):
        raise InputError(f"workdir {workdir} holds a run without recipe.json; choose another --workdir")
    held = read_recipe(workdir, {name: type(options) for name, options in recipe.probes.items()})
    if held != recipe:
        changed = difference(held, recipe)
        raise InputError(f"workdir {workdir} holds another recipe ({changed}); choose another --workdir")
    if begun and not resume:
        state = "a finished" if done else "an unfinished"
        raise InputError(f"workdir {workdir} holds {state} run of this recipe; add --resume or change --workdir")
    return "finished" if done else "begun" if begun else "new"


def difference(held, wanted):
    """The fields in which two recipes differ, for an error line."""
    a, b = flatten(held), flatten(wanted)
    changed = [f"{name}: {a.get(name)} there, {b.get(name)} here" for name in {**a, **b} if a.get(name) != b.get(name)]
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return "; ".join(changed[:3]) + more


def flatten(value, prefix=""):
    """{"optimizer.lr": 0.1, …} of nested dataclasses."""
    flat = {}
    for name, field in vars(value).items():
        nested = hasattr(field, "__dataclass_fields__")
        flat.update(flatten(field, f"{prefix}{name}.") if nested else {prefix + name: field})
    return flat


def restore(model, workdir):
    """Loads the newest checkpoint and returns its step, 0 where there is none yet."""
    paths = list_checkpoints(os.path.join(workdir, "checkpoints"))
    return load_checkpoint(paths[-1], model) if paths else 0


class Keeper(keras.callbacks.Callback):
    """Saves every ``save_every`` steps, at the end and when ``stop`` holds a signal; ends a run that diverged."""

    def __init__(self, model, workdir, steps, *, write, stop):
        super().__init__()
        self.pretext = model
        self.folder = os.path.join(workdir, "checkpoints")
        self.step = steps["start"]
        self.last = steps["last"]
        self.save_every = steps["save_every"]
        self.write = write
        self.stop = stop
        # Reading the loss waits for the device: free on a CPU, a stall of the pipeline on an accelerator.
        self.check_every = 1 if {d.device_type for d in tf.config.list_logical_devices()} == {"CPU"} else 50

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        save = self.step % self.save_every == 0 or self.step == self.last or self.stop
        if (save or self.step % self.check_every == 0) and not np.isfinite(float(logs["loss"])):
            self.diverged(f"loss is {float(logs['loss'])}")
        if not save:
            return
        path = save_checkpoint(self.folder, self.pretext, self.step, write=self.write)
        if path is None:
            self.diverged("a weight is not finite")
        if self.stop:
            raise Interrupted(self.stop[0], path)

    def diverged(self, what):
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
    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread may set handlers, and only there do signals arrive
        return

    def note(number, frame):
        if stop and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.append(number)
        print("\nstopping after this step and saving …", file=sys.stderr, flush=True)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
