"""Instance retrieval: vectors against NumPy, images of any shape, boxes, revisited measures, what is refused."""

import dataclasses

import keras
import numpy as np
import pytest

from revisit_ssl.backbones import BACKBONES
from revisit_ssl.data import open_source
from revisit_ssl.data.queries import ONE, REVISITED
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.sets import check_probes
from revisit_ssl.evaluators import PROBES
from revisit_ssl.evaluators.average_precision import ranked_ap
from revisit_ssl.evaluators.bench import Bench
from revisit_ssl.evaluators.descriptors import cut_box, for_any_size, resize_longer_side
from revisit_ssl.evaluators.instance_retrieval import InstanceRetrieval
from revisit_ssl.features.rmac import rmac_regions
from revisit_ssl.recipe import BenchSpec, Recipe, ViewSpec


def trunk():
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(6, 5, strides=4, padding="same", kernel_initializer=keras.initializers.GlorotUniform(1))(
        image
    )
    x = keras.layers.ReLU()(x)
    model = keras.Model(image, {"block1": x, "pre_logits": keras.layers.GlobalAveragePooling2D()(x)})
    model.trainable = False
    return model


def bench_of(name="toy_instances", endpoints=("block1", "pre_logits"), backbone=None, rows=40):
    """A bench of the set, of whose database and training images only the first ``rows`` are taken."""
    recipe = Recipe(
        pretext="rotation", views=ViewSpec(size=16, normalize="pm1"), bench=BenchSpec(endpoints=endpoints),
    )
    sources = {split: open_source(name, split) for split in ("train", "test")}
    asked = sources["test"].queries
    few = dataclasses.replace(
        asked, source=asked.source.first(8), relation=asked.relation[:8, :rows], boxes=asked.boxes[:8],
        listed=asked.listed[:8], names=asked.names[:8],
    )
    test = dataclasses.replace(sources["test"].first(rows), queries=few)
    return Bench(backbone or trunk(), {"train": sources["train"].first(rows), "test": test}, recipe)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_maps_equal_numpy():
    """Regions, whitening by eigenvectors of the scatter, similarity, trapezoids: all of it once more, in float64."""
    bench = bench_of(endpoints=("block1",))

    def regions(image, box=None):
        if box is not None:
            left, top, right, bottom = np.round(box).astype(int)
            image = image[top:bottom, left:right]
        found = bench.backbone(image[None].astype("f4") / 127.5 - 1)["block1"].numpy()[0].astype(np.float64)
        boxes = rmac_regions(*found.shape[:2])
        return unit(np.stack([found[y : y + h, x : x + w].max(axis=(0, 1)) for x, y, w, h in boxes]))

    learned = np.concatenate([regions(image) for image in bench.images("train").images])
    mean = learned.mean(axis=0)
    values, vectors = np.linalg.eigh((learned - mean).T @ (learned - mean))
    project = vectors[:, ::-1][:, :4] / np.sqrt(np.maximum(values[::-1][:4], 1e-5 * values.max()))
    whole = lambda rows: unit(unit((rows - mean) @ project).sum(axis=0))  # noqa: E731
    test = bench.images("test")
    stored = np.stack([whole(regions(image)) for image in test.images])
    shown = zip(test.queries.source.images, test.queries.boxes, strict=True)
    asked = np.stack([whole(regions(image, box)) for image, box in shown])
    order = np.argsort(-(asked @ stored.T), axis=1)
    expected = [ranked_ap(row[ranks]) for row, ranks in zip(test.queries.relation, order, strict=True)]
    (score,) = InstanceRetrieval(dimension=4).measure(bench)
    assert score.metrics["map"] == pytest.approx(100 * np.mean(expected), abs=0.5)
    np.testing.assert_allclose(score.extra["ap"]["map"], 100 * np.array(expected), atol=2)
    assert score.endpoint == "block1" and score.metrics["map"] > 15 and score.hyperparameters["levels"] == 3


def test_a_vector_has_one_region_and_nothing_is_learned_without_whitening():
    bench = bench_of(endpoints=("pre_logits",))
    bench.sources["train"] = None
    (score,) = InstanceRetrieval(whiten=False).measure(bench)
    test = bench.images("test")
    see = lambda images: unit(bench.backbone(images.astype("f4") / 127.5 - 1)["pre_logits"].numpy())  # noqa: E731
    boxes = np.round(test.queries.boxes).astype(int)
    shown = zip(test.queries.source.images, boxes, strict=True)
    asked = np.concatenate([see(image[None, y1:y2, x1:x2]) for image, (x1, y1, x2, y2) in shown])
    order = np.argsort(-(asked @ see(test.images).T), axis=1)
    expected = [100 * ranked_ap(row[ranks]) for row, ranks in zip(test.queries.relation, order, strict=True)]
    np.testing.assert_allclose(score.extra["ap"]["map"], expected, atol=1e-2)


def test_revisited_measures_and_what_is_listed():
    asked = bench_of().images("test").queries
    relation = np.array([[1, 2, 3, 0], [0, 1, 0, 0]], np.int8)
    similarity = np.array([[4, 3, 2, 1], [4, 3, 2, 1]], float)
    queries = dataclasses.replace(
        asked, relation=relation, listed=np.array([[0, 1, 1, 1], [0, 2, 0, 0]]), measures=REVISITED
    )
    score = InstanceRetrieval().score(similarity, queries)
    # Easy: query 0 finds its one at once; query 1 one of two at the second place, (0 + 1/2) / 2 of half the recall.
    assert score.metrics["map_easy"] == pytest.approx(100 * (1 + 0.125) / 2)
    assert score.extra["ap"]["map_hard"] == [100.0, None] and score.metrics["map_hard"] == 100
    assert set(score.metrics) == {f"{m}_{k}" for m in ("map", "precision10") for k in ("easy", "medium", "hard")}
    none = {"relation": 0 * relation, "measures": ONE}
    with pytest.raises(InputError, match="no query has an image that answers it"):
        InstanceRetrieval().score(similarity, dataclasses.replace(queries, **none, listed=0 * queries.listed))
    lost = InstanceRetrieval().score(similarity, dataclasses.replace(queries, **none))  # listed, and not there
    assert lost.metrics == {"map": 0.0} and lost.extra["precision"]["map"][1] is None


@pytest.mark.parametrize(("size", "sides", "ratio"), [
    (None, (30, 45), 1.0), (90, (60, 90), 2.0), (15, (10, 15), 1 / 3),
])
def test_longer_side_and_boxes(size, sides, ratio):
    image = np.random.default_rng(0).integers(0, 256, (30, 45, 3), np.uint8)
    resized, found = resize_longer_side(image, size)
    assert tuple(resized.shape[:2]) == sides and found == pytest.approx(ratio)
    box = np.array([-3, 6, 30, 24.0])
    cut = cut_box(np.asarray(resized), found, box)
    assert cut.shape[:2] == (round(24 * ratio) - round(6 * ratio), round(30 * ratio))
    assert cut_box(resized, found, np.full(4, np.nan)) is resized


def test_a_network_of_one_size_sees_images_of_all():
    backbone = BACKBONES["vgg16_bn"](1, input_shape=(32, 32, 3), sobel=True)
    backbone.trainable = False
    free = for_any_size(backbone, ("conv3", "conv13"))
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("f4")
    expected = backbone(images, training=False)
    for name, found in free(images, training=False).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-5)
    assert free(np.zeros((1, 48, 64, 3), "f4"))["conv13"].shape == (1, 3, 4, 64) and not free.trainable_variables


def test_what_cannot_be_measured():
    fixed = BACKBONES["vgg19_bn"](1, input_shape=(32, 32, 3))
    fixed.trainable = False
    with pytest.raises(InputError, match="pre_logits of vgg19_bn sees images of one size; --endpoints with m"):
        list(InstanceRetrieval(whiten=False).measure(bench_of(endpoints=("block1", "pre_logits"), backbone=fixed)))
    small = bench_of()
    asked = small.images("test").queries
    boxes = np.tile([1.0, 1, 5, 30], (8, 1))
    small.sources["test"] = dataclasses.replace(
        small.images("test"), queries=dataclasses.replace(asked, boxes=boxes)
    )
    with pytest.raises(InputError, match="object 0 is 4x29 pixels; the network needs 8 a side"):
        list(InstanceRetrieval(whiten=False).measure(small))
    small.sources["test"] = dataclasses.replace(small.images("test"), queries=None)
    with pytest.raises(InputError, match="toy_instances test has no queries"):
        list(InstanceRetrieval(whiten=False).measure(small))


@pytest.mark.parametrize(("options", "message"), [
    ({"size": 4}, "size 4"), ({"levels": 0}, "levels 0"), ({"dimension": 0}, "dimension 0"),
])
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        InstanceRetrieval(**options)


@pytest.mark.parametrize(("probes", "dataset", "message"), [
    (("instance_retrieval",), "digits", "instance_retrieval needs queries and digits has none; add --probe-dataset"),
    (("knn",), "toy_instances", "toy_instances has queries, --probes instance_retrieval is for that"),
    (("instance_retrieval", "knn"), "digits", "instance_retrieval needs a set with queries, knn one with a"),
])
def test_sets_that_do_not_fit(probes, dataset, message):
    recipe = Recipe(pretext="rotation", dataset=dataset, probes={name: PROBES[name]() for name in probes})
    with pytest.raises(InputError, match=message):
        check_probes(recipe)
