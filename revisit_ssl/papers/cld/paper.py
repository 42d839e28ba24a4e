"""The CLD paper: its numbers, recipes and sweeps; the page's own part: with and without the term, ablations, A.2."""

from revisit_ssl.papers.cld import retrieval
from revisit_ssl.papers.cld.ablations import ABLATIONS, NEGATIVES
from revisit_ssl.papers.cld.claims import RULE, cld_claims
from revisit_ssl.papers.cld.figures import negatives_figure
from revisit_ssl.papers.cld.methods import (
    KNN,
    MEASURES,
    control_of,
    method_of,
    methods_table,
    name_of,
    options_of,
    settings_of,
)
from revisit_ssl.papers.cld.recipes import ABOUT, RECIPES
from revisit_ssl.papers.cld.sweeps import SWEEPS
from revisit_ssl.papers.cld.tables import CIFAR, DETECTION, IMAGENET, ours, paper_tables
from revisit_ssl.papers.methods import method_name
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.spec import Gallery, Paper
from revisit_ssl.report.ablations import ablation_table
from revisit_ssl.report.blocks import Heading, Table, Text
from revisit_ssl.report.claims import verdicts
from revisit_ssl.report.pages import drawn, settings_table
from revisit_ssl.report.settings import by_ground

MINUTES = 15  # of a run of the preset small on two cores, at most
# What it is, recipe, flags. The control is the script of NPID + CLD at weight 0, whose folder would have its name.
REPRODUCTION = (
    ("NPID + CLD", "npid_cld", ()),
    ("the same script, λ 0 (the control)", "npid_cld", ("--cld.weight 0", "--workdir runs/npid_cld-weight0-cifar10")),
    ("NPID, its own recipe", "npid", ()),
    ("MoCo", "moco", ()),
    ("MoCo + CLD", "moco_cld", ()),
)


def our_blocks(results):
    """[block]: methods with and without the term and the claims, by ground; ablations; the figure of negatives."""
    settings = settings_of(results)
    blocks = []
    for ground, mine in by_ground(settings).items():
        blocks += [Heading(f"With and without CLD: {ground.text}"), methods_table(mine)]
        blocks += [Text("**The paper's claims, by these runs**"), *verdicts(cld_claims(mine), RULE)]
    blocks += ablation_blocks(settings)
    return [*blocks, Heading("Number of negatives (Figure A.2)"), *drawn(negatives_figure, settings)]


def ablation_blocks(settings):
    """Tables A.1 to A.4 by our own runs, whatever their scale."""
    blocks = []
    for ablation in ABLATIONS:
        for ground, mine in by_ground(settings).items():
            for series in ablation.find(mine, control_of(mine)):
                title = f"As in {ablation.table}, {ablation.title}: {method_of(series.first)}, {ground.text}"
                table = ablation_table(ablation, series, MEASURES, note_of(ablation, series))
                blocks += [Text(f"**{title}**"), table]
    return [Heading("Ablations by our own runs"), *blocks] if blocks else []


def note_of(ablation, series):
    """What stands under an ablation's table."""
    first = series.first
    note = (
        f"{name_of(first)}, {first.length}. In percent: mean ± sample standard deviation (seeds). Bold: the largest of "
        f"a column. Options of one of the runs, of which the first columns vary: {options_of(first)}."
    )
    if ablation.control and series.control:
        note += " At weight 0 it is the same script without the term, not the method's own recipe."
    return note


def commands(results):
    """How each part is run."""
    how = Text(
        "Each sweep goes on where it was; `--plan` times a few steps and prints what it would do, `--only` and "
        f"`--seeds` choose. A run of the preset small takes up to {MINUTES} minutes on two CPU cores. At the "
        "published scale, on a GPU: `--preset cifar10`, `cifar100`, `kitchen_hc` or `imagenet100`, which not all have."
    )
    gpu = Text(
        "**The reproduction on CIFAR-10 at the published scale** needs a GPU, for hours each. The same command goes on "
        "from its last checkpoint, so that it may be run in pieces."
    )
    return [how, sweep_table(), gpu, reproduction(settings_of(results))]


def sweep_table():
    """How each table is run."""
    rows = [["methods with and without CLD", "cld"]]
    rows += [[f"{a.table}: {a.title}", a.sweep] for a in (*ABLATIONS, NEGATIVES)]
    lines = []
    for what, name in rows:
        count = len(SWEEPS[name])
        hours = f"{count * MINUTES / 60:.2g} h"
        lines.append([what, f"{count}", hours, f"`python experiments/sweep.py {name} --preset small`"])
    return Table(["", "settings", "one seed, at most", "command"], lines, labels=4)


def reproduction(settings):
    """The commands at the published scale of CIFAR-10, with our number of each, or that it was not run."""
    lines = []
    for what, recipe, flags in REPRODUCTION:
        changed = {"cld.weight": 0.0} if "--cld.weight 0" in flags else {}
        setting = ours(settings, recipe, "cifar10", changed)
        command = " ".join(["python experiments/run.py", recipe, "--preset cifar10 --monitor knn_test:1", *flags])
        cell = setting.cell(KNN) if setting else ""
        lines.append([what, cell or "not run", f"`{command} --resume`"])
    return Table(["", f"ours, {KNN.title}", "command"], lines, labels=1)


PAPER = Paper(
    name="cld",
    title="Cross-level discrimination (CLD): the paper's numbers and ours",
    arxiv="2008.03813",
    published=load_published("cld"),
    recipes=RECIPES,
    about=ABOUT,
    sweeps=SWEEPS,
    method=method_name,
    printed=(CIFAR, *(ablation.table for ablation in ABLATIONS), IMAGENET, DETECTION),
    tables=lambda results, rows, folder: paper_tables(settings_of(results), rows, results),
    ours=our_blocks,
    commands=commands,
    runs=lambda results: settings_table(settings_of(results), name_of, options_of),
    reading=(
        "projection: the normalised output of the instance head, the paper's f; pre_logits: the layer before the heads",
    ),
    galleries=(
        Gallery(
            "sample_sheet", "DATASET", retrieval.write_sample_sheet,
            {"cld/sample_sheet.png": "Images of each class (the supplement's Figure A.1). At equal distances in the "
             "training split. The paper's are of Kitchen-HC."},
        ),
        Gallery(
            "retrieval", "RUN RUN", retrieval.write_retrieval,
            {"cld/retrieval.png": "Retrieval (the supplement's Figure A.3). A test image, the eight nearest training "
             "images by the first network, then by the second one; green and a tick: of the query's class, red and a "
             "cross: of another. The queries are the first test image of each class, not picked by their result; the "
             "first network's best stand on top."},
        ),
    ),
)
