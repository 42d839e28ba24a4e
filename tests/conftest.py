"""How the tests run: in two processes, on two logical CPU devices; where real test data may lie."""

import ctypes
import gc
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# XLA's programs run for a moment here and take long to compile. (At --xla_backend_optimization_level=0, which is faster
# still, the compiled colour jitter is wrong: test_views_contract.py finds it.)
os.environ.setdefault("XLA_FLAGS", "--xla_llvm_disable_expensive_passes=true")

import pytest

import revisit_ssl  # noqa: F401  before TensorFlow, which reads the environment once

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "data" / "tensorflow_datasets"


def pytest_xdist_auto_num_workers(config):
    """Two processes for the whole suite; none for what is named on the command line."""
    whole = config.args_source == pytest.Config.ArgsSource.TESTPATHS and not config.option.keyword
    config.option.dist, config.option.loadscopereorder = ("loadgroup" if whole else "no"), False
    return 2 if whole else 0


def pytest_configure(config):
    """Two devices, before TensorFlow is used; the process that hands out the tests does without it."""
    if not config.option.numprocesses:
        from revisit_ssl.testing import two_devices

        two_devices()


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    """A file's tests run in one process, a pretext's contract too; files with slow tests come first."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def give_memory_back():
    """Keras' global state, dead graphs, and what the allocator keeps for nobody."""
    import keras

    keras.backend.clear_session()
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(scope="module", autouse=True)
def memory_is_given_back():
    """After each file."""
    yield
    give_memory_back()


@pytest.fixture(scope="session")
def real_data():
    """Folder of real TFDS sets; the test is skipped, saying so, where it is not there."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data sets (CIFAR-10, imagenette_subset160) are not on this machine")
    return str(SHARED_DATA)


@pytest.fixture(scope="session", autouse=True)
def tiny_is_registered():
    from revisit_ssl.backbones import BACKBONES
    from revisit_ssl.testing import tiny_backbone

    BACKBONES["tiny"] = tiny_backbone
    yield
    del BACKBONES["tiny"]
