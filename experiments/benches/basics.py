"""Training step, views, L-BFGS and start-up beside what one would use instead."""

import io
import os
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import tensorflow as tf
from benches.measuring import alternate, compiled, fit_seconds, interleaved, row, timed
from PIL import Image

from revisit_ssl.errors import InputError


def bench_step(batch=64):
    """Our training step against plain Keras fit on the same network: ResNet18 of 16 channels, 64 px, batch 64."""
    from revisit_ssl.data import open_source, train_batches
    from revisit_ssl.distribute import use_xla
    from revisit_ssl.papers import get_recipe
    from revisit_ssl.training.build import Plan, build_backbone, build_pretext, compile_pretext

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
    from revisit_ssl.views.blur import random_gaussian_blur

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
            lambda x: random_gaussian_blur(x, (1, 2), size=23), blur, "Keras RandomGaussianBlur",
        ),
    ]
    rows = []
    for what, data, ours, theirs, rival in pairs:
        ours, theirs = (tf.function(lambda x, f=f: tf.reduce_sum(f(x)), autograph=False) for f in (ours, theirs))
        seconds = alternate(timed(lambda f=ours, x=data: float(f(x))), timed(lambda f=theirs, x=data: float(f(x))), 3)
        cores = os.cpu_count()
        rates = [batch / s / cores for s in seconds]
        rows.append(row(what, *(1000 * s / batch for s in seconds), "ms/image", rival, images_per_second_core=rates[0]))
    return rows + bench_resizing(batch, size)


def bench_resizing(batch=64, size=224):
    """Antialiased crops beside bilinear ones of the same boxes: of JPEGs on the host, of pixels on the device."""
    from revisit_ssl.data.decoding import decode_crops
    from revisit_ssl.distribute import use_xla
    from revisit_ssl.views import crops, draws

    draw = np.random.default_rng(0)
    coarse = draw.integers(0, 256, (batch, 12, 16, 3))
    photographs = [tf.cast(tf.image.resize(x, (375, 500), method="bicubic"), tf.uint8).numpy() for x in coarse]
    jpegs = [tf.io.encode_jpeg(x, quality=90) for x in photographs]
    specs = {kernel: crops.CropSpec(size=size, kernel=kernel) for kernel in ("antialias", "bilinear")}
    seeds = [draws.fold((0, i), 0) for i in range(batch)]  # of decode_crops' first crop
    corners = [crops.sample_boxes(specs["bilinear"], 375, 500, seed).numpy()[0] for seed in seeds]

    def on_host(spec):
        cut = tf.function(lambda contents, i: decode_crops(contents, {"crop": spec}, (0, i))["crop"], autograph=False)
        return timed(lambda: [cut(jpeg, tf.constant(i, tf.int64)) for i, jpeg in enumerate(jpegs)])

    def by_pillow():
        for jpeg, (top, left, height, width) in zip(jpegs, corners, strict=True):
            image = Image.open(io.BytesIO(jpeg.numpy())).convert("RGB").crop((left, top, left + width, top + height))
            np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))

    def on_device(images, spec):
        cut = compiled(lambda x: tf.reduce_sum(crops.cut(x, spec, (1, 2))), use_xla(tf.distribute.get_strategy()))
        return timed(lambda: cut(images))

    host = interleaved({name: on_host(spec) for name, spec in specs.items()} | {"pillow": timed(by_pillow)})
    host = {name: 1000 * seconds / batch for name, seconds in host.items()}
    what = f"500 x 375 JPEG to an antialiased crop of {size}, on the host"
    rows = [row(what, host["antialias"], host["bilinear"], "ms/image", "bilinear")]
    rows.append(row(what, host["antialias"], host["pillow"], "ms/image", "Pillow"))
    for before, after in ((256, size), (64, 48)):
        images = tf.constant(draw.integers(0, 256, (batch, before, before, 3), np.uint8))
        sides = [on_device(images, crops.CropSpec(size=after, kernel=kernel)) for kernel in specs]
        what = f"{batch} images of {before} px to antialiased crops of {after}, on the device"
        rows.append(row(what, *(1000 * s for s in alternate(*sides)), "ms/batch", "bilinear"))
    return rows


def bench_lbfgs(rows=10_000, features=2_048, classes=100):
    """Our L-BFGS probe's solver against scikit-learn at the same penalty and gradient tolerance, float32."""
    from sklearn.linear_model import LogisticRegression as Rival

    from revisit_ssl.evaluators.logistic import LogisticRegression

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
    """Fresh processes: import, import to the end of the first training step (smoke preset), and the README's first
    command to the line of its first step, where the scenes have to be drawn."""
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
    rows.append(row("run.py rotation to its first step's line", *alternate(first_line, base, 3), "s", rival))
    return rows


def first_line():
    """Seconds from the start of ``run.py rotation`` in empty folders until it says that its first step is done."""
    script = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "run.py")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, script, "rotation", "--data-dir", folder, "--workdir", os.path.join(folder, "run")]
        begun = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            for line in process.stdout:
                if line.startswith("first step"):
                    seconds = time.perf_counter() - begun
                    process.kill()
                    return seconds
    raise InputError(f"{' '.join(command)} ended before its first step")
