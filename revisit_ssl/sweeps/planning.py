"""The plan of a sweep: how many steps, hours and bytes are left of each run, known before the first one begins."""

import dataclasses
import math
import os
import shutil
from dataclasses import dataclass

from revisit_ssl.backbones import without_values
from revisit_ssl.data import EvalView, open_source
from revisit_ssl.evaluation.sets import check_probes
from revisit_ssl.features.representation import NetworkInput, feature_widths
from revisit_ssl.pretext import PRETEXTS
from revisit_ssl.training.build import build_pretext, check_model, open_pretraining, plan_steps, try_views
from revisit_ssl.training.checkpoints import list_checkpoints, step_of
from revisit_ssl.training.workdir import RECIPE, run_name

# Seconds per labelled image, feature and probe: the mean of linear, lbfgs, mlp and knn over the results of CIFAR-10
# (experiments/results/revisiting.jsonl, two cores). An allowance: with more classes or penalties it is too little.
PROBE_SECONDS = 3.3e-7
PROCESS_SECONDS = 20  # imports, the report and its pictures


@dataclass(frozen=True, kw_only=True)
class GridRun:
    """One run of the grid.

    Attributes:
        options: commands.run.Run, where and how it goes.
        workdir: the run's folder.
        variant: what its name starts with where that is not the pretext: npid_cld-kmeans_k10.
    """

    options: object
    workdir: str
    variant: str = ""

    @property
    def recipe(self):
        """Of its options."""
        return self.options.recipe

    @property
    def arguments(self):
        """[str]: the run's flags. Its recipe is a file, which the sweep writes: nothing is made of flags twice."""
        flags = ["--recipe", os.path.join(self.workdir, RECIPE)]
        for f in dataclasses.fields(self.options):
            value = getattr(self.options, f.name)
            if f.name not in ("recipe", "name", "preset") and value != f.default:
                flag = f"--{f.name.replace('_', '-')}"
                flags += [flag] if value is True else [flag, str(value)]
        return flags

    @property
    def name(self):
        """Of its folder, with the seed."""
        return run_name(self.recipe, self.variant)

    @property
    def setting(self):
        """Its name without the seed: what needs to be built and timed once."""
        return self.name.rpartition("-s")[0]

    @property
    def untrained(self):
        """Whether the untrained network is probed too."""
        return not (self.options.skip_random and PRETEXTS[self.recipe.pretext].trains)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a setting without running it.

    Attributes:
        steps: of a whole run.
        state_bytes: of a checkpoint.
        weight_bytes: of backbone.keras.
        widths: {endpoint: values of its features}.
        images: labelled images that are put through the network, of all splits.
        train_images: labelled images of the training split.
        not_here: names of the data sets whose images are not here, so that their sizes are the published ones.
    """

    steps: int
    state_bytes: int
    weight_bytes: int
    widths: dict
    images: int
    train_images: int
    not_here: tuple = ()


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run with what is left of it: steps; seconds, None where it could not be timed; bytes of its own."""

    run: GridRun
    state: str
    steps: int = 0
    step_seconds: float | None = None
    seconds: float | None = 0.0
    bytes: int = 0


def facts_of(run, opened=open_source):
    """Facts of a run's setting, with all checks that need no values of the network.

    Args:
        run: GridRun.
        opened: ``data.open_source``; ``data.known_source`` where a set that is not here will do.

    Raises:
        InputError: options that the network, the pretext or the probes refuse; data that are not there.
    """
    recipe, data_dir = run.recipe, run.options.data_dir
    probed = check_probes(recipe, data_dir, opened)
    source = open_pretraining(recipe, data_dir, opened)
    plan = plan_steps(recipe, source)

    def build():
        model = build_pretext(recipe, source)
        return model, check_model(model, recipe, plan)

    model, exported = without_values(build)
    try_views(model, source)
    weights, trained = (
        4 * sum(math.prod(v.shape) for v in group) for group in (model.weights, model.trainable_variables)
    )
    widths = {}
    if recipe.probes:
        size, known = EvalView.of(recipe).size, NetworkInput.of(recipe)
        widths = feature_widths(exported, size, known, recipe.bench.values, recipe.bench.pooling)
    return Facts(
        steps=plan.total,
        state_bytes=weights + trained if plan.total else 0,  # the optimiser keeps one velocity for each
        weight_bytes=4 * sum(math.prod(v.shape) for v in exported.weights),
        widths={name: widths[name] for name in recipe.bench.endpoints if name in widths},
        images=sum(s.num_examples for s in probed.values()),
        train_images=probed["train"].num_examples if probed else 0,
        not_here=tuple(dict.fromkeys(s.name for s in (source, *probed.values()) if s.kind == "known")),
    )


def planned(run, state, facts, timing):
    """What is left of a run, as Planned; ``timing`` is the StepTime of its setting, or None."""
    if state == "finished":
        return Planned(run=run, state=state)
    recipe, steps = run.recipe, facts.steps
    if state == "trained":
        steps = 0
    elif checkpoints := list_checkpoints(os.path.join(run.workdir, "checkpoints")):
        steps -= step_of(checkpoints[-1])
    # Two checkpoints are kept while a third is written.
    needed = 3 * facts.state_bytes + facts.weight_bytes
    if PRETEXTS[recipe.pretext].trains:
        needed += feature_bytes(run, facts)
    if timing is None:
        return Planned(run=run, state=state, steps=steps, seconds=None, bytes=needed)
    after = seconds_after(run, facts, timing.start, timing.image)
    seconds = PROCESS_SECONDS + timing.start + steps * timing.step + after
    return Planned(run=run, state=state, steps=steps, step_seconds=timing.step, seconds=seconds, bytes=needed)


def seconds_after(run, facts, start, image):
    """What a run's probes take once it is trained: ``start`` seconds to build and trace, ``image`` for one forward pass
    of an image."""
    probes = run.recipe.probes.values()
    on_images = [p for p in probes if not p.reads_features]
    on_features = len(probes) - len(on_images)
    values = facts.images * sum(facts.widths.values())
    probing = on_features * values * PROBE_SECONDS + (facts.images * image if on_features else 0)
    probing += sum((p.passes * facts.train_images + facts.images) * image for p in on_images)
    networks = PRETEXTS[run.recipe.pretext].trains + run.untrained * untrained_networks(run.recipe)
    # Each network is traced anew for its features, about as long as building and tracing the training step takes.
    return networks * (start + probing)


def untrained_networks(recipe):
    """How many there are to probe: as initialised, and with BatchNorm statistics re-estimated."""
    return 1 if recipe.norm == "none" or recipe.bench.untrained == "initial" else 2


def feature_bytes(run, facts):
    """Size of the features of one network, at every endpoint; 0 where all probes see images."""
    needed = any(p.reads_features for p in run.recipe.probes.values())
    return 4 * facts.images * sum(facts.widths.values()) if needed else 0


def untrained_bytes(plan, facts):
    """Size of the features of the untrained networks, which the pretexts share where network and view are the same."""
    sizes = {}
    for run in (p.run for p in plan if p.state != "finished" and p.run.untrained):
        recipe = run.recipe
        same = (
            recipe.backbone, recipe.width, recipe.seed, recipe.backbone_options, EvalView.of(recipe),
            NetworkInput.of(recipe),
        )
        sizes[same] = untrained_networks(recipe) * feature_bytes(run, facts[run.setting])
    return sum(sizes.values())


def describe(plan, facts, workdir, devices):
    """The plan as text: a table of the runs, then hours and disk."""
    head = ["run", "state", "steps left", "s/step", "hours", "GB"]
    rows = [head]
    for p in plan:
        done = p.state == "finished"
        step = "?" if p.step_seconds is None else f"{p.step_seconds:.3f}"
        hours = "?" if p.seconds is None else f"{p.seconds / 3600:.2f}"
        rows.append(
            [p.run.name, p.state, *(["-"] * 4 if done else [str(p.steps), step, hours, f"{p.bytes / 1e9:.2f}"])]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = []
    for row in rows:
        cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells))
    if not_here := sorted({name for fact in facts.values() for name in fact.not_here}):
        lines.append(f"data set not here, sizes as published: {', '.join(not_here)}")
    left = [p for p in plan if p.state != "finished"]
    states = [p.state for p in plan]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("finished", "trained", "begun", "new") if s in states)
    lines.append(f"{counts}; {len(left)} left to run{f': {hours_of(left, devices)}' if left else ''}")
    if left:
        needed, free = sum(p.bytes for p in left) + untrained_bytes(plan, facts), free_bytes(workdir)
        lines.append(f"disk: {needed / 1e9:.1f} GB at most, {free / 1e9:.1f} GB free")
        if needed > free:
            lines.append("warning: that may not be enough; a run that finds the disk full fails and can be resumed")
    return "\n".join(lines)


def hours_of(left, devices):
    """about 1.6 hours; "at least" where something was not timed."""
    seconds = [p.seconds for p in left if p.seconds is not None]
    if not seconds:
        return "hours unknown"
    about = "about" if len(seconds) == len(left) else "at least"
    # One run is never divided over the devices.
    seconds = max(sum(seconds) / devices, *seconds)
    length = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{math.ceil(seconds / 60)} min"
    return f"{about} {length}" + (f" on {devices} devices" if devices > 1 else "")


def free_bytes(folder):
    """Free space where the folder is, or will be."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free
