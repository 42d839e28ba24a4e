"""The detector: its parts of a backbone, its losses, its devices, its training, its detections."""

import dataclasses
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from drawn import ap50, drawn_images

from revisit_ssl.backbones import get_backbone
from revisit_ssl.backbones.normalisation import BatchNorm, within
from revisit_ssl.detection import losses
from revisit_ssl.detection.detector import Detector
from revisit_ssl.detection.feeding import TrainingBatches
from revisit_ssl.detection.options import DetectorOptions
from revisit_ssl.detection.trunk import cut, stride_of
from revisit_ssl.distribute import get_strategy, step_seed
from revisit_ssl.errors import InputError, Interrupted
from revisit_ssl.evaluators.detecting import DetectorTraining

SMALL = DetectorOptions(
    iterations=4, batch_size=2, shorter_sides=(64,), test_shorter=64, longest=64, test_longest=64,
    anchor_sizes=(12.0, 24.0), anchors_per_image=32, train_proposals=(200, 50), test_proposals=(200, 30), regions=16,
    pool=6, warmup=2, mask_channels=16, precise_batches=2,
)
# For a map of stride 2, which has many cells.
FEW = dataclasses.replace(SMALL, shorter_sides=(32,), test_shorter=32, longest=32, test_longest=32, precise_batches=1)


def backbone(name="resnet18", width=1, seed=0, **options):
    keras.utils.set_random_seed(seed)
    network = get_backbone(name, width, **({"stem": "small"} | options))
    network.trainable = False
    return network


@pytest.fixture(scope="module")
def network():
    return backbone()


@pytest.fixture(scope="module")
def small_network():
    """Two convolutions: what is compiled, copied or interrupted is the detector around it."""
    return backbone("tiny")


@pytest.fixture(scope="module")
def images():
    return drawn_images(4)


class Watched(DetectorTraining):
    """Keeps the losses of each step as they are, and the weights after two."""

    def _compiled(self, strategy, xla):
        self.losses, step = [], super()._compiled(strategy, xla)

        def watched(batch):
            found = step(batch)
            self.losses.append({name: float(value) for name, value in found.items()})
            if len(self.losses) == 2:
                self.after_two = [v.numpy() for v in self.detector.weights]
            return found

        return watched


@pytest.fixture(scope="module")
def undisturbed(small_network, images):
    """A training to its end on one device, in a plain graph."""
    training = Watched(FEW, small_network, images, 3, masks=True)
    training.run(strategy=tf.distribute.get_strategy(), xla=False)
    return training


def one_batch(images, options=SMALL, masks=True):
    batch = next(TrainingBatches(images, options, 0, masks)())
    return {name: tf.convert_to_tensor(values) for name, values in batch.items()}


@pytest.mark.parametrize("name, stride", [("resnet18", 8), ("resnet50_v2", 8), ("revnet50", 8)])
def test_both_parts_together_are_the_network_that_was_cut(name, stride):
    whole = backbone(name)
    for layer in whole._flatten_layers():  # statistics that are not those of a new network
        if hasattr(layer, "moving_mean"):
            layer.moving_mean.assign(np.linspace(-0.1, 0.1, layer.moving_mean.shape[0]))
    trunk, head = cut(whole, "block3")
    image = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    expected = whole(image, training=False)
    maps = trunk(image, training=False)
    np.testing.assert_allclose(maps, expected["block3"], atol=1e-5)
    np.testing.assert_allclose(tf.reduce_mean(head(maps, training=False), (1, 2)), expected["pre_logits"], atol=1e-5)
    assert len(trunk.weights) + len(head.weights) == len(whole.weights)
    assert stride_of(trunk) == stride and trunk.trainable_variables and not whole.trainable_variables


def test_a_network_without_an_averaged_map_is_refused_in_one_line():
    with pytest.raises(InputError, match="no endpoint 'block9'"):
        cut(backbone(), "block9")
    image = keras.Input((None, None, 3))
    flat = keras.layers.Dense(4)(keras.layers.GlobalMaxPooling2D()(image))
    with pytest.raises(InputError, match="cannot be cut at 'block3'"):
        cut(keras.Model(image, {"block3": image, "pre_logits": flat}, name="other"), "block3")


def test_new_layers_are_those_of_the_specification():
    whole = backbone("resnet50_torch", stem="paper")
    options = DetectorOptions(anchor_sizes=(32, 64, 128, 256, 512))
    detector = Detector(whole, options, 20, masks=True)
    assert detector.stride == 16
    shapes = {layer.name: [tuple(v.shape) for v in layer.trainable_variables] for layer in detector.fresh}
    assert shapes == {  # width 1 is a quarter of a ResNet50: 256 channels in block3, 512 in block4
        "rpn_conv": [(3, 3, 256, 256), (256,)], "rpn_logits": [(1, 1, 256, 15), (15,)],
        "rpn_deltas": [(1, 1, 256, 60), (60,)], "extra_norm": [(512,), (512,)], "classifier": [(512, 21), (21,)],
        "regressor": [(512, 80), (80,)], "mask_conv": [(2, 2, 256, 512), (256,)],
        "mask_logits": [(1, 1, 256, 20), (20,)],
    }
    deviations = {layer.name: float(np.std(layer.kernel)) for layer in detector.fresh if hasattr(layer, "kernel")}
    expected = {"rpn_conv": 0.01, "rpn_deltas": 0.01, "classifier": 0.01, "regressor": 0.001, "mask_logits": 0.001}
    assert {k: deviations[k] for k in expected} == pytest.approx(expected, rel=0.05)
    assert deviations["mask_conv"] == pytest.approx((2 / (4 * 512)) ** 0.5, rel=0.05)


def test_statistics_of_padded_maps_are_those_of_what_is_inside():
    x = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype(np.float32)
    layer = BatchNorm(momentum=0.0, epsilon=1e-5)
    layer.build(x.shape)
    with within(tf.constant([[1.0, 0.5], [0.5, 1.0]])):
        y = layer(x, training=True)
    inner = np.concatenate([x[0, :, :4].reshape(-1, 3), x[1, :3].reshape(-1, 3)])
    np.testing.assert_allclose(layer.moving_mean, inner.mean(0), atol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, inner.var(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(y, (x - inner.mean(0)) / np.sqrt(inner.var(0) + 1e-5), atol=1e-4)


def test_padding_is_zero_after_normalisation_whatever_lies_in_it(network):
    detector = Detector(network, SMALL, 3, normalize="imagenet")
    image = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3)).astype(np.uint8)
    seen = detector.prepare(image, tf.constant([[40.0, 64.0]])).numpy()
    assert not seen[0, 40:].any()
    np.testing.assert_allclose(seen[0, :40], detector.prepare(image, None)[0, :40], atol=1e-6)
    detector.normalize = "standardize"
    seen = detector.prepare(image, tf.constant([[40.0, 64.0]])).numpy()[0, :40]
    inner = image[0, :40].astype(float)
    np.testing.assert_allclose(seen, (inner - inner.mean()) / inner.std(), atol=1e-4)


def test_first_losses_are_the_sums_over_sampled_anchors_by_256_for_each_image(network, images):
    """All anchors are sampled here, so that nothing hangs on the draw: the sums can be taken by hand."""
    options = dataclasses.replace(SMALL, anchors_per_image=100_000)
    detector, batch = Detector(network, options, 3), one_batch(images, options)
    maps = detector.features(batch["image"], None, training=False)
    logits, deltas, every = detector.first_stage(maps)
    present = tf.range(batch["boxes"].shape[1])[None] < batch["count"][:, None]
    found = detector._first_losses(logits, deltas, every, (batch["boxes"], present), tf.constant(2.0), step_seed(0, 0))
    logits, every = logits.numpy(), every.numpy()
    most, total, boxes_total = 0, 0.0, 0.0
    for b in range(2):
        objects = batch["boxes"][b, : int(batch["count"][b])].numpy()
        overlaps = np.array([[_iou(a, o) for o in objects] for a in every])
        best, owner = overlaps.max(1), overlaps.argmax(1)
        label = np.where(best >= 0.7, 1, np.where(best < 0.3, 0, -1))
        label[(overlaps == overlaps.max(0)).any(1)] = 1
        chance = 1 / (1 + np.exp(-logits[b].astype(float)))
        total -= np.log(chance[label == 1]).sum() + np.log(1 - chance[label == 0]).sum()
        for i in np.flatnonzero(label == 1):
            (a0, a1, a2, a3), (o0, o1, o2, o3) = every[i], objects[owner[i]]
            ah, aw, oh, ow = a2 - a0, a3 - a1, o2 - o0, o3 - o1
            dy, dx = (o0 + oh / 2 - a0 - ah / 2) / ah, (o1 + ow / 2 - a1 - aw / 2) / aw
            wanted = dy, dx, np.log(oh / ah), np.log(ow / aw)
            boxes_total += np.abs(deltas[b, i].numpy() - wanted).sum()
        most += (label == 1).sum()
    assert most > 4
    np.testing.assert_allclose(found["rpn_class"], total / (100_000 * 2), rtol=1e-4)
    np.testing.assert_allclose(found["rpn_box"], boxes_total / (100_000 * 2), rtol=1e-4)


def _iou(a, b):
    h, w = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(h, 0) * max(w, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def test_second_losses_see_objects_as_regions_and_divide_by_all_that_were_sampled(network, images, monkeypatch):
    """The regions are the objects alone: every one is positive, its box is right already."""
    detector, batch = Detector(network, SMALL, 3, masks=True), one_batch(images)
    seen = {}
    for name in ("class_loss", "box_loss", "mask_loss"):
        whole = getattr(losses, name)
        monkeypatch.setattr(losses, name, lambda *a, whole=whole, name=name: seen.update({name: a}) or whole(*a))
    maps = detector.features(batch["image"], None, training=False)
    present = tf.range(batch["boxes"].shape[1])[None] < batch["count"][:, None]
    found = detector._second_losses(maps, (batch["boxes"], present), batch, present, step_seed(0, 0))
    count = int(tf.reduce_sum(batch["count"]))
    logits, labels, taken, denominator = seen["class_loss"]
    assert int(tf.reduce_sum(tf.cast(taken, tf.int32))) == count == float(denominator) == float(seen["mask_loss"][3])
    assert sorted(labels[taken].numpy()) == sorted(np.concatenate([
        batch["classes"][b, : int(batch["count"][b])] for b in range(2)
    ]))
    np.testing.assert_allclose(seen["box_loss"][1][seen["box_loss"][2]], 0, atol=1e-4)
    # The target of an object's own box is its whole mask.
    targets, positive = seen["mask_loss"][1].numpy(), seen["mask_loss"][2].numpy()
    assert 0.6 < targets[positive].mean() <= 1 and float(found["mask"]) == pytest.approx(np.log(2), rel=0.2)


def test_a_compiled_step_gives_the_losses_and_weights_of_a_plain_one(undisturbed, small_network, images):
    compiled, strategy = Watched(FEW, small_network, images, 3, masks=True), tf.distribute.get_strategy()
    compiled._build(strategy)
    step, batches = compiled._compiled(strategy, True), compiled.batches(0)
    for _ in range(2):
        step(compiled._distributed(next(batches), strategy))
    for ours, theirs in zip(undisturbed.losses[:2], compiled.losses, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-4)
    for ours, theirs in zip(undisturbed.after_two, compiled.after_two, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_two_replicas_give_the_losses_and_weights_of_one_device(undisturbed, small_network, images):
    mirrored = DetectorTraining(FEW, small_network, images, 3, masks=True)
    mirrored.run(strategy=get_strategy("mirrored"), xla=False)
    for one, both in zip(undisturbed.curve, mirrored.curve, strict=True):
        assert one == pytest.approx(both, rel=2e-3)
    for one, both in zip(undisturbed.detector.weights, mirrored.detector.weights, strict=True):
        np.testing.assert_allclose(one, both, atol=2e-3)


def test_a_killed_training_goes_on_to_the_same_bits(undisturbed, small_network, images, tmp_path):
    def kill(done):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        DetectorTraining(FEW, small_network, images, 3, masks=True).run(folder=str(tmp_path), save_every=2, watch=kill)
    resumed, steps = DetectorTraining(FEW, small_network, images, 3, masks=True), []
    resumed.run(folder=str(tmp_path), watch=steps.append)
    assert steps == [3, 4] and resumed.curve == undisturbed.curve
    for one, other in zip(undisturbed.detector.weights, resumed.detector.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
    other = DetectorTraining(dataclasses.replace(FEW, learning_rate=0.1), small_network, images, 3, masks=True)
    with pytest.raises(InputError, match="learning_rate"):
        other.run(folder=str(tmp_path))


def test_a_signal_saves_and_stops(small_network, images, tmp_path):
    training = DetectorTraining(FEW, small_network, images, 3)
    with pytest.raises(Interrupted) as stopped:
        training.run(folder=str(tmp_path), watch=lambda done: os.kill(os.getpid(), signal.SIGTERM))
    assert stopped.value.checkpoint.endswith("step-000000002.npz")


def test_biases_decay_and_norms_do_not(network, images):
    training = DetectorTraining(SMALL, network, images, 3)
    training._build(tf.distribute.get_strategy())
    optimizer = training.detector.optimizer
    for variable, decay in zip(training.detector.trainable_variables, optimizer.decays, strict=True):
        assert decay == (0 if variable.path.endswith(("gamma", "beta")) else 1e-4), variable.path


def test_the_rate_rises_from_a_thousandth_and_falls_where_pytorch_has_it_fall(network, images):
    options = dataclasses.replace(SMALL, iterations=24_000, warmup=100)
    training = DetectorTraining(options, network, images, 3)
    training._build(tf.distribute.get_strategy())
    rate = training.detector.optimizer._learning_rate
    found = [float(rate(step)) for step in (0, 50, 100, 17_999, 18_000, 21_999, 22_000)]
    assert found == pytest.approx([2e-5, 0.02 * (0.5 + 0.0005), 0.02, 0.02, 0.002, 0.002, 2e-4], rel=1e-5)


@pytest.mark.slow
def test_two_images_are_learnt_by_heart():
    images = drawn_images(2, seed=3)
    options = dataclasses.replace(SMALL, iterations=80, learning_rate=0.03, warmup=20, pool=8, flip=0.0)
    training = DetectorTraining(options, backbone(seed=1), images, 3, masks=True)
    training.run()
    found = training.detections(images)
    assert ap50(found, images) > 90 and ap50(found, images, "masks") > 80, (training.curve[-1], found)
