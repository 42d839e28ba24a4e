"""The queue of MoCo: the newest keys, first in, first out."""

import keras
import tensorflow as tf

from revisit_ssl.distribute import gather_replicas, replica_id
from revisit_ssl.errors import require
from revisit_ssl.views.draws import fold, normal, uniform


class Queue(keras.layers.Layer):
    """Ring of keys that serve as negatives (MoCo, arXiv:1911.05722, section 3.2).

    Global: one ring, the same on every replica, of the keys of all replicas. Local: a ring for each replica, of its own
    keys; all rings lie on every device, so that a checkpoint holds them.

    Args:
        size: int, rows K of a ring.
        units: int, columns d.
        start: first content. "normal": random directions of unit length, as in MoCo; "uniform": uniform in
            +-sqrt(3 / units), whose rows are of unit length on average only, as in CLD's CIFAR script.
        scope: "global" or "local".
        seed: int, of the first content.

    Raises:
        InputError: a size below 1.
    """

    def __init__(self, size, units=128, start="normal", scope="global", seed=0, name="queue"):
        super().__init__(name=name, dtype="float32")
        require(size >= 1, f"task.queue_size {size} must be at least 1")
        self.size = size
        self.local = scope == "local"
        rings = tf.distribute.get_strategy().num_replicas_in_sync if self.local else 1

        def first(shape, dtype=None):
            draw = fold(seed, 401)
            if start == "uniform":
                bound = (3 / units) ** 0.5
                return uniform(draw, shape, -bound, bound)
            return tf.math.l2_normalize(normal(draw, shape), axis=-1)

        # Every replica writes the same, whatever the strategy makes of it: a sum would corrupt it silently.
        state = {"trainable": False, "aggregation": "only_first_replica"}
        self.rings = self.add_weight(shape=(rings, size, units), initializer=first, name="rings", **state)
        self.pointer = self.add_weight(shape=(), initializer="zeros", dtype="int64", name="pointer", **state)
        self.built = True

    @property
    def features(self):
        """float32 [size, units]: the negatives of this replica."""
        return self.rings.value[replica_id() if self.local else 0]

    def enqueue(self, keys):
        """Writes keys over the oldest rows, in order; in a global queue, replica 0's first.

        Args:
            keys: float32 [B, units]. Rows need not divide the size: the ring goes on at its beginning.

        Raises:
            InputError: more keys than rows.
        """
        everyones = gather_replicas(keys)  # [B_all, units]
        rings = self.rings.shape[0]
        each = everyones.shape[0] // rings
        require(each <= self.size, f"{each} keys of a step do not fit into task.queue_size {self.size}; raise it")
        rows = tf.math.floormod(self.pointer.value + tf.range(each, dtype=tf.int64), self.size)
        ring = tf.range(rings, dtype=tf.int64)
        places = tf.stack(tf.meshgrid(ring, rows, indexing="ij"), axis=-1)  # [rings, each, 2]
        updates = tf.reshape(everyones, [rings, each, -1])
        # The step reads the whole queue, so that writing in place would cost a copy as well, when reading.
        self.rings.assign(tf.tensor_scatter_nd_update(self.rings.value, places, updates))
        self.pointer.assign(tf.math.floormod(self.pointer.value + each, self.size))
