"""Runs tensorflow-addons and keras-cv in an environment of their own and stores what they answer (see README.md).

    python tests/parity/make_goldens.py [--env DIR]

Neither package works beside Keras 3, so the script builds a Python 3.11 environment with TensorFlow 2.15.1 in DIR (kept
and used again if it exists; a temporary folder otherwise), runs itself there, and writes tests/goldens/parity/*.npz.
"""

import argparse
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

PINS = ["tensorflow==2.15.1", "tensorflow-addons==0.23.0", "keras-cv==0.9.0", "protobuf<5", "numpy<2"]
# keras-cv draws in tensorflow-datasets, whose newest tensorflow-metadata wants protobuf 5.
PINS += ["tensorflow-metadata<1.17"]
OUT = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "parity"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", type=pathlib.Path, help="folder of the environment; a temporary one by default")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help="folder of the .npz files")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        compute(arguments.out)
    elif arguments.env:
        run_in(arguments.env, arguments.out)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_in(pathlib.Path(folder) / "env", arguments.out)


def run_in(env, out):
    python = env / "bin" / "python"
    if not python.exists():
        base = sys.executable if sys.version_info[:2] == (3, 11) else shutil.which("python3.11")
        if base is None:
            sys.exit("tensorflow-addons has wheels up to Python 3.11 only and no python3.11 was found; install one")
        subprocess.run([base, "-m", "venv", env], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PINS], check=True)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    command = [python, __file__, "--inside", "--out", out.resolve()]
    subprocess.run(command, check=True, env={**os.environ, **quiet}, cwd=env)


def compute(out):
    import numpy as np

    out.mkdir(parents=True, exist_ok=True)
    names = ["tensorflow", "tensorflow-addons", "keras-cv", "keras", "numpy"]
    versions = np.array([f"{name} {importlib.metadata.version(name)}" for name in names])
    for name, make in {"triplet_semihard": triplet, "gaussian_filter2d": gaussian, "keras_cv_color": color}.items():
        arrays = {key: np.asarray(value) for key, value in make(np).items()}
        np.savez_compressed(out / f"{name}.npz", versions=versions, **arrays)
        print(f"{out / name}.npz: {len(arrays)} arrays, {(out / f'{name}.npz').stat().st_size} bytes")


def triplet(np):
    """tfa.losses.triplet_semihard_loss and its gradient: three batches, three distances, two margins."""
    import tensorflow as tf
    import tensorflow_addons as tfa

    draw = np.random.RandomState(7)
    rows = draw.normal(size=(12, 6))
    crowded = draw.normal(size=(6, 1, 4)) + 0.3 * draw.normal(size=(6, 3, 4))
    batches = {
        "unit_rows": (np.arange(12) % 4, rows / np.linalg.norm(rows, axis=1, keepdims=True)),
        "unbalanced": (np.array([0, 0, 0, 0, 0, 1, 1, 2, 3, 3]), 1.7 * draw.normal(size=(10, 5))),
        # What exemplar training sees: six images of three crops each, image by image.
        "images_of_crops": (np.repeat(np.arange(6), 3), crowded.reshape(18, 4)),
    }
    arrays = {}
    for batch, (labels, embeddings) in batches.items():
        arrays[f"{batch}__labels"] = labels.astype(np.int64)
        arrays[f"{batch}__embeddings"] = embeddings = embeddings.astype(np.float32)
        for distance in ("L2", "squared-L2", "angular"):
            for margin in (0.5, 1.0):
                x = tf.constant(embeddings)
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    loss = tfa.losses.triplet_semihard_loss(labels, x, margin=margin, distance_metric=distance)
                key = f"{batch}__{distance}__margin_{margin}"
                arrays[f"{key}__loss"] = loss
                arrays[f"{key}__gradient"] = tape.gradient(loss, x)
    return arrays


def gaussian(np):
    """tfa.image.gaussian_filter2d (REFLECT) and keras_cv's RandomGaussianBlur with its sigma pinned (zero padding)."""
    import keras_cv
    import tensorflow as tf
    import tensorflow_addons as tfa

    images = photograph_like(np)
    arrays = {"images": images}
    for size, sigma in ((3, 0.5), (5, 1.0), (7, 2.0), (9, 0.1)):
        key = f"size_{size}__sigma_{sigma}"
        for padding in ("REFLECT", "SYMMETRIC", "CONSTANT"):
            arrays[f"{key}__{padding.lower()}"] = tfa.image.gaussian_filter2d(images, size, sigma, padding)
        blur = keras_cv.layers.RandomGaussianBlur(kernel_size=size, factor=(sigma, sigma))
        arrays[f"{key}__keras_cv"] = blur(tf.constant(images))
    return arrays


def color(np):
    """keras_cv's colour layers on images in [0, 1], one fixed factor per image instead of a random one."""
    import keras_cv.layers as layers
    import tensorflow as tf

    images = photograph_like(np)
    unit = (0.0, 1.0)
    arrays = {"images": images}

    def transform(name, layer, factors, transformations):
        arrays[f"{name}__factors"] = np.float32(factors)
        arrays[f"{name}__images"] = layer.augment_images(tf.constant(images), transformations=transformations)

    def column(factors):
        return tf.reshape(tf.constant(factors, tf.float32), [-1, 1, 1, 1])

    deltas = [-0.4, -0.1, 0.1, 0.4]
    transform("brightness", layers.RandomBrightness(0.5, unit), deltas, column(deltas))
    factors = [0.4, 0.8, 1.2, 1.8]
    transform("contrast", layers.RandomContrast(unit, 0.9), factors, column(factors))
    # The layer's own scale is y / (1 + y) for a saturation multiplied by y.
    pinned = tf.constant([y / (1 + y) for y in factors], tf.float32)
    transform("saturation", layers.RandomSaturation(0.5), factors, pinned)
    turns = [-0.4, -0.1, 0.1, 0.4]  # of the whole colour circle
    transform("hue", layers.RandomHue(0.5, unit), turns, tf.constant(turns, tf.float32))
    arrays["grayscale__images"] = layers.Grayscale(output_channels=3)(tf.constant(images))
    # The layer's threshold is on 0..255 whatever the value range is.
    thresholds = [0.0, 0.3, 0.5, 0.8]
    pinned = {"thresholds": 255 * column(thresholds), "additions": column([0.0] * 4)}
    transform("solarization", layers.Solarization(unit), thresholds, pinned)
    return arrays


def photograph_like(np):
    """float32 [4, 14, 11, 3] in [0, 1]: smooth colours, noise, and rows that are black, white, gray and pure red."""
    draw = np.random.RandomState(3)
    y, x = np.mgrid[0:14, 0:11]
    waves = [np.sin(0.5 * y * a + 0.4 * x * b + c) for a, b, c in draw.uniform(0, 2, size=(12, 3))]
    images = 0.5 + 0.35 * np.stack(waves).reshape(4, 3, 14, 11).transpose(0, 2, 3, 1)
    images = np.clip(images + 0.08 * draw.normal(size=images.shape), 0, 1)
    images[:, 0] = 0
    images[:, 1] = 1
    images[:, 2] = 0.25
    images[:, 3] = (1, 0, 0)
    return images.astype(np.float32)


if __name__ == "__main__":
    main()
