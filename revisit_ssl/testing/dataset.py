"""What a line in DATASETS promises."""

import itertools

import numpy as np

from revisit_ssl.data import EvalView, eval_batches, open_source, steps_per_epoch, train_batches
from revisit_ssl.data.catalogue import find_dataset
from revisit_ssl.views.crops import CropSpec

SIDE = 16  # images are looked at in this size
COUNT = 40  # and so many of a split
BATCH = 6  # does not divide COUNT: an epoch leaves images out


def check_dataset(name, data_dir=None):
    """Checks a data set: its sizes, classes and dtypes; image i is always the same; every epoch has its own order.

    All splits are opened and their labels are read, but for those of a stream, whose files would take hours. Images are
    looked at in the smallest split.

    Args:
        name: as for ``open_source``.
        data_dir: as there.

    Raises:
        AssertionError: a promise that the set does not keep; the message says which.
        InputError: the set is not there.
    """
    dataset, argument = find_dataset(name)
    sizes = dataset.known_sizes(argument)
    found = {split: open_source(name, split, data_dir=data_dir) for split in dataset.splits}
    for split, source in found.items():
        where = f"{name} {split}"
        assert (source.name, source.split) == (name, split), f"{where} calls itself {source.name} {source.split}"
        assert source.num_examples == sizes.get(split, source.num_examples) > 0, (
            f"{where} has {source.num_examples} images, not {sizes.get(split)}"
        )
        if dataset.num_classes and not argument:
            assert source.num_classes == dataset.num_classes, f"{where} has {source.num_classes} classes"
        assert dataset.multi_label_names in (None, source.multi_label_names), (
            f"{where} has the classes {source.multi_label_names}"
        )
        assert source.images is None or dataset.image_shape in (None, source.image_shape), (
            f"{where} has images {source.image_shape}, not {dataset.image_shape}"
        )
        _check_labels(source, where)
    for split in found.keys() - {"test"}:
        assert "test" not in found or found[split].fingerprint != found["test"].fingerprint, (
            f"{name}: the images of {split} and test have the same fingerprint"
        )
    smallest = min(found.values(), key=lambda source: source.num_examples)
    _check_samples(smallest)
    part = smallest.sample(COUNT)
    seen = _check_images(part)
    _check_epochs(part, seen)
    open_source.cache_clear()
    again = open_source(name, smallest.split, data_dir=data_dir)
    assert again.fingerprint == smallest.fingerprint, f"{name}: opened again, {smallest.split} has another fingerprint"
    np.testing.assert_array_equal(
        _images(again.sample(COUNT)), seen, f"{name}: opened again, an index of {smallest.split} is another image"
    )
    half = open_source(name, smallest.split, data_dir=data_dir, fraction=0.5)
    assert half.num_examples == round(smallest.num_examples / 2), f"{name}: a half has {half.num_examples} images"
    assert half.fingerprint != smallest.fingerprint, f"{name}: a half has the fingerprint of the whole"


def _check_labels(source, where):
    """One class for each image, or several, or none; a stream is believed."""
    count = source.num_examples
    if source.multi_labels is not None:
        shape = (count, len(source.multi_label_names))
        kind = (source.multi_labels.dtype, source.multi_labels.shape)
        assert kind == (np.int8, shape), f"{where} has several labels {kind}, not int8 {shape}"
        assert np.isin(source.multi_labels, (-1, 0, 1)).all(), f"{where} has several labels other than -1, 0 and 1"
        assert source.class_names is None, f"{where} has several labels for each image and one class, too"
    if source.kind == "stream" or source.labels is None:
        return
    kind = (source.labels.dtype, source.labels.shape)
    assert kind == (np.int64, (count,)), f"{where} has labels {kind}, not int64 {(count,)}"
    assert source.class_names, f"{where} has labels without class_names"
    low, high = source.labels.min(), source.labels.max()
    assert 0 <= low <= high < source.num_classes, f"{where} has labels {low} to {high} of {source.num_classes} classes"


def _check_samples(source):
    where, drawn = f"{source.name} {source.split}", min(COUNT, source.num_examples // 2)
    one, same, other = (source.sample(drawn, seed) for seed in (0, 0, 1))
    assert one.num_examples == drawn, f"{where}: a sample of {drawn} has {one.num_examples} images"
    assert one.fingerprint == same.fingerprint, f"{where}: two samples of one seed differ"
    if source.kind != "stream":  # its sample is always its beginning
        assert one.fingerprint != other.fingerprint, f"{where}: samples of two seeds are the same"


def _images(source):
    """uint8 [N, SIDE, SIDE, 3], all images in order."""
    return _pass(source)["image"]


def _pass(source):
    """What an evaluation pass gives of all images in order: {"image": as of ``_images``, "label", "index": [N]}."""
    batches = list(eval_batches(source, 16, view=EvalView(SIDE, method="squash")).as_numpy_iterator())
    return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def _check_images(source):
    """The images of an evaluation pass, as ``_images``: their dtype, their index and label, and those of a subset."""
    where, found = f"{source.name} {source.split}", _pass(source)
    seen = found["image"]
    assert seen.dtype == np.uint8, f"{where} has images {seen.dtype}, not uint8"
    assert seen.shape == (source.num_examples, SIDE, SIDE, 3), f"{where} has {seen.shape[0]} images in a pass"
    np.testing.assert_array_equal(found["index"], np.arange(source.num_examples), f"{where}: indices are not 0, 1, …")
    labels = np.full(source.num_examples, -1) if source.labels is None else source.labels
    np.testing.assert_array_equal(found["label"], labels, f"{where}: a pass has other labels than the source")
    rows = np.arange(1, source.num_examples, 3)
    told = f"{where}: a second pass, of a subset, shows other images"
    np.testing.assert_array_equal(_images(source.subset(rows)), seen[rows], told)
    return seen


def _check_epochs(source, seen):
    """Two epochs of training batches; ``seen`` are the images that belong to each index."""
    where, size = f"{source.name} {source.split}", min(BATCH, source.num_examples)
    steps = steps_per_epoch(source, size)

    def train(seed, **options):
        whole = {"image": CropSpec(size=SIDE, method="center", resize_to=SIDE)}
        data = train_batches(source, batch_size=size, crops=whole, seed=seed, **options)
        return list(itertools.islice(data.as_numpy_iterator(), 2 * steps))

    def order(batches):
        return np.concatenate([batch["index"] for batch in batches])

    batches = train(seed=1)
    first, second = order(batches[:steps]), order(batches[steps:])
    for epoch in (first, second):
        assert len(set(epoch)) == steps * size, f"{where}: an epoch shows an image twice"
    assert not np.array_equal(first, second), f"{where}: two epochs have the same order"
    assert not np.array_equal(order(train(seed=2)), order(batches)), f"{where}: two seeds give the same order"
    later = train(seed=1, start_step=steps - 1)[: steps + 1]
    told = f"{where}: begun at the last step of an epoch, the same seed gives another order"
    np.testing.assert_array_equal(order(later), order(batches[steps - 1 :]), told)
    labels = np.full(source.num_examples, -1) if source.labels is None else source.labels
    for batch in batches:
        np.testing.assert_array_equal(batch["label"], labels[batch["index"]], f"{where}: a training label is wrong")
        if source.kind == "memory":
            expected, images = source.images[batch["index"]], batch["image"]
        else:
            expected, images = seen[batch["index"]], batch["image"][:, 0]
        np.testing.assert_array_equal(images, expected, f"{where}: a training image is not that of its index")
