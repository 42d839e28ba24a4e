"""What the checks run on: a network that trains in seconds, two devices where there is one CPU."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import tensorflow as tf

from revisit_ssl.backbones.network import Network
from revisit_ssl.backbones.options import BackboneOptions


@dataclass(frozen=True, kw_only=True)
class TinyOptions(BackboneOptions):
    """Options of the tiny network."""

    stem: Literal["paper", "cifar", "small"] = "small"
    """As of the ResNets."""


class Tiny(Network):
    """Two convolutions with the package's normalisation; endpoints as every backbone's."""

    Options: ClassVar = TinyOptions

    def endpoints(self, image, width, options):
        parts = self.parts(options)
        first = parts.root(image, 8 * width, options.stem, None, activate=True)
        second = parts.normalise_relu(parts.conv(first, 16 * width, 3, "block4_conv", 2), "block4")
        return {"after_root": first, "block3": first, "block4": second, "pre_logits": parts.average(second)}


tiny_backbone = Tiny(name="tiny", bn_momentum=0.9)


def two_devices():
    """Makes two logical devices of the CPU, for the checks with two replicas; call it before TensorFlow is used."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(2)])
