"""DeeperCluster, DeepCluster, RotNet: official losses and sampling, the outer cycle, restarts."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.data import open_source, train_batches
from revisit_ssl.distribute import get_strategy, to_numpy
from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.pretext import deepercluster
from revisit_ssl.pretext.sub_heads import SubHeads, natural_order, new_values, super_class_loss, uniform_order
from revisit_ssl.testing.pretext import small_recipe
from revisit_ssl.training.build import build_pretext, compile_pretext, open_pretraining, plan_steps
from revisit_ssl.training.loop import segments, train
from revisit_ssl.training.optimizers import LARS, MomentumSGD
from revisit_ssl.views.geometry import quarter_turns, rotations

ROOT = pathlib.Path(__file__).parents[2]
GOLDENS = ROOT / "tests" / "goldens" / "deepercluster"


# --- the loss


def official(head_grad):
    """(objective, scalars, {name: gradient}) on the official inputs, which are laid out by super-class."""
    data = dict(np.load(GOLDENS / "loss_16_super_classes.npz"))
    groups, each, _ = data["input"].shape
    x = data["input"].transpose(1, 0, 2).reshape(groups * each, -1)  # ours: row i is of super-class i % 16
    labels = tf.constant(data["sub_class_label"].T.reshape(-1))
    trunk = [tf.Variable(data["trunk_kernel"]), tf.Variable(data["trunk_bias"])]
    head = keras.layers.Dense(groups)
    head.build((None, 8))
    head.set_weights([data["super_head_kernel"], data["super_head_bias"]])
    sub = SubHeads(groups, 8, 5)
    sub.set_weights([data["sub_head_kernels"], data["sub_head_biases"]])
    with tf.GradientTape() as tape:
        features = tf.nn.relu(x @ trunk[0] + trunk[1])
        objective, scalars = super_class_loss(features, labels, head, sub, groups, head_grad)
    variables = [*trunk, *(v.value for v in (*head.weights, *sub.weights))]
    names = ("trunk_kernel", "trunk_bias", "super_kernel", "super_bias", "sub_kernels", "sub_biases")
    return data, scalars, dict(zip(names, tape.gradient(objective, variables), strict=True)), sub


def test_the_loss_and_its_gradients_are_the_official_ones():
    data, scalars, gradients, sub = official("group_mean")
    assert float(scalars["loss"]) == pytest.approx(float(data["total_loss"]), abs=1e-5)
    assert float(scalars["sub_loss"]) == pytest.approx(data["sub_loss_per_super_class"].mean(), abs=1e-5)
    assert float(scalars["super_loss"]) == pytest.approx(data["super_loss_per_super_class"].mean(), abs=1e-5)
    assert 100 * float(scalars["accuracy"]) == pytest.approx(data["precision_percent_per_super_class"].mean(), abs=1e-3)
    for ours, theirs in {
        "trunk_kernel": "grad_trunk_kernel", "trunk_bias": "grad_trunk_bias", "super_kernel": "grad_super_head_kernel",
        "super_bias": "grad_super_head_bias", "sub_kernels": "grad_sub_head_kernels_official",
        "sub_biases": "grad_sub_head_biases_official",
    }.items():
        np.testing.assert_allclose(gradients[ours], data[theirs], atol=1e-5, err_msg=ours)
    # One step of PyTorch's SGD: w - lr (g + wd w).
    optimizer = MomentumSGD(float(data["lr"]), weight_decay=float(data["weight_decay"]), decay="all")
    optimizer.apply([gradients["sub_kernels"]], [sub.kernel])
    np.testing.assert_allclose(sub.kernel, data["sub_head_kernels_after_one_step"], atol=1e-5)


def test_the_paper_s_formula_gives_the_heads_a_sixteenth_of_that():
    data, scalars, ours, _ = official("global_mean")
    _, official_scalars, theirs, _ = official("group_mean")
    np.testing.assert_allclose(ours["sub_kernels"], data["grad_sub_head_kernels_paper_formula"], atol=1e-6)
    np.testing.assert_allclose(16 * ours["sub_kernels"], theirs["sub_kernels"], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(ours["trunk_kernel"], theirs["trunk_kernel"], atol=1e-6)
    assert float(scalars["loss"]) == pytest.approx(float(official_scalars["loss"]))


def test_one_super_class_of_one_cluster_is_refused():
    with pytest.raises(InputError, match="tells nothing apart"):
        super_class_loss(tf.zeros([4, 2]), tf.zeros([4], tf.int64), None, None, 1)


@pytest.mark.parametrize("start", ["torch", "normal"])
def test_new_heads_have_the_first_values_of_their_code(start):
    sub = SubHeads(3, 400, 50)
    kernel, bias = (np.asarray(v) for v in new_values(sub.weights, 400, 7, start))
    if start == "torch":
        assert max(np.abs(kernel).max(), np.abs(bias).max()) <= 0.05
        assert kernel.std() == pytest.approx(0.05 / 3**0.5, rel=0.02)
    else:
        assert kernel.std() == pytest.approx(0.01, rel=0.02) and not bias.any()


# --- the order of images


def test_clusters_are_drawn_alike_however_many_images_they_hold():
    data = dict(np.load(GOLDENS / "uniform_sampler.npz"))
    labels, total, draws = data["labels"], int(data["total"]), int(data["draws_per_label_before_cut"])
    found = uniform_order(labels, total, np.random.default_rng(0))
    counts = np.bincount(labels[found], minlength=9)
    cut = draws * len(data["nonempty_labels"]) - total
    held = data["nonempty_labels"]
    assert len(found) == total and counts.sum() == total and not counts[2]
    assert (counts[held] <= draws).all() and (counts[held] >= draws - cut).all()
    for label, replaced, size in zip(held, data["with_replacement"], data["size_of_label"], strict=True):
        mine = found[labels[found] == label]
        assert replaced == (size <= draws)
        if not replaced:
            assert len(np.unique(mine)) == len(mine)
        assert len(np.unique(mine)) <= size


def test_images_without_a_label_are_never_drawn():
    found = uniform_order(np.array([-1, 0, -1, 1, 1]), 40, np.random.default_rng(1))
    assert set(found) == {1, 3, 4}
    with pytest.raises(InputError, match="holds no image"):
        uniform_order(np.array([-1, -1]), 4, np.random.default_rng(1))


def test_sampling_that_leaves_frequencies_as_they_are():
    members = np.array([0, -1, 0, 0, 5, 0, -1, 0, 0])
    found = natural_order(members, 16, np.random.default_rng(0))
    counts = np.bincount(found, minlength=9)
    assert len(found) == 16 and not counts[members < 0].any()
    assert set(counts[members >= 0]) == {2, 3}, "7 images, 16 draws"
    assert len(set(natural_order(members, 7, np.random.default_rng(1)))) == 7
    with pytest.raises(InputError, match="holds no image"):
        natural_order(np.array([-1]), 2, np.random.default_rng(0))


def test_quarter_turns_are_rows_of_all_rotations():
    images = tf.random.stateless_uniform([8, 5, 5, 3], [0, 1])
    np.testing.assert_array_equal(quarter_turns(images), rotations(images).numpy()[[4 * i + i % 4 for i in range(8)]])
    with pytest.raises(InputError, match="multiple of 4"):
        quarter_turns(images[:6])
    with pytest.raises(InputError, match="square"):
        quarter_turns(images[:, :4])


def test_batches_follow_a_given_order():
    source = open_source("digits", "train")
    order = np.random.default_rng(0).integers(source.num_examples, size=source.num_examples // 32 * 32)
    options = {"batch_size": 32, "crops": {}, "seed": 0, "order": order}
    steps = len(order) // 32
    batches = iter(train_batches(source, start_step=7 * steps + 3, **options))
    np.testing.assert_array_equal(next(batches)["index"], order[96:128])
    halves = train_batches(source, start_step=7 * steps + 3, replicas=2, **options).take(2)
    np.testing.assert_array_equal(np.concatenate([half["index"] for half in halves]), order[96:128])
    stream = dataclasses.replace(source, kind="stream", images=None)
    with pytest.raises(InputError, match="front to back"):
        train_batches(stream, **options)


def test_every_epoch_has_a_call_of_its_own_where_images_are_drawn():
    plan = plan_steps(small_recipe("deepercluster", max_steps=200, epochs=5), open_source("digits", "train"))
    n = plan.per_epoch
    assert n > 60 and segments(5, plan, alone=True)[:2] == [(5, n - 5, 1), (n, n, 1)]
    assert len(segments(0, plan)) < len(segments(0, plan, alone=True))


# --- the outer cycle


def built(name="deepercluster", **changes):
    recipe = small_recipe(name, **changes)
    source = open_pretraining(recipe)
    model = build_pretext(recipe, source)
    compile_pretext(model, recipe, plan_steps(recipe, source))
    return model, recipe, source


def test_a_clustering_gives_labels_and_new_heads():
    model, recipe, source = built()
    assert model.begin_epoch(0, source)
    before = [np.asarray(v) for v in model.sub_heads.weights]
    velocities = [model.optimizer.momentums[model.optimizer._get_variable_index(v)] for v in model.trainable_variables]
    for velocity in velocities:
        velocity.assign(tf.ones_like(velocity))
    assert model.begin_epoch(1, source) and not model.begin_epoch(1, source)
    upper, lower = to_numpy(model.clustering.labels).T
    assert set(upper) == {0, 1} and lower.min() == 0 and lower.max() == 3
    assert all(not np.array_equal(b, v) for b, v in zip(before, model.sub_heads.weights, strict=True))
    for variable, velocity in zip(model.trainable_variables, velocities, strict=True):
        assert np.all(velocity.numpy() == (0 if "head" in variable.path else 1)), variable.path
    # The labels are those of the centroids, PCA and all.
    c = model.clustering
    features = model.backbone(source.images[:50] / np.float32(255) * 2 - 1)["pre_logits"].numpy()
    white = (features - to_numpy(c.mean)) @ to_numpy(c.directions)
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    near = ((white[:, None] - to_numpy(c.upper)) ** 2).sum(-1).argmin(1)
    inside = ((white[:, None] - to_numpy(c.lower)[near]) ** 2).sum(-1).argmin(1)
    assert np.mean((near == upper[:50]) & (inside == lower[:50])) > 0.95
    facts = {k: float(v) for k, v in c.scalars().items()}
    assert facts["used"] > 0.8 and 0 < facts["largest"] < 1 and facts["nmi_before"] > 0.1 and facts["purity"] > 0.1


def test_the_order_has_each_super_class_in_its_rows():
    model, recipe, source = built()
    model.begin_epoch(0, source)
    order = model.epoch_order(0, 640)
    upper = to_numpy(model.clustering.labels)[:, 0]
    np.testing.assert_array_equal(upper[order].reshape(-1, 8), np.tile([0] * 4 + [1] * 4, (80, 1)))
    np.testing.assert_array_equal(order, model.epoch_order(0, 640))
    assert (order != model.epoch_order(1, 640)).any()


@pytest.mark.slow
def test_with_classes_as_clusters_it_learns_them(monkeypatch):
    """Clusters that are the classes, each in two random halves: what is told apart then are the classes, with heads
    that start anew every epoch. Labels that had lost their images would leave chance, 1 in 10."""

    def classes(model, source, epoch, folder=None):
        halves = np.random.default_rng(epoch).integers(2, size=source.num_examples)
        labels = np.stack([np.zeros_like(halves), 2 * source.labels + halves], axis=1)
        model.clustering.labels.assign(labels.astype(np.int64))
        model.clustering.epoch.assign(epoch + 1)

    monkeypatch.setattr(deepercluster, "recluster", classes)
    recipe = get_recipe(
        "deepercluster", "smoke", backbone="resnet18", task__super_clusters=1, task__rotations=1, task__clusters=20,
        task__every=1, epochs=4, max_steps=None, batch_size=32,
    )
    source = open_pretraining(recipe)
    model = build_pretext(recipe, source)
    compile_pretext(model, recipe, plan_steps(recipe, source))
    train(model, recipe, source, plan_steps(recipe, source), 0, get_strategy("none"), [])
    parts = np.split(source.images[:480] / np.float32(255) * 2 - 1, 15)  # of a step's size, which oneDNN has room for
    features = tf.concat([model.backbone(part)["pre_logits"] for part in parts], 0)
    found = model.sub_heads(features[:, None])[:, 0].numpy().argmax(axis=-1) // 2
    assert np.mean(found == source.labels[:480]) > 0.6


@pytest.mark.parametrize(("every", "due"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4]), (3, [0, 3])])
def test_clusters_are_made_anew_every_so_many_epochs(every, due):
    model, _, source = built(task__every=every, task__iterations=1, task__clusters=4)
    assert [epoch for epoch in range(5) if model.begin_epoch(epoch, source)] == due


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"task__super_clusters": 1, "task__clusters": 1}, {"super_loss"}),  # RotNet
        ({"task__super_clusters": 1, "task__rotations": 1}, {"sub_loss"}),  # DeepCluster
        ({"task__rotations": 1, "task__clusters": 2}, {"super_loss"}),  # coarse clusters alone
        ({"task__empty": "same_donor", "task__init": "first_shard"}, {"super_loss", "sub_loss"}),
        ({"task__head_grad": "global_mean"}, {"super_loss", "sub_loss"}),
    ],
)
def test_the_corners_train(changes, parts):
    model, recipe, source = built(**changes)
    train(model, recipe, source, plan_steps(recipe, source), 0, get_strategy("none"), [])
    assert {"super_loss", "sub_loss"} & set(model.trackers) == parts
    assert all(np.isfinite(float(tracker.result())) for tracker in model.trackers.values())
    if "task__clusters" in changes and changes["task__clusters"] == 1:
        assert not to_numpy(model.clustering.labels).any()


def test_deepclusters_head_has_no_momentum():
    model, recipe, source = built("deepcluster")
    kept = {v.path: keep for v, keep in zip(model.trainable_variables, model.optimizer.keeps, strict=True)}
    assert {path for path, keep in kept.items() if keep == 0} == {v.path for v in model.sub_heads.trainable_variables}
    assert model.super_head is None and model.options.super_classes == 1
    for kind in (MomentumSGD, LARS):
        w = keras.Variable([1.0], name="sub_heads")
        optimizer = kind(0.1, momentum=0.9, without_momentum=("sub_heads",))
        steps = []
        for _ in range(2):
            before = float(w.numpy()[0])
            optimizer.apply([tf.constant([1.0])], [w])
            steps.append(before - float(w.numpy()[0]))
        assert steps == pytest.approx([0.1, 0.1], rel=1e-5)


@pytest.mark.parametrize("copies", [1, 4])
def test_rotnet_sees_one_rotation_of_an_image_or_all(copies):
    model, recipe, source = built("rotnet", task__copies=copies)
    assert model.rows_per_image == copies
    train(model, recipe, source, plan_steps(recipe, source), 0, get_strategy("none"), [])
    assert np.isfinite(float(model.trackers["loss"].result()))


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("deepercluster", {"task__dim_pca": 99}, "task.dim_pca 99 is more than the 16 values of pre_logits; lower it"),
        ("deepercluster", {"task__super_clusters": 3}, "task.clusters 8 do not divide over 3 super-clusters"),
        ("deepercluster", {"task__every": 0}, "task.every 0 must be at least 1"),
        ("deepercluster", {"task__eigenvalue_floor": 2.0}, "task.eigenvalue_floor 2.0 must lie in [0, 1]"),
        ("deepercluster", {"task__resize": 8}, "resize=8 must not be smaller than size=32"),
        ("deepcluster", {"task__clusters": 1}, "tells nothing apart"),
    ],
)
def test_options_that_do_not_fit_are_refused(name, changes, says):
    with pytest.raises(InputError) as caught:
        built(name, **changes)
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["deepercluster", "rotnet"])
def test_a_batch_that_does_not_divide_is_refused(name):
    model, _, _ = built(name)
    with pytest.raises(InputError, match="do not divide over"):
        model.check_batch(10)


def test_a_set_that_is_only_read_in_order_is_refused():
    recipe = small_recipe("deepcluster")
    source = dataclasses.replace(open_pretraining(recipe), kind="stream")
    with pytest.raises(InputError, match="deepcluster draws images by their cluster .* use a folder of images"):
        build_pretext(recipe, source)


def test_fc7_is_what_is_clustered():
    model, _, source = built("deepercluster", backbone="vgg16_bn", backbone_options=find_vgg(), width=1)
    assert model.endpoint == "fc7" and model.clustering.mean.shape == (16,)
    model.begin_epoch(0, source)


def find_vgg():
    from revisit_ssl.backbones import fit_options

    return fit_options("vgg16_bn", sobel=True, fc=16)
