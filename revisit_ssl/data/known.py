"""Sets that are not here, as far as they are known: for plans, and images in their place to time a step on."""

import dataclasses

import numpy as np
import tensorflow as tf

from revisit_ssl.data import splits
from revisit_ssl.data.catalogue import find_dataset, open_source
from revisit_ssl.data.sources import MAX_SIDE, Source
from revisit_ssl.errors import DataNotHere

PICTURE = (375, 500, 3)  # where the images of a set differ in size: the one that most of ImageNet's have


def known_source(name, split, *, data_dir=None, fraction=None, balanced=False, seed=0):
    """``open_source`` that makes nothing, and where the set is not here what is known of it.

    Args:
        name, split, data_dir, fraction, balanced, seed: see ``open_source``.

    Returns:
        ``Source``; of a set that is not here one of kind "known", with its number of images and classes as published
        (val of a set without a published one: about its share). Its images are black, all one in memory, if all have
        one small size, else None; its labels are as many of each class.

    Raises:
        DataNotHere: a set that is not there and whose size is not known.
        InputError: see ``open_source``.
    """
    try:
        return open_source(name, split, data_dir=data_dir, fraction=fraction, balanced=balanced, seed=seed, make=False)
    except DataNotHere:
        source = _published(name, split)
        if source is None:
            raise
    if fraction in (None, 1):
        return source
    labels = source.labels if balanced else None
    return source.first(len(splits.subset(source.num_examples, fraction, seed, labels=labels)))


def _published(name, split):
    """The whole split as a Source of kind "known", or None where its size is not known."""
    dataset, argument = find_dataset(name)
    sizes = dataset.known_sizes(argument)
    if dataset.held and "trainval" in sizes:
        val = round(dataset.held * sizes["trainval"])
        sizes = {"train": sizes["trainval"] - val, "val": val} | sizes
    if split not in sizes:
        return None
    count, classes, several, shape = sizes[split], dataset.num_classes, dataset.multi_label_names, dataset.image_shape
    return Source(
        name=name,
        split=split,
        kind="known",
        num_examples=count,
        fingerprint=f"known-{name}-{split}",
        class_names=None if classes is None else tuple(map(str, range(classes))),
        known_labels=None if classes is None else np.arange(count) % classes,
        multi_labels=None if several is None else np.zeros((count, len(several)), np.int8),
        multi_label_names=several,
        images=np.broadcast_to(np.uint8(0), (count, *shape)) if shape and max(shape) <= MAX_SIDE else None,
    )


def stand_in(source, count):
    """Images for a set that is not here, to time a step on.

    Args:
        source: of ``known_source``.
        count: images that are needed.

    Returns:
        The source itself where it is here; else ``count`` of its images, random: decoded ones where all have one small
        size, or JPEGs of PICTURE, kept encoded.
    """
    if source.kind != "known":
        return source
    part, random = source.first(count), np.random.default_rng(0)
    if part.images is not None:
        return dataclasses.replace(part, kind="memory", images=random.integers(0, 256, part.images.shape, np.uint8))
    # Coarse noise, enlarged: as many bytes as a photograph has, some 100 kB.
    small = tf.constant(random.integers(0, 256, (PICTURE[0] // 4, PICTURE[1] // 4, 3), np.uint8))
    picture = tf.cast(tf.image.resize(small, PICTURE[:2]), tf.uint8)
    return dataclasses.replace(part, kind="encoded", encoded=tf.fill([part.num_examples], tf.io.encode_jpeg(picture)))
