"""Batches: what the network is fed, as a pure function of (seed, epoch, place in the epoch).

The order of an epoch is a permutation that is computed, not stored: ``index_shuffle`` maps a place in the epoch to an
image. So a run can start at any step and sees what it would have seen. Only sets too large for memory that lie in
TFRecord files (kind "stream") are shuffled in the usual way - files, then a buffer - and skip to their start.
"""

import tensorflow as tf

from revisit_ssl.data import decoding
from revisit_ssl.data.image_stores import read_tensor
from revisit_ssl.data.pipelines import untuned
from revisit_ssl.errors import InputError
from revisit_ssl.views import draws

SHUFFLE_BUFFER = 16384  # encoded images of a stream; 1.8 GB for ImageNet
_ORDER, _CROPS = 1, 2  # folds of the seed
_FOREVER = tf.int64.max

_plain = tf.autograph.experimental.do_not_convert  # what is mapped here branches on Python values only


def steps_per_epoch(source, batch_size):
    """Full batches in one pass: floor(N / batch_size). InputError where not even one is full."""
    steps = source.num_examples // batch_size
    if steps == 0:
        raise InputError(
            f"batch size {batch_size} is larger than {source.name} {source.split} with {source.num_examples} images; "
            f"choose at most that"
        )
    return steps


@_plain
def train_batches(source, *, batch_size, crops, seed, start_step=0, replicas=1, replica_ids=None, order=None):
    """Endless training batches from global step ``start_step`` on.

    Every epoch is another order of all images; what is left after the last full batch is dropped. Batch g of epoch e
    depends on (seed, e, g) alone, whatever step the iteration began with.

    Args:
        source: a ``Source``.
        batch_size: images per step over all replicas.
        crops: {name: CropSpec} of the pretext.
        seed: int.
        start_step: steps already taken, over all epochs.
        replicas: number of devices that share a batch. With more than one, every element is the part of one replica:
            rows [r*b, (r+1)*b) of the global batch, b = batch_size / replicas, as
            ``distribute_datasets_from_function`` wants them.
        replica_ids: the replicas to yield for, in turn, ascending; default all.
        order: int64 [steps * batch_size], the images of the epoch of ``start_step`` in turn, which may come any number
            of times; later epochs would have the same. None: a permutation of all images.

    Returns:
        tf.data.Dataset of dicts with static shapes: "label" int64 [b] (-1 without one), "index" int64 [b], and for
        sets decoded in memory "image" uint8 [b, H, W, 3], to be cropped on the device with ``views.crops.cut``; for all
        others one uint8 [b, count, size, size, 3] per crop name, cut from one decode.

    Raises:
        InputError: the batch is larger than the set or not divisible by the replicas; an ``order`` of images that are
            only read from front to back.
    """
    if batch_size % replicas:
        raise InputError(f"batch size {batch_size} is not divisible by {replicas} replicas; choose a multiple")
    steps = steps_per_epoch(source, batch_size)
    local = batch_size // replicas
    replica_ids = tuple(range(replicas)) if replica_ids is None else tuple(replica_ids)
    key = draws.as_seed(seed).key

    units = _units(source, steps, local, replicas, replica_ids, start_step, key, order)
    if source.kind == "memory":
        pick = _from_memory(source)
        data = units
        data = data.map(lambda epoch, places, index: pick(index), num_parallel_calls=tf.data.AUTOTUNE)
        return untuned(data.prefetch(tf.data.AUTOTUNE))

    if source.kind == "stream":
        if order is not None:
            raise InputError(f"images of {source.name} can only be read from front to back, not in a given order")
        examples = _stream(source, steps, batch_size, local, replica_ids, start_step, key)
    else:
        examples = units.flat_map(_one_by_one)
    read = _reader(source)

    def cut(epoch, place, index, *carried):
        image_key = draws.fold(draws.fold(draws.fold(key, _CROPS), epoch), place)
        images, label = read(lambda contents: decoding.decode_crops(contents, crops, image_key), index, *carried)
        return images | {"label": label, "index": index}

    data = examples.map(cut, num_parallel_calls=tf.data.AUTOTUNE).batch(local, drop_remainder=True)
    return untuned(data.prefetch(tf.data.AUTOTUNE))


@_plain
def eval_batches(source, batch_size, *, view):
    """One pass over all images in their order; the last batch may be smaller.

    Args:
        source: a ``Source``.
        batch_size: images per batch.
        view: an ``EvalView``.

    Returns:
        tf.data.Dataset of {"image": uint8 [b, size, size, 3], "label": int64 [b] (-1 without one), "index": int64 [b]}.
    """
    if source.kind == "memory":
        pick = _from_memory(source)
        data = tf.data.Dataset.range(source.num_examples).batch(batch_size).map(pick)
        if source.image_shape[:2] != (view.size, view.size) or not view.keeps_own_size:

            def scale(batch):
                return batch | {"image": decoding.apply_view(batch["image"], view)}

            data = data.map(scale, num_parallel_calls=tf.data.AUTOTUNE)
        return untuned(data.prefetch(tf.data.AUTOTUNE))

    data = source.records.in_order() if source.kind == "stream" else tf.data.Dataset.range(source.num_examples)
    read = _reader(source)

    def whole(index, *carried):
        decode = lambda contents: decoding.apply_view(decoding.decode(contents), view)  # noqa: E731
        image, label = read(decode, index, *carried)
        return {"image": image, "label": label, "index": index}

    data = data.map(whole, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    return untuned(data.prefetch(tf.data.AUTOTUNE))


@_plain
def eval_crops(source, batch_size, *, crops, seed):
    """One pass over all images in their order, with random crops of each; the last batch may be smaller.

    Args:
        source: a ``Source``.
        batch_size: images per batch.
        crops, seed: as of ``train_batches``; the crops of an image depend on the seed and its index.

    Returns:
        tf.data.Dataset of dicts as of ``train_batches``, with [b, H, W, 3] of sets decoded in memory, to be cropped on
        the device.
    """
    if source.kind == "memory":
        data = tf.data.Dataset.range(source.num_examples).batch(batch_size).map(_from_memory(source))
        return untuned(data.prefetch(tf.data.AUTOTUNE))
    data = source.records.in_order() if source.kind == "stream" else tf.data.Dataset.range(source.num_examples)
    read, key = _reader(source), draws.fold(draws.as_seed(seed).key, _CROPS)

    def cut(index, *carried):
        decode = lambda contents: decoding.decode_crops(contents, crops, draws.fold(key, index))  # noqa: E731
        images, label = read(decode, index, *carried)
        return images | {"label": label, "index": index}

    data = data.map(cut, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    return untuned(data.prefetch(tf.data.AUTOTUNE))


@_plain
def whole_images(source):
    """One pass over all images in their order, each in its own size.

    Returns:
        tf.data.Dataset of {"image": uint8 [h, w, 3], "label": int64 (-1 without one), "index": int64}.
    """
    data = source.records.in_order() if source.kind == "stream" else tf.data.Dataset.range(source.num_examples)
    if source.kind == "memory":
        return untuned(data.map(_from_memory(source)).prefetch(tf.data.AUTOTUNE))
    read = _reader(source)

    def decoded(index, *carried):
        image, label = read(decoding.decode, index, *carried)
        return {"image": image, "label": label, "index": index}

    data = data.map(decoded, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(data.prefetch(tf.data.AUTOTUNE))


def _units(source, steps, local, replicas, replica_ids, start_step, key, given=None):
    """What each element is made of: dataset of (epoch, places in the epoch [local], indices of images [local])."""
    order = draws.fold(key, _ORDER)
    if given is not None:
        with tf.device("CPU"):
            given = tf.constant(given, tf.int64)

    def unit(step, replica):
        epoch, batch = step // steps, step % steps
        places = (batch * replicas + replica) * local + tf.range(local, dtype=tf.int64)
        if given is None:
            index = _permuted(places, source.num_examples, draws.fold(order, epoch).key)
        else:
            index = tf.gather(given, places)
        return epoch, places, tf.ensure_shape(index, [local])

    data = tf.data.Dataset.range(start_step, _FOREVER)
    ids = tf.data.Dataset.from_tensor_slices(tf.constant(replica_ids, tf.int64))
    return data.flat_map(lambda step: ids.map(lambda replica: unit(step, replica)))


def _permuted(places, count, key):
    """Where a random permutation of 0..count-1 sends ``places``; int64 [n], key int64 [2].

    ``tf.random.experimental.index_shuffle`` would do, but it uses only the low bits of the words of its seed (8 of
    each for a small set), of which successive folds share all but a counter: 256 epochs, then the same orders again.
    So the words are drawn. It also fixes 4 rounds, which mix sets of some hundreds poorly; its authors advise 8.
    """
    seed = tf.random.stateless_uniform([3], key, None, None, tf.int32)
    return tf.raw_ops.RandomIndexShuffle(index=places, seed=seed, max_index=tf.constant(count - 1, tf.int64), rounds=8)


def _one_by_one(epoch, places, index):
    return tf.data.Dataset.from_tensor_slices((tf.fill(tf.shape(places), epoch), places, index))


def _from_memory(source):
    """Function of indices [b] -> the batch, for decoded sets."""
    with tf.device("CPU"):
        images, labels = tf.constant(source.images), _labels(source)
    return lambda index: {"image": tf.gather(images, index), "label": tf.gather(labels, index), "index": index}


def _reader(source):
    """Function (decode, index) -> (what ``decode`` makes of the encoded image, label), to be mapped in parallel.

    Examples of a stream carry their image and label, which are the third and fourth argument.
    """
    if source.kind == "stream":
        return lambda decode, index, contents, label: (decode(contents), label)
    labels = _labels(source)
    if source.kind in ("files", "store"):
        read = tf.io.read_file if source.kind == "files" else read_tensor
        return lambda decode, index: (_decode_file(decode, source.paths[index], read), labels[index])
    return lambda decode, index: (decode(source.encoded[index]), labels[index])


def _decode_file(decode, path, read):
    """``decode`` of what ``read`` finds there; where it fails, the error says which file it was.

    TensorFlow's own errors do not, and not all files are decoded when a large folder is opened. The failure has to be
    caught in the graph: a data set of one element drops it, and the next one, read only then, says what is wrong. That
    costs some 0.3 ms for an image.
    """
    one = tf.data.Dataset.from_tensors(read(path))
    decoded = one.map(decode)

    def fail(contents):
        message = ["cannot decode this image file; remove or repair it:", path]
        with tf.control_dependencies([tf.debugging.Assert(tf.constant(False), message)]):
            empty = lambda spec: tf.zeros([side or 0 for side in spec.shape], spec.dtype)  # noqa: E731
            return tf.nest.map_structure(empty, decoded.element_spec)

    return decoded.ignore_errors().concatenate(one.map(fail)).take(1).get_single_element()


def _labels(source):
    with tf.device("CPU"):
        return (
            tf.fill([source.num_examples], tf.constant(-1, tf.int64))
            if source.labels is None
            else tf.constant(source.labels)
        )


def _stream(source, steps, batch_size, local, replica_ids, start_step, key):
    """Examples of a TFRecord set for these replicas: dataset of (epoch, place, index, encoded image, label)."""
    records = source.records
    files = records.columns()
    order = draws.fold(key, _ORDER)
    first_epoch, first_batch = divmod(start_step, steps)

    def one_epoch(epoch):
        epoch_key = draws.fold(order, epoch).key
        places = tf.range(len(records.files), dtype=tf.int64)
        shuffled = _permuted(places, len(records.files), epoch_key)
        data = tf.data.Dataset.from_tensor_slices(tuple(tf.gather(column, shuffled) for column in files))
        data = data.interleave(records.read, cycle_length=16, block_length=16, num_parallel_calls=tf.data.AUTOTUNE)
        data = _shuffle(data, epoch_key)
        done = tf.where(epoch == first_epoch, tf.constant(first_batch * batch_size, tf.int64), 0)
        data = data.enumerate().take(steps * batch_size).skip(done)
        return data.map(lambda place, example: (epoch, place, *example))

    def mine(epoch, place, index, example):
        return tf.reduce_any(place % batch_size // local == tf.constant(replica_ids, tf.int64))

    data = tf.data.Dataset.range(first_epoch, _FOREVER).flat_map(one_epoch)
    if len(replica_ids) * local < batch_size:
        data = data.filter(mine)
    return data.map(
        lambda epoch, place, index, example: (epoch, place, index, *records.parse(example)),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def _shuffle(data, key):
    """``data.shuffle`` with a buffer; its order depends on ``key`` (int64 [2]) alone.

    Dataset.shuffle would mix in the global seed of the process.
    """
    spec = data.element_spec
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(data),
        buffer_size=tf.constant(SHUFFLE_BUFFER, tf.int64),
        seed=key[0] | 1,  # two zeros would mean a random seed
        seed2=key[1],
        reshuffle_each_iteration=False,
        output_types=[s.dtype for s in tf.nest.flatten(spec)],
        output_shapes=[s.shape for s in tf.nest.flatten(spec)],
    )
    return tf.data.experimental.from_variant(variant, spec)
