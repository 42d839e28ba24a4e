"""A detector's training step and its inference beside torchvision's Faster R-CNN, on the same network and images."""

import json
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf
from benches.measuring import compiled, interleaved, row, timed
from benches.torch_rivals import Child, has_torch

from revisit_ssl.backbones import get_backbone
from revisit_ssl.detection.anchors import anchors
from revisit_ssl.detection.annotations import Annotated
from revisit_ssl.detection.options import DetectorOptions
from revisit_ssl.distribute import use_xla
from revisit_ssl.errors import require
from revisit_ssl.evaluators.detecting import DetectorTraining

SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "in_torchvision.py")
CLASSES, OBJECTS = 20, 6
OPTIONS = DetectorOptions(
    batch_size=2, shorter_sides=(256,), longest=384, test_shorter=256, test_longest=384,
    anchor_sizes=(32.0, 64.0, 128.0), anchors_per_image=256, train_proposals=(1000, 300), test_proposals=(1000, 100),
    regions=64, pool=14, flip=0.0, learning_rate=1e-3, warmup=0,
)


def bench_detection(python=None, *, rounds=5, options=OPTIONS):
    """Faster R-CNN on the C4 map of ResNet18 as in PyTorch, of 64 channels: images of 256 x 384 pixels in memory, two a
    step, 1,000 anchors that become 300 proposals, 64 regions of 14 x 14 cells of each image; the test has one image and
    100 proposals. Both sides start from the same weights, and have to give the same detections.

    Args:
        python: an interpreter that has torchvision; None: this one.
    """
    if not has_torch(python := python or os.sys.executable) or tf.config.list_physical_devices("GPU"):
        yield f"detection: no PyTorch in {python}, or a GPU here; name an interpreter with --torch-python PATH"
        return
    keras.utils.set_random_seed(0)
    network = get_backbone("resnet18_torch", 4)
    network.trainable = False
    images = drawn(options.batch_size)
    training = DetectorTraining(options, network, images, CLASSES, seed=0)
    strategy = tf.distribute.get_strategy()
    training._build(strategy)
    disturb(training.detector)
    batch = {name: tf.convert_to_tensor(values) for name, values in next(training.batches()).items()}
    xla = use_xla(strategy)
    step, detect = training._compiled(strategy, xla), compiled(training.detector.detect, xla)
    first = batch["image"][:1]
    with tempfile.TemporaryDirectory() as folder:
        write(folder, training.detector, batch, options)
        with Child(["env", "CUDA_VISIBLE_DEVICES=-1", python, SCRIPT, folder]) as child:
            same(detect(first), asked(child, "detect 1")[1])
            works = {
                "ours, step": timed(lambda: step(batch)), "theirs, step": lambda: asked(child, "train 1")[0],
                "ours, test": timed(lambda: detect(first)), "theirs, test": lambda: asked(child, "detect 1")[0],
            }
            seconds = interleaved(works, rounds)
    rival = f"torchvision's Faster R-CNN, PyTorch {child.version}"
    for what, name in (("step", "training step"), ("test", "inference, one image")):
        yield row(
            f"detection: {name}", 1000 * seconds[f"ours, {what}"], 1000 * seconds[f"theirs, {what}"], "ms", rival, 1.2,
            batch=options.batch_size if what == "step" else 1, side=256,
        )


def asked(child, line):
    """(seconds, what it says) of a line to in_torchvision.py."""
    child.process.stdin.write(f"{line}\n")
    child.process.stdin.flush()
    seconds, _, told = child.read().partition(" ")
    return float(seconds), json.loads(told)


def same(ours, theirs):
    """InputError unless the best detections of both are the same."""
    count = min(int(ours["count"][0]), len(theirs), 10)
    mine = np.concatenate([ours["scores"][0, :count, None], ours["boxes"][0, :count].numpy()[:, [1, 0, 3, 2]]], axis=1)
    close = count > 0 and np.allclose(mine, theirs[:count], atol=0.05)
    require(close, f"the detections differ: {mine[:2].round(3).tolist()}, and there {theirs[:2]}; not the same network")


def disturb(detector):
    """Statistics and new layers as if they had learnt something: an untrained head finds nothing above 0.05."""
    draw = np.random.default_rng(0)
    for variable in detector.weights:
        if "moving" in variable.path:
            shape = variable.shape
            spread = draw.uniform(0.5, 1.5, shape) if "variance" in variable.path else draw.normal(size=shape) / 10
            variable.assign(spread.astype(np.float32))
    for layer, scale in ((detector.classifier, 20.0), (detector.rpn_logits, 10.0), (detector.rpn_deltas, 3.0)):
        layer.kernel.assign(layer.kernel * scale)


def drawn(count):
    """Images of noise with boxes."""
    draw, found = np.random.default_rng(0), []
    for number in range(count):
        corners = np.stack([draw.uniform(0, 150, OBJECTS), draw.uniform(0, 250, OBJECTS)], axis=1)
        found.append(
            Annotated(
                image=draw.integers(0, 256, (256, 384, 3), np.uint8), classes=draw.integers(0, CLASSES, OBJECTS),
                boxes=np.concatenate([corners, corners + draw.uniform(20, 100, (OBJECTS, 2))], axis=1), image_id=number,
            )
        )
    return found


def write(folder, detector, batch, options):
    """What in_torchvision.py reads."""
    kept = {v.path: v.numpy() for v in detector.weights}
    kept |= {"images": detector.prepare(batch["image"], None).numpy(), "boxes": batch["boxes"].numpy()[:, :OBJECTS]}
    cell = anchors(1, 1, detector.stride, options.anchor_sizes, options.anchor_ratios)[:, [1, 0, 3, 2]]
    told = {
        name: getattr(options, name)
        for name in ("train_proposals", "test_proposals", "anchors_per_image", "regions", "pool")
    }
    told |= {
        "cell_anchors": cell.tolist(), "stride": detector.stride, "num_classes": CLASSES,
        "classes": batch["classes"].numpy()[:, :OBJECTS].tolist(),
        "optimizer": {"lr": options.learning_rate, "momentum": options.momentum, "weight_decay": options.weight_decay},
        "tensors": [(path, values.shape) for path, values in kept.items()],
    }
    with open(os.path.join(folder, "options.json"), "w") as file:
        json.dump(told, file)
    with open(os.path.join(folder, "tensors.bin"), "wb") as file:
        for values in kept.values():
            file.write(np.ascontiguousarray(values, np.float32).tobytes())
