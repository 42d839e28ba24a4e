"""VGG with batch normalisation: VGG19 of "Revisiting Self-Supervised…", and VGG16 of DeeperCluster."""

from dataclasses import dataclass
from typing import ClassVar

import keras

from revisit_ssl.backbones.network import Network
from revisit_ssl.backbones.options import VGG16Options
from revisit_ssl.backbones.resnet import TORCH
from revisit_ssl.backbones.sobel import fully_connected, seen
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
    """VGG16-BN as in DeeperCluster (arXiv:1905.01278), 8k channels in the first two convolutions (k = 8: the standard
    network).

    Endpoints: "conv1".."conv13" (after ReLU, before any pool) and "pre_logits". With fully connected layers (``fc``):
    "fc6" (after ReLU), "fc7" [B, fc k] before its ReLU, which is what gets clustered, and "pre_logits", after it, which
    heads see; without them "pre_logits" [B,64k] is the average of conv13. Both float32. The maps of conv1 and conv2
    are two pixels larger than the image unless ``image_pad`` says otherwise.

    Source: facebookresearch/DeeperCluster, src/model/model_factory.py.
    """

    Options: ClassVar = VGG16Options
    fixed_sides: ClassVar[bool] = True

    def endpoints(self, image, width, options):
        parts = self.parts(options, bias=True)
        # The authors pad the image by 2 before Sobel and by 1 without it, on top of the convolutions' own padding.
        pad = options.image_pad if options.image_pad is not None else 2 if options.sobel else 1
        x, endpoints = seen(image, options.sobel, pad), {}
        for i, multiple in enumerate((1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8), 1):
            if i in (3, 5, 8, 11):
                x = keras.layers.MaxPooling2D(2, name=f"pool{i - 1}")(x)
            x = parts.conv(x, 8 * width * multiple, options.conv1_size if i == 1 else 3, f"conv{i}")
            x = endpoints[f"conv{i}"] = parts.normalise_relu(x, f"conv{i}")
        if not options.fc:
            return endpoints | {"pre_logits": parts.average(x)}
        fixed = min(side or 0 for side in x.shape[1:3]) >= 2
        wants = "VGG16 with fully connected layers wants fixed sides of at least 32 pixels, as (224, 224, 3)"
        require(fixed, f"input_shape {tuple(image.shape[1:])!r}; {wants}")
        x = keras.layers.MaxPooling2D(2, name="pool13")(x)
        return endpoints | fully_connected(x, options.fc * width, options, dropouts=("fc7",))


vgg19_bn = VGG19(name="vgg19_bn", input_shape=(224, 224, 3))
vgg16_bn = VGG16(name="vgg16_bn", **TORCH)
