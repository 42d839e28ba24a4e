"""A sweep: a grid of runs, planned first, then each in a child process.

What has been done is read from the folders of the runs alone, so that a sweep which was killed, or another one over the
same folder, goes on where it was.
"""

import contextlib
import dataclasses
import functools
import os
import sys

import tensorflow as tf

from revisit_ssl.data import known_source, open_source
from revisit_ssl.errors import InputError, require, unknown
from revisit_ssl.papers import presets_of, sweeps
from revisit_ssl.papers.spec import Variant
from revisit_ssl.recipe import to_json
from revisit_ssl.runs.results import results_of_run, write_results
from revisit_ssl.runs.telling import clock
from revisit_ssl.sweeps import jobs
from revisit_ssl.sweeps.planning import GridRun, describe, facts_of, hours_of, planned
from revisit_ssl.sweeps.timing import time_settings
from revisit_ssl.training.workdir import RECIPE, run_name, run_state

REFERENCES = ("supervised", "random")  # allowed in every family
DECIDED = {
    "--seed": "use --seeds", "--width": "use --widths", "--backbone": "use --backbones",
    "--resume": "every run goes on where it was", "--features-dir": "the runs share WORKDIR/features",
}


def sweep(options, overrides, *, parse, runner, command):
    """Plans the grid and runs what is not finished.

    Args:
        options: commands.sweep.Sweep.
        overrides: [str], flags for every run.
        parse: [str] -> commands.run.Run: what a run makes of its arguments.
        runner: [str], the command that starts a run, before its flags.
        command: how to say all this on a command line.

    Returns:
        0; 1 where a run failed; 128 + the signal's number where one stopped it.

    Raises:
        InputError: anything that can be known to be wrong before the first run begins; another sweep in the folder.
    """
    workdir = options.workdir or os.path.join("runs", f"sweep-{options.family}-{options.preset}")
    require("://" not in workdir, f"a sweep cannot run in {workdir}: its locks and logs need a local folder")
    devices = places(options.devices)
    runs = grid(options, overrides, workdir, parse)
    facts, opened = {}, functools.cache(known_source) if options.plan else open_source
    for run in runs:
        if run.setting not in facts:
            with named(run.setting):
                facts[run.setting] = facts_of(run, opened)
    open_source.cache_clear()  # the images are the runs' business
    with contextlib.ExitStack() as stack:
        if not options.plan:
            stack.enter_context(jobs.only_here(workdir))
            jobs.wait_for_orphans(workdir)
        states = {run.name: run_state(run.recipe, run.workdir, untrained=run.untrained) for run in runs}
        # Beside another sweep a step would be timed too slow.
        alone = not options.plan or not jobs.is_taken(os.path.join(workdir, jobs.LOCK))
        left = [run for run in runs if states[run.name] != "finished"]
        times, untimed = time_settings(left, workdir, devices[0]) if options.timing and alone else ({}, {})
        plan = [planned(run, states[run.name], facts[run.setting], times.get(run.setting)) for run in runs]
        print(f"sweep of {len(runs)} runs in {workdir}\n{describe(plan, facts, workdir, len(devices))}", flush=True)
        for setting, why in untimed.items():
            print(f"{setting} could not be timed: {why}", flush=True)
        if options.plan:
            return 0
        results = os.path.join(workdir, "results.jsonl")
        # Of all that is finished: the last sweep may have been killed just before it wrote this down.
        finished = [row for run in runs if states[run.name] == "finished" for row in rows_of(run)]
        if finished:
            write_results(results, finished)
        return execute([p for p in plan if p.state != "finished"], devices, results, runner, command)


def grid(options, overrides, workdir, parse):
    """[GridRun], the seeds in the outer loop: a sweep that is stopped early has one seed of everything.

    Raises:
        InputError: an unknown family, pretext or flag, a flag that the sweep decides, a recipe that cannot be.
    """
    if options.family not in sweeps():
        raise unknown("family", options.family, sweeps())
    require(options.seeds, "--seeds names no seed; give one or more, such as --seeds 0 1 2")
    variants = with_preset(chosen_variants(options), options)
    varied = {flag_name(part) for v in variants for part in v.flags if part.startswith("--")}
    for flag in map(flag_name, overrides):
        require(flag not in DECIDED, f"{flag} is decided by the sweep: {DECIDED.get(flag)}")
        require(flag not in varied, f"{flag} is what {options.family} varies; choose values with --only")
    settings = []
    for variant in variants:
        for backbone in options.backbones or (variant.backbone,):
            for width in options.widths or (variant.width,):
                chosen = {"--preset": options.preset, "--backbone": backbone, "--width": width}
                flags = [str(part) for flag, value in chosen.items() if value is not None for part in (flag, value)]
                arguments = [variant.recipe, *flags, *variant.flags, *overrides]
                settings.append((variant.name, parse(arguments)))
    runs = {}
    for seed in options.seeds:
        for name, parsed in settings:
            recipe = dataclasses.replace(parsed.recipe, seed=seed)
            folder = os.path.join(workdir, run_name(recipe, name))
            places = {"workdir": folder, "features_dir": os.path.join(workdir, "features"), "resume": True}
            run = GridRun(options=dataclasses.replace(parsed, recipe=recipe, **places), workdir=folder, variant=name)
            runs[run.name] = run  # what is named twice is run once
    return list(runs.values())


def chosen_variants(options):
    """[Variant] of the family that the options name; references are variants of no family."""
    family = sweeps()[options.family]
    recipes, labels = {v.recipe for v in family}, [v.label for v in family if v.label]
    known = (*dict.fromkeys(v.recipe for v in family), *REFERENCES)
    for name in options.pretexts:
        require(name in known, f"family {options.family} has no pretext {name!r}; one of {', '.join(known)}")
    for label in options.only:
        one_of = f"one of {', '.join(dict.fromkeys(labels))}" if labels else "it has none to choose from"
        require(label in labels, f"family {options.family} has no variant {label!r}; {one_of}")
    found = []
    for name in options.pretexts or dict.fromkeys(v.recipe for v in family):
        mine = [v for v in family if v.recipe == name] if name in recipes else [Variant(name)]
        found += [v for v in mine if not (options.only and v.label) or v.label in options.only]
    return found


def with_preset(variants, options):
    """The variants whose recipe has the preset; says which others are left out.

    Raises:
        InputError: none has it, or one that the options name has not.
    """
    known = {v.recipe: presets_of(v.recipe) for v in variants}
    found = [v for v in variants if options.preset in known[v.recipe]]
    without = [name for name, presets in known.items() if options.preset not in presets]
    shared = [preset for preset in known[variants[0].recipe] if all(preset in presets for presets in known.values())]
    all_have = f"; all have {', '.join(shared)}" if shared else ""
    named = [name for name in without if name in options.pretexts]
    require(not named, f"{', '.join(named)} of --pretexts has no preset {options.preset!r}{all_have}")
    require(found, f"no recipe of {options.family} has a preset {options.preset!r}{all_have}")
    if without:
        print(f"left out, without a preset {options.preset}: {', '.join(without)}", flush=True)
    return found


def flag_name(flag):
    """--cld.cross of --cld.no_cross and of --cld.cross=True: what two spellings of one field share."""
    return flag.partition("=")[0].replace("_", "-").replace(".no-", ".")


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


def execute(left, devices, results, runner, command):
    """Runs what is left of the plan and says how each run ended; the exit status of `sweep`."""
    plan = {p.run.name: p for p in left}
    failed, ended_names = {}, []

    def started(job, device):
        print(f"{job.name} started{f' on {device}' if device else ''}; log: {job.log}", flush=True)

    def ended(job, failure, seconds):
        run = plan[job.name].run
        try:
            if run_state(run.recipe, run.workdir, untrained=run.untrained) == "finished":
                write_results(results, rows_of(run))
                ended_names.append(job.name)
                rest = [p for name, p in plan.items() if name not in {*ended_names, *failed}]
                after = f"; {len(rest)} left: {hours_of(rest, len(devices))}" if rest else ""
                print(f"{job.name} finished in {clock(seconds)}{after}", flush=True)
                return
        except InputError as error:
            failure = str(error)
        if failure != jobs.STOPPED:
            failed[job.name] = f"{failure or 'it was stopped before its end'} (log: {job.log})"
            print(f"{job.name} failed after {clock(seconds)}: {failed[job.name]}", flush=True)

    commands = [
        jobs.Job(p.run.name, [*runner, *p.run.arguments], p.run.workdir, {RECIPE: to_json(p.run.recipe)}) for p in left
    ]
    stopped_by = jobs.run_jobs(commands, devices, started=started, ended=ended)
    if os.path.exists(results):
        print(f"results: {results}", flush=True)
    for name, why in failed.items():
        print(f"failed: {name}: {why}", file=sys.stderr, flush=True)
    if stopped_by:
        print(f"stopped; go on with: {command}", file=sys.stderr, flush=True)
        return 128 + stopped_by
    return 1 if failed else 0


def rows_of(run):
    """[Result] of a run; none where it has no probes."""
    return results_of_run(os.path.join(run.workdir, "results.jsonl"))


@contextlib.contextmanager
def named(name):
    """Puts ``name`` before the message of an InputError."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
