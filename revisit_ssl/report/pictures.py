"""Curves, bars and picture sheets, as PNG bytes; drawn without pyplot, so a notebook's own figures are left alone."""

import io
import math
import statistics
import textwrap
from functools import cached_property

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image  # matplotlib brings it, and writes its own PNGs with it

BLUE, LIGHT, DARK, GREEN, RED, SOFT = "#2f66d0", "#c3cad6", "#7f8a9c", "#2c9a54", "#d0452f", "#5d6778"
STYLE = {
    "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.edgecolor": "#b6bdc9",
    "axes.spines.top": False, "axes.spines.right": False, "axes.labelcolor": SOFT, "xtick.color": SOFT,
    "ytick.color": SOFT, "axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e6e9ef", "axes.axisbelow": True,
    "legend.frameon": False,
}
DPI = 110
# How a figure is drawn that is then written once more, smaller: the first file is not worth compressing.
RAW = {"format": "png", "dpi": DPI, "facecolor": "white", "pil_kwargs": {"compress_level": 0}}


def curves(rows, columns, x="epoch", marks=None):
    """One panel per column over ``x``.

    Args:
        rows: [{column: number}] as ``progress.read_log`` gives them.
        columns: {column: title}.
        marks: {column: (value, name)}: a number measured once, a dashed line named above the panel.

    Returns:
        PNG bytes.
    """
    across = min(len(columns), 3)
    down = math.ceil(len(columns) / across)
    with rc_context(STYLE):
        figure = Figure(figsize=(3.0 * across, 2.3 * down), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False).flat
        for (column, title), panel in zip(columns.items(), panels, strict=False):
            points = [(row[x], row[column]) for row in rows if column in row and np.isfinite(row[column])]
            few = len(points) < 12
            panel.plot(*zip(*points, strict=True), color=BLUE, linewidth=1.5, marker="o" if few else None, markersize=3)
            panel.set_title(title)
            panel.set_xlabel(x)
            if column in (marks or {}):
                value, name = marks[column]
                panel.axhline(value, color=DARK, linestyle="--", linewidth=1)
                panel.set_title(name, loc="right", fontsize=8, color=SOFT)
        for panel in list(panels):
            panel.set_axis_off()
        return png(figure)


def endpoint_bars(rows, name):
    """Accuracy of each endpoint, one panel per probe.

    Args:
        rows: [tables.Row].
        name: of the pretrained bars.

    Returns:
        PNG bytes.
    """
    probes = list(dict.fromkeys(row.probe for row in rows))
    kinds = [("random", "random", LIGHT), ("reestimated", "random, BN re-estimated", DARK), ("pretrained", name, BLUE)]
    kinds = [kind for kind in kinds if any(getattr(row, kind[0]) for row in rows)]
    across = min(len(probes), 2)
    down = math.ceil(len(probes) / across)
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 2.5 * down + 0.3), layout="constrained")
        panels = figure.subplots(down, across, squeeze=False, sharey=True).flat
        for probe, panel in zip(probes, panels, strict=False):  # in this order no panel is taken in vain
            mine = [row for row in rows if row.probe == probe]
            width = 0.8 / len(kinds)
            for i, (field, label, color) in enumerate(kinds):
                values = [getattr(row, field) for row in mine]
                means = [statistics.fmean(v) if v else math.nan for v in values]
                errors = [statistics.stdev(v) if len(v) > 1 else math.nan for v in values]
                places = np.arange(len(mine)) + (i - (len(kinds) - 1) / 2) * width
                bars = panel.bar(places, means, width * 0.94, yerr=errors, color=color, label=label, ecolor=SOFT)
                numbers = ["" if math.isnan(mean) else f"{mean:.0f}" for mean in means]
                panel.bar_label(bars, numbers, padding=1, fontsize=7, color=SOFT)
            panel.set_xticks(range(len(mine)), [row.endpoint for row in mine])
            panel.set_title(f"{probe} probe")
            panel.set_ylabel({"nmi": "NMI (%)", "retrieval": "R@1 (%)"}.get(probe, "top-1 (%)"))
            panel.margins(y=0.12)
        for panel in list(panels):
            panel.set_axis_off()
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=len(kinds))
        return png(figure)


def sheet(images, names, columns):
    """Images in rows of ``columns``, names above.

    Args:
        images: float [n, H, W, 3] in [0, 1].
        names: [n] texts.
        columns: int.

    Returns:
        PNG bytes.
    """
    side = min(1.0, 9 / columns)
    label = 0.2 if len(set(names)) > columns else 0.05
    down = math.ceil(len(images) / columns)
    with rc_context(STYLE):
        figure, panel = board(side * columns, (side + label) * down + 0.2)
        for i, (image, name) in enumerate(zip(images, names, strict=True)):
            left, top = side * (i % columns), (side + label) * (i // columns) + 0.2
            place(panel, image, left, top, side - 0.04)
            if i < columns or name != names[i - columns]:  # not again what stands at the column's head
                panel.text(left + side / 2, top - 0.02, name, ha="center", va="bottom", fontsize=8, color=SOFT)
        return photographs(figure)


def neighbours(queries, found, same):
    """Queries on the left, then a block of neighbours for each set of weights.

    Args:
        queries: float [q, H, W, 3] in [0, 1].
        found: {weights: float [q, k, H, W, 3]}, nearest first.
        same: {weights: bool [q, k]}, True where the neighbour has the query's class, which frames it green with a tick,
            and red with a cross where not; None where there are no labels.

    Returns:
        PNG bytes.
    """
    k = next(iter(found.values())).shape[1]
    side, head = 0.72, 0.3
    block = (k + 0.35) * side  # with the gap before it
    with rc_context(STYLE):
        figure, panel = board(side + block * len(found), side * len(queries) + head)
        panel.text(0.02, head - 0.06, "query", fontsize=9)
        for b, weights in enumerate(found):
            panel.text((b + 1) * block - (k - 1) * side + 0.02, head - 0.06, weights, fontsize=9)
        for q, query in enumerate(queries):
            top = head + side * q
            place(panel, query, 0, top, side - 0.08)
            for b, (weights, images) in enumerate(found.items()):
                for n in range(k):
                    box = place(panel, images[q, n], (b + 1) * block - (k - 1 - n) * side, top, side - 0.08)
                    if same is not None:
                        frame(panel, box, same[weights][q, n])
        return photographs(figure)


def classes(rows):
    """One row for each class, its name on the left.

    Args:
        rows: {name: [float [h, w, 3] in [0, 1]]}; images of any size keep their ratio.

    Returns:
        PNG bytes.
    """
    across = max(map(len, rows.values()))
    texts = [textwrap.wrap(name, 18)[:3] for name in rows]
    side, label = 0.85, 0.2 + 0.085 * max(len(line) for lines in texts for line in lines)
    width = label + side * across
    with rc_context(STYLE):
        figure, panel = board(width, side * len(rows))
        for r, (lines, images) in enumerate(zip(texts, rows.values(), strict=True)):
            panel.text(label - 0.1, (r + 0.5) * side, "\n".join(lines), ha="right", va="center")
            for c, image in enumerate(images):
                place(panel, image, label + c * side, r * side, side - 0.05)
        return photographs(figure)


def board(width, height):
    """(figure, axes over the whole of it), whose coordinates are inches from the top left corner.

    Images that are placed on one are drawn several times faster than in axes of their own.
    """
    figure = Figure(figsize=(width, height))
    panel = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    panel.set_axis_off()
    return figure, panel


def place(panel, image, left, top, side):
    """An image on a ``board``, in the middle of a square, its ratio kept; returns (left, top, width, height)."""
    height, width = (length * side / max(image.shape[:2]) for length in image.shape[:2])
    left, top = left + 0.02 + (side - width) / 2, top + 0.02 + (side - height) / 2
    _shown(panel, image, extent=(left, left + width, top + height, top), aspect="auto")
    return left, top, width, height


def show(panel, image):
    """An image in axes of its own, without ticks; returns them."""
    _shown(panel, image)
    panel.grid(False)
    panel.set_xticks([])
    panel.set_yticks([])
    for spine in panel.spines.values():
        spine.set_visible(False)
    return panel


def _shown(panel, image, **where):
    """Small images keep their pixels."""
    sharp = "nearest" if image.shape[0] <= 48 else "antialiased"
    panel.imshow(np.clip(image, 0, 1), interpolation=sharp, **where)


def empty(panel, why):
    """Says why there is nothing in a panel, in place of axes without a line."""
    panel.text(0.5, 0.5, why, transform=panel.transAxes, ha="center", color=SOFT, fontsize=8)
    panel.grid(False)
    panel.set_xticks([])
    panel.tick_params(left=False, labelleft=False)
    for spine in panel.spines.values():
        spine.set_visible(False)


def frame(panel, box, yes):
    """Says whether what lies at (left, top, width, height) of a ``board`` is right: a green frame with a tick, or a red
    one with a cross, since not all see colours."""
    color, mark = (GREEN, "\N{CHECK MARK}") if yes else (RED, "\N{BALLOT X}")
    left, top, width, height = box
    panel.add_patch(Rectangle((left, top), width, height, fill=False, edgecolor=color, linewidth=2))
    corner = {"ha": "right", "va": "bottom", "fontsize": 7, "fontweight": "bold", "color": "white"}
    around = {"boxstyle": "round,pad=0.15", "facecolor": color, "edgecolor": "white", "linewidth": 0.6}
    panel.text(left + 0.96 * width, top + 0.95 * height, mark, bbox=around, **corner)


class Drawing(bytes):
    """PNG bytes of lines and letters; ``pdf``: the same as PDF, for a paper, sharp at any size. A page asks for it, a
    notebook does not."""

    figure = None

    @cached_property
    def pdf(self):
        """PDF bytes; None without a figure."""
        if self.figure is None:
            return None
        sharp = io.BytesIO()
        with rc_context(STYLE | {"pdf.fonttype": 42}):  # TrueType, which printers of proceedings ask for
            # Without a date the same figure gives the same file.
            self.figure.savefig(sharp, format="pdf", metadata={"CreationDate": None})
        self.figure = None
        return sharp.getvalue()


def png(figure):
    """Drawing of a figure without photographs. Its PNG has a palette of 256 colours, a third of the size, which is
    enough for lines and bars; ``photographs`` is for the others."""
    drawn, data = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, **RAW)
    Image.open(drawn).convert("RGB").quantize(256).save(data, format="png", optimize=True)
    found = Drawing(data.getvalue())
    found.figure = figure
    return found


def photographs(figure):
    """PNG bytes of a figure with images, in all their colours: a palette would posterise them."""
    drawn, data = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, **RAW)
    Image.open(drawn).convert("RGB").save(data, format="png")
    return data.getvalue()
