"""AlexNet with batch normalisation, as DeepCluster trains it (arXiv:1807.05520)."""

from dataclasses import dataclass
from typing import ClassVar

import keras

from revisit_ssl.backbones.network import Network
from revisit_ssl.backbones.options import AlexNetOptions
from revisit_ssl.backbones.resnet import TORCH
from revisit_ssl.backbones.sobel import fully_connected, seen
from revisit_ssl.errors import require


@dataclass(frozen=True, kw_only=True)
class AlexNet(Network):
    """Five convolutions of 12k, 32k, 48k, 48k and 32k channels (k = 8: 96, 256, 384, 384, 256), no groups, no local
    response normalisation; Sobel keeps the size of the image.

    Endpoints: "conv1".."conv5" (after ReLU, before any pool), "fc6" (after ReLU), "fc7" [B, fc k] before its ReLU,
    which is what gets clustered, and "pre_logits", after it (float32).

    Source: facebookresearch/deepcluster, models/alexnet.py.
    """

    Options: ClassVar = AlexNetOptions
    fixed_sides: ClassVar[bool] = True

    def endpoints(self, image, width, options):
        fixed = min(side or 0 for side in image.shape[1:3]) >= 63
        wants = "AlexNet wants fixed sides of at least 63 pixels, as (224, 224, 3)"
        require(fixed, f"input_shape {tuple(image.shape[1:])!r}; {wants}")
        parts = self.parts(options, bias=True)
        x, endpoints = seen(image, options.sobel, 1 if options.sobel else 0), {}
        for i, (multiple, size) in enumerate(((12, 11), (32, 5), (48, 3), (48, 3), (32, 3)), 1):
            if i == 1:
                # Two zeros on each side, not the five that would keep the size.
                x = keras.layers.ZeroPadding2D(2, name="conv1_pad")(x)
                kernel = {"kernel_initializer": parts.initializer(), "strides": 4, "name": "conv1"}
                x = keras.layers.Conv2D(multiple * width, size, **kernel)(x)
            else:
                x = parts.conv(x, multiple * width, size, f"conv{i}")
            x = endpoints[f"conv{i}"] = parts.normalise_relu(x, f"conv{i}")
            if i in (1, 2, 5):
                x = keras.layers.MaxPooling2D(3, strides=2, name=f"pool{i}")(x)
        return endpoints | fully_connected(x, options.fc * width, options, dropouts=("fc6", "fc7"))


alexnet = AlexNet(name="alexnet", input_shape=(224, 224, 3), **TORCH)
