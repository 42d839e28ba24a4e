"""Two logical CPU devices for the replica tests, set before TensorFlow starts; where real test data may lie."""

import dataclasses
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow as tf

from revisit_ssl.backbones import BACKBONES
from revisit_ssl.backbones.network import Network
from revisit_ssl.backbones.options import BackboneOptions

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyOptions(BackboneOptions):
    stem: str = "small"


class Tiny(Network):
    """Two convolutions with the package's normalisation: what the contract suite trains, in seconds."""

    Options = TinyOptions

    def endpoints(self, image, width, options):
        parts = self.parts(options)
        first = parts.root(image, 8 * width, options.stem, None, activate=True)
        second = parts.normalise_relu(parts.conv(first, 16 * width, 3, "block4_conv", 2), "block4")
        return {"after_root": first, "block3": first, "block4": second, "pre_logits": parts.average(second)}


tiny_backbone = Tiny(name="tiny", bn_momentum=0.9)


@pytest.fixture(scope="session", autouse=True)
def tiny_is_registered():
    BACKBONES["tiny"] = tiny_backbone
    yield
    del BACKBONES["tiny"]
