"""What pages share: how one is written, what could not be drawn, the list of runs, numbers that stand in no table."""

import os

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.report import names
from revisit_ssl.report.blocks import Heading, Picture, Table, Text, as_html, as_markdown
from revisit_ssl.runs import files as storage


def write_page(title, blocks, folder, name):
    """Writes ``folder``/``name``.md, .html (one file that needs nothing else) and the pictures, drawings as PNG and as
    PDF; the HTML page's path.

    Raises:
        InputError: the folder cannot be written to.
    """
    for block in blocks:
        if isinstance(block, Picture):
            storage.write_atomically(os.path.join(folder, block.path), block.png)
            if block.pdf:
                path = os.path.join(folder, block.path.removesuffix(".png") + ".pdf")
                storage.write_atomically(path, block.pdf)
    storage.write_atomically(os.path.join(folder, f"{name}.md"), as_markdown(title, blocks))
    path = os.path.join(folder, f"{name}.html")
    storage.write_atomically(path, as_html(title, blocks))
    return path


def drawn(figure, *arguments):
    """[Picture] of a figure's function, or why there is none."""
    try:
        return [figure(*arguments)]
    except InputError as reason:
        return [Text(f"Not drawn: {reason}.")]


def found_pictures(folder, pictures):
    """[block] of the pictures that lie in a folder, drawn apart: {path from the page: caption}."""
    blocks = []
    for path, caption in pictures.items():
        place = os.path.join(folder or "", path)
        if folder is not None and tf.io.gfile.exists(place):
            with tf.io.gfile.GFile(place, "rb") as file:
                inside, name = os.path.split(path)
                picture = Picture(name.removesuffix(".png"), file.read(), caption, inside)
            blocks += [Heading(picture.alt), picture]
    return blocks


def titled(tables):
    """[block] of [(title, Table)]."""
    return [block for title, table in tables for block in (Text(f"**{title}**"), table)]


def filled(tables):
    """How many cells of [(title, Table)] hold a number of ours: in columns, or in a row, that say so."""
    count = 0
    for _, table in tables:
        for row in table.rows:
            count += sum(bool(cell) for name, cell in zip(table.columns, row, strict=True) if name.startswith("ours"))
            count += row[0].endswith("ours**")
    return count


def runs_table(columns, runs):
    """What was run: one row per setting, with its seeds and where the numbers come from.

    Args:
        columns: names of the first columns, texts.
        runs: [(cells of these columns, [Result] of the setting)].
    """
    rows = []
    for cells, mine in runs:
        seeds, commits, days, hardware = (
            sorted({getter(r) for r in mine})
            for getter in (lambda r: r.seed, lambda r: r.commit, lambda r: r.date[:10], lambda r: r.hardware)
        )
        days = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        known = [", ".join(map(str, seeds)), mine[0].setting, ", ".join(commits), days, ", ".join(hardware)]
        rows.append([*cells, *known])
    return Table([*columns, "seeds", "recipe", "commit", "date", "hardware"], rows, labels=3)


def settings_table(settings, name, options):
    """``runs_table`` of [Setting]; ``name``, ``options``: functions of a Setting, texts."""
    rows = []
    for s in settings:
        steps = "" if s.steps is None else f"{s.steps:,}"
        cells = [name(s), options(s), s.ground.text, s.length, steps]
        rows.append((cells, [r for found in s.lines.values() for r in found.values()]))
    return runs_table(["method", "options", "data and network", "length", "steps"], rows)


def others_table(rows, title):
    """Published numbers that stand in no table of the page.

    Args:
        rows: [row] of ``load_published``.
        title: function, what a method is called.
    """
    lines = []
    for r in rows:
        share = "" if r["labels"] == 1 else f", {names.share(r['labels'])} of the labels"
        data = f"{names.dataset_name(r['dataset'])}{share}"
        measured = f"{names.probe_name(r['probe'])}, {r['endpoint']}, {r['metric']}"
        setting = [part.replace("=", " ").replace("_", " ") for part in r["setting"].split()]
        network = [names.network_name(r["backbone"], r["width"])] if r["backbone"] and not setting else []
        value = f"{r['value']}{'' if r['confirmed'] == 'yes' else '†'}"
        line = [r["paper"], r["table"], title(r["pretext"]), data, measured, ", ".join([*network, *setting]), value]
        lines.append([*line, r["note"]])
    columns = ["source", "table", "method", "data", "measured", "setting", "value", ""]
    note = "As they are printed, of other authors and of this paper where no table holds them; nothing here is ours."
    return Table(columns, lines, labels=6, notes=(note,))
