"""Data: sets by name or folder, splits and subsets, and batches that can start at any step."""

from revisit_ssl.data.batches import eval_batches, steps_per_epoch, train_batches
from revisit_ssl.data.decoding import EvalView
from revisit_ssl.data.sources import DATASETS, DatasetSpec, Source, open_source

__all__ = [
    "DATASETS",
    "DatasetSpec",
    "EvalView",
    "Source",
    "eval_batches",
    "open_source",
    "steps_per_epoch",
    "train_batches",
]
