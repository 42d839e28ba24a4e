"""Rows of features that need not fit into memory: arrays or memory maps, read chunk by chunk."""

import numpy as np

from revisit_ssl.errors import InputError, reason, require
from revisit_ssl.runs.files import discard


class Rows:
    """Some rows of one or several arrays that follow each other, as float32.

    Args:
        shards: arrays [n, d], in memory or np.memmap, all of one width; or one such array.
        index: ascending int [N], which rows of all shards together; None: all of them.

    Raises:
        InputError: no shard, or shards that are no matrices of one width.
    """

    def __init__(self, shards, index=None):
        self.shards = [shards] if hasattr(shards, "ndim") else list(shards)
        shapes = [shard.shape for shard in self.shards]
        fit = shapes and all(len(shape) == 2 and shape[1] == shapes[0][-1] for shape in shapes)
        require(fit, f"features are matrices [n, d] of one width, not {shapes or 'none at all'}")
        self.starts = np.cumsum([0, *(len(shard) for shard in self.shards)])
        self.index = None if index is None else np.asarray(index, np.int64)
        self.width = shapes[0][1]

    def __len__(self):
        return int(self.starts[-1]) if self.index is None else len(self.index)

    def of(self, places):
        """Rows of these Rows: ascending int [n], counted among these."""
        places = np.asarray(places, np.int64)
        return Rows(self.shards, places if self.index is None else self.index[places])

    def chunks(self, size):
        """Yields (place of the first row, float32 [<= size, d]); no more than ``size`` rows are in memory at a time."""
        for start in range(0, len(self), size):
            yield start, self.read(np.arange(start, min(start + size, len(self))))

    def read(self, places):
        """float32 [n, d]: the rows at ``places``, int [n], in their order."""
        rows = np.asarray(places, np.int64) if self.index is None else self.index[places]
        found = np.empty([len(rows), self.width], np.float32)
        shard = np.searchsorted(self.starts, rows, side="right") - 1
        for i in np.unique(shard):
            mine = shard == i
            found[mine] = self._of_shard(i, rows[mine] - self.starts[i])
        return found

    def _of_shard(self, i, rows):
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
            return self.shards[i][rows[0] : rows[-1] + 1]  # one piece of a file is read faster than its rows
        return self.shards[i][rows]


def write_rows(path, count, width, chunks):
    """Writes chunks float32 [n, width] of ``count`` rows in all to a .npy file; returns its read-only memory map.

    Not through a memory map: a full disk then kills the process, where ``write`` raises.

    Raises:
        InputError: the disk is full; nothing is left then.
    """
    try:
        with open(path, "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (count, width)}
            np.lib.format.write_array_header_1_0(file, header)
            for chunk in chunks:
                file.write(np.ascontiguousarray(chunk, "<f4").tobytes())
    except OSError as error:
        discard(path)
        message = f"cannot write features to {path} ({reason(error)}); free some space or choose another --workdir"
        raise InputError(message) from None
    return np.load(path, mmap_mode="r")
