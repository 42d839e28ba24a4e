"""Two logical CPU devices for the replica tests, set before TensorFlow starts; where real test data may lie."""

import ctypes
import gc
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest

from revisit_ssl.testing import tiny_backbone, two_devices

two_devices()

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data" / "tensorflow_datasets"


def pytest_xdist_auto_num_workers(config):
    """Two processes for the whole suite, a file's tests in one of them; none for what is named on the command line."""
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    config.option.dist = "loadscope" if whole else "no"
    return 2 if whole else 0


@pytest.fixture(scope="module", autouse=True)
def memory_is_given_back():
    """After each file: Keras' global state, dead graphs, and what the allocator keeps for nobody."""
    yield
    import keras

    keras.backend.clear_session()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="session")
def real_data():
    """Folder of real TFDS sets; the test is skipped, saying so, where it is not there."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data sets (CIFAR-10, imagenette_subset160) are not on this machine")
    return str(SHARED_DATA)


@pytest.fixture(scope="session", autouse=True)
def tiny_is_registered():
    from revisit_ssl.backbones import BACKBONES

    BACKBONES["tiny"] = tiny_backbone
    yield
    del BACKBONES["tiny"]
