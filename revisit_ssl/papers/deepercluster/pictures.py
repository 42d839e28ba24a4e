"""Pictures of DeeperCluster's supplement that need data: how often labels and hashtags occur (Figure 1), and clusters
(Figures 2 to 4)."""

import os

import numpy as np
import tensorflow as tf
from matplotlib import rc_context
from matplotlib.figure import Figure

from revisit_ssl.data import open_source
from revisit_ssl.errors import require
from revisit_ssl.report import names, pictures
from revisit_ssl.report.clusters import FOLDER as CLUSTERS
from revisit_ssl.report.clusters import write_clusters
from revisit_ssl.runs.files import write_atomically

FOLDER = "deepercluster"
COLOURS = (pictures.RED, pictures.BLUE, pictures.GREEN, pictures.DARK)


def counts_of(source):
    """int64, descending: images of each class of a Source; of a store images of each hashtag. None has 0.

    Raises:
        InputError: a source without either.
    """
    if source.labels is not None:
        counts = np.bincount(source.labels[source.labels >= 0])
    elif source.multi_labels is not None:
        counts = (np.asarray(source.multi_labels) == 1).sum(axis=0)
    else:
        told = f"{source.name} has no labels and no hashtags to count"
        require(source.text is not None and source.kind == "store", told)
        tags = (tag for line in source.text("hashtags") for tag in set(line.split()))
        counts = np.unique(np.array([*tags], str), return_counts=True)[1]
    counts = np.sort(counts[counts > 0])[::-1].astype(np.int64)
    require(len(counts), f"{source.name} has no labels and no hashtags to count")
    return counts


def distribution(sources):
    """Images of each label or hashtag over its rank, both axes logarithmic: Figure 1.

    Args:
        sources: [data.Source].

    Returns:
        PNG bytes.
    """
    with rc_context(pictures.STYLE):
        figure = Figure(figsize=(5.5, 3.4), layout="constrained")
        panel = figure.subplots()
        for i, source in enumerate(sources):
            counts = counts_of(source)
            what = "hashtags" if source.labels is None and source.multi_labels is None else "labels"
            label = f"{names.dataset_name(source.name)}, {len(counts):,} {what}"
            panel.loglog(np.arange(1, len(counts) + 1), counts, color=COLOURS[i % len(COLOURS)], label=label)
        panel.set_xlabel("rank")
        panel.set_ylabel("images")
        panel.set_ylim(bottom=0.8)
        panel.legend()
        return pictures.png(figure)


def write_distribution(datasets, folder, data_dir):
    """Writes ``distribution`` of the training images of data sets for the page in that folder; its path."""
    require(datasets, "distribution wants the names of data sets, such as yfcc100m imagenet2012")
    png = distribution([open_source(name, "train", data_dir=data_dir) for name in datasets])
    path = os.path.join(folder, FOLDER, "distribution.png")
    write_atomically(path, png)
    return path


def write_gallery(runs, folder, data_dir):
    """Writes the page of the clusters of runs, the last one's clusters of one colour for the page of the paper too;
    the path of the first."""
    require(runs, "clusters wants the workdirs of runs: RotNet's and DeeperCluster's, both on colours, as in Figure 2")
    page = write_clusters(runs, folder, data_dir=data_dir)
    stem = os.path.basename(os.path.normpath(runs[-1]))
    with tf.io.gfile.GFile(os.path.join(folder, CLUSTERS, f"{stem}-colours.png"), "rb") as file:
        write_atomically(os.path.join(folder, CLUSTERS, "colours.png"), file.read())
    return page
