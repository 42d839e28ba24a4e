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
    return {"what": what, "ours": ours, "theirs": theirs, "ratio": ours / theirs, "unit": unit, "rival": rival} | (
        {"target": target} if target else {}
    ) | more  # fmt: skip


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
import numpy as np, tensorflow as tf
from revisit_ssl.backbones import BACKBONES
name, recompute, width, batch = sys.argv[1], sys.argv[2] == "True", int(sys.argv[3]), int(sys.argv[4])
options = {"recompute": True} if recompute else {}
model = BACKBONES[name](width, input_shape=(64, 64, 3), stem="small", **options)
images = tf.random.stateless_uniform([batch, 64, 64, 3], [0, 1])

@tf.function
def step():
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(images, training=True)["pre_logits"]))
    return [tf.reduce_sum(g) for g in tape.gradient(loss, model.trainable_variables)]

def peak():
    # Not ru_maxrss: a child inherits that from its parent. KiB.
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read()).group(1))

before = peak()
step()
times = []
for _ in range(3):
    begun = time.perf_counter(); step(); times.append(time.perf_counter() - begun)
print((peak() - before) / 1024, sorted(times)[1])
"""


def bench_memory(width=1, batch=256):
    """RevNet50 with and without recomputation, 64 px: peak memory of a step above that of the built network (Linux)."""
    found = {}
    for recompute in (True, False):
        command = [sys.executable, "-c", MEMORY, "revnet50", str(recompute), str(width), str(batch)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[recompute] = [float(x) for x in output.split()[-2:]]
    rival = "stored activations"
    return [
        row("RevNet50 with recomputation: memory", found[True][0], found[False][0], "MB", rival, target=0.5),
        row("RevNet50 with recomputation: time", found[True][1] * 1000, found[False][1] * 1000, "ms/step", rival, 1.5),
    ]


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
    for name in options.what:
        for r in BENCHES[name]():
            target = f"≤ {r['target']}" if "target" in r else ""
            known = ("what", "ours", "theirs", "ratio", "unit", "rival", "target")
            more = ", ".join(f"{name.replace('_', ' ')} {value:.2g}" for name, value in r.items() if name not in known)
            print(
                f"| {r['what']} | {r['ours']:.3g} {r['unit']} | {r['theirs']:.3g} {r['unit']} | {r['ratio']:.2f} "
                f"| {target} | {r['rival']} | {more} |",
                flush=True,
            )
            rows.append(r | provenance())
    if options.out:
        write_atomically(options.out, "".join(json.dumps(r) + "\n" for r in rows))
    print(f"\n{rows[0]['hardware']}, commit {rows[0]['commit']}, {rows[0]['date']}, NumPy {np.__version__}")


if __name__ == "__main__":
    main()
