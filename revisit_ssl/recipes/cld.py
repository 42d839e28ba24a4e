"""Instance discrimination and CLD (Wang et al., CVPR 2021, arXiv:2008.03813) and the methods that it builds on.

smoke   our own: digits, a few steps, for tests of the machinery. Its features are worth nothing.
"""

from revisit_ssl.pretext import find_pretext
from revisit_ssl.recipe import OptimizerSpec, Recipe, ViewSpec


def smoke(pretext, width, backbone):
    """Seconds: twelve steps on digits."""
    return Recipe(
        pretext=pretext,
        backbone=backbone or "resnet18",
        width=width or 1,
        task=find_pretext(pretext).Options(),
        stem="small",
        bn_momentum=0.9,
        dataset="digits",
        views=ViewSpec(crop="resized", size=32, scale=(0.6, 1.0), color="none", flip=False, eval_method="none"),
        batch_size=32,
        epochs=1,
        max_steps=12,
        optimizer=OptimizerSpec(lr=0.05, scale_lr=False, schedule="cosine", warmup_epochs=0),
        probes=("linear", "knn"),
        endpoints=("block4", "pre_logits"),
        source="small enough for a test",
    )


RECIPES = {
    f"{pretext}/smoke": (lambda width=None, backbone=None, pretext=pretext: smoke(pretext, width, backbone))
    for pretext in ("npid", "simclr")
}
