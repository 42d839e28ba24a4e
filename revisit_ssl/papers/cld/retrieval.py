"""Pictures of CLD's supplement that need images: retrieval by two networks (Figure A.3), a sheet of classes (A.1)."""

import os

import numpy as np

from revisit_ssl.data import EvalView, open_source
from revisit_ssl.data import whole_images as every_image
from revisit_ssl.errors import require
from revisit_ssl.evaluation.evaluate import features_of
from revisit_ssl.evaluation.sets import labelled_sources
from revisit_ssl.features.neighbours import nearest
from revisit_ssl.papers.methods import method_name
from revisit_ssl.recipe import override
from revisit_ssl.report import pictures
from revisit_ssl.report.neighbours import choose_queries, images_at
from revisit_ssl.report.page import Run
from revisit_ssl.runs.files import write_atomically

ENDPOINTS = ("projection", "pre_logits")  # the paper's f_I first


def retrieval_grid(first, second, *, data_dir=None, queries=10, neighbours=8):
    """What two networks retrieve for the same test images from the training images their probes see, by cosine.

    Each row: a query, then the nearest of the first network, then those of the second one; framed green with a tick if
    of the query's class, red with a cross if not. The queries are the first test image of each class, then the second
    one, and so on: none is picked by its result. Rows stand by the first network's number of hits, as in the paper. The
    share above each block is over all test images. The paper does not say what it retrieves from.

    Args:
        first, second: workdirs of two runs with backbone.keras. The first one's recipe says which data set, and how
            many of its labelled images.
        data_dir: where TFDS data sets lie.
        queries, neighbours: rows, and images a network gives to each.

    Returns:
        PNG bytes.

    Raises:
        InputError: no run there, images without labels, networks without a common endpoint.
    """
    runs = [Run(str(workdir), data_dir) for workdir in (first, second)]
    sources = labelled_sources(runs[0].recipe, data_dir)
    gallery, test = sources["train"], sources["test"]
    common = [name for name in ENDPOINTS if all(name in run.backbone.output for run in runs)]
    require(common, f"{first} and {second} have none of the endpoints {', '.join(ENDPOINTS)} in common")
    rows = choose_queries(test.labels, test.num_examples, queries)
    view = EvalView.of(runs[0].recipe)
    shown = images_at(test, view, set(map(int, rows)))
    found, same, hits = {}, {}, []
    for run, name in zip(runs, block_names(runs), strict=True):
        recipe = override(run.recipe, bench__endpoints=common[:1])
        features = [features_of(run.backbone, recipe, source, run.workdir)[common[0]] for source in (test, gallery)]
        _, ranked = nearest(*features, min(neighbours, gallery.num_examples))  # [test images, neighbours]
        right = gallery.labels[ranked] == test.labels[:, None]
        images = images_at(gallery, view, set(map(int, ranked[rows].flat)))
        title = f"{name}: {100 * right.mean():.0f} % are of the query's class (all {len(right):,} test images)"
        found[title] = np.stack([[images[int(i)] for i in row] for row in ranked[rows]])
        same[title] = right[rows]
        hits.append(right[rows].sum(axis=1))
    order = np.lexsort((-hits[1], -hits[0]))  # most hits of the first one on top, among equals of the second one
    return pictures.neighbours(
        np.stack([shown[int(i)] for i in rows[order]]),
        {title: images[order] for title, images in found.items()},
        {title: right[order] for title, right in same.items()},
    )


def write_retrieval(runs, folder, data_dir):
    """Writes ``retrieval_grid`` of two runs for the page in that folder; its path."""
    require(len(runs) == 2, f"retrieval compares two runs, not {len(runs)}")
    return write_picture(folder, "retrieval", retrieval_grid(*runs, data_dir=data_dir))


def write_sample_sheet(datasets, folder, data_dir):
    """Writes ``sample_sheet`` of one data set for the page in that folder; its path."""
    require(len(datasets) == 1, f"a sample sheet is of one data set, not {len(datasets)}")
    return write_picture(folder, "sample_sheet", sample_sheet(datasets[0], data_dir=data_dir))


def write_picture(folder, name, png):
    """Writes PNG bytes into the folder's cld/ and returns the path."""
    path = os.path.join(folder, "cld", f"{name}.png")
    write_atomically(path, png)
    return path


def block_names(runs):
    """NPID and NPID + CLD; with their folders where both are the same."""
    names = [method_name(run.name) for run in runs]
    if names[0] != names[1]:
        return names
    folders = [os.path.basename(os.path.normpath(run.workdir)) for run in runs]
    return [f"{name} ({folder})" for name, folder in zip(names, folders, strict=True)]


def sample_sheet(dataset, *, data_dir=None, split="train", classes=20, samples=10):
    """Whole images of each class, one row per class.

    Args:
        dataset: any labelled one that ``open_source`` knows.
        data_dir, split: as for ``open_source``.
        classes: at most as many rows; of more classes, that many at equal distances.
        samples: images of each, at equal distances in the split: neighbours may be frames of one film.

    Returns:
        PNG bytes.

    Raises:
        InputError: no labels; what ``open_source`` raises.
    """
    source = open_source(dataset, split, data_dir=data_dir)
    require(source.labels is not None, f"{dataset} has no labels, and so no classes to show")
    present = np.unique(source.labels)
    present = present[spread(len(present), classes)]
    rows = {}
    for c in present:
        mine = np.flatnonzero(source.labels == c)
        rows[source.class_names[c].replace("_", " ")] = mine[spread(len(mine), samples)]
    images = whole_images(source, np.unique(np.concatenate(list(rows.values()))))
    return pictures.classes({name: [images[int(i)] for i in mine] for name, mine in rows.items()})


def spread(count, wanted):
    """int64 [min(count, wanted)]: places at equal distances among ``count``, the first one among them."""
    return np.arange(min(count, wanted)) * count // min(count, wanted)


def whole_images(source, rows):
    """{index: float [h, w, 3] in [0, 1]}, each in its own size; ``rows`` ascending."""
    shown = (example["image"] for example in every_image(source.subset(rows)).as_numpy_iterator())
    return {int(i): image / 255.0 for i, image in zip(rows, shown, strict=True)}
