"""The supplement's Figure A.2 of the CLD paper, drawn from our results."""

import statistics

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from revisit_ssl.errors import require
from revisit_ssl.papers.cld.ablations import NEGATIVES
from revisit_ssl.papers.cld.methods import KNN, KNN_BEFORE, NMI, NMI_BEFORE, RETRIEVAL, RETRIEVAL_BEFORE
from revisit_ssl.report.blocks import Picture
from revisit_ssl.report.pictures import SOFT, STYLE, png

FOLDER = "cld"
# In the paper's words NMI stands for global, retrieval for local mutual information; kNN is what one wants.
CURVES = (((NMI, NMI_BEFORE), "#0072B2"), ((RETRIEVAL, RETRIEVAL_BEFORE), "#D55E00"), ((KNN, KNN_BEFORE), "#009E73"))


def curves_of(ablation):
    """[(Measure, color, {size of the queue: (percents, one a seed)})]: of each pair the first that was measured."""
    found = []
    for measures, color in CURVES:
        for measure in measures:
            points = {size: tuple(s.scores[measure].values()) for (size,), s in sorted(ablation.settings.items())
                      if measure in s.scores}
            if len(points) > 2:
                found.append((measure, color, points))
                break
    return found


def negatives_figure(settings):
    """NMI, retrieval and kNN over the number of negatives (Figure A.2): MoCo without CLD, one row per data set.

    Args:
        settings: [Setting].

    Returns:
        Picture.

    Raises:
        InputError: no MoCo with three sizes of its queue.
    """
    found = [(a, curves) for a in NEGATIVES.find(settings) if (curves := curves_of(a))]
    require(found, "no MoCo with three sizes of its queue; run revisit-ssl sweep cld-figure-a2")
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 2.7 * len(found)), layout="constrained")
        grid = figure.subplots(len(found), len(CURVES), squeeze=False)
        for row, (ablation, curves) in zip(grid, found, strict=True):
            for panel in row[len(curves) :]:
                panel.set_axis_off()
            for panel, (measure, color, points) in zip(row, curves, strict=False):
                sizes = list(points)
                means = [statistics.fmean(v) for v in points.values()]
                errors = [statistics.stdev(v) if len(v) > 1 else 0 for v in points.values()]
                look = {"color": color, "marker": "o"}
                panel.errorbar(sizes, means, yerr=errors, markersize=5, linewidth=1.6, capsize=2, **look)
                best = max(points, key=lambda size: statistics.fmean(points[size]))
                panel.plot(best, max(means), markersize=11, markerfacecolor="none", ls="", **look)
                panel.set_xscale("log", base=2)
                panel.xaxis.set_major_locator(FixedLocator(sizes))
                panel.xaxis.set_minor_locator(NullLocator())
                panel.set_xticklabels([f"{size:,}" for size in sizes], rotation=45, ha="right", fontsize=8)
                panel.margins(0.1, 0.18)
                panel.set_title(measure.title)
                panel.set_xlabel("negatives (size of the queue)")
                panel.set_ylabel("%")
            if len(found) > 1:
                row[0].set_title(ablation.first.ground.text, loc="right", fontsize=7, color=SOFT)
        picture = png(figure)
    first = found[0][0].first
    caption = (
        "Number of negatives against NMI, retrieval and kNN (the supplement's Figure A.2): MoCo without CLD, "
        f"{'; '.join(a.first.ground.text + ', ' + a.first.length for a, _ in found)}; T {first.task['temperature']:g}. "
        "Seeds' mean and standard deviation; a ring marks the largest. The paper's text has no numbers of its curves: "
        "retrieval rises with the negatives, NMI falls where there are many, kNN is best in between."
    )
    return Picture("negatives", picture, caption, FOLDER)
