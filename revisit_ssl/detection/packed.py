"""Masks that wait to be judged: 5,000 images of 100 detections would take 150 GB as they are."""

import zlib

import numpy as np


class PackedMasks:
    """bool [n, H, W], each of which is compressed until it is asked for by its number; ``np.asarray`` gives all.

    Args:
        masks: bool [n, H, W].
    """

    def __init__(self, masks):
        self.shape, self.dtype = masks.shape, np.dtype(bool)
        self._packed = [zlib.compress(np.packbits(mask).tobytes(), 1) for mask in masks]

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, k):
        height, width = self.shape[1:]
        bits = np.frombuffer(zlib.decompress(self._packed[k]), np.uint8)
        return np.unpackbits(bits, count=height * width).reshape(height, width).astype(bool)

    def __array__(self, dtype=None, copy=None):
        every = [self[k] for k in range(len(self))]
        return np.stack(every) if every else np.zeros(self.shape, bool)

    @property
    def nbytes(self):
        """What is kept."""
        return sum(map(len, self._packed))
