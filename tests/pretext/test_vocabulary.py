"""The vocabularies of OBoW: official numbers, loops over the formulas, guards, replicas."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp, softmax

from revisit_ssl.distribute import get_strategy, replica_id, step_seed, to_numpy
from revisit_ssl.errors import InputError, TrainingDiverged
from revisit_ssl.pretext.bags import CollapseAlarm, bow_perplexity
from revisit_ssl.pretext.distances import Distances
from revisit_ssl.pretext.obow import OBoWOptions
from revisit_ssl.pretext.vocabulary import Vocabulary
from revisit_ssl.pretext.vocabulary_kinds import VOCABULARIES, Queue

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "obow"


class Given(Queue):
    """Takes the cells that it is told to, int32 [B] or, for replicas, [replicas, B]."""

    given = None

    def places(self, seed, images, cells):
        return self.given if self.given.shape.rank == 1 else tf.gather(self.given, replica_id())


def new(words, channels, kind="queue", seed=0, **options):
    """A vocabulary as it is before the first step; ``kind`` of VOCABULARIES, or its class."""
    made = VOCABULARIES.get(kind, kind)
    return made(OBoWOptions(words=words, **options), channels, seed=seed)


def vocabulary(words, mu=0.5, pointer=0, kind="queue", **options):
    made = new(*words.shape, kind, **options)
    made.words.assign(words)
    made.mu.assign(mu)
    made.pointer.assign(pointer)
    if hasattr(made, "sums"):
        made.sums.assign(words)
    return made


def close(ours, golden, tolerance):
    np.testing.assert_allclose(ours, golden, rtol=0, atol=tolerance * max(1, np.abs(golden).max()))


def random_map(shape, seed=0):
    """Features after ReLU, some cells all 0."""
    features = np.maximum(np.random.default_rng(seed).normal(size=shape), 0).astype(np.float32)
    features[:, 2, 2] = 0
    return features


@pytest.mark.parametrize("level, tolerance", [("conv5", 5e-5), ("conv4", 1e-5)])
@pytest.mark.parametrize("chunk", [32, 1])
def test_bags_are_the_official_ones(level, tolerance, chunk):
    g = np.load(GOLDENS / f"bow_targets_{level}_like.npz")
    features, words = g["teacher_features"].astype(np.float32), g["vocabulary"].astype(np.float32)
    for training in (True, False):
        for hard in (False, True):
            for pool in ("max", "avg"):
                inv_delta = None if hard else float(g["inv_delta"])
                v = vocabulary(words, g["mu_before"], inv_delta=inv_delta, pool=pool, chunk=chunk)
                bow, scalars = v.target(tf.constant(features), v.snapshot(), 0, training=training)
                name = f"bow_{'hard' if hard else 'soft'}_{pool}" + ("" if training or hard else "_eval")
                close(bow, g[name], tolerance)
                close(scalars["mu"], g["mu_after" if training else "mu_before"], tolerance)
    v = vocabulary(words, g["mu_after"], inv_delta=float(g["inv_delta"]))
    cells = v.inner(features)
    close(cells, g["features_without_border"], 1e-6)
    rows = Distances(tf.reshape(cells, [cells.shape[0], -1, cells.shape[-1]]), v.snapshot(), chunk)
    distances = rows.map(lambda d: d, tf.float32).numpy().reshape(g["squared_distances"].shape)
    close(distances, g["squared_distances"], tolerance)
    close(v.codes(distances), g["codes_soft"], tolerance)
    ids, scores = v.assign(features)
    np.testing.assert_array_equal(ids, g["nearest_word"])
    close(scores, g["codes_soft"].max(-1), tolerance)
    v.mu.assign(g["mu_before"])
    close(v.codes(distances), g["codes_soft_eval"], tolerance)


def test_five_steps_are_the_official_ones():
    g = np.load(GOLDENS / "mu_and_queue_5_steps.npz")
    v = vocabulary(
        g["vocabulary_initial"], g["mu_initial"], g["pointer_initial"], Given, inv_delta=float(g["inv_delta"])
    )
    for step, features in enumerate(g["teacher_features_steps"].astype(np.float32)):
        v.given = tf.constant(g["picked_location"][step])
        bow, scalars = v.target(tf.constant(features), v.snapshot(), 0)
        close(bow, g["bow_max"][step], 1e-5)
        close(scalars["mu"], g["mu_after"][step], 1e-5)
        close(v.words, g["vocabulary_after"][step], 1e-5)
        assert int(v.pointer.value) == g["pointer_after"][step]


@pytest.mark.parametrize("sampling", ["local_average", "no_averaging", "global_average"])
def test_queue_writes_are_the_official_ones(sampling):
    g = np.load(GOLDENS / "queue_update_modes.npz")
    v = vocabulary(g["vocabulary_initial"], 1.0, g["pointer_initial"], Given, sampling=sampling)
    for step, cells in enumerate(g["features_without_border_steps"].astype(np.float32)):
        if sampling != "global_average":
            v.given = tf.constant(g[f"picked_location_{sampling}"][step])
        v.enqueue(v.picked(tf.constant(cells), 0))
        close(v.words, g[f"vocabulary_after_{sampling}"][step], 2e-6)
        assert int(v.pointer.value) == g["pointer_after"][step]


def test_two_replicas_have_one_vocabulary():
    g = np.load(GOLDENS / "two_replicas_queue_and_mu.npz")
    strategy = get_strategy("mirrored")
    with strategy.scope():
        v = vocabulary(
            g["vocabulary_initial"], g["mu_initial"], g["pointer_initial"], Given, inv_delta=float(g["inv_delta"])
        )

    @tf.function(autograph=False)
    def own(features, given):
        v.given = given
        return v.target(tf.gather(features, replica_id()), v.snapshot(), 0)[0]

    for step, features in enumerate(g["teacher_features_steps"].astype(np.float32)):
        arguments = tf.constant(features), tf.constant(g["picked_location"][step])
        bows = strategy.experimental_local_results(strategy.run(own, args=arguments))
        close(np.stack(bows), g["bow_max"][step], 2e-5)
        for weight, name in ((v.words, "vocabulary"), (v.mu, "mu"), (v.pointer, "pointer")):
            for copy in strategy.experimental_local_results(weight.value):
                close(copy, g[f"{name}_after"][step], 2e-5)


def test_perplexities_are_the_official_ones():
    g = np.load(GOLDENS / "bow_perplexity.npz")
    for name in (key for key in g if key.startswith("bow_")):
        image, batch = bow_perplexity(tf.constant(g[name], tf.float32))
        i = int(name.split("_")[1])
        close(image, g["perplexity_image"][i], 2e-6)
        close(batch, g["perplexity_batch"][i], 2e-6)


def test_a_write_goes_on_at_the_beginning_of_the_ring():
    v = vocabulary(np.zeros((7, 1), np.float32))
    expected = np.zeros((7, 1), np.float32)
    for start in (0, 5, 10, 15):  # 5 words into 7 rows
        new = np.arange(start, start + 5, dtype=np.float32)[:, None] + 1
        for i, word in enumerate(new):
            expected[(start + i) % 7] = word
        v.enqueue(tf.constant(new))
        np.testing.assert_array_equal(v.words, expected)
    with pytest.raises(InputError, match="8 new words of a step do not fit into task.words 7"):
        v.enqueue(tf.zeros([8, 1]))


def test_the_snapshot_outlives_the_step():
    v = vocabulary(random_map([1, 6, 6, 2]).reshape(36, 2)[:12])
    before = to_numpy(v.words)

    @tf.function(autograph=False)
    def step(features):
        old = v.snapshot()
        v.target(features, old, 0)
        return old

    np.testing.assert_array_equal(step(tf.constant(random_map([4, 6, 6, 2], 1))), before)
    assert np.abs(v.words - before).max() > 0.1


def test_which_cell_is_taken():
    # Every one of the 4 means of 3 x 3 equally often, each image by itself, each step anew.
    v = new(4, 1)
    drawn = np.stack([v.places((0, step), 50, 4).numpy() for step in range(40)])
    counts = np.bincount(drawn.ravel(), minlength=4)
    assert np.abs(counts - 500).max() < 4 * np.sqrt(2000 * 0.25 * 0.75)
    assert len(np.unique(drawn, axis=0)) == 40
    np.testing.assert_array_equal(v.places((0, 3), 50, 4), drawn[3])


@pytest.mark.parametrize("cells, places", [(14, 100), (7, 9)])
def test_the_queue_draws_from_means_of_3_x_3_without_the_border(cells, places, monkeypatch):
    # Maps of 224 px: conv4's 14 x 14 have 12 x 12 inner cells and 10 x 10 means, conv5's 7 x 7 have 5 x 5 and 3 x 3.
    v, seen = new(4, 1), []
    monkeypatch.setattr(v, "places", lambda seed, images, count: seen.append(count) or tf.zeros([images], tf.int32))
    inner_cells = v.inner(tf.zeros([2, cells, cells, 1]))
    assert inner_cells.shape == (2, cells - 2, cells - 2, 1)
    assert v.picked(inner_cells, 0).shape == (2, 1) and seen == [places]


def test_first_words_and_mu():
    v = new(2000, 10)
    words = v.snapshot().numpy()
    assert words.dtype == np.float32 and words.min() == 0
    assert np.mean(words == 0) == pytest.approx(0.5, abs=0.01)
    assert words.mean() == pytest.approx(1 / np.sqrt(2 * np.pi), rel=0.02)  # of max(0, N(0, 1))
    assert float(v.mu.value) == 0.5 and int(v.pointer.value) == 0
    np.testing.assert_array_equal(words, new(2000, 10).snapshot())
    assert not np.array_equal(words, new(2000, 10, seed=1).snapshot())


def test_mu_forgets_its_start_at_once_where_it_is_told_to():
    # One distance d all the time: mu = 0.99^t 0.5 + (1 - 0.99^t) d; corrected it is d from the first step on.
    features = tf.fill([1, 5, 5, 1], 4.0)
    for correct in (False, True):
        v = vocabulary(np.zeros((2, 1), np.float32), bias_correct_mu=correct, sampling="no_averaging")
        for step in range(1, 4):
            v.target(features, tf.zeros([2, 1]), 0)
            mu = 0.99**step * 0.5 + (1 - 0.99**step) * 16.0
            assert float(v.mu.value) == pytest.approx(mu, rel=1e-5)
            assert float(v.sharpness()) == pytest.approx(15 / (16.0 if correct else mu), rel=1e-4)


def test_one_feature_everywhere_leaves_mu_above_0():
    features = np.full([2, 6, 6, 3], 0.7, np.float32)
    v = vocabulary(np.full((4, 3), 0.7, np.float32), mu=1e-6)
    bow, scalars = v.target(tf.constant(features), v.snapshot(), 0)
    assert float(scalars["mu"]) == pytest.approx(1e-6) and np.isfinite(bow).all()
    np.testing.assert_allclose(np.sum(bow, 1), 1.0, rtol=1e-6)


def test_chunks_change_nothing_but_memory():
    features = random_map([6, 7, 6, 5])
    words = random_map([1, 4, 6, 5], 1).reshape(24, 5)
    for kind in ("kmeans_replace", "kmeans_sinkhorn"):
        made = [vocabulary(words, 3.0, kind=kind, chunk=chunk) for chunk in (6, 4)]  # 4 does not divide 6: 3
        bows = [tf.function(v.target, autograph=False)(tf.constant(features), v.snapshot(), 0)[0] for v in made]
        for v, bow in zip(made[1:], bows[1:], strict=True):
            np.testing.assert_allclose(bow, bows[0], rtol=1e-4, atol=1e-6)
            for a, b in zip(v.weights, made[0].weights, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=f"{kind} {a.path}")


def squared(features, words):
    """Distances by a loop in float64: [N, C], [K, C] -> [N, K]."""
    return np.array([[np.sum((f - w) ** 2) for w in words.astype(float)] for f in features.astype(float)])


def inner(features):
    return features[:, 1:-1, 1:-1].reshape(-1, features.shape[-1])


def test_k_means_is_the_moving_average_of_vq_vae():
    words, g = random_map([1, 3, 4, 4], 1).reshape(12, 4), 0.99
    v = vocabulary(words, kind="kmeans")
    counts, sums, expected = np.ones(12), words.astype(float), words.astype(float)
    for step in range(4):
        features = random_map([3, 6, 5, 4], 10 + step)
        bow, scalars = v.target(tf.constant(features), v.snapshot(), 0)
        rows = inner(features)
        nearest = squared(rows, expected).argmin(1)
        assert float(scalars["used"]) == pytest.approx(len(set(nearest)) / 12)
        shares = np.bincount(nearest) / len(nearest)
        entropy = -sum(share * np.log(share) for share in shares if share)
        assert float(scalars["usage_perplexity"]) == pytest.approx(np.exp(entropy), rel=1e-5)
        n, m = np.zeros(12), np.zeros((12, 4))
        for row, k in zip(rows, nearest, strict=True):
            n[k] += 1
            m[k] += row
        counts, sums = g * counts + (1 - g) * n, g * sums + (1 - g) * m
        expected = sums / counts[:, None]
        np.testing.assert_allclose(v.words, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(v.counts, counts, rtol=1e-5)
        assert bow.shape == (3, 12)


@pytest.mark.parametrize("kind", [kind for kind in VOCABULARIES if kind != "queue"])
def test_first_words_may_be_features(kind):
    # 7 words, 3 of a step: after the third step the queue has gone round, and the fourth averages.
    v, queue = (new(7, 4, k, start="features") for k in (kind, "queue"))
    for step in range(4):
        features = tf.constant(random_map([3, 6, 5, 4], 10 + step))
        before = v.snapshot()
        for each in (v, queue):
            each.target(features, before, (0, step))
        if step < 3:
            np.testing.assert_array_equal(v.words, queue.words)
            np.testing.assert_array_equal(v.sums, v.words)
            np.testing.assert_array_equal(v.counts, 1.0)
    assert np.abs(v.words - before).max() < 0.6 * np.abs(queue.words - before).max()
    assert np.abs(v.counts.value - 1).max() > 0.01


def test_a_word_without_features_stays_where_it_is():
    # Its count falls by 0.99 a step and would be 0 in float32 after 8,690; sum / count would be NaN.
    words = np.array([[0.0, 0.0], [50.0, 50.0]], np.float32)
    v = vocabulary(words, 1.0, kind="kmeans", word_momentum=0.1)
    features = tf.constant(random_map([2, 5, 5, 2]))
    for _ in range(46):  # 0.1^46 is below the smallest float32
        v.target(features, v.snapshot(), 0)
    assert float(v.counts.value[1]) == 0.0
    np.testing.assert_allclose(v.words[1], words[1], rtol=1e-5)
    assert np.isfinite(v.words).all()
    v.target(tf.fill([2, 5, 5, 2], 49.0), v.snapshot(), 0)
    np.testing.assert_allclose(v.words[1], [49.0, 49.0], rtol=1e-4)  # and is used again


def test_rare_words_are_replaced_by_features_of_the_batch():
    words = np.concatenate([random_map([1, 4, 4, 3]).reshape(16, 3)[:6], np.full((4, 3), 90.0)]).astype(np.float32)
    v = vocabulary(words, 1.0, kind="kmeans_replace", rare_after=2)
    features = random_map([2, 5, 5, 3], 3)
    seen = inner(features)
    for step in range(1, 4):
        v.target(tf.constant(features), v.snapshot(), (0, step))
        far = v.words.numpy()[6:]
        if step < 3:  # unused for 1 and for 2 steps: not above 2
            np.testing.assert_allclose(far, 90.0, rtol=1e-5)
    for word in far:
        assert any(np.array_equal(word, row) for row in seen)
    np.testing.assert_array_equal(v.counts[6:], 1.0)
    np.testing.assert_array_equal(v.sums[6:], far)
    np.testing.assert_array_equal(v.last_used[6:], 3)
    # 18 features, four words: all different (of features that are; the cell of zeros comes twice).
    distinct = tf.constant(np.arange(18, dtype=np.float32)[:, None])
    chosen = tf.constant([True, False, True, True, False, True])
    replacing = new(6, 1, "kmeans_replace")
    drawn = replacing.drawn(distinct, chosen, (0, 1)).numpy()[chosen.numpy(), 0]
    assert len(set(drawn)) == 4
    few = replacing.drawn(distinct[:3], tf.ones(6, tf.bool), (0, 1)).numpy()[:, 0]
    assert sorted(few) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("iterations", [1, 3, 200])
def test_sinkhorn_is_the_loop_over_rows_and_columns(iterations):
    words, features = random_map([1, 3, 4, 4], 1).reshape(12, 4), random_map([3, 6, 5, 4], 2)
    v = vocabulary(words, kind="kmeans_sinkhorn", sinkhorn_iterations=iterations)
    bow, scalars = v.target(tf.constant(features), v.snapshot(), 0)
    d = squared(inner(features), words).T  # [K, N]
    log_q = -d * 15.0 / float(scalars["mu"])
    for _ in range(iterations):
        log_q -= logsumexp(log_q, axis=1, keepdims=True) + np.log(12)
        log_q -= logsumexp(log_q, axis=0, keepdims=True) + np.log(d.shape[1])
    codes = np.exp(log_q).T * d.shape[1]
    rows = Distances(tf.reshape(v.inner(features), [3, -1, 4]), tf.constant(words), 3)
    ours = tf.reshape(rows.map(lambda each: v.codes(each, v.balance(rows)), tf.float32), [-1, 12])
    np.testing.assert_allclose(ours, codes, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(tf.reduce_sum(ours, 1), 1.0, rtol=1e-5)
    expected = codes.reshape(3, -1, 12).max(1)
    np.testing.assert_allclose(bow, expected / expected.sum(1, keepdims=True), rtol=2e-3, atol=2e-4)
    if iterations == 200:  # the words' shares are equal too
        np.testing.assert_allclose(tf.reduce_mean(ours, 0), 1 / 12, rtol=0.02)
    n, m = codes.sum(0), codes.T @ inner(features)
    counts = 0.99 + 0.01 * n
    np.testing.assert_allclose(v.counts, counts, rtol=1e-3)
    np.testing.assert_allclose(v.words, (0.99 * words + 0.01 * m) / counts[:, None], rtol=1e-3, atol=1e-3)


def test_sinkhorn_bears_features_of_any_size():
    features, words = 100 * random_map([2, 6, 6, 8]), 100 * random_map([1, 4, 4, 8], 1).reshape(16, 8)
    v = vocabulary(words, 0.5, kind="kmeans_sinkhorn")
    bow, _ = v.target(tf.constant(features), v.snapshot(), 0)  # logits down to -1e5
    assert np.isfinite(bow).all() and np.isfinite(v.words).all()


@pytest.mark.parametrize("kind", ["kmeans_replace", "kmeans_sinkhorn"])
def test_two_replicas_do_what_one_device_does(kind):
    words = random_map([1, 4, 4, 3], 1).reshape(16, 3)
    words[12:] += 30  # rare
    features = tf.constant(random_map([3, 4, 6, 6, 3], 2))
    results = []
    for name in ("none", "mirrored"):
        strategy = get_strategy(name)
        each = 4 // strategy.num_replicas_in_sync
        with strategy.scope():
            v = vocabulary(words, 2.0, kind=kind, rare_after=1)

        def step(i, v=v, each=each, strategy=strategy):
            own = tf.gather(features[i], replica_id() * each + tf.range(each))
            return v.target(own, v.snapshot(), step_seed(0, i))

        traced = tf.function(step, autograph=False)
        for i in range(3):
            bow, scalars = strategy.run(traced, args=(tf.constant(i),))
        bows = np.concatenate([np.asarray(b) for b in strategy.experimental_local_results(bow)])
        batch = [float(s) for s in strategy.experimental_local_results(scalars["batch_perplexity"])]
        results.append((bows, batch[-1], [to_numpy(w) for w in v.weights]))
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-3, atol=1e-5)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-4)
    for a, b in zip(results[0][2], results[1][2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["queue", "kmeans_sinkhorn"])
def test_xla_does_what_the_plain_graph_does(kind):
    words = random_map([1, 4, 4, 3], 1).reshape(16, 3)
    features = tf.constant(random_map([4, 6, 6, 3], 2), tf.bfloat16)
    results = []
    for jit in (False, True):
        v = vocabulary(words, 2.0, kind=kind, chunk=2)
        bow, _ = tf.function(v.target, jit_compile=jit, autograph=False)(features, v.snapshot(), (0, 1))
        assert bow.dtype == tf.float32 and {w.dtype for w in v.weights} <= {"float32", "int64"}
        results.append([bow, *v.weights])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_nothing_is_differentiated():
    v = vocabulary(random_map([1, 4, 4, 3], 1).reshape(16, 3))
    features = tf.constant(random_map([2, 6, 6, 3]))
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = tf.reduce_sum(tf.square(v.target(features, v.snapshot(), 0)[0]))
    assert tape.gradient(loss, features) is None
    assert not v.trainable_variables


def test_bad_numbers():
    for options, words in [
        ({"sampling": "middle"}, "task.sampling 'middle'; one of 'local_average'"),
        ({"pool": "sum"}, "task.pool 'sum'; one of"),
        ({"kind": "kmeans", "start": "zeros"}, "task.start 'zeros'; one of"),
        ({"inv_delta": 0.0}, "inv_delta 0.0 must be above 0"),
        ({"kind": "kmeans_sinkhorn", "inv_delta": None}, "needs a task.inv_delta"),
        ({"mu_momentum": 2.0}, "mu_momentum 2.0 must lie in"),
        ({"word_momentum": -0.1}, "word_momentum -0.1 must lie in"),
        ({"bias_correct_mu": True, "mu_momentum": 1.0}, "needs a task.mu_momentum below 1"),
        ({"rare_after": 0}, "rare_after 0"),
        ({"words": 0}, "task.words 0"),
    ]:
        with pytest.raises(InputError, match=words):
            new(**{"words": 4, "channels": 2, **options})
    v = new(4, 2)
    with pytest.raises(InputError, match="maps of 4 x 4 cells; a vocabulary needs 5 x 5"):
        v.target(tf.zeros([2, 4, 4, 2]), v.snapshot(), 0)


def test_soft_codes_are_the_softmax_of_distances():
    d = squared(random_map([1, 3, 4, 3]).reshape(12, 3), random_map([1, 3, 3, 3], 1).reshape(9, 3))
    v = new(9, 3, inv_delta=10.0)
    v.mu.assign(1.7)
    np.testing.assert_allclose(v.codes(tf.constant(d, tf.float32)), softmax(-10.0 / 1.7 * d, axis=1), atol=1e-6)


def test_the_alarm(capsys):
    v = new(4000, 1)
    alarm, model = CollapseAlarm({"block4": v}, every=10), keras.Model()
    model.compile(optimizer=keras.optimizers.SGD())
    alarm.set_model(model)

    def look(step, perplexity):
        model.optimizer.iterations.assign(step)
        alarm.on_train_batch_end(0, {"batch_perplexity_block4": perplexity})
        return capsys.readouterr().err

    assert look(9, 1.0) == "" and look(10, 200.0) == ""
    text = "warning: the visual words of block4 have collapsed at step 20: a batch spreads over 3.9 of 4000"
    assert look(20, 3.9).strip() == text
    assert look(30, 1.1) == "", "once"
    assert look(40, 100.0) == "" and "step 50" in look(50, 1.0)
    v.mu.assign(1e-6)
    with pytest.raises(TrainingDiverged, match="one feature everywhere of block4 .step 60"):
        look(60, 1.0)


def test_fixed_words():
    words = random_map([1, 4, 4, 3], 1).reshape(16, 3)
    v = Vocabulary(16, 3)
    assert [w.name for w in v.weights] == ["words"] and not np.any(v.words)
    v.words.assign(words)
    features = random_map([2, 6, 6, 3])
    bow, scalars = v.target(tf.constant(features), v.snapshot(), 0)
    nearest = squared(inner(features), words).argmin(1).reshape(2, -1)
    for b in range(2):
        used = np.unique(nearest[b])
        np.testing.assert_allclose(bow[b], np.isin(np.arange(16), used) / len(used), atol=1e-6)
    assert "mu" not in scalars
    np.testing.assert_array_equal(v.words, words)
    ids, scores = v.assign(features)
    np.testing.assert_array_equal(ids.numpy().reshape(2, -1), nearest)
    np.testing.assert_allclose(scores.numpy().ravel(), -squared(inner(features), words).min(1), atol=1e-4)
