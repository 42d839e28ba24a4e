"""What the mask prediction head makes of a masked region (MaskCo, supplement, Figure 1).

Of that figure only the caption was to be had: the picture is reconstructed.
"""

import os
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from revisit_ssl.data import eval_crops, open_source
from revisit_ssl.errors import require
from revisit_ssl.pretext.heads import unit
from revisit_ssl.pretext.maskco import MaskCo
from revisit_ssl.report import pictures
from revisit_ssl.report.blocks import Picture, Table, Text
from revisit_ssl.report.pages import write_page
from revisit_ssl.training.build import load_pretext
from revisit_ssl.training.workdir import read_recipe
from revisit_ssl.views.draws import fold
from revisit_ssl.views.pairs import covered

FOLDER = "prediction"
IMAGES, SHOWN, BATCH = 1000, 6, 50
VIEWS = ("masked", "whole")
STEPS = ("before", "after")


@dataclass(frozen=True)
class Predicted:
    """What a network sees of one masked region of each image.

    Attributes:
        cosines: {(of VIEWS, of STEPS): float [N]}: the region of the query view, masked or whole, before MPH or after
            it, with the same region of the key view as the target sees it, before the projection.
        others: the same with the region of another image.
        images, covered: float [n, s, s, 3] in [0, 1], query views of the first images, whole and masked.
        boxes: float [n, 4], the masked boxes, x1, y1, x2, y2 in pixels.
        maps: {of STEPS: float [n, h, w]}, the cosine of each cell of the masked view with the target's region.
    """

    cosines: dict
    others: dict
    images: np.ndarray
    covered: np.ndarray
    boxes: np.ndarray
    maps: dict


def predicted(model, source, seed, shown=SHOWN):
    """``Predicted`` of all images of a source, in inference mode; without MPH there is nothing after it.

    Args:
        model: MaskCo.
        source: data.Source.
        seed: int, of crops, colours and boxes.
        shown: images whose maps are kept.
    """

    @tf.function(autograph=False)
    def look(batch, key):
        query, boxes, whole, others = model.views(batch, key)
        boxes = boxes[:, :1]
        wanted = model.target(whole, training=False)[model.options.endpoint]
        wanted = model.target_mph(wanted, training=False) if model.target_mph else wanted
        wanted = unit(model.regions(wanted, others[:, :1]))[:, 0]  # [B, c]
        cosines, strangers, maps = {}, {}, {}
        for view, images in zip(VIEWS, (model.mask(query, boxes, fold(key, 330)), query), strict=True):
            found = model.backbone(images, training=False)[model.options.endpoint]
            steps = {"before": found} | ({"after": model.mph(found, training=False)} if model.mph else {})
            for step, cells in steps.items():
                region = unit(model.regions(cells, boxes))[:, 0]
                cosines[view, step] = tf.reduce_sum(region * wanted, axis=-1)
                strangers[view, step] = tf.reduce_sum(region * tf.roll(wanted, 1, axis=0), axis=-1)
                if view == "masked":
                    maps[step] = tf.einsum("bhwc,bc->bhw", unit(tf.cast(cells, tf.float32)), wanted)
        return cosines, strangers, maps, boxes[:, 0]

    found, first = [], None
    for number, batch in enumerate(eval_crops(source, BATCH, crops=model.crops, seed=seed)):
        key = fold((seed, 0), number)
        found.append(tf.nest.map_structure(lambda t: t.numpy(), look(batch, key)))
        if first is None:
            seen, boxes, *_ = model.views(batch, key, normalize="none")
            hidden = tf.where(covered(boxes[:, :1], seen.shape[1]) & (model.options.fill != "none"), 0.5, seen)
            first = seen.numpy()[:shown], hidden.numpy()[:shown]
    cosines, strangers = ({name: np.concatenate([f[i][name] for f in found]) for name in found[0][i]} for i in (0, 1))
    maps = {step: values[:shown] for step, values in found[0][2].items()}
    return Predicted(cosines, strangers, *first, found[0][3][:shown], maps)


def numbers_table(found):
    """Rows: masked and whole query view; columns: cosines before and after MPH, with the same region and another."""
    steps = [step for step in STEPS if ("masked", step) in found.cosines]
    rows = []
    for view in VIEWS:
        cells = []
        for step in steps:
            for values in (found.cosines, found.others):
                cells.append(f"{np.mean(values[view, step]):.3f} ± {np.std(values[view, step]):.3f}")
        rows.append([f"query view {view}", *cells])
    heads = (("", 1), *((f"{step} MPH", 2) for step in steps))
    names = ["", *["same region", "of another image"] * len(steps)]
    note = (
        f"Cosines of the region of the query view with the region of the key view as the target sees it, before the "
        f"projection: mean ± standard deviation over {len(found.cosines['masked', 'before']):,} images, inference mode."
    )
    return Table(names, rows, labels=1, heads=heads, notes=(note,))


def rows_figure(found):
    """PNG bytes: one row per image, its view, the masked view with its box, the map of cosines before and after MPH."""
    steps, count = list(found.maps), len(found.images)
    with rc_context(pictures.STYLE):
        figure = Figure(figsize=(1.75 * (2 + len(steps)) + 0.6, 1.7 * count), layout="constrained")
        panels = figure.subplots(count, 2 + len(steps), squeeze=False)
        for i, row in enumerate(panels):
            side = found.images.shape[1]
            x1, y1, x2, y2 = found.boxes[i]
            pictures.show(row[0], found.images[i])
            pictures.show(row[1], found.covered[i])
            low = min(found.maps[step][i].min() for step in steps)
            high = max(found.maps[step][i].max() for step in steps)
            for panel, step in zip(row[2:], steps, strict=True):
                pictures.show(panel, found.images[i].mean(-1, keepdims=True).repeat(3, -1))
                look = {"cmap": "viridis", "vmin": low, "vmax": high, "alpha": 0.8, "interpolation": "bilinear"}
                drawn = panel.imshow(found.maps[step][i], extent=(-0.5, side - 0.5, side - 0.5, -0.5), **look)
            figure.colorbar(drawn, ax=row[-1], shrink=0.85).ax.tick_params(labelsize=6)
            for panel in row[1:]:
                edge = Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, fill=False, edgecolor="#D55E00", linewidth=1.6)
                panel.add_patch(edge)
        titles = ["query view", "masked", *(f"{step} MPH" for step in steps)]
        for panel, title in zip(panels[0], titles, strict=True):
            panel.set_title(title, fontsize=9)
        return pictures.photographs(figure)


def blocks_of(model, source, seed):
    """[block] of the page: the numbers and the rows of images."""
    found = predicted(model, source, seed)
    caption = (
        "Right: how similar each cell of the masked view is to the covered region as the target sees it in the whole "
        "key view, before MPH and after it; one scale of colours for each row."
    )
    return [
        Text(f"Images of {source.name}, {source.split} split, which the network was not trained on."),
        numbers_table(found),
        Picture("rows", rows_figure(found), caption, FOLDER),
    ]


def write_gallery(runs, folder, data_dir):
    """Writes ``folder``/prediction.md, .html and prediction/rows.png of a run of MaskCo; the HTML's path.

    Raises:
        InputError: no run there, or one of another method.
    """
    require(len(runs) == 1, f"the picture of MPH is of one run, not {len(runs)}")
    workdir = runs[0]
    model, recipe = load_pretext(workdir, data_dir=data_dir), read_recipe(workdir)
    require(isinstance(model, MaskCo), f"{workdir} is a run of {model.name}, which predicts no masks")
    # The first that has enough; nothing is chosen by these images.
    for name, split in (recipe.dataset, "val"), (recipe.dataset, "test"), (recipe.probed_dataset, "test"):
        source = open_source(name, split, data_dir=data_dir)
        if source.num_examples >= IMAGES:
            break
    source = source.sample(min(IMAGES, source.num_examples), recipe.seed)
    title = f"What MPH predicts: {os.path.basename(os.path.normpath(workdir))}"
    return write_page(title, blocks_of(model, source, recipe.seed), folder, FOLDER)
