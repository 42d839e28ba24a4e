"""The real VOC and COCO samples go through loader, training steps, inference and metric."""

import pathlib

import keras
import numpy as np
import pytest

from revisit_ssl.backbones import get_backbone
from revisit_ssl.detection.examples import read_examples
from revisit_ssl.detection.sources import box_source
from revisit_ssl.evaluators import Detection, Segmentation
from revisit_ssl.evaluators.bench import Bench
from revisit_ssl.recipe import BenchSpec, Recipe, ViewSpec

FEW = {
    "iterations": 2, "batch_size": 2, "shorter_sides": (64, 96), "longest": 128, "test_shorter": 64, "test_longest": 96,
    "precise_batches": 1, "regions": 8, "pool": 4, "train_proposals": (100, 20), "test_proposals": (100, 10),
    "mask_channels": 8, "warmup": 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", [("voc07", Detection), ("coco", Segmentation)])
def test_a_real_sample_is_learnt_from_found_on_and_judged(name, kind, real_data, tmp_path):
    pytest.importorskip("pycocotools")
    samples = pathlib.Path(real_data).parent
    place = samples / ("voc2007_sample/VOCdevkit" if name == "voc07" else "coco2017_sample")
    train, test = (box_source(f"{name}:{place}", split) for split in ("trainval", "test"))
    keras.utils.set_random_seed(0)
    network = get_backbone("tiny", 1)
    network.trainable = False
    recipe = Recipe(
        pretext="rotation", views=ViewSpec(normalize="imagenet"), bench=BenchSpec(endpoints=("pre_logits",))
    )
    bench = Bench(network, {"train": train, "test": test}, recipe, folder=str(tmp_path))
    (score,) = kind(**FEW, score_threshold=0.0).measure(bench)
    expected = {"ap", "ap50", "ap75"}
    if kind is Segmentation:
        expected = {f"{what}_{name}" for what in ("box", "mask") for name in expected}
    assert set(score.metrics) == expected and all(0 <= value <= 100 for value in score.metrics.values())
    losses = {"rpn_class", "rpn_box", "class", "box"} | ({"mask"} if kind is Segmentation else set())
    assert all(set(row) == losses | {"step"} and np.isfinite(list(row.values())).all() for row in score.extra["curve"])
    assert score.hyperparameters["metric"] == train.metric and score.extra["trained_on"] <= train.num_examples
    # What a report draws: the first test images with what was found on them.
    kept = read_examples(str(tmp_path / f"{kind.title}.npz"))
    assert kept.classes == list(test.class_names) and len(kept.images) == 8
    assert ("masks" in kept.images[0].found) == (kind is Segmentation)
