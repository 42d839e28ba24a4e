"""What report does once its flags are read: tables, pages and pictures from the results of several runs."""

import os
import sys

import tensorflow as tf

from revisit_ssl.errors import InputError, require
from revisit_ssl.papers import find_paper
from revisit_ssl.papers.cld.retrieval import retrieval_grid, sample_sheet
from revisit_ssl.papers.obow.visual_words import write_visual_words
from revisit_ssl.papers.older import named
from revisit_ssl.papers.pages import compare, draw_gallery, left_out, write_paper_report
from revisit_ssl.report.clusters import write_clusters
from revisit_ssl.report.detections import average_precisions
from revisit_ssl.report.tables import probed, result_table, shown
from revisit_ssl.runs.files import write_atomically
from revisit_ssl.runs.results import read_results, write_results


def report(options, form="revisit-ssl report"):
    """Prints and writes what a ``commands.report.Report`` asks for; ``form``: how it was called, for hints."""
    if options.gallery:
        require(options.paper, "--gallery is of a paper; name it with --paper")
        path = draw_gallery(options.paper, options.gallery, options.out_dir, options.data_dir)
        print(f"gallery: {path}", file=sys.stderr)
        if not options.runs:  # the page with our numbers, if there is one, needs its runs to be named again
            return
    if options.visual_words:
        page = write_visual_words(options.visual_words, options.out_dir, data_dir=options.data_dir)
        print(f"page: {page}", file=sys.stderr)
    if options.clusters:
        by = options.clusters_by
        page = write_clusters(options.clusters, options.out_dir, data_dir=options.data_dir, by=by)
        print(f"page: {page}", file=sys.stderr)
    if options.retrieval or options.sample_sheet:
        draw(options)
    drawn = options.visual_words or options.clusters or options.retrieval or options.sample_sheet
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
        if detectors := average_precisions(results):
            print(f"**Detectors**\n\n{detectors.markdown()}\n")
        if probed(results):
            print(f"{compare(results)}\n")
        where = sorted({f"{r.date[:10]}, commit {r.commit}, {r.hardware}" for r in results})
        print("Measured: " + "; ".join(where) + ".")
    if options.out and not (options.retrieval or options.sample_sheet):
        write_results(options.out, results)
    if options.paper:
        print(f"report: {write_paper_report(results, options.out_dir, options.paper)}", file=sys.stderr)
        for line in left_out(find_paper(options.paper), results, options.out_dir, "{}".join(form.rsplit("report", 1))):
            print(f"left out: {line}", file=sys.stderr)


def draw(options):
    """Writes the pictures that are asked for."""
    if options.out and options.retrieval and options.sample_sheet:
        raise InputError("--out is one file; draw --retrieval and --sample-sheet one after the other, or leave it out")
    if options.retrieval:
        write_picture(options, "retrieval", retrieval_grid(*options.retrieval, data_dir=options.data_dir))
    if options.sample_sheet:
        write_picture(options, "sample_sheet", sample_sheet(options.sample_sheet, data_dir=options.data_dir))


def write_picture(options, name, png):
    """Writes a picture to --out, or into the folder of CLD's page."""
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
