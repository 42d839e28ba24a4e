"""From scores of probes to lines of results."""

import dataclasses

import numpy as np

from revisit_ssl.evaluation.sets import fitted_on
from revisit_ssl.evaluators.bench import label_share
from revisit_ssl.runs import results
from revisit_ssl.runs.identity import LENGTH, recipe_id, seen, setting_id
from revisit_ssl.runs.intervals import measured_on


def of_run(recipe, steps):
    """The fields of a Result that say which run a number is of."""
    return {
        "pretext": recipe.pretext,
        "name": recipe.name or recipe.pretext,
        "preset": recipe.preset,
        "paper": recipe.paper,
        "backbone": recipe.backbone,
        "width": recipe.width,
        "dataset": recipe.dataset,
        "seed": recipe.seed,
        "steps": steps,
        "recipe": recipe_id(recipe),
        "setting": setting_id(recipe),
        "task": dataclasses.asdict(recipe.task),
        "training": {name: value for name, value in vars(recipe).items() if name in LENGTH},
    } | results.provenance()


def representation_size(backbone):
    """Values of pre_logits, or None where a network has no such endpoint."""
    output = backbone.output.get("pre_logits")
    return None if output is None else int(output.shape[-1])


def of_probing(recipe, backbone, weights, steps):
    """The fields of a Result that all scores of one ``evaluate`` share."""
    shared = of_run(recipe, steps) | {
        "representation_size": representation_size(backbone),
        "weights": weights,
        "probe_dataset": recipe.probed_dataset,
        "probe_train": fitted_on(recipe),
        "labels": label_share(recipe),
        "split": recipe.bench.split,
        "bench": seen(recipe.bench),
    }
    return shared if weights == "pretrained" else shared | {"pretext": "random", "steps": 0}


def as_results(score, probe, shared, groups, images=None):
    """[Result], one for each number of a Score; what is in ``extra`` stands on the first of them alone.

    Args:
        score: Score.
        probe: name in PROBES.
        shared: of ``of_probing``.
        groups: {"many", "medium", "few": classes}, whose mean accuracies are numbers too; {} where there are none.
        images: that it was measured on; None where that is not known.
    """
    numbers = {"top1": score.top1, "top5": score.top5} | score.metrics
    for name, classes in groups.items() if score.per_class else ():
        mine = [score.per_class[c] for c in classes if score.per_class[c] is not None]
        numbers |= {f"{name}_top1": float(np.mean(mine))} if mine else {}
    found = {metric: value for metric, value in numbers.items() if value is not None}
    return [
        results.Result(
            metric=metric, value=round(float(value), 3), probe="_".join(filter(None, (probe, score.variant))),
            endpoint=score.endpoint, hyperparameters=score.hyperparameters, converged=score.converged,
            extra=score.extra if i == 0 else {}, seconds=round(score.seconds, 2), **shared,
            **measured_on(metric, value, images),
        )
        for i, (metric, value) in enumerate(found.items())
    ]
