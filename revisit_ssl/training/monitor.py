"""--monitor knn:N: what the features are worth while training goes on. Logged, never used to select anything."""

import math
import os
import re
import sys

import keras
import numpy as np

from revisit_ssl.data import EvalView, open_source
from revisit_ssl.distribute import is_chief, to_numpy
from revisit_ssl.errors import InputError
from revisit_ssl.features.batchnorm import average_statistics
from revisit_ssl.features.checks import check_labels
from revisit_ssl.features.collapse import effective_rank, feature_std
from revisit_ssl.features.extract import FeatureSpec, extract_features
from revisit_ssl.features.neighbours import class_scores
from revisit_ssl.features.representation import NetworkInput
from revisit_ssl.recipe import ProbeOptions
from revisit_ssl.runs.files import write_atomically
from revisit_ssl.runs.intervals import within
from revisit_ssl.training.progress import LOOKS, read_log

GALLERY, QUERIES, NEIGHBOURS = 2000, 1000, 200
TEST_COLUMN = "knn_on_test_top1"


def parse_monitor(text):
    """("val" of "knn:N" or "test" of "knn_test:N", N), or None."""
    if text is None:
        return None
    kind, _, every = str(text).partition(":")
    split = {"knn": "val", "knn_test": "test"}.get(kind)
    if split is None or not re.fullmatch("[1-9][0-9]{0,8}", every):
        raise InputError(
            f"monitor {text!r} is not known; expected knn:N or knn_test:N, N epochs between two looks, such as knn:1"
        )
    return split, int(every)


def watched_endpoint(recipe):
    """Whose features are looked at: projection where the recipe probes that, else pre_logits."""
    return "projection" if "projection" in recipe.bench.endpoints else "pre_logits"


def knn_temperature(recipe):
    """The one of the recipe's knn probe where it has one, else of its instance loss as in CLD's scripts, else 0.1."""
    probe, own = recipe.probes.get("knn"), getattr(recipe.task, "temperature", 0.1)
    if isinstance(probe, ProbeOptions):
        return probe.settled(recipe.task).temperature
    given = (probe or {}).get("temperature")  # a recipe that was read without the probes has plain values
    return own if given is None else given


class Monitor(keras.callbacks.Callback):
    """Every N epochs: kNN accuracy, feature standard deviation and effective rank.

    "val": of 1,000 validation images against 2,000 training images. "test", the protocol of the CLD scripts: of all
    test images against all labelled training images, in a column whose name says so, after the last step too.
    The features are projection where the recipe probes that, else pre_logits. Warns of collapse where their rows
    hardly differ: effective rank below 2, or a standard deviation of unit rows under a tenth of 1/sqrt(d), which is
    that of directions spread evenly.
    """

    def __init__(self, backbone, recipe, every, workdir, data_dir, *, split="val", plan=None):
        super().__init__()
        self.backbone = backbone
        self.recipe = recipe
        self.every = every
        self.path = os.path.join(workdir, LOOKS)
        self.split = split
        self.plan = plan
        self.last = plan.total if plan and split == "test" else None
        self.endpoint = watched_endpoint(recipe)
        self.sources = [
            open_source(recipe.probed_dataset, part, data_dir=data_dir, seed=recipe.seed)
            for part in (recipe.bench.train if split == "test" else "train", split)
        ]
        if split == "val":
            gallery, queries = self.sources
            self.sources = [gallery.sample(GALLERY, recipe.seed), queries.sample(QUERIES, recipe.seed)]
        for source in self.sources if self.sources[0].num_classes is not None else ():
            check_labels(source.labels, source.num_classes, f"{source.name} {source.split}")

    def on_epoch_end(self, epoch, logs=None):
        step = int(to_numpy(self.model.optimizer.iterations))
        if (epoch + 1) % self.every == 0 or step == self.last:
            average_statistics(self.model)  # what is looked at is what would be saved now
            self.note(step, epoch + 1)

    def catch_up(self, step):
        """The look after ``step`` steps that a stop between them and the look has prevented."""
        epoch, rest = math.ceil(step / self.plan.per_epoch), step % self.plan.per_epoch
        due = (rest == 0 and epoch % self.every == 0) or step == self.last
        if step and due and all(row["step"] != step for row in read_log(self.path)):
            self.note(step, epoch)

    def note(self, step, epoch):
        """One more row of monitor.csv."""
        row = {"step": step, "epoch": epoch} | self.look() | {"images": self.sources[1].num_examples}
        if not is_chief():
            return
        rows = [r for r in read_log(self.path) if r["step"] < row["step"]] + [row]
        lines = [",".join(row)] + [",".join(f"{r.get(k, float('nan')):.6g}" for k in row) for r in rows]
        write_atomically(self.path, "\n".join(lines) + "\n")
        known = {k: f" [{within((v,), row['images'])}]" for k, v in row.items() if k.endswith("top1")}
        seen = "  ".join(f"{k} {v:.3f}{known.get(k, '')}" for k, v in row.items() if k not in ("step", "images"))
        print(f"\nmonitor {seen}  on {row['images']:,} images", file=sys.stderr)
        if row["effective_rank"] < 2 or row["feature_std_ratio"] < 0.1:
            print(
                f"warning: features have collapsed at epoch {epoch} (effective rank {row['effective_rank']:.1f}, "
                f"deviation {row['feature_std_ratio']:.2f} of an even spread)",
                file=sys.stderr,
            )

    def look(self):
        """{column: number} of the network as it is: kNN accuracy where there are labels, and the two of collapse."""
        spec = FeatureSpec(
            endpoints=(self.endpoint,), view=EvalView.of(self.recipe), network_input=NetworkInput.of(self.recipe)
        )
        features = [
            extract_features(self.backbone, source, spec, frozen=False)[self.endpoint] for source in self.sources
        ]
        values = features[1][:QUERIES]
        scores = {"effective_rank": effective_rank(values)}
        scores["feature_std_ratio"] = feature_std(values) * np.sqrt(values.shape[1])
        if self.sources[0].num_classes is not None:
            scores = {TEST_COLUMN if self.split == "test" else "knn_top1": self.accuracy(*features)} | scores
        return scores

    def accuracy(self, gallery, queries):
        """Percent of the queries whose class the 200 nearest rows of the gallery vote for, as in the probe ``knn``."""
        (labels, own), classes = (s.labels for s in self.sources), self.sources[0].num_classes
        k = min(NEIGHBOURS, len(gallery))
        scores = class_scores(queries, gallery, labels, classes, k, knn_temperature(self.recipe))
        return float(100 * np.mean(np.argmax(scores, axis=1) == own))
