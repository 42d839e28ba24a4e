"""Data: sets by name or folder, splits and subsets, and batches that can start at any step."""

from revisit_ssl.data.batches import eval_batches, eval_crops, steps_per_epoch, train_batches, whole_images
from revisit_ssl.data.catalogue import DATASETS, about_source, data_report, known_size, open_source
from revisit_ssl.data.dataset import SPLITS, Dataset, Request
from revisit_ssl.data.decoding import EvalView
from revisit_ssl.data.known import known_source
from revisit_ssl.data.sources import Source
from revisit_ssl.data.tfds_sets import TfdsSet

__all__ = [
    "DATASETS",
    "SPLITS",
    "Dataset",
    "EvalView",
    "Request",
    "Source",
    "TfdsSet",
    "about_source",
    "data_report",
    "eval_batches",
    "eval_crops",
    "known_size",
    "known_source",
    "open_source",
    "steps_per_epoch",
    "train_batches",
    "whole_images",
]
