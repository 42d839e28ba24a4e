"""MoCo v2 with the views of OBoW: its pairs, queue and target against a loop; MoCo itself where there are two crops."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp

from revisit_ssl.distribute import to_numpy
from revisit_ssl.errors import InputError
from revisit_ssl.pretext.moco_multicrop import MoCoMultiCrop, MoCoMultiCropOptions, apart
from revisit_ssl.recipe import ViewSpec
from revisit_ssl.testing import tiny_backbone
from revisit_ssl.training.optimizers import MomentumSGD

OPTIONS = MoCoMultiCropOptions(units=4, queue_size=16, crop_size=16, patch_size=8, resize_to=20, shuffle_bn=False)
VIEWS = ViewSpec(crop="resized", size=16, color="none", normalize="none")


def compiled(**changes):
    keras.utils.set_random_seed(0)
    options = dataclasses.replace(OPTIONS, **changes)
    model = MoCoMultiCrop(tiny_backbone(1, input_shape=(None, None, 3)), options=options, views=VIEWS)
    model.compile(optimizer=MomentumSGD(0.1, 0.0, 0.0, exclude=()))
    model.optimizer.build(model.trainable_variables)
    return model


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("crops, patches, pairs", [(2, 5, 12), (2, 0, 2), (1, 3, 3), (3, 1, 9)])
def test_every_crop_finds_the_keys_that_are_not_its_own(crops, patches, pairs):
    rng = np.random.default_rng(0)
    large, small, keys = (unit(rng.normal(size=(n, 3, 4))) for n in (crops, patches, crops))
    model = compiled(crops=crops, patches=patches)
    queue = model.queue.features.numpy()
    losses = []
    for j in range(crops):
        for query in [large[i] for i in range(crops) if i != j] + list(small):
            logits = np.concatenate([np.sum(query * keys[j], 1)[:, None], query @ queue.T], axis=1) / 0.2
            losses.append(np.mean(logsumexp(logits, axis=1) - logits[:, 0]))
    assert len(losses) == pairs
    given = ([tf.constant(x, tf.float32) for x in rows] for rows in (large, small, keys))
    assert float(model.objective(*given)[0]) == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_step_writes_the_target_s_keys_of_the_large_crops():
    model = compiled(momentum=0.5)
    kernel = model.head.last[0].kernel
    kernel.assign(kernel + 0.3)
    target, online = to_numpy(model.target_head.last[0].kernel), to_numpy(kernel)
    batch = {"image": tf.random.stateless_uniform([3, 24, 24, 3], [1, 2])}
    _, views = model.views(batch, model.step_seed())
    assert {kind: v.shape[0] for kind, v in views.items()} == {"crops": 6, "patches": 15}
    model.train_step(batch)
    np.testing.assert_allclose(model.target_head.last[0].kernel, (target + online) / 2, atol=1e-6)
    rows = [model.target(crop, training=True)["pre_logits"] for crop in apart(views["crops"], 2)]
    expected = np.concatenate([model.target_head(r)[0] for r in rows])
    np.testing.assert_allclose(model.queue.features[:6], expected, atol=1e-5)
    assert int(model.queue.pointer.value) == 6


def test_rows_go_apart_by_crop():
    first, second = apart(tf.constant([[0], [10], [1], [11]]), 2)
    np.testing.assert_array_equal(first[:, 0], [0, 1])
    np.testing.assert_array_equal(second[:, 0], [10, 11])


def test_pictures_show_what_is_seen():
    ((_, images, names),) = compiled(patches=3).pictures({"image": tf.zeros([2, 24, 24, 3])})
    assert names == ["crop", "crop", "patch", "patch", "patch"] * 2 and images.shape == (10, 16, 16, 3)
    assert set(compiled().crops) == {"image", "patched"}


def test_bad_options():
    for options, words in [
        ({"crops": 0}, "task.crops 0: there are no keys"),
        ({"crops": 1, "patches": 0}, "leave no query"),
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"queue_size": 0}, "queue_size 0"),
    ]:
        with pytest.raises(InputError, match=words):
            MoCoMultiCropOptions(**options)
    with pytest.raises(InputError, match="18 keys of a step do not fit into task.queue_size 16"):
        compiled().check_batch(9)
