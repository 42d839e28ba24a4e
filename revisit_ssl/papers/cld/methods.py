"""Runs of the instance methods, each with and without CLD: what they are called, and side by side."""

from dataclasses import dataclass

from revisit_ssl.papers.cld.ablations import CLUSTERINGS, HEADS
from revisit_ssl.papers.methods import METHODS, method_name
from revisit_ssl.report import names, settings
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.settings import Measure, Setting, choose, is_clear, rank, text_of, unique
from revisit_ssl.report.tables import bold

PRETEXTS = ("npid", "moco", "simclr", "byol", "infomin")

# What the paper reads at the projection (its f_I), then the layer before the heads, as everywhere in this repository.
KNN = Measure("knn", "projection", "top1", "kNN, projection")
NMI = Measure("nmi", "projection", "nmi", "NMI, projection")
RETRIEVAL = Measure("retrieval", "projection", "recall1", "R@1, projection")
LINEAR = Measure("linear", "pre_logits", "top1", "linear, pre_logits")
KNN_BEFORE = Measure("knn", "pre_logits", "top1", "kNN, pre_logits")
CROPS = Measure("linear_images", "pre_logits", "top1", "SGD linear on crops, pre_logits")
NMI_BEFORE = Measure("nmi", "pre_logits", "nmi", "NMI, pre_logits")
RETRIEVAL_BEFORE = Measure("retrieval", "pre_logits", "recall1", "R@1, pre_logits")
MEASURES = (KNN, KNN_BEFORE, LINEAR, CROPS, NMI, NMI_BEFORE, RETRIEVAL, RETRIEVAL_BEFORE)


def settings_of(results):
    """[Setting] of the instance methods; lines without their options are of no use here and left out."""
    return [s for s in settings.settings_of(r for r in results if r.task) if s.run.pretext in PRETEXTS]


def weight_of(setting):
    """Of CLD's term, 0 without one: runs of npid_cld with weight 0 have none."""
    return setting.task.get("cld", {}).get("weight", 0.0)


def method_of(setting):
    """NPID … InfoMin, with the term or without."""
    return method_name(setting.name.removesuffix("_cld"))


def name_of(setting):
    """MoCo, or MoCo + CLD."""
    return f"{method_of(setting)} + CLD" if weight_of(setting) else method_of(setting)


def options_of(setting):
    """λ 1, 128 groups (k-means), T 0.1 and 0.2, Linear: what tells its runs from others of the method."""
    task, weight, cld = setting.task, weight_of(setting), setting.task.get("cld", {})
    parts = []
    if weight:
        parts += [f"λ {weight:g}", f"{cld['groups']} groups ({CLUSTERINGS[cld['clustering']]})"]
        parts += ["shared head"] if cld["branch"] == "shared" else []
        parts += [] if cld["cross"] else ["no cross-augmentation"]
        parts += ["centroids held"] if cld["stop_gradient"] else []
        parts += [f"{cld['chunks']} chunks"] if cld["chunks"] > 1 else []
    if "temperature" in task:
        parts.append(f"T {task['temperature']:g}" + (f" and {cld['temperature']:g}" if weight else ""))
    parts += [f"queue {task['queue_size']:,}"] if "queue_size" in task else []
    parts += [HEADS.get(task["head"], task["head"])] if "head" in task else []
    parts += [f"{crops} crop{'' if crops == 1 else 's'}"] if (crops := crops_of(setting.run.pretext, task)) else []
    parts += [f"{task['bank_semantics']} bank"] if "bank_semantics" in task else []
    return ", ".join(parts)


def crops_of(pretext, task):
    """How many crops of an image a method with these options sees; None where they do not say."""
    if "crops" not in task or task["crops"]:
        return task.get("crops")
    # Where the recipe leaves it open CLD has one more: a second view, or (MoCo) a second query beside the key.
    with_term = bool(task.get("cld", {}).get("weight")) and not task.get("symmetric")
    return (1 if pretext == "npid" else 2) + with_term


def plain(pretext, task):
    """Options written alike: crops that are left open, and a term of weight 0, whose other options mean nothing."""
    task = task | {"crops": crops_of(pretext, task)}
    return task if task.get("cld", {}).get("weight") else {name: v for name, v in task.items() if name != "cld"}


def changes(without, with_):
    """{option: (without, with)}: what differs between two settings beside the term itself."""
    a, b = (
        {n: v for n, v in (s.task | s.run.training).items() if n != "cld"} | {"crops": crops_of(s.run.pretext, s.task)}
        for s in (without, with_)
    )
    return {name: (a.get(name), b.get(name)) for name in unique([*a, *b]) if a.get(name) != b.get(name)}


@dataclass(frozen=True)
class Pair:
    """A method without and with CLD; either may not have been run. ``others`` were run too and are not shown."""

    method: str
    without: Setting | None
    with_: Setting | None
    others: int = 0


def pairs_of(settings):
    """[Pair] of one ground, in the paper's order: of several settings two that differ in nothing but the term come
    first, then the pair whose weaker half ranks highest."""

    def pair_rank(pair):
        clean = None not in pair and not changes(*pair)
        return None not in pair, clean, min(rank(s) for s in pair if s is not None)

    found = []
    for method in names.order(map(method_of, settings), METHODS.values()):
        mine = [s for s in settings if method_of(s) == method]
        without, with_ = ([s for s in mine if bool(weight_of(s)) == yes] for yes in (False, True))
        one, two = max(((a, b) for a in without or [None] for b in with_ or [None]), key=pair_rank)
        found.append(Pair(method, one, two, len(mine) - (one is not None) - (two is not None)))
    return found


def methods_table(settings):
    """Rows: of each method the untrained network, without, with, and the gain of CLD; columns: the measures."""
    pairs = pairs_of(settings)
    shown = [s for p in pairs for s in (p.without, p.with_) if s]
    measures = [m for m in MEASURES if any(m in s.scores for s in shown)]
    rows, options, notes = [], [], []
    for pair in pairs:
        for text, setting in (("without CLD", pair.without), ("with CLD", pair.with_)):
            if setting is None:
                continue
            if not rows or rows[-1][0] != pair.method:
                rows.append([pair.method, "untrained", *(text_of(setting.untrained.get(m)) for m in measures)])
            cells = [bold(setting.cell(m), is_clear(setting.untrained.get(m), setting.scores.get(m))) for m in measures]
            rows.append([pair.method, text, *cells])
            options.append(names.sentence(name_of(setting), options_of(setting), setting.length))
        if pair.without and pair.with_:
            rows.append([pair.method, "gain of CLD", *(gain(pair, m) for m in measures)])
            other = changes(pair.without, pair.with_)
            if other:
                told = ", ".join(f"{name.replace('_', ' ')} {a} and {b}" for name, (a, b) in other.items())
                notes.append(f"**{pair.method} with and without CLD differ in more than the term:** {told}.")
        if pair.others:
            notes.append(f"{pair.method}: {pair.others} other settings were run and are not in this table.")
    head = (
        "In percent: mean ± sample standard deviation (seeds). Untrained: the same network and head, the better of as "
        "initialised and with BatchNorm statistics re-estimated. Bold: larger (than untrained; than without CLD) by at "
        "least two standard deviations of the difference, which one seed cannot show. The gain is paired by seed."
    )
    return Table(["method", "", *(m.title for m in measures)], rows, labels=2, notes=(head, " ".join(options), *notes))


def gain(pair, measure):
    """+1.9 ± 0.4 (3), paired by seed where both were run; bold where it is clear."""
    one, two = (s.scores.get(measure) for s in (pair.without, pair.with_))
    return bold(settings.gain(one, two), is_clear(one, two))


def control_of(found):
    """Function of a Setting with the term and the options that may differ: the same without it, or None."""

    def control(first, varied):
        allowed = {option for option in varied if "." not in option}
        same = [s for s in found if not weight_of(s) and (s.ground, s.run.pretext) == (first.ground, first.run.pretext)]
        return choose([s for s in same if not set(changes(s, first)) - allowed])

    return control
