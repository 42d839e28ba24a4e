"""SimCLR: its step is the formula on the features, in one pass of BatchNorm; evaluation, export, refusals."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import get_backbone
from revisit_ssl.errors import InputError
from revisit_ssl.pretext.simclr import SimCLR, SimCLROptions
from revisit_ssl.recipe import ViewSpec


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    backbone = get_backbone("tiny", 1, input_shape=(16, 16, 3))
    views = ViewSpec(crop="resized", size=16, color="none", flip=True)
    made = SimCLR(backbone, options=SimCLROptions(units=8, temperature=0.5), views=views, seed=3)
    made.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)
    return made


def images(count):
    return tf.constant(np.random.RandomState(0).randint(0, 256, [count, 20, 20, 3], dtype=np.uint8))


def formula(z, temperature):
    """(mean loss, share of hits) of rows whose positives are half the rows away."""
    n = len(z)
    s = np.exp(z @ z.T / temperature) * (1 - np.eye(n))
    positive = (np.arange(n) + n // 2) % n
    return -np.log(s[np.arange(n), positive] / s.sum(1)).mean(), np.mean(s.argmax(1) == positive)


def test_a_step_is_the_formula_on_both_views_in_one_pass(model):
    batch = {"image": images(6)}
    views = np.concatenate(model.views(batch, model.step_seed()))
    assert views.shape == (12, 16, 16, 3) and np.abs(views[:6] - views[6:]).max() > 0.1
    (z,) = model.head(model.backbone(views, training=True)["pre_logits"])
    loss, hits = formula(z.numpy().astype(np.float64), 0.5)
    logs = model.train_step(batch)
    assert float(logs["loss"]) == pytest.approx(loss, rel=1e-5)
    assert float(logs["accuracy"]) == pytest.approx(hits)
    model.reset_metrics()


def test_scores_are_of_fixed_views_in_batches_of_any_size(model):
    batch = {"image": tf.TensorSpec([None, 20, 20, 3], tf.uint8)}
    step = tf.function(model.test_step, input_signature=[batch], autograph=False)
    for count in (5, 3):
        model.reset_metrics()
        logs = step({"image": images(count)})
        z = np.asarray(model.project({"image": images(count)}, (3, 0), training=False), np.float64)
        loss, hits = formula(z, 0.5)
        assert float(logs["loss"]) == pytest.approx(loss, rel=1e-5) and float(logs["accuracy"]) == pytest.approx(hits)
    model.reset_metrics()


def test_exported_model_has_the_projection(model):
    x = np.random.RandomState(1).uniform(-1, 1, [2, 16, 16, 3]).astype(np.float32)
    outputs = model.exported(x)
    np.testing.assert_allclose(outputs["projection"], model.head(model.backbone(x)["pre_logits"])[0], atol=1e-6)


def test_bad_values(model):
    with pytest.raises(InputError, match="task.temperature 0 must be above 0"):
        SimCLROptions(temperature=0)
    with pytest.raises(InputError, match="simclr needs at least 2 images"):
        model.check_batch(1)
    with pytest.raises(InputError, match=r"bn_group 8 does not divide the 12 rows \(6 images\)"):
        model.check_batch(6, bn_group=8)
