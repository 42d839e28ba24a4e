"""Runs of OBoW and of what it is compared with: what they are called, side by side, and their vocabularies."""

from revisit_ssl.papers.methods import METHODS as TITLES
from revisit_ssl.report import names, settings
from revisit_ssl.report.ablations import Ablation
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.settings import Measure, choose, is_clear, points, text_of, unique
from revisit_ssl.report.tables import bold

# What the paper's Table 1 compares, in its order, and BoWNet.
FULL, VANILLA, MOCO, MULTICROP, BOWNET = (
    "OBoW (full)", "OBoW (vanilla)", "MoCo v2", "MoCo v2 (OBoW's views)", "BoWNet",
)
METHODS = {  # by the recipe's name
    "obow_vanilla": VANILLA, "obow": FULL, "moco_v2_plain": MOCO, "moco_v2": MOCO, "moco_v2_multicrop": MULTICROP,
    "bownet": BOWNET,
}
LEVELS = {"block3": "conv4", "block4": "conv5"}  # the paper's names; BoWNet's columns name no level

ONE, FIVE = (Measure("few_shot", "pre_logits", f"few_shot_5way_{n}shot", f"5-way {n}-shot") for n in (1, 5))
ONE_50, FIVE_50 = (Measure("few_shot", "pre_logits", f"few_shot_50way_{n}shot", f"50-way {n}-shot") for n in (1, 5))
LINEAR = Measure("linear", "pre_logits", "top1", "linear")
KNN = Measure("knn", "pre_logits", "top1", "kNN")
MEASURES = (ONE, FIVE, ONE_50, FIVE_50, LINEAR, KNN)
TABLE_1 = (ONE, FIVE, ONE_50, FIVE_50, LINEAR)  # what the paper's Table 1 measures

VOCABULARIES = {
    "queue": "queue",
    "kmeans": "online k-means",
    "kmeans_replace": "k-means, rare words replaced",
    "kmeans_sinkhorn": "k-means, balanced assignments",
}
# The supplement's section D. What only some vocabularies have may differ too. Those by k-means start with features:
# from noise they would begin with few words in use, whatever happens later.
SECTION_D = Ablation(
    table="section D", title="vocabularies", varies={"vocabulary": "vocabulary"},
    values=tuple((kind,) for kind in VOCABULARIES if kind != "queue"), recipes=("obow_vanilla",),
    sweep="obow-vocabulary", without={"obow_vanilla": {}}, fixed={"start": "features"}, texts=VOCABULARIES,
    ignored=("start", "rare_after", "sinkhorn_iterations"),
    mine=lambda setting: setting.run.pretext == "obow",
)


def settings_of(results):
    """[Setting] of these methods; lines without their options are of no use here and left out."""
    return [s for s in settings.settings_of(r for r in results if r.task) if s.name in METHODS]


def method_name(name):
    """OBoW (vanilla) of obow_vanilla"""
    return {**TITLES, **METHODS}.get(name, name)


def method_of(setting):
    """OBoW (full) …; a run of the full recipe with one level is neither of the two: OBoW."""
    if setting.name == "obow" and setting.task.get("levels") == 1:
        return "OBoW"
    return METHODS[setting.name]


def vocabulary_of(setting):
    """queue, kmeans …, or None."""
    return setting.task.get("vocabulary")


def plain(settings):
    """Those whose words are the paper's, in a queue; and those without words."""
    return [s for s in settings if vocabulary_of(s) in (None, "queue")]


def name_of(setting):
    """OBoW (vanilla), k-means, rare words replaced"""
    other = vocabulary_of(setting) not in (None, "queue")
    return f"{method_of(setting)}, {VOCABULARIES[vocabulary_of(setting)]}" if other else method_of(setting)


def options_of(setting):
    """2 levels of 2,048 words, 1/δ 10, κ 5, 2 crops, 5 patches"""
    task, parts = setting.task, []
    if "words" in task:
        levels = task.get("levels", 1)
        parts.append(f"{levels} level{'' if levels == 1 else 's'} of {task['words']:,} words")
    if "kappa" in task:
        parts += [f"1/δ {task['inv_delta']:g}" if task["inv_delta"] else "hard assignments", f"κ {task['kappa']:g}"]
    if "teacher" in task:
        parts.append(f"teacher {task['teacher'] or 'a random network'}")
    if "queue_size" in task:
        parts += [f"T {task['temperature']:g}", f"{task['queue_size']:,} keys"]
    for kind, one in (("crops", "crop"), ("patches", "patch")):
        if task.get(kind):
            parts.append(f"{task[kind]} {one if task[kind] == 1 else kind}")
    return ", ".join(parts)


def words_of(setting):
    """{(level, scalar): {seed: Result}} of probe "vocabulary": its last value, and its curve over training."""
    return {(m.endpoint, m.metric): found for m, found in setting.lines.items() if m.probe == "vocabulary"}


def last(setting, level, scalar):
    """{seed: number} at the end of training; {} where it was not kept."""
    return setting.scores.get(Measure("vocabulary", level, scalar), {})


def methods_of(settings):
    """{method: Setting} of one ground, with words in a queue."""
    found = plain(settings)
    methods = names.order(map(method_of, found), METHODS.values())
    return {method: choose([s for s in found if method_of(s) == method]) for method in methods}


def methods_table(settings):
    """Rows: of each method the untrained network, the trained one, the gain; columns: the measures."""
    chosen = methods_of(settings)
    measures = [m for m in MEASURES if any(m in s.scores for s in chosen.values())]
    rows, told = [], []
    for method, s in chosen.items():
        rows.append([method, "untrained", *(text_of(s.untrained.get(m)) for m in measures)])
        clear = [is_clear(s.untrained.get(m), s.scores.get(m)) for m in measures]
        cells = [bold(s.cell(m), yes) for m, yes in zip(measures, clear, strict=True)]
        rows.append([method, "trained", *cells])
        rows.append([method, "gain", *(gain(s, m) for m in measures)])
        told.append(names.sentence(method, options_of(s), s.length))
    others = [s for s in plain(settings) if s not in chosen.values()]
    notes = [f"Not shown: {' '.join(names.sentence(name_of(s), options_of(s), s.length) for s in others)}"]
    notes = notes if others else []
    head = (
        "In percent on pre_logits: mean ± sample standard deviation (seeds). 5-way 1-shot: few-shot episodes of five "
        "classes with one image each, the same for all methods. Untrained: the same network, the better of as "
        "initialised and with BatchNorm statistics re-estimated. Bold: larger than untrained by at least two standard "
        "deviations of the difference, which one seed cannot show."
    )
    return Table(["method", "", *(m.title for m in measures)], rows, labels=2, notes=(head, " ".join(told), *notes))


def gain(setting, measure):
    """+8.3: points between the means of trained and untrained, empty where one is missing."""
    found = above(setting, measure)
    return "" if found is None else f"{found:+.1f}"


def above(setting, measure):
    """Trained less untrained, of the means over the seeds; None where one is missing."""
    return points(setting.untrained.get(measure), setting.scores.get(measure))


def vocabulary_table(series):
    """Rows: the vocabularies; columns: what of the words is in use at the end of training, and the measures."""
    found = series.settings
    levels = unique(level for s in found.values() for level, _ in words_of(s))
    measures = [m for m in MEASURES if any(m in s.scores for s in found.values())]
    rows = []
    for point, s in found.items():
        usage = [part for e in levels for part in (in_use(s, e), text_of(last(s, e, "perplexity")))]
        rows.append([*SECTION_D.text(point), *usage, *map(s.cell, measures)])
    columns = [
        part
        for level in levels
        for part in (f"{level_name(level)}: words in use, % of K", f"{level_name(level)}: words of an image")
    ]
    note = (
        f"{method_of(series.first)}, {options_of(series.first)}; {series.first.length}. Words in use: the perplexity "
        "of how often each word is the nearest of a cell of the batch, at the end of training and in percent of the K "
        "words; 100 would be all words alike. It is not taken of the bags, which assignments in equal shares balance "
        "whatever the words are. Words of an image: the perplexity of an image's own bag, mean. Means ± sample "
        "standard deviation (seeds)."
    )
    return Table(["vocabulary", *columns, *(m.title for m in measures)], rows, notes=(note,))


def usage_of(setting, level):
    """{seed: percent}: perplexity of the words nearest to a batch's cells at the end of training, of the K words."""
    return {seed: 100 * v / setting.task["words"] for seed, v in last(setting, level, "usage_perplexity").items()}


def in_use(setting, level):
    """``usage_of`` as a cell of a table."""
    return text_of(usage_of(setting, level))


def level_name(level):
    """conv5"""
    return LEVELS.get(level, level or "words")
