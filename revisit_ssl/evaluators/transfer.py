"""A trainable copy of a network up to an endpoint, and new fully connected layers on it."""

import dataclasses
import math

import keras
import tensorflow as tf

from revisit_ssl.features.checks import check_endpoints
from revisit_ssl.views import draws

ENDPOINT = "pre_logits"
CELLS = 7  # most cells a side of the map that fully connected layers see: VGG's after its last pool


@dataclasses.dataclass(frozen=True, kw_only=True)
class NewLayers:
    """Layers that start anew on an endpoint of a transferred network.

    Attributes:
        hidden: units of the layers between, each with a ReLU; VGG's fc6 and fc7 have 4096. () for a linear layer alone.
        dropout: share of the first hidden layer's values that are dropped in training.
        endpoint: name; None: with hidden layers the deepest map, else pre_logits.
        fold_sobel: a Sobel layer before conv1 becomes a part of conv1, which then learns from colours.
        bias: what hidden layers start with, beside kernels of deviation 0.01; of the last layer too for "normal".
        last: "normal": kernel of deviation 0.01; "torch": uniform within 1 / sqrt(inputs), biases too.
    """

    hidden: tuple = ()
    dropout: float = 0.0
    endpoint: str | None = None
    fold_sobel: bool = False
    bias: float = 0.0
    last: str = "normal"

    @classmethod
    def of(cls, finetune):
        """Those of a ``Finetune``: with hidden layers as DeeperCluster's eval_pretrain.py has them."""
        own = {name: getattr(finetune, name) for name in ("hidden", "dropout", "endpoint", "fold_sobel")}
        return cls(**own, **({"bias": 0.1, "last": "torch"} if finetune.hidden else {}))

    def place(self, backbone):
        """The name of the endpoint in that network; InputError where it is none."""
        maps = [name for name, output in backbone.output.items() if len(output.shape) == 4]
        name = self.endpoint or (maps[-1] if self.hidden and maps else ENDPOINT)
        check_endpoints(backbone, (name,))
        return name


class Trained:
    """The copy and its layers; starts anew for each candidate.

    Args:
        backbone: frozen keras.Model, which is left alone.
        network_input: NetworkInput.
        num_classes: values that come out.
        seed: of the new layers and of dropout.
        size: side of the images in pixels.
        endpoint: name of the output that the new layers see.
        layers: NewLayers.

    Attributes:
        trunk, head: tf.Variables that are trained; the head's are kernel and bias of each new layer in turn.
        velocities: those of the SGD, in the order of trunk, then head.
    """

    def __init__(self, backbone, network_input, num_classes, seed, size, endpoint=ENDPOINT, layers=NewLayers()):
        whole = keras.Model(backbone.input, {endpoint: backbone.output[endpoint]})  # without the heads
        if layers.fold_sobel and any(layer.name == "sobel" for layer in whole.layers):
            from revisit_ssl.backbones.sobel import fold_sobel  # only networks with Sobel need it

            whole = fold_sobel(whole)
        self.network = keras.models.clone_model(whole)
        # Not network.trainable = True: a clone's layers are frozen like the originals', and Keras does not tell them.
        for layer in self.network._flatten_layers():
            layer.trainable = True
        self.network_input, self.endpoint, self.layers, self.seed = network_input, endpoint, layers, seed
        side = network_input.side(size)
        shape = tuple(whole.compute_output_shape((1, side, side, 3))[endpoint][1:])
        self.pool = max(1, math.ceil(max(shape[:2]) / CELLS)) if len(shape) == 3 else 1
        width = math.prod(shape) if len(shape) == 1 else math.prod(s // self.pool for s in shape[:2]) * shape[2]
        width *= network_input.rows if network_input.combine == "concat" else 1
        self.head = self._new([width, *layers.hidden, num_classes])
        self.trunk = [v.value for v in self.network.trainable_variables]
        self.velocities = [tf.Variable(tf.zeros_like(v)) for v in self.trunk + self.head]
        self.start = [v.numpy() for v in whole.weights], [v.numpy() for v in self.head]
        self.restart()

    def _new(self, widths):
        """[kernel, bias, …] of the layers between those widths."""
        key, head, last = draws.fold(self.seed, 1), [], len(widths) - 2
        for i in range(last + 1):
            shape, bias = widths[i : i + 2], tf.fill([widths[i + 1]], self.layers.bias)
            own = key if i == last else draws.fold(key, i + 1)
            kernel = tf.random.stateless_normal(shape, own.key, stddev=0.01)
            if i == last and self.layers.last == "torch":
                limit = shape[0] ** -0.5
                kernel = tf.random.stateless_uniform(shape, own.key, -limit, limit)
                bias = tf.random.stateless_uniform(shape[1:], draws.fold(own, 1).key, -limit, limit)
            head += [tf.Variable(kernel), tf.Variable(bias)]
        return head

    def logits(self, images, training, number=None):
        """float images [B, s, s, 3] in [0, 1] -> float32 [B, C]; see ``features`` and ``classify``."""
        return self.classify(self.features(images, training), number)

    def features(self, images, training):
        """What the new layers see: float32 [B, d]; ``training``: whether batch normalisation is."""
        values = tf.cast(self.network(self.network_input.prepare(images), training=training)[self.endpoint], tf.float32)
        if values.shape.rank == 4:
            values = tf.nn.max_pool2d(values, self.pool, self.pool, "VALID") if self.pool > 1 else values
            values = tf.reshape(values, [-1, math.prod(values.shape[1:])])
        return self.network_input.join(values)

    def classify(self, values, number=None):
        """float32 [B, d] -> [B, C]; with the ``number`` of a training step, an int64 scalar, dropout is on."""
        *between, (kernel, bias) = zip(self.head[::2], self.head[1::2], strict=True)
        for i, (hidden, offset) in enumerate(between):
            values = tf.nn.relu(tf.matmul(values, hidden) + offset)
            if i == 0 and self.layers.dropout and number is not None:
                draw = draws.fold(draws.fold(self.seed, 4), number).key
                kept = tf.random.stateless_uniform(tf.shape(values), draw) >= self.layers.dropout
                values = tf.where(kept, values / (1 - self.layers.dropout), 0.0)
        return tf.matmul(values, kernel) + bias

    def restart(self):
        """The probed network's weights and statistics, the first head, no velocity."""
        self.assign(self.start)
        for v in self.velocities:
            v.assign(tf.zeros_like(v))

    def values(self):
        """What ``assign`` takes."""
        return [w.numpy() for w in self.network.weights], [v.numpy() for v in self.head]

    def assign(self, values):
        """Takes the weights of network and head, as ``values`` gives them."""
        for own, given in zip((self.network.weights, self.head), values, strict=True):
            for v, value in zip(own, given, strict=True):
                v.assign(value)
