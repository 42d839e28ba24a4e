"""What a data set is: which splits it has, what may follow its name, how it is had, and how a split is opened."""

import dataclasses
from collections.abc import Callable

SPLITS = ("train", "val", "trainval", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A split of a data set that is to be opened.

    Attributes:
        name: as typed, with what follows the colon: "cifar10_lt:50".
        split: one of the set's splits.
        place: folder of the TFDS data sets, absolute or gs://; of folder:/path that folder.
        make: whether a set that is made here at its first use may be made now.
        other: function (name, split) -> Source of another set in the same place, remembered as this one will be.
    """

    name: str
    split: str
    place: str
    make: bool = True
    other: Callable

    @property
    def argument(self):
        """What follows the colon; "" where there is none."""
        return self.name.partition(":")[2]


class Dataset:
    """A data set: what stands behind a name in DATASETS. A subclass says how a split of it is opened.

    What is known of a set without opening it is there for plans, and ``testing.check_dataset`` holds the set to it.

    Attributes:
        splits: names of the splits that there are; a mapping where each stands for a part of something.
        argument: what may follow the name and a colon; "" where nothing may.
        sizes: {split: number of images}, as far as it is the same for all who have the set.
        held: share of trainval that is val, where ``sizes`` has neither train nor val; each class gives its own part.
        num_classes: number of classes; None where images have no single class, or where that is not known.
        multi_label_names: names of the classes of which an image may show several, or None.
        image_shape: (H, W, 3) where all images have one size, else None.
        fewer_of: name of the set of which this one has fewer labelled images of the same classes, tested on the same
            ones, such as 1 % of ImageNet; "" of a set of its own.
        asks: whether "test" is a database for instance retrieval, with ``Source.queries``, and "train" what a whitening
            is learned on.
    """

    splits = SPLITS
    asks = False
    argument = ""
    sizes = {}
    held = None
    num_classes = None
    multi_label_names = None
    image_shape = None
    fewer_of = ""

    def open(self, request):
        """The split that is asked for.

        Args:
            request: ``Request``, whose split is one of ``splits`` and whose argument is "" where there is no
                ``argument``.

        Returns:
            ``Source`` with the request's name and split. Nothing is downloaded.

        Raises:
            DataNotHere: the set is not there.
            InputError: it is damaged; an argument that cannot be used.
        """
        raise NotImplementedError

    def how_to_get(self, place):
        """How the set is had where it is not in the folder ``place``, for an error line; "": it is always there."""
        return ""

    def labelled(self, argument=""):
        """How many labelled training images of ``fewer_of`` there are with that argument behind the name; None where
        they are not of all its classes."""
        return self.sizes["trainval"]

    def about(self, place):
        """[str] for the beginning of a run: what was found and taken for what. [] of a set that is always the same."""
        return []

    def report(self, place):
        """[str] for --data-report: what ``about`` says and more; [] where ``catalogue.data_report`` finds it itself."""
        return []

    def known_sizes(self, argument=""):
        """``sizes`` with that argument behind the name: {} where they are then not known."""
        return {} if argument else self.sizes


def sizes_of(train, val, test):
    """{split: number of images} of a set whose train and val make trainval."""
    return {"train": train, "val": val, "trainval": train + val, "test": test}
