"""MaskCo against Algorithm 1 of its supplement and the specification's A.2, A.6, F.8, typed once more in NumPy."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import get_backbone
from revisit_ssl.backbones.parts import Parts
from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.pretext.mask_options import MaskCoOptions
from revisit_ssl.pretext.maskco import MaskCo, by_group
from revisit_ssl.pretext.mph import mask_prediction_head
from revisit_ssl.recipe import ViewSpec
from revisit_ssl.testing.networks import tiny_backbone
from revisit_ssl.training.optimizers import MomentumSGD

VIEWS = ViewSpec(crop="resized", size=32, scale=(0.5, 1.0), color="none", normalize="pm1")
SMALL = {"mask_side": 10.0, "overlap": 12.0, "units": 16, "hidden": 16, "group": 8}


def build(seed=0, views=VIEWS, width=1, **options):
    """A MaskCo on two convolutions, compiled."""
    keras.utils.set_random_seed(seed)
    backbone = tiny_backbone(width)
    model = MaskCo(backbone, options=MaskCoOptions(**SMALL | options), parts=Parts(bn_momentum=0.9), views=views)
    model.compile(optimizer=MomentumSGD(0.1, momentum=0.9), jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def photos(count=8, seed=0):
    """uint8 [count, 40, 48, 3]: blurred noise, each with a colour of its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, [count, 5, 6, 3])
    return {"image": tf.constant(np.repeat(np.repeat(coarse, 8, 1), 8, 2).astype(np.uint8))}


def unit_rows(rng, *shape):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def by_loops(queries, keys, group, temperature, intra):
    """L_i = -log [e^(q k0 / T) / (e^(q k0 / T) + sum over the group's others of e^(q kjm / T) (+ its own))] (A.2)."""
    losses, hits, widths = [], [], []
    for i, query in enumerate(queries[:, 0]):
        positive = query @ keys[i, 0] / temperature
        negatives = [
            query @ key / temperature
            for j in range(i // group * group, (i // group + 1) * group) if j != i or intra
            for key in keys[j, 1:]
        ]
        widths.append(len(negatives))
        losses.append(-positive + math.log(math.exp(positive) + sum(map(math.exp, negatives))))
        hits.append(positive >= max(negatives))
    return np.mean(losses), np.mean(hits), widths


@pytest.mark.parametrize("intra", [False, True])
def test_the_loss_is_the_formula_with_496_or_512_negatives(intra):
    rng = np.random.default_rng(0)
    queries, keys = unit_rows(rng, 64, 1, 16), unit_rows(rng, 64, 17, 16)
    model = build(group=32, intra=intra)
    expected, hits, widths = by_loops(queries, keys, 32, 0.2, intra)
    assert set(widths) == {512 if intra else 496}
    loss, scalars = model.objective(tf.constant(queries), tf.constant(keys))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert float(scalars["accuracy"]) == pytest.approx(hits)
    assert float(scalars["positive"]) == pytest.approx((queries[:, 0] * keys[:, 0]).sum(-1).mean(), abs=1e-6)


def test_logits_are_513_wide_and_a_group_masks_32_times_16():
    rng = np.random.default_rng(1)
    cosines, own = by_group(tf.constant(unit_rows(rng, 64, 1, 8)), tf.constant(unit_rows(rng, 64, 16, 8)), 32)
    assert cosines.shape == (2, 32, 1, 32, 16) and 1 + 32 * 16 == 513
    assert own.shape == (32, 32) and int(tf.reduce_sum(tf.cast(own, tf.int32))) * 16 == 32 * 16


@pytest.mark.parametrize(("intra", "chance"), [(False, 6.2086), (True, 6.2403)])
def test_equal_similarities_are_chance(intra, chance):
    # ln 497 and ln 513 (A.2).
    ones = np.full([32, 17, 4], 0.5, np.float32)
    assert float(build(group=32, intra=intra).objective(tf.constant(ones[:, :1]), tf.constant(ones))[0]) == (
        pytest.approx(chance, abs=1e-4)
    )


def test_the_loss_at_the_start_lies_near_chance():
    # A.6: in [6.1, 6.5] at T 0.2, two groups of 32.
    model = build(group=32, units=128, hidden=None)
    logs = model.train_step(photos(64))
    assert 6.1 <= float(logs["loss"]) <= 6.5
    assert float(logs["positive"]) > float(logs["negative"]) and 0 < float(logs["gradient_norm"]) < 100


def test_several_masks_have_a_positive_each():
    rng = np.random.default_rng(2)
    queries, keys = unit_rows(rng, 8, 2, 6), unit_rows(rng, 8, 5, 6)
    loss, _ = build(masks=2, negatives=3).objective(tf.constant(queries), tf.constant(keys))
    single = [
        by_loops(queries[:, m : m + 1], np.concatenate([keys[:, m : m + 1], keys[:, 2:]], axis=1), 8, 0.2, False)[0]
        for m in (0, 1)
    ]
    assert float(loss) == pytest.approx(np.mean(single), rel=1e-5)


def test_groups_do_not_know_of_each_other():
    rng = np.random.default_rng(3)
    queries, keys = unit_rows(rng, 16, 1, 6), unit_rows(rng, 16, 17, 6)
    other = np.concatenate([keys[:8], unit_rows(rng, 8, 17, 6)])
    cosines = [by_group(tf.constant(queries), tf.constant(k[:, 1:]), 8)[0].numpy() for k in (keys, other)]
    np.testing.assert_array_equal(cosines[0][0], cosines[1][0])
    assert np.abs(cosines[0][1] - cosines[1][1]).max() > 0.1


@pytest.mark.parametrize("fill", ["zero", "mean", "noise", "token", "none"])
def test_the_mask_covers_its_box_of_the_query_view_and_nothing_else(fill):
    model = build(fill=fill)
    query, masked, key, boxes = model.views(photos(), (1, 2))
    seen = model.mask(query, masked, (3, 4)).numpy()
    for i, (x1, y1, x2, y2) in enumerate(masked[:, 0].numpy()):
        inside = np.zeros((32, 32), bool)
        inside[math.floor(y1) : math.ceil(y2), math.floor(x1) : math.ceil(x2)] = True
        np.testing.assert_array_equal(seen[i][~inside], query[i].numpy()[~inside])
        if fill in ("zero", "token"):
            assert (seen[i][inside] == 0).all()
        elif fill == "mean":
            mean = query[i].numpy().mean(axis=(0, 1))
            np.testing.assert_allclose(seen[i][inside], np.broadcast_to(mean, [inside.sum(), 3]), atol=1e-5)
        elif fill == "noise":
            assert 0.7 < seen[i][inside].std() < 1.3
        else:
            np.testing.assert_array_equal(seen[i], query[i])
    assert key.shape == query.shape and boxes.shape == (8, 17, 4)


def test_a_step_moves_the_target_after_the_network_and_by_the_average_alone():
    # Algorithm 1: SGD, then params_k = m params_k + (1 - m) params_q; no gradient reaches the keys.
    model = build(fill="token", momentum=0.9)
    pairs = [(model.target, model.backbone), (model.target_head, model.head), (model.target_mph, model.mph)]
    before = [[np.asarray(w) for w in target.weights] for target, _ in pairs]
    trained = {id(v) for v in model.trainable_variables}
    assert not trained & {id(w) for target, _ in pairs for w in target.weights}
    token = np.asarray(model.token)
    model.train_step(photos())
    assert np.abs(np.asarray(model.token) - token).max() > 0
    for (target, online), old in zip(pairs, before, strict=True):
        for copy, original, start in zip(target.weights, online.weights, old, strict=True):
            if original.trainable:
                assert np.abs(np.asarray(original) - start).max() > 0, original.path
                np.testing.assert_allclose(copy, 0.9 * start + 0.1 * np.asarray(original), atol=1e-6)
            else:  # moving statistics are each network's own
                assert np.abs(np.asarray(copy) - np.asarray(original)).max() > 0 or "conv" not in copy.path


def test_the_query_goes_through_mph_and_the_key_where_it_should():
    query_alone = build(mph_on_key=False)
    assert query_alone.target_mph is None and len(query_alone.mph.weights) > 0
    none = build(mph="none")
    assert none.mph is None and "cosine_after_mph" not in none.train_step(photos())
    both = build().train_step(photos())
    assert -1 <= float(both["cosine_before_mph"]) <= 1 and -1 <= float(both["cosine_after_mph"]) <= 1


# Depth is a loop around each kind.
@pytest.mark.parametrize(("kind", "depth"), [("conv", 1), ("bottleneck", 4), ("transformer", 2)])
def test_every_head_keeps_the_shape_and_trains(kind, depth):
    model = build(mph=kind, mph_depth=depth, mph_width=16)
    old = [np.asarray(w) for w in model.mph.trainable_weights]
    assert np.isfinite(float(model.train_step(photos())["loss"]))
    assert model.mph.output_shape[1:] == model.map_shape[1:]
    moved = [np.abs(np.asarray(w) - o).max() > 0 for w, o in zip(model.mph.trainable_weights, old, strict=True)]
    assert np.mean(moved) > 0.8


def test_the_default_head_has_8_9_million_weights():
    # 2 x (2048 x 512 + 9 x 512 x 512 + 512 x 2048) and 2 x 2 x (512 + 512 + 2048) of its normalisations.
    head = mask_prediction_head("bottleneck", 2, keras.KerasTensor((1, 7, 7, 2048)), Parts())
    trained = sum(int(np.prod(w.shape)) for w in head.trainable_weights)
    assert trained == 2 * (2 * 2048 * 512 + 9 * 512 * 512) + 4 * (512 + 512 + 2048) and round(trained / 1e6, 1) == 8.9


def test_one_batch_is_learnt():
    model, batch = build(width=4, units=32, hidden=64, momentum=0.999), photos()
    views = model.views(batch, (1, 2))  # one draw of crops and boxes for all steps
    model.views = lambda *_, **__: views
    step = tf.function(model.train_step, autograph=False)
    for _ in range(80):
        model.reset_metrics()
        logs = step(batch)
    assert float(logs["accuracy"]) > 0.9 and float(logs["loss"]) < 0.7 * math.log(1 + 16 * 7)


def test_what_does_not_fit_gets_one_line():
    model = build()
    for images, fits in ((16, True), (8, True), (4, False), (12, False)):
        if fits:
            model.check_batch(images)
        else:
            with pytest.raises(InputError, match="task.group 8 does not fit"):
                model.check_batch(images)
    with pytest.raises(InputError, match="take a map"):
        build(endpoint="pre_logits")
    with pytest.raises(InputError, match="no endpoint 'block9'"):
        build(endpoint="block9")
    for wrong in ({"group": 1}, {"mask_area": (0.0, 0.3)}, {"temperature": 0.0}, {"mph_width": 12}, {"negatives": 0}):
        with pytest.raises(InputError) as caught:
            MaskCoOptions(**wrong)
        assert "\n" not in str(caught.value)


def test_the_published_recipe_has_the_algorithms_numbers():
    for name, negatives in (("maskco", 496), ("maskco_in", 512)):
        recipe = get_recipe(name, "paper")
        o = recipe.task
        assert o.negatives * (o.group - 1 + o.intra) == negatives
        assert (recipe.batch_size, recipe.bn_group, o.masks, recipe.views.size) == (256, 32, 1, 224)
    others = [get_recipe("maskco", preset) for preset in ("paper", "conceptual_captions", "coco")]
    same = [(r.task, r.views, r.optimizer, r.batch_size, r.backbone, r.backbone_options) for r in others]
    assert same[0] == same[1] == same[2]  # supplement, A.2
    spec = dataclasses.replace(recipe.task).pair(224)
    assert (spec["overlap"], spec["smallest"], spec["most_iou"]) == (64, 48, 0.3)


def test_boxes_are_read_from_maps_of_a_real_network():
    # 32 pixels, stride 8: of a map that says where its cells have their centres a box reads its own centre.
    model = MaskCo(get_backbone("resnet18", 1, stem="small", strides=(2, 2, 1)), views=VIEWS)
    assert model.map_shape == (1, 4, 4, 128)
    centres = (np.arange(4) + 0.5) * 8
    maps = np.stack(np.meshgrid(centres, centres), axis=-1)[None].astype(np.float32)
    boxes = np.array([[[8, 16, 16, 24], [4, 5, 21, 27], [0, 0, 32, 32]]], np.float32)
    found = model.regions(tf.constant(maps), tf.constant(boxes))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, (boxes[..., :2] + boxes[..., 2:]) / 2, atol=1e-4)
