"""Tables of results: in the terminal, and beside the papers' numbers."""

import re
import statistics
import textwrap
from dataclasses import dataclass

from revisit_ssl.errors import require
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.names import dataset_name
from revisit_ssl.report.settings import RANDOM, grouped, settings_of, spread, start_of, unique, unlike
from revisit_ssl.runs.intervals import warning, within

# What a mark behind a published number means, by what numbers.csv has in "confirmed".
MARKS = {
    "recalled": "† written down from memory, not confirmed by a second source.",
    "inferred": "† the text has this number, but not in which column it stands: that is inferred.",
}
TABLES = re.compile("table|readme", re.IGNORECASE)
PROBES = {"lbfgs": "L-BFGS", "linear": "SGD linear"}  # what the papers call them
# Probes that measure no top-1 accuracy: the metric that stands for them in a table, and what it is called.
OTHERS = {
    "nmi": ("nmi", "mutual information"),
    "clusters": ("nmi", "mutual information of many clusters"),
    "retrieval": ("recall1", "recall at 1"),
    "few_shot": ("5shot", "accuracy of 5-shot episodes"),  # few_shot_5way_5shot, for any number of ways
    "voc_svm": ("map", "mean average precision"),
    "voc_fc68": ("map", "mean average precision"),
    "voc_all": ("map", "mean average precision"),
    "instance_retrieval": ("map", "mean average precision"),  # map_medium of revisited sets
    "detection": ("ap", "average precision of boxes"),
    "segmentation": ("mask_ap", "average precision of masks"),
}


@dataclass(frozen=True)
class Row:
    """One probe on one endpoint; each value is a tuple of percents, one per seed, empty where there is no run. ``n``:
    the images of each, None where that is not known or the numbers are no share of them."""

    probe: str
    endpoint: str
    pretrained: tuple
    random: tuple
    reestimated: tuple
    n: int | None = None

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


def comparison(results, published, paper):
    """Our numbers and a paper's, in different columns.

    Every column says whose numbers it holds, of which data set, by which probe and (the paper's) from which table.
    Rows are matched by the recipe's name, network, width and endpoint; a cell is empty where there is no run or no
    published number. The paper's other widths of the same method and network are shown too. All numbers are top-1 in
    percent; ours are mean ± sample standard deviation where there are several seeds.

    Args:
        results: [Result].
        published: [row] of the paper's tables, as ``load_published`` gives them.
        paper: its name.

    Returns:
        (Table, [note]).

    Raises:
        InputError: no results.
    """
    groups = grouped(not_empty(probed(results)))
    # Only tables: a number read off a figure, or of a network with an extra layer, fits no row of ours.
    printed_top1 = [r for r in published if r["paper"] == paper and r["metric"] == "top1" and TABLES.search(r["table"])]
    ours = {}  # {(name, network, endpoint): {(data, probe): cell}}
    for g in groups:
        for m, seeds in g.scores.items():
            text = bracketed(tuple(seeds.values()), images_of(g.lines[m].values()))
            ours.setdefault((label(g, groups), g.network, m.endpoint), {})[g.data, m.probe] = text
    models = {(g.name, g.backbone) for g in groups}
    sets = {"imagenet2012", *(g.probe_dataset for g in groups)}
    theirs = {}
    for r in printed_top1 if not ones_own(g.probe_dataset for g in groups) else ():
        wide = r["labels"] == 1 or r["dataset"] in {g.probe_dataset for g in groups}
        if (r["pretext"], r["backbone"]) in models and r["dataset"] in sets and wide:
            key = (r["pretext"], f"{r['backbone']} k={r['width']}", r["endpoint"])
            theirs.setdefault(key, {})[r["dataset"], r["labels"], r["probe"], r["table"]] = r
    our_columns = unique(column for cells in ours.values() for column in cells)
    their_columns = unique(column for cells in theirs.values() for column in cells)
    keys = sorted(unique([*ours, *theirs]), key=lambda key: row_order(key, ours))
    rows = [
        [*key]
        + [ours.get(key, {}).get(column, "") for column in our_columns]
        + [printed(theirs.get(key, {}).get(column)) for column in their_columns]
        for key in keys
    ]
    columns = ["pretext", "network", "endpoint"]
    columns += [f"ours ({data}, {probe})" for data, probe in our_columns]
    columns += [f"paper ({title(*column)})" for column in their_columns]
    return Table(columns, rows, labels=3), notes(groups, theirs, paper)


def ones_own(datasets):
    """Whether all of them are folders of images, of which no paper has numbers."""
    return all(name.startswith("folder:") for name in datasets)


def notes(groups, theirs, paper):
    """What has to be said under the table so that nobody misreads it: [text].

    Args:
        groups: [Setting] of ours.
        theirs: {row of the table: {column: published number}}.
        paper: its name.
    """
    lines = ["Top-1 in percent. An empty cell: no run of ours, or no published number."]
    seeds = {seed for g in groups for found in g.lines.values() for seed in found}
    lines[0] += f" Ours: mean ± standard deviation of {len(seeds)} seeds." if len(seeds) > 1 else ""
    lines[0] += " [a–b]: 95 % interval of ours (Wilson)." if any(map(with_interval, groups)) else ""
    if ones_own(g.probe_dataset for g in groups):
        lines.append("No paper has numbers of one's own images.")
        return lines
    if not theirs:
        models = unique(f"{g.name} with {g.backbone}" for g in groups if g.trained)
        lines.append(f"The tables of “{paper}” hold no number for {', '.join(models) or 'an untrained network'}.")
        return lines
    own = unique(g.probe_dataset for g in groups)
    other = unique(column[0] for cells in theirs.values() for column in cells)
    if not set(own) & set(other):
        named = " and ".join(dataset_name(name) for name in other)
        lines.append(
            f"**The two kinds of columns measure different things:** ours are of {', '.join(own)}, the paper's of "
            f"{named}. They are side by side for their order, not for their values."
        )
    return lines + marks(r for cells in theirs.values() for r in cells.values())


def marks(rows):
    """[note] on the marks of published rows."""
    kinds = {r["confirmed"] for r in rows}
    return [note for kind, note in MARKS.items() if kind in kinds]


# Row's fields: what they are called on the screen; on a page the first is called as the recipe.
SCREEN = {"pretrained": "pretrained", "random": "random", "reestimated": "random+BN"}
WIDE = 80


def measured(rows):
    """The fields of Row that any of them has numbers for; what was not measured has no column."""
    return [name for name in SCREEN if any(getattr(row, name) for row in rows)]


def result_table(results):
    """[(heading, Table)], one for each pretrained setting: every probe and endpoint beside the untrained network."""
    tables, found = [], summarize(results)
    models = [model for model, _ in found]
    for model, rows in found:
        names = measured(rows)
        titles = {"pretrained": model.name} | dict(zip(("random", "reestimated"), RANDOM, strict=True))
        gains = any(row.gain is not None for row in rows)
        lines = []
        for row in rows:
            line = [row.probe, row.endpoint]
            for name in names:
                values = getattr(row, name)
                line.append(bold(bracketed(values, row.n), name != "pretrained" and values and values == row.to_beat))
            lines.append(line + ([f"**{row.gain:+.1f}**" if row.gain is not None else ""] if gains else []))
        columns = ["probe", "endpoint", *(titles[name] for name in names), *(["gain"] if gains else [])]
        tables.append((f"**{heading(model, models)}**, {measure(model)}", Table(columns, lines, labels=2)))
    return tables


def print_table(results):
    """Prints each probe and endpoint: pretrained, random both ways, gain over the better one, each with the interval in
    which it is known; what was not measured has no column. Fits 80 columns."""
    if not shown(results):
        print("no probes were run")
        return
    found = summarize(results)
    models = [model for model, _ in found]
    for model, rows in found:
        names = measured(rows)
        print(f"\n{textwrap.fill(heading(model, models), WIDE)}\n{textwrap.fill(measure(model), WIDE)}")
        lines = laid_out(rows, names, aside=True)
        for line in lines if max(map(len, lines)) <= WIDE else laid_out(rows, names, aside=False):
            print(line)
        if {"random", "reestimated"} & set(names):
            again = "; +BN: BatchNorm statistics re-estimated on training images" if "reestimated" in names else ""
            print(f"* the row to beat{again}")
        if told := warning(images_behind(model)):
            print(textwrap.fill(f"warning: {told}", WIDE))


def laid_out(rows, names, aside):
    """[line] of a table for the terminal: numbers with their intervals beside them, or on a line of their own."""
    gains = any(row.gain is not None for row in rows)
    lines = [["probe", "endpoint", *(SCREEN[name] for name in names), *(["gain"] if gains else [])]]
    for row in rows:
        numbers, intervals = [], []
        for name in names:
            values = getattr(row, name)
            mark = "" if name == "pretrained" else "*" if values and values == row.to_beat else " "
            numbers.append(spread(values) + mark)
            intervals.append(within(values, row.n))
        gain = [f"{row.gain:+.1f}" if row.gain is not None else ""] if gains else []
        if aside:
            numbers = [f"{a} {b}" if b else a for a, b in zip(numbers, intervals, strict=True)]
        lines.append([row.probe, row.endpoint, *numbers, *gain])
        if not aside and any(intervals):
            lines.append(["", "", *(f"{text} " for text in intervals), *([""] if gains else [])])
    # Header cells of starred columns end one place earlier, above the digits.
    lines[0] = [cell + " " if cell in ("random", "random+BN") else cell for cell in lines[0]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    sides = (str.ljust, str.ljust, *[str.rjust] * len(widths))  # names left, numbers right
    return ["  ".join(side(*c) for side, *c in zip(sides, line, widths, strict=False)).rstrip() for line in lines]


def bracketed(values, n):
    """76.0 [72.1–79.5]: mean, deviation of several seeds, and the interval of that mean where n, images, is known."""
    interval = within(values, n)
    return f"{spread(values)} [{interval}]" if interval else spread(values)


def images_behind(setting):
    """How many images its numbers are of, the fewest where they differ; None where they do not say."""
    return min((r.n for found in setting.lines.values() for r in found.values() if r.n), default=None)


def with_interval(setting):
    """Whether any of its numbers has an interval; an average precision has none."""
    return any(r.n and r.interval for found in setting.lines.values() for r in found.values())


def images_of(results):
    """How many images Results were measured on; None where they do not say, or not all the same."""
    found = {r.n if r.interval else None for r in results}
    return found.pop() if len(found) == 1 else None


def summarize(results):
    """[(Setting, [Row])]: each pretrained setting with the untrained network of the same width, data and view.

    Raises:
        InputError: no probe's result.
    """
    results = not_empty(shown(results))
    trained = settings_of(results)
    models = trained
    if not trained:
        groups = grouped(results)
        models = groups[:1]
        first = models[0]
        first.kinds = {kind: match for kind in RANDOM if (match := start_of(kind, first, groups))}
    summaries = []
    for model in models:
        settings = [model, *model.kinds.values()]
        kinds = [model.kinds[kind].scores if kind in model.kinds else {} for kind in RANDOM]
        scores = [model.scores if trained else {}, *kinds]
        keys = unique((m.probe, m.endpoint) for found in scores for m in found)
        probes = unique(probe for probe, _ in keys)
        columns = [{(m.probe, m.endpoint): tuple(seeds.values()) for m, seeds in found.items()} for found in scores]
        rows = [
            Row(*key, *(column.get(key, ()) for column in columns), n=known_images(key, settings))
            for key in sorted(keys, key=lambda key: (probes.index(key[0]), depth(key[1])))
        ]
        summaries.append((model, rows))
    return summaries


def known_images(key, settings):
    """``images_of`` all that Settings have of a probe and endpoint, whichever metric stands for it."""
    lines = [seeds for s in settings for m, seeds in s.lines.items() if (m.probe, m.endpoint) == key]
    return images_of(r for seeds in lines for r in seeds.values())


def probed(results, metric="top1"):
    """Those that are an accuracy of features; a pretext's own score is not."""
    return [r for r in results if r.metric == metric and r.probe != "pretext"]


def shown(results):
    """Those that stand in a table: accuracies, and the metric in OTHERS of probes that measure none."""

    def stands(r):
        metric = OTHERS.get(r.probe, ("top1",))[0]
        return r.metric in (metric, f"{metric}_medium") or r.metric.endswith(f"way_{metric}")

    return [r for r in results if r.probe != "pretext" and stands(r)]


def not_empty(results):
    """The results; InputError where there are none."""
    require(results, "no results to show; run evaluate() first, or revisit-ssl run with probes")
    return results


def label(g, groups):
    """The group's name, with as much more as tells it from the others in the table."""
    twins = [o for o in groups if o is not g and (o.name, o.network, o.data) == (g.name, g.network, g.data)]
    more = [f"{g.steps:,} steps"] if any(o.steps != g.steps for o in twins) and g.steps is not None else []
    more += [f"{g.labels:.0%} of labels".replace("%", " %")] if any(o.labels != g.labels for o in twins) else []
    more += [f"the view of {g.view}"] if g.view and any(o.view != g.view for o in twins) else []
    more += [f"recipe {g.recipe}"] if g.recipe else []
    return f"{g.name} ({', '.join(more)})" if more else g.name


def heading(model, models=()):
    """The recipe · revnet50 k=1 · 744 steps on toy_scenes; then the options by which it differs from others among
    ``models`` that are equal otherwise, temperature 0.1, and the hash of its recipe."""
    text = called(model)
    if not model.recipe:
        return text
    twins = [m for m in models if called(m) == text]
    told = [f"{option} {values[twins.index(model)]}" for option, values in unlike(twins).items()] if twins else []
    return " · ".join([text, *([", ".join(told)] if told else []), f"recipe {model.recipe}"])


def called(model):
    """A Setting's heading: its name · resnet18 k=1 · 2,496 steps on imagenette."""
    name = model.name if model.trained else "untrained"
    steps = f"{model.steps:,} steps on " if model.steps else ""
    return f"{name} · {model.network} · {steps}{model.data}"


def measure(g):
    """What the numbers of a table are."""
    seeds = {seed for found in g.lines.values() for seed in found}
    several = f", mean ± standard deviation of {len(seeds)} seeds" if len(seeds) > 1 else ""
    share = f", probes fitted on {g.labels:.0%} of the labels".replace("%", " %") if g.labels != 1 else ""
    probes = unique(m.probe for m in g.lines)
    others = ", ".join(f"{probe}: {OTHERS[probe][1]}" for probe in probes if probe in OTHERS)
    top1 = "top-1 in percent" + (f" ({others})" if others else "")
    what = top1 if set(probes) - set(OTHERS) else f"{others}, in percent"
    n = images_behind(g)
    interval = "; a–b: 95 % interval (Wilson)" if with_interval(g) else ""
    images = f", {n:,} images{interval}" if n else ""
    return f"{what} on the {g.split} split{images}{share}{several}"


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
    return f"{dataset_name(dataset)}{share}, {PROBES.get(probe, probe)}, {table}"


def printed(row):
    """A published number as it stands there, with a mark if it is not confirmed."""
    return "" if row is None else f"{row['value']:.1f}{'' if row['confirmed'] == 'yes' else '†'}"


def bold(text, yes):
    """The text, in bold if ``yes``."""
    return f"**{text}**" if yes else text
