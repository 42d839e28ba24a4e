"""Pretrain, probe, report: revisit-ssl run rotation --width 1

The first argument is the pretext; --preset chooses the setting whose values every other flag may change
(sample: embedded data, minutes; cifar10; paper; smoke). --help lists all flags with the preset's values. Instead of
pretext and preset, --recipe FILE takes all values from the recipe.json of another run.
"""

import argparse
import glob
import os
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from revisit_ssl.commands.backbone_flags import check_backbone_flags, under_backbone
from revisit_ssl.commands.flags import guarded, read_flags, refuse, whole_number
from revisit_ssl.commands.presets import promise
from revisit_ssl.commands.probe_flags import about_probes, add_probe_flags, check_probe_flags
from revisit_ssl.errors import InputError, require
from revisit_ssl.evaluators import PROBES
from revisit_ssl.papers import ABOUT, NAMES, PRESETS, get_recipe, presets_of, with_backbone, with_probes
from revisit_ssl.pretext import PRETEXTS
from revisit_ssl.recipe import Recipe, override
from revisit_ssl.scenes import SPLITS
from revisit_ssl.scenes.drawing import begin
from revisit_ssl.startup import cores, loading


@dataclass(frozen=True, kw_only=True)
class Run:
    """Where and how a run goes; nothing here changes what it computes."""

    recipe: Annotated[Recipe, tyro.conf.arg(name="")]
    name: tyro.conf.Suppress[str] = ""
    """What the recipe is called: its pretext, or a combination such as npid_cld; the first argument."""
    preset: tyro.conf.Suppress[str] = "sample"
    """Where the recipe's values come from; read before the other flags."""
    workdir: str | None = None
    """Folder or gs:// address for everything the run writes; default runs/<name of the run>. One run at a time writes
    there; several workers have to share it."""
    data_dir: str | None = None
    """Where TFDS data sets lie; default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    resume: bool = False
    """Go on from the newest checkpoint of the workdir; with more epochs than it had, where its schedule is constant or
    step, make it longer."""
    strategy: Literal["auto", "none", "mirrored", "multiworker", "tpu"] = "auto"
    """Devices: auto takes all GPUs of this machine, or the workers of TF_CONFIG. Several workers: the same command on
    each machine with TF_CONFIG='{"cluster": {"worker": ["a:2222", "b:2222"]}, "task": {"type": "worker", "index": 0}}'
    (1 on b), by hand, from Slurm's variables or by Kubeflow's TFJob (docs/commands.md), and a workdir they share."""
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
    data_report: bool = False
    """Say what --dataset and --probe-dataset hold, and end: images, classes, the smallest one, sizes, what is skipped,
    what is held out, duplicates. Nothing is written."""


def main(arguments=None, *, form="revisit-ssl run"):
    """The command; returns the exit status: 0, 2 for bad input, 130 after Ctrl-C.

    Args:
        arguments: [str]; None: those of the process.
        form: how it was called, for hints.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)

    def work():
        options = parse_run(arguments, form)
        begin_drawing(options)
        with loading():
            from revisit_ssl.commands.work import report_data, run  # after the flags: help needs no TensorFlow
        return report_data(options) if options.data_report else run(options)

    return guarded(work, form, arguments, resume=True)


def begin_drawing(options):
    """Has the embedded scenes drawn while TensorFlow is imported, if the run needs them and they are not there yet."""
    recipe = options.recipe
    folder = options.data_dir or os.environ.get("TFDS_DATA_DIR") or os.path.join("~", "tensorflow_datasets")
    there = glob.glob(os.path.join(glob.escape(os.path.expanduser(folder)), "toy_scenes", "full", "*"))
    needed = recipe.dataset == "toy_scenes" or (recipe.probes and recipe.probed_dataset == "toy_scenes")
    if needed and not there and "://" not in folder:
        begin(*SPLITS["train"], cores())


def parse_run(arguments, form="revisit-ssl run"):
    """Run from the command line: pretext first, then flags over the preset's recipe; ``form``: how it was called."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.error = refuse
    first.add_argument("--preset", default=None)
    first.add_argument("--width", default=None)
    first.add_argument("--backbone", default=None)
    first.add_argument("--recipe", default=None)
    add_probe_flags(first)
    known, rest = first.parse_known_args(arguments)
    rest = under_backbone(rest)
    known.width = whole_number("width", known.width)
    if known.recipe is not None:
        return parse_recipe(known, rest, form)
    if not rest or rest[0].startswith("-"):
        usage = f"usage: {form} PRETEXT [flags], or --recipe FILE; PRETEXT is one of {', '.join(sorted(NAMES))}"
        if "-h" in rest or "--help" in rest:
            print(usage)
            print_choices(form)
            raise SystemExit(0)
        raise InputError(f"no pretext given; {usage}")
    preset = known.preset or "sample"
    # A preset fits batch and steps to the width, stem and strides to the network, whose options are flags themselves:
    # both are read before the other flags, and so are the probes.
    probes = {"probes": known.probes, "protocol": known.protocol}
    recipe = get_recipe(rest[0], preset, width=known.width, backbone=known.backbone, **probes)
    check_probe_flags(rest, recipe.probes)
    check_backbone_flags(rest, recipe)
    return read_flags(
        Run,
        rest[1:],
        default=Run(recipe=recipe, name=rest[0], preset=preset),
        prog=f"{form} {rest[0]}",
        description=(
            f"{rest[0]}, preset {preset}: {promise(preset)}. "
            f"--preset {{{','.join(presets_of(rest[0]))}}}, --width and --backbone choose the values that the flags "
            "below start from; --recipe FILE in their place takes all values from a recipe.json. "
            f"{about_probes(recipe)}"
        ),
    )


def parse_recipe(known, rest, form):
    """Run from a recipe.json: its values as they are, then flags over them.

    Args:
        known: namespace with recipe (the file), preset, width, backbone, probes and protocol, None where not given.
        rest: [str], the other flags.
        form: how the command was called.

    Raises:
        InputError: no recipe there; a pretext or a preset beside it, which it has already.
    """
    with loading():
        from revisit_ssl.training.workdir import read_recipe_file  # it may lie in a bucket, which TensorFlow reads
    named = [rest[0]] if rest and not rest[0].startswith("-") else []
    named += [f"--preset {known.preset}"] if known.preset is not None else []
    require(not named, f"--recipe {known.recipe} says pretext and values; drop {' and '.join(named)}")
    recipe = with_backbone(read_recipe_file(known.recipe, PROBES), known.backbone)
    recipe = recipe if known.width is None else override(recipe, width=known.width)
    if known.probes is not None or known.protocol is not None:
        recipe = with_probes(recipe, known.probes, known.protocol)
    check_probe_flags(rest, recipe.probes)
    check_backbone_flags(rest, recipe)
    return read_flags(
        Run,
        rest,
        default=Run(recipe=recipe, name=recipe.pretext, preset=""),
        prog=f"{form} --recipe {known.recipe}",
        description=f"All values as {known.recipe} has them; --width and --backbone, too, change nothing "
        f"else, but for options that the other network does not have. {about_probes(recipe)}",
    )


def print_choices(form):
    """The pretexts, each with the first line of its class, and the presets."""
    print("\nPRETEXT:")
    for name in NAMES:
        print(f"  {name:17} {PRETEXTS.about(name) if name in PRETEXTS else ABOUT[name]}")
    print("\n--preset (default sample):")
    for name in PRESETS:
        print(f"  {name:17} {promise(name)}")
    print(f"\n--recipe FILE{'':6} in place of both: all values from a run's recipe.json")
    print(f"\nAll flags, with the preset's values:  {form} rotation --help")
