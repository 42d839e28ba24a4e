"""Tables of fine-tuned detectors: what the papers print, and ours beside it by the same protocol."""

from dataclasses import replace

from revisit_ssl.report.names import dataset_name
from revisit_ssl.report.pivots import options_of, pivot
from revisit_ssl.report.scale import SCALE, at_scale, probed_as
from revisit_ssl.report.settings import counted, unique

METRICS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75"}
WHAT = {"box": "boxes", "mask": "masks"}
LEFT_OUT = ("train", "balanced")  # of the bench, which a set with boxes does not share


def detection_table(rows, results, recipes, protocols, title, notes=(), by=None):
    """Rows: methods; columns: sets, and boxes or masks, by AP, AP50, AP75.

    Args:
        rows: published ones; what follows their method in the table is "epochs" of their setting.
        results: [Result].
        recipes: {method: Recipe of its published scale}; its epochs stand in the second column.
        protocols: {data set: {probe: options}}, how a detector is trained on it; ours is by just these.
        title: function, what a method is called.
        notes: paragraphs under the table, after the one that says what is averaged.
        by: {"paper" of a row: what its authors are called}, for a third column where there are several.

    Returns:
        Table; ours is mean ± sample standard deviation (number of seeds).
    """
    theirs, mine, columns = {}, {}, {}
    for r in rows:
        texts = title(r["pretext"]), f"{options_of(r).get('epochs', '')}", *([by[r["paper"]]] if by else [])
        theirs[texts, (r["dataset"], r["metric"])] = r
        columns[r["dataset"], r["metric"]] = heading(r["dataset"], r["metric"])
    for name, recipe in recipes.items():
        texts = title(name), f"{recipe.epochs:g}", *(["ours"] if by else [])
        for (dataset, metric), seeds in of_protocols(results, recipe, protocols).items():
            mine[texts, (dataset, metric)] = counted(tuple(seeds.values()))
            columns.setdefault((dataset, metric), heading(dataset, metric))
    datasets = unique(dataset for dataset, _ in columns)
    order = [f"{kind}{metric}" for kind in ("", "box_", "mask_") for metric in METRICS]
    columns = {key: columns[key] for key in sorted(columns, key=lambda k: (datasets.index(k[0]), order.index(k[1])))}
    said = f"Percent: AP is the mean over an IoU of 0.5 to 0.95. Ours: mean ± standard deviation (seeds). {SCALE}"
    titles = ("method", "epochs", *(["by"] if by else []))
    return pivot(titles, theirs, mine, notes=(said, *notes), columns=columns)


def of_protocols(results, recipe, protocols):
    """{(data set, metric): {seed: percent}} of the detectors on a recipe's networks that were trained as said."""
    found = {}
    for r in results:
        dataset = r.probe_dataset.partition(":")[0]
        options = protocols.get(dataset, {}).get(r.probe)
        if options is None or r.weights != "pretrained" or r.split != "test":
            continue
        if at_scale(r, recipe) and probed_as(r, replace(recipe, probes={r.probe: options}), LEFT_OUT):
            found.setdefault((dataset, r.metric), {})[r.seed] = r.value
    return found


def heading(dataset, metric):
    """VOC07+12, AP50; COCO, masks, AP."""
    kind, _, name = metric.rpartition("_")
    return ", ".join(filter(None, (dataset_name(dataset), WHAT.get(kind, ""), METRICS[name])))
