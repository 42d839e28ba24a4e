"""The scripts' command lines: flags from the recipe dataclasses, one line for every bad input."""

import argparse
import contextlib
import dataclasses
import inspect
import io
import os
import re
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
from revisit_ssl.papers import ABOUT, NAMES, PRESETS, get_recipe, presets_of
from revisit_ssl.pretext import PRETEXTS
from revisit_ssl.recipe import Recipe, override
from revisit_ssl.runs.results import reason, write_results
from revisit_ssl.sweeps.grids import FAMILIES

PROMISES = {
    "sample": "embedded data, minutes on a laptop",
    "small": "10,000 images of CIFAR-10, a quarter of an hour on two cores",
    "imagenette": "4,500 images of Imagenette at 64 px, a quarter of an hour on two cores",
    "cifar10": "CIFAR-10: a quarter of an hour on two cores; CLD and its base methods: published scale, hours on a GPU",
    "cifar10-first": "the first released version of the CIFAR-10 script, hours on a GPU",
    "supplement": "CIFAR-10 as the supplement's text says, hours on a GPU",
    "demo": "the official CIFAR-10 notebook, hours on a GPU",
    "cifar100": "CIFAR-100, published scale, hours on a GPU",
    "cifar10_lt": "long-tailed CIFAR-10, published scale, an hour on a GPU",
    "cifar100_lt": "long-tailed CIFAR-100, published scale, an hour on a GPU",
    "stl10": "STL-10 with its unlabelled images, published scale, a day on a GPU",
    "kitchen_hc": "Kitchen-HC, published scale, an hour on a GPU",
    "imagenet100": "ImageNet-100, published scale, for accelerators",
    "imagenet20": "a fifth of ImageNet, published scale, for accelerators",
    "paper": "the paper's setting, for accelerators",
    "openselfsup": "OpenSelfSup's configuration, for accelerators",
    "v3-8": "the released 8-core configuration",
    "gpu": "the paper's setting on one GPU, same learning-rate rule",
    "smoke": "seconds, tests the machinery, features worth nothing",
}
XLA = {"auto": None, "on": True, "off": False}


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where and how a run goes; nothing here changes what it computes."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    name: tyro.conf.Suppress[str] = ""
    """What the recipe is called: its pretext, or a combination such as npid_cld; the first argument."""
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
    """knn:N looks at the features every N epochs: kNN accuracy, spread, effective rank, collapse; knn_test:N looks at
    the whole test split, whose best epoch is then reported too, under a name of its own."""
    skip_random: bool = False
    """Do not probe the untrained network (the row to beat)."""
    features_dir: str | None = None
    """Folder of extracted features, which several runs may share; default WORKDIR/features."""


def main(arguments=None):
    """Entry of experiments/run.py; returns the exit status: 0, 2 for bad input, 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: run(parse_run(arguments)), shlex.join(["python", "experiments/run.py", *arguments]))


def guarded(work, command):
    """Runs ``work``; turns bad input, signals and TensorFlow's own errors into one line and an exit status.

    Returns:
        What ``work`` returns where that is an exit status, else 0, or the error's.
    """
    from revisit_ssl.training.pretrain import Interrupted

    try:
        return work() or 0
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
    except BrokenPipeError:  # whoever read this, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("stopped; nothing after the last checkpoint is kept. Go on with --resume", file=sys.stderr)
        return 130


def parse_run(arguments):
    """Run from the command line: pretext first, then flags over the preset's recipe."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.error = refuse
    first.add_argument("--preset", default="sample")
    first.add_argument("--width", default=None)
    first.add_argument("--backbone", default=None)
    known, rest = first.parse_known_args(arguments)
    if not rest or rest[0].startswith("-"):
        usage = f"usage: run.py PRETEXT [flags]; PRETEXT is one of {', '.join(sorted(NAMES))}"
        if "-h" in rest or "--help" in rest:
            print(usage)
            print_choices()
            raise SystemExit(0)
        raise InputError(f"no pretext given; {usage}")
    # A preset fits batch and steps to the width, stem and strides to the network: both are read before the other flags.
    recipe = get_recipe(rest[0], known.preset, width=whole_number("width", known.width), backbone=known.backbone)
    return read_flags(
        Run,
        rest[1:],
        default=Run(recipe=recipe, name=rest[0], preset=known.preset),
        prog=f"run.py {rest[0]}",
        description=(
            f"{rest[0]}, preset {known.preset}: {PROMISES[known.preset]}. "
            f"--preset {{{','.join(presets_of(rest[0]))}}}, --width and --backbone choose the values that the flags "
            "below start from."
        ),
    )


def print_choices():
    """The pretexts, each with the first line of its class, and the presets."""
    print("\nPRETEXT:")
    for name in NAMES:
        print(f"  {name:17} {inspect.getdoc(PRETEXTS[name]).splitlines()[0] if name in PRETEXTS else ABOUT[name]}")
    print("\n--preset (default sample):")
    for name in PRESETS:
        print(f"  {name:17} {PROMISES[name]}")
    print("\nAll flags, with the preset's values:  run.py rotation --help")


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
        text = " ".join(line for line in lines if line.strip("-"))
        # What a recipe's own checks say names the flag already; tyro puts the Python name before it.
        ours = re.fullmatch(r"Error parsing recipe[.\w]*: (.*) For full helptext, see .*", text)
        raise InputError(ours[1] if ours else text) from None


def whole_number(name, text):
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} {text!r} is no whole number; expected 1, 2, 4, 8, 12, 16 …") from None


def run(options):
    """Pretrain, probe, report."""
    from revisit_ssl.evaluation.evaluate import check_probes, monitor_results, pretext_results, vocabulary_results
    from revisit_ssl.training.pretrain import pretrain
    from revisit_ssl.training.workdir import mark_finished, run_name, unmark_finished

    recipe = options.recipe
    begun = time.perf_counter()
    workdir = options.workdir or os.path.join("runs", run_name(recipe, options.name))
    print(
        f"preset {options.preset} ({PROMISES[options.preset]}): {options.name or recipe.pretext} on {recipe.dataset} "
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
        unmark_finished(workdir)
        scores = pretext_results(recipe, workdir) + monitor_results(recipe, workdir)
        if scores := scores + vocabulary_results(recipe, workdir):
            write_results(os.path.join(workdir, "results.jsonl"), scores)
        probe_and_report(backbone, recipe, dataclasses.replace(options, workdir=workdir))
        seconds = time.perf_counter() - begun
        untrained = not (options.skip_random and PRETEXTS[recipe.pretext].trains)
        mark_finished(workdir, untrained=untrained, seconds=seconds)
        print(f"{seconds:.0f} s in all")


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
    probe_balanced: bool | None = None
    """Draw that share class by class, as for the 1 % and 10 % of fine-tuning; True or False."""
    probe_setting: Literal["select", "paper", "moco", "infomin", "obow", "obow_places"] | None = None
    """select: hyper-parameters chosen on the validation split; paper: those of Revisiting SSL's supplement; moco,
    infomin: as paper, and linear_images with the numbers of MoCo's or InfoMin's ImageNet evaluation; obow: OBoW's for
    linear, linear_images, few_shot and finetune; obow_places: its linear_images on Places205."""
    probe_lr: tuple[float, ...] | None = None
    """linear, linear_images: learning rates, of which the best on the validation split is taken."""
    probe_schedule: tuple[int, ...] | None = None
    """SGD probes: epochs of the decays and the end, such as 30 50 70, 120 140 160 or 480 500 520."""
    probe_pooling: Literal["max", "avg", "adaptive_max"] | None = None
    """How large endpoints are pooled."""
    knn_temperature: float | None = None
    """knn: sigma of the weights exp(cosine / sigma)."""
    finetune_weight_decay: float | None = None
    """finetune: L2."""
    finetune_rates: tuple[float, float] | None = None
    """finetune: learning rates of the network and of the new layer."""
    finetune_epochs: int | None = None
    """finetune: length."""
    few_shot_ways: int | None = None
    """few_shot: classes in an episode."""
    few_shot_classes: Literal["all", "novel_1", "novel_2"] | None = None
    """few_shot: classes that episodes are drawn from."""
    voc_svm_crop: Literal["warp", "center"] | None = None
    """voc_svm: all of the image squashed to a square, or its centre."""
    data_dir: str | None = None
    """Where TFDS data sets lie; default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    skip_random: bool = False
    """Do not probe the untrained network (the row to beat)."""
    features_dir: str | None = None
    """Folder of extracted features, such as the one that the runs of a sweep share; default WORKDIR/features."""


def main_evaluate(arguments=None):
    """Entry of experiments/evaluate.py; returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = shlex.join(["python", "experiments/evaluate.py", *arguments])
    return guarded(lambda: evaluate_saved(read_flags(Evaluation, arguments, prog="evaluate.py")), command)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A grid of runs; every flag that is not listed here is handed to run.py for each of them."""

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
    """Only print the plan."""
    timing: bool = True
    """Time a few steps of every setting for the plan's hours."""


def main_sweep(arguments=None, *, run_script):
    """Entry of experiments/sweep.py; returns the exit status: 0, 1 where a run failed, 2 for bad input, 130, 143."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    command = shlex.join(["python", "experiments/sweep.py", *arguments])
    return guarded(lambda: run_sweep(arguments, run_script, command), command)


def run_sweep(arguments, run_script, command):
    """Parses and sweeps: family first, then the sweep's flags, then those of run.py, in any order."""
    asked = bool({"-h", "--help"} & set(arguments))
    if not asked and (not arguments or arguments[0].startswith("-")):
        raise InputError("no recipe family given; usage: sweep.py revisiting [flags], all flags with --help")
    options, overrides = read_flags(
        Sweep,
        ["--help"] if asked else arguments[1:],
        prog="sweep.py revisiting",
        description=(
            "A grid of runs in child processes, resumable: the same command goes on where it was. Every flag that "
            "is not listed here is handed to run.py for each run, such as --epochs 3 or --probes linear lbfgs. The "
            f"first argument names the grid: {', '.join(FAMILIES)}."
        ),
        return_unknown_args=True,
    )
    from revisit_ssl.sweeps.sweep import sweep  # after --help, which takes no TensorFlow

    options = dataclasses.replace(options, family=arguments[0])
    try:
        return sweep(options, overrides, run_script=run_script, command=command)
    except KeyboardInterrupt:  # while it was planning; later ones are handed on to the runs
        print(f"stopped; go on with: {command}", file=sys.stderr)
        return 130


def evaluate_saved(options):
    """Loads, probes, reports."""
    from revisit_ssl.backbones import load_backbone
    from revisit_ssl.training.pretrain import freeze, read_recipe

    recipe = read_recipe(options.workdir)
    given = {f.name: getattr(options, f.name) for f in dataclasses.fields(Evaluation) if hasattr(recipe, f.name)}
    recipe = override(recipe, **{name: value for name, value in given.items() if value is not None})
    backbone = freeze(load_backbone(os.path.join(options.workdir, "backbone.keras")))
    probe_and_report(backbone, recipe, options)


def probe_and_report(backbone, recipe, options):
    """Probes of the trained and the untrained network, results.jsonl, report, and the table on the screen."""
    from revisit_ssl.evaluation.evaluate import evaluate, evaluate_random
    from revisit_ssl.papers.pages import write_report
    from revisit_ssl.report.tables import print_table

    results = []
    trained = PRETEXTS[recipe.pretext].trains
    places = {"workdir": options.workdir, "data_dir": options.data_dir, "features_dir": options.features_dir}
    if recipe.probes and trained:
        results += evaluate(backbone, recipe, **places)
    if recipe.probes and not (trained and options.skip_random):
        results += evaluate_random(recipe, **places)
    report = write_report(options.workdir, data_dir=options.data_dir)
    print_table(results)
    print(f"report: {report}")
