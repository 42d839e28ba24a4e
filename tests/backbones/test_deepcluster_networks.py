"""VGG16 and AlexNet of DeepCluster: the fold of Sobel, maps, fully connected layers, dropout."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import count_parameters, get_backbone, load_backbone
from revisit_ssl.backbones.sobel import Dropout, Sobel, fold_kernel, fold_sobel
from revisit_ssl.distribute import get_strategy
from revisit_ssl.errors import InputError

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "deepercluster"


def images(rows=2, side=32):
    return np.random.default_rng(0).normal(size=(rows, side, side, 3)).astype(np.float32)


def test_the_fold_is_the_official_formula():
    data = dict(np.load(GOLDENS / "sobel_fold.npz"))
    folded = fold_kernel(data["conv1_kernel"])
    np.testing.assert_allclose(folded, data["folded_kernel"], atol=1e-5)
    image = data["image"][:1]
    wide = np.pad(image, ((0, 0), (3, 3), (3, 3), (0, 0)))  # pad 2, and 1 of the convolution
    ours = tf.nn.conv2d(wide, folded, 1, "VALID") + data["conv1_bias"]
    np.testing.assert_allclose(ours, data["output_folded"], atol=1e-4)
    two = tf.nn.conv2d(Sobel(2)(image), data["conv1_kernel"], 1, "SAME") + data["conv1_bias"]
    np.testing.assert_allclose(two, data["output_sobel_then_conv1"], atol=1e-4)
    np.testing.assert_allclose(ours, two, atol=1e-4)


def test_a_folded_network_gives_every_endpoint_borders_included():
    keras.utils.set_random_seed(0)
    model = get_backbone("vgg16_bn", 1, sobel=True, fc=8, input_shape=(32, 32, 3))
    model(images(8), training=True)  # moving statistics leave their start
    folded = fold_sobel(model)
    for name, value in model(images()).items():
        np.testing.assert_allclose(folded(images())[name], value, atol=1e-4, rtol=1e-4, err_msg=name)
    assert folded.name == model.name and list(folded.output) == list(model.output)
    plain = get_backbone("vgg16_bn", 1, conv1_size=5, fc=8, input_shape=(32, 32, 3))
    assert [(v.path, v.shape) for v in folded.weights] == [(v.path, v.shape) for v in plain.weights]
    with tf.GradientTape() as tape:  # colours are trained on: the three planes of a tap part
        loss = tf.reduce_sum(folded(images(), training=True)["conv3"] ** 2)
    gradient = tape.gradient(loss, folded.get_layer("conv1").kernel.value)
    assert not np.allclose(gradient[:, :, 0], gradient[:, :, 1])


@pytest.mark.parametrize("options", [{}, {"sobel": True, "image_pad": 1}])
def test_what_does_not_fold_is_refused(options):
    with pytest.raises(InputError, match="no Sobel to fold; folding wants a layer sobel with padding 2"):
        fold_sobel(get_backbone("vgg16_bn", 1, input_shape=(32, 32, 3), **options))


@pytest.mark.parametrize(
    ("options", "sides"),
    [({}, (34, 17)), ({"sobel": True}, (34, 17)), ({"image_pad": 0}, (32, 16)), ({"image_pad": 2}, (36, 18)),
     ({"sobel": True, "image_pad": 1}, (32, 16)), ({"sobel": True, "image_pad": 0}, (30, 15)),
     ({"conv1_size": 5}, (34, 17))],
)
def test_maps_are_as_large_as_their_padding_makes_them(options, sides):
    model = get_backbone("vgg16_bn", 1, input_shape=(32, 32, 3), **options)
    assert tuple(model.output[name].shape[1] for name in ("conv1", "conv3")) == sides


def test_parameters_are_those_of_the_paper():
    trunk = count_parameters("vgg16_bn", 8, sobel=True)
    whole = count_parameters("vgg16_bn", 8, sobel=True, fc=512, input_shape=(224, 224, 3))
    assert whole - trunk == (25088 + 1) * 4096 + (4096 + 1) * 4096  # 119.5 M
    assert round(trunk / 1e6, 2) == 14.72


def test_a_resnet_with_sobel_is_one_of_two_channels_on_derivatives():
    whole = get_backbone("resnet18", 1, sobel=True, stem="small", input_shape=(16, 16, 3))
    alone = get_backbone("resnet18", 1, stem="small", input_shape=(16, 16, 2))
    alone.set_weights(whole.get_weights())
    x = np.asarray(images(4, 16))
    # HORIZONTAL of Sobel's table, cross-correlated; zeros around.
    gray, kernel = np.pad(x.mean(axis=-1), ((0, 0), (1, 1), (1, 1))), np.outer([1, 2, 1], [1, 0, -1])
    taps = [(i, j) for i in range(3) for j in range(3)]
    both = [sum(k[i, j] * gray[:, i : i + 16, j : j + 16] for i, j in taps) for k in (kernel, kernel.T)]
    derivatives = np.stack(both, axis=-1)
    for name, values in alone(derivatives.astype(np.float32)).items():
        np.testing.assert_allclose(whole(x)[name], values, atol=1e-4)


@pytest.mark.parametrize(("name", "side"), [("vgg16_bn", 32), ("alexnet", 64)])
def test_fc7_is_before_its_relu_and_pre_logits_after_it(name, side):
    model = get_backbone(name, 1, fc=16, sobel=True, input_shape=(side, side, 3))
    found = model(images(4, side))
    assert found["fc7"].shape == (4, 16) and (found["fc7"].numpy() < 0).any() and (found["fc6"].numpy() >= 0).all()
    np.testing.assert_array_equal(found["pre_logits"], np.maximum(found["fc7"], 0))
    dropouts = [layer.name for layer in model.layers if isinstance(layer, Dropout)]
    assert dropouts == ["fc7_dropout"] if name == "vgg16_bn" else ["fc6_dropout", "fc7_dropout"]


def test_first_values_of_the_fully_connected_layers():
    torch, normal = (
        get_backbone("vgg16_bn", 1, fc=400, fc_start=start, input_shape=(32, 32, 3)) for start in ("torch", "normal")
    )
    kernel, bias = (np.asarray(v) for v in torch.get_layer("fc7").weights)
    for value in (kernel, bias):
        assert np.abs(value).max() <= 0.05 and value.std() == pytest.approx(0.05 / 3**0.5, rel=0.1)
    kernel, bias = (np.asarray(v) for v in normal.get_layer("fc7").weights)
    assert kernel.std() == pytest.approx(0.01, rel=0.02) and not bias.any()


def test_dropout_leaves_out_its_share_anew_in_every_step_and_only_in_training():
    layer = Dropout(0.3, seed=1)
    ones = tf.ones([200, 50])
    first, second = layer(ones, training=True).numpy(), layer(ones, training=True).numpy()
    assert (first == 0).mean() == pytest.approx(0.3, abs=0.02) and (first != second).any()
    np.testing.assert_allclose(first[first > 0], 1 / 0.7, rtol=1e-6)
    np.testing.assert_array_equal(layer(ones), ones)
    layer.step.assign(0)  # as a checkpoint does
    np.testing.assert_array_equal(layer(ones, training=True), first)


def test_replicas_draw_what_one_device_would():
    strategy = get_strategy("mirrored")
    with strategy.scope():
        layer = Dropout(0.5, seed=3)
        layer.build((2, 8))
    values = strategy.experimental_distribute_values_from_function(lambda context: tf.ones([2, 8]))
    parts = strategy.experimental_local_results(strategy.run(lambda x: layer(x, training=True), args=(values,)))
    np.testing.assert_array_equal(np.concatenate(parts), Dropout(0.5, seed=3)(tf.ones([4, 8]), training=True))


def test_dropout_survives_the_file_of_its_network(tmp_path):
    keras.utils.set_random_seed(1)
    model = get_backbone("vgg16_bn", 1, fc=16, dropout=0.4, input_shape=(32, 32, 3))
    model(images(), training=True)
    model.save(tmp_path / "backbone.keras")
    loaded = load_backbone(tmp_path)
    ours, theirs = (m(images(), training=True)["pre_logits"] for m in (model, loaded))
    np.testing.assert_array_equal(ours, theirs)
