"""What probes measure on: a frozen network and labelled images, whose features are extracted once."""

import dataclasses

from revisit_ssl.data import EvalView
from revisit_ssl.data.catalogue import labels_of
from revisit_ssl.detection.sources import only_boxes
from revisit_ssl.evaluators.base import FeatureSplit
from revisit_ssl.features.checks import check_endpoints, check_frozen
from revisit_ssl.features.extract import FeatureSpec, extract_features
from revisit_ssl.features.representation import NetworkInput, images_at_once


class Bench:
    """A frozen network and the splits of a labelled set.

    Args:
        backbone: frozen keras.Model with named endpoints.
        sources: {"train", "val", "test": data.Source}; a set of several labels, or with boxes, may have no "val".
        recipe: Recipe; of it count ``bench``, what its ``views`` say of crops and patches, ``task`` and the seed.
        cache_dir: local folder of features, which several benches may share; None keeps them in memory.
        quiet: show no bar of what is extracted.
        folder: local, in which a probe that trains for hours keeps what it needs to go on; None: it cannot.

    Attributes:
        backbone, sources, endpoints, task, seed, quiet, folder: as given.
        spec: BenchSpec.
        view: EvalView, what is cut from an image.
        network_input: NetworkInput, what the network sees of that.
        num_classes, class_names: of the labels, one for each image or several.

    Raises:
        InputError: a trainable backbone, an unknown endpoint.
    """

    def __init__(self, backbone, sources, recipe, cache_dir=None, quiet=True, folder=None):
        check_frozen(backbone)
        check_endpoints(backbone, recipe.bench.endpoints)
        self.backbone = backbone
        self.sources = sources
        self.spec = recipe.bench
        self.endpoints = recipe.bench.endpoints
        self._recipe = recipe
        self.task = recipe.task
        self.seed = recipe.seed
        self.view = EvalView.of(recipe)
        self.network_input = NetworkInput.of(recipe)
        train = sources["train"]
        several = train.multi_labels is not None
        self.class_names = train.multi_label_names if several else train.class_names
        self.num_classes = len(train.multi_label_names) if several else train.num_classes
        self._cache_dir = cache_dir
        self.quiet, self.folder = quiet, folder
        self._wanted = FeatureSpec(
            endpoints=self.endpoints, view=self.view, network_input=self.network_input, max_values=self.spec.values,
            pooling=self.spec.pooling,
        )
        self._extracted = {}
        self._traced = {}  # one graph for all splits
        self._largest = max(source.num_examples for source in sources.values())

    @property
    def label_share(self):
        """Share of the labelled training images there are that the probes have, in (0, 1]; 0.01 of ImageNet's also
        where these are a set of their own."""
        return label_share(self._recipe)

    def images(self, split):
        """The data.Source of a split."""
        return self.sources[split]

    def labels(self, split):
        """int [N], or int8 [N, C] of a set with several labels for each image: 1 present, 0 absent, -1 difficult."""
        source = self.sources[split]
        return source.labels if source.multi_labels is None else source.multi_labels

    def features(self, split, endpoint, *, view=None, mirror=False):
        """float32 [N, d], read-only where there is a ``cache_dir``; all endpoints are extracted in one pass.

        Args:
            split, endpoint: names.
            view: EvalView instead of the bench's own.
            mirror: of the images with left and right exchanged.
        """
        wanted = dataclasses.replace(self._wanted, view=view or self.view, mirror=mirror)
        if (split, wanted) not in self._extracted:
            at_once = images_at_once(self.backbone, wanted.view.size, self.network_input)
            self._extracted[split, wanted] = extract_features(
                self.backbone, self.sources[split], wanted, cache_dir=self._cache_dir,
                batch_size=min(self._largest, at_once), traced=self._traced, quiet=self.quiet,
            )
        return self._extracted[split, wanted][endpoint]

    def split(self, split, endpoint, *, view=None, mirrored=False):
        """FeatureSplit: features and labels of a split; ``mirrored``: features of the mirrored images too."""
        return FeatureSplit(
            self.features(split, endpoint, view=view),
            self.labels(split),
            f"{endpoint} of {split}",
            self.features(split, endpoint, view=view, mirror=True) if mirrored else None,
        )

    def three(self, endpoint):
        """The FeatureSplits of train, val and test."""
        return tuple(self.split(split, endpoint) for split in ("train", "val", "test"))


def label_share(recipe):
    """``Bench.label_share`` of a recipe."""
    name = recipe.probed_dataset
    return round((recipe.bench.fraction or 1.0) * (1.0 if only_boxes(name) else labels_of(name)[1]), 6)
