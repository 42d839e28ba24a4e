"""NPID: the official numbers of its losses, bank and CLD term, replicas, what its recipe refuses."""

import functools
import pathlib
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import get_backbone, load_backbone
from revisit_ssl.data import open_source
from revisit_ssl.distribute import get_strategy, replica_id, replicas, step_seed
from revisit_ssl.errors import InputError
from revisit_ssl.pretext.bank import MemoryBank
from revisit_ssl.pretext.cld import CLDSpec
from revisit_ssl.pretext.npid import NPID, NPIDOptions
from revisit_ssl.recipe import ViewSpec

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "cld"
VIEWS = ViewSpec(crop="resized", size=16, color="none", flip=False)


@pytest.fixture(scope="module")
def backbone():
    return get_backbone("tiny", 1, input_shape=(16, 16, 3))


def unit_rows(seed, *shape):
    x = np.random.RandomState(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def npid(backbone, bank, **options):
    model = NPID(backbone, len(bank), options=NPIDOptions(units=bank.shape[1], **options), views=VIEWS)
    model.bank.rows.assign(bank)
    return model


@functools.lru_cache(maxsize=1)  # a model's steps are traced once
def stepper(model, jit):
    """What ``step`` runs."""

    @tf.function(autograph=False, jit_compile=jit)
    def run(features, groups, index):
        with tf.GradientTape() as tape:
            tape.watch((features, groups))
            loss, scalars = model.objective(features, groups, index, (0, 1))
        gradients = tape.gradient(loss, [features, groups])
        model.bank.update(features[::-1], index)
        return loss, scalars, *gradients

    return run


def step(model, features, groups, index, jit=False):
    """(loss, scalars, gradients of each view's features, of each view's groups); then the bank is updated."""
    return stepper(model, jit)([tf.constant(f) for f in features], [tf.constant(g) for g in groups], tf.constant(index))


def test_one_view_is_the_official_linear_average(backbone):
    g = np.load(GOLDENS / "npid_softmax_one_view.npz")
    model = npid(
        backbone, g["bank_initial"], temperature=float(g["temperature"]), bank_momentum=float(g["bank_momentum"])
    )
    for i in range(3):
        features = g["features"][i]
        if i == 0:
            logits = features / float(g["temperature"]) @ model.bank.features.numpy().T
            np.testing.assert_allclose(logits, g["logits_step1"], rtol=1e-5, atol=1e-5)
        loss, scalars, (gradient,), _ = step(model, [features], [features], g["indices"][i])
        assert float(loss) == float(scalars["instance"]) == pytest.approx(float(g["loss"][i]), abs=1e-5)
        np.testing.assert_allclose(gradient, g["grad_features"][i], rtol=0, atol=1e-5)
        np.testing.assert_allclose(model.bank.features, g["bank_after_step"][i], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("semantics", "jit"), [("clean", False), ("legacy", False), ("legacy", True)])
def test_two_views_with_cld_are_the_official_script(semantics, jit, backbone):
    g = np.load(GOLDENS / "npid_softmax_two_views.npz")
    cld = CLDSpec(
        weight=float(g["lambda_cld"]),
        groups=int(g["k"]),
        iterations=int(g["n_iter"]),
        temperature=float(g["temperature_group"]),
    )
    model = npid(
        backbone,
        g["bank_initial"],
        temperature=float(g["temperature_instance"]),
        cld=cld,
        bank_momentum=float(g["bank_momentum"]),
        bank_semantics=semantics,
    )
    for i in range(3):
        features = [g["inst_view1"][i], g["inst_view2"][i]]
        groups = [g["group_view1"][i], g["group_view2"][i]]
        loss, scalars, of_features, of_groups = step(model, features, groups, g["indices"][i], jit)
        assert float(loss) == pytest.approx(float(g["total_loss"][i]), abs=1e-5)
        assert float(scalars["cld"]) == pytest.approx(float(g["cld_loss"][i]), abs=1e-5)
        instance = (g["inst_loss_view1"][i] + g["inst_loss_view2"][i]) / 2
        assert float(scalars["instance"]) == pytest.approx(float(instance), abs=1e-5)
        assert 100 * float(scalars["group_accuracy"]) == pytest.approx(float(g["group_acc_percent"][i]), abs=1e-4)
        for v in range(2):
            expected = g[f"{semantics}_grad_inst_view{v + 1}"][i]
            np.testing.assert_allclose(of_features[v], expected, rtol=0, atol=1e-5)
            np.testing.assert_allclose(of_groups[v], g[f"grad_group_view{v + 1}"][i], rtol=0, atol=1e-5)
        bank = g["bank_after_step" if semantics == "legacy" else "clean_bank_after_step"][i]
        np.testing.assert_allclose(model.bank.features, bank, rtol=0, atol=1e-6)


def test_legacy_gradient_is_the_softmax_on_the_new_rows(backbone):
    """Step by step in float64: (p - y) V' / T / 2B for view 1, V' with the rows that view 2 has written."""
    bank, t = unit_rows(0, 12, 5), 0.3
    f1, f2, index = unit_rows(1, 4, 5), unit_rows(2, 4, 5), np.array([7, 0, 11, 3])
    model = npid(backbone, bank, temperature=t, crops=2, bank_semantics="legacy", bank_momentum=0.4)
    loss, _, (first, second), _ = step(model, [f1, f2], [f1, f2], index)
    old = bank.astype(np.float64)
    new = old.copy()
    for row, f in zip(index, f2, strict=True):
        moved = 0.4 * old[row] + 0.6 * f
        new[row] = moved / np.linalg.norm(moved)
    total = 0
    for f, after, gradient in ((f1, new, first), (f2, old, second)):
        p = np.exp(f @ old.T / t)
        p /= p.sum(axis=1, keepdims=True)
        total -= np.log(p[np.arange(4), index]).mean() / 2
        p[np.arange(4), index] -= 1
        np.testing.assert_allclose(gradient, p @ after / t / 8, atol=1e-6)
    assert float(loss) == pytest.approx(total, rel=1e-6)


def test_nce_is_the_official_one(backbone):
    g = np.load(GOLDENS / "npid_nce.npz")
    negatives = g["negatives"]
    model = npid(
        backbone, g["bank_initial"], temperature=float(g["temperature"]), loss="nce", negatives=int(g["n_negatives"])
    )
    assert float(model.z.value) == 0
    for i in range(3):
        features, index = tf.constant(g["features"][i]), tf.constant(g["indices"][i])
        with tf.GradientTape() as tape:
            tape.watch(features)
            loss, probability = model.compare(features, index, tf.constant(negatives[i]))
        assert float(loss) == pytest.approx(float(g["loss"][i]), abs=1e-5)
        np.testing.assert_allclose(tape.gradient(loss, features), g["grad_features"][i], rtol=0, atol=1e-5)
        assert float(probability) == pytest.approx(g["probabilities"][i][:, 0].mean(), rel=1e-5)
        np.testing.assert_allclose(model.z.value, g["Z_used"][i], rtol=1e-5, err_msg="frozen after the first step")
        model.bank.update([features], index)
        np.testing.assert_allclose(model.bank.features, g["bank_after_step"][i], rtol=0, atol=1e-6)


def test_sampled_softmax_is_the_loop(backbone):
    bank, f, index = unit_rows(3, 20, 5), unit_rows(4, 3, 5), np.array([2, 19, 5])
    drawn = np.array([[0, 1, 2, 2], [3, 3, 4, 5], [6, 7, 8, 9]])
    model = npid(backbone, bank, temperature=0.2, negatives=4)
    terms = []
    for row, own, others in zip(f, index, drawn, strict=True):
        scores = np.exp([row @ bank[own] / 0.2, *(row @ bank[n] / 0.2 for n in others)])
        terms.append(-np.log(scores[0] / scores.sum()))
    loss, probability = model.compare(tf.constant(f), tf.constant(index), tf.constant(drawn))
    assert float(loss) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(probability) == pytest.approx(np.exp(-np.array(terms)).mean(), rel=1e-5)


def test_a_bank_moves_the_rows_of_a_batch_in_order_and_no_others():
    bank = MemoryBank(50, 6, momentum=0.3, seed=4)
    before = bank.features.numpy()
    assert np.abs(before).max() <= np.sqrt(3 / 6) and np.mean(before**2) == pytest.approx(1 / 6, rel=0.2)
    np.testing.assert_array_equal(before, MemoryBank(50, 6, seed=4).features)
    index, views = np.array([41, 3, 17]), [unit_rows(5, 3, 6), unit_rows(6, 3, 6)]
    bank.update([tf.constant(v) for v in views], tf.constant(index))
    after = bank.features.numpy()
    for place, row in enumerate(index):
        v = before[row].astype(np.float64)
        for view in views:
            v = 0.3 * v + 0.7 * view[place]
            v /= np.linalg.norm(v)
        np.testing.assert_allclose(after[row], v, atol=1e-6)
    others = np.setdiff1d(np.arange(50), index)
    np.testing.assert_array_equal(after[others], before[others])
    np.testing.assert_array_equal(bank.at(index), after[index])


@pytest.fixture(scope="module")
def digits():
    return open_source("digits", "train")


@pytest.mark.parametrize(
    "options",
    [
        {"bank_semantics": "legacy", "cld": CLDSpec(weight=0.5, groups=3, scope="global")},
        {"loss": "nce", "negatives": 7, "crops": 2},
    ],
    ids=["legacy_cld", "nce"],
)
def test_two_replicas_equal_one_device(options):
    """Loss, gradients, bank and Z of two steps; the contract suite has the whole step of the default options."""
    bank = unit_rows(7, 40, 6)
    features, groups = unit_rows(8, 2, 2, 8, 6), unit_rows(9, 2, 2, 8, 6)  # [step, view, B, d]
    index = np.random.RandomState(10).permutation(40)[:16].reshape(2, 8)
    results = {}
    for strategy in ("none", "mirrored"):
        strategy = get_strategy(strategy)
        n = strategy.num_replicas_in_sync
        with strategy.scope():
            model = npid(get_backbone("tiny", 1, input_shape=(16, 16, 3)), bank, **options)

        @tf.function(autograph=False)
        def run(features, groups, index, i, model=model, own=8 // n):
            first = replica_id() * own
            mine = [tf.ensure_shape(x[:, first : first + own], [2, own, 6]) for x in (features, groups)]
            rows = tf.ensure_shape(index[first : first + own], [own])
            features, groups = (tf.unstack(x) for x in mine)
            with tf.GradientTape() as tape:
                tape.watch((features, groups))
                loss, _ = model.objective(features, groups, rows, step_seed(5, i))
            share = tf.ones_like(loss) / replicas()
            gradients = tape.gradient(loss, [features, groups], share, tf.UnconnectedGradients.ZERO)
            model.bank.update(features[::-1], rows)
            return loss, tf.stack(gradients[0], 1), tf.stack(gradients[1], 1)  # [b, view, d]

        found = []
        for i in range(2):
            arguments = [tf.constant(x[i]) for x in (features, groups, index)]
            loss, *gradients = strategy.run(run, args=(*arguments, tf.constant(i, tf.int64)))
            local = strategy.experimental_local_results
            found.append(np.mean([part.numpy() for part in local(loss)]))
            found += [np.concatenate([part.numpy() for part in local(g)]) for g in gradients]
        copies = [part.numpy() for part in local(model.bank.rows.value)]
        assert len(copies) == n and all(np.array_equal(copies[0], copy) for copy in copies)
        assert np.any(copies[0] != bank, axis=1).sum() == 16, "two steps of eight images"
        results[n] = [*found, copies[0], *([np.asarray(model.z)] if "loss" in options else [])]
    for one, two in zip(results[1], results[2], strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)


def test_the_bank_s_rows_are_those_of_the_images(digits, backbone):
    model = NPID(backbone, digits.num_examples, options=NPIDOptions(temperature=1.0, bank_momentum=0.0), views=VIEWS)
    model.compile(optimizer=keras.optimizers.SGD(0.0), run_eagerly=True)
    index = np.array([900, 4, 33, 61])
    features = []
    update = model.bank.update

    def watched(views, index):
        features.extend(views)
        update(views, index)

    model.bank.update = watched
    logs = model.train_step({"image": tf.constant(digits.images[index]), "index": tf.constant(index)})
    np.testing.assert_allclose(model.bank.at(index), features[0], atol=1e-6)
    assert float(logs["instance"]) == float(logs["loss"]) == pytest.approx(np.log(1200), rel=0.05)
    assert float(logs["probability"]) == pytest.approx(1 / 1200, rel=0.3)


def test_exported_model_has_the_projection(backbone, tmp_path):
    model = NPID(backbone, 30, options=NPIDOptions(cld=CLDSpec(weight=1.0, groups=4)), views=VIEWS)
    assert len(model.head.last) == 2 and "projection" not in backbone.output
    images = np.random.RandomState(0).uniform(-1, 1, [3, 16, 16, 3]).astype(np.float32)
    path = str(tmp_path / "backbone.keras")
    model.exported.save(path)
    outputs = load_backbone(path)(images)
    expected = model.head(backbone(images)["pre_logits"])[0]
    np.testing.assert_allclose(outputs["projection"], expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(outputs["projection"], axis=1), 1, atol=1e-5)


def test_a_group_for_each_row_is_warned_of_once(backbone):
    def check(rows, **spec):
        options = NPIDOptions(cld=CLDSpec(weight=1.0, **spec))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            NPID(backbone, 300, options=options, views=VIEWS).check_batch(rows)
        return [str(w.message) for w in caught]

    assert check(256, groups=128) == []
    (message,) = check(64, groups=120)
    assert "cld.groups 120 for 64 rows" in message and "56 further logits of 0" in message
    (message,) = check(512, groups=64, chunks=8)
    assert "cld.groups 64 for 64 rows" in message
    with pytest.raises(InputError, match="cld.chunks 8 does not divide the 20 rows"):
        check(20, chunks=8)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"loss": "nce"}, "nce needs task.negatives"),
        ({"crops": 1, "cld": CLDSpec(weight=1.0)}, "CLD compares two; take 2"),
        ({"bank_semantics": "legacy"}, "legacy is of two views"),
        ({"bank_semantics": "legacy", "crops": 2, "negatives": 5}, "legacy is of the full softmax"),
        ({"temperature": 0.0}, "task.temperature 0.0 must be above 0"),
        ({"bank_momentum": 1.5}, r"task.bank_momentum 1.5 must lie in \[0, 1\]"),
    ],
)
def test_options_that_no_run_can_use(options, words):
    with pytest.raises(InputError, match=words):
        NPIDOptions(**options)


def test_two_views_are_taken_with_cld_or_where_asked_for(backbone):
    for options, count in [
        (NPIDOptions(), 1),
        (NPIDOptions(crops=2), 2),
        (NPIDOptions(cld=CLDSpec(weight=0.1)), 2),
    ]:
        assert NPID(backbone, 10, options=options, views=VIEWS).crops["image"].count == count


def test_pictures_show_the_views(backbone, digits):
    model = NPID(backbone, 10, options=NPIDOptions(crops=2), views=VIEWS)
    ((_, images, names),) = model.pictures({"image": tf.constant(digits.images[:6])})
    assert (
        images.shape == (8, 16, 16, 3) and names[:2] == ["view 1", "view 2"] and 0 <= images.min() <= images.max() <= 1
    )
