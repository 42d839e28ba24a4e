"""Revisiting's nine claims, each weighed by our own runs with the rule of ``report.claims``.

Claims about rank correlations and about networks that change places have rules of their own, which their reason states.
"""

import itertools
import math
import statistics

from scipy.stats import spearmanr

from revisit_ssl.errors import InputError
from revisit_ssl.papers.methods import METHODS, method_name
from revisit_ssl.papers.revisiting.figures import correlations, scatter_points
from revisit_ssl.papers.revisiting.tables import own_size, rank_agreement
from revisit_ssl.report import names
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.claims import FAILS, HOLDS, OPEN, WEIGHING, Claim, clear, noise_of, weigh
from revisit_ssl.report.settings import RANDOM, choose, grouped, number, unique
from revisit_ssl.report.tables import probed

ENDPOINTS = ("block1", "block2", "block3", "block4", "pre_logits")
RULE = f"{WEIGHING} Claims 3 and 6 to 9 have rules of their own, stated in brackets."


class Study:
    """Test accuracies of pretrained networks on one data set, by what they are of; seeds apart.

    Args:
        results: [Result].
        dataset: the pretraining set whose runs are weighed.

    Where a network was trained by several recipes, one counts, by the one rule of ``choose``: two recipes are never
    averaged.
    """

    def __init__(self, results, dataset):
        self.dataset = dataset
        self.results = [r for r in results if r.dataset == dataset]
        wanted = [r for r in probed(self.results) if r.weights not in RANDOM and r.split == "test"]
        found = {}
        for s in grouped(wanted):
            for m, lines in s.lines.items():
                run = next(iter(lines.values()))
                other = None if own_size([run]) else run.representation_size
                network = s.name, s.backbone, s.width, other
                found.setdefault((*network, m, s.probe_dataset, s.labels), []).append(s)
        chosen = [(choose(settings, key[4]), key[4]) for key, settings in found.items()]
        self.rows = [r for s, m in chosen for r in s.lines[m].values()]
        self.labels = max((r.labels for r in self.rows if r.probe_dataset == dataset), default=1.0)
        self.noise = noise_of(self._seeds().values())

    def _seeds(self):
        found = {}
        for r in self.rows:
            if (r.probe, r.endpoint, r.labels, r.probe_dataset) == ("linear", "pre_logits", self.labels, self.dataset):
                network = r.pretext, r.backbone, r.width, r.representation_size, r.schedule
                found.setdefault(network, []).append(r.value)
        return found

    def score(self, pretext, backbone, width, endpoint="pre_logits", probe="linear", **more):
        """Mean over the seeds in percent, or None; more: labels, probe_dataset, schedule, representation_size."""
        more = {"labels": self.labels, "probe_dataset": self.dataset, "schedule": None} | more
        size = more.pop("representation_size", None)
        rows = self.rows if size else own_size(self.rows)
        found = [
            r.value
            for r in rows
            if (r.pretext, r.backbone, r.width, r.endpoint, r.probe) == (pretext, backbone, width, endpoint, probe)
            and all(getattr(r, name) == value for name, value in more.items())
            and (size is None or r.representation_size == size)
        ]
        return statistics.fmean(found) if found else None

    def own(self, pretext, backbone, width):
        """The pretext's own validation accuracy in percent, or None."""
        found = [
            r.value
            for r in own_size(self.results)
            if (r.probe, r.metric, r.pretext, r.backbone, r.width) == ("pretext", "accuracy", pretext, backbone, width)
        ]
        return statistics.fmean(found) if found else None

    def settings(self):
        """[(pretext, backbone, width)] with a score, in the paper's order."""
        found = unique((r.pretext, r.backbone, r.width) for r in own_size(self.rows))
        return sorted((s for s in found if self.score(*s) is not None), key=_paper_order)

    def clear(self, differences):
        """(how many are clearly positive, how many clearly negative)"""
        return clear(differences, self.noise)

    def weigh(self, differences):
        """(verdict, "4 of 6 clear, 0 against") of differences that a claim says are positive."""
        return weigh(differences, self.noise)


def claims(results, dataset="cifar10"):
    """[Claim]: the nine claims of the paper that a small study can look at.

    Args:
        results: [Result] of a study.
        dataset: the pretraining set whose runs count.
    """
    study = Study(results, dataset)
    return [check(study) for check in CLAIMS]


def wider(study):
    """Claim 1 (P 4.1, 4.6)."""
    rows, differences, relative = [], [], {True: [], False: []}
    for pretext, backbone, width in study.settings():
        if width != 1 or study.score(pretext, backbone, 2) is None:
            continue
        for labels in sorted({r.labels for r in study.rows}, reverse=True):
            one, two = (study.score(pretext, backbone, k, labels=labels) for k in (1, 2))
            if one is None or two is None:
                continue
            differences += [two - one] if pretext != "supervised" else []
            relative[pretext == "supervised"].append(100 * (two - one) / one)
            name = [method_name(pretext), names.network_name(backbone), names.share(labels)]
            rows.append([*name, number(one), number(two), f"{two - one:+.1f}", f"{100 * (two - one) / one:+.0f} %"])
    verdict, reason = study.weigh(differences)
    if all(relative.values()):
        gains = [f"{statistics.fmean(relative[supervised]):+.0f} %" for supervised in (False, True)]
        reason += f"; relative gain {gains[0]}, of the supervised network {gains[1]}"
    columns = ["pretext", "network", "labels", "1x", "2x", "difference", "relative"]
    text = "A wider network represents better, with all labels and with few"
    return Claim(1, text, verdict, reason, Table(columns, rows, labels=2))


def width_and_size(study):
    """Claim 2 (P 4.6, Figure 6)."""
    grid = sorted({
        (r.width, r.representation_size) for r in study.rows
        if (r.pretext, r.backbone) == ("rotation", "revnet50") and r.representation_size
    })
    scores = {(k, size): study.score("rotation", "revnet50", k, representation_size=size) for k, size in grid}
    scores = {key: value for key, value in scores.items() if value is not None}
    rows = [[f"{k}x", str(size), number(value)] for (k, size), value in scores.items()]
    sizes = [scores[k, b] - scores[k, a] for (k, a), (j, b) in itertools.combinations(scores, 2) if k == j]
    widths = [scores[j, a] - scores[k, a] for (k, a), (j, b) in itertools.combinations(scores, 2) if a == b and k != j]
    verdict, reason = study.weigh([*sizes, *widths])
    if not (sizes and widths):
        verdict, reason = OPEN, "needs two sizes at one width and two widths at one size"
    text = "Width and representation size help separately, and best together"
    return Claim(2, text, verdict, reason, Table(["RevNet50", "representation", "rotation, linear"], rows))


def ranking(study):
    """Claim 3 (P 4.1)."""
    settings = [s for s in study.settings() if s[0] not in ("supervised", *RANDOM)]
    networks = unique((backbone, width) for _, backbone, width in settings)
    pretexts = unique(pretext for pretext, _, _ in settings)
    rows = [
        [names.network_name(*network), *(number(study.score(pretext, *network)) for pretext in pretexts)]
        for network in networks
    ]
    swaps, comparable = [], 0
    for a, b in itertools.combinations(networks, 2):
        if a[1] != b[1]:
            continue  # that the wider one leads is another claim
        signs, told = {}, 0
        for pretext in pretexts:
            x, y = study.score(pretext, *a), study.score(pretext, *b)
            if x is not None and y is not None and abs(x - y) > study.noise:
                signs.setdefault(x > y, pretext)
                told += 1
        comparable += told > 1
        if len(signs) == 2:
            swaps.append(
                f"{names.network_name(*a)} leads {names.network_name(*b)} by {method_name(signs[True])}, "
                f"trails it by {method_name(signs[False])}"
            )
    reason = (
        f"{'; '.join(swaps)} (holds: one clear swap)"
        if swaps
        else (
            f"no two networks of one width change places clearly; {comparable} pairs are clearly apart by two pretexts "
            "(does not hold: more than 3)"
        )
    )
    verdict = HOLDS if swaps else FAILS if comparable > 3 else OPEN
    columns = ["network", *map(method_name, pretexts)]
    text = "The ranking of networks is another for each pretext"
    return Claim(3, text, verdict, reason, Table(columns, rows))


def without_last_relu(study):
    """Claim 4 (P 3.1)."""
    rows, changes, alike = [], [], []
    for pretext, backbone, width in study.settings():
        minus = f"{backbone}_minus"
        scores = [study.score(pretext, name, width) for name in (backbone, minus)]
        own = [study.own(pretext, name, width) for name in (backbone, minus)]
        if None in scores:
            continue
        changes.append(abs(scores[1] - scores[0]))
        alike += [abs(own[1] - own[0])] if None not in own else []
        name = [method_name(pretext), names.network_name(backbone, width)]
        rows.append([*name, *map(number, own), *map(number, scores), f"{scores[1] - scores[0]:+.1f}"])
    verdict, reason = study.weigh(changes)
    if changes and not alike:
        verdict, reason = OPEN, f"{reason}; the pretext's own accuracy is not known"
    elif alike:
        most = max(alike)
        reason += (
            f"; the pretext's own accuracy moves by at most {most:.1f} points (holds: by no more than half of what the "
            "representation does at most, does not hold: by more than all of it)"
        )
        if most > max(changes):
            verdict = FAILS
        elif verdict == HOLDS and most > max(changes) / 2:
            verdict = OPEN
    columns = ["pretext", "network", "pretext accuracy", "(-)", "linear", "(-)", "difference"]
    text = "Dropping the last ReLU changes the representation by points, the pretext's accuracy hardly"
    return Claim(4, text, verdict, reason, Table(columns, rows, labels=2))


def layers(study):
    """Claim 5 (P 4.5; S section 3)."""
    rows = []
    parts = {
        "up to pre_logits with skips": [], "a VGG's peak before it": [], "RevNet50 over ResNet50 v2": [],
        "ResNet18 over the one without skips": [],
    }
    rising, peaks, revnet, skips = parts.values()
    for pretext, backbone, width in study.settings():
        if pretext == "supervised":
            continue
        score = study.score(pretext, backbone, width)
        other = {"revnet50": "resnet50_v2", "resnet18": "resnet18_no_skip"}.get(backbone)
        other = study.score(pretext, other, width) if other else None
        if other is not None and backbone == "resnet18":
            skips.append(score - other)
        elif other is not None and pretext == "rotation":  # the paper says so of rotation only
            revnet.append(score - other)
        scores = [study.score(pretext, backbone, width, endpoint) for endpoint in ENDPOINTS]
        if None in scores:
            continue
        rows.append([method_name(pretext), names.network_name(backbone, width), *map(number, scores)])
        last = scores[-1] - max(scores[:-1])
        if backbone.startswith("vgg"):
            peaks.append(-last)
        elif not backbone.endswith("no_skip"):
            rising.append(last)
    verdict, reason = study.weigh([*rising, *peaks, *revnet, *skips])
    told = []
    for part, found in parts.items():
        if found:
            wins, losses = study.clear(found)
            told.append(f"{part}: {wins} of {len(found)}, {losses} against ({statistics.fmean(found):+.1f} points)")
    text = (
        "Quality rises up to pre_logits with skip connections and peaks before it in a VGG; RevNet50 leads ResNet50 v2 "
        "by rotation; ResNet18 is better with skips than without"
    )
    table = Table(["pretext", "network", *ENDPOINTS], rows, labels=2)
    return Claim(5, text, verdict, "; ".join([reason, *told]), table)


def pretext_accuracy(study):
    """Claim 6 (P 4.4)."""
    rows, across, within = [], [], []
    try:
        points = scatter_points(study.results)
    except InputError:  # no run has both numbers
        points = {}
    points = {key: value for key, value in points.items() if key[0] == (study.dataset, study.dataset, study.labels)}
    for c in correlations(points):
        known = not math.isnan(c.rho)
        runs = points[c.data, c.pretext]
        # Seeds alone move both numbers at random: the paper's networks differ in width too.
        if c.network:
            within += [c.rho] if known and len({p.width for p in runs if p.backbone == c.network}) > 1 else []
        else:
            across += [c.rho] if known and len({p.backbone for p in runs}) > 2 else []
        network = names.network_name(c.network) if c.network else "all networks"
        rows += [[method_name(c.pretext), network, c.text]] if known else []
    verdict, reason = OPEN, "needs three networks, and one with three runs of two widths or more"
    if across and within:
        low, high = statistics.fmean(across), statistics.fmean(within)
        reason = f"mean Spearman's ρ {high:.2f} within a network, {low:.2f} across networks (holds: 0.3 apart)"
        verdict = HOLDS if high - low > 0.3 else FAILS if low > high else OPEN
    text = "A pretext's own accuracy predicts the representation only within one network"
    return Claim(6, text, verdict, reason, Table(["pretext", "network", "Spearman's ρ (runs)"], rows, labels=2))


def mlp(study):
    """Claim 7 (P 4.3)."""
    rows, pairs = [], []
    for setting in study.settings():
        linear, deep = study.score(*setting), study.score(*setting, probe="mlp")
        if deep is not None and setting[0] != "supervised":
            pairs.append((linear, deep))
            name = [method_name(setting[0]), names.network_name(*setting[1:])]
            rows.append([*name, number(linear), number(deep), f"{deep - linear:+.1f}"])
    verdict, reason = OPEN, "fewer than four networks with both probes"
    if len(pairs) > 3:
        rho = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        gap = statistics.median(deep - linear for linear, deep in pairs)
        reason = (
            f"median gap {gap:+.1f} points, Spearman's ρ of the two orders {rho:.2f} over {len(pairs)} networks "
            "(holds: within 3 points and ρ over 0.9; does not hold: more than 5 points or ρ under 0.7)"
        )
        verdict = HOLDS if abs(gap) < 3 and rho > 0.9 else FAILS if abs(gap) > 5 or rho < 0.7 else OPEN
    text = "An MLP on top gains little over a linear classifier and leaves the order"
    return Claim(7, text, verdict, reason, Table(["pretext", "network", "linear", "MLP", "gap"], rows, labels=2))


def schedules(study):
    """Claim 8 (P 4.7; S section 4)."""
    rows, differences, behind = [], [], []
    known = sorted({r.schedule for r in study.rows if r.schedule and r.probe == "linear"})
    for setting in study.settings():
        scores = [study.score(*setting, schedule=schedule) for schedule in known]
        if len(known) < 2 or None in scores:
            continue
        lbfgs = study.score(*setting, probe="lbfgs")
        differences += [b - a for a, b in itertools.pairwise(scores)]
        behind += [lbfgs - scores[-1]] if lbfgs is not None else []
        name = [method_name(setting[0]), names.network_name(*setting[1:])]
        rows.append([*name, *map(number, scores), number(lbfgs)])
    verdict, reason = study.weigh(differences)
    if differences:
        # The same weights and images under several schedules: what seeds move, they move together.
        up = sum(d > 0 for d in differences)
        reason = (
            f"{up} of {len(differences)} longer schedules are better (holds: all), on average by "
            f"{statistics.fmean(differences):.1f} points"
        )
        verdict = HOLDS if up == len(differences) else FAILS if up < len(differences) / 2 else OPEN
        if behind:
            reason += f"; L-BFGS is {statistics.fmean(behind):+.1f} points from the longest"
    columns = ["pretext", "network", *("/".join(f"{e:g}" for e in s) for s in known), "L-BFGS"]
    text = "A linear classifier by SGD keeps improving the later its rate first drops; L-BFGS gets there directly"
    return Claim(8, text, verdict, reason, Table(columns, rows, labels=2))


def other_data(study):
    """Claim 9 (P 4.1)."""
    rows, rhos = [], []
    for pretext, found in rank_agreement("Suppl. Table 2", "Suppl. Table 3").items():
        rows.append(
            ["the paper's", method_name(pretext), "ImageNet 10 %", "Places205", f"{found.rho:.2f} ({found.n})"]
        )
    others = unique(r.probe_dataset for r in study.rows if r.probe_dataset != study.dataset)
    settings = [s for s in study.settings() if s[0] != "supervised"]
    for other in others:
        labels = max(r.labels for r in study.rows if r.probe_dataset == other)
        pairs = [(study.score(*s), study.score(*s, probe_dataset=other, labels=labels)) for s in settings]
        pairs = [pair for pair in pairs if None not in pair]
        if len(pairs) > 3:
            rhos.append(float(spearmanr(*zip(*pairs, strict=True)).statistic))
            rows.append(["ours", "all", study.dataset, other, f"{rhos[-1]:.2f} ({len(pairs)})"])
    verdict = OPEN if not rhos else HOLDS if min(rhos) > 0.7 else FAILS if max(rhos) < 0.3 else OPEN
    reason = "one data set only"
    if rhos:
        ours = ", ".join(f"{r:.2f}" for r in rhos)
        reason = f"Spearman's ρ of our networks {ours} (holds: over 0.7; does not hold: under 0.3)"
    columns = ["numbers", "pretext", "first", "second", "Spearman's ρ (networks)"]
    text = "A second data set ranks the networks alike"
    return Claim(9, text, verdict, reason, Table(columns, rows, labels=4))


CLAIMS = (wider, width_and_size, ranking, without_last_relu, layers, pretext_accuracy, mlp, schedules, other_data)


def _paper_order(setting):
    pretext, backbone, width = setting
    known = list(METHODS), list(names.NETWORKS)
    places = [k.index(n) if n in k else len(k) for k, n in zip(known, (pretext, backbone), strict=True)]
    return *places, width
