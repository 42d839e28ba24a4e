"""A paper's tables with our numbers beside the printed ones, and how well its rankings agree."""

import functools
import math
from dataclasses import dataclass, replace

from scipy.stats import spearmanr

from revisit_ssl.backbones import BACKBONES
from revisit_ssl.errors import InputError
from revisit_ssl.papers import presets_of, published_recipe
from revisit_ssl.papers.methods import METHODS, method_name
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.revisiting.recipes import PRETEXTS
from revisit_ssl.report import names
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.cells import Cell, best_of, hidden
from revisit_ssl.report.scale import probed_as, trained_as
from revisit_ssl.report.settings import gain, grouped, unique
from revisit_ssl.report.tables import MARKS, bold, depth, marks, printed, probed

PRETRAINED_ON = "imagenet2012"
READINGS = ("paper", "v3-8", "gpu")  # presets of the published scale
LEFT_OUT = ("schedule", "train")  # three schedules are the paper's, two splits: both are told where they stand
EPOCHS = {**dict.fromkeys(PRETEXTS, 35), "supervised": 90}  # supplement, section 1; official config/supervised
# Which of our probes is the paper's: its L-BFGS has the penalty 100 / (M C), its SGD sees random crops.
OUR_PROBES = {"lbfgs": ("lbfgs_paper", "lbfgs"), "linear": ("linear_images", "linear")}
ENDPOINTS = ("block1", "block2", "block3", "block4", "pre_logits")


@dataclass(frozen=True)
class Layout:
    """One of the paper's tables of networks by pretext and width."""

    table: str
    title: str
    dataset: str
    labels: float
    probe: str = "lbfgs"
    split: str = "val"


LAYOUTS = (
    Layout("Table 1", "Table 1: ImageNet, L-BFGS on pre_logits, own validation split", "imagenet2012", 1.0),
    Layout("Suppl. Table 2", "Suppl. Table 2: ImageNet, 10 % of the labels, L-BFGS on pre_logits", "imagenet2012", 0.1),
    Layout("Suppl. Table 3", "Suppl. Table 3: Places205, L-BFGS on pre_logits", "places205", 1.0),
    Layout("Suppl. Table 4", "Suppl. Table 4: Places205, 5 % of the labels, L-BFGS on pre_logits", "places205", 0.05),
)
BEST = "Table 2: best models, SGD linear on pre_logits, official validation set"
SKIPS = "Suppl. Table 1: ResNet18 4x with and without skip connections, linear on ImageNet"


def paper_tables(results, published=None):
    """Every table of the paper, its numbers and ours in different columns.

    A cell of ours is the mean of the seeds of one setting ± their sample standard deviation, with their number in
    brackets; it stands beside the paper's when pretext, network, width, pretraining set, probe set, share of labels,
    probe and endpoint are the same. Empty: no run of ours, or nothing printed.

    Args:
        results: [Result]; may be empty.
        published: [row] of the paper's numbers; None: those of its file.

    Returns:
        [(title, Table)]: Tables 1 and 2 of the paper, 1 to 4 of its supplement.
    """
    published = own_rows(published)
    mine = [r for r in own_size(results) if r.dataset == PRETRAINED_ON and of_length(r) and as_published(r)]
    groups = trained(mine)
    tables = {layout.title: networks_table(layout, published, groups) for layout in LAYOUTS}
    first, *others = tables
    tables[BEST] = best_table(published, groups, trained(mine, "top5"))
    tables[SKIPS] = skip_table(published, groups, end_to_end(mine))
    return [(title, tables[title]) for title in (first, BEST, SKIPS, *others)]


def own_rows(published=None):
    """[row] of the paper's own numbers."""
    published = load_published("revisiting") if published is None else published
    return [r for r in published if r["paper"] == "revisiting"]


def trained(results, metric="top1"):
    """[Setting] of pretrained networks."""
    return [s for s in grouped(probed(results, metric)) if s.trained]


def of_length(r):
    """Whether a Result's run is as long as the paper's, on all images; lines that do not say it pass."""
    t = r.training
    whole = t.get("max_steps") is None and t.get("fraction") is None
    return not t or (whole and t.get("epochs") in (EPOCHS.get(r.pretext), None))


def as_published(r):
    """Whether a Result's run was trained and probed as a preset of the published scale says for its network; lines that
    do not tell their options pass."""
    if not r.training or r.backbone not in BACKBONES:
        return not r.training
    known = presets_of(r.name or r.pretext)
    recipes = [recipe_of(r.name or r.pretext, p, r.backbone, r.width) for p in READINGS if p in known]
    return any(trained_as(r, recipe) and probed_as(r, recipe, LEFT_OUT) for recipe in recipes)


@functools.cache
def recipe_of(name, preset, backbone, width):
    """``published_recipe``, once for each network."""
    return published_recipe(name, preset, backbone=backbone, width=width)


def own_size(results):
    """Without the RevNets whose representation is not their own 512 k values (the paper's Figure 6): other networks."""
    results = list(results)
    other = {
        r.recipe for r in results
        if r.backbone.startswith("revnet50") and r.representation_size not in (None, 512 * r.width)
    }
    return [r for r in results if r.recipe not in other] if other else results


def networks_table(layout, published, groups):
    """Rows: pretext and network; for each width the paper's number and ours."""
    theirs = {
        (r["pretext"], r["backbone"], r["width"]): r
        for r in published
        if r["table"] == layout.table and r["metric"] == "top1"
    }
    ours = our_cells(groups, layout.dataset, layout.labels, layout.probe, "pre_logits", layout.split)
    models = unique(key[:2] for key in [*theirs, *ours])
    widths = {k: any(key[2] == k for key in theirs) for k in sorted({key[2] for key in [*theirs, *ours]})}
    pretexts = names.order((p for p, _ in models), METHODS)
    rows = []
    for pretext in pretexts:
        backbones = names.order((b for p, b in models if p == pretext), names.NETWORKS)
        top = {  # the best network of each width, the paper's and ours
            (k, which): largest({b: value(found.get((pretext, b, k))) for b in backbones})
            for k in widths
            for which, found in (("paper", theirs), ("ours", ours))
        }
        for b in backbones:
            row = [method_name(pretext), names.network_name(b)]
            for k, printed_too in widths.items():
                if printed_too:
                    row.append(bold(printed(theirs.get((pretext, b, k))), b in top[k, "paper"]))
                cell = ours.get((pretext, b, k))
                row.append(bold(cell.text if cell else "", b in top[k, "ours"]))
            rows.append(row)
    columns = [
        "pretext",
        "network",
        *(c for known in widths.values() for c in (("paper", "ours") if known else ("ours",))),
    ]
    heads = (("", 2), *((f"{k}x", 2 if known else 1) for k, known in widths.items()))
    notes = ["Top-1 in percent. Bold: the best network of a pretext and width, the paper's and ours apart."]
    return Table(
        columns, rows, labels=2, heads=heads, notes=tuple(notes + remarks(theirs.values(), ours, layout.split))
    )


def best_table(published, groups, groups5):
    """One row a pretext: the best earlier result, the paper's best network, ours of the same network."""
    printed_here = [r for r in published if r["table"] == "Table 2"]
    wanted = {
        ("imagenet2012", "top1"): "ImageNet top-1",
        ("imagenet2012", "top5"): "ImageNet top-5",
        ("places205", "top1"): "Places205 top-1",
    }
    ours = {
        (d, m): our_cells(groups5 if m == "top5" else groups, d, 1.0, "linear", "pre_logits", "test") for d, m in wanted
    }
    rows, shown = [], {}
    for pretext in names.order((r["pretext"] for r in printed_here), METHODS):
        mine = [r for r in printed_here if r["pretext"] == pretext]
        model = next((r["backbone"], r["width"]) for r in mine if r["backbone"])
        earlier = next((r for r in mine if not r["backbone"]), None)
        row = [method_name(pretext), names.network_name(*model), printed(earlier)]
        for dataset, metric in wanted:
            number = [r for r in mine if r["backbone"] and (r["dataset"], r["metric"]) == (dataset, metric)]
            cell = ours[dataset, metric].get((pretext, *model))
            if cell:
                shown[pretext, *model, dataset, metric] = cell
            row += [printed(number[0] if number else None), cell.text if cell else ""]
        rows.append(row)
    columns = ["pretext", "best network", "top-1", *["paper", "ours"] * len(wanted)]
    heads = (("", 2), ("previous", 1), *((title, 2) for title in wanted.values()))
    notes = ["In percent. Previous: the best earlier result that the paper cites, ImageNet, by other authors."]
    if any(r.probe_train == "train" for c in shown.values() for r in c.setting.lines[c.measure].values()):
        notes.append("Ours is fitted on the training split; the paper's classifiers also had its validation split.")
    return Table(columns, rows, labels=2, heads=heads, notes=tuple(notes + remarks(printed_here, shown, "test")))


def skip_table(published, groups, supervised):
    """Rows: with, without and the difference; for each endpoint the paper's number and ours."""
    rows = [r for r in published if r["table"] in ("Suppl. Table 1", "Suppl. section 3")]
    theirs = {(r["pretext"], r["backbone"], r["endpoint"]): r for r in rows}
    ours = {}
    for endpoint in ENDPOINTS:
        cells = our_cells(groups, "imagenet2012", 1.0, "linear", endpoint, "val")
        ours |= {(p, b, endpoint): c for (p, b, k), c in cells.items() if b in PAIR and k == 4}
    ours |= {("supervised", b, "logits"): c for (b, k), c in supervised.items() if b in PAIR and k == 4}
    table = pair_table(ours, theirs)
    note = (
        "Top-1 in percent. The text of this table that we have holds five headings and four numbers a row, read here "
        "as block1 to block4. End to end: the supervised network's own accuracy, from the supplement's section 3."
    )
    own = [line for line in remarks(rows, ours, "val") if line not in table.notes]
    return replace(table, notes=(note, *own, *table.notes))


PAIR = {"resnet18_no_skip": "no skip", "resnet18": "skip"}


def pair_table(ours, theirs=None):
    """With and without skip connections; one row per endpoint.

    Args:
        ours: {(pretext, backbone, endpoint): Cell}; endpoint "logits" is the supervised network's own accuracy.
        theirs: {same key: published row}, None where there is no paper to set beside.
    """
    keys = [*ours, *(theirs or {})]
    rows = []
    for pretext in names.order((p for p, _, _ in keys), METHODS):
        endpoints = {e for p, _, e in keys if p == pretext}
        endpoints |= set(ENDPOINTS) if theirs and endpoints != {"logits"} else set()
        for e in sorted(endpoints, key=lambda e: (e == "logits", depth(e))):
            row = [method_name(pretext), "end to end" if e == "logits" else e]
            pair = [(pretext, backbone, e) for backbone in PAIR]
            mine = [ours.get(key) for key in pair]
            printed_pair = [(theirs or {}).get(key) for key in pair]
            for row_of_theirs, cell in zip(printed_pair, mine, strict=True):
                row += [printed(row_of_theirs) or "not in text"] if theirs else []
                row.append(cell.text if cell else "")
            if theirs:
                one, two = (r and r["value"] for r in printed_pair)
                row.append("" if None in (one, two) else f"{two - one:+.1f}")
            rows.append([*row, difference(*mine)])
    titles = [*PAIR.values(), "difference"]
    notes = tuple(hidden(ours.values(), method_name))
    if not theirs:
        return Table(["pretext", "endpoint", *titles], rows, labels=2, notes=notes)
    columns = ["pretext", "endpoint", *["paper", "ours"] * len(titles)]
    return Table(columns, rows, labels=2, heads=(("", 2), *((title, 2) for title in titles)), notes=notes)


def difference(without, with_):
    """+1.9 ± 0.4 (3): paired by seed where both were run; of the means where no seed is shared."""
    return gain(without.seeds, with_.seeds) if without and with_ else ""


def our_cells(settings, dataset, labels, probe, endpoint, split):
    """{(pretext, backbone, width): Cell} of one probe set; the first of OUR_PROBES that was run."""
    found = {}
    for s in settings:
        if s.probe_dataset == dataset and math.isclose(s.labels, labels):
            for m in s.lines:
                if m.endpoint == endpoint and kind_of(m) in OUR_PROBES[probe]:
                    found.setdefault((s.name, s.backbone, s.width), []).append(Cell(s, m))
    for key, cells in found.items():
        first = next(kind for kind in OUR_PROBES[probe] if any(kind_of(c.measure) == kind for c in cells))
        found[key] = best_of([c for c in cells if kind_of(c.measure) == first], split)
    return found


def kind_of(measure):
    """A probe's name without its schedule."""
    return measure.probe.partition(" ")[0]


def end_to_end(results):
    """{(backbone, width): Cell}: the supervised networks' own accuracy."""
    return {key[1:]: cell for key, cell in own_scores(results).items() if key[0] == "supervised"}


def own_scores(results):
    """{(pretext, backbone, width): Cell}: the accuracy of the pretexts themselves."""
    found = {}
    for s in grouped([r for r in results if r.probe == "pretext" and r.metric == "accuracy"]):
        found.setdefault((s.name, s.backbone, s.width), []).extend(Cell(s, m) for m in s.lines)
    return {key: best_of(cells, "val") for key, cells in found.items()}


def remarks(theirs, ours, split):
    """[note] under a table: what was recalled, how ours differ."""
    lines = marks(theirs)
    cells = list(ours.values())
    if cells:
        probes = unique(names.probe_name(c.probe) for c in cells if c.probe != "pretext")
        lines.append(f"Ours: mean ± sample standard deviation (seeds){', ' if probes else ''}{', '.join(probes)}.")
    other = unique(c.setting.split for c in cells if c.setting.split != split)
    if other:
        lines.append(f"Some of ours are of the {' and '.join(other)} split, the paper's of another: {split}.")
    return lines + hidden(cells, method_name)


def value(found):
    """Percent of a Cell or a published row, None for neither."""
    return found.mean if isinstance(found, Cell) else found and found["value"]


def largest(values):
    """Keys of the largest value as printed; none where there is nothing to compare it with."""
    values = {key: round(v, 1) for key, v in values.items() if v is not None}
    return {key for key, v in values.items() if v == max(values.values())} if len(values) > 1 else set()


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of two columns of numbers over n networks; ``recalled`` of them are from memory."""

    rho: float
    p: float
    n: int
    recalled: int


def rank_agreement(first="Table 1", second="Suppl. Table 3", published=None):
    """Do two of the paper's tables put its networks in the same order? (Its claim: Places205 follows ImageNet.)

    Args:
        first, second: tables of ``LAYOUTS``; by default ImageNet (mostly recalled) and Places205. "Suppl. Table 2",
            ImageNet with 10 % of the labels, is confirmed throughout.
        published: as for ``paper_tables``.

    Returns:
        {pretext: Agreement} over networks and widths, and "all" over all pretexts.

    Raises:
        InputError: no such table.
    """
    rows = {}
    for r in own_rows(published):
        if r["metric"] == "top1":
            rows.setdefault(r["table"], {})[r["pretext"], r["backbone"], r["width"]] = r
    known = [layout.table for layout in LAYOUTS]
    for table in (first, second):
        if table not in known:
            raise InputError(f"no table {table!r}; one of {', '.join(known)}")
    keys = [key for key in rows[first] if key in rows[second]]
    found = {}
    for pretext in [*names.order((key[0] for key in keys), METHODS), "all"]:
        pairs = [(rows[first][key], rows[second][key]) for key in keys if pretext in ("all", key[0])]
        test = spearmanr(*zip(*((a["value"], b["value"]) for a, b in pairs), strict=True))
        recalled = sum(any(r["confirmed"] != "yes" for r in pair) for pair in pairs)
        found[pretext] = Agreement(float(test.statistic), float(test.pvalue), len(pairs), recalled)
    return found


def agreement_table(published=None):
    """rank_agreement of the paper's tables, one row per pretext."""
    comparisons = {
        "ImageNet – Places205": ("Table 1", "Suppl. Table 3"),
        "ImageNet 10 % – Places205": ("Suppl. Table 2", "Suppl. Table 3"),
        "ImageNet 10 % – Places205 5 %": ("Suppl. Table 2", "Suppl. Table 4"),
    }
    found = {title: rank_agreement(*pair, published=published) for title, pair in comparisons.items()}
    rows = []
    for pretext, one in next(iter(found.values())).items():
        cells = [f"{f[pretext].rho:.2f}{'†' if f[pretext].recalled else ''}" for f in found.values()]
        rows.append([method_name(pretext), str(one.n), *cells])
    note = (
        "Spearman's ρ of the paper's numbers over networks and widths. "
        f"{MARKS['recalled'].replace('written', 'partly written')}"
    )
    return Table(["pretext", "networks", *comparisons], rows, notes=(note,))
