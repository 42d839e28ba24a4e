"""Every pretext keeps what a line in PRETEXTS promises (``testing.check_pretext``), and so does one of one's own."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.data import open_source
from revisit_ssl.pretext import PRETEXTS, Pretext
from revisit_ssl.pretext.losses import cross_entropy
from revisit_ssl.testing import check_pretext
from revisit_ssl.testing.pretext import PretextContract, checks_of, small_recipe
from revisit_ssl.training.build import build_pretext
from tests.conftest import give_memory_back


@pytest.fixture(scope="module")
def contract():
    """PretextContract of a name, so that the runs that checks compare with are made once; one is kept at a time."""
    made = {}

    def get(name):
        if name not in made:
            made.clear()
            give_memory_back()
            made[name] = PretextContract(name)
        return made[name]

    return get


CHECKS = [
    pytest.param(name, check, id=f"{name}-{check}")
    for name in sorted(PRETEXTS)
    for check in checks_of(name)
]


@pytest.mark.parametrize(("pretext", "check"), CHECKS)
def test_contract(pretext, check, contract):
    getattr(contract(pretext), check)()


def test_gradient_is_that_of_the_mean_over_replicas():
    # Not divided by the number of replicas, two replicas would take a step exactly twice as long.
    plain = {"backbone_options__norm": "none", "max_steps": 1}
    plain |= {"optimizer__momentum": 0.0, "optimizer__weight_decay": 0.0}
    contract, steps = PretextContract("rotation", small_recipe("rotation", **plain)), []
    for strategy in ("none", "mirrored"):
        model, before, _ = contract.trained({}, strategy)
        steps.append(np.concatenate([(np.asarray(w) - b).ravel() for w, b in zip(model.weights, before, strict=True)]))
    assert np.linalg.norm(steps[1]) == pytest.approx(np.linalg.norm(steps[0]), rel=1e-3)


def test_a_recipe_decides_the_initial_weights():
    recipes = [small_recipe("rotation", seed=seed) for seed in (0, 0, 1)]
    kernels = [np.asarray(build_pretext(r, open_source("digits", "train")).backbone.weights[0]) for r in recipes]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])
    assert dataclasses.replace(recipes[2], seed=0) == recipes[0]


class Brightness(Pretext):
    """Tell bright crops from dark ones: a pretext of one's own, in a screen."""

    def __init__(self, backbone, *, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        self.head = keras.layers.Dense(2, dtype="float32")
        self.head.build(backbone.output["pre_logits"].shape)
        self.seen = self.state()
        self.ready("loss")

    def state(self):
        options = {"trainable": False, "aggregation": "only_first_replica"}
        return self.add_weight(shape=(), initializer="zeros", name="seen", **options)

    def train_step(self, batch):
        seed = self.step_seed()
        images = self.augment(self.cut(batch, seed)["image"][:, 0], seed)
        with tf.GradientTape() as tape:
            logits = self.head(self.backbone(images, training=True)["pre_logits"])
            bright = tf.cast(tf.reduce_mean(images, axis=(1, 2, 3)) > -0.4, tf.int32)
            loss = cross_entropy(logits, bright) / (1.0 + tf.convert_to_tensor(self.seen))
        self.minimize(loss, tape)
        self.seen.assign_add(1.0)
        return self.report(loss=loss)


class Forgetful(Brightness):
    """The same with its state in a bare variable, which Keras neither tracks nor saves."""

    def state(self):
        return tf.Variable(0.0)


@pytest.fixture
def registered(monkeypatch):
    for name, pretext in (("brightness", Brightness), ("forgetful", Forgetful)):
        monkeypatch.setitem(PRETEXTS, name, pretext)


def test_a_pretext_of_ones_own_passes(registered):
    check_pretext("brightness")


def test_state_that_no_checkpoint_holds_is_found(registered):
    with pytest.raises(AssertionError):
        PretextContract("forgetful").check_checkpoint()
