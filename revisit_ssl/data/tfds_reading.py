"""What asks TensorFlow Datasets itself: builders, their files, decoded images. Importing TFDS takes a while, so that
``tfds_sets`` imports this when a set is opened, and a command without a TFDS set never does."""

import contextlib
import functools
import io
import os
import shutil

import absl.logging
import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from revisit_ssl.data.pipelines import untuned
from revisit_ssl.data.sources import Records
from revisit_ssl.errors import InputError, reason
from revisit_ssl.runs.files import only_here
from revisit_ssl.runs.telling import tell


def find_builder(name, place, *, make):
    """The builder of a set that is there.

    Args:
        name: of TFDS, with its configuration: "imagenette/160px-v2".
        place: folder of the TFDS data sets.
        make: make the set where it is not there.

    Returns:
        tfds.core.DatasetBuilder, or None where the set is not there.

    Raises:
        InputError: ``place`` cannot be written to.
    """
    try:
        with _quiet():
            builder = tfds.builder(name, data_dir=place)
            ready = builder.is_prepared()
    except tfds.core.DatasetNotFoundError:
        return None
    if ready:
        return builder
    return make_set(builder, place) if make else None


def make_set(builder, place):
    """The prepared builder; of several processes one makes it, and the others wait for that.

    What killed processes have left of it is removed.

    Raises:
        InputError: ``place`` cannot be written to.
    """
    config = builder.builder_config
    name = f"{builder.name}/{config.name}" if config else builder.name
    folder = os.path.dirname(str(builder.data_path))  # of its versions
    tell(f"making {name} in {place}, once")
    # TFDS' own lines are hidden, not those about the lock.
    with only_here(folder, "making.lock", "another process", wait=True, flag="--data-dir"), _quiet():
        ready = tfds.builder(name, data_dir=place)
        if ready.is_prepared():
            return ready
        for left in ready.data_path.parent.glob("incomplete.*"):
            shutil.rmtree(left, ignore_errors=True)
        try:
            builder.download_and_prepare()
        except (OSError, tf.errors.OpError) as error:  # the folder cannot be written, or another process was faster,
            if not tfds.builder(name, data_dir=place).is_prepared():  # where there are no locks
                raise InputError(
                    f"cannot write {builder.name} into {place} ({reason(error)}); choose another --data-dir"
                ) from None
        return tfds.builder(name, data_dir=place)


def decoded(builder, part, label):
    """All images and labels of a slice, in its own order.

    Args:
        builder: of a set whose images have one size.
        part: TFDS slice, "train[:100]".
        label: name of the label feature, or None.

    Returns:
        (uint8 [N, H, W, 3], int64 [N] or None)
    """
    count = builder.info.splits[part].num_examples
    images = np.empty((count, *builder.info.features["image"].shape[:2], 3), np.uint8)
    labels = np.empty(count, np.int64) if label else None
    start = 0
    for batch in _in_order(builder, part, "image", *_named(label)).batch(1000).as_numpy_iterator():
        stop = start + len(batch["image"])
        images[start:stop] = batch["image"]  # one grey channel spreads over three
        if label:
            labels[start:stop] = batch[label]
        start = stop
    return images, labels


def records(builder, part, label):
    """``Records`` of a slice; arguments as of ``decoded``, images of any size."""
    files, first = [], 0
    for file in builder.info.splits[part].file_instructions:
        take = file.take if file.take >= 0 else file.examples_in_shard - file.skip
        files.append((str(file.filename), file.skip, take, first))
        first += take
    features = _only("image", *_named(label)).extract_features(builder.info.features)
    encoded = {"image": tfds.decode.SkipDecoding()}

    def parse(example):
        parts = features.deserialize_example(example, decoders=encoded)
        return parts["image"], parts[label] if label else tf.constant(-1, tf.int64)

    return Records(
        files=tuple(files),
        parser=parse,
        labelled=bool(label),
        example_bytes=builder.info.dataset_size / builder.info.splits.total_num_examples,
    )


def column_reader(builder, part):
    """Function of a text feature's name -> tuple of N str, all of a slice in its order. Decodes no image."""

    @functools.cache
    def read(feature):
        data = _in_order(builder, part, feature).batch(1000)
        return tuple(text.decode() for batch in data.as_numpy_iterator() for text in batch[feature])

    return read


def examples(builder, part, *features, encoded=()):
    """Iterator over {feature: array} of a slice's examples in its order, of the named features alone, and as bytes of
    those that stay ``encoded``."""
    return _in_order(builder, part, *features, encoded=encoded).as_numpy_iterator()


def _in_order(builder, part, *features, encoded=()):
    one_by_one = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)  # files one after the other
    with _quiet():
        data = builder.as_dataset(split=part, decoders=_only(*features, encoded=encoded), read_config=one_by_one)
    return untuned(data)


def _only(*features, encoded=()):
    raw = {name: tfds.decode.SkipDecoding() for name in encoded}
    return tfds.decode.PartialDecoding(dict.fromkeys((*features, *encoded), True), decoders=raw)


def _named(label):
    return (label,) if label else ()


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
