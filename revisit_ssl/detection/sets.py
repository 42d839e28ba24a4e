"""Sets with boxes by name. To add one: a file here with its family, a line in DETECTION_SETS; or from outside
``DETECTION_SETS["mine"] = Mine()``, whose ``open(name, argument, place)`` gives a ``DetectionSet``."""

import functools
import os

from revisit_ssl.data.catalogue import resolve_data_dir
from revisit_ssl.detection.coco_sets import COCOSet
from revisit_ssl.detection.toy_detection import ToyDetection
from revisit_ssl.detection.voc_sets import VOCFolder, VOCSet
from revisit_ssl.errors import require, unknown

_TFDS = {2007: "voc/2007", 2012: "voc/2012"}

DETECTION_SETS = {
    "toy_detection": ToyDetection(),
    "toy_detection_tiny": ToyDetection(train=160, val=40, test=80),
    "voc07": VOCSet((2007,), _TFDS),
    "voc12": VOCSet((2012,), _TFDS, metric="voc12"),
    "voc0712": VOCSet((2007, 2012), _TFDS),
    "voc": VOCFolder(),
    "coco": COCOSet(),
}


def open_detection(name, data_dir=None):
    """A set of annotated images. Nothing is ever downloaded, and nothing read before a split is asked for but what says
    which classes there are. The last few sets are remembered with the splits that were asked for; files that change
    while the process runs are noticed after ``open_detection.cache_clear()``.

    Args:
        name: key of DETECTION_SETS; some take a folder behind a colon: "voc07:/path/VOCdevkit" (default: VOCdevkit in
            ``data_dir``, else TFDS's voc/2007), "coco:/path" (default: coco in ``data_dir``), "voc:/path" for boxes of
            one's own in VOC's layout; in COCO's they are coco:/path too.
        data_dir: folder of the data sets, as for ``data.open_source``.

    Returns:
        ``DetectionSet``.

    Raises:
        InputError: an unknown name, or something behind its colon that cannot be.
        DataNotHere: a set that is not there.
    """
    key, colon, argument = name.partition(":")
    require(argument or not colon, f"data set {name!r} has nothing behind its colon; leave that out, or name something")
    if key not in DETECTION_SETS:
        raise unknown("set with boxes", name, sorted(DETECTION_SETS))
    refusal = f"data set {key} takes nothing behind its name, but {name!r} has {argument!r}"
    require(DETECTION_SETS[key].argument or not argument, refusal)
    return _open(DETECTION_SETS[key], name, os.path.expanduser(argument), resolve_data_dir(data_dir))


@functools.lru_cache(maxsize=4)  # the annotations of COCO alone take a minute to read
def _open(family, name, argument, place):
    return family.open(name, argument, place)


open_detection.cache_clear = _open.cache_clear


def has_boxes(name):
    """Whether ``open_detection`` knows a set of that name, with or without something behind a colon."""
    return name.partition(":")[0] in DETECTION_SETS
