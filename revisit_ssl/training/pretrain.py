"""pretrain(): recipe -> devices, data, network, training with exact restart -> backbone.keras."""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import keras
import tensorflow as tf

from revisit_ssl.backbones import expects, load_backbone
from revisit_ssl.data import EvalView, eval_batches, open_source
from revisit_ssl.distribute import agree, get_strategy, is_chief, use_xla
from revisit_ssl.errors import InputError, reason, require
from revisit_ssl.features.batchnorm import REESTIMATE_IMAGES, evaluation_images, reestimate_batch_norm
from revisit_ssl.features.representation import expects_of
from revisit_ssl.recipe import to_json
from revisit_ssl.runs.environment import check_environment, note_environment
from revisit_ssl.runs.files import discard, put_in_place, write_atomically
from revisit_ssl.runs.identity import recipe_id, trained_values
from revisit_ssl.runs.telling import Bar, tell
from revisit_ssl.training.build import (
    build_pretext,
    check_devices,
    check_model,
    compile_pretext,
    freeze,
    open_pretraining,
    plan_steps,
    restore,
    try_views,
)
from revisit_ssl.training.checkpoints import list_checkpoints, step_of
from revisit_ssl.training.history import SCORE
from revisit_ssl.training.images import check_images, note_images
from revisit_ssl.training.loop import Keeper, stop_signals, trace, train
from revisit_ssl.training.monitor import Monitor, parse_monitor
from revisit_ssl.training.progress import Log
from revisit_ssl.training.workdir import BACKBONE, RECIPE, as_held, check_workdir, reopen, writing

# Below this many steps the moving statistics still remember their start (0.99^1000 = 4e-5 of it would be left).
REESTIMATE_BELOW = 1000


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Where and how fast a run goes, and what it says meanwhile; nothing here changes what it computes.

    Attributes:
        strategy: name for ``get_strategy`` or a tf.distribute.Strategy.
        data_dir: where TFDS data sets lie.
        resume: go on from the newest checkpoint that can be read, or return at once what a finished run left; a run
            that was meant to be shorter becomes as long as the recipe says, where no schedule depends on it.
        xla: compile the step with XLA; None decides by the device.
        save_every: steps between checkpoints.
        monitor: "knn:N" to watch the features every N epochs; "knn_test:N": kNN accuracy on the test split instead.
        quiet: say nothing of what is going on.
        begins: called once all is checked that can be, before anything is written.
    """

    strategy: str | tf.distribute.Strategy = "auto"
    data_dir: str | None = None
    resume: bool = False
    xla: bool | None = None
    save_every: int = 200
    monitor: str | None = None
    quiet: bool = False
    begins: Callable[[], None] = lambda: None

    def __post_init__(self):
        require(self.save_every >= 1, f"save_every {self.save_every} must be at least 1 step")


def pretrain(recipe, workdir, **how):
    """Trains the recipe's pretext and returns its backbone.

    Args:
        recipe: Recipe.
        workdir: folder (or gs:// address) for recipe.json, images.json, environment.json, log.csv, tensorboard/,
            checkpoints/ and backbone.keras. One workdir holds one recipe, and one run at a time writes there; of
            several workers the first one, and all of them have to see it.
        **how: strategy, data_dir, resume, xla, save_every, monitor, quiet, begins: the fields of ``Execution``.

    Returns:
        Functional keras.Model with named endpoints (``Pretext.exported``), frozen (trainable=False), also saved as
        backbone.keras; ``expects`` says what images it takes, and ``represent`` makes that of photographs.

    Raises:
        InputError: see the message: another recipe in the workdir, other images, missing data, devices or checkpoints.
        TrainingDiverged: NaN or infinity.
        Interrupted: Ctrl-C or SIGTERM; the state is saved.
    """
    how = Execution(**how)
    workdir, data_dir, quiet = str(workdir), how.data_dir, how.quiet or not is_chief()
    watched = [parse_monitor(how.monitor)] if how.monitor is not None else []
    strategy = get_strategy(how.strategy) if isinstance(how.strategy, str) else how.strategy
    xla = use_xla(strategy, recipe.deterministic) if how.xla is None else how.xla
    with contextlib.ExitStack() as held:

        def begin():
            held.enter_context(writing(workdir))
            check_devices(recipe, strategy, xla)
            return opened(recipe, workdir, data_dir, how.resume)

        state, source, plan = agree(strategy, begin)
        if state == "trained":
            backbone = load_backbone(os.path.join(workdir, BACKBONE))
            how.begins()
            return freeze(backbone)
        tell(f"building {recipe.backbone}, width {recipe.width}, for {recipe.pretext}", quiet)
        with strategy.scope():
            model = build_pretext(recipe, source)
            if plan.total:
                compile_pretext(model, recipe, plan, xla)
        exported = model.exported

        def look_ahead():
            places = {"workdir": workdir, "data_dir": data_dir, "plan": plan}
            looks = [Monitor(exported, recipe, n, split=part, **places) for part, n in watched if plan.total]
            done, facts = checked(model, recipe, workdir, state, source, plan)
            return (*done, looks), facts

        tell(f"tracing the training step{', for XLA' if xla else ''}, which takes a while", quiet)
        start, window, looks = agree(strategy, look_ahead)
        how.begins()
        if is_chief():  # nothing is written before all that can be checked is checked
            say_what_runs(recipe, workdir, state, replicas=strategy.num_replicas_in_sync, resumed=start > 0)
            note_images(workdir, source)
        for look in looks:
            look.catch_up(start)
        if start < plan.total:
            told = {"write": is_chief(), "quiet": quiet, "rows": model.rows_per_image}
            log = Log(workdir, recipe, plan, start=start, window=window, **told)
            tell(f"training from step {start:,}", quiet)
            with stop_signals() as stop, log.kept():
                steps = {"start": start, "last": plan.total, "save_every": how.save_every}
                carried = {"log": log, "trained": trained_values(recipe)}
                keeper = Keeper(model, workdir, steps, **carried, write=is_chief(), stop=stop)
                callbacks = [*model.callbacks(source), log, *looks]
                train(model, recipe, source, plan, start, strategy, callbacks, keeper)
        return finish(model, exported, recipe, workdir, source, plan, data_dir, quiet)


def finish(model, exported, recipe, workdir, source, plan, data_dir, quiet):
    """The network as it is saved, after its statistics were taken anew and its pretext scored; writes both."""
    if 0 < plan.total < REESTIMATE_BELOW and recipe.norm != "none":
        count = min(REESTIMATE_IMAGES, source.num_examples)
        tell(f"BatchNorm statistics of the last weights, on {count:,} images", quiet)
        reestimate_batch_norm(exported, evaluation_images(recipe, source, REESTIMATE_IMAGES))
    score = pretext_score(model, recipe, data_dir, quiet=quiet) if plan.total else {}  # of the network as it is saved
    known = expects_of(recipe)
    if is_chief():
        if score:
            write_atomically(os.path.join(workdir, SCORE), json.dumps(score) + "\n")
        export_backbone(exported, os.path.join(workdir, BACKBONE), known)
    return expects.tell(freeze(exported), known)


def opened(recipe, workdir, data_dir, resume):
    """What a worker finds before anything is built, for ``agree``: ((state, Source, Plan), what all have to find).

    Source and Plan are None of a run that is trained.
    """
    state = check_workdir(recipe, workdir, resume=resume, grow=True)
    checkpoints = list_checkpoints(os.path.join(workdir, "checkpoints"))
    facts = {
        "the step of the newest checkpoint": step_of(checkpoints[-1]) if checkpoints else 0,
        "backbone.keras, which is there or not": int(state == "trained"),
        "the recipe": int(recipe_id(recipe), 16),
    }
    if state == "trained":
        return (state, None, None), facts
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    source = open_pretraining(recipe, data_dir)
    if resume:
        check_images(workdir, source)
    plan = plan_steps(recipe, source)
    return (state, source, plan), facts | {"the images": source.num_examples, "the steps": plan.total}


def checked(model, recipe, workdir, state, source, plan):
    """The checks that come before a step, for ``agree``: ((steps that are done, open window of the log), facts)."""
    replicas = model.distribute_strategy.num_replicas_in_sync
    check_model(model, recipe, plan, replicas)
    try_views(model, source)
    start, window = restore(model, workdir, recipe) if state != "new" and plan.total else (0, {})
    if start and is_chief():
        check_environment(workdir, replicas, recipe.deterministic)
    if start < plan.total:
        trace(model, recipe, source, start, model.distribute_strategy)
    return (start, window), {"the step to go on from": start}


def say_what_runs(recipe, workdir, state, *, replicas, resumed):
    """Writes recipe.json and environment.json."""
    recipe = as_held(recipe, workdir) if state != "new" else recipe
    recipe = reopen(recipe, workdir) if state == "shorter" else recipe
    write_atomically(os.path.join(workdir, RECIPE), to_json(recipe))
    note_environment(workdir, replicas, resumed=resumed)


def export_backbone(backbone, path, known=None):
    """Writes backbone.keras, all or nothing; ``known``: the backbones.Expects that it is to hold."""
    partial = path.removesuffix(".keras") + ".partial.keras"
    try:
        expects.save(backbone, partial, known)
        put_in_place(partial, path)
    except (OSError, tf.errors.OpError) as error:
        discard(partial)
        raise InputError(f"cannot write {path} ({reason(error)}); free some space, then --resume") from None


def pretext_score(model, recipe, data_dir, count=2048, batch_size=32, quiet=True):
    """{"val_loss", "val_accuracy", …, "val_images": how many} of the pretext on ``count`` validation images, all where
    there are fewer; {} where it cannot be measured.

    The view is the pretext's own (``score_view``), else the one of the probes.
    """
    if type(model).test_step is keras.Model.test_step:
        return {}
    try:
        source = open_source(recipe.dataset, "val", data_dir=data_dir, seed=recipe.seed)
    except InputError as error:
        print(f"no validation score of the pretext: {error}", file=sys.stderr)
        return {}
    view = model.score_view(EvalView.of(recipe))
    source, totals = source.sample(count, recipe.seed), {}
    batches = eval_batches(source, batch_size, view=view)
    # Traced once, for batches of any size: the last one may be smaller.
    step = tf.function(model.test_step, autograph=False, input_signature=[batches.element_spec])
    tell(f"the pretext's own score on {source.num_examples:,} validation images", quiet)
    bar, done = Bar("images", source.num_examples, quiet), 0
    for batch in batches:
        model.reset_metrics()
        for name, value in step(batch).items():  # the last batch may be smaller: each counts by its rows
            totals[name] = totals.get(name, 0.0) + float(value) * len(batch["image"]) / source.num_examples
        done += len(batch["image"])
        bar(done)
    return {f"val_{name}": round(value, 6) for name, value in totals.items()} | {"val_images": source.num_examples}
