"""Features on disk: equal to the network's own outputs, computed once, never half-written, never stale."""

import dataclasses
import json
import os
import resource
import shutil

import keras
import numpy as np
import pytest

from revisit_ssl.data import EvalView, Source
from revisit_ssl.errors import InputError
from revisit_ssl.features import extract as module
from revisit_ssl.features.extract import FeatureSpec, extract_features, weights_hash
from revisit_ssl.features.representation import NetworkInput

ENDPOINTS = ("block1", "pre_logits")
VIEW = EvalView(size=12)
PM1 = NetworkInput(normalize="pm1")


def network(seed=0, stride=2, width=6):
    image = keras.Input((None, None, 3), name="image")
    initial = keras.initializers.GlorotUniform(seed)
    x = keras.layers.Conv2D(width, 3, strides=stride, padding="same", kernel_initializer=initial, name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    model = keras.Model(image, {"block1": x, "pre_logits": mean}, name="network")
    model.get_layer("norm").moving_mean.assign(np.linspace(-1, 1, width))
    model.trainable = False
    return model


def images(count=23, seed=0):
    pictures = np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3), np.uint8)
    return Source(
        name="fake", split="train", kind="memory", num_examples=count, fingerprint=f"f{seed}", images=pictures
    )


def extract(model, source, **changes):
    settings = {"endpoints": ENDPOINTS, "view": VIEW, "network_input": PM1} | changes
    of_spec = {field.name for field in dataclasses.fields(FeatureSpec)} & settings.keys()
    spec = FeatureSpec(**{name: settings.pop(name) for name in of_spec})
    return extract_features(model, source, spec, **({"batch_size": 10} | settings))


@pytest.fixture
def no_extraction(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("features were computed again")

    return lambda: monkeypatch.setattr(module, "eval_batches", fail)


def test_equal_to_the_network_in_inference_mode(tmp_path):
    model, source = network(), images()
    outputs = model(source.images.astype("f4") / 127.5 - 1, training=False)
    expected = {
        "block1": outputs["block1"].numpy().reshape(23, -1),
        "pre_logits": outputs["pre_logits"].numpy(),
    }
    for found in (extract(model, source), extract(model, source, cache_dir=tmp_path / "features")):
        assert list(found) == list(ENDPOINTS)
        for name in ENDPOINTS:
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)
    assert isinstance(found["block1"], np.memmap) and not found["block1"].flags.writeable
    pooled = extract(model, source, endpoints=("block1",), max_values=60)["block1"]
    # 6 x 6 x 6 values: cells of side ceil(sqrt(216 / 60)) = 2.
    maps = outputs["block1"].numpy().reshape(23, 3, 2, 3, 2, 6).max(axis=(2, 4))
    np.testing.assert_allclose(pooled, maps.reshape(23, -1), rtol=0, atol=1e-5)


def test_mirrored_images_have_features_of_their_own(tmp_path):
    model, source = network(), images()
    turned = model(source.images[:, :, ::-1].astype("f4") / 127.5 - 1, training=False)["pre_logits"]
    plain = extract(model, source, cache_dir=tmp_path)["pre_logits"]
    found = extract(model, source, cache_dir=tmp_path, mirror=True)["pre_logits"]
    np.testing.assert_allclose(found, turned, rtol=0, atol=1e-5)
    assert not np.allclose(found, plain, atol=1e-3) and len(list(tmp_path.glob("pre_logits-*.npy"))) == 2


def test_all_endpoints_in_one_pass_and_only_what_is_missing(tmp_path, monkeypatch, no_extraction):
    passes = []
    real = module.eval_batches
    monkeypatch.setattr(module, "eval_batches", lambda *a, **k: passes.append(1) or real(*a, **k))
    model, source = network(), images()
    first = extract(model, source, cache_dir=tmp_path, endpoints=("pre_logits",))
    both = extract(model, source, cache_dir=tmp_path)
    assert len(passes) == 2
    no_extraction()
    again = extract(model, source, cache_dir=tmp_path)
    for name in ENDPOINTS:
        np.testing.assert_array_equal(both[name], again[name])
    np.testing.assert_array_equal(first["pre_logits"], again["pre_logits"])
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".json", ".npy", ".npy"]


def test_two_processes_may_write_the_same_features(tmp_path):
    """Both write at once, the later one is kept; nothing half-written is ever under the final name."""
    values, path = np.random.default_rng(0).random((4, 3)).astype("f4"), str(tmp_path / "block1-0.npy")
    first, second = (module._File(path, 4, {}) for _ in range(2))
    for rows in (values[:2], values[2:]):
        first.append(rows, "block1")
        second.append(rows, "block1")
        assert module._load(path) is None
    np.testing.assert_array_equal(first.finish(), values)
    np.testing.assert_array_equal(module._load(path), values)
    np.testing.assert_array_equal(second.finish(), values)
    np.testing.assert_array_equal(module._load(path), values)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["block1-0.npy", "block1-0.npy.json"]


def test_another_network_source_or_setting_is_computed_anew(tmp_path):
    base = {"cache_dir": tmp_path}
    extract(network(), images(), **base)
    moved = network()
    moved.get_layer("norm").moving_variance.assign(np.full(6, 2.0))
    variants = [
        (network(seed=1), images(), {}),
        (moved, images(), {}),
        (network(stride=1), images(), {}),  # same weights, another architecture
        (network(), images(seed=1), {}),
        (network(), images(), {"network_input": NetworkInput(normalize="none")}),
        (network(), images(), {"network_input": NetworkInput(normalize="pm1", patch_grid=3, patch_size=4)}),
        (network(), images(), {"view": EvalView(size=8)}),
        (network(), images(), {"pooling": "avg"}),
        (network(), images(), {"max_values": 60}),
    ]
    for i, (model, source, changes) in enumerate(variants):
        extract(model, source, **base, **changes)
        assert len(list(tmp_path.glob("pre_logits-*.npy"))) == i + 2
    assert weights_hash(network()) == weights_hash(network())


@pytest.mark.parametrize("damage", ["flipped byte", "cut short", "no json", "not json", "empty"])
def test_damaged_files_are_noticed_and_computed_again(tmp_path, caplog, damage):
    model, source = network(), images()
    good = {k: np.array(v) for k, v in extract(model, source, cache_dir=tmp_path).items()}
    path = next(tmp_path.glob("block1-*.npy"))
    notes = path.with_name(path.name + ".json")
    data = bytearray(path.read_bytes())
    if damage == "flipped byte":
        data[-5] ^= 1
        path.write_bytes(data)
    elif damage == "cut short":
        path.write_bytes(data[:-40])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no json":
        notes.unlink()
    else:
        notes.write_text("{")
    with caplog.at_level("WARNING"):
        found = extract(model, source, cache_dir=tmp_path)
    assert "computing them again" in caplog.text and "block1" in caplog.text and "pre_logits" not in caplog.text
    np.testing.assert_array_equal(found["block1"], good["block1"])
    caplog.clear()
    extract(model, source, cache_dir=tmp_path)
    assert not caplog.text


def test_a_full_disk_gives_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    model, source = network(), images(200)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda path: usage)
        patch.setattr(module, "eval_batches", None)  # refused before the network runs
        with pytest.raises(InputError, match="features of block1, pre_logits need 0 MB .* free some space") as caught:
            extract(model, source, cache_dir=tmp_path / "a")
    assert "\n" not in str(caught.value) and not list((tmp_path / "a").iterdir())
    # The disk fills up while we write: a limit on the size of files makes write() fail in the same way.
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
        with pytest.raises(InputError, match="cannot write features .*free some space") as caught:
            extract(model, source, cache_dir=tmp_path / "b")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value) and not list((tmp_path / "b").iterdir())
    assert extract(model, source, cache_dir=tmp_path / "b")["block1"].shape == (200, 216)


def test_what_a_kill_has_left_is_removed(tmp_path):
    (tmp_path / "block1-0123.npy.partial-89ab").write_bytes(b"half")
    extract(network(), images(), cache_dir=tmp_path)
    assert not list(tmp_path.glob("*.partial*"))


def test_room_is_asked_for_all_endpoints_together(tmp_path, monkeypatch):
    model, source = network(), images()
    one, both = 4 * 23 * 6, 4 * 23 * (6 + 216)  # float32 [23, 6] and [23, 216]

    def free(count):
        usage = shutil.disk_usage(tmp_path)._replace(free=count)
        monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)

    free(both - 1)
    with pytest.raises(InputError, match="features of block1, pre_logits need"):
        extract(model, source, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())
    free(both)
    extract(model, source, cache_dir=tmp_path, endpoints=("block1",))
    free(one)  # block1 is there already
    assert len(extract(model, source, cache_dir=tmp_path)) == 2
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="features cannot be written to .*file is no folder to write to; use another"):
        extract(model, source, cache_dir=tmp_path / "file" / "features")


def test_batch_size_is_what_fits_at_once(monkeypatch):
    seen = []
    real = module.eval_batches
    monkeypatch.setattr(module, "images_at_once", lambda model, size, known: 4 if (size, known) == (12, PM1) else None)
    monkeypatch.setattr(
        module, "eval_batches", lambda s, batch_size, **k: seen.append(batch_size) or real(s, batch_size, **k)
    )
    found = extract(network(), images(), batch_size=None)
    assert seen == [4] and found["block1"].shape == (23, 216)


def test_values_that_are_not_finite_name_the_endpoint_and_leave_nothing(tmp_path):
    model = network()
    model.get_layer("norm").moving_mean.assign(np.full(6, np.nan))
    with pytest.raises(InputError, match="block1 has .* not finite"):
        extract(model, images(), cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_interrupted_writes_leave_nothing(tmp_path, monkeypatch):
    real = module.eval_batches

    def breaks(*args, **kwargs):
        for i, batch in enumerate(real(*args, **kwargs)):
            if i == 1:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(module, "eval_batches", breaks)
    with pytest.raises(KeyboardInterrupt):
        extract(network(), images(), cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_refusals(tmp_path):
    model, source = network(), images()
    trainable = network()
    trainable.trainable = True
    with pytest.raises(InputError, match="4 trainable variables.*backbone.trainable = False"):
        extract(trainable, source)
    assert extract(trainable, source, frozen=False)["pre_logits"].shape == (23, 6)  # the training monitor
    with pytest.raises(InputError, match="no endpoint 'block9'; this backbone has block1, pre_logits"):
        extract(model, source, endpoints=("block9",))
    with pytest.raises(InputError, match="no endpoints given"):
        extract(model, source, endpoints=())
    with pytest.raises(InputError, match="unknown pooling 'sum'; one of max"):
        extract(model, source, pooling="sum")
    with pytest.raises(InputError, match="gs://bucket.*local folder"):
        extract(model, source, cache_dir="gs://bucket/features")
    with pytest.raises(InputError, match="no named endpoints"):
        extract(keras.Sequential([keras.Input((4,))]), source)


def test_bfloat16_network_gives_float32_features():
    image = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16", name="conv")(image)
    model = keras.Model(image, {"block1": x})
    model.trainable = False
    found = extract(model, images(), endpoints=("block1",), max_values=100)["block1"]
    assert found.dtype == np.float32 and found.shape == (23, 5 * 5 * 4) and np.isfinite(found).all()
    assert x.dtype == "bfloat16"


def test_the_note_beside_the_features_says_what_they_are(tmp_path):
    extract(network(), images(), cache_dir=tmp_path)
    path = next(tmp_path.glob("block1-*.json"))
    notes = json.loads(path.read_text())
    assert notes["shape"] == [23, 216] and notes["key"]["endpoint"] == "block1" and notes["key"]["source"] == "f0"
    # Files of earlier versions are still found: the name is a hash of these settings, written in this way.
    key = {
        "weights": weights_hash(network()), "source": "f0", "view": repr(VIEW), "network_input": repr(PM1),
        "max_values": 9000, "pooling": "max",
    }
    assert path.name == os.path.basename(module.feature_path(tmp_path, "block1", key)) + ".json"
    assert repr(PM1) == "NetworkInput(normalize='pm1', patch_grid=1, patch_size=None, combine='mean')"
