"""What DeeperCluster's texts claim, weighed by our own small runs with the rule of ``report.claims``.

Of each claim the runs of that data set and network count which have most to say of it.
"""

import statistics

from revisit_ssl.papers.deepercluster.methods import METHODS
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.claims import OPEN, WEIGHING, Claim, judged, noise, noise_of
from revisit_ssl.report.settings import Measure, by_ground, choose, number, points, text_of, unique

LINEAR = Measure("linear", "pre_logits", "top1", "linear")
COLOUR = Measure("clusters", "pre_logits", "colour_deviation", "colour deviation")
CHANCE = Measure("clusters", "pre_logits", "chance_deviation", "by chance")
PAIRS = (("rotnet", "rotnet_sobel"), ("deepcluster_rgb", "deepcluster"), ("deepercluster_rgb", "deepercluster"))
LAYERS = tuple(f"conv{i}" for i in range(1, 14))
EARLY, LATE = LAYERS[:4], LAYERS[6:]
ORDER = (("rotnet", "deepercluster"), ("rotnet", "deepcluster"), ("deepercluster", "supervised"),
         ("deepcluster", "supervised"))
RULE = (
    f"{WEIGHING} Claim 1 is of percent of a colour channel's range, 3 of mean average precision on scenes that the "
    "package draws, all others of accuracies. Where two runs differ in more than what is compared, the table says so."
)


def claims_of(settings):
    """[Claim]: six claims, each by the runs of one ground.

    Args:
        settings: [Setting] of these methods and of the supervised network, on any grounds.
    """
    grounds = by_ground(settings)
    found = []
    for claim in CLAIMS:
        weighed = [(claim(mine), ground) for ground, mine in grounds.items()]
        best, ground = max(weighed, key=lambda pair: len(pair[0].table.rows), default=(claim([]), None))
        reason = f"{best.reason} [{ground.text}]" if best.table.rows else best.reason
        found.append(Claim(best.number, best.text, best.verdict, reason, best.table))
    return found


def chosen(settings):
    """{recipe: Setting}, one each; those that sample by the natural frequencies of clusters are not among them."""
    plain = [s for s in settings if s.task.get("sampling", "uniform") == "uniform"]
    return {name: choose([s for s in plain if s.name == name]) for name in unique(s.name for s in plain)}


def colours(settings):
    """Claim 1 (supplement 4.2, Figure 2); of untrained networks any of each kind counts, since methods share them."""
    mine, rows, differences = chosen(settings), [], []

    def compare(what, *kinds):
        """``kinds``: {Measure: {seed: number}} of a network that sees colours and of one that sees Sobel."""
        both = [kind.get(COLOUR) for kind in kinds]
        if all(both):
            differences.append((what, points(*both), noise_of([tuple(b.values()) for b in both])))
            rows.append([what, *map(text_of, both), text_of(kinds[0].get(CHANCE))])

    known = {name: s.untrained for name, s in mine.items() if COLOUR in s.untrained}
    starts = [next((known[n] for n in names if n in known), {}) for names in zip(*PAIRS, strict=True)]
    compare("untrained network", *starts)
    for pair in PAIRS:
        compare(METHODS[pair[0]].partition(",")[0], *(mine[n].scores if n in mine else {} for n in pair))
    text = "Clusters of networks that see colours are more of one colour than those of networks that see Sobel"
    return claim(1, text, differences, Table(["network", "RGB", "Sobel", "RGB, by chance"], rows))


def sobel(settings):
    """Claim 2 (supplement 4.2, Table 4)."""
    mine, rows, gains = chosen(settings), [], {}
    for rgb, other in PAIRS:
        both = [mine[name].scores.get(LINEAR) if name in mine else None for name in (rgb, other)]
        if all(both):
            gains[rgb] = points(*both)
            rows.append([METHODS[rgb].partition(",")[0], *map(text_of, both), f"{gains[rgb]:+.1f}"])
    clear = noise([mine[name] for pair in PAIRS for name in pair if name in mine], LINEAR)
    clustered = {name: gain for name, gain in gains.items() if name != "rotnet"}
    differences = [(METHODS[name].partition(",")[0], gain, clear) for name, gain in clustered.items()]
    if "rotnet" in gains:
        # A difference of differences has twice the variance.
        differences += [
            (f"{METHODS[name].partition(',')[0]} more than RotNet", gain - gains["rotnet"], clear * 2**0.5)
            for name, gain in clustered.items()
        ]
    text = "Sobel helps methods that cluster, and RotNet little"
    return claim(2, text, differences, Table(["method", "RGB", "Sobel", "difference"], rows))


def retrieval(settings):
    """Claim 3 (supplement 4.1, Table 3)."""
    mine, rows = chosen(settings), []
    measure = deepest(mine.values(), "instance_retrieval", "map")
    scores = {name: s.scores[measure] for name, s in mine.items() if measure in s.scores}
    if "rotnet" in scores and measure in mine["rotnet"].untrained:
        scores = {"random": mine["rotnet"].untrained[measure], **scores}
    for name, values in scores.items():
        rows.append([{"random": "Random", "supervised": "Labels"}.get(name, METHODS.get(name, name)), text_of(values)])
    clear = noise(mine.values(), measure) if scores else 0
    pairs = [pair for pair in (("random", "rotnet"), *ORDER) if set(pair) <= {*scores}]
    differences = [(f"{high} over {low}", points(scores[low], scores[high]), clear) for low, high in pairs]
    text = "By instance retrieval: random < RotNet < DeeperCluster, DeepCluster < labels"
    return claim(3, text, differences, Table(["network", "mAP"], rows))


def layers(settings):
    """Claim 4 (supplement 1, Table 1)."""
    mine, rows, differences = chosen(settings), [], []
    measured = [Measure("linear", layer) for layer in LAYERS]
    curves = {
        name: {m.endpoint: statistics.fmean(mine[name].scores[m].values()) for m in measured if m in mine[name].scores}
        for name in ("rotnet", "deepercluster", "supervised") if name in mine
    }
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    clear = {m.endpoint: noise([mine[name] for name in curves], m) for m in measured} if curves else {}
    rows = [[METHODS.get(name, "labels"), *(number(curve.get(layer)) for layer in LAYERS)]
            for name, curve in curves.items()]
    if {"rotnet", "deepercluster"} <= {*curves}:
        low, high = curves["rotnet"], curves["deepercluster"]
        both = [layer for layer in LAYERS if layer in low and layer in high]
        differences += [(f"RotNet first at {layer}", low[layer] - high[layer], clear[layer])
                        for layer in both if layer in EARLY]
        differences += [(f"DeeperCluster first at {layer}", high[layer] - low[layer], clear[layer])
                        for layer in both if layer in LATE]
        for name in ("rotnet", "deepercluster"):
            *before, last = curves[name]
            top = max(before, key=curves[name].get)
            fall = curves[name][top] - curves[name][last]
            differences.append((f"{METHODS[name]} falls from {top} to {last}", fall, clear[last]))
    text = "RotNet is ahead in the first layers and DeeperCluster behind them; both are best before the last layer"
    return claim(4, text, differences, Table(["method", *LAYERS], rows))


def sampling(settings):
    """Claim 5 (DeepCluster, and supplement 5: uniform sampling of pseudo-classes)."""
    rows, differences = [], []
    for name in METHODS:
        mine = [s for s in settings if s.name == name]
        both = [choose([s for s in mine if s.task.get("sampling", "uniform") == kind]) for kind in
                ("natural", "uniform")]
        if all(both) and all(LINEAR in s.scores for s in both):
            natural, uniform = (s.scores[LINEAR] for s in both)
            differences.append((METHODS[name], points(natural, uniform), noise(mine, LINEAR)))
            rows.append([METHODS[name], text_of(natural), text_of(uniform)])
    text = "Sampling images uniformly over clusters is better than as they come"
    return claim(5, text, differences, Table(["method", "as they come", "uniformly"], rows))


def initial(settings):
    """Claim 6 (supplement 3, Table 2), but for the length of training: a line of results keeps one."""
    mine, rows, differences = chosen(settings), [], []
    for name in METHODS:
        for m in mine[name].scores if name in mine else ():
            start = mine[name].untrained.get(m)
            if m.probe == "finetune" and m.metric == "top1" and start:
                trained = mine[name].scores[m]
                differences.append((METHODS[name], points(start, trained), noise([mine[name]], m)))
                rows.append([METHODS[name], text_of(start), text_of(trained)])
    text = "With labels for all weights, a pretrained start ends higher than a random one"
    return claim(6, text, differences, Table(["first values", "random", "pretrained"], rows))


CLAIMS = (colours, sobel, retrieval, layers, sampling, initial)


def deepest(settings, probe, metric):
    """The Measure of that probe at the layer nearest to the output that all of them have; one that none has else."""
    places = [{m.endpoint for m in s.scores if (m.probe, m.metric) == (probe, metric)} for s in settings]
    shared = set.intersection(*filter(None, places)) if any(places) else set()
    order = (*LAYERS, "block4", "fc6", "fc7", "pre_logits")
    # A map is what R-MAC is of; a vector counts where there is nothing else.
    maps = [name for name in order if name in shared and name not in ("fc6", "fc7", "pre_logits")]
    endpoint = maps[-1] if maps else next((name for name in reversed(order) if name in shared), "")
    return Measure(probe, endpoint, metric)


def claim(at, text, differences, table):
    """The Claim of [(what, points, from how many on they are clear)]."""
    if not differences:
        return Claim(at, text, OPEN, "no runs that could tell", Table(table.columns, []))
    verdict, reason = judged(differences)
    return Claim(at, text, verdict, reason, table)
