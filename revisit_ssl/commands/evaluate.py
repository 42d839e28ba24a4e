"""Probe a saved backbone: revisit-ssl evaluate runs/my-run --probes linear lbfgs --endpoints pre_logits

The first argument is a run's folder, with its recipe.json and backbone.keras; results.jsonl and the report there are
updated. Whatever a run says of its probes can be changed by the same flags: other probes and their options, another
labelled set (--probe-dataset), a share of its labels (--probe-fraction), other endpoints.
"""

import argparse
import dataclasses
import sys
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from revisit_ssl.commands.flags import guarded, read_flags, refuse
from revisit_ssl.commands.probe_flags import about_probes, add_probe_flags, check_probe_flags
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import PROBES
from revisit_ssl.papers import with_probes
from revisit_ssl.recipe import BenchSpec, ProbeOptions, Recipe
from revisit_ssl.startup import loading


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Probes of a saved backbone; what is not given is the run's own."""

    recipe: tyro.conf.Suppress[Recipe | None] = None
    """The run's, with its own probes and those that are measured; its bench is replaced by the one below."""
    workdir: tyro.conf.Suppress[str] = ""
    """The run's folder; the first argument."""
    bench: Annotated[BenchSpec, tyro.conf.arg(name="")] = field(default_factory=BenchSpec)
    """What the probes see."""
    probes: Annotated[dict[str, ProbeOptions], tyro.conf.arg(name="")] = field(default_factory=dict)
    """{name: options} of the probes that measure now."""
    data_dir: str | None = None
    """Where TFDS data sets lie; default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    skip_random: bool = False
    """Do not probe the untrained network (the row to beat)."""
    features_dir: str | None = None
    """Folder of extracted features, such as the one that the runs of a sweep share; default WORKDIR/features."""


def main(arguments=None, *, form="revisit-ssl evaluate"):
    """The command; returns the exit status. ``form`` is how it was called, for hints."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)

    def work():
        options = parse_evaluation(arguments, form)
        with loading():
            from revisit_ssl.commands.work import evaluate_saved  # after the flags: help needs no TensorFlow
        return evaluate_saved(options)

    return guarded(work, form, arguments)


def parse_evaluation(arguments, form="revisit-ssl evaluate"):
    """Evaluation from the command line: the run first, then flags over what its recipe says of probes."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.error = refuse
    add_probe_flags(first)
    known, rest = first.parse_known_args(arguments)
    if rest and not rest[0].startswith("-"):
        with loading():
            from revisit_ssl.training.workdir import read_recipe  # reads gs:// too
        workdir, recipe, flags = rest[0], read_recipe(rest[0], PROBES), rest[1:]
    elif {"-h", "--help"} & set(rest):
        workdir, recipe, flags = "RUN", Recipe(pretext="rotation"), rest
    else:
        raise InputError(f"no run given; usage: {form} RUN [flags], RUN is a folder with recipe.json")
    chosen = with_probes(recipe, known.probes, known.protocol)
    check_probe_flags(flags, chosen.probes)
    default = Evaluation(recipe=recipe, workdir=workdir, bench=recipe.bench, probes=chosen.probes)
    description = f"Probes of a saved backbone; what is not given is the run's own. {about_probes(chosen)}"
    options = read_flags(Evaluation, flags, default=default, prog=f"{form} {workdir}", description=description)
    # The run's other probes stay in its recipe, so that the new lines say the same setting as those that are there; but
    # those that choose numbers on val do not keep others from being fitted or scored on it.
    held = options.bench.train == "train" and options.bench.split == "test"
    kept = {name: probe for name, probe in recipe.probes.items() if held or not probe.chooses}
    merged = dataclasses.replace(chosen, bench=options.bench, probes=kept | options.probes)
    return dataclasses.replace(options, recipe=merged)
