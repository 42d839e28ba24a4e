"""A sweep: a grid of runs, planned first, then each in a child process.

What has been done is read from the folders of the runs alone, so that a sweep which was killed, or another one over the
same folder, goes on where it was.
"""

import contextlib
import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

import tensorflow as tf

from revisit_ssl import jobs
from revisit_ssl.backbones import without_values
from revisit_ssl.checkpoints import list_checkpoints, step_of
from revisit_ssl.command_line import XLA, Run, parse_run
from revisit_ssl.data import open_source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation import check_probes, labelled_sources, probe, setting_id
from revisit_ssl.evaluators import PROBES, ImageProbe
from revisit_ssl.evaluators.representation import NetworkInput, feature_widths
from revisit_ssl.pretext import PRETEXTS
from revisit_ssl.progress import clock
from revisit_ssl.recipe import require, to_json
from revisit_ssl.recipes import revisiting
from revisit_ssl.results import provenance, read_results, write_atomically, write_results
from revisit_ssl.runs import run_name, run_state
from revisit_ssl.timing import StepTime
from revisit_ssl.training import build_pretext, check_model, evaluation_view, plan_steps, try_views

# Recipe families: the pretexts of a paper, which are also what a sweep runs where it is told none.
FAMILIES = {"revisiting": revisiting.PRETEXTS}
REFERENCES = ("supervised", "random")  # allowed in every family
DECIDED = {
    "--seed": "use --seeds", "--width": "use --widths", "--backbone": "use --backbones",
    "--resume": "every run goes on where it was", "--features-dir": "the runs share WORKDIR/features",
}  # fmt: skip
TIMING_MINUTES = 10  # settings that have no timing by then are planned without
# Seconds per labelled image, feature and probe: the mean of linear, lbfgs, mlp and knn over the results of CIFAR-10
# (experiments/results/cifar10.jsonl, two cores). An allowance: with more classes or penalties it is too little.
PROBE_SECONDS = 1e-6
PROCESS_SECONDS = 20  # imports, the report and its pictures


@dataclass(frozen=True, kw_only=True)
class GridRun:
    """One run of the grid.

    Attributes:
        options: Run, what run.py will make of ``arguments``.
        arguments: list of str for run.py.
        workdir: the run's folder.
    """

    options: Run
    arguments: list
    workdir: str

    @property
    def recipe(self):
        return self.options.recipe

    @property
    def name(self):
        return run_name(self.recipe)

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
    """

    steps: int
    state_bytes: int
    weight_bytes: int
    widths: dict
    images: int
    train_images: int


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run with what is left of it: steps; seconds, None where it could not be timed; bytes of its own."""

    run: GridRun
    state: str
    steps: int = 0
    step_seconds: float | None = None
    seconds: float | None = 0.0
    bytes: int = 0


def sweep(options, overrides, *, run_script, command):
    """Plans the grid and runs what is not finished.

    Args:
        options: command_line.Sweep.
        overrides: [str], flags for every run.
        run_script: path of experiments/run.py, or of what takes the same flags.
        command: how to say all this on a command line.

    Returns:
        0; 1 where a run failed; 128 + the signal's number where one stopped it.

    Raises:
        InputError: anything that can be known to be wrong before the first run begins; another sweep in the folder.
    """
    workdir = options.workdir or os.path.join("runs", f"sweep-{options.family}-{options.preset}")
    require("://" not in workdir, f"a sweep cannot run in {workdir}: its locks and logs need a local folder")
    devices = places(options.devices)
    runs = grid(options, overrides, workdir)
    facts = {}
    for run in runs:
        if run.setting not in facts:
            with named(run.setting):
                facts[run.setting] = look_at(run)
    open_source.cache_clear()  # the images are the runs' business
    with contextlib.ExitStack() as stack:
        if not options.plan:
            stack.enter_context(jobs.only_here(workdir))
            jobs.wait_for_orphans(workdir, say)
        states = {run.name: run_state(run.recipe, run.workdir, untrained=run.untrained) for run in runs}
        # Beside another sweep a step would be timed too slow.
        alone = not options.plan or not jobs.is_taken(os.path.join(workdir, jobs.LOCK))
        left = [run for run in runs if states[run.name] != "finished"]
        times, untimed = time_settings(left, workdir, devices[0]) if options.timing and alone else ({}, {})
        plan = [planned(run, states[run.name], facts[run.setting], times.get(run.setting)) for run in runs]
        print_plan(plan, facts, workdir, len(devices), untimed)
        if options.plan:
            return 0
        results = os.path.join(workdir, "results.jsonl")
        # Of all that is finished: the last sweep may have been killed just before it wrote this down.
        finished = [row for run in runs if states[run.name] == "finished" for row in rows_of(run)]
        if finished:
            write_results(results, finished)
        return execute([p for p in plan if p.state != "finished"], devices, results, run_script, command)


def grid(options, overrides, workdir):
    """[GridRun], the seeds in the outer loop: a sweep that is stopped early has one seed of everything.

    Raises:
        InputError: an unknown family, pretext or flag, a flag that the sweep decides, a recipe that cannot be.
    """
    require(options.family in FAMILIES, f"unknown family {options.family!r}; one of {', '.join(FAMILIES)}")
    known = (*FAMILIES[options.family], *REFERENCES)
    for name in options.pretexts:
        require(name in known, f"family {options.family} has no pretext {name!r}; one of {', '.join(known)}")
    for flag in overrides:
        flag = flag.partition("=")[0].replace("_", "-")
        require(flag not in DECIDED, f"{flag} is decided by the sweep: {DECIDED.get(flag)}")
    settings = []
    for pretext in options.pretexts or FAMILIES[options.family]:
        for backbone in options.backbones or (None,):
            for width in options.widths or (None,):
                chosen = {"--preset": options.preset, "--backbone": backbone, "--width": width}
                flags = [str(part) for flag, value in chosen.items() if value is not None for part in (flag, value)]
                settings.append((parse_run([pretext, *flags, *overrides]), [pretext, *flags, *overrides]))
    runs = {}
    for seed in options.seeds:
        for parsed, arguments in settings:
            seeded = dataclasses.replace(parsed, recipe=dataclasses.replace(parsed.recipe, seed=seed))
            folder = os.path.join(workdir, run_name(seeded.recipe))
            own = ["--seed", str(seed), "--workdir", folder, "--features-dir", os.path.join(workdir, "features")]
            run = GridRun(options=seeded, arguments=[*arguments, *own, "--resume"], workdir=folder)
            runs[run.name] = run  # what is named twice is run once
    return list(runs.values())


def places(devices):
    """What each place of `jobs.run_jobs` gives its runs; InputError for a GPU that is not there.

    Without this check a run would find no GPU and take the CPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    known = visible.split(",") if visible else [str(i) for i in range(len(tf.config.list_physical_devices("GPU")))]
    for device in devices:
        fits = device == "cpu" or device in known or device.startswith(("GPU-", "MIG-"))
        require(fits, f"no device {device!r}; one of {', '.join([*known, 'cpu'])}")
        require(devices.count(device) == 1, f"device {device} is named twice; one run at a time fits on it")
    return devices or (None,)


def look_at(run):
    """Facts of a run's setting, with all checks that need no values of the network.

    Raises:
        InputError: options that the network, the pretext or the probes refuse; data that are not there.
    """
    recipe, data_dir = run.recipe, run.options.data_dir
    check_probes(recipe, data_dir)
    source = open_source(recipe.dataset, recipe.split, data_dir=data_dir, seed=recipe.seed)
    plan = plan_steps(recipe, source)
    model = without_values(lambda: build_pretext(recipe, source))
    check_model(model, recipe, plan)
    try_views(model, source)
    weights, trained = (
        4 * sum(math.prod(v.shape) for v in group) for group in (model.weights, model.trainable_variables)
    )
    widths, images = {}, {"train": 0}
    if recipe.probes:
        size, known = evaluation_view(recipe).size, NetworkInput.of(recipe)
        widths = feature_widths(model.backbone, size, known, recipe.probe_values, recipe.probe_pooling)
        images = {split: source.num_examples for split, source in labelled_sources(recipe, data_dir).items()}
    return Facts(
        steps=plan.total,
        state_bytes=weights + trained if plan.total else 0,  # the optimiser keeps one velocity for each
        weight_bytes=4 * sum(math.prod(v.shape) for v in model.backbone.weights),
        widths={name: widths[name] for name in recipe.endpoints if name in widths},
        images=sum(images.values()),
        train_images=images["train"],
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
    probes = [probe(name, recipe) for name in recipe.probes]
    on_images = [p for p in probes if isinstance(p, ImageProbe)]
    on_features = len(probes) - len(on_images)
    values = facts.images * sum(facts.widths.values())
    probing = on_features * values * PROBE_SECONDS + (facts.images * timing.image if on_features else 0)
    probing += sum((p.schedule[-1] * facts.train_images + facts.images) * timing.image for p in on_images)
    networks = PRETEXTS[recipe.pretext].trains + run.untrained * (1 if recipe.norm == "none" else 2)
    # Each network is traced anew for its features, about as long as building and tracing the training step takes.
    seconds = PROCESS_SECONDS + (1 + networks) * timing.start + steps * timing.step + networks * probing
    return Planned(run=run, state=state, steps=steps, step_seconds=timing.step, seconds=seconds, bytes=needed)


def feature_bytes(run, facts):
    """Size of the features of one network, at every endpoint; 0 where all probes see images."""
    needed = any(not issubclass(PROBES[name], ImageProbe) for name in run.recipe.probes)
    return 4 * facts.images * sum(facts.widths.values()) if needed else 0


def untrained_bytes(plan, facts):
    """Size of the features of the untrained networks, which the pretexts share where network and view are the same."""
    sizes = {}
    for run in (p.run for p in plan if p.state != "finished" and p.run.untrained):
        recipe = run.recipe
        same = (
            recipe.backbone, recipe.width, recipe.seed, recipe.stem, recipe.root_stride, recipe.strides,
            evaluation_view(recipe), NetworkInput.of(recipe),
        )  # fmt: skip
        sizes[same] = (1 if recipe.norm == "none" else 2) * feature_bytes(run, facts[run.setting])
    return sum(sizes.values())


def print_plan(plan, facts, workdir, devices, untimed):
    """The table of the runs, then hours and disk."""
    head = ["run", "state", "steps left", "s/step", "hours", "GB"]
    lines = [head]
    for p in plan:
        done = p.state == "finished"
        hours = "-" if done else "?" if p.seconds is None else f"{p.seconds / 3600:.2f}"
        step = "-" if done else "?" if p.step_seconds is None else f"{p.step_seconds:.3f}"
        rest = ["-", step, hours, "-"] if done else [str(p.steps), step, hours, f"{p.bytes / 1e9:.2f}"]
        lines.append([p.run.name, p.state, *rest])
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    say(f"sweep of {len(plan)} runs in {workdir}")
    for line in lines:
        cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
        say("  ".join(cells).rstrip())
    for setting, why in untimed.items():
        say(f"{setting} could not be timed: {why}")
    left = [p for p in plan if p.state != "finished"]
    states = [p.state for p in plan]
    counts = ", ".join(f"{states.count(s)} {s}" for s in ("finished", "trained", "begun", "new") if s in states)
    say(f"{counts}; {len(left)} left to run{f': {hours_of(left, devices)}' if left else ''}")
    if left:
        needed = sum(p.bytes for p in left) + untrained_bytes(plan, facts)
        free = free_bytes(workdir)
        say(f"disk: {needed / 1e9:.1f} GB at most, {free / 1e9:.1f} GB free")
        if needed > free:
            say("warning: that may not be enough; a run that finds the disk full fails, and the next sweep resumes it")


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


def time_settings(runs, workdir, device):
    """Times a step of every setting of the runs, in a child process; what was timed before is read from timing.json.

    Returns:
        ({setting: StepTime}, {setting: why it could not be timed}).

    Raises:
        InputError: a setting that no run could have.
    """
    path = os.path.join(workdir, "timing.json")
    cache, untimed = read_timing(path), {}
    settings = {run.setting: run for run in runs}
    keys = {name: timing_key(run, device) for name, run in settings.items()}
    # The small networks first, in case the time is not enough for all.
    missing = sorted((r for n, r in settings.items() if keys[n] not in cache), key=lambda run: run.recipe.width)
    if missing:
        say(f"timing a step of {len(missing)} settings (kept for the next time) …")
    ends = time.monotonic() + 60 * TIMING_MINUTES

    def keep(run, answer):
        cache[keys[run.setting]] = answer
        write_atomically(path, json.dumps(cache, indent=2) + "\n")

    while missing:
        answered, failure = ask(missing, device, ends, keep)
        missing = missing[answered:]
        if time.monotonic() >= ends:
            untimed |= {run.setting: f"not within {TIMING_MINUTES} minutes" for run in missing}
            break
        if missing:  # the first of them ended the child
            untimed[missing.pop(0).setting] = failure
    return {name: StepTime(**cache[key]) for name, key in keys.items() if key in cache}, untimed


def ask(runs, device, ends, keep):
    """Has the runs' settings timed by one child, in their order; (how many were, why not all of them).

    Raises:
        InputError: the child refused a setting.
    """
    questions = [
        {
            "recipe": to_json(run.recipe), "data_dir": run.options.data_dir, "strategy": run.options.strategy,
            "xla": XLA[run.options.xla],
        }
        for run in runs
    ]  # fmt: skip
    answered, code = 0, None
    with tempfile.TemporaryFile("w+", errors="replace") as errors, subprocess.Popen(
        [sys.executable, "-m", "revisit_ssl.timing"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
        text=True, env=jobs.environment_for(device),
    ) as child:  # fmt: skip
        timer = threading.Timer(max(0.0, ends - time.monotonic()), child.kill)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended before it had read them
                child.stdin.write(json.dumps(questions))
                child.stdin.close()
            for line in child.stdout:
                keep(runs[answered], json.loads(line))
                answered += 1
            code = child.wait()
        finally:
            timer.cancel()
            child.kill()
        errors.seek(0)
        failure = jobs.exit_reason(code, errors.read())
    require(code != 2, f"{runs[min(answered, len(runs) - 1)].setting}: {failure}")
    return answered, failure


def read_timing(path):
    """{key: fields of StepTime} of timing.json; {} where there is none, or a damaged one."""
    fields = {f.name for f in dataclasses.fields(StepTime)}
    try:
        with open(path) as file:
            cache = json.load(file)
        return {key: values for key, values in cache.items() if set(values) == fields}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def timing_key(run, device):
    """What a timing is of: the setting, and where and how it runs."""
    where = "all" if device is None else "cpu" if device == "cpu" else "gpu"
    hardware = provenance()["hardware"]
    return f"{run.setting} {setting_id(run.recipe)} {run.options.strategy} {run.options.xla} {where} of {hardware}"


def execute(left, devices, results, run_script, command):
    """Runs what is left of the plan and says how each run ended; the exit status of `sweep`."""
    plan = {p.run.name: p for p in left}
    failed, ended_names = {}, []

    def started(job, device):
        say(f"{job.name} started{f' on {device}' if device else ''}; log: {job.log}")

    def ended(job, failure, seconds):
        run = plan[job.name].run
        try:
            if run_state(run.recipe, run.workdir, untrained=run.untrained) == "finished":
                write_results(results, rows_of(run))
                ended_names.append(job.name)
                rest = [p for name, p in plan.items() if name not in {*ended_names, *failed}]
                after = f"; {len(rest)} left: {hours_of(rest, len(devices))}" if rest else ""
                say(f"{job.name} finished in {clock(seconds)}{after}")
                return
        except InputError as error:
            failure = str(error)
        if failure != jobs.STOPPED:
            failed[job.name] = f"{failure or 'it was stopped before its end'} (log: {job.log})"
            say(f"{job.name} failed after {clock(seconds)}: {failed[job.name]}")

    commands = [jobs.Job(p.run.name, [sys.executable, run_script, *p.run.arguments], p.run.workdir) for p in left]
    stopped_by = jobs.run_jobs(commands, devices, started=started, ended=ended)
    if os.path.exists(results):
        say(f"results: {results}")
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr, flush=True)
    if stopped_by:
        print(f"stopped; go on with: {command}", file=sys.stderr, flush=True)
        return 128 + stopped_by
    return 1 if failed else 0


def rows_of(run):
    """[Result] of a run; none where it has no probes."""
    path = os.path.join(run.workdir, "results.jsonl")
    return read_results(path) if os.path.exists(path) else []


@contextlib.contextmanager
def named(name):
    """Puts ``name`` before the message of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def say(text):
    print(text, flush=True)
