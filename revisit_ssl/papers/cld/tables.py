"""The CLD paper's tables; a number of ours stands beside one of its own only where it is of the same scale."""

from revisit_ssl.papers import RECIPES, published_recipe
from revisit_ssl.papers.cld.ablations import A3, ABLATIONS, HEADS
from revisit_ssl.papers.cld.methods import CROPS, KNN, plain
from revisit_ssl.papers.cld.protocols import PROTOCOLS
from revisit_ssl.papers.cld.recipes import RECIPES as OWN
from revisit_ssl.papers.detection_tables import detection_table
from revisit_ssl.papers.methods import method_name
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.names import dataset_name
from revisit_ssl.report.pivots import options_of, pivot
from revisit_ssl.report.scale import SCALE, of_scale
from revisit_ssl.report.settings import Measure, text_of, unique
from revisit_ssl.report.tables import printed

PRESETS = {"imagenet2012": "paper"}  # the preset of a data set's published scale; of the others it has the set's name
CIFAR, IMAGENET = "README, CIFAR", "README, ImageNet"
DETECTION = ("moco", "VOC07+12 detection")  # whose numbers, and the table


def paper_tables(settings, published, results=()):
    """Every table of the paper whose numbers are known, ours in columns of their own.

    Args:
        settings: [Setting]; may be empty.
        published: [row] of the paper's numbers.
        results: [Result], for detectors.

    Returns:
        [(title, Table)].
    """
    rows = [r for r in published if r["paper"] == "cld"]
    tables = [("CIFAR, kNN on the projection, ResNet18 (README of the released code)", cifar_table(rows, settings))]
    for ablation in ABLATIONS:
        mine = [r for r in rows if r["table"] == ablation.table]
        tables.append((f"{ablation.table}: {ablation.title}", supplement_table(ablation, mine, settings)))
    title = "ImageNet, SGD linear on crops, ResNet50 (README of the released code)"
    tables.append((title, imagenet_table(rows, settings)))
    return [*tables, ("VOC, detection, ResNet50 C4 (base methods: README of MoCo)", voc_table(published, results))]


def cifar_table(rows, settings):
    """Rows: method and head; of each set the paper's number, its authors' second one, ours, and ours at its best."""
    mine = [r for r in rows if r["table"] == CIFAR]
    datasets = unique(r["dataset"] for r in mine)
    theirs = {}
    for r in mine:
        kind = "reproduced" if r["note"].startswith("reproduced") else "paper"
        theirs.setdefault((r["pretext"], options_of(r)["head"]), {})[r["dataset"], kind] = r

    def line(labels, found, recipe, changed):
        cells = []
        for dataset in datasets:
            setting = ours(settings, recipe, dataset, changed)
            cells += [printed(found.get((dataset, kind))) for kind in ("paper", "reproduced")]
            cells += [setting.cell(KNN), text_of(best_on_test(setting))] if setting else ["", ""]
        return [*labels, *cells]

    lines = [
        line([method_name(recipe), HEADS[head]], found, recipe, {"head": head})
        for (recipe, head), found in theirs.items()
    ]
    controls = [line([f"{method_name(r)}, λ 0", ""], {}, r, {"cld.weight": 0.0}) for r in ("npid_cld", "moco_cld")]
    lines += [control for control in controls if any(control[2:])]
    columns = ["method", "head", *["paper", "reproduced", "ours", "ours, best on test"] * len(datasets)]
    note = (
        "Top-1 in percent, 200 epochs. Reproduced: by the authors, mean of three runs; their README does not say if it "
        "is the last epoch or the best on the test set. Ours: the last epoch. Best on test selects on the test split "
        "and is shown for that comparison only."
    )
    heads = (("", 2), *((dataset_name(d), 4) for d in datasets))
    return Table(columns, lines, labels=2, heads=heads, notes=(note, SCALE))


def supplement_table(ablation, rows, settings):
    """Rows: the ablation's cells; columns: data sets, methods or metrics."""
    theirs, mine = {}, {}
    for r in rows:
        known = options_of(r)
        changed = {name: known[name] for name in ablation.varies if name in known}
        texts = ablation.text(tuple(changed.values())) if changed else ablation.control
        column = column_of(ablation, r)
        theirs[texts, column] = r
        if setting := ours(settings, r["pretext"], r["dataset"], changed):
            mine[texts, column] = cell_of(setting, r)
        control = not changed and ours(settings, f"{r['pretext']}_cld", r["dataset"], {"cld.weight": 0.0})
        if control:
            mine[("same script, λ 0", *texts[1:]), column] = cell_of(control, r)
    return pivot(ablation.columns, theirs, mine, notes=("In percent. " + SCALE,))


def imagenet_table(rows, settings):
    """Rows: method, head and epochs."""
    theirs, mine = {}, {}
    for r in rows:
        if r["table"] == IMAGENET:
            known = options_of(r)
            texts = method_name(r["pretext"]), HEADS[known["head"]], f"{known['epochs']:g}"
            theirs[texts, ""] = r
            setting = ours(settings, r["pretext"], r["dataset"], {"head": known["head"]}, epochs=known["epochs"])
            if setting:
                mine[texts, ""] = cell_of(setting, r)
    return pivot(("method", "head", "epochs"), theirs, mine, notes=("Top-1 in percent. " + SCALE,))


def voc_table(published, results):
    """Rows: methods; columns: detectors trained on VOC07+12 and, where we have any, on VOC07 alone."""
    rows = [r for r in published if (r["paper"], r["table"]) == DETECTION]
    names = (key.partition("/")[0] for key in OWN if key.endswith("/paper"))
    recipes = {name: published_recipe(name, "paper") for name in names}
    note = "MoCo's numbers: means of five. The paper's own are in its main text, which none of our sources holds."
    protocols = {"voc0712": PROTOCOLS["voc0712"], "voc07": PROTOCOLS["voc07"]}
    return detection_table(rows, results, recipes, protocols, method_name, (note,))


def best_on_test(setting):
    """{seed: percent}: the largest kNN accuracy of all epochs that were looked at, where they were."""
    return next((found for m, found in setting.scores.items() if m.metric == "best_on_test_top1"), {})


def column_of(ablation, row):
    """What a printed number's column is called."""
    if ablation is A3:
        return f"{method_name(row['pretext'])}, {row['metric'].replace('top', 'top-')}"
    return f"{dataset_name(row['dataset'])}, {'kNN' if row['probe'] == 'knn' else 'linear'}"


def cell_of(setting, row):
    """Our number of the same probe and metric."""
    measure = {m.probe: m for m in (KNN, CROPS)}[row["probe"]]
    return setting.cell(Measure(measure.probe, measure.endpoint, row["metric"]))


def ours(settings, recipe, dataset, changed, epochs=None):
    """The Setting of a recipe at its published scale but for some options, or None.

    ``changed`` {"cld.weight": 0.0} is the recipe without the term, whose other options mean nothing then.
    """
    preset = PRESETS.get(dataset, dataset)
    mine = [s for s in settings if s.dataset == dataset]
    if not mine or f"{recipe}/{preset}" not in RECIPES:
        return None
    return of_scale(mine, published_recipe(recipe, preset), changed, epochs=epochs, plain=plain)
