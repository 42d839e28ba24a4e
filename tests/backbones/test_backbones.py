"""Every backbone: the paper's parameter counts, endpoints, options, files."""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.backbones import BACKBONES, count_parameters, get_backbone, load_backbone, revnet, without_values
from revisit_ssl.backbones.network import Network
from revisit_ssl.backbones.options import RevNetOptions
from revisit_ssl.errors import InputError
from revisit_ssl.testing import check_backbone

# Width -> trainable parameters without a head (specification, A.9; torchvision's and CLD's less their last layer).
PARAMETERS = {
    # DeepCluster's layers, with what BN adds: kernels, biases, gamma and beta; 6 x 6 cells reach fc6.
    "alexnet": {8: sum((k * k * a + 3) * b for k, a, b in ((11, 3, 96), (5, 96, 256), (3, 256, 384), (3, 384, 384),
                                                             (3, 384, 256))) + (9216 + 1 + 4096 + 1) * 4096},
    "resnet18": {4: 11_689_512 - 513 * 1000},
    "resnet18_cifar": {4: 11_300_160 - 2 * 513 * 128},  # goldens of CLD
    "resnet18_no_skip": {4: 11_176_512 - sum(c * 2 * c + 2 * 2 * c for c in (64, 128, 256))},
    "resnet18_torch": {4: 11_689_512 - 513 * 1000},
    "resnet50_torch": {4: 25_557_032 - 2049 * 1000},
    "resnet50_v1": {1: 1_480_976, 4: 23_508_032, 8: 93_907_072, 12: 211_197_120, 16: 375_378_176},
    "resnet50_v2": {1: 1_479_056, 4: 23_500_352, 8: 93_891_712, 12: 211_174_080, 16: 375_347_456},
    "resnet50_v2_minus": {4: 23_500_352},
    "revnet50": {1: 350_112, 4: 5_408_640, 8: 21_505_792, 12: 48_291_456, 16: 85_765_632},
    "revnet50_minus": {4: 5_408_640},
    "vgg16_bn": {8: 14_723_136},
    "vgg19_bn": {1: 2_184_184, 4: 34_903_264, 8: 139_583_936, 12: 314_042_016, 16: 558_277_504},
}
WITH_HEAD = {
    ("resnet50_v1", 1000): {1: 1_993_976, 4: 25_557_032, 8: 98_004_072, 12: 217_342_120, 16: 383_571_176},
    ("revnet50", 4): {1: 352_164, 4: 5_416_836, 8: 21_522_180, 12: 48_316_036, 16: 85_798_404},
}


# Every option of a family that adds or replaces layers, once.
WITH_OPTIONS = {
    "alexnet": {"sobel": True, "fc": 16},
    "resnet18_torch": {"sobel": True},
    "revnet50_minus": {"recompute": True},
    "vgg16_bn": {"sobel": True, "fc": 16},
}
# Most of the time goes into units that repeat one another: with and without a projection, and a stride, are here.
UNITS = (2, 1, 1, 1)


@contextlib.contextmanager
def short():
    """Inside, ResNets and RevNets have blocks of ``UNITS`` units."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revnet, "UNITS", UNITS)
        for name, network in dict(BACKBONES).items():
            if hasattr(network, "units"):
                patch.setitem(BACKBONES, name, dataclasses.replace(network, units=UNITS))
        yield


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "tiny"])
def test_contract(name):
    with short():
        check_backbone(name, options=BACKBONES[name].options(**WITH_OPTIONS.get(name, {})))


def test_parameter_counts():
    for name in set(BACKBONES) - {"tiny"}:
        counts = PARAMETERS[name]
        assert {width: count_parameters(name, width) for width in counts} == counts, name


class Broken(Network):
    """A network that breaks the promise that it is named after."""

    def endpoints(self, image, width, options):
        parts, broken = self.parts(options), self.name
        x = parts.conv(image, 4 if broken == "channels" else 4 * width, 3, None if broken == "paths" else "conv")
        if broken == "seed":
            x = keras.layers.Conv2D(4 * width, 1, kernel_initializer=keras.initializers.GlorotUniform(7), name="conv")(
                image
            )
        if broken == "dtype":
            return {"map": x, "pre_logits": keras.layers.GlobalAveragePooling2D(name="pre_logits")(x)}
        if broken == "rank":
            return {"map": keras.layers.Reshape((-1, x.shape[-1]), name="flat")(x), "pre_logits": parts.average(x)}
        pre_logits = parts.average(x)
        return {"pre_logits": pre_logits, "map": x} if broken == "order" else {"map": x, "pre_logits": pre_logits}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("channels", "endpoints of width 2"),
        ("paths", "paths differ from build to build"),
        ("seed", "the seed has no say"),
        ("dtype", "pre_logits are bfloat16"),
        ("rank", "map has the shape"),
        ("order", "the last endpoint is map"),
    ],
)
def test_the_contract_finds_what_is_broken(broken, message, monkeypatch):
    monkeypatch.setitem(BACKBONES, broken, Broken(name=broken))
    with pytest.raises(AssertionError, match=message):
        check_backbone(broken, input_shape=(8, 8, 3))


def test_the_contract_compares_shapes_and_counts():
    shapes = {"after_root": (4, 4, 8), "block3": (4, 4, 8), "block4": (2, 2, 16), "pre_logits": (16,)}
    check_backbone("tiny", shapes=shapes, parameters={1: 1_416}, input_shape=(8, 8, 3))
    with pytest.raises(AssertionError, match="tiny has the endpoints"):
        check_backbone("tiny", shapes=shapes | {"block4": (2, 2, 32)}, input_shape=(8, 8, 3))
    with pytest.raises(AssertionError, match="1,416 parameters, not 1,417"):
        check_backbone("tiny", parameters={1: 1_417}, input_shape=(8, 8, 3))


def test_other_parameter_counts(monkeypatch):
    for (name, classes), totals in WITH_HEAD.items():
        heads = {width: (512 * width + 1) * classes for width in totals}
        assert {width: PARAMETERS[name][width] + heads[width] for width in totals} == totals
    at_64 = {1: 709_624, 4: 11_310_304, 8: 45_212_096, 12: 101_705_376, 16: 180_790_144}
    assert {width: count_parameters("vgg19_bn", width, input_shape=(64, 64, 3)) for width in at_64} == at_64
    preactivated = dataclasses.replace(BACKBONES["resnet18"], name="preactivated", preactivation=True)
    monkeypatch.setitem(BACKBONES, "preactivated", preactivated)
    assert count_parameters("preactivated", 4) == 11_174_720 == 11_687_720 - 513 * 1000
    assert count_parameters("resnet18", 4, stride_on_second=True) == PARAMETERS["resnet18"][4]
    assert count_parameters("revnet50", 4, root_stride=1, strides=(2, 2, 1), recompute=True) == 5_408_640
    assert round(count_parameters("vgg16_bn", 8, sobel=True) / 1e6, 2) == 14.72


@pytest.fixture(scope="module")
def small_models():
    """One of each kind, for 32-pixel images, with weights and moving statistics off their initial values."""
    keras.utils.set_random_seed(0)
    models = {}
    with short():
        for name in ("resnet18", "resnet50_v2", "revnet50", "vgg16_bn"):
            models[name] = BACKBONES[name](1, **small_options(name))
            models[name](images(), training=True)
    return models


def small_options(name):
    options = {"sobel": True} if name == "vgg16_bn" else {"stem": "small"}
    return {"input_shape": (32, 32, 3), **options, **({"recompute": True} if name == "revnet50" else {})}


def images(rows=4, side=32):
    return np.random.default_rng(0).uniform(-1, 1, (rows, side, side, 3)).astype(np.float32)


def shapes(model):
    return {name: tuple(tensor.shape[1:]) for name, tensor in model.output.items()}


def test_counts_equal_built_models(small_models):
    for name, model in small_models.items():
        built = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        with short():
            assert count_parameters(name, 1, **small_options(name)) == built


def test_counting_leaves_nothing_to_initialise():
    """Keras would allocate all of a counted network at the end of the next stateless scope."""
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    count_parameters("vgg19_bn", 16)  # 2.2 GB
    with keras.StatelessScope():
        pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_endpoints_of_the_paper_at_224():
    k = 3
    for name in sorted(set(BACKBONES) - {"alexnet", "resnet18_cifar", "vgg16_bn", "vgg19_bn", "tiny"}):
        wide = 1 if "resnet18" in name else 4
        expected = {"after_root": (56, 56, (64 if "rev" in name else 16) * k)}
        expected |= {f"block{i + 1}": (56 // 2**i, 56 // 2**i, 16 * wide * k * 2**i) for i in range(4)}
        assert shapes(abstract(name, k)) == {**expected, "pre_logits": (128 * wide * k,)}
    vgg = {f"block{i}": (224 >> i, 224 >> i, 8 * k * min(8, 2**i)) for i in range(1, 5)}
    assert shapes(abstract("vgg19_bn", k)) == {"after_root": (224, 224, 8 * k), **vgg, "pre_logits": (512 * k,)}


def abstract(name, width, side=224, **options):
    return without_values(lambda: get_backbone(name, width, input_shape=(side, side, 3), **options))


def test_stems_and_patch_strides():
    sides = {
        (("stem", "paper"),): (16, 16, 8, 4, 2),
        (("stem", "cifar"),): (64, 64, 32, 16, 8),
        (("stem", "small"),): (32, 32, 16, 8, 4),
        (("root_stride", 1), ("strides", (2, 2, 1))): (32, 32, 16, 8, 8),  # the paper's patch tasks
        (("stem", "cifar"), ("root_stride", 2), ("strides", (1, 2, 2))): (32, 32, 32, 16, 8),
    }
    for name in ("resnet18", "revnet50"):
        for options, expected in sides.items():
            model = abstract(name, 1, 64, **dict(options))
            assert tuple(shape[0] for shape in shapes(model).values())[:5] == expected, (name, options)


def test_sides_may_vary():
    model = BACKBONES["resnet18"](1)
    for side in (33, 64):
        assert model(images(2, side))["pre_logits"].shape == (2, 128)


def test_initial_values():
    keras.utils.set_random_seed(1)
    model = BACKBONES["resnet50_v2"](1)
    kernels = {v.path: v.numpy() for v in model.trainable_variables if v.path.endswith("/kernel")}
    for path, kernel in kernels.items():
        limit = np.sqrt(6 / (np.prod(kernel.shape[:3]) + np.prod(kernel.shape[:2]) * kernel.shape[3]))
        assert 0.9 * limit < np.abs(kernel).max() <= limit, path  # Glorot-uniform
    assert not np.array_equal(kernels["block1_unit2_conv2/kernel"], kernels["block1_unit3_conv2/kernel"])
    torch = {v.path: v.numpy() for v in BACKBONES["resnet50_torch"](1).trainable_variables}
    np.testing.assert_allclose(torch["block4_unit1_conv2/kernel"].std(), np.sqrt(2 / (9 * 128)), rtol=0.02)
    assert not np.array_equal(torch["block1_unit2_conv2/kernel"], torch["block1_unit3_conv2/kernel"])
    cifar = {v.path: v.numpy() for v in BACKBONES["resnet18_cifar"](1).trainable_variables}
    np.testing.assert_allclose(np.abs(cifar["block4_unit1_conv2/kernel"]).max(), 1 / np.sqrt(9 * 128), rtol=0.01)


def test_options_change_what_they_say():
    for norm in ("batch", "sync", "none"):
        for name in ("resnet18", "revnet50"):
            model = abstract(name, 1, 32, norm=norm)
            layers = [layer for layer in model._flatten_layers() if "BatchNorm" in type(layer).__name__]
            assert bool(layers) == (norm != "none")
            assert all(layer.synchronized == (norm == "sync") for layer in layers)
            assert any(v.path.endswith("/bias") for v in model.weights) == (norm == "none")
    for name, expected in {
        "resnet50_v1": (0.99, 1e-3),
        "resnet50_torch": (0.9, 1e-5),
        "resnet18_torch": (0.9, 1e-5),
        "revnet50": (0.99, 1e-3),
    }.items():
        layers = [layer for layer in abstract(name, 1)._flatten_layers() if "BatchNorm" in type(layer).__name__]
        assert {(layer.momentum, layer.epsilon) for layer in layers} == {expected}
    first, second = (abstract("resnet18", 1, 64, stride_on_second=flag) for flag in (False, True))
    assert first.get_layer("block2_unit1_conv1").strides == second.get_layer("block2_unit1_conv2").strides == (2, 2)
    assert not any(isinstance(layer, keras.layers.Add) for layer in abstract("resnet18_no_skip", 1).layers)


@pytest.mark.parametrize("name", ["resnet18", "resnet50_torch"])
def test_zero_init_residual_leaves_the_shortcuts(name):
    """Each unit is relu(shortcut) before the first step: block1 of a ResNet18 is then the root's output itself."""
    model = get_backbone(name, 1, stem="small", zero_init_residual=True)
    gammas = [v for v in model.trainable_variables if v.path.endswith("/gamma")]
    last = "conv3" if "50" in name else "conv2"
    assert {bool(np.any(v.numpy())) for v in gammas if f"{last}_norm" in v.path} == {False}
    assert {bool(np.all(v.numpy() == 1)) for v in gammas if f"{last}_norm" not in v.path} == {True}
    outputs = model(images(), training=True)
    if name == "resnet18":
        np.testing.assert_array_equal(outputs["block1"], outputs["after_root"])
    project, norm = (model.get_layer(f"block2_unit1_proj{end}") for end in ("", "_norm"))
    shortcut = norm(project(outputs["block1"]), training=True)
    np.testing.assert_allclose(outputs["block2"], np.maximum(shortcut, 0), rtol=1e-5, atol=1e-5)


def test_keras_file_in_a_fresh_process(small_models, tmp_path):
    for name in ("revnet50", "vgg16_bn"):
        small_models[name].save(tmp_path / f"{name}.keras")
        np.save(tmp_path / f"{name}.npy", small_models[name](images())["pre_logits"])
    np.save(tmp_path / "images.npy", images())
    code = """
import sys, pathlib, numpy as np
from revisit_ssl.backbones import BACKBONES, load_backbone
folder = pathlib.Path(sys.argv[1])
for file in sorted(folder.glob("*.keras")):
    model = load_backbone(file)
    outputs = model(np.load(folder / "images.npy"))
    np.testing.assert_allclose(outputs["pre_logits"], np.load(file.with_suffix(".npy")), rtol=1e-6, atol=1e-6)
    from revisit_ssl.backbones import revnet  # not before: the file itself has to bring its layers along
    revnet.UNITS = (2, 1, 1, 1)
    rebuilt = BACKBONES[file.stem](1)  # names of layers do not depend on the process
    print(file.stem, [v.path for v in model.weights] == [v.path for v in rebuilt.weights], model.weights[5].path)
"""
    root = str(pathlib.Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    paths = {name: small_models[name].weights[5].path for name in ("revnet50", "vgg16_bn")}
    assert done.stdout.splitlines() == [f"{name} True {path}" for name, path in paths.items()]


# The layers of one's own: reversible blocks, Sobel filters; a ResNet has Keras' and the normalisation of both.
@pytest.mark.parametrize("name", ["revnet50", "vgg16_bn"])
def test_saved_model_round_trip(small_models, name, tmp_path):
    model = small_models[name]
    model.export(str(tmp_path / "saved"), verbose=False)
    restored = tf.saved_model.load(str(tmp_path / "saved"))
    served = restored.serve(images())
    assert served.keys() == model.output.keys()
    for endpoint, value in model(images()).items():
        np.testing.assert_allclose(served[endpoint], value, rtol=1e-5, atol=1e-5)


def test_bfloat16(small_models, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for name in ("resnet50_v2", "revnet50", "vgg16_bn"):
            with short():
                model = BACKBONES[name](1, **small_options(name))
            model.set_weights(small_models[name].get_weights())
            outputs, exact = model(images()), small_models[name](images())
            assert outputs["pre_logits"].dtype == "float32"
            assert outputs["block1" if name != "vgg16_bn" else "conv1"].dtype == (
                "float32" if name == "revnet50" else "bfloat16"
            )
            error = np.linalg.norm(outputs["pre_logits"] - exact["pre_logits"]) / np.linalg.norm(exact["pre_logits"])
            assert error < 0.05
            assert all(v.dtype == "float32" for v in model.weights)
            model.save(tmp_path / f"{name}.keras")
            np.save(tmp_path / f"{name}.npy", outputs["pre_logits"])
    finally:
        keras.config.set_dtype_policy("float32")
    for file in tmp_path.glob("*.keras"):  # the precision belongs to the model, not to the process that loads it
        np.testing.assert_array_equal(load_backbone(file)(images())["pre_logits"], np.load(file.with_suffix(".npy")))


@pytest.mark.parametrize(
    ("name", "width", "options", "message"),
    [
        ("resnet51", 4, {}, "resnet50_v1"),
        ("resnet18", 0, {}, "at least 1"),
        ("revnet50", 1.5, {}, "at least 1"),
        ("vgg16_bn", True, {}, "at least 1"),
        ("resnet18", 1, {"stem": "imagenet"}, "'paper', 'cifar', 'small'"),
        ("revnet50", 1, {"norm": "group"}, "'batch', 'sync', 'none'"),
        ("revnet50", 1, {"strides": (2, 2)}, "three of 1 or 2"),
        ("resnet18", 1, {"strides": (2, 2, 3)}, "three of 1 or 2"),
        ("resnet18", 1, {"root_stride": 4}, "None, 1, 2"),
        ("resnet50_v1", 1, {"stride_on_second": True}, "resnet50_v1 has no option 'stride_on_second'; it has"),
        ("resnet50_v2", 1, {"zero_init_residual": True}, "resnet50_v2 has no option 'zero_init_residual'; it has"),
        ("resnet18", 1, {"zero_init_residual": True, "norm": "none"}, "needs normalised units, norm is 'none'"),
        ("revnet50", 1, {"zero_init_residual": True}, "no option 'zero_init_residual'"),
        ("resnet18", 1, {"input_shape": (32, 32)}, "height, width, channels"),
        ("revnet50", 1, {"representation_size": 0}, "at least 1"),
        ("vgg19_bn", 1, {"input_shape": (None, None, 3)}, "fixed sides"),
        ("vgg19_bn", 1, {"input_shape": (16, 16, 3)}, "at least 32"),
        ("vgg19_bn", 1, {"strides": (2, 2, 1)}, "vgg19_bn has no option 'strides'; it has norm, .*; leave it out"),
        ("resnet18", 1, {"options": RevNetOptions()}, "resnet18 takes ResNet18Options, not RevNetOptions"),
        ("vgg16_bn", 1, {"sobel": True, "input_shape": (32, 32, 1)}, "three channels"),
        ("resnet18", 1, {"sobel": True, "input_shape": (32, 32, 1)}, "three channels"),
        ("revnet50", 1, {"sobel": True}, "no option 'sobel'"),
        ("vgg16_bn", 1, {"fc": -1}, "or 0 for none"),
        ("vgg16_bn", 1, {"fc": 8, "input_shape": (24, 24, 3)}, "at least 32 pixels"),
        ("vgg16_bn", 1, {"image_pad": 3}, "None, 0, 1, 2"),
        ("vgg16_bn", 1, {"conv1_size": 4}, "3, 5"),
        ("vgg16_bn", 1, {"dropout": 1.0}, r"must lie in \[0, 1\)"),
        ("alexnet", 1, {"fc_start": "zeros"}, "'torch', 'normal'"),
        ("alexnet", 1, {"fc": 0}, "such as 512"),
        ("alexnet", 1, {"input_shape": (48, 48, 3)}, "at least 63 pixels"),
        ("alexnet", 1, {"image_pad": 1}, "no option 'image_pad'"),
    ],
)
def test_bad_options(name, width, options, message):
    with pytest.raises(InputError, match=message) as error:
        get_backbone(name, width, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("99.1.0", f"Keras 99.1.0 wrote it and this is Keras {keras.__version__}: pip install keras==99.1.0, or "),
        (keras.__version__, "it is damaged or was not written by this package"),
        (None, "it is damaged or was not written by this package"),
    ],
)
def test_what_another_keras_wrote_is_named(version, words, small_models, tmp_path):
    """A field that this Keras does not know, as newer ones write them."""
    small_models["resnet18"].save(tmp_path / "good.keras")
    with zipfile.ZipFile(tmp_path / "good.keras") as good, zipfile.ZipFile(tmp_path / "new.keras", "w") as new:
        for name in good.namelist():
            content = good.read(name)
            if name == "metadata.json":
                content = json.dumps({"keras_version": version} if version else {}).encode()
            if name == "config.json":
                content = content.replace(b'"filters":', b'"field_of_the_future": 1, "filters":')
            new.writestr(name, content)
    with pytest.raises(InputError) as error:
        load_backbone(tmp_path / "new.keras")
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_new_process_knows_the_layers_of_a_head(small_models, tmp_path, monkeypatch):
    """They stand in a module that reading a network does not import by itself."""
    from revisit_ssl.pretext import heads

    body = small_models["resnet18"]
    unit = heads.TorchDense(4, name="projection")(body.output["pre_logits"])
    keras.Model(body.input, {**body.output, "projection": unit}).save(tmp_path / "head.keras")
    known = keras.saving.get_custom_objects()
    for name, kind in list(known.items()):
        if kind.__module__ == heads.__name__:
            monkeypatch.delitem(known, name)
    monkeypatch.setattr(heads.__name__, heads)  # so that it is put back afterwards
    monkeypatch.delitem(sys.modules, heads.__name__)
    assert "projection" in load_backbone(tmp_path / "head.keras").output


def test_bad_files(small_models, tmp_path):
    good = tmp_path / "good.keras"
    small_models["resnet18"].save(good)
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "head.keras")
    (tmp_path / "noise.keras").write_bytes(b"not a zip archive" * 100)
    (tmp_path / "cut.keras").write_bytes(good.read_bytes()[:-2000])
    damaged = bytearray(good.read_bytes())
    damaged[len(damaged) // 2 :][:64] = bytes(64)
    damaged[len(damaged) // 2 : len(damaged) // 2 + 4096] = bytes(4096)
    (tmp_path / "damaged.keras").write_bytes(damaged)
    (tmp_path / "weights.h5").write_bytes(b"")
    for file, message in {
        "missing.keras": "no backbone at",
        "": "no backbone at .*backbone.keras",
        "weights.h5": "no .keras file",
        "noise.keras": "cannot be read",
        "cut.keras": "cannot be read",
        "damaged.keras": "cannot be read",
        "head.keras": "no endpoint 'pre_logits'",
    }.items():
        with pytest.raises(InputError, match=message) as error:
            load_backbone(tmp_path / file)
        assert "\n" not in str(error.value)
    assert load_backbone(good).name == "resnet18"
