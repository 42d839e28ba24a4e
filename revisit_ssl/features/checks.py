"""What every reader of features checks first, and how it reads them: in blocks, never a whole memory map."""

import numpy as np

from revisit_ssl.errors import InputError, require

BLOCK_VALUES = 1 << 23  # numbers of a feature matrix in memory at a time: 32 MB


def check_frozen(backbone):
    """Raises InputError for a backbone with trainable variables: a probe must not improve what it measures."""
    count = len(backbone.trainable_variables)
    require(
        count == 0,
        f"the backbone {backbone.name!r} has {count} trainable variables; a probe measures frozen features, "
        "set backbone.trainable = False first",
    )


def check_endpoints(backbone, endpoints):
    """Raises InputError unless every name in ``endpoints`` is an output of the backbone."""
    if not isinstance(getattr(backbone, "output", None), dict):
        raise InputError(f"the backbone {backbone.name!r} has no named endpoints; expected a model that returns a dict")
    require(len(endpoints) > 0, f"no endpoints given; name some of {', '.join(backbone.output)}")
    for name in endpoints:
        require(name in backbone.output, f"no endpoint {name!r}; this backbone has {', '.join(backbone.output)}")


def check_finite(features, name):
    """Raises InputError where features [N, d] hold a NaN or an infinity; reads in blocks."""
    for start, block in blocks(features):
        bad = ~np.isfinite(block)
        if bad.any():
            row = start + int(np.argwhere(bad)[0, 0])
            raise InputError(
                f"{name} has {int(bad.sum())} values that are not finite, the first in row {row}; "
                "the network has diverged, probe an earlier checkpoint"
            )


def blocks(features, values=None):
    """Yields (first row, float32 rows) of about ``values`` numbers each, so that a memory map is never read whole."""
    rows = max(1, (values or BLOCK_VALUES) // max(1, features.shape[1]))
    for start in range(0, len(features), rows):
        yield start, np.asarray(features[start : start + rows], np.float32)
