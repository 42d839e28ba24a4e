"""What a line in PRETEXTS promises, checked: for the methods here, and for one of one's own.

>>> from revisit_ssl.testing import check_pretext, two_devices
>>> two_devices()  # before TensorFlow is used
>>> PRETEXTS["mine"] = Mine
>>> check_pretext("mine")

It trains; XLA and two replicas give the numbers of one device; bfloat16 stays close; every shape is static; a
checkpoint holds all that the next steps depend on; the backbone survives its file. All on two convolutions over digits.
"""

import dataclasses
import functools
import os
import tempfile

import numpy as np
import tensorflow as tf

from revisit_ssl.backbones import BACKBONES, load_backbone
from revisit_ssl.distribute import get_strategy
from revisit_ssl.papers import get_recipe, presets_of
from revisit_ssl.pretext import find_options, find_pretext
from revisit_ssl.recipe import override
from revisit_ssl.testing.networks import tiny_backbone
from revisit_ssl.training.build import build_pretext, compile_pretext, open_pretraining, plan_steps
from revisit_ssl.training.checkpoints import load_checkpoint, save_checkpoint
from revisit_ssl.training.loop import trace, train

STEPS = 2
IMAGES = 8  # of a step


def check_pretext(name, recipe=None):
    """Runs every check of a pretext; a minute or less on two cores.

    Args:
        name: in PRETEXTS.
        recipe: Recipe to train by; None: ``small_recipe(name)``.

    Raises:
        AssertionError: what the pretext does not keep.
        InputError: unknown name, options that do not fit, fewer than two devices.
    """
    contract = PretextContract(name, recipe)
    for check in checks_of(name):
        getattr(contract, check)()


def checks_of(name):
    """Names of the checks that hold for a pretext, methods of PretextContract; a baseline only has to keep its file."""
    trained = [check for check in vars(PretextContract) if check.startswith("check_")]
    return trained if find_pretext(name).trains else ["check_file"]


def small_recipe(name, **changes):
    """The recipe that the checks run: four steps of eight images, with the pretext's ``contract_changes``.

    Args:
        name: in PRETEXTS; where no paper has a preset smoke of it, rotation's with its own options.
        **changes: fields, as for ``override``.
    """
    BACKBONES.setdefault("tiny", tiny_backbone)
    if "smoke" in presets_of(name):
        smoke = get_recipe(name, "smoke", backbone="tiny")  # the preset fits itself to the network
    else:
        smoke = get_recipe("rotation", "smoke", backbone="tiny")
        smoke = dataclasses.replace(smoke, pretext=name, task=find_options(name)())
    small = {"max_steps": 2 * STEPS, "batch_size": IMAGES, "optimizer__warmup_epochs": 0.0}
    return override(smoke, **{**small, **find_pretext(name).contract_changes, **changes})


class PretextContract:
    """The checks of one pretext; the runs that they compare with are made once.

    Args:
        name: in PRETEXTS.
        recipe: Recipe; None: ``small_recipe(name)``.
    """

    def __init__(self, name, recipe=None):
        self.recipe = recipe or small_recipe(name)
        self.source = open_pretraining(self.recipe)
        self.on_one_device = functools.cache(lambda: self.trained({}))

    def trained(self, changes, strategy="none", xla=False):
        """(model, its weights before the steps, the last logs) after the first half of the recipe with changes."""
        recipe, strategy = override(self.recipe, **changes), get_strategy(strategy)
        with strategy.scope():
            model = self.compiled(recipe, xla)
        before = [np.asarray(w) for w in model.weights]
        self.train(model, recipe, range(STEPS), strategy)
        return model, before, {name: float(tracker.result()) for name, tracker in model.trackers.items()}

    def compiled(self, recipe, xla=False, eager=False):
        """The recipe's pretext, before its first step; ``eager``: its steps are not traced, which takes longest."""
        model = build_pretext(recipe, self.source)
        compile_pretext(model, recipe, plan_steps(recipe, self.source), xla)
        model.run_eagerly = eager
        return model

    def train(self, model, recipe, steps, strategy):
        """Trains ``model`` in place; ``steps``: range."""
        plan = dataclasses.replace(plan_steps(recipe, self.source), total=steps.stop)
        train(model, recipe, self.source, plan, steps.start, strategy, model.callbacks(self.source))

    def check_training(self):
        """Finite logs; most weights move."""
        model, before, logs = self.on_one_device()
        expect(all(np.isfinite(value) for value in logs.values()), f"logs that are not finite: {logs}")
        moved = [not np.array_equal(b, np.asarray(w)) for b, w in zip(before, model.weights, strict=True)]
        expect(np.mean(moved) > 0.9, f"most weights should move within {STEPS} steps; {np.mean(moved):.0%} did")

    def check_two_replicas(self):
        """Two replicas of half the batch give the numbers of one device."""
        one, _, logs = self.on_one_device()
        two, _, logs2 = self.trained({"backbone_options__norm": "sync"}, "mirrored")
        expect_same_weights(one, two, rtol=2e-3, atol=2e-5)
        np.testing.assert_allclose(logs2["loss"], logs["loss"], rtol=1e-3)

    def check_xla(self):
        """XLA gives the numbers of the plain graph."""
        plain, _, logs = self.on_one_device()
        compiled, _, logs2 = self.trained({}, xla=True)
        expect_same_weights(plain, compiled, rtol=5e-3, atol=5e-5)
        np.testing.assert_allclose(logs2["loss"], logs["loss"], rtol=1e-3)

    def check_bfloat16(self):
        """bfloat16 is close, and the weights stay float32."""
        _, _, logs = self.on_one_device()
        model, _, logs2 = self.trained({"precision": "mixed_bfloat16"})
        kinds = {w.dtype for w in model.trainable_variables}
        expect(kinds == {"float32"}, f"weights should be float32 in bfloat16 too, not {kinds}")
        np.testing.assert_allclose(logs2["loss"], logs["loss"], rtol=0.1)

    def check_static_shapes(self):
        """No dimension is unknown in the step's graph, whether crops are cut on the device or come from the host.

        A TPU compiles for fixed shapes.
        """
        model, _, _ = self.on_one_device()
        whole = {"image": tf.TensorSpec([IMAGES, *self.source.images.shape[1:]], tf.uint8)}
        crops = {n: tf.TensorSpec([IMAGES, c.count, c.size, c.size, 3], tf.uint8) for n, c in model.crops.items()}
        boxes = {f"{n}_boxes": tf.TensorSpec([IMAGES, c.regions, 4]) for n, c in model.crops.items() if c.regions}
        known = {name: tf.TensorSpec([IMAGES], tf.int64) for name in ("label", "index")}
        step = trace(model, self.recipe, self.source, 0, get_strategy("none"))  # the one of the steps above
        # After the crops one step is like the other.
        cut = tf.function(lambda batch: model.cut(batch, (0, 1)), autograph=False)
        cuts = [cut.get_concrete_function(images | known) for images in (whole, crops | boxes)]
        tensors = [tensor for traced in (step, *cuts) for tensor in floats_of(traced.graph)]
        dynamic = [t.name for t in tensors if not t.shape.is_fully_defined()]
        expect(tensors and not dynamic, f"shapes that are not static: {dynamic[:5]}")
        shapes = [{name: each.shape for name, each in traced.structured_outputs.items()} for traced in cuts]
        expect(shapes[0] == shapes[1], f"crops cut on the device and on the host differ: {shapes[0]} and {shapes[1]}")

    def check_views(self):
        """Steps see new views, and the same seed sees the same."""
        model, _, _ = self.on_one_device()
        batch = {"image": tf.constant(self.source.images[:IMAGES])}
        first, again, later = (model.cut(batch, seed) for seed in ((0, 1), (0, 1), (0, 2)))
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])
        expect(any(not np.array_equal(first[n], later[n]) for n in first), "two steps should not see the same crops")

    def check_checkpoint(self):
        """A run that is stopped and goes on from its checkpoint ends where an undisturbed one does, to rounding.

        The second goes on eagerly: so that is checked too.
        """
        recipe, second_half, none = self.recipe, range(STEPS, 2 * STEPS), get_strategy("none")
        whole, _, _ = self.on_one_device()
        self.on_one_device.cache_clear()  # it goes on below; other checks want it after the first half
        stopped = self.compiled(recipe, eager=True)
        with tempfile.TemporaryDirectory() as folder:
            step = load_checkpoint(save_checkpoint(folder, whole, STEPS), stopped)
        expect(step == STEPS, f"a checkpoint of step {STEPS} says it is of step {step}")
        for model in (whole, stopped):
            self.train(model, recipe, second_half, none)
        expect_same_weights(whole, stopped, rtol=1e-4, atol=1e-6)

    def check_file(self):
        """The backbone gives the same to the bit after it was saved and loaded."""
        backbone = build_pretext(self.recipe, self.source).backbone
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "backbone.keras")
            backbone.save(path)
            loaded = load_backbone(path)
        size = self.recipe.views.input_size
        images = tf.random.stateless_uniform([2, size, size, 3], [1, 2])
        ours, theirs = backbone(images), loaded(images)
        for name in ours:
            np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(theirs[name]))


def expect(condition, message):
    """Raises AssertionError with ``message`` unless ``condition`` holds; as assert, also under python -O."""
    if not condition:
        raise AssertionError(message)


def expect_same_weights(model, other, rtol, atol):
    """AssertionError where a weight of the two differs by more."""
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol, err_msg=a.path)


def floats_of(graph):
    """The float tensors of a graph, without scratch space.

    Fused BatchNorm's last output (and the zeros of its gradient) is scratch space of the CPU and GPU kernels alone.
    """
    operations = graph.get_operations()
    scratch = {t.name for op in operations if op.type == "FusedBatchNormV3" for t in op.outputs[5:]}
    used = [op for op in operations if not (op.type == "ZerosLike" and scratch & {t.name for t in op.inputs})]
    return [t for op in used for t in op.outputs if t.dtype.is_floating and t.name not in scratch]
