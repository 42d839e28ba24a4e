"""The OBoW paper: its numbers, recipes and sweeps; the page's own part: methods, claims, words, vocabularies."""

from revisit_ssl.papers.obow import visual_words
from revisit_ssl.papers.obow.claims import RULE, obow_claims
from revisit_ssl.papers.obow.figures import FOLDER, methods_figure, training_figure, vocabularies_figure
from revisit_ssl.papers.obow.methods import (
    LEVELS,
    SECTION_D,
    level_name,
    method_name,
    methods_of,
    methods_table,
    name_of,
    options_of,
    settings_of,
    vocabulary_table,
)
from revisit_ssl.papers.obow.recipes import ABOUT, RECIPES
from revisit_ssl.papers.obow.sweeps import SWEEPS
from revisit_ssl.papers.obow.tables import paper_tables, read_bench
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.rerun import commands_table, flags_for, sweep_row, with_commands
from revisit_ssl.papers.spec import Gallery, Paper
from revisit_ssl.report.blocks import Heading, Text
from revisit_ssl.report.claims import verdicts
from revisit_ssl.report.pages import drawn, settings_table
from revisit_ssl.report.settings import by_ground


def our_blocks(results):
    """[block]: of each ground the methods, the claims, words over training and the vocabularies."""
    blocks = []
    for i, (ground, mine) in enumerate(by_ground(settings_of(results)).items()):
        suffix = f"_{i + 1}" if i else ""
        blocks += [Heading(f"OBoW and MoCo v2: {ground.text}")]
        blocks += [methods_table(mine)] if methods_of(mine) else []
        blocks += drawn(methods_figure, mine, f"methods{suffix}")
        claims = with_commands(obow_claims(mine), FOLDER, suffix, flags_for(mine, "obow"))
        blocks += [Text("**The paper's claims, by these runs**"), *verdicts(claims, RULE)]
        blocks += [Heading(f"Words over training: {ground.text}"), *drawn(training_figure, mine, f"training{suffix}")]
        blocks += [Heading(f"Vocabularies (section D): {ground.text}")]
        blocks += drawn(vocabularies_figure, mine, f"vocabularies{suffix}")
        blocks += map(vocabulary_table, SECTION_D.find(mine))
    return blocks


def commands(results):
    """How each table is run."""
    found = settings_of(results)
    flags = flags_for(found, "obow") if found else "--preset imagenette"
    return commands_table([
        sweep_row("methods of Table 1, claims 1 to 3", SWEEPS, "obow", flags),
        sweep_row("vocabularies, claim 4", SWEEPS, "obow-vocabulary", flags),
        sweep_row("Table 1 at the published scale", SWEEPS, "obow", "--preset imagenet20"),
        ["Table 2", "", "`python experiments/bench.py --what table2 --out experiments/results/bench.jsonl`"],
        ["main table", "1", "`python experiments/run.py obow --preset paper`"],
        ["pictures of words", "", "`python experiments/report.py --visual-words RUN --out-dir experiments/results`"],
        ["this page", "", "`python experiments/report.py RUNS --paper obow --out-dir experiments/results`"],
    ])


PAPER = Paper(
    name="obow",
    title="OBoW: the paper's numbers and ours",
    arxiv="2012.11552",
    published=load_published("obow"),
    recipes=RECIPES,
    about=ABOUT,
    sweeps=SWEEPS,
    method=method_name,
    printed=("Table 1", "Table 2", "Main table"),
    tables=lambda results, rows, folder: paper_tables(settings_of(results), results, rows, read_bench(folder)),
    ours=our_blocks,
    commands=commands,
    runs=lambda results: settings_table(settings_of(results), name_of, options_of),
    reading=(
        "vanilla: words of conv5 alone and one large crop; full: words of conv4 and conv5, two large crops and five "
        "patches",
        "the ablations of the paper's main text are not here: no source that we hold says their numbers",
    ),
    galleries=(
        Gallery(
            "visual_words", "RUN", visual_words.write_gallery,
            {f"visual_words/{level}.png": f"The most frequent visual words of {level_name(level)}, with their best "
             "patches." for level in LEVELS},
        ),
    ),
)
