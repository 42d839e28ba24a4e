"""How well an accuracy is known from the images that it was measured on: Wilson's interval."""

import math
import re
import statistics

FEW = 100  # images: with fewer a number is hardly one
# Metrics that are a share of n images; means over classes or episodes are none.
SHARE = re.compile(r"top\d+|recall\d+|accuracy|last_on_test_top1")
_Z = statistics.NormalDist().inv_cdf(0.975)


def wilson(percent, n):
    """Wilson's score interval at 95 % of a share of n images (Wilson 1927): (low, high) in percent.

    Unlike mean ± z standard errors it never leaves [0, 100], and is right for few images and for shares near the ends.

    Args:
        percent: in [0, 100].
        n: at least 1.
    """
    share = min(max(percent / 100, 0.0), 1.0)  # a damaged file may hold anything
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def measured_on(metric, percent, n):
    """{"n", "interval"} of a Result: images, and the interval where the metric is a share of them; {} without n."""
    if n is None or not 1 <= n < 2**53:  # not a count, as a damaged file may have it
        return {}
    interval = [round(end, 2) for end in wilson(percent, n)] if SHARE.fullmatch(metric) else None
    return {"n": int(n), "interval": interval}


def within(values, n):
    """73.2–78.6: the interval of the mean of percents, one a seed, on the same n images; empty where n is not known."""
    return "{:.1f}–{:.1f}".format(*wilson(statistics.fmean(values), n)) if values and n and n >= 1 else ""


def warning(n):
    """What has to be said of accuracies on so few images; empty where they are enough, or where it is not known."""
    if not n or n >= FEW:
        return ""
    low, high = wilson(50, n)
    images = f"{n} test image{'' if n == 1 else 's'}"
    return f"{images}: an accuracy of 50 % may be anything from {low:.0f} to {high:.0f} %; test on {FEW} or more"
