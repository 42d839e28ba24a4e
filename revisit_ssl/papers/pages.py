"""A paper's page, its numbers and ours; a run's page and its comparison, beside the numbers of the run's own paper."""

from revisit_ssl.errors import require
from revisit_ssl.papers import find_paper, presets_of
from revisit_ssl.papers.older import named
from revisit_ssl.report import names, page, tables
from revisit_ssl.report.blocks import Bullets, Folded, Heading, KeyNumbers
from revisit_ssl.report.pages import filled, found_pictures, others_table, settings_table, titled, write_page
from revisit_ssl.report.settings import RANDOM, name_of, settings_of, unique
from revisit_ssl.runs.intervals import within

TABLES = "The paper's tables, with our runs of the same scale"
READING = (
    "**paper** and **ours** stand in columns of their own; an empty cell was not run, or not printed",
    "ours stands beside the paper's only at its scale; small runs have tables of their own, which come first",
    "`47.1 ± 0.3 (3)`: mean, sample standard deviation and number of seeds; one seed has no deviation",
)


def compare(results, published=None):
    """Our numbers and a paper's, in different columns, as a Markdown table: see ``tables.comparison``.

    Args:
        results: [Result].
        published: name of a paper; None: the one whose recipes the results are of, in most lines.

    Returns:
        str, Markdown.

    Raises:
        InputError: no results, or no such paper.
    """
    results = named(results)
    paper = find_paper(published or paper_of(results))
    table, notes = tables.comparison(results, paper.published, paper.name)
    return "\n\n".join([table.markdown(), *notes])


def paper_of(results):
    """The paper that most lines are of; the first one of PAPERS where none says it."""
    said = [r.paper for r in results if r.paper]
    return max(unique(said), key=said.count) if said else "revisiting"


def write_report(workdir, *, data_dir=None, backbone=None):
    """Writes report.md, report.html and the pictures of a run's page: see ``page.write_report``."""
    return page.write_report(workdir, data_dir=data_dir, beside=beside, backbone=backbone)


def beside(results):
    """(Table, [note]): a run's numbers beside those of its paper."""
    results = named(results)
    own = tables.ones_own(r.probe_dataset for r in results)
    require(not own, "no paper has numbers of one's own images; they would say nothing of these")
    paper = find_paper(paper_of(results))
    return tables.comparison(results, paper.published, paper.name)


def write_paper_report(results, folder, paper="revisiting"):
    """Writes <paper>.md, <paper>.html (one file that needs nothing else) and the pictures in <paper>/.

    Args:
        results: [Result]; may be empty: then the tables hold the paper's numbers alone.
        folder: where to, local or gs://.
        paper: name in PAPERS.

    Returns:
        Path of the HTML page.

    Raises:
        InputError: no such paper, or the folder cannot be written to.
    """
    paper = find_paper(paper)
    return write_page(paper.title, page_blocks(paper, named(results), folder), folder, paper.name)


def page_blocks(paper, results, folder=None):
    """[block] of a paper's page.

    Args:
        paper: spec.Paper.
        results: [Result].
        folder: where the page will lie; pictures that were drawn apart are shown if they lie there.
    """
    theirs = paper.tables(results, paper.published, folder)
    blocks = [*summary(paper, results, theirs), *paper.ours(results)]
    for gallery in paper.galleries:
        blocks += found_pictures(folder, gallery.pictures)
    blocks += [Heading(TABLES), *titled(theirs)]
    if rows := elsewhere(paper):
        blocks.append(Folded("Numbers of other authors, and what stands in no table", others_table(rows, paper.method)))
    blocks += paper.after(paper.published)
    if commands := paper.commands(results):
        blocks += [Heading("Commands"), *commands]
    if any(r.weights not in RANDOM for r in results):
        blocks += [Heading("What was run"), Folded("Settings, seeds, commits", runs_of(paper, results))]
    return blocks


def runs_of(paper, results):
    """Table: what was run."""
    if paper.runs:
        return paper.runs(results)
    return settings_table(settings_of(results), lambda s: paper.method(s.name), lambda s: "")


def left_out(paper, results, folder, form="revisit-ssl {}"):
    """[text]: what is not on a paper's page, each with the command that would fill it.

    Args:
        paper: spec.Paper.
        results: [Result] of the page.
        folder: where the page lies.
        form: how a command is called, with {} for its name.
    """
    mine = [r for r in named(results) if r.weights not in RANDOM or r.name == "random"]
    lines = []
    for name, variants in paper.sweeps.items():
        run = sum(any(v.is_of(r) for r in mine) for v in variants)
        if run < len(variants):
            command = f"{form.format('sweep')} {name} --preset {preset_for(variants, mine)}"
            lines.append(f"{run} of {len(variants)} cells of {name}: {command}")
    for gallery in paper.galleries:
        if not found_pictures(folder, gallery.pictures):
            how = f"--paper {paper.name} --out-dir {folder} --gallery {gallery.name} {gallery.arguments}"
            lines.append(f"{gallery.name.replace('_', ' ')}: {form.format('report')} {how}")
    return lines


def preset_for(variants, results):
    """The preset to run a sweep by: the paper's where it names the networks of a table, else that of most of our runs,
    else the first one that all its recipes have."""
    known = [p for p in presets_of(variants[0].recipe) if all(p in presets_of(v.recipe) for v in variants)]
    if "paper" in known and any(v.width for v in variants):
        return "paper"
    used = [r.preset for r in results if r.preset in known]
    return max(unique(used), key=used.count) if used else known[0]


def draw_gallery(paper, words, folder, data_dir=None):
    """Draws a gallery of the paper and returns a path to look at; ``words``: its name, then what it takes.

    Raises:
        InputError: no such paper or gallery; what the gallery refuses.
    """
    known = {gallery.name: gallery for gallery in find_paper(paper).galleries}
    name, *arguments = words
    require(name in known, f"{paper} has no gallery {name!r}; one of {', '.join(known) or 'none'}")
    return known[name].write(arguments, folder, data_dir)


def summary(paper, results, theirs):
    """What the page holds, and how to read a cell."""
    mine = [r for r in results if r.weights not in RANDOM]
    runs, methods = {(r.recipe, r.seed) for r in mine}, unique(name_of(r) for r in mine)
    datasets = unique(names.dataset_name(r.dataset) for r in mine)
    printed = sum(r["paper"] == paper.name for r in paper.published)
    numbers = [
        (f"{len(runs)}", "run of ours" if len(runs) == 1 else "runs of ours"),
        (f"{len(methods)}", f"method{'' if len(methods) == 1 else 's'}"),
        (
            f"{len(datasets)}",
            f"data set{'' if len(datasets) == 1 else 's'}{': ' if datasets else ''}{', '.join(datasets)}",
        ),
        (f"{printed}", "numbers of the paper"),
        (f"{filled(theirs)}", "cells beside them with a number of ours"),
    ]
    images = sorted({r.n for r in mine if r.interval})
    known = [f"{within((50.0,), n)} of {n:,} images" for n in images]
    told = f"how well one number is known from its test images (95 %, Wilson): 50.0 is {', '.join(known)}"
    return [KeyNumbers(numbers), Bullets([*READING, *([told] if known else []), *paper.reading])]


def elsewhere(paper, published=None):
    """[row] of the published numbers that no table of the page holds: of other authors, or read off a figure."""
    published = paper.published if published is None else published
    shown = {(paper.name, table) if isinstance(table, str) else table for table in paper.printed}
    return [r for r in published if (r["paper"], r["table"]) not in shown]
