"""Sets of TensorFlow Datasets: a line with the TFDS name and slices is all that a further one needs."""

import dataclasses
import os

import numpy as np

from revisit_ssl.data import sources
from revisit_ssl.data.dataset import Dataset
from revisit_ssl.errors import DataNotHere, InputError, reason
from revisit_ssl.runs.damage import set_aside


@dataclasses.dataclass(frozen=True)
class TfdsSet(Dataset):
    """A set that TFDS knows.

    Attributes:
        tfds: TFDS name, with its configuration.
        splits: {"train" | "val" | "trainval" | "test": TFDS slice}; a missing key is a split that does not exist.
        sizes, num_classes, image_shape, argument: see ``Dataset``.
        label: feature that holds one class per image; None: none, or several per image.
        by_hand: what has to be fetched by hand before TFDS can make it.
        fewer_of: see ``Dataset``.
        public: False for a set that TFDS cannot make: its folder has to be copied.
    """

    tfds: str
    splits: dict
    sizes: dict = dataclasses.field(default_factory=dict)
    num_classes: int | None = None
    image_shape: tuple | None = None
    label: str | None = "label"
    by_hand: str = ""
    public: bool = True
    fewer_of: str = ""
    argument: str = ""

    def open(self, request):
        from revisit_ssl.data import tfds_reading  # imports TFDS

        name, place = request.name, request.place
        able = self.can_make(place)
        make = able and request.make
        for attempt in (1, 2):
            try:
                builder = tfds_reading.find_builder(self.tfds, place, make=make)
                if builder is not None:
                    return self.read(builder, request)
            except (InputError, MemoryError):
                raise
            except Exception as error:  # JSON, protocol buffers, TFDS and TensorFlow each have errors of their own
                first = error
                while first.__cause__ is not None:  # TFDS puts what it was about before each
                    first = first.__cause__
                why = f"{type(first).__name__}: {reason(first)[:200]}"
                # What is made here is made anew.
                if attempt == 2 or not make or not set_aside(os.path.join(place, *self.tfds.split("/")), why):
                    damaged = f"data set {name} in {place} is damaged ({why}); delete its folder, then get it again"
                    raise (DataNotHere if able else InputError)(damaged) from error
            else:
                break
        called = name if name == self.tfds else f"{name} ({self.tfds})"
        raise DataNotHere(f"data set {called} is not in {place}; {self.how_to_get(place)}, or set --data-dir")

    def can_make(self, place):
        """Hook of a set whose TFDS builder is ours: imports it, so that TFDS knows it, and says whether its images are
        there to be made; ``place`` is the folder of the TFDS data sets."""
        return False

    def read(self, builder, request):
        """The Source of a set that is there: of small images decoded in memory, else of encoded ones or of files."""
        from revisit_ssl.data import tfds_reading

        part = self.splits[request.split]
        info = builder.info
        source = sources.Source(
            name=request.name,
            split=request.split,
            kind="stream",
            num_examples=info.splits[part].num_examples,
            fingerprint=f"{info.full_name}-{part}-{int(info.dataset_size)}",
            class_names=tuple(info.features[self.label].names) if self.label else None,
            text=tfds_reading.column_reader(builder, part),
        )
        shape = info.features["image"].shape
        small = None not in shape and max(shape[:2]) <= sources.MAX_SIDE
        if small and source.num_examples * np.prod(shape) <= sources.MAX_BYTES:
            images, labels = tfds_reading.decoded(builder, part, self.label)
            return dataclasses.replace(source, kind="memory", images=images, known_labels=labels)
        records = tfds_reading.records(builder, part, self.label)
        return sources.keep_if_small(dataclasses.replace(source, records=records))

    def how_to_get(self, place):
        if not self.public:
            return f"copy its TFDS folder {self.tfds} there"
        call = f"tfds.builder('{self.tfds}', data_dir='{place}').download_and_prepare()"
        how = f'get it with: python -c "import tensorflow_datasets as tfds; {call}"'
        return f"put {self.by_hand} into {manual_folder(place)}, then {how}" if self.by_hand else how


def manual_folder(place):
    """Where TFDS looks for what has to be fetched by hand: a folder in ``place``."""
    return os.path.join(place, "downloads", "manual")


def divided(train, kept, held, test):
    """{split: TFDS slice} of a set whose validation images come out of its training images.

    Args:
        train, test: TFDS splits.
        kept, held: the parts of ``train`` that train and validate: ":45000" and "45000:".
    """
    return {"train": f"{train}[{kept}]", "val": f"{train}[{held}]", "trainval": train, "test": test}
