"""Results grouped into settings, all seeds of one recipe probed in one way; and the rules for what stands in a cell."""

import functools
import itertools
import math
import statistics
from dataclasses import dataclass, field

from revisit_ssl.pretext import PRETEXTS, find_options
from revisit_ssl.pretext.options import PatchOptions
from revisit_ssl.report import names
from revisit_ssl.runs.identity import flatten

RANDOM = ("random", "random, BN re-estimated")
OF_TRAINING = ("pretext", "knn_monitor", "vocabulary")  # what a run measures while it trains, not a frozen network


@dataclass(frozen=True)
class Measure:
    """A number of the features: probe (with its schedule where several saw the same data), endpoint and metric of its
    Results, and what a column is called, by which two are not told apart."""

    probe: str
    endpoint: str
    metric: str = "top1"
    title: str = field(default="", compare=False)


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

    @classmethod
    def of(cls, r):
        """The Ground of a Result."""
        t = r.training
        data = r.dataset, t.get("split", "train"), t.get("fraction"), r.probe_dataset, r.labels, r.split
        return cls(*data, r.backbone, r.width)

    @property
    def text(self):
        """CIFAR-10 (20 % of train), ResNet18 1x; probes: 10 % of the labels, val split"""
        share = "" if self.fraction is None else f"{100 * self.fraction:.3g} % of "
        data = f"{names.dataset_name(self.dataset)} ({share}{self.split})"
        data += "" if self.probe_dataset == self.dataset else f" → {names.dataset_name(self.probe_dataset)}"
        parts = [f"{names.share(self.labels)} of the labels"] if self.labels != 1 else []
        parts += [f"{self.probe_split} split"] if self.probe_split != "test" else []
        probes = f"; probes: {', '.join(parts)}" if parts else ""
        return f"{data}, {names.network_name(self.backbone, self.width)}{probes}"


@dataclass(eq=False)
class Setting:
    """All seeds of one recipe, probed in one way; or of an untrained network.

    Attributes:
        run: one of its Results: what all of them say alike.
        view: an untrained network's: the recipe whose images it was shown, "" where that is not known.
        recipe: a hash to tell it from settings that are equal otherwise, or "".
        recipes: {hash}, one a seed.
        lines: {Measure: {seed: Result}}.
        kinds: {weights of RANDOM: the Setting of the network that it started as}, those that were probed.
    """

    run: object
    view: str = ""
    recipe: str = ""
    recipes: set = field(default_factory=set)
    lines: dict = field(default_factory=dict)
    kinds: dict = field(default_factory=dict)

    # What all lines of a setting share.
    backbone = property(lambda self: self.run.backbone)
    width = property(lambda self: self.run.width)
    dataset = property(lambda self: self.run.dataset)
    probe_dataset = property(lambda self: self.run.probe_dataset)
    steps = property(lambda self: self.run.steps)
    labels = property(lambda self: self.run.labels)
    split = property(lambda self: self.run.split)
    setting = property(lambda self: self.run.setting)
    task = property(lambda self: self.run.task)

    @property
    def name(self):
        """Of the recipe, or which of the two untrained networks."""
        return name_of(self.run)

    @property
    def trained(self):
        """False for an untrained network."""
        return self.run.weights not in RANDOM

    @functools.cached_property
    def ground(self):
        """Its ``Ground``."""
        return Ground.of(self.run)

    @functools.cached_property
    def scores(self):
        """{Measure: {seed: number}}"""
        return {m: {seed: r.value for seed, r in found.items()} for m, found in self.lines.items()}

    @functools.cached_property
    def untrained(self):
        """{Measure: {seed: number}} of the better of the two untrained networks, by its mean."""
        found = {}
        for kind in self.kinds.values():
            for m, seeds in kind.scores.items():
                if m not in found or statistics.fmean(seeds.values()) > statistics.fmean(found[m].values()):
                    found[m] = seeds
        return found

    @property
    def seeds(self):
        """How many, at most, a measure has."""
        return max((len(found) for m, found in self.lines.items() if m.probe not in OF_TRAINING), default=0)

    @property
    def network(self):
        """resnet18 k=1"""
        return f"{self.backbone} k={self.width}"

    @property
    def data(self):
        """The data set, or "pretrained on → probed on"."""
        same = self.dataset == self.probe_dataset
        return self.dataset if same else f"{self.dataset} → {self.probe_dataset}"

    @property
    def length(self):
        """200 epochs in batches of 256"""
        t = self.run.training
        long = f"{t['epochs']:g} epochs" if t.get("epochs") is not None and t.get("max_steps") is None else None
        long = long or ("" if self.steps is None else f"{self.steps:,} steps")
        return f"{long} in batches of {t['batch_size']}" if t.get("batch_size") else long

    def score(self, measure):
        """Mean over the seeds, or None."""
        found = self.scores.get(measure)
        return statistics.fmean(found.values()) if found else None

    def cell(self, measure):
        """47.1 ± 0.3 (3); empty where it was not measured."""
        return text_of(self.scores.get(measure))


def name_of(r):
    """What a Result is of: its recipe's name, or which untrained network."""
    return r.weights if r.weights in RANDOM else r.name or r.pretext


def grouped(results):
    """Results as settings, each with its seeds.

    Args:
        results: [Result], of any settings, seeds, probes and endpoints.

    Returns:
        [Setting] of trained and of untrained networks, in order of appearance: lines that agree in ``shared`` and in
        their setting stand in one, ``lines`` by Measure and seed. Its ``recipe`` is "" where nothing but that parts it
        from the others.
    """
    recipes, schedules = {}, {}
    for r in results:
        schedules.setdefault(seen_by(r), set()).add(r.schedule)
        if r.weights not in RANDOM and not r.setting:
            where = shared(r), r.probe, r.schedule, r.endpoint, r.metric, r.seed
            recipes.setdefault(where, set()).add(r.recipe)
    # One seed, two recipes: these are two settings and not two draws of one, so no mean may be taken over them. Results
    # that name their setting say it themselves.
    mixed = {key[0] for key, found in recipes.items() if len(found) > 1}
    views = {r.recipe: r.name or r.pretext for r in results if r.weights not in RANDOM}
    groups = {}
    for r in results:
        view = (r.name or views.get(r.recipe, "")) if r.weights in RANDOM else ""
        recipe = r.recipe if shared(r) in mixed else r.setting
        g = groups.setdefault((shared(r), view, recipe), Setting(r, view=view, recipe=recipe))
        g.recipes.add(r.recipe)
        probe = r.probe if len(schedules[seen_by(r)]) == 1 else f"{r.probe} {epochs(r.schedule)}".strip()
        g.lines.setdefault(Measure(probe, r.endpoint, r.metric), {})[r.seed] = r
    found = list(groups.values())
    alone = [g for g in found if not any(o is not g and same_but_recipe(o, g) for o in found)]
    for g in alone:
        g.recipe = ""
    return found


def seen_by(r):
    """The probe and what it sees: only there may two schedules of it have to be told apart."""
    return r.probe, r.probe_dataset, r.labels, r.split, r.backbone, r.width


def shared(r):
    """What all seeds of a setting share."""
    fields = ("backbone", "width", "dataset", "probe_dataset", "steps", "labels", "split", "setting")
    return name_of(r), *(getattr(r, name) for name in fields)


def settings_of(results):
    """[Setting] of the trained networks, each with the untrained ones beside it and what its training measured."""
    results = list(results)
    groups = grouped([r for r in results if r.probe not in OF_TRAINING])
    untrained = [g for g in groups if not g.trained]
    found = [g for g in groups if g.trained]
    own = {}
    for r in results:
        if r.probe in OF_TRAINING and r.weights not in RANDOM:
            own.setdefault(r.setting or r.recipe, []).append(r)
    for g in found:
        g.kinds = {kind: match for kind in RANDOM if (match := start_of(kind, g, untrained))}
        for key in {g.setting} if g.setting else g.recipes:
            for r in own.get(key, ()):
                g.lines.setdefault(Measure(r.probe, r.endpoint, r.metric), {})[r.seed] = r
    return found


def start_of(kind, model, groups):
    """The untrained network that ``model`` started as, a Setting; None if it was not probed.

    Its own run's where there is any; else another's of the same network that saw the same kind of images (whole ones or
    patches), which tells of the network alone and not of a method's head.
    """
    view = model.name if model.trained else model.view
    candidates = [g for g in groups if g.name == kind and same_network(g, model)]
    candidates = [g for g in candidates if sees_patches(g.view) == sees_patches(view)]

    def near(g):
        own = bool(g.recipes & model.recipes)
        return bool(g.setting) and g.setting == model.setting, own, g.view == view, not g.view

    if not candidates:
        return None
    best = max(candidates, key=near)
    if any(near(best)[:2]):
        return best
    lines = {m: found for m, found in best.lines.items() if m.endpoint != "projection"}
    return Setting(best.run, best.view, best.recipe, best.recipes, lines) if lines else None


def sees_patches(name):
    """Whether the recipe of that name is a patch task, whose probes see patches too."""
    return name in PRETEXTS and issubclass(find_options(name), PatchOptions)


def same_network(one, other):
    """Whether two settings are of one network, probed on the same images."""
    fields = ("backbone", "width", "dataset", "probe_dataset", "labels", "split")
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def same_but_recipe(one, other):
    """Whether a table would show two settings under one name."""
    return same_network(one, other) and (one.name, one.steps, one.view) == (other.name, other.steps, other.view)


def by_ground(settings):
    """{Ground: [Setting]} in order of appearance."""
    grounds = unique(s.ground for s in settings)
    return {ground: [s for s in settings if s.ground == ground] for ground in grounds}


# --- which of several settings stands in a cell


def rank(setting, measure=None, split=None):
    """Sorts settings by the one rule: those of the split asked for, then most seeds, most steps, the longest schedule
    of the probe."""
    seeds = len(setting.lines.get(measure, ())) if measure else setting.seeds
    return setting.split == split, seeds, setting.steps or 0, last_epoch(measure.probe) if measure else 0.0


def choose(settings, measure=None, split=None):
    """The Setting that stands in a cell, the first of those with the highest ``rank``; None of none. Two settings are
    never averaged."""
    return max(settings, key=lambda s: rank(s, measure, split), default=None)


def last_epoch(probe):
    """520 of linear_images 480/500/520; 0 where there is one schedule only."""
    return float(probe.rpartition("/")[2]) if "/" in probe else 0.0


# --- numbers


def epochs(schedule):
    """30/50/70"""
    return "/".join(f"{e:g}" for e in schedule or ())


def spread(values):
    """63.1, or 63.1 ± 0.8 (sample standard deviation) of several seeds; empty for none."""
    values = tuple(values)
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation}"


def counted(values):
    """47.1 ± 0.3 (3): mean, sample standard deviation and number of seeds."""
    return f"{spread(values)} ({len(values)})" if values else ""


def text_of(seeds):
    """47.1 ± 0.3 (3) of {seed: number}; empty for none."""
    return counted(tuple((seeds or {}).values()))


def is_clear(low, high):
    """Whether the means of {seed: number} differ by two standard deviations of the difference; needs two of each."""
    if not (low and high) or min(len(low), len(high)) < 2:
        return False
    low, high = tuple(low.values()), tuple(high.values())
    between = statistics.fmean(high) - statistics.fmean(low)
    return between >= 2 * math.hypot(statistics.stdev(low), statistics.stdev(high))


def gain(low, high):
    """+1.9 ± 0.4 (3) of two {seed: number}: paired by seed; of the means where no seed is shared; empty without one."""
    if not (low and high):
        return ""
    both = [high[seed] - low[seed] for seed in low if seed in high]
    if not both:
        return f"{points(low, high):+.1f}"
    deviation = f" ± {statistics.stdev(both):.1f}" if len(both) > 1 else ""
    return f"{statistics.fmean(both):+.1f}{deviation} ({len(both)})"


def points(low, high):
    """Points between the means of two {seed: number}, None without one."""
    return statistics.fmean(high.values()) - statistics.fmean(low.values()) if low and high else None


def unlike(settings):
    """{option: [value of each setting]}: the options and lengths in which settings differ, nested as "term.weight"."""
    known = [flatten(s.task | s.run.training) for s in settings]
    values = {option: [k.get(option) for k in known] for option in unique(itertools.chain(*known))}
    return {option: found for option, found in values.items() if any(value != found[0] for value in found)}


def number(value):
    """47.1; empty for None."""
    return "" if value is None else f"{value:.1f}"


def unique(items):
    """The items without repetition, in order of appearance."""
    return list(dict.fromkeys(items))
