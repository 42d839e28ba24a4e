"""Who clusters: the processes of a tf.distribute strategy, each with its own rows, and the devices of this one.

Rows never leave their process. What goes over the network are sums: counts and sums of clusters, a covariance.
"""

import numpy as np
import tensorflow as tf

from revisit_ssl.distribute import worker


class Workers:
    """The processes and devices of a strategy; of one process and one device without.

    Attributes:
        index, count: number of this process, and of all.
        devices: names of the devices here that share the work.
    """

    def __init__(self, strategy=None):
        self.strategy = strategy
        self.index, self.count = worker()
        here = strategy.extended.worker_devices if strategy is not None else ()
        self.devices = tuple(here) or ("",)

    def share(self, rows):
        """range of the rows, of ``rows`` in all, that are this process's."""
        return range(rows * self.index // self.count, rows * (self.index + 1) // self.count)

    def sum(self, *arrays):
        """[float64 array]: the sums over all processes; every process has to call this, with the same shapes."""
        arrays = [np.asarray(array, np.float64) for array in arrays]
        if self.count == 1:
            return arrays
        return [each.numpy() for each in self._all_reduce([tf.constant(array) for array in arrays])]

    def _all_reduce(self, tensors):
        each = self.strategy.num_replicas_in_sync // self.count

        def of_replica(*values):
            context = tf.distribute.get_replica_context()
            # The replicas of one process hold the same; the first of them speaks for it.
            speaks = tf.cast(tf.equal(tf.math.floormod(context.replica_id_in_sync_group, each), 0), tf.float64)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, [value * speaks for value in values])

        @tf.function(autograph=False)
        def total(*values):
            reduced = self.strategy.run(of_replica, args=values)
            return [self.strategy.experimental_local_results(value)[0] for value in reduced]

        return total(*tensors)
