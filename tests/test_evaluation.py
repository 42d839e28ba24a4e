"""evaluate(): what a recipe says reaches the probes, nothing is extracted twice, results say what they are of."""

import dataclasses
import json
import types

import numpy as np
import pytest

from revisit_ssl.backbones import load_backbone
from revisit_ssl.commands.run import parse_run
from revisit_ssl.data import DATASETS, EvalView, open_source, places
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.evaluate import evaluate, evaluate_random, pretext_results
from revisit_ssl.evaluation.sets import check_probes, labelled_sources
from revisit_ssl.evaluators import PROBES, Probe, Score
from revisit_ssl.evaluators.bench import Bench
from revisit_ssl.evaluators.voc_svm import VOCSVM
from revisit_ssl.features import extract as features
from revisit_ssl.features.batchnorm import REESTIMATE_IMAGES, evaluation_images, reestimate_batch_norm
from revisit_ssl.features.representation import NetworkInput, represent
from revisit_ssl.papers import PROTOCOLS, get_recipe, with_probes
from revisit_ssl.recipe import override, to_json
from revisit_ssl.report.settings import grouped
from revisit_ssl.runs.results import read_results
from revisit_ssl.training.build import build_backbone, freeze, open_pretraining
from revisit_ssl.training.history import read_history
from revisit_ssl.training.pretrain import export_backbone, pretrain
from revisit_ssl.training.workdir import from_json

TINY = {"backbone": "tiny", "bench__endpoints": ("pre_logits",), "probes": ("knn",)}


@pytest.fixture
def passes(monkeypatch):
    """List of (split, endpoints) that go through the network for features."""
    seen, real = [], features._extract
    monkeypatch.setattr(
        features, "_extract", lambda net, s, writers, *a: seen.append((s.split, *writers)) or real(net, s, writers, *a)
    )
    return seen


def test_few_shot_from_a_recipe_to_lines(tmp_path, passes):
    recipe = get_recipe("rotation", "smoke", **(TINY | {"probes": ("few_shot", "nmi")}), probes__few_shot__ways=4)
    evaluate(freeze(build_backbone(recipe)), recipe, workdir=tmp_path, quiet=True)
    assert passes == [("test", "pre_logits")], "what no probe looks at is not extracted"
    rows = [r for r in read_results(tmp_path / "results.jsonl") if r.probe == "few_shot"]
    assert [r.metric for r in rows] == ["few_shot_4way_1shot", "few_shot_4way_5shot"]
    assert set(rows[0].extra["standard_error"]) == {r.metric for r in rows} and not rows[1].extra
    assert all(25 < r.value < 100 and r.hyperparameters["ways"] == 4 for r in rows)
    obow = with_probes(recipe, ("few_shot",), "obow")
    with pytest.raises(InputError, match="novel_1 are classes of ImageNet's 1,000, and digits test has 10; set --few"):
        check_probes(obow, None)
    with pytest.raises(InputError, match="50 ways of digits test, which has 10 classes; lower --few-shot.ways"):
        check_probes(override(obow, probes__few_shot__classes="all"), None)


def test_linear_of_obow_sees_mirrored_images_too(tmp_path, passes):
    recipe = get_recipe("rotation", "smoke", **TINY | {"probes": ("linear",)}, protocol="obow")
    own = {"schedule": (1, 2), "weight_decay": 1e-3, "learning_rates": (0.5,)}
    recipe = override(recipe, **{f"probes__linear__{name}": value for name, value in own.items()})
    rows = evaluate(freeze(build_backbone(recipe)), recipe, workdir=tmp_path, quiet=True)
    assert passes == [(split, "pre_logits") for split in ("train", "train", "val", "test")]
    used = next(r for r in rows if r.probe == "linear").hyperparameters
    assert used["flip"] and (used["weight_decay"], used["lr"], used["epochs"]) == (1e-3, 0.5, 2)


def test_svms_on_voc(real_data, tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "voc_sample", dataclasses.replace(DATASETS["voc"], tfds="voc2007_sample"))
    recipe = get_recipe("rotation", "smoke", **TINY | {"probes": ("voc_svm",)}, bench__dataset="voc_sample")
    seen, real = [], VOCSVM.score
    monkeypatch.setattr(VOCSVM, "score", lambda svm, *two, **k: seen.extend(two) or real(svm, *two, **k))
    (row,) = evaluate(freeze(build_backbone(recipe)), recipe, data_dir=real_data, workdir=tmp_path, quiet=True)
    train, test = seen
    assert (train.features.shape, train.labels.shape, test.labels.shape) == ((20, 16), (20, 20), (12, 20))
    assert (row.metric, row.probe_dataset) == ("map", "voc_sample")
    assert row.hyperparameters["view"] == {"size": 32, "resize": 37, "method": "warp"}
    assert "person" in row.extra["ap"] and len(row.extra["ap"]) + len(row.extra["left_out"]) == 20
    assert 0 < row.value == pytest.approx(np.mean(list(row.extra["ap"].values())), abs=1e-3)
    center, backbone = override(recipe, probes__voc_svm__crop="center"), freeze(build_backbone(recipe))
    (row,) = evaluate(backbone, center, data_dir=real_data, quiet=True)
    assert row.hyperparameters["view"] == {"size": 32, "resize": 37, "method": "shorter_side"}
    for probes, dataset, message in (
        (("linear",), "voc_sample", "probes need labels and voc_sample has several for each image, --probes voc_svm"),
        (("voc_svm",), "digits", "voc_svm needs several labels for each image and digits has none; add --probe-data"),
        (("voc_svm", "knn"), "voc_sample", "voc_svm needs a set with several labels for each image, knn one with"),
    ):
        with pytest.raises(InputError, match=message):
            check_probes(override(with_probes(recipe, probes), bench__dataset=dataset), real_data)


def test_features_are_extracted_once(tmp_path, passes):
    recipe, path = get_recipe("rotation", "smoke", **TINY), str(tmp_path / "backbone.keras")
    backbone = build_backbone(recipe)
    export_backbone(backbone, path)
    evaluate(freeze(backbone), recipe, workdir=tmp_path / "run", quiet=True)
    assert passes == [(split, "pre_logits") for split in ("train", "val", "test")]
    # Loaded from its file and probed by something else, as evaluate.py does: nothing is computed again.
    again = freeze(load_backbone(path))
    evaluate(again, with_probes(recipe, ("lbfgs",), "revisiting"), workdir=tmp_path / "run", quiet=True)
    assert len(passes) == 3
    # One more endpoint costs that endpoint, fewer labels a subset of their own.
    evaluate(again, override(recipe, bench__endpoints=("block4", "pre_logits")), workdir=tmp_path / "run", quiet=True)
    assert passes[3:] == [(split, "block4") for split in ("train", "val", "test")]
    evaluate(again, override(recipe, bench__fraction=0.5), workdir=tmp_path / "run", quiet=True)
    assert passes[6:] == [("train", "pre_logits")]
    # Another pooling is another feature: 8 x 8 x 16 values in cells of 2 x 2, or in 6 x 6 bins.
    pooled = override(recipe, bench__endpoints=("block4",), bench__values=600)
    for pooling, width in (("max", 4 * 4 * 16), ("adaptive_max", 6 * 6 * 16)):
        evaluate(again, override(pooled, bench__pooling=pooling), workdir=tmp_path / "run", quiet=True)
        stored = max((tmp_path / "run" / "features").glob("block4-*.npy"), key=lambda path: path.stat().st_mtime_ns)
        assert np.load(stored, mmap_mode="r").shape[1] == width
    assert len(passes) == 7 + 6


def test_runs_share_a_folder_of_features(tmp_path, passes):
    recipe, shared = get_recipe("rotation", "smoke", **TINY, bench__untrained="both"), tmp_path / "features"
    first = evaluate_random(recipe, workdir=tmp_path / "a", features_dir=shared, quiet=True)
    assert len(passes) == 6  # as initialised, and with other statistics
    other = override(recipe, optimizer__lr=0.3)  # another run, the same untrained network
    second = evaluate_random(other, workdir=tmp_path / "b", features_dir=shared, quiet=True)
    assert len(passes) == 6 and [r.value for r in first] == [r.value for r in second]
    assert len(list(shared.glob("*.npy"))) == 6 and not (tmp_path / "a" / "features").exists()
    assert len(read_results(tmp_path / "b" / "results.jsonl")) == len(second)
    with pytest.raises(InputError, match="gs://bucket.*local folder"):
        evaluate_random(recipe, features_dir="gs://bucket/features", quiet=True)


def test_both_untrained_rows_are_of_fresh_networks():
    """One network is built for both; nothing of the first row's measurement reaches the second."""
    recipe = get_recipe("rotation", "smoke", **TINY, bench__untrained="both")
    found = evaluate_random(recipe, quiet=True)
    alone, other = freeze(build_backbone(recipe)), freeze(build_backbone(recipe))
    reestimate_batch_norm(other, evaluation_images(recipe, open_pretraining(recipe), REESTIMATE_IMAGES))
    expected = [r.value for network in (alone, other) for r in evaluate(network, recipe, quiet=True)]
    assert [r.value for r in found] == expected and expected[0] != expected[len(expected) // 2]


def test_linear_images_see_what_the_recipe_says():
    """Sizes of training crops and what is scored, in the paper's proportions; as in the official code for patches."""
    bench = types.SimpleNamespace(backbone=None)

    def geometry(probe, recipe):
        bench.view, bench.network_input = EvalView.of(recipe), NetworkInput.of(recipe)
        return probe.geometry(bench)

    plain, patches = get_recipe("rotation", "paper"), get_recipe("jigsaw", "paper")
    random, resized = (PROTOCOLS[name]["linear_images"] for name in ("revisiting", "moco"))
    assert geometry(random, plain) == (256, EvalView(size=224, resize=256, method="shorter_side"))
    # Patches: trained as in the official code, scored as in the supplement.
    assert geometry(random, patches) == (224, EvalView(size=192, resize=255, method="squash"))
    smoke = get_recipe("rotation", "smoke")
    assert geometry(random, smoke) == (37, EvalView(size=32, resize=37, method="shorter_side"))
    assert geometry(resized, smoke)[1] == EvalView(size=32, method="none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Toy(Probe):
    """Guesses the most frequent class of the training split: a probe by one class and one line."""

    shift: int = 0
    """How many classes further it guesses."""

    def measure(self, bench):
        for endpoint in bench.endpoints:
            train, test = (bench.split(split, endpoint) for split in ("train", "test"))
            guess = np.bincount(train.labels).argmax() + self.shift
            top1 = 100 * np.mean(test.labels == guess)
            yield Score(top1=top1, hyperparameters=self.options(), seconds=0.0, endpoint=endpoint)
            yield Score(metrics={"width": test.features.shape[1]}, hyperparameters={}, seconds=0.0, variant="size")


def test_a_probe_is_one_class_and_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(PROBES, "toy", Toy)
    flags = ["rotation", "--preset", "smoke", "--backbone", "tiny", "--endpoints", "pre_logits"]
    recipe = parse_run([*flags, "--probes", "toy", "knn", "--toy.shift", "1"]).recipe
    assert recipe.probes["toy"] == Toy(shift=1)
    assert from_json(to_json(recipe), kinds=PROBES) == recipe
    rows = evaluate(freeze(build_backbone(recipe)), recipe, probes=("toy",), workdir=tmp_path, quiet=True)
    assert [(r.probe, r.metric, r.endpoint) for r in rows] == [("toy", "top1", "pre_logits"), ("toy_size", "width", "")]
    assert 5 < rows[0].value < 15 and rows[0].hyperparameters == {"shift": 1} and rows[1].value == 16
    assert read_results(tmp_path / "results.jsonl") == rows


def test_a_bench_extracts_what_is_asked_for_once(passes):
    recipe = get_recipe("rotation", "smoke", **TINY, bench__fraction=0.1)
    bench = Bench(freeze(build_backbone(recipe)), labelled_sources(recipe), recipe)
    assert passes == [] and (bench.num_classes, bench.endpoints) == (10, ("pre_logits",))
    first, again = (bench.features("train", "pre_logits") for _ in range(2))
    assert first is again and first.shape == (120, 16) and passes == [("train", "pre_logits")]
    mirrored = bench.features("train", "pre_logits", mirror=True)
    assert not np.allclose(first, mirrored) and len(passes) == 2
    assert bench.labels("train").shape == (120,) and bench.images("val").num_examples == 200


@pytest.mark.parametrize("combine", ["mean", "concat", "whole"])
def test_a_network_of_patches_from_end_to_end(combine, tmp_path):
    recipe = get_recipe("jigsaw", "smoke", **(TINY | {"probes": ("knn", "linear_images")}))
    recipe = override(recipe, bench__combine=combine, bench__fraction=0.2, probes__linear_images__schedule=(2, 3, 4))
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
    recipe = get_recipe("jigsaw", "smoke", bench__combine="whole", bench__normalize="pm1")
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
    low = get_recipe("rotation", "smoke", **TINY, bench__dataset="places205", bench__fraction=0.05)
    sources = labelled_sources(low, str(tmp_path / "data"))
    assert [s.num_examples for s in sources.values()] == [round(0.05 * 3 * 36), 12, 6]
    rows = evaluate(freeze(build_backbone(low)), low, data_dir=str(tmp_path / "data"), workdir=tmp_path, quiet=True)
    assert {(r.probe_dataset, r.labels, r.dataset) for r in rows} == {("places205", 0.05, "digits")}
    whole = labelled_sources(override(low, bench__fraction=None), str(tmp_path / "data"))
    assert whole["train"].num_examples == 108 and whole["val"].fingerprint == sources["val"].fingerprint


def test_ten_percent_of_a_set(tmp_path):
    low = get_recipe("rotation", "smoke", **TINY, bench__fraction=0.1, bench__split="val")
    sources = labelled_sources(low, None)
    assert [s.num_examples for s in sources.values()] == [120, 200, 200]  # the paper's tables score val
    balanced = labelled_sources(override(low, bench__balanced=True), None)["train"]
    assert np.bincount(balanced.labels).tolist() == [12] * 10
    (row, *_) = evaluate(freeze(build_backbone(low)), low, quiet=True)
    assert (row.labels, row.split) == (0.1, "val")


def test_schedules_of_a_probe_on_features_are_different_measurements():
    recipe = get_recipe("rotation", "smoke", **TINY | {"probes": ("linear", "knn")})
    backbone, schedules = freeze(build_backbone(recipe)), ((1, 2, 3), (2, 4, 6))
    rows = [r for s in schedules for r in evaluate(backbone, override(recipe, probes__linear__schedule=s), quiet=True)]
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
    assert pretext_results(recipe, read_history(tmp_path)) == []
    assert (tmp_path / "pretext.json.damaged").read_text() == "[1]"


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
