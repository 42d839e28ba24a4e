"""Results: one measured number a line, with all that is needed to measure it again."""

import dataclasses
import datetime
import json
import os
import platform
import subprocess
import sys
import typing
from dataclasses import dataclass, field

import tensorflow as tf

from revisit_ssl.errors import InputError, reason, require
from revisit_ssl.runs.damage import set_aside
from revisit_ssl.runs.files import write_atomically
from revisit_ssl.runs.machine import hardware, machine
from revisit_ssl.values import fits, name_of


@dataclass(frozen=True, kw_only=True)
class Result:
    """One number.

    Attributes:
        pretext, backbone, width, seed, dataset: of the pretraining run.
        name, preset, paper: what its recipe is called: "npid_cld", "small", "cld". Lines written before these were
            have "" for all three; ``papers.older`` fills them in.
        weights: "pretrained"; "random" (as initialised); "random, BN re-estimated".
        steps: training steps behind the weights; None where they came from elsewhere.
        endpoint, probe, probe_dataset, split, metric: what was measured, e.g. pre_logits, lbfgs, cifar10, test, top1.
        value: percent for accuracies.
        n: images that it was measured on; None in older lines.
        interval: [low, high] in percent, ``intervals.wilson`` at 95 %, of what is a share of n images; else None.
        probe_train: split that the probe was fitted on; "" where none was, and in older lines.
        labels: share of the labelled training images that the probe had, in (0, 1].
        hyperparameters: what the probe used or chose (on the validation split).
        extra: what else the probe reports, its validation accuracy among it.
        seconds: wall time of the probe.
        converged: the optimiser's own word, None where it gives none.
        date (UTC), commit, hardware, recipe (its hash): where the number comes from.
        setting: hash of the recipe without its seed, its text and what a line says of its probe: lines that agree in
            it and in those fields differ in seed only and may be averaged. Empty in older files.
        representation_size: values of pre_logits, None where it was not written.
        task: the pretext's options, all of them, nested ones as dicts: {"temperature": 0.1, "cld": {"weight": 1.0, …}}.
        training: what decides how long on what: split, batch_size, epochs, max_steps. Both are {} in old lines.
        bench: how the probe saw images, as ``identity.seen`` says it; None where no probe did, and in older lines.
    """

    pretext: str
    backbone: str
    width: int
    dataset: str
    seed: int
    steps: int | None
    weights: str
    endpoint: str
    probe: str
    probe_dataset: str
    split: str
    metric: str
    value: float
    n: int | None = None
    interval: list | None = None
    name: str = ""
    preset: str = ""
    paper: str = ""
    probe_train: str = ""
    labels: float = 1.0
    hyperparameters: dict = field(default_factory=dict)
    extra: dict = field(default_factory=dict)
    seconds: float = 0.0
    converged: bool | None = None
    date: str = ""
    commit: str = ""
    hardware: str = ""
    recipe: str = ""
    setting: str = ""
    representation_size: int | None = None
    task: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)
    bench: dict | None = None

    @property
    def schedule(self):
        """Epochs of both drops and the end of the paper's SGD probe, or None: 30/50/70, 120/140/160, 480/500/520."""
        epochs = self.hyperparameters.get("schedule")
        return None if epochs is None else tuple(epochs)

    @property
    def key(self):
        """What the number is of: two results of one key are the same measurement made twice."""
        return (
            self.pretext, self.backbone, self.width, self.dataset, self.seed, self.steps, self.weights, self.endpoint,
            self.probe, self.schedule, self.probe_dataset, self.labels, self.split, self.metric, self.recipe,
            self.setting,
        )


_KINDS = typing.get_type_hints(Result)


def write_results(path, results):
    """Adds results to a jsonl file; an older measurement of the same key is replaced. Atomic: all lines or none."""
    kept = {r.key: r for r in results_of_run(path)}
    kept.update({r.key: r for r in results})
    write_atomically(path, as_lines(kept.values()))


def as_lines(results):
    """The text of a jsonl file."""
    return "".join(json.dumps(dataclasses.asdict(r), sort_keys=True) + "\n" for r in results)


def read_results(path):
    """[Result] of a jsonl file.

    Raises:
        InputError: no such file, or a line that is no result.
    """
    if not tf.io.gfile.exists(path):
        raise InputError(f"no results at {path}; a run writes results.jsonl into its workdir")
    results, damage = _parsed(path)
    require(not damage, f"{path} {'; '.join(damage[:1])}; remove the line")
    return results


def results_of_run(path):
    """[Result] of the jsonl file that a run itself writes: [] where there is none; of one with damaged lines the
    others, which then are the file, the damaged one being set aside."""
    if not tf.io.gfile.exists(path):
        return []
    results, damage = _parsed(path)
    if damage and set_aside(path, "; ".join(damage[:1]) + (f"; {len(damage)} such lines" if damage[1:] else "")):
        write_atomically(path, as_lines(results))
    return results


def _parsed(path):
    """([Result], [what is wrong with a line])"""
    with tf.io.gfile.GFile(path, "rb") as file:
        lines = file.read().decode(errors="replace").splitlines()
    results, damage = [], []
    for number, line in enumerate(lines, 1):
        try:
            results.append(_from_json(line))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            damage.append(f"line {number} is not a result ({reason(error)})")
    return results, damage


def _from_json(line):
    values = json.loads(line)
    for name, hint in _KINDS.items():
        if name in values:
            require(fits(values[name], hint), f"{name} is {values[name]!r}; expected {name_of(hint)}")
    return Result(**values)


def provenance():
    """{"date", "commit", "hardware"} of this process."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": _commit(),
        "hardware": hardware(),
    }


def environment():
    """What a run writes beside its recipe: machine, versions, devices, command."""
    import keras
    import numpy

    return provenance() | machine() | {
        "command": " ".join(sys.argv),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "devices": [d.name for d in tf.config.list_logical_devices()],
    }


def _commit():
    folder = os.path.dirname(os.path.abspath(__file__))
    try:
        # describe --always --dirty says "abc1234-dirty" for a tree with changes: such a number cannot be reproduced.
        done = subprocess.run(
            ["git", "-C", folder, "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"],
            capture_output=True, text=True, timeout=10,
        )
        return done.stdout.strip() if done.returncode == 0 else "unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
