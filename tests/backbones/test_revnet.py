"""Reversible blocks: their formula, their inverse, and recomputation against plain backpropagation."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context  # the graph as it runs, after all optimisation, is not public

from revisit_ssl.backbones import revnet
from revisit_ssl.backbones.revnet import PadChannels, ReversibleBlock, revnet50
from revisit_ssl.distribute import get_strategy

OPTIONS = {"stem": "small", "input_shape": (32, 32, 3)}


@pytest.fixture(scope="module", autouse=True)
def few_units():
    """Blocks of one unit, and of several: the others repeat them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revnet, "UNITS", (2, 1, 2, 1))
        yield


@pytest.fixture(scope="module")
def plain_and_recomputing():
    keras.utils.set_random_seed(3)
    plain, recomputing = revnet50(1, **OPTIONS), revnet50(1, recompute=True, **OPTIONS)
    assert [v.path for v in plain.weights] == [v.path for v in recomputing.weights]
    return plain, recomputing, plain.get_weights()


def images(rows=8, channels=3):
    return tf.constant(np.random.default_rng(0).normal(size=(rows, 32, 32, channels)).astype(np.float32))


def loss_and_gradients(model, x, variables):
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = model(x, training=True)
        loss = tf.reduce_mean(outputs["pre_logits"] ** 2) + tf.reduce_mean(outputs["block2"] ** 3)
    return loss, tape.gradient(loss, [x, *variables])


def assert_close_gradients(ours, theirs, tolerance):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max() + 1e-12)


def test_recomputation_of_ghost_batches_equals_plain_backpropagation():
    results = []
    for recompute in (False, True):
        block, x = small_block(recompute, bn_group=2), block_input()
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_mean(block(x, training=True) ** 3)
        gradients = tape.gradient(loss, [x, *[v.value for v in block.trainable_variables]])
        results.append((gradients, [v.numpy() for v in block.non_trainable_variables]))
    assert_close_gradients(results[1][0], results[0][0], 1e-4)
    for ours, theirs in zip(results[1][1], results[0][1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_recomputation_equals_plain_backpropagation(plain_and_recomputing, graph):
    plain, recomputing, weights = plain_and_recomputing
    results = []
    for model in (plain, recomputing):
        model.set_weights(weights)
        step = tf.function(loss_and_gradients, autograph=False) if graph else loss_and_gradients
        loss, gradients = step(model, images(), [v.value for v in model.trainable_variables])
        results.append((loss, gradients, [v.numpy() for v in model.non_trainable_variables]))
    (loss, gradients, statistics), (loss2, gradients2, statistics2) = results
    np.testing.assert_allclose(loss2, loss, rtol=1e-6)
    assert_close_gradients(gradients2, gradients, 1e-4)
    moved = [v.path for v in plain.non_trainable_variables]
    initial = [value for v, value in zip(plain.weights, weights, strict=True) if v.path in moved]
    for ours, theirs, before in zip(statistics2, statistics, initial, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
        assert np.abs(ours - before).max() > 1e-4


def test_recomputation_in_inference_and_frozen(plain_and_recomputing):
    plain, recomputing, weights = plain_and_recomputing
    plain.set_weights(weights)
    recomputing.set_weights(weights)
    np.testing.assert_array_equal(recomputing(images())["pre_logits"], plain(images())["pre_logits"])
    block = ReversibleBlock(8, 2, recompute=True)
    x = images(2, 8)
    expected = block(x, training=True)
    for variable in block.weights:  # a target network: no variable to differentiate
        variable.trainable = False
    np.testing.assert_array_equal(block(x, training=True), expected)


def small_block(recompute, **options):
    keras.utils.set_random_seed(5)
    block = ReversibleBlock(16, 2, recompute=recompute, zeros=4, **options)
    block.build((None, None, None, 16))
    return block


def block_input():
    return PadChannels(4)(images(4, 8))


def test_recomputation_under_xla():
    results = []
    for recompute in (False, True):
        block = small_block(recompute)

        @tf.function(autograph=False, jit_compile=True)
        def step(x, block=block):
            variables = [v.value for v in block.trainable_variables]
            with tf.GradientTape() as tape:
                tape.watch(x)
                loss = tf.reduce_mean(block(x, training=True) ** 3)
            return tape.gradient(loss, [x, *variables])

        results.append((step(block_input()), [v.numpy() for v in block.non_trainable_variables]))
    assert_close_gradients(results[1][0], results[0][0], 1e-4)
    for ours, theirs in zip(results[1][1], results[0][1], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def count_convolutions(recompute, xla):
    """(convolutions after all optimisation, forward ones among them that wait for the gradient)."""
    block, x = small_block(recompute), block_input()

    @tf.function(autograph=False, jit_compile=xla)
    def step(x, upstream):
        variables = [v.value for v in block.trainable_variables]
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = block(x, training=True)
        return y, tape.gradient(y, [x, *variables], output_gradients=upstream)

    if xla:
        compiled = step.experimental_get_compiler_ir(x, x)(stage="optimized_hlo")
        # A 1x1 convolution may have become a matrix product; no other product is in the block.
        return len(re.findall(r" (?:convolution|dot)\(", compiled)), None
    context.context().enable_graph_collection()
    step(x, x)
    graphs = context.context().export_run_metadata().function_graphs
    context.context().disable_graph_collection()
    nodes = [node for graph in graphs for node in graph.post_optimization_graph.node]
    late = {node.name for node in nodes if node.name.startswith("upstream")}
    assert late
    for _ in nodes:
        more = {n.name for n in nodes if any(i.lstrip("^").split(":")[0] in late for i in n.input)} - late
        if not more:
            break
        late |= more
    convolutions = [node for node in nodes if "Conv2D" in node.op]
    return len(convolutions), sum(node.op == "Conv2D" and node.name in late for node in convolutions)


@pytest.mark.parametrize("xla", [False, True], ids=["graph", "xla"])
def test_compilers_keep_the_recomputation_apart_from_the_forward_pass(xla, monkeypatch):
    # Three convolutions in each of two branches; the output of the first branch's last one no gradient needs again.
    again = 2 * 3 - 1
    stored = 3 * 6  # forward, and the gradients of input and kernel
    total, late = count_convolutions(True, xla)
    assert total == stored + again
    assert late in (None, again), "recomputed before there is a gradient to use it for"
    # Without the dependency XLA merges a unit, and the plain graph recomputes as soon as the forward pass is over.
    monkeypatch.setattr(revnet, "_after", lambda gradient, x: x)
    total, late = count_convolutions(True, xla)
    assert total < stored + again if xla else late == 0


def test_recomputation_on_two_replicas_equals_one_device():
    x = block_input()

    def gradients(block, x):
        variables = [v.value for v in block.trainable_variables]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(block(x, training=True) ** 3)
        return tape.gradient(loss, variables)

    block = small_block(False)
    expected = gradients(block, x)
    strategy = get_strategy("mirrored")
    with strategy.scope():
        mirrored = small_block(True, norm="sync")

    @tf.function(autograph=False)
    def step():
        def replica():
            context = tf.distribute.get_replica_context()
            rows = context.replica_id_in_sync_group * 2
            return context.all_reduce("sum", gradients(mirrored, x[rows : rows + 2]))

        return [strategy.experimental_local_results(g)[0] for g in strategy.run(replica)]

    assert_close_gradients(step(), expected, 1e-4)
    for ours, theirs in zip(mirrored.non_trainable_variables, block.non_trainable_variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_unit_formula_and_swap():
    block = ReversibleBlock(8, 2)
    x = images(2, 8).numpy()
    y = block(x)
    f1, f2 = block.branches
    x1, x2 = x[..., :4], x[..., 4:]
    middle = x1 + f1(x2)
    np.testing.assert_allclose(y, np.concatenate([middle, x2 + f2(middle)], -1), rtol=1e-6)
    kernels = [tuple(v.shape) for v in f1.trainable_variables if v.path.endswith("kernel")]
    assert kernels == [(1, 1, 4, 1), (3, 3, 1, 1), (1, 1, 1, 4)]


@pytest.mark.parametrize("training", [False, True])
def test_inverse(plain_and_recomputing, training):
    model = plain_and_recomputing[0]
    for name in ("block1", "block3"):
        block = model.get_layer(name)
        x = tf.constant(np.random.default_rng(1).normal(size=(4, 8, 8, block.config["channels"])).astype(np.float32))
        before = [v.numpy() for v in block.non_trainable_variables]
        y = block(x, training=training)
        for variable, value in zip(block.non_trainable_variables, before, strict=True):
            variable.assign(value)
        assert np.abs(block.inverse(y, training=training) - x).max() < 1e-4
        for variable, value in zip(block.non_trainable_variables, before, strict=True):
            np.testing.assert_array_equal(variable, value)


def test_blocks_are_joined_by_pooling_and_zero_channels_on_both_sides(plain_and_recomputing):
    model = plain_and_recomputing[0]
    assert model.get_layer("block2").config["zeros"] == 32
    inner = keras.Model(model.input, [model.output["block1"], model.get_layer("block2_pad_channels").output])
    before, after = (np.asarray(a) for a in inner(images(2)))
    pooled = before.reshape(2, 8, 2, 8, 2, 64).mean((2, 4))
    np.testing.assert_allclose(after[..., 32:-32], pooled, atol=1e-6)
    assert not after[..., :32].any() and not after[..., -32:].any()


def test_stream_stays_float32_under_mixed_precision():
    x = block_input()
    results = []
    for recompute in (False, True):
        block = small_block(recompute, dtype="mixed_bfloat16")
        assert block.branches[0].convs[0].compute_dtype == "bfloat16"
        with tf.GradientTape() as tape:
            y = block(x, training=True)
            loss = tf.reduce_sum(y**2)
        assert y.dtype == tf.float32
        results.append(tape.gradient(loss, [v.value for v in block.trainable_variables]))
    assert_close_gradients(results[1], results[0], 1e-2)
    assert np.abs(block.inverse(y, training=True) - x).max() < 1e-2  # F itself is rounded to eight bits


def test_representation_size():
    model = revnet50(1, representation_size=96, **OPTIONS)
    assert model.output["pre_logits"].shape == (None, 96)
    assert model.count_params() - revnet50(1, **OPTIONS).count_params() == 512 * 96 + 4 * 96
    assert "revnet_representation/kernel" in [v.path for v in model.trainable_variables]
    assert np.min(model(images(2))["pre_logits"]) >= 0


def test_endpoints_after_the_pooling_are_half_as_large_and_twice_as_deep():
    before, after = (revnet50(1, input_shape=(64, 64, 3), endpoints_after_pool=flag) for flag in (False, True))
    shapes = [{name: tuple(x.shape[1:]) for name, x in model.output.items()} for model in (before, after)]
    assert shapes[0]["block1"] == (16, 16, 64) and shapes[1]["block1"] == (8, 8, 128)
    assert shapes[0]["block4"] == shapes[1]["block4"] == (2, 2, 512)
    after.set_weights(before.get_weights())
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    ours, theirs = before(images), after(images)
    np.testing.assert_array_equal(ours["pre_logits"], theirs["pre_logits"])
    pooled = np.asarray(ours["block1"]).reshape(2, 8, 2, 8, 2, 64).mean(axis=(2, 4))
    zeros = np.zeros([2, 8, 8, 32], np.float32)
    np.testing.assert_allclose(theirs["block1"], np.concatenate([zeros, pooled, zeros], axis=-1), rtol=1e-5, atol=1e-6)
