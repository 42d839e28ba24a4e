"""OBoW's whole steps against the official numbers: losses, gradients, both networks, vocabularies, monitor; schedules;
what its options change; a run killed and resumed."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones.normalisation import BatchNorm
from revisit_ssl.distribute import to_numpy
from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.pretext.obow import OBoW, OBoWOptions
from revisit_ssl.pretext.target import cosine_momentum
from revisit_ssl.pretext.vocabulary_kinds import Queue
from revisit_ssl.recipe import ViewSpec
from revisit_ssl.training.checkpoints import load_checkpoint, save_checkpoint
from revisit_ssl.training.optimizers import MomentumSGD

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "obow"


class OfCrops(OBoW):
    """OBoW whose views are given, {"whole": [B, s, s, 3], "crops", "patches": [B, n, s, s, 3]}, and that keeps the
    logits and bags of a step."""

    def views(self, batch, seed, **changes):
        crops = {kind: tf.reshape(batch[kind], [-1, *batch[kind].shape[2:]]) for kind in self.counts}
        return batch["whole"], crops

    def objective(self, logits, bags):
        self.kept = logits, bags
        return super().objective(logits, bags)


class AtPlaces(Queue):
    """A vocabulary that takes its words at the places of ``taken``, one row for each step."""

    def places(self, seed, images, cells):
        row, self.taken = self.taken[0], self.taken[1:]
        return tf.constant(row, tf.int32)


def toy(channels, strides=(1, 1, 2)):
    """Blocks of 3x3 convolution, BatchNorm and ReLU; the last two are block3 and block4."""
    image = x = keras.Input((None, None, 3))
    maps = []
    for i, (units, stride) in enumerate(zip(channels, strides, strict=True), 1):
        x = keras.layers.ZeroPadding2D(1)(x)
        x = keras.layers.Conv2D(units, 3, stride, use_bias=False, name=f"conv{i}")(x)
        x = keras.layers.ReLU(name=f"block{i}")(BatchNorm(momentum=0.9, epsilon=1e-5, name=f"bn{i}")(x))
        maps.append(x)
    pooled = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pre_logits")(x)
    return keras.Model(image, {"block3": maps[-2], "block4": maps[-1], "pre_logits": pooled})


def network_names(count=3):
    """{name in the goldens: end of the variable's path}"""
    names = {f"conv{i}_kernel": f"conv{i}/kernel" for i in range(1, count + 1)}
    statistics = ("gamma", "beta", "moving_mean", "moving_variance")
    return names | {f"bn{i}_{what}": f"bn{i}/{what}" for i in range(1, count + 1) for what in statistics}


HEAD = {"dense1_kernel": "/hidden/kernel", "dense2_kernel": "/last/kernel", "dense2_bias": "/last/bias"} | {
    f"bn_{what}": f"/hidden_norm/{what}" for what in ("gamma", "beta", "moving_mean", "moving_variance")
}
MONITOR = {"kernel": "monitor/kernel", "bias": "monitor/bias"} | {
    f"bn_{what}": f"monitor_norm/{what}" for what in ("moving_mean", "moving_variance")
}


def the(variables, end):
    (found,) = [v for v in variables if v.path.endswith(end)]
    return found


def state(model):
    """{name in the goldens, without its first word: variable}"""
    networks = {"student": model.backbone, "teacher": model.target}
    found = {
        f"{role}_{name}": the(network.weights, end)
        for role, network in networks.items()
        for name, end in network_names().items()
    }
    for level, (head, vocabulary) in enumerate(zip(model.heads, model.vocabularies, strict=True)):
        found |= {f"head_level{level}_{name}": the(head.weights, end) for name, end in HEAD.items()}
        found |= {f"vocabulary_level{level}": vocabulary.words, f"mu_level{level}": vocabulary.mu}
        found[f"pointer_level{level}"] = vocabulary.pointer
    layers = [*model.monitor.weights, *model.monitor_norm.weights]
    return found | {f"monitor_{name}": the(layers, end) for name, end in MONITOR.items()}


def assert_close(ours, theirs, name, tolerance=2e-5):
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1, np.abs(theirs).max()), err_msg=name)


def test_three_steps_are_the_official_ones():
    g = np.load(GOLDENS / "full_training_3_steps.npz")
    options = OBoWOptions(
        levels=2,
        words=12,
        crops=2,
        patches=3,
        inv_delta=float(g["settings_inv_delta"]),
        momentum=0.99,
        monitor=True,
        kappa=float(g["settings_kappa"]),
        pool="max",
    )
    assert tuple(g["settings_crops_per_image"]) == (2, 3) and g["settings_alpha_base"] == 0.99
    model = OfCrops(toy((4, 6, 12)), options=options, classes=5)
    sizes = [g[f"initial_vocabulary_level{level}"].shape for level in (0, 1)]
    model.vocabularies = [
        AtPlaces(dataclasses.replace(options, words=words), channels, name=f"level{i}")
        for i, (words, channels) in enumerate(sizes)
    ]
    for level, vocabulary in enumerate(model.vocabularies):
        vocabulary.taken = g[f"steps_picked_location_level{level}"]
    decay = float(g["settings_weight_decay"])
    model.compile(optimizer=MomentumSGD(0.1, float(g["settings_momentum"]), decay, exclude=(), decay="all"))
    model.optimizer.build(model.trainable_variables)
    model.total_steps = int(g["settings_total_iterations"])
    model.optimizer.iterations.assign(g["settings_first_iteration"])
    for name, variable in state(model).items():
        variable.assign(g[f"initial_{name}"])

    for i in range(3):
        model.optimizer.learning_rate = float(g["settings_learning_rates"][i])
        model.reset_metrics()
        batch = {"whole": g["steps_teacher_image"][i], "label": g["steps_labels"][i]}
        batch |= {"crops": g["steps_crops_type0"][i], "patches": g["steps_crops_type1"][i]}
        logs = {
            name: float(value) for name, value in model.train_step(tf.nest.map_structure(tf.constant, batch)).items()
        }
        logits, bags = model.kept
        losses = [logs["loss_crops"], logs["loss_patches"], logs["monitor_loss"]]
        assert_close(losses, g["steps_losses_type0_type1_monitor"][i], "losses")
        assert logs["loss"] == pytest.approx(losses[0] + losses[1], rel=1e-5)
        assert logs["cross_entropy"] == pytest.approx(logs["loss"] + 2 * logs["target_entropy"], rel=1e-5)
        assert logs["monitor_accuracy"] * 100 == pytest.approx(g["steps_monitor_accuracy_percent"][i], rel=1e-5)
        for level, name in enumerate(("block3", "block4")):
            assert_close(bags[level], g[f"steps_bow_target_level{level}"][i], "bags")
            assert_close(logs[f"mu_{name}"], g[f"steps_mu_after_level{level}"][i], "mu")
            assert_close(logs[f"perplexity_{name}"], g["steps_perplexity_image_level01"][i, level], "perplexity")
            assert_close(logs[f"batch_perplexity_{name}"], g["steps_perplexity_batch_level01"][i, level], "perplexity")
        for role, network in (("student", model.backbone), ("teacher", model.target)):
            assert_close(the(network.weights, "conv1/kernel"), g[f"steps_{role}_conv1_kernel_after"][i], role)
        if i == 0:
            for kind, crops in enumerate(("crops", "patches")):
                for level in (0, 1):
                    assert_close(logits[crops][level], g[f"step0_logits_type{kind}_level{level}"], "logits")
            # The first velocity is the gradient and the decay.
            velocities = dict(zip((v.path for v in model.trainable_variables), model.optimizer.momentums, strict=True))
            for name in ("conv1", "conv2", "conv3"):
                gradient = velocities[f"{name}/kernel"] - decay * g[f"initial_student_{name}_kernel"]
                assert_close(gradient, g[f"step0_grad_student_{name}_kernel"], name)
    for name, variable in state(model).items():
        assert_close(variable, g[f"final_{name}"], name)


def test_the_loss_of_two_kinds_and_two_levels_is_the_official_one():
    g = np.load(GOLDENS / "loss_two_crop_types_two_levels.npz")
    counts = tuple(int(n) for n in g["crops_per_image"])
    options = OBoWOptions(crops=counts[0], patches=counts[1], words=20, kappa=float(g["kappa"]))
    model = OBoW(toy((4, 6, 12)), options=options)
    for level, head in enumerate(model.heads):
        for name, end in HEAD.items():
            if f"weights_level{level}_{name}" in g:
                the(head.weights, end).assign(g[f"weights_level{level}_{name}"])
    words, bags = (
        [tf.constant(g[f"{what}_level{i}"], tf.float32) for i in (0, 1)] for what in ("vocabulary", "bow_target")
    )
    kinds = {"crops": 0, "patches": 1}
    features = {kind: tf.constant(g[f"student_features_type{i}"], tf.float32) for kind, i in kinds.items()}
    with tf.GradientTape() as tape:
        tape.watch([features, words, bags])
        logits = model.logits(features, words)
        loss, scalars = model.objective(logits, bags)
    kernels = [v for head in model.heads for v in head.trainable_variables]
    gradients, of_logits, of_heads, constants = tape.gradient(
        loss, [features, logits, [v.value for v in kernels], [words, bags]]
    )
    assert float(loss) == pytest.approx(float(g["loss_kl_total"]), rel=1e-5)
    entropies = [float(g[f"derived_target_entropy_level{i}"]) for i in (0, 1)]
    assert float(scalars["target_entropy"]) == pytest.approx(np.mean(entropies), rel=1e-5)
    assert float(scalars["cross_entropy"]) == pytest.approx(float(g["loss_kl_total"]) + sum(entropies), rel=1e-5)
    for kind, i in kinds.items():
        assert float(scalars[f"loss_{kind}"]) == pytest.approx(float(g[f"loss_kl_type{i}"]), rel=1e-5)
        assert_close(gradients[kind], g[f"grad_total_wrt_student_features_type{i}"], kind, 1e-5)
        for level in (0, 1):
            assert_close(logits[kind][level], g[f"logits_type{i}_level{level}"], kind, 1e-5)
            assert_close(of_logits[kind][level], g[f"grad_total_wrt_logits_type{i}_level{level}"], kind, 1e-5)
    assert tf.nest.flatten(constants) == [None] * 4, "words and bags are constants"
    ends = {end: name for name, end in HEAD.items()}
    seen = 0
    for variable, gradient in zip(kernels, of_heads, strict=True):
        level = 0 if "head_block3" in variable.path else 1
        (name,) = [name for end, name in ends.items() if variable.path.endswith(end)]
        assert_close(gradient, g[f"grad_total_wrt_level{level}_{name}"], name, 1e-5)
        seen += 1
    assert seen == 10


def test_a_vanilla_loss_is_one_kind_s_and_one_level_s():
    g = np.load(GOLDENS / "loss_two_crop_types_two_levels.npz")
    model = OBoW(toy((4, 6, 12)), options=OBoWOptions(levels=1, crops=2, patches=0, words=20, kappa=float(g["kappa"])))
    logits, bag = (tf.constant(g[name], tf.float32) for name in ("logits_type0_level1", "bow_target_level1"))
    loss, scalars = model.objective({"crops": [logits]}, [bag])
    assert float(loss) == pytest.approx(float(g["loss_kl_type0_level1"]), rel=1e-5)
    assert set(scalars) == {"cross_entropy", "target_entropy"}


def test_kinds_of_crops_can_be_weighed_by_their_numbers():
    logits = {
        "crops": [tf.random.stateless_normal([4, 5], [1, 2])],
        "patches": [tf.random.stateless_normal([10, 5], [3, 4])],
    }
    bag = tf.nn.softmax(tf.random.stateless_normal([2, 5], [5, 6]))
    by_kind, by_crop = (
        OBoW(toy((4, 6, 12)), options=OBoWOptions(levels=1, words=5, crops=2, patches=5, crop_loss=how))
        for how in ("sum_of_means", "mean")
    )
    loss, terms = by_kind.objective(logits, [bag])
    crops, patches = terms["loss_crops"], terms["loss_patches"]
    assert float(loss) == pytest.approx(float(crops + patches), rel=1e-6)
    loss, terms = by_crop.objective(logits, [bag])
    assert float(loss) == pytest.approx(float(2 * crops + 5 * patches) / 7, rel=1e-6)
    assert float(terms["cross_entropy"] - terms["target_entropy"]) == pytest.approx(float(loss), rel=1e-4)


# --- the target -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["r50", "r18_vanilla", "r18_full", "short"])
def test_the_momentum_is_the_official_one_in_float32(case):
    g = np.load(GOLDENS / "schedules.npz")
    base, total = float(g[f"alpha_{case}_base"]), int(g[f"alpha_{case}_total_iterations"])
    ours = [float(cosine_momentum(base, tf.constant(int(i), tf.int64), total)) for i in g[f"alpha_{case}_iterations"]]
    np.testing.assert_allclose(ours, g[f"alpha_{case}_values"], rtol=0, atol=1e-7)
    np.testing.assert_array_equal(np.equal(ours, 1), g[f"alpha_{case}_values"] == 1)
    for step, expected in ((0, base), (total // 2, 1 - (1 - base) / 2), (total, 1.0)):
        assert float(cosine_momentum(base, tf.constant(step, tf.int64), total)) == pytest.approx(expected, abs=1e-7)


def test_the_target_stands_still_for_the_last_tenth_of_a_percent():
    total = 1_000_800  # of the official ResNet50
    first = [i for i in range(999_690, 999_710) if float(cosine_momentum(0.99, tf.constant(i, tf.int64), total)) == 1][
        0
    ]
    assert first == 999_701


def test_three_updates_of_the_target_are_the_official_ones():
    g = np.load(GOLDENS / "teacher_ema_3_steps.npz")
    names = {"conv_kernel_a": "conv1/kernel", "bn_gamma_a": "bn1/gamma", "bn_beta_a": "bn1/beta"}
    names["conv_kernel_b"] = "conv2/kernel"
    image = keras.Input((None, None, 3))
    first = BatchNorm(name="bn1")(keras.layers.Conv2D(2, 3, use_bias=False, name="conv1")(image))
    second = keras.layers.Conv2D(4, 3, use_bias=False, name="conv2")(image)
    pooled = keras.layers.GlobalAveragePooling2D()(first)
    student = keras.Model(image, {"block3": first, "block4": second, "pre_logits": pooled})
    model = OBoW(student, options=OBoWOptions(levels=1, words=4, patches=0))
    model.total_steps = int(g["total_iterations"])
    the(model.target.weights, "bn1/moving_mean").assign(g["teacher_bn_moving_mean_before"])
    the(student.weights, "bn1/moving_mean").assign(g["student_bn_moving_mean"])
    for name, end in names.items():
        the(model.target.weights, end).assign(g[f"teacher_initial_{name}"])
    for i, step in enumerate(g["iteration_of_step"]):
        for name, end in names.items():
            the(student.weights, end).assign(g[f"student_steps_{name}"][i])
        model.update_target(tf.constant(int(step), tf.int64))
        for name, end in names.items():
            assert_close(the(model.target.weights, end), g[f"teacher_after_steps_{name}"][i], name, 5e-6)
    np.testing.assert_array_equal(
        the(model.target.weights, "bn1/moving_mean"), g["teacher_bn_moving_mean_after"].astype(np.float32)
    )


# --- whole runs -------------------------------------------------------------------------------------------------------


def batches(count, images=4):
    """Views of each step for a student with one crop and two patches."""
    shapes = {"whole": [images, 14, 14, 3], "crops": [images, 1, 10, 10, 3], "patches": [images, 2, 6, 6, 3]}
    return [
        {name: tf.random.stateless_uniform(shape, [i, len(shape)]) for name, shape in shapes.items()}
        for i in range(count)
    ]


def small(steps=4, **options):
    """A compiled OBoW for ``batches``; the target's momentum differs from step to step."""
    keras.utils.set_random_seed(0)
    options = {"words": 6, "crops": 1, "patches": 2, "momentum": 0.5, "chunk": 2, **options}
    model = OfCrops(toy((4, 6, 12)), options=OBoWOptions(**options))
    model.compile(optimizer=MomentumSGD(0.1, 0.9, 1e-4, decay="all"))
    model.optimizer.build(model.trainable_variables)
    model.total_steps = steps
    return model


def values(model):
    return {v.path: to_numpy(v) for v in [*model.weights, *model.optimizer.variables]}


def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(tmp_path):
    data, model = batches(4), small()
    step = tf.function(model.train_step, autograph=False)
    for batch in data[:2]:
        step(batch)
    path, half = save_checkpoint(tmp_path, model, 2), values(model)
    for batch in data[2:]:
        step(batch)
    whole = values(model)
    # What a checkpoint does not hold would now be that of step 4.
    assert load_checkpoint(path, model) == 2
    for batch in data[2:]:
        step(batch)
    for name, value in values(model).items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)
    ends = ("vocabulary_block3/words", "vocabulary_block4/mu", "vocabulary_block4/pointer", "iteration", "conv1/kernel")
    for end in ends:
        assert any(name.endswith(end) and np.any(half[name] != value) for name, value in whole.items()), end
    # The momentum goes by the step: counted anew it makes another target.
    load_checkpoint(path, model)
    model.optimizer.iterations.assign(0)
    for batch in data[2:]:
        step(batch)
    kernel = the(model.target.weights, "conv1/kernel")
    assert np.abs(to_numpy(kernel) - whole[kernel.path]).max() > 1e-5


def test_the_vocabulary_stays_float32_in_a_network_of_bfloat16():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small(levels=1)
    finally:
        keras.config.set_dtype_policy(policy)
    (batch,) = batches(1)
    start = to_numpy(model.vocabularies[0].words)
    model.train_step(batch)
    maps = model.target(batch["whole"], training=True)["block4"]
    assert maps.dtype == tf.bfloat16
    assert {v.dtype for v in [*model.weights, *model.optimizer.variables] if "int" not in str(v.dtype)} == {"float32"}
    logits, (bag,) = model.kept
    assert bag.dtype == tf.float32 and {x.dtype for x in tf.nest.flatten(logits)} == {tf.float32}
    np.testing.assert_allclose(tf.reduce_sum(bag, axis=1), 1.0, atol=1e-6)
    words = to_numpy(model.vocabularies[0].words)
    new = words[(words != start).any(1)]
    assert len(new) == 4
    # A new word is the mean of 3 x 3 cells in float32, with digits that bfloat16 has not.
    cells = tf.cast(maps, tf.float32)[:, 1:-1, 1:-1]
    means = tf.reshape(tf.nn.avg_pool2d(cells, 3, 1, "VALID"), [4, -1, 12])
    nearest = np.abs(means - new[:, None]).max(-1).min(1)
    np.testing.assert_allclose(nearest, 0, atol=1e-6)
    assert (tf.cast(tf.cast(new, tf.bfloat16), tf.float32) != new).numpy().mean() > 0.3


def test_no_tensor_of_a_step_holds_all_distances():
    model, (batch,) = small(levels=1, words=500, chunk=1), batches(1)
    graph = tf.function(model.train_step, autograph=False).get_concrete_function(batch).graph
    functions = [f.graph for f in graph._functions.values() if hasattr(f, "graph")]
    tensors = [t for g in (graph, *functions) for op in g.get_operations() for t in op.outputs]
    sizes = [np.prod(t.shape.as_list()) for t in tensors if t.shape.is_fully_defined()]
    cells = 5 * 5  # 7 x 7 without the border
    assert max(sizes) < 4 * cells * 500
    alone = [t for t in tensors if t.shape.is_fully_defined() and t.shape.as_list() == [1, cells, 500]]
    assert alone, "the distances of one image are there"


def test_bad_options():
    for options, words in [
        ({"momentum": 1.5}, "momentum 1.5 must lie in"),
        ({"kappa": 0.0}, "kappa 0.0 must be above 0"),
        ({"crops": 0, "patches": 0}, "both 0"),
    ]:
        with pytest.raises(InputError, match=words):
            OBoWOptions(**options)
    network = toy((4, 6, 12))
    with pytest.raises(InputError, match="monitor needs a data set with labels"):
        OBoW(network, options=OBoWOptions(words=8, monitor=True))
    with pytest.raises(InputError, match="task.words 0"):
        OBoWOptions(words=0)
    with pytest.raises(InputError, match="task.vocabulary 'kmean'; one of 'queue', 'kmeans'"):
        OBoW(network, options=OBoWOptions(vocabulary="kmean"))
    without = keras.Model(network.input, {name: network.output[name] for name in ("block4", "pre_logits")})
    with pytest.raises(InputError, match="has no block3; change task.levels or the backbone"):
        OBoW(without, options=OBoWOptions(words=8))
    model = OBoW(network, options=OBoWOptions(words=8), views=ViewSpec(size=64))
    model.check_batch(8)
    with pytest.raises(InputError, match="16 new words of a step do not fit into task.words 8"):
        model.check_batch(16)
    options = OBoWOptions(words=8, vocabulary="kmeans", start="features")
    with pytest.raises(InputError, match="16 new words of a step do not fit into task.words 8"):
        OBoW(network, options=options, views=ViewSpec(size=64)).check_batch(16)
    with pytest.raises(InputError, match=r"task.patch_scale .1.0, 0.6.: a pair 0 < low <= high <= 1"):
        OBoWOptions(patch_scale=(1.0, 0.6))
    with pytest.raises(InputError, match="OBoWOptions.levels is 3; expected one of 1, 2"):
        get_recipe("obow", "smoke", task__levels=3)
    with pytest.raises(InputError, match="maps of 4 x 4 cells"):
        OBoW(network, options=OBoWOptions(words=8, patches=0), views=ViewSpec(size=8)).check_batch(8)
