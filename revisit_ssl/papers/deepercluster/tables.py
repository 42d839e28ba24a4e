"""The DeeperCluster paper's tables; ours stands beside a number only where it is of the same scale."""

from revisit_ssl.papers import published_recipe
from revisit_ssl.papers.deepercluster.methods import method_name
from revisit_ssl.recipe import override
from revisit_ssl.report import names
from revisit_ssl.report.pivots import options_of, pivot
from revisit_ssl.report.scale import SCALE, of_scale
from revisit_ssl.report.settings import Measure

# Our recipe of a row, by what it was pretrained on: name, preset, data set.
RECIPES_OF = {
    ("rotnet", "yfcc100m"): ("rotnet", "paper", "yfcc100m"),
    ("rotnet", "yfcc100m_1m"): ("rotnet", "paper", "yfcc100m:1000000"),
    ("rotnet", "imagenet2012"): ("rotnet", "imagenet", "imagenet2012"),
    ("rotnet_sobel", "yfcc100m_1m"): ("rotnet_sobel", "paper", "yfcc100m:1000000"),
    ("deepcluster", "yfcc100m_1.3m"): ("deepcluster", "paper", "yfcc100m:1300000"),
    ("deepercluster", "yfcc100m"): ("deepercluster", "paper", "yfcc100m"),
    ("deepercluster", "yfcc100m_20m"): ("deepercluster", "paper", "yfcc100m:20000000"),
    ("deepercluster_rgb", "yfcc100m_20m"): ("deepercluster_rgb", "paper", "yfcc100m:20000000"),
}
# How it is probed, where that is not as the protocol "deepercluster" has it on the test split.
PROBED = {
    ("Table 1", "places205"): {"protocol": "deepercluster_places"},
    ("Table 2", "pytorch"): {"protocol": "deepercluster_pytorch_doc"},
    ("Table 4", "voc"): {"train": "train", "split": "val"},
}
DATA = {
    "yfcc100m": "YFCC100M", "yfcc100m_1.3m": "YFCC100M, 1.3 million", "yfcc100m_1m": "YFCC100M, 1 million",
    "yfcc100m_20m": "YFCC100M, 20 million", "imagenet2012": "ImageNet", "youtube9m": "YouTube, 9 million", "none": "",
}


def paper_tables(settings, published):
    """Tables 1 to 4 of the supplement, ours in columns of their own.

    Args:
        settings: [Setting]; may be empty.
        published: [row] of the paper's numbers.

    Returns:
        [(title, Table)].
    """
    layers = {f"conv{i}": f"conv{i}" for i in range(1, 14)}
    schedules = {"pytorch": "schedule of PyTorch's example", "authors": "the authors' schedule"}
    return [
        ("Table 1: linear classifiers on frozen layers of VGG16, top-1",
         of_table("Table 1", settings, published, ("data set", "method"), lambda r, o: (
             (names.dataset_name(r["dataset"]), method_name(r["pretext"])), r["endpoint"]), layers)),
        ("Table 2: ImageNet fine-tuning of VGG16 from different first values, top-1",
         of_table("Table 2", settings, published, ("first values", "whose code"), lambda r, o: (
             (method_name(r["pretext"]), o["code"]), o["schedule"]), schedules)),
        ("Table 3: instance retrieval by R-MAC, mAP",
         of_table("Table 3", settings, published, ("method", "pretrained on"), lambda r, o: (
             (method_name(r["pretext"]), DATA[o["pretrained"]]), r["dataset"]),
             {"oxford5k": "Oxford5k", "paris6k": "Paris6k"})),
        ("Table 4: colours or Sobel's derivatives, mAP on the validation split of VOC07, FC68",
         of_table("Table 4", settings, published, ("method", "pretrained on"), lambda r, o: (
             (method_name(r["pretext"].partition("_")[0]), DATA[o["pretrained"]]), o["sobel"]),
             {False: "RGB", True: "Sobel"})),
    ]


def of_table(table, settings, published, titles, place, columns):
    """One table as a pivot.

    Args:
        table: as in ``published``.
        settings, published: as for ``paper_tables``.
        titles: of the first columns.
        place: function of (row, its options): (texts of the first columns, column).
        columns: {column: what stands above it}.
    """
    theirs, mine = {}, {}
    for r in published:
        if (r["paper"], r["table"]) != ("deepercluster", table):
            continue
        where = place(r, options_of(r))
        theirs[where] = r
        mine[where] = our_cell(settings, r)
    note = "In percent. Endpoints conv1 to conv13 are after their ReLU and before any pool. " + SCALE
    return pivot(titles, theirs, mine, notes=(note,), columns=columns)


def our_cell(settings, row):
    """Our number of the published scale, as text; empty without a run."""
    options = options_of(row)
    known = RECIPES_OF.get((row["pretext"], options["pretrained"]))
    if known is None:
        return ""
    name, preset, dataset = known
    how = {"protocol": "deepercluster"} | PROBED.get((row["table"], options.get("schedule", row["dataset"])), {})
    recipe = published_recipe(name, preset, how.pop("protocol"))
    bench = {f"bench__{field}": value for field, value in {"dataset": row["dataset"], **how}.items()}
    setting = of_scale(settings, override(recipe, dataset=dataset, **bench))
    return setting.cell(Measure(row["probe"], row["endpoint"], row["metric"])) if setting else ""
