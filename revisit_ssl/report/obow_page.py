"""The blocks of the OBoW page: methods side by side, claims, words over training, vocabularies, the paper's tables."""

import os

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.papers.published import load_published
from revisit_ssl.report.blocks import Bullets, Folded, Heading, KeyNumbers, Picture, Table, Text
from revisit_ssl.report.cld_claims import by_ground
from revisit_ssl.report.cld_page import runs_table
from revisit_ssl.report.obow import (
    LEVELS,
    METHODS,
    data_name,
    level_name,
    methods_of,
    methods_table,
    settings_of,
    vocabularies_of,
    vocabulary_table,
)
from revisit_ssl.report.obow_claims import FIGURES, RULE, SWEEPS, obow_claims
from revisit_ssl.report.obow_figures import FOLDER, methods_figure, training_figure, vocabularies_figure
from revisit_ssl.report.obow_paper import obow_paper_tables, read_bench
from revisit_ssl.report.tables import unique
from revisit_ssl.sweeps.grids import FAMILIES

TITLE = "OBoW: the paper's numbers and ours"
# Drawn apart, with `report.py --visual-words`, since they need a network and its images; shown where they lie beside.
WORDS = "visual_words"
DRAWN = {level: f"The most frequent visual words of {level_name(level)}, with their best patches" for level in LEVELS}


def obow_blocks(results, folder=None):
    """[block] of the page.

    Args:
        results: [Result]; may be empty: then the tables hold the paper's numbers alone.
        folder: where the page will lie; pictures of ``DRAWN`` in its folder obow/ are shown, rows of Table 2 read from
            its bench.jsonl.
    """
    settings = settings_of(results)
    grounds = by_ground(settings)
    theirs = obow_paper_tables(settings, results, read_bench(folder))
    blocks = [*summary(settings, theirs)]
    for i, (ground, mine) in enumerate(grounds.items()):
        suffix = f"_{i + 1}" if i else ""
        blocks += [Heading(f"OBoW and MoCo v2: {ground.text}")]
        blocks += [methods_table(mine)] if methods_of(mine) else []
        blocks += drawn(methods_figure, mine, f"methods{suffix}")
        blocks += weighed(mine, suffix)
        blocks += [Heading(f"Words over training: {ground.text}"), *drawn(training_figure, mine, f"training{suffix}")]
        blocks += vocabulary_blocks(ground, mine, suffix)
    for level, caption in DRAWN.items():
        path = os.path.join(folder or "", WORDS, f"{level}.png")
        if folder is not None and tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path, "rb") as file:
                blocks += [Heading(caption.partition(",")[0]), Picture(level, file.read(), f"{caption}.", WORDS)]
    blocks.append(Heading("The paper's tables, with our runs of the same scale"))
    for title, table in theirs:
        blocks += [Text(f"**{title}**"), table]
    blocks += [Heading("Commands"), commands()]
    if settings:
        blocks += [Heading("What was run"), Folded("Settings, seeds, commits", runs_table(settings, results))]
    return blocks


def summary(settings, theirs):
    """What the page holds, and how to read a cell."""
    runs = {(s.run.setting, seed) for s in settings for seeds in s.scores.values() for seed in seeds}
    filled = sum(bool(cell) for _, table in theirs for row in table.rows
                 for name, cell in zip(table.columns, row, strict=True) if name == "ours")  # fmt: skip
    filled += sum(row[0].startswith("**OBoW, ours") for _, table in theirs for row in table.rows)
    datasets = [data_name(name) for name in unique(s.run.dataset for s in settings)]
    numbers = [
        (f"{len(runs)}", "run of ours" if len(runs) == 1 else "runs of ours"),
        (f"{len(unique(s.method for s in settings))}", f"of {len(METHODS)} methods"),
        (
            f"{len(datasets)}",
            f"data set{'' if len(datasets) == 1 else 's'}{': ' if datasets else ''}{', '.join(datasets)}",
        ),
        (f"{sum(r['paper'] == 'obow' for r in load_published('obow'))}", "numbers of the paper's tables"),
        (f"{filled}", "cells beside them with a number of ours"),
    ]
    reading = [
        "**paper** and **ours** stand in columns of their own; an empty cell was not run, or not printed",
        "ours stands beside the paper's only at its scale; small runs have tables of their own, which come first",
        "`47.1 ± 0.3 (3)`: mean, sample standard deviation and number of seeds; one seed has no deviation",
        "vanilla: words of conv5 alone and one large crop; full: words of conv4 and conv5, two large crops and five "
        "patches",
        "the ablations of the paper's main text are not here: no source that we hold says their numbers",
    ]
    return [KeyNumbers(numbers), Bullets(reading)]


def drawn(figure, settings, name):
    """[Picture], or why there is none."""
    try:
        return [figure(settings, name)]
    except InputError as reason:
        return [Text(f"Not drawn: {reason}.")]


def weighed(settings, suffix):
    """Verdicts in a table, with the figure and the command of each; the numbers behind them folded."""
    found = obow_claims(settings)
    rows = [[f"{c.number}", c.text, f"**{c.verdict}**"] for c in found]
    how = [
        f"**{c.number}** {c.reason}. Figure `{FOLDER}/{FIGURES[c.number]}{suffix}.png`, runs of "
        f"`{command_of(SWEEPS[c.number], preset_of(settings))}`"
        for c in found
    ]
    behind = [Folded(f"{c.number}. {c.text}", c.table) for c in found if c.table.rows]
    title = Text("**The paper's claims, by these runs**")
    return [title, Table(["", "claim", "verdict"], rows, labels=3), Bullets(how), Text(RULE), *behind]


def vocabulary_blocks(ground, settings, suffix):
    """Tables of the supplement's section D, and the figure of the first one."""
    groups = vocabularies_of(settings)
    blocks = [Heading(f"Vocabularies (section D): {ground.text}")]
    blocks += drawn(vocabularies_figure, settings, f"vocabularies{suffix}")
    return [*blocks, *(vocabulary_table(group) for group in groups)]


def preset_of(settings):
    """The preset that these runs were started with, as far as their data say it."""
    known = {"toy_scenes": "sample", "imagenette_subset160": "imagenette", "cifar10": "cifar10",
             "imagenet20": "imagenet20"}  # fmt: skip
    return known.get(settings[0].ground.dataset, "imagenette")


def command_of(family, preset):
    return f"python experiments/sweep.py {family} --preset {preset} --seeds 0 1 2"


def commands():
    """How each table is run."""
    rows = [
        ["methods of Table 1, claims 1 to 3", f"{len(FAMILIES['obow'])}", f"`{command_of('obow', 'imagenette')}`"],
        ["vocabularies, claim 4", f"{len(FAMILIES['obow-vocabulary'])}",
         f"`{command_of('obow-vocabulary', 'imagenette')}`"],
        ["Table 1 at the published scale", f"{len(FAMILIES['obow'])}", f"`{command_of('obow', 'imagenet20')}`"],
        ["Table 2", "", "`python experiments/bench.py --what table2 --out experiments/results/bench.jsonl`"],
        ["main table", "1", "`python experiments/run.py obow --preset paper`"],
        ["pictures of words", "", "`python experiments/report.py --visual-words RUN --out-dir experiments/results`"],
        ["this page", "", "`python experiments/report.py RUNS --paper obow --out-dir experiments/results`"],
    ]  # fmt: skip
    note = "A sweep goes on where it was; `--plan` prints what it would do, `--only` and `--seeds` choose."
    return Table(["", "settings", "command"], rows, labels=3, notes=(note,))
