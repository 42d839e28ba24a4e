"""Runs of MaskCo and of what it is compared with: what they are called, and stage by stage side by side."""

from revisit_ssl.papers.maskco.sweeps import TABLE_1
from revisit_ssl.papers.methods import METHODS as TITLES
from revisit_ssl.report import names, settings
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.settings import Measure, choose, gain, is_clear, text_of
from revisit_ssl.report.tables import bold

STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5")
MEASURES = tuple(Measure("multi_layer", stage, "top1", stage) for stage in STAGES)
LAST = Measure("last_layer", "pre_logits", "top1", "last layer")
OTHERS = {"random": "Random", "relative_patch": "Relative-Pos", "rotation": "Rotation", "densecl": "DenseCL"}
METHODS = {name: OTHERS.get(name, TITLES.get(name, name)) for name in (*TABLE_1, "maskco_in")}
FILLS = {"zero": "mask", "mean": "mask, the view's mean", "noise": "mask, noise", "token": "mask, a learnt colour",
         "none": "no mask"}  # fmt: skip


def settings_of(results):
    """[Setting] of these methods whose stages were measured."""
    found = settings.settings_of(r for r in results if r.task is not None)
    return [s for s in found if s.name in METHODS]


def method_name(name):
    """Relative-Pos of relative_patch"""
    return {**TITLES, **OTHERS}.get(name, name)


def is_plain(setting):
    """Whether a run has the paper's mask and an MPH, or is of another method."""
    return setting.run.pretext != "maskco" or (setting.task["fill"], setting.task["mph"]) == ("zero", "bottleneck")


def options_of(setting):
    """16 negatives of 31 images, mask, MPH of 2 bottlenecks; empty of another method"""
    t = setting.task
    if setting.run.pretext != "maskco":
        return ""
    head = "no MPH" if t["mph"] == "none" else f"MPH of {t['mph_depth']} x {t['mph']}"
    head += "" if t["mph"] == "none" or t["mph_on_key"] else ", query alone"
    own = " and of the own one" if t["intra"] else ""
    return f"{t['negatives']} negatives of each of {t['group'] - 1} images{own}, {FILLS[t['fill']]}, {head}"


def name_of(setting):
    """MaskCo, no mask, no MPH"""
    title = METHODS[setting.name]
    if is_plain(setting):
        return title
    head = ", no MPH" if setting.task["mph"] == "none" else f", MPH {setting.task['mph']}"
    return f"{title}, {FILLS[setting.task['fill']]}{head}"


def methods_of(found):
    """{recipe: Setting} of one ground, of runs with the paper's mask and MPH."""
    found = [s for s in found if is_plain(s) and any(m in s.scores for m in (*MEASURES, LAST))]
    order = names.order((s.name for s in found), METHODS)
    return {name: choose([s for s in found if s.name == name]) for name in order}


def methods_table(found):
    """Rows: of each method of one ground the untrained network, the trained one, the gain; columns: stages."""
    chosen = methods_of(found)
    measures = [m for m in (*MEASURES, LAST) if any(m in s.scores for s in chosen.values())]
    rows, told = [], []
    for name, s in chosen.items():
        title = METHODS[name]
        clear = [is_clear(s.untrained.get(m), s.scores.get(m)) for m in measures]
        rows.append([title, "untrained", *(text_of(s.untrained.get(m)) for m in measures)])
        rows.append([title, "trained", *(bold(s.cell(m), yes) for m, yes in zip(measures, clear, strict=True))])
        rows.append([title, "gain", *(gain(s.untrained.get(m), s.scores.get(m)) for m in measures)])
        told.append(names.sentence(title, options_of(s), s.length))
    head = (
        "Top-1 in percent of linear classifiers on five stages, trained together: mean ± sample standard deviation "
        "(seeds). Untrained: the same network. Bold: larger than untrained by at least two standard deviations of the "
        "difference, which one seed cannot show."
    )
    return Table(["method", "", *(m.title for m in measures)], rows, labels=2, notes=(head, " ".join(told)))


def log_of(setting, scalar):
    """{seed: number}: a column of the log at the end of training; {} where it was not kept."""
    return setting.scores.get(Measure("vocabulary", "", scalar), {})


def curves_of(setting, scalar):
    """{seed: [[epoch, number]]} of a column of the log."""
    lines = setting.lines.get(Measure("vocabulary", "", scalar), {})
    return {seed: r.extra["curve"] for seed, r in lines.items() if r.extra.get("curve")}
