"""Pretrain, probe, report: revisit-ssl run rotation --width 1

The first argument is the pretext; --preset chooses the setting whose values every other flag may change
(sample: embedded data, minutes; cifar10; paper; smoke). --help lists all flags with the preset's values.
"""

import argparse
import shlex
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from revisit_ssl.commands.flags import guarded, read_flags, refuse, whole_number
from revisit_ssl.commands.probe_flags import about_probes, add_probe_flags
from revisit_ssl.errors import InputError
from revisit_ssl.papers import ABOUT, NAMES, PRESETS, get_recipe, presets_of
from revisit_ssl.pretext import PRETEXTS
from revisit_ssl.quiet import quiet_import
from revisit_ssl.recipe import Recipe

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


def main(arguments=None, *, form="revisit-ssl run"):
    """The command; returns the exit status: 0, 2 for bad input, 130 after Ctrl-C.

    Args:
        arguments: [str]; None: those of the process.
        form: how it was called, for hints.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)

    def work():
        options = parse_run(arguments, form)
        with quiet_import():
            from revisit_ssl.commands.work import run  # after the flags: help needs no TensorFlow
        return run(options)

    return guarded(work, f"{form} {shlex.join(arguments)}")


def parse_run(arguments, form="revisit-ssl run"):
    """Run from the command line: pretext first, then flags over the preset's recipe; ``form``: how it was called."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.error = refuse
    first.add_argument("--preset", default="sample")
    first.add_argument("--width", default=None)
    first.add_argument("--backbone", default=None)
    add_probe_flags(first)
    known, rest = first.parse_known_args(arguments)
    if not rest or rest[0].startswith("-"):
        usage = f"usage: {form} PRETEXT [flags]; PRETEXT is one of {', '.join(sorted(NAMES))}"
        if "-h" in rest or "--help" in rest:
            print(usage)
            print_choices(form)
            raise SystemExit(0)
        raise InputError(f"no pretext given; {usage}")
    # A preset fits batch and steps to the width, stem and strides to the network: both are read before the other flags,
    # and the probes, whose options are flags themselves.
    recipe = get_recipe(
        rest[0], known.preset, width=whole_number("width", known.width), backbone=known.backbone, probes=known.probes,
        protocol=known.protocol,
    )  # fmt: skip
    return read_flags(
        Run,
        rest[1:],
        default=Run(recipe=recipe, name=rest[0], preset=known.preset),
        prog=f"{form} {rest[0]}",
        description=(
            f"{rest[0]}, preset {known.preset}: {PROMISES[known.preset]}. "
            f"--preset {{{','.join(presets_of(rest[0]))}}}, --width and --backbone choose the values that the flags "
            f"below start from. {about_probes(recipe)}"
        ),
    )


def print_choices(form):
    """The pretexts, each with the first line of its class, and the presets."""
    print("\nPRETEXT:")
    for name in NAMES:
        print(f"  {name:17} {PRETEXTS.about(name) if name in PRETEXTS else ABOUT[name]}")
    print("\n--preset (default sample):")
    for name in PRESETS:
        print(f"  {name:17} {PROMISES[name]}")
    print(f"\nAll flags, with the preset's values:  {form} rotation --help")
