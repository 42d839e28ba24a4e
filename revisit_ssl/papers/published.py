"""The papers' own numbers: one CSV per paper, one published number per line, with its table."""

import csv
import importlib.resources

from revisit_ssl.errors import InputError


def load_published(paper="revisiting"):
    """Every published number of a paper.

    Args:
        paper: name of a CSV here. "revisiting" is arXiv:1901.09005 with its supplement. "cld" is arXiv:2008.03813:
            its supplement and the released code's README, and what others report of its base methods; the tables of
            its main text are not there, since no source that we hold says their numbers. "obow" is arXiv:2012.11552:
            its supplement, and the main table as the project's page shows it; the main text's ablations are not there.

    Returns:
        list of dicts: paper (rows by others, quoted for comparison, carry their own name), table, pretext (in "cld" and
        "obow" the recipe's name, such as "npid_cld"), backbone (BACKBONES name; "" where not known), width (int or
        None), dataset (the probe's), labels (share of the training labels, float), probe (PROBES name), endpoint,
        metric, value (float; percent, but of the probe "bench" a number of epochs, of megabytes, or a multiple of
        supervised training's), confirmed, setting (what the table varies, such as "cld.clustering=kmeans
        cld.groups=10"; "" where nothing), source, note.
        confirmed is "yes" where a source we hold says the number, "recalled" where it was written from memory or read
        off a picture, "inferred" where a source has the number but not in which cell: show both, never assert on them.

    Raises:
        InputError: no such paper.
    """
    folder = importlib.resources.files(__package__)
    file = folder / paper / "numbers.csv"
    if not file.is_file():
        papers = ", ".join(sorted(f.name for f in folder.iterdir() if (f / "numbers.csv").is_file()))
        raise InputError(f"no published numbers for {paper!r}; one of {papers}")
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    return [
        row
        | {
            "width": int(row["width"]) if row["width"] else None,
            "labels": float(row["labels"]),
            "value": float(row["value"]),
            "setting": row.get("setting", ""),
        }
        for row in rows
    ]
