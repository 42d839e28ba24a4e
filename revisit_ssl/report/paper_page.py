"""One page of a paper's tables and figures, its numbers and ours: <paper>.md, <paper>.html and the PNGs."""

import os

from revisit_ssl.errors import InputError
from revisit_ssl.report import figures
from revisit_ssl.report.blocks import Bullets, Folded, Heading, KeyNumbers, Picture, Table, Text, as_html, as_markdown
from revisit_ssl.report.claims import RULE, claims
from revisit_ssl.report.cld_page import TITLE as CLD_TITLE
from revisit_ssl.report.cld_page import cld_blocks
from revisit_ssl.report.names import dataset_name
from revisit_ssl.report.obow_page import TITLE as OBOW_TITLE
from revisit_ssl.report.obow_page import obow_blocks
from revisit_ssl.report.paper import agreement_table, paper_tables, printed_tables
from revisit_ssl.report.study import runs_table, study_tables
from revisit_ssl.report.tables import RANDOM, unique
from revisit_ssl.runs import results as storage

TITLE = "Revisiting Self-Supervised Visual Representation Learning: the paper's numbers and ours"
FIGURES = {
    "accuracy of the endpoints": (figures.endpoint_figure,),
    "pretext against downstream accuracy": (figures.scatter_figure, figures.correlation_table),
    "width and representation size": (figures.width_figure,),
    "accuracy curves of the SGD probe": (figures.accuracy_curves,),
}


def write_paper_report(results, folder, paper="revisiting"):
    """Writes <paper>.md, <paper>.html (one file that needs nothing else) and the pictures in <paper>/.

    Args:
        results: [Result]; may be empty: then the tables hold the paper's numbers alone.
        folder: where to, local or gs://.
        paper: "revisiting" (as in ``paper_tables``), "cld" or "obow".

    Returns:
        Path of the HTML page.

    Raises:
        InputError: no such paper, or the folder cannot be written to.
    """
    title, own = {"cld": (CLD_TITLE, cld_blocks), "obow": (OBOW_TITLE, obow_blocks)}.get(paper, (TITLE, None))
    blocks = own(results, folder) if own else page_blocks(results, paper)
    for block in blocks:
        if isinstance(block, Picture):
            storage.write_atomically(os.path.join(folder, block.path), block.png)
    storage.write_atomically(os.path.join(folder, f"{paper}.md"), as_markdown(title, blocks))
    path = os.path.join(folder, f"{paper}.html")
    storage.write_atomically(path, as_html(title, blocks))
    return path


def page_blocks(results, paper="revisiting"):
    """[block] of the page: ours by data set, figures, the paper's tables with ours, the claim on ranks."""
    ours, theirs = study_tables(results), paper_tables(results, paper)
    blocks = [*summary(results, theirs, paper)]
    if ours:
        blocks += [Heading("Our runs"), *tables_of(ours, folded=later_probes(ours))]
    for dataset in unique(r.dataset for r in results if r.weights not in RANDOM):
        blocks += weighed(results, dataset)
    pictures, missing = drawn(results)
    blocks += [Heading("Figures"), *pictures, *([Text("Left out:"), Bullets(missing)] if missing else [])]
    blocks += [Heading("The paper's tables, with our runs of the same setting"), *tables_of(theirs)]
    blocks += [Heading("Does Places205 rank the networks as ImageNet does?"), agreement_table(paper)]
    if results:
        blocks += [Heading("What was run"), Folded("Settings, seeds, commits", runs_table(results))]
    return blocks


def summary(results, theirs, paper):
    """What the page holds, and how to read a cell."""
    runs = {(r.recipe, r.seed) for r in results if r.weights not in RANDOM}
    filled = sum(bool(cell) for _, table in theirs for row in table.rows for cell in ours_of(table, row))
    printed = sum(r["metric"] in ("top1", "top5") for r in printed_tables(paper) if "Table" in r["table"])
    datasets = {r.dataset for r in results if r.weights not in RANDOM}
    numbers = [
        (f"{len(runs)}", "run of ours" if len(runs) == 1 else "runs of ours"),
        (f"{len(datasets)}", f"data set{'' if len(datasets) == 1 else 's'} they were trained on"),
        (f"{printed}", "numbers of the paper's tables"),
        (f"{filled}", "cells beside them with a number of ours"),
    ]
    reading = [
        "**paper** and **ours** stand in columns of their own; an empty cell was not run, or not printed",
        "`47.1 ± 0.3 (3)`: mean, sample standard deviation and number of seeds; one seed has no deviation",
        "† a number of the paper that was written down from memory or read off a figure: not confirmed",
        "‡ other settings of the same network were run too; they are named under the table and never averaged",
    ]
    return [KeyNumbers(numbers), Bullets(reading)]


def ours_of(table, row):
    return [cell for name, cell in zip(table.columns, row, strict=True) if name == "ours"]


def weighed(results, dataset):
    """The paper's claims by our runs on one data set: verdicts in a table, the numbers behind each one folded."""
    found = claims(results, dataset)
    rows = [[f"{c.number}", c.text, f"**{c.verdict}**", c.reason] for c in found]
    behind = [Folded(f"{c.number}. {c.text}", c.table) for c in found if c.table.rows]
    heading = Heading(f"The paper's nine claims, by our runs on {dataset_name(dataset)}")
    return [heading, Table(["", "claim", "verdict", "by what"], rows, labels=4, notes=(RULE,)), *behind]


def tables_of(tables, folded=()):
    """Each under its title; those in ``folded`` behind a click."""
    blocks = []
    for title, table in tables:
        blocks += [Folded(title, table)] if title in folded else [Text(f"**{title}**"), table]
    return blocks


def later_probes(tables):
    """Titles of what is one table too many at first sight: of every data set the first of a kind is open."""
    seen, folded = set(), set()
    for title, table in tables:
        kind = title.partition(": ")[0], tuple(table.columns)
        if kind in seen:
            folded.add(title)
        seen.add(kind)
    return folded


def drawn(results):
    """([Picture or Table], [why one is missing])"""
    blocks, missing = [], []
    for name, parts in FIGURES.items():
        try:
            blocks += [part(results) for part in parts]
        except InputError as reason:
            missing.append(f"{name}: {reason}")
    return blocks, missing
