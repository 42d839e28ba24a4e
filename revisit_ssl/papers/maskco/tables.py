"""The MaskCo supplement's tables; ours stands beside a number only where it is of the same scale."""

from revisit_ssl.papers import presets_of, published_recipe
from revisit_ssl.papers.detecting import COCO_2X_OPENSELFSUP, VOC0712
from revisit_ssl.papers.detection_tables import detection_table, of_protocols
from revisit_ssl.papers.maskco.methods import FILLS, STAGES, method_name
from revisit_ssl.recipe import override
from revisit_ssl.report.pivots import options_of, pivot
from revisit_ssl.report.scale import SCALE, of_scale
from revisit_ssl.report.settings import Measure, counted, unique

VOC = {"ap": "VOC AP", "ap50": "VOC AP50", "ap75": "VOC AP75"}
# How detectors are trained; whose numbers stand beside ours, from which table.
PROTOCOLS = {"voc0712": {"detection": VOC0712}, "coco": {"segmentation": COCO_2X_OPENSELFSUP}}
DETECTION = (("openselfsup", "model zoo"), ("moco", "README"))
AUTHORS = {"openselfsup": "OpenSelfSup", "moco": "MoCo"}


def paper_tables(settings, published, results=()):
    """Tables 1 and 2 of the supplement, and detectors on ImageNet's features, ours in columns of their own.

    Args:
        settings: [Setting]; may be empty.
        published: [row] of the paper's numbers.
        results: [Result], for detectors.

    Returns:
        [(title, Table)].
    """
    return [
        ("Table 1: linear classifiers on five stages of a ResNet50 on ImageNet, top-1", table_1(settings, published)),
        ("Table 2: with the mask and without it, pretrained on COCO, no MPH", table_2(settings, published, results)),
        ("Detection on VOC07+12, ResNet50 C4, pretrained on ImageNet", detectors("voc0712", published, results)),
        ("Boxes and masks on COCO, ResNet50 C4, pretrained on ImageNet", detectors("coco", published, results)),
    ]


def table_1(settings, published):
    """Rows: methods; columns: stages."""
    theirs, mine = {}, {}
    for r in rows_of("Table 1", published):
        where = (method_name(r["pretext"]),), r["endpoint"]
        theirs[where], mine[where] = r, our_cell(settings, r, "paper")
    note = (
        "In percent. All rows but MaskCo's are those of OpenSelfSup's model zoo. Ours are of our recipes of preset "
        f"paper, whose epochs and batches are each method's own. {SCALE}"
    )
    return pivot(("method",), theirs, mine, notes=(note,), columns={stage: stage for stage in STAGES})


def detectors(dataset, published, results):
    """Rows: methods by their authors; columns: AP, AP50 and AP75 of boxes, and of masks where there are any."""
    rows = [r for r in published if (r["paper"], r["table"]) in DETECTION and r["dataset"] == dataset]
    names = unique([*(r["pretext"] for r in rows), "maskco", "maskco_in"])
    network = {"backbone": rows[0]["backbone"], "width": rows[0]["width"]}
    recipes = {name: published_recipe(name, "paper", **network) for name in names if "paper" in presets_of(name)}
    how = {
        "voc0712": "24,000 steps; MoCo's are means of five.",
        "coco": "2x, 180,000 steps, the longer side of a training image at most 1200.",
    }
    note = f"{how[dataset]} MaskCo's own numbers are in its main text, which none of our sources holds."
    protocols = {dataset: PROTOCOLS[dataset]}
    return detection_table(rows, results, recipes, protocols, method_name, (note,), by=AUTHORS)


def table_2(settings, published, results=()):
    """Rows: with the mask and without; columns: detection on VOC and two stages on ImageNet."""
    theirs, mine = {}, {}
    for r in rows_of("Table 2", published):
        fill = options_of(r)["fill"]
        column = VOC.get(r["metric"]) or f"ImageNet {r['endpoint']}"
        where = (FILLS[fill],), column
        theirs[where] = r
        changes = {"task__fill": fill, "task__mph": "none"}
        mine[where] = our_cell(settings, r, "coco", **changes) or our_detector(results, r, "coco", **changes)
    columns = [*VOC.values(), "ImageNet conv4", "ImageNet conv5"]
    note = (
        "In percent. Detection: Faster R-CNN C4, trained on VOC07+12 trainval and scored on VOC07 test. Without the "
        f"mask the query view is whole. {SCALE}"
    )
    return pivot(("query view",), theirs, mine, notes=(note,), columns={column: column for column in columns})


def rows_of(table, published):
    """The paper's rows of that table."""
    return [r for r in published if (r["paper"], r["table"]) == ("maskco", table)]


def our_cell(settings, row, preset, **changes):
    """Our number of the published scale, as text; empty without a run."""
    if preset not in presets_of(row["pretext"]) or row["probe"] not in ("multi_layer", "last_layer"):
        return ""
    network = {"backbone": row["backbone"], "width": row["width"]}
    recipe = override(published_recipe(row["pretext"], preset, "maskco", **network), **changes)
    if recipe.probed_dataset != row["dataset"]:
        return ""
    setting = of_scale(settings, recipe)
    return setting.cell(Measure(row["probe"], row["endpoint"], row["metric"])) if setting else ""


def our_detector(results, row, preset, **changes):
    """Our number of a detector on the network of a published scale, as text; empty without a run."""
    if row["probe"] not in ("detection", "segmentation"):
        return ""
    network = {"backbone": row["backbone"], "width": row["width"]}
    recipe = override(published_recipe(row["pretext"], preset, **network), **changes)
    found = of_protocols(results, recipe, PROTOCOLS).get((row["dataset"], row["metric"]), {})
    return counted(tuple(found.values()))
