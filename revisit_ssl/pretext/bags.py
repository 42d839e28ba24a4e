"""How far bags of visual words spread over the words, and an alarm where they have collapsed."""

import sys

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.distribute import is_chief, sum_replicas, to_numpy
from revisit_ssl.errors import TrainingDiverged


def bow_perplexity(bow):
    """How many words the bag of an image spreads over, and how many the bags of the batch together.

    exp(-sum y log(y + 1e-5)), the mean over the images, and of the mean bag of all replicas. The 1e-5 is the official
    code's: equal shares of 8,192 words give 7,572.

    Args:
        bow: float32 [B, K].

    Returns:
        (float32 scalar of this replica's images, float32 scalar).
    """

    def spread(bags):
        shares = bags / tf.maximum(tf.reduce_sum(bags, axis=-1, keepdims=True), 1e-12)
        return tf.exp(-tf.reduce_sum(shares * tf.math.log(shares + 1e-5), axis=-1))

    return tf.reduce_mean(spread(bow)), spread(sum_replicas(tf.reduce_sum(bow, axis=0)))


class CollapseAlarm(keras.callbacks.Callback):
    """Warns when the bags of a batch have shrunk to hardly any word; ends training when mu has run down to nothing.

    Looks every ``every`` steps, by when the noise is gone that a queue starts with (K / B steps, 32 to 64 there).
    A batch perplexity below 2, or below a thousandth of the words, is one word for nearly everything.

    Args:
        vocabularies: {level as in the log's batch_perplexity_<level>, "" where it has no level: Vocabulary}.
        every: int, steps.
    """

    def __init__(self, vocabularies, every=100):
        super().__init__()
        self.vocabularies = vocabularies
        self.every = every
        self.warned = set()

    def on_train_batch_end(self, batch, logs=None):
        step = int(to_numpy(self.model.optimizer.iterations))
        if step % self.every:
            return
        for level, words in self.vocabularies.items():
            of = f" of {level}" if level else ""
            if words.run_down:
                raise TrainingDiverged(
                    f"the target network gives one feature everywhere{of} (step {step}, distance to the words 0); "
                    "lower the learning rate"
                )
            spread = float(np.asarray(logs[f"batch_perplexity_{level}" if level else "batch_perplexity"]))
            if spread >= max(2.0, words.size / 1000):
                self.warned.discard(level)
            elif level not in self.warned and is_chief():
                self.warned.add(level)
                print(
                    f"\nwarning: the visual words{of} have collapsed at step {step}: a batch spreads over {spread:.1f} "
                    f"of {words.size}",
                    file=sys.stderr,
                )
