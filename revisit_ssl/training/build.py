"""From a recipe to what is trained: data, plan, network, pretext, optimiser, and all checks that come before a step."""

import math
import os
from dataclasses import dataclass

import keras
import tensorflow as tf

from revisit_ssl.backbones import find_backbone, load_backbone
from revisit_ssl.data import EvalView, open_source, steps_per_epoch
from revisit_ssl.errors import InputError, require
from revisit_ssl.features.checks import check_endpoints
from revisit_ssl.features.representation import NetworkInput, check_input
from revisit_ssl.pretext import find_pretext
from revisit_ssl.runs.identity import trained_values
from revisit_ssl.training.checkpoints import load_newest
from revisit_ssl.training.optimizers import build_optimizer
from revisit_ssl.training.workdir import LENGTH, can_grow, read_recipe


@dataclass(frozen=True)
class Plan:
    """Steps of a run: per epoch and in total."""

    per_epoch: int
    total: int


def open_pretraining(recipe, data_dir=None, opened=open_source):
    """The Source that the recipe pretrains on: its split, or the share of it that it names.

    ``opened``: ``data.open_source``, or for a plan ``data.known_source``.
    """
    options = {"data_dir": data_dir, "fraction": recipe.fraction, "seed": recipe.seed}
    return opened(recipe.dataset, recipe.split, **options)


def plan_steps(recipe, source):
    """Plan for the recipe on this source; InputError where a batch is larger than the set, a warm-up than the run."""
    per_epoch = steps_per_epoch(source, recipe.batch_size)
    total = math.ceil(recipe.epochs * per_epoch)
    total = total if recipe.max_steps is None else min(total, recipe.max_steps)
    epochs = recipe.optimizer.warmup_epochs
    short = f"--optimizer.warmup-epochs {epochs:g} is {epochs * per_epoch:g} steps, longer than the run of {total}"
    require(not total or epochs * per_epoch <= total, f"{short}; lower it, or raise --max-steps or --epochs")
    return Plan(per_epoch, total)


def build_backbone(recipe):
    """The recipe's network with initial weights that depend on its seed alone."""
    network = find_backbone(recipe.backbone)
    side = recipe.views.input_size if network.fixed_sides else None
    keras.utils.set_random_seed(recipe.seed)
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        return network(recipe.width, recipe.backbone_options, input_shape=(side, side, 3))
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


def compile_pretext(model, recipe, plan, xla=False):
    """Gives the pretext the recipe's optimiser, with its variables made, so that a checkpoint can be loaded."""
    optimizer = build_optimizer(
        recipe.optimizer, batch_size=recipe.batch_size, steps_per_epoch=plan.per_epoch, total_steps=plan.total,
        without_momentum=model.without_momentum,
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
    nothing = "trains nothing; raise --epochs or --max-steps, or take the pretext random, whose network is untrained"
    require(plan.total or not model.trains, f"{recipe.pretext} for 0 steps {nothing}")
    size = EvalView.of(recipe).size
    check_input(exported, NetworkInput.of(recipe), size)
    NetworkInput.of_training(recipe).side(size)  # of images for BatchNorm, also where probes see them undivided
    if plan.total:
        model.check_batch(recipe.batch_size // replicas, recipe.bn_group)
    return exported


def try_views(model, source):
    """Cuts two images of a set in memory, so that a crop that cannot be cut is refused before anything is written.

    Of other sets, whose images differ in size, only the numbers of the crops are checked, as they are made.
    """
    crops = model.crops
    if crops and source.images is not None:
        model.cut({"image": tf.constant(source.images[:2])}, (0, 0))


def load_pretext(workdir, *, data_dir=None):
    """The whole pretext of a run, heads included, as its newest good checkpoint has it: to look at what it learned.

    Args:
        workdir: of a run that has trained.
        data_dir: where TFDS data sets lie.

    Returns:
        Pretext; what it exports has the BatchNorm statistics of backbone.keras where the run has finished.

    Raises:
        InputError: no run there, no checkpoint, or none that can be read.
    """
    recipe = read_recipe(workdir)
    source = open_pretraining(recipe, data_dir)
    model = build_pretext(recipe, source)
    compile_pretext(model, recipe, plan_steps(recipe, source))
    if not restore(model, str(workdir), recipe)[0]:
        raise InputError(f"{workdir} holds no checkpoint; train first")
    path = os.path.join(str(workdir), "backbone.keras")
    if tf.io.gfile.exists(path):
        for mine, its in zip(model.exported.weights, load_backbone(path).weights, strict=True):
            mine.assign(its)
    return model


def restore(model, workdir, recipe):
    """Loads the newest checkpoint that can be read.

    Returns:
        (its step, the open window of its log); (0, {}) where there is none yet.
    """
    but = LENGTH if can_grow(recipe) else ()
    step, about = load_newest(os.path.join(workdir, "checkpoints"), model, trained_values(recipe), but=but)
    return step, about.get("log", {})


def freeze(backbone):
    """The backbone with trainable=False, as every probe demands."""
    backbone.trainable = False
    return backbone
