"""The five stages of a network, averaged to vectors of about 9,000 values (Goyal et al., arXiv:1905.01235, as
OpenSelfSup's r50_multihead.py has it)."""

import keras
import tensorflow as tf

from revisit_ssl.errors import require

STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5")
# Of images of 224 pixels in a ResNet: side of the map, and the window, its step and the zeros around the map.
SQUARES = {"conv1": (112, 10, 10, 4), "conv2": (56, 16, 8, 0), "conv3": (28, 13, 5, 0), "conv4": (14, 8, 3, 0),
           "conv5": (7, 6, 1, 0)}  # fmt: skip
SIDES = {"conv1": 12, "conv2": 6, "conv3": 4, "conv4": 3, "conv5": 2}  # what these leave, and maps of other sides get
CONVOLUTIONS = (("conv1", "conv2", "conv3", "conv4", "conv5"), ("conv2", "conv4", "conv7", "conv10", "conv13"))


def stages(backbone):
    """{"conv1": keras tensor, …, "conv5"} of a network.

    conv1 is what the first convolution gives before any pool, after the normalisation and ReLU that follow it (of
    networks that normalise before they convolve: neither). conv2 to conv5 are the blocks of residual networks and of
    VGG19; of AlexNet its five convolutions, of VGG16 the last one before each pool.

    Raises:
        InputError: a network without five stages.
    """
    known = backbone.output
    if all(f"block{i}" in known for i in (1, 2, 3, 4)) and "after_root" in known:
        pads = [layer for layer in backbone.layers if layer.name.endswith("root_pool_pad")]
        first = pads[0].input if pads else known["after_root"]
        found = [first, *(known[f"block{i}"] for i in (1, 2, 3, 4))]
    else:
        names = CONVOLUTIONS["conv13" in known]
        told = f"{backbone.name} has no five stages: neither after_root and block1 to block4 nor conv1 to conv5"
        require(all(name in known for name in names), f"{told}; take another probe, such as linear_images")
        found = [known[name] for name in names]
    return dict(zip(STAGES, found, strict=True))


def staged(backbone):
    """Frozen functional model: images -> {stage: float32 [B, h, w, c]}, each map averaged by its ``StagePool``."""
    pooled = {name: StagePool(name, name=f"{name}_average")(x) for name, x in stages(backbone).items()}
    model = keras.Model(backbone.input, pooled, name=backbone.name)
    model.trainable = False
    return model


@keras.saving.register_keras_serializable("revisit_ssl")
class StagePool(keras.layers.Layer):
    """Averages a map: float [B, h, w, c] -> float32 [B, n, n, c], n = 12, 6, 4, 3, 2 for conv1 to conv5.

    By the overlapping windows of OpenSelfSup where the map has the side that it has for images of 224 pixels in a
    ResNet (zeros around conv1 count in the means); else as PyTorch's AdaptiveAvgPool2d, of maps smaller than n as they
    are.

    Args:
        stage: of STAGES.
    """

    def __init__(self, stage, dtype="float32", **base):
        super().__init__(dtype=dtype, autocast=False, **base)
        self.stage = stage

    def call(self, x):
        x = tf.cast(x, tf.float32)
        side, window, step, zeros = SQUARES[self.stage]
        if x.shape[1] == x.shape[2] == side:
            x = tf.pad(x, [[0, 0], [zeros, zeros], [zeros, zeros], [0, 0]])
            return tf.nn.avg_pool2d(x, window, step, "VALID")
        # The sides may be known at run time alone; the matrices are small.
        height, width = (tf.shape(x)[i] if x.shape[i] is None else x.shape[i] for i in (1, 2))
        rows, columns = (_means(size, SIDES[self.stage]) for size in (height, width))
        return tf.einsum("qw,bpwc->bpqc", columns, tf.einsum("ph,bhwc->bpwc", rows, x))

    def compute_output_spec(self, x):
        sides = [None if side is None else self.side(side) for side in x.shape[1:3]]
        return keras.KerasTensor((x.shape[0], *sides, x.shape[3]), dtype="float32")

    def side(self, side):
        """Cells along an axis of a map of that side."""
        full, *_ = SQUARES[self.stage]
        return SIDES[self.stage] if side == full else min(SIDES[self.stage], side)

    def get_config(self):
        return {**super().get_config(), "stage": self.stage}


def _means(size, bins):
    """float32 [n, size], n = min(bins, size): row i has the mean of cells floor(i size / n) to ceil((i + 1) size / n).
    """
    bins = tf.minimum(bins, size)
    i, cells = tf.range(bins)[:, None], tf.range(size)
    inside = (cells >= i * size // bins) & (cells < -(-(i + 1) * size // bins))
    weights = tf.cast(inside, tf.float32)
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)
