"""Data sets by name: DATASETS, what a split of one holds (Source), and where the images are kept while in use."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import os
import sys

import absl.logging
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

# kitchen_hc and toy_scenes register themselves with TFDS
from revisit_ssl.data import folders, imagenet, kitchen_hc, long_tail, places, splits, toy_scenes, voc
from revisit_ssl.errors import InputError

SPLITS = ("train", "val", "trainval", "test")
MAX_SIDE = 128  # images up to this side are small: kept decoded, cropped on the device
KEPT = 8  # sources remembered: train, val and test of a pretext's and of a probe's data set, and what these are part of
MAX_BYTES = 2**30  # as much is kept in memory, decoded or encoded; larger sets are read from their files


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """Where a data set comes from and how it is divided.

    Attributes:
        tfds: TFDS name, with its configuration; None for scikit-learn's digits, for Places205 and for published lists.
        splits: {"train" | "val" | "trainval" | "test": TFDS slice}; a missing key is a split that does not exist.
        label: feature that holds one class per image; None: none, or several per image.
        by_hand: what has to be fetched by hand before TFDS can make it.
        public: False for a set that TFDS cannot make: its folder has to be copied, or what it is made of put in place.
        argument: what may follow the name and a colon; "" where nothing may.
        multi_label: the labels are VOC's, several per image.
    """

    tfds: str | None
    splits: dict
    label: str | None = "label"
    by_hand: str = ""
    public: bool = True
    argument: str = ""
    multi_label: bool = False


def _divided(train, kept, held, test):
    return {"train": f"{train}[{kept}]", "val": f"{train}[{held}]", "trainval": train, "test": test}


_IMAGENET_TAR = "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar (image-net.org)"
_IMAGENET = _divided("train", ":1231121", "1231121:", "validation")  # 984 and 40 of the official 1,024 shards
_LISTED = {split: split for split in SPLITS}  # by published lists
_LT = {split: "train" for split in SPLITS[:3]} | {"test": "test"}  # see long_tail.split_rows
_LT_ARGUMENT = "an imbalance factor or a list of images (cifar10_lt:50, cifar10_lt:/path/indices.npy)"

DATASETS = {
    "toy_scenes": DatasetSpec("toy_scenes/full", _divided("train", ":5400", "5400:", "test")),
    "toy_scenes_tiny": DatasetSpec("toy_scenes/tiny", _divided("train", ":500", "500:", "test")),
    "digits": DatasetSpec(None, {"train": "0:1200", "val": "1200:1400", "trainval": "0:1400", "test": "1400:1797"}),
    "cifar10": DatasetSpec("cifar10", _divided("train", ":45000", "45000:", "test")),
    "cifar100": DatasetSpec("cifar100", _divided("train", ":45000", "45000:", "test")),
    "cifar10_lt": DatasetSpec("cifar10", _LT, argument=_LT_ARGUMENT),
    "cifar100_lt": DatasetSpec("cifar100", _LT, argument=_LT_ARGUMENT),
    "stl10": DatasetSpec("stl10", _divided("train", ":4500", "4500:", "test")),
    # "trainval": the 105,000 that CLD trains on, most without a label, so none is given; gallery and test: stl10.
    # Deviation: CLD's supplement counts 5,000 test images; the set has 8,000, and all of them test.
    "stl10_all": DatasetSpec(
        "stl10",
        {"train": "train[:4500]+unlabelled", "val": "train[4500:]", "trainval": "train+unlabelled", "test": "test"},
        label=None,
    ),
    "stl10_unlabelled": DatasetSpec("stl10", _divided("unlabelled", ":95000", "95000:", "test"), label=None),
    "imagenet2012": DatasetSpec("imagenet2012", _IMAGENET, by_hand=_IMAGENET_TAR),
    "imagenet100": DatasetSpec("imagenet2012", _IMAGENET, by_hand=_IMAGENET_TAR),
    "imagenet20": DatasetSpec("imagenet2012", _IMAGENET, by_hand=_IMAGENET_TAR),
    "imagenet_lt": DatasetSpec(
        None, _LISTED, argument="a folder of ImageNet_LT_train.txt, ImageNet_LT_val.txt and ImageNet_LT_test.txt"
    ),
    "imagenet_list": DatasetSpec(
        None, _LISTED, argument="a list of ImageNet's images (imagenet_list:/path/1percent.txt)"
    ),
    "imagenet2012_subset": DatasetSpec(
        "imagenet2012_subset/10pct", _divided("train", ":90%", "90%:", "validation"), by_hand=_IMAGENET_TAR
    ),
    "imagenet2012_subset_1pct": DatasetSpec(
        "imagenet2012_subset/1pct", _divided("train", ":90%", "90%:", "validation"), by_hand=_IMAGENET_TAR
    ),
    "imagenette": DatasetSpec("imagenette/full-size-v2", _divided("train", ":90%", "90%:", "validation")),
    "imagenette_160px": DatasetSpec("imagenette/160px-v2", _divided("train", ":90%", "90%:", "validation")),
    "imagenette_subset160": DatasetSpec(
        "imagenette_subset160", _divided("train", ":4500", "4500:", "validation"), public=False
    ),
    "kitchen_hc": DatasetSpec(
        "kitchen_hc",
        {"train": "train", "val": "validation", "trainval": "train+validation", "test": "test"},
        by_hand=kitchen_hc.WHERE,
        public=False,
    ),
    "places205": DatasetSpec(None, _LISTED),  # see places.list_split
    "places365_small": DatasetSpec("places365_small", _divided("train", ":-50000", "-50000:", "validation")),
    "voc": DatasetSpec(
        "voc/2007",
        {"train": "train", "val": "validation", "trainval": "train+validation", "test": "test"},
        label=None,
        argument="the folder VOCdevkit of the official archives (voc:/path/VOCdevkit)",
        multi_label=True,
    ),
    "coco": DatasetSpec("coco/2017", _divided("train", ":-5000", "-5000:", "validation"), label=None),
}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """One split of a data set. Image i of a split is the same image in every process; i is the "index" of a batch.

    Attributes:
        name, split: as given to ``open_source``.
        kind: "memory": decoded, in ``images``; "encoded": compressed, in ``encoded``; "files": one file per image, in
            ``paths``; "stream": TFRecord files that are only read from front to back.
        num_examples: N.
        fingerprint: str, the same for the same images in the same order; keys cached features.
        class_names: tuple of str, or None.
        known_labels: what ``labels`` gives, unless they still have to be read from ``records``.
        multi_labels: int8 [N, C] where images have several classes (VOC), else None: 1 for a class that an image shows,
            0 for one that it does not, -1 where every such object in it is marked difficult.
        multi_label_names: the C classes, or None.
        images: uint8 [N, H, W, 3], or None.
        encoded: string tensor [N], or None.
        paths: string tensor [N], or None.
        records: ``Records``, or None.
    """

    name: str
    split: str
    kind: str
    num_examples: int
    fingerprint: str
    class_names: tuple | None = None
    known_labels: np.ndarray | None = None
    multi_labels: np.ndarray | None = None
    multi_label_names: tuple | None = None
    images: np.ndarray | None = None
    encoded: tf.Tensor | None = None
    paths: tf.Tensor | None = None
    records: "Records | None" = None

    @functools.cached_property
    def labels(self):
        """int64 [N], or None where images have no single class. Of a stream this reads all of its files once."""
        if self.known_labels is not None or self.records is None or self.records.label is None:
            return self.known_labels
        data = self.records.in_order().map(lambda index, image, label: label).batch(4096)
        return np.concatenate(list(data.as_numpy_iterator()))

    @property
    def num_classes(self):
        """Number of classes, or None where images have no single class."""
        return None if self.class_names is None else len(self.class_names)

    @property
    def image_shape(self):
        """(H, W, 3) of a decoded set, else None."""
        return None if self.images is None else self.images.shape[1:]

    def subset(self, rows):
        """The images ``rows`` (ascending int [n]) as a source of their own, indexed 0..n-1."""
        rows = np.asarray(rows, np.int64)
        digest = hashlib.sha256(rows.tobytes()).hexdigest()[:12]
        ascending = len(rows) and np.array_equal(rows, np.arange(rows[0], rows[0] + len(rows)))
        part = slice(rows[0], rows[0] + len(rows)) if ascending else rows  # a slice copies nothing
        return dataclasses.replace(
            self,
            num_examples=len(rows),
            fingerprint=f"{self.fingerprint}-{digest}",
            known_labels=None if self.known_labels is None else self.known_labels[part],
            multi_labels=None if self.multi_labels is None else self.multi_labels[part],
            images=None if self.images is None else self.images[part],
            encoded=None if self.encoded is None else tf.gather(self.encoded, rows),
            paths=None if self.paths is None else tf.gather(self.paths, rows),
            records=None if self.records is None else self.records.subset(rows),
        )

    def of_classes(self, names):
        """The images of the classes ``names``, labelled in that order, as a source of their own. Reads a stream once.

        Raises:
            InputError: one of the classes is not among ``class_names``.
        """
        unknown = sorted(set(names) - set(self.class_names))
        if unknown:
            raise InputError(f"{self.name} has no class {unknown[0]!r}")
        new = np.full(self.num_classes, -1, np.int64)
        new[[self.class_names.index(name) for name in names]] = np.arange(len(names))
        labels = new[self.labels]
        part = self.subset(np.flatnonzero(labels >= 0))
        digest = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
        return dataclasses.replace(
            part,
            fingerprint=f"{part.fingerprint}-{digest}",
            class_names=tuple(names),
            known_labels=labels[labels >= 0],
            records=None if part.records is None else part.records.relabelled(new),
        )

    def first(self, count):
        """The first ``count`` images, or all where there are fewer."""
        return self if count >= self.num_examples else self.subset(np.arange(count))

    def sample(self, count, seed=0):
        """``count`` images drawn without regard to class, in their order, or all where there are fewer.

        Folders are sorted by class, so that their first images would be of one class. Of a stream these are the first
        images nevertheless: TFDS has shuffled it when it was made, and the others would take reading all files.
        """
        if self.kind == "stream" or count >= self.num_examples:
            return self.first(count)
        rows = np.random.default_rng([seed, 3]).choice(self.num_examples, count, replace=False)
        return self.subset(np.sort(rows))


@dataclasses.dataclass(frozen=True, eq=False)
class Records:
    """TFRecord files of a split.

    Attributes:
        files: list of (path, skip, take, number of the first example taken).
        features: TFDS features to parse: the image and, where there is one, the label.
        label: name of the label feature, or None.
        example_bytes: mean size of an example.
        rows: int64 [n] ascending numbers of the examples that belong to the source; None: all.
        new_labels: int64 [classes], the label that the source gives to each label of the files; None: the same.
    """

    files: tuple
    features: tfds.features.FeaturesDict
    label: str | None
    example_bytes: float
    rows: np.ndarray | None = None
    new_labels: np.ndarray | None = None

    def relabelled(self, new):
        """The same examples with label ``new[label]``; new is int64 [classes]."""
        return dataclasses.replace(self, new_labels=new if self.new_labels is None else new[self.new_labels])

    def subset(self, rows):
        """Those of the examples; of every file only what lies between its first and its last one is read."""
        rows = rows if self.rows is None else self.rows[rows]
        files = []
        for path, skip, take, first in self.files:
            wanted = rows[slice(*np.searchsorted(rows, [first, first + take]))]
            if len(wanted):
                low, high = int(wanted[0]), int(wanted[-1])
                files.append((path, skip + low - first, high - low + 1, low))
        return dataclasses.replace(self, files=tuple(files), rows=rows)

    def columns(self):
        """The arguments of ``read`` for all files: string [F] and three int64 [F]."""
        paths, *numbers = zip(*self.files, strict=True)
        return (tf.constant(paths), *(tf.constant(column, tf.int64) for column in numbers))

    def read(self, path, skip, take, first):
        """Examples of one file, unparsed and undecoded: dataset of (index in the source, bytes of the example)."""
        data = tf.data.TFRecordDataset(path).skip(skip).take(take).enumerate(start=first)
        if self.rows is None:
            return data
        places = self._places
        last = places.shape[0] - 1
        data = data.map(lambda number, example: (places[tf.minimum(number, last)], example))
        return data.filter(lambda index, example: index >= 0)

    @functools.cached_property
    def _places(self):
        """int64: number of an example in the split -> its index in the source; -1, as at the end, for none."""
        places = np.full(int(self.rows[-1]) + 2, -1, np.int64)
        places[self.rows] = np.arange(len(self.rows))
        with tf.init_scope(), tf.device("CPU"):  # captured by the graph that asks for it, not written into it
            return tf.constant(places)

    @functools.cached_property
    def _new_labels(self):
        with tf.init_scope(), tf.device("CPU"):
            return tf.constant(self.new_labels)

    def parse(self, example):
        """(encoded image, int64 label or -1) of one example."""
        parts = self.features.deserialize_example(example, decoders={"image": tfds.decode.SkipDecoding()})
        label = parts[self.label] if self.label else tf.constant(-1, tf.int64)
        return parts["image"], label if self.new_labels is None else tf.gather(self._new_labels, label)

    def in_order(self):
        """All examples from the first to the last: dataset of (index, encoded image, label)."""
        data = tf.data.Dataset.from_tensor_slices(self.columns()).flat_map(self.read)
        return data.map(lambda index, example: (index, *self.parse(example)), num_parallel_calls=tf.data.AUTOTUNE)


def open_source(name, split, *, data_dir=None, fraction=None, balanced=False, seed=0):
    """One split of a data set, ready to read. Nothing is ever downloaded.

    The last KEPT sources are remembered: opening one again gives the same object, whose arrays must not be written to.
    Files that change while the process runs are noticed after ``open_source.cache_clear()``.

    Args:
        name: key of DATASETS, or "folder:/path/to/images" (layout: ``folders.list_split``). Some take more behind a
            colon: "cifar10_lt:50" or "cifar100_lt:/path/indices.npy" (``long_tail.split_rows``; default: factor 100),
            "imagenet_lt:/folder/of/lists" and "imagenet_list:/path/1percent.txt" (``imagenet.read_entries``),
            "voc:/path/VOCdevkit" (``voc.list_split``; default: VOCdevkit in ``data_dir``, else TFDS's voc/2007).
        split: "train", "val", "trainval" or "test".
        data_dir: where TFDS data sets lie, local or gs://; default TFDS_DATA_DIR or ~/tensorflow_datasets. toy_scenes
            draws itself there at its first use, and kitchen_hc cuts itself out of what lies in downloads/manual. Parts
            of ImageNet are read from its folder imagenet (train/<class>/, val/<class>/), or else from imagenet2012.
        fraction: keep only this share of the images, in (0, 1]; ``seed`` draws which.
        balanced: the same number of each class.

    Returns:
        ``Source``. Small images are decoded into memory, sets up to 1 GiB are kept encoded in memory.

    Raises:
        InputError: unknown name or split; a set that is not there; bad fraction; balanced without labels.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; one of {', '.join(SPLITS)}")
    if fraction is not None and not 0 < fraction <= 1:
        raise InputError(f"a subset fraction must lie in (0, 1]; got {fraction}")
    place = name.removeprefix("folder:") if name.startswith("folder:") else resolve_data_dir(data_dir)
    place = place if "://" in place else os.path.abspath(os.path.expanduser(place))
    return _open(name, split, place) if fraction in (None, 1) else _open(name, split, place, fraction, balanced, seed)


@functools.lru_cache(maxsize=KEPT)
def _open(name, split, place, fraction=None, balanced=False, seed=0):
    """``open_source`` of checked arguments; ``place`` is the image folder or that of the TFDS data sets."""
    if fraction is not None:
        source = _open(name, split, place)
        if balanced and source.num_classes is None:
            raise InputError(f"{name} has no labels to balance; take a random subset")
        rows = splits.subset(source.num_examples, fraction, seed, labels=source.labels if balanced else None)
        return _keep_if_small(source.subset(rows))
    if name.startswith("folder:"):
        return _open_listing(name, split, folders.list_split(place, split))
    key, _, argument = name.partition(":")
    if key not in DATASETS:
        raise InputError(f"unknown data set {name!r}; one of {', '.join(sorted(DATASETS))}, or folder:/path/to/images")
    if split not in DATASETS[key].splits:
        raise InputError(f"{key} has no split {split!r}; one of {', '.join(DATASETS[key].splits)}")
    if argument and not DATASETS[key].argument:
        raise InputError(f"data set {key} takes nothing behind its name, but {name!r} has {argument!r}")
    if key in ("cifar10_lt", "cifar100_lt"):
        return _open_long_tail(name, split, place)
    if key == "imagenet100":
        return _open_imagenet(name, split, place, imagenet.imagenet100_classes())
    if key == "imagenet20":
        return _open_first(name, split, place)
    if key in ("imagenet_lt", "imagenet_list"):
        return _open_listed(name, split, place)
    if name == "digits":
        return _open_digits(name, split)
    if name == "places205":
        return _open_listing(name, split, places.list_split(os.path.join(place, "places205"), split))
    if key == "voc" and (argument or voc.find(place)):
        return _open_voc(name, split, place)
    try:
        return _open_tfds(name, split, place)
    except tf.errors.OpError as error:
        reason = str(error.message).splitlines()[0]
        raise InputError(
            f"data set {name} in {place} is damaged ({reason}); delete its folder, then get it again"
        ) from None


open_source.cache_clear = _open.cache_clear


def resolve_data_dir(data_dir=None):
    """The folder of TFDS data sets: the argument, else TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    return os.path.expanduser(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def _open_listing(name, split, listing):
    with tf.device("CPU"):
        paths = tf.constant(listing.paths)
    return Source(
        name=name,
        split=split,
        kind="files",
        num_examples=len(listing.paths),
        fingerprint=f"folder-{listing.fingerprint}",
        class_names=listing.class_names,
        known_labels=listing.labels,
        paths=paths,
    )


def _open_long_tail(name, split, place):
    """CIFAR-10-LT and CIFAR-100-LT, out of the memory of the whole set."""
    key, _, argument = name.partition(":")
    whole, wanted = key.removesuffix("_lt"), long_tail.parse(argument)
    if split == "test":
        return dataclasses.replace(_open(whole, "test", place), name=name)
    source = _open(whole, "trainval", place)
    # TFDS has shuffled the set; the id of an image, train_00007, is its place in the official files.
    official = [int(text.rpartition("_")[2]) for text in _column(whole, "trainval", place, "id")]
    rows = long_tail.split_rows(source.labels, np.array(official), wanted)[split]
    return dataclasses.replace(source.subset(rows), name=name, split=split)


def _open_imagenet(name, split, place, class_names):
    """Some classes of ImageNet, from its folders where they are, else from TFDS's imagenet2012."""
    if imagenet.has_folders(place):
        return _open_listing(name, split, imagenet.list_classes(place, split, class_names))
    source = _whole_imagenet(name, split, place).of_classes(class_names)
    return _keep_if_small(dataclasses.replace(source, name=name))


def _open_first(name, split, place):
    """The first 260 training images of each class of ImageNet; all of its test images."""
    if imagenet.has_folders(place):
        classes = imagenet.folder_classes(place)
        if split == "test":
            return _open_listing(name, split, imagenet.list_classes(place, split, classes))
        whole = imagenet.list_classes(place, "trainval", classes)
        rows = imagenet.first_rows(whole.paths, whole.labels, imagenet.FIRST)
        part = folders.take(whole, rows, f"first{imagenet.FIRST}")
        return _open_listing(name, split, folders.take(part, imagenet.part_rows(part.labels, split), split))
    source = _whole_imagenet(name, "test" if split == "test" else "trainval", place)
    if split != "test":
        names = _column("imagenet2012", "trainval", place, "file_name")
        source = source.subset(imagenet.first_rows(names, source.labels, imagenet.FIRST))
        source = source.subset(imagenet.part_rows(source.labels, split))
    return _keep_if_small(dataclasses.replace(source, name=name, split=split))


def _open_listed(name, split, place):
    """ImageNet-LT and other published lists of ImageNet's images."""
    key, _, argument = name.partition(":")
    if key == "imagenet_lt" and not argument and not tf.io.gfile.isdir(os.path.join(place, imagenet.LT_FOLDER)):
        raise InputError(
            f"data set imagenet_lt is not in {place}; put its lists ImageNet_LT_train.txt, ImageNet_LT_val.txt and "
            f"ImageNet_LT_test.txt (github.com/zhmiao/OpenLongTailRecognition-OLTR) into "
            f"{os.path.join(place, imagenet.LT_FOLDER)}, or name their folder: imagenet_lt:/path"
        )
    if key == "imagenet_list" and not argument:
        raise InputError("data set imagenet_list needs a list behind its name: imagenet_list:/path/1percent.txt")
    path = os.path.expanduser(argument) or os.path.join(place, imagenet.LT_FOLDER)
    entries = imagenet.read_entries(path, split)
    if entries is None:  # the official test images of the list's classes
        return _open_imagenet(name, split, place, imagenet.read_entries(path, "trainval").class_names)
    if imagenet.has_folders(place):
        return _open_listing(name, split, imagenet.list_entries(place, entries))
    part = "test" if split == "test" else "trainval"
    source = _whole_imagenet(name, part, place)
    source = source.subset(imagenet.entry_rows(_column("imagenet2012", part, place, "file_name"), entries))
    return _keep_if_small(dataclasses.replace(source.of_classes(entries.class_names), name=name, split=split))


def _whole_imagenet(name, split, place):
    """TFDS's imagenet2012, of which ``name`` is a part."""
    try:
        source = _open("imagenet2012", split, place)
    except InputError as error:
        raise InputError(
            f"{name} needs ImageNet, as folders imagenet/train/<class> and imagenet/val/<class> or from TFDS: {error}"
        ) from None
    if source.kind == "stream":
        faster = f"folders train/<class> and val/<class> in {os.path.join(place, imagenet.FOLDER)} are faster"
        print(f"{name}: looking through all files of imagenet2012 ({split}); {faster}", file=sys.stderr, flush=True)
    return source


@functools.lru_cache(maxsize=4)
def _column(name, split, place, feature):
    """A text feature of all images of a TFDS set, in their order: tuple of str. Reads its files, decodes no image."""
    spec = DATASETS[name]
    with _quiet():
        data = _builder(name, spec, place).as_dataset(
            split=spec.splits[split],
            decoders=tfds.decode.PartialDecoding({feature: True}),
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),
        )
    return tuple(text.decode() for batch in data.batch(1000).as_numpy_iterator() for text in batch[feature])


def _open_voc(name, split, place):
    """VOC 2007 from the folder of its archives."""
    _, _, argument = name.partition(":")
    given = os.path.expanduser(argument) or place
    root = voc.find(given)
    if root is None:
        raise InputError(f"no VOC 2007 at {given}; expected VOC2007 with ImageSets/Main: {voc.how_to_get(place)}")
    paths, labels, digest = voc.list_split(root, split)
    with tf.device("CPU"):
        return Source(
            name=name,
            split=split,
            kind="files",
            num_examples=len(paths),
            fingerprint=f"voc2007-{split}-{digest}",
            multi_labels=labels,
            multi_label_names=voc.CLASSES,
            paths=tf.constant(paths),
        )


def _open_digits(name, split):
    """scikit-learn's 1,797 handwritten digits: 8x8 pixels of 0..16, each made a 4x4 block of grey in 0..255."""
    from sklearn.datasets import load_digits  # half a second to import, and seldom used

    digits = load_digits()
    part = slice(*map(int, DATASETS[name].splits[split].split(":")))  # in their order: the test writers come last
    grey = np.rint(digits.images[part] * (255 / 16)).astype(np.uint8)
    images = np.repeat(np.repeat(grey, 4, 1), 4, 2)[..., None].repeat(3, 3)
    return Source(
        name=name,
        split=split,
        kind="memory",
        num_examples=len(images),
        fingerprint=f"digits-{split}",
        class_names=tuple(map(str, digits.target_names)),
        known_labels=digits.target[part].astype(np.int64),
        images=images,
    )


def _open_tfds(name, split, data_dir):
    spec = DATASETS[name]
    builder = _builder(name, spec, data_dir)
    features = builder.info.features
    part = builder.info.splits[spec.splits[split]]
    source = Source(
        name=name,
        split=split,
        kind="stream",
        num_examples=part.num_examples,
        fingerprint=f"{builder.info.full_name}-{spec.splits[split]}-{int(builder.info.dataset_size)}",
        class_names=tuple(features[spec.label].names) if spec.label else None,
    )
    shape = features["image"].shape
    if None not in shape and max(shape[:2]) <= MAX_SIDE and part.num_examples * np.prod(shape) <= MAX_BYTES:
        images, labels = _decoded(name, str(builder.data_path), spec.splits[split])
        return dataclasses.replace(source, kind="memory", images=images, known_labels=labels)
    wanted = {"image": True} | ({spec.label: True} if spec.label else {})
    files, first = [], 0
    for file in part.file_instructions:
        take = file.take if file.take >= 0 else file.examples_in_shard - file.skip
        files.append((str(file.filename), file.skip, take, first))
        first += take
    records = Records(
        files=tuple(files),
        features=tfds.decode.PartialDecoding(wanted).extract_features(features),
        label=spec.label,
        example_bytes=builder.info.dataset_size / builder.info.splits.total_num_examples,
    )
    if spec.multi_label:
        named = tfds.decode.PartialDecoding({"labels": True, "labels_no_difficult": True})
        one_by_one = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        with _quiet():
            data = builder.as_dataset(split=spec.splits[split], decoders=named, read_config=one_by_one)
        labels = voc.from_tfds(data.as_numpy_iterator())
        source = dataclasses.replace(source, multi_labels=labels, multi_label_names=voc.CLASSES)
    return _keep_if_small(dataclasses.replace(source, records=records))


def _builder(name, spec, data_dir):
    """The TFDS builder of a set that is there; one that we make ourselves is made first where it is not."""
    try:
        with _quiet():
            builder = tfds.builder(spec.tfds, data_dir=data_dir)
            ready = builder.is_prepared()
        if ready:
            return builder
        manual = os.path.join(data_dir, "downloads", "manual")
        if isinstance(builder, toy_scenes.ToyScenes) or (
            isinstance(builder, kitchen_hc.KitchenHC) and kitchen_hc.find_source(manual)
        ):
            return _make(builder, data_dir)
    except tfds.core.DatasetNotFoundError:
        pass
    if spec.public:
        call = f"tfds.builder('{spec.tfds}', data_dir='{data_dir}').download_and_prepare()"
        how = f'get it with: python -c "import tensorflow_datasets as tfds; {call}"'
        if spec.multi_label:
            how = f"{how}, or {voc.how_to_get(data_dir)}"
        if spec.by_hand:
            how = f"put {spec.by_hand} into {os.path.join(data_dir, 'downloads', 'manual')}, then {how}"
    elif spec.by_hand:
        how = f"put {spec.by_hand} into {os.path.join(data_dir, 'downloads', 'manual')}"
    else:
        how = f"copy its TFDS folder {spec.tfds} there"
    raise InputError(f"data set {name} ({spec.tfds}) is not in {data_dir}; {how}, or set --data-dir")


def _make(builder, data_dir):
    """The prepared builder; several processes may try at once, the first to finish wins."""
    config = builder.builder_config
    spec_name = f"{builder.name}/{config.name}" if config else builder.name
    with _quiet():
        try:
            builder.download_and_prepare()
        except (OSError, tf.errors.OpError) as error:  # another process was faster, or the folder cannot be written
            if not tfds.builder(spec_name, data_dir=data_dir).is_prepared():
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"cannot write {builder.name} into {data_dir} ({reason}); choose another --data-dir"
                ) from None
        return tfds.builder(spec_name, data_dir=data_dir)


@contextlib.contextmanager
def _quiet():
    """Keeps TFDS from printing: our errors say it in one line, and the embedded set has a progress bar of its own."""
    verbosity = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
        absl.logging.set_verbosity(verbosity)


def _decoded(name, data_path, part):
    """(uint8 [N, H, W, 3], int64 [N] or None): a TFDS slice in its own order."""
    label = DATASETS[name].label
    keys = {"image": True} | ({label: True} if label else {})
    with _quiet():
        builder = tfds.builder_from_directory(data_path)
        data = builder.as_dataset(
            split=part,
            decoders=tfds.decode.PartialDecoding(keys),
            read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False),  # files one after the other
        )
        count = builder.info.splits[part].num_examples
    images = np.empty((count, *builder.info.features["image"].shape[:2], 3), np.uint8)
    labels = np.empty(count, np.int64) if label else None
    start = 0
    for batch in data.batch(1000).as_numpy_iterator():
        stop = start + len(batch["image"])
        images[start:stop] = batch["image"]  # one grey channel spreads over three
        if label:
            labels[start:stop] = batch[label]
        start = stop
    return images, labels


def _keep_if_small(source):
    """A stream that fits is read once and kept encoded, which gives true random access; others stay as they are."""
    if source.kind != "stream" or source.num_examples * source.records.example_bytes > MAX_BYTES:
        return source
    encoded, labels = [], []
    with tf.device("CPU"):
        for _, images, numbers in source.records.in_order().batch(1024):
            encoded.append(images)
            labels.append(numbers.numpy())
        encoded = tf.concat(encoded, 0)
    known = np.concatenate(labels) if source.records.label else None
    return dataclasses.replace(source, kind="encoded", encoded=encoded, known_labels=known, records=None)
