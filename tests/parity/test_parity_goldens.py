"""What tensorflow-addons and keras-cv answered (README.md here), against ours and against loops typed from formulas."""

import itertools
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.pretext.losses import triplet_semihard
from revisit_ssl.views import blur, color

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "parity"


def golden(name):
    return dict(np.load(GOLDENS / f"{name}.npz"))


def furthest(a, b):
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


# --- triplet loss -----------------------------------------------------------------------------------------------------


def distances(x, metric):
    """[n, n] float64: Euclidean, its square, or one minus the cosine."""
    n = len(x)
    d = np.zeros([n, n])
    for i, j in itertools.product(range(n), repeat=2):
        if metric == "angular":
            d[i, j] = max(0.0, 1.0 - x[i] @ x[j] / np.sqrt((x[i] @ x[i]) * (x[j] @ x[j])))
        else:
            squared = (x[i] - x[j]) @ (x[i] - x[j])
            d[i, j] = squared if metric == "squared-L2" else np.sqrt(squared)
    return d


def semihard_loss(labels, x, margin, metric):
    """Mean over ordered positive pairs (a, p) of max(0, margin + d(a, p) - d(a, n)).

    n is the nearest negative that is farther than p; the farthest negative where none is.
    """
    d = distances(x, metric)
    terms = []
    for a, p in itertools.permutations(range(len(x)), 2):
        if labels[a] == labels[p]:
            negatives = [d[a, n] for n in range(len(x)) if labels[n] != labels[a]]
            beyond = [v for v in negatives if v > d[a, p]]
            terms.append(max(0.0, margin + d[a, p] - (min(beyond) if beyond else max(negatives))))
    return np.mean(terms)


@pytest.mark.parametrize("metric", ["L2", "squared-L2", "angular"])
@pytest.mark.parametrize("batch", ["unit_rows", "unbalanced", "images_of_crops"])
def test_triplet_goldens_are_the_formula(batch, metric):
    g = golden("triplet_semihard")
    labels, x = g[f"{batch}__labels"], g[f"{batch}__embeddings"].astype(np.float64)
    for margin in (0.5, 1.0):
        key = f"{batch}__{metric}__margin_{margin}"
        np.testing.assert_allclose(semihard_loss(labels, x, margin, metric), g[f"{key}__loss"], atol=1e-5)
        # Along eight random directions: as sharp as entry by entry, in a fraction of the time.
        for direction in np.random.default_rng(0).normal(size=(8, *x.shape)):
            direction /= np.linalg.norm(direction)
            up, down = (semihard_loss(labels, x + e * direction, margin, metric) for e in (1e-6, -1e-6))
            np.testing.assert_allclose((up - down) / 2e-6, (g[f"{key}__gradient"] * direction).sum(), atol=1e-5)


@pytest.mark.parametrize("metric", ["L2", "squared-L2", "angular"])
@pytest.mark.parametrize("batch", ["unit_rows", "unbalanced", "images_of_crops"])
def test_triplet_loss_is_tensorflow_addons(batch, metric):
    g = golden("triplet_semihard")
    x = tf.constant(g[f"{batch}__embeddings"])
    for margin in (0.5, 1.0):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = triplet_semihard(x, g[f"{batch}__labels"], margin, metric.lower().replace("squared-", "squared_"))
        key = f"{batch}__{metric}__margin_{margin}"
        np.testing.assert_allclose(loss, g[f"{key}__loss"], atol=1e-5)
        np.testing.assert_allclose(tape.gradient(loss, x), g[f"{key}__gradient"], atol=1e-5)


# --- blur -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "sigma"), [(3, 0.5), (5, 1.0), (7, 2.0), (9, 0.1)])
@pytest.mark.parametrize("padding", ["REFLECT", "SYMMETRIC", "CONSTANT"])
def test_blur_is_tensorflow_addons(size, sigma, padding):
    g = golden("gaussian_filter2d")
    ours = blur.gaussian_blur(g["images"], sigma, size, padding=padding)
    np.testing.assert_allclose(ours, g[f"size_{size}__sigma_{sigma}__{padding.lower()}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "sigma", "at_the_border"), [(3, 0.5, 0.177), (5, 1.0, 0.452), (7, 2.0, 0.546)])
def test_blur_is_keras_cv_with_its_black_border(size, sigma, at_the_border):
    g = golden("gaussian_filter2d")
    theirs = g[f"size_{size}__sigma_{sigma}__keras_cv"]
    ours = blur.gaussian_blur(g["images"], sigma, size, padding="CONSTANT")
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    # Our default reflects the image instead: the same away from the border only.
    reflected = blur.gaussian_blur(g["images"], sigma, size).numpy()
    inner = np.s_[:, size // 2 : -(size // 2), size // 2 : -(size // 2)]
    np.testing.assert_allclose(reflected[inner], theirs[inner], atol=1e-5, rtol=0)
    assert furthest(reflected, theirs) == pytest.approx(at_the_border, abs=1e-3)


# --- colour -----------------------------------------------------------------------------------------------------------


def clipped(images):
    return np.clip(images, 0, 1)


@pytest.mark.parametrize(
    ("name", "ours", "other", "difference"),
    [
        # name, our function in keras-cv's meaning, in torchvision's (the default), their largest difference
        ("brightness", dict(mode="shift"), dict(mode="scale"), 0.400),
        ("contrast", dict(around="channel"), dict(around="gray"), 0.0835),
        ("saturation", dict(mode="hsv"), dict(mode="luma"), 0.4206),
    ],
)
def test_color_is_keras_cv_where_the_word_means_the_same(name, ours, other, difference):
    g = golden("keras_cv_color")
    adjust = getattr(color, f"adjust_{name}")
    factors, theirs = g[f"{name}__factors"], g[f"{name}__images"]
    np.testing.assert_allclose(clipped(adjust(g["images"], factors, **ours)), theirs, atol=1e-5, rtol=0)
    meant = 1 + factors if name == "brightness" else factors
    assert furthest(clipped(adjust(g["images"], meant, **other)), theirs) == pytest.approx(difference, rel=0.02)


def test_hue_is_keras_cv():
    g = golden("keras_cv_color")
    np.testing.assert_allclose(color.adjust_hue(g["images"], g["hue__factors"]), g["hue__images"], atol=1e-5, rtol=0)


def test_solarize_is_keras_cv():
    g = golden("keras_cv_color")
    for image, threshold, theirs in zip(
        g["images"], g["solarization__factors"], g["solarization__images"], strict=True
    ):
        np.testing.assert_allclose(color.solarize(image[None], threshold)[0], theirs, atol=1e-5, rtol=0)


def test_gray_is_keras_cv_up_to_its_rounded_weight():
    g = golden("keras_cv_color")
    ours = color.to_gray(tf.constant(g["images"]), mode="luma").numpy()
    theirs = g["grayscale__images"]
    # 0.2989 red there, 0.299 (ITU-R 601, Pillow) here: white is 0.9999 there.
    np.testing.assert_allclose(ours - 1e-4 * g["images"][..., :1], theirs, atol=1e-6, rtol=0)
    assert furthest(ours, theirs) == pytest.approx(1e-4, rel=0.01)


def test_every_stored_file_is_explained():
    readme = (GOLDENS.parent / "README.md").read_text()
    stored = {path.stem for path in GOLDENS.parent.glob("*/*.npz")}
    assert sorted(name for name in stored if f"`{name}" not in readme and f"| {name} |" not in readme) == []
