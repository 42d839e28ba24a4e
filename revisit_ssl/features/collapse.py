"""Two numbers that tell a collapsed representation, for the training monitor."""

import numpy as np


def effective_rank(features):
    """RankMe (arXiv:2210.02885, eq. 1): exp of the entropy of the normalised singular values; not centred.

    Args:
        features: [N, d].

    Returns:
        float in [1, min(N, d)]: 1 if all rows are parallel, min(N, d) if all singular values are equal; 0 for
        features that are all zero.
    """
    values = np.linalg.svd(np.asarray(features, np.float64), compute_uv=False)
    total = values.sum()
    if total == 0:
        return 0.0
    share = values / total
    share = share[share > 0]  # p log p -> 0
    return float(np.exp(-np.sum(share * np.log(share))))


def feature_std(features):
    """Standard deviation of unit-length features, averaged over dimensions (SimSiam, arXiv:2011.10566, section 4.1).

    Args:
        features: [N, d]; zero rows stay zero.

    Returns:
        float in [0, 1/sqrt(d)]: 0 for a constant output, about 1/sqrt(d) for directions spread evenly over the sphere.
    """
    features = np.asarray(features, np.float64)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    return float(np.mean(np.std(features / np.maximum(norms, 1e-12), axis=0)))
