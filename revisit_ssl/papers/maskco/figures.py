"""Figures of the MaskCo page, drawn from our results: stages side by side, the loss and the cosines over training."""

import statistics

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from revisit_ssl.errors import require
from revisit_ssl.papers.maskco.methods import MEASURES, METHODS, STAGES, curves_of, methods_of, name_of
from revisit_ssl.report import names
from revisit_ssl.report.blocks import Picture
from revisit_ssl.report.pictures import DARK, STYLE, png
from revisit_ssl.report.settings import choose, unique

FOLDER = "maskco"
COLORS = dict(zip(METHODS, ("#999999", DARK, "#F0C27B", "#E69F00", "#56B4E9", "#0072B2", "#009E73", "#CC79A7",
                            "#D55E00", "#8C2D04"), strict=True))  # fmt: skip
SCALARS = {"loss": "loss (nats)", "accuracy": "accuracy of the positive",
           "cosine_before_mph": "cosine before MPH", "cosine_after_mph": "cosine after MPH"}  # fmt: skip
CELLS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def stages_figure(settings, name="stages"):
    """One line per method over the five stages, the untrained network of each dashed.

    Args:
        settings: [Setting] of one ground.
        name: of the picture.

    Returns:
        Picture.

    Raises:
        InputError: no method whose stages were measured.
    """
    lines = {METHODS[n]: (s, COLORS[n]) for n, s in methods_of(settings).items()}
    others = unique(name_of(s) for s in settings if s.run.pretext == "maskco" and name_of(s) not in METHODS.values())
    for title, color in zip(others, CELLS, strict=False):
        lines[title] = choose([s for s in settings if name_of(s) == title]), color
    lines = {title: (s, color) for title, (s, color) in lines.items() if any(m in s.scores for m in MEASURES)}
    require(lines, "no run with the probe multi_layer; run revisit-ssl sweep maskco-table1")
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.2), layout="constrained")
        panel = figure.subplots()
        for title, (s, color) in lines.items():
            known = [(i, m) for i, m in enumerate(MEASURES) if m in s.scores]
            values = [statistics.fmean(s.scores[m].values()) for _, m in known]
            dashes = "-" if title in METHODS.values() else ":"
            panel.plot([i for i, _ in known], values, dashes, color=color, marker="o", markersize=3.5, label=title)
        shared = {m: [statistics.fmean(s.untrained[m].values()) for s, _ in lines.values() if m in s.untrained]
                  for m in MEASURES}  # fmt: skip
        known = [(i, max(shared[m])) for i, m in enumerate(MEASURES) if shared[m]]
        if known:
            panel.plot(*zip(*known, strict=True), "--", color=DARK, linewidth=1, label="untrained")
        panel.set_xticks(range(len(STAGES)), STAGES)
        panel.set_ylabel("top-1 (%)")
        figure.legend(loc="outside right upper", fontsize=8)
        picture = png(figure)
    caption = (
        f"Linear classifiers on five stages: {settings[0].ground.text}. Means of the seeds; dashed: the best of the "
        "untrained networks; dotted: MaskCo with other masks and heads."
    )
    return Picture(name, picture, caption, FOLDER)


def training_figure(settings, name="training"):
    """Loss, accuracy and the cosines before and after MPH over the training of MaskCo, one line per setting.

    Raises:
        InputError: no run of MaskCo with its curves.
    """
    mine = [s for s in settings if s.run.pretext == "maskco" and curves_of(s, "loss")]
    require(mine, "no run of MaskCo with the curves of its loss")
    lines = {title: choose([s for s in mine if name_of(s) == title]) for title in unique(map(name_of, mine))}
    with rc_context(STYLE):
        figure = Figure(figsize=(3.0 * len(SCALARS), 3.0), layout="constrained")
        for panel, (scalar, title) in zip(figure.subplots(1, len(SCALARS)), SCALARS.items(), strict=True):
            for (label, s), color in zip(lines.items(), CELLS * 3, strict=False):
                for curve in list(curves_of(s, scalar).values())[:1]:
                    panel.plot(*np.array(curve, float).T, color=color, linewidth=1.5, label=label)
            panel.set_title(title, fontsize=9)
            panel.set_xlabel("epoch")
        handles = {h.get_label(): h for panel in figure.axes for h in panel.get_lines()}
        figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=3, fontsize=8)
        picture = png(figure)
    told = " ".join(names.sentence(title, s.length) for title, s in lines.items())
    caption = (
        f"Training of MaskCo: {settings[0].ground.text}. First seed of each. The cosines: of the masked region "
        f"with the same region of the whole view, as the target sees it. {told}"
    )
    return Picture(name, picture, caption, FOLDER)
