"""One suite for every pretext: what a registry line promises.

Runs on two convolutions over digits (32 px): trains; XLA and two replicas give the numbers of one device;
bfloat16 stays close; every shape is static; the backbone survives its file.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import load_backbone
from revisit_ssl.data import open_source
from revisit_ssl.distribute import get_strategy
from revisit_ssl.papers import get_recipe
from revisit_ssl.pretext import PRETEXTS
from revisit_ssl.training.build import build_pretext, compile_pretext, plan_steps
from revisit_ssl.training.checkpoints import load_checkpoint, save_checkpoint
from revisit_ssl.training.loop import train

TRAINED = sorted(name for name, pretext in PRETEXTS.items() if pretext.trains)
STEPS = 2
# The methods that can carry CLD carry it here. Fewer groups than rows, and of the rows of all replicas: then two
# replicas have to give the numbers of one device.
CLD = {"task__cld__weight": 1.0, "task__cld__groups": 3, "task__cld__scope": "global"}
OPTIONS = dict.fromkeys(("npid", "moco", "byol", "infomin"), CLD)
# In BYOL's second step a row lies so near between two groups that rounding decides: there each row is its own.
OPTIONS["byol"] = CLD | {"task__cld__groups": 8}
# What gathers over replicas (queue, keys, groups) is the same code under either norm: the slow ones show it once.
SLOW = ("moco", "byol", "infomin", "obow", "bownet", "moco_v2_multicrop")
NORMS = {name: ("sync",) if name in SLOW else ("sync", "none") for name in TRAINED}

# These cut as Exemplar or OBoW does, whose crops come from the host too.
CUT_ON_DEVICE = ("npid", "moco", "simclr", "byol", "infomin", "bownet", "moco_v2_multicrop")
SHAPES = [(on, name) for name in TRAINED for on in ("device", "host") if on == "device" or name not in CUT_ON_DEVICE]


def tiny(pretext, **changes):
    small = {"backbone": "tiny", "strides": None, "max_steps": STEPS, "batch_size": 8, "optimizer__warmup_epochs": 0.0}
    small |= OPTIONS.get(pretext, {})
    return get_recipe(pretext, "smoke", **{**small, **changes})


@pytest.fixture(scope="module")
def digits():
    return open_source("digits", "train")


def trained(recipe, source, strategy="none", xla=False):
    """(weights before, weights after, last logs)"""
    strategy = get_strategy(strategy)
    plan = plan_steps(recipe, source)
    with strategy.scope():
        model = build_pretext(recipe, source)
        compile_pretext(model, recipe, plan, xla)
    before = [np.asarray(w) for w in model.weights]
    train(model, recipe, source, plan, 0, strategy, model.callbacks(source))
    logs = {name: float(tracker.result()) for name, tracker in model.trackers.items()}
    return model, before, logs


@pytest.fixture(scope="module")
def on_one_device(digits):
    """{(pretext, norm): trained} so that the reference run of each test is made once."""
    made = {}

    def get(pretext, norm="batch"):
        if (pretext, norm) not in made:
            made[pretext, norm] = trained(tiny(pretext, norm=norm), digits)
        return made[pretext, norm]

    return get


def assert_same_weights(model, other, rtol, atol):
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol, err_msg=a.path)


@pytest.mark.parametrize("pretext", TRAINED)
def test_trains(pretext, on_one_device):
    model, before, logs = on_one_device(pretext)
    assert all(np.isfinite(value) for value in logs.values())
    moved = [not np.array_equal(b, np.asarray(w)) for b, w in zip(before, model.weights, strict=True)]
    assert np.mean(moved) > 0.9, "most weights should move within two steps"


@pytest.mark.parametrize(("pretext", "norm"), [(name, norm) for name in TRAINED for norm in NORMS[name]])
def test_two_replicas_equal_one_device(pretext, norm, digits, on_one_device):
    one, _, logs = on_one_device(pretext, norm)
    two, _, logs2 = trained(tiny(pretext, norm=norm), digits, "mirrored")
    assert_same_weights(one, two, rtol=2e-3, atol=2e-5)
    assert logs2["loss"] == pytest.approx(logs["loss"], rel=1e-3)


@pytest.mark.parametrize("pretext", TRAINED)
def test_xla_equals_the_plain_graph(pretext, digits, on_one_device):
    plain, _, logs = on_one_device(pretext)
    compiled, _, logs2 = trained(tiny(pretext), digits, xla=True)
    assert_same_weights(plain, compiled, rtol=5e-3, atol=5e-5)
    assert logs2["loss"] == pytest.approx(logs["loss"], rel=1e-3)


@pytest.mark.parametrize("pretext", TRAINED)
def test_bfloat16_is_close_and_keeps_float32_weights(pretext, digits, on_one_device):
    _, _, logs = on_one_device(pretext)
    model, _, logs2 = trained(tiny(pretext, precision="mixed_bfloat16"), digits)
    assert {w.dtype for w in model.trainable_variables} == {"float32"}
    assert logs2["loss"] == pytest.approx(logs["loss"], rel=0.1)


@pytest.mark.parametrize(("cut_on", "pretext"), SHAPES)
def test_every_shape_is_static(pretext, cut_on, on_one_device):
    # A TPU compiles for fixed shapes; a dynamic one shows here as an unknown dimension in the traced graph.
    model, _, _ = on_one_device(pretext)
    crops = {name: tf.TensorSpec([8, c.count, c.size, c.size, 3], tf.uint8) for name, c in model.crops.items()}
    spec = {
        **({"image": tf.TensorSpec([8, 32, 32, 3], tf.uint8)} if cut_on == "device" else crops),
        "label": tf.TensorSpec([8], tf.int64),
        "index": tf.TensorSpec([8], tf.int64),
    }
    graph = tf.function(model.train_step).get_concrete_function(spec).graph
    # Fused BatchNorm's last output (and the zeros of its gradient) is scratch space of the CPU and GPU kernels alone.
    scratch = {t.name for op in graph.get_operations() if op.type == "FusedBatchNormV3" for t in op.outputs[5:]}
    operations = [
        op for op in graph.get_operations() if not scratch & {t.name for t in op.inputs if op.type == "ZerosLike"}
    ]
    tensors = [t for op in operations for t in op.outputs if t.name not in scratch]
    dynamic = [t.name for t in tensors if t.dtype.is_floating and not t.shape.is_fully_defined()]
    assert len(tensors) > 100 and not dynamic, dynamic[:5]


@pytest.mark.parametrize("pretext", TRAINED)
def test_steps_see_new_views_and_the_same_seed_sees_the_same(pretext, on_one_device, digits):
    model, _, _ = on_one_device(pretext)
    batch = {"image": tf.constant(digits.images[:8])}
    first, again, later = (model.cut(batch, seed)["image"].numpy() for seed in ((0, 1), (0, 1), (0, 2)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)


@pytest.mark.parametrize("pretext", TRAINED)
def test_a_checkpoint_holds_all_that_the_next_steps_depend_on(pretext, digits, tmp_path):
    # To the bit in a process of its own (tests/test_training.py); here every pretext, to rounding.
    recipe = tiny(pretext, max_steps=4)
    whole, _, _ = trained(recipe, digits)
    plan = plan_steps(recipe, digits)
    first, second = (build_pretext(recipe, digits) for _ in range(2))
    for model in (first, second):
        compile_pretext(model, recipe, plan)
    train(first, recipe, digits, dataclasses.replace(plan, total=2), 0, get_strategy("none"), first.callbacks(digits))
    step = load_checkpoint(save_checkpoint(tmp_path, first, 2), second)
    train(second, recipe, digits, plan, step, get_strategy("none"), second.callbacks(digits))
    assert_same_weights(whole, second, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("pretext", sorted(PRETEXTS))
def test_backbone_survives_its_file(pretext, tmp_path, digits):
    model = build_pretext(tiny(pretext), digits)
    path = str(tmp_path / "backbone.keras")
    model.backbone.save(path)
    images = tf.random.stateless_uniform([2, 32, 32, 3], [1, 2])
    ours, theirs = model.backbone(images), load_backbone(path)(images)
    for name in ours:
        np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(theirs[name]))


def test_gradient_is_that_of_the_mean_over_replicas(digits):
    # Not divided by the number of replicas, two replicas would take a step exactly twice as long.
    recipe = tiny("rotation", norm="none", max_steps=1, optimizer__momentum=0.0, optimizer__weight_decay=0.0)
    steps = []
    for strategy in ("none", "mirrored"):
        model, before, _ = trained(recipe, digits, strategy)
        steps.append(np.concatenate([(np.asarray(w) - b).ravel() for w, b in zip(model.weights, before, strict=True)]))
    assert np.linalg.norm(steps[1]) == pytest.approx(np.linalg.norm(steps[0]), rel=1e-3)


def test_a_recipe_decides_the_initial_weights(digits):
    a, b, c = (build_pretext(tiny("rotation", seed=seed), digits) for seed in (0, 0, 1))
    kernels = [np.asarray(m.backbone.weights[0]) for m in (a, b, c)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])
    assert dataclasses.replace(tiny("rotation", seed=1), seed=0) == tiny("rotation", seed=0)
