"""The CLD paper's tables; a number of ours stands beside one of its own only where it is of the same scale."""

import dataclasses

from revisit_ssl.papers import RECIPES, get_recipe
from revisit_ssl.papers.published import load_published
from revisit_ssl.report import names
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.cld import CROPS, HEADS, KNN, LAYOUTS, METHODS, crops_of, data_name, text_of
from revisit_ssl.report.tables import printed, unique

PRESETS = {"imagenet2012": "paper"}  # the preset of a data set's published scale; of the others it has the set's name
CIFAR, IMAGENET = "README, CIFAR", "README, ImageNet"
SCALE = (
    "Ours stands here only if it is of the published scale: the same network, data, batch, epochs and options. Runs of "
    "another scale are in the tables above."
)


def cld_paper_tables(settings):
    """Every table of the paper whose numbers are known, ours in columns of their own.

    Args:
        settings: [Setting]; may be empty.

    Returns:
        [(title, Table)].
    """
    rows = [r for r in load_published("cld") if r["paper"] == "cld"]
    tables = [("CIFAR, kNN on the projection, ResNet18 (README of the released code)", cifar_table(rows, settings))]
    for layout in LAYOUTS:
        mine = [r for r in rows if r["table"] == f"Table {layout.table}"]
        tables.append((f"Table {layout.table}: {layout.title}", supplement_table(layout, mine, settings)))
    title = "ImageNet, SGD linear on crops, ResNet50 (README of the released code)"
    return [*tables, (title, imagenet_table(rows, settings))]


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
            cells += [setting.cell(KNN), text_of(setting.best_on_test)] if setting else ["", ""]
        return [*labels, *cells]

    lines = [
        line([recipe_name(recipe), HEADS[head]], found, recipe, {"head": head})
        for (recipe, head), found in theirs.items()
    ]
    controls = [line([f"{recipe_name(r)}, λ 0", ""], {}, r, {"cld.weight": 0.0}) for r in ("npid_cld", "moco_cld")]
    lines += [control for control in controls if any(control[2:])]
    columns = ["method", "head", *["paper", "reproduced", "ours", "ours, best on test"] * len(datasets)]
    note = (
        "Top-1 in percent, 200 epochs. Reproduced: by the authors, mean of three runs; their README does not say if it "
        "is the last epoch or the best on the test set. Ours: the last epoch. Best on test selects on the test split "
        "and is shown for that comparison only."
    )
    heads = (("", 2), *((data_name(d), 4) for d in datasets))
    return Table(columns, lines, labels=2, heads=heads, notes=(note, SCALE))


def supplement_table(layout, rows, settings):
    """Rows: the ablation's points; columns: data sets, methods or metrics."""
    theirs, mine = {}, {}
    for r in rows:
        known = options_of(r)
        changed = {name: known[name] for name in layout.varied if name in known}
        texts = layout.texts(tuple(changed.values())) if changed else layout.control
        column = column_of(layout, r)
        theirs[texts, column] = r
        setting = ours(settings, r["pretext"], r["dataset"], changed)
        if setting:
            mine[texts, column] = cell_of(setting, r)
        control = not changed and ours(settings, f"{r['pretext']}_cld", r["dataset"], {"cld.weight": 0.0})
        if control:
            mine[("same script, λ 0", *texts[1:]), column] = cell_of(control, r)
    columns = unique(column for _, column in theirs)
    lines = []
    for texts in unique(texts for texts, _ in [*theirs, *mine]):
        cells = [cell for c in columns for cell in (printed(theirs.get((texts, c))), mine.get((texts, c), ""))]
        lines.append([*texts, *cells])
    heads = (("", len(layout.columns)), *((column, 2) for column in columns))
    names_ = [*layout.columns, *["paper", "ours"] * len(columns)]
    return Table(names_, lines, labels=len(layout.columns), heads=heads, notes=("In percent. " + SCALE,))


def imagenet_table(rows, settings):
    """Rows: method, head and epochs."""
    lines = []
    for r in rows:
        if r["table"] == IMAGENET:
            known = options_of(r)
            setting = ours(settings, r["pretext"], r["dataset"], {"head": known["head"]}, epochs=known["epochs"])
            lines.append(
                [recipe_name(r["pretext"]), HEADS[known["head"]], f"{known['epochs']:g}", printed(r),
                 cell_of(setting, r) if setting else ""]
            )  # fmt: skip
    return Table(["method", "head", "epochs", "paper", "ours"], lines, labels=2, notes=("Top-1 in percent. " + SCALE,))


def context_table():
    """Numbers by others that the paper's are read beside."""
    lines = []
    for r in load_published("cld"):
        if r["paper"] != "cld":
            share = "" if r["labels"] == 1 else f", {names.share(r['labels'])} of the labels"
            data = f"{data_name(r['dataset'])}{share}"
            measured = f"{names.probe_name(r['probe'])}, {r['endpoint']}, {r['metric']}"
            setting = ", ".join(part.replace("=", " ").replace("_", " ") for part in r["setting"].split())
            lines.append([r["paper"], recipe_name(r["pretext"]), data, measured, setting, f"{r['value']}", r["note"]])
    columns = ["source", "method", "data", "measured", "setting", "value", ""]
    note = "Numbers of other authors, as they print them; nothing here is ours."
    return Table(columns, lines, labels=5, notes=(note,))


def column_of(layout, row):
    """What a printed number's column is called."""
    if layout.table == "A.3":
        return f"{recipe_name(row['pretext'])}, {row['metric'].replace('top', 'top-')}"
    return f"{data_name(row['dataset'])}, {'kNN' if row['probe'] == 'knn' else 'linear'}"


def cell_of(setting, row):
    """Our number of the same probe and metric."""
    measure = {m.probe: m for m in (KNN, CROPS)}[row["probe"]]
    if row["metric"] == measure.metric:
        return setting.cell(measure)
    return text_of(setting.others.get((measure.probe, measure.endpoint, row["metric"])))


def options_of(row):
    """{option: value} of a printed number's setting: "cld.groups=10 cld.cross=no"."""
    found = dict(part.split("=") for part in row["setting"].split())
    return {name: read(value) for name, value in found.items()}


def read(text):
    """10, 0.25, True of "yes", or the text."""
    if text in ("yes", "no"):
        return text == "yes"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def recipe_name(recipe):
    """MoCo v2 + CLD of moco_v2_cld"""
    base = recipe.removesuffix("_cld")
    text = {name.lower().replace(" ", "_"): name for name in METHODS}.get(base, names.pretext_name(base))
    return text + (" + CLD" if recipe.endswith("_cld") else "")


# --- scale


def ours(settings, recipe, dataset, changed, epochs=None):
    """The Setting of a recipe at its published scale but for some options, or None: of several that with most seeds."""
    preset = PRESETS.get(dataset, dataset)
    mine = [s for s in settings if s.run.dataset == dataset]
    if not mine or f"{recipe}/{preset}" not in RECIPES:
        return None
    wanted = get_recipe(recipe, preset)
    found = [s for s in mine if at_scale(s, wanted, changed, epochs)]
    return max(found, key=lambda s: s.seeds, default=None)


def at_scale(setting, recipe, changed, epochs=None):
    """Whether a run has a recipe's network, data, length and options but for ``changed``.

    Args:
        setting: Setting.
        recipe: Recipe of the published scale.
        changed: {option: value} that the run has instead, such as {"cld.groups": 10}; {"cld.weight": 0.0} is the
            recipe without the term, whose other options mean nothing then.
        epochs: of the published number, where it is not the recipe's.
    """
    r, t = setting.run, setting.run.training
    same = (r.pretext, r.backbone, r.width, r.dataset, t.get("split"), t.get("batch_size")) == (
        recipe.pretext, recipe.backbone, recipe.width, recipe.dataset, recipe.split, recipe.batch_size,
    )  # fmt: skip
    whole = t.get("fraction") is None and t.get("max_steps") is None and t.get("epochs") == (epochs or recipe.epochs)
    if not (same and whole):
        return False
    wanted = dataclasses.asdict(recipe.task)
    crops = crops_of(dataclasses.replace(setting, run=dataclasses.replace(r, task=wanted)))
    for name, value in changed.items():
        *path, last = name.split(".")
        place = wanted[path[0]] if path else wanted
        place[last] = value
    mine = setting.task | {"crops": crops_of(setting)}
    wanted |= {"crops": crops}
    if not wanted.get("cld", {}).get("weight"):
        mine, wanted = ({k: v for k, v in d.items() if k != "cld"} for d in (mine, wanted))
        return mine == wanted and not setting.weight
    return mine == wanted
