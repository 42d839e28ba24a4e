"""The blocks of the CLD page: claims, methods with and without the term, ablations, Figure A.2, the paper's tables."""

import os

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.papers.published import load_published
from revisit_ssl.report.blocks import Bullets, Folded, Heading, KeyNumbers, Picture, Table, Text
from revisit_ssl.report.cld import KNN, LAYOUTS, ablation_table, data_name, methods_table, settings_of
from revisit_ssl.report.cld_claims import RULE, by_ground, cld_claims
from revisit_ssl.report.cld_figures import negatives_figure
from revisit_ssl.report.cld_paper import cld_paper_tables, context_table, ours
from revisit_ssl.report.tables import unique
from revisit_ssl.sweeps.grids import FAMILIES

# Pictures that need images or networks, drawn apart; those that lie beside the page are shown on it.
DRAWN = {
    "sample_sheet": "Images of each class (the supplement's Figure A.1). At equal distances in the training split. The "
    "paper's are of Kitchen-HC.",
    "retrieval": "Retrieval (the supplement's Figure A.3). A test image, the eight nearest training images by the "
    "first network, then by the second one; green: of the query's class, red: of another. The queries are the first "
    "test image of each class, not picked by their result; the first network's best stand on top.",
}
MINUTES = 15  # of a run of the preset small on two cores, at most
# What it is, recipe, flags. The control is the script of NPID + CLD at weight 0, whose folder would have its name.
REPRODUCTION = (
    ("NPID + CLD", "npid_cld", ()),
    ("the same script, λ 0 (the control)", "npid_cld", ("--cld.weight 0", "--workdir runs/npid_cld-weight0-cifar10")),
    ("NPID, its own recipe", "npid", ()),
    ("MoCo", "moco", ()),
    ("MoCo + CLD", "moco_cld", ()),
)
TITLE = "Cross-level discrimination (CLD): the paper's numbers and ours"


def cld_blocks(results, folder=None):
    """[block] of the page.

    Args:
        results: [Result]; may be empty: then the tables hold the paper's numbers alone.
        folder: where the page will lie; pictures of ``DRAWN`` in its folder cld/ are shown.
    """
    settings = settings_of(results)
    grounds, theirs = by_ground(settings), cld_paper_tables(settings)
    blocks = [*summary(settings, theirs)]
    for ground, mine in grounds.items():
        blocks += [Heading(f"With and without CLD: {ground.text}"), methods_table(mine), *weighed(mine)]
    blocks += ablation_blocks(grounds)
    blocks += [Heading("Number of negatives (Figure A.2)")]
    try:
        blocks.append(negatives_figure(settings))
    except InputError as reason:
        blocks.append(Text(f"Not drawn: {reason}."))
    for name, caption in DRAWN.items():
        path = os.path.join(folder or "", "cld", f"{name}.png")
        if folder is not None and tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path, "rb") as file:
                blocks += [Heading(caption.split(". ")[0].rstrip(".")), Picture(name, file.read(), caption, "cld")]
    blocks.append(Heading("The paper's tables, with our runs of the same scale"))
    for title, table in theirs:
        blocks += [Text(f"**{title}**"), table]
    blocks.append(Folded("Numbers of other authors", context_table()))
    how = Text(
        "Each sweep goes on where it was; `--plan` times a few steps and prints what it would do, `--only` and "
        f"`--seeds` choose. A run of the preset small takes up to {MINUTES} minutes on two CPU cores. At the "
        "published scale, on a GPU: `--preset cifar10`, `cifar100`, `kitchen_hc` or `imagenet100`, which not all have."
    )
    gpu = Text(
        "**The reproduction on CIFAR-10 at the published scale** needs a GPU, for hours each. The same command goes on "
        "from its last checkpoint, so that it may be run in pieces."
    )
    blocks += [Heading("Commands"), how, commands(), gpu, reproduction(settings)]
    if settings:
        blocks += [Heading("What was run"), Folded("Settings, seeds, commits", runs_table(settings, results))]
    return blocks


def summary(settings, theirs):
    """What the page holds, and how to read a cell."""
    runs = {(s.run.setting, seed) for s in settings for seeds in s.scores.values() for seed in seeds}
    filled = sum(bool(cell) for _, table in theirs for row in table.rows
                 for name, cell in zip(table.columns, row, strict=True) if name.startswith("ours"))  # fmt: skip
    printed = sum(r["paper"] == "cld" for r in load_published("cld"))
    methods = {s.method: {bool(t.weight) for t in settings if t.method == s.method} for s in settings}
    both = sum(len(kinds) == 2 for kinds in methods.values())
    datasets = [data_name(name) for name in unique(s.run.dataset for s in settings)]
    numbers = [
        (f"{len(runs)}", "run of ours" if len(runs) == 1 else "runs of ours"),
        (f"{len(methods)}", f"method{'' if len(methods) == 1 else 's'}, {both} of them with and without CLD"),
        (
            f"{len(datasets)}",
            f"data set{'' if len(datasets) == 1 else 's'}{': ' if datasets else ''}{', '.join(datasets)}",
        ),
        (f"{printed}", "numbers of the paper's tables and README"),
        (f"{filled}", "cells beside them with a number of ours"),
    ]
    reading = [
        "**paper** and **ours** stand in columns of their own; an empty cell was not run, or not printed",
        "ours stands beside the paper's only at its scale; small runs have tables of their own, which come first",
        "`47.1 ± 0.3 (3)`: mean, sample standard deviation and number of seeds; one seed has no deviation",
        "projection: the normalised output of the instance head, the paper's f; pre_logits: the layer before the heads",
    ]
    return [KeyNumbers(numbers), Bullets(reading)]


def weighed(settings):
    """The paper's claims by the settings of one ground: verdicts in a table, the numbers behind each one folded."""
    found = cld_claims(settings)
    rows = [[f"{c.number}", c.text, f"**{c.verdict}**", c.reason] for c in found]
    behind = [Folded(f"{c.number}. {c.text}", c.table) for c in found if c.table.rows]
    title = Text("**The paper's claims, by these runs**")
    return [title, Table(["", "claim", "verdict", "by what"], rows, labels=4, notes=(RULE,)), *behind]


def ablation_blocks(grounds):
    """Tables A.1 to A.4 by our own runs, whatever their scale."""
    blocks = []
    for layout in LAYOUTS:
        for ground, settings in grounds.items():
            for ablation in layout.find(settings):
                title = f"As in Table {layout.table}, {layout.title}: {ablation.first.method}, {ground.text}"
                blocks += [Text(f"**{title}**"), ablation_table(layout, ablation)]
    return [Heading("Ablations by our own runs"), *blocks] if blocks else []


def commands():
    """How each table is run."""
    rows = [["methods with and without CLD", "cld"]]
    rows += [[f"Table {layout.table}: {layout.title}", layout.sweep] for layout in LAYOUTS]
    rows += [["Figure A.2: number of negatives", "cld-figure-a2"]]
    lines = []
    for what, name in rows:
        count = len(FAMILIES[name])
        hours = f"{count * MINUTES / 60:.2g} h"
        lines.append([what, f"{count}", hours, f"`python experiments/sweep.py {name} --preset small`"])
    return Table(["", "settings", "one seed, at most", "command"], lines, labels=4)


def reproduction(settings):
    """The commands at the published scale of CIFAR-10, with our number of each, or that it was not run."""
    lines = []
    for what, recipe, flags in REPRODUCTION:
        changed = {"cld.weight": 0.0} if "--cld.weight 0" in flags else {}
        setting = ours(settings, recipe, "cifar10", changed)
        command = " ".join(["python experiments/run.py", recipe, "--preset cifar10 --monitor knn_test:1", *flags])
        cell = setting.cell(KNN) if setting else ""
        lines.append([what, cell or "not run", f"`{command} --resume`"])
    return Table(["", f"ours, {KNN.title}", "command"], lines, labels=1)


def runs_table(settings, results):
    """One row a setting, with its options, seeds and where the numbers come from."""
    rows = []
    for s in settings:
        mine = [r for r in results if (r.setting, r.weights) == (s.run.setting, "pretrained")]
        if not s.scores:
            continue
        seeds, commits, days, hardware = (
            sorted({getter(r) for r in mine})
            for getter in (lambda r: r.seed, lambda r: r.commit, lambda r: r.date[:10], lambda r: r.hardware)
        )
        rows.append([
            s.name, s.options, s.ground.text, s.length, "" if s.run.steps is None else f"{s.run.steps:,}",
            ", ".join(map(str, seeds)), s.run.setting, ", ".join(commits),
            days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}", ", ".join(hardware),
        ])  # fmt: skip
    columns = ["method", "options", "data and network", "length", "steps", "seeds", "recipe"]
    return Table([*columns, "commit", "date", "hardware"], rows, labels=4)
