"""The labelled sets of probes: opened as the bench's spec says, and refused where a probe cannot use them."""

import numpy as np

from revisit_ssl.data import DATASETS, open_source
from revisit_ssl.data.catalogue import find_dataset
from revisit_ssl.detection.sets import DETECTION_SETS, has_boxes
from revisit_ssl.detection.sources import box_source, only_boxes
from revisit_ssl.errors import InputError, require, unknown
from revisit_ssl.evaluators import PROBES, Probe
from revisit_ssl.evaluators.base import class_groups

NEEDED = {"one": "a single label", "several": "several labels for each image", "queries": "queries", "boxes": "boxes"}


def labelled_sources(recipe, data_dir=None, opened=open_source):
    """{"train", "val", "test"} of the probe set; with probe_train trainval "val" is in "train" and measures nothing.

    Args:
        recipe: Recipe.
        data_dir: where TFDS data sets lie.
        opened: ``data.open_source``, or for a plan ``data.known_source``.

    Raises:
        InputError: it has no labels.
    """
    name, spec = recipe.probed_dataset, recipe.bench
    instead = f"probes need labels and {name} has queries, --probes instance_retrieval is for that"
    require(not find_dataset(name)[0].asks, f"{instead}; or add --probe-dataset NAME")
    options = {"data_dir": data_dir, "seed": recipe.seed}
    sources = {
        "train": opened(name, spec.train, fraction=spec.fraction, balanced=spec.balanced, **options),
        "val": opened(name, "val", **options),
        "test": opened(name, spec.split, **options),
    }
    if sources["train"].num_classes is None:
        what = "has none"
        if sources["train"].multi_labels is not None:
            what = "has several for each image, --probes voc_svm is for that"
        raise InputError(f"probes need labels and {name} {what}; add --probe-dataset NAME, or --probes with none")
    return sources


def multi_label_sources(recipe, data_dir=None, opened=open_source):
    """{"train", "test"} of a probe set with several labels for each image: trainval and test, or train and val where
    the recipe scores val. For probes that choose also {"fit", "val"}, train and val. Arguments as of
    ``labelled_sources``.

    Raises:
        InputError: it is no such set.
    """
    name, spec = recipe.probed_dataset, recipe.bench
    options = {"data_dir": data_dir, "seed": recipe.seed}
    sources = {
        "train": opened(name, fitted_on(recipe), fraction=spec.fraction, **options),
        "test": opened(name, spec.split, **options),
    }
    if any(p.chooses for p in recipe.probes.values()):
        sources |= {"fit": opened(name, "train", **options), "val": opened(name, "val", **options)}
    if sources["train"].multi_labels is None:
        probe = next(name for name, p in recipe.probes.items() if p.labels == "several")
        raise InputError(f"{probe} needs several labels for each image and {name} has none; add --probe-dataset voc")
    return sources


def query_sources(recipe, data_dir=None, opened=open_source):
    """{"train", "test"} of a set for instance retrieval: images to learn a whitening on, and the database that is
    asked; where nothing is learned, the database is both. Arguments as of ``labelled_sources``.

    Raises:
        InputError: it is no such set.
    """
    name, spec = recipe.probed_dataset, recipe.bench
    options = {"data_dir": data_dir, "seed": recipe.seed}
    if not find_dataset(name)[0].asks:
        known = ", ".join(key for key, dataset in DATASETS.items() if dataset.asks)
        raise InputError(f"instance_retrieval needs queries and {name} has none; add --probe-dataset, one of {known}")
    test = opened(name, spec.split, **options)
    learns = any(p.learns for p in recipe.probes.values())
    return {"train": opened(name, "train", fraction=spec.fraction, **options) if learns else test, "test": test}


def box_sources(recipe, data_dir=None, opened=open_source):
    """{"train", "test"} of a set with boxes: BoxSources of trainval and test, or train and val where the recipe scores
    val. Arguments as of ``labelled_sources``.

    Raises:
        InputError: it is no such set.
    """
    name, spec = recipe.probed_dataset, recipe.bench
    known = ", ".join(sorted(DETECTION_SETS))
    probe = next(name for name, p in recipe.probes.items() if p.labels == "boxes")
    require(has_boxes(name), f"{probe} needs boxes and {name} has none; add --probe-dataset, one of {known}")
    options = {"data_dir": data_dir, "seed": recipe.seed}
    return {
        "train": box_source(name, fitted_on(recipe), fraction=spec.fraction, **options),
        "test": box_source(name, spec.split, **options),
    }


def probe_sources(recipe, data_dir=None, opened=open_source):
    """The sources that the recipe's probes take: ``labelled_sources``, ``multi_label_sources``, ``query_sources`` or
    ``box_sources``."""
    known = {
        "one": labelled_sources, "several": multi_label_sources, "queries": query_sources, "boxes": box_sources,
    }
    name, kinds = recipe.probed_dataset, [p.labels for p in recipe.probes.values()] or ["one"]
    fits = kinds[0] == "boxes" or not only_boxes(name)
    require(fits, f"{name} has boxes and no labels of images; take --probes detection, or another --probe-dataset")
    return known[kinds[0]](recipe, data_dir, opened)


def trains_on_all(recipe):
    """Whether the recipe's probes are for images with several labels each, or with boxes: these learn from trainval."""
    return any(p.labels in ("several", "boxes") for p in recipe.probes.values())


def fitted_on(recipe):
    """The split that the recipe's probes are fitted on."""
    if trains_on_all(recipe):
        return "train" if recipe.bench.split == "val" else "trainval"
    return recipe.bench.train


def training_groups(recipe, source, data_dir=None):
    """``class_groups`` of the probes' training split, counted before any share of its labels is drawn."""
    if source.num_classes is None:
        return {}
    if recipe.bench.fraction not in (None, 1):
        source = open_source(recipe.probed_dataset, recipe.bench.train, data_dir=data_dir, seed=recipe.seed)
    return class_groups(np.bincount(source.labels[source.labels >= 0], minlength=source.num_classes))


def check_probes(recipe, data_dir=None, opened=open_source):
    """The sources of the recipe's probes, {} without probes; InputError for an unknown probe, or a set that they cannot
    use: what can be known before training."""
    for name, probe in recipe.probes.items():
        if name not in PROBES and not isinstance(probe, Probe):
            raise unknown("probe", name, sorted(PROBES))
        plain = f"the options of {name} are plain values; read the recipe with read_recipe(workdir, PROBES)"
        require(isinstance(probe, Probe), plain)
    by_labels = {probe.labels: name for name, probe in reversed(recipe.probes.items())}
    if len(by_labels) > 1:
        wants = (f"{name} one with {NEEDED[labels]}" for labels, name in sorted(by_labels.items(), reverse=True))
        after = "probe one after the other: revisit-ssl evaluate WORKDIR --probes … --probe-dataset …"
        raise InputError(f"{', '.join(wants).replace(' one with', ' needs a set with', 1)}; {after}")
    sources = probe_sources(recipe, data_dir, opened) if recipe.probes else {}
    for probe in recipe.probes.values():
        probe.check(sources)
    return sources
