"""Seconds of a training step and of an image through the frozen network, measured: what plans are made of.

``python -m revisit_ssl.timing`` reads settings as JSON from its standard input, one list of {"recipe": text,
"data_dir", "strategy", "xla"}, and prints one line of JSON for each as soon as it is known. A process of its own,
because TensorFlow keeps the memory of an accelerator until its process ends.
"""

import contextlib
import dataclasses
import json
import sys
import time
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.data import open_source
from revisit_ssl.distribute import get_strategy, use_xla
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators.features import use_xla as compile_frozen
from revisit_ssl.evaluators.representation import NetworkInput, images_at_once, represent
from revisit_ssl.recipe import from_json
from revisit_ssl.training import (
    Plan,
    build_pretext,
    check_devices,
    check_model,
    compile_pretext,
    evaluation_view,
    plan_steps,
    train,
)

WARM_UP = 2  # steps that trace, compile and fill the pipeline
MOST_STEPS = 30
ENOUGH = 2.0  # seconds of steps


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """What was measured of a setting, in seconds."""

    step: float
    """One optimiser step on real batches; 0 for a baseline that is not trained."""
    start: float
    """From building the network to the end of the first steps."""
    image: float
    """One image through the frozen network, as probes see it; without reading it."""


def measure(recipe, *, data_dir=None, strategy="auto", xla=None):
    """StepTime of a recipe, in as many steps as take two seconds, three to thirty in all.

    Raises:
        InputError: what `training.pretrain` would refuse.
    """
    begun = time.perf_counter()
    strategy = get_strategy(strategy) if isinstance(strategy, str) else strategy
    xla = use_xla(strategy, recipe.deterministic) if xla is None else xla
    check_devices(recipe, strategy, xla)
    source = open_source(recipe.dataset, recipe.split, data_dir=data_dir, seed=recipe.seed)
    plan = plan_steps(recipe, source)
    watch = _Watch()
    with strategy.scope():
        model = build_pretext(recipe, source)
        if plan.total:
            compile_pretext(model, recipe, plan, xla)
    check_model(model, recipe, plan, strategy.num_replicas_in_sync)
    if plan.total:
        train(model, recipe, source, Plan(MOST_STEPS, MOST_STEPS), 0, strategy, [watch])
    start = (watch.begun if plan.total else time.perf_counter()) - begun
    return StepTime(step=watch.seconds, start=start, image=_image_seconds(model.backbone, recipe))


class _Watch(keras.callbacks.Callback):
    """Mean seconds of the steps after the first ones; ends fit when there are enough of them."""

    begun, seconds = None, 0.0

    def on_train_batch_end(self, batch, logs=None):
        done = batch + 1 - WARM_UP
        if done < 0:
            return
        float(np.asarray(logs["loss"]))  # waits for the device
        now = time.perf_counter()
        if done == 0:
            self.begun = now
            return
        self.seconds = (now - self.begun) / done
        if now - self.begun > ENOUGH:
            self.model.stop_training = True


def _image_seconds(backbone, recipe):
    size, known = evaluation_view(recipe).size, NetworkInput.of(recipe)
    images = tf.zeros([images_at_once(backbone, size, known, limit=64), size, size, 3], tf.uint8)
    forward = tf.function(lambda images: represent(backbone, images, known), jit_compile=compile_frozen())
    forward(images)
    begun = time.perf_counter()
    forward(images)["pre_logits"].numpy()
    return (time.perf_counter() - begun) / len(images)


def main():
    """See the module; exit status 2 and one line after ``error: `` where a setting is refused."""
    settings = json.load(sys.stdin)
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):  # so that nothing else lies between the answers
        for setting in settings:
            recipe = from_json(setting.pop("recipe"))
            try:
                print(json.dumps(dataclasses.asdict(measure(recipe, **setting))), file=answers, flush=True)
            except InputError as error:
                print(f"error: {error}", file=sys.stderr)
                return 2
            keras.backend.clear_session()
    return 0


if __name__ == "__main__":
    sys.exit(main())
