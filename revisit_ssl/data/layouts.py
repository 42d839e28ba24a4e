"""Which sub-folders of an image folder are splits, and which are classes: from the names of its files alone."""

import dataclasses
import os
import re

from revisit_ssl.data.looking import shown, some
from revisit_ssl.errors import require

_SPELLINGS = {"train": "train|training|trn", "val": "val|valid|validation|dev", "test": "test|testing|tst|evaluation"}
_SPLIT = {
    split: re.compile(rf"({names})([-_ ]?(set|data|split|images?|imgs?|\d{{1,4}}))?", re.IGNORECASE)
    for split, names in _SPELLINGS.items()
}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How an image folder is laid out; names are those of ``looking.walk``.

    Attributes:
        names: {split: [names of its images]} of "train" and, where there are folders for them, "val" and "test".
        prefix: {split: the folder that holds its class folders, "" or with "/" at its end}.
        classes: tuple of the class folders of train, ascending; None where the images have no classes.
        left_out: {what they are: [names]} of images that belong to no split or no class.
    """

    names: dict
    prefix: dict
    classes: tuple | None
    left_out: dict

    def class_of(self, split, name):
        """The class folder of one of its images."""
        return _top(name, self.prefix[split])


def find_layout(root, names):
    """The ``Layout`` of images with these names; how folders are understood: ``folders.list_split``.

    Raises:
        InputError: a val or test without train; two folders for one split; classes that train does not have.
    """
    base = _inner(names, "")
    folders = _split_folders(root, names, base)
    starts = {split: f"{base}{top}/" for split, top in folders.items()} or {"train": base}
    parts = {split: [name for name in names if name.startswith(start)] for split, start in starts.items()}
    left_out = {}
    if folders:
        used = {name for part in parts.values() for name in part}
        left_out["outside of train, val and test"] = [name for name in names if name not in used]
    prefix = {"train": _inner(parts["train"], starts["train"])}
    tops = [_top(name, prefix["train"]) for name in parts["train"]]
    classes = tuple(sorted(set(tops) - {None}))
    # A few images beside class folders are strays; where most lie loose, the folders are no classes.
    classes = classes if len(classes) > 1 and 2 * tops.count(None) < len(tops) else None
    for split in sorted(parts.keys() - {"train"}):
        prefix[split] = _inner(parts[split], starts[split], classes or ())
        if classes and not any(_top(name, prefix[split]) for name in parts[split]):
            what = f"of {split}, which has no class folders to score; {split} images come out of the other folders"
            left_out[what] = parts.pop(split)
    for split, part in parts.items() if classes else ():
        loose = [name for name in part if _top(name, prefix[split]) is None]
        left_out[f"beside the class folders{f' of {split}' if folders else ''}"] = loose
        parts[split] = part = [name for name in part if _top(name, prefix[split]) is not None]
        unknown = sorted({_top(name, prefix[split]) for name in part} - set(classes))
        require(
            not unknown,
            f"class {some(unknown)} of {shown(os.path.join(root, prefix[split]))} is not among the {len(classes)} "
            f"classes of train ({some(classes)}); name the class folders alike",
        )
    return Layout(parts, prefix, classes, {what: names for what, names in left_out.items() if names})


def _split_folders(root, names, base):
    """{split: folder in ``base``}; {} where there are none."""
    tops = sorted({_top(name, base) for name in names} - {None})
    shared = re.match(r"(.*[-_. ])?", os.path.commonprefix(tops) if len(tops) > 1 else "").end()  # seg_train, seg_test
    found = {split: [top for top in tops if pattern.fullmatch(top[shared:])] for split, pattern in _SPLIT.items()}
    found = {split: tops for split, tops in found.items() if tops}
    others = set(tops) - {top for tops in found.values() for top in tops}
    if "train" not in found:
        loose = any(_top(name, base) is None for name in names)
        require(
            not found or others or loose,
            f"image folder {shown(root)} has {' and '.join(shown(t) for t in tops)} but no train; expected sub-folders "
            "train, val, test, or one for each class",
        )
        return {}
    below = f"{base}{found['train'][0]}/"
    if len(found) == 1 and others and not any(_top(name, below) for name in names if name.startswith(below)):
        return {}  # one of several classes is called train
    for split, same in found.items():
        both = " and ".join(map(shown, same))
        require(len(same) == 1, f"image folder {shown(root)} has {both}, which mean the same split {split}; keep one")
    return {split: same[0] for split, same in found.items()}


def _inner(names, prefix, known=()):
    """``prefix``, further down as long as all names there lie in one folder that is no ``known`` class."""
    inside = [name for name in names if name.startswith(prefix)]
    while len(tops := {_top(name, prefix) for name in inside}) == 1 and None not in tops and tops.isdisjoint(known):
        prefix = f"{prefix}{tops.pop()}/"
    return prefix


def _top(name, prefix):
    """The first folder of a name below ``prefix``; None for what lies in ``prefix`` itself."""
    rest = name[len(prefix) :]
    return rest.partition("/")[0] if "/" in rest else None
