"""Every random view: the same eagerly, in tf.data and compiled; a function of the seed; rows of a global draw."""

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.views import blur, color, crops, draws, geometry, patches, pixels, randaugment, resample

BATCH, SIDE = 6, 18
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "probability": 0.8}

VIEWS = {
    "brightness": lambda x, s: color.random_brightness(x, s, strength=0.4, probability=0.7),
    "contrast": lambda x, s: color.random_contrast(x, s, strength=0.4),
    "saturation": lambda x, s: color.random_saturation(x, s, strength=0.4),
    "saturation_hsv": lambda x, s: color.random_saturation(x, s, strength=0.4, mode="hsv"),
    "hue": lambda x, s: color.random_hue(x, s, strength=0.1),
    "jitter": lambda x, s: color.color_jitter(x, s, **JITTER),
    "jitter_hsv": lambda x, s: color.color_jitter(x, s, **JITTER, saturation_mode="hsv"),
    "grayscale": lambda x, s: color.random_grayscale(x, s, probability=0.5),
    "blur": lambda x, s: blur.random_gaussian_blur(x, s, sigma=(0.1, 2.0), probability=0.7),
    "solarize": lambda x, s: color.random_solarize(x, s, probability=0.5),
    "inception_color": color.inception_color,
    "flip": geometry.random_flip,
    "erasing": lambda x, s: geometry.random_erasing(x, s, probability=0.8),
    "rand_augment": lambda x, s: randaugment.rand_augment(x, s, probability=0.9),
    "random_resized_crop": lambda x, s: crops.random_resized_crop(x, s, size=9),
    "inception_crop": lambda x, s: crops.inception_crop(x, s, size=9),
    "random_crop": lambda x, s: crops.random_crop(x, s, size=9),
    "grid_patches": lambda x, s: patches.grid_patches(x, s, cell=6, size=4),
    "dropout": lambda x, s: draws.dropout(x, 0.3, s),
} | {
    f"cut_{method}": lambda x, s, method=method: crops.cut(x, crops.CropSpec(size=9, count=2, method=method), s)
    for method in ("resized", "inception", "random")
} | {
    f"cut_{kernel}": lambda x, s, kernel=kernel: crops.cut(x, crops.CropSpec(size=7, kernel=kernel), s)
    for kernel in ("antialias", "area")
}

FIXED = {
    "rotations": geometry.rotations,
    "standardize": pixels.standardize,
    "imagenet": lambda x: pixels.normalize_input(x, "imagenet"),
    "cifar": lambda x: pixels.normalize_input(x, "cifar"),
    "center_crop": lambda x: resample.center_crop(x, 9),
    "central_fraction": resample.central_fraction,
    "resize": lambda x: resample.resize_shorter_side(x, 11),
    "antialias": lambda x: resample.resize(x, (7, 5), kernel="antialias"),
    "area": lambda x: resample.resize(x, (7, 5), kernel="area"),
    "probe_patches": lambda x: patches.probe_patches(x, size=5),
    "cut_center": lambda x: crops.cut(x, crops.CropSpec(size=9, method="center"), 0),
}

IMAGES = np.random.default_rng(0).random((BATCH, SIDE, SIDE, 3), np.float32)


# Tracing and compiling are what takes time here: the others run the same code as one of these.
TWINS = (
    "brightness",
    "contrast",
    "saturation",
    "saturation_hsv",
    "hue",
    "jitter_hsv",
    "random_resized_crop",
    "inception_crop",
    "random_crop",
)
COMPILED = [name for name in VIEWS if name not in TWINS]


def seed_of(name, key=(1, 2)):
    """Each view gets a seed of its own."""
    return draws.fold(key, list(VIEWS).index(name))


@pytest.fixture(scope="module")
def eager():
    images = tf.constant(IMAGES)
    random = {name: view(images, seed_of(name)).numpy() for name, view in VIEWS.items()}
    return random | {name: view(images).numpy() for name, view in FIXED.items()}


def assert_same(output, expected):
    assert output.shape == expected.shape
    np.testing.assert_allclose(output, expected, atol=2e-5)


def compiled(view, *arguments):
    function = tf.function(view, jit_compile=True, autograph=False).get_concrete_function(*arguments)
    assert function.structured_outputs.shape.is_fully_defined()
    return function(*arguments)


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_equals_eager(name, eager):
    key = tf.constant([1, 2], tf.int64)
    assert_same(compiled(lambda x, k: VIEWS[name](x, seed_of(name, k)), tf.constant(IMAGES), key), eager[name])


def test_compiled_equals_eager_without_a_seed(eager):
    for name, view in FIXED.items():
        assert_same(compiled(view, tf.constant(IMAGES)), eager[name])


def test_tf_data_equals_eager(eager):
    """The seed comes with the batch, as a step number does; shapes stay static but for the batch."""

    @tf.autograph.experimental.do_not_convert
    def everything(images, key):
        random = {name: VIEWS[name](images, seed_of(name, key)) for name in COMPILED}
        return random | {name: view(images) for name, view in FIXED.items()}

    keys = tf.data.Dataset.from_tensors(tf.constant([1, 2], tf.int64))
    images = tf.data.Dataset.from_tensor_slices(IMAGES).batch(BATCH)
    dataset = tf.data.Dataset.zip(images, keys).map(everything)
    for name, output in next(iter(dataset)).items():
        assert dataset.element_spec[name].shape[1:] == eager[name].shape[1:]
        assert_same(output, eager[name])


@pytest.mark.parametrize("name", VIEWS)
def test_replicas_share_one_global_draw(name, eager):
    seeds = [draws.Seed(seed_of(name).key, tf.constant(replica), 2) for replica in range(2)]
    halves = [VIEWS[name](tf.constant(half), seed) for half, seed in zip(np.split(IMAGES, 2), seeds, strict=True)]
    np.testing.assert_allclose(np.concatenate(halves), eager[name], atol=1e-6)


@pytest.mark.parametrize("name", VIEWS)
def test_same_seed_same_draw_other_step_other_draw(name, eager):
    seed = seed_of(name)
    np.testing.assert_array_equal(VIEWS[name](tf.constant(IMAGES), seed), eager[name])
    other = [VIEWS[name](tf.constant(IMAGES), draws.fold(seed, step)).numpy() for step in range(1, 4)]
    assert any(np.abs(value - eager[name]).max() > 1e-3 for value in other)


def test_images_of_a_batch_differ():
    same = tf.constant(np.tile(IMAGES[:1], (16, 1, 1, 1)))
    for name, view in VIEWS.items():
        rows = view(same, (4, 4)).numpy().reshape(16, -1)
        assert len(np.unique(rows, axis=0)) > 1, name
