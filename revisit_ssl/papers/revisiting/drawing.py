"""What Revisiting's figures share: colours, markers and lines of networks, panels of data sets and pretexts."""

import math
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from revisit_ssl.papers.methods import METHODS, method_name
from revisit_ssl.report import names
from revisit_ssl.report.pictures import DARK, empty

# Okabe and Ito's colours, told apart with every kind of colour vision; one a network, the same in all figures.
COLORS = {
    "revnet50": "#0072B2", "resnet50_v2": "#D55E00", "resnet50_v1": "#E69F00", "revnet50_minus": "#56B4E9",
    "resnet50_v2_minus": "#CC79A7", "vgg19_bn": "#009E73", "resnet18": "#000000", "resnet18_no_skip": "#8A8A8A",
}
SPARE = ("#7A4FBF", "#9C6B30", "#B2182B")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (4, 1.2, 1, 1.2)))


@dataclass(frozen=True)
class Point:
    """A network and its width; of a run in the scatter also its place."""

    backbone: str
    width: int
    x: float = math.nan
    y: float = math.nan


class Styles:
    """Colour by network, marker (or size) by width, the same in every panel of a figure."""

    def __init__(self, items):
        items = list(items)
        self.backbones = names.order((i.backbone for i in items), names.NETWORKS)
        self.widths = sorted({i.width for i in items})

    def color(self, backbone):
        """Colour of a network: its own, or a spare one."""
        others = [b for b in self.backbones if b not in COLORS]
        return COLORS.get(backbone) or SPARE[others.index(backbone) % len(SPARE)]

    def line(self, backbone, width):
        """Looks of its line at that width, for ``Axes.plot``."""
        marker = MARKERS[self.widths.index(width) % len(MARKERS)]
        thick = 1.1 + 0.7 * self.widths.index(width)
        return {"color": self.color(backbone), "linewidth": min(thick, 3), "marker": marker, "markersize": 4}

    def point(self, backbone, width):
        """Looks of its point at that width, for ``Axes.plot``."""
        return {"color": self.color(backbone), "marker": "o", "markersize": 5.5 + 3 * self.widths.index(width)}

    def handles(self, points=False):
        """Legend entries: networks by colour, then widths by marker where there are several."""
        found = [
            Line2D([], [], color=self.color(b), linewidth=0 if points else 2, marker="o" if points else None,
                   label=names.network_name(b))
            for b in self.backbones
        ]
        if len(self.widths) > 1:
            for k in self.widths:
                look = self.point(self.backbones[0], k) if points else self.line(self.backbones[0], k)
                found.append(Line2D([], [], **look | {"color": DARK, "linewidth": 0, "label": f"{k}x"}))
        return found


def data_of(r):
    """(pretext's set, probe's set, share of labels) of a Result."""
    return r.dataset, r.probe_dataset, r.labels


def panel_grid(panels, labels):
    """(figure, [(axes, data, pretext)]): one row per data set, one column per pretext.

    Args:
        panels: {data: {pretext: anything}}.
        labels: {data: what its y axis, shared in the row, shows}.
    """
    pretexts = names.order((p for found in panels.values() for p in found), METHODS)
    across, down = len(pretexts), len(panels)
    figure = Figure(figsize=(max(4.2, min(2.7 * across + 0.4, 10)), 2.4 * down + 0.6), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False, sharey="row")
    found = []
    for i, (row, data) in enumerate(zip(axes, panels, strict=True)):
        row[0].set_ylabel(labels[data], fontsize=8)
        for panel, pretext in zip(row, pretexts, strict=True):
            if i == 0:
                panel.set_title(method_name(pretext))
            if pretext in panels[data]:
                found.append((panel, data, pretext))
                continue
            empty(panel, "not run")
    return figure, found


def legend(figure, handles):
    """Below the panels, in as many columns as fit the width."""
    longest = max(len(h.get_label()) for h in handles)
    columns = max(1, int(figure.get_figwidth() / (0.55 + 0.075 * longest)))
    columns = min(columns, len(handles))
    handles = [h for i in range(columns) for h in handles[i::columns]]  # read in rows; matplotlib fills columns
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8)
