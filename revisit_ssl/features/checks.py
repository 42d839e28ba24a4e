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


def check_labels(labels, num_classes, name):
    """int64 labels [N] in [0, num_classes), or an InputError that names ``name``."""
    require(labels is not None, f"{name} has no labels; a probe needs a labelled set, give one with --probe-dataset")
    labels = np.asarray(labels)
    require(num_classes is not None and num_classes >= 2, f"{num_classes} classes in {name}; a probe needs at least 2")
    require(
        labels.ndim == 1 and len(labels) > 0 and np.issubdtype(labels.dtype, np.integer),
        f"labels of {name} are {labels.dtype} {list(labels.shape)}; expected a non-empty list of integers",
    )
    low, high = int(labels.min()), int(labels.max())
    require(low >= 0, f"{name} holds unlabelled images (label {low}); give a labelled set with --probe-dataset")
    require(high < num_classes, f"{name} has label {high}; with {num_classes} classes labels go to {num_classes - 1}")
    return labels.astype(np.int64)


def blocks(features, values=None):
    """Yields (first row, float32 rows) of about ``values`` numbers each, so that a memory map is never read whole."""
    rows = max(1, (values or BLOCK_VALUES) // max(1, features.shape[1]))
    for start in range(0, len(features), rows):
        yield start, np.asarray(features[start : start + rows], np.float32)
