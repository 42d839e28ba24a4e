"""How sets of one's own, and COCO, are divided into what trains, what chooses and what tests."""

import functools

from revisit_ssl.data.splits import subset
from revisit_ssl.errors import require

PARTS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # what they may be called
HELD, MOST = 0.1, 5000  # a tenth is held out, and 5,000 are enough


def arranged(given, held):
    """{split: function that gives it} of a set, from the parts that it comes in.

    Args:
        given: {part: function that gives its sequence}, the parts being "train", "val" and "test", "train" and "val",
            "train" and "test", or "train" alone.
        held: function of a sequence -> (what trains, what is held out).

    Returns:
        "train", "val", "trainval", "test". Without a test of its own a set is tested on its val, as COCO is, and what
        validates is held out of train; a set in one part has both held out.
    """
    given = {name: functools.cache(part) for name, part in given.items()}
    whole, test = given["train"], given.get("test") or given.get("val")
    if test is None:
        both = functools.cache(lambda: held(given["train"]()))
        whole, test = lambda: both()[0], lambda: both()[1]
    if "test" in given and "val" in given:
        train, val = given["train"], given["val"]
        return {"train": train, "val": val, "trainval": lambda: (*train(), *val()), "test": test}
    inner = functools.cache(lambda: held(whole()))
    return {"train": lambda: inner()[0], "val": lambda: inner()[1], "trainval": whole, "test": test}


def held_out(images):
    """(what trains, what is held out): a tenth, at most MOST, the same always; InputError for too few images."""
    require(len(images) >= 4, f"{len(images)} images cannot be divided into train, val and test; say which are which")
    rows = set(subset(len(images), min(max(HELD, 1 / len(images)), MOST / len(images)), seed=0).tolist())
    return tuple(x for i, x in enumerate(images) if i not in rows), tuple(x for i, x in enumerate(images) if i in rows)
