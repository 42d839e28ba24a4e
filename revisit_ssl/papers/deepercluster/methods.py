"""Runs of DeeperCluster, DeepCluster and RotNet side by side."""

from revisit_ssl.papers.methods import METHODS as TITLES
from revisit_ssl.report import names, settings
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.settings import choose, gain, is_clear, text_of, unique
from revisit_ssl.report.tables import bold

METHODS = {  # by the recipe's name
    "rotnet": "RotNet", "rotnet_sobel": "RotNet, Sobel", "deepcluster": "DeepCluster",
    "deepcluster_rgb": "DeepCluster, RGB", "deepercluster": "DeeperCluster", "deepercluster_rgb": "DeeperCluster, RGB",
}
OTHERS = {"random": "Random", "doersch": "Doersch et al.", "wang": "Wang et al."}
PROBES = ("linear", "knn", "linear_images")


def settings_of(results):
    """[Setting] of these methods."""
    return [s for s in settings.settings_of(r for r in results if r.task is not None) if s.name in METHODS]


def with_labels(results):
    """``settings_of``, and the supervised network that they are compared with."""
    found = settings.settings_of(r for r in results if r.task is not None)
    return [s for s in found if s.name in (*METHODS, "supervised")]


def method_name(name):
    """DeeperCluster, RGB of deepercluster_rgb"""
    return {**TITLES, **OTHERS, **METHODS}.get(name, name)


def options_of(setting):
    """2 x 50 clusters, every 2 epochs, PCA to 64"""
    t = setting.task
    if "clusters" not in t:
        return f"{t.get('copies', 4)} rotations of an image in a step" if t.get("copies") == 4 else "one rotation"
    m = t.get("super_clusters", 1)
    count = f"{m} x {t['clusters'] // m:,} clusters" if m > 1 else f"{t['clusters']:,} clusters"
    turns = f", {t['rotations']} rotations" if t.get("rotations", 1) > 1 else ""
    return f"{count}{turns}, anew every {t['every']} epochs, PCA to {t['dim_pca'] or 'all dimensions'}"


def methods_table(found):
    """Rows: of each method of one ground the untrained network, the trained one, the gain; columns: endpoints."""
    order = names.order((s.name for s in found), METHODS)
    chosen = {name: choose([s for s in found if s.name == name]) for name in order}
    measures = unique(m for s in chosen.values() for m in s.scores if m.probe.partition(" ")[0] in PROBES)
    measures = [m for m in measures if m.metric == "top1"]
    rows, told = [], []
    for name, s in chosen.items():
        title = METHODS[name]
        rows.append([title, "untrained", *(text_of(s.untrained.get(m)) for m in measures)])
        clear = [is_clear(s.untrained.get(m), s.scores.get(m)) for m in measures]
        rows.append([title, "trained", *(bold(s.cell(m), yes) for m, yes in zip(measures, clear, strict=True))])
        rows.append([title, "gain", *(gain(s.untrained.get(m), s.scores.get(m)) for m in measures)])
        told.append(f"{title}: {options_of(s)}; {s.length}.")
    head = (
        "Top-1 in percent: mean ± sample standard deviation (seeds). Untrained: the same network, the better of as "
        "initialised and with BatchNorm statistics re-estimated. Bold: larger than untrained by at least two standard "
        "deviations of the difference, which one seed cannot show."
    )
    columns = [f"{names.probe_name(m.probe)}, {m.endpoint}" for m in measures]
    return Table(["method", "", *columns], rows, labels=2, notes=(head, " ".join(told)))
