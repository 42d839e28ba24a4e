"""Published tables as pivots of numbers.csv, our numbers in columns of their own."""

from revisit_ssl.report.blocks import Table
from revisit_ssl.report.settings import unique
from revisit_ssl.report.tables import printed


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
