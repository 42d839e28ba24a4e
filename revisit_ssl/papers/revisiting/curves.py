"""The supplement's Figure 1 of Revisiting, drawn from our results: the SGD probe's accuracy over its epochs."""

import statistics

from matplotlib import rc_context
from matplotlib.lines import Line2D

from revisit_ssl.errors import require
from revisit_ssl.papers.revisiting.drawing import DASHES, Styles, data_of, legend, panel_grid
from revisit_ssl.papers.revisiting.figures import FOLDER
from revisit_ssl.papers.revisiting.study import study_cells
from revisit_ssl.papers.revisiting.tables import own_size
from revisit_ssl.report import names
from revisit_ssl.report.blocks import Picture
from revisit_ssl.report.pictures import SOFT, STYLE, png
from revisit_ssl.report.settings import RANDOM, epochs
from revisit_ssl.report.tables import probed

SHORTEST = 4  # points of a curve; fewer show no course


def accuracy_curves(results):
    """Validation accuracy of the SGD probe over its epochs (the supplement's Figure 1), pre_logits.

    One column per pretext, one row per data set, probe and schedule, each with its own epochs: schedules that differ
    eightfold in length cannot be read on one axis. One line per network and width, the mean of the seeds, a dot at its
    end. Dotted: the L-BFGS probe of the same network on the same images.

    Args:
        results: [Result]; those with ``extra["curve"]`` [[epoch, percent]] are drawn.

    Returns:
        Picture.

    Raises:
        InputError: there is none.
    """
    mine = [r for r in probed(own_size(results)) if r.weights not in RANDOM and r.endpoint == "pre_logits"]
    mine = [r for r in mine if r.pretext != "supervised"]
    cells = [c for places in study_cells(results).values() for models in places.values() for c in models.values()]
    shown = {recipe for c in cells for recipe in c.setting.recipes}  # the settings that the tables show
    drawn = [r for r in mine if len(r.extra.get("curve") or ()) >= SHORTEST and r.recipe in shown]
    require(drawn, "no accuracy curves; probe with linear_images, which keeps the accuracy of its epochs")
    panels, lines = {}, {}
    for r in sorted(drawn, key=lambda r: (r.schedule or ())[-1:]):  # the short ones first
        panel = panels.setdefault((data_of(r), r.probe, r.schedule), {}).setdefault(r.pretext, {})
        panel.setdefault((r.backbone, r.width, r.steps), {})[r.seed] = dict(r.extra["curve"])
    order = list(dict.fromkeys(data_of(r) for r in drawn))
    panels = dict(sorted(panels.items(), key=lambda row: order.index(row[0][0])))
    for r in mine:
        if r.probe == "lbfgs" and "val_top1" in r.extra:
            lines.setdefault((data_of(r), r.pretext, r.backbone, r.width, r.steps), {})[r.seed] = r.extra["val_top1"]
    styles = Styles(drawn)
    with rc_context(STYLE):
        figure, grid = panel_grid(panels, {row: label(*row) for row in panels})
        for panel, row, pretext in grid:
            draw(panel, panels[row][pretext], styles)
            panel.set_xlim(0, 1.04 * max(e for found in panels[row].values() for e in map(last_epoch, found.values())))
            for backbone, k, steps in panels[row][pretext]:
                if final := lines.get((row[0], pretext, backbone, k, steps)):
                    color = styles.color(backbone)
                    panel.axhline(statistics.fmean(final.values()), color=color, linewidth=1, ls=":")
        legend(figure, [*handles(styles), *([DOTTED] if lines else [])])
        picture = png(figure)
    caption = "Validation accuracy on pre_logits over the epochs of the SGD probe (the supplement's Figure 1): "
    caption += f"{', '.join(map(names.network_name, styles.backbones))}, seeds' mean; each row has its own epochs."
    if lines:
        caption += " Dotted: the L-BFGS probe of the same network on the same validation images."
    return Picture("accuracy_curves", picture, caption, FOLDER)


DOTTED = Line2D([], [], color=SOFT, linestyle=":", linewidth=1, label="L-BFGS")


def draw(panel, lines, styles):
    """A panel: ``lines`` {(backbone, width, steps): {seed: {epoch: percent}}}."""
    for (backbone, k, _), seeds in lines.items():
        shared = sorted(set.intersection(*(set(curve) for curve in seeds.values())))
        means = [statistics.fmean(curve[e] for curve in seeds.values()) for e in shared]
        look = {"color": styles.color(backbone), "linestyle": DASHES[styles.widths.index(k) % len(DASHES)]}
        panel.plot(shared, means, linewidth=1.2, **look)
        panel.plot(shared[-1], means[-1], marker="o", markersize=4, color=look["color"])
    panel.set_xlabel("epoch")


def last_epoch(seeds):
    """Of curves {seed: {epoch: percent}}."""
    return max(map(max, seeds.values()))


def label(data, probe, schedule):
    """What a row is called: data set, probe with its schedule, what is measured."""
    return f"{names.data_name(*data)}\n{names.probe_name(probe)} {epochs(schedule)}".strip() + "\nval top-1 (%)"


def handles(styles):
    """Legend entries: networks by colour, then widths by dashes where there are several."""
    found = [Line2D([], [], color=styles.color(b), linewidth=2, label=names.network_name(b)) for b in styles.backbones]
    if len(styles.widths) > 1:
        for i, k in enumerate(styles.widths):
            found.append(Line2D([], [], color=SOFT, linewidth=1.2, linestyle=DASHES[i % len(DASHES)], label=f"{k}x"))
    return found
