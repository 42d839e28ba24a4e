"""Pictures of visual words: the patches that are nearest to each (OBoW, arXiv:2012.11552, supplement B, Figures 1, 2).

Follows the official obow/visualization.py. A patch is not the receptive field of its cell, but 64 of 224 pixels around
it at every level.
"""

import math
import os
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from matplotlib import rc_context
from matplotlib.figure import Figure

from revisit_ssl.data import eval_batches
from revisit_ssl.errors import require
from revisit_ssl.pretext.bownet import BoWNet
from revisit_ssl.pretext.obow import OBoW
from revisit_ssl.report import pictures
from revisit_ssl.report.blocks import Heading, KeyNumbers, Picture, Text
from revisit_ssl.report.neighbours import images_at
from revisit_ssl.report.pages import write_page
from revisit_ssl.training.build import load_pretext, open_pretraining
from revisit_ssl.training.progress import read_log
from revisit_ssl.training.workdir import read_recipe
from revisit_ssl.views.pixels import CIFAR_MEAN, IMAGENET_MEAN, normalize_input, to_float

IMAGES, WORDS, PATCHES = 5000, 60, 8
SHARE = 64 / 224  # of the side of a view, that of a patch
FOLDER = "visual_words"
CURVES = {
    "perplexity": "words an image spreads over", "batch_perplexity": "words a batch spreads over",
    "usage_perplexity": "words in use in a batch (perplexity)", "used": "share of words in use", "mu": "mu",
}


@dataclass(frozen=True)
class Assigned:
    """The words of all cells of one level.

    Attributes:
        ids: int32 [2 N, h, w], of N images, then of the same N flipped; border cells left out.
        scores: float32 [2 N, h, w].
        words: int, K.
    """

    ids: np.ndarray
    scores: np.ndarray
    words: int

    @property
    def counts(self):
        """int64 [K]: cells of each word."""
        return np.bincount(self.ids.ravel(), minlength=self.words)

    @property
    def order(self):
        """Words that have a cell, the most frequent first."""
        counts = self.counts
        order = np.argsort(-counts, kind="stable")
        return order[counts[order] > 0]

    def best(self, word, patches=PATCHES):
        """[(index in 0..2 N - 1, row, column)] of the highest scores, at most one of an image and its flip."""
        places = np.flatnonzero(self.ids.ravel() == word)
        places = places[np.argsort(-self.scores.ravel()[places], kind="stable")]
        found, seen = [], set()
        for place in places:
            image, row, column = np.unravel_index(place, self.ids.shape)
            source = int(image) % (len(self.ids) // 2)
            if source not in seen:
                seen.add(source)
                found.append((int(image), int(row), int(column)))
            if len(found) == patches:
                break
        return found


def visual_words(workdir, *, data_dir=None, images=IMAGES, words=WORDS):
    """The blocks of the page of a run of OBoW or BoWNet.

    Args:
        workdir: of a run that has trained.
        data_dir: where TFDS data sets lie.
        images: of the training images, drawn by the recipe's seed; each is seen flipped too. The paper takes all.
        words: of each level, the most frequent ones. The paper shows all.

    Returns:
        [block].

    Raises:
        InputError: no run there, or one without visual words.
    """
    model = load_pretext(workdir, data_dir=data_dir)
    require(isinstance(model, (OBoW, BoWNet)), f"{workdir} is a run of {model.name}, which has no visual words")
    recipe = read_recipe(workdir)
    source = open_pretraining(recipe, data_dir).sample(images, recipe.seed)
    size = model.view_spec.size
    view = model.whole_view
    levels = assigned(model, source, view)
    shown = {name: [(w, level.best(w)) for w in level.order[:words]] for name, level in levels.items()}
    count = len(next(iter(levels.values())).ids) // 2
    needed = {image % count for found in shown.values() for _, best in found for image, _, _ in best}
    whole = images_at(source, view, needed)
    color = {"imagenet": IMAGENET_MEAN, "cifar": CIFAR_MEAN}.get(model.view_spec.normalize, (0.5, 0.5, 0.5))
    blocks = [
        Text(
            f"Each strip is a word: the patches of {round(SHARE * size)} pixels around the {PATCHES} cells that are "
            f"assigned to it most clearly, at most one of an image. Words stand by how often they are the nearest, in "
            f"{count:,} training images and their mirror images, with the share of all cells in percent."
        )
    ]
    for name, found in shown.items():
        level = levels[name]
        share = level.counts[level.order] / level.ids.size
        strips = {
            f"{rank + 1}. word {word}: {100 * share[rank]:.2g} %": np.stack(
                tiles(best, whole, count, level.ids.shape[1:], size, color)
            )
            for rank, (word, best) in enumerate(found)
        }
        spread = np.exp(-np.sum(share * np.log(share)))
        blocks += [
            Heading(f"Words of {name}"),
            KeyNumbers(
                [
                    (f"{len(level.order):,} of {level.words:,}", "words that are the nearest of any cell"),
                    (f"{spread:,.0f}", "words that the cells spread over (perplexity)"),
                    (f"{100 * share[0]:.2g} %", "of the cells have the most frequent word"),
                ]
            ),
            Picture(name, sheet(strips), f"The {len(strips)} most frequent words of {name}.", FOLDER),
        ]
    return blocks + training_curves(workdir)


def write_visual_words(workdir, folder, **options):
    """Writes ``folder``/visual_words.md, .html and visual_words/*.png; returns the path of the HTML page."""
    blocks = visual_words(workdir, **options)
    title = f"Visual words of {os.path.basename(os.path.normpath(workdir))}"
    return write_page(title, blocks, folder, FOLDER)


def write_gallery(runs, folder, data_dir):
    """``write_visual_words`` of one run for the page in that folder."""
    require(len(runs) == 1, f"visual words are of one run, not {len(runs)}")
    return write_visual_words(runs[0], folder, data_dir=data_dir)


def assigned(model, source, view):
    """{level: Assigned} of a source's images by the model's target network, with its running statistics."""

    @tf.function(autograph=False)  # traced once more for the last batch: a vocabulary wants static shapes
    def look(images):
        images = to_float(images)
        images = tf.concat([images, tf.reverse(images, [2])], axis=0)
        return {name: words.assign(cells) for name, (words, cells) in maps_of(model, images).items()}

    found = {}
    for batch in eval_batches(source, 64, view=view):
        for name, (ids, scores) in look(batch["image"]).items():
            plain, flipped = zip(np.split(ids.numpy(), 2), np.split(scores.numpy(), 2), strict=True)
            for part, values in zip(found.setdefault(name, ([], [], [], [])), (*plain, *flipped), strict=True):
                part.append(values)
    sizes = {name: words.size for name, words in vocabularies(model).items()}
    return {
        name: Assigned(np.concatenate(ids + other_ids), np.concatenate(scores + other_scores), sizes[name])
        for name, (ids, scores, other_ids, other_scores) in found.items()
    }


def vocabularies(model):
    """{level: Vocabulary} of an OBoW or BoWNet."""
    if isinstance(model, OBoW):
        return dict(zip(model.levels, model.vocabularies, strict=True))
    return {model.options.level: model.vocabulary}


def maps_of(model, images):
    """{level: (Vocabulary, its map)} of float32 [B, s, s, 3] in [0, 1], in inference mode."""
    if isinstance(model, OBoW):
        maps = model.target(normalize_input(images, model.view_spec.normalize), training=False)
    else:
        maps = {model.options.level: model.teacher_map(images)}
    return {name: (words, maps[name]) for name, words in vocabularies(model).items()}


def tiles(best, whole, count, cells, size, color):
    """[float [p, p, 3]] of a word's patches, black where there are fewer.

    Args:
        best: of ``Assigned.best``.
        whole: {index: float [size, size, 3] in [0, 1]}.
        count: int, images; higher indices are of their mirror images.
        cells: (h, w) of the map without its border.
        size: side of the images in pixels.
        color: of what lies outside the image.
    """
    patches = []
    for image, row, column in best:
        pixels = whole[image % count]
        pixels = pixels[:, ::-1] if image >= count else pixels
        patches.append(patch_at(pixels, row, column, cells, color))
    side = 2 * round(SHARE * size / 2)
    return patches + [np.zeros((side, side, 3))] * (PATCHES - len(patches))


def patch_at(image, row, column, cells, color):
    """The patch around a cell: float [s, s, 3] -> [p, p, 3], p = 64 / 224 s made even.

    Cell i of a map of h + 2 cells, its border counted, has its middle at (i + 1) stride + stride / 2, stride = s /
    (h + 2): right where convolutions pad both sides alike.
    """
    half = round(SHARE * len(image) / 2)
    padded = np.empty((image.shape[0] + 2 * half, image.shape[1] + 2 * half, 3))
    padded[:] = color
    padded[half:-half, half:-half] = image
    corner = []
    for at, inside, side in zip((row, column), cells, image.shape[:2], strict=True):
        stride = side / (inside + 2)
        corner.append(int((at + 1) * stride + stride / 2))
    top, left = corner
    return padded[top : top + 2 * half, left : left + 2 * half]


def sheet(strips, columns=3):
    """Strips of patches with their names above.

    Args:
        strips: {name: float [n, p, p, 3] in [0, 1]}.

    Returns:
        PNG bytes.
    """
    down = math.ceil(len(strips) / columns)
    with rc_context(pictures.STYLE):
        figure = Figure(figsize=(3.6 * columns, 0.68 * down + 0.1), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.05, h_pad=0.02)
        panels = figure.subplots(down, columns, squeeze=False).flat
        for (name, patches), panel in zip(strips.items(), panels, strict=False):
            gap = max(1, patches.shape[1] // 12)
            parts = [np.pad(p, ((0, 0), (0, gap), (0, 0)), constant_values=1.0) for p in patches]
            pictures.show(panel, np.concatenate(parts, axis=1)[:, :-gap])
            panel.set_title(name, fontsize=7, color=pictures.SOFT, pad=2)
        for panel in list(panels):
            panel.set_axis_off()
        return pictures.photographs(figure)


def training_curves(workdir):
    """How the vocabularies went over training, from log.csv; [] without one."""
    rows = read_log(os.path.join(workdir, "log.csv"))
    columns = {
        column: f"{title}{column.removeprefix(name).replace('_', ', ', 1)}"
        for name, title in CURVES.items()
        for column in (rows[-1] if rows else {})
        if column == name or column.startswith(f"{name}_")
    }
    if not columns:
        return []
    caption = "The vocabularies over training: means over windows of steps. Perplexities count words."
    return [Heading("Training"), Picture("curves", pictures.curves(rows, columns), caption, FOLDER)]
