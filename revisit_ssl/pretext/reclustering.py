"""One clustering of all images: features, PCA, k-means on two levels; what a checkpoint keeps of it."""

import contextlib
import os
import shutil
import tempfile

import keras
import numpy as np

from revisit_ssl.clustering.agreement import cluster_sizes, nmi, purity
from revisit_ssl.clustering.rows import Rows, write_rows
from revisit_ssl.clustering.two_levels import two_levels
from revisit_ssl.clustering.whitening import fit_whitening
from revisit_ssl.clustering.workers import Workers
from revisit_ssl.distribute import to_numpy
from revisit_ssl.features.extract import FeatureSpec, extract_features
from revisit_ssl.features.representation import NetworkInput

FOLDER = "clustering"  # in a run's folder, while features are clustered


class Clusters(keras.layers.Layer):
    """The last clustering, as weights, so that a checkpoint holds it.

    Args:
        images: N.
        m, k: super-clusters, and clusters inside of each.
        width, dim: values of a feature, and after PCA.
        classes: whether agreement with classes is kept.
    """

    def __init__(self, images, m, k, width, dim, classes, name="clusters"):
        super().__init__(name=name, dtype="float32")
        # The same on every replica, whatever the strategy makes of it.
        own = {"trainable": False, "aggregation": "only_first_replica", "initializer": "zeros"}
        self.labels = self.add_weight(shape=(images, 2), name="labels", dtype="int64", **own)
        self.epoch = self.add_weight(shape=(), name="epoch", dtype="int64", **own)  # of the clustering, and one
        self.mean = self.add_weight(shape=(width,), name="mean", **own)
        self.directions = self.add_weight(shape=(width, dim), name="directions", **own)
        self.upper = self.add_weight(shape=(m, dim), name="upper", **own)
        self.lower = self.add_weight(shape=(m, k, dim), name="lower", **own)
        self.facts = ("used", "largest", "nmi_before") + (("nmi_classes", "purity") if classes else ())
        self.numbers = self.add_weight(shape=(len(self.facts),), name="numbers", **own)
        self.built = True

    def is_due(self, epoch, every):
        """Whether the clustering of this epoch's cycle is still to be made."""
        return int(to_numpy(self.epoch)) != epoch // every * every + 1

    def scalars(self):
        """{fact: float32 scalar} of the last clustering, for the log."""
        return {name: self.numbers.value[i] for i, name in enumerate(self.facts)}

    def flat(self):
        """int64 [N]: one number for each cluster of each super-cluster."""
        upper, lower = to_numpy(self.labels).T
        return upper * self.lower.shape[1] + lower


def recluster(model, source, epoch, folder=None):
    """Clusters all images by the network as it is, and writes the outcome into ``model.clustering``.

    A pure function of the weights, the images, the seed and the epoch: what is killed in here is done again by a run
    that goes on, to the same bits on one machine. Features that were already written are taken as they are.

    Args:
        model: DeeperCluster.
        source: data.Source.
        epoch: int, that begins.
        folder: of the run; None, or no local one: files lie in a temporary folder.

    Raises:
        InputError: features that are all the same, or a disk that is full.
    """
    o, held = model.options, model.clustering
    k = o.sub_clusters
    first = int(to_numpy(held.epoch)) == 0
    before = held.flat()
    if o.clusters > 1:
        strategy = model.distribute_strategy
        workers = Workers(strategy if strategy.num_replicas_in_sync > 1 else None)
        share = workers.share(source.num_examples)
        with working_folder(folder, workers.index) as place:
            features = features_of(model, source, share, workers, place)
            chunks = {"chunk": o.chunk, "workers": workers}
            whitening = fit_whitening(features, o.dim_pca, floor=o.eigenvalue_floor, **chunks)
            path = os.path.join(place, "whitened.npy")
            whitened = (whitening(x) for _, x in features.chunks(o.chunk))
            rows = Rows(write_rows(path, len(features), whitening.directions.shape[1], whitened))
            seed = model.seed * 1_000_003 + epoch * (o.super_clusters + 1)
            options = {"empty": o.empty, "init": o.init, "seed": seed}
            found = two_levels(rows, o.super_clusters, k, o.iterations, **options, **chunks)
        labels = np.zeros([source.num_examples, 2])
        labels[share.start : share.stop] = found.labels
        (labels,) = workers.sum(labels)
        held.labels.assign(labels.astype(np.int64))
        for weight, value in ((held.mean, whitening.mean), (held.directions, whitening.directions),
                              (held.upper, found.upper), (held.lower, found.lower)):
            weight.assign(value)
    now = held.flat()
    facts = cluster_sizes(now, o.clusters) | {"nmi_before": 0.0 if first else nmi(before, now)}
    if "purity" in held.facts:
        facts |= {"nmi_classes": nmi(source.labels, now), "purity": purity(now, source.labels)}
    held.numbers.assign([facts[name] for name in held.facts])
    held.epoch.assign(epoch // o.every * o.every + 1)


def features_of(model, source, share, workers, folder):
    """Rows of the features to be clustered, of this process's images: un-turned, middle crops, in inference mode."""
    mine = source if workers.count == 1 else source.subset(np.arange(share.start, share.stop))
    spec = FeatureSpec(
        endpoints=(model.endpoint,),
        view=model.cluster_view,
        network_input=NetworkInput(normalize=model.view_spec.normalize),
    )
    traced = model.__dict__.setdefault("traced_features", {})  # an attribute would be tracked by Keras
    options = {"cache_dir": folder, "frozen": False, "traced": traced}
    return Rows(extract_features(model.backbone, mine, spec, **options)[model.endpoint])


@contextlib.contextmanager
def working_folder(run, worker=0):
    """Path of the folder in which a process keeps the files of one clustering; it goes when the clustering is done.

    What a killed clustering left is taken up: files of features are named by what they are of.
    """
    local = run is not None and "://" not in str(run)
    place = os.path.join(str(run), f"{FOLDER}-{worker}") if local else tempfile.mkdtemp(prefix="clustering-")
    os.makedirs(place, exist_ok=True)
    try:
        yield place
    except BaseException:
        if not local:
            shutil.rmtree(place, ignore_errors=True)
        raise
    shutil.rmtree(place, ignore_errors=True)

