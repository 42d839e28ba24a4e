"""What DeepCluster's networks have: the fixed Sobel layer and its fold, fully connected layers, dropout."""

import random

import keras
import numpy as np

from revisit_ssl.backbones.parts import TORCH_UNIFORM
from revisit_ssl.distribute import step_seed
from revisit_ssl.errors import require
from revisit_ssl.views.draws import dropout

HORIZONTAL = np.outer((1, 2, 1), (1, 0, -1))
SOBEL = np.stack([HORIZONTAL, HORIZONTAL.T], axis=-1)  # [3,3,2]


@keras.saving.register_keras_serializable("revisit_ssl")
class Sobel(keras.layers.Layer):
    """The mean of three colour channels, then its two Sobel derivatives: [B,H,W,3] -> [B,H',W',2], nothing to learn.

    Channel 0 is the horizontal, channel 1 the vertical derivative (cross-correlation; the negatives of
    ``tf.image.sobel_edges``). ``padding`` zeros go around the image before the VALID 3x3: 2 in DeeperCluster
    (H' = H + 2), 1 in DeepCluster (H' = H).
    """

    def __init__(self, padding=2, **kwargs):
        super().__init__(**kwargs)
        self.padding = padding

    def compute_output_shape(self, input_shape):
        grow = 2 * self.padding - 2
        return (input_shape[0], *(side and side + grow for side in input_shape[1:3]), 2)

    def call(self, images):
        pad = (self.padding, self.padding)
        gray = keras.ops.pad(keras.ops.mean(images, axis=-1, keepdims=True), ((0, 0), pad, pad, (0, 0)))
        kernel = keras.ops.convert_to_tensor(SOBEL[:, :, None], gray.dtype)  # [3,3,1,2]
        return keras.ops.conv(gray, kernel, padding="valid")

    def get_config(self):
        return {**super().get_config(), "padding": self.padding}


def seen(image, sobel, pad):
    """What conv1 sees of a Keras input [B,H,W,C]: with ``pad`` zeros around it, by Sobel where ``sobel``."""
    colours = not sobel or image.shape[-1] == 3
    require(colours, f"input_shape {tuple(image.shape[1:])!r}; Sobel wants three channels")
    if sobel:
        return Sobel(padding=pad, name="sobel")(image)
    return keras.layers.ZeroPadding2D(pad, name="image_pad")(image) if pad else image


def fold_kernel(kernel):
    """The kernel that sees colours as Sobel and ``kernel`` do: float [3,3,2,o] -> float32 [5,5,3,o].

    K[i,j,c,o] = 1/3 sum over s and over a+b=i, a'+b'=j of W[a,a',s,o] G_s[b,b']. The released function
    fills 9 of the 25 taps and leaves the others random.
    """
    kernel = np.asarray(kernel, np.float64)
    folded = np.zeros((5, 5, kernel.shape[-1]))
    for b in range(3):
        for b2 in range(3):
            folded[b : b + 3, b2 : b2 + 3] += np.einsum("ijso,s->ijo", kernel, SOBEL[b, b2])
    return np.repeat(folded[:, :, None] / 3, 3, axis=2).astype(np.float32)


def fold_sobel(backbone):
    """The same function of images as a network of colours, whose conv1 can be trained on them.

    Args:
        backbone: functional model with a layer "sobel" of padding 2 before a "conv1" of 3x3, stride 1, as
            ``vgg16_bn`` with ``sobel``.

    Returns:
        Functional model with the same endpoints and a conv1 of 5x5, equal to rounding, borders included; as
        ``vgg16_bn`` with ``conv1_size=5``.

    Raises:
        InputError: no such layers. Sobel with less padding has borders that no convolution of the image has.
    """
    layers = {layer.name: layer for layer in backbone.layers}
    sobel, conv1 = layers.get("sobel"), layers.get("conv1")
    fits = isinstance(sobel, Sobel) and sobel.padding == 2 and conv1 is not None and conv1.kernel.shape[:3] == (3, 3, 2)
    wants = "folding wants a layer sobel with padding 2 before a conv1 of 3x3, as vgg16_bn with sobel has"
    require(fits and conv1.strides == (1, 1), f"{backbone.name} has no Sobel to fold; {wants}")

    def clone(layer):
        if layer is sobel:
            # A kernel of 5 pads by one more than one of 3: together with this zero they are the three that are wanted.
            return keras.layers.ZeroPadding2D(1, name="image_pad")
        changes = {"kernel_size": (5, 5)} if layer is conv1 else {}
        return layer.__class__.from_config(layer.get_config() | changes)

    folded = keras.models.clone_model(backbone, clone_function=clone)
    values = {variable.path: variable for variable in backbone.weights}
    for variable in folded.weights:
        own = values[variable.path]
        variable.assign(fold_kernel(own) if variable.path == conv1.kernel.path else own)
    return folded


def fully_connected(x, units, options, dropouts):
    """{"fc6", "fc7", "pre_logits"} on a map [B,h,w,c]: two layers of ``units``, dropout before those in ``dropouts``.

    fc6 is after its ReLU, fc7 before, pre_logits after it.
    """
    x, endpoints = keras.layers.Flatten(name="flat")(x), {}
    for name in ("fc6", "fc7"):
        if name in dropouts and options.dropout:
            x = Dropout(options.dropout, name=f"{name}_dropout")(x)
        x = endpoints[name] = keras.layers.Dense(units, name=name, **first_values(options.fc_start, x.shape[-1]))(x)
        if name == "fc6":
            x = endpoints[name] = keras.layers.ReLU(name="fc6_relu")(x)
    return endpoints | {"pre_logits": keras.layers.ReLU(dtype="float32", name="pre_logits")(x)}


def first_values(start, inputs):
    """Initialisers of a fully connected layer, see ``SobelOptions.fc_start``."""
    if start == "normal":
        return {"kernel_initializer": keras.initializers.RandomNormal(stddev=0.01), "bias_initializer": "zeros"}
    bound = inputs**-0.5
    biases = keras.initializers.RandomUniform(-bound, bound)
    return {"kernel_initializer": TORCH_UNIFORM(), "bias_initializer": biases}


@keras.saving.register_keras_serializable("revisit_ssl")
class Dropout(keras.layers.Layer):
    """Dropout whose draws go by a counter that is saved with the weights, and are for the global batch.

    Keras' own has a generator that no checkpoint of ours holds, and draws alike on every replica.

    Args:
        rate: float in [0, 1).
        seed: int; None: drawn from Python's generator, which ``keras.utils.set_random_seed`` sets.
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = random.randrange(2**31) if seed is None else seed

    def build(self, input_shape):
        own = {"initializer": "zeros", "dtype": "int64", "trainable": False, "aggregation": "only_first_replica"}
        self.step = self.add_weight(shape=(), name="step", **own)

    def call(self, inputs, training=None):
        if not training:
            return inputs
        seed = step_seed(self.seed, self.step.value)
        self.step.assign_add(1)
        return dropout(inputs, self.rate, seed)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
