"""BatchNorm against NumPy and the Keras layer, on one and two devices."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones.normalisation import BatchNorm
from revisit_ssl.distribute import get_strategy


def batch(shape, seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, shape).astype(np.float32)


def layer_for(x, **options):
    layer = BatchNorm(momentum=0.9, epsilon=1e-3, **options)
    layer.build(x.shape)
    layer.gamma.assign(np.linspace(0.5, 2, x.shape[-1]))
    layer.beta.assign(np.linspace(-1, 1, x.shape[-1]))
    return layer


@pytest.mark.parametrize("xla", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (7, 5), (1, 1, 1, 5)])  # fused kernel, general path, no variance
def test_moving_statistics_are_unbiased_and_outputs_are_not(shape, xla):
    mean, variance = np.zeros(5), np.ones(5)
    layer = layer_for(np.empty(shape))
    step = tf.function(layer, jit_compile=True) if xla else layer
    for seed in range(2):
        x = batch(shape, seed)
        rows = x.reshape(-1, 5).astype(np.float64)
        n = len(rows)
        outputs = step(x, training=True)
        mean = 0.9 * mean + 0.1 * rows.mean(0)
        variance = 0.9 * variance + 0.1 * rows.var(0) * n / max(n - 1, 1)
        expected = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-3) * layer.gamma.numpy() + layer.beta.numpy()
        np.testing.assert_allclose(np.reshape(outputs, (-1, 5)), expected, atol=2e-5)
    np.testing.assert_allclose(layer.moving_mean, mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=1e-5)
    expected = (x - mean) / np.sqrt(variance + 1e-3) * layer.gamma.numpy() + layer.beta.numpy()
    np.testing.assert_allclose(layer(x, training=False), expected, atol=2e-5)
    layer.trainable = False  # a frozen layer runs in inference mode, as in Keras
    np.testing.assert_allclose(layer(x, training=True), expected, atol=2e-5)


def test_gradients_equal_the_keras_layer():
    x, weights = tf.constant(batch((4, 3, 3, 5))), batch((4, 3, 3, 5), 1)
    ours, keras_layer = layer_for(x), keras.layers.BatchNormalization(momentum=0.9)
    keras_layer.build(x.shape)
    keras_layer.set_weights(ours.get_weights())
    results = []
    for layer in (ours, keras_layer):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x, training=True) * weights)
        results.append(tape.gradient(loss, [x, layer.gamma.value, layer.beta.value]))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_statistics_are_float32_under_mixed_precision():
    x = tf.cast(batch((64, 4, 4, 3)), tf.bfloat16)
    layer = layer_for(x, dtype="mixed_bfloat16")
    outputs = layer(x, training=True)
    assert outputs.dtype == tf.bfloat16 and layer.moving_mean.dtype == "float32"
    np.testing.assert_allclose(layer.moving_mean, 0.1 * np.float64(x).mean((0, 1, 2)), rtol=1e-4)


def test_variables_frozen_one_by_one_leave_training_mode_on():
    """A target network's variables are frozen singly, for a frozen layer would ignore the batch."""
    x = batch((4, 3, 3, 5))
    layer = layer_for(x)
    expected = layer(x, training=True)
    for variable in layer.weights:
        variable.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), expected)


def test_synchronised_over_two_replicas_equals_one_device():
    x = batch((8, 2, 2, 3))
    alone = layer_for(x)
    expected = alone(x, training=True)
    strategy = get_strategy("mirrored")
    with strategy.scope():
        layer = layer_for(x, synchronized=True)

    @tf.function
    def step():
        def replica():
            rows = tf.distribute.get_replica_context().replica_id_in_sync_group * 4
            return layer(tf.constant(x)[rows : rows + 4], training=True)

        return strategy.run(replica)

    outputs = tf.concat(strategy.experimental_local_results(step()), axis=0)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, alone.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, alone.moving_variance, rtol=1e-5)
