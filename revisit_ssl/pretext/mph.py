"""The mask prediction head of MaskCo (arXiv:2108.07954): from the map of a masked view towards that of a whole one.

No source says its layers; these are reconstructed.
"""

import keras

from revisit_ssl.errors import check_choice, require

KINDS = ("none", "conv", "bottleneck", "transformer")
HEADS = 8


def mask_prediction_head(kind, depth, feature_map, parts, width=512):
    """The head as a network of its own, map to map of the same shape.

    Args:
        kind: of KINDS. conv: 1x1 convolutions with normalisation and ReLU; bottleneck: residual units 1x1, 3x3, 1x1 of
            a quarter of the channels (2048 -> 512 -> 2048: 8.9 million weights in two); transformer: blocks with
            normalisation first on the cells, projected to ``width`` values, with learnt places, and back.
        depth: units, convolutions or blocks.
        feature_map: keras tensor [B, h, w, c] of a network; transformer: h and w static.
        parts: backbones.parts.Parts: normalisation and initial values, as of the network.
        width: of a transformer.

    Returns:
        Functional model of the map's precision; None for "none".

    Raises:
        InputError: an unknown kind, or a map without channels or sides that it needs.
    """
    check_choice("mask prediction head", kind, KINDS)
    if kind == "none":
        return None
    shape = tuple(feature_map.shape[1:])
    require(len(shape) == 3, f"a mask prediction head needs a map [B, h, w, c], not one of shape {list(shape)}")
    previous = keras.config.dtype_policy()
    low = keras.backend.standardize_dtype(feature_map.dtype)
    keras.config.set_dtype_policy(low if low == "float32" else f"mixed_{low}")
    try:
        inputs = keras.Input(shape, name="map")
        x = inputs
        if kind == "transformer":
            require(None not in shape, f"a transformer needs a map of known sides, not of shape {list(shape)}")
            x = _transformer(x, depth, width)
        for i in range(1, depth + 1) if kind != "transformer" else ():
            x = _bottleneck(parts, x, f"unit{i}") if kind == "bottleneck" else _conv(parts, x, f"conv{i}")
        return keras.Model(inputs, x, name="mph")
    finally:
        keras.config.set_dtype_policy(previous)


def _conv(parts, x, name):
    return parts.normalise_relu(parts.conv(x, x.shape[-1], 1, name), name)


def _bottleneck(parts, x, name):
    channels = x.shape[-1]
    y = x
    for i, size in enumerate((1, 3), 1):
        y = parts.normalise_relu(parts.conv(y, max(1, channels // 4), size, f"{name}_conv{i}"), f"{name}_conv{i}")
    y = parts.normalise(parts.conv(y, channels, 1, f"{name}_conv3"), f"{name}_conv3_norm")
    return parts.relu(keras.layers.Add(name=f"{name}_add")([y, x]), f"{name}_relu")


def _transformer(x, depth, width):
    layers, shape = keras.layers, x.shape[1:]
    x = layers.Dense(width, name="inwards")(layers.Reshape((shape[0] * shape[1], shape[2]), name="cells")(x))
    x = Places(name="places")(x)
    for i in range(1, depth + 1):
        y = layers.LayerNormalization(epsilon=1e-6, name=f"block{i}_norm1")(x)
        y = layers.MultiHeadAttention(HEADS, width // HEADS, name=f"block{i}_attention")(y, y)
        x = layers.Add(name=f"block{i}_add1")([x, y])
        y = layers.LayerNormalization(epsilon=1e-6, name=f"block{i}_norm2")(x)
        y = layers.Dense(4 * width, activation="gelu", name=f"block{i}_wide")(y)
        x = layers.Add(name=f"block{i}_add2")([x, layers.Dense(width, name=f"block{i}_back")(y)])
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    return layers.Reshape(shape, name="map_again")(layers.Dense(shape[2], name="outwards")(x))


@keras.saving.register_keras_serializable("revisit_ssl")
class Places(keras.layers.Layer):
    """Adds a learnt vector for each place: float [B, n, c] -> same. They start normal with deviation 0.02."""

    def build(self, input_shape):
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        self.places = self.add_weight(shape=input_shape[1:], initializer=start, name="places")

    def call(self, x):
        return x + keras.ops.cast(self.places, x.dtype)
