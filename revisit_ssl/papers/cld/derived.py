"""CLD's recipes of ImageNet with other images or other labels: ImageNet-LT, and 1 % or 10 % of the labels."""

import dataclasses

from revisit_ssl.papers.cld.protocols import SEARCH
from revisit_ssl.papers.published import load_published


def long_tailed(recipe):
    """Supplement, section 2.1: ImageNet-LT by its three lists, else as ImageNet; many, medium and few are told apart.

    Its validation images lie outside of the training list, which is all trained on and probed with.
    """
    said = recipe.source.partition("; published: ")[0]
    return dataclasses.replace(
        recipe, dataset="imagenet_lt",
        source=f"supplement, section 2.1: ImageNet-LT as ImageNet, 256 images, rate 0.03, 8 GPUs; the rest: {said}; "
        "published: none that we know of",
    )


def few_labels(name, recipe, share):
    """Supplement, section 2.5, and OpenSelfSup's benchmark: all weights of the preset paper trained on a share of the
    labels, drawn class by class, with three rates and three multipliers of the new layer's."""
    # Deviation: the benchmark's lists are the same for all; without them (--probe-dataset imagenet_list:/path) the seed
    # draws. Rates are chosen on held-out images; the supplement does not say on which.
    of_others = "; ".join(
        f"{r['value']:g} (top-1, {r['paper']})" for r in load_published("cld")
        if (r["pretext"], r["probe"], r["labels"], r["metric"]) == (name, "finetune", share, "top1")
    )
    said = recipe.source.partition("; published: ")[0]
    return dataclasses.replace(
        recipe,
        bench=dataclasses.replace(recipe.bench, train="train", fraction=share, balanced=True),
        probes={"finetune": SEARCH},
        source=f"{said}; fine-tuning: supplement, section 2.5, greedy search over 0.001, 0.01, 0.1 and x1, x10, x100; "
        f"published: {of_others or 'none that we know of'}",
    )
