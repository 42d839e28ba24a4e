"""How a paper's page says that its runs are made again: command lines of sweeps."""

import dataclasses
import shlex

from revisit_ssl.papers import get_recipe, presets_of
from revisit_ssl.report.blocks import Table
from revisit_ssl.runs.identity import LENGTH


def flags_for(settings, name):
    """--preset sample --dataset folder:/data/plants --epochs 6: the preset of the runs, or one that has their data set,
    else "sample"; and what the runs of the method itself have otherwise.

    Args:
        settings: [Setting] of one ground.
        name: of the recipe whose presets count, such as "obow".
    """
    dataset, known = settings[0].ground.dataset, presets_of(name)
    used = [s.run.preset for s in settings if s.run.preset in known]
    preset = next(iter([*used, *(p for p in known if get_recipe(name, p).dataset == dataset)]), "sample")
    recipe = get_recipe(name, preset)
    own = next((s.run.training for s in settings if s.run.name == name and s.run.preset == preset), {})
    changed = {"dataset": dataset} | {field: own[field] for field in LENGTH if field in own}
    flags = [
        f" --{field.replace('_', '-')} {shlex.quote(str(value))}"
        for field, value in changed.items() if value != getattr(recipe, field)
    ]
    return f"--preset {preset}{''.join(flags)}"


def sweep_command(family, flags):
    """The command line of a sweep, three seeds."""
    return f"python experiments/sweep.py {family} {flags} --seeds 0 1 2"


def with_commands(claims, folder, suffix, flags):
    """[Claim], each with the path of its picture in ``folder`` and the command of its runs."""
    return [
        dataclasses.replace(c, drawn=f"{folder}/{c.drawn}{suffix}.png", sweep=sweep_command(c.sweep, flags))
        for c in claims
    ]


def sweep_row(what, sweeps, family, flags):
    """A row of ``commands_table``: what comes out, and a family of a paper's ``sweeps``."""
    return [what, f"{len(sweeps[family])}", f"`{sweep_command(family, flags)}`"]


def commands_table(rows):
    """[Table] of [what, number of settings, command in backquotes]."""
    note = "A sweep goes on where it was; `--plan` prints what it would do, `--only` and `--seeds` choose."
    return [Table(["", "settings", "command"], rows, labels=3, notes=(note,))]
