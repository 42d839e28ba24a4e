"""What a run says of itself while it works, on the standard error: what begins, and how far it has come."""

import sys
import time


def tell(text, quiet=False):
    """One line about what begins now, so that no silence is longer than its reason."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def clock(seconds):
    """1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Bar:
    """How many of a known number of things are done: a line that is written over in a terminal, in a file a new one now
    and then. Nothing is said of what takes no time.

    Args:
        what: is counted, such as "features of train, images".
        total: how many there are.
        quiet: say nothing.
        every: seconds between two lines; None: 0.2 in a terminal, 15 elsewhere.
    """

    def __init__(self, what, total, quiet=False, every=None):
        self.what, self.total, self.quiet = what, total, quiet
        self.terminal = sys.stderr.isatty()
        self.every = every if every is not None else 0.2 if self.terminal else 15
        self.begun = self.shown = time.perf_counter()
        self.wide = 0

    def __call__(self, done):
        """``done``: how many by now."""
        now, last = time.perf_counter(), done >= self.total
        if self.quiet or (now - self.shown < self.every and not (last and self.wide)):
            return
        self.shown = now
        spent = now - self.begun
        left = "" if last else f"  {clock(spent / done * (self.total - done))} left of these"
        line = f"{self.what}: {done:,} of {self.total:,}{left}"
        begin, end = ("\r", "\n" if last else "") if self.terminal else ("", "\n")
        print(f"{begin}{line:<{self.wide}}", end=end, file=sys.stderr, flush=True)
        self.wide = max(self.wide, len(line))
