"""Clusters of what a network sees, as pages of pictures: contact sheets by purity or size, how much is colour alone.

Figures 2, 3 and 4 of the supplement of arXiv:1905.01278, and the sheets of its main paper's Figure 5, for any run and
any images.
"""

import os
import textwrap
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from matplotlib import rc_context
from matplotlib.figure import Figure

from revisit_ssl.clustering.agreement import colour_deviation, nmi
from revisit_ssl.clustering.flat import flat_clusters
from revisit_ssl.data import EvalView
from revisit_ssl.errors import check_choice, require
from revisit_ssl.evaluation.evaluate import features_of
from revisit_ssl.evaluators.clusters import mean_colours
from revisit_ssl.recipe import override
from revisit_ssl.report import pictures
from revisit_ssl.report.blocks import Heading, KeyNumbers, Picture, Text
from revisit_ssl.report.page import Run, images_at
from revisit_ssl.report.pages import write_page
from revisit_ssl.training.build import open_pretraining

IMAGES, SHOWN, MEMBERS = 5000, 24, 9
ORDERS = ("purity", "size")
FOLDER = "clusters"
COLOURS = (pictures.BLUE, pictures.GREEN, pictures.RED, pictures.DARK)


@dataclass(frozen=True)
class Cluster:
    """One cluster of images.

    Attributes:
        members: int [n], places of its images, the nearest to its middle first.
        name: the label or tag that most of them have; "" where there are none.
        purity: share of its images with that label; 0 where there are none.
        colour: float [3] in [0, 1], the mean of its images' mean colours.
        deviation: root of the mean squared distance of those from ``colour``.
    """

    members: np.ndarray
    name: str
    purity: float
    colour: np.ndarray
    deviation: float


def clusters_of(labels, near, colours, said=None):
    """[Cluster] of a labelling.

    Args:
        labels, near: of ``flat_clusters``.
        colours: float [N, 3].
        said: [N] of sets of str, what is known of each image: its class, its tags; None: nothing.
    """
    found = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(-near[members], kind="stable")]
        counts = {}
        for place in members if said is not None else ():
            for word in said[place]:
                counts[word] = counts.get(word, 0) + 1
        name = max(counts, key=counts.get) if counts else ""
        mine = colours[members]
        found.append(
            Cluster(
                members, name, counts.get(name, 0) / len(members), mine.mean(axis=0),
                float(colour_deviation(mine, np.zeros(len(mine), int))[0]),
            )
        )
    return found


def ranked(clusters, by):
    """The clusters, those of highest purity or size first; of equal purity the larger first. Without labels by size."""
    check_choice("clusters by", by, ORDERS)
    pure = by == "purity" and any(c.name for c in clusters)
    return sorted(clusters, key=lambda c: (-c.purity if pure else 0, -len(c.members)))


def cluster_blocks(workdir, *, data_dir=None, by="purity", images=IMAGES, k=None):
    """The blocks of one run's clusters, and the colour deviations that Figure 2 draws.

    Args:
        workdir: of a run with backbone.keras; images of the split that it was trained on are clustered by its deepest
            endpoint, or that of a vector, as its recipe's probes see them.
        data_dir: where TFDS data sets lie.
        by: "purity" or "size", the order of the sheets.
        images: how many of them, drawn by the recipe's seed.
        k: clusters; None: one for 40 images, from 10 up to 200.

    Returns:
        ([block], {"title": sorted deviations of its clusters, "random": of a partition into the same sizes}).

    Raises:
        InputError: no run there; too few images.
    """
    run = Run(str(workdir), data_dir)
    recipe = run.recipe
    whole = open_pretraining(override(recipe, fraction=None), data_dir)  # also of a run that had a share of them
    count = min(images, whole.num_examples)
    require(count >= 20, f"{whole.name} {whole.split} has {count} images; clusters need at least 20")
    rows = np.sort(np.random.default_rng([recipe.seed, 4]).permutation(whole.num_examples)[:count])
    source = whole.subset(rows)
    k = k or int(np.clip(count // 40, 10, 200))
    endpoint = next(name for name in reversed(run.backbone.output) if name != "projection")
    features = features_of(run.backbone, override(recipe, bench__endpoints=(endpoint,)), source, run.workdir)[endpoint]
    labels, near = flat_clusters(features, k, seed=recipe.seed)
    view = EvalView.of(recipe)
    colours = mean_colours(source, view)
    said = words_of(whole, rows)
    found = ranked(clusters_of(labels, near, colours, said), by)
    deviations = np.array([c.deviation for c in found])
    random = colour_deviation(colours, np.random.default_rng(recipe.seed).permutation(labels))
    flat = sorted(found, key=lambda c: c.deviation)[:8]
    shown = images_at(source, view, {int(i) for c in [*found[:SHOWN], *flat] for i in c.members[:MEMBERS]})
    title, stem = recipe.name or recipe.pretext, os.path.basename(os.path.normpath(str(workdir)))
    numbers = [
        (f"{len(found)}", f"clusters of {count:,} images of {recipe.dataset}, {recipe.split}, by {endpoint}"),
        (f"{np.median(deviations):.3f}", f"median colour deviation; {np.median(random):.3f} by chance"),
    ]
    if source.labels is not None:
        same = 100 * nmi(source.labels, labels)
        pure = 100 * sum(c.purity * len(c.members) for c in found) / count
        numbers += [(f"{same:.1f}", "NMI with the classes, in percent"), (f"{pure:.0f} %", "of images in their class")]
    order = by if any(c.name for c in found) else "size"
    return [
        Heading(f"{title}: {stem}"),
        KeyNumbers(numbers),
        Picture(f"{stem}-sheet", sheet(found[:SHOWN], shown), f"Clusters by {order}, the nearest first.", FOLDER),
        Picture(
            f"{stem}-colours", sheet(flat, shown, swatch=True),
            "The clusters of most uniform colour; the first tile is the mean colour.", FOLDER,
        ),
    ], {stem: np.sort(deviations), "random": np.sort(random)}


def write_clusters(workdirs, folder, *, data_dir=None, by="purity", images=IMAGES):
    """Writes ``folder``/clusters.md, .html and clusters/*.png of one run or several; the path of the HTML page."""
    blocks, curves = [], {}
    for workdir in workdirs:
        own, deviations = cluster_blocks(workdir, data_dir=data_dir, by=by, images=images)
        blocks += own
        curves |= {name: values for name, values in deviations.items() if name not in curves}
    run = Run(str(workdirs[0]), data_dir)
    source, view = open_pretraining(run.recipe, data_dir).first(3), EvalView.of(run.recipe)
    first = images_at(source, view, set(range(source.num_examples)))
    intro = Text(
        "Images of the training split in clusters of k-means on whitened features of unit length. Names and purity are "
        "of what is known of the images, which no clustering has seen: the share of a cluster that has its most "
        "frequent label."
    )
    after = [
        Heading("Colour"),
        Picture(
            "deviations", deviation_curves(curves),
            "Deviation of images' mean colours from that of their cluster, sorted (as Figure 2 in the supplement of "
            "arXiv:1905.01278). Low: the cluster is one of colour. random: a partition into clusters of equal sizes.",
            FOLDER,
        ),
        Picture(
            "sobel", sobel_sheet(list(first.values())),
            "What Sobel leaves of an image: its horizontal and vertical derivative (Figure 4).", FOLDER,
        ),
    ]
    return write_page("Clusters", [intro, *blocks, *after], folder, "clusters")


def words_of(source, rows):
    """[n] of sets: the class of each image of ``rows``, or its hashtags; None where neither is known."""
    if source.labels is not None and source.class_names:
        return [{source.class_names[label]} if label >= 0 else set() for label in source.labels[rows]]
    if source.text is not None and source.kind == "store":
        try:
            tags = source.text("hashtags")
        except ValueError:  # the store has none
            return None
        return [set(tags[row].split()) for row in rows]
    return None


def sheet(clusters, shown, swatch=False):
    """A row of images for each cluster, what it is on the left, as PNG bytes; ``swatch``: the mean colour first."""
    side = next(iter(shown.values())).shape[0]
    gap, across = max(1, side // 20), MEMBERS + swatch
    whole = np.ones((len(clusters) * (side + gap) - gap, across * (side + gap) - gap, 3))
    texts = []
    for row, one in enumerate(clusters):
        tiles = [shown[int(i)] for i in one.members[:MEMBERS]]
        tiles = [np.broadcast_to(one.colour, tiles[0].shape), *tiles] if swatch else tiles
        for column, tile in enumerate(tiles):
            top, left = row * (side + gap), column * (side + gap)
            whole[top : top + side, left : left + side] = tile
        name = textwrap.shorten(one.name.replace("_", " "), 22, placeholder="…")
        what = f"{name} {100 * one.purity:.0f} %\n" if one.name else ""
        texts.append(f"deviation {one.deviation:.3f}" if swatch else f"{what}{len(one.members)} images")
    # One picture of all tiles: drawing each on axes of its own takes matplotlib half a minute.
    label, inches = 1.5, 0.75
    width, height = label + inches * across, inches * len(clusters)
    with rc_context(pictures.STYLE):
        figure = Figure(figsize=(width, height))
        pictures.show(figure.add_axes((label / width, 0.005, 1 - label / width, 0.99)), whole)
        for row, text in enumerate(texts):
            place = 1 - (row + 0.5) / len(clusters)
            figure.text((label - 0.1) / width, place, text, ha="right", va="center", color=pictures.SOFT)
        return pictures.png(figure)


def deviation_curves(curves):
    """Sorted deviations of several clusterings over the share of their clusters, as PNG bytes.

    Args:
        curves: {name: ascending floats}; "random" is drawn dashed.
    """
    with rc_context(pictures.STYLE):
        figure = Figure(figsize=(5.5, 3.2), layout="constrained")
        panel = figure.subplots()
        plain = [name for name in curves if name != "random"]
        for name, values in curves.items():
            chance = name == "random"
            colour = pictures.LIGHT if chance else COLOURS[plain.index(name) % len(COLOURS)]
            places = 100 * (np.arange(len(values)) + 0.5) / len(values)
            panel.plot(places, values, color=colour, linestyle="--" if chance else "-", label=name)
        panel.set_xlabel("clusters, sorted (%)")
        panel.set_ylabel("colour deviation")
        panel.set_ylim(bottom=0)
        panel.legend()
        return pictures.png(figure)


def sobel_pictures(image):
    """(horizontal, vertical) derivative of an image float [H, W, 3] in [0, 1]: float [H, W], signed, as Sobel has them.

    Channel 0 and 1 of ``backbones`` Sobel but for its border, which has zeros around it.
    """
    grey = tf.reduce_mean(tf.constant(image, tf.float32), axis=-1)[None, ..., None]
    down, right = tf.unstack(-tf.image.sobel_edges(grey)[0, ..., 0, :], axis=-1)
    return right.numpy(), down.numpy()


def sobel_sheet(images):
    """Each image beside its two derivatives, black to white from the most negative to the most positive; PNG bytes."""
    shown, names = [], []
    for image in images:
        shown.append(np.asarray(image, np.float64))
        for derivative in sobel_pictures(image):
            largest = max(float(np.abs(derivative).max()), 1e-6)
            shown.append(np.repeat((0.5 + derivative / (2 * largest))[..., None], 3, axis=2))
        names += ["image", "horizontal", "vertical"]
    return pictures.sheet(np.stack(shown), names, 3)
