"""One number a cell: which of our runs stands in it, and which had to stay out."""

import math
import statistics
from dataclasses import dataclass, replace

from revisit_ssl.report.names import network_name, pretext_name, probe_name
from revisit_ssl.report.tables import Group, spread


@dataclass(frozen=True)
class Cell:
    """The seeds of one setting at one probe and endpoint.

    Attributes:
        values: percents, one a seed; ``seeds`` are their numbers.
        untrained: percents of the better of the two untrained networks, which may be none.
        reestimated: True if that is the one whose BatchNorm statistics were re-estimated.
        group: the setting.
        probe: as it was run.
        others: Cells of the same network by other settings, not to be averaged with this one.
    """

    values: tuple
    group: Group
    probe: str
    seeds: tuple = ()
    untrained: tuple = ()
    reestimated: bool = False
    others: tuple = ()

    @property
    def mean(self):
        return statistics.fmean(self.values)

    @property
    def std(self):
        """Sample standard deviation, None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def gain(self):
        """Points between the means, None where the untrained network was not probed."""
        return self.mean - statistics.fmean(self.untrained) if self.untrained else None

    @property
    def clear(self):
        """True if the gain is at least two standard deviations of the difference, known from several seeds of both."""
        if min(len(self.values), len(self.untrained)) < 2:
            return False
        return self.gain >= 2 * math.hypot(self.std, statistics.stdev(self.untrained))

    @property
    def text(self):
        """47.1 ± 0.3 (3), with a mark if other settings of the same network are not shown."""
        return counted(self.values) + ("‡" if self.others else "")


def counted(values):
    """47.1 ± 0.3 (3): mean, sample standard deviation and number of seeds."""
    return f"{spread(values)} ({len(values)})" if values else ""


def best_of(found, split=None):
    """The Cell to show of several settings of one network: the split asked for, then most steps, epochs, seeds."""
    if not found:
        return None

    def rank(cell):
        return cell.group.split == split, cell.group.steps or 0, last_epoch(cell.probe), len(cell.values)

    first, *rest = sorted(found, key=rank, reverse=True)
    return replace(first, others=tuple(rest))


def last_epoch(probe):
    """520 of linear_images 480/500/520; 0 where there is one schedule only."""
    return float(probe.rpartition("/")[2]) if "/" in probe else 0.0


def hidden(cells):
    """[note] on the settings that are not shown; of several endpoints of a network the last one speaks."""
    told = {}
    for cell in cells:
        if cell.others:
            g = cell.group
            others = "; ".join(f"{described(o, cell)}: {counted(o.values)}" for o in cell.others)
            name = f"{pretext_name(g.name)}, {network_name(g.backbone, g.width)}"
            told[name] = f"{name}: {described(cell, cell.others[0])} shown; also run: {others}."
    text = "‡ Several settings, never averaged; the one with most steps is shown."
    return [" ".join([text, *told.values()])] if told else []


def described(cell, other):
    """What tells a setting from another: 2,106 steps, recipe 1a2b3c4d."""
    g, o = cell.group, other.group
    mine, its = g.recipe or g.setting, o.recipe or o.setting
    parts = [f"{g.steps:,} steps"] if g.steps is not None else []
    parts += [f"{g.split} split"] if g.split != o.split else []
    parts += [probe_name(cell.probe)] if cell.probe != other.probe else []
    parts += [f"recipe {mine}"] if mine and mine != its and g.steps == o.steps else []
    return ", ".join(parts) or "a run from elsewhere"


def own_size(results):
    """Without the RevNets whose representation is not their own 512 k values (the paper's Figure 6): other networks."""
    results = list(results)
    other = {
        r.recipe for r in results
        if r.backbone.startswith("revnet50") and r.representation_size not in (None, 512 * r.width)
    }  # fmt: skip
    return [r for r in results if r.recipe not in other] if other else results
