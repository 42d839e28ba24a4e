"""One split of a set with boxes, as a bench of probes holds it."""

from dataclasses import dataclass

import numpy as np

from revisit_ssl.data.catalogue import DATASETS
from revisit_ssl.data.splits import subset
from revisit_ssl.detection.sets import has_boxes, open_detection
from revisit_ssl.errors import require


@dataclass(frozen=True, eq=False, kw_only=True)
class BoxSource:
    """Annotated images with what ``data.Source`` says of a split.

    Attributes:
        name, split: of the set.
        images: sequence of Annotated.
        class_names: of their objects.
        metric, absent: how detections are judged, see ``DetectionSet``.
        masks: whether objects have masks.
        num_classes, multi_labels, labels: None, for an image as a whole has none.
    """

    name: str
    split: str
    images: tuple
    class_names: tuple
    metric: str
    masks: bool
    absent: str = "left out"
    num_classes: None = None
    multi_labels: None = None
    labels: None = None

    @property
    def num_examples(self):
        """How many images there are."""
        return len(self.images)


def box_source(name, split, *, data_dir=None, fraction=None, seed=0):
    """The split as a BoxSource.

    Args:
        name, data_dir: of ``open_detection``.
        split: one of the set's.
        fraction: keep only this share of the images, drawn by ``seed``.

    Raises:
        InputError: no such set or split, or damaged annotations.
        DataNotHere: it is not where it was looked for.
    """
    found = open_detection(name, data_dir)
    images = found[split]
    require(len(images) > 0, f"{name} {split} has no images")
    if fraction not in (None, 1):
        images = tuple(images[i] for i in np.sort(subset(len(images), fraction, seed)))
    judged = {"metric": found.metric, "absent": found.absent}
    return BoxSource(
        name=name, split=split, images=images, class_names=found.classes, masks=found.masks, **judged
    )


def only_boxes(name):
    """Whether that is the name of a set with boxes that no other probe can use."""
    return has_boxes(name) and name.partition(":")[0] not in DATASETS
