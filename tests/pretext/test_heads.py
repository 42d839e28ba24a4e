"""Projection heads: NormLinear's official numbers, shared hidden layers, PyTorch's initial values, sizes."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import count_parameters
from revisit_ssl.errors import InputError
from revisit_ssl.pretext.heads import BatchNormMLP, DynamicHead, NormLinear, ProjectionHead, unit

GOLDEN = pathlib.Path(__file__).parents[1] / "goldens" / "cld" / "normlinear.npz"
PREDICTION = pathlib.Path(__file__).parents[1] / "goldens" / "obow" / "prediction_head.npz"


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


def gradients_of(function, x, variables, cotangent):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        out = function(x)
        value = tf.reduce_sum(out * cotangent)
    return out, tape.gradient(value, [x, *[v.value for v in variables]])


def test_normlinear_is_the_official_layer(golden):
    layer = NormLinear(7)
    layer.build((None, 12))
    layer.kernel.assign(golden["weight_in_out"])
    out, (x, kernel) = gradients_of(layer, golden["x"], [layer.kernel], golden["cotangent"])
    np.testing.assert_allclose(out, golden["out"], atol=1e-5)
    np.testing.assert_allclose(x, golden["grad_x"], atol=1e-5)
    np.testing.assert_allclose(kernel, golden["grad_weight"], atol=1e-5)


def test_normlinear_sees_directions_alone(golden):
    layer = NormLinear(7)
    layer.build((None, 12))
    np.testing.assert_allclose(np.linalg.norm(layer.kernel, axis=0), golden["init_column_norms"], atol=1e-6)
    out = layer(golden["x"])
    layer.kernel.assign(layer.kernel * tf.range(1.0, 8.0))
    np.testing.assert_allclose(layer(5 * golden["x"]), out, atol=1e-6)


def test_group_head_with_normlinear_is_the_official_one(golden):
    head = ProjectionHead("normlinear", 7)
    head.build((None, 12))
    head.last[0].kernel.assign(golden["weight_in_out"])
    out, (x, kernel) = gradients_of(lambda x: head(x)[0], golden["x"], head.trainable_variables, golden["cotangent"])
    np.testing.assert_allclose(out, golden["group_head_norm_out"], atol=1e-5)
    np.testing.assert_allclose(x, golden["group_head_norm_grad_x"], atol=1e-5)
    np.testing.assert_allclose(kernel, golden["group_head_norm_grad_weight"], atol=1e-5)


def test_group_head_with_linear_is_the_official_one(golden):
    head = ProjectionHead("linear", 7)
    head.build((None, 12))
    head.last[0].kernel.assign(golden["linear_weight_out_in"].T)
    head.last[0].bias.assign(golden["linear_bias"])
    variables = [head.last[0].kernel, head.last[0].bias]
    out, (x, kernel, bias) = gradients_of(lambda x: head(x)[0], golden["x"], variables, golden["cotangent"])
    np.testing.assert_allclose(out, golden["group_head_linear_out"], atol=1e-5)
    np.testing.assert_allclose(x, golden["group_head_linear_grad_x"], atol=1e-5)
    np.testing.assert_allclose(kernel, golden["group_head_linear_grad_weight"].T, atol=1e-5)
    np.testing.assert_allclose(bias, golden["group_head_linear_grad_bias"], atol=1e-5)


@pytest.mark.parametrize(("kind", "total"), [("linear", 11_300_160), ("normlinear", 11_299_904)])
def test_sizes_with_resnet18_are_those_of_the_official_network(kind, total):
    head = ProjectionHead(kind, 128, branches=2)
    head.build((None, 512))
    assert count_parameters("resnet18_cifar", 4) + head.count_params() == total


@pytest.mark.parametrize("kind", ["mlp", "normmlp"])
def test_branches_share_the_hidden_layer_alone(kind):
    keras.utils.set_random_seed(0)
    head = ProjectionHead(kind, 4, hidden=6, branches=2)
    x = np.random.RandomState(0).normal(size=(3, 5)).astype(np.float32)
    outs = head(x)
    hidden = np.maximum(x @ head.hidden.kernel + head.hidden.bias, 0)
    for layer, out in zip(head.last, outs, strict=True):
        if kind == "mlp":
            z = hidden @ layer.kernel + layer.bias
        else:
            w = np.asarray(layer.kernel)
            z = hidden / np.linalg.norm(hidden, axis=1, keepdims=True) @ (w / np.linalg.norm(w, axis=0))
        np.testing.assert_allclose(out, z / np.linalg.norm(z, axis=1, keepdims=True), atol=1e-5)
    assert not np.allclose(outs[0], outs[1])
    assert len(head.trainable_variables) == (6 if kind == "mlp" else 4)
    assert len({v.path for v in head.variables}) == len(head.variables)


def test_initial_values_are_pytorch_s():
    keras.utils.set_random_seed(1)
    head = ProjectionHead("linear", 400)
    head.build((None, 100))
    for variable in (head.last[0].kernel, head.last[0].bias):
        values = np.asarray(variable)
        assert np.abs(values).max() <= 0.1, "1 / sqrt(inputs)"
        assert values.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.1) and abs(values.mean()) < 0.01


def test_byol_mlp_is_linear_norm_relu_linear():
    keras.utils.set_random_seed(2)
    head = BatchNormMLP(8, 3)
    x = np.random.RandomState(3).normal(size=(6, 5)).astype(np.float32)
    out = head(x, training=True)
    z = x @ head.hidden.kernel + head.hidden.bias
    z = np.maximum((z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5), 0)
    np.testing.assert_allclose(out, z @ head.last.kernel, atol=1e-5)
    assert head.last.bias is None and BatchNormMLP(8, 3, last_bias=True).last.use_bias


def test_unit_of_zero_is_zero_and_unknown_heads_are_refused():
    np.testing.assert_array_equal(unit(tf.zeros([1, 3])), [[0, 0, 0]])
    with pytest.raises(InputError, match="head 'mpl'; one of 'linear', 'normlinear', 'mlp', 'normmlp'"):
        ProjectionHead("mpl")


def dynamic_head(golden, prefix="weights"):
    """A DynamicHead with the weights of a golden."""
    layer = DynamicHead(golden[f"{prefix}_dense2_bias"].size, golden[f"{prefix}_dense1_kernel"].shape[1])
    layer.build((None, golden[f"{prefix}_dense1_kernel"].shape[0]))
    layer.hidden.kernel.assign(golden[f"{prefix}_dense1_kernel"])
    layer.norm.gamma.assign(golden[f"{prefix}_bn_gamma"])
    layer.norm.beta.assign(golden[f"{prefix}_bn_beta"])
    layer.last.kernel.assign(golden[f"{prefix}_dense2_kernel"])
    layer.last.bias.assign(golden[f"{prefix}_dense2_bias"])
    return layer


def test_the_dynamic_head_is_the_official_one():
    g = np.load(PREDICTION)
    layer = dynamic_head(g)
    layer.norm.moving_mean.assign(g["weights_bn_moving_mean"])
    layer.norm.moving_variance.assign(g["weights_bn_moving_variance"])
    words, features = tf.constant(g["vocabulary"], tf.float32), tf.constant(g["student_features"], tf.float32)
    for training, suffix in ((True, ""), (False, "_eval_after")):
        predictors = layer(words, training=training)
        np.testing.assert_allclose(predictors, g[f"generated_words{suffix}"], atol=5e-6)
        logits = tf.matmul(float(g["kappa"]) * features, predictors, transpose_b=True)
        np.testing.assert_allclose(logits, g[f"logits{suffix}"], atol=5e-6 * np.abs(g["logits"]).max())
    np.testing.assert_allclose(layer.norm.moving_mean, g["bn_moving_mean_after"], atol=5e-6)
    np.testing.assert_allclose(layer.norm.moving_variance, g["bn_moving_variance_after"], atol=5e-6)


def test_the_dynamic_head_treats_words_alike_and_as_constants():
    layer = DynamicHead(6)
    layer.build((None, 4))
    assert layer.hidden.units == 12 and not layer.hidden.use_bias and layer.last.use_bias
    words = tf.random.stateless_normal([9, 4], [1, 2])
    with tf.GradientTape() as tape:
        tape.watch(words)
        out = layer(words, training=True)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1.0, atol=1e-5)
    assert tape.gradient(out, words) is None
    order = [3, 1, 8, 0, 2, 7, 5, 4, 6]
    np.testing.assert_allclose(layer(tf.gather(words, order), training=True), out.numpy()[order], atol=1e-5)
    np.testing.assert_allclose(layer(words * 7.0, training=True), out, atol=1e-5)  # their lengths do not matter
