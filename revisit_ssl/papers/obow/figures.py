"""Figures of the OBoW page, drawn from our results: methods side by side, vocabularies and words over training."""

import statistics

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from revisit_ssl.errors import require
from revisit_ssl.papers.obow.methods import (
    FULL,
    LEVELS,
    METHODS,
    SECTION_D,
    TABLE_1,
    VANILLA,
    VOCABULARIES,
    level_name,
    method_of,
    methods_of,
    options_of,
    words_of,
)
from revisit_ssl.report import names
from revisit_ssl.report.blocks import Picture
from revisit_ssl.report.pictures import DARK, SOFT, STYLE, empty, png

FOLDER = "obow"
TITLES = tuple(dict.fromkeys(METHODS.values()))
COLORS = dict(zip(TITLES, ("#56B4E9", "#0072B2", "#F0C27B", "#D55E00", "#999999"), strict=True))
OF_VOCABULARY = dict(zip(VOCABULARIES, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))
SCALARS = {
    "usage_perplexity": "words in use in a batch (perplexity)", "perplexity": "words of an image (perplexity)",
    "batch_perplexity": "words of a batch's bag (perplexity)",
    "mu": "mu, distance to the nearest word", "used": "share of the words in use (%)",
}


def methods_figure(settings, name="methods"):
    """Bars of each method at each measure, the untrained network as a dashed line.

    Args:
        settings: [Setting] of one ground.
        name: of the picture.

    Returns:
        Picture.

    Raises:
        InputError: no method with few-shot or linear probes.
    """
    methods = methods_of(settings)
    measures = [m for m in TABLE_1 if any(m in s.scores for s in methods.values())]
    require(measures, "no run with few-shot or linear probes; run revisit-ssl sweep obow")
    with rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(measures), 3.2), layout="constrained")
        panels = figure.subplots(1, len(measures), squeeze=False)[0]
        for panel, measure in zip(panels, measures, strict=True):
            for place, (method, s) in enumerate(methods.items()):
                values = tuple(s.scores.get(measure, {}).values())
                if not values:
                    continue
                error = statistics.stdev(values) if len(values) > 1 else 0
                look = {"color": COLORS.get(method, DARK), "ecolor": SOFT, "capsize": 2}
                bar = panel.bar(place, statistics.fmean(values), 0.72, yerr=error, **look)
                panel.bar_label(bar, [f"{statistics.fmean(values):.1f}"], padding=2, fontsize=8, color=SOFT)
            lines = [
                statistics.fmean(s.untrained[measure].values()) for s in methods.values() if measure in s.untrained
            ]
            if lines:
                panel.axhline(max(lines), color=DARK, linestyle="--", linewidth=1)
            panel.set_xticks([])
            panel.set_title(measure.title)
            panel.set_ylabel("%")
            panel.margins(y=0.15)
        handles = [panels[0].bar(0, 0, color=COLORS.get(m, DARK), label=m) for m in methods]
        dashed = [panels[0].plot([], [], color=DARK, linestyle="--", linewidth=1, label="untrained")[0]]
        figure.legend(handles=[*handles, *(dashed if lines else [])], loc="outside lower center", ncols=6, fontsize=8)
        picture = png(figure)
    caption = (
        f"Features of each method: {settings[0].ground.text}. Seeds' mean and standard deviation; dashed: the "
        f"better of the untrained networks. {' '.join(names.sentence(m, s.length) for m, s in methods.items())}"
    )
    return Picture(name, picture, caption, FOLDER)


def vocabularies_figure(settings, name="vocabularies"):
    """Words in use over training, one curve per vocabulary, one panel per level.

    Raises:
        InputError: no two vocabularies with their curves.
    """
    groups = [g for g in SECTION_D.find(settings) if sum(bool(words_of(s)) for s in g.settings.values()) > 1]
    require(groups, "no runs that differ in the vocabulary alone; run revisit-ssl sweep obow-vocabulary")
    found, first = groups[0].settings, groups[0].first
    levels = [level for level in LEVELS if any((level, "usage_perplexity") in words_of(s) for s in found.values())]
    lines = {VOCABULARIES[kind]: (s, OF_VOCABULARY[kind]) for (kind,), s in found.items()}
    scalars = ("usage_perplexity", "perplexity", "used")
    picture = panels_of(lines, levels, scalars, log=("usage_perplexity",))
    caption = (
        f"Vocabularies of {method_of(first)}: {first.ground.text}, {options_of(first)}; {first.length}. Lines: mean of "
        "the seeds; bands: their smallest and largest number. A vocabulary has collapsed where a batch uses few words."
    )
    return Picture(name, picture, caption, FOLDER)


def training_figure(settings, name="training"):
    """Perplexities, word usage and mu over the training of OBoW, one line per method and one row per level.

    Raises:
        InputError: no run of OBoW with its curves.
    """
    methods = {m: s for m, s in methods_of(settings).items() if m in (VANILLA, FULL) and words_of(s)}
    require(methods, "no run of OBoW with the curves of its words")
    levels = [level for level in LEVELS if any((level, "mu") in words_of(s) for s in methods.values())]
    lines = {method: (s, COLORS[method]) for method, s in methods.items()}
    caption = (
        f"Words of OBoW over training: {settings[0].ground.text}. Lines: mean of the seeds; bands: their smallest and "
        f"largest number. {' '.join(names.sentence(m, options_of(s), s.length) for m, s in methods.items())}"
    )
    return Picture(name, panels_of(lines, levels, tuple(SCALARS)), caption, FOLDER)


def panels_of(lines, levels, scalars, log=()):
    """PNG bytes: one row per level, one column per scalar; ``lines``: {label: (Setting, color)}."""
    known = {place for s, _ in lines.values() for place in words_of(s)}
    scalars = [name for name in scalars if any((level, name) in known for level in levels)]
    scalars.sort(key=lambda name: any((level, name) not in known for level in levels))  # with a gap: at the right
    with rc_context(STYLE):
        figure = Figure(figsize=(3.1 * len(scalars), 2.5 * len(levels) + 0.4), layout="constrained")
        grid = figure.subplots(len(levels), len(scalars), squeeze=False)
        for row, level in zip(grid, levels, strict=True):
            row[0].set_ylabel(level_name(level))
            for panel, scalar in zip(row, scalars, strict=True):
                for label, (s, color) in lines.items():
                    epochs, values = curves_of(s, level, scalar)
                    if len(epochs):
                        panel.plot(epochs, values.mean(0), color=color, linewidth=1.6, label=label)
                        panel.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.2, linewidth=0)
                panel.set_title(SCALARS[scalar], fontsize=8.5)
                if not panel.get_lines():
                    empty(panel, "not written down by these runs")
                    continue
                panel.set_xlabel("epoch")
                if scalar in log:
                    panel.set_yscale("log", base=2)
                    panel.yaxis.set_major_formatter("{x:,g}")
        handles = {h.get_label(): h for panel in grid.flat for h in panel.get_lines()}
        figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=4, fontsize=8)
        return png(figure)


def curves_of(setting, level, scalar):
    """(epochs [n], values [seeds, n]) of the seeds' curves, read at the epochs of the first one."""
    curves = [np.array(r.extra["curve"], float) for r in words_of(setting).get((level, scalar), {}).values()]
    curves = [c for c in curves if len(c)]
    if not curves:
        return np.zeros(0), np.zeros((0, 0))
    epochs = curves[0][:, 0]
    return epochs, np.stack([np.interp(epochs, c[:, 0], c[:, 1]) for c in curves])
