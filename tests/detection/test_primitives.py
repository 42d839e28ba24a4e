"""Anchors, boxes, matching, sampling and suppression against hand values and NumPy loops typed from the papers."""

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.detection import boxes as box
from revisit_ssl.detection.anchors import anchors
from revisit_ssl.detection.matching import match, sample
from revisit_ssl.detection.proposals import propose, suppress
from revisit_ssl.detection.selection import select
from revisit_ssl.views import draws


def random_boxes(count, seed=0, size=100.0):
    draw = np.random.default_rng(seed)
    corners = draw.uniform(0, size * 0.7, (count, 2))
    return np.concatenate([corners, corners + draw.uniform(4, size * 0.4, (count, 2))], axis=1).astype(np.float32)


def iou_loop(a, b):
    h = min(a[2], b[2]) - max(a[0], b[0])
    w = min(a[3], b[3]) - max(a[1], b[1])
    common = max(h, 0) * max(w, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def nms_loop(boxes, scores, threshold):
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        if np.isfinite(scores[i]) and all(iou_loop(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


def test_anchors_are_those_that_detectron2_prints_for_sizes_32_and_64():
    # Its test of the generator: sizes 32 and 64, ratios .25, 1, 4, offset 0, x1 y1 x2 y2.
    expected = np.array([
        [-32.0, -8.0, 32.0, 8.0], [-16.0, -16.0, 16.0, 16.0], [-8.0, -32.0, 8.0, 32.0],
        [-64.0, -16.0, 64.0, 16.0], [-32.0, -32.0, 32.0, 32.0], [-16.0, -64.0, 16.0, 64.0],
    ])
    found = anchors(1, 2, 4, (32, 64), (0.25, 1, 4))
    np.testing.assert_allclose(found[:6, [1, 0, 3, 2]], expected, atol=1e-5)
    np.testing.assert_allclose(found[6:] - found[:6], np.tile([0, 4, 0, 4], (6, 1)), atol=1e-5)


def test_anchors_of_the_papers_are_fifteen_a_cell_with_the_areas_and_ratios_asked_for():
    found = anchors(50, 84, 16, (32, 64, 128, 256, 512), (0.5, 1, 2))
    assert found.shape == (63_000, 4)
    h, w = found[:15, 2] - found[:15, 0], found[:15, 3] - found[:15, 1]
    np.testing.assert_allclose(h * w, np.repeat([32, 64, 128, 256, 512], 3) ** 2, rtol=1e-5)
    np.testing.assert_allclose(h / w, np.tile([0.5, 1, 2], 5), rtol=1e-5)
    centre = (found[-1, :2] + found[-1, 2:]) / 2
    np.testing.assert_allclose(centre, [49 * 16, 83 * 16], atol=1e-3)


def test_iou_equals_a_loop_and_is_zero_for_empty_boxes():
    a, b = random_boxes(7), random_boxes(9, seed=1)
    expected = [[iou_loop(x, y) for y in b] for x in a]
    np.testing.assert_allclose(box.iou(a, b), expected, atol=1e-6)
    assert not np.any(box.iou(np.zeros((2, 4), np.float32), np.zeros((3, 4), np.float32)))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)])
def test_decode_undoes_encode_which_is_the_papers_formula(weights):
    boxes, references = random_boxes(20), random_boxes(20, seed=1)
    deltas = box.encode(boxes, references, weights)
    np.testing.assert_allclose(box.decode(deltas, references, weights), boxes, atol=2e-4)
    g, p = boxes[0].astype(float), references[0].astype(float)
    ph, pw, gh, gw = p[2] - p[0], p[3] - p[1], g[2] - g[0], g[3] - g[1]
    ty, tx = ((g[0] + g[2]) - (p[0] + p[2])) / 2 / ph, ((g[1] + g[3]) - (p[1] + p[3])) / 2 / pw
    formula = np.array([ty, tx, np.log(gh / ph), np.log(gw / pw)]) * weights
    np.testing.assert_allclose(deltas[0], formula, atol=1e-4)


def test_decode_lets_a_box_grow_by_1000_by_16_at_most():
    found = box.decode(np.array([[0.0, 0.0, 8.0, 1.0]], np.float32), np.array([[0.0, 0.0, 16.0, 16.0]], np.float32))
    assert float(found[0, 2] - found[0, 0]) == pytest.approx(1000, rel=1e-5)
    assert float(found[0, 3] - found[0, 1]) == pytest.approx(16 * np.e, rel=1e-5)


def test_clip_keeps_each_image_within_its_own_edges():
    given = np.tile(np.array([-5.0, -5.0, 99.0, 99.0], np.float32), (2, 3, 1))
    found = box.clip(tf.constant(given), tf.constant([[50.0, 60.0], [70.0, 80.0]]))
    assert found[0, 0].numpy().tolist() == [0, 0, 50, 60] and found[1, 2].numpy().tolist() == [0, 0, 70, 80]


OVERLAPS = np.array(
    # object 0, object 1, filling
    [[0.0, 0.0, 0.9], [0.8, 0.1, 0.0], [0.5, 0.2, 0.0], [0.1, 0.4, 0.0], [0.1, 0.4, 0.0], [0.2, 0.1, 0.0]], np.float32
)
PRESENT = tf.constant([True, True, False])


def test_match_by_thresholds():
    owner, label = match(OVERLAPS, PRESENT, 0.3, 0.7)
    assert label.numpy().tolist() == [0, 1, -1, -1, -1, 0]
    assert owner.numpy()[1:5].tolist() == [0, 0, 1, 1]


def test_match_takes_all_boxes_that_tie_for_an_object_and_never_the_first_one_for_nothing():
    """keras-cv's matcher makes row 0 positive whatever it overlaps, and takes one of several equal boxes."""
    owner, label = match(OVERLAPS, PRESENT, 0.3, 0.7, best_of_each=True)
    assert label.numpy().tolist() == [0, 1, -1, 1, 1, 0]
    assert owner.numpy()[[1, 3, 4]].tolist() == [0, 1, 1]


def test_boxes_tie_for_an_object_to_rounding():
    overlaps = np.array([[0.4], [np.nextafter(np.float32(0.4), 0)], [0.39]], np.float32)
    _, label = match(overlaps, tf.constant([True]), 0.3, 0.7, best_of_each=True)
    assert label.numpy().tolist() == [1, 1, -1]


def test_match_without_objects_or_with_one_that_nothing_overlaps_gives_negatives_alone():
    for present in ([False] * 3, [True, False, False]):
        overlaps = OVERLAPS * [0, 1, 1]
        _, label = match(overlaps.astype(np.float32), tf.constant(present), 0.3, 0.7, best_of_each=True)
        assert label.numpy().tolist() == [0] * 6


def test_a_box_that_is_the_best_of_one_object_still_finds_the_object_it_overlaps_most():
    overlaps = np.array([[0.6, 0.5], [0.9, 0.0]], np.float32)
    owner, label = match(overlaps, tf.constant([True, True]), 0.3, 0.7, best_of_each=True)
    assert label.numpy().tolist() == [1, 1] and owner.numpy().tolist() == [0, 0]


def test_sample_takes_positives_first_up_to_their_share_and_fills_with_negatives():
    labels = np.full((3, 40), -1, np.int32)
    labels[0, :20], labels[0, 20:38] = 1, 0  # plenty of both
    labels[1, 5], labels[1, 10:13] = 1, 0  # too few of both
    keys = draws.uniform(3, labels.shape)
    indices, taken, positive = (v.numpy() for v in sample(tf.constant(labels), keys, 16, 0.25))
    assert indices.shape == (3, 16)
    assert taken.sum(1).tolist() == [16, 4, 0] and positive.sum(1).tolist() == [4, 1, 0]
    for row in range(2):
        chosen = indices[row][taken[row]]
        assert len(set(chosen)) == len(chosen)
        assert (labels[row][indices[row][positive[row]]] == 1).all()
        assert (labels[row][indices[row][taken[row] & ~positive[row]]] == 0).all()
    assert positive[0, :4].all() and set(indices[1]) == {5, 10, 11, 12}  # unused places repeat taken ones
    best = np.argsort(-keys.numpy()[0, :20])[:4]
    assert indices[0, :4].tolist() == best.tolist()


def test_sample_draws_every_box_equally_often():
    labels = tf.constant(np.tile(np.repeat([1, 0], [8, 24]), (400, 1)).astype(np.int32))
    indices, _, _ = sample(labels, draws.uniform(0, labels.shape), 8, 0.5)
    counts = np.bincount(indices.numpy().ravel(), minlength=32)
    # Binomial of 400 draws with chance 1/2 and 1/6: four deviations.
    assert np.abs(counts[:8] - 200).max() < 4 * 10 and np.abs(counts[8:] - 400 / 6).max() < 4 * 7.5


@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_suppression_equals_a_loop_under_xla_too(threshold):
    boxes, scores = random_boxes(150), np.random.default_rng(2).uniform(size=150).astype(np.float32)
    boxes[100:], scores[140:] = boxes[:50] + 1, -np.inf
    expected = nms_loop(boxes, scores, threshold)[:40]
    for xla in (False, True):
        run = tf.function(lambda b, s: suppress(b, s, 40, threshold), jit_compile=xla, autograph=False)
        kept, count = run(boxes, scores)
        assert kept.numpy()[: int(count)].tolist() == expected and kept.shape == (40,)


def test_proposals_are_the_best_anchors_moved_clipped_and_suppressed():
    every = anchors(4, 4, 16, (16.0, 32.0), (1.0,))
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(2, 32)).astype(np.float32)
    deltas = draw.normal(size=(2, 32, 4)).astype(np.float32) * 0.3
    extents = np.array([[64, 64], [40, 30]], np.float32)
    run = lambda *a: propose(*a, every, extents, before=20, after=8, threshold=0.5)  # noqa: E731
    for xla in (False, True):
        found, present = tf.function(run, jit_compile=xla, autograph=False)(logits, deltas)
        for b in range(2):
            top = np.argsort(-logits[b], kind="stable")[:20]
            moved = np.asarray(box.decode(deltas[b][top], every[top]))
            moved = np.clip(moved, 0, np.tile(extents[b], 2))
            there = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
            kept = nms_loop(moved, np.where(there, logits[b][top], -np.inf), 0.5)[:8]
            assert int(present[b].numpy().sum()) == len(kept)
            np.testing.assert_allclose(found[b][: len(kept)], moved[kept], atol=1e-4)
            assert not found[b][len(kept) :].numpy().any()


def test_no_gradient_goes_through_proposals():
    every = anchors(2, 2, 16, (16.0,), (1.0,))
    logits, deltas = tf.Variable([[0.1, 0.2, 0.3, 0.4]]), tf.Variable(tf.zeros([1, 4, 4]))
    with tf.GradientTape() as tape:
        found, _ = propose(logits, deltas, every, tf.constant([[32.0, 32.0]]), before=4, after=4, threshold=0.7)
        total = tf.reduce_sum(found)
    assert tape.gradient(total, [logits, deltas]) == [None, None]


def test_selection_suppresses_class_by_class_and_orders_by_score():
    draw = np.random.default_rng(1)
    scores = np.exp(draw.normal(size=(2, 30, 4)) * 2)
    scores = (scores / scores.sum(-1, keepdims=True))[..., :3].astype(np.float32)
    boxes = np.stack([[random_boxes(3, seed=100 * b + r) for r in range(30)] for b in range(2)])
    boxes[:, 15:] = boxes[:, :15] + 0.5
    present = np.ones((2, 30), bool)
    present[1, 20:] = False
    for xla in (False, True):
        run = tf.function(lambda *a: select(*a, 0.05, 0.5, 25), jit_compile=xla, autograph=False)
        found = {k: v.numpy() for k, v in run(scores, boxes, present).items()}
        for b in range(2):
            expected = []
            for c in range(3):
                own = np.where(present[b] & (scores[b, :, c] > 0.05), scores[b, :, c], -np.inf)
                expected += [(own[i], c, i) for i in nms_loop(boxes[b, :, c], own, 0.5)]
            expected = sorted(expected, key=lambda one: -one[0])[:25]
            n = found["count"][b]
            assert n == len(expected)
            np.testing.assert_allclose(found["scores"][b, :n], [one[0] for one in expected])
            assert found["classes"][b, :n].tolist() == [one[1] for one in expected]
            np.testing.assert_allclose(found["boxes"][b, :n], [boxes[b, i, c] for _, c, i in expected])
            assert not found["scores"][b, n:].any()
