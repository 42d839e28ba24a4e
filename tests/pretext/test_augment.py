"""``Pretext.augment``: the operations of a ViewSpec in its order, each view with its own chances."""

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.pretext import Pretext
from revisit_ssl.recipe import ViewSpec
from revisit_ssl.views import blur, color, geometry, randaugment
from revisit_ssl.views.draws import fold

IMAGES = np.random.default_rng(0).random((40, 12, 12, 3), np.float32)
SEED = (3, 4)
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
STEPS = {
    "flip": lambda x: geometry.random_flip(x, fold(SEED, 101)),
    "color": lambda x: color.color_jitter(x, fold(SEED, 102), **JITTER, probability=0.8),
    "gray": lambda x: color.random_grayscale(x, fold(SEED, 103), probability=0.2),
    "blur": lambda x: blur.random_gaussian_blur(x, fold(SEED, 104), sigma=(0.1, 2.0), probability=0.5),
    "solarize": lambda x: color.random_solarize(x, fold(SEED, 105), probability=0.3),
    "randaugment": lambda x: randaugment.rand_augment(x, fold(SEED, 106), layers=1),
}


def augment(spec, view=0, **changes):
    import keras

    image = keras.Input([12, 12, 3])
    pretext = Pretext(keras.Model(image, {"pre_logits": keras.layers.GlobalAveragePooling2D()(image)}), views=spec)
    return pretext.augment(tf.constant(IMAGES), SEED, view, **changes).numpy()


@pytest.mark.parametrize(
    "order",
    [
        ("flip", "color", "gray", "blur", "solarize", "randaugment"),
        ("color", "gray", "blur", "flip", "randaugment", "solarize"),
        ("randaugment", "solarize", "gray", "color", "flip", "blur"),
    ],
)
def test_operations_run_in_the_order_of_the_spec(order):
    spec = ViewSpec(
        order=order,
        color="jitter",
        jitter_probability=0.8,
        gray_probability=0.2,
        blur_probability=(0.5,),
        solarize_probability=(0.3,),
        randaugment_layers=1,
        normalize="cifar",
    )
    expected = tf.constant(IMAGES)
    for name in order:
        expected = STEPS[name](expected)
    expected = (expected - [0.4914, 0.4822, 0.4465]) / [0.2023, 0.1994, 0.2010]
    np.testing.assert_allclose(augment(spec), expected, atol=1e-5)


def test_what_is_off_does_not_run():
    plain = ViewSpec(flip=False, color="none", normalize="none")
    np.testing.assert_array_equal(augment(plain), IMAGES)
    np.testing.assert_allclose(augment(plain, normalize="pm1"), 2 * IMAGES - 1, atol=1e-6)


def test_each_view_has_its_own_chances_of_blur_and_solarise():
    spec = ViewSpec(
        flip=False, color="none", normalize="none", blur_probability=(1.0, 0.0), solarize_probability=(0.0, 1.0)
    )
    first, second, third = (augment(spec, view) for view in range(3))
    np.testing.assert_allclose(second, np.where(IMAGES < 0.5, IMAGES, 1 - IMAGES), atol=1e-6)
    np.testing.assert_array_equal(third, second)  # the last number serves the rest
    rough = [np.abs(np.diff(x, axis=1)).mean() for x in (first, IMAGES)]
    assert rough[0] < 0.8 * rough[1] and np.abs(first.mean() - IMAGES.mean()) < 0.01


def test_the_box_is_erased_after_the_normalisation():
    spec = ViewSpec(flip=False, color="none", normalize="pm1", erasing_probability=1.0)
    erased = (augment(spec) == 0).all(-1)
    assert erased.any((1, 2)).all() and 0.02 < erased.mean() < 0.33
    np.testing.assert_allclose(augment(spec)[~erased], 2 * IMAGES[~erased] - 1, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"views__order": ("color", "gray"), "views__flip": True}, "leaves out flip, which is switched on"),
        ({"views__order": ("flip", "color", "flip")}, "names an operation twice"),
        ({"views__blur_probability": (0.5, 1.5)}, r"views.blur_probability \(0.5, 1.5\) must lie in"),
        ({"views__solarize_probability": ()}, r"views.solarize_probability \(\) must lie in"),
        ({"views__erasing_probability": -0.1}, "views.erasing_probability -0.1 must lie in"),
        ({"views__randaugment_layers": -1}, "views.randaugment_layers -1 must not be negative"),
    ],
)
def test_bad_specs_say_so(changes, words):
    with pytest.raises(InputError, match=words):
        get_recipe("rotation", "smoke", **changes)
