"""BatchNorm against NumPy and the Keras layer, on one and two devices."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import BACKBONES, get_backbone, load_backbone, revnet
from revisit_ssl.backbones.normalisation import BatchNorm
from revisit_ssl.distribute import get_strategy
from revisit_ssl.errors import InputError


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
    step = tf.function(layer, jit_compile=True, autograph=False) if xla else layer
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

    @tf.function(autograph=False)
    def step():
        def replica():
            rows = tf.distribute.get_replica_context().replica_id_in_sync_group * 4
            return layer(tf.constant(x)[rows : rows + 4], training=True)

        return strategy.run(replica)

    outputs = tf.concat(strategy.experimental_local_results(step()), axis=0)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    np.testing.assert_allclose(layer.moving_mean, alone.moving_mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, alone.moving_variance, rtol=1e-5)


@pytest.mark.parametrize("xla", [False, True], ids=["plain", "xla"])
@pytest.mark.parametrize("shape", [(6, 2, 3, 5), (6, 5)])
def test_a_ghost_batch_is_a_batch_of_its_own(shape, xla):
    x, weights = tf.constant(batch(shape)), batch(shape, 1)
    ghost, plain = layer_for(x, group=2), layer_for(x)

    def gradients(layer, x, weights):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
        return outputs, *tape.gradient(outputs, [x, layer.gamma.value, layer.beta.value], output_gradients=weights)

    run = tf.function(gradients, jit_compile=xla, autograph=False)
    outputs, dx, dgamma, dbeta = run(ghost, x, weights)
    parts, moved = [], []
    for i in (0, 2, 4):
        plain.moving_mean.assign(np.zeros(5))
        plain.moving_variance.assign(np.ones(5))
        parts.append(gradients(plain, x[i : i + 2], weights[i : i + 2]))
        moved.append([plain.moving_mean.numpy(), plain.moving_variance.numpy()])
    np.testing.assert_allclose(outputs, np.concatenate([p[0] for p in parts]), atol=1e-5)
    np.testing.assert_allclose(dx, np.concatenate([p[1] for p in parts]), atol=1e-4)
    np.testing.assert_allclose(dgamma, sum(p[2] for p in parts), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dbeta, sum(p[3] for p in parts), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ghost.moving_mean, np.mean([m[0] for m in moved], 0), rtol=1e-4)
    np.testing.assert_allclose(ghost.moving_variance, np.mean([m[1] for m in moved], 0), rtol=1e-4)
    assert np.abs(outputs - plain(x, training=True)).max() > 0.1
    plain.set_weights(ghost.get_weights())
    np.testing.assert_array_equal(ghost(x[:5], training=False), plain(x[:5], training=False))


def test_interleaved_ghost_batches_are_those_of_moco_s_demo():
    g = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "moco" / "demo_split_batchnorm.npz")
    x = tf.constant(g["inputs"], tf.float32)
    layer = BatchNorm(group=len(x) // int(g["splits"]), interleaved=True, momentum=0.9, epsilon=1e-5)
    layer.build(x.shape)
    layer.set_weights([g[name] for name in ("gamma", "beta", "moving_mean_before", "moving_variance_before")])
    np.testing.assert_allclose(
        layer(x, training=True), g["outputs_train"], atol=5e-6 * np.abs(g["outputs_train"]).max()
    )
    np.testing.assert_allclose(layer.moving_mean, g["moving_mean_after"], atol=5e-6)
    np.testing.assert_allclose(layer.moving_variance, g["moving_variance_after"], rtol=5e-6)
    np.testing.assert_allclose(
        layer(x, training=False), g["outputs_eval_after"], atol=5e-6 * np.abs(g["outputs_eval_after"]).max()
    )
    assert BatchNorm.from_config(layer.get_config()).interleaved


def test_ghost_batches_of_a_graph_have_static_shapes_and_whole_groups():
    layer = layer_for(np.empty((6, 2, 2, 3)), group=2)
    call = tf.function(lambda x: layer(x, training=True), autograph=False)
    assert call.get_concrete_function(tf.TensorSpec([6, 2, 2, 3])).output_shapes == (6, 2, 2, 3)
    x = batch((6, 2, 2, 3))
    anywhere = [tf.TensorSpec([None, None, None, 3])]
    anywhere = tf.function(lambda x: layer(x, training=True), input_signature=anywhere, autograph=False)
    np.testing.assert_allclose(anywhere(x), call(tf.constant(x)), atol=1e-6)
    with pytest.raises(InputError, match="bn_group 2 does not divide the 5 rows"):
        layer(batch((5, 2, 2, 3)), training=True)
    with pytest.raises(InputError, match="bn_group 4 needs norm batch, not sync: a group lies on one device"):
        get_backbone("resnet18", 1, norm="sync", bn_group=4)
    with pytest.raises(InputError, match="bn_group 0; an integer of at least 1"):
        get_backbone("resnet18", 1, bn_group=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", {"stem": "small"}),
        ("revnet50", {"stem": "small", "recompute": True}),
        ("vgg19_bn", {}),
    ],
)
def test_every_network_takes_ghost_batches(name, options, tmp_path, monkeypatch):
    keras.utils.set_random_seed(1)
    units = (2, 1, 1, 1)  # more of them would repeat these
    monkeypatch.setattr(revnet, "UNITS", units)
    monkeypatch.setitem(BACKBONES, "resnet18", dataclasses.replace(BACKBONES["resnet18"], units=units))
    options = {"input_shape": (32, 32, 3), **options}
    ghost, plain = get_backbone(name, 1, bn_group=4, **options), get_backbone(name, 1, **options)
    plain.set_weights(ghost.get_weights())
    x = batch((8, 32, 32, 3))
    outputs = ghost(x, training=True)
    for i in (0, 4):
        expected = plain(x[i : i + 4], training=True)
        for endpoint in ("block1", "block4", "pre_logits"):
            ours, theirs = np.asarray(outputs[endpoint][i : i + 4]), np.asarray(expected[endpoint])
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-3 * np.abs(theirs).max(), err_msg=endpoint)
    assert np.abs(outputs["block4"] - plain(x, training=True)["block4"]).max() > 0.01
    path = str(tmp_path / "backbone.keras")
    ghost.save(path)
    again = load_backbone(path)
    np.testing.assert_array_equal(again(x, training=True)["pre_logits"], ghost(x, training=True)["pre_logits"])
