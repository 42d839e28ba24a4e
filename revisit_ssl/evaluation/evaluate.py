"""evaluate(): a frozen backbone -> features of each endpoint, once -> every probe -> results."""

import dataclasses
import hashlib
import json
import os
import re
import sys

import numpy as np

from revisit_ssl.data import EvalView, open_source
from revisit_ssl.errors import InputError, require
from revisit_ssl.evaluators import PROBES, FeatureProbe, FeatureSplit, ImageProbe, MultiLabelProbe
from revisit_ssl.evaluators.base import class_groups
from revisit_ssl.features.batchnorm import REESTIMATE_IMAGES, evaluation_images, reestimate_batch_norm
from revisit_ssl.features.checks import check_endpoints, check_frozen
from revisit_ssl.features.extract import extract_features
from revisit_ssl.features.representation import NetworkInput
from revisit_ssl.pretext import find_pretext
from revisit_ssl.runs import results
from revisit_ssl.training.build import build_untrained, freeze, open_pretraining
from revisit_ssl.training.checkpoints import list_checkpoints, step_of
from revisit_ssl.training.monitor import TEST_COLUMN, watched_endpoint


def evaluate(backbone, recipe, *, workdir=None, data_dir=None, features_dir=None, weights="pretrained", quiet=False):
    """Probes every endpoint of the recipe with every probe of the recipe.

    Hyper-parameters are chosen on the validation split; each number is of the recipe's probe_split (test, unless it
    is the paper's setting, which chooses nothing), measured once and written down as soon as it is there.

    Args:
        backbone: frozen keras.Model with named endpoints (``load_backbone``, or what ``pretrain`` returns).
        recipe: Recipe; its views, probes, endpoints, probe_dataset and probe_fraction count here.
        workdir: keeps features/ (so that they are extracted once) and results.jsonl; None keeps nothing.
        data_dir: where TFDS data sets lie.
        features_dir: local folder for the features instead, which several runs may share, at the same time too.
        weights: what to call these weights in the results.

    Returns:
        [Result], top-1 and (from five classes on) top-5 in percent, or what else a probe measures. Where the training
        split is long-tailed, also many_top1, medium_top1 and few_top1, means over the classes of each
        ``base.class_groups``.

    Raises:
        InputError: unlabelled data, an unknown probe or endpoint, a trainable backbone, a full disk.
    """
    check_probes(recipe, data_dir)
    check_endpoints(backbone, recipe.endpoints)
    check_frozen(backbone)
    sources = probe_sources(recipe, data_dir)
    groups = training_groups(recipe, sources["train"], data_dir)
    steps = trained_steps(workdir)
    size = representation_size(backbone)
    found = []

    def keep(score, endpoint, name):
        new = as_results(score, recipe, steps, size, weights, endpoint, name, groups)
        found.extend(new)
        if workdir is not None:
            results.write_results(os.path.join(str(workdir), "results.jsonl"), new)

    def features(split, **changes):
        return features_of(backbone, recipe, sources[split], workdir, features_dir, **changes)

    made = {name: probe(name, recipe) for name in recipe.probes}
    feature_probes = {name: p for name, p in made.items() if isinstance(p, FeatureProbe)}
    if feature_probes:
        splits = {s: features(s) for s in sources if any(s in p.splits for p in feature_probes.values())}
        flip = any(getattr(p, "flip", False) for p in feature_probes.values())
        mirrored = features("train", mirror=True) if flip else {}
        for endpoint in recipe.endpoints:
            data = {
                split: FeatureSplit(values[endpoint], sources[split].labels, f"{endpoint} of {split}")
                for split, values in splits.items()
            }
            if flip:
                data["train"] = dataclasses.replace(data["train"], mirrored=mirrored[endpoint])
            for name, p in feature_probes.items():
                say(quiet, f"{weights}: {name} probe on {endpoint} ({data['test'].features.shape[1]} features)")
                three = (data.get(split) for split in ("train", "val", "test"))
                score = p(*three, num_classes=sources["train"].num_classes, seed=recipe.seed)
                keep(score, endpoint, name)
    for name, p in made.items():
        if not isinstance(p, MultiLabelProbe):
            continue
        splits = {split: features(split, view=p.view) for split in sources}
        for endpoint in recipe.endpoints:
            say(quiet, f"{weights}: {name} probe on {endpoint} ({splits['test'][endpoint].shape[1]} features)")
            two = (
                FeatureSplit(values[endpoint], sources[split].multi_labels, f"{endpoint} of {split}")
                for split, values in splits.items()
            )
            score = p(*two, class_names=sources["train"].multi_label_names, seed=recipe.seed)
            keep(score, endpoint, name)
    for name, p in made.items():
        if not isinstance(p, ImageProbe):
            continue
        say(quiet, f"{weights}: {name} probe on {', '.join(recipe.endpoints)}")
        scores = p(
            backbone, *sources.values(), endpoints=recipe.endpoints, network_input=NetworkInput.of(recipe),
            num_classes=sources["train"].num_classes, seed=recipe.seed,
        )  # fmt: skip
        for endpoint, score in scores.items():
            keep(score, endpoint, name)
    return found


def evaluate_random(recipe, *, workdir=None, data_dir=None, features_dir=None, quiet=False):
    """The same network and seed without training, as initialised and with BatchNorm statistics of 2,048 images.

    Returns:
        [Result]; the better of the two is the row to beat.
    """
    options = {"workdir": workdir, "data_dir": data_dir, "features_dir": features_dir, "quiet": quiet}
    found = evaluate(freeze(build_untrained(recipe, data_dir)), recipe, weights="random", **options)
    if recipe.norm != "none":
        backbone = build_untrained(recipe, data_dir)
        images = evaluation_images(recipe, open_pretraining(recipe, data_dir), REESTIMATE_IMAGES)
        reestimate_batch_norm(backbone, images)
        found += evaluate(freeze(backbone), recipe, weights="random, BN re-estimated", **options)
    return found


def training_results(recipe, history):
    """[Result] of what training itself has measured, of a ``training.history.History``."""
    kinds = (pretext_results, monitor_results, vocabulary_results)
    return [result for results_of in kinds for result in results_of(recipe, history)]


def pretext_results(recipe, history):
    """The pretext's own score on validation images, as results.

    Returns:
        [Result] with probe "pretext", endpoint "" and split "val": accuracies in percent, losses as they are; [] where
        the run has no such score (a baseline, a set without validation images).
    """
    shared = of_run(recipe, history.steps) | {"probe_dataset": recipe.dataset, "weights": "pretrained"}
    return [
        results.Result(
            metric=name, value=round(value * 100 if "accuracy" in name else value, 6), probe="pretext", endpoint="",
            split="val", **shared,
        )
        for name, value in history.score.items()
    ]  # fmt: skip


def monitor_results(recipe, history):
    """What --monitor knn_test:N found, as results: the last look and the best one, which no run may be chosen by.

    Returns:
        [Result] with probe "knn_monitor": "last_on_test_top1" of the last step and "best_on_test_top1", the largest
        number of the curve [[epoch, percent]] in ``extra``, which selecting on the test split inflates; [] where the
        run was not watched on it.
    """
    rows = [row for row in history.looks if row.get(TEST_COLUMN, -1) >= 0]
    if not rows:
        return []
    curve = [[row["epoch"], row[TEST_COLUMN]] for row in rows]
    best = max(curve, key=lambda look: look[1])
    values = {"last_on_test_top1": curve[-1][1], "best_on_test_top1": best[1]}
    shared = of_run(recipe, rows[-1]["step"]) | {
        "weights": "pretrained",
        "endpoint": watched_endpoint(recipe),
        "probe_train": recipe.probe_train,
        "probe_dataset": recipe.probe_dataset or recipe.dataset,
        "split": "test",
    }
    numbers = {"temperature": recipe.knn_temperature, "gallery": recipe.probe_train}
    extra = {"curve": curve, "best_epoch": best[0], "last_epoch": curve[-1][0]}
    return as_rows(values, "knn_monitor", numbers, None, extra, shared)


CURVE_POINTS = 60


def vocabulary_results(recipe, history):
    """What of its log a method wants to be kept, such as how its visual words were used, as results.

    Returns:
        [Result] with probe "vocabulary", the level as endpoint, split "train", of each of the pretext's
        ``kept_columns`` (batch_perplexity_block4 is batch_perplexity of that level; used is in percent): the mean over
        the last tenth of the log, and in ``extra`` the curve [[epoch, number]], thinned to CURVE_POINTS.
    """
    rows = history.log
    kept = re.compile(rf"({'|'.join(find_pretext(recipe.pretext).kept_columns) or '(?!)'})(?:_(block\d))?")
    columns = {name: found for name in rows[-1] if (found := kept.fullmatch(name))} if rows else {}
    shared = of_run(recipe, rows[-1]["step"]) if columns else {}
    shared |= {"weights": "pretrained", "probe": "vocabulary", "probe_dataset": recipe.dataset, "split": "train"}
    found = []
    for name, parts in columns.items():
        metric, level = parts.groups()
        scale = 100 if metric == "used" else 1
        curve = [[row["epoch"], round(scale * row[name], 4)] for row in rows if np.isfinite(row.get(name, np.nan))]
        if not curve:
            continue
        last = float(np.mean([value for _, value in curve[-max(1, len(curve) // 10) :]]))
        places = np.unique(np.linspace(0, len(curve) - 1, min(CURVE_POINTS, len(curve))).astype(int))
        extra = {"curve": [curve[i] for i in places]}
        found.append(
            results.Result(metric=metric, value=round(last, 4), endpoint=level or "", extra=extra, **shared)
        )  # fmt: skip
    return found


def labelled_sources(recipe, data_dir):
    """{"train", "val", "test"} of the probe set; with probe_train trainval "val" is in "train" and measures nothing.

    Raises:
        InputError: it has no labels.
    """
    name = recipe.probe_dataset or recipe.dataset
    sources = {
        "train": open_source(
            name, recipe.probe_train, data_dir=data_dir, fraction=recipe.probe_fraction,
            balanced=recipe.probe_balanced, seed=recipe.seed,
        ),
        "val": open_source(name, "val", data_dir=data_dir, seed=recipe.seed),
        "test": open_source(name, recipe.probe_split, data_dir=data_dir, seed=recipe.seed),
    }  # fmt: skip
    if sources["train"].num_classes is None:
        several = sources["train"].multi_labels is not None
        what = "has several for each image, --probes voc_svm is for that" if several else "has none"
        raise InputError(f"probes need labels and {name} {what}; add --probe-dataset NAME, or --probes with none")
    return sources


def multi_label_sources(recipe, data_dir):
    """{"train", "test"} of a probe set with several labels for each image: trainval and test, or train and val where
    the recipe scores val.

    Raises:
        InputError: it is no such set.
    """
    name = recipe.probe_dataset or recipe.dataset
    options = {"data_dir": data_dir, "seed": recipe.seed}
    sources = {
        "train": open_source(name, fitted_on(recipe), fraction=recipe.probe_fraction, **options),
        "test": open_source(name, recipe.probe_split, **options),
    }
    if sources["train"].multi_labels is None:
        raise InputError(f"voc_svm needs several labels for each image and {name} has none; add --probe-dataset voc")
    return sources


def probe_sources(recipe, data_dir):
    """The sources that the recipe's probes take: ``labelled_sources`` or ``multi_label_sources``."""
    several = [name for name in recipe.probes if issubclass(PROBES[name], MultiLabelProbe)]
    return (multi_label_sources if several else labelled_sources)(recipe, data_dir)


def fitted_on(recipe):
    """The split that the recipe's probes are fitted on."""
    if any(issubclass(PROBES[name], MultiLabelProbe) for name in recipe.probes):
        return "train" if recipe.probe_split == "val" else "trainval"
    return recipe.probe_train


def training_groups(recipe, source, data_dir):
    """``class_groups`` of the probes' training split, counted before any share of its labels is drawn."""
    if source.num_classes is None:
        return {}
    if recipe.probe_fraction not in (None, 1):
        name = recipe.probe_dataset or recipe.dataset
        source = open_source(name, recipe.probe_train, data_dir=data_dir, seed=recipe.seed)
    return class_groups(np.bincount(source.labels[source.labels >= 0], minlength=source.num_classes))


def check_probes(recipe, data_dir):
    """InputError for an unknown probe, or a set that the probes cannot use: what can be known before training."""
    for name in recipe.probes:
        if name not in PROBES:
            raise InputError(f"unknown probe {name!r}; one of {', '.join(sorted(PROBES))}")
    made = {name: probe(name, recipe) for name in recipe.probes}
    several = [name for name, p in made.items() if isinstance(p, MultiLabelProbe)]
    others = [name for name in made if name not in several]
    if several and others:
        raise InputError(
            f"{several[0]} needs a set with several labels for each image, {others[0]} one with a single label; "
            "probe one after the other: evaluate.py WORKDIR --probes … --probe-dataset …"
        )
    if made:
        sources = probe_sources(recipe, data_dir)
        for p in made.values():
            if isinstance(p, FeatureProbe):
                p.check(sources)


def probe(name, recipe):
    """The probe with the recipe's setting: the paper's numbers, or those that suit small sets.

    Raises:
        InputError: a schedule whose epochs do not ascend.
    """
    kind, setting, schedule = PROBES[name], recipe.probe_setting, recipe.probe_schedule
    made, changes = kind() if setting == "select" else getattr(kind, setting, kind.paper)(), {}
    if schedule is not None:
        ascend = len(schedule) > 0 and schedule[0] >= 0 and list(schedule) == sorted(schedule) and schedule[-1] > 0
        require(ascend, f"probe_schedule {schedule}: epochs must ascend")
    if name == "linear_images":
        changes = recipe_geometry(recipe) if made.crop == "resized" else image_geometry(recipe)
        if setting == "select":  # small sets: the paper's shortest schedule, 30/50/70, over five
            changes |= {"batch_size": 256, "schedule": (6, 10, 14)}
        if recipe.probe_batch_norm is not None:
            changes["batch_norm"] = recipe.probe_batch_norm
        changes |= {"max_values": recipe.probe_values, "pooling": recipe.probe_pooling}
        changes |= {"schedule": schedule} if schedule else {}
    elif schedule and name == "linear":
        changes = {"epochs": (schedule[-1],), "decay_at": tuple(epoch / schedule[-1] for epoch in schedule[:-1])}
    if name in ("linear", "linear_images"):
        changes["scale_lr"] = recipe.probe_scale_lr
        changes |= {"learning_rates": recipe.probe_lr} if recipe.probe_lr else {}
        if recipe.probe_weight_decay is not None:
            changes["weight_decay"] = recipe.probe_weight_decay
        changes |= {"batch_size": recipe.probe_batch_size} if recipe.probe_batch_size else {}
    if name == "finetune":
        changes = recipe_geometry(recipe)
        if setting != "obow":
            changes["weight_decay"] = recipe.finetune_weight_decay
        elif recipe.probe_fraction is not None and recipe.probe_fraction <= 0.01:
            changes["epochs"] = 40
        if recipe.finetune_epochs is not None:
            changes["epochs"] = recipe.finetune_epochs
        if recipe.finetune_rates is not None:
            trunk, head = recipe.finetune_rates
            changes |= {"learning_rates": (trunk,), "head_multipliers": (head / trunk,)}
    if name == "few_shot":
        said = {"ways": recipe.few_shot_ways, "queries": recipe.few_shot_queries, "classes": recipe.few_shot_classes}
        changes = {field: value for field, value in said.items() if value is not None}
    if name == "voc_svm":
        method = {"warp": "warp", "center": "shorter_side"}[recipe.voc_svm_crop]
        changes["view"] = EvalView(**image_geometry(recipe, whole=True), method=method)
    if name == "knn":
        changes["temperature"] = recipe.knn_temperature
    if name in ("lbfgs", "mlp"):
        changes["penalty_scale"] = recipe.probe_penalty
    return dataclasses.replace(made, **changes)


def image_geometry(recipe, whole=False):
    """{size, resize, eval_view} of a probe on augmented images, in the paper's proportions; ``whole``: size and resize
    alone, as for an image without patches.

    224 of a shorter side of 256; for patches 192 of 224 in training, as in the official code, and the recipe's
    evaluation view, as in the supplement, when it is scored.
    """
    v = recipe.views
    size = v.eval_size or v.size
    if whole or v.patch_grid == 1:
        return {"size": size, "resize": round(size * 256 / 224)}
    return {"size": size, "resize": round(size * 224 / 192), "eval_view": EvalView.of(recipe)}


def recipe_geometry(recipe):
    """{size, eval_view} of a probe on random resized crops: scored on what the recipe's other probes see."""
    return {"size": recipe.views.eval_size or recipe.views.size, "eval_view": EvalView.of(recipe)}


def features_of(backbone, recipe, source, workdir, features_dir=None, *, view=None, mirror=False):
    """{endpoint: float32 [N, d]} of a source; kept in features_dir, else in workdir/features where that is local.

    ``view``: instead of the recipe's; ``mirror``: see ``extract_features``.
    """
    # Feature files are memory-mapped, which a bucket cannot do: there they are extracted anew.
    if features_dir is None and workdir is not None and "://" not in str(workdir):
        features_dir = os.path.join(str(workdir), "features")
    return extract_features(
        backbone, source, endpoints=recipe.endpoints, view=view or EvalView.of(recipe),
        network_input=NetworkInput.of(recipe),
        cache_dir=features_dir, mirror=mirror,
        max_values=recipe.probe_values, pooling=recipe.probe_pooling,
    )  # fmt: skip


def trained_steps(workdir):
    """Steps of the newest checkpoint in the workdir, None where there is none."""
    paths = [] if workdir is None else list_checkpoints(os.path.join(str(workdir), "checkpoints"))
    return step_of(paths[-1]) if paths else None


# What the fields of Recipe that only probes see begin with, and such fields of ViewSpec.
PROBE_FIELDS = ("probe", "knn", "finetune", "few_shot", "voc_svm")
EVALUATION_VIEW = {"probe_normalize", "eval_method", "eval_resize", "eval_size", "eval_combine"}
NAMES = {"name", "preset", "paper", "source"}  # what a recipe is called and where it is from, which decides nothing


def recipe_id(recipe):
    """Eight hex digits that are the same for recipes that train the same weights, however they are probed."""
    values = {name: v for name, v in chosen(recipe).items() if not name.startswith(PROBE_FIELDS)}
    values["views"] = {name: v for name, v in values.get("views", {}).items() if name not in EVALUATION_VIEW}
    return digest({name: v for name, v in values.items() if name not in {"endpoints", *NAMES}})


def setting_id(recipe):
    """Eight hex digits that the seeds of one setting share, whatever else its Result says of probe, data and split.

    Taken of what is not at its default, so that a field that the class gets later does not part old runs from new.
    """
    said = {"probes", "endpoints", "probe_dataset", "probe_fraction", "probe_split", "probe_schedule"}
    values = {name: v for name, v in chosen(recipe).items() if name not in said | {"seed", *NAMES}}
    return digest(values)


def digest(values):
    """Eight hex digits of plain values, whatever their order."""
    values = json.loads(json.dumps(values), parse_int=float)  # 6 epochs and 6.0 are the same
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:8]


def chosen(spec):
    """{field: value} of a dataclass where the value is not the default; nested ones likewise."""
    values = {}
    for f in dataclasses.fields(spec):
        value = getattr(spec, f.name)
        default = f.default
        if dataclasses.is_dataclass(value):
            value, default = chosen(value), {}
        if value != default:
            values[f.name] = value
    return values


def say(quiet, text):
    if not quiet:
        print(text, file=sys.stderr, flush=True)


LENGTH = ("split", "fraction", "batch_size", "epochs", "max_steps")  # fields of a Recipe: how long on what


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


def as_results(score, recipe, steps, size, weights, endpoint, probe, groups):
    shared = of_run(recipe, steps) | {
        "representation_size": size,
        "weights": weights,
        "endpoint": endpoint,
        "probe_dataset": recipe.probe_dataset or recipe.dataset,
        "probe_train": fitted_on(recipe),
        "labels": recipe.probe_fraction or 1.0,
        "split": recipe.probe_split,
        "seconds": round(score.seconds, 2),
    }
    if weights != "pretrained":
        shared |= {"pretext": "random", "steps": 0}
    paper = {name.removeprefix("paper_"): value for name, value in score.extra.items() if name.startswith("paper_")}
    extra = {name: value for name, value in score.extra.items() if not name.startswith("paper_")}
    scores = {"top1": score.top1, "top5": score.top5} | score.metrics
    for name, classes in groups.items() if score.per_class else ():
        mine = [score.per_class[c] for c in classes if score.per_class[c] is not None]
        scores |= {f"{name}_top1": float(np.mean(mine))} if mine else {}
    numbers = score.hyperparameters
    if probe == "linear" and recipe.probe_schedule:  # by this name Results of several schedules are told apart
        numbers = numbers | {"schedule": recipe.probe_schedule}
    found = as_rows(scores, probe, numbers, score.converged, extra, shared)
    if paper:  # the paper's penalty beside the chosen one
        numbers = numbers | {"mode": "paper", "penalty": paper["penalty"]}
        scores = {metric: paper[metric] for metric in ("top1", "top5")}
        found += as_rows(scores, f"{probe}_paper", numbers, paper["converged"], {}, shared)
    return found


def as_rows(scores, probe, hyperparameters, converged, extra, shared):
    """[Result], one a metric that is there; what is in ``extra`` is of the probe and stands on its first line alone."""
    found = {metric: value for metric, value in scores.items() if value is not None}
    return [
        results.Result(
            metric=metric, value=round(float(value), 3), probe=probe, hyperparameters=hyperparameters,
            converged=converged, extra=extra if i == 0 else {}, **shared,
        )
        for i, (metric, value) in enumerate(found.items())
    ]  # fmt: skip
