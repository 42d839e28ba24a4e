"""The sets that come with the package: toy_scenes, drawn at its first use, and scikit-learn's digits."""

import dataclasses

import numpy as np

from revisit_ssl.data.dataset import Dataset, sizes_of
from revisit_ssl.data.sources import Source
from revisit_ssl.data.tfds_sets import TfdsSet


@dataclasses.dataclass(frozen=True)
class ToyScenes(TfdsSet):
    """A configuration of ``toy_scenes.ToyScenes``."""

    def can_make(self, place):
        from revisit_ssl.data import toy_scenes  # noqa: F401 - registers its builder, and imports TFDS

        return True

    def read(self, builder, request):
        # Without the bytes of its files, which other sets have in it: they hang on how the same images were packed.
        named = f"{builder.info.full_name}-{self.splits[request.split]}"
        return dataclasses.replace(super().read(builder, request), fingerprint=named)


class Digits(Dataset):
    """scikit-learn's 1,797 handwritten digits: 8x8 pixels of 0..16, each made a 4x4 block of grey in 0..255."""

    splits = {"train": (0, 1200), "val": (1200, 1400), "trainval": (0, 1400), "test": (1400, 1797)}
    sizes = sizes_of(1200, 200, 397)
    num_classes = 10
    image_shape = (32, 32, 3)

    def open(self, request):
        from sklearn.datasets import load_digits  # half a second to import, and seldom used

        digits = load_digits()
        part = slice(*self.splits[request.split])  # in their order: the test writers come last
        grey = np.rint(digits.images[part] * (255 / 16)).astype(np.uint8)
        images = np.repeat(np.repeat(grey, 4, 1), 4, 2)[..., None].repeat(3, 3)
        return Source(
            name=request.name,
            split=request.split,
            kind="memory",
            num_examples=len(images),
            fingerprint=f"digits-{request.split}",
            class_names=tuple(map(str, digits.target_names)),
            known_labels=digits.target[part].astype(np.int64),
            images=images,
        )
