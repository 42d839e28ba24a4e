"""A paper's claims, weighed by our own runs: holds, does not hold, or not decidable at this scale.

A claim is read as a list of differences that it says are positive; one rule turns them into a verdict.
"""

import math
import statistics
from dataclasses import dataclass

from revisit_ssl.report.blocks import Bullets, Folded, Table, Text

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decidable at this scale"
NO_SEEDS_NOISE = 2.0  # points; where no setting has two seeds
WEIGHING = (
    "A claim is read as differences that it says are positive. One is clear when it is larger than two standard "
    "deviations of a difference of two runs, as the settings with several seeds show it "
    f"({NO_SEEDS_NOISE:g} points where none has). The claim holds when more than half are clear and none is clearly "
    "against it; it does not hold when more are against it than for it; else it is not decidable at this scale."
)


@dataclass(frozen=True)
class Claim:
    """One claim: what the paper says, our verdict, and the numbers behind it.

    Attributes:
        drawn: picture that shows it, or "".
        sweep: command of the runs that decide it, or "".
    """

    number: int
    text: str
    verdict: str
    reason: str
    table: Table = Table([""], [])
    drawn: str = ""
    sweep: str = ""

    def markdown(self):
        return f"**{self.number}. {self.text}** — *{self.verdict}*: {self.reason}\n\n{self.table.markdown()}"

    _repr_markdown_ = markdown


def noise_of(settings):
    """Two standard deviations of a difference of two runs, in points; ``settings`` [the numbers of its seeds]."""
    spreads = [statistics.variance(v) for v in settings if len(v) > 1]
    return 2 * math.sqrt(2 * statistics.fmean(spreads)) if spreads else NO_SEEDS_NOISE


def noise(settings, measure):
    """``noise_of`` a measure among [Setting]."""
    return noise_of([tuple(s.scores[measure].values()) for s in settings if measure in s.scores])


def clear(differences, noise):
    """(how many are clearly positive, how many clearly negative)"""
    return sum(d > noise for d in differences), sum(d < -noise for d in differences)


def weigh(differences, noise):
    """(verdict, "4 of 6 clear, 0 against") of differences that a claim says are positive; None is passed over."""
    found = [d for d in differences if d is not None]
    wins, losses = clear(found, noise)
    reason = f"{wins} of {len(found)} clearly so, {losses} clearly against (clear: {noise:.1f} points)"
    if not found:
        return OPEN, "no runs that could tell"
    if losses == 0 and wins > len(found) / 2:
        return HOLDS, reason
    return (FAILS if losses > wins else OPEN), reason


def judged(differences):
    """(verdict, reason) of [(what, points, from how many on they are clear)], each with its own measure of noise."""
    # Seeds that agree to the digit make every difference clear.
    verdict, reason = weigh([points / max(clear, 1e-9) for _, points, clear in differences], 1.0)
    if not differences:
        return verdict, reason
    return verdict, "; ".join(f"{what} {points:+.1f} (clear: {clear:.1f})" for what, points, clear in differences)


def verdicts(found, rule):
    """[block] of [Claim]: the verdicts in a table, how each was decided, the numbers behind each one folded."""
    behind = [Folded(f"{c.number}. {c.text}", c.table) for c in found if c.table.rows]
    if not any(c.sweep for c in found):
        rows = [[f"{c.number}", c.text, f"**{c.verdict}**", c.reason] for c in found]
        return [Table(["", "claim", "verdict", "by what"], rows, labels=4, notes=(rule,)), *behind]
    rows = [[f"{c.number}", c.text, f"**{c.verdict}**"] for c in found]
    how = [f"**{c.number}** {c.reason}. Figure `{c.drawn}`, runs of `{c.sweep}`" for c in found]
    return [Table(["", "claim", "verdict"], rows, labels=3), Bullets(how), Text(rule), *behind]
