"""The MaskCo paper: its numbers, recipes and sweeps; the page's own part: stages, claims, training, MPH."""

from revisit_ssl.papers.maskco import prediction
from revisit_ssl.papers.maskco.claims import RULE, maskco_claims
from revisit_ssl.papers.maskco.figures import FOLDER, stages_figure, training_figure
from revisit_ssl.papers.maskco.methods import method_name, methods_of, methods_table, name_of, options_of, settings_of
from revisit_ssl.papers.maskco.protocols import PROTOCOLS
from revisit_ssl.papers.maskco.recipes import ABOUT, RECIPES
from revisit_ssl.papers.maskco.sweeps import SWEEPS
from revisit_ssl.papers.maskco.tables import DETECTION, paper_tables
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.rerun import commands_table, flags_for, sweep_row, with_commands
from revisit_ssl.papers.spec import Gallery, Paper
from revisit_ssl.report.blocks import Heading, Text
from revisit_ssl.report.claims import verdicts
from revisit_ssl.report.pages import drawn, settings_table
from revisit_ssl.report.settings import by_ground

SMALL = "--preset stages"


def our_blocks(results):
    """[block]: of each ground the methods stage by stage, the claims, MaskCo over training."""
    blocks = []
    for i, (ground, mine) in enumerate(by_ground(settings_of(results)).items()):
        suffix = f"_{i + 1}" if i else ""
        blocks += [Heading(f"Stages: {ground.text}")]
        blocks += [methods_table(mine)] if methods_of(mine) else []
        blocks += drawn(stages_figure, mine, f"stages{suffix}")
        claims = with_commands(maskco_claims(mine), FOLDER, suffix, flags_for(mine, "maskco"))
        blocks += [Text("**The paper's claims, by these runs**"), *verdicts(claims, RULE)]
        blocks += drawn(training_figure, mine, f"training{suffix}")
    return blocks


def commands(results):
    """How each table is run."""
    found = settings_of(results)
    flags = flags_for(found, "maskco") if found else SMALL
    return commands_table([
        sweep_row("methods of Table 1, claims 3, 5 and 6", SWEEPS, "maskco-table1", flags),
        sweep_row("mask and MPH, claims 2 and 4", SWEEPS, "maskco-mask", flags),
        sweep_row("negatives of the same image, claim 1", SWEEPS, "maskco-negatives", flags),
        sweep_row("Table 2 at the published scale", SWEEPS, "maskco-mask", "--preset coco"),
        ["Table 1 at the published scale, MaskCo's row", "1", "`python experiments/run.py maskco --preset paper`"],
        ["what MPH predicts", "",
         "`python experiments/report.py --paper maskco --gallery prediction RUN --out-dir experiments/results`"],
        ["this page", "", "`python experiments/report.py RUNS --paper maskco --out-dir experiments/results`"],
    ])


PAPER = Paper(
    name="maskco",
    title="MaskCo: the paper's numbers and ours",
    arxiv="2108.07954",
    published=load_published("maskco"),
    recipes=RECIPES,
    about=ABOUT,
    sweeps=SWEEPS,
    protocols=PROTOCOLS,
    method=method_name,
    printed=("Table 1", "Table 2", *DETECTION),
    tables=lambda results, rows, folder: paper_tables(settings_of(results), rows, results),
    ours=our_blocks,
    commands=commands,
    runs=lambda results: settings_table(settings_of(results), name_of, options_of),
    reading=(
        "the tables are those of the supplement; the main text is not here: no source that we hold says its numbers",
        "no code was published: what the supplement does not say is reconstructed, and so marked where it is set",
        "conv1 to conv5 are the stem and the blocks of a network, each averaged to about 9,000 values",
    ),
    galleries=(
        Gallery(
            "prediction", "RUN", prediction.write_gallery,
            {"prediction/rows.png": "What MPH predicts: image, masked view, and how similar each cell is to the masked "
             "region as the target sees it, before and after MPH."},
        ),
    ),
)
