"""RevNet50 (Gomez et al. 2017) in the form of "Revisiting Self-Supervised Visual Representation Learning"."""

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import keras
import tensorflow as tf

from revisit_ssl.backbones.network import Network
from revisit_ssl.backbones.normalisation import rows_at_once, rows_of_an_image
from revisit_ssl.backbones.options import RevNetOptions
from revisit_ssl.backbones.parts import normalisation

UNITS = (3, 4, 6, 3)


@dataclass(frozen=True, kw_only=True)
class RevNet(Network):
    """A RevNet50; of widening factor k it has 64k channels in its root and 512k in block4 (k = 4: the standard one).

    Endpoints: "after_root" [B,h,w,64k], "block1".."block4" [B,h,w,c] and "pre_logits" [B,d]; all float32 but after_root
    under mixed precision.

    Attributes:
        last_relu: False drops the ReLU between the last BN and the average.

    Source: the specification's A.4; google/revisiting-self-supervised, models/resnet.py.
    """

    last_relu: bool = True

    Options: ClassVar = RevNetOptions

    def endpoints(self, image, width, options):
        parts = self.parts(options)
        # Four times the channels of a ResNet's root, and no weight decay on it: optimisers know it by its name.
        x = parts.root(image, 64 * width, options.stem or "paper", options.root_stride, name="revnet_root")
        endpoints = {"after_root": x}
        normalised = {name: getattr(parts, name) for name in Normalised._fields}
        for block, count in enumerate(UNITS, 1):
            channels = 64 * width * 2 ** (block - 1)
            if block > 1:
                if options.strides[block - 2] == 2:
                    # SAME: TensorFlow leaves the padding out of the mean.
                    pool = keras.layers.AveragePooling2D(2, padding="same", dtype="float32", name=f"block{block}_pool")
                    x = pool(x)
                x = PadChannels(channels // 4, dtype="float32", name=f"block{block}_pad_channels")(x)
                if options.endpoints_after_pool:
                    endpoints[f"block{block - 1}"] = x
            zeros = channels // 4 if block > 1 else 0
            memory = {"recompute": options.recompute, "zeros": zeros}
            x = ReversibleBlock(channels, count, **normalised, **memory, name=f"block{block}")(x)
            endpoints[f"block{block}"] = x
        x = parts.normalise(x, "last_norm")
        if options.representation_size is not None:
            x = parts.relu(x, "last_relu")
            x = parts.conv(x, options.representation_size, 1, "revnet_representation")
            x = parts.normalise(x, "representation_norm")
        if self.last_relu:
            x = parts.relu(x, "last_relu" if options.representation_size is None else "representation_relu")
        return endpoints | {"pre_logits": parts.average(x)}


@keras.saving.register_keras_serializable("revisit_ssl")
class PadChannels(keras.layers.Layer):
    """``extra`` zero channels on each side: [B,H,W,C] -> [B,H,W,C + 2 extra].

    On both sides, so that each half of a reversible stream gets zeros and one half of the old channels.
    """

    def __init__(self, extra, **kwargs):
        super().__init__(**kwargs)
        self.extra = extra

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], input_shape[-1] + 2 * self.extra)

    def call(self, x):
        return keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (self.extra, self.extra)))

    def get_config(self):
        return {**super().get_config(), "extra": self.extra}


class Normalised(NamedTuple):
    """How the units of a block are normalised, as in BackboneOptions."""

    norm: str = "batch"
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3
    bn_group: int | None = None


@keras.saving.register_keras_serializable("revisit_ssl")
class Branch(keras.layers.Layer):
    """F of a reversible unit: BN-ReLU-1x1, BN-ReLU-3x3, BN-ReLU-1x1 on half the stream, [B,H,W,c/2] -> same."""

    def __init__(self, channels, norm, bn_momentum, bn_epsilon, bn_group, **kwargs):
        super().__init__(**kwargs)
        self.convs, self.norms = [], []
        for i, (filters, size) in enumerate(((channels // 8, 1), (channels // 8, 3), (channels // 2, 1)), 1):
            dtype = self.dtype_policy
            self.norms.append(normalisation(norm, bn_momentum, bn_epsilon, f"norm{i}", dtype, bn_group))
            conv = keras.layers.Conv2D(
                filters, size, padding="same", use_bias=norm == "none", name=f"conv{i}", dtype=dtype
            )
            self.convs.append(conv)

    def build(self, input_shape):
        for normalise, conv in zip(self.norms, self.convs, strict=True):
            normalise.build(input_shape)
            conv.build(input_shape)
            input_shape = conv.compute_output_shape(input_shape)

    def call(self, x, training=None):
        for normalise, conv in zip(self.norms, self.convs, strict=True):
            x = conv(keras.ops.relu(normalise(x, training=training)))
        return keras.ops.cast(x, "float32")

    @property
    def moving(self):
        """The moving statistics, the only variables that a training pass changes."""
        return [v for layer in self.norms for v in layer.weights if v.path.endswith(("_mean", "_variance"))]

    def pure_call(self, x, values, training):
        """F(x) and the new values of `moving`, with ``values`` in place of `weights`; changes nothing."""
        with keras.StatelessScope(zip(self.weights, values, strict=True)) as scope:
            return self(x, training=training), [scope.get_current_value(v) for v in self.moving]


@keras.saving.register_keras_serializable("revisit_ssl")
class ReversibleBlock(keras.layers.Layer):
    """``units`` single-sided reversible units on a stream of ``channels``: float32 [B,H,W,channels] -> same.

    A unit maps the halves (x1, x2) to (x2, x1 + F(x2)); the swap lets consecutive units alternate. The stream stays
    float32 under mixed precision, for the inverse (o1, o2) -> (o2 - F(o1), o1) must be exact to rounding; only F runs
    in the lower precision.

    With ``recompute`` the training pass keeps the block's output alone and inverts it unit by unit going backwards.
    ``zeros`` says how many of the last channels are zero on input (`PadChannels`): there the ReLU of the first unit
    sits on its kink as long as beta is 0, and rounding in the inverse must not move it off.

    ``more``: the fields of ``Normalised``, and what Keras' layers take.
    """

    def __init__(self, channels, units, *, recompute=False, zeros=0, **more):
        normalised = Normalised(**{name: more.pop(name) for name in Normalised._fields if name in more})
        super().__init__(autocast=False, **more)
        own = {"channels": channels, "units": units, "recompute": recompute, "zeros": zeros}
        self.config = own | normalised._asdict()
        self.recompute = recompute
        self.zeros = zeros
        self.branches = [
            Branch(channels, *normalised, name=f"unit{i}", dtype=self.dtype_policy) for i in range(1, units + 1)
        ]

    def build(self, input_shape):
        for branch in self.branches:
            branch.build((*input_shape[:-1], input_shape[-1] // 2))

    def compute_output_spec(self, x, training=None):
        return keras.KerasTensor(x.shape, "float32")

    def get_config(self):
        return {**super().get_config(), **self.config}

    def call(self, x, training=None):
        x = keras.ops.cast(x, "float32")
        if training and self.recompute:
            return self._call_recomputing(x)
        x1, x2 = tf.split(x, 2, axis=-1)
        for branch in self.branches:
            x1, x2 = x2, x1 + branch(x2, training=training)
        return tf.concat([x1, x2], axis=-1)

    def inverse(self, y, training=False):
        """The block's input from its output ``y``, float32 [B,H,W,channels]; moving statistics stay as they are."""
        y1, y2 = tf.split(y, 2, axis=-1)
        for branch in reversed(self.branches):
            change, _ = branch.pure_call(y1, [tf.convert_to_tensor(v.value) for v in branch.weights], training)
            y1, y2 = y2 - change, y1
        return tf.concat([y1, y2], axis=-1)

    def _call_recomputing(self, x):
        # Branches are called as pure functions of their variables. Then the forward pass hands its new moving
        # statistics out and they are assigned once, the recomputation throws its own away, and no variable is captured.
        weights = [[tf.convert_to_tensor(v.value) for v in branch.weights] for branch in self.branches]
        rows = rows_at_once()  # of this pass; the gradient is traced later

        @tf.custom_gradient
        def forward(x, *flat_weights):
            grouped = tf.nest.pack_sequence_as(weights, flat_weights)
            x1, x2 = tf.split(x, 2, axis=-1)
            moved = []
            for branch, branch_weights in zip(self.branches, grouped, strict=True):
                change, statistics = branch.pure_call(x2, branch_weights, training=True)
                x1, x2 = x2, x1 + change
                moved += statistics
            y = tf.concat([x1, x2], axis=-1)

            def backward(dy, *_):
                gradients = []
                y1, y2 = tf.split(y, 2, axis=-1)
                dy1, dy2 = tf.split(dy, 2, axis=-1)
                for i in reversed(range(len(grouped))):
                    y1, y2 = _after(dy2, y1), _after(dy2, y2)
                    if i == 0 and self.zeros:
                        y1 = tf.concat([y1[..., : -self.zeros], tf.zeros_like(y1[..., -self.zeros :])], axis=-1)
                    with tf.GradientTape() as tape, rows_of_an_image(rows):
                        tape.watch([y1, grouped[i]])
                        change, _ = self.branches[i].pure_call(y1, grouped[i], training=True)
                    through, branch_gradients = tape.gradient(change, [y1, grouped[i]], output_gradients=dy2)
                    gradients = branch_gradients + gradients
                    y1, y2 = y2 - change, y1
                    dy1, dy2 = dy2, dy1 + through
                return (tf.concat([dy1, dy2], axis=-1), *gradients)

            return (y, *moved), backward

        y, *moved = forward(x, *tf.nest.flatten(weights))
        for variable, value in zip([v for branch in self.branches for v in branch.moving], moved, strict=True):
            variable.assign(value)
        return y


def _after(gradient, x):
    """``x``, but not before ``gradient`` is known.

    Without a dependency the executor recomputes everything as soon as the forward pass ends, and compilers merge the
    recomputation with the forward pass: both keep all activations. XLA ignores control dependencies, so it is a data
    dependency: plus zero, or plus NaN if the gradient has one.
    """
    first = tf.reshape(gradient, [-1])[0]
    return x + tf.where(tf.math.is_nan(first), first, tf.zeros_like(first))


revnet50 = RevNet(name="revnet50")
revnet50_minus = replace(revnet50, name="revnet50_minus", last_relu=False)
"""The paper's "RevNet50 (-)": without the ReLU before the average (its BN stays)."""
