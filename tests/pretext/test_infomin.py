"""InfoMin's jigsaw head and steps with CLD against the official numbers; its patches, its queue."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.pretext.cld import CLDSpec
from revisit_ssl.pretext.infomin import InfoMin, InfoMinOptions, JigsawHead
from revisit_ssl.pretext.losses import info_nce_logits
from revisit_ssl.recipe import ViewSpec
from revisit_ssl.testing import tiny_backbone

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "cld"


def official_head(g, kind, prefix):
    """A JigsawHead with the values of the golden, whose linear layers are [out, in]."""
    deep, normed = kind.endswith("mlp"), kind == "normmlp"
    last = "fc1_2" if deep else "fc1"
    features = g[f"{prefix}fc1_0_weight" if deep else f"{prefix}fc1_weight"].shape[1]
    head = JigsawHead(kind, 8, features if deep else None)
    head.build((None, features))
    layers = {last: head.each, "fc2": head.joint} | ({"fc1_0": head.hidden} if deep else {})
    for name, layer in layers.items():
        kernel = g[f"{prefix}{name}_weight"]
        layer.kernel.assign(kernel if normed and name != "fc1_0" else kernel.T)
        if f"{prefix}{name}_bias" in g:
            layer.bias.assign(g[f"{prefix}{name}_bias"])
        assert (f"{prefix}{name}_bias" in g) == hasattr(layer, "bias")
    return head


def order_of(rows):
    """[B, 9] from the golden's row numbers of the whole batch."""
    rows = rows.reshape(-1, 9)
    return rows - 9 * np.arange(len(rows))[:, None]


@pytest.mark.parametrize("kind", ["linear", "mlp", "normmlp"])
def test_the_jigsaw_head_is_the_official_one(kind):
    g = np.load(GOLDENS / "infomin_jigsaw_head.npz")
    head = official_head(g, kind, f"head_{kind}_param_")
    features, order = tf.constant(g[f"head_{kind}_patch_features"]), order_of(g[f"head_{kind}_gather_rows"])
    with tf.GradientTape() as tape:
        tape.watch(features)
        out = head(features, order)
        loss = tf.reduce_sum(out * g[f"head_{kind}_cotangent"])
    np.testing.assert_allclose(out, g[f"head_{kind}_out"], rtol=0, atol=1e-5)
    expected = g[f"head_{kind}_grad_patch_features"]
    np.testing.assert_allclose(tape.gradient(loss, features), expected, rtol=0, atol=1e-5)


def identity(inputs):
    """A network without weights, of images of any size."""
    x = keras.Input((None, None, inputs))
    return keras.Model(x, {"pre_logits": keras.layers.GlobalAveragePooling2D(name="pre_logits")(x)})


@pytest.mark.parametrize("case", ["legacy", "single"])
def test_the_steps_with_cld_are_the_official_ones(case):
    g = np.load(GOLDENS / "infomin_cld_steps.npz")
    cld = CLDSpec(
        weight=float(g["lambda_cld"]),
        groups=int(g["k"]),
        iterations=int(g["n_iter"]),
        temperature=float(g["temperature_group"]),
    )
    options = InfoMinOptions(
        units=8,
        temperature=float(g["temperature_instance"]),
        jigsaw_weight=float(g["beta"]),
        queue_size=10,
        cld=cld,
        legacy_double_enqueue=case == "legacy",
    )
    model = InfoMin(identity(12), options=options, views=ViewSpec(size=32))
    model.jigsaw_head = official_head(g, "normmlp", "jig_param_")
    model.queue.rings.assign(g["queue_initial"][None])
    for i in range(2):
        q1, q2, key, g1, g2, patches = (
            tf.constant(g[name][i])
            for name in ("query_view1", "query_view2", "key", "group_view1", "group_view2", "jig_patch_features")
        )
        # The loss pairs each query with its own key; the ring takes the keys in the official order.
        written = tf.constant(g["legacy_keys_as_enqueued"][i]) if case == "legacy" else key
        negatives = model.negatives(written)
        with tf.GradientTape() as tape:
            tape.watch([patches, q1, q2, g1, g2])
            jigsaw = model.jigsaw_head(patches, order_of(g["jig_gather_rows"][i]))
            loss, _ = model.objective([q1, q2], key, negatives, jigsaw, [g1, g2])
        np.testing.assert_allclose(jigsaw, g["jig_query"][i], rtol=0, atol=1e-5)
        assert float(loss) == pytest.approx(float(g[f"{case}_total_loss"][i]), abs=1e-5)
        first, second = ("_first_call", "_second_call") if case == "legacy" else ("", "")
        for query, rows, name in (
            (q1, negatives[0], "view1"),
            (q2, negatives[1], "view2"),
            (jigsaw, negatives[0], f"jig{first}"),
            (jigsaw, negatives[1], f"jig{second}"),
        ):
            logits = info_nce_logits(query, key, rows, options.temperature)
            expected = g[f"{case}_logits_{name}"][i]
            np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 / options.temperature, err_msg=name)
        names = ["query_view1", "query_view2", "jig_query"]
        inputs = dict(zip(names, (q1, q2, jigsaw), strict=True))
        expected = {name: g[f"{case}_grad_{name}"][i] for name in names}
        if case == "legacy":
            inputs |= {"group_view1": g1, "group_view2": g2, "jig_patch_features": patches}
            expected |= {name: g[f"grad_{name}"][i] for name in ("group_view1", "group_view2")}
            expected["jig_patch_features"] = g["legacy_grad_jig_patch_features"][i]
        gradients = tape.gradient(loss, inputs)
        for name, value in expected.items():
            np.testing.assert_allclose(gradients[name], value, rtol=0, atol=1e-5, err_msg=name)
        model.queue.enqueue(written)
        np.testing.assert_array_equal(model.queue.features, g[f"{case}_queue_after_step"][i])
        assert int(model.queue.pointer.value) == g[f"{case}_pointer_after_step"][i]


def test_sizes_of_the_patches():
    assert (InfoMinOptions().cell(224), InfoMinOptions().patch(224)) == (85, 64), "the published ones"
    assert (InfoMinOptions().cell(64), InfoMinOptions().patch(64)) == (24, 18)
    assert (InfoMinOptions().cell(32), InfoMinOptions().patch(32)) == (12, 9)
    assert InfoMinOptions(jigsaw_size=48, patch_size=12).cell(32) == 16
    model = InfoMin(identity(3), options=InfoMinOptions(queue_size=8), views=ViewSpec(size=224))
    crop = model.crops["jigsaw"]
    assert (crop.size, crop.scale, crop.count) == (255, (0.6, 1.0), 1)
    assert model.crops["image"].count == 2
    assert "jigsaw" not in InfoMin(identity(3), options=InfoMinOptions(queue_size=8, jigsaw_weight=0.0)).crops


def test_patches_come_from_their_cells_and_are_not_coloured():
    # Each cell has a colour of its own, so that a patch says where it was cut; the flip reverses the columns.
    options = InfoMinOptions(queue_size=8, jigsaw_size=24, patch_size=5)
    colours = np.arange(9, dtype=np.float32).reshape(3, 3) / 10
    image = np.kron(colours, np.ones((8, 8), np.float32))
    crops = tf.constant(np.broadcast_to(image[None, :, :, None], (20, 24, 24, 3)).copy())
    views = ViewSpec(size=32, color="jitter", gray_probability=1.0, normalize="none")
    model = InfoMin(identity(3), options=options, views=views)
    patches = model.patches(crops, (1, 2)).numpy()
    assert patches.shape == (180, 5, 5, 3)
    seen = patches.reshape(20, 9, -1)
    np.testing.assert_array_equal(seen.min(-1), seen.max(-1))
    straight, flipped = colours.ravel(), colours[:, ::-1].ravel()
    kinds = [np.array_equal(row, straight) for row in seen[:, :, 0]]
    assert all(k or np.array_equal(row, flipped) for k, row in zip(kinds, seen[:, :, 0], strict=True))
    assert 0 < sum(kinds) < 20


def test_where_beta_is_0_there_is_no_jigsaw_branch():
    options = InfoMinOptions(units=4, queue_size=8, jigsaw_weight=0.0)
    model = InfoMin(identity(3), options=options)
    assert not hasattr(model, "jigsaw_head") and "jigsaw_accuracy" not in model.trackers
    q, k = (tf.math.l2_normalize(tf.random.stateless_normal([5, 4], [1, i]), axis=1) for i in range(2))
    loss, scalars = model.objective([q], k, [model.queue.features], None, [])
    # -log e^(q.k/T) / (e^(q.k/T) + sum_j e^(q.n_j/T)), typed from the formula.
    n, t = model.queue.features.numpy(), 0.15
    terms = []
    for a, b in zip(q.numpy(), k.numpy(), strict=True):
        positive = np.exp(a @ b / t)
        terms.append(-np.log(positive / (positive + np.exp(n @ a / t).sum())))
    assert float(loss) == pytest.approx(np.mean(terms), abs=1e-5) and float(scalars["instance"]) == float(loss)


def test_what_is_exported_and_what_is_refused():
    cld = CLDSpec(weight=0.5, groups=2)
    views = ViewSpec(size=32)
    model = InfoMin(
        tiny_backbone(1, input_shape=(None, None, 3)), options=InfoMinOptions(units=4, queue_size=8), views=views
    )
    images = tf.random.stateless_uniform([2, 32, 32, 3], [1, 2])
    out = model.exported(images)
    np.testing.assert_allclose(np.linalg.norm(out["projection"], axis=1), 1.0, atol=1e-5)
    for options, words in [
        ({"jigsaw_weight": 1.5}, "jigsaw_weight 1.5 must lie in"),
        ({"crops": 2, "cld": cld}, "CLD compares two"),
        ({"legacy_double_enqueue": True}, "of two queries"),
        ({"patch_size": 3}, "patch_size 3"),
    ]:
        with pytest.raises(InputError, match=words):
            InfoMinOptions(**options)
    with pytest.raises(InputError, match="patch_size 20 is more than the 12 pixels of a cell"):
        InfoMin(identity(3), options=InfoMinOptions(queue_size=8, patch_size=20), views=views)
    with pytest.raises(InputError, match="takes images of 32 pixels alone"):
        InfoMin(tiny_backbone(1, input_shape=(32, 32, 3)), options=InfoMinOptions(queue_size=8), views=views)
