"""Probe a saved backbone: revisit-ssl evaluate runs/my-run --probes linear lbfgs --endpoints pre_logits

Takes a workdir (its recipe.json and backbone.keras). Any recipe field that evaluation reads can be changed by a flag:
another labelled set (--probe-dataset), a share of its labels (--probe-fraction), other probes and endpoints.
"""

import shlex
import sys
from dataclasses import dataclass
from typing import Literal

import tyro

from revisit_ssl.commands.flags import guarded, read_flags
from revisit_ssl.startup import quiet_import


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


def main(arguments=None, *, form="revisit-ssl evaluate"):
    """The command; returns the exit status. ``form`` is how it was called, for hints."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)

    def work():
        options = read_flags(Evaluation, arguments, prog=form)
        with quiet_import():
            from revisit_ssl.commands.work import evaluate_saved  # after the flags: help needs no TensorFlow
        return evaluate_saved(options)

    return guarded(work, f"{form} {shlex.join(arguments)}")
