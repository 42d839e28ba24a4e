"""Devices by name, the rows each replica draws, gathering with gradients."""

import json

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.distribute import gather_replicas, get_strategy, is_chief, step_seed, use_xla
from revisit_ssl.errors import InputError
from revisit_ssl.views.draws import uniform


def test_one_device_is_never_mirrored():
    strategy = get_strategy("auto")
    assert strategy.num_replicas_in_sync == 1 and not isinstance(strategy, tf.distribute.MirroredStrategy)
    assert not use_xla(strategy), "XLA is slower on a CPU"


@pytest.mark.parametrize(
    ("name", "tf_config", "words"),
    [
        ("gpu", None, "unknown strategy 'gpu'; one of auto, none, mirrored, multiworker, tpu"),
        ("multiworker", None, "needs TF_CONFIG"),
        ("auto", "{cluster", "TF_CONFIG is not JSON"),
    ],
)
def test_bad_devices(name, tf_config, words, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config or "")
    with pytest.raises(InputError, match=words):
        get_strategy(name)


@pytest.mark.parametrize(
    ("cluster", "kind", "index", "expected"),
    [
        ({"worker": ["a:1", "b:1"]}, "worker", 0, True),
        ({"worker": ["a:1", "b:1"]}, "worker", 1, False),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "chief", 0, True),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "worker", 0, False),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "worker", 1, False),
        ({"worker": ["a:1"]}, "worker", 0, True),
        ({}, None, None, True),
    ],
)
def test_one_process_writes(cluster, kind, index, expected, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}}))
    assert is_chief() is expected


def test_replicas_draw_their_rows_of_the_global_draw():
    strategy = get_strategy("mirrored")
    draws = strategy.run(lambda: uniform(step_seed(7, tf.constant(3, tf.int64)), [4, 2]))
    together = np.concatenate([v.numpy() for v in strategy.experimental_local_results(draws)])
    alone = uniform(step_seed(7, tf.constant(3, tf.int64)), [8, 2]).numpy()
    np.testing.assert_array_equal(together, alone)
    assert not np.array_equal(alone, uniform(step_seed(7, tf.constant(4, tf.int64)), [8, 2]).numpy())


def test_gathered_rows_are_in_replica_order_and_carry_their_gradient():
    strategy = get_strategy("mirrored")

    def step():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        rows = tf.cast(replica, tf.float32) * 10 + tf.reshape(tf.range(6, dtype=tf.float32), [3, 2])
        with tf.GradientTape() as tape:
            tape.watch(rows)
            gathered = gather_replicas(rows)
            loss = tf.reduce_sum(gathered * tf.reshape(tf.range(12, dtype=tf.float32), [6, 2]))
        assert gathered.shape == (6, 2)
        return gathered, tape.gradient(loss, rows)

    gathered, gradients = strategy.run(tf.function(step, autograph=False))
    parts = strategy.experimental_local_results(gathered)
    expected = np.concatenate([np.arange(6).reshape(3, 2), 10 + np.arange(6).reshape(3, 2)])
    for part in parts:
        np.testing.assert_array_equal(part, expected)
    # Both replicas' losses depend on each row once, so the gradient of their sum is twice the weights.
    weights = np.arange(12).reshape(2, 3, 2)
    for replica, gradient in enumerate(strategy.experimental_local_results(gradients)):
        np.testing.assert_allclose(gradient, 2 * weights[replica])
