"""What a detector found: beside the truth, precision over recall, losses; and the table of its average precisions."""

import math
import os
import re
import textwrap

import numpy as np
import tensorflow as tf
from matplotlib import patheffects, rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from revisit_ssl.detection.examples import RIGHT, matched, read_examples
from revisit_ssl.errors import InputError
from revisit_ssl.report.blocks import Picture, Table, Text
from revisit_ssl.report.names import dataset_name, network_name
from revisit_ssl.report.pictures import BLUE, DARK, GREEN, RED, SOFT, STYLE, curves, photographs, png, show
from revisit_ssl.report.settings import RANDOM, spread, unique

METRICS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}
KINDS = {"": "", "box_": "boxes, ", "mask_": "masks, "}  # what a metric's name begins with
ACROSS = 4  # images of a row
NAMED = 8  # boxes of an image that bear a name
PANELS = 20  # classes whose curves are drawn


def average_precisions(results):
    """Table: AP, AP50 and AP75 of each probe, by weights, network and set; mean ± sample standard deviation of the
    seeds. None where there is no detector's number."""
    mine = [r for r in results if r.probe in ("detection", "segmentation")]
    columns = [p + m for p in KINDS for m in METRICS if any(r.metric == p + m for r in mine)]
    if not columns:
        return None
    found = {}
    for r in mine:
        trained = r.weights not in RANDOM
        steps = r.hyperparameters.get("iterations")
        # Untrained networks are the same whatever would have been trained on them.
        key = r.probe, _called(r), network_name(r.backbone, r.width), dataset_name(r.probe_dataset), steps
        found.setdefault((*key, r.setting if trained else ""), {}).setdefault(r.metric, {})[r.seed] = r.value
    rows = []
    for (*labels, steps, _), numbers in found.items():
        seeds = {seed for values in numbers.values() for seed in values}
        cells = [spread(numbers.get(column, {}).values()) for column in columns]
        rows.append([*labels, "" if steps is None else f"{steps:,}", f"{len(seeds)}", *cells])
    titles = [KINDS[c.removesuffix(_metric(c))] + METRICS[_metric(c)] for c in columns]
    note = "Percent. AP: the mean over an IoU of 0.5 to 0.95; AP50, AP75: at one of 0.5, of 0.75."
    return Table(["probe", "weights", "network", "set", "steps", "seeds", *titles], rows, labels=4, notes=(note,))


def _metric(column):
    return column.rpartition("_")[2]


def _called(r):
    return {"random": "untrained", RANDOM[-1]: "untrained, BN re-estimated"}.get(r.weights, r.name or r.pretext)


def detection_blocks(results, workdir):
    """[block] of a run's page: [] where no detector was trained.

    Args:
        results: [Result] of the run.
        workdir: in whose folder probes/ the probes have kept their examples.
    """
    table = average_precisions(results)
    if table is None:
        return []
    blocks, mine = [table], [r for r in results if r.probe in ("detection", "segmentation")]
    for probe in unique(r.probe for r in mine):
        found, missing = {}, []
        for weights, name in unique((r.weights, _called(r)) for r in mine if r.probe == probe):
            path = examples_path(workdir, weights, probe)
            if tf.io.gfile.exists(path):
                found[name] = read_examples(path)
            else:
                missing.append(name)
        if found:
            blocks += [_beside_truth(probe, found), _precision_recall(probe, found)]
        if missing:
            blocks.append(Text(f"Not drawn, since no detections were kept: {probe}, {', '.join(missing)}."))
        blocks += _losses(probe, [r for r in mine if r.probe == probe])
    return blocks


def examples_path(workdir, weights, probe):
    """Where a probe keeps its examples: workdir/probes/<weights>/<probe>.npz."""
    return os.path.join(str(workdir), "probes", re.sub(r"\W+", "-", weights.lower()), f"{probe}.npz")


def _beside_truth(probe, found):
    shown = next(iter(found.values())).images
    right = {name: sum(int(matched(_as_drawn(one)).sum()) for one in each.images) for name, each in found.items()}
    objects = sum(_wanted(one) for one in shown)
    counts = "; ".join(f"{name}: {count} of {objects}" for name, count in right.items())
    caption = (
        f"The first {len(shown)} test images, not picked by their result: the objects, and as many detections of each "
        "network as there are objects, the best. Solid and a tick: right, of the object's class with an IoU of "
        f"{RIGHT:g} or more; dashed and a cross: wrong. Right here: {counts}."
    )
    return Picture(f"{probe}_found", beside_truth(found), caption)


def _precision_recall(probe, found):
    caption = (
        f"Precision over recall on the whole test set, boxes at an IoU of {RIGHT:g}, by class; in brackets the AP50 of "
        "each network in percent. All: the mean over the classes."
    )
    count = len({c for each in found.values() for c in each.curves})
    if count >= PANELS:
        caption += f" Of {count} classes the first {PANELS - 1} are drawn."
    return Picture(f"{probe}_curves", precision_recall(found), caption)


def _losses(probe, results):
    blocks = []
    for weights, name in unique((r.weights, _called(r)) for r in results):
        curve = next((r.extra["curve"] for r in results if r.weights == weights and r.extra.get("curve")), [])
        if curve:
            columns = {n: n.replace("_", " ") for n in curve[-1] if n != "step"}
            caption = f"Losses of the {probe} probe on {name}: means since the point before."
            suffix = re.sub(r"\W+", "_", weights.lower())
            blocks.append(Picture(f"{probe}_losses_{suffix}", curves(curve, columns, x="step"), caption))
    return blocks


def _wanted(example):
    """How many objects of an image count: crowds do not."""
    return int((~example.truth["crowd"]).sum())


def _as_drawn(example):
    """The example with as many of its detections, the best, as it has objects."""
    count = _wanted(example)
    found = {name: values[:count] for name, values in example.found.items()}
    return type(example)(example.image, example.truth, found)


# --- pictures


def beside_truth(found):
    """Test images with their objects, and below with the detections of each network.

    Args:
        found: {network: Examples}, all of the same images.

    Returns:
        PNG bytes.
    """
    first = next(iter(found.values()))
    kinds = ["objects", *found]
    parts = [first.images[i : i + ACROSS] for i in range(0, len(first.images), ACROSS)]
    # A row is as high as its highest image, but no higher than wide: no white between those of landscape format.
    ratios = [max(min(one.image.shape[0] / one.image.shape[1], 1.0) for one in part) for part in parts for _ in kinds]
    side, strip = 2.3, 0.32
    width, height = side * ACROSS + strip, side * sum(ratios)
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        grid = figure.add_gridspec(
            len(ratios), ACROSS, left=strip / width, right=0.998, top=0.998, bottom=0.002, wspace=0.03, hspace=0.03,
            height_ratios=ratios,
        )
        for i, example in enumerate(first.images):
            block, column = divmod(i, ACROSS)
            for k, kind in enumerate(kinds):
                row = block * len(kinds) + k
                panel = show(figure.add_subplot(grid[row, column]), example.image / 255.0)
                one = _as_drawn(example if k == 0 else found[kind].images[i])
                _draw_objects(panel, one, first.classes) if k == 0 else _draw_found(panel, one, first.classes)
                if column == 0:
                    panel.set_ylabel("\n".join(textwrap.wrap(kind, 26)), fontsize=9, color="black")
        return photographs(figure)


def _draw_objects(panel, example, classes):
    truth, large = example.truth, _largest(example.truth["boxes"])
    for k, box in enumerate(truth["boxes"]):
        name, line = classes[truth["classes"][k]], "-"
        if truth["crowd"][k]:
            name, line = f"{name}, crowd", ":"
        elif truth["difficult"][k]:
            name, line = f"{name}, difficult", ":"
        _draw(panel, box, name if k in large else "", BLUE, line, truth["masks"][k] if "masks" in truth else None)


def _draw_found(panel, example, classes):
    found, large = example.found, _largest(example.found["boxes"])
    for k, (right, box) in enumerate(zip(matched(example), found["boxes"], strict=True)):
        mark = "\N{CHECK MARK}" if right else "\N{BALLOT X}"
        name = f"{mark} {classes[found['classes'][k]]} {found['scores'][k]:.2f}" if k in large else mark
        mask = found["masks"][k] if "masks" in found else None
        _draw(panel, box, name, GREEN if right else RED, "-" if right else "--", mask)


def _largest(boxes):
    """The NAMED largest of boxes [n, 4], whose names there is room for: a set of their numbers."""
    return set(np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))[:NAMED].tolist())


def _draw(panel, box, name, color, line, mask):
    y1, x1, y2, x2 = (float(value) for value in box)
    edge = [patheffects.withStroke(linewidth=2.6, foreground="white")]
    # Pixel k reaches from k to k + 1 here, and from k - 0.5 to k + 0.5 in a picture of matplotlib's.
    place = {"fill": False, "edgecolor": color, "linestyle": line, "linewidth": 1.4, "path_effects": edge}
    panel.add_patch(Rectangle((x1 - 0.5, y1 - 0.5), x2 - x1, y2 - y1, **place))
    if mask is not None and mask.any():
        veil = np.zeros((*mask.shape, 4))
        veil[mask] = [*(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)), 0.4]
        panel.imshow(veil, interpolation="nearest")
        panel.contour(mask, [0.5], colors="white", linewidths=0.7)
    height, width = panel.images[0].get_array().shape[:2]
    panel.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))  # whatever reaches over the border
    if not name:
        return
    low = y1 < 0.09 * height  # there the name stands inside
    text = {"va": "top" if low else "bottom", "ha": "left" if x1 < 0.6 * width else "right", "fontsize": 6.2}
    box_style = {"boxstyle": "square,pad=0.12", "facecolor": color, "edgecolor": "none", "alpha": 0.92}
    across = x1 - 0.5 if x1 < 0.6 * width else min(x2, width) - 0.5
    panel.text(across, max(y1, 0) - 0.5, name, color="white", bbox=box_style, clip_on=True, **text)


def precision_recall(found):
    """Precision over recall of each class, a line for each network.

    Args:
        found: {network: Examples}.

    Returns:
        PNG bytes.

    Raises:
        InputError: there is no curve.
    """
    first = next(iter(found.values()))
    classes = unique(c for each in found.values() for c in each.curves)
    if not classes:
        raise InputError("no class of the test set has an object and a detection; there is no precision to draw")
    panels = ["all", *sorted(classes)[: PANELS - 1]]
    across = min(5, len(panels))
    down = math.ceil(len(panels) / across)
    looks = [(BLUE, "-", 1.7), (DARK, "--", 1.3), (RED, ":", 1.5), (GREEN, "-.", 1.5)]
    with rc_context(STYLE):
        figure = Figure(figsize=(1.9 * across, 1.75 * down + 0.35), layout="constrained")
        places = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).flat
        for which, panel in zip(panels, places, strict=False):
            values = []
            for (name, each), (color, line, thick) in zip(found.items(), looks, strict=False):
                recall, precision = _mean_curve(each) if which == "all" else _envelope(each.curves.get(which))
                panel.plot(recall, precision, color=color, linestyle=line, linewidth=thick, label=name)
                ap = _mean(each.ap50) if which == "all" else each.ap50[which]
                values.append("–" if ap is None else f"{ap:.0f}")
            title = "all" if which == "all" else first.classes[which]
            panel.set_title(f"{title} ({', '.join(values)})", fontsize=8)
            panel.set(xlim=(0, 1.02), ylim=(0, 1.05), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
            panel.tick_params(labelsize=7)
        for panel in list(places):
            panel.set_axis_off()
        figure.supxlabel("recall", fontsize=8, color=SOFT)
        figure.supylabel("precision", fontsize=8, color=SOFT)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(found), fontsize=8)
        return png(figure)


POINTS = np.linspace(0, 1, 101)


def _envelope(curve):
    """(recalls, the largest precision at that recall or a higher one) at 101 points; empty without a curve."""
    if curve is None or not len(curve[0]):
        return (), ()
    recall, precision = (np.asarray(part, np.float64) for part in curve)
    best = [precision[recall >= point].max(initial=0.0) for point in POINTS]
    last = int(np.flatnonzero(recall.max() + 1e-9 >= POINTS)[-1])
    return POINTS[: last + 1], np.array(best[: last + 1])


def _mean_curve(examples):
    """Over the classes that have objects; beyond its last recall a class has precision 0."""
    rows = []
    for c, ap in enumerate(examples.ap50):
        if ap is not None:
            reached = np.asarray(_envelope(examples.curves.get(c))[1])
            rows.append(np.concatenate([reached, np.zeros(len(POINTS) - len(reached))]))
    return (POINTS, np.mean(rows, axis=0)) if rows else ((), ())


def _mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
