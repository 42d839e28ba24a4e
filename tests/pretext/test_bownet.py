"""BoWNet's step, head, mixed targets and teacher against loops over their formulas."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import without_values
from revisit_ssl.data import open_source
from revisit_ssl.distribute import to_numpy
from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.pretext.bownet import BoWNet, BoWNetOptions, FirstWords, WordHead, cut_and_paste
from revisit_ssl.recipe import ViewSpec, to_json
from revisit_ssl.testing import tiny_backbone
from revisit_ssl.training.build import build_pretext
from revisit_ssl.training.optimizers import MomentumSGD

VIEWS = ViewSpec(crop="resized", size=16, color="none", normalize="imagenet")
OPTIONS = BoWNetOptions(words=6, vocabulary_images=40, crop_size=16, resize_to=16)


def bownet(views=VIEWS, **changes):
    keras.utils.set_random_seed(0)
    options = dataclasses.replace(OPTIONS, **changes)
    model = BoWNet(tiny_backbone(1, input_shape=(None, None, 3)), options=options, views=views)
    model.compile(optimizer=MomentumSGD(0.1, 0.0, 0.0, exclude=()))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), np.uint8)


def words_for(model, seed=0):
    """Words among the teacher's features."""
    features = model.teacher_map(tf.random.stateless_uniform([4, 16, 16, 3], [seed, 1])).numpy()
    return features.reshape(-1, features.shape[-1])[::9][:6]


def test_the_head_s_vectors_have_unit_length_at_every_step():
    head = WordHead(5, 3.0)
    head.build((None, 4))
    x = np.random.default_rng(1).normal(size=(7, 4)).astype(np.float32)
    optimizer = keras.optimizers.SGD(0.5)
    for _ in range(3):
        kernel, gamma = to_numpy(head.kernel), float(head.gamma.value)
        expected = np.array([[gamma * row @ w / np.linalg.norm(w) for w in kernel.T] for row in x])
        with tf.GradientTape() as tape:
            logits = head(x)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.range(7) % 5, logits))
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        gradients = tape.gradient(loss, [head.kernel.value, head.gamma.value])
        # No gradient along a vector: its length does not matter, and gamma is learnt in its place.
        np.testing.assert_allclose(np.sum(gradients[0] * kernel, axis=0), 0.0, atol=1e-6)
        assert abs(float(gradients[1])) > 1e-3
        optimizer.apply(gradients, [head.kernel, head.gamma])
    assert np.abs(np.linalg.norm(to_numpy(head.kernel), axis=0) - 1).max() > 0.1, "it is normalised at the call alone"


@pytest.mark.parametrize("bag", ["counts", "binary"])
def test_a_step_is_the_soft_cross_entropy_of_the_teacher_s_bags(bag, images):
    model = bownet(bag=bag)
    model.vocabulary.words.assign(words_for(model))
    batch = {"image": tf.constant(images)}
    whole, views = model.views(batch, model.step_seed(), normalize="none")
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    cells = model.ask(tf.constant((whole - mean) / deviation, tf.float32)).numpy()[:, 1:-1, 1:-1]
    bags = np.zeros((4, 6))
    words = to_numpy(model.vocabulary.words)
    for b in range(4):
        for cell in cells[b].reshape(-1, cells.shape[-1]):
            k = np.argmin(np.sum((cell - words) ** 2, axis=1))
            bags[b, k] = bags[b, k] + 1 if bag == "counts" else 1
    bags /= bags.sum(1, keepdims=True)
    rows = model.backbone(tf.constant((views["crops"] - mean) / deviation, tf.float32), training=True)["pre_logits"]
    logits = model.head(rows).numpy().astype(float)
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    entropy = -np.sum(bags * np.log(np.where(bags > 0, bags, 1)), axis=1).mean()
    before = [to_numpy(v) for v in model.trainable_variables]
    scalars = model.train_step(batch)
    assert float(scalars["loss"]) == pytest.approx(-np.sum(bags * logs, axis=1).mean() - entropy, rel=1e-4)
    assert float(scalars["target_entropy"]) == pytest.approx(entropy, rel=1e-5)
    assert float(scalars["gamma"]) == pytest.approx(5.0, abs=0.5)
    assert any(np.any(a != b) for a, b in zip(before, model.trainable_variables, strict=True))
    np.testing.assert_array_equal(model.vocabulary.words, words)


def test_the_teacher_stays_as_it_is(images):
    model = bownet()
    model.vocabulary.words.assign(words_for(model))
    probe = tf.random.stateless_uniform([2, 16, 16, 3], [5, 6])
    before, network = model.teacher_map(probe).numpy(), to_numpy(model.backbone.weights[0])
    np.testing.assert_array_equal(model.backbone(probe, training=False)["block4"].shape, before.shape)
    for _ in range(2):
        model.train_step({"image": tf.constant(images)})
    np.testing.assert_array_equal(model.teacher_map(probe), before)
    assert np.abs(to_numpy(model.backbone.weights[0]) - network).max() > 1e-4
    # The network, two of the head and the words: no second network to save.
    assert len(model.weights) == len(model.backbone.weights) + 3


def test_mixed_images_have_mixed_bags():
    model = bownet(cutmix=1.0)
    crops = tf.reshape(tf.range(4, dtype=tf.float32), [4, 1, 1, 1]) * tf.ones([4, 8, 8, 3])
    bags = tf.eye(4, 6)
    mixed, targets = model.mixed(crops, bags, 1, (0, 1))
    areas = []
    for b in range(4):
        other = (b + 1) % 4
        values, counts = np.unique(mixed[b, :, :, 0], return_counts=True)
        assert set(values) <= {b, other}
        share = dict(zip(values, counts, strict=True)).get(b, 0) / 64
        expected = np.zeros(6)
        expected[b], expected[other] = share, 1 - share
        np.testing.assert_allclose(targets[b], expected, atol=1e-6)
        areas.append(share)
    assert len(set(areas)) > 1
    # Two crops of an image: each with that of the next image, one bag for both where nothing is pasted.
    plain = bownet(cutmix=0.0)
    same, repeated = plain.mixed(tf.repeat(crops, 2, axis=0), bags, 2, (0, 1))
    np.testing.assert_array_equal(repeated, np.repeat(bags, 2, axis=0))
    np.testing.assert_array_equal(same, np.repeat(crops, 2, axis=0))
    mixed, targets = model.mixed(tf.repeat(crops, 2, axis=0), bags, 2, (0, 1))
    np.testing.assert_allclose(tf.reduce_mean(mixed, axis=(1, 2, 3)), targets.numpy()[:, :4] @ np.arange(4), atol=1e-5)


def test_the_box_of_cutmix():
    black, white = tf.zeros([2000, 12, 10, 3]), tf.ones([2000, 12, 10, 3])
    mixed, share = cut_and_paste(black, white, (0, 1), 0.5)
    box = mixed.numpy()[..., 0]
    np.testing.assert_allclose(1 - box.mean((1, 2)), share, atol=1e-6)
    np.testing.assert_array_equal(box, box.max(1, keepdims=True) * box.max(2, keepdims=True))  # a rectangle
    # Half are pasted. A box of side s, s^2 ~ U(0, 1), is seen by s - s^2 / 4 of either side on average.
    assert np.mean(share == 1) == pytest.approx(0.5, abs=0.07)
    pasted = 1 - share.numpy()[share.numpy() < 1]
    assert pasted.mean() == pytest.approx(0.5 - 0.2 + 1 / 48, abs=0.03) and pasted.max() > 0.8
    assert np.mean(box, axis=0).min() > 0.05


def test_words_are_found_once_before_training():
    digits = open_source("digits", "train")
    model = bownet(views=dataclasses.replace(VIEWS, size=32), crop_size=32, resize_to=32)
    callback = FirstWords(digits)
    callback.set_model(model)
    callback.on_train_begin()
    words = to_numpy(model.vocabulary.words)
    # Lloyd's fixed point, nearly: the words spread what the features hold better than any drawn ones.
    chosen = digits.sample(40, 0)
    cells = model.vocabulary.inner(model.teacher_map(tf.constant(chosen.images / np.float32(255)))).numpy()
    features = cells.reshape(-1, cells.shape[-1])

    def spread(centres):
        return np.min(((features[:, None] - centres) ** 2).sum(-1), axis=1).mean()

    rng = np.random.default_rng(0)
    drawn = [spread(features[rng.choice(len(features), 6, replace=False)]) for _ in range(20)]
    assert spread(words) < min(drawn)
    bags, scalars = model.vocabulary.target(model.teacher_map(tf.constant(chosen.images / np.float32(255))), words, 0)
    assert float(scalars["used"]) == 1.0
    model.vocabulary.words.assign(words + 1)
    callback.on_train_begin()  # as after a restart
    np.testing.assert_array_equal(model.vocabulary.words, words + 1)
    crowded = bownet(words=100_000, vocabulary_images=2)
    with pytest.raises(InputError, match="local features of 2 images for task.words 100000; fewer words"):
        crowded.find_words(digits)


def test_a_run_s_network_is_the_teacher(tmp_path, capsys):
    trained = tiny_backbone(2, input_shape=(None, None, 3))
    trained.save(tmp_path / "backbone.keras")
    rotnet = get_recipe("rotation", "smoke")
    assert rotnet.views.normalize == "pm1"
    (tmp_path / "recipe.json").write_text(to_json(rotnet))
    images = tf.random.stateless_uniform([2, 16, 16, 3], [1, 2])
    expected = trained(2 * images - 1, training=False)["block4"]
    for path in (tmp_path, tmp_path / "backbone.keras"):
        recipe = get_recipe("bownet", "smoke", backbone="tiny", task__teacher=str(path), views__normalize="imagenet")
        model = build_pretext(recipe, open_source("digits", "train"))
        np.testing.assert_allclose(model.teacher_map(images), expected, rtol=1e-5, atol=1e-6)
        assert model.vocabulary.words.shape == (recipe.task.words, 32)
    shapes = without_values(lambda: build_pretext(recipe, open_source("digits", "train")))
    assert [w.shape for w in shapes.weights] == [w.shape for w in model.weights]


def test_bad_teachers(tmp_path):
    digits = open_source("digits", "train")
    recipe = get_recipe("bownet", "smoke", backbone="tiny", task__teacher=str(tmp_path))
    with pytest.raises(InputError, match="^task.teacher: no backbone at .*; give a .keras file or the working"):
        build_pretext(recipe, digits)
    network = tiny_backbone(1, input_shape=(None, None, 3))
    fewer = {name: network.output[name] for name in ("block4", "pre_logits")}
    lesser = keras.Model(network.input, fewer, name="lesser")
    with pytest.raises(InputError, match="lesser has no block3, only block4, pre_logits; change task.level"):
        BoWNet(network, options=dataclasses.replace(OPTIONS, level="block3"), teacher=lesser, views=VIEWS)
    for options in ({"cutmix": 1.5}, {"gamma": 0.0}, {"words": 0}):
        with pytest.raises(InputError, match="task."):
            BoWNetOptions(**options)


def test_a_teacher_s_damaged_recipe_is_named(tmp_path):
    tiny_backbone(1, input_shape=(None, None, 3)).save(tmp_path / "backbone.keras")
    (tmp_path / "recipe.json").write_text('{"views": {}}')
    recipe = get_recipe("bownet", "smoke", backbone="tiny", task__teacher=str(tmp_path))
    with pytest.raises(InputError, match="^task.teacher: .*recipe.json is not a recipe .KeyError: 'normalize'"):
        build_pretext(recipe, open_source("digits", "train"))
