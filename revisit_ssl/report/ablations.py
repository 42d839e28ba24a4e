"""Ablations: settings that differ in nothing but some options. One object names the options and their values, finds our
runs, lays out the table, and says what a sweep has to run."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from revisit_ssl.report.blocks import Table
from revisit_ssl.report.settings import Setting, choose
from revisit_ssl.report.tables import bold
from revisit_ssl.runs.identity import flatten


@dataclass(frozen=True)
class Series:
    """Settings that differ in nothing but an ablation's options.

    Attributes:
        settings: {values of those options: Setting}.
        control: the same without the term that the ablation is about, or None.
    """

    settings: dict
    control: Setting | None = None

    @property
    def first(self):
        """One of its Settings, for what all share."""
        return next(iter(self.settings.values()))


@dataclass(frozen=True)
class Ablation:
    """What a table or figure varies.

    Attributes:
        table: its name in numbers.csv; of a figure, or of our own, what it is called.
        title: what it is about.
        varies: {option: what its column is called}; "" for an option that has the value of the one before.
        values: the cells, tuples of values in the order of ``varies``.
        recipes: names of the recipes that it is run with.
        sweep: name of the sweep that runs it.
        label: function of a cell's values, what its run's folder is called.
        control: what the run without the term is called in those columns; () leaves it out.
        without: {recipe: options} of that run; {} is the recipe as it is.
        fixed: {option: value} that all cells share in a sweep.
        texts: {value: text}, for values that are no numbers.
        mine: function of a Setting, whether it may stand in the table.
        ignored: options that may differ too; a term's name stands for all of its options.
        least: how many cells make a series.
    """

    table: str
    title: str
    varies: dict
    values: tuple
    recipes: tuple
    sweep: str
    label: Callable = "{}".format
    control: tuple = ()
    without: dict = field(default_factory=dict)
    fixed: dict = field(default_factory=dict)
    texts: dict = field(default_factory=dict)
    mine: Callable = lambda setting: True
    ignored: tuple = ()
    least: int = 2

    @property
    def columns(self):
        """Titles of the columns that say what is varied."""
        return tuple(title for title in self.varies.values() if title)

    def text(self, point):
        """The cells of the first columns: ("k-means", "10")."""
        named = [value for value, title in zip(point, self.varies.values(), strict=True) if title]
        return tuple(self.texts.get(v) or f"{v:g}" for v in named)

    def place(self, point):
        """Sorts cells in the order of ``texts`` and of numbers."""
        known = list(self.texts)
        return [known.index(v) if v in known else v for v in point]

    def find(self, settings, control=None):
        """[Series] of at least ``least`` cells beside the control, the largest first.

        Args:
            settings: [Setting].
            control: function of (a Setting of the series, its options that may differ), the Setting without the term.
        """
        groups = {}
        for s in settings:
            point = point_of(s, self.varies)
            if self.mine(s) and point is not None and self.fits(point):
                key = s.ground, s.run.pretext, rest(s, (*self.varies, *self.ignored))
                groups.setdefault(key, {}).setdefault(point, []).append(s)
        found = []
        for points in groups.values():
            series = {p: choose(points[p]) for p in sorted(points, key=self.place)}
            if len(series) >= self.least:
                first = next(iter(series.values()))
                found.append(Series(series, control(first, self.varies) if control else None))
        return sorted(found, key=lambda a: -len(a.settings))

    def fits(self, point):
        """Options without a column of their own have the value of the one before."""
        pairs = zip(point, point[1:], list(self.varies.values())[1:], strict=False)
        return all(title or a == b for a, b, title in pairs)


def point_of(setting, options):
    """Values of the options; None where the setting does not have them."""
    try:
        return tuple(functools.reduce(dict.__getitem__, name.split("."), setting.task) for name in options)
    except (KeyError, TypeError):
        return None


def rest(setting, left_out):
    """All else that the runs of an ablation have to share, as text; ``left_out``: options, or terms with all theirs."""
    task = {
        name: value for name, value in flatten(setting.task).items()
        if name not in left_out and name.partition(".")[0] not in left_out
    }
    return json.dumps([task, setting.run.training], sort_keys=True)


def ablation_table(ablation, series, measures, note):
    """One row per cell, one column per measure; the best of each measure in bold.

    Args:
        ablation: Ablation.
        series: Series of it.
        measures: [Measure], those that were taken are shown.
        note: text under the table.
    """
    rows = [(ablation.control, series.control)] if ablation.control and series.control else []
    rows += [(ablation.text(point), s) for point, s in series.settings.items()]
    measures = [m for m in measures if any(m in s.scores for _, s in rows)]
    best = {m: max(s.score(m) for _, s in rows if m in s.scores) for m in measures}
    lines = [
        [*texts, *(bold(s.cell(m), m in s.scores and round(s.score(m), 1) == round(best[m], 1)) for m in measures)]
        for texts, s in rows
    ]
    columns = [*ablation.columns, *(m.title for m in measures)]
    return Table(columns, lines, labels=len(ablation.columns), notes=(note,))
