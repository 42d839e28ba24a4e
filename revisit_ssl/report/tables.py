"""Tables of results: in the terminal, and beside the papers' numbers."""

import statistics
import textwrap
from dataclasses import dataclass, field

from revisit_ssl.errors import InputError
from revisit_ssl.papers.published import load_published
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.names import DATASETS

RANDOM = ("random", "random, BN re-estimated")
PATCHES = ("jigsaw", "relative_patch")  # their probes see patches, so their untrained network has numbers of its own
PROBES = {"lbfgs": "L-BFGS", "linear": "SGD linear"}  # what the papers call them
# Probes that measure no top-1 accuracy: the metric that stands for them in a table, and what it is called.
OTHERS = {
    "nmi": ("nmi", "mutual information"),
    "retrieval": ("recall1", "recall at 1"),
    "few_shot": ("5shot", "accuracy of 5-shot episodes"),  # few_shot_5way_5shot, for any number of ways
    "voc_svm": ("map", "mean average precision"),
}


@dataclass
class Group:
    """All seeds of one setting.

    Attributes:
        name: of the recipe, such as npid_cld, or which of the two untrained networks.
        setting: hash of the setting, empty in old results.
        view: an untrained network's: the pretext whose images it was shown, empty where that is not known.
        recipe: a hash to tell it from groups that are equal otherwise, or empty.
        recipes: {hash}, one a seed.
        scores: {(probe, endpoint): {seed: percent}}.
    """

    name: str
    backbone: str
    width: int
    dataset: str
    probe_dataset: str
    steps: int | None
    labels: float = 1.0
    split: str = "test"
    setting: str = ""
    view: str = ""
    recipe: str = ""
    recipes: set = field(default_factory=set)
    scores: dict = field(default_factory=dict)

    @property
    def network(self):
        return f"{self.backbone} k={self.width}"

    @property
    def data(self):
        """The data set, or "pretrained on → probed on"."""
        same = self.dataset == self.probe_dataset
        return self.dataset if same else f"{self.dataset} → {self.probe_dataset}"


@dataclass(frozen=True)
class Row:
    """One probe on one endpoint; each value is a tuple of percents, one per seed, empty where there is no run."""

    probe: str
    endpoint: str
    pretrained: tuple
    random: tuple
    reestimated: tuple

    @property
    def to_beat(self):
        """The better of the two untrained networks, by its mean."""
        return max(self.random, self.reestimated, key=lambda v: statistics.fmean(v) if v else -1.0)

    @property
    def gain(self):
        """Points between the means, or None."""
        if not (self.pretrained and self.to_beat):
            return None
        return statistics.fmean(self.pretrained) - statistics.fmean(self.to_beat)


def compare(results, published="revisiting"):
    """Our numbers and a paper's, in different columns, as a Markdown table.

    Every column says whose numbers it holds, of which data set, by which probe and (the paper's) from which table.
    Rows are matched by pretext, network, width and endpoint; a cell is empty where there is no run or no published
    number. The paper's other widths of the same pretext and network are shown too. All numbers are top-1 in percent;
    ours are mean ± sample standard deviation where there are several seeds.

    Args:
        results: [Result].
        published: name of a paper for ``load_published``.

    Returns:
        str, Markdown.

    Raises:
        InputError: no results, or no such paper.
    """
    table, notes = comparison(results, published)
    return "\n\n".join([table.markdown(), *notes])


def comparison(results, published="revisiting"):
    """(Table, [note]) of ``compare``."""
    groups = group(results)
    # Only the tables: a number read off a figure, or of a network with an extra layer, fits no row of ours.
    paper = [r for r in load_published(published) if r["paper"] == published and "Table" in r["table"]]
    paper = [r for r in paper if r["metric"] == "top1"]
    ours = {}  # {(pretext, network, endpoint): {(data, probe): values}}
    for g in groups:
        for (probe, endpoint), seeds in g.scores.items():
            ours.setdefault((label(g, groups), g.network, endpoint), {})[g.data, probe] = tuple(seeds.values())
    models = {(g.name, g.backbone) for g in groups}
    sets = {"imagenet2012", *(g.probe_dataset for g in groups)}
    theirs = {}
    for r in paper:
        wide = r["labels"] == 1 or r["dataset"] in {g.probe_dataset for g in groups}
        if (r["pretext"], r["backbone"]) in models and r["dataset"] in sets and wide:
            key = (r["pretext"], f"{r['backbone']} k={r['width']}", r["endpoint"])
            theirs.setdefault(key, {})[r["dataset"], r["labels"], r["probe"], r["table"]] = r
    our_columns = unique(column for cells in ours.values() for column in cells)
    their_columns = unique(column for cells in theirs.values() for column in cells)
    keys = sorted(unique([*ours, *theirs]), key=lambda key: row_order(key, ours))
    rows = [
        [*key]
        + [spread(ours.get(key, {}).get(column, ())) for column in our_columns]
        + [printed(theirs.get(key, {}).get(column)) for column in their_columns]
        for key in keys
    ]
    columns = ["pretext", "network", "endpoint"]
    columns += [f"ours ({data}, {probe})" for data, probe in our_columns]
    columns += [f"paper ({title(*column)})" for column in their_columns]
    return Table(columns, rows, labels=3), notes(groups, theirs, published)


def notes(groups, theirs, published):
    """What has to be said under the table so that nobody misreads it."""
    lines = ["Top-1 in percent. An empty cell: no run of ours, or no published number."]
    seeds = {seed for g in groups for scores in g.scores.values() for seed in scores}
    lines[0] += f" Ours: mean ± standard deviation of {len(seeds)} seeds." if len(seeds) > 1 else ""
    if not theirs:
        models = unique(f"{g.name} with {g.backbone}" for g in groups if g.name not in RANDOM)
        lines.append(f"The tables of “{published}” hold no number for {', '.join(models) or 'an untrained network'}.")
        return lines
    own = unique(g.probe_dataset for g in groups)
    other = unique(column[0] for cells in theirs.values() for column in cells)
    if not set(own) & set(other):
        named = " and ".join(DATASETS.get(name, name) for name in other)
        lines.append(
            f"**The two kinds of columns measure different things:** ours are of {', '.join(own)}, the paper's of "
            f"{named}. They are side by side for their order, not for their values."
        )
    if any(r["confirmed"] != "yes" for cells in theirs.values() for r in cells.values()):
        lines.append("† written down from memory, not yet confirmed by a second source.")
    return lines


def result_table(results):
    """[(heading, Table)], one for each pretrained setting: every probe and endpoint beside the untrained network."""
    tables = []
    for model, rows in summarize(results):
        trained = model.name not in RANDOM
        columns = ["probe", "endpoint", *([model.name] if trained else []), *RANDOM, *(["gain"] if trained else [])]
        lines = []
        for row in rows:
            untrained = [bold(spread(v), v and v == row.to_beat) for v in (row.random, row.reestimated)]
            gain = [] if row.gain is None else [f"**{row.gain:+.1f}**"]
            lines.append(
                [row.probe, row.endpoint]
                + ([spread(row.pretrained), *untrained, *(gain or [""])] if trained else untrained)
            )
        tables.append((f"**{heading(model)}**, {measure(model)}", Table(columns, lines, labels=2)))
    return tables


def print_table(results):
    """Prints each probe and endpoint: pretrained, random both ways, gain over the better one. Fits 80 columns."""
    if not shown(results):
        print("no probes were run")
        return
    for model, rows in summarize(results):
        trained = model.name not in RANDOM
        head = ["probe", "endpoint", *(["pretrained"] if trained else []), "random", "random+BN"]
        head += ["gain"] if trained else []
        lines = [head]
        for row in rows:
            untrained = [spread(v) + ("*" if v and v == row.to_beat else " ") for v in (row.random, row.reestimated)]
            gain = "" if row.gain is None else f"{row.gain:+.1f}"
            lines.append([row.probe, row.endpoint, *([spread(row.pretrained)] if trained else []), *untrained])
            lines[-1] += [gain] if trained else []
        # Header cells of starred columns end one place earlier, above the digits.
        first = 3 if trained else 2
        lines[0] = [cell + " " if i in (first, first + 1) else cell for i, cell in enumerate(head)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
        print(f"\n{textwrap.fill(heading(model), 80)}\n{textwrap.fill(measure(model), 80)}")
        for line in lines:
            cells = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))]
            print("  ".join(cells).rstrip())
        print("* the row to beat; +BN: BatchNorm statistics re-estimated on training images")


def summarize(results):
    """[(Group, [Row])]: each pretrained setting with the untrained network of the same width, data and view.

    Raises:
        InputError: no probe's result.
    """
    groups = grouped(some(shown(results)))
    trained = [g for g in groups if g.name not in RANDOM]
    summaries = []
    for model in trained or groups[:1]:
        plain, estimated = (untrained(name, model, groups) for name in RANDOM)
        keys = unique([*(model.scores if trained else ()), *plain, *estimated])
        probes = unique(k[0] for k in keys)
        rows = [
            Row(*key, *(tuple(s.get(key, {}).values()) for s in (model.scores if trained else {}, plain, estimated)))
            for key in sorted(keys, key=lambda k: (probes.index(k[0]), depth(k[1])))
        ]
        summaries.append((model, rows))
    return summaries


def untrained(name, model, groups):
    """Scores of the network that ``model`` started as; {} if it was not probed.

    Its own run's where there are any; else another's of the same network that saw the same kind of images.
    """
    candidates = [g for g in groups if g.name == name and same_network(g, model)]
    view = model.view if model.name in RANDOM else model.name
    candidates = [g for g in candidates if (g.view in PATCHES) == (view in PATCHES)]

    def near(g):
        return (
            bool(g.setting) and g.setting == model.setting,
            bool(g.recipes & model.recipes),
            g.view == view,
            not g.view,
        )

    return max(candidates, key=near).scores if candidates else {}


def probed(results, metric="top1"):
    """Those that are an accuracy of features; a pretext's own score is not."""
    return [r for r in results if r.metric == metric and r.probe != "pretext"]


def shown(results):
    """Those that stand in a table: accuracies, and the metric in OTHERS of probes that measure none."""

    def stands(r):
        metric = OTHERS.get(r.probe, ("top1",))[0]
        return r.metric == metric or r.metric.endswith(f"way_{metric}")

    return [r for r in results if r.probe != "pretext" and stands(r)]


def some(results):
    if not results:
        raise InputError("no results to show; run evaluate() first, or run.py with probes")
    return results


def group(results, metric="top1"):
    """[Group] in order of appearance.

    Raises:
        InputError: nothing of that metric.
    """
    return grouped(some(probed(results, metric)))


def grouped(results):
    """[Group] of results of one metric."""
    recipes, schedules = {}, {}
    for r in results:
        schedules.setdefault(r.probe, set()).add(r.schedule)
        if r.weights not in RANDOM and not r.setting:
            recipes.setdefault((shared(r), r.probe, r.schedule, r.endpoint, r.seed), set()).add(r.recipe)
    # One seed, two recipes: these are two settings and not two draws of one, so no mean may be taken over them. Results
    # that name their setting say it themselves.
    mixed = {key[0] for key, found in recipes.items() if len(found) > 1}
    views = {r.recipe: r.name or r.pretext for r in results if r.weights not in RANDOM}
    groups = {}
    for r in results:
        view = (r.name or views.get(r.recipe, "")) if r.weights in RANDOM else ""
        recipe = r.recipe if shared(r) in mixed else r.setting
        g = groups.setdefault((shared(r), view, recipe), Group(*shared(r), view=view, recipe=recipe))
        g.recipes.add(r.recipe)
        probe = r.probe if len(schedules[r.probe]) == 1 else f"{r.probe} {epochs(r.schedule)}".strip()
        g.scores.setdefault((probe, r.endpoint), {})[r.seed] = r.value
    found = list(groups.values())
    alone = [g for g in found if not any(o is not g and same_but_recipe(o, g) for o in found)]
    for g in alone:
        g.recipe = ""
    return found


def shared(result):
    """What all seeds of a setting share: the first fields of a Group."""
    name = result.weights if result.weights in RANDOM else result.name or result.pretext
    fields = ("backbone", "width", "dataset", "probe_dataset", "steps", "labels", "split", "setting")
    return name, *(getattr(result, field) for field in fields)


def epochs(schedule):
    """30/50/70"""
    return "/".join(f"{e:g}" for e in schedule or ())


def same_network(one, other):
    fields = ("backbone", "width", "dataset", "probe_dataset", "labels", "split")
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def same_but_recipe(one, other):
    return same_network(one, other) and (one.name, one.steps, one.view) == (other.name, other.steps, other.view)


def label(g, groups):
    """The group's name, with as much more as tells it from the others in the table."""
    twins = [o for o in groups if o is not g and (o.name, o.network, o.data) == (g.name, g.network, g.data)]
    more = [f"{g.steps:,} steps"] if any(o.steps != g.steps for o in twins) and g.steps is not None else []
    more += [f"{g.labels:.0%} of labels".replace("%", " %")] if any(o.labels != g.labels for o in twins) else []
    more += [f"the view of {g.view}"] if g.view and any(o.view != g.view for o in twins) else []
    more += [f"recipe {g.recipe}"] if g.recipe else []
    return f"{g.name} ({', '.join(more)})" if more else g.name


def heading(g):
    """rotation · revnet50 k=1 · 744 steps on toy_scenes"""
    name = g.name if g.name not in RANDOM else "untrained"
    steps = f"{g.steps:,} steps on " if g.steps else ""
    recipe = f" · recipe {g.recipe}" if g.recipe else ""
    return f"{name} · {g.network} · {steps}{g.data}{recipe}"


def measure(g):
    """What the numbers of a table are."""
    seeds = {seed for scores in g.scores.values() for seed in scores}
    several = f", mean ± standard deviation of {len(seeds)} seeds" if len(seeds) > 1 else ""
    share = f", probes fitted on {g.labels:.0%} of the labels".replace("%", " %") if g.labels != 1 else ""
    probes = unique(probe for probe, _ in g.scores)
    others = ", ".join(f"{probe}: {OTHERS[probe][1]}" for probe in probes if probe in OTHERS)
    top1 = "top-1 in percent" + (f" ({others})" if others else "")
    return f"{top1 if set(probes) - set(OTHERS) else f'{others}, in percent'} on the {g.split} split{share}{several}"


def row_order(key, ours):
    """Sorts rows: models as they appear in ours; inside one by width, then by endpoint from the input up."""
    pretext, network, endpoint = key
    backbone, _, width = network.partition(" k=")
    models = unique((k[0], k[1].partition(" k=")[0]) for k in ours)
    model = models.index((pretext, backbone)) if (pretext, backbone) in models else len(models)
    return model, int(width), depth(endpoint)


def depth(endpoint):
    """Sorts after_root, block1, …, pre_logits, and conv2 before conv10."""
    name = endpoint.rstrip("0123456789")
    return name, int(endpoint[len(name) :] or 0)


def title(dataset, labels, probe, table):
    """ImageNet 10 % labels, L-BFGS, Suppl. Table 2"""
    share = "" if labels == 1 else f" {labels:.0%} labels".replace("%", " %")
    return f"{DATASETS.get(dataset, dataset)}{share}, {PROBES.get(probe, probe)}, {table}"


def spread(values):
    """63.1, or 63.1 ± 0.8 (sample standard deviation) of several seeds; empty for none."""
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.1f}{deviation}"


def printed(row):
    """A published number as it stands there, with a mark if it is not confirmed."""
    return "" if row is None else f"{row['value']:.1f}{'' if row['confirmed'] == 'yes' else '†'}"


def bold(text, yes):
    return f"**{text}**" if yes else text


def unique(items):
    """The items without repetition, in order of appearance."""
    return list(dict.fromkeys(items))
