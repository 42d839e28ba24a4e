"""The queue and the target network: official numbers, closed forms, two replicas."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones.normalisation import BatchNorm
from revisit_ssl.distribute import get_strategy, replica_id, to_numpy
from revisit_ssl.errors import InputError
from revisit_ssl.pretext.heads import BatchNormMLP, ProjectionHead
from revisit_ssl.pretext.infomin import InfoMin, InfoMinOptions
from revisit_ssl.pretext.moco import MoCo, MoCoOptions
from revisit_ssl.pretext.queue import Queue
from revisit_ssl.pretext.target import cosine_momentum, make_target, momentum_update, shuffled
from revisit_ssl.testing import tiny_backbone

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"


def filled(rows, pointer=0, **options):
    """A Queue that holds ``rows``, and stands at ``pointer``."""
    queue = Queue(*rows.shape, **options)
    queue.rings.assign(np.broadcast_to(rows, queue.rings.shape))
    queue.pointer.assign(pointer)
    return queue


def contents(queue):
    return to_numpy(queue.rings)


def on_replicas(strategy, function, keys):
    """Runs ``function(keys[replica])`` on every replica; keys [replicas, B, d]."""
    strategy.run(tf.function(lambda: function(tf.gather(tf.constant(keys), replica_id())), autograph=False))


def test_the_queue_is_the_official_ring():
    g = np.load(GOLDENS / "moco" / "queue_enqueue.npz")
    queue = filled(g["queue_initial"], g["pointer_initial"])
    for step, keys in enumerate(g["keys_steps"]):
        queue.enqueue(tf.constant(keys, tf.float32))
        np.testing.assert_allclose(queue.features, g["queue_after"][step], rtol=0, atol=2e-6)
        assert int(queue.pointer.value) == g["pointer_after"][step]


def test_two_replicas_write_their_keys_in_order():
    g = np.load(GOLDENS / "moco" / "two_replicas_enqueue.npz")
    strategy = get_strategy("mirrored")
    with strategy.scope():
        queue = filled(g["queue_initial"], g["pointer_initial"])
    for step, keys in enumerate(g["keys_steps"].astype(np.float32)):
        on_replicas(strategy, queue.enqueue, keys)
        for copy in strategy.experimental_local_results(queue.rings.value):
            np.testing.assert_allclose(copy[0], g["queue_after"][step], rtol=0, atol=1e-6)
        assert int(to_numpy(queue.pointer)) == g["pointer_after"][step]


def test_a_local_queue_has_a_ring_for_each_replica():
    strategy = get_strategy("mirrored")
    with strategy.scope():
        queue = filled(np.zeros((5, 2), np.float32), scope="local")
    keys = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    seen = []

    def step(own):
        seen.append(queue.features)  # traced once for each replica
        queue.enqueue(own)

    for _ in range(2):
        on_replicas(strategy, step, keys)
    expected = np.zeros((2, 5, 2), np.float32)
    for i in range(6):  # row i of the keys that a replica wrote, 3 in each of two steps
        expected[:, i % 5] = keys[:, i % 3]
    np.testing.assert_array_equal(contents(queue), expected)
    np.testing.assert_array_equal(queue.features, expected[0])
    assert [s.shape for s in seen[:2]] == [(5, 2)] * 2


def test_a_write_goes_on_at_the_beginning_of_the_ring():
    queue, expected = filled(np.zeros((7, 1), np.float32)), np.zeros((7, 1), np.float32)
    for start in (0, 5, 10, 15):  # 5 keys into 7 rows, again and again
        keys = np.arange(start, start + 5, dtype=np.float32)[:, None] + 1
        for i, key in enumerate(keys):
            expected[(start + i) % 7] = key
        queue.enqueue(tf.constant(keys))
        np.testing.assert_array_equal(queue.features, expected)
    with pytest.raises(InputError, match="8 keys of a step do not fit into task.queue_size 7"):
        queue.enqueue(tf.zeros([8, 1]))


@pytest.mark.parametrize(("method", "options"), [(MoCo, MoCoOptions), (InfoMin, InfoMinOptions)])
def test_a_global_queue_must_hold_the_keys_of_all_replicas(method, options):
    x = keras.Input((None, None, 3))
    with get_strategy("mirrored").scope():
        backbone = keras.Model(x, {"pre_logits": keras.layers.GlobalAveragePooling2D(name="pre_logits")(x)})
        both, own = (method(backbone, options=options(queue_size=20, queue_scope=s)) for s in ("global", "local"))
    with pytest.raises(InputError, match="32 keys of a step do not fit into task.queue_size 20"):
        both.check_batch(16)
    both.check_batch(10)
    own.check_batch(16)


def test_first_contents():
    golden = np.load(GOLDENS / "moco" / "queue_enqueue.npz")["initial_queue_row_norms_of_a_fresh_model"]
    normal = Queue(12, 6).features.numpy()
    np.testing.assert_allclose(np.linalg.norm(normal, axis=1), golden, atol=2e-6)
    assert abs(Queue(4000, 6).features.numpy().mean()) < 0.02
    uniform = Queue(4000, 6, start="uniform").features.numpy()
    bound = (3 / 6) ** 0.5
    assert np.abs(uniform).max() <= bound
    # Variance of U(-b, b) is b^2 / 3 = 1 / units: rows of length 1 on average, not each.
    assert uniform.var() == pytest.approx(1 / 6, rel=0.02)
    assert np.linalg.norm(uniform, axis=1).std() > 0.1
    np.testing.assert_array_equal(normal, Queue(12, 6).features)
    assert not np.array_equal(normal, Queue(12, 6, seed=1).features)


@pytest.mark.parametrize("case", ["m999", "m99"])
def test_momentum_update_is_the_official_one(case):
    g = np.load(GOLDENS / "moco" / "key_encoder_ema.npz")
    online = ProjectionHead("mlp", 3, 5)
    online.build((None, 5))
    target = make_target(online)

    def named(head):
        parts = {"dense1": head.hidden, "dense2": head.last[0]}
        return {f"{part}_{v.name}": v for part, layer in parts.items() for v in layer.weights}

    for name, v in named(target).items():
        v.assign(g[f"{case}_key_initial_{name}"])
    for step in range(3):
        for name, v in named(online).items():
            v.assign(g[f"{case}_query_steps_{name}"][step])
        momentum_update(target, online, float(g[f"{case}_momentum"]))
        assert len(named(target)) == 4
        for name, v in named(target).items():
            np.testing.assert_allclose(v.value, g[f"{case}_key_after_steps_{name}"][step], rtol=0, atol=5e-6)


def backbone_of(norm="batch", **options):
    return tiny_backbone(1, input_shape=(16, 16, 3), norm=norm, **options)


@pytest.mark.parametrize("make", [backbone_of, lambda: BatchNormMLP(8, 4), lambda: ProjectionHead("normmlp", 4, 8, 2)])
def test_the_target_is_a_frozen_copy(make):
    online = make()
    if not online.built:
        online.build((None, 6))
    target = make_target(online)
    assert [v.path.split("/")[-2:] for v in target.weights] == [v.path.split("/")[-2:] for v in online.weights]
    assert not target.trainable_variables and online.trainable_variables
    for a, b in zip(target.weights, online.weights, strict=True):
        assert a is not b
        np.testing.assert_array_equal(a, b)


def test_the_target_keeps_its_own_batch_statistics():
    online = backbone_of()
    target = make_target(online)
    images = tf.random.stateless_uniform([4, 16, 16, 3], [1, 2])
    rows = target(images, training=True)["pre_logits"]
    np.testing.assert_array_equal(rows, online(images, training=True)["pre_logits"])  # statistics of the batch
    before = [v.numpy() for v in target.non_trainable_variables if "moving" in v.path]
    online(images + 1.0, training=True)
    momentum_update(target, online, 0.5)
    after = [v.numpy() for v in target.non_trainable_variables if "moving" in v.path]
    assert len(after) == 4
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a) for a in after), "a training pass moves them"


def test_the_cosine_of_momentum_is_the_official_one():
    g = np.load(GOLDENS / "cld" / "lr_schedules.npz")
    base, total = float(g["byol_base_momentum"]), int(g["byol_max_iterations"])
    for step, openselfsup, deepmind in zip(
        g["byol_iterations"], g["byol_target_momentum"], g["byol_target_momentum_dm"], strict=True
    ):
        ours = cosine_momentum(base, tf.constant(step), total)
        np.testing.assert_allclose(ours, [openselfsup, deepmind], rtol=1e-7)
    assert float(cosine_momentum(base, tf.constant(total + 5), total)) == 1.0


@pytest.mark.parametrize("norm", ["sync", "none"])
def test_shuffling_gives_every_key_back_to_its_image(norm):
    strategy = get_strategy("mirrored")
    images = tf.random.stateless_uniform([8, 16, 16, 3], [1, 2])
    keras.utils.set_random_seed(0)
    with strategy.scope():
        network = backbone_of(norm)
    keras.utils.set_random_seed(0)
    alone = backbone_of("batch" if norm == "sync" else norm)(images, training=True)["pre_logits"]

    def step():
        def encode(rows):
            return network(rows, training=True)["pre_logits"]

        return shuffled(encode, tf.gather(images, replica_id() * 4 + tf.range(4)), (3, 4))

    rows = strategy.run(tf.function(step, autograph=False))
    together = np.concatenate([r.numpy() for r in strategy.experimental_local_results(rows)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_shuffling_changes_who_shares_a_ghost_batch():
    images = tf.random.stateless_uniform([8, 16, 16, 3], [1, 2])
    ghost, whole = (
        keras.Sequential([keras.Input((16, 16, 3)), BatchNorm(group=group), keras.layers.GlobalAveragePooling2D()])
        for group in (2, None)
    )
    for network, changed in ((ghost, True), (whole, False)):
        plain = network(images, training=True)
        mixed = shuffled(lambda rows, network=network: network(rows, training=True), images, (3, 4))
        assert bool(np.abs(mixed - plain).max() > 1e-3) is changed
    first, second = (shuffled(lambda rows: ghost(rows, training=True), images, (3, step)) for step in (4, 5))
    assert np.abs(first - second).max() > 1e-3, "another step, another order"
