"""report.md and report.html of a finished or unfinished run, made from its workdir alone."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import tensorflow as tf

from revisit_ssl.backbones import load_backbone
from revisit_ssl.data import EvalView, open_source, train_batches
from revisit_ssl.errors import InputError, require
from revisit_ssl.evaluation.evaluate import features_of
from revisit_ssl.pretext import find_pretext
from revisit_ssl.report import pictures, tables
from revisit_ssl.report.blocks import Bullets, Facts, Folded, Heading, KeyNumbers, Picture, Table, Text
from revisit_ssl.report.detections import detection_blocks
from revisit_ssl.report.neighbours import choose_queries, cosine_neighbours, images_at
from revisit_ssl.report.pages import write_page
from revisit_ssl.report.settings import spread
from revisit_ssl.runs import results
from revisit_ssl.runs.damage import read_json
from revisit_ssl.runs.identity import flatten
from revisit_ssl.runs.intervals import measured_on, warning, within
from revisit_ssl.training.build import build_pretext, build_untrained, freeze, open_pretraining
from revisit_ssl.training.history import SCORE, read_score
from revisit_ssl.training.monitor import TEST_COLUMN
from revisit_ssl.training.progress import read_log
from revisit_ssl.training.workdir import read_recipe

GALLERY = 2000  # test images among which neighbours are looked for


def write_report(workdir, *, data_dir=None, beside=None, backbone=None):
    """Writes report.md, report.html and the pictures in report/; a part that cannot be made is left out and named.

    Args:
        workdir: of ``pretrain``; local or gs://.
        data_dir: where TFDS data sets lie, for the pictures.
        beside: function of [Result] that sets them beside published numbers, (Table, [note]); None leaves that out.
        backbone: the run's trained network, frozen, where it is at hand; None: as backbone.keras has it.

    Returns:
        Path of report.html, one file that needs nothing else.

    Raises:
        InputError: no run in the workdir, or it cannot be written to.
    """
    run = Run(str(workdir), data_dir, beside)
    if backbone is not None:
        run.backbone = backbone
    title = f"{run.name} · {run.recipe.backbone} k={run.recipe.width} · {run.recipe.dataset}"
    blocks = [*key_numbers(run), *the_run(run)]
    missing = []
    for name, section in SECTIONS.items():
        try:
            found = section(run)
            blocks += [Heading(name), *found] if found else []
        except InputError as reason:
            missing.append(f"{name}: {reason}")
    blocks += provenance(run)
    if missing:
        blocks += [Heading("Left out"), Bullets(missing)]
    return write_page(title, blocks, run.workdir, "report")


@dataclass
class Run:
    """What lies in a workdir, read when it is asked for."""

    workdir: str
    data_dir: str | None
    beside: Callable | None = None

    def path(self, name):
        """Of a file in the workdir."""
        return os.path.join(self.workdir, name)

    @cached_property
    def recipe(self):
        """The run's Recipe; InputError where there is none."""
        return read_recipe(self.workdir)

    @cached_property
    def environment(self):
        """{what: value} of environment.json, as text; {} where there is none."""
        return {name: str(value) for name, value in read_json(self.path("environment.json")).items()}

    @cached_property
    def results(self):
        """[Result] of results.jsonl but for the pretext's own score."""
        found = results.results_of_run(self.path("results.jsonl"))
        return [r for r in found if r.probe != "pretext"]  # that score is in pretext.json too

    @cached_property
    def backbone(self):
        """The trained network, frozen."""
        return freeze(load_backbone(self.path("backbone.keras")))

    @property
    def name(self):
        """What the command calls the recipe."""
        return self.recipe.name or self.recipe.pretext

    @property
    def trains(self):
        """Whether its pretext is trained at all."""
        return find_pretext(self.recipe.pretext).trains

    def open(self, name, split):
        """``data.open_source`` of a set in the run's data folder."""
        return open_source(name, split, data_dir=self.data_dir, seed=self.recipe.seed)


def key_numbers(run):
    """The first probe on pre_logits (or the last endpoint): fixed beforehand, not the best of the table."""
    if not tables.shown(run.results):
        return []
    model, rows = tables.summarize(run.results)[0]
    probe = next((name for name in run.recipe.probes if any(r.probe == name for r in rows)), rows[0].probe)
    mine = [row for row in rows if row.probe == probe]
    row = next((r for r in mine if r.endpoint == "pre_logits"), mine[-1])
    numbers = []
    if row.pretrained:
        what = tables.OTHERS.get(probe, ("", "top-1"))[1]
        label = f"{model.name}: {probe} probe on {row.endpoint}, {what}"
        numbers.append((f"{spread(row.pretrained)} %", label + known_to(row.pretrained, row.n)))
    if row.to_beat:
        label = "the same network untrained, the row to beat"
        numbers.append((f"{spread(row.to_beat)} %", label + known_to(row.to_beat, row.n)))
    if row.gain is not None:
        numbers.append((f"{row.gain:+.1f}", "points gained"))
    return [KeyNumbers(numbers)]


def known_to(values, n):
    """, 73.2–78.6 at 95 % (400 test images): the interval of a number; empty where the images are not known."""
    return f"; {within(values, n)} at 95 % ({n:,} test images)" if n else ""


def the_run(run):
    """What was trained on what, and how."""
    recipe, environment = run.recipe, run.environment
    optimizer, stem = recipe.optimizer, getattr(recipe.backbone_options, "stem", None)
    facts = [
        ("Pretext", run.name),
        ("Network", f"{recipe.backbone}, width {recipe.width}, {stem} stem, input {recipe.views.size} px"),
        ("Data", f"{recipe.dataset}, {recipe.split}; probes on {recipe.probed_dataset}"),
    ]
    if run.trains:
        epochs = f"{recipe.epochs:g} epoch{'' if recipe.epochs == 1 else 's'}"
        limit = f", at most {recipe.max_steps:,} steps" if recipe.max_steps is not None else ""
        scaled = " per 256 images" if optimizer.scale_lr else ""
        facts += [
            ("Training", f"{epochs}{limit}, batch {recipe.batch_size}, {recipe.precision}"),
            ("Optimiser", f"{optimizer.name}, lr {optimizer.lr:g}{scaled}, {optimizer.schedule} schedule, "
             f"L2 {optimizer.weight_decay:g}"),
        ]
    facts += [
        ("Seed", str(recipe.seed)),
        ("Setting from", recipe.source or "not stated"),
        ("Date", environment.get("date", "unknown").replace("T", " ").replace("Z", " UTC")),
        ("Commit", f"`{environment.get('commit', 'unknown')}`"),
        ("Hardware", environment.get("hardware", "unknown")),
        ("Command", command(environment.get("command", ""))),
    ]
    return [Facts(facts)]


def command(text):
    """What was typed; a notebook's kernel was started by a line that says nothing."""
    if "ipykernel" in text:
        return "a notebook"
    return f"`python {text}`" if text else "unknown"


def accuracy(run):
    """Table of every probe and endpoint, bars, details of each probe."""
    require(tables.shown(run.results), f"{nothing(run)}; probe the backbone with revisit-ssl evaluate")
    blocks = []
    for heading, table in tables.result_table(run.results):
        blocks += [Text(f"{heading}. Whatever a probe chooses it chose on the validation split."), table]
    summaries = tables.summarize(run.results)
    both = any(row.random and row.reestimated for _, rows in summaries for row in rows)
    beaten = f"Bold: the untrained network{', the better of the two' if both else ''}, the row to beat."
    beaten += few(summaries)
    said = [r.converged for r in run.results if r.metric == "top1" and r.converged is not None]
    if not all(said):
        beaten += f" {said.count(False)} of {len(said)} fits were stopped before they converged; they are named below."
    blocks.append(Text(beaten))
    for i, (model, rows) in enumerate(summaries):
        name = "endpoints" if i == 0 else f"endpoints_{i + 1}"
        caption = f"{model.name[0].upper()}{model.name[1:]}: each probe at each endpoint of the network."
        blocks.append(Picture(name, pictures.endpoint_bars(rows, model.name), caption))
    return [*blocks, Folded("What each probe used, and how long it took", details(run.results))]


def nothing(run):
    """Why there is no number of a probe."""
    there = tf.io.gfile.exists(run.path("results.jsonl"))
    return "results.jsonl holds no number of a probe" if there else "no results.jsonl"


def few(summaries):
    """A warning where the numbers are of few images; else empty."""
    told = warning(min((n for model, _ in summaries if (n := tables.images_behind(model))), default=None))
    return f" **Few images:** {told}." if told else ""


def percent(r):
    """65.00 [60.1–69.6]: a Result's number and its interval."""
    return f"{r.value:.2f}" + ("" if r.interval is None else " [{:.1f}–{:.1f}]".format(*r.interval))


def details(found):
    """Table of what each probe used or chose, and how long it took; ``found``: [Result]."""
    top5 = {(r.weights, r.probe, r.endpoint, r.seed): percent(r) for r in found if r.metric == "top5"}
    rows = []
    for r in tables.shown(found):
        five = top5.get((r.weights, r.probe, r.endpoint, r.seed), "")
        used = ", ".join(f"{k} {short(v)}" for k, v in r.hyperparameters.items())
        numbers = [percent(r), five, f"{r.seconds:.1f}"]
        converged = {True: "yes", False: "**no**", None: ""}[r.converged]
        rows.append([r.weights, r.probe, r.endpoint, used, converged, *numbers])
    columns = ["weights", "probe", "endpoint", "used or chosen", "converged", "percent", "top-5", "seconds"]
    return Table(columns, rows, labels=5)


def published(run):
    """Ours beside the paper's: [Table, Text, …]."""
    require(tables.shown(run.results), f"{nothing(run)} to set beside them")
    require(run.beside, "no paper was named")
    table, notes = run.beside(run.results)
    return [table, *(Text(note) for note in notes)]


def training_curves(run):
    """Loss, pretext accuracy and whatever else the pretext logs."""
    require(run.trains, f"{run.recipe.pretext} is not trained")
    rows = read_log(run.path("log.csv"))
    require(rows, "no log.csv; the run has not finished a window of steps")
    scalars = [name for name in rows[-1] if name not in ("step", "epoch", "learning_rate", "images_per_second")]
    scalars.sort(key=lambda name: name != "loss")  # the loss first
    columns = {name: f"pretext {name}" if name == "accuracy" else name for name in scalars}
    score = read_score(run.path(SCORE))
    marks = {n: (score[n], f"validation {score[n]:.3f}") for n in scalars if n in score}
    speeds = [row["images_per_second"] for row in rows if math.isfinite(row.get("images_per_second", math.nan))]
    last = ", ".join(f"{name} {rows[-1][name]:.3f}" for name in scalars if name in rows[-1])
    caption = f"Training means over windows of steps; at step {rows[-1]['step']:,}: {last}."
    caption += f" Median speed {np.median(speeds):,.0f} images/s." if speeds else ""
    if marks:
        caption += " Dashed: the evaluation view of validation images, by the network as it is saved."
    known = measured_on("accuracy", 100 * score.get("accuracy", 0), score.get("images"))
    if known and "accuracy" in score:
        low, high = known["interval"]
        caption += f" Its own accuracy there: {100 * score['accuracy']:.1f} % [{low:.1f}–{high:.1f}, 95 % of "
        caption += f"{known['n']:,} images]."
    picture = pictures.curves(rows, columns | {"learning_rate": "learning rate"}, marks=marks)
    return [Picture("curves", picture, caption)]


def monitor_curves(run):
    """[Picture] of what was seen while training went on."""
    rows = read_log(run.path("monitor.csv"))
    require(rows, "no monitor.csv; train with --monitor knn:1")
    names = {
        "knn_top1": "kNN top-1 (%)",
        TEST_COLUMN: "kNN top-1 on test (%)",
        "effective_rank": "effective rank",
        "feature_std_ratio": "feature std / even spread",
    }
    columns = {name: names.get(name, name) for name in rows[-1] if name not in ("step", "epoch", "images")}
    watched = "test" if TEST_COLUMN in rows[-1] else "validation"
    count = f"{rows[-1]['images']:,.0f} " if rows[-1].get("images") else ""
    caption = f"Features of {count}{watched} images while training went on; logged, never used to select anything."
    return [Picture("monitor", pictures.curves(rows, columns, x="step"), caption)]


def nearest(run):
    """Nearest test images by cosine on the last endpoint, pretrained beside untrained."""
    recipe = run.recipe
    source = run.open(recipe.probed_dataset, "test").sample(GALLERY, recipe.seed)
    networks = {run.name: run.backbone} if run.trains else {}
    if not run.trains or not run.results or any(r.weights == "random" for r in run.results):
        networks["untrained"] = freeze(build_untrained(recipe, run.data_dir))
    endpoint = "pre_logits" if "pre_logits" in recipe.bench.endpoints else recipe.bench.endpoints[-1]
    labels = None if source.labels is None else np.asarray(source.labels)
    features = {n: features_of(b, recipe, source, run.workdir)[endpoint] for n, b in networks.items()}
    queries = choose_queries(labels, min(GALLERY, source.num_examples))
    ranked = {name: cosine_neighbours(values) for name, values in features.items()}
    wanted = set(queries) | {int(i) for r in ranked.values() for i in r[queries].flat}
    images = images_at(source, EvalView.of(recipe), wanted)
    found = {name: np.stack([[images[i] for i in row] for row in r[queries]]) for name, r in ranked.items()}
    shown, k = len(queries), next(iter(ranked.values())).shape[1]
    same = None
    caption = f"{shown} test image{'' if shown == 1 else 's'} and the {k} nearest to each by cosine on {endpoint}."
    if labels is not None:
        agree = {name: labels[r] == labels[:, None] for name, r in ranked.items()}
        same = {name: values[queries] for name, values in agree.items()}
        shares = ", ".join(f"{name} **{100 * values.mean():.0f} %**" for name, values in agree.items())
        caption += (
            " Green frame and tick: of the query's class; red and cross: of another. Queries are the first of each "
            "class, not picked by their result. "
            f"Over all {len(labels):,} test images, neighbours of the query's class: {shares}."
        )
    picture = pictures.neighbours(np.stack([images[i] for i in queries]), found, same)
    return [Picture("neighbours", picture, caption)]


def pretext_views(run):
    """What the pretext makes of four training images."""
    recipe = run.recipe
    require(run.trains, f"{recipe.pretext} is not trained")
    source = open_pretraining(recipe, run.data_dir)
    model = build_pretext(recipe, source)  # untrained: no weight is in these pictures
    batch = next(iter(train_batches(source, batch_size=4, crops=model.crops, seed=recipe.seed)))
    shown = model.pictures(batch)
    require(shown, f"{recipe.pretext} has no picture of its own")
    blocks = []
    for i, (title, images, names) in enumerate(shown):
        distinct = len(set(names))
        columns = distinct if distinct > 1 and len(names) % distinct == 0 and distinct <= 9 else min(8, len(names))
        name = "views" if i == 0 else f"views_{i + 1}"
        picture = pictures.sheet(np.asarray(images), names, columns)
        blocks.append(Picture(name, picture, f"{title[0].upper()}{title[1:]}."))
    return blocks


def detections(run):
    """What detectors found that were trained on the network; [] where none was."""
    return detection_blocks(run.results, run.workdir)


def provenance(run):
    """Versions and the whole recipe."""
    environment = run.environment
    versions = [f"{k} {environment[k]}" for k in ("python", "tensorflow", "keras", "numpy") if k in environment]
    with tf.io.gfile.GFile(run.path("recipe.json"), "rb") as file:  # as it is, also one of an older form
        recipe = json.loads(file.read().decode(errors="replace"))
    rows = [[name, f"`{json.dumps(value)}`"] for name, value in flatten(recipe).items()]
    said = f"Versions: {', '.join(versions)}." if versions else "Versions: no environment.json in the workdir."
    whole = Folded("The whole recipe", Table(["field", "value"], rows, labels=2))
    return [Heading("To measure it again"), Text(said), whole]


def short(value):
    """A hyper-parameter as text: 0.1, or 30/50/70."""
    if isinstance(value, (list, tuple)):
        return "/".join(short(v) for v in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


SECTIONS = {
    "What the probes measure": accuracy,
    "Beside the published numbers": published,
    "Detection": detections,
    "Training": training_curves,
    "Features during training": monitor_curves,
    "Nearest neighbours": nearest,
    "What the pretext sees": pretext_views,
}
