"""represent(): features of photographs as people hold them, against NumPy and the probes' own; the README's code."""

import json
import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

import revisit_ssl
from revisit_ssl import get_recipe, load_backbone, load_pretext, pretrain, represent
from revisit_ssl.backbones.expects import Expects
from revisit_ssl.data import EvalView, open_source
from revisit_ssl.errors import InputError
from revisit_ssl.features.extract import FeatureSpec, extract_features
from revisit_ssl.features.representation import NetworkInput, expects_of
from revisit_ssl.training.build import build_backbone
from revisit_ssl.training.pretrain import export_backbone, pretext_score

TINY = {"backbone": "tiny", "bench__endpoints": ("pre_logits",), "probes": ()}
BYTES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{pretext: (workdir, recipe, network)} of runs of two steps."""
    found = {}
    for name in ("rotation", "jigsaw"):
        recipe = get_recipe(name, "smoke", **TINY, max_steps=2)
        workdir = tmp_path_factory.mktemp(name)
        found[name] = workdir, recipe, pretrain(recipe, workdir, quiet=True)
    return found


def as_people_hold_them():
    """{how: images}: all the same photographs."""
    floats = BYTES / 255
    return {
        "uint8": BYTES, "float64": floats, "float32": floats.astype("f4"), "list": list(BYTES),
        "tensor": tf.constant(BYTES), "list of floats": list(floats),
    }


@pytest.mark.parametrize("how", as_people_hold_them())
@pytest.mark.parametrize("name", ["rotation", "jigsaw"])
def test_any_form_of_photographs_gives_the_features_that_probes_get(runs, name, how):
    workdir, recipe, network = runs[name]
    found = represent(str(workdir), as_people_hold_them()[how])
    source = open_source("digits", "test").subset(np.arange(5))
    source.images[:] = BYTES
    spec = FeatureSpec(
        endpoints=tuple(found), view=EvalView.of(recipe), network_input=NetworkInput.of(recipe)
    )
    expected = extract_features(network, source, spec)
    for endpoint, values in found.items():
        np.testing.assert_allclose(values, expected[endpoint], rtol=1e-4, atol=1e-4)


def test_rotation_against_numpy(runs):
    """The preset smoke cuts nothing from 32 x 32 pixels: 2 x / 255 - 1 is all there is to it."""
    workdir, recipe, network = runs["rotation"]
    assert EvalView.of(recipe).keeps_own_size and EvalView.of(recipe).size == 32
    mine = network((BYTES / 127.5 - 1).astype("f4"), training=False)["pre_logits"]
    for place in (workdir, workdir / "backbone.keras", network, load_backbone(workdir)):
        np.testing.assert_allclose(represent(place, BYTES)["pre_logits"], mine, rtol=1e-5, atol=1e-5)


def test_sizes_of_their_own(runs):
    workdir, _, _ = runs["rotation"]
    sizes = [(40, 64), (64, 40), (32, 32)]
    photos = [np.kron(np.ones((h // 8, w // 8, 1), np.uint8), BYTES[0, :8, :8]) for h, w in sizes]
    found = represent(workdir, photos)["pre_logits"]
    assert found.shape[0] == 3
    np.testing.assert_allclose(found[:1], represent(workdir, photos[0][None])["pre_logits"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[2:], represent(workdir, photos[2][None] / 255)["pre_logits"], rtol=1e-5, atol=1e-5)


WRONG = {
    "floats of bytes": (BYTES.astype("f4"), r"lie in \[0, 255\]; expected uint8 \(0..255\) or floats in \[0, 1\]"),
    "of the network's own range": (BYTES / 127.5 - 1, r"images lie in \[-1, 1\]; expected uint8"),
    "whole numbers": (BYTES.astype(int), "images are int64; expected uint8"),
    "one image": (BYTES[0], r"shape \[32, 32, 3\]; expected \[n, height, width, 3\]"),
    "grey": (BYTES[..., :1], r"shape \[5, 32, 32, 1\]"),
    "not a number": (np.full((1, 32, 32, 3), np.nan), r"images lie in \[nan, nan\]"),
    "nothing": (BYTES[:0], "no images to represent"),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_images_are_refused(runs, what):
    images, message = WRONG[what]
    with pytest.raises(InputError, match=message):
        represent(runs["rotation"][0], images)


def test_the_file_knows_what_it_takes(runs, tmp_path):
    workdir, recipe, _ = runs["jigsaw"]
    moved = tmp_path / "elsewhere.keras"
    moved.write_bytes((workdir / "backbone.keras").read_bytes())
    network = load_backbone(moved)
    assert network.expects == expects_of(recipe)
    assert str(network.expects) == (
        "float32 [n, 8, 8, 3], values of mean 0 and deviation 1 in each image (an image is 3² of them)"
    )
    assert str(load_backbone(runs["rotation"][0]).expects) == "float32 [n, 32, 32, 3], values in [-1, 1]"
    np.testing.assert_array_equal(represent(moved, BYTES)["block4"], represent(workdir, BYTES)["block4"])


@pytest.mark.parametrize("images", [BYTES, tf.constant(BYTES), BYTES.astype(int)], ids=["array", "tensor", "int64"])
def test_the_bare_network_refuses_integers(runs, images):
    for network in (runs["rotation"][2], load_backbone(runs["rotation"][0])):
        with pytest.raises(ValueError, match=r"tiny takes float32 \[n, 32, 32, 3\], values in \[-1, 1\], not u?int"):
            network(images)


def test_a_file_from_before_it_knew(runs, tmp_path):
    recipe = runs["rotation"][1]
    network = build_backbone(recipe)
    export_backbone(network, str(tmp_path / "backbone.keras"))
    assert load_backbone(tmp_path).expects is None
    with pytest.raises(InputError, match="tiny does not know what images it takes; give the folder of its run"):
        represent(tmp_path, BYTES)
    (tmp_path / "recipe.json").write_bytes((runs["rotation"][0] / "recipe.json").read_bytes())
    mine = network((BYTES / 127.5 - 1).astype("f4"), training=False)["pre_logits"]
    np.testing.assert_allclose(represent(tmp_path, BYTES)["pre_logits"], mine, rtol=1e-5, atol=1e-5)


def test_a_changed_byte_of_what_it_knows_is_said(runs, tmp_path):
    held = (runs["rotation"][0] / "backbone.keras").read_bytes()
    assert b'\\"size\\": 32' in held
    (tmp_path / "backbone.keras").write_bytes(held.replace(b'\\"size\\": 32', b'\\"size\\": 33'))
    with pytest.raises(InputError, match="backbone.keras' is damaged: what images it takes cannot be read"):
        load_backbone(tmp_path)


def test_buckets_hold_it_too(runs):
    """ram:// stands in for gs://."""
    recipe, known = runs["rotation"][1], Expects(view={"size": 8}, network_input={}, max_values=9, pooling="avg")
    tf.io.gfile.makedirs("ram://models")
    export_backbone(build_backbone(recipe), "ram://models/backbone.keras", known)
    from revisit_ssl.backbones import expects

    assert expects.read("ram://models/backbone.keras") == known


def test_the_pretexts_score_is_of_the_network_that_is_saved(runs):
    """BatchNorm re-estimated changes what a short run predicts; pretext.json has what load_pretext gives."""
    workdir, recipe, _ = runs["rotation"]
    stored = json.loads((workdir / "pretext.json").read_text())
    model = load_pretext(workdir)  # with the statistics of backbone.keras
    assert stored == pytest.approx(pretext_score(model, recipe, None), abs=1e-5)
    for v in model.exported.weights:
        if v.path.endswith("moving_variance"):
            v.assign(np.full(v.shape, 9.0))
    assert stored != pytest.approx(pretext_score(model, recipe, None), abs=1e-5), "the score tells statistics apart"


def test_the_pretexts_score_is_traced_once(runs):
    """Also where the last of its batches is smaller: 200 validation images in batches of 32."""
    workdir, recipe, _ = runs["jigsaw"]
    model, traces = load_pretext(workdir), []
    real = model.test_step
    model.test_step = lambda batch: traces.append(batch["image"].shape[0]) or real(batch)
    assert pretext_score(model, recipe, None)["val_images"] == 200
    assert traces == [None]


def test_the_readmes_five_calls_run(tmp_path, monkeypatch, capsys):
    """As they stand there but for the preset: smoke, two steps, a tiny network."""
    text = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (code,) = (block for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S) if "pretrain(" in block)
    small = {"backbone": "tiny", "bench__endpoints": ("pre_logits",), "max_steps": 2}
    real = revisit_ssl.get_recipe
    changed = lambda name, **fields: real(name, "smoke", **small | fields)  # noqa: E731
    monkeypatch.setattr(revisit_ssl, "get_recipe", changed, raising=False)
    monkeypatch.chdir(tmp_path)
    names = {"images": BYTES}
    exec(code, names)
    assert "ours (digits, knn)" in capsys.readouterr().out
    expected = names["backbone"]((BYTES / 127.5 - 1).astype("f4"), training=False)["pre_logits"]
    np.testing.assert_allclose(names["features"], expected, rtol=1e-5, atol=1e-5)
