"""What run and evaluate do once their flags are read: everything that takes TensorFlow."""

import contextlib
import dataclasses
import os
import sys
import time

from revisit_ssl.backbones import load_backbone
from revisit_ssl.commands.presets import promise
from revisit_ssl.data import EvalView, about_source, data_report, known_source
from revisit_ssl.detection.sources import only_boxes
from revisit_ssl.distribute import XLA, agree, get_strategy, is_chief
from revisit_ssl.errors import DataNotHere
from revisit_ssl.evaluation.evaluate import evaluate, evaluate_random, training_results
from revisit_ssl.evaluation.sets import check_probes
from revisit_ssl.features.extract import check_cache_dir
from revisit_ssl.features.representation import NetworkInput, feature_widths
from revisit_ssl.papers.pages import write_report
from revisit_ssl.pretext import find_pretext
from revisit_ssl.report.tables import print_table
from revisit_ssl.runs.results import write_results
from revisit_ssl.runs.telling import tell
from revisit_ssl.sweeps.planning import PROCESS_SECONDS, Facts, GridRun, seconds_after
from revisit_ssl.training.build import freeze, open_pretraining, plan_steps
from revisit_ssl.training.history import read_history
from revisit_ssl.training.pretrain import pretrain
from revisit_ssl.training.progress import followed_by
from revisit_ssl.training.workdir import mark_finished, run_name, unmark_finished, writing


def run(options):
    """Pretrain, probe, report."""
    recipe = options.recipe
    begun = time.perf_counter()
    workdir = options.workdir or os.path.join("runs", run_name(recipe, options.name))
    what = f"{options.name or recipe.pretext} on {recipe.dataset} with {recipe.backbone}, width {recipe.width}"
    print(f"checking {what} …", file=sys.stderr, flush=True)

    def say():
        begins = f"preset {options.preset} ({promise(options.preset)})" if options.preset else "recipe of a file"
        print(f"{begins}: {what}\nsetting: {recipe.source}\nwriting to {workdir}", flush=True)

    strategy = get_strategy(options.strategy)  # first of all: workers connect when TensorFlow starts
    with contextlib.ExitStack() as held:

        def begin():
            held.enter_context(writing(workdir))
            check_cache_dir(options.features_dir)
            with contextlib.suppress(DataNotHere):  # of a set that would be drawn now, what is known of it tells enough
                plan_steps(recipe, open_pretraining(recipe, options.data_dir, known_source))
            tell(f"reading {recipe.dataset}" + (f" and {recipe.probed_dataset}" if recipe.bench.dataset else ""))
            sources = check_probes(recipe, options.data_dir)  # before the hours of training, not after
            probed = [recipe.probed_dataset] if recipe.probes else []
            say_of_images(recipe.dataset, *probed, data_dir=options.data_dir)
            return sources, {}

        with followed_by(time_of_probes(options, agree(strategy, begin))):
            backbone = pretrain(
                recipe, workdir, strategy=strategy, data_dir=options.data_dir, resume=options.resume,
                xla=XLA[options.xla], save_every=options.save_every, monitor=options.monitor, begins=say,
            )
        if is_chief():
            unmark_finished(workdir)
            if scores := training_results(recipe, read_history(workdir)):
                write_results(os.path.join(workdir, "results.jsonl"), scores)
            probe_and_report(backbone, recipe, dataclasses.replace(options, workdir=workdir), recipe.probes)
            seconds = time.perf_counter() - begun
            untrained = not (options.skip_random and find_pretext(recipe.pretext).trains)
            mark_finished(workdir, untrained=untrained, seconds=seconds)
            print(f"{seconds:.0f} s in all")


def report_data(options):
    """Prints what the sets of a run hold; see ``data.data_report``."""
    recipe = options.recipe
    for name in dict.fromkeys([recipe.dataset, *([recipe.probed_dataset] if recipe.probes else [])]):
        print(f"{name}: " + "\n  ".join(data_report(name, options.data_dir)), flush=True)


def say_of_images(*names, data_dir):
    """Prints what was found in these sets and taken for what, where that is not the same for everyone."""
    for name in dict.fromkeys(name for name in names if not only_boxes(name)):
        if lines := about_source(name, data_dir):
            print(f"{name}: " + "\n  ".join(lines), flush=True)


def time_of_probes(options, sources):
    """The function that ``followed_by`` wants: how long a run goes on after its last step, by a sweep's plan.

    Args:
        options: commands.run.Run.
        sources: {split: Source} of its probes.
    """
    recipe, run = options.recipe, GridRun(options=options, workdir="")
    size, known = EvalView.of(recipe).size, NetworkInput.of(recipe)
    images = {split: source.num_examples for split, source in sources.items()}

    facts = None

    def seconds(start, row, exported):
        nonlocal facts
        if facts is None:  # the first time there is a network to ask
            found = feature_widths(exported, size, known, recipe.bench.values, recipe.bench.pooling)
            widths = {name: found[name] for name in recipe.bench.endpoints if recipe.probes}
            count = {"images": sum(images.values()), "train_images": images.get("train", 0), "widths": widths}
            facts = Facts(steps=0, state_bytes=0, weight_bytes=0, **count)
        return seconds_after(run, facts, start, known.rows * row) + PROCESS_SECONDS / 2

    return seconds


def evaluate_saved(options):
    """Loads, probes, reports."""
    check_cache_dir(options.features_dir)
    say_of_images(*([options.recipe.probed_dataset] if options.probes else []), data_dir=options.data_dir)
    with writing(options.workdir):
        backbone = freeze(load_backbone(os.path.join(options.workdir, "backbone.keras")))
        probe_and_report(backbone, options.recipe, options, options.probes)


def probe_and_report(backbone, recipe, options, probes):
    """The named probes of the trained and the untrained network, results.jsonl, report, the table on the screen."""
    results = []
    trained = find_pretext(recipe.pretext).trains
    places = {"workdir": options.workdir, "data_dir": options.data_dir, "features_dir": options.features_dir}
    if probes and trained:
        results += evaluate(backbone, recipe, probes=probes, **places)
    if probes and not (trained and options.skip_random):
        results += evaluate_random(recipe, probes=probes, **places)
    tell("writing the report and its pictures")
    report = write_report(options.workdir, data_dir=options.data_dir, backbone=backbone)
    print_table(results)
    print(f"report: {report}")
