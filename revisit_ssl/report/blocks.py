"""The parts of a page. Each writes itself as Markdown and as HTML, so that both reports say the same."""

import base64
import html
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str

    def markdown(self):
        return f"## {plain(self.text)}"

    def html(self):
        return f"<h2>{rich(self.text)}</h2>"


@dataclass(frozen=True)
class Text:
    """A paragraph; ``**bold**`` and `` `code` `` are marked up."""

    text: str

    def markdown(self):
        return plain(self.text)

    def html(self):
        return f"<p>{rich(self.text)}</p>"


@dataclass(frozen=True)
class Bullets:
    """A list of one-line texts."""

    items: list

    def markdown(self):
        return "\n".join(f"- {plain(item)}" for item in self.items)

    def html(self):
        return "<ul>" + "".join(f"<li>{rich(item)}</li>" for item in self.items) + "</ul>"


@dataclass(frozen=True)
class KeyNumbers:
    """A few large numbers: [(number, what it is)]."""

    numbers: list

    def markdown(self):
        return "\n".join(f"- **{plain(number)}** {plain(label)}" for number, label in self.numbers)

    def html(self):
        cards = (f"<div><b>{rich(number)}</b><span>{rich(label)}</span></div>" for number, label in self.numbers)
        return f'<div class="numbers">{"".join(cards)}</div>'


@dataclass(frozen=True)
class Table:
    """Rows of texts; the first ``labels`` columns are set left, the others, numbers, right.

    ``heads`` [(text, columns that it spans)] stand above the columns: a second line of headers in HTML, a prefix of
    each column's name in Markdown, which has one line. ``notes`` are paragraphs under the table.
    """

    columns: list
    rows: list
    labels: int = 1
    heads: tuple = ()
    notes: tuple = ()

    @property
    def names(self):
        """The columns with what stands above them: 4x paper."""
        above = [text for text, span in self.heads for _ in range(span)] or [""] * len(self.columns)
        return [f"{head} {column}".strip() for head, column in zip(above, self.columns, strict=True)]

    def markdown(self):
        rule = [":--" if i < self.labels else "--:" for i in range(len(self.columns))]
        lines = [self.names, rule, *self.rows]
        cells = ([plain(cell).replace("|", "\\|") for cell in line] for line in lines)
        table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
        return "\n\n".join([table, *map(plain, self.notes)])

    def html(self):
        starts = {sum(span for _, span in self.heads[:i]) for i in range(len(self.heads))} - {0}
        classes = []
        for i, name in enumerate(self.columns):
            marks = [(i >= self.labels, "n"), (i in starts, "first"), (name == "ours", "ours")]
            found = " ".join(mark for yes, mark in marks if yes)
            classes.append(f' class="{found}"' if found else "")
        above = "".join(f'<th colspan="{span}">{rich(text)}</th>' for text, span in self.heads)
        head = "".join(f"<th{mark}>{rich(cell)}</th>" for mark, cell in zip(classes, self.columns, strict=True))
        # Rows with the same first label stand together under a stronger line.
        again = [i > 0 and row[0] == self.rows[i - 1][0] for i, row in enumerate(self.rows)]
        kinds = [f' class="{"again" if same else "new"}"' if any(again) else "" for same in again]
        body = [
            f"<tr{kind}>"
            + "".join(f"<td{mark}>{rich(cell)}</td>" for mark, cell in zip(classes, row, strict=True))
            + "</tr>"
            for kind, row in zip(kinds, self.rows, strict=True)
        ]
        head = (f'<tr class="heads">{above}</tr>' if above else "") + f"<tr>{head}</tr>"
        grouped = ' class="grouped"' if above else ""
        table = f"<table{grouped}><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>"
        notes = "".join(f'<p class="note">{rich(note)}</p>' for note in self.notes)
        return f'<div class="scroll">{table}</div>{notes}'

    def _repr_markdown_(self):  # what a notebook shows
        return self.markdown()


@dataclass(frozen=True)
class Facts:
    """[(name, value)], a two-column list."""

    facts: list

    def markdown(self):
        return Table(["", ""], [[name, value] for name, value in self.facts], labels=2).markdown()

    def html(self):
        return "<dl>" + "".join(f"<dt>{rich(n)}</dt><dd>{rich(v)}</dd>" for n, v in self.facts) + "</dl>"


@dataclass(frozen=True)
class Picture:
    """A PNG, kept in a folder beside the Markdown page and inside the HTML page; a ``pictures.Drawing`` as PDF too."""

    name: str
    png: bytes
    caption: str
    folder: str = "report"

    @property
    def path(self):
        """Where it lies, from the page."""
        return f"{self.folder}/{self.name}.png"

    @property
    def pdf(self):
        """The same as PDF bytes; None of photographs."""
        return getattr(self.png, "pdf", None)

    @property
    def alt(self):
        """The caption's first sentence."""
        return re.sub(r"\*\*|`", "", self.caption).split(". ")[0].rstrip(".")

    def markdown(self):
        sharp = f" ([PDF]({self.path.removesuffix('.png')}.pdf))" if self.pdf else ""
        return f"![{plain(self.alt)}]({self.path})\n\n{plain(self.caption)}{sharp}"

    def html(self):
        data = base64.b64encode(self.png).decode()
        image = f'<img src="data:image/png;base64,{data}" alt="{html.escape(self.alt)}">'
        return f"<figure>{image}<figcaption>{rich(self.caption)}</figcaption></figure>"

    def _repr_png_(self):  # what a notebook shows
        return self.png


@dataclass(frozen=True)
class Folded:
    """A title and a block that the HTML page shows on a click."""

    title: str
    block: Table

    def markdown(self):
        return f"<details><summary>{html.escape(self.title)}</summary>\n\n{self.block.markdown()}\n\n</details>"

    def html(self):
        return f"<details><summary>{rich(self.title)}</summary>{self.block.html()}</details>"


def rich(text):
    """HTML of a text with ``**bold**`` and `` `code` ``."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(str(text)))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


# As Markdown reads it: one backtick, a line's text, one backtick.
_CODE = re.compile(r"(?<![`\\])(`[^`\n]+`)(?!`)")


def plain(text):
    """Markdown in which no text is HTML: &, < and > as entities, but for `code`, which is shown as it is; one line."""
    parts = _CODE.split(" ".join(str(text).splitlines()))
    return "".join(part if i % 2 else html.escape(part, quote=False) for i, part in enumerate(parts))


def as_markdown(title, blocks):
    """The whole page as Markdown."""
    return "\n\n".join([f"# {plain(title)}", *(block.markdown() for block in blocks)]) + "\n"


def as_html(title, blocks):
    """The whole page as one HTML file that loads nothing else."""
    body = "\n".join(block.html() for block in blocks)
    parts = {"{title}": html.escape(title), "{style}": STYLE, "{body}": body}
    # In one pass: what a part says of itself, such as a path, is no place for another one.
    return re.sub("|".join(map(re.escape, parts)), lambda found: parts[found[0]], PAGE)


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""

STYLE = """
:root { --ink: #1d2430; --soft: #5d6778; --line: #dfe3ea; --back: #fff; --card: #f5f7fa; --accent: #2457c5; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ef; --soft: #9aa5b5; --line: #343b47; --back: #14171c; --card: #1d2229; --accent: #86b0ff; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 1.25rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; padding-top: 1.1rem; border-top: 1px solid var(--line); }
p, li, figcaption { max-width: 46rem; overflow-wrap: anywhere; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .5rem; }
figure { margin: 1rem 0 1.5rem; }
img { display: block; max-width: 100%; height: auto; background: #fff; border: 1px solid var(--line);
  border-radius: 8px; padding: 6px; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.numbers div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; }
.numbers b { display: block; font-size: 1.7rem; line-height: 1.2; color: var(--accent);
  font-variant-numeric: tabular-nums; }
.numbers span { color: var(--soft); font-size: .88rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .8rem; text-align: left; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; vertical-align: bottom; white-space: normal; overflow-wrap: break-word; }
th.n, td.n { text-align: right; }
th.n { min-width: 5.5rem; max-width: 11rem; }
table.grouped th.n { min-width: 3rem; }
table.grouped th, table.grouped td { padding-left: .6rem; padding-right: .6rem; }
tr.heads th { text-align: center; border-bottom: 0; padding-bottom: 0; color: var(--ink); }
tr.heads th:not(:first-child), th.first, td.first { border-left: 1px solid var(--line); }
tr.new:not(:first-child) td { border-top: 2px solid var(--soft); }
tr.again td:first-child { color: var(--soft); }
td.ours { background: var(--card); }
.note { color: var(--soft); font-size: .88rem; margin: .35rem 0; }
tbody tr:hover { background: var(--card); }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1.25rem; font-size: .95rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--card);
  padding: .1em .3em; border-radius: 4px; overflow-wrap: anywhere; }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); }
@media (max-width: 34rem) { dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .5rem; } }
"""
