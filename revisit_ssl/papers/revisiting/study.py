"""Tables of our own runs: trained beside untrained by network and width, probes side by side, what was run."""

from revisit_ssl.papers.methods import METHODS, method_name
from revisit_ssl.papers.revisiting.tables import PAIR, end_to_end, own_scores, own_size, pair_table
from revisit_ssl.report import names, pages
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.cells import Cell, best_of, hidden
from revisit_ssl.report.settings import RANDOM, counted, settings_of, unique
from revisit_ssl.report.tables import bold, probed

GAIN_NOTE = (
    "Top-1 in percent: mean ± sample standard deviation (seeds). Untrained: the same network on the same input (where "
    "it was not probed, on another pretext's of the same kind: images or patches), the better of as initialised and "
    "(°) with BatchNorm statistics re-estimated. Bold: a gain of at least two standard deviations of the difference, "
    "which one seed cannot show."
)


def study_tables(results):
    """Every table of our runs, of each data set apart.

    Args:
        results: [Result]; may be empty.

    Returns:
        [(title, Table)]: for each set (and share of the labels) and probe the gain over the untrained network at
        pre_logits; then the probes side by side, and ResNet18 with and without skip connections, where both were run.
    """
    tables = []
    for data, cells in study_cells(results).items():
        probes = names.order((probe for probe, _ in cells), names.PROBES)
        title = f"{names.data_name(*data[:3])}, {data[3]} split"
        shown = {p: cells[p, "pre_logits"] for p in probes if (p, "pre_logits") in cells}
        tables += [(f"{title}: {names.probe_name(p)} on pre_logits", gain_table(found)) for p, found in shown.items()]
        if len(shown) > 1:
            tables.append((f"{title}: probes side by side on pre_logits", probe_table(shown)))
        for probe in probes:
            tables += [
                (f"{title}: {t}, {names.probe_name(probe)}", table) for t, table in pairs(probe, cells, data, results)
            ]
    for dataset in unique(r.dataset for r in results if r.probe == "pretext" and r.metric == "accuracy"):
        own = own_scores(own_size(r for r in results if r.dataset == dataset))
        tables.append((f"{names.dataset_name(dataset)}: the pretexts' own accuracy", own_table(own)))
    return tables


def study_cells(results):
    """{(dataset, probe_dataset, labels, split): {(probe, endpoint): {(name, backbone, width): Cell}}}"""
    found = {}
    for s in settings_of(probed(own_size(results))):
        places = found.setdefault((s.dataset, s.probe_dataset, s.labels, s.split), {})
        for m in s.lines:
            models = places.setdefault((m.probe, m.endpoint), {})
            models.setdefault((s.name, s.backbone, s.width), []).append(Cell(s, m))
    return {
        data: {place: {key: best_of(cells) for key, cells in models.items()} for place, models in places.items()}
        for data, places in found.items()
    }


def gain_table(cells):
    """Rows: pretext and network; for each width trained, untrained and the points between."""
    widths = sorted({k for _, _, k in cells})
    rows = []
    for pretext, backbone in models(cells):
        row = [method_name(pretext), names.network_name(backbone)]
        for k in widths:
            cell = cells.get((pretext, backbone, k))
            if cell is None:
                row += ["", "", ""]
                continue
            gain = "" if cell.gain is None else f"{cell.gain:+.1f}"
            row += [cell.text, counted(cell.untrained) + ("°" if cell.reestimated else ""), bold(gain, cell.clear)]
        rows.append(row)
    columns = ["pretext", "network", *["trained", "untrained", "gain"] * len(widths)]
    heads = (("", 2), *((f"{k}x", 3) for k in widths))
    return Table(columns, rows, labels=2, heads=heads, notes=(GAIN_NOTE, *hidden(cells.values(), method_name)))


def probe_table(found):
    """Rows: pretext, network, width; one column per probe."""
    keys = unique(key for cells in found.values() for key in cells)
    rows = []
    for pretext, backbone in models(keys):
        for k in sorted(k for p, b, k in keys if (p, b) == (pretext, backbone)):
            cells = [cells.get((pretext, backbone, k)) for cells in found.values()]
            rows.append(
                [method_name(pretext), names.network_name(backbone, k), *(c.text if c else "" for c in cells)]
            )
    columns = ["pretext", "network", *map(names.probe_name, found)]
    notes = ("Top-1 in percent: mean ± sample standard deviation (seeds).",)
    others = unique(line for cells in found.values() for line in hidden(cells.values(), method_name))
    return Table(columns, rows, labels=2, notes=(*notes, *others[:1]))


def own_table(cells):
    """Rows: pretext and network; columns: widths."""
    widths = sorted({k for _, _, k in cells})
    rows = []
    for pretext, backbone in models(cells):
        found = [cells.get((pretext, backbone, k)) for k in widths]
        row = [method_name(pretext), names.network_name(backbone), *(c.text if c else "" for c in found)]
        rows.append(row)
    note = (
        "In percent, on validation images: rotation has 4 classes, relative patches 8, Jigsaw as many as permutations; "
        "these numbers are no measure of the features."
    )
    columns = ["pretext", "network", *(f"{k}x" for k in widths)]
    return Table(columns, rows, labels=2, notes=(note, *hidden(cells.values(), method_name)))


def pairs(probe, cells, data, results):
    """[(title, Table)] of ResNet18 with and without skip connections, one a width."""
    found = {}
    for (name, endpoint), models_here in cells.items():
        if name == probe:
            for (pretext, backbone, k), cell in models_here.items():
                if backbone in PAIR:
                    found.setdefault(k, {})[pretext, backbone, endpoint] = cell
    own = end_to_end([r for r in results if r.dataset == data[0]])
    tables = []
    for k, ours in sorted(found.items()):
        if {b for _, b, _ in ours} == set(PAIR):
            if any(p == "supervised" for p, _, _ in ours):
                ours |= {("supervised", b, "logits"): c for (b, width), c in own.items() if b in PAIR and width == k}
            tables.append((f"ResNet18 {k}x with and without skip connections", pair_table(ours)))
    return tables


def runs_table(results):
    """What was run: one row per setting, with its seeds and where the numbers come from."""
    found = {}
    for r in results:
        if r.weights not in RANDOM:
            where = (r.name or r.pretext, r.backbone, r.width, r.dataset, r.steps, r.setting or "")
            found.setdefault(where, []).append(r)
    places = [names.order((w[i] for w in found), known) for i, known in enumerate((METHODS, names.NETWORKS))]
    runs = []
    for where in sorted(found, key=lambda w: (places[0].index(w[0]), places[1].index(w[1]), w[2], w[4] or 0)):
        name, backbone, width, dataset, steps, _ = where
        # A setting has one; the line of the pretext's own score does not say it.
        size = max((r.representation_size for r in found[where] if r.representation_size), default=None)
        numbers = ["" if number is None else f"{number:,}" for number in (steps, size)]
        cells = [method_name(name), names.network_name(backbone, width), names.dataset_name(dataset), *numbers]
        runs.append((cells, found[where]))
    return pages.runs_table(["pretext", "network", "trained on", "steps", "pre_logits"], runs)


def models(keys):
    """[(pretext, backbone)] in the paper's order."""
    keys = list(keys)
    return [
        (p, b)
        for p in names.order((key[0] for key in keys), METHODS)
        for b in names.order((key[1] for key in keys if key[0] == p), names.NETWORKS)
    ]
