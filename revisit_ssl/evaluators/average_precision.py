"""Average precisions: of one class in VOC's three flavours, and of a ranked list in instance retrieval. NumPy alone."""

import numpy as np

GOOD, OK, JUNK = 1, 2, 3  # relation of an image to a query; 0: none. In revisited sets GOOD is easy and OK hard


def precision_recall(present, scores):
    """Precision and recall behind each image, the highest score first.

    Images of equal score come in together, so that a network that tells nothing apart gets the share of positives.

    Args:
        present: bool [N], at least one True.
        scores: float [N].

    Returns:
        (precision, recall), float64 [K] in [0, 1], one pair for each of the K different scores.
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    present, scores = np.asarray(present, bool)[order], np.asarray(scores)[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # last rows of each score
    hits = np.cumsum(present)[ends]
    return hits / (ends + 1), hits / hits[-1]


def average_precision(present, scores):
    """Area under precision over recall as steps, in [0, 1]: scikit-learn's. Arguments as of ``precision_recall``."""
    precision, recall = precision_recall(present, scores)
    return float(np.sum(np.diff(recall, prepend=0) * precision))


def envelope_ap(present, scores):
    """Area under the largest precision at this recall or a higher one, in [0, 1]: VOC's from 2010 on.

    Arguments as of ``precision_recall``.
    """
    precision, recall = precision_recall(present, scores)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * envelope))


def eleven_point_ap(present, scores):
    """Mean over recalls 0, 0.1 … 1 of the largest precision at that recall or a higher one, in [0, 1]: VOC 2007's.

    The thresholds are the official tool's multiples of 0.1 in binary, of which 0.3, 0.6 and 0.7 lie a hair above the
    tenth: a recall of exactly 3/10 does not reach them. Arguments as of ``precision_recall``.
    """
    precision, recall = precision_recall(present, scores)
    return float(np.mean([precision[recall >= t].max(initial=0.0) for t in np.arange(11) * 0.1]))


def lowered(present, scores):
    """float64 [N]: scores with 1e-5 taken from those of positives, so that ties count against them (DeeperCluster)."""
    return np.asarray(scores, np.float64) - 1e-5 * np.asarray(present, bool)


def ranked_ap(relation, positives=(GOOD, OK), junk=(JUNK,), listed=None):
    """Average precision of one query, by trapezoids: the Oxford tool's ``compute_ap`` and revisitop's.

    Args:
        relation: int [N] of the images as they are ranked, best first: 0 other, 1 good, 2 ok, 3 junk.
        positives: which of them count as right.
        junk: which are taken out before ranks are counted.
        listed: how many positives the query has; None: as many as are ranked. More than that lowers the recall.

    Returns:
        float in [0, 1]; nan for a query without positives.
    """
    relation = np.asarray(relation)
    right = np.isin(relation[~np.isin(relation, junk)], positives)
    listed = int(right.sum()) if listed is None else int(listed)
    if listed == 0:
        return float("nan")
    ranks = np.flatnonzero(right)  # from 0, without junk
    hits = np.arange(len(ranks))
    before = np.where(ranks > 0, hits / np.maximum(ranks, 1), 1.0)  # the precision just before each hit
    behind = (hits + 1) / (ranks + 1)
    return float(np.sum(before + behind) / (2 * listed))


def precision_at(relation, k, positives=(GOOD, OK), junk=(JUNK,)):
    """Share of positives among a query's first k images without junk (revisitop); nan for one without positives.

    Where the last positive stands before k, its rank is taken for k. Arguments as of ``ranked_ap``.
    """
    relation = np.asarray(relation)
    ranks = np.flatnonzero(np.isin(relation[~np.isin(relation, junk)], positives)) + 1
    if len(ranks) == 0:
        return float("nan")
    k = min(k, int(ranks[-1]))
    return float(np.mean(np.arange(1, k + 1)[:, None] == ranks, axis=0).sum())


def rank(similarity):
    """int64 [Q, N]: images by falling similarity [Q, N]; equal ones in their order."""
    return np.argsort(-np.asarray(similarity), axis=1, kind="stable")


def retrieval_map(similarity, relation, positives=(GOOD, OK), junk=(JUNK,), *, listed=None, precision_ranks=(1, 5, 10)):
    """Mean average precision of instance retrieval, over the queries that have positives.

    Args:
        similarity: float [Q, N].
        relation: int [Q, N]: 0 other, 1 good, 2 ok, 3 junk.
        positives, junk: see ``ranked_ap``.
        listed: int [Q], positives of each query, or None: those in ``relation``.
        precision_ranks: the k's of ``precision_at``.

    Returns:
        {"map": float, "ap": [Q], "precision": {k: mean}, "precision_at_k": [Q, k's]}, all in [0, 1]; nan for a query
        without positives, and for all of it where no query has any.
    """
    ranked = np.take_along_axis(np.asarray(relation), rank(similarity), axis=1)
    listed = [None] * len(ranked) if listed is None else listed
    ap = np.array([ranked_ap(row, positives, junk, count) for row, count in zip(ranked, listed, strict=True)])
    at = np.array([[precision_at(row, k, positives, junk) for k in precision_ranks] for row in ranked])

    def mean(values):
        known = values[np.isfinite(values)]
        return float(known.mean()) if len(known) else float("nan")

    return {
        "map": mean(ap),
        "ap": ap,
        "precision": {k: mean(at[:, i]) for i, k in enumerate(precision_ranks)},
        "precision_at_k": at,
    }
