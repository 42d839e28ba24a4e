"""Runs of the instance methods, each with and without CLD: which belong together, side by side, as ablations."""

import functools
import json
import math
import statistics
from dataclasses import dataclass, field

from revisit_ssl.report import names
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.cells import counted
from revisit_ssl.report.tables import RANDOM, bold, unique

PRETEXTS = ("npid", "moco", "simclr", "byol", "infomin")
METHODS = ("NPID", "MoCo", "MoCo v2", "SimCLR", "BYOL", "InfoMin")
DATASETS = {
    "cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "cifar10_lt": "CIFAR-10-LT", "cifar100_lt": "CIFAR-100-LT",
    "stl10": "STL-10", "stl10_all": "STL-10 with its unlabelled images", "kitchen_hc": "Kitchen-HC",
    "imagenet100": "ImageNet-100", "imagenet2012": "ImageNet", "toy_scenes": "toy scenes", "voc": "VOC",
}  # fmt: skip
CLUSTERINGS = {"spectral": "spectral", "kmeans": "k-means", "spherical": "spherical k-means"}
HEADS = {"linear": "Linear", "normlinear": "NormLinear", "mlp": "MLP", "normmlp": "NormMLP"}


@dataclass(frozen=True)
class Measure:
    """A number of the features: probe, endpoint and metric of its Results, and what a column is called."""

    probe: str
    endpoint: str
    metric: str
    title: str


# What the paper reads at the projection (its f_I), then the layer before the heads, as everywhere in this repository.
KNN = Measure("knn", "projection", "top1", "kNN, projection")
NMI = Measure("nmi", "projection", "nmi", "NMI, projection")
RETRIEVAL = Measure("retrieval", "projection", "recall1", "R@1, projection")
LINEAR = Measure("linear", "pre_logits", "top1", "linear, pre_logits")
KNN_BEFORE = Measure("knn", "pre_logits", "top1", "kNN, pre_logits")
CROPS = Measure("linear_images", "pre_logits", "top1", "SGD linear on crops, pre_logits")
NMI_BEFORE = Measure("nmi", "pre_logits", "nmi", "NMI, pre_logits")
RETRIEVAL_BEFORE = Measure("retrieval", "pre_logits", "recall1", "R@1, pre_logits")
MEASURES = (KNN, KNN_BEFORE, LINEAR, CROPS, NMI, NMI_BEFORE, RETRIEVAL, RETRIEVAL_BEFORE)


@dataclass(frozen=True)
class Ground:
    """What runs have to share to stand in one table: data of training and of the probes, and the network."""

    dataset: str
    split: str
    fraction: float | None
    probe_dataset: str
    labels: float
    probe_split: str
    backbone: str
    width: int

    @property
    def text(self):
        """CIFAR-10 (20 % of train), ResNet18 1x; probes: 10 % of the labels, val split"""
        share = "" if self.fraction is None else f"{100 * self.fraction:.3g} % of "
        data = f"{data_name(self.dataset)} ({share}{self.split})"
        data += "" if self.probe_dataset == self.dataset else f" → {data_name(self.probe_dataset)}"
        parts = [f"{names.share(self.labels)} of the labels"] if self.labels != 1 else []
        parts += [f"{self.probe_split} split"] if self.probe_split != "test" else []
        probes = f"; probes: {', '.join(parts)}" if parts else ""
        return f"{data}, {names.network_name(self.backbone, self.width)}{probes}"


@dataclass(frozen=True, eq=False)
class Setting:
    """All seeds of one recipe, probed in one way.

    Attributes:
        run: one of its Results.
        scores: {Measure: {seed: number}} of the trained networks.
        untrained: the same of the better of the two untrained networks; a Measure that was not taken is missing.
        best_on_test: {seed: percent}, the largest kNN accuracy of all epochs that were looked at, where they were.
        others: Results of the trained networks that are no Measure: {(probe, endpoint, metric): {seed: number}}.
    """

    run: object
    ground: Ground
    scores: dict = field(default_factory=dict)
    untrained: dict = field(default_factory=dict)
    best_on_test: dict = field(default_factory=dict)
    others: dict = field(default_factory=dict)

    @property
    def task(self):
        return self.run.task

    @property
    def cld(self):
        return self.task.get("cld", {})

    @property
    def weight(self):
        return self.cld.get("weight", 0.0)

    @property
    def method(self):
        """NPID … InfoMin: MoCo with an MLP head is v2."""
        if self.run.pretext == "moco" and self.task.get("head") in ("mlp", "normmlp"):
            return "MoCo v2"
        return names.pretext_name(self.run.pretext)

    @property
    def name(self):
        return f"{self.method} + CLD" if self.weight else self.method

    @property
    def seeds(self):
        return max((len(seeds) for seeds in self.scores.values()), default=0)

    @functools.cached_property
    def options(self):
        """λ 1, 128 groups (k-means), T 0.1 and 0.2, Linear: what tells its runs from others of the method."""
        task, cld = self.task, self.cld
        parts = []
        if self.weight:
            parts += [f"λ {self.weight:g}", f"{cld['groups']} groups ({CLUSTERINGS[cld['clustering']]})"]
            parts += ["shared head"] if cld["branch"] == "shared" else []
            parts += [] if cld["cross"] else ["no cross-augmentation"]
            parts += ["centroids held"] if cld["stop_gradient"] else []
            parts += [f"{cld['chunks']} chunks"] if cld["chunks"] > 1 else []
        if "temperature" in task:
            parts.append(f"T {task['temperature']:g}" + (f" and {cld['temperature']:g}" if self.weight else ""))
        parts += [f"queue {task['queue_size']:,}"] if "queue_size" in task else []
        parts += [HEADS.get(task["head"], task["head"])] if "head" in task else []
        parts += [f"{crops} crop{'' if crops == 1 else 's'}"] if (crops := crops_of(self)) else []
        parts += [f"{task['bank_semantics']} bank"] if "bank_semantics" in task else []
        return ", ".join(parts)

    @property
    def length(self):
        """200 epochs in batches of 256"""
        t = self.run.training
        epochs = "" if t.get("epochs") is None else f"{t['epochs']:g} epochs"
        if t.get("max_steps") is not None:
            epochs = f"{self.run.steps:,} steps"
        return f"{epochs} in batches of {t['batch_size']}" if t.get("batch_size") else epochs

    def score(self, measure):
        """Mean over the seeds, or None."""
        found = self.scores.get(measure)
        return statistics.fmean(found.values()) if found else None

    def cell(self, measure):
        """47.1 ± 0.3 (3)"""
        return text_of(self.scores.get(measure))


def settings_of(results):
    """[Setting] of the instance methods among the results, in order of appearance; lines without their options are
    of no use here and left out."""
    found, untrained, best = {}, {}, {}
    for r in results:
        mine = r.pretext in PRETEXTS and r.weights == "pretrained"
        if not r.task or r.probe == "pretext" or not (mine or r.weights in RANDOM):
            continue
        if r.probe == "knn_monitor":
            if r.metric == "best_on_test_top1":
                best.setdefault(r.setting, {})[r.seed] = r.value
            continue
        place = r.probe, r.endpoint, r.metric
        measure = next((m for m in MEASURES if (m.probe, m.endpoint, m.metric) == place), None)
        shared = (r.setting, r.probe_dataset, r.labels, r.split)
        if not mine:
            if measure:
                untrained.setdefault(shared, {}).setdefault(measure, {}).setdefault(r.weights, {})[r.seed] = r.value
            continue
        if (*shared, r.steps) not in found:
            found[*shared, r.steps] = Setting(r, ground_of(r))
        setting = found[*shared, r.steps]
        scores = setting.others.setdefault((r.probe, r.endpoint, r.metric), {}) if measure is None else (
            setting.scores.setdefault(measure, {})
        )  # fmt: skip
        scores[r.seed] = r.value
    for key, setting in found.items():
        setting.best_on_test.update(best.get(setting.run.setting, {}))
        for measure, kinds in untrained.get(key[:-1], {}).items():
            setting.untrained[measure] = max(kinds.values(), key=lambda seeds: statistics.fmean(seeds.values()))
    return list(found.values())


def ground_of(r):
    t = r.training
    data = r.dataset, t.get("split", "train"), t.get("fraction"), r.probe_dataset, r.labels, r.split
    return Ground(*data, r.backbone, r.width)


def text_of(seeds):
    """47.1 ± 0.3 (3) of {seed: number}; empty for none."""
    return counted(tuple((seeds or {}).values()))


def data_name(name):
    return DATASETS.get(name, names.dataset_name(name))


# --- with and without


@dataclass(frozen=True)
class Pair:
    """A method without and with CLD; either may not have been run. ``others`` were run too and are not shown."""

    method: str
    without: Setting | None
    with_: Setting | None
    others: int = 0


def pairs_of(settings):
    """[Pair] of one ground, in the paper's order.

    Of several settings the two that differ in nothing but the term come first, then those with most seeds, then those
    with most steps: two settings are never averaged.
    """
    found = []
    for method in names.order((s.method for s in settings), METHODS):
        mine = [s for s in settings if s.method == method]
        without, with_ = ([s for s in mine if bool(s.weight) == yes] for yes in (False, True))
        pairs = [(a, b) for a in without or [None] for b in with_ or [None]]
        one, two = max(pairs, key=pair_rank)
        found.append(Pair(method, one, two, len(mine) - (one is not None) - (two is not None)))
    return found


def pair_rank(pair):
    both = None not in pair
    there = [s for s in pair if s is not None]
    return both and not changes(*pair), min(s.seeds for s in there), min(s.run.steps or 0 for s in there)


def changes(without, with_):
    """{option: (without, with)}: what differs between two settings beside the term itself."""
    a, b = (
        {name: value for name, value in (s.task | s.run.training).items() if name != "cld"} | {"crops": crops_of(s)}
        for s in (without, with_)
    )
    return {name: (a.get(name), b.get(name)) for name in unique([*a, *b]) if a.get(name) != b.get(name)}


def crops_of(setting):
    """How many crops of an image the method sees; None where its options do not say."""
    task = setting.task
    if "crops" not in task or task["crops"]:
        return task.get("crops")
    plain = 1 if setting.run.pretext == "npid" else 2
    # Where the recipe leaves it open CLD has one more: a second view, or (MoCo) a second query beside the key.
    return plain + (bool(setting.weight) and not task.get("symmetric"))


def methods_table(settings):
    """Rows: of each method the untrained network, without, with, and the gain of CLD; columns: the measures."""
    pairs = pairs_of(settings)
    shown = [s for p in pairs for s in (p.without, p.with_) if s]
    measures = [m for m in MEASURES if any(m in s.scores for s in shown)]
    rows, options, notes = [], [], []
    for pair in pairs:
        for text, setting in (("without CLD", pair.without), ("with CLD", pair.with_)):
            if setting is None:
                continue
            if not rows or rows[-1][0] != pair.method:
                rows.append([pair.method, "untrained", *(text_of(setting.untrained.get(m)) for m in measures)])
            cells = [bold(setting.cell(m), is_clear(setting.untrained.get(m), setting.scores.get(m))) for m in measures]
            rows.append([pair.method, text, *cells])
            options.append(f"{setting.name}: {setting.options}; {setting.length}.")
        if pair.without and pair.with_:
            rows.append([pair.method, "gain of CLD", *(gain(pair.without, pair.with_, m) for m in measures)])
            other = changes(pair.without, pair.with_)
            if other:
                told = ", ".join(f"{name.replace('_', ' ')} {a} and {b}" for name, (a, b) in other.items())
                notes.append(f"**{pair.method} with and without CLD differ in more than the term:** {told}.")
        if pair.others:
            notes.append(f"{pair.method}: {pair.others} other settings were run and are not in this table.")
    head = (
        "In percent: mean ± sample standard deviation (seeds). Untrained: the same network and head, the better of as "
        "initialised and with BatchNorm statistics re-estimated. Bold: larger (than untrained; than without CLD) by at "
        "least two standard deviations of the difference, which one seed cannot show. The gain is paired by seed."
    )
    return Table(["method", "", *(m.title for m in measures)], rows, labels=2, notes=(head, " ".join(options), *notes))


def gain(without, with_, measure):
    """+1.9 ± 0.4 (3), paired by seed where both were run; bold where it is clear."""
    one, two = without.scores.get(measure), with_.scores.get(measure)
    if not (one and two):
        return ""
    both = [two[seed] - one[seed] for seed in one if seed in two]
    if not both:
        return f"{statistics.fmean(two.values()) - statistics.fmean(one.values()):+.1f}"
    deviation = f" ± {statistics.stdev(both):.1f}" if len(both) > 1 else ""
    return bold(f"{statistics.fmean(both):+.1f}{deviation} ({len(both)})", is_clear(one, two))


def is_clear(low, high):
    """Whether the means of {seed: number} differ by two standard deviations of the difference; needs two of each."""
    if not (low and high) or min(len(low), len(high)) < 2:
        return False
    low, high = tuple(low.values()), tuple(high.values())
    between = statistics.fmean(high) - statistics.fmean(low)
    return between >= 2 * math.hypot(statistics.stdev(low), statistics.stdev(high))


# --- ablations


@dataclass(frozen=True)
class Ablation:
    """Settings that differ in nothing but some options.

    Attributes:
        settings: {values of those options: Setting}.
        control: the same at weight 0, or None.
    """

    settings: dict
    control: Setting | None = None

    @property
    def first(self):
        return next(iter(self.settings.values()))

    @property
    def everything(self):
        return [*([self.control] if self.control else []), *self.settings.values()]


def ablations(settings, varied, *, cld=True):
    """[Ablation]: those of at least two points beside the control, the largest first.

    Args:
        settings: [Setting].
        varied: options that may differ, such as ("cld.groups", "cld.clustering").
        cld: of runs with CLD, or of runs without it, whose CLD options mean nothing.
    """
    groups = {}
    for s in settings:
        if bool(s.weight) == cld:
            groups.setdefault((s.ground, rest(s, varied, cld)), {}).setdefault(point(s, varied), []).append(s)
    controls = [s for s in settings if not s.weight] if cld else []
    found = []
    for points in groups.values():
        best = {p: max(ones, key=lambda s: s.seeds) for p, ones in points.items()}
        first = next(iter(best.values()))
        same = [c for c in controls if (c.ground, c.run.pretext) == (first.ground, first.run.pretext)
                and not set(changes(c, first)) - {v for v in varied if "." not in v}]  # fmt: skip
        control = max(same, key=lambda s: s.seeds, default=None)
        if len(best) > 1:
            found.append(Ablation(best, control))
    return sorted(found, key=lambda a: -len(a.settings))


def point(setting, varied):
    """Values of the options."""
    return tuple(functools.reduce(dict.__getitem__, name.split("."), setting.task) for name in varied)


def rest(setting, varied, cld):
    """All else that the runs of an ablation have to share, as text."""
    task = {name: value for name, value in setting.task.items() if name not in (*varied, "cld")}
    if cld:
        task["cld"] = {name: v for name, v in setting.cld.items() if f"cld.{name}" not in varied}
    return json.dumps([setting.run.pretext, task, setting.run.training], sort_keys=True)


@dataclass(frozen=True)
class Layout:
    """One of the supplement's ablations.

    Attributes:
        table, title: its name and what it is about.
        varied: the options; ``columns`` what they are called.
        sweep: name of the sweep that runs it.
        control: what the run at weight 0 is called in those columns; () leaves it out.
    """

    table: str
    title: str
    varied: tuple
    columns: tuple
    sweep: str
    control: tuple = ()

    def find(self, settings):
        """[Ablation] among the settings."""
        if self.table == "A.4":
            settings = [s for s in settings if s.task.get("temperature") == s.cld.get("temperature")]
        return ablations([s for s in settings if s.cld], self.varied)

    def texts(self, point):
        """What stands in the columns for a point."""
        if self.table == "A.1":
            return CLUSTERINGS[point[0]], str(point[1])
        if self.table == "A.2":
            return point[0], "yes" if point[1] else "no"
        return (f"{point[0]:g}",)


LAYOUTS = (
    Layout(
        "A.1", "clustering and number of groups", ("cld.clustering", "cld.groups"), ("clustering", "groups"), "cld-a1"
    ),
    Layout(
        "A.2", "group branch and cross-augmentation", ("cld.branch", "cld.cross"), ("branch", "cross"), "cld-a2",
        ("none", ""),
    ),
    Layout("A.3", "weight of CLD", ("cld.weight",), ("λ",), "cld-a3", ("0",)),
    Layout("A.4", "temperature, of instances and groups", ("temperature", "cld.temperature"), ("T",), "cld-a4"),
)  # fmt: skip


def ablation_table(layout, ablation):
    """One row a point, one column a measure; the best of each measure in bold."""
    settings = dict(sorted(ablation.settings.items(), key=lambda item: order_of(layout, item[0])))
    rows = [(layout.control, ablation.control)] if layout.control and ablation.control else []
    rows += [(layout.texts(p), s) for p, s in settings.items()]
    measures = [m for m in MEASURES if any(m in s.scores for _, s in rows)]
    best = {m: max(s.score(m) for _, s in rows if m in s.scores) for m in measures}
    lines = [
        [*texts, *(bold(s.cell(m), m in s.scores and round(s.score(m), 1) == round(best[m], 1)) for m in measures)]
        for texts, s in rows
    ]
    first = ablation.first
    note = (
        f"{first.name}, {first.length}. In percent: mean ± sample standard deviation (seeds). Bold: the largest of a "
        f"column. Options of one of the runs, of which the first columns vary: {first.options}."
    )
    if layout.control and ablation.control:
        note += " At weight 0 it is the same script without the term, not the method's own recipe."
    columns = [*layout.columns, *(m.title for m in measures)]
    return Table(columns, lines, labels=len(layout.columns), notes=(note,))


def order_of(layout, point):
    """Rows in the paper's order: clusterings, branches and switches as they are listed, numbers ascending."""
    places = [list(CLUSTERINGS), ["shared", "separate"]]
    return [next((known.index(v) for known in places if v in known), v) for v in point]


def negatives_of(settings):
    """[Ablation] of MoCo without CLD over the size of its queue, the largest first (Figure A.2)."""
    settings = [s for s in settings if s.run.pretext == "moco"]
    return [a for a in ablations(settings, ("queue_size",), cld=False) if len(a.settings) > 2]
