"""What every tf.data pipeline here has in common."""

import tensorflow as tf


def untuned(data):
    """A tf.data.Dataset whose elements come in one order, whose replicas take what they ask for, without autotuning.

    tf.data tunes parallelism and buffers in a thread of the iterator's own. Where an iterator ends just before that
    thread lies down to sleep, its end waits until the thread wakes up by itself: up to a minute in which nothing
    happens, somewhere in the next training or evaluation. Without the thread AUTOTUNE means: as many calls as cores.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF  # replicas do that
    return data.with_options(options)


def untune_devices():
    """The iterators through which a strategy hands batches to its devices do without autotuning too, from now on.

    TensorFlow makes their datasets itself and takes no options for them, so its own maker is wrapped, if it still has
    the name that it has in TensorFlow 2.21. Otherwise the pause comes back, and nothing else.
    """
    try:
        from tensorflow.python.data.ops import multi_device_iterator_ops  # no public name
    except ImportError:
        return
    make = getattr(multi_device_iterator_ops, "_create_device_dataset", None)
    if make and make.__name__ != "make_untuned":

        def make_untuned(*arguments):
            return untuned(make(*arguments))

        multi_device_iterator_ops._create_device_dataset = make_untuned
