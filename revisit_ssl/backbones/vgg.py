"""VGG with batch normalisation: VGG19 of "Revisiting Self-Supervised…", and the VGG16 trunk of DeeperCluster."""

import keras
import numpy as np

from revisit_ssl.backbones.parts import Parts, check_width, image_input
from revisit_ssl.backbones.resnet import KAIMING_FAN_OUT
from revisit_ssl.errors import InputError


def vgg19_bn(
    width=8,
    *,
    input_shape=(224, 224, 3),
    norm="batch",
    bn_momentum=0.99,
    bn_epsilon=1e-3,
    bn_group=None,
    name="vgg19_bn",
    **options,
):
    """VGG19-BN of 8k channels in its first stage; k = 8 is the standard network. No dropout, as in the official code.

    Args:
        width: int >= 1, the factor k.
        input_shape: (height, width, channels), fixed sides of at least 32: the first fully connected layer is a
            convolution over all that five pools leave.
        norm, bn_momentum, bn_epsilon, bn_group: as in `resnet.resnet`.
        name: of the model.
        options: stem, root_stride, strides; VGG has none of them, only their default values are taken.

    Returns:
        Functional model, images [B,H,W,C] -> dict of "after_root" [B,H,W,8k], "block1".."block4" (the paper's names:
        the inputs of the 2nd to 5th max-pool; the official code calls them block2..block5, and block1 what is
        "after_root" here) and "pre_logits" [B,512k], the second fully connected layer after BN and ReLU.

    Raises:
        InputError: a bad option, sides that vary or are below 32.

    Source: the specification's A.5; google/revisiting-self-supervised, models/vggnet.py.
    """
    check_width(width)
    _check_no_stem(options)
    inputs = image_input(input_shape)
    if min(side or 0 for side in input_shape[:2]) < 32:
        raise InputError(
            f"input_shape {tuple(input_shape)!r}; VGG19 wants fixed sides of at least 32 pixels, as (224, 224, 3): "
            "its first fully connected layer covers the whole map"
        )
    parts = Parts(norm, bn_momentum, bn_epsilon, bn_group=bn_group)
    x, endpoints = inputs, {}
    for stage, (convolutions, multiple) in enumerate(zip((2, 2, 4, 4, 4), (1, 2, 4, 8, 8), strict=True), 1):
        for i in range(1, convolutions + 1):
            x = parts.conv(x, 8 * width * multiple, 3, f"stage{stage}_conv{i}")
            x = parts.normalise_relu(x, f"stage{stage}_conv{i}")
        endpoints["after_root" if stage == 1 else f"block{stage - 1}"] = x
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
    for fc, size in (("fc6", x.shape[1:3]), ("fc7", 1)):
        x = keras.layers.Conv2D(512 * width, size, use_bias=norm == "none", name=fc)(x)
        x = parts.normalise_relu(x, fc)
    endpoints["pre_logits"] = keras.layers.Flatten(dtype="float32", name="pre_logits")(x)
    return keras.Model(inputs, endpoints, name=name)


def vgg16_bn(
    width=8,
    *,
    sobel=False,
    input_shape=(None, None, 3),
    norm="batch",
    bn_momentum=0.9,
    bn_epsilon=1e-5,
    bn_group=None,
    name="vgg16_bn",
    **options,
):
    """The 13 convolutions of VGG16-BN as in DeeperCluster (arXiv:1905.01278), 8k channels in the first two.

    The fully connected layers belong to that paper's pretext, as they carry its dropout and are never transferred.

    Args:
        width: int >= 1; 8 is the standard network (64 to 512 channels).
        sobel: put `Sobel` before conv1, which then has two input channels.
        input_shape, norm, bn_momentum, bn_epsilon, bn_group, name: as in `resnet.resnet`.
        options: stem, root_stride, strides; VGG has none of them, only their default values are taken.

    Returns:
        Functional model, images [B,H,W,3] -> dict of "conv1".."conv13" (after ReLU, before any pool) and "pre_logits"
        [B,64k], the average of conv13 (float32). The maps of conv1 and conv2 are two pixels larger than the image.

    Raises:
        InputError: a bad option.

    Source: facebookresearch/DeeperCluster, src/model/model_factory.py.
    """
    check_width(width)
    _check_no_stem(options)
    parts = Parts(norm, bn_momentum, bn_epsilon, KAIMING_FAN_OUT, bias=True, bn_group=bn_group)
    inputs = image_input(input_shape)
    if sobel and input_shape[2] != 3:
        raise InputError(f"input_shape {tuple(input_shape)!r}; Sobel wants three channels")
    # The authors pad the image by 2 before Sobel and by 1 without it, on top of the convolutions' own padding.
    x = Sobel(padding=2, name="sobel")(inputs) if sobel else keras.layers.ZeroPadding2D(1, name="image_pad")(inputs)
    endpoints = {}
    for i, multiple in enumerate((1, 1, 2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8), 1):
        if i in (3, 5, 8, 11):
            x = keras.layers.MaxPooling2D(2, name=f"pool{i - 1}")(x)
        x = parts.conv(x, 8 * width * multiple, 3, f"conv{i}")
        x = endpoints[f"conv{i}"] = parts.normalise_relu(x, f"conv{i}")
    endpoints["pre_logits"] = parts.average(x)
    return keras.Model(inputs, endpoints, name=name)


def _check_no_stem(options):
    plain = {"stem": ("paper",), "root_stride": (None,), "strides": ((2, 2, 2), [2, 2, 2])}
    for option, value in options.items():
        if option not in plain or value not in plain[option]:
            how = "leave it out, or --stem None where a preset gives it"
            raise InputError(f"{option} {value!r}; a VGG has no such option, {how}")


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
