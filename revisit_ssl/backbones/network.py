"""What a network is: its structure, of any width."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import keras

from revisit_ssl.backbones.options import BackboneOptions, check_options
from revisit_ssl.backbones.parts import Parts, check_width, image_input
from revisit_ssl.errors import require


@dataclass(frozen=True, kw_only=True)
class Network:
    """An architecture; called with a width, it builds a backbone.

    A family derives its class from this one, names the class of its options in ``Options`` and writes ``endpoints``.

    Attributes:
        name: of the models.
        bn_momentum, bn_epsilon: where the options have None; Keras' sense.
        initializer: makes one initialiser per kernel.
        input_shape: (height, width, channels) of the images where the caller does not say; None for sides that vary.
    """

    name: str
    bn_momentum: float = 0.99
    bn_epsilon: float = 1e-3
    initializer: Callable = keras.initializers.GlorotUniform
    input_shape: tuple = (None, None, 3)

    Options: ClassVar = BackboneOptions
    fixed_sides: ClassVar[bool] = False
    """True where a recipe's network is built for the one size of its views."""

    def __call__(self, width, options=None, *, input_shape=None, **changes):
        """A backbone with fresh weights.

        Args:
            width: int >= 1, the widening factor.
            options: of class ``Options``; None: its default values.
            input_shape: (height, width, channels) of the images; None: the network's own.
            changes: fields of the options with other values.

        Returns:
            Functional model, images [B,H,W,C] -> dict of endpoints, the last of which is "pre_logits" float32 [B,d].

        Raises:
            InputError: a bad width, shape or value, or an option that the family does not have.
        """
        check_width(width)
        options = self.options(options, **changes)
        image = image_input(self.input_shape if input_shape is None else input_shape)
        return keras.Model(image, self.endpoints(image, width, options), name=self.name)

    def options(self, options=None, **changes):
        """``options``, or the family's default ones, with ``changes``; arguments and errors as of ``__call__``."""
        check_options(self.name, self.Options, changes)
        options = self.Options() if options is None else options
        ours, theirs = self.Options.__name__, type(options).__name__
        require(type(options) is self.Options, f"{self.name} takes {ours}, not {theirs}")
        return dataclasses.replace(options, **changes)

    def endpoints(self, image, width, options):
        """{name: tensor} of the network on a Keras input ``image``, "pre_logits" last."""
        raise NotImplementedError

    def parts(self, options, bias=False):
        """Parts with the network's own constants where the options have None."""
        momentum, epsilon = (
            getattr(self, name) if getattr(options, name) is None else getattr(options, name)
            for name in ("bn_momentum", "bn_epsilon")
        )
        return Parts(options.norm, momentum, epsilon, self.initializer, bias=bias, bn_group=options.bn_group)
