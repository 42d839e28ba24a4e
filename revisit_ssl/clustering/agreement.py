"""How much two labellings of the same images tell of each other, how large clusters are and how much of one colour."""

import numpy as np


def nmi(a, b):
    """Normalised mutual information I(a; b) / sqrt(H(a) H(b)) in [0, 1] (DeepCluster's main.py); 0 for a single label.

    Args:
        a, b: int [n], any values.
    """
    from sklearn.metrics import normalized_mutual_info_score  # here, so that no other method waits for it

    return float(normalized_mutual_info_score(a, b, average_method="geometric"))


def purity(clusters, labels):
    """Share of the images whose label is the most frequent one of their cluster, in (0, 1].

    Args:
        clusters, labels: int [n], >= 0.
    """
    pairs, counts = np.unique(np.stack([clusters, labels]), axis=1, return_counts=True)
    most = np.zeros(int(pairs[0].max()) + 1, np.int64)
    np.maximum.at(most, pairs[0], counts)
    return float(most.sum() / len(clusters))


def cluster_sizes(clusters, k):
    """{"used": share of the k clusters that hold an image, "largest": share of the images in the largest one}.

    Args:
        clusters: int [n] in [0, k).
    """
    counts = np.bincount(clusters, minlength=k)
    return {"used": float((counts > 0).mean()), "largest": float(counts.max() / max(counts.sum(), 1))}


def colour_deviation(colours, labels):
    """How far images' colours lie from the mean colour of their cluster: the standard deviation in Figure 2 of
    DeeperCluster's supplement, taken as the root of the mean squared distance in RGB.

    Args:
        colours: float [N, 3], the mean RGB of each image in [0, 1].
        labels: int [N], clusters.

    Returns:
        float64 [clusters that have images], by ascending label.
    """
    colours, labels = np.asarray(colours, np.float64), np.asarray(labels)
    found = []
    for label in np.unique(labels):
        mine = colours[labels == label]
        found.append(np.sqrt(np.mean(np.sum((mine - mine.mean(axis=0)) ** 2, axis=1))))
    return np.array(found)
