"""Optimisers and schedules against the numbers of the official code (tests/goldens/README.md)."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.distribute import get_strategy
from revisit_ssl.errors import InputError
from revisit_ssl.recipe import OptimizerSpec
from revisit_ssl.training.optimizers import LARS, MomentumSGD, build_optimizer, is_decayed, l2_loss
from revisit_ssl.training.schedules import Constant, CosineDecay, EpochCosine, StepDecay, WarmEpochCosine

GOLDENS = pathlib.Path(__file__).parent / "goldens"


def golden(name):
    return dict(np.load(GOLDENS / f"{name}.npz"))


def variable(value, name="kernel"):
    value = np.asarray(value, np.float32)
    return keras.Variable(lambda shape, dtype: tf.constant(value, dtype), shape=value.shape, dtype="float32", name=name)


def run(optimizer, variables, gradients, rates):
    """[steps] lists of values after each step; gradients[step][variable]."""
    history = []
    for step_gradients, rate in zip(gradients, rates, strict=True):
        optimizer.learning_rate = float(rate)
        optimizer.apply([tf.constant(np.float32(g)) for g in step_gradients], variables)
        history.append([v.numpy() for v in variables])
    return history


def rates_of(schedule, steps):
    return np.array([float(schedule(tf.constant(int(step), tf.int64))) for step in steps])


# --- momentum SGD ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["constant_gradient", "quadratic_loss"])
def test_momentum_sgd_is_tf1s(case):
    g = golden("revisiting/sgd_momentum")
    w = variable(g["initial_weights"])
    optimizer = MomentumSGD(0.1, momentum=float(g["momentum"]))
    for step, rate in enumerate(g["learning_rate_at_step"]):
        # loss sum(c w), or 1/2 sum(c (w - t)^2): the gradient comes from our own weights, so errors would grow.
        gradient = g["curvature_c"] * (1 if case == "constant_gradient" else w.numpy() - g["target_t"])
        np.testing.assert_allclose(gradient, g[f"{case}__gradient_at_step"][step], atol=1e-5)
        run(optimizer, [w], [[gradient]], [rate])
        np.testing.assert_allclose(w.numpy(), g[f"{case}__weights_after_step"][step], atol=1e-5, rtol=0)
        np.testing.assert_allclose(
            optimizer.momentums[0].numpy(), g[f"{case}__accumulator_after_step"][step], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("jit", [False, True])
def test_a_linear_model_trains_as_in_the_official_trainer(jit):
    g = golden("revisiting/sgd_momentum")
    spec = OptimizerSpec(
        lr=float(g["trainer__base_lr"]),
        weight_decay=float(g["trainer__weight_decay"]),
        milestones=tuple(map(float, g["trainer__decay_epochs"])),
        warmup_epochs=float(g["trainer__warmup_epochs"]),
    )
    optimizer = build_optimizer(
        spec,
        batch_size=int(g["trainer__batch_size"]),
        steps_per_epoch=int(g["trainer__num_examples"]) // int(g["trainer__batch_size"]),
        total_steps=10,
    )
    kernel, bias = variable(g["trainer__initial_kernel"]), variable(np.zeros(2), "bias")
    optimizer.build([kernel, bias])

    @tf.function(autograph=False, jit_compile=jit)
    def step():
        with tf.GradientTape() as tape:
            error = g["trainer__inputs"] @ kernel.value + bias.value - g["trainer__targets"]
            loss = tf.reduce_mean(error**2)
        optimizer.apply(tape.gradient(loss, [kernel.value, bias.value]), [kernel, bias])
        return loss

    for i in range(10):
        np.testing.assert_allclose(float(optimizer.learning_rate), g["trainer__lr_at_step"][i], rtol=1e-6)
        np.testing.assert_allclose(float(step()), g["trainer__data_loss_before_step"][i], atol=1e-5, rtol=0)
        np.testing.assert_allclose(kernel.numpy(), g["trainer__kernel_after_step"][i], atol=1e-5, rtol=0)
        np.testing.assert_allclose(bias.numpy(), g["trainer__bias_after_step"][i], atol=1e-5, rtol=0)
    assert int(optimizer.iterations) == 10


@pytest.mark.parametrize("kind", ["heavyball", "nesterov", "plain"])
def test_momentum_sgd_is_pytorchs(kind):
    g = golden("cld/sgd")
    names = ["kernel", "bias", "gamma"]
    variables = [variable(g[f"init_{n}"], n) for n in names]
    optimizer = MomentumSGD(
        0.1,
        momentum=0.0 if kind == "plain" else float(g["momentum"]),
        weight_decay=float(g["weight_decay"]),
        nesterov=kind == "nesterov",
        decay="all",
    )
    gradients = zip(*[g[f"grads_{n}"] for n in names], strict=True)
    for step, (values, rate) in enumerate(zip(gradients, g["learning_rates"], strict=True)):
        run(optimizer, variables, [values], [rate])
        for n, v, m in zip(names, variables, optimizer.momentums, strict=True):
            np.testing.assert_allclose(v.numpy(), g[f"{kind}_{n}"][step], atol=1e-6, rtol=0)
            if kind != "plain":
                np.testing.assert_allclose(m.numpy(), g[f"{kind}_buffer_{n}"][step], atol=1e-6, rtol=0)


def test_momentum_sgd_in_obow():
    g = golden("obow/sgd_5_steps")
    w = variable(g["weight_initial"])
    optimizer = MomentumSGD(0.1, momentum=float(g["momentum"]), weight_decay=float(g["weight_decay"]))
    history = run(optimizer, [w], [[x] for x in g["gradients"]], g["learning_rates"])
    np.testing.assert_allclose(np.array(history)[:, 0], g["weight_after"], atol=5e-6)


def test_a_drop_of_the_rate_acts_at_once():
    # One step after a drop by ten, unit gradient: 1 -> 0.1 after two steps moves by 0.1 * 2.71, not by 1.81 + 0.1.
    w = variable([0.0])
    run(MomentumSGD(1.0), [w], [[[1.0]]] * 3, [1.0, 1.0, 0.1])
    np.testing.assert_allclose(w.numpy(), [-1.0 - 1.9 - 0.271], rtol=1e-6)


# --- weight decay ---------------------------------------------------------------------------------------------------


def small_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, name="revnet_root")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Conv2D(5, 3, name="conv")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, keras.layers.Dense(2, name="logits")(x))


def test_only_kernels_that_are_not_excluded_are_decayed():
    variables = small_model().trainable_variables
    assert [v.path for v in variables if is_decayed(v, ("revnet_root",))] == ["conv/kernel", "logits/kernel"]
    assert [v.path for v in variables if is_decayed(v)] == ["revnet_root/kernel", "conv/kernel", "logits/kernel"]
    assert all(is_decayed(v, decay="all") for v in variables)

    # With gradient 0 and rate 1 the step is exactly the decay.
    before = [v.numpy() for v in variables]
    MomentumSGD(1.0, weight_decay=0.25).apply([tf.zeros(v.shape) for v in variables], variables)
    for old, v in zip(before, variables, strict=True):
        shrink = 0.75 if v.path in ("conv/kernel", "logits/kernel") else 1.0
        np.testing.assert_allclose(v.numpy(), shrink * old, rtol=1e-6, err_msg=v.path)


def test_the_decay_is_the_gradient_of_the_l2_term():
    variables = small_model().trainable_variables
    expected = 0.3 / 2 * sum((v.numpy() ** 2).sum() for v in variables if v.path in ("conv/kernel", "logits/kernel"))
    np.testing.assert_allclose(float(l2_loss(variables, 0.3, ("revnet_root",))), expected, rtol=1e-6)
    assert float(l2_loss(variables, 0.3, ("/",))) == 0

    before = [v.numpy() for v in variables]
    with tf.GradientTape() as tape:
        loss = l2_loss(variables, 0.3, ("revnet_root",))
    gradients = tape.gradient(loss, [v.value for v in variables])
    optimizer = MomentumSGD(1.0, weight_decay=0.3)
    optimizer.apply([tf.zeros(v.shape) for v in variables], variables)
    for old, g, v in zip(before, gradients, variables, strict=True):
        np.testing.assert_allclose(v.numpy(), old if g is None else old - g.numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("head", [0.5, 0.0, None])
@pytest.mark.parametrize("make", [MomentumSGD, LARS])
def test_the_patch_head_has_its_own_decay(make, head):
    def variables():
        inputs = keras.Input((3,))
        hidden = keras.layers.Dense(4, name="embedding")(inputs)
        body = keras.Model(inputs, hidden)
        patch_head = keras.Sequential([keras.layers.Dense(5, name="hidden")], name="patch_head")
        patch_head.build((None, 4))
        return body.trainable_variables + patch_head.trainable_variables

    keras.utils.set_random_seed(0)
    ours = variables()
    assert [v.path for v in ours if "patch_head" in v.path] == ["patch_head/hidden/kernel", "patch_head/hidden/bias"]
    rates = {"embedding/kernel": 0.25, "patch_head/hidden/kernel": 0.25 if head is None else head}
    expected = sum(rates.get(v.path, 0) / 2 * (v.numpy() ** 2).sum() for v in ours)
    np.testing.assert_allclose(float(l2_loss(ours, 0.25, head_weight_decay=head)), expected, rtol=1e-6)

    before = [v.numpy() for v in ours]
    factor = {"eta": 1.0} if make is LARS else {}
    make(1.0, weight_decay=0.25, head_weight_decay=head, **factor).apply([tf.zeros(v.shape) for v in ours], ours)
    for old, v in zip(before, ours, strict=True):
        decay = rates.get(v.path, 0)
        if make is LARS:
            decay = float(decay > 0)  # u = wd w is scaled to the norm of w: all of it goes, whatever wd > 0
        np.testing.assert_allclose(v.numpy(), (1 - decay) * old, rtol=1e-6, atol=1e-7, err_msg=v.path)


# --- LARS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("case", ["deepmind", "openselfsup", "openselfsup_nesterov"])
def test_lars(case, jit):
    g = golden("cld/lars")
    names = [str(n) for n in g["names"]]
    variables = [
        variable(g[f"init_{n}"], "bias" if skip else "kernel") for n, skip in zip(names, g["excluded"], strict=True)
    ]
    rates = tf.constant(g["learning_rates"], tf.float32)

    @keras.saving.register_keras_serializable("test")
    class Table(keras.optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return rates[tf.cast(step, tf.int32)]

    optimizer = LARS(
        Table(),
        momentum=float(g["momentum"]),
        weight_decay=float(g["weight_decay"]),
        eta=float(g["eta"]),
        form=case.split("_")[0],
        nesterov=case.endswith("nesterov"),
    )
    optimizer.build(variables)
    apply = tf.function(lambda *gradients: optimizer.apply(gradients, variables), jit_compile=jit, autograph=False)
    for step in range(3):
        apply(*[tf.constant(g[f"grads_{n}"][step]) for n in names])
        for n, v in zip(names, variables, strict=True):
            np.testing.assert_allclose(v.numpy(), g[f"{case}_{n}"][step], atol=1e-6, rtol=0, err_msg=n)


@pytest.mark.parametrize("form", ["deepmind", "openselfsup"])
def test_lars_without_any_norm_steps_by_zero(form):
    w = variable(np.zeros([2, 2]))
    LARS(0.1, weight_decay=0.1, form=form).apply([tf.zeros([2, 2])], [w])
    np.testing.assert_array_equal(w.numpy(), np.zeros([2, 2]))


# --- schedules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [0, 1, 2])
def test_step_decay_is_the_official_get_lr(case):
    g = {k.split("__")[1]: v for k, v in golden("revisiting/lr_schedule").items() if k.startswith(f"case{case}__")}
    spe = int(g["steps_per_epoch"])
    schedule = StepDecay(
        float(g["base_lr"]), g["decay_epochs"] * spe, float(g["decay_factor"]), int(g["warmup_epochs"]) * spe
    )
    np.testing.assert_allclose(rates_of(schedule, g["steps"]), g["learning_rates"], rtol=1e-6)


def test_cosine_decay_is_cld_s():
    g = golden("cld/lr_schedules")
    for case in ("cifar_npid_b256", "small_no_warmup"):
        spe = int(g[f"{case}_steps_per_epoch"])
        peak = float(g[f"{case}_peak_lr"])
        schedule = CosineDecay(
            peak,
            int(g[f"{case}_epochs"]) * spe,
            int(g[f"{case}_warmup_epochs"]) * spe,
            warmup_from=peak / int(g[f"{case}_warmup_multiplier"]),
            floor=1e-6,
        )
        np.testing.assert_allclose(rates_of(schedule, g[f"{case}_iterations"]), g[f"{case}_lr"], rtol=1e-7)


def test_cosine_decay_is_byol_s():
    g = golden("cld/lr_schedules")
    peak = float(g["byol_lr_base"]) * int(g["byol_lr_batch_size"]) / 256
    schedule = CosineDecay(peak, int(g["byol_lr_total_steps"]), int(g["byol_lr_warmup_steps"]))
    np.testing.assert_allclose(rates_of(schedule, g["byol_lr_steps"]), g["byol_lr"], rtol=1e-7, atol=1e-12)


def test_schedules_by_epoch_are_mocos():
    g = golden("moco/lr_schedules")
    base, epochs, _ = g["v2_cosine_base_lr_epochs_cosine"]
    np.testing.assert_allclose(rates_of(CosineDecay(base, epochs), range(200)), g["v2_cosine_lr_per_epoch"], rtol=1e-6)
    base = g["v1_step_base_lr_epochs_cosine"][0]
    steps = StepDecay(base, g["v1_step_milestones"] - 1)  # PyTorch's milestone is the first step at the new rate
    np.testing.assert_allclose(rates_of(steps, range(200)), g["v1_step_lr_per_epoch"], rtol=1e-6)


def test_epoch_cosine_is_infomin_s():
    g = golden("cld/lr_schedules")
    spe, epochs, base = int(g["infomin_steps_per_epoch"]), int(g["infomin_epochs"]), float(g["infomin_base_lr"])
    steps = (g["infomin_epoch_1based"] - 1) * spe + g["infomin_step_in_epoch"]
    warmup, start = int(g["infomin_warmup_epochs"]), float(g["infomin_warmup_from"])
    spec = OptimizerSpec(
        lr=base, scale_lr=False, schedule="infomin", floor=1e-3 * base, warmup_epochs=warmup, warmup_from=start / base
    )
    rate = built_rate(spec, spe, epochs)
    np.testing.assert_allclose(rates_of(rate, steps), g["infomin_lr"], rtol=1e-7)
    assert float(rate.peak()) == pytest.approx(float(g["infomin_warmup_to"]), rel=1e-7)


@pytest.mark.parametrize("case", ["r50", "r18"])
def test_obow_s_rates_are_the_official_ones(case):
    g = golden("obow/schedules")
    start, end, warmup, epochs, spe = g[f"lr_{case}_settings"]
    spec = OptimizerSpec(lr=start, scale_lr=False, schedule="obow", warmup_epochs=warmup, floor=end)
    rate = built_rate(spec, int(spe), int(epochs))
    steps = g[f"lr_{case}_epoch"] * spe + g[f"lr_{case}_iteration_in_epoch"]
    np.testing.assert_allclose(rates_of(rate, steps), g[f"lr_{case}_value"], rtol=1e-6)
    np.testing.assert_allclose(rates_of(rate, np.arange(epochs) * spe), g[f"lr_{case}_per_epoch"], rtol=1e-6)
    if not warmup:  # MoCo's cosine is the same there
        moco = built_rate(OptimizerSpec(lr=start, scale_lr=False, schedule="epoch_cosine", warmup_epochs=0), 7, 80)
        np.testing.assert_allclose(rates_of(moco, np.arange(80) * 7), g["lr_r18_per_epoch"], rtol=1e-6)


def built_rate(spec, steps_per_epoch, epochs, batch_size=256):
    made = build_optimizer(
        spec, batch_size=batch_size, steps_per_epoch=steps_per_epoch, total_steps=steps_per_epoch * epochs
    )
    return made._learning_rate


def test_a_recipe_can_say_every_official_schedule():
    cld, moco = golden("cld/lr_schedules"), golden("moco/lr_schedules")
    for case in ("cifar_npid_b256", "small_no_warmup"):
        spec = OptimizerSpec(
            lr=float(cld[f"{case}_peak_lr"]),
            schedule="cosine",
            floor=1e-6,
            warmup_epochs=float(cld[f"{case}_warmup_epochs"]),
            warmup_from=1 / float(cld[f"{case}_warmup_multiplier"]),
        )
        rate = built_rate(spec, int(cld[f"{case}_steps_per_epoch"]), int(cld[f"{case}_epochs"]))
        np.testing.assert_allclose(rates_of(rate, cld[f"{case}_iterations"]), cld[f"{case}_lr"], rtol=1e-7)
    byol = OptimizerSpec(name="lars", lr=float(cld["byol_lr_base"]), schedule="cosine", warmup_epochs=2)
    rate = built_rate(byol, int(cld["byol_lr_warmup_steps"]) // 2, 20, int(cld["byol_lr_batch_size"]))
    np.testing.assert_allclose(rates_of(rate, cld["byol_lr_steps"]), cld["byol_lr"], rtol=1e-7, atol=1e-12)

    first, last = np.arange(200) * 7, np.arange(200) * 7 + 6  # steps of each epoch of seven
    specs = {
        "v2_cosine": OptimizerSpec(
            lr=moco["v2_cosine_base_lr_epochs_cosine"][0], schedule="epoch_cosine", warmup_epochs=0
        ),
        "v1_step": OptimizerSpec(
            lr=moco["v1_step_base_lr_epochs_cosine"][0],
            milestones=tuple(moco["v1_step_milestones"]),
            first_step_drops=True,
            warmup_epochs=0,
        ),
    }
    for case, spec in specs.items():
        rate = built_rate(spec, 7, 200)
        for steps in (first, last):
            np.testing.assert_allclose(rates_of(rate, steps), moco[f"{case}_lr_per_epoch"], rtol=1e-6)


def test_a_recipe_s_decay_and_lars_options_reach_the_optimiser():
    plain, torch = OptimizerSpec(weight_decay=0.5), OptimizerSpec(weight_decay=0.5, decay="all")
    lars = OptimizerSpec(name="lars", eta=0.02, form="openselfsup")
    made = [build_optimizer(s, batch_size=256, steps_per_epoch=10, total_steps=100) for s in (plain, torch, lars)]
    variables = [variable([1.0]), variable([1.0], "bias"), variable([1.0], "gamma")]
    for optimizer in made[:2]:
        optimizer.build(variables)
    assert made[0].decays == [0.5, 0.0, 0.0] and made[1].decays == [0.5, 0.5, 0.5]
    assert (made[2].eta, made[2].form) == (0.02, "openselfsup")


def test_constant_and_the_ends_of_a_schedule():
    np.testing.assert_allclose(rates_of(Constant(0.4, 4), [0, 1, 2, 4, 5, 10**6]), [0, 0.1, 0.2, 0.4, 0.4, 0.4])
    np.testing.assert_allclose(rates_of(CosineDecay(1.0, 10, floor=0.25), [0, 5, 10, 11]), [1, 0.625, 0.25, 0.25])
    np.testing.assert_allclose(rates_of(CosineDecay(1.0, 10, 10), [0, 5, 10]), [0, 0.5, 1], atol=1e-12)


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(0.4, 4),
        StepDecay(0.4, [6, 8], 0.1, 4),
        CosineDecay(0.4, 10, 4),
        EpochCosine(0.4, 10, 2, 1, 4),
        WarmEpochCosine(0.4, 10, 2, 4, floor=0.1),
    ],
)
def test_schedules_take_many_steps_at_once_and_compile(schedule):
    steps = np.arange(12)
    compiled = tf.function(schedule, jit_compile=True, autograph=False)
    np.testing.assert_allclose(compiled(tf.constant(steps)), rates_of(schedule, steps), rtol=1e-6)


# --- Keras' own demands ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        MomentumSGD(0.2, momentum=0.8, weight_decay=1e-3, nesterov=True, exclude=("a", "b"), decay="all"),
        MomentumSGD(StepDecay(0.4, [6, 8.5], 0.2, 4, 0.1), weight_decay=1e-4, head_weight_decay=5e-4),
        MomentumSGD(Constant(0.4, 3), weight_decay=1e-4),
        LARS(CosineDecay(0.4, 10, 4, 0.01, 0.02), weight_decay=1e-4, form="openselfsup", nesterov=True, eta=0.01),
    ],
)
def test_serialisation_round_trip(optimizer):
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is type(optimizer)
    assert copy.get_config() == optimizer.get_config()
    assert copy.l2 == optimizer.l2 and copy.weight_decay is None


def test_state_is_in_the_optimizer_s_variables(tmp_path):
    def compiled():
        model = small_model()
        model.compile(MomentumSGD(Constant(0.1), weight_decay=0.1), "mse")
        return model

    x, y = np.random.default_rng(0).normal(size=(4, 6, 6, 3)), np.ones([4, 2])
    model = compiled()
    model.train_on_batch(x, y)
    assert len(model.optimizer.variables) == 1 + len(model.trainable_variables)  # iteration and one buffer each
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    for m in (model, again):
        m.train_on_batch(x, y)
    for a, b in zip(model.weights + model.optimizer.variables, again.weights + again.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_bfloat16_keeps_weights_and_buffers_in_float32():
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(3, dtype="mixed_bfloat16")
    layer.build([None, 4])
    optimizer = MomentumSGD(1e-3, weight_decay=1e-4)
    before = layer.kernel.numpy()
    optimizer.apply([tf.ones([4, 3], tf.bfloat16), tf.ones([3], tf.bfloat16)], layer.trainable_variables)
    assert {v.dtype for v in layer.trainable_variables + optimizer.momentums} == {"float32"}
    np.testing.assert_allclose(layer.kernel.numpy(), before - 1e-3 * (1 + 1e-4 * before), rtol=1e-6)


@pytest.mark.parametrize("make", [lambda: MomentumSGD(0.1, weight_decay=0.5), lambda: LARS(0.1, weight_decay=0.5)])
def test_two_replicas_equal_one_device(make):
    devices = tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        pytest.skip("one logical CPU only; tests/conftest.py makes two")
    x = np.random.default_rng(1).normal(size=(8, 6, 6, 3)).astype(np.float32)

    def train(strategy):
        with strategy.scope():
            inputs = keras.Input((6, 6, 3))
            hidden = keras.layers.Conv2D(4, 3, activation="tanh", name="conv")(inputs)
            model = keras.Model(inputs, keras.layers.Dense(2, name="logits")(keras.layers.Flatten()(hidden)))
            rng = np.random.default_rng(0)
            model.set_weights([rng.normal(size=w.shape) * 0.1 for w in model.weights])
            optimizer = make()
            optimizer.build(model.trainable_variables)
        count = strategy.num_replicas_in_sync

        @tf.function(autograph=False)
        def step():
            def on_replica(images):
                with tf.GradientTape() as tape:
                    loss = tf.reduce_mean(model(images) ** 2) / count
                optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

            rows = len(x) // count
            values = strategy.experimental_distribute_values_from_function(
                lambda context: tf.constant(x[context.replica_id_in_sync_group * rows :][:rows])
            )
            strategy.run(on_replica, args=(values,))

        for _ in range(3):
            step()
        return [v.numpy() for v in model.trainable_variables + optimizer.momentums]

    one = train(tf.distribute.get_strategy())
    two = train(get_strategy("mirrored"))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-7)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MomentumSGD(-0.1), "learning_rate -0.1"),
        (lambda: MomentumSGD("fast"), "learning_rate is 'fast'"),
        (lambda: MomentumSGD(float("nan")), "learning_rate nan"),
        (lambda: MomentumSGD(0.1, momentum=1.0), r"momentum 1.0 must lie in \[0, 1\)"),
        (lambda: MomentumSGD(0.1, weight_decay=-1e-4), "weight_decay -0.0001"),
        (lambda: MomentumSGD(0.1, head_weight_decay=-5e-4), "head_weight_decay -0.0005"),
        (lambda: MomentumSGD(0.1, exclude="root"), "must be a list of strings"),
        (lambda: MomentumSGD(0.1, decay="none"), "decay 'none'; one of 'kernels', 'all'"),
        (lambda: LARS(0.1, form="apex"), "LARS form 'apex'"),
        (lambda: LARS(0.1, eta=0), "eta 0 must be positive"),
        (lambda: LARS(0.1, nesterov=True), "form 'openselfsup' only"),
        (lambda: Constant(-1.0), "learning rate -1 "),
        (lambda: StepDecay(0.1, [20, 10]), "must ascend"),
        (lambda: StepDecay(0.1, [10], factor=0), "factor 0 must be positive"),
        (lambda: CosineDecay(0.1, 10, 11), "total_steps 10 .* warmup_steps 11"),
        (lambda: CosineDecay(0.1, 0), "total_steps 0"),
        (lambda: CosineDecay(0.1, 10, floor=0.2), "floor 0.2 must not exceed"),
        (
            lambda: build_optimizer(OptimizerSpec(), batch_size=256, steps_per_epoch=10, total_steps=20),
            "warmup_epochs 5 is 50 steps, longer than the run of 20",
        ),
    ],
)
def test_bad_values_get_one_line(make, words):
    with pytest.raises(InputError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


def test_build_optimizer_follows_the_spec():
    spec = OptimizerSpec(
        schedule="cosine", weight_decay=5e-4, head_weight_decay=1e-3, momentum=0.8, warmup_epochs=0.5, nesterov=True
    )
    optimizer = build_optimizer(spec, batch_size=64, steps_per_epoch=10, total_steps=20)
    assert isinstance(optimizer, MomentumSGD)
    assert (optimizer.momentum, optimizer.l2, optimizer.head_l2, optimizer.nesterov) == (0.8, 5e-4, 1e-3, True)
    schedule = keras.optimizers.schedules.deserialize(optimizer.get_config()["learning_rate"])
    np.testing.assert_allclose(rates_of(schedule, [0, 1, 5, 20]), [0, 0.005, 0.025, 0], atol=1e-12)

    constant = OptimizerSpec(name="lars", schedule="constant", lr=0.3, scale_lr=False, warmup_epochs=0)
    lars = build_optimizer(constant, batch_size=64, steps_per_epoch=10, total_steps=20)
    assert isinstance(lars, LARS) and float(lars.learning_rate) == pytest.approx(0.3)
