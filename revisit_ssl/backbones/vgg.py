"""VGG with batch normalisation: VGG19 of "Revisiting Self-Supervised…", and the VGG16 trunk of DeeperCluster."""

from dataclasses import dataclass
from typing import ClassVar

import keras
import numpy as np

from revisit_ssl.backbones.network import Network
from revisit_ssl.backbones.options import VGG16Options
from revisit_ssl.backbones.resnet import TORCH
from revisit_ssl.errors import require


@dataclass(frozen=True, kw_only=True)
class VGG19(Network):
    """VGG19-BN; of widening factor k it has 8k channels in its first stage (k = 8: the standard network). No dropout,
    as in the official code.

    Endpoints: "after_root" [B,H,W,8k], "block1".."block4" (the paper's names: the inputs of the 2nd to 5th max-pool;
    the official code calls them block2..block5, and block1 what is "after_root" here) and "pre_logits" [B,512k], the
    second fully connected layer after BN and ReLU.

    The first fully connected layer is a convolution over all that five pools leave: the images have fixed sides of at
    least 32 pixels.

    Source: the specification's A.5; google/revisiting-self-supervised, models/vggnet.py.
    """

    fixed_sides: ClassVar[bool] = True

    def endpoints(self, image, width, options):
        fixed = min(side or 0 for side in image.shape[1:3]) >= 32
        wants = "VGG19 wants fixed sides of at least 32 pixels, as (224, 224, 3)"
        because = "its first fully connected layer covers the whole map"
        require(fixed, f"input_shape {tuple(image.shape[1:])!r}; {wants}: {because}")
        parts = self.parts(options)
        x, endpoints = image, {}
        for stage, (convolutions, multiple) in enumerate(zip((2, 2, 4, 4, 4), (1, 2, 4, 8, 8), strict=True), 1):
            for i in range(1, convolutions + 1):
                x = parts.conv(x, 8 * width * multiple, 3, f"stage{stage}_conv{i}")
                x = parts.normalise_relu(x, f"stage{stage}_conv{i}")
            endpoints["after_root" if stage == 1 else f"block{stage - 1}"] = x
            x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        for fc, size in (("fc6", x.shape[1:3]), ("fc7", 1)):
            x = keras.layers.Conv2D(512 * width, size, use_bias=options.norm == "none", name=fc)(x)
            x = parts.normalise_relu(x, fc)
        return endpoints | {"pre_logits": keras.layers.Flatten(dtype="float32", name="pre_logits")(x)}


@dataclass(frozen=True, kw_only=True)
class VGG16(Network):
    """The 13 convolutions of VGG16-BN as in DeeperCluster (arXiv:1905.01278), 8k channels in the first two (k = 8: the
    standard network).

    The fully connected layers belong to that paper's pretext, as they carry its dropout and are never transferred.

    Endpoints: "conv1".."conv13" (after ReLU, before any pool) and "pre_logits" [B,64k], the average of conv13
    (float32). The maps of conv1 and conv2 are two pixels larger than the image.

    Source: facebookresearch/DeeperCluster, src/model/model_factory.py.
    """

    Options: ClassVar = VGG16Options
    fixed_sides: ClassVar[bool] = True

    def endpoints(self, image, width, options):
        colours = not options.sobel or image.shape[-1] == 3
        require(colours, f"input_shape {tuple(image.shape[1:])!r}; Sobel wants three channels")
        parts = self.parts(options, bias=True)
        # The authors pad the image by 2 before Sobel and by 1 without it, on top of the convolutions' own padding.
        pad = Sobel(padding=2, name="sobel") if options.sobel else keras.layers.ZeroPadding2D(1, name="image_pad")
        x, endpoints = pad(image), {}
        for i, multiple in enumerate((1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8), 1):
            if i in (3, 5, 8, 11):
                x = keras.layers.MaxPooling2D(2, name=f"pool{i - 1}")(x)
            x = parts.conv(x, 8 * width * multiple, 3, f"conv{i}")
            x = endpoints[f"conv{i}"] = parts.normalise_relu(x, f"conv{i}")
        return endpoints | {"pre_logits": parts.average(x)}


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
        horizontal = np.outer((1, 2, 1), (1, 0, -1))
        kernel = np.stack([horizontal, horizontal.T], axis=-1)[:, :, None]  # [3,3,1,2]
        pad = (self.padding, self.padding)
        gray = keras.ops.pad(keras.ops.mean(images, axis=-1, keepdims=True), ((0, 0), pad, pad, (0, 0)))
        return keras.ops.conv(gray, keras.ops.convert_to_tensor(kernel, gray.dtype), padding="valid")

    def get_config(self):
        return {**super().get_config(), "padding": self.padding}


vgg19_bn = VGG19(name="vgg19_bn", input_shape=(224, 224, 3))
vgg16_bn = VGG16(name="vgg16_bn", **TORCH)
