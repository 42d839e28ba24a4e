"""What the recipes of several papers take from MoCo: its views of ImageNet, of v1 and of v2, and its schedule."""

import dataclasses

from revisit_ssl.recipe import OptimizerSpec, ViewSpec

ORDER = ("color", "gray", "blur", "solarize", "randaugment", "flip")  # of v2's code; v1's grays first
IMAGENET = ViewSpec(
    crop="resized", size=224, scale=(0.2, 1.0), color="jitter", jitter=(0.4, 0.4, 0.4, 0.4), gray_probability=0.2,
    order=("gray", "color", "blur", "solarize", "randaugment", "flip"), normalize="imagenet", resize="antialias",
)
IMAGENET_PLUS = dataclasses.replace(
    IMAGENET, order=ORDER, jitter=(0.4, 0.4, 0.4, 0.1), jitter_probability=0.8, blur_probability=(0.5,)
)
EPOCH_COSINE = OptimizerSpec(lr=0.03, schedule="epoch_cosine", warmup_epochs=0, weight_decay=1e-4, decay="all")
