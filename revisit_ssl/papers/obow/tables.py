"""The OBoW paper's tables; a number of ours stands beside one of its own only where it is of the same scale."""

import json
import os

import tensorflow as tf

from revisit_ssl.data.catalogue import DATASETS
from revisit_ssl.errors import InputError, reason
from revisit_ssl.papers import published_recipe
from revisit_ssl.papers.methods import method_name
from revisit_ssl.papers.obow.methods import FIVE_50, LINEAR, ONE_50
from revisit_ssl.papers.obow.methods import METHODS as OURS
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.pivots import options_of, pivot
from revisit_ssl.report.scale import SCALE, at_scale, of_scale, probed_as
from revisit_ssl.report.settings import spread, unique

RECIPES_OF = {  # our recipe of a row of the paper's Table 1
    "obow_vanilla": "obow_vanilla", "obow": "obow", "moco_v2": "moco_v2_plain",
    "moco_v2_multicrop": "moco_v2_multicrop",
}
OTHERS = {"swav": "SwAV", "pcl": "PCL", "pirl": "PIRL"}  # methods that are not here
# In the order of Table 2.
METHODS = ("supervised", "obow", "bownet", "moco_v2", "simclr", "byol", "swav", "pcl", "pirl")
# Columns of the main table: what they are called, and probe, set, share of the labels, metric.
MAIN = {
    "ImageNet": ("linear_images", "imagenet2012", 1.0, "top1"),
    "Places205": ("linear_images", "places205", 1.0, "top1"),
    "VOC07": ("voc_svm", "voc", 1.0, "map"),
    "AP50": ("detection", "voc0712", 1.0, "ap50"),
    "AP75": ("detection", "voc0712", 1.0, "ap75"),
    "AP": ("detection", "voc0712", 1.0, "ap"),
    "1 % of the labels": ("finetune", "imagenet2012", 0.01, "top5"),
    "10 %": ("finetune", "imagenet2012", 0.1, "top5"),
}
FIGURES = {"epochs": "Epochs", "time_per_epoch": "Time per epoch", "training_time": "Training time",
           "memory": "Memory per GPU"}


def paper_tables(settings, results, published, bench=()):
    """Every table of the paper whose numbers are known, ours in columns (or a row) of their own.

    Args:
        settings: [Setting]; may be empty.
        results: [Result], all of them.
        published: [row] of the paper's numbers.
        bench: rows of ``bench.py --what table2`` (``read_bench``).

    Returns:
        [(title, Table)].
    """
    rows = [r for r in published if r["paper"] == "obow"]
    title = "Table 1: OBoW and MoCo v2 with the same views (ResNet18, 20 % of ImageNet, 80 epochs)"
    tables = [(title, table_1(rows, settings))]
    for machine in unique(map(machine_of, bench)) or [None]:
        where = f"; ours: {machine_text(machine)}" if machine else ""
        mine = [r for r in bench if machine_of(r) == machine]
        tables.append((f"Table 2: time and memory, relative to supervised training{where}", table_2(rows, mine)))
    return [*tables, ("Main table (ResNet50, ImageNet)", main_table(rows, results))]


def table_1(rows, settings):
    """Rows: methods; columns: few-shot with one and five images, linear."""
    measures = {"few_shot_50way_1shot": ONE_50, "few_shot_50way_5shot": FIVE_50, "top1": LINEAR}
    heads = dict(zip(measures, ("few-shot, n = 1", "few-shot, n = 5", "linear"), strict=True))
    theirs, mine = {}, {}
    for name, recipe in RECIPES_OF.items():
        setting = of_scale(settings, published_recipe(recipe, "imagenet20"))
        for r in rows:
            if (r["table"], r["pretext"]) == ("Table 1", name):
                place = (OURS[recipe],), r["metric"]
                theirs[place] = r
                mine[place] = setting.cell(measures[r["metric"]]) if setting else ""
    note = (
        "In percent. Few-shot: 200 episodes of 50 of ImageNet's 300 classes. Published for MoCo v2: neither rate, "
        f"temperature nor queue, nor how the seven crops are queries and keys. {SCALE}"
    )
    return pivot(("method",), theirs, mine, notes=(note,), text=exact, columns=heads)


def table_2(rows, bench):
    """Rows: epochs, time, memory, accuracy; columns: methods."""
    names_ = [name for name in METHODS if any(r["pretext"] == name for r in rows if r["probe"] == "bench")]
    theirs = {(r["pretext"], r["metric"]): r for r in rows if (r["table"], r["probe"]) == ("Table 2", "bench")}
    mine = {(r["method"], r["metric"]): r for r in bench}

    def ratio(name, metric):
        found = mine.get((name, metric))
        return f"{found['ratio']:.2f}" if found and found["ratio"] is not None else ""

    lines = []
    for metric, text in FIGURES.items():
        digits = "{:g}" if metric == "epochs" else "{:.2f}"
        cells = [c for name in names_ for c in (digits.format(theirs[name, metric]["value"]), ratio(name, metric))]
        lines.append([text, *cells])
    for batch in (256, 4096):
        found = {
            r["pretext"]: r for r in rows
            if r["table"] == "Table 2" and r["metric"] == "top1" and r["setting"].endswith(f"batch_size={batch}")
        }
        cells = [c for name in names_ for c in (exact(found.get(name)), "")]
        lines.append([f"ImageNet linear, {batch} images a step", *cells])
    heads = (("", 1), *((title_of(name), 2) for name in names_))
    note = (
        "Time and memory are multiples of supervised training's; the paper's with 256 images a step on four V100. "
        "Training time: time per epoch times epochs, over supervised training's 100 epochs."
    )
    base = mine.get(("supervised", "time_per_epoch"))
    if base and base.get("ours") is not None:
        note += (
            f" Ours: {base['batch']} images a step at {base['side']} px, an epoch of {base['images']:,} images; "
            f"supervised takes {base['ours']:,.0f} s; commit {base.get('commit', 'unknown')}."
        )
    else:
        note += (
            " Ours are measured with `python experiments/bench.py --what table2 --out experiments/results/bench.jsonl`."
        )
    return Table(["", *["paper", "ours"] * len(names_)], lines, heads=heads, notes=(note,))


def main_table(rows, results):
    """Rows: methods as the paper has them, then ours."""
    mine = [r for r in rows if r["table"] == "Main table"]
    found = {}
    for r in mine:
        epochs, batch = options_of(r).values()
        found.setdefault((r["pretext"], epochs, batch), {})[place_of(r)] = r
    lines = [
        [title_of(name), f"{epochs}", f"{batch:,}", *(f"{exact(cells.get(place), 1)}" for place in MAIN.values())]
        for (name, epochs, batch), cells in found.items()
    ]
    recipe = published_recipe("obow", "paper")
    own = [
        r for r in results
        if r.weights == "pretrained" and r.split == "test" and at_scale(r, recipe)
        and probed_as(r, published_recipe("obow", "paper", PROTOCOL_OF.get(r.probe_dataset, "obow")), LEFT_OUT)
    ]
    scores = {place: [r.value for r in own if place_of(vars(r)) == place] for place in MAIN.values()}
    cells = [spread(v) for v in scores.values()]
    if any(cells):
        lines.append(["**OBoW, ours**", f"{recipe.epochs:g}", f"{recipe.batch_size}", *cells])
    note = (
        "ImageNet, Places205: linear, top-1; VOC07: SVM, mAP; AP: detection on VOC 07+12; shares of the labels: "
        "fine-tuning, top-5. Ours: mean ± standard deviation of the seeds, where there are several; the paper's AP is "
        "the mean of three. † read off the picture of the table on the project's page, of no second source."
    )
    note += "" if any(cells) else " No run of ours is of this scale."
    return Table(["method", "epochs", "images a step", *MAIN], lines, labels=1, notes=(note,))


# Fields of the bench that the columns do not share; whose numbers a set's classifiers have.
LEFT_OUT = ("train", "balanced")
PROTOCOL_OF = {"places205": "obow_places"}


def place_of(row):
    """Which column of the main table a number belongs to: 1 % of ImageNet's labels may be a set of their own."""
    dataset = row.get("probe_dataset") or row["dataset"]
    name = dataset.partition(":")[0]
    whole = DATASETS[name].fewer_of if name in DATASETS and row["labels"] < 1 else ""
    return row["probe"], whole or name, row["labels"], row["metric"]


def exact(row, digits=None):
    """A published number with the digits that it has, and a mark if no second source says it; empty for none."""
    if row is None:
        return ""
    value = row["value"]
    if digits is None:
        digits = 2 if row["metric"].startswith("few_shot") or row["table"] == "Table 1" else 1
    return f"{value:.{digits}f}{'' if row['confirmed'] == 'yes' else '†'}"


def title_of(name):
    """What a method of the paper's is called."""
    return OTHERS.get(name) or method_name(name)


# --- bench


def read_bench(folder):
    """Rows of ``bench.py --what table2`` in ``folder``/bench.jsonl, of methods that were measured; [] without one."""
    path = os.path.join(folder or "", "bench.jsonl")
    if folder is None or not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path, "rb") as file:
        lines = file.read().decode(errors="replace").splitlines()
    try:
        rows = [json.loads(line) for line in lines if line.strip()]
        return [r for r in rows if r["what"].startswith("table2:")]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path} is no list of timings ({reason(error)}); measure again, or remove it") from None


def machine_of(row):
    """(hardware, side in pixels, batch) of a measured row: numbers are compared where these agree."""
    return row.get("hardware", "unknown"), row["side"], row["batch"]


def machine_text(machine):
    """``machine_of`` in words."""
    hardware, side, batch = machine
    return f"{hardware}, {side} px, {batch} images a step"
