"""Data sets by name, and opening one. To add one: a file here, a line in DATASETS.

Or from outside: ``DATASETS["mine"] = Mine()``, Mine being a ``Dataset``; ``testing.check_dataset("mine")`` checks it.
"""

import functools
import os

import numpy as np
import tensorflow as tf

from revisit_ssl.data import splits
from revisit_ssl.data.dataset import SPLITS, Request, sizes_of
from revisit_ssl.data.embedded import Digits, ToyScenes
from revisit_ssl.data.folders import Folder, divide
from revisit_ssl.data.image_stores import ImageStore
from revisit_ssl.data.imagenet import ImageNet20, ImageNet100
from revisit_ssl.data.imagenet_lists import ImageNetList, ImageNetLT
from revisit_ssl.data.kitchen_hc import KitchenHC
from revisit_ssl.data.long_tail import LongTail
from revisit_ssl.data.places import Places205
from revisit_ssl.data.retrieval_sets import Buildings, RetrievalFolder
from revisit_ssl.data.sources import keep_if_small
from revisit_ssl.data.tfds_sets import TfdsSet, divided
from revisit_ssl.data.toy_crowds import ToyCrowds
from revisit_ssl.data.toy_instances import ToyInstances
from revisit_ssl.data.voc import VOC
from revisit_ssl.errors import require, unknown

KEPT = 8  # opened sources kept: three splits each of the pretext's and the probes' set, plus parents

_CIFAR = divided("train", ":45000", "45000:", "test")
_CIFAR_SIZES, _CIFAR_SHAPE = sizes_of(45_000, 5_000, 10_000), (32, 32, 3)
_STL_SHAPE = (96, 96, 3)
_TENTH = divided("train", ":90%", "90%:", "validation")  # a tenth of train validates
_OWN_VAL = {"train": "train", "val": "validation", "trainval": "train+validation", "test": "test"}
_IMAGENET = divided("train", ":1231121", "1231121:", "validation")  # 984 and 40 of the official 1,024 shards
_OXFORD = {
    "folder": "oxford5k",
    "archives": "oxbuild_images.tgz and gt_files_170407.tgz (www.robots.ox.ac.uk/~vgg/data/oxbuildings)",
}
_PARIS = {
    "folder": "paris6k",
    "archives": "paris_1.tgz, paris_2.tgz and paris_120310.tgz (www.robots.ox.ac.uk/~vgg/data/parisbuildings)",
}
_REVISITED = "the images and {} (cmp.felk.cvut.cz/revisitop)"
_IMAGENET_TAR = "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar (image-net.org)"

DATASETS = {
    "toy_scenes": ToyScenes(
        "toy_scenes/full", divided("train", ":5400", "5400:", "test"), sizes_of(5_400, 600, 2_000), 10, (64, 64, 3)
    ),
    "toy_scenes_tiny": ToyScenes(
        "toy_scenes/tiny", divided("train", ":500", "500:", "test"), sizes_of(500, 100, 200), 10, (64, 64, 3)
    ),
    "digits": Digits(),
    "toy_instances": ToyInstances(),
    "toy_detection": ToyCrowds(),
    "cifar10": TfdsSet("cifar10", _CIFAR, _CIFAR_SIZES, 10, _CIFAR_SHAPE),
    "cifar100": TfdsSet("cifar100", _CIFAR, _CIFAR_SIZES, 100, _CIFAR_SHAPE),
    "cifar10_lt": LongTail("cifar10", 5_000, 10_000, 10, _CIFAR_SHAPE),
    "cifar100_lt": LongTail("cifar100", 500, 10_000, 100, _CIFAR_SHAPE),
    "stl10": TfdsSet("stl10", divided("train", ":4500", "4500:", "test"), sizes_of(4_500, 500, 8_000), 10, _STL_SHAPE),
    # "trainval": the 105,000 that CLD trains on, most without a label, so none is given; gallery and test: stl10.
    # Deviation: CLD's supplement counts 5,000 test images; the set has 8,000, and all of them test.
    "stl10_all": TfdsSet(
        "stl10",
        {"train": "train[:4500]+unlabelled", "val": "train[4500:]", "trainval": "train+unlabelled", "test": "test"},
        sizes_of(104_500, 500, 8_000),
        image_shape=_STL_SHAPE,
        label=None,
    ),
    "stl10_unlabelled": TfdsSet(
        "stl10",
        divided("unlabelled", ":95000", "95000:", "test"),
        sizes_of(95_000, 5_000, 8_000),
        image_shape=_STL_SHAPE,
        label=None,
    ),
    "imagenet2012": TfdsSet(
        "imagenet2012", _IMAGENET, sizes_of(1_231_121, 50_046, 50_000), 1000, by_hand=_IMAGENET_TAR
    ),
    "imagenet100": ImageNet100(),
    "imagenet20": ImageNet20(),
    "imagenet_lt": ImageNetLT(),
    "imagenet_list": ImageNetList(),
    "imagenet2012_subset": TfdsSet(
        "imagenet2012_subset/10pct", _TENTH, sizes_of(115_304, 12_812, 50_000), 1000, by_hand=_IMAGENET_TAR,
        fewer_of="imagenet2012",
    ),
    "imagenet2012_subset_1pct": TfdsSet(
        "imagenet2012_subset/1pct", _TENTH, sizes_of(11_530, 1_281, 50_000), 1000, by_hand=_IMAGENET_TAR,
        fewer_of="imagenet2012",
    ),
    "imagenette": TfdsSet("imagenette/full-size-v2", _TENTH, sizes_of(8_522, 947, 3_925), 10),
    "imagenette_160px": TfdsSet("imagenette/160px-v2", _TENTH, sizes_of(8_522, 947, 3_925), 10),
    "imagenette_subset160": TfdsSet(
        "imagenette_subset160",
        divided("train", ":4500", "4500:", "validation"),
        sizes_of(4_500, 500, 1_000),
        10,
        public=False,
    ),
    "kitchen_hc": KitchenHC("kitchen_hc", _OWN_VAL),
    "places205": Places205(),
    "places365_small": TfdsSet(
        "places365_small",
        divided("train", ":-50000", "-50000:", "validation"),
        sizes_of(1_753_460, 50_000, 36_500),
        365,
    ),
    "voc": VOC("voc/2007", _OWN_VAL, sizes_of(2_501, 2_510, 4_952)),
    "oxford5k": Buildings(other="paris6k", sizes={"train": 6_392, "test": 5_063}, **_OXFORD),
    "paris6k": Buildings(other="oxford5k", sizes={"train": 5_063, "test": 6_392}, **_PARIS),
    "roxford5k": Buildings(
        folder="oxford5k", other="rparis6k", archives=_REVISITED.format("gnd_roxford5k.pkl"),
        pickled="gnd_roxford5k.pkl", sizes={"train": 6_322, "test": 4_993},
    ),
    "rparis6k": Buildings(
        folder="paris6k", other="roxford5k", archives=_REVISITED.format("gnd_rparis6k.pkl"),
        pickled="gnd_rparis6k.pkl", sizes={"train": 4_993, "test": 6_322},
    ),
    "retrieval": RetrievalFolder(),
    "yfcc100m": ImageStore(folder="yfcc100m"),
    "unlabelled": ImageStore(),
    "coco": TfdsSet(
        "coco/2017", divided("train", ":-5000", "-5000:", "validation"), sizes_of(113_287, 5_000, 5_000), label=None
    ),
}


def open_source(name, split, *, data_dir=None, fraction=None, balanced=False, seed=0, make=True):
    """One split of a data set, ready to read. Nothing is ever downloaded.

    The last KEPT sources are remembered: opening one again gives the same object, whose arrays must not be written to.
    Files that change while the process runs are noticed after ``open_source.cache_clear()``.

    Args:
        name: key of DATASETS, or "folder:/path/to/images" (layout: ``folders.list_split``). Some take more behind a
            colon: "cifar10_lt:50" or "cifar100_lt:/path/indices.npy" (``long_tail.split_rows``; default: factor 100),
            "imagenet_lt:/folder/of/lists" and "imagenet_list:/path/1percent.txt" (``imagenet_lists.read_entries``),
            "voc:/path/VOCdevkit" (``voc.list_split``; default: VOCdevkit in ``data_dir``, else TFDS's voc/2007),
            "oxford5k:/path", "retrieval:/path" (``retrieval_sets``), "yfcc100m:1000000" or "unlabelled:/path:1000"
            (``image_stores.ImageStore``).
        split: "train", "val", "trainval" or "test".
        data_dir: where TFDS data sets lie, local or gs://; default TFDS_DATA_DIR or ~/tensorflow_datasets. toy_scenes
            draws itself there at its first use, and kitchen_hc cuts itself out of what lies in downloads/manual. Parts
            of ImageNet are read from its folder imagenet (train/<class>/, val/<class>/), or else from imagenet2012.
        fraction: keep only this share of the images, in (0, 1]; ``seed`` draws which.
        balanced: the same number of each class.
        make: False: a set that would draw or cut itself is not here.

    Returns:
        ``Source``. Small images are decoded into memory, sets up to 1 GiB are kept encoded in memory.

    Raises:
        DataNotHere: a set that is not there.
        InputError: unknown name or split; bad fraction; balanced without labels.
    """
    require(split in SPLITS, f"unknown split {split!r}; one of {', '.join(SPLITS)}")
    require(fraction is None or 0 < fraction <= 1, f"a subset fraction must lie in (0, 1]; got {fraction}")
    place = _place(name, data_dir)
    part = () if fraction in (None, 1) else (fraction, balanced, seed)
    return _open(name, split, place, make, *part)


@functools.lru_cache(maxsize=KEPT)
def _open(name, split, place, make, fraction=None, balanced=False, seed=0):
    """``open_source`` of checked arguments; ``place`` is the image folder or that of the TFDS data sets."""
    if fraction is not None:
        source = _open(name, split, place, make)
        require(not balanced or source.num_classes, f"{name} has no labels to balance; take a random subset")
        rows = splits.subset(source.num_examples, fraction, seed, labels=source.labels if balanced else None)
        return keep_if_small(source.subset(rows))
    dataset, argument = find_dataset(name)
    key = name.partition(":")[0]
    require(split in dataset.splits, f"{key} has no split {split!r}; one of {', '.join(dataset.splits)}")
    refusal = f"data set {key} takes nothing behind its name, but {name!r} has {argument!r}"
    require(dataset.argument or not argument, refusal)
    other = lambda name, split: _open(name, split, place, make)  # noqa: E731
    return dataset.open(Request(name=name, split=split, place=place, make=make, other=other))


def forget_sources():
    """``open_source.cache_clear()``: the next call looks at the files again."""
    _open.cache_clear()
    divide.cache_clear()


open_source.cache_clear = forget_sources


def about_source(name, data_dir=None):
    """[str]: what a run says of a data set before it begins; arguments as of ``open_source``."""
    dataset, _ = find_dataset(name)
    return dataset.about(_place(name, data_dir))


def data_report(name, data_dir=None):
    """[str]: what --data-report says of a data set: images, sides, classes, the smallest one, duplicates where it is a
    folder; arguments and errors as of ``open_source``."""
    dataset, _ = find_dataset(name)
    if lines := dataset.report(_place(name, data_dir)):
        return lines
    names = [split for split in ("train", "val", "test") if split in dataset.splits]
    parts = {split: open_source(name, split, data_dir=data_dir) for split in names}
    sizes = ", ".join(f"{part.num_examples:,} {split}" for split, part in parts.items())
    train, total = parts["train"], sum(part.num_examples for part in parts.values())
    sides = "" if train.image_shape is None else f", all of {train.image_shape[1]}x{train.image_shape[0]} pixels"
    lines = [f"{total:,} images ({sizes}){sides}"]
    if train.multi_label_names:
        return [*lines, f"{len(train.multi_label_names):,} classes, of which an image may show several"]
    if train.class_names is None:
        return [*lines, "no classes"]
    least = ""
    if train.kind != "stream":  # whose labels would take reading all of it
        counts = np.bincount(train.labels, minlength=train.num_classes)
        least = f"; the smallest is {train.class_names[counts.argmin()]} with {counts.min():,} train images"
    return [*lines, f"{train.num_classes:,} classes{least}"]


def _place(name, data_dir):
    """Where a set lies: the image folder, or that of the TFDS data sets; InputError for an address of no known kind."""
    place = name.removeprefix("folder:") if name.startswith("folder:") else resolve_data_dir(data_dir)
    scheme, remote, _ = place.partition("://")
    place = place if remote else os.path.abspath(os.path.expanduser(place))
    known = not remote or scheme in tf.io.gfile.get_registered_schemes()
    require(known, f"no images can be read from {place}; give a local folder, or a gs:// address")
    return place


def find_dataset(name):
    """(the ``Dataset`` of that name, what follows the colon); InputError where there is none."""
    key, colon, argument = name.partition(":")
    require(argument or not colon, f"data set {name!r} has nothing behind its colon; leave that out, or name something")
    if key in DATASETS:
        return DATASETS[key], argument
    if key == "folder":
        return Folder(), argument
    meant = f"; did you mean folder:{name}?" if "/" in name or os.path.isdir(name) else ""
    raise unknown("data set", name, sorted(DATASETS), others=f", or folder:/path/to/images{meant}")


def known_size(name, split):
    """How many images ``open_source(name, split)`` has, where that is known without the set; else None.

    Raises:
        InputError: unknown name.
    """
    dataset, argument = find_dataset(name)
    return dataset.known_sizes(argument).get(split)


def labels_of(name):
    """Whose labels those of a set are, and which share of them: ("imagenet2012", 0.01) of 1 % of ImageNet, which is a
    set of its own or a list of images; (name, 1.0) of any other.

    Raises:
        InputError: unknown name, or a list that is not there.
    """
    dataset, argument = find_dataset(name)
    count = dataset.labelled(argument) if dataset.fewer_of else None
    if count is None:
        return name, 1.0
    # Lists of 1 % hold 12,811 of 1,281,167 images.
    return dataset.fewer_of, round(count / DATASETS[dataset.fewer_of].sizes["trainval"], 3)


def resolve_data_dir(data_dir=None):
    """The folder of TFDS data sets: the argument, else TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")
