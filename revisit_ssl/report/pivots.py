"""Published tables as pivots of numbers.csv, our numbers in columns of their own; which runs are of a scale."""

import dataclasses
import json

from revisit_ssl.report.blocks import Table
from revisit_ssl.report.settings import choose, unique
from revisit_ssl.report.tables import printed

LENGTH = ("split", "fraction", "batch_size", "epochs", "max_steps")
SCALE = (
    "Ours stands here only if it is of the published scale: the same network, data, batch, epochs and options. Runs of "
    "another scale are in the tables above."
)


def pivot(titles, theirs, ours, *, notes=(), text=printed, columns=None):
    """A table of pairs of columns, the paper's number and ours.

    Args:
        titles: of the first columns.
        theirs: {(texts of the first columns, column): row of ``load_published``}.
        ours: {the same: text}; a row of ours that the paper does not have stands below its rows.
        notes: paragraphs under the table.
        text: function that prints a published number, or None.
        columns: {column: what stands above it}; by default those of ``theirs``, as they are.
    """
    columns = columns or {column: column for _, column in theirs}
    lines = []
    for labels in unique(labels for labels, _ in [*theirs, *ours]):
        cells = [c for key in columns for c in (text(theirs.get((labels, key))), ours.get((labels, key), ""))]
        lines.append([*labels, *cells])
    heads = (("", len(titles)), *((head, 2) for head in columns.values())) if any(columns.values()) else ()
    names = [*titles, *["paper", "ours"] * len(columns)]
    return Table(names, lines, labels=len(titles), heads=heads, notes=tuple(notes))


def of_scale(settings, recipe, changed=None, **more):
    """The Setting of a recipe's published scale that stands in a cell, or None; ``changed``, ``more``: ``at_scale``."""
    return choose([s for s in settings if at_scale(s.run, recipe, changed, **more)])


def at_scale(r, recipe, changed=None, *, epochs=None, plain=None):
    """Whether a Result's run has a recipe's network, data, length and options but for ``changed``.

    Args:
        r: Result.
        recipe: Recipe of the published scale.
        changed: {option: value} that the run has instead, such as {"temperature": 0.1}.
        epochs: of the published number, where it is not the recipe's.
        plain: function of (pretext, options) that writes options that mean the same alike.
    """
    network = (r.pretext, r.backbone, r.width, r.dataset)
    same = network == (recipe.pretext, recipe.backbone, recipe.width, recipe.dataset)
    length = {name: getattr(recipe, name) for name in LENGTH} | ({"epochs": epochs} if epochs else {})
    if not same or {name: r.training.get(name) for name in LENGTH} != length:
        return False
    mine, wanted = (json.loads(json.dumps(options)) for options in (r.task, dataclasses.asdict(recipe.task)))
    for name, value in (changed or {}).items():
        *path, last = name.split(".")
        (wanted[path[0]] if path else wanted)[last] = value
    if plain:
        mine, wanted = plain(r.pretext, mine), plain(r.pretext, wanted)
    return mine == wanted


def options_of(row):
    """{option: value} of a published number's setting: "temperature=0.1 symmetric=no"."""
    return {name: value_of(text) for name, text in (part.split("=") for part in row["setting"].split())}


def value_of(text):
    """10, 0.25, True of "yes", or the text."""
    if text in ("yes", "no"):
        return text == "yes"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
