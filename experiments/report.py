"""Tables and figures from several runs: python experiments/report.py runs/a runs/b … > table.md

Merges the results of the given workdirs (or folders of workdirs, or results.jsonl files) and prints Markdown: every
probe and endpoint beside the untrained network, mean ± standard deviation over the seeds; then our numbers beside the
published ones; then where each came from. With --out FILE the merged results are written there too.

With --paper NAME (revisiting, cld, obow) it writes the paper's tables and figures, its numbers and ours in different
columns, to DIR/NAME.md, DIR/NAME.html (one file) and DIR/NAME/*.png; runs may be missing altogether:

    python experiments/report.py runs/* --paper revisiting --out-dir experiments/results

With --retrieval RUN RUN and with --sample-sheet DATASET it draws the two pictures of CLD's supplement that need images;
they go where the page of --paper cld, made afterwards, shows them:

    python experiments/report.py --retrieval runs/npid runs/npid_cld --out-dir experiments/results

With --visual-words RUN it writes a page of the visual words of a run of OBoW or BoWNet:

    python experiments/report.py --visual-words runs/obow --out-dir runs/obow/words
"""

import os
import sys
from dataclasses import dataclass

import tyro

from revisit_ssl.quiet import quiet_import

with quiet_import():
    import tensorflow as tf

    from revisit_ssl.commands.command_line import guarded, read_flags
    from revisit_ssl.errors import InputError
    from revisit_ssl.papers.cld.retrieval import retrieval_grid, sample_sheet
    from revisit_ssl.papers.obow.visual_words import write_visual_words
    from revisit_ssl.papers.older import named
    from revisit_ssl.papers.pages import compare, write_paper_report
    from revisit_ssl.report.tables import probed, result_table, shown
    from revisit_ssl.runs.results import read_results, write_atomically, write_results


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tables from several runs, as Markdown on the standard output; a paper's tables and figures as a page."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Workdirs, folders of workdirs, or results.jsonl files."""
    paper: str | None = None
    """Rebuild this paper's tables and figures, with our numbers beside its own: revisiting, cld or obow."""
    out_dir: str = "report"
    """Where to, with --paper."""
    retrieval: tuple[str, str] | None = None
    """Workdirs of two runs: draw what both retrieve for some test images (CLD's Figure A.3); OUT_DIR/cld/retrieval.png,
    or --out."""
    sample_sheet: str | None = None
    """Labelled data set: draw some images of each class (CLD's Figure A.1); OUT_DIR/cld/sample_sheet.png, or --out."""
    visual_words: str | None = None
    """Workdir of a run of OBoW or BoWNet: draw the patches of its most frequent words; OUT_DIR/visual_words.html and
    .md."""
    data_dir: str | None = None
    """Where TFDS data sets lie, for these pictures; default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    out: str | None = None
    """Write the merged results, or the one picture that is asked for, to this file."""


def report(options):
    if options.visual_words:
        page = write_visual_words(options.visual_words, options.out_dir, data_dir=options.data_dir)
        print(f"page: {page}", file=sys.stderr)
    if options.retrieval or options.sample_sheet:
        draw(options)
    drawn = options.visual_words or options.retrieval or options.sample_sheet
    if drawn and not (options.runs or options.paper):
        return
    if not (options.runs or options.paper):
        raise InputError("no runs given; name workdirs or results.jsonl files, or --paper revisiting for its tables")
    # One measurement made twice counts once: the last.
    results = {r.key: r for path in options.runs for file in files_of(path) for r in read_results(file)}
    results = named(results.values())
    if shown(results) or not options.paper:
        for heading, table in result_table(results):
            print(f"{heading}\n\n{table.markdown()}\n")
        if probed(results):
            print(f"{compare(results)}\n")
        where = sorted({f"{r.date[:10]}, commit {r.commit}, {r.hardware}" for r in results})
        print("Measured: " + "; ".join(where) + ".")
    if options.out and not (options.retrieval or options.sample_sheet):
        write_results(options.out, results)
    if options.paper:
        print(f"report: {write_paper_report(results, options.out_dir, options.paper)}", file=sys.stderr)


def draw(options):
    """Writes the pictures that are asked for."""
    if options.out and options.retrieval and options.sample_sheet:
        raise InputError("--out is one file; draw --retrieval and --sample-sheet one after the other, or leave it out")
    if options.retrieval:
        write_picture(options, "retrieval", retrieval_grid(*options.retrieval, data_dir=options.data_dir))
    if options.sample_sheet:
        write_picture(options, "sample_sheet", sample_sheet(options.sample_sheet, data_dir=options.data_dir))


def write_picture(options, name, png):
    path = options.out or os.path.join(options.out_dir, "cld", f"{name}.png")
    write_atomically(path, png)
    print(f"picture: {path}", file=sys.stderr)


def files_of(path):
    """The results.jsonl files of an argument; a run that has none yet is named and passed over."""
    if path.endswith(".jsonl"):
        return [path]
    own = os.path.join(path, "results.jsonl")
    if tf.io.gfile.exists(own):
        return [own]
    inside = sorted(tf.io.gfile.glob(os.path.join(path, "*", "results.jsonl")))
    if not inside and tf.io.gfile.exists(os.path.join(path, "recipe.json")):
        print(f"left out: {path} has no results yet", file=sys.stderr)
        return []
    return inside or [own]  # which is not there: read_results says so


def main():
    return guarded(lambda: report(read_flags(Report, sys.argv[1:], prog="report.py")), " ".join(sys.argv))


if __name__ == "__main__":
    sys.exit(main())
