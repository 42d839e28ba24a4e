"""The MaskCo supplement's tables; ours stands beside a number only where it is of the same scale."""

from revisit_ssl.papers import presets_of, published_recipe
from revisit_ssl.papers.maskco.methods import FILLS, STAGES, method_name
from revisit_ssl.recipe import override
from revisit_ssl.report.pivots import options_of, pivot
from revisit_ssl.report.scale import SCALE, of_scale
from revisit_ssl.report.settings import Measure

VOC = {"ap": "VOC AP", "ap50": "VOC AP50", "ap75": "VOC AP75"}


def paper_tables(settings, published):
    """Tables 1 and 2 of the supplement, ours in columns of their own.

    Args:
        settings: [Setting]; may be empty.
        published: [row] of the paper's numbers.

    Returns:
        [(title, Table)].
    """
    return [
        ("Table 1: linear classifiers on five stages of a ResNet50 on ImageNet, top-1", table_1(settings, published)),
        ("Table 2: with the mask and without it, pretrained on COCO, no MPH", table_2(settings, published)),
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


def table_2(settings, published):
    """Rows: with the mask and without; columns: detection on VOC and two stages on ImageNet."""
    theirs, mine = {}, {}
    for r in rows_of("Table 2", published):
        fill = options_of(r)["fill"]
        column = VOC.get(r["metric"]) or f"ImageNet {r['endpoint']}"
        where = (FILLS[fill],), column
        theirs[where] = r
        mine[where] = our_cell(settings, r, "coco", task__fill=fill, task__mph="none")
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
