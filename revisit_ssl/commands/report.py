"""Tables and figures from several runs: revisit-ssl report runs/a runs/b … > table.md

Merges the results of the given workdirs (or folders of workdirs, or results.jsonl files) and prints Markdown: every
probe and endpoint beside the untrained network, mean ± standard deviation over the seeds; then our numbers beside the
published ones; then where each came from. With --out FILE the merged results are written there too.

With --paper NAME (revisiting, cld, obow) it writes the paper's tables and figures, its numbers and ours in different
columns, to DIR/NAME.md, DIR/NAME.html (one file) and DIR/NAME/*.png; runs may be missing altogether:

    revisit-ssl report runs/* --paper revisiting --out-dir experiments/results

With --retrieval RUN RUN and with --sample-sheet DATASET it draws the two pictures of CLD's supplement that need images;
they go where the page of --paper cld, made afterwards, shows them:

    revisit-ssl report --retrieval runs/npid runs/npid_cld --out-dir experiments/results

With --visual-words RUN it writes a page of the visual words of a run of OBoW or BoWNet:

    revisit-ssl report --visual-words runs/obow --out-dir runs/obow/words

With --clusters RUN it writes a page of the clusters that a run's network makes of its training images; several runs are
compared by how much of that is colour:

    revisit-ssl report --clusters runs/rotnet runs/deepercluster --out-dir runs/clusters
"""

import sys
from dataclasses import dataclass
from typing import Literal

import tyro

from revisit_ssl.commands.flags import guarded, read_flags
from revisit_ssl.startup import loading


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tables from several runs, as Markdown on the standard output; a paper's tables and figures as a page."""

    runs: tyro.conf.Positional[tuple[str, ...]] = ()
    """Workdirs, folders of workdirs, or results.jsonl files."""
    paper: str | None = None
    """Rebuild this paper's tables and figures, with our numbers beside its own: revisiting, cld, obow or one of your
    own; what is left out is printed with the command that would fill it."""
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
    clusters: tuple[str, ...] = ()
    """Workdirs of runs: draw clusters of their training images as contact sheets; OUT_DIR/clusters.html and .md."""
    clusters_by: Literal["purity", "size"] = "purity"
    """Which clusters come first: those of one label, where images have labels or hashtags, or the largest."""
    gallery: tuple[str, ...] = ()
    """With --paper: draw one of its galleries for its page; its name, then what it takes, such as retrieval RUN RUN."""
    data_dir: str | None = None
    """Where TFDS data sets lie, for these pictures; default TFDS_DATA_DIR or ~/tensorflow_datasets."""
    out: str | None = None
    """Write the merged results, or the one picture that is asked for, to this file."""


def main(arguments=None, *, form="revisit-ssl report"):
    """The command; returns the exit status. ``form`` is how it was called, for hints."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)

    def work():
        options = read_flags(Report, arguments, prog=form)
        with loading():
            from revisit_ssl.commands.tables import report  # after the flags: help needs no TensorFlow
        return report(options, form)

    return guarded(work, form, arguments)
