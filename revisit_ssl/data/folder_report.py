"""What is said of an image folder: a warning for each reason why something is left out, and what is taken for what."""

import os
import re
import sys

import numpy as np

from revisit_ssl.data.looking import CHECK_ALL, shown, some

_DATE = re.compile(r"(19|20)\d\d([-_. ]?\d\d?){0,2}(\D.*)?")


def warn_of(root, skipped, left_out=None, empty=(), parts=None):
    """Prints the warnings, each with how many and up to three names.

    Args:
        root: the folder.
        skipped: of ``looking.Found``.
        left_out: of ``layouts.Layout``.
        empty: [names] of folders without an image.
        parts: {split: Listing}.
    """

    def warn(text):
        print(f"warning: {shown(root)}: {text}", file=sys.stderr)

    for why, names in skipped.items():
        heic = any(name.lower().endswith((".heic", ".heif")) for name in names)
        hint = "; convert .heic files to JPEG, they cannot be read here" if heic else ""
        warn(f"skipped {_count(names, *why)} ({some(names)}){hint}")
    for what, names in (left_out or {}).items():
        warn(f"left out {_count(names, 'image')} {what} ({some(names)})")
    if empty:
        warn(f"{_count(empty, 'folder')} without a readable image ({some(empty)})")
    classes = parts["train"].class_names if parts else None
    for split, what in (("val", "validation"), ("test", "test")) if classes else ():
        unseen = [classes[i] for i in np.setdiff1d(np.arange(len(classes)), parts[split].labels)]
        if unseen:
            warn(f"no {what} image of {_count(unseen, 'class', 'classes')} ({some(unseen)})")


def about(root, layout, parts, sides, skipped):
    """Lines for the beginning of a run: what is taken for what, and how to say otherwise.

    Args:
        root, skipped: see ``warn_of``.
        layout: ``Layout``.
        parts: {split: Listing}.
        sides: int64 [n, 2], heights and widths of some of the images.

    Returns:
        [str].
    """
    total = len(parts["trainval"].paths) + len(parts["test"].paths)
    sizes = ", ".join(f"{len(parts[split].paths):,} {split}" for split in ("train", "val", "test"))
    files = sum(len(names) for names in [*skipped.values(), *layout.left_out.values()])
    lines = [f"{total:,} images ({sizes}){_sides(sides, total)}; {_count(range(files), 'file')} left out"]
    train = parts["train"]
    where = shown(os.path.join(root, layout.prefix["train"])).rstrip("/")
    if train.class_names is None:
        lines.append(f"no classes: the images of {where} do not lie in two or more folders of their own")
    else:
        names, counts = train.class_names, np.bincount(parts["trainval"].labels, minlength=len(train.class_names))
        least = int(counts.argmin())
        lines.append(
            f"classes, for probes alone: the {len(names):,} folders in {where} ({some(names)}); the smallest is "
            f"{names[least]} with {counts[least]:,} to learn from. Where these are no classes, add --probe-dataset "
            "NAME, or --probes with nothing behind it"
        )
        dated = [name for name in names if _DATE.fullmatch(name)]
        if 2 * len(dated) > len(names):
            lines.append(f"warning: folders that look like dates are taken for classes ({some(dated)})")
    return [*lines, _held(layout)]


def doubles(root, parts, digests):
    """The line on images that hold what another one holds, byte for byte.

    Args:
        root, parts: see ``warn_of``.
        digests: {name: digest of what the file holds}, as ``looking.read_contents`` makes them: of many files in a
            bucket all are 0.
    """
    names = {split: [path[len(root) :].lstrip("/") for path in parts[split].paths] for split in ("trainval", "test")}
    if not any(digests.values()):
        return f"duplicates: not looked for in a bucket of more than {CHECK_ALL:,} images"
    first, again = {}, []
    for name in sorted(names["trainval"]) + sorted(names["test"]):
        other = first.setdefault(digests[name], name)
        if other != name:
            again.append(f"{name} = {other}")
    if not again:
        return "duplicates: none"
    both = {digests[name] for name in names["trainval"]} & {digests[name] for name in names["test"]}
    leak = f"; {_count(both, 'picture')} in test and in train or val alike" if both else ""
    by = ", by size and both ends of the files" if len(digests) > CHECK_ALL else ""
    return f"duplicates{by}: {_count(again, 'image')} that another one equals ({some(again)}){leak}"


def _held(layout):
    each = "of each class" if layout.classes else "of the images"
    how = "the same for every seed; to choose them, make folders train, val and test"
    if len(layout.names) == 3:
        return "validation and test images: those of their folders"
    if len(layout.names) == 1:
        return f"held out: 10 % {each} for validation and 10 % for test, {how}"
    folder = "test" if "test" in layout.names else "val"
    return f"test images: those of the folder {folder}; held out of train for validation: 10 % {each}, {how}"


def _sides(sides, total):
    if not len(sides):
        return ""
    order = np.argsort(sides.prod(1), kind="stable")
    low, middle, high = (f"{sides[i, 1]}x{sides[i, 0]}" for i in order[[0, len(order) // 2, -1]])
    text = f"all of {low}" if low == high else f"from {low} over {middle} to {high}"
    return f", {text} pixels" + (f" as {len(sides):,} of them say" if len(sides) < total else "")


def _count(names, one, several=""):
    return f"{len(names):,} {one if len(names) == 1 else several or f'{one}s'}"
