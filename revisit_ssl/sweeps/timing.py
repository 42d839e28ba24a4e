"""Seconds of a training step and of an image through the frozen network, measured: what plans are made of.

``python -m revisit_ssl.sweeps.timing`` reads settings as JSON from its standard input, one list of {"recipe": text,
"data_dir", "strategy", "xla"}, and prints one line of JSON for each as soon as it is known. A process of its own,
because TensorFlow keeps the memory of an accelerator until its process ends.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.data import EvalView, known_source
from revisit_ssl.data.known import stand_in
from revisit_ssl.distribute import XLA, get_strategy, use_xla
from revisit_ssl.errors import InputError, require
from revisit_ssl.features.extract import compile_frozen
from revisit_ssl.features.representation import NetworkInput, images_at_once, represent
from revisit_ssl.recipe import to_json
from revisit_ssl.runs.files import write_atomically
from revisit_ssl.runs.identity import setting_id
from revisit_ssl.runs.results import provenance
from revisit_ssl.sweeps import jobs
from revisit_ssl.training.build import (
    Plan,
    build_pretext,
    check_devices,
    check_model,
    compile_pretext,
    open_pretraining,
    plan_steps,
)
from revisit_ssl.training.loop import train
from revisit_ssl.training.workdir import from_json

WARM_UP = 2  # steps that trace, compile and fill the pipeline
MOST_STEPS = 30
ENOUGH = 2.0  # seconds of steps
TIMING_MINUTES = 10  # settings that have no timing by then are planned without


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """What was measured of a setting, in seconds."""

    step: float
    """One optimiser step on batches of the set; 0 for a baseline that is not trained."""
    start: float
    """From building the network to the end of the first steps."""
    image: float
    """One image through the frozen network, as probes see it; without reading it."""


def measure(recipe, *, data_dir=None, strategy="auto", xla=None):
    """StepTime of a recipe, in as many steps as take two seconds, three to thirty in all.

    Where the data set is not here the steps are on noise in its place.

    Raises:
        InputError: what `training.pretrain` would refuse, but for a data set whose size is known.
    """
    begun = time.perf_counter()
    strategy = get_strategy(strategy) if isinstance(strategy, str) else strategy
    xla = use_xla(strategy, recipe.deterministic) if xla is None else xla
    check_devices(recipe, strategy, xla)
    source = open_pretraining(recipe, data_dir, known_source)
    plan = plan_steps(recipe, source)
    watch = _Watch()
    with strategy.scope():
        model = build_pretext(recipe, source)
        if plan.total:
            compile_pretext(model, recipe, plan, xla)
    check_model(model, recipe, plan, strategy.num_replicas_in_sync)
    if plan.total:
        images = stand_in(source, recipe.batch_size)
        train(model, recipe, images, Plan(MOST_STEPS, MOST_STEPS), 0, strategy, [watch])
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
    size, known = EvalView.of(recipe).size, NetworkInput.of(recipe)
    images = tf.zeros([images_at_once(backbone, size, known, limit=64), size, size, 3], tf.uint8)
    compiled = {"autograph": False, "jit_compile": compile_frozen()}
    forward = tf.function(lambda images: represent(backbone, images, known), **compiled)
    forward(images)
    begun = time.perf_counter()
    forward(images)["pre_logits"].numpy()
    return (time.perf_counter() - begun) / len(images)


def time_settings(runs, workdir, device):
    """Times a step of every setting of the runs, in a child process; what was timed before is read from timing.json.

    Returns:
        ({setting: StepTime}, {setting: why it could not be timed}).

    Raises:
        InputError: a setting that no run could have.
    """
    path = os.path.join(workdir, "timing.json")
    cache, untimed = read_timing(path), {}
    settings = {run.setting: run for run in runs}
    keys = {name: timing_key(run, device) for name, run in settings.items()}
    # The small networks first, in case the time is not enough for all.
    missing = sorted((r for n, r in settings.items() if keys[n] not in cache), key=lambda run: run.recipe.width)
    if missing:
        print(f"timing a step of {len(missing)} settings (kept in {path}) …", flush=True)
    ends = time.monotonic() + 60 * TIMING_MINUTES

    def keep(run, answer):
        cache[keys[run.setting]] = answer
        write_atomically(path, json.dumps(cache, indent=2) + "\n")

    while missing:
        answered, failure = ask(missing, device, ends, keep)
        missing = missing[answered:]
        if time.monotonic() >= ends:
            untimed |= {run.setting: f"not within {TIMING_MINUTES} minutes" for run in missing}
            break
        if missing:  # the first of them ended the child
            untimed[missing.pop(0).setting] = failure
    return {name: StepTime(**cache[key]) for name, key in keys.items() if key in cache}, untimed


def ask(runs, device, ends, keep):
    """Has the runs' settings timed by one child, in their order; (how many were, why not all of them).

    Raises:
        InputError: the child refused a setting.
    """
    questions = [
        {
            "recipe": to_json(run.recipe), "data_dir": run.options.data_dir, "strategy": run.options.strategy,
            "xla": XLA[run.options.xla],
        }
        for run in runs
    ]
    answered, code = 0, None
    with tempfile.TemporaryFile("w+", errors="replace") as errors, subprocess.Popen(
        [sys.executable, "-m", "revisit_ssl.sweeps.timing"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=errors, text=True, env=jobs.environment_for(device),
    ) as child:
        timer = threading.Timer(max(0.0, ends - time.monotonic()), child.kill)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # it ended before it had read them
                child.stdin.write(json.dumps(questions))
                child.stdin.close()
            for line in child.stdout:
                keep(runs[answered], json.loads(line))
                answered += 1
            code = child.wait()
        finally:
            timer.cancel()
            child.kill()
        errors.seek(0)
        failure = jobs.exit_reason(code, errors.read())
    require(code != 2, f"{runs[min(answered, len(runs) - 1)].setting}: {failure}")
    return answered, failure


def read_timing(path):
    """{key: fields of StepTime} of timing.json; {} where there is none, or a damaged one."""
    fields = {f.name for f in dataclasses.fields(StepTime)}
    try:
        with open(path) as file:
            cache = json.load(file)
        numbers = {key: values for key, values in cache.items() if set(values) == fields}
        return {key: {name: float(v) for name, v in values.items()} for key, values in numbers.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def timing_key(run, device):
    """What a timing is of: the setting, and where and how it runs."""
    where = "all" if device is None else "cpu" if device == "cpu" else "gpu"
    hardware = provenance()["hardware"]
    return f"{run.setting} {setting_id(run.recipe)} {run.options.strategy} {run.options.xla} {where} of {hardware}"


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
