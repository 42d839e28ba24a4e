"""Choosing the run that is shown in the cell of a table, and naming those left out."""

import statistics
from dataclasses import dataclass

from revisit_ssl.report.names import network_name, probe_name
from revisit_ssl.report.settings import Measure, Setting, counted, is_clear, points, rank


@dataclass(frozen=True)
class Cell:
    """The seeds of one setting by one measure.

    Attributes:
        others: Cells of the same network by other settings, not to be averaged with this one.
    """

    setting: Setting
    measure: Measure
    others: tuple = ()

    @property
    def probe(self):
        """Of its measure."""
        return self.measure.probe

    @property
    def seeds(self):
        """{seed: percent}"""
        return self.setting.scores[self.measure]

    @property
    def values(self):
        """Percent of each seed."""
        return tuple(self.seeds.values())

    @property
    def untrained(self):
        """Percents of the better of the two untrained networks, which may be none."""
        return tuple(self.setting.untrained.get(self.measure, {}).values())

    @property
    def reestimated(self):
        """True if that is the one whose BatchNorm statistics were re-estimated."""
        again = self.setting.kinds.get("random, BN re-estimated")
        theirs = again.scores.get(self.measure) if again else None
        return bool(theirs) and self.setting.untrained[self.measure] is theirs

    @property
    def mean(self):
        """Over the seeds."""
        return statistics.fmean(self.values)

    @property
    def std(self):
        """Sample standard deviation, None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def gain(self):
        """Points between the means, None where the untrained network was not probed."""
        return points(self.setting.untrained.get(self.measure), self.seeds)

    @property
    def clear(self):
        """True if the gain is at least two standard deviations of the difference, known from several seeds of both."""
        return is_clear(self.setting.untrained.get(self.measure), self.seeds)

    @property
    def text(self):
        """47.1 ± 0.3 (3), with a mark if other settings of the same network are not shown."""
        return counted(self.values) + ("‡" if self.others else "")


def best_of(found, split=None):
    """The Cell to show of several of one network, by the one rule; None of none."""
    if not found:
        return None
    first, *rest = sorted(found, key=lambda c: rank(c.setting, c.measure, split), reverse=True)
    return Cell(first.setting, first.measure, tuple(rest))


def hidden(cells, title):
    """[note] on the settings that are not shown; of several endpoints of a network the last one speaks.

    Args:
        cells: [Cell].
        title: what a method is called, of its recipe's name.
    """
    told = {}
    for cell in cells:
        if cell.others:
            s = cell.setting
            others = "; ".join(f"{described(o, cell)}: {counted(o.values)}" for o in cell.others)
            name = f"{title(s.name)}, {network_name(s.backbone, s.width)}"
            told[name] = f"{name}: {described(cell, cell.others[0])} shown; also run: {others}."
    text = "‡ Several settings, never averaged; the one with most seeds, then most steps is shown."
    return [" ".join([text, *told.values()])] if told else []


def described(cell, other):
    """What tells a setting from another: 2,106 steps, recipe 1a2b3c4d."""
    s, o = cell.setting, other.setting
    mine, its = s.recipe or s.setting, o.recipe or o.setting
    parts = [f"{s.steps:,} steps"] if s.steps is not None else []
    parts += [f"{s.split} split"] if s.split != o.split else []
    parts += [probe_name(cell.probe)] if cell.probe != other.probe else []
    parts += [f"recipe {mine}"] if mine and mine != its and s.steps == o.steps else []
    return ", ".join(parts) or "a run from elsewhere"
