"""Detection and instance segmentation: a copy of the network as Faster or Mask R-CNN, all of it fine-tuned, as MoCo's
features are (arXiv:1911.05722, section 4.2), which OBoW, CLD and MaskCo follow."""

import os
import shutil
import time
from dataclasses import dataclass
from typing import ClassVar

from revisit_ssl.detection.metrics_coco import pycocotools
from revisit_ssl.detection.options import DetectorOptions
from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import Probe, Score


@dataclass(frozen=True, kw_only=True)
class Detection(Probe, DetectorOptions):
    """Faster R-CNN on the C4 map: the network up to block3 finds boxes, the rest of it judges their regions.

    Region proposal network, classes and boxes start anew; everything is trained, batch normalisation too, over all
    images of a step; nothing is chosen. The defaults are for small images; the papers' numbers are protocols. Scored as
    the set is: by VOC's 11 points or area, or as COCO. ``Score.metrics``: ap, the mean over IoU of 0.5 to 0.95; ap50,
    ap75; percent. ``extra``: ap50_by_class {class: percent}; curve [{"step", loss: mean since the row before}]; images
    trained on. The network that is probed is the same to the bit afterwards.
    """

    labels = "boxes"
    reads_features = False
    quick = {
        "iterations": 2, "batch_size": 2, "shorter_sides": (64,), "test_shorter": 64, "precise_batches": 1, "pool": 4,
        "regions": 8, "warmup": 0, "train_proposals": (100, 20), "test_proposals": (100, 10), "mask_channels": 8,
    }
    title = "detection"
    masks: ClassVar[bool] = False

    @property
    def passes(self):
        """See Probe; of the 1,800 images of toy_detection, a step as three forward passes."""
        return max(1, round(3 * self.iterations * self.batch_size / 1800))

    def check(self, sources):
        """See Probe."""
        train = sources["train"]
        needs = f"{self.title} needs masks and {train.name} has boxes alone; take --probes detection"
        require(train.masks or not self.masks, needs)
        if train.metric == "coco":  # known before hours of training
            pycocotools()

    def measure(self, bench):
        """See Probe; one score."""
        from revisit_ssl.detection.examples import write_examples
        from revisit_ssl.detection.measuring import measure
        from revisit_ssl.evaluators.detecting import DetectorTraining  # TensorFlow

        started = time.perf_counter()
        train, test = bench.images("train"), bench.images("test")
        self.check({"train": train})
        kind = {"masks": self.masks, "normalize": bench.network_input.normalize, "seed": bench.seed}
        training = DetectorTraining(self, bench.backbone, train.images, len(train.class_names), **kind)
        folder = os.path.join(bench.folder, f"{self.title}-{training.key}") if bench.folder else None
        training.run(folder=folder, quiet=bench.quiet)
        found = training.detections(test.images, quiet=bench.quiet)
        names = train.class_names
        judged = measure(test.metric, found, test.images, len(names), absent=test.absent)
        if bench.folder:  # for the pictures of a report
            write_examples(os.path.join(bench.folder, f"{self.title}.npz"), names, test.images, found, judged)
        by_class = dict(zip(names, judged["extra"]["box"]["per_class"]["AP50"], strict=True))
        yield Score(
            metrics=self.named(judged["metrics"]),
            hyperparameters=self.options() | {"metric": test.metric},
            seconds=time.perf_counter() - started,
            extra={
                "ap50_by_class": by_class, "curve": training.curve, "trained_on": len(training.batches.images),
            },
            endpoint=self.endpoint,
        )
        if folder:  # the score is written down: nothing has to go on from here
            shutil.rmtree(folder, ignore_errors=True)

    def named(self, metrics):
        """{"ap", "ap50", "ap75"} of boxes, as the papers' tables call them."""
        return {name.removeprefix("box_"): value for name, value in metrics.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Segmentation(Detection):
    """Mask R-CNN on the C4 map: see Detection; a small network gives a mask for each region.

    ``Score.metrics``: box_ap, box_ap50, box_ap75, and mask_ap, mask_ap50, mask_ap75, which count overlaps of masks.
    """

    title = "segmentation"
    masks: ClassVar[bool] = True

    pool: int = 14
    """Cells of a region's side; the head halves them, masks have as many again."""

    def named(self, metrics):
        """Of boxes and of masks."""
        return {name: value for name, value in metrics.items() if value is not None}
