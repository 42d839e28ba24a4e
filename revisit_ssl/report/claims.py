"""The paper's nine claims, each weighed by our own runs: holds, does not hold, or not decidable at this scale.

A claim is read as a list of differences that it says are positive. A difference of two runs is clear when it is larger
than ``Study.noise``, two standard deviations of such a difference as the settings with several seeds show it. A claim
holds when more than half of its differences are clear and none is clearly negative; it does not hold when more are
clearly negative than clearly positive; else it is not decidable.
"""

import itertools
import math
import statistics
from dataclasses import dataclass

from scipy.stats import spearmanr

from revisit_ssl.report import names
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.cells import own_size
from revisit_ssl.report.figures import correlations, scatter_points
from revisit_ssl.report.paper import rank_agreement
from revisit_ssl.report.tables import RANDOM, probed, unique

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decidable at this scale"
ENDPOINTS = ("block1", "block2", "block3", "block4", "pre_logits")
NO_SEEDS_NOISE = 2.0  # points; where no setting has two seeds


@dataclass(frozen=True)
class Claim:
    """One claim: what the paper says, our verdict, and the numbers behind it."""

    number: int
    text: str
    verdict: str
    reason: str
    table: Table

    def markdown(self):
        return f"**{self.number}. {self.text}** — *{self.verdict}*: {self.reason}\n\n{self.table.markdown()}"

    _repr_markdown_ = markdown


class Study:
    """Test accuracies of pretrained networks on one data set, by what they are of; seeds apart.

    Args:
        results: [Result].
        dataset: the pretraining set whose runs are weighed.

    Where a network was trained by several recipes, the one with most steps counts.
    """

    def __init__(self, results, dataset):
        self.dataset = dataset
        self.results = [r for r in results if r.dataset == dataset]
        wanted = [r for r in probed(self.results) if r.weights not in RANDOM and r.split == "test"]
        most = {}
        for r in wanted:
            key = (r.pretext, r.backbone, r.width, r.representation_size)
            most[key] = max(most.get(key, 0), r.steps or 0)
        self.rows = [r for r in wanted if most[r.pretext, r.backbone, r.width, r.representation_size] == (r.steps or 0)]
        self.labels = max((r.labels for r in self.rows if r.probe_dataset == dataset), default=1.0)
        spreads = [statistics.variance(v) for v in self._seeds().values() if len(v) > 1]
        self.noise = 2 * math.sqrt(2 * statistics.fmean(spreads)) if spreads else NO_SEEDS_NOISE

    def _seeds(self):
        found = {}
        for r in self.rows:
            if (r.probe, r.endpoint, r.labels, r.probe_dataset) == ("linear", "pre_logits", self.labels, self.dataset):
                found.setdefault((r.pretext, r.backbone, r.width, r.recipe and r.setting, r.schedule), []).append(
                    r.value
                )
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

    def weigh(self, differences):
        """(verdict, "4 of 6 clear, 0 against") of differences that a claim says are positive."""
        found = [d for d in differences if d is not None]
        wins, losses = sum(d > self.noise for d in found), sum(d < -self.noise for d in found)
        reason = f"{wins} of {len(found)} clearly so, {losses} clearly against (clear: {self.noise:.1f} points)"
        if not found:
            return OPEN, "no runs that could tell"
        if losses == 0 and wins > len(found) / 2:
            return HOLDS, reason
        return (FAILS if losses > wins else OPEN), reason


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
    rows, differences = [], []
    for pretext, backbone, width in study.settings():
        if width != 1 or study.score(pretext, backbone, 2) is None:
            continue
        for labels in sorted({r.labels for r in study.rows}, reverse=True):
            one, two = (study.score(pretext, backbone, k, labels=labels) for k in (1, 2))
            if one is None or two is None:
                continue
            differences += [two - one] if pretext != "supervised" else []
            name = [names.pretext_name(pretext), names.network_name(backbone), names.share(labels)]
            rows.append([*name, _number(one), _number(two), f"{two - one:+.1f}", f"{100 * (two - one) / one:+.0f} %"])
    verdict, reason = study.weigh(differences)
    columns = ["pretext", "network", "labels", "1x", "2x", "difference", "relative"]
    return Claim(1, "A wider network represents better", verdict, reason, Table(columns, rows, labels=2))


def width_and_size(study):
    """Claim 2 (P 4.6, Figure 6)."""
    grid = sorted({
        (r.width, r.representation_size) for r in study.rows
        if (r.pretext, r.backbone) == ("rotation", "revnet50") and r.representation_size
    })  # fmt: skip
    scores = {(k, size): study.score("rotation", "revnet50", k, representation_size=size) for k, size in grid}
    scores = {key: value for key, value in scores.items() if value is not None}
    rows = [[f"{k}x", str(size), _number(value)] for (k, size), value in scores.items()]
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
        [names.network_name(*network), *(_number(study.score(pretext, *network)) for pretext in pretexts)]
        for network in networks
    ]
    swaps, clear = [], 0
    for a, b in itertools.combinations(networks, 2):
        signs = {}
        for pretext in pretexts:
            x, y = study.score(pretext, *a), study.score(pretext, *b)
            if x is not None and y is not None and abs(x - y) > study.noise:
                signs.setdefault(x > y, pretext)
        clear += bool(signs)
        if len(signs) == 2:
            swaps.append(
                f"{names.network_name(*a)} leads {names.network_name(*b)} by {names.pretext_name(signs[True])}, "
                f"trails it by {names.pretext_name(signs[False])}"
            )
    reason = "; ".join(swaps) or f"no two networks change places clearly; {clear} pairs are clearly apart"
    verdict = HOLDS if swaps else FAILS if clear > 3 else OPEN
    columns = ["network", *map(names.pretext_name, pretexts)]
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
        name = [names.pretext_name(pretext), names.network_name(backbone, width)]
        rows.append([*name, *map(_number, own), *map(_number, scores), f"{scores[1] - scores[0]:+.1f}"])
    verdict, reason = study.weigh(changes)
    if alike:
        reason += f"; the pretext's own accuracy moves by at most {max(alike):.1f} points"
        if verdict == HOLDS and max(alike) > max(changes) / 2:
            verdict = OPEN
    columns = ["pretext", "network", "pretext accuracy", "(-)", "linear", "(-)", "difference"]
    text = "Dropping the last ReLU changes the representation by points, the pretext's accuracy hardly"
    return Claim(4, text, verdict, reason, Table(columns, rows, labels=2))


def layers(study):
    """Claim 5 (P 4.5; S section 3)."""
    rows, rising = [], []
    for pretext, backbone, width in study.settings():
        scores = [study.score(pretext, backbone, width, endpoint) for endpoint in ENDPOINTS]
        if pretext == "supervised" or None in scores:
            continue
        drop = max(scores[:-1]) - scores[-1]
        if backbone.startswith("vgg"):
            rising.append(drop)  # the claim: a VGG's best layer lies before pre_logits
        elif not backbone.endswith("no_skip"):
            rising.append(study.noise * 1.01 if drop <= study.noise else -drop)
        rows.append([names.pretext_name(pretext), names.network_name(backbone, width), *map(_number, scores)])
    skips = []
    for pretext in ("rotation", "exemplar", "jigsaw", "relative_patch"):
        pair = [study.score(pretext, name, 1) for name in ("resnet18", "resnet18_no_skip")]
        skips += [pair[0] - pair[1]] if None not in pair else []
    verdict, reason = study.weigh([*rising, *skips])
    if skips:
        reason += f"; ResNet18 with skips leads the one without by {', '.join(f'{d:+.1f}' for d in skips)} points"
    text = "With skip connections quality rises up to pre_logits, in a VGG it peaks before; without skips it falls"
    return Claim(5, text, verdict, reason, Table(["pretext", "network", *ENDPOINTS], rows, labels=2))


def pretext_accuracy(study):
    """Claim 6 (P 4.4)."""
    rows, across, within = [], [], []
    own = any(r.probe == "pretext" for r in study.results)
    points = scatter_points(study.results) if own else {}
    points = {key: value for key, value in points.items() if key[0] == (study.dataset, study.dataset, study.labels)}
    for c in correlations(points):
        known = not math.isnan(c.rho)
        (within if c.network else across).extend([c.rho] if known else [])
        network = names.network_name(c.network) if c.network else "all networks"
        rows += [[names.pretext_name(c.pretext), network, c.text]] if known else []
    verdict, reason = OPEN, "needs three runs of one network and three networks"
    if across and within:
        low, high = statistics.fmean(across), statistics.fmean(within)
        reason = f"mean Spearman's ρ {high:.2f} within a network, {low:.2f} across networks"
        verdict = HOLDS if high - low > 0.3 else FAILS if low > high else OPEN
    text = "A pretext's own accuracy predicts the representation only within one network"
    return Claim(6, text, verdict, reason, Table(["pretext", "network", "Spearman's ρ (runs)"], rows, labels=2))


def mlp(study):
    """Claim 7 (P 4.3)."""
    rows, pairs = [], []
    for setting in study.settings():
        linear, deep = study.score(*setting), study.score(*setting, probe="mlp")
        if deep is not None:
            pairs.append((linear, deep))
            name = [names.pretext_name(setting[0]), names.network_name(*setting[1:])]
            rows.append([*name, _number(linear), _number(deep), f"{deep - linear:+.1f}"])
    verdict, reason = OPEN, "fewer than four networks with both probes"
    if len(pairs) > 3:
        rho = float(spearmanr(*zip(*pairs, strict=True)).statistic)
        gap = statistics.median(deep - linear for linear, deep in pairs)
        reason = f"median gap {gap:+.1f} points, Spearman's ρ of the two orders {rho:.2f} over {len(pairs)} networks"
        verdict = HOLDS if abs(gap) < 3 and rho > 0.9 else FAILS if abs(gap) > 5 or rho < 0.7 else OPEN
    text = "An MLP on top gains little over a linear classifier and leaves the order (ours: below 3 points, ρ over 0.9)"
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
        name = [names.pretext_name(setting[0]), names.network_name(*setting[1:])]
        rows.append([*name, *map(_number, scores), _number(lbfgs)])
    verdict, reason = study.weigh(differences)
    if differences:
        # The same weights and images under several schedules: what seeds move, they move together.
        up = sum(d > 0 for d in differences)
        reason = (
            f"{up} of {len(differences)} longer schedules are better, by {statistics.fmean(differences):.1f} points"
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
            ["the paper's", names.pretext_name(pretext), "ImageNet 10 %", "Places205", f"{found.rho:.2f} ({found.n})"]
        )
    others = unique(r.probe_dataset for r in study.rows if r.probe_dataset != study.dataset)
    for other in others:
        labels = max(r.labels for r in study.rows if r.probe_dataset == other)
        pairs = [(study.score(*s), study.score(*s, probe_dataset=other, labels=labels)) for s in study.settings()]
        pairs = [pair for pair in pairs if None not in pair]
        if len(pairs) > 3:
            rhos.append(float(spearmanr(*zip(*pairs, strict=True)).statistic))
            rows.append(["ours", "all", study.dataset, other, f"{rhos[-1]:.2f} ({len(pairs)})"])
    verdict = OPEN if not rhos else HOLDS if min(rhos) > 0.7 else FAILS if max(rhos) < 0.3 else OPEN
    reason = f"Spearman's ρ of our networks {', '.join(f'{r:.2f}' for r in rhos)}" if rhos else "one data set only"
    columns = ["numbers", "pretext", "first", "second", "Spearman's ρ (networks)"]
    text = "A second data set ranks the networks alike"
    return Claim(9, text, verdict, reason, Table(columns, rows, labels=4))


CLAIMS = (wider, width_and_size, ranking, without_last_relu, layers, pretext_accuracy, mlp, schedules, other_data)


def _number(value):
    return "" if value is None else f"{value:.1f}"


def _paper_order(setting):
    pretext, backbone, width = setting
    known = list(names.PRETEXTS), list(names.NETWORKS)
    places = [k.index(n) if n in k else len(k) for k, n in zip(known, (pretext, backbone), strict=True)]
    return *places, width
