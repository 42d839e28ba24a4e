"""What several devices normalise apart, one device does with ghost groups: weights and moving statistics."""

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones.normalisation import BatchNorm, rows_of_an_image
from revisit_ssl.errors import InputError
from revisit_ssl.papers import RECIPES, get_recipe
from revisit_ssl.testing.pretext import IMAGES, PretextContract, expect_same_weights, small_recipe

# Pretexts whose target shuffles, with passes over several rows of an image: patches of InfoMin, crops of both sizes.
# Their other passes are MoCo's.
APART = ("infomin", "moco_v2_multicrop")


@pytest.mark.parametrize("name", APART)
def test_two_replicas_are_one_device_with_two_groups(name):
    """Group = a replica's rows; exported statistics = mean over replicas = mean over groups."""
    contract = PretextContract(name, small_recipe(name))
    one, _, logs = contract.trained({"backbone_options__bn_group": IMAGES // 2})
    two, _, logs2 = contract.trained({}, "mirrored")
    expect_same_weights(one, two, rtol=2e-3, atol=2e-5)
    np.testing.assert_allclose(logs2["loss"], logs["loss"], rtol=1e-3)


def test_rows_of_an_image_widen_a_group_and_nothing_else():
    x = np.random.default_rng(0).normal(size=(24, 3)).astype("f4")
    layer = BatchNorm(group=2, epsilon=0.0)
    layer.build((None, 3))
    with rows_of_an_image(6):
        found = layer(tf.constant(x), training=True).numpy()
    for first in (0, 12):  # two images of six rows
        rows = x[first : first + 12]
        np.testing.assert_allclose(found[first : first + 12], (rows - rows.mean(0)) / rows.std(0), atol=1e-5)
    with rows_of_an_image(5), pytest.raises(InputError, match="bn_group 10 does not divide the 24 rows"):
        layer(tf.constant(x), training=True)
    narrow = layer(tf.constant(x), training=True).numpy()
    np.testing.assert_allclose(narrow[:2], (x[:2] - x[:2].mean(0)) / x[:2].std(0), atol=1e-4)


# Recipes whose official runs normalised on each GPU apart, and the rows of one.
SHARES = {
    "infomin/paper": 32, "infomin_cld/paper": 64, "moco/paper": 32, "moco_cld/paper": 32, "moco_v2/paper": 32,
    "moco_v2_cld/paper": 64, "npid/paper": 32, "npid_cld/paper": 32, "moco/imagenet100": 64, "moco_cld/imagenet100": 64,
    "npid/imagenet100": 64, "npid_cld/imagenet100": 64, "byol/openselfsup": 32, "byol_cld/openselfsup": 32,
    "byol_cld/paper": 32, "moco/demo": 64, "npid/stl10": 128, "moco_cld/stl10": 128, "npid/imagenet_lt": 32,
    "moco_v2_plain/imagenet20": 32, "moco_v2_multicrop/imagenet20": 32, "moco_v2_plain/cifar10": 4,
    "moco_v2_multicrop/cifar10": 4, "moco_v2_plain/imagenette": 4, "moco_v2_multicrop/sample": 4,
}


@pytest.mark.parametrize("key", SHARES)
def test_recipes_normalise_the_rows_of_one_official_gpu(key):
    recipe = get_recipe(*key.split("/"))
    assert recipe.bn_group == SHARES[key] and recipe.batch_size % SHARES[key] == 0


def test_published_recipes_shuffle_only_where_it_hides_something():
    """Shuffling keys among rows that are all normalised together changes nothing."""
    for key in RECIPES:
        recipe = get_recipe(*key.split("/"))
        said = any(text in recipe.source for text in ("our own", "not published", "small enough"))
        if getattr(recipe.task, "shuffle_bn", False) and not (said and recipe.paper == "cld"):
            assert recipe.bn_group or recipe.preset == "smoke", key
