"""Revisiting: its numbers, recipes and sweeps; the page's own part: ours by data set, claims, figures, ranks."""

from revisit_ssl.errors import InputError
from revisit_ssl.papers.methods import method_name
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.revisiting import curves, figures
from revisit_ssl.papers.revisiting.claims import RULE, claims
from revisit_ssl.papers.revisiting.recipes import ABOUT, RECIPES
from revisit_ssl.papers.revisiting.study import runs_table, study_tables
from revisit_ssl.papers.revisiting.sweeps import SWEEPS
from revisit_ssl.papers.revisiting.tables import agreement_table, paper_tables
from revisit_ssl.papers.spec import Paper
from revisit_ssl.report.blocks import Bullets, Folded, Heading, Text
from revisit_ssl.report.claims import verdicts
from revisit_ssl.report.names import dataset_name
from revisit_ssl.report.settings import RANDOM, unique

FIGURES = {
    "accuracy of the endpoints": (figures.endpoint_figure,),
    "pretext against downstream accuracy": (figures.scatter_figure, figures.correlation_table),
    "width and representation size": (figures.width_figure,),
    "accuracy curves of the SGD probe": (curves.accuracy_curves,),
}


def our_blocks(results):
    """[block]: our runs by data set, the claims of each, the figures."""
    ours = study_tables(results)
    blocks = [Heading("Our runs"), *tables_of(ours, folded=later_probes(ours))] if ours else []
    for dataset in unique(r.dataset for r in results if r.weights not in RANDOM):
        blocks.append(Heading(f"The paper's nine claims, by our runs on {dataset_name(dataset)}"))
        blocks += verdicts(claims(results, dataset), RULE)
    pictures, missing = drawn(results)
    return [*blocks, Heading("Figures"), *pictures, *([Text("Left out:"), Bullets(missing)] if missing else [])]


def ranks(published):
    """The page's part on Places205: Heading and Table."""
    return [Heading("Does Places205 rank the networks as ImageNet does?"), agreement_table(published)]


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


PAPER = Paper(
    name="revisiting",
    title="Revisiting Self-Supervised Visual Representation Learning: the paper's numbers and ours",
    arxiv="1901.09005",
    published=load_published("revisiting"),
    recipes=RECIPES,
    about=ABOUT,
    sweeps=SWEEPS,
    method=method_name,
    printed=("Table 1", "Table 2", "Suppl. Table 1", "Suppl. section 3", *(f"Suppl. Table {i}" for i in (2, 3, 4))),
    tables=lambda results, rows, folder: paper_tables(results, rows),
    ours=our_blocks,
    after=ranks,
    runs=runs_table,
    reading=(
        "† a number of the paper that was written down from memory or read off a figure, or whose column is inferred: "
        "not confirmed",
        "‡ other settings of the same network were run too; they are named under the table and never averaged",
    ),
)
