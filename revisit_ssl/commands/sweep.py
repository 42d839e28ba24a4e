"""A resumable grid of runs: revisit-ssl sweep revisiting --pretexts rotation jigsaw --seeds 0 1 2

The first argument is the recipe family or a table of a paper (cld, cld-a1 to cld-a4, cld-figure-a2, obow,
obow-vocabulary); --help lists the sweep's flags, every other one is run's and holds for all runs. The plan is printed
first (--plan prints nothing else). The same command goes on where a stopped or killed sweep was. Each run has a
folder with its log in WORKDIR; the numbers of all of them are in WORKDIR/results.jsonl.
"""

import contextlib
import dataclasses
import functools
import shlex
import signal
import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from revisit_ssl.commands.backbone_flags import under_backbone
from revisit_ssl.commands.flags import guarded, read_flags
from revisit_ssl.commands.run import parse_run
from revisit_ssl.errors import InputError
from revisit_ssl.papers import sweeps
from revisit_ssl.startup import Terminated, loading

RUN = (sys.executable, "-m", "revisit_ssl", "run")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A grid of runs; every flag that is not listed here holds for each of them, as run has it."""

    family: tyro.conf.Suppress[str] = "revisiting"
    """Recipe family; the first argument."""
    pretexts: tuple[str, ...] = ()
    """Pretexts (recipes) of the family, or supervised, random; none named: all of the family."""
    only: tuple[str, ...] = ()
    """Variants of a family that is a table, such as kmeans_k10 of cld-a1; none named: all of them."""
    backbones: tuple[str, ...] = ()
    """Names in BACKBONES; none named: the preset's."""
    widths: tuple[int, ...] = ()
    """Widening factors; none named: the preset's."""
    seeds: tuple[int, ...] = (0,)
    """Seeds; all of the grid for the first one, then for the next."""
    preset: str = "sample"
    """Where the recipes' values come from."""
    workdir: str | None = None
    """Local folder of the runs' folders, their shared features and results.jsonl; default runs/sweep-FAMILY-PRESET."""
    devices: tuple[str, ...] = ()
    """GPUs (as CUDA_VISIBLE_DEVICES counts them) or cpu, one run on each; none named: one run, on what it finds."""
    plan: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(aliases=["--dry-run"])] = False
    """Only print the plan; of a data set that is not here, from its published size."""
    timing: bool = True
    """Time a few steps of every setting for the plan's hours."""


def main(arguments=None, *, form="revisit-ssl sweep", runner=RUN):
    """The command; returns the exit status: 0, 1 where a run failed, 2 for bad input, 130, 143.

    Args:
        arguments: [str]; None: those of the process.
        form: how it was called, for hints.
        runner: the words that start a run, before its flags.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = f"{form} {shlex.join(arguments)}"
    return guarded(lambda: run_sweep(arguments, form, runner, command), form, arguments)


def run_sweep(arguments, form, runner, command):
    """Parses and sweeps: family first, then the sweep's flags, then those of a run, in any order."""
    asked = bool({"-h", "--help"} & set(arguments))
    if not asked and (not arguments or arguments[0].startswith("-")):
        raise InputError(f"no recipe family given; usage: {form} revisiting [flags], all flags with --help")
    options, overrides = read_flags(
        Sweep,
        ["--help"] if asked else arguments[1:],
        prog=f"{form} revisiting",
        description=(
            "A grid of runs in child processes, resumable: the same command goes on where it was. Every flag that "
            "is not listed here is handed to each run, such as --epochs 3 or --probes linear lbfgs. The first "
            f"argument names the grid: {', '.join(sweeps())}."
        ),
        return_unknown_args=True,
    )
    with loading():  # after the flags: help needs no TensorFlow
        import tensorflow as tf

        from revisit_ssl.sweeps.sweep import sweep
    with contextlib.suppress(RuntimeError):  # TensorFlow runs already: who called this has decided
        tf.config.set_visible_devices([], "GPU")  # all of their memory is for the runs
    options = dataclasses.replace(options, family=arguments[0])
    parse = functools.partial(parse_run, form="run".join(form.rsplit("sweep", 1)))
    try:
        return sweep(options, under_backbone(overrides), parse=parse, runner=runner, command=command)
    except (KeyboardInterrupt, Terminated) as stopped:  # while it was planning; later ones are handed on to the runs
        print(f"stopped; go on with: {command}", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stopped, Terminated) else signal.SIGINT)
