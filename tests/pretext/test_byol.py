"""BYOL's loss, gradients, statistics and target against OpenSelfSup's and DeepMind's numbers; with CLD."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.pretext.byol import BYOL, BYOLOptions
from revisit_ssl.pretext.cld import CLDSpec
from revisit_ssl.pretext.losses import byol_loss
from revisit_ssl.testing import tiny_backbone
from revisit_ssl.training.optimizers import MomentumSGD

GOLDEN = pathlib.Path(__file__).parents[1] / "goldens" / "cld" / "byol.npz"
FC = {"fc1_weight": "hidden/kernel", "fc1_bias": "hidden/bias", "fc2_weight": "last/kernel", "fc2_bias": "last/bias"}
NAMES = FC | {"bn_weight": "hidden_norm/gamma", "bn_bias": "hidden_norm/beta"}
MOVING = {"bn_running_mean": "hidden_norm/moving_mean", "bn_running_var": "hidden_norm/moving_variance"}


class OfVectors(BYOL):
    """BYOL whose views are given: {"views": float32 [B, 2, d]}."""

    def cut(self, batch, seed):
        return {"image": batch["views"]}

    def augment(self, images, seed, view=0, **changes):
        return images


def identity(inputs):
    """A network without weights."""
    x = keras.Input((inputs,))
    return keras.Model(x, {"pre_logits": keras.layers.Identity(name="pre_logits")(x)})


def parts_of(model):
    """The golden's name of each part: the part."""
    return {
        "online_projector": model.projector,
        "predictor": model.predictor,
        "target_projector": model.target_projector,
    }


def found(layer, name):
    (v,) = [v for v in layer.weights if v.path.endswith(name)]
    return v


def compiled(model, rate=1.0, steps=10):
    model.compile(optimizer=MomentumSGD(rate, 0.0, 0.0))
    model.optimizer.build(model.trainable_variables)
    model.total_steps = steps
    return model


@pytest.fixture
def official():
    """(model with the official values, golden)"""
    g = np.load(GOLDEN)
    options = BYOLOptions(
        hidden=16, units=10, last_bias=True, momentum=float(g["ema_momentum"]), momentum_schedule="constant"
    )
    model = compiled(OfVectors(identity(12), options=options))
    for part, layer in parts_of(model).items():
        for name, path in NAMES.items():
            value = g[f"param_{part}_{name}"]
            found(layer, path).assign(value.T if "fc" in name else value)
    return model, g


def test_loss_and_gradients_are_the_official_ones(official):
    model, g = official
    views = [tf.constant(g[f"backbone_features_view{i}"]) for i in (1, 2)]
    targets = [model.target_projector(view, training=True) for view in views]
    parts = {"online_projector": model.projector, "predictor": model.predictor}
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(views)
        predictions, groups = zip(*[model.predict_target(view) for view in views], strict=True)
        loss, scalars = model.objective(predictions, targets, groups)
    assert float(loss) == pytest.approx(float(g["loss_plus_4"]), abs=1e-5)
    assert float(loss) - 4 == pytest.approx(float(g["loss"]), abs=1e-5)
    assert float(scalars["instance"]) == float(loss)
    for i in (1, 2):
        gradient = tape.gradient(loss, views[i - 1])
        np.testing.assert_allclose(gradient, g[f"grad_backbone_features_view{i}"], rtol=0, atol=1e-5)
    for part, layer in parts.items():
        for name, path in NAMES.items():
            gradient = tape.gradient(loss, found(layer, path).value).numpy()
            expected = g[f"grad_{part}_{name}"]
            expected = expected.T if "fc" in name else expected
            np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-5, err_msg=f"{part} {name}")


def test_a_step_is_the_official_one(official):
    # One step of rate 1 goes down by the gradient; each network moves its own statistics, view 1 first.
    model, g = official
    views = np.stack([g["backbone_features_view1"], g["backbone_features_view2"]], axis=1)
    logs = model.train_step({"views": tf.constant(views)})
    assert float(logs["loss"]) == pytest.approx(float(g["loss_plus_4"]), abs=1e-5)
    m = float(g["ema_momentum"])
    for part, layer in parts_of(model).items():
        for name, path in MOVING.items():
            expected = g[f"after_forward_{part}_{name}"]
            np.testing.assert_allclose(found(layer, path), expected, rtol=0, atol=1e-6, err_msg=f"{part} {name}")
        for name, path in NAMES.items():
            before = g[f"param_{part}_{name}"]
            if part == "target_projector":  # the official update is from online values before the step: take it off
                expected = g[f"after_ema_{part}_{name}"] - (1 - m) * g[f"grad_online_projector_{name}"]
            else:
                expected = before - g[f"grad_{part}_{name}"]
            expected = expected.T if "fc" in name else expected
            np.testing.assert_allclose(found(layer, path), expected, rtol=0, atol=1e-5, err_msg=f"{part} {name}")


def test_the_target_follows_as_the_official_one(official):
    model, g = official
    model.update_target(0)
    for name, path in NAMES.items():
        expected = g[f"after_ema_target_projector_{name}"]
        expected = expected.T if "fc" in name else expected
        np.testing.assert_allclose(found(model.target_projector, path), expected, rtol=0, atol=1e-6)


def test_the_loss_of_given_vectors():
    g = np.load(GOLDEN)
    prediction, target = tf.constant(g["plain_prediction"]), tf.constant(g["plain_target"])
    with tf.GradientTape() as tape:
        tape.watch(prediction)
        loss = byol_loss(prediction, target)
    assert float(loss) == pytest.approx(g["plain_loss_two_minus_2cos_per_sample"].mean(), abs=1e-5)
    assert float(loss) - 2 == pytest.approx(float(g["plain_loss_minus_2cos"]), abs=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, prediction), g["plain_grad_prediction"], rtol=0, atol=1e-5)


def test_momentum_rises_to_one():
    # 1 - (1 - 0.9) (1 + cos(pi k / 4)) / 2 after steps k = 0..3 of 4, of the weights that the step has made.
    model = compiled(OfVectors(identity(6), options=BYOLOptions(hidden=4, units=3, momentum=0.9)), steps=4)
    views = tf.random.stateless_normal([5, 2, 6], [1, 2])
    for k in range(4):
        before = found(model.target_projector, "hidden/kernel").numpy()
        model.train_step({"views": views})
        m = 1 - 0.1 * (1 + np.cos(np.pi * k / 4)) / 2
        expected = m * before + (1 - m) * found(model.projector, "hidden/kernel").numpy()
        np.testing.assert_allclose(found(model.target_projector, "hidden/kernel"), expected, rtol=0, atol=1e-6)
    assert found(model.target_projector, "hidden_norm/moving_mean").numpy().any(), "its statistics are its own"


CLD = CLDSpec(weight=0.5, groups=3, iterations=3)


@pytest.mark.parametrize("group_head", ["linear", "normlinear"])
def test_cld_has_a_branch_on_the_projector_s_hidden_layer(group_head):
    options = BYOLOptions(hidden=8, units=4, group_head=group_head, cld=CLD)
    model = compiled(OfVectors(identity(6), options=options))
    plain = BYOL(identity(6), options=dataclasses.replace(options, cld=CLDSpec()))
    extra = 8 * 4 + (4 if group_head == "linear" else 0)
    assert model.count_params() == plain.count_params() + extra, "the group branch is the online network's alone"
    views = tf.random.stateless_normal([5, 2, 6], [1, 2])
    before = found(model.group, "kernel").numpy()
    logs = model.train_step({"views": views})
    assert float(logs["loss"]) == pytest.approx(float(logs["instance"]) + 0.5 * float(logs["cld"]), rel=1e-6)
    assert not np.array_equal(before, found(model.group, "kernel"))


def test_a_shared_branch_is_the_projection():
    options = BYOLOptions(hidden=8, units=4, cld=dataclasses.replace(CLD, branch="shared"))
    model = compiled(OfVectors(identity(6), options=options))
    x = tf.random.stateless_normal([5, 6], [1, 2])
    _, group = model.predict_target(x)
    projection = model.projector(x, training=True)
    # Few hidden units may all be silent on a row; such a row has no direction and stays zero.
    length = np.maximum(np.linalg.norm(projection, axis=1, keepdims=True), 1e-6)
    np.testing.assert_allclose(group, projection / length, rtol=1e-5)
    assert (np.linalg.norm(group, axis=1) > 0.99).sum() >= 3


def test_what_is_exported_and_what_is_refused():
    model = BYOL(tiny_backbone(1, input_shape=(12, 12, 3)), options=BYOLOptions(hidden=8, units=4))
    images = tf.random.stateless_uniform([2, 12, 12, 3], [1, 2])
    out = model.exported(images)
    projection = model.projector(out["pre_logits"])
    expected = projection / tf.norm(projection, axis=1, keepdims=True)
    np.testing.assert_allclose(out["projection"], expected, rtol=1e-5)
    with pytest.raises(InputError, match="momentum 1.01 must lie in"):
        BYOLOptions(momentum=1.01)
    with pytest.raises(InputError, match="units 0"):
        BYOLOptions(units=0)
