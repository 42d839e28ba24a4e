"""The OBoW paper's tables; a number of ours stands beside one of its own only where it is of the same scale."""

import dataclasses
import json
import os

import tensorflow as tf

from revisit_ssl.papers import RECIPES, get_recipe
from revisit_ssl.papers.published import load_published
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.obow import FIVE_50, FULL, LINEAR, MOCO, MULTICROP, ONE_50, VANILLA
from revisit_ssl.report.tables import unique

SCALE = (
    "Ours stands here only if it is of the published scale: the same network, data, batch, epochs and options. Runs of "
    "another scale are in the tables above."
)
RECIPE_OF = {  # of a row of the paper's Table 1: what it is called, and our recipe
    "obow_vanilla": (VANILLA, "obow_vanilla"), "obow": (FULL, "obow"), "moco_v2": (MOCO, "moco_v2_plain"),
    "moco_v2_multicrop": (MULTICROP, "moco_v2_multicrop"),
}  # fmt: skip
METHODS = {
    "supervised": "Supervised", "obow": "OBoW", "bownet": "BoWNet", "moco_v2": "MoCo v2", "simclr": "SimCLR",
    "byol": "BYOL", "swav": "SwAV", "pcl": "PCL", "pirl": "PIRL",
}  # fmt: skip
# Columns of the main table: what they are called, and probe, set, share of the labels, metric.
MAIN = {
    "ImageNet": ("linear_images", "imagenet2012", 1.0, "top1"),
    "Places205": ("linear_images", "places205", 1.0, "top1"),
    "VOC07": ("voc_svm", "voc", 1.0, "map"),
    "AP50": ("detection", "voc", 1.0, "ap50"),
    "AP75": ("detection", "voc", 1.0, "ap75"),
    "AP": ("detection", "voc", 1.0, "ap"),
    "1 % of the labels": ("finetune", "imagenet2012", 0.01, "top5"),
    "10 %": ("finetune", "imagenet2012", 0.1, "top5"),
}
FIGURES = {"epochs": "Epochs", "time_per_epoch": "Time per epoch", "training_time": "Training time",
           "memory": "Memory per GPU"}  # fmt: skip


def obow_paper_tables(settings, results, bench=()):
    """Every table of the paper whose numbers are known, ours in columns (or a row) of their own.

    Args:
        settings: [Setting]; may be empty.
        results: [Result], all of them.
        bench: rows of ``bench.py --what table2`` (``read_bench``).

    Returns:
        [(title, Table)].
    """
    rows = [r for r in load_published("obow") if r["paper"] == "obow"]
    title = "Table 1: OBoW and MoCo v2 with the same views (ResNet18, 20 % of ImageNet, 80 epochs)"
    tables = [(title, table_1(rows, settings))]
    for machine in unique(map(machine_of, bench)) or [None]:
        where = f"; ours: {machine_text(machine)}" if machine else ""
        mine = [r for r in bench if machine_of(r) == machine]
        tables.append((f"Table 2: time and memory, relative to supervised training{where}", table_2(rows, mine)))
    return [*tables, ("Main table (ResNet50, ImageNet)", main_table(rows, results))]


def table_1(rows, settings):
    """Rows: methods; columns: few-shot with one and five images, linear."""
    columns = {"few_shot_50way_1shot": ONE_50, "few_shot_50way_5shot": FIVE_50, "top1": LINEAR}
    lines = []
    for name, (text, recipe) in RECIPE_OF.items():
        theirs = {r["metric"]: r for r in rows if (r["table"], r["pretext"]) == ("Table 1", name)}
        setting = ours(settings, recipe, "imagenet20")
        cells = [
            c for metric, m in columns.items() for c in (exact(theirs[metric]), setting.cell(m) if setting else "")
        ]
        lines.append([text, *cells])
    heads = (("", 1), ("few-shot, n = 1", 2), ("few-shot, n = 5", 2), ("linear", 2))
    note = (
        "In percent. Few-shot: 200 episodes of 50 of ImageNet's 300 classes. Published for MoCo v2: neither rate, "
        f"temperature nor queue, nor how the seven crops are queries and keys. {SCALE}"
    )
    return Table(["method", *["paper", "ours"] * 3], lines, heads=heads, notes=(note,))


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
        }  # fmt: skip
        cells = [c for name in names_ for c in (exact(found.get(name)), "")]
        lines.append([f"ImageNet linear, {batch} images a step", *cells])
    heads = (("", 1), *((METHODS[name], 2) for name in names_))
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
        epochs, batch = (int(part.split("=")[1]) for part in r["setting"].split())
        found.setdefault((r["pretext"], epochs, batch), {})[place_of(r)] = r
    lines = [
        [METHODS[name], f"{epochs}", f"{batch:,}", *(f"{exact(cells.get(place), 1)}" for place in MAIN.values())]
        for (name, epochs, batch), cells in found.items()
    ]
    recipe = get_recipe("obow", "paper") if "obow/paper" in RECIPES else None
    own = [r for r in results if recipe and r.pretext == "obow" and r.weights == "pretrained" and at_scale(r, recipe)]
    scores = {place: [r.value for r in own if place_of(vars(r)) == place] for place in MAIN.values()}
    cells = [f"{sum(v) / len(v):.1f}" if v else "" for v in scores.values()]
    if any(cells):
        lines.append(["**OBoW, ours**", f"{recipe.epochs:g}", f"{recipe.batch_size}", *cells])
    note = (
        "ImageNet, Places205: linear, top-1; VOC07: SVM, mAP; AP: detection on VOC 07+12; shares of the labels: "
        "fine-tuning, top-5. † read off the picture of the table on the project's page, of no second source."
    )
    note += "" if any(cells) else " No run of ours is of this scale."
    return Table(["method", "epochs", "images a step", *MAIN], lines, labels=1, notes=(note,))


def place_of(row):
    """Which column of the main table a number belongs to."""
    dataset = row.get("probe_dataset") or row["dataset"]
    return row["probe"], dataset.partition(":")[0], row["labels"], row["metric"]


def exact(row, digits=None):
    """A published number with the digits that it has, and a mark if no second source says it; empty for none."""
    if row is None:
        return ""
    value = row["value"]
    if digits is None:
        digits = 2 if row["metric"].startswith("few_shot") or row["table"] == "Table 1" else 1
    return f"{value:.{digits}f}{'' if row['confirmed'] == 'yes' else '†'}"


# --- scale


def ours(settings, name, preset):
    """The Setting of a recipe at its published scale, or None: of several that with most seeds."""
    if f"{name}/{preset}" not in RECIPES:
        return None
    recipe = get_recipe(name, preset)
    return max((s for s in settings if at_scale(s.run, recipe)), key=lambda s: s.seeds, default=None)


def at_scale(r, recipe):
    """Whether a Result's run has the recipe's network, data, length and options."""
    same = (r.pretext, r.backbone, r.width, r.dataset) == (
        recipe.pretext, recipe.backbone, recipe.width, recipe.dataset,
    )  # fmt: skip
    length = {name: getattr(recipe, name) for name in ("split", "fraction", "batch_size", "epochs", "max_steps")}
    options = json.loads(json.dumps(dataclasses.asdict(recipe.task)))
    return same and {n: r.training.get(n) for n in length} == length and json.loads(json.dumps(r.task)) == options


# --- bench


def read_bench(folder):
    """Rows of ``bench.py --what table2`` in ``folder``/bench.jsonl, of methods that were measured; [] without one."""
    path = os.path.join(folder or "", "bench.jsonl")
    if folder is None or not tf.io.gfile.exists(path):
        return []
    with tf.io.gfile.GFile(path) as file:
        rows = [json.loads(line) for line in file.read().splitlines() if line.strip()]
    return [r for r in rows if r["what"].startswith("table2:")]


def machine_of(row):
    return row.get("hardware", "unknown"), row["side"], row["batch"]


def machine_text(machine):
    hardware, side, batch = machine
    return f"{hardware}, {side} px, {batch} images a step"
