"""Revisiting's figures, drawn from our results: width and size, pretext against downstream, endpoints.

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
from revisit_ssl.papers.revisiting.drawing import COLORS, MARKERS, Point, Styles, data_of, legend, panel_grid
from revisit_ssl.papers.revisiting.study import study_cells
from revisit_ssl.papers.revisiting.tables import own_size
from revisit_ssl.report import names
from revisit_ssl.report.blocks import Picture, Table
from revisit_ssl.report.pictures import SOFT, STYLE, png
from revisit_ssl.report.settings import RANDOM, choose, grouped, spread, unique
from revisit_ssl.report.tables import depth, probed

FOLDER = "revisiting"
PAPERS_OWN = ("imagenet2012", "imagenet2012", 1.0)  # what the paper's Figure 6 is of
LEAST = 5.0  # points of accuracy that an axis spans, so that a tenth of a point does not look like a slope


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
    panels = {PAPERS_OWN: {}} if theirs else {}
    for data in unique(data_of(r) for r in mine):
        here = [r for r in mine if data_of(r) == data]
        panels[data] = line_of_sizes(of_one_probe(here, probe))
    # One size alone is no line: a number of a table, which the caption names.
    alone = {d: lines for d, lines in panels.items() if lines and d != PAPERS_OWN and max(map(len, lines.values())) < 2}
    panels = {data: lines for data, lines in panels.items() if data not in alone}
    require(panels or alone, f"no {pretext} of {backbone} with a representation size in the results")
    widths = sorted({k for lines in panels.values() for k in lines} | set(theirs))
    looks = {
        k: {"color": list(COLORS.values())[i % 7], "marker": MARKERS[i % len(MARKERS)]} for i, k in enumerate(widths)
    }
    with rc_context(STYLE):
        figure = Figure(figsize=(max(4.2, 3.6 * len(panels)), 3.3), layout="constrained")
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
    for data, lines in alone.items():
        found = [(k, size, spread(values)) for k, points in lines.items() for size, values in points.items()]
        told = ", ".join(f"{k}x of {size:,} values {value}" for k, size, value in found)
        caption += f" One size alone, {names.data_name(*data)}: {told}."
    if not drawn and not alone:
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
        tell_numbers(panel, x, means, looks[k]["color"])
    for k, points in theirs.items():
        x, y = zip(*sorted(points), strict=True)
        sizes |= set(x)
        look = {"color": looks[k]["color"], "linestyle": ":", "marker": "D", "markerfacecolor": "white"}
        panel.plot(x, y, linewidth=1.2, markersize=7, **look)
        tell_numbers(panel, x, y, looks[k]["color"])
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_locator(FixedLocator(sorted(sizes)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticklabels([f"{d:,}" for d in sorted(sizes)], rotation=45, ha="right")
    panel.margins(0.15, 0.2)
    low, high = panel.get_ylim()
    if high - low < LEAST:
        panel.set_ylim((low + high - LEAST) / 2, (low + high + LEAST) / 2)
    panel.set_title(names.data_name(*data))
    panel.set_xlabel("size of pre_logits (values)")
    panel.set_ylabel("top-1 (%)")


def tell_numbers(panel, x, y, color):
    """Writes each value above its point."""
    look = {"textcoords": "offset points", "ha": "center", "fontsize": 7.5, "color": color}
    for place, value in zip(x, y, strict=True):
        panel.annotate(f"{value:.1f}", (place, value), (0, 6), **look)


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
