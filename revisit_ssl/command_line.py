"""The scripts' command lines: flags from the recipe dataclasses, one line for every bad input."""

import argparse
import contextlib
import dataclasses
import io
import os
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from typing import Annotated, Literal

import tensorflow as tf
import tyro

from revisit_ssl.distribute import get_strategy, is_chief
from revisit_ssl.errors import InputError
from revisit_ssl.pretext import PRETEXTS
from revisit_ssl.recipe import Recipe, from_json, override
from revisit_ssl.recipes import PRESETS, get_recipe
from revisit_ssl.results import reason

PROMISES = {
    "sample": "embedded data, minutes on a laptop",
    "cifar10": "CIFAR-10, ten minutes on two cores",
    "paper": "the paper's setting, for accelerators",
    "smoke": "seconds, tests the machinery, features worth nothing",
}
XLA = {"auto": None, "on": True, "off": False}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where and how a run goes; nothing here changes what it computes."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    preset: tyro.conf.Suppress[str] = "sample"
    """Where the recipe's values come from; read before the other flags."""
    workdir: str | None = None
    """Folder or gs:// address for everything the run writes; default runs/<name of the run>."""
    data_dir: str | None = None
    """Where TFDS data sets lie; default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    resume: bool = False
    """Go on from the newest checkpoint of the workdir."""
    strategy: Literal["auto", "none", "mirrored", "multiworker", "tpu"] = "auto"
    """Devices: auto takes all GPUs of this machine, or the workers of TF_CONFIG."""
    xla: Literal["auto", "on", "off"] = "auto"
    """Compile the step with XLA; auto: on one accelerator, where it is several times faster."""
    save_every: int = 200
    """Steps between checkpoints."""
    monitor: str | None = None
    """knn:N looks at the features every N epochs: kNN accuracy, spread, effective rank, collapse."""
    skip_random: bool = False
    """Do not probe the untrained network (the row to beat)."""


def main(arguments=None):
    """Entry of experiments/run.py; returns the exit status: 0, 2 for bad input, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: run(parse_run(arguments)), shlex.join(["python", "experiments/run.py", *arguments]))


def guarded(work, command):
    """Runs ``work``; turns bad input, signals and TensorFlow's own errors into one line and an exit status."""
    from revisit_ssl.training import Interrupted

    try:
        work()
        return 0
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except tf.errors.OpError as error:  # a damaged file, memory that ran out, a worker that is gone
        what = f"TensorFlow stopped: {reason(error)[:300]}"
        print(f"error: {what}; go on from the last checkpoint with --resume", file=sys.stderr)
        return 2
    except Interrupted as stopped:
        again = command if "--resume" in command else f"{command} --resume"
        print(f"saved {stopped.checkpoint}\nresume with: {again}", file=sys.stderr)
        return 0 if stopped.signal == signal.SIGTERM else 130
    except KeyboardInterrupt:
        print("stopped; nothing after the last checkpoint is kept. Go on with --resume", file=sys.stderr)
        return 130


def parse_run(arguments):
    """Run from the command line: pretext first, then flags over the preset's recipe."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.error = refuse
    first.add_argument("--preset", default="sample")
    first.add_argument("--width", default=None)
    known, rest = first.parse_known_args(arguments)
    if not rest or rest[0].startswith("-"):
        usage = f"usage: run.py PRETEXT [flags]; PRETEXT is one of {', '.join(sorted(PRETEXTS))}"
        if "-h" in rest or "--help" in rest:
            print(f"{usage}\n\n--preset {{{','.join(PRESETS)}}} (default sample):")
            print("\n".join(f"  {name:8} {promise}" for name, promise in PROMISES.items()))
            print("\nAll flags, with the preset's values:  run.py rotation --help")
            raise SystemExit(0)
        raise InputError(f"no pretext given; {usage}")
    recipe = get_recipe(rest[0], known.preset, width=whole_number("width", known.width))
    return read_flags(
        Run,
        rest[1:],
        default=Run(recipe=recipe, preset=known.preset),
        prog=f"run.py {rest[0]}",
        description=(
            f"{rest[0]}, preset {known.preset}: {PROMISES[known.preset]}. "
            f"--preset {{{','.join(PRESETS)}}} and --width choose the values that the flags below start from."
        ),
    )


def refuse(message):
    """argparse's complaint as the one line that every bad input gets."""
    raise InputError(message)


def read_flags(cls, arguments, **options):
    """``cls`` from flags; tyro's boxed complaint becomes the one line that every bad input gets."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(cls, args=arguments, **options)
    except SystemExit as left:
        if not left.code:
            raise
        lines = (line.strip("│╭╮╰╯─+| \n") for line in complaint.getvalue().splitlines()[1:])
        raise InputError(" ".join(line for line in lines if line.strip("-"))) from None


def whole_number(name, text):
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} {text!r} is no whole number; expected 1, 2, 4, 8, 12, 16 …") from None


def default_workdir(recipe):
    """runs/rotation-revnet50-k1-toy_scenes-s0"""
    data = recipe.dataset.replace("folder:", "").strip("/").replace("/", "_")
    return os.path.join("runs", f"{recipe.pretext}-{recipe.backbone}-k{recipe.width}-{data}-s{recipe.seed}")


def run(options):
    """Pretrain, probe, report."""
    from revisit_ssl.evaluation import check_probes
    from revisit_ssl.training import pretrain

    recipe = options.recipe
    begun = time.perf_counter()
    workdir = options.workdir or default_workdir(recipe)
    print(
        f"preset {options.preset} ({PROMISES[options.preset]}): {recipe.pretext} on {recipe.dataset} "
        f"with {recipe.backbone}, width {recipe.width}\nsetting: {recipe.source}\nwriting to {workdir}",
        flush=True,
    )
    strategy = get_strategy(options.strategy)  # first of all: workers connect when TensorFlow starts
    check_probes(recipe, options.data_dir)  # before the hours of training, not after
    backbone = pretrain(
        recipe, workdir, strategy=strategy, data_dir=options.data_dir, resume=options.resume,
        xla=XLA[options.xla], save_every=options.save_every, monitor=options.monitor,
    )  # fmt: skip
    if is_chief():
        probe_and_report(backbone, recipe, dataclasses.replace(options, workdir=workdir))
        print(f"{time.perf_counter() - begun:.0f} s in all")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Probes of a saved backbone; fields not given are the run's own."""

    workdir: tyro.conf.Positional[str]
    """A run's folder, with recipe.json and backbone.keras; results.jsonl and the report there are updated."""
    probes: tuple[str, ...] | None = None
    """Names in PROBES."""
    endpoints: tuple[str, ...] | None = None
    """Layers whose features the probes get."""
    probe_dataset: str | None = None
    """Labelled set: a name in DATASETS or folder:/path."""
    probe_fraction: float | None = None
    """Share of the labelled training images that the probes may use."""
    data_dir: str | None = None
    """Where TFDS data sets lie; default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    skip_random: bool = False
    """Do not probe the untrained network (the row to beat)."""


def main_evaluate(arguments=None):
    """Entry of experiments/evaluate.py; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = shlex.join(["python", "experiments/evaluate.py", *arguments])
    return guarded(lambda: evaluate_saved(read_flags(Evaluation, arguments, prog="evaluate.py")), command)


def evaluate_saved(options):
    """Loads, probes, reports."""
    from revisit_ssl.backbones import load_backbone
    from revisit_ssl.training import freeze

    path = os.path.join(options.workdir, "recipe.json")
    if not tf.io.gfile.exists(path):
        raise InputError(f"no run at {options.workdir}: it has no recipe.json; give the workdir of a finished run")
    with tf.io.gfile.GFile(path, "rb") as file:
        recipe = from_json(file.read().decode(errors="replace"), path)
    names = ("probes", "endpoints", "probe_dataset", "probe_fraction")
    recipe = override(recipe, **{n: getattr(options, n) for n in names if getattr(options, n) is not None})
    backbone = freeze(load_backbone(os.path.join(options.workdir, "backbone.keras")))
    probe_and_report(backbone, recipe, options)


def probe_and_report(backbone, recipe, options):
    """Probes of the trained and the untrained network, results.jsonl, report, and the table on the screen."""
    from revisit_ssl.evaluation import evaluate, evaluate_random
    from revisit_ssl.report import print_table, write_report

    results = []
    trained = PRETEXTS[recipe.pretext].trains
    if recipe.probes and trained:
        results += evaluate(backbone, recipe, workdir=options.workdir, data_dir=options.data_dir)
    if recipe.probes and not (trained and options.skip_random):
        results += evaluate_random(recipe, workdir=options.workdir, data_dir=options.data_dir)
    report = write_report(options.workdir, data_dir=options.data_dir)
    print_table(results)
    print(f"report: {report}")
