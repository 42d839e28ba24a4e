"""What a split of a data set holds (Source), and where its images are kept while in use: in memory or in files."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from revisit_ssl.data.pipelines import untuned
from revisit_ssl.data.queries import Queries
from revisit_ssl.errors import InputError

MAX_SIDE = 128  # images up to this side are small: kept decoded, cropped on the device
MAX_BYTES = 2**30  # as much is kept in memory, decoded or encoded; larger sets are read from their files


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """One split of a data set. Image i of a split is the same image in every process; i is the "index" of a batch.

    Attributes:
        name, split: as given to ``open_source``.
        kind: "memory": decoded, in ``images``; "encoded": compressed, in ``encoded``; "files": one file per image, in
            ``paths``; "store": files or members of zips, in ``paths`` as ``image_stores.find_images`` gives them;
            "stream": TFRecord files that are only read from front to back; "known": not here, for plans
            (``known.known_source``).
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
        queries: ``queries.Queries`` of a set for instance retrieval, whose database this is; None of others, and of a
            subset.
        text: function of a text feature's name -> tuple of N str, in the order of the images; None where there are no
            such features, and of a subset.
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
    queries: Queries | None = None
    text: Callable | None = None

    @functools.cached_property
    def labels(self):
        """int64 [N], or None where images have no single class. Of a stream this reads all of its files once."""
        if self.known_labels is not None or self.records is None or not self.records.labelled:
            return self.known_labels
        data = self.records.in_order().map(lambda index, image, label: label).batch(4096)
        return np.concatenate(list(untuned(data).as_numpy_iterator()))

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
            queries=None,
            text=None,
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
        parser: function of an example's bytes -> (encoded image, scalar string; its label, int64, -1 without one).
        labelled: whether examples have a label.
        example_bytes: mean size of an example.
        rows: int64 [n] ascending numbers of the examples that belong to the source; None: all.
        new_labels: int64 [classes], the label that the source gives to each label of the files; None: the same.
    """

    files: tuple
    parser: Callable
    labelled: bool
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
        image, label = self.parser(example)
        return image, label if self.new_labels is None else tf.gather(self._new_labels, label)

    @tf.autograph.experimental.do_not_convert
    def in_order(self):
        """All examples from the first to the last: dataset of (index, encoded image, label)."""
        data = tf.data.Dataset.from_tensor_slices(self.columns()).flat_map(self.read)
        return data.map(lambda index, example: (index, *self.parse(example)), num_parallel_calls=tf.data.AUTOTUNE)


def keep_if_small(source):
    """``source``; a stream of at most MAX_BYTES is read once and kept encoded, which gives true random access."""
    if source.kind != "stream" or source.num_examples * source.records.example_bytes > MAX_BYTES:
        return source
    encoded, labels = [], []
    with tf.device("CPU"):
        for _, images, numbers in untuned(source.records.in_order().batch(1024)):
            encoded.append(images)
            labels.append(numbers.numpy())
        encoded = tf.concat(encoded, 0)
    known = np.concatenate(labels) if source.records.labelled else None
    return dataclasses.replace(source, kind="encoded", encoded=encoded, known_labels=known, records=None)
