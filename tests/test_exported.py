"""What a run exports: the backbone, or more endpoints of its pretext; on a share of the split; watched on test."""

import keras
import numpy as np
import pytest

from revisit_ssl.backbones import load_backbone
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.evaluate import evaluate, evaluate_random, monitor_results
from revisit_ssl.papers import get_recipe, recipes_of, with_probes
from revisit_ssl.pretext import PRETEXTS
from revisit_ssl.pretext.rotation import Rotation
from revisit_ssl.recipe import override
from revisit_ssl.runs.results import read_results
from revisit_ssl.training.build import build_untrained, load_pretext, open_pretraining
from revisit_ssl.training.history import read_history
from revisit_ssl.training.pretrain import pretrain
from revisit_ssl.training.progress import read_log

RECIPES = recipes_of("revisiting")
TINY = {
    "backbone": "tiny", "probes": ("knn",), "bench__endpoints": ("pre_logits", "projection"), "max_steps": None,
    "bench__untrained": "both",
}


class Projecting(Rotation):
    """Rotation whose four logits, made unit rows, are exported too."""

    @property
    def exported(self):
        values = self.head(self.backbone.output["pre_logits"])
        unit = keras.layers.UnitNormalization(axis=-1, dtype="float32")(values)
        return keras.Model(self.backbone.input, {**self.backbone.output, "projection": unit})


@pytest.fixture(scope="module", autouse=True)
def registered():
    def recipe(width, backbone):
        return override(RECIPES["rotation/smoke"](width, backbone), pretext="projecting")

    PRETEXTS["projecting"], RECIPES["projecting/smoke"] = Projecting, recipe
    yield
    del PRETEXTS["projecting"], RECIPES["projecting/smoke"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(workdir, recipe, exported) of four steps on 512 of 1,200 digits, looked at on test at steps 3 and 4."""
    workdir = tmp_path_factory.mktemp("run")
    recipe = get_recipe("projecting", "smoke", **TINY, fraction=512 / 1200, batch_size=256, epochs=1.8)
    recipe = override(recipe, max_steps=3)
    return workdir, recipe, pretrain(recipe, workdir, monitor="knn_test:1", quiet=True)


def test_the_head_that_is_probed_is_saved(run):
    workdir, recipe, exported = run
    loaded = load_backbone(workdir)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    ours, theirs = exported(images), loaded(images)
    assert set(theirs) == {"after_root", "block3", "block4", "pre_logits", "projection"}
    assert not exported.trainable_variables
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name])
    np.testing.assert_allclose(np.linalg.norm(theirs["projection"], axis=1), 1, rtol=1e-5)
    again = load_pretext(workdir)
    for a, b in zip(again.exported.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_both_endpoints_are_probed_trained_and_untrained(run, tmp_path):
    _, recipe, exported = run
    rows = evaluate(exported, recipe, workdir=tmp_path, quiet=True) + evaluate_random(recipe, quiet=True)
    assert {(r.weights, r.endpoint) for r in rows} == {
        (weights, endpoint)
        for weights in ("pretrained", "random", "random, BN re-estimated")
        for endpoint in ("pre_logits", "projection")
    }
    assert {r.representation_size for r in rows} == {16}
    # The untrained trunk is the one that is built without a head, whose draws come after the trunk's.
    plain = build_untrained(override(recipe, bench__endpoints=("pre_logits",)))
    whole = build_untrained(recipe)
    assert "projection" not in plain.output
    for a, b in zip(plain.weights, whole.weights, strict=False):
        np.testing.assert_array_equal(a, b)


def test_an_endpoint_that_the_pretext_does_not_export_is_refused_before_anything_is_written(tmp_path):
    recipe = get_recipe("rotation", "smoke", **TINY)
    there = "this backbone has after_root, block3, block4, pre_logits"
    with pytest.raises(InputError, match=f"no endpoint 'projection'; {there}"):
        pretrain(recipe, tmp_path, quiet=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no endpoint 'projection'"):
        evaluate_random(recipe, quiet=True)


def test_a_share_of_the_split_is_pretrained_on(run):
    _, recipe, _ = run
    source = open_pretraining(recipe)
    assert source.num_examples == 512 and open_pretraining(override(recipe, fraction=None)).num_examples == 1200
    other = open_pretraining(override(recipe, seed=1))
    assert source.fingerprint != other.fingerprint, "another seed, other images"
    with pytest.raises(InputError, match=r"fraction 0.0 must lie in \(0, 1\]"):
        override(recipe, fraction=0.0)


def test_the_best_epoch_on_test_has_a_name_of_its_own(run, tmp_path):
    workdir, recipe, exported = run
    looks = read_log(workdir / "monitor.csv")
    assert [(row["epoch"], row["step"]) for row in looks] == [(1, 2), (2, 3)], "each epoch, and after the last step"
    curve = [row["knn_on_test_top1"] for row in looks]
    rows = {r.metric: r for r in monitor_results(recipe, read_history(workdir))}
    assert list(rows) == ["last_on_test_top1", "best_on_test_top1"]
    assert rows["last_on_test_top1"].value == pytest.approx(curve[-1], abs=1e-3)
    assert rows["best_on_test_top1"].value == pytest.approx(max(curve), abs=1e-3)
    assert {(r.probe, r.endpoint, r.split, r.steps) for r in rows.values()} == {
        ("knn_monitor", "projection", "test", 3)
    }
    assert rows["last_on_test_top1"].extra["curve"] == [[row["epoch"], row["knn_on_test_top1"]] for row in looks]
    # It is the protocol of the knn probe: all test images against all training images.
    from revisit_ssl.training.monitor import Monitor

    look = Monitor(exported, recipe, 1, str(tmp_path), None, split="test").look()["knn_on_test_top1"]
    (score, *_) = evaluate(exported, override(recipe, bench__endpoints=("projection",)), quiet=True)
    assert (score.probe, score.metric) == ("knn", "top1") and score.value == pytest.approx(look, abs=1e-3)
    assert monitor_results(recipe, read_history(tmp_path)) == []


def test_what_a_probe_adds_stands_on_its_first_line_alone(run, tmp_path):
    _, recipe, exported = run
    evaluate(
        exported,
        override(with_probes(recipe, ("knn", "linear")), probes__linear__schedule=(1, 2, 3)),
        workdir=tmp_path,
        quiet=True,
    )
    rows = read_results(tmp_path / "results.jsonl")
    assert all(bool(r.extra) == (r.metric == "top1") for r in rows)
    assert all(r.hyperparameters for r in rows)
    assert "curve" in next(r for r in rows if r.probe == "linear").extra
