"""Seeded parts of a data set: random or class-balanced subsets, and hold-outs."""

import numpy as np

from revisit_ssl.errors import InputError


def subset(num_examples, fraction, seed, *, labels=None):
    """Row numbers of a random part of a data set.

    The paper's 10 % and 5 % sets are random (its text does not say balanced); the 1 % and 10 % ImageNet lists that
    others use are balanced. A smaller fraction of the same seed lies inside of a larger one.

    Args:
        num_examples: N.
        fraction: in (0, 1].
        seed: int.
        labels: int [N]; given, each class keeps the same number of rows (at least 1), as far as it has them.

    Returns:
        int64 [round(fraction * N)] ascending; balanced: [classes * max(1, round(fraction * N / classes))] or fewer.

    Raises:
        InputError: fraction outside of (0, 1], or so small that nothing is left.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"a subset fraction must lie in (0, 1]; got {fraction}")
    order = np.random.default_rng([seed, 1]).permutation(num_examples)
    if labels is None:
        count = round(fraction * num_examples)
        if count == 0:
            raise InputError(f"{fraction:g} of {num_examples} images is none; raise the fraction")
        return np.sort(order[:count])
    labels = np.asarray(labels)[order]
    classes = np.unique(labels)
    each = max(1, round(fraction * num_examples / len(classes)))
    return np.sort(np.concatenate([order[labels == c][:each] for c in classes]))


def holdout(labels, fraction, seed, least=1):
    """Two disjoint parts with the same mixture of classes.

    Args:
        labels: int [N]; all equal for unlabelled images.
        fraction: share of every class that is held out, in (0, 1).
        seed: int.
        least: images that every class gives, as far as one remains that it keeps.

    Returns:
        (kept, held): int64 row numbers, ascending, together 0..N-1.
    """
    if not 0 < fraction < 1:
        raise InputError(f"a hold-out fraction must lie in (0, 1); got {fraction}")
    labels = np.asarray(labels)
    order = np.random.default_rng([seed, 2]).permutation(len(labels))
    held = []
    for c in np.unique(labels):
        rows = order[labels[order] == c]
        if len(rows) > 1:
            held.append(rows[: min(len(rows) - 1, max(least, round(fraction * len(rows))))])
    held = np.sort(np.concatenate(held)) if held else np.zeros(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), held), held


def shot_groups(train_counts):
    """The classes of a long-tailed set by how many images they have to learn from (Liu et al., CVPR 2019).

    The bounds are those of CLD's official evaluation. Accuracy on a group is that on the test images of its classes.

    Args:
        train_counts: int [classes], images of each class in the long-tailed training set.

    Returns:
        {"many": at least 100 images, "medium": 21 to 99, "few": at most 20}, each int64 ascending class numbers, which
        may be none.
    """
    counts = np.asarray(train_counts)
    few, many = counts <= 20, counts >= 100
    groups = {"many": many, "medium": ~few & ~many, "few": few}
    return {name: np.flatnonzero(member) for name, member in groups.items()}
