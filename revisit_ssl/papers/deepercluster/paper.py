"""The DeeperCluster paper: its numbers, recipes and sweeps; the page's own part: our runs by data set."""

from revisit_ssl.papers.deepercluster.claims import RULE, claims_of
from revisit_ssl.papers.deepercluster.methods import (
    METHODS,
    method_name,
    methods_table,
    options_of,
    settings_of,
    with_labels,
)
from revisit_ssl.papers.deepercluster.pictures import write_distribution, write_gallery
from revisit_ssl.papers.deepercluster.protocols import PROTOCOLS
from revisit_ssl.papers.deepercluster.recipes import ABOUT, RECIPES
from revisit_ssl.papers.deepercluster.sweeps import SWEEPS
from revisit_ssl.papers.deepercluster.tables import paper_tables
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.rerun import commands_table, sweep_row
from revisit_ssl.papers.spec import Gallery, Paper
from revisit_ssl.report.blocks import Heading
from revisit_ssl.report.claims import verdicts
from revisit_ssl.report.pages import settings_table
from revisit_ssl.report.settings import by_ground


def our_blocks(results):
    """[block]: of each ground the methods side by side; the claims."""
    blocks = []
    for ground, mine in by_ground(settings_of(results)).items():
        blocks += [Heading(f"Clusters and rotations: {ground.text}"), methods_table(mine)]
    claims = verdicts(claims_of(with_labels(results)), RULE) if blocks else []
    return [*blocks, *([Heading("The paper's claims, by these runs")] if claims else []), *claims]


def commands(results):
    """How each table is run."""
    return commands_table([
        sweep_row("all methods, on colours and on Sobel", SWEEPS, "deepercluster", "--preset cifar10"),
        sweep_row("Table 4 at small scale", SWEEPS, "deepercluster-table4", "--preset cifar10"),
        ["the published scale", "", "`python experiments/run.py deepercluster --preset paper --dataset folder:/path`"],
        ["this page", "", "`python experiments/report.py RUNS --paper deepercluster --out-dir experiments/results`"],
    ])


PAPER = Paper(
    name="deepercluster",
    title="DeeperCluster: the paper's numbers and ours",
    arxiv="1905.01278",
    published=load_published("deepercluster"),
    recipes=RECIPES,
    about=ABOUT,
    sweeps=SWEEPS,
    protocols=PROTOCOLS,
    method=method_name,
    printed=("Table 1", "Table 2", "Table 3", "Table 4"),
    tables=lambda results, rows, folder: paper_tables(settings_of(results), rows),
    ours=our_blocks,
    commands=commands,
    runs=lambda results: settings_table(settings_of(results), lambda s: METHODS[s.name], options_of),
    reading=(
        "the tables are those of the supplement; the main text is not here: no source that we hold says its numbers",
    ),
    galleries=(
        Gallery(
            "distribution", "DATASET DATASET", write_distribution,
            {"deepercluster/distribution.png": "Images of each hashtag or label, sorted (the supplement's Figure 1, "
             "there of YFCC100M and ImageNet)."},
        ),
        Gallery(
            "clusters", "RUN RUN", write_gallery,
            {"clusters/deviations.png": "Deviation of images' mean colours from that of their cluster, sorted (the "
             "supplement's Figure 2). Low: the cluster is one of colour. random: a partition into equal sizes.",
             "clusters/colours.png": "Clusters of most uniform colour (Figure 3); the first tile is the mean colour.",
             "clusters/sobel.png": "What Sobel leaves of an image: its horizontal and vertical derivative (Figure 4)."},
        ),
    ),
)
