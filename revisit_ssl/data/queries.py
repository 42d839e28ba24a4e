"""What is asked of a set for instance retrieval: query images, and how the images of the database answer them."""

import dataclasses

import numpy as np

OTHER, GOOD, OK, JUNK = 0, 1, 2, 3
ONE = {"map": ((GOOD, OK), (JUNK,))}
REVISITED = {
    "map_easy": ((GOOD,), (OK, JUNK)),
    "map_medium": ((GOOD, OK), (JUNK,)),
    "map_hard": ((OK,), (GOOD, JUNK)),
}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Queries:
    """Q queries to a database of N images, which is the ``Source`` that holds them.

    Attributes:
        source: Source of the Q query images.
        relation: int8 [Q, N]: 0 none, 1 good (easy in revisited sets), 2 ok (hard), 3 junk, which counts neither way.
        boxes: float64 [Q, 4], the part of the query image that is asked for: x1, y1, x2, y2 in its pixels; a row of nan
            for the whole image.
        listed: int64 [Q, 4], how many images the ground truth lists of each relation, those too that are not there.
        measures: {metric: (relations that are right, relations that are passed over)}.
        names: what each query is called in errors.
    """

    source: object
    relation: np.ndarray
    boxes: np.ndarray
    listed: np.ndarray
    measures: dict
    names: tuple


def from_names(names, answers):
    """(relation int8 [Q, N], listed int64 [Q, 4]) of a ground truth by names.

    Args:
        names: [N] str, the database.
        answers: [Q] of {GOOD: names, OK: names, JUNK: names}; a name that is not in the database is only counted.
    """
    places = {name: i for i, name in enumerate(names)}
    relation = np.zeros((len(answers), len(names)), np.int8)
    listed = np.zeros((len(answers), 4), np.int64)
    for q, answer in enumerate(answers):
        for value, images in answer.items():
            listed[q, value] = len(images)
            relation[q, [places[name] for name in images if name in places]] = value
    return relation, listed
