"""Two logical CPU devices for the replica tests, set before TensorFlow starts; where real test data may lie."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

import revisit_ssl  # noqa: F401 - before TensorFlow, which it has use oneDNN

# isort: split
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
)

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data" / "tensorflow_datasets"


def pytest_xdist_auto_num_workers(config):
    """Two processes for the whole suite, a file's tests in one of them; none for what is named on the command line."""
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    config.option.dist = "loadscope" if whole else "no"
    return 2 if whole else 0


@pytest.fixture(scope="session")
def real_data():
    """Folder of real TFDS sets; the test is skipped, saying so, where it is not there."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data sets (CIFAR-10, imagenette_subset160) are not on this machine")
    return str(SHARED_DATA)


def tiny_backbone(width=1, *, input_shape, stem="small", norm="batch", bn_momentum=0.9, bn_epsilon=1e-3):
    """Two convolutions with the package's normalisation: what the contract suite trains, in seconds."""
    import keras

    from revisit_ssl.backbones.parts import Parts, image_input

    parts = Parts(norm, bn_momentum, bn_epsilon)
    image = image_input(input_shape)
    first = parts.root(image, 8 * width, stem, None, activate=True)
    second = parts.normalise_relu(parts.conv(first, 16 * width, 3, "block4_conv", 2), "block4")
    endpoints = {"after_root": first, "block3": first, "block4": second, "pre_logits": parts.average(second)}
    return keras.Model(image, endpoints, name="tiny")


@pytest.fixture(scope="session", autouse=True)
def tiny_is_registered():
    from revisit_ssl.backbones import BACKBONES

    BACKBONES["tiny"] = tiny_backbone
    yield
    del BACKBONES["tiny"]
