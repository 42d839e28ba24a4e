import dataclasses
import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.data import EvalView, decoding, eval_batches, open_source, sources, steps_per_epoch, train_batches
from revisit_ssl.data.batches import eval_crops, whole_images
from revisit_ssl.errors import InputError
from revisit_ssl.training.loop import distributed_batches
from revisit_ssl.views.crops import CropSpec

KINDS = ["memory", "encoded", "files", "stream"]
ORDERED = ["memory", "encoded", "stream"]  # files are read in the order of encoded images, by a reader of their own
CROPS = {"view": CropSpec(size=8, count=2, method="random"), "other": CropSpec(size=6, method="center")}
ONE_CROP = {"view": CropSpec(size=8, method="center")}  # the rest of the work is the same and done sooner
COUNT = 50  # images of the small sources: six steps of 8 an epoch, and 2 images left


@pytest.fixture(scope="module")
def small(toy_dir, tmp_path_factory, write_images):
    """{kind: a small source of that kind}."""
    found = {}
    root = tmp_path_factory.mktemp("files")
    names = {f"train/{c}/{i:02}.{k}": (20, 24) for c in "abcde" for i in range(5) for k in ("jpg", "png")}
    write_images(root, names | {f"test/{c}/0.png": (9, 9) for c in "abcde"})
    found["files"] = open_source(f"folder:{root}", "trainval")
    for kind in ("memory", "encoded", "stream"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "MAX_SIDE", 128 if kind == "memory" else 0)
            patch.setattr(sources, "MAX_BYTES", 0 if kind == "stream" else 2**30)
            open_source.cache_clear()
            source = open_source("toy_scenes_tiny", "train", data_dir=toy_dir).first(COUNT)
        if kind == "stream":  # as if it lay in five files, each read from its middle on
            path, _, _, _ = source.records.files[0]
            files = tuple((path, first, 10, first) for first in range(0, COUNT, 10))
            source = dataclasses.replace(source, records=dataclasses.replace(source.records, files=files, rows=None))
        found[kind] = source
    open_source.cache_clear()
    assert all(source.kind == kind and source.num_examples == COUNT for kind, source in found.items())
    return found


@pytest.fixture(scope="module")
def whole(small):
    """Function of a kind -> (specification, the first 15 batches) of its source: two and a half epochs."""

    @functools.cache
    def begun(kind):
        tf.random.set_seed(1)
        data = train_batches(small[kind], batch_size=8, crops=CROPS, seed=5)
        return data.element_spec, list(data.take(15).as_numpy_iterator())

    return begun


def take(source, count, **options):
    options = {"batch_size": 8, "crops": CROPS, "seed": 5} | options
    return list(train_batches(source, **options).take(count).as_numpy_iterator())


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert set(batch) == set(other)
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


@pytest.mark.parametrize("kind", KINDS)
def test_batches(kind, small, whole):
    source, (spec, batches) = small[kind], whole(kind)
    assert all(part.shape.is_fully_defined() for part in spec.values())
    names = {"image"} if kind == "memory" else set(CROPS)
    assert set(spec) == names | {"label", "index"}

    steps = steps_per_epoch(source, 8)
    assert steps == 6
    batches = batches[: 2 * steps]
    epochs = [np.concatenate([b["index"] for b in batches[e * steps : (e + 1) * steps]]) for e in range(2)]
    for epoch in epochs:
        assert len(set(epoch)) == 48 and epoch.min() >= 0 and epoch.max() < COUNT  # each image at most once
    assert not np.array_equal(*epochs)
    for batch in batches:
        np.testing.assert_array_equal(batch["label"], source.labels[batch["index"]])
        assert batch["label"].dtype == batch["index"].dtype == np.int64
    if kind == "memory":
        np.testing.assert_array_equal(batches[0]["image"], source.images[batches[0]["index"]])
    else:
        assert batches[0]["view"].shape == (8, 2, 8, 8, 3) and batches[0]["other"].shape == (8, 1, 6, 6, 3)
        assert batches[0]["view"].dtype == np.uint8
        # The same image, but other random crops in the next epoch.
        i = int(epochs[1][0])
        before = np.concatenate([b["view"] for b in batches[:steps]])[epochs[0] == i]
        assert len(before) == 0 or not np.array_equal(before[0], batches[steps]["view"][0])

    if kind in ("memory", "stream"):  # the orders of all others are those of memory
        assert not np.array_equal(take(source, 1, seed=6)[0]["index"], batches[0]["index"])


@pytest.mark.parametrize("kind", ORDERED)
def test_start_in_the_middle_of_an_epoch(kind, small, whole):
    tf.random.set_seed(2)  # another global seed must not matter
    assert_equal(take(small[kind], 2, start_step=13), whole(kind)[1][13:15])


@pytest.mark.parametrize("kind", ORDERED)
def test_replicas_take_their_rows_of_the_global_batch(kind, small, whole):
    source = small[kind]
    parts = take(source, 8 * 4, replicas=4)
    for step, batch in enumerate(whole(kind)[1][:8]):
        joined = {k: np.concatenate([part[k] for part in parts[4 * step : 4 * step + 4]]) for k in batch}
        assert_equal([joined], [batch])
    # Two of them, from the last step of an epoch on.
    pair = take(source, 4, replicas=4, replica_ids=(2, 3), start_step=5)
    assert_equal(pair, [parts[4 * 5 + 2], parts[4 * 5 + 3], parts[4 * 6 + 2], parts[4 * 6 + 3]])


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_is_one_pass_in_order(kind, small):
    source = small[kind]
    for method in ("none", "shorter_side"):
        data = eval_batches(source, 16, view=EvalView(20, method=method))
        batches = list(data.as_numpy_iterator())
        assert [len(b["image"]) for b in batches] == [16, 16, 16, 2]
        assert all(b["image"].shape[1:] == (20, 20, 3) and b["image"].dtype == np.uint8 for b in batches)
        np.testing.assert_array_equal(np.concatenate([b["index"] for b in batches]), np.arange(COUNT))
        np.testing.assert_array_equal(np.concatenate([b["label"] for b in batches]), source.labels)
    assert data.element_spec["image"].shape == (None, 20, 20, 3)


@pytest.mark.parametrize("method", ["shorter_side", "squash"])
def test_all_kinds_see_the_same_evaluation_images(small, method):
    view = EvalView(24, resize=28, method=method)
    seen = [
        np.concatenate([b["image"] for b in eval_batches(small[kind], 32, view=view).as_numpy_iterator()])
        for kind in ("memory", "encoded", "stream")
    ]
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(seen[0], seen[2])


def test_memory_images_pass_unchanged(small):
    source = small["memory"]
    (batch,) = eval_batches(source, COUNT, view=EvalView(64))
    np.testing.assert_array_equal(batch["image"], source.images)


def test_host_crops_of_a_batch_are_those_of_its_images(small):
    """Encoded and stream agree on the crops wherever they visit an image at the same place of the same epoch."""
    source = small["encoded"]
    batch = take(source, 1, crops={"view": CropSpec(size=64, method="center")})[0]
    images = [decoding.decode(source.encoded[int(i)]) for i in batch["index"]]
    np.testing.assert_array_equal(batch["view"][:, 0], images)


def test_order_is_a_fair_shuffle(toy_dir):
    """Over many epochs every image comes first about equally often, and neighbours are not kept together."""
    source = open_source("toy_scenes_tiny", "train", data_dir=toy_dir).first(20)
    data = train_batches(source, batch_size=20, crops=CROPS, seed=0)
    orders = np.stack([b["index"] for b in itertools.islice(data.as_numpy_iterator(), 1000)])
    np.testing.assert_array_equal(np.sort(orders, 1), np.tile(np.arange(20), (1000, 1)))
    counts = np.stack([np.bincount(column, minlength=20) for column in orders.T])
    chi2 = ((counts - 50) ** 2 / 50).sum()  # 19 * 19 degrees of freedom: 361 +- 27
    assert len(np.unique(orders, axis=0)) == 1000
    assert chi2 < 361 + 6 * 27, chi2
    together = (np.abs(np.diff(orders, axis=1)) == 1).mean()  # 2 * 19 / (20 * 19) by chance
    assert abs(together - 0.1) < 0.015, together


def test_unlabelled_images_have_label_minus_one(make_folder):
    source = open_source(f"folder:{make_folder({f'{i:02}.jpg': (16, 16) for i in range(10)})}", "train")
    assert (take(source, 1, batch_size=4, crops=ONE_CROP)[0]["label"] == -1).all()
    (batch,) = eval_batches(source, 10, view=EvalView(16))
    assert (batch["label"].numpy() == -1).all()


@pytest.mark.parametrize("name", ["cifar10", "imagenette_subset160"])
def test_restart_on_real_sets(name, real_data):
    source = open_source(name, "val", data_dir=real_data).sample(300)
    options = {"batch_size": 64, "crops": {"view": CropSpec(size=32, method="inception")}}
    start = steps_per_epoch(source, 64) - 1
    whole = take(source, start + 3, **options)
    assert_equal(take(source, 3, start_step=start, **options), whole[start:])
    for batch in whole:
        np.testing.assert_array_equal(batch["label"], source.labels[batch["index"]])


def test_bad_batch_sizes(small):
    source = small["memory"]
    with pytest.raises(InputError, match="batch size 64 is larger than toy_scenes_tiny train with 50 images"):
        steps_per_epoch(source, 64)
    with pytest.raises(InputError, match="not divisible by 3 replicas"):
        train_batches(source, batch_size=8, crops=CROPS, seed=0, replicas=3)


def test_an_evaluation_crop_of_an_image_that_has_the_size_already():
    # Shorter side to 40, then the middle 32 of it: not the image itself, though that is 32 x 32.
    source = open_source("digits", "test").first(3)
    batch = next(iter(eval_batches(source, 3, view=EvalView(size=32, resize=40, method="shorter_side"))))
    squashed = next(iter(eval_batches(source, 3, view=EvalView(size=32, resize=40, method="squash"))))
    for ours, same, image in zip(batch["image"].numpy(), squashed["image"].numpy(), source.images, strict=True):
        expected = tf.image.resize(image, (40, 40))[4:36, 4:36]
        np.testing.assert_allclose(ours, expected, atol=0.5001)
        np.testing.assert_array_equal(same, ours)  # of a square image


@pytest.mark.parametrize("training", [True, False])
def test_error_names_the_file_that_does_not_decode(make_folder, training):
    """Whole at both ends, so that it is not noticed when a large folder is opened, and broken since."""
    root = make_folder({f"{i:02}.jpg": (64, 64) for i in range(20)})
    source = open_source(f"folder:{root}", "train")
    path = source.paths[7].numpy().decode()
    with open(path, "r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 300)
    data = train_batches(source, batch_size=16, crops=ONE_CROP, seed=0) if training else None
    data = data or eval_batches(source, 16, view=EvalView(16))
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"cannot decode this image file.*{path}"):
        next(iter(data))


@pytest.mark.parametrize("kind", ["files", "encoded"])
def test_images_are_read_in_the_parallel_map(kind, small):
    """The only serial stages are those that make up the order."""
    source = small[kind]
    for data in (
        train_batches(source, batch_size=8, crops=ONE_CROP, seed=5),
        eval_batches(source, 8, view=EvalView(16)),
    ):
        graph = tf.compat.v1.GraphDef.FromString(data._as_serialized_graph().numpy())
        stages = [node.op for node in graph.node if "Map" in node.op]
        assert "MapDataset" not in stages and any("ParallelMapDataset" in stage for stage in stages), stages


@pytest.mark.parametrize("kind", KINDS)
def test_no_pipeline_has_a_thread_that_its_end_may_wait_for(kind, small):
    """That of tf.data's autotuning, see ``pipelines.untuned``."""
    source = small[kind]
    made = [
        train_batches(source, batch_size=8, crops=CROPS, seed=5),
        eval_batches(source, 8, view=EvalView(8, method="squash")),
        eval_crops(source, 8, crops=CROPS, seed=5),
        whole_images(source),
    ]
    assert [data.options().autotune.enabled for data in made] == [False] * 4


def test_neither_have_the_iterators_of_a_strategys_devices(small):
    """TensorFlow makes them itself, without options: see ``pipelines.untune_devices``."""
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    options = {"batch_size": 8, "crops": CROPS, "seed": 5}
    for _ in range(2):  # the second wraps nothing once more
        (worker,) = iter(distributed_batches(small["memory"], strategy, 0, options))._iterators
        fed = [device._dataset for device in worker._iterator._device_iterators]
        assert [data.options().autotune.enabled for data in fed] == [False] * 2
        assert [type(data._input_dataset).__name__ for data in fed] == ["_PrefetchDataset"] * 2
