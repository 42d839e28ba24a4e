"""The memory bank of NPID: the last features of every image."""

import keras
import tensorflow as tf

from revisit_ssl.distribute import gather_replicas
from revisit_ssl.errors import require
from revisit_ssl.pretext.heads import unit
from revisit_ssl.views.draws import fold, uniform


class MemoryBank(keras.layers.Layer):
    """A row for each image (NPID, Wu et al., arXiv:1805.01978, section 3.1), the same on every replica.

    Rows start uniform in +-sqrt(3 / units): of unit length on average, as in the official code.

    Args:
        size: int, images N.
        units: int, columns d.
        momentum: float in [0, 1], share of the old row that an update keeps; 0.5 in the official code.
        seed: int, of the first content.

    Raises:
        InputError: a value out of range.
    """

    def __init__(self, size, units=128, momentum=0.5, seed=0, name="bank"):
        super().__init__(name=name, dtype="float32")
        require(size >= 1, f"a memory bank of {size} rows; it needs at least 1")
        require(0 <= momentum <= 1, f"task.bank_momentum {momentum} must lie in [0, 1]")
        self.size = size
        self.momentum = momentum
        bound = (3 / units) ** 0.5

        def first(shape, dtype=None):
            return uniform(fold(seed, 402), shape, -bound, bound)

        # No aggregation: each replica writes the rows of all replicas into its own copy.
        self.rows = self.add_weight(shape=(size, units), initializer=first, trainable=False, name="rows")
        self.built = True

    @property
    def features(self):
        """float32 [size, units]: all rows, as they are now."""
        return tf.convert_to_tensor(self.rows.value)

    def at(self, index):
        """Rows ``index`` without a copy of the others: int [...] -> float32 [..., units]."""
        return tf.gather(self.rows.value, index)

    def moved(self, rows, features):
        """What an update makes of rows: unit(momentum * row + (1 - momentum) * feature), float32 [B, units] each."""
        return unit(self.momentum * rows + (1.0 - self.momentum) * tf.stop_gradient(features))

    def update(self, views, index):
        """Moves the rows of the images of all replicas in place: towards the first view, then the second, ...

        Args:
            views: list of float32 [B, units], unit rows of this replica.
            index: int64 [B], its images, all different on all replicas: of an image that comes twice, one of the two
                updates is lost, and which one is not defined. No epoch has an image twice.
        """
        index = gather_replicas(index)
        rows = self.at(index)
        for features in views:
            rows = self.moved(rows, gather_replicas(features))
        self.rows.value.scatter_update(tf.IndexedSlices(rows, index))
