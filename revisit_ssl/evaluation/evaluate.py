"""evaluate(): a frozen backbone -> a bench -> every probe -> results."""

import contextlib
import dataclasses
import os
import re

import numpy as np

from revisit_ssl.evaluation.rows import as_results, of_probing, of_run
from revisit_ssl.evaluation.sets import check_probes, fitted_on, probe_sources, training_groups
from revisit_ssl.evaluators import Score
from revisit_ssl.evaluators.bench import Bench
from revisit_ssl.features.batchnorm import REESTIMATE_IMAGES, evaluation_images, reestimate_batch_norm
from revisit_ssl.pretext import find_pretext
from revisit_ssl.runs import results
from revisit_ssl.runs.intervals import measured_on
from revisit_ssl.runs.telling import tell
from revisit_ssl.training.build import build_untrained, freeze, open_pretraining
from revisit_ssl.training.checkpoints import list_checkpoints, step_of
from revisit_ssl.training.monitor import TEST_COLUMN, knn_temperature, watched_endpoint
from revisit_ssl.training.workdir import writing


def evaluate(
    backbone, recipe, *, probes=None, workdir=None, data_dir=None, features_dir=None, weights="pretrained", quiet=False
):
    """Measures a backbone by the probes of a recipe.

    Hyper-parameters are chosen on the validation split; each number is of the split that the recipe scores (test,
    unless nothing is chosen), measured once and written down as soon as it is there.

    Args:
        backbone: frozen keras.Model with named endpoints (``load_backbone``, or what ``pretrain`` returns).
        recipe: Recipe; its probes and its bench count here.
        probes: names of those of its probes that are measured; None: all.
        workdir: keeps features/ (so that they are extracted once) and results.jsonl; None keeps nothing.
        data_dir: where TFDS data sets lie.
        features_dir: local folder for the features instead, which several runs may share, at the same time too.
        weights: what to call these weights in the results.
        quiet: say nothing.

    Returns:
        [Result], top-1 and (from five classes on) top-5 in percent, or what else a probe measures. Where the training
        split is long-tailed, also many_top1, medium_top1 and few_top1, means over the classes of each
        ``base.class_groups``.

    Raises:
        InputError: unlabelled data, an unknown probe or endpoint, a trainable backbone, a full disk, another process
            that writes to the workdir.
    """
    measured = {name: p for name, p in recipe.probes.items() if probes is None or name in probes}
    asked = dataclasses.replace(recipe, probes=measured)
    check_probes(asked, data_dir)
    sources = probe_sources(asked, data_dir)
    kept = features_dir or features_folder(workdir)
    bench = Bench(backbone, sources, recipe, kept, quiet, probes_folder(workdir, weights))
    groups = training_groups(recipe, sources["train"], data_dir)
    shared = of_probing(recipe, backbone, weights, trained_steps(workdir)) | {"probe_train": fitted_on(asked)}
    found = []
    with contextlib.nullcontext() if workdir is None else writing(str(workdir)):
        for name, probe in measured.items():
            where = getattr(probe, "endpoint", None) or ", ".join(bench.endpoints)  # a detector has its own
            tell(f"{weights}: {name} probe on {where}", quiet)
            for score in probe.measure(bench):
                new = as_results(score, name, shared, groups, bench.images("test").num_examples)
                found.extend(new)
                if new:
                    tell(f"{weights}: {said(new)}", quiet)
                if workdir is not None:
                    results.write_results(os.path.join(str(workdir), "results.jsonl"), new)
    return found


def said(new):
    """The Results of one score: linear probe on block3: top1 76.0 (73.2–78.6), top5 97.0 (95.5–98.0), 12 s."""
    within = ("" if r.interval is None else " ({:.1f}–{:.1f})".format(*r.interval) for r in new)
    numbers = ", ".join(f"{r.metric} {r.value:.1f}{text}" for r, text in zip(new, within, strict=True))
    first = new[0]
    return f"{first.probe} probe on {first.endpoint}: {numbers}, {first.seconds:.0f} s"


def evaluate_random(recipe, *, probes=None, workdir=None, data_dir=None, features_dir=None, quiet=False):
    """The same network and seed without training: as initialised and, unless the recipe's bench wants that one alone,
    with BatchNorm statistics of 2,048 images.

    Args:
        recipe, probes, workdir, data_dir, features_dir, quiet: as for ``evaluate``.

    Returns:
        [Result]; the better of the two is the row to beat.
    """
    options = {"probes": probes, "workdir": workdir, "data_dir": data_dir, "features_dir": features_dir, "quiet": quiet}
    backbone = freeze(build_untrained(recipe, data_dir))
    found = evaluate(backbone, recipe, weights="random", **options)
    if recipe.norm != "none" and recipe.bench.untrained == "both":
        tell(f"untrained network: BatchNorm statistics on {REESTIMATE_IMAGES:,} images", quiet)
        images = evaluation_images(recipe, open_pretraining(recipe, data_dir), REESTIMATE_IMAGES)
        reestimate_batch_norm(backbone, images)
        found += evaluate(backbone, recipe, weights="random, BN re-estimated", **options)
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
    found = []
    for name, number in history.score.items():
        value = round(number * 100 if "accuracy" in name else number, 6)
        known = measured_on(name, value, history.score_images)
        place = {"probe": "pretext", "endpoint": "", "split": "val"}
        found.append(results.Result(metric=name, value=value, **place, **known, **shared))
    return found


def monitor_results(recipe, history):
    """What --monitor knn_test:N found, as results: the last and the best look.

    Returns:
        [Result] with probe "knn_monitor": "last_on_test_top1" of the last step and "best_on_test_top1", the largest
        number of the curve [[epoch, percent]] in ``extra``, which must not be used to choose a run; [] where the run
        was not watched on the test split.
    """
    rows = [row for row in history.looks if row.get(TEST_COLUMN, -1) >= 0]
    if not rows:
        return []
    curve = [[row["epoch"], row[TEST_COLUMN]] for row in rows]
    best = max(curve, key=lambda look: look[1])
    values = {"last_on_test_top1": curve[-1][1], "best_on_test_top1": best[1]}
    shared = of_run(recipe, rows[-1]["step"]) | {
        "weights": "pretrained",
        "probe_train": recipe.bench.train,
        "probe_dataset": recipe.probed_dataset,
        "split": "test",
    }
    score = Score(
        metrics=values,
        hyperparameters={"temperature": knn_temperature(recipe), "gallery": recipe.bench.train},
        seconds=0.0,
        extra={"curve": curve, "best_epoch": best[0], "last_epoch": curve[-1][0]},
        endpoint=watched_endpoint(recipe),
    )
    return as_results(score, "knn_monitor", shared, {}, rows[-1].get("images"))  # no column in older files


CURVE_POINTS = 60


def vocabulary_results(recipe, history):
    """What of its log a method wants to be kept, such as how its visual words were used, as results.

    Returns:
        [Result] with probe "vocabulary", the level as endpoint, split "train", of each of the pretext's
        ``kept_columns`` (batch_perplexity_block4 is batch_perplexity of that level; used is in percent): the mean over
        the last tenth of the steps, and in ``extra`` the curve [[epoch, number]], thinned to CURVE_POINTS. Both go by
        the steps of the rows, so that a log that lacks some gives the same, but for what these said.
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
        seen = [row for row in rows if np.isfinite(row.get(name, np.nan))]
        if not seen:
            continue
        steps, values = (np.array([row[key] for row in seen], float) for key in ("step", name))
        late = steps > 0.9 * steps[-1]  # the last row's are: it is never empty
        last = float(np.average(scale * values[late], weights=np.diff(steps, prepend=0)[late]))
        wanted = np.linspace(steps[0], steps[-1], CURVE_POINTS)
        places = np.unique(np.searchsorted(steps, wanted, side="right") - 1)
        extra = {"curve": [[seen[i]["epoch"], round(scale * values[i], 4)] for i in places]}
        found.append(
            results.Result(metric=metric, value=round(last, 4), endpoint=level or "", extra=extra, **shared)
        )
    return found


def features_of(backbone, recipe, source, workdir=None):
    """{endpoint: float32 [N, d]} of a source as the recipe's probes see it; kept where the run keeps its features."""
    bench = Bench(backbone, {"train": source}, recipe, features_folder(workdir))
    return {name: bench.features("train", name) for name in bench.endpoints}


def features_folder(workdir):
    """Where the features of a run's network are kept: workdir/features, None where there is no local workdir."""
    # Feature files are memory-mapped, which a bucket cannot do: there they are extracted anew.
    return None if workdir is None or "://" in str(workdir) else os.path.join(str(workdir), "features")


def probes_folder(workdir, weights):
    """Where probes that train for long keep what they go on from; None where there is no local workdir."""
    if workdir is None or "://" in str(workdir):
        return None
    return os.path.join(str(workdir), "probes", re.sub(r"\W+", "-", weights.lower()))


def trained_steps(workdir):
    """Steps of the newest checkpoint in the workdir, None where there is none."""
    paths = [] if workdir is None else list_checkpoints(os.path.join(str(workdir), "checkpoints"))
    return step_of(paths[-1]) if paths else None
