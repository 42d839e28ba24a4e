"""Runs of OBoW and of what it is compared with: which belong together, side by side, and their vocabularies."""

import functools
import json
import statistics
from dataclasses import dataclass, field

from revisit_ssl.report import names
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.cld import Ground, Measure, data_name, ground_of, is_clear, text_of
from revisit_ssl.report.tables import RANDOM, bold, unique

__all__ = ["Ground", "data_name", "ground_of", "text_of"]  # which the modules beside this one take from here

PRETEXTS = ("obow", "bownet", "moco", "moco_v2_multicrop")
# What the paper's Table 1 compares, in its order, and BoWNet.
FULL, VANILLA, MOCO, MULTICROP, BOWNET = (
    "OBoW (full)", "OBoW (vanilla)", "MoCo v2", "MoCo v2 (OBoW's views)", "BoWNet",
)  # fmt: skip
METHODS = (VANILLA, FULL, MOCO, MULTICROP, BOWNET)
VOCABULARIES = {
    "queue": "queue",
    "kmeans": "online k-means",
    "kmeans_replace": "k-means, rare words replaced",
    "kmeans_sinkhorn": "k-means, balanced assignments",
}
LEVELS = {"block3": "conv4", "block4": "conv5"}  # the paper's names; BoWNet's columns name no level

ONE, FIVE = (Measure("few_shot", "pre_logits", f"few_shot_5way_{n}shot", f"5-way {n}-shot") for n in (1, 5))
ONE_50, FIVE_50 = (Measure("few_shot", "pre_logits", f"few_shot_50way_{n}shot", f"50-way {n}-shot") for n in (1, 5))
LINEAR = Measure("linear", "pre_logits", "top1", "linear")
KNN = Measure("knn", "pre_logits", "top1", "kNN")
MEASURES = (ONE, FIVE, ONE_50, FIVE_50, LINEAR, KNN)
TABLE_1 = (ONE, FIVE, ONE_50, FIVE_50, LINEAR)  # what the paper's Table 1 measures


@dataclass(frozen=True, eq=False)
class Setting:
    """All seeds of one recipe, probed in one way.

    Attributes:
        run: one of its Results.
        ground: what it has to share with others to stand in one table.
        scores: {Measure: {seed: percent}} of the trained networks.
        untrained: the same of the better of the two untrained networks.
        words: {(level, scalar): {seed: Result}} of probe "vocabulary": its last value, and its curve over training.
    """

    run: object
    ground: Ground
    scores: dict = field(default_factory=dict)
    untrained: dict = field(default_factory=dict)
    words: dict = field(default_factory=dict)

    @property
    def task(self):
        return self.run.task

    @functools.cached_property
    def method(self):
        """OBoW (full) …; what is neither of the two is OBoW."""
        if self.run.pretext == "obow":
            shape = tuple(self.task[name] for name in ("levels", "crops", "patches"))
            return {(1, 1, 0): VANILLA, (2, 2, 5): FULL}.get(shape, "OBoW")
        return {"moco": MOCO, "moco_v2_multicrop": MULTICROP, "bownet": BOWNET}[self.run.pretext]

    @property
    def vocabulary(self):
        """queue, kmeans …, or None."""
        return self.task.get("vocabulary")

    @property
    def name(self):
        """OBoW (vanilla), k-means, rare words replaced"""
        other = self.vocabulary not in (None, "queue")
        return f"{self.method}, {VOCABULARIES[self.vocabulary]}" if other else self.method

    @property
    def seeds(self):
        return max((len(seeds) for seeds in self.scores.values()), default=0)

    @functools.cached_property
    def options(self):
        """2 levels of 2,048 words, 1/δ 10, κ 5, 2 crops, 5 patches"""
        task, parts = self.task, []
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

    @property
    def length(self):
        """200 epochs in batches of 256"""
        t = self.run.training
        long = (
            f"{t['epochs']:g} epochs" if t.get("max_steps") is None and "epochs" in t else f"{self.run.steps:,} steps"
        )
        return f"{long} in batches of {t['batch_size']}" if t.get("batch_size") else long

    def score(self, measure):
        """Mean over the seeds, or None."""
        found = self.scores.get(measure)
        return statistics.fmean(found.values()) if found else None

    def cell(self, measure):
        """47.1 ± 0.3 (3)"""
        return text_of(self.scores.get(measure))

    def last(self, level, scalar):
        """{seed: number} at the end of training; {} where it was not kept."""
        return {seed: r.value for seed, r in self.words.get((level, scalar), {}).items()}


def settings_of(results):
    """[Setting] of these methods among the results, in order of appearance.

    Of MoCo only v2 without CLD's term; lines without their options are of no use here and left out.
    """
    found, untrained, words = {}, {}, {}
    for r in results:
        mine = r.weights == "pretrained" and r.pretext in PRETEXTS and bool(r.task) and is_ours(r)
        if not r.task or not (mine or r.weights in RANDOM):
            continue
        if r.probe == "vocabulary":
            words.setdefault(r.setting, {}).setdefault((r.endpoint, r.metric), {})[r.seed] = r
            continue
        place = r.probe, r.endpoint, r.metric
        measure = next((m for m in MEASURES if (m.probe, m.endpoint, m.metric) == place), None)
        if measure is None:
            continue
        shared = (r.setting, r.probe_dataset, r.labels, r.split)
        if not mine:
            untrained.setdefault(shared, {}).setdefault(measure, {}).setdefault(r.weights, {})[r.seed] = r.value
            continue
        setting = found.setdefault((*shared, r.steps), Setting(r, ground_of(r)))
        setting.scores.setdefault(measure, {})[r.seed] = r.value
    for key, setting in found.items():
        setting.words.update(words.get(setting.run.setting, {}))
        for measure, kinds in untrained.get(key[:-1], {}).items():
            setting.untrained[measure] = max(kinds.values(), key=lambda seeds: statistics.fmean(seeds.values()))
    return list(found.values())


def is_ours(r):
    """MoCo with an MLP head and without CLD is v2."""
    mlp = r.task.get("head") == "mlp" and not r.task.get("cld", {}).get("weight")
    return r.pretext != "moco" or mlp


def methods_of(settings):
    """{method: Setting} of one ground: with a queue; of several that with most seeds, then steps: none are averaged."""
    plain = [s for s in settings if s.vocabulary in (None, "queue")]
    found = {}
    for method in names.order((s.method for s in plain), METHODS):
        mine = [s for s in plain if s.method == method]
        found[method] = max(mine, key=lambda s: (s.seeds, s.run.steps or 0))
    return found


def vocabularies_of(settings):
    """[{vocabulary: Setting}] of one ground: runs of OBoW that differ in the vocabulary alone, the largest group first.

    What only some vocabularies have (``start``, ``rare_after``, ``sinkhorn_iterations``) may differ too.
    """
    own = ("vocabulary", "start", "rare_after", "sinkhorn_iterations")
    groups = {}
    for s in settings:
        if s.run.pretext == "obow":
            rest = {name: value for name, value in s.task.items() if name not in own}
            group = groups.setdefault(json.dumps([rest, s.run.training], sort_keys=True), {})
            if s.vocabulary not in group or group[s.vocabulary].seeds < s.seeds:
                group[s.vocabulary] = s
    found = [{v: group[v] for v in VOCABULARIES if v in group} for group in groups.values() if len(group) > 1]
    return sorted(found, key=len, reverse=True)


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
        told.append(f"{method}: {s.options}; {s.length}.")
    others = [s for s in settings if s.vocabulary in (None, "queue") and s not in chosen.values()]
    notes = [f"Not shown: {', '.join(f'{s.name} ({s.options}; {s.length})' for s in others)}."] if others else []
    head = (
        "In percent on pre_logits: mean ± sample standard deviation (seeds). 5-way 1-shot: few-shot episodes of five "
        "classes with one image each, the same for all methods. Untrained: the same network, the better of as "
        "initialised and with BatchNorm statistics re-estimated. Bold: larger than untrained by at least two standard "
        "deviations of the difference, which one seed cannot show."
    )
    return Table(["method", "", *(m.title for m in measures)], rows, labels=2, notes=(head, " ".join(told), *notes))


def gain(setting, measure):
    """+8.3: points between the means of trained and untrained, empty where one is missing."""
    both = measure in setting.untrained and measure in setting.scores
    return f"{points(setting, measure):+.1f}" if both else ""


def points(setting, measure):
    """Trained less untrained, of the means over the seeds."""
    low, high = setting.untrained[measure], setting.scores[measure]
    return statistics.fmean(high.values()) - statistics.fmean(low.values())


def vocabulary_table(group):
    """Rows: the vocabularies; columns: what of the words is in use at the end of training, and the measures."""
    levels = unique(level for s in group.values() for level, _ in s.words)
    measures = [m for m in MEASURES if any(m in s.scores for s in group.values())]
    rows = []
    for kind, s in group.items():
        usage = [part for level in levels for part in (in_use(s, level), per_image(s, level))]
        rows.append([VOCABULARIES[kind], *usage, *(s.cell(m) for m in measures)])
    first = next(iter(group.values()))
    columns = [
        part
        for level in levels
        for part in (f"{level_name(level)}: words in use, % of K", f"{level_name(level)}: words of an image")
    ]
    note = (
        f"{first.method}, {first.options}; {first.length}. Words in use: the perplexity of how often each word is the "
        "nearest of a cell of the batch, at the end of training and in percent of the K words; 100 would be all words "
        "alike. It is not taken of the bags, which assignments in equal shares balance whatever the words are. Words "
        "of an image: the perplexity of an image's own bag, mean. Means ± sample standard deviation (seeds)."
    )
    return Table(["vocabulary", *columns, *(m.title for m in measures)], rows, notes=(note,))


def usage_of(setting, level):
    """{seed: percent}: perplexity of the words nearest to a batch's cells at the end of training, of the K words."""
    return {seed: 100 * v / setting.task["words"] for seed, v in setting.last(level, "usage_perplexity").items()}


def in_use(setting, level):
    return text_of(usage_of(setting, level))


def per_image(setting, level):
    return text_of(setting.last(level, "perplexity"))


def level_name(level):
    """conv5"""
    return LEVELS.get(level, level or "words")
