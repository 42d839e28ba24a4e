"""``tfds.load("toy_scenes")``: the embedded data set, drawn here (revisit_ssl.scenes), nothing to download."""

import dataclasses

import numpy as np
import tensorflow_datasets as tfds
from tqdm import tqdm

from revisit_ssl.scenes import CLASSES, SIZE, SPLITS
from revisit_ssl.scenes.drawing import drawn
from revisit_ssl.startup import cores


@dataclasses.dataclass
class ToyScenesConfig(tfds.core.BuilderConfig):
    """Numbers of scenes; the scenes of a smaller configuration are the first ones of the larger."""

    train: int = SPLITS["train"][1]
    test: int = SPLITS["test"][1]


class ToyScenes(tfds.core.GeneratorBasedBuilder):
    """``tfds.load("toy_scenes")`` once this module is imported.

    Features:
        image: uint8 [64, 64, 3].
        label: class, 0..9; every aligned run of ten scenes holds each class once, so slices stay balanced.
        instance: int64, unique over both splits; ``scenes.draw_scene(instance)`` draws it again.
        bbox: of the object, in [0, 1].
        mask: uint8 [64, 64, 1], 255 on the object and 0 elsewhere.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [
        ToyScenesConfig(name="full", description="6,000 train and 2,000 test scenes."),
        ToyScenesConfig(name="tiny", description="Fewer scenes, for tests.", train=600, test=200),
    ]
    TEST_INSTANCES = SPLITS["test"][0]  # the first instance number of the test split

    def _info(self):
        return self.dataset_info_from_configs(
            description="Procedural scenes of one upright object; nothing but the object says where up is.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=CLASSES),
                    "instance": np.int64,
                    "bbox": tfds.features.BBoxFeature(),
                    "mask": tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # classes already alternate, and slices of the train split stay balanced
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config
        bar = tqdm(total=config.train + config.test, desc="Drawing toy_scenes", unit=" scenes", mininterval=1)
        return {
            "train": self._generate_examples(0, config.train, bar),
            "test": self._generate_examples(self.TEST_INSTANCES, config.test, bar),
        }

    def _generate_examples(self, first, count, bar):
        for key, scene in enumerate(drawn(first, count, cores())):
            yield (
                key,
                {
                    "image": scene["image"],
                    "label": scene["label"],
                    "instance": first + key,
                    "bbox": tfds.features.BBox(*scene["box"]),
                    "mask": scene["mask"],
                },
            )
            bar.update()
        if first == self.TEST_INSTANCES:
            bar.close()
