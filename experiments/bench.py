"""Timings, each beside its rival in the same process: python experiments/bench.py --what step views lbfgs startup

Rounds of the two sides alternate and medians are compared, so that a busy machine slows both. With --out FILE the
rows are also written as JSON lines with date, commit and hardware.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Literal

import tyro

from revisit_ssl.quiet import quiet_import

with quiet_import():
    import keras
    import numpy as np
    import tensorflow as tf

    from revisit_ssl.errors import InputError
    from revisit_ssl.results import provenance, write_atomically


def alternate(ours, theirs, rounds=5):
    """Median of what both callables return (seconds), called in turn; the first round warms up and does not count."""
    times = [(ours(), theirs()) for _ in range(rounds + 1)][1:]
    return tuple(statistics.median(column) for column in zip(*times, strict=True))


def timed(work):
    """A callable that returns the seconds which ``work`` takes."""

    def run():
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return run


def row(what, ours, theirs, unit, rival, target=None, **more):
    """None for a side that was stopped."""
    ratio = ours / theirs if ours is not None and theirs is not None else None
    return {"what": what, "ours": ours, "theirs": theirs, "ratio": ratio, "unit": unit, "rival": rival} | (
        {"target": target} if target else {}
    ) | more  # fmt: skip


def shown(value, unit):
    return f"{value:.3g} {unit}" if value is not None else f"stopped at {LIMIT // 1024} GB"


class Stopwatch(keras.callbacks.Callback):
    """Seconds a step within one fit, without the first ``skip`` steps: those fill the pipeline."""

    def __init__(self, skip=3):
        super().__init__()
        self.skip = skip

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.skip - 1:
            self.begun = time.perf_counter()
        self.steps = batch + 1 - self.skip
        self.loss = logs["loss"]

    def on_train_end(self, logs=None):
        float(self.loss)  # waits for the device
        self.seconds = (time.perf_counter() - self.begun) / self.steps


def fit_seconds(model, data, steps=13):
    def run():
        watch = Stopwatch()
        model.fit(data, epochs=1, steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[watch])
        return watch.seconds

    return run


def bench_step(batch=64):
    """Our training step against plain Keras fit on the same network: ResNet18 of 16 channels, 64 px, batch 64."""
    from revisit_ssl.data import open_source, train_batches
    from revisit_ssl.distribute import use_xla
    from revisit_ssl.recipes import get_recipe
    from revisit_ssl.training import Plan, build_backbone, build_pretext, compile_pretext

    source = open_source("toy_scenes", "train")
    xla = use_xla(tf.distribute.get_strategy())
    without = dict(views__crop="center", views__flip=False, views__color="none")
    rows = []
    for what, changes in {"supervised, no views": without, "supervised, crop + flip + colour": {}}.items():
        recipe = get_recipe("supervised", backbone="resnet18", batch_size=batch, **changes)
        model = build_pretext(recipe, source)
        compile_pretext(model, recipe, Plan(10**6, 10**7), xla)
        ours = train_batches(source, batch_size=batch, crops=model.crops, seed=0)
        backbone = build_backbone(recipe)
        plain = keras.Model(backbone.input, keras.layers.Dense(10)(backbone.output["pre_logits"]))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        plain.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"], jit_compile=xla)
        theirs = tf.data.Dataset.from_tensor_slices((source.images, source.labels)).shuffle(5000, seed=0).repeat()
        theirs = theirs.batch(batch, drop_remainder=True)
        theirs = theirs.map(lambda x, y: (tf.cast(x, tf.float32) / 127.5 - 1, y)).prefetch(2)
        seconds = alternate(fit_seconds(model, ours), fit_seconds(plain, theirs))
        rows.append(row(what, *(1000 * s for s in seconds), "ms/step", "keras.Model.fit, no views", target=1.1))
    return rows


def bench_views(batch=64, size=224):
    """Our views on a batch against tf.image or a Keras layer doing the same; images per second per core."""
    from revisit_ssl.views import color, crops

    images = tf.random.stateless_uniform([batch, 256, 256, 3], [0, 1])
    small = images[:, :size, :size]
    spec = crops.CropSpec(size=size)
    layers = keras.layers

    def each(function):
        return lambda x: tf.map_fn(function, x)

    def crop_one(image):
        begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
            [256, 256, 3], tf.zeros([1, 1, 4]), seed=[1, 2], area_range=(0.08, 1.0), min_object_covered=0.0
        )
        return tf.ensure_shape(tf.image.resize(tf.slice(image, begin, extent), [size, size]), [size, size, 3])

    def jitter_one(image):
        image = tf.image.stateless_random_brightness(image, 0.4, [1, 2])
        image = tf.image.stateless_random_contrast(image, 0.6, 1.4, [1, 2])
        image = tf.image.stateless_random_saturation(image, 0.6, 1.4, [1, 2])
        return tf.image.stateless_random_hue(image, 0.1, [1, 2])

    jitter = layers.RandomColorJitter((0, 1), 0.4, (0.6, 1.4), (0.4, 0.6), 0.1)
    blur = layers.RandomGaussianBlur(kernel_size=23, sigma=1.0, value_range=(0, 1))

    def jitter_ours(x):
        return color.color_jitter(x, (1, 2), brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)

    pairs = [
        ("random resized crop", images, lambda x: crops.cut(x, spec, (1, 2)), each(crop_one), "tf.image, one by one"),
        ("colour jitter", small, jitter_ours, each(jitter_one), "tf.image, one by one"),
        ("colour jitter", small, jitter_ours, jitter, "Keras RandomColorJitter"),
        (
            "gaussian blur, 23 taps", small,
            lambda x: color.random_gaussian_blur(x, (1, 2), size=23), blur, "Keras RandomGaussianBlur",
        ),
    ]  # fmt: skip
    rows = []
    for what, data, ours, theirs, rival in pairs:
        ours, theirs = (tf.function(lambda x, f=f: tf.reduce_sum(f(x))) for f in (ours, theirs))
        seconds = alternate(timed(lambda f=ours, x=data: float(f(x))), timed(lambda f=theirs, x=data: float(f(x))), 3)
        cores = os.cpu_count()
        rates = [batch / s / cores for s in seconds]
        rows.append(row(what, *(1000 * s / batch for s in seconds), "ms/image", rival, images_per_second_core=rates[0]))
    return rows


def bench_lbfgs(rows=10_000, features=2_048, classes=100):
    """Our L-BFGS probe's solver against scikit-learn at the same penalty and gradient tolerance, float32."""
    from sklearn.linear_model import LogisticRegression as Rival

    from revisit_ssl.evaluators.lbfgs import LogisticRegression

    # Like a network's features: positive, correlated, with a falling spectrum.
    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, rows)
    hidden = 0.6 * draw.normal(size=(classes, 256))[labels] + 1.5 * draw.normal(size=(rows, 256))
    hidden = hidden * np.arange(1, 257) ** -0.5 @ draw.normal(size=(256, features)) / 4
    x = np.maximum(hidden + 0.3 * draw.normal(size=(rows, features)), 0).astype(np.float32)
    penalty, found = 100 / (features * classes), {}

    def ours():
        # 64 eps is the function tolerance that scikit-learn gives SciPy.
        options = {"gradient_tolerance": 1e-4, "function_tolerance": 64 * np.finfo(float).eps}
        found["ours"] = LogisticRegression(x, labels, classes).minimize(penalty, **options).vector

    def theirs():
        fit = Rival(C=1 / (2 * rows * penalty), tol=1e-4, max_iter=800).fit(x, labels)
        found["theirs"] = np.concatenate([fit.coef_.T.ravel(), fit.intercept_]).astype(np.float64)

    seconds = alternate(timed(ours), timed(theirs), 3)
    exact = LogisticRegression(x, labels, classes, dtype="float64")
    objectives = [exact.objective(found[who], penalty)[0] for who in ("ours", "theirs")]
    difference = abs(objectives[0] / objectives[1] - 1)
    what = f"L-BFGS, {rows:,} x {features:,}, {classes} classes"
    return [row(what, *seconds, "s", "scikit-learn", 0.8, objective_difference=difference)]


def bench_startup():
    """Fresh processes: import, and import to the end of the first training step (smoke preset)."""
    code = {
        "import revisit_ssl": "import revisit_ssl",
        "import and first step": (
            "from revisit_ssl import get_recipe, pretrain; import tempfile;"
            "pretrain(get_recipe('rotation', 'smoke', max_steps=1), tempfile.mkdtemp(), quiet=True)"
        ),
    }
    rival = "import tensorflow, keras alone"
    base = timed(lambda: subprocess.run([sys.executable, "-c", "import tensorflow, keras; keras.layers"], check=True))
    rows = []
    for what, c in code.items():
        ours = timed(lambda c=c: subprocess.run([sys.executable, "-c", c], check=True))
        rows.append(row(what, *alternate(ours, base, 3), "s", rival))
    return rows


MEMORY = """
import re, sys, time
import tensorflow as tf
from revisit_ssl.backbones import BACKBONES
name, width, batch, side = sys.argv[1], *map(int, sys.argv[2:5])
gpu = bool(tf.config.list_physical_devices("GPU"))
options = {"recompute": True} if sys.argv[5:] else {}
model = BACKBONES[name](width, input_shape=(side, side, 3), stem="paper" if gpu else "small", **options)
images = tf.random.stateless_uniform([batch, side, side, 3], [0, 1])

@tf.function(jit_compile=gpu)
def step():
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(images, training=True)["pre_logits"]))
    return [tf.reduce_sum(g) for g in tape.gradient(loss, model.trainable_variables)]

def held(what):
    # Not ru_maxrss: a child inherits that from its parent. KiB.
    if gpu:
        return tf.config.experimental.get_memory_info("GPU:0")[{"VmRSS": "current", "VmHWM": "peak"}[what]] / 1024
    return int(re.search(what + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1))

before = held("VmRSS")
[value.numpy() for value in step()]
times = []
for _ in range(3):
    begun = time.perf_counter()
    [value.numpy() for value in step()]
    times.append(time.perf_counter() - begun)
print((held("VmHWM") - before) / 1024, sorted(times)[1])
"""
LIMIT = 10 * 1024  # MB that a child may hold


def bench_memory(rounds=3):
    """RevNet50 that recomputes its activations against one that stores them and ResNets of the same width.

    Memory: peak of a training step above what the built network holds; of the process (64 px, 3x3/2 stem, Linux; the
    traced graph, 80 to 100 MB, is in it), or of the allocator where there is a GPU (224 px). Each network in a process
    of its own, in turn.
    """
    gpu = bool(tf.config.list_physical_devices("GPU"))
    rivals = {
        "stored activations": ["revnet50"], "ResNet50 v2": ["resnet50_v2"], "ResNet50 v1": ["resnet50_v1"],
    }  # fmt: skip
    networks = {"ours": ["revnet50", "recompute"], **rivals}
    rows = []
    for width, batch, side in [(4, 128, 224), (8, 64, 224)] if gpu else [(1, 256, 64), (4, 96, 64)]:
        found = {who: [] for who in networks}
        for _ in range(rounds):
            for who, (name, *recompute) in networks.items():
                if None not in found[who]:
                    size = [str(width), str(batch), str(side)]
                    found[who].append(capped([sys.executable, "-c", MEMORY, name, *size, *recompute], LIMIT))
        memory, seconds = ({who: median_of(values, i) for who, values in found.items()} for i in (0, 1))
        what, size = f"RevNet50 {width}x with recomputation", {"batch": batch, "side": side}
        for rival in rivals:
            targets = (0.5, 1.5) if rival == "stored activations" else (None, None)
            rows.append(row(f"{what}: memory", memory["ours"], memory[rival], "MB", rival, targets[0], **size))
            rows.append(row(f"{what}: time", seconds["ours"], seconds[rival], "s/step", rival, targets[1], **size))
    return rows


def median_of(values, i):
    """Median of the i-th numbers; None where a child was stopped."""
    return None if None in values else statistics.median(value[i] for value in values)


def capped(command, limit):
    """The numbers on the last line that ``command`` prints, or None: stopped since it held more than ``limit`` MB."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, **pipes) as child:
        stopped = False
        while child.poll() is None and not stopped:
            time.sleep(0.02)
            stopped = resident(child.pid) > limit
        if stopped:
            child.kill()
        output, errors = child.communicate()
    if stopped:
        return None
    if child.returncode:
        raise InputError(f"a benchmark's process failed: {(errors.strip().splitlines() or ['no message'])[-1]}")
    return [float(number) for number in output.splitlines()[-1].split()]


def resident(pid):
    """MB of memory that a process holds; 0 where it has ended, or the system does not say (no Linux)."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, IndexError):
        return 0.0


BENCHES = {
    "step": bench_step, "views": bench_views, "lbfgs": bench_lbfgs, "startup": bench_startup, "memory": bench_memory,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compares our speed with the usual alternative's."""

    what: tuple[Literal["step", "views", "lbfgs", "startup", "memory"], ...] = tuple(BENCHES)
    """Which comparisons to run."""
    out: str | None = None
    """Also write the rows to this file, as JSON lines."""


def main():
    options = tyro.cli(Bench, prog="bench.py", description=__doc__)
    rows = []
    tf.get_logger().setLevel("ERROR")  # tracing anew for each pair is what is wanted here
    print("| what | ours | theirs | ratio | target | rival | more |\n|---|---|---|---|---|---|---|", flush=True)
    # Memory first: on a GPU the other comparisons would make this process take it all.
    for name in sorted(options.what, key="memory".__ne__):
        for r in BENCHES[name]():
            target = f"≤ {r['target']}" if "target" in r else ""
            known = ("what", "ours", "theirs", "ratio", "unit", "rival", "target")
            more = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in r.items() if name not in known)
            sides = f"{shown(r['ours'], r['unit'])} | {shown(r['theirs'], r['unit'])}"
            ratio = f"{r['ratio']:.2f}" if r["ratio"] is not None else ""
            print(f"| {r['what']} | {sides} | {ratio} | {target} | {r['rival']} | {more} |", flush=True)
            rows.append(r | provenance())
    if options.out:
        write_atomically(options.out, "".join(json.dumps(r) + "\n" for r in rows))
    print(f"\n{rows[0]['hardware']}, commit {rows[0]['commit']}, {rows[0]['date']}, NumPy {np.__version__}")


if __name__ == "__main__":
    main()
