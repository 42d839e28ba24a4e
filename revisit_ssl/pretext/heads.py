"""Projection heads of the instance methods: linear, NormLinear and their MLPs, and BYOL's projector and predictor; the
dynamic prediction head of OBoW."""

import keras
import tensorflow as tf

from revisit_ssl.backbones.parts import normalisation
from revisit_ssl.errors import check_choice

HEADS = ("linear", "normlinear", "mlp", "normmlp")


def unit(x, axis=-1):
    """``x`` divided by its Euclidean length along ``axis``; a vector shorter than 1e-6 is divided by 1e-6."""
    return tf.math.l2_normalize(x, axis=axis)


def linear(units, name, bias=True):
    """A float32 Dense layer with PyTorch's initial values: kernel and bias uniform in +-1 / sqrt(inputs)."""
    return TorchDense(units, use_bias=bias, dtype="float32", name=name)


@keras.saving.register_keras_serializable("revisit_ssl")
class TorchDense(keras.layers.Dense):
    """Dense whose kernel and bias start uniform in +-1 / sqrt(inputs), as torch.nn.Linear."""

    def build(self, input_shape):
        bound = input_shape[-1] ** -0.5
        self.kernel_initializer = keras.initializers.RandomUniform(-bound, bound)
        self.bias_initializer = keras.initializers.RandomUniform(-bound, bound)
        super().build(input_shape)


@keras.saving.register_keras_serializable("revisit_ssl")
class NormLinear(keras.layers.Layer):
    """Cosines of each row with each column of a kernel (CLD, arXiv:2008.03813): no bias, no scale.

    Float [N, c] -> float32 [N, units] in [-1, 1]. The kernel starts uniform in [-1, 1] with columns of length 1.

    Args:
        units: int.
    """

    def __init__(self, units, name="normlinear", dtype="float32", **base):
        super().__init__(name=name, dtype=dtype, **base)
        self.units = units

    def build(self, input_shape):
        uniform = keras.initializers.RandomUniform(-1.0, 1.0)

        def unit_columns(shape, dtype=None):
            return unit(uniform(shape, dtype), axis=0)

        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), initializer=unit_columns, name="kernel")

    def call(self, x):
        return tf.matmul(unit(x), unit(self.kernel, axis=0))


@keras.saving.register_keras_serializable("revisit_ssl")
class ProjectionHead(keras.layers.Layer):
    """``pre_logits`` to points on the unit sphere: float [N, c] -> tuple of ``branches`` float32 [N, units], unit rows.

    The branches share the hidden layer of an MLP and nothing else, as the instance and the group branch of CLD.

    Args:
        kind: "linear"; "normlinear", see NormLinear; "mlp": linear, ReLU, linear (MoCo v2); "normmlp": linear, ReLU,
            NormLinear.
        units: int, size of the projection.
        hidden: int, units of the MLPs' hidden layer; None: as many as there are inputs.
        branches: int.

    Raises:
        InputError: unknown kind.
    """

    def __init__(
        self, kind="linear", units=128, hidden=None, branches=1, name="projection_head", dtype="float32", **base
    ):
        super().__init__(name=name, dtype=dtype, **base)
        check_choice("head", kind, HEADS)
        self.kind = kind
        self.units = units
        self.hidden_units = hidden
        self.last = []
        for i in range(branches):
            label = f"branch{i + 1}"
            self.last.append(NormLinear(units, label) if kind.startswith("norm") else linear(units, label))

    def build(self, input_shape):
        if self.kind.endswith("mlp"):
            self.hidden = linear(self.hidden_units or input_shape[-1], "hidden")
            self.hidden.build(input_shape)
            input_shape = (input_shape[0], self.hidden.units)
        for layer in self.last:
            layer.build(input_shape)
        self.built = True

    def call(self, x):
        x = tf.cast(x, tf.float32)
        if self.kind.endswith("mlp"):
            x = tf.nn.relu(self.hidden(x))
        return tuple(unit(layer(x)) for layer in self.last)


def projected(backbone, head):
    """The backbone with one more endpoint, "projection": the first branch of a ``ProjectionHead``, float32 [B, d]."""
    projection = head(backbone.output["pre_logits"])[0]
    return keras.Model(backbone.input, {**backbone.output, "projection": projection})


@keras.saving.register_keras_serializable("revisit_ssl")
class BatchNormMLP(keras.layers.Layer):
    """Linear, BatchNorm, ReLU, linear: BYOL's projector and predictor. Float [N, c] -> float32 [N, units].

    BYOL + CLD puts a group branch on the same hidden layer: call ``activations`` and ``last`` in turn for that.

    Args:
        hidden: int, units of the hidden layer; 4096 in BYOL.
        units: int, size of the output; 256 in BYOL. The output is not normalised.
        last_bias: whether the last layer has a bias: not in DeepMind's code, there is one in OpenSelfSup's.
        norm: {"norm", "momentum", "epsilon", "group"}, as ``normalisation`` takes them; what is left out is as in
            PyTorch: BatchNorm of 0.9 and 1e-5.
    """

    def __init__(self, hidden, units, last_bias=False, *, norm=None, name="batchnorm_mlp", dtype="float32", **base):
        super().__init__(name=name, dtype=dtype, **base)
        self.hidden = linear(hidden, "hidden")
        norm = {"norm": "batch", "momentum": 0.9, "epsilon": 1e-5} | (norm or {})
        self.norm = normalisation(**norm, name="hidden_norm", dtype="float32")
        self.last = linear(units, "last", bias=last_bias)

    def build(self, input_shape):
        self.hidden.build(input_shape)
        shape = (input_shape[0], self.hidden.units)
        self.norm.build(shape)
        self.last.build(shape)
        self.built = True

    def activations(self, x, training=False):
        """The hidden layer after BatchNorm and ReLU: float32 [N, hidden]."""
        return tf.nn.relu(self.norm(self.hidden(tf.cast(x, tf.float32)), training=training))

    def call(self, x, training=False):
        return self.last(self.activations(x, training=training))


@keras.saving.register_keras_serializable("revisit_ssl")
class DynamicHead(keras.layers.Layer):
    """A prediction vector for every visual word, made of the word itself (OBoW, arXiv:2012.11552, supplement C).

    Unit rows, linear without bias, BatchNorm over the words, ReLU, linear, unit rows: float [K, c] -> float32
    [K, units]. The words are constants: no gradient reaches them.

    Args:
        units: int, size of the features that the vectors are compared with.
        hidden: int; None: 2 * units, as in the official code.
    """

    def __init__(self, units, hidden=None, name="dynamic_head", dtype="float32", **base):
        super().__init__(name=name, dtype=dtype, **base)
        self.hidden = linear(hidden or 2 * units, "hidden", bias=False)
        # Never synchronised: all replicas have the same words.
        self.norm = normalisation("batch", 0.9, 1e-5, "hidden_norm", "float32")
        self.last = linear(units, "last")

    def build(self, input_shape):
        self.hidden.build(input_shape)
        shape = (input_shape[0], self.hidden.units)
        self.norm.build(shape)
        self.last.build(shape)
        self.built = True

    def call(self, words, training=False):
        x = self.hidden(unit(tf.stop_gradient(tf.cast(words, tf.float32))))
        return unit(self.last(tf.nn.relu(self.norm(x, training=training))))
