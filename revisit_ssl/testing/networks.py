"""What the checks run on: a network that trains in seconds, two devices where there is one CPU."""

import keras
import tensorflow as tf

from revisit_ssl.backbones.parts import Parts, image_input


def tiny_backbone(width=1, *, input_shape, stem="small", norm="batch", bn_momentum=0.9, bn_epsilon=1e-3):
    """Two convolutions with the package's normalisation; arguments and endpoints as every backbone's."""
    parts = Parts(norm, bn_momentum, bn_epsilon)
    image = image_input(input_shape)
    first = parts.root(image, 8 * width, stem, None, activate=True)
    second = parts.normalise_relu(parts.conv(first, 16 * width, 3, "block4_conv", 2), "block4")
    endpoints = {"after_root": first, "block3": first, "block4": second, "pre_logits": parts.average(second)}
    return keras.Model(image, endpoints, name="tiny")


def two_devices():
    """Makes two logical devices of the CPU, for the checks with two replicas; call it before TensorFlow is used."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration() for _ in range(2)])
