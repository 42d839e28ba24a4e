"""What the networks are made of: symmetric convolutions, normalisation, the three stems; and checks of arguments."""

import dataclasses
import functools
from collections.abc import Callable

import keras

from revisit_ssl.backbones.normalisation import BatchNorm
from revisit_ssl.errors import InputError

# PyTorch's layer default, U(-1/sqrt(fan_in), 1/sqrt(fan_in)).
TORCH_UNIFORM = functools.partial(keras.initializers.VarianceScaling, 1 / 3, "fan_in", "uniform")


def check_width(width):
    """Raises InputError unless ``width`` is an integer of at least 1."""
    if isinstance(width, bool) or not isinstance(width, int) or width < 1:
        raise InputError(f"width {width!r}; a widening factor is an integer of at least 1 (4 is a standard ResNet-50)")


def image_input(input_shape):
    """A Keras input for images of ``input_shape`` (height, width, channels); sides may be None."""
    sides_ok = len(input_shape) == 3 and all(side is None or side >= 1 for side in input_shape[:2])
    if not sides_ok or not input_shape[2]:
        raise InputError(f"input_shape {tuple(input_shape)!r}; (height, width, channels), None for sides that vary")
    return keras.Input(tuple(input_shape), name="image")


def normalisation(norm, momentum, epsilon, name, dtype=None, group=None, gamma="ones"):
    """The layer for ``norm`` and ``group`` as in BackboneOptions; ``momentum`` is the share of the old moving value,
    ``gamma`` the initialiser of the scale."""
    if norm == "none":
        return keras.layers.Identity(name=name, dtype=dtype)
    sync = norm == "sync"
    return BatchNorm(
        momentum=momentum,
        epsilon=epsilon,
        synchronized=sync,
        name=name,
        dtype=dtype,
        group=group,
        gamma_initializer=gamma,
    )


@dataclasses.dataclass(frozen=True)
class Parts:
    """Layer by layer helper: each method applies explicitly named layers to ``x`` [B,H,W,C].

    Explicit names make the paths of the variables equal in every process; checkpoints and the exclusions of weight
    decay rely on them. Kernels are Glorot-uniform as in TF1's layers unless ``initializer`` makes another (one per
    layer: a shared Keras initialiser would give layers of one shape the same values). Without normalisation the
    convolutions get a bias.
    """

    norm: str = "batch"
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3
    initializer: Callable = keras.initializers.GlorotUniform
    bias: bool = False
    bn_group: int | None = None

    def conv(self, x, filters, size, name, stride=1):
        """Convolution with zeros added on both sides alike; SAME at stride 2 would add them unevenly."""
        if size > 1 and stride > 1:
            x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
        return keras.layers.Conv2D(
            filters,
            size,
            strides=stride,
            padding="same" if stride == 1 else "valid",
            name=name,
            use_bias=self.bias or self.norm == "none",
            kernel_initializer=self.initializer(),
        )(x)

    def normalise(self, x, name, gamma="ones"):
        """The recipe's normalisation of a map [B, h, w, c]; none where it has none."""
        options = {"group": self.bn_group, "gamma": gamma}
        return normalisation(self.norm, self.bn_momentum, self.bn_epsilon, name, **options)(x)

    def relu(self, x, name):
        """max(x, 0)."""
        return keras.layers.ReLU(name=name)(x)

    def normalise_relu(self, x, name):
        """Normalisation, then ReLU; layers ``name``_norm and ``name``_relu."""
        return self.relu(self.normalise(x, f"{name}_norm"), f"{name}_relu")

    def root(self, image, filters, stem, stride, name="root", activate=False):
        """The first convolution: 7x7/2 and a 3x3/2 max-pool ("paper"), 3x3/1 ("cifar") or 3x3/2 ("small").

        ``activate`` puts normalisation and ReLU after the convolution; ``stride`` replaces the stem's own.
        """
        stride = stride or (1 if stem == "cifar" else 2)
        x = self.conv(image, filters, 7 if stem == "paper" else 3, name, stride)
        if activate:
            x = self.normalise_relu(x, name)
        if stem == "paper":
            # Zeros, not -inf, around the pool: visible where no ReLU comes before it (v2, RevNet).
            x = keras.layers.ZeroPadding2D(1, name=f"{name}_pool_pad")(x)
            x = keras.layers.MaxPooling2D(3, strides=2, name=f"{name}_pool")(x)
        return x

    def average(self, x):
        """Global average pool [B,H,W,C] -> [B,C], float32 under every precision: heads and probes read it."""
        return keras.layers.GlobalAveragePooling2D(dtype="float32", name="pre_logits")(x)
