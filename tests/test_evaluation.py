"""evaluate(): what a recipe says reaches the probes, nothing is extracted twice, results say what they are of."""

import dataclasses
import json

import numpy as np
import pytest

from revisit_ssl.backbones import load_backbone
from revisit_ssl.data import DATASETS, EvalView, open_source, places
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.evaluate import (
    check_probes,
    evaluate,
    evaluate_random,
    labelled_sources,
    pretext_results,
    probe,
)
from revisit_ssl.evaluators import PROBES, NetworkInput, represent
from revisit_ssl.evaluators.voc_svm import VOCSVM
from revisit_ssl.features import extract as features
from revisit_ssl.features.batchnorm import evaluation_images
from revisit_ssl.papers import get_recipe
from revisit_ssl.recipe import override
from revisit_ssl.report.settings import grouped
from revisit_ssl.runs.results import read_results
from revisit_ssl.training.build import build_backbone, freeze
from revisit_ssl.training.history import read_history
from revisit_ssl.training.pretrain import export_backbone, pretrain

TINY = {"backbone": "tiny", "endpoints": ("pre_logits",), "probes": ("knn",)}


@pytest.fixture
def passes(monkeypatch):
    """List of (split, endpoints) that go through the network for features."""
    seen, real = [], features._extract
    monkeypatch.setattr(
        features, "_extract", lambda net, s, writers, *a: seen.append((s.split, *writers)) or real(net, s, writers, *a)
    )
    return seen


def test_few_shot_from_a_recipe_to_lines(tmp_path, passes):
    recipe = get_recipe("rotation", "smoke", **(TINY | {"probes": ("few_shot", "nmi")}), few_shot_ways=4)
    evaluate(freeze(build_backbone(recipe)), recipe, workdir=tmp_path, quiet=True)
    assert passes == [("test", "pre_logits")], "what no probe looks at is not extracted"
    rows = [r for r in read_results(tmp_path / "results.jsonl") if r.probe == "few_shot"]
    assert [r.metric for r in rows] == ["few_shot_4way_1shot", "few_shot_4way_5shot"]
    assert set(rows[0].extra["standard_error"]) == {r.metric for r in rows} and not rows[1].extra
    assert all(25 < r.value < 100 and r.hyperparameters["ways"] == 4 for r in rows)
    obow = override(recipe, probe_setting="obow")
    with pytest.raises(InputError, match="novel_1 are classes of ImageNet's 1,000, and digits test has 10; set --few"):
        check_probes(obow, None)
    with pytest.raises(InputError, match="50 ways of digits test, which has 10 classes; lower --few-shot-ways"):
        check_probes(override(obow, few_shot_classes="all", few_shot_ways=50), None)
    found = probe("few_shot", override(obow, few_shot_classes="all", few_shot_ways=None))
    assert (found.ways, found.queries, found.classes) == (50, 1, "all")


def test_linear_of_obow_sees_mirrored_images_too(tmp_path, passes):
    recipe = get_recipe("rotation", "smoke", **TINY | {"probes": ("linear", "knn")}, probe_setting="obow")
    recipe = override(recipe, probe_schedule=(1, 2), probe_weight_decay=1e-3, probe_lr=(0.5,))
    rows = evaluate(freeze(build_backbone(recipe)), recipe, workdir=tmp_path, quiet=True)
    assert passes == [("train", "pre_logits"), ("val", "pre_logits"), ("test", "pre_logits"), ("train", "pre_logits")]
    used = next(r for r in rows if r.probe == "linear").hyperparameters
    assert used["flip"] and (used["weight_decay"], used["lr"], used["epochs"]) == (1e-3, 0.5, 2)
    found = probe("linear_images", get_recipe("rotation", "paper", probe_setting="obow"))
    assert (found.size, found.crop, found._rates(1024)) == (224, "resized", [10.0])
    places = get_recipe("rotation", "paper", probe_setting="obow_places", probe_schedule=(10, 20, 28))
    found = probe("linear_images", override(places, probe_weight_decay=1e-5, probe_batch_norm=False))
    assert (found.resize, found.size, found.crop, found.schedule) == (256, 224, "random", (10, 20, 28))
    assert found.weight_decay == 1e-5 and not found.batch_norm and probe("linear_images", places).batch_norm


def test_svms_on_voc(real_data, tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "voc_sample", dataclasses.replace(DATASETS["voc"], tfds="voc2007_sample"))
    recipe = get_recipe("rotation", "smoke", **TINY | {"probes": ("voc_svm",)}, probe_dataset="voc_sample")
    found = probe("voc_svm", recipe)
    assert found.view == EvalView(size=32, resize=37, method="warp") and len(found.costs) == 23
    seen, real = [], VOCSVM.__call__
    monkeypatch.setattr(VOCSVM, "__call__", lambda svm, *two, **k: seen.extend(two) or real(svm, *two, **k))
    (row,) = evaluate(freeze(build_backbone(recipe)), recipe, data_dir=real_data, workdir=tmp_path, quiet=True)
    train, test = seen
    assert (train.features.shape, train.labels.shape, test.labels.shape) == ((20, 16), (20, 20), (12, 20))
    assert (row.metric, row.probe_dataset, row.hyperparameters["view"]["method"]) == ("map", "voc_sample", "warp")
    assert "person" in row.extra["ap"] and len(row.extra["ap"]) + len(row.extra["left_out"]) == 20
    assert 0 < row.value == pytest.approx(np.mean(list(row.extra["ap"].values())), abs=1e-3)
    center = probe("voc_svm", override(recipe, voc_svm_crop="center"))
    assert center.view == EvalView(size=32, resize=37, method="shorter_side")
    for probes, dataset, message in (
        (("linear",), "voc_sample", "probes need labels and voc_sample has several for each image, --probes voc_svm"),
        (("voc_svm",), "digits", "voc_svm needs several labels for each image and digits has none; add --probe-data"),
        (("voc_svm", "knn"), "voc_sample", "voc_svm needs a set with several labels for each image, knn one with"),
    ):
        with pytest.raises(InputError, match=message):
            check_probes(override(recipe, probes=probes, probe_dataset=dataset), real_data)


def test_features_are_extracted_once(tmp_path, passes):
    recipe, path = get_recipe("rotation", "smoke", **TINY), str(tmp_path / "backbone.keras")
    backbone = build_backbone(recipe)
    export_backbone(backbone, path)
    evaluate(freeze(backbone), recipe, workdir=tmp_path / "run", quiet=True)
    assert passes == [(split, "pre_logits") for split in ("train", "val", "test")]
    # Loaded from its file and probed by something else, as evaluate.py does: nothing is computed again.
    again = freeze(load_backbone(path))
    evaluate(again, override(recipe, probes=("lbfgs",), probe_setting="paper"), workdir=tmp_path / "run", quiet=True)
    assert len(passes) == 3
    # One more endpoint costs that endpoint, fewer labels a subset of their own.
    evaluate(again, override(recipe, endpoints=("block4", "pre_logits")), workdir=tmp_path / "run", quiet=True)
    assert passes[3:] == [(split, "block4") for split in ("train", "val", "test")]
    evaluate(again, override(recipe, probe_fraction=0.5), workdir=tmp_path / "run", quiet=True)
    assert passes[6:] == [("train", "pre_logits")]
    # Another pooling is another feature: 8 x 8 x 16 values in cells of 2 x 2, or in 6 x 6 bins.
    pooled = override(recipe, endpoints=("block4",), probe_values=600)
    for pooling, width in (("max", 4 * 4 * 16), ("adaptive_max", 6 * 6 * 16)):
        evaluate(again, override(pooled, probe_pooling=pooling), workdir=tmp_path / "run", quiet=True)
        stored = max((tmp_path / "run" / "features").glob("block4-*.npy"), key=lambda path: path.stat().st_mtime_ns)
        assert np.load(stored, mmap_mode="r").shape[1] == width
    assert len(passes) == 7 + 6


def test_runs_share_a_folder_of_features(tmp_path, passes):
    recipe, shared = get_recipe("rotation", "smoke", **TINY), tmp_path / "features"
    first = evaluate_random(recipe, workdir=tmp_path / "a", features_dir=shared, quiet=True)
    assert len(passes) == 6  # as initialised, and with other statistics
    other = override(recipe, optimizer__lr=0.3)  # another run, the same untrained network
    second = evaluate_random(other, workdir=tmp_path / "b", features_dir=shared, quiet=True)
    assert len(passes) == 6 and [r.value for r in first] == [r.value for r in second]
    assert len(list(shared.glob("*.npy"))) == 6 and not (tmp_path / "a" / "features").exists()
    assert len(read_results(tmp_path / "b" / "results.jsonl")) == len(second)
    with pytest.raises(InputError, match="gs://bucket.*local folder"):
        evaluate_random(recipe, features_dir="gs://bucket/features", quiet=True)


def test_probes_follow_the_recipe():
    plain = get_recipe("rotation", "paper")
    found = probe("linear_images", plain)
    assert (found.size, found.resize, found.eval_view, found.batch_size) == (224, 256, None, 2048)
    assert (found.schedule, found.pooling, found.max_values, found.scale_lr) == ((480, 500, 520), "max", 9000, True)
    # Patches: trained as in the official code, scored as in the supplement.
    patches = probe("linear_images", get_recipe("jigsaw", "paper"))
    assert (patches.size, patches.resize, patches.batch_size) == (192, 224, 1024)
    assert patches.eval_view == EvalView(size=192, resize=255, method="squash")
    changed = get_recipe(
        "jigsaw", "paper", probe_schedule=(30, 50, 70), probe_batch_size=512, probe_scale_lr=False,
        probe_pooling="adaptive_max", probe_values=100,
    )  # fmt: skip
    found = probe("linear_images", changed)
    assert (found.schedule, found.batch_size, found.scale_lr) == ((30, 50, 70), 512, False)
    assert (found.pooling, found.max_values) == ("adaptive_max", 100)
    linear = probe("linear", changed)
    assert (linear.epochs, linear.batch_size, linear.scale_lr, linear.learning_rates) == ((70,), 512, False, (0.1,))
    assert [share * 70 for share in linear.decay_at] == pytest.approx([30, 50])
    assert probe("linear", plain).epochs == (520,)
    # The numbers of the other probes are their own; small sets keep those that were chosen for them.
    for name in ("mlp", "lbfgs", "knn"):
        assert probe(name, changed) == PROBES[name].paper()
    small = probe("linear_images", get_recipe("rotation", "smoke"))
    assert (small.size, small.resize, small.batch_size, small.schedule) == (32, 37, 256, (6, 10, 14))
    assert probe("linear", get_recipe("rotation", "smoke")) == PROBES["linear"]()
    with pytest.raises(InputError, match=r"probe_schedule \(50, 30, 70\): epochs must ascend"):
        probe("linear", get_recipe("rotation", "paper", probe_schedule=(50, 30, 70)))


@pytest.mark.parametrize("combine", ["mean", "concat", "whole"])
def test_a_network_of_patches_from_end_to_end(combine, tmp_path):
    recipe = get_recipe("jigsaw", "smoke", **(TINY | {"probes": ("knn", "linear_images")}), strides=None)
    recipe = override(recipe, views__eval_combine=combine, probe_fraction=0.2, probe_schedule=(2, 3, 4))
    backbone = freeze(build_backbone(recipe))
    rows = evaluate(backbone, recipe, workdir=tmp_path, weights="random", quiet=True)
    assert {r.probe for r in rows} == {"knn", "linear_images"}
    stored = {len(x): x for x in (np.load(f, mmap_mode="r") for f in (tmp_path / "features").glob("*.npy"))}
    assert set(stored) == {240, 200, 397}
    # The test images as the recipe looks at them: to 32 x 32, which they have, then the middle 24 x 24.
    images = open_source("digits", "test").images[:, 4:28, 4:28]
    expected = represent(backbone, images, NetworkInput.of(recipe))["pre_logits"]
    np.testing.assert_allclose(stored[397], expected, rtol=1e-4, atol=1e-5)
    width = backbone.output["pre_logits"].shape[-1]
    assert stored[397].shape[1] == (9 * width if combine == "concat" else width)
    assert {r.representation_size for r in rows} == {width}
    image_rows = [r for r in rows if r.probe == "linear_images" and r.metric == "top1"]
    assert image_rows[0].extra["curve"][-1] == [4, image_rows[0].extra["val_top1"]]
    written = read_results(tmp_path / "results.jsonl")
    assert [(r.key, r.value) for r in written] == [(r.key, r.value) for r in rows]


def test_statistics_are_of_what_the_network_learns_on():
    recipe = get_recipe("jigsaw", "smoke", views__eval_combine="whole", views__probe_normalize="pm1")
    source = open_source("digits", "train")
    batches = list(evaluation_images(recipe, source, 40))
    assert [len(b) for b in batches] == [32 * 9, 8 * 9] and batches[0].shape[1:] == (8, 8, 3)
    flat = batches[0].numpy().reshape(288, -1)
    np.testing.assert_allclose(flat[flat.std(axis=1) > 1e-3].std(axis=1), 1, rtol=1e-3)
    plain = next(iter(evaluation_images(get_recipe("rotation", "smoke"), source, 40)))
    assert plain.shape == (40, 32, 32, 3) and plain.numpy().min() == -1


def test_five_percent_of_places(tmp_path, make_places):
    """By name, as the supplement's Table 4: 5 % of the training images, the held-out ones whole."""
    make_places(tmp_path / "data", each=40)
    low = get_recipe("rotation", "smoke", **TINY, probe_dataset="places205", probe_fraction=0.05)
    sources = labelled_sources(low, str(tmp_path / "data"))
    assert [s.num_examples for s in sources.values()] == [round(0.05 * 3 * 36), 12, 6]
    rows = evaluate(freeze(build_backbone(low)), low, data_dir=str(tmp_path / "data"), workdir=tmp_path, quiet=True)
    assert {(r.probe_dataset, r.labels, r.dataset) for r in rows} == {("places205", 0.05, "digits")}
    whole = labelled_sources(override(low, probe_fraction=None), str(tmp_path / "data"))
    assert whole["train"].num_examples == 108 and whole["val"].fingerprint == sources["val"].fingerprint


def test_ten_percent_of_a_set(tmp_path):
    low = get_recipe("rotation", "smoke", **TINY, probe_fraction=0.1, probe_setting="paper", probe_split="val")
    sources = labelled_sources(low, None)
    assert [s.num_examples for s in sources.values()] == [120, 200, 200]  # the paper's tables score val
    balanced = labelled_sources(override(low, probe_balanced=True), None)["train"]
    assert np.bincount(balanced.labels).tolist() == [12] * 10
    (row, *_) = evaluate(freeze(build_backbone(low)), low, quiet=True)
    assert (row.labels, row.split) == (0.1, "val")


def test_schedules_of_a_probe_on_features_are_different_measurements():
    recipe = get_recipe("rotation", "smoke", **TINY | {"probes": ("linear", "knn")})
    backbone, schedules = freeze(build_backbone(recipe)), ((1, 2, 3), (2, 4, 6))
    rows = [r for s in schedules for r in evaluate(backbone, override(recipe, probe_schedule=s), quiet=True)]
    linear = [r for r in rows if r.probe == "linear" and r.metric == "top1"]
    assert [r.schedule for r in linear] == list(schedules) and len({r.setting for r in rows}) == 1
    assert {r.schedule for r in rows if r.probe == "knn"} == {None}
    assert {m.probe for s in grouped(linear) for m in s.lines} == {"linear 1/2/3", "linear 2/4/6"}


def test_pretext_score_becomes_results(tmp_path):
    recipe = get_recipe("rotation", "smoke", **TINY, batch_size=64, max_steps=2)
    assert pretext_results(recipe, read_history(tmp_path)) == []
    pretrain(recipe, tmp_path, quiet=True)
    score = json.loads((tmp_path / "pretext.json").read_text())
    found = {r.metric: r for r in pretext_results(recipe, read_history(tmp_path))}
    assert set(found) == {"loss", "accuracy"}
    assert found["accuracy"].value == pytest.approx(100 * score["val_accuracy"])
    assert found["loss"].value == pytest.approx(score["val_loss"])
    for r in found.values():
        assert (r.probe, r.endpoint, r.split, r.weights, r.steps) == ("pretext", "", "val", "pretrained", 2)
        assert (r.pretext, r.backbone, r.probe_dataset, r.recipe != "") == ("rotation", "tiny", "digits", True)
    (tmp_path / "pretext.json").write_text("[1]")
    with pytest.raises(InputError, match="pretext.json is not a score"):
        pretext_results(recipe, read_history(tmp_path))


@pytest.fixture
def make_places():
    """Function (folder, images per class): Places205's archives with three classes of noise."""
    from PIL import Image

    def make(folder, each):
        root = folder / "places205"
        (root / places.LISTS).mkdir(parents=True)
        for name, count in (("train", each), ("val", 2)):
            lines = [f"a/c{label}/{name}{i}.jpg {label}" for label in (0, 7, 204) for i in range(count)]
            (root / places.LISTS / f"{name}_places205.csv").write_text("\n".join(lines))
            for i, line in enumerate(lines):
                path = root / places.IMAGES / line.split()[0]
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(i).integers(0, 256, (32, 40, 3), np.uint8)
                Image.fromarray(pixels).save(path)

    yield make
    open_source.cache_clear()
