"""Small data for the data tests: the tiny configuration of toy_scenes, drawn once per session, and image folders."""

import numpy as np
import pytest
from PIL import Image

from revisit_ssl.data import open_source, sources


@pytest.fixture(scope="session")
def toy_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tensorflow_datasets"))
    open_source("toy_scenes_tiny", "train", data_dir=folder)
    return folder


@pytest.fixture
def set_limits(monkeypatch):
    """Function (MAX_SIDE, MAX_BYTES): decides of which kind sources are that are opened from then on."""

    def set_both(max_side, max_bytes):
        monkeypatch.setattr(sources, "MAX_SIDE", max_side)
        monkeypatch.setattr(sources, "MAX_BYTES", max_bytes)
        open_source.cache_clear()

    yield set_both
    open_source.cache_clear()


@pytest.fixture(scope="session")
def write_images():
    """Function (folder, {relative path: (height, width)}): writes such images of noise there."""

    def write(root, files):
        for i, (path, (height, width)) in enumerate(files.items()):
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(target)

    return write


@pytest.fixture
def make_folder(tmp_path, write_images):
    """Function of {relative path: (height, width)} -> path of a folder with such images of noise."""

    def make(files, name="images"):
        write_images(tmp_path / name, files)
        return tmp_path / name

    return make
