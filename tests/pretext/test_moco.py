"""MoCo's whole steps against the official numbers, by themselves and with CLD; what its options change."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones.normalisation import BatchNorm
from revisit_ssl.distribute import get_strategy, replica_id, to_numpy
from revisit_ssl.errors import InputError
from revisit_ssl.pretext.cld import CLDSpec
from revisit_ssl.pretext.losses import info_nce_logits
from revisit_ssl.pretext.moco import MoCo, MoCoOptions
from revisit_ssl.pretext.target import momentum_update
from revisit_ssl.testing import tiny_backbone
from revisit_ssl.training.optimizers import MomentumSGD

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"


class OfVectors(MoCo):
    """MoCo whose views are given: {"views": float32 [B, n, d]}. Keeps the first query's logits of the last step."""

    def objective(self, queries, keys, groups):
        self.logits = info_nce_logits(queries[0], keys[0], self.queue.features, self.options.temperature)
        return super().objective(queries, keys, groups)

    def cut(self, batch, seed):
        return {"image": batch["views"]}

    def augment(self, images, seed, view=0, **changes):
        return images


def identity(inputs):
    """A network without weights."""
    x = keras.Input((inputs,))
    return keras.Model(x, {"pre_logits": keras.layers.Identity(name="pre_logits")(x)})


def dense_norm_relu(inputs, units):
    x = keras.Input((inputs,))
    y = keras.layers.Dense(units, use_bias=False, name="trunk")(x)
    y = keras.layers.ReLU(name="pre_logits")(BatchNorm(momentum=0.9, epsilon=1e-5, name="bn")(y))
    return keras.Model(x, {"pre_logits": y})


def compiled(model, rate=1.0, momentum=0.0, weight_decay=0.0):
    model.compile(optimizer=MomentumSGD(rate, momentum, weight_decay, exclude=(), decay="all"))
    model.optimizer.build(model.trainable_variables)
    return model


def fill(variables, golden):
    """Assigns {path ending: array}; every name must be found once."""
    for name, value in golden.items():
        (v,) = [v for v in variables if v.path.endswith(name)]
        v.assign(value)


def assert_close(variables, golden, atol):
    for name, value in golden.items():
        (v,) = [v for v in variables if v.path.endswith(name)]
        np.testing.assert_allclose(v, value, rtol=0, atol=atol * max(1, np.abs(value).max()), err_msg=name)


MLP = {"hidden/kernel": "dense1_kernel", "hidden/bias": "dense1_bias"} | {
    "branch1/kernel": "dense2_kernel",
    "branch1/bias": "dense2_bias",
}
TRUNK = {"trunk/kernel": "trunk_kernel"} | {
    f"bn/{name}": f"bn_{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")
}


def test_four_steps_are_the_official_ones():
    g = np.load(GOLDENS / "moco" / "training_4_steps.npz")
    names = TRUNK | {path: f"head_{name}" for path, name in MLP.items()}
    options = MoCoOptions(
        head="mlp", units=6, temperature=float(g["temperature"]), momentum=float(g["momentum_encoder"]), queue_size=12
    )
    model = OfVectors(dense_norm_relu(7, 10), options=options)
    compiled(model, float(g["learning_rate"]), float(g["sgd_momentum"]), float(g["weight_decay"]))
    query = [*model.backbone.weights, *model.head.weights]
    key = [*model.target.weights, *model.target_head.weights]
    fill(query, {path: g[f"initial_query_{name}"] for path, name in names.items()})
    fill(key, {path: g[f"initial_key_{name}"] for path, name in names.items()})
    model.queue.rings.assign(g["queue_initial"][None])
    model.queue.pointer.assign(g["pointer_initial"])
    for i in range(4):
        views = np.stack([g["steps_input_query"][i], g["steps_input_key"][i]], axis=1).astype(np.float32)
        model.trackers["loss"].reset_state()
        assert float(model.train_step({"views": tf.constant(views)})["loss"]) == pytest.approx(
            float(g["steps_loss"][i]), rel=5e-6
        )
        expected = g["steps_logits"][i]
        np.testing.assert_allclose(model.logits, expected, rtol=0, atol=5e-6 * np.abs(expected).max())
        np.testing.assert_allclose(model.queue.features, g["steps_queue_after"][i], rtol=0, atol=5e-6)
        assert int(model.queue.pointer.value) == g["steps_pointer_after"][i]
    assert_close(query, {path: g[f"final_query_{name}"] for path, name in names.items()}, 5e-6)
    assert_close(key, {path: g[f"final_key_{name}"] for path, name in names.items()}, 5e-6)


def test_the_mlp_head_s_step_is_the_official_one():
    g = np.load(GOLDENS / "moco" / "v2_mlp_head.npz")
    options = MoCoOptions(
        head="mlp", units=8, temperature=float(g["temperature"]), momentum=float(g["momentum"]), queue_size=16
    )
    model = compiled(OfVectors(identity(12), options=options))
    before = {path: g[f"query_{name}"] for path, name in MLP.items()}
    fill(model.head.weights, before)
    fill(model.target_head.weights, {path: g[f"key_{name}"] for path, name in MLP.items()})
    model.queue.rings.assign(g["queue_before"][None])
    features, keys = (tf.constant(g[f"trunk_features_{name}"], tf.float32) for name in ("query", "key"))
    logs = model.train_step({"views": tf.stack([features, keys], axis=1)})
    assert float(logs["loss"]) == pytest.approx(float(g["loss"]), rel=5e-6)
    np.testing.assert_allclose(model.logits, g["logits"], rtol=0, atol=5e-6 * np.abs(g["logits"]).max())
    np.testing.assert_allclose(model.queue.features, g["queue_after"], rtol=0, atol=5e-6)
    # One step of rate 1 goes down by the gradient.
    after = {path: before[path] - g[f"grad_wrt_query_{name}"] for path, name in MLP.items()}
    assert_close(model.head.weights, after, 5e-6)
    assert_close(model.target_head.weights, {path: g[f"key_after_{name}"] for path, name in MLP.items()}, 5e-6)

    fill(model.head.weights, before)
    hidden = tf.nn.relu(model.head.hidden(features))
    np.testing.assert_allclose(hidden, g["query_hidden_after_relu"], rtol=0, atol=5e-6)
    np.testing.assert_allclose(model.head.last[0](hidden), g["query_output_raw"], rtol=0, atol=5e-6)
    model.queue.rings.assign(g["queue_before"][None])
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss, _ = model.objective([model.head(features)[0]], [model.encode_keys(keys, 0)], [])
    np.testing.assert_allclose(tape.gradient(loss, features), g["grad_wrt_trunk_features_query"], rtol=0, atol=5e-6)


@pytest.mark.parametrize("case", ["asymmetric", "symmetric"])
def test_the_notebook_s_step_is_the_official_one(case):
    g = np.load(GOLDENS / "moco" / "demo_symmetric_loss.npz")
    symmetric = case == "symmetric"
    options = MoCoOptions(
        units=6, temperature=float(g["temperature"]), momentum=float(g["momentum"]), queue_size=16, symmetric=symmetric
    )
    model = compiled(OfVectors(identity(9), options=options))
    names = {"branch1/kernel": "kernel", "branch1/bias": "bias"}
    fill(model.head.weights, {path: g[f"query_{name}"] for path, name in names.items()})
    fill(model.target_head.weights, {path: g[f"key_{name}_before"] for path, name in names.items()})
    model.queue.rings.assign(g["queue_before"][None])
    views = np.stack([g["view1"], g["view2"]], axis=1).astype(np.float32)
    logs = model.train_step({"views": tf.constant(views)})
    assert float(logs["loss"]) == pytest.approx(float(g[f"{case}_loss"]), rel=5e-6)
    np.testing.assert_allclose(model.queue.features, g[f"{case}_queue_after"], rtol=0, atol=5e-6)
    assert int(model.queue.pointer.value) == g[f"{case}_pointer_after"]
    after = {path: g[f"query_{name}"] - g[f"{case}_grad_wrt_query_{name}"] for path, name in names.items()}
    assert_close(model.head.weights, after, 5e-6)
    assert_close(model.target_head.weights, {path: g[f"key_{name}_after"] for path, name in names.items()}, 5e-6)


def test_the_steps_with_cld_are_the_official_ones():
    g = np.load(GOLDENS / "cld" / "moco_cld_steps.npz")
    cld = CLDSpec(
        weight=float(g["lambda_cld"]),
        groups=int(g["k"]),
        iterations=int(g["n_iter"]),
        temperature=float(g["temperature_group"]),
    )
    options = MoCoOptions(units=8, temperature=float(g["temperature_instance"]), queue_size=20, cld=cld)
    model = MoCo(identity(8), options=options)
    model.queue.rings.assign(g["queue_initial"][None])
    for i in range(4):
        q1, q2, key, g1, g2 = (
            tf.constant(g[f"{name}_step{i + 1}"])
            for name in ("query_view1", "query_view2", "key", "group_view1", "group_view2")
        )
        for query, view in ((q1, "view1"), (q2, "view2")):
            logits = info_nce_logits(query, key, model.queue.features, options.temperature)
            np.testing.assert_allclose(logits, g[f"logits_{view}_step{i + 1}"], rtol=0, atol=1e-5 / options.temperature)
        share = tf.reduce_mean(tf.nn.softmax(logits)[:, 0])  # of the second view, the last one
        assert float(share) == pytest.approx(float(g["positive_prob_view2"][i]), abs=1e-5)
        inputs = [q1, q2, g1, g2]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss, scalars = model.objective([q1, q2], [key, key], [g1, g2])
        assert float(loss) == pytest.approx(float(g["total_loss"][i]), abs=1e-5)
        assert float(scalars["cld"]) == pytest.approx(float(g["cld_loss"][i]), abs=1e-5)
        assert float(scalars["group_accuracy"]) * 100 == pytest.approx(float(g["group_acc_percent"][i]))
        for gradient, name in zip(
            tape.gradient(loss, inputs), ("query_view1", "query_view2", "group_view1", "group_view2"), strict=True
        ):
            np.testing.assert_allclose(gradient, g[f"grad_{name}_step{i + 1}"], rtol=0, atol=1e-5)
        model.queue.enqueue(key)
        np.testing.assert_array_equal(model.queue.features, g["queue_after_step"][i])
        assert int(model.queue.pointer.value) == g["queue_pointer_after_step"][i]


def test_the_target_of_the_cifar_script_follows_the_optimiser():
    g = np.load(GOLDENS / "cld" / "moco_cld_steps.npz")

    class One(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.w = self.add_weight(shape=(3, 4), name="w")
            self.built = True

    online, target = One(), One()
    target.w.assign(g["ema_source_initial"])
    for after, expected in zip(g["ema_source_after_step"], g["ema_after_step"], strict=True):
        online.w.assign(after)  # what the optimiser makes of it
        momentum_update(target, online, float(g["ema_momentum"]))
        np.testing.assert_allclose(target.w, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("when", ["before", "after"])
def test_when_the_target_is_updated(when):
    model = compiled(OfVectors(identity(5), options=MoCoOptions(units=4, queue_size=8, update_target=when)))
    kernel, copy = (head.last[0].kernel for head in (model.head, model.target_head))
    kernel.assign(kernel + 0.3)
    m, start = 0.999, {"online": to_numpy(kernel), "target": to_numpy(copy)}
    views = tf.random.stateless_normal([3, 2, 5], [1, 2])
    model.train_step({"views": views})
    source = start["online"] if when == "before" else to_numpy(kernel)
    np.testing.assert_allclose(copy, m * start["target"] + (1 - m) * source, rtol=0, atol=1e-7)
    used = to_numpy(copy) if when == "before" else start["target"]
    keys = views[:, 1].numpy() @ used + to_numpy(model.target_head.last[0].bias)
    if when == "after":  # the bias has moved since
        bias = (to_numpy(model.target_head.last[0].bias) - (1 - m) * to_numpy(model.head.last[0].bias)) / m
        keys = views[:, 1].numpy() @ used + bias
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    np.testing.assert_allclose(model.queue.features[:3], keys, rtol=0, atol=1e-5)


CLD = CLDSpec(weight=0.5, groups=3, iterations=3)


def trained_on_vectors(options, strategy):
    """[(path, weight)] of a MoCo after two steps on 8 triples of vectors."""
    views = tf.random.stateless_normal([8, 3, 6], [1, 2])
    strategy = get_strategy(strategy)
    each = 8 // strategy.num_replicas_in_sync
    with strategy.scope():
        keras.utils.set_random_seed(0)
        model = compiled(OfVectors(identity(6), options=options))

    def step():
        return model.train_step({"views": tf.gather(views, replica_id() * each + tf.range(each))})["loss"]

    for _ in range(2):
        strategy.run(step)
    return [(v.path, to_numpy(v)) for v in model.weights]


def with_cld(**changes):
    return MoCoOptions(head="mlp", units=4, hidden=8, queue_size=12, cld=dataclasses.replace(CLD, **changes))


@pytest.fixture(scope="module")
def in_chunks():
    """Weights of one device: {chunks of its batch: of ``trained_on_vectors``}."""
    return {chunks: trained_on_vectors(with_cld(chunks=chunks), "none") for chunks in (1, 2)}


@pytest.mark.parametrize("scope", ["global", "local"])
def test_groups_of_replicas(scope, in_chunks):
    # Local groups of two replicas are those of two chunks on one device; global ones those of the whole batch.
    two = trained_on_vectors(with_cld(scope=scope), "mirrored")
    one, other = (in_chunks[chunks] for chunks in ((1, 2) if scope == "global" else (2, 1)))
    for (path, a), (_, b) in zip(one, two, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5, err_msg=path)
    assert max(np.abs(b - a).max() for (_, a), (_, b) in zip(one, other, strict=True)) > 1e-2, "the groups matter"


def test_bad_options():
    for options, words in [
        ({"momentum": 1.5}, "momentum 1.5 must lie in"),
        ({"temperature": 0.0}, "temperature 0.0 must be above 0"),
        ({"queue_size": 0}, "queue_size 0"),
        ({"symmetric": True, "crops": 3}, "symmetric has two crops"),
        ({"crops": 2, "cld": CLD}, "CLD compares two"),
    ]:
        with pytest.raises(InputError, match=words):
            MoCoOptions(**options)
    model = MoCo(identity(4), options=MoCoOptions(queue_size=8))
    with pytest.raises(InputError, match="16 keys of a step do not fit into task.queue_size 8"):
        model.check_batch(16)
    assert [MoCoOptions(**o).views for o in ({}, {"cld": CLD}, {"crops": 3}, {"symmetric": True, "cld": CLD})] == [
        2,
        3,
        3,
        2,
    ]


def test_what_is_exported_has_the_projection():
    model = MoCo(tiny_backbone(1, input_shape=(12, 12, 3)), options=MoCoOptions(head="normmlp", units=4, cld=CLD))
    images = tf.random.stateless_uniform([2, 12, 12, 3], [1, 2])
    out = model.exported(images)
    np.testing.assert_allclose(np.linalg.norm(out["projection"], axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(out["projection"], model.head(out["pre_logits"])[0])
    assert out["projection"].shape == (2, 4) and "block4" in out
