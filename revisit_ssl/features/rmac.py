"""R-MAC (Tolias, Sicre, Jegou, arXiv:1511.05879): one vector of an image from the maxima of regions of its map.

As DeepCluster's evaluation has it (facebookresearch/deepcluster, eval_retrieval.py), which follows the authors'.
"""

import numpy as np

OVERLAP = 0.4  # that neighbouring regions of the coarsest level should have
FLOOR = 1e-5  # of the largest eigenvalue: smaller ones are raised to it


def rmac_regions(height, width, levels=3):
    """The squares of R-MAC on a map: level l has squares of side 2 * min(sides) / (l + 1).

    Args:
        height, width: of the map, at least 1.
        levels: L.

    Returns:
        int64 [R, 4]: x, y, width, height, inside the map, y being the outer loop of each level. L = 3 gives 14 on a
        square map, 20 at 4:3 and 16:9, 26 at 2:1, 38 at 3.15:1. Levels whose squares would have no side are left out.
    """
    shorter, longer = min(height, width), max(height, width)
    extra = 0  # squares more along the longer side, so that those of level 1 overlap by OVERLAP as nearly as can be
    if longer > shorter:
        steps = np.arange(2, 8)
        step = (longer - shorter) / (steps - 1)
        extra = 1 + int(np.argmin(np.abs((shorter**2 - shorter * step) / shorter**2 - OVERLAP)))
    regions = []
    for level in range(1, levels + 1):
        side = 2 * shorter // (level + 1)
        if side == 0:
            break
        xs = _corners(width, side, level + (extra if width > height else 0))
        ys = _corners(height, side, level + (extra if height > width else 0))
        regions += [(x, y, side, side) for y in ys for x in xs]
    return np.array(regions, np.int64)


def _corners(length, side, count):
    """First pixels of ``count`` squares along an axis, at equal distances from its beginning to its end."""
    half = side // 2 - 1
    step = (length - side) / (count - 1) if count > 1 else 0.0
    first = np.floor(half + step * np.arange(count)).astype(np.int64) - half
    return np.clip(first, 0, length - side)


def region_vectors(feature_map, levels=3):
    """float32 [R, C]: the maxima of a map [H, W, C] over each of its ``rmac_regions``, each of unit length."""
    feature_map = np.asarray(feature_map, np.float32)
    regions = rmac_regions(*feature_map.shape[:2], levels)
    return unit_rows(np.stack([feature_map[y : y + h, x : x + w].max(axis=(0, 1)) for x, y, w, h in regions]))


def rmac(feature_map, whitening=None, levels=3):
    """The R-MAC vector of a map [H, W, C], float32 of unit length: [C], or [dimension] with a ``Whitening``."""
    return aggregate(region_vectors(feature_map, levels), whitening)


def aggregate(vectors, whitening=None):
    """Unit region vectors [R, C] -> the vector of the image: whitened and made unit each, then their unit sum."""
    if whitening is not None:
        vectors = unit_rows(whitening(vectors))
    return unit_rows(vectors.sum(axis=0, keepdims=True))[0]


class Whitening:
    """PCA-whitening that is learned from rows as they come: only their sums are kept, in float64.

    Attributes:
        mean: float64 [C].
        projection: float64 [dimension, C], rows eigenvector / sqrt(eigenvalue) of the centred scatter matrix, which is
            not divided by the number of rows: what follows is made unit length. The signs of the rows are arbitrary.
    """

    def __init__(self):
        self.count, self._sum, self._products = 0, 0.0, 0.0
        self.mean = self.projection = None

    def add(self, rows):
        """Takes rows [n, C] into account."""
        rows = np.asarray(rows, np.float64)
        self.count += len(rows)
        self._sum = self._sum + rows.sum(axis=0)
        self._products = self._products + rows.T @ rows

    def finish(self, dimension=None):
        """Computes ``mean`` and ``projection`` of at most ``dimension`` rows (None: C); returns itself."""
        self.mean = self._sum / self.count
        scatter = self._products - self.count * np.outer(self.mean, self.mean)
        values, vectors = np.linalg.eigh(scatter)
        values, vectors = values[::-1][:dimension], vectors[:, ::-1][:, :dimension]
        floor = max(FLOOR * values[0], np.finfo(np.float64).tiny)
        self.projection = vectors.T / np.sqrt(np.maximum(values, floor))[:, None]
        return self

    @classmethod
    def fit(cls, rows, dimension=None):
        """The whitening of rows [N, C]."""
        whitening = cls()
        whitening.add(rows)
        return whitening.finish(dimension)

    def __call__(self, rows):
        """float [n, C] -> float32 [n, dimension], not of unit length."""
        return ((np.asarray(rows, np.float64) - self.mean) @ self.projection.T).astype(np.float32)


def unit_rows(rows):
    """float32 rows of unit length; zero rows stay zero."""
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
