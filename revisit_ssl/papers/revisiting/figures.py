"""Revisiting's figures, drawn from our results: curves of the SGD probe, width and size, pretext against downstream.

Each function returns a ``Picture`` (PNG bytes and a caption); an InputError says what has to be run where there is
nothing to draw.
"""

import math
import statistics
from dataclasses import dataclass

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator
from scipy.stats import spearmanr

from revisit_ssl.errors import require
from revisit_ssl.papers.methods import method_name
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.revisiting.drawing import COLORS, DASHES, MARKERS, Point, Styles, legend, panel_grid
from revisit_ssl.papers.revisiting.study import study_cells
from revisit_ssl.papers.revisiting.tables import own_size
from revisit_ssl.report import names
from revisit_ssl.report.blocks import Picture, Table
from revisit_ssl.report.pictures import SOFT, STYLE, png
from revisit_ssl.report.settings import RANDOM, choose, epochs, grouped, unique
from revisit_ssl.report.tables import depth, probed

FOLDER = "revisiting"


def accuracy_curves(results):
    """Validation accuracy of the SGD probe over its epochs (the supplement's Figure 1), pre_logits.

    One panel per pretext and data set; one line per network, width and schedule, the mean of the seeds. Dotted: the
    L-BFGS probe of the same network on the same images.

    Args:
        results: [Result]; those with ``extra["curve"]`` [[epoch, percent]] are drawn.

    Returns:
        Picture.

    Raises:
        InputError: there is none.
    """
    mine = [r for r in probed(own_size(results)) if r.weights not in RANDOM and r.endpoint == "pre_logits"]
    mine = [r for r in mine if r.pretext != "supervised"]
    shown = {recipe for c in all_cells(results) for recipe in c.setting.recipes}  # the settings that the tables show
    drawn = [r for r in mine if r.extra.get("curve") and r.recipe in shown]
    require(drawn, "no accuracy curves; probe with linear_images, which keeps the accuracy of its epochs")
    panels, lines = {}, {}
    for r in drawn:
        panel = panels.setdefault(data_of(r), {}).setdefault(r.pretext, {})
        panel.setdefault((r.backbone, r.width, r.probe, r.schedule, r.steps), {})[r.seed] = dict(r.extra["curve"])
    for r in mine:
        if r.probe == "lbfgs" and "val_top1" in r.extra:
            key = (data_of(r), r.pretext, r.backbone, r.width, r.steps)
            lines.setdefault(key, {})[r.seed] = r.extra["val_top1"]
    styles = Styles(drawn)
    schedules = unique((r.probe, r.schedule) for r in drawn)
    looks = {schedule: {"linestyle": DASHES[i % len(DASHES)]} for i, schedule in enumerate(schedules)}
    one = len(styles.backbones) == 1  # then colours are free to tell the schedules
    if one:
        looks = {schedule: {"color": list(COLORS.values())[i % 6]} for i, schedule in enumerate(schedules)}
    with rc_context(STYLE):
        figure, grid = panel_grid(panels, {data: f"{names.data_name(*data)}\nval top-1 (%)" for data in panels})
        for panel, data, pretext in grid:
            for (backbone, k, probe, schedule, steps), seeds in panels[data].get(pretext, {}).items():
                shared = sorted(set.intersection(*(set(curve) for curve in seeds.values())))
                means = [statistics.fmean(curve[e] for curve in seeds.values()) for e in shared]
                look = styles.line(backbone, k) | (looks[probe, schedule] if len(schedules) > 1 else {})
                look["marker"] = look["marker"] if len(styles.widths) > 1 else None
                panel.plot(shared, means, **look, markevery=max(1, len(shared) // 6))
                final = lines.get((data, pretext, backbone, k, steps))
                if final:
                    color = SOFT if one else styles.color(backbone)
                    panel.axhline(statistics.fmean(final.values()), color=color, linewidth=1, ls=":")
            panel.set_xlabel("epoch of the SGD probe")
        handles = styles.handles()
        if len(schedules) > 1:
            handles = handles[1:] if one else handles
            for schedule, look in looks.items():
                label = f"{names.probe_name(schedule[0])} {epochs(schedule[1])}".strip()
                handles.append(Line2D([], [], **{"color": SOFT, "linewidth": 1.5, "label": label} | look))
        if lines:
            handles.append(Line2D([], [], color=SOFT, linestyle=":", linewidth=1, label="L-BFGS"))
        legend(figure, handles)
        picture = png(figure)
    caption = "Validation accuracy on pre_logits over the epochs of the SGD probe (the supplement's Figure 1): "
    caption += f"{', '.join(map(names.network_name, styles.backbones))}, seeds' mean."
    if lines:
        caption += " Dotted: the L-BFGS probe of the same network on the same validation images."
    return Picture("accuracy_curves", picture, caption, FOLDER)


def width_figure(results, pretext="rotation", backbone="revnet50", probe=None):
    """Accuracy over the size of the representation, one line per width (the paper's Figure 6).

    Args:
        results: [Result] with ``representation_size``; those without are left out.
        pretext, backbone: whose.
        probe: name in PROBES; by default the first that was run of linear, linear_images, lbfgs, ….

    Returns:
        Picture; the two points that the paper prints (k = 1) alone where we have none.
    """
    rows = [
        r for r in load_published("revisiting")
        if (r["table"], r["pretext"], r["backbone"]) == ("Figure 6", pretext, backbone)
    ]
    theirs = {r["width"]: [] for r in rows}
    for r in rows:
        theirs[r["width"]].append((size_in(r["note"]), r["value"]))
    mine = [
        r for r in probed(results)
        if (r.pretext, r.backbone, r.endpoint) == (pretext, backbone, "pre_logits") and r.weights not in RANDOM
        and r.representation_size
    ]
    panels = {("imagenet2012", "imagenet2012", 1.0): {}} if theirs else {}
    for data in unique(data_of(r) for r in mine):
        here = [r for r in mine if data_of(r) == data]
        panels[data] = line_of_sizes(of_one_probe(here, probe))
    require(any(panels.values()) or theirs, f"no {pretext} of {backbone} with a representation size in the results")
    widths = sorted({k for lines in panels.values() for k in lines} | set(theirs))
    looks = {
        k: {"color": list(COLORS.values())[i % 7], "marker": MARKERS[i % len(MARKERS)]} for i, k in enumerate(widths)
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(max(4.2, 3.1 * len(panels)), 3.0), layout="constrained")
        for panel, (data, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
            draw_sizes(panel, data, lines, theirs if data[0] == data[1] == "imagenet2012" else {}, looks)
        drawn = {k for lines in panels.values() for k in lines}
        handles = [Line2D([], [], linewidth=1.5, markersize=5, label=f"{k}x", **looks[k]) for k in widths if k in drawn]
        handles += [
            Line2D(
                [], [], color=looks[k]["color"], ls=":", marker="D", markerfacecolor="white", label=f"the paper's {k}x†"
            )
            for k in theirs
        ]
        legend(figure, handles)
        picture = png(figure)
    caption = (
        f"{method_name(pretext)} with {names.network_name(backbone)}: accuracy over the size of the "
        "representation, one line per width (the paper's Figure 6), seeds' mean and standard deviation."
    )
    if theirs:
        caption += " † The paper's two points are read off its figure, about."
    if not drawn:
        caption += " Nothing of ours was run."
    return Picture("width_and_size", picture, caption, FOLDER)


def draw_sizes(panel, data, lines, theirs, looks):
    """A panel of ``width_figure``.

    Args:
        panel: Axes.
        data: (pretext's set, probe's set, share of labels).
        lines: {width: {size: [percent of each seed]}}.
        theirs: {width: [(size, percent)]} of the paper.
        looks: {width: colour and marker}.
    """
    sizes = set()
    for k, points in lines.items():
        x = sorted(points)
        sizes |= set(x)
        means = [statistics.fmean(points[d]) for d in x]
        errors = [statistics.stdev(points[d]) if len(points[d]) > 1 else 0 for d in x]
        panel.errorbar(x, means, yerr=errors, capsize=2, linewidth=1.5, markersize=5, **looks[k])
    for k, points in theirs.items():
        x, y = zip(*sorted(points), strict=True)
        sizes |= set(x)
        look = {"color": looks[k]["color"], "linestyle": ":", "marker": "D", "markerfacecolor": "white"}
        panel.plot(x, y, linewidth=1.2, markersize=7, **look)
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_locator(FixedLocator(sorted(sizes)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticklabels([f"{d:,}" for d in sorted(sizes)], rotation=45, ha="right")
    panel.margins(0.12)
    panel.set_title(names.data_name(*data))
    panel.set_xlabel("size of pre_logits (values)")
    panel.set_ylabel("top-1 (%)")


def scatter_figure(results, probe=None):
    """Accuracy of the pretext itself against linear accuracy at pre_logits, one point per run (section 4.4).

    Args:
        results: [Result]; a run's own score (probe "pretext", metric "accuracy") is matched with its probes by
            pretext, network, width, data, seed and recipe.
        probe: as in ``width_figure``.

    Returns:
        Picture; the caption gives Spearman's rank correlation across networks and within each.

    Raises:
        InputError: no run has both numbers.
    """
    points = scatter_points(results, probe)
    panels = {}
    for (data, pretext), runs in points.items():
        panels.setdefault(data, {})[pretext] = runs
    styles = Styles(run for runs in points.values() for run in runs)
    found = correlations(points)
    across = {(c.data, c.pretext): c for c in found if not c.network}
    with rc_context(STYLE):
        figure, grid = panel_grid(panels, {data: f"{names.data_name(*data)}\ntop-1 (%)" for data in panels})
        for panel, data, pretext in grid:
            runs = panels[data][pretext]
            for run in runs:
                look = styles.point(run.backbone, run.width)
                panel.plot(run.x, run.y, ls="", alpha=0.85, markeredgecolor="white", **look)
            panel.margins(0.15)
            panel.set_xlabel("accuracy of the pretext (%)")
            panel.grid(axis="x")
            panel.set_title(f"ρ {across[data, pretext].text}", loc="right", fontsize=8, color=SOFT)
        legend(figure, styles.handles(points=True))
        picture = png(figure)
    within = [c.rho for c in found if c.network and not math.isnan(c.rho)]
    caption = (
        "Does a better pretext score mean better features? Own accuracy on validation images against linear accuracy "
        "on pre_logits, one point per run. Above each panel Spearman's ρ across networks, with the number of runs."
    )
    if within:
        caption += (
            f" Within one network (and pretext and data set) of at least three runs it is {min(within):.2f} to "
            f"{max(within):.2f}, in the median {statistics.median(within):.2f}."
        )
    return Picture("pretext_and_downstream", picture, caption, FOLDER)


def correlation_table(results, probe=None):
    """Spearman's rank correlation of ``scatter_figure``, across networks and within each."""
    found = correlations(scatter_points(results, probe))
    networks = names.order((c.network for c in found if c.network), names.NETWORKS)
    rows = []
    for data, pretext in unique((c.data, c.pretext) for c in found):
        mine = {c.network: c.text for c in found if (c.data, c.pretext) == (data, pretext)}
        rows.append([names.data_name(*data), method_name(pretext), *(mine.get(n, "") for n in ("", *networks))])
    note = (
        "Spearman's ρ between a pretext's own accuracy and linear accuracy, over runs (their number in "
        "brackets); a dash for fewer than three runs, and across networks where there is one."
    )
    columns = ["data", "pretext", "across networks", *map(names.network_name, networks)]
    return Table(columns, rows, labels=2, notes=(note,))


def endpoint_figure(results, probe=None):
    """Accuracy from block1 to pre_logits, one line per network and width (the paper's section 4.5); untrained dashed.

    Args:
        results: [Result].
        probe: as in ``width_figure``.

    Returns:
        Picture.

    Raises:
        InputError: fewer than two endpoints were probed.
    """
    panels, used = {}, {}
    for data, cells in study_cells(results).items():
        first = probe or names.order((p for p, _ in cells), names.PROBES)[0]
        lines = {}
        for (p, endpoint), models in cells.items():
            for (pretext, backbone, k), cell in models.items():
                if p == first and pretext != "supervised":
                    lines.setdefault(pretext, {}).setdefault((backbone, k), {})[endpoint] = cell
        lines = {p: {m: c for m, c in found.items() if len(c) > 1} for p, found in lines.items()}
        if any(lines.values()):
            panels[data], used[data] = {p: found for p, found in lines.items() if found}, first
    require(panels, "no network with two probed endpoints; give the probes several --endpoints")
    styles = Styles(Point(b, k) for found in panels.values() for lines in found.values() for b, k in lines)
    with rc_context(STYLE):
        named = {d: f"{names.data_name(*d[:3])}\n{names.probe_name(used[d])}\ntop-1 (%)" for d in panels}
        figure, grid = panel_grid(panels, named)
        for panel, data, pretext in grid:
            lines = panels[data].get(pretext, {})
            order = sorted({e for cells in lines.values() for e in cells}, key=depth)
            for (backbone, k), cells in lines.items():
                places = [order.index(e) for e in sorted(cells, key=depth)]
                found = [cells[order[i]] for i in places]
                look = styles.line(backbone, k)
                errors = [c.std or 0 for c in found]
                panel.errorbar(places, [c.mean for c in found], yerr=errors, capsize=2, elinewidth=1, **look)
                plain = [statistics.fmean(c.untrained) if c.untrained else math.nan for c in found]
                faint = look | {"linestyle": "--", "linewidth": 1, "marker": None, "alpha": 0.7}
                panel.plot(places, plain, **faint)
            panel.set_xticks(range(len(order)), order, rotation=35, ha="right", fontsize=8)
        handles = styles.handles()
        handles.append(Line2D([], [], color=SOFT, linestyle="--", linewidth=1, label="untrained"))
        legend(figure, handles)
        picture = png(figure)
    caption = (
        "Accuracy of each endpoint, from the input up (the paper's section 4.5): seeds' mean and standard deviation. "
        "Dashed: the same network untrained, the better of as initialised and with BatchNorm statistics re-estimated."
    )
    return Picture("endpoints", picture, caption, FOLDER)


def all_cells(results):
    return [c for places in study_cells(results).values() for models in places.values() for c in models.values()]


def data_of(r):
    """(pretext's set, probe's set, share of labels) of a Result."""
    return r.dataset, r.probe_dataset, r.labels


def of_one_probe(results, probe=None):
    """Those of one probe, the first that was run of names.PROBES, at its usual schedule or else at its longest."""
    used = probe or names.order((r.probe for r in results), names.PROBES)[0]
    found = [r for r in results if r.probe == used]
    schedules = {r.schedule for r in found}
    schedule = None if None in schedules else max(schedules, default=None)
    return [r for r in found if r.schedule == schedule]


def line_of_sizes(results):
    """{width: {size: [percent, one per seed]}} of one probe; of several settings of one size ``choose`` takes one."""
    found = {}
    for size in sorted({r.representation_size for r in results}):
        settings = grouped([r for r in results if r.representation_size == size])
        for k in unique(s.width for s in settings):
            chosen = choose([s for s in settings if s.width == k])
            (seeds,) = list(chosen.scores.values())[-1:]
            found.setdefault(k, {})[size] = list(seeds.values())
    return dict(sorted(found.items()))


def size_in(note):
    """512 of "representation size 512 by …"."""
    return int(note.partition("representation size ")[2].split()[0])


def scatter_points(results, probe=None):
    """{((dataset, probe_dataset, labels), pretext): [Point]}: each run's own accuracy and that of its pre_logits.

    Raises:
        InputError: no run has both.
    """
    results = own_size(results)

    def run_of(r):
        return r.pretext, r.backbone, r.width, r.dataset, r.seed, r.steps, r.recipe

    own = {run_of(r): r.value for r in results if r.probe == "pretext" and r.metric == "accuracy"}
    mine = [r for r in probed(results) if r.weights not in RANDOM and r.endpoint == "pre_logits"]
    found = {}
    for data in unique(data_of(r) for r in mine):
        here = [r for r in mine if data_of(r) == data]
        for r in of_one_probe(here, probe):
            if run_of(r) in own and r.pretext != "supervised":
                found.setdefault((data, r.pretext), []).append(Point(r.backbone, r.width, own[run_of(r)], r.value))
    require(found, "no run with both its pretext's own accuracy and a probe of pre_logits; a sweep writes both")
    return found


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho over the runs of a panel, network "", or of one network in it; nan for fewer than three.

    Across networks it is nan for one network too.
    """

    data: tuple
    pretext: str
    network: str
    rho: float
    runs: int

    @property
    def text(self):
        return f"{'–' if math.isnan(self.rho) else format(self.rho, '.2f')} ({self.runs})"


def correlations(points):
    """[Correlation] of ``scatter_points``: of each panel across its networks, then within each network."""
    found = []
    for (data, pretext), runs in points.items():
        networks = names.order((run.backbone for run in runs), names.NETWORKS)
        for network in ("", *networks):
            mine = [run for run in runs if network in ("", run.backbone)]
            x, y = [run.x for run in mine], [run.y for run in mine]
            known = len(mine) > 2 and len(set(x)) > 1 and len(set(y)) > 1 and (network or len(networks) > 1)
            rho = float(spearmanr(x, y).statistic) if known else math.nan
            found.append(Correlation(data, pretext, network, rho, len(mine)))
    return found
