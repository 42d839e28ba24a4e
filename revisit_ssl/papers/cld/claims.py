"""What the CLD paper claims of its term, weighed by our own runs with the rule of ``claims``."""

import functools
import math

from revisit_ssl.papers.cld.ablations import A1, A2, A3, ABLATIONS, CLUSTERINGS, NEGATIVES
from revisit_ssl.papers.cld.methods import (
    KNN,
    KNN_BEFORE,
    LINEAR,
    MEASURES,
    NMI,
    NMI_BEFORE,
    RETRIEVAL,
    RETRIEVAL_BEFORE,
    changes,
    control_of,
    method_of,
    pairs_of,
)
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.claims import FAILS, HOLDS, OPEN, WEIGHING, Claim, noise, weigh
from revisit_ssl.report.settings import number

RULE = (
    f"{WEIGHING} The measure is kNN on the projection (on pre_logits where that was not probed). Claim 6 has a rule of "
    "its own, stated in brackets."
)
ALIKE = {"kitchen_hc": 10}  # sets of highly correlated images, and the groups that the paper's Table A.1 finds best


class Study:
    """The settings of one ground, the measure that decides, and how far chance moves it."""

    def __init__(self, settings):
        self.settings = settings
        self.measure = KNN if any(KNN in s.scores for s in settings) else KNN_BEFORE
        self.ground = settings[0].ground
        self.by_table = {a.table: a.find(settings, control_of(settings)) for a in ABLATIONS}
        self.noise = functools.partial(noise, settings)

    def score(self, setting):
        """Of the deciding measure, or None."""
        return setting.score(self.measure) if setting else None

    def less(self, high, low):
        """Points between two settings, None where one has no number."""
        high, low = self.score(high), self.score(low)
        return None if None in (high, low) else high - low

    def weigh(self, differences):
        """The verdict on differences in percentage points, beside the noise of the study's measure."""
        return weigh(differences, self.noise(self.measure))


def cld_claims(settings):
    """[Claim]: six claims of the paper, by the settings of one ground.

    Args:
        settings: [Setting] that share their Ground, at least one.
    """
    study = Study(settings)
    return [check(study) for check in CLAIMS]


def improves(study):
    """Claim 1: the paper's result tables."""
    rows, differences, unlike = [], [], []
    measures = [m for m in (KNN, KNN_BEFORE, LINEAR) if any(m in s.scores for s in study.settings)]
    for pair in pairs_of(study.settings):
        if not (pair.without and pair.with_):
            continue
        differences.append(study.less(pair.with_, pair.without))
        unlike += [pair.method] if changes(pair.without, pair.with_) else []
        numbers = [pair.without.score(m) for m in measures], [pair.with_.score(m) for m in measures]
        rows.append([pair.method, *(f"{number(a)} → {number(b)}" for a, b in zip(*numbers, strict=True))])
    verdict, reason = study.weigh(differences)
    if verdict == HOLDS and len(differences) == 1:
        verdict, reason = OPEN, f"{reason}; one method only"
    if unlike:
        reason += f"; {', '.join(unlike)}: the two recipes differ in more than the term"
    table = Table(["method", *(f"{m.title}: without → with" for m in measures)], rows)
    return Claim(1, "CLD improves every method that carries it", verdict, reason, table)


def parts(study):
    """Claim 2: Table A.2."""
    rows, differences = [], []
    for ablation in study.by_table[A2.table]:
        shared, separate, cross = (
            ablation.settings.get(p) for p in (("shared", False), ("separate", False), ("separate", True))
        )
        steps = [study.less(separate, shared), study.less(cross, separate)]
        if steps == [None, None]:
            continue
        differences += steps
        scores = [number(study.score(s)) for s in (ablation.control, shared, separate, cross)]
        rows.append([method_of(ablation.first), *scores])
    verdict, reason = study.weigh(differences)
    columns = ["method", "none", "shared head", "separate head", "separate, cross-augmentation"]
    text = "A head of its own for the groups helps, and comparing a view with the groups of the other one helps again"
    return Claim(2, text, verdict, reason, Table(columns, rows))


def interior(study):
    """Claim 3: Table A.3."""
    rows, differences = [], []
    for ablation in study.by_table[A3.table]:
        curve = {0.0: study.score(ablation.control)} | {w: study.score(s) for (w,), s in ablation.settings.items()}
        curve = {w: value for w, value in sorted(curve.items()) if value is not None}
        rows += [[method_of(ablation.first), f"{w:g}", number(value)] for w, value in curve.items()]
        if len(curve) > 2:
            low, *inside, high = curve.values()
            differences += [max(inside) - low, max(inside) - high]
    verdict, reason = study.weigh(differences)
    text = "The weight of CLD has its best value inside: above 0, below the largest"
    if differences:
        reason += "; the best of the weights inside against both ends"
    return Claim(3, text, verdict, reason, Table(["method", "λ", study.measure.title], rows))


def groups(study):
    """Claim 4: Table A.1, Kitchen-HC."""
    rows, differences = [], []
    best = ALIKE.get(study.ground.dataset)
    for ablation in study.by_table[A1.table]:
        scores = {p: study.score(s) for p, s in ablation.settings.items()}
        for (clustering, k), value in sorted(scores.items()):
            rows.append([CLUSTERINGS[clustering], f"{k}", number(value)])
            fewest = scores.get((clustering, best))
            differences += [fewest - value] if k != best and None not in (fewest, value) else []
    verdict, reason = study.weigh(differences)
    if best is None:
        verdict, reason = OPEN, "the images of this set are not alike; the paper's are of Kitchen-HC"
    text = "Where images are alike, about as many groups as there are classes are best"
    return Claim(4, text, verdict, reason, Table(["clustering", "groups", study.measure.title], rows, labels=2))


def clusterings(study):
    """Claim 5: Table A.1."""
    rows, differences = [], []
    for ablation in study.by_table[A1.table]:
        for k in sorted({k for _, k in ablation.settings}):
            plain, spectral = (ablation.settings.get((name, k)) for name in ("kmeans", "spectral"))
            differences.append(study.less(plain, spectral))
            if differences[-1] is not None:
                rows.append([f"{k}", *(number(study.score(s)) for s in (plain, spectral)), f"{differences[-1]:+.1f}"])
    verdict, reason = study.weigh(differences)
    text = "k-means gives better features than spectral clustering, at any number of groups"
    return Claim(5, text, verdict, reason, Table(["groups", "k-means", "spectral", "difference"], rows))


def shape(study):
    """Claim 6: Figure A.2."""
    text = "With more negatives retrieval rises, NMI falls in the end, and kNN is best in between"
    found = NEGATIVES.find(study.settings)
    if not found:
        return Claim(6, text, OPEN, "no MoCo with three sizes of its queue", Table(["negatives"], []))
    points = dict(sorted(found[0].settings.items()))
    measures = [m for m in MEASURES if all(m in s.scores for s in points.values())]
    rows = [[f"{size:,}", *(s.cell(m) for m in measures)] for (size,), s in points.items()]
    table = Table(["negatives", *(m.title for m in measures)], rows)
    chosen = [next((m for m in pair if m in measures), None) for pair in
              ((RETRIEVAL, RETRIEVAL_BEFORE), (NMI, NMI_BEFORE), (KNN, KNN_BEFORE))]
    if None in chosen:
        return Claim(6, text, OPEN, "needs retrieval, NMI and kNN of every size", table)
    retrieval, nmi, knn = ([s.score(m) for s in points.values()] for m in chosen)
    told = {
        "retrieval, most over fewest": (retrieval[-1] - retrieval[0], chosen[0]),
        "NMI, its best over that of most": (max(nmi[:-1]) - nmi[-1], chosen[1]),
        "kNN, its best inside over fewest": (max(knn[1:-1]) - knn[0], chosen[2]),
        "kNN, its best inside over most": (max(knn[1:-1]) - knn[-1], chosen[2]),
    }
    noises = {m: study.noise(m) for m in chosen}
    clear = [math.copysign(abs(d) > noises[m], d) for d, m in told.values()]
    verdict = HOLDS if min(clear) > 0 else FAILS if min(clear) < 0 and sum(clear) <= 0 else OPEN
    parts = "; ".join(f"{name} {d:+.1f} (clear: {noises[m]:.1f})" for name, (d, m) in told.items())
    return Claim(6, text, verdict, f"{parts} (holds: all four clear; does not hold: one clearly against, and no more "
                 "for it than against it)", table)


CLAIMS = (improves, parts, interior, groups, clusterings, shape)
