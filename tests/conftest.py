"""Two logical CPU devices for the replica tests, set before TensorFlow starts; where real test data may lie."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration() for _ in range(2)]
)

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data" / "tensorflow_datasets"


@pytest.fixture(scope="session")
def real_data():
    """Folder of real TFDS sets; the test is skipped, saying so, where it is not there."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data sets (CIFAR-10, imagenette_subset160) are not on this machine")
    return str(SHARED_DATA)
