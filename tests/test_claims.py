"""The nine claims: on made-up results each verdict is the one that the numbers were made for."""

import dataclasses

import pytest

from revisit_ssl.papers.revisiting.claims import Study, claims
from revisit_ssl.report.claims import FAILS, HOLDS, OPEN
from revisit_ssl.runs.results import Result


def row(value, pretext="rotation", backbone="resnet18", width=1, **more):
    more = {"endpoint": "pre_logits", "probe": "linear", "probe_dataset": "cifar10", "metric": "top1", **more}
    more = {"seed": 0, "split": "test", "weights": "pretrained", "steps": 100, **more}
    setting = f"{pretext}-{backbone}-{width}-{more.get('representation_size')}"
    recipe = f"{setting}-{more['seed']}"
    fields = {"dataset": "cifar10", "recipe": recipe, "setting": setting, **more}
    return Result(pretext=pretext, backbone=backbone, width=width, value=value, **fields)


# Three seeds, deviation 0.5: two deviations of a difference of two runs are 2 * sqrt(2) * 0.5 = 1.41 points.
SEEDS = [row(50 + d, seed=seed) for seed, d in enumerate((-0.5, 0, 0.5))]


def verdict(number, rows):
    return claims([*SEEDS, *rows])[number - 1].verdict


def test_noise_is_two_deviations_of_a_difference_between_runs():
    assert Study(SEEDS, "cifar10").noise == pytest.approx(2 * 2**0.5 * 0.5)


def test_there_are_nine_and_without_runs_none_is_decided():
    found = claims(SEEDS)
    assert [c.number for c in found] == list(range(1, 10))
    # One network tells where its best layer lies only if all its layers were probed.
    assert {c.verdict for c in found} == {OPEN}


@pytest.mark.parametrize(("wide", "expected"), [(53, HOLDS), (50.5, OPEN), (47, FAILS)])
def test_wider(wide, expected):
    assert verdict(1, [row(wide, width=2)]) == expected
    # The supervised network is the reference, not a witness.
    assert verdict(1, [row(80, "supervised"), row(90, "supervised", width=2)]) == OPEN


@pytest.mark.parametrize(("corner", "expected"), [((40, 44, 45, 49), HOLDS), ((44, 40, 40, 36), FAILS)])
def test_width_and_size(corner, expected):
    sizes = [(1, 512), (1, 1024), (2, 512), (2, 1024)]
    rows = [
        row(v, backbone="revnet50", width=k, representation_size=n) for v, (k, n) in zip(corner, sizes, strict=True)
    ]
    assert verdict(2, rows) == expected
    assert verdict(2, rows[:2]) == OPEN


def test_ranking_needs_two_networks_that_change_places():
    swapped = [row(40, backbone="revnet50"), row(45, "exemplar"), row(48, "exemplar", "revnet50")]
    claim = claims([*SEEDS, *swapped])[2]
    assert claim.verdict == HOLDS
    assert "RevNet50 1x leads ResNet18 1x by Exemplar, trails it by Rotation" in claim.reason
    same = [row(40, backbone="revnet50"), row(45, "exemplar"), row(42, "exemplar", "revnet50")]
    assert verdict(3, same) == OPEN


def test_ranking_is_told_by_two_pretexts_of_networks_of_one_width():
    networks = ("revnet50", "resnet50_v2", "vgg19_bn", "resnet18")
    rotation = [row(40 + 5 * i, backbone=b) for i, b in enumerate(networks)]
    exemplar = [row(30 + 5 * i, "exemplar", b) for i, b in enumerate(networks)]
    assert claims(rotation)[2].verdict == OPEN
    assert claims([*rotation, *exemplar])[2].verdict == FAILS
    wide = [row(60, backbone="revnet50", width=2), row(20, "exemplar", "revnet50", 2), row(45, "exemplar")]
    assert verdict(3, wide) == OPEN


@pytest.mark.parametrize(
    ("own", "linear", "expected"), [(80.5, 45, HOLDS), (77, 45, OPEN), (70, 45, FAILS), (80, 50.1, OPEN)]
)
def test_without_last_relu(own, linear, expected):
    score = {"probe": "pretext", "metric": "accuracy", "endpoint": "", "split": "val"}
    rows = [row(50, backbone="resnet50_v2"), row(linear, backbone="resnet50_v2_minus")]
    rows += [row(80, backbone="resnet50_v2", **score), row(own, backbone="resnet50_v2_minus", **score)]
    assert verdict(4, rows) == expected
    assert verdict(4, rows[:2]) == OPEN


def test_layers():
    def net(backbone, scores, pretext="exemplar"):
        names = ("block1", "block2", "block3", "block4", "pre_logits")
        return [row(v, pretext, backbone, endpoint=e) for v, e in zip(scores, names, strict=True)]

    rising = net("resnet50_v2", (30, 35, 40, 42, 45))
    peaked = net("vgg19_bn", (30, 35, 40, 38, 30))
    assert verdict(5, [*rising, *peaked]) == HOLDS
    assert verdict(5, net("resnet50_v2", (30, 35, 40, 44, 44))) == OPEN
    assert verdict(5, net("vgg19_bn", (30, 35, 40, 44, 50))) == FAILS
    assert verdict(5, net("resnet50_v2", (30, 45, 40, 38, 35))) == FAILS
    skip = [row(44, "exemplar"), row(40, "exemplar", "resnet18_no_skip")]
    reason = claims([*SEEDS, *rising, *skip])[4].reason
    assert reason.startswith("2 of 2 clearly so")
    assert "ResNet18 over the one without skips: 1 of 1, 0 against (+4.0 points)" in reason
    revnets = [row(v, p, b) for v, p, b in ((50, "rotation", "revnet50"), (60, "rotation", "resnet50_v2"))]
    revnets += [row(v, p, b) for v, p, b in ((50, "jigsaw", "revnet50"), (40, "jigsaw", "resnet50_v2"))]
    claim = claims([*SEEDS, *revnets])[4]
    assert claim.verdict == FAILS
    assert "RevNet50 over ResNet50 v2: 0 of 1, 1 against (-10.0 points)" in claim.reason


def test_pretext_accuracy_within_and_across_networks():
    score = {"probe": "pretext", "metric": "accuracy", "endpoint": "", "split": "val"}
    rows = []
    # Within each network both rise together; the network with the better pretext has the worse features.
    for backbone, own, linear in (("revnet50", 70, 60), ("resnet50_v1", 80, 50), ("vgg19_bn", 90, 40)):
        for i in range(3):
            rows += [row(linear + i, backbone=backbone, width=i + 1)]
            rows += [row(own + i, backbone=backbone, width=i + 1, **score)]
    claim = claims([r for r in rows])[5]
    assert claim.verdict == HOLDS
    assert "1.00 within a network" in claim.reason
    # Three seeds of each say nothing: what moves them is chance.
    seeds = [dataclasses.replace(r, width=1, seed=r.width, recipe=f"{r.recipe}-{r.width}") for r in rows]
    assert claims(seeds)[5].verdict == OPEN
    assert claims([r for r in rows if r.backbone == "revnet50"])[5].verdict == OPEN
    supervised = [row(80, "supervised"), row(81, "supervised", **score)]
    assert claims(supervised)[5].verdict == OPEN


def test_mlp():
    rows = [row(30 + 5 * i, backbone="revnet50", width=i + 1) for i in range(4)]
    near = [row(31 + 5 * i, backbone="revnet50", width=i + 1, probe="mlp") for i in range(4)]
    far = [row(45 - 5 * i, backbone="revnet50", width=i + 1, probe="mlp") for i in range(4)]
    assert verdict(7, [*rows, *near]) == HOLDS
    assert verdict(7, [*rows, *far]) == FAILS


@pytest.mark.parametrize(("scores", "expected"), [((48, 49, 49.5), HOLDS), ((49, 48, 47), FAILS), ((48, 49, 48), OPEN)])
def test_schedules(scores, expected):
    known = ((30, 50, 70), (120, 140, 160), (480, 500, 520))
    rows = [row(v, hyperparameters={"schedule": s}) for v, s in zip(scores, known, strict=True)]
    assert verdict(8, rows) == expected


def test_other_data():
    first = [row(30 + i, backbone="revnet50", width=i + 1) for i in range(4)]
    alike = [row(60 + i, backbone="revnet50", width=i + 1, probe_dataset="digits") for i in range(4)]
    turned = [row(60 - i, backbone="revnet50", width=i + 1, probe_dataset="digits") for i in range(4)]
    assert verdict(9, [*first, *alike]) == HOLDS
    assert verdict(9, [*first, *turned]) == FAILS


def test_only_test_accuracies_of_trained_networks_are_weighed():
    others = [row(99, width=2, weights="random"), row(99, width=2, split="val"), row(99, width=2, dataset="digits")]
    assert verdict(1, others) == OPEN


def test_where_a_network_was_trained_twice_the_longer_run_counts():
    rows = [row(10, width=2, steps=10), row(60, width=2, steps=1000)]
    assert Study([*SEEDS, *rows], "cifar10").score("rotation", "resnet18", 2) == 60


def test_two_recipes_of_one_length_are_never_averaged():
    rows = [row(60, width=2, seed=0), row(62, width=2, seed=1), row(10, width=2, setting="another")]
    assert Study(rows, "cifar10").score("rotation", "resnet18", 2) == 61


def test_relative_gain_of_width_beside_that_of_the_supervised_network():
    rows = [row(55, width=2), row(80, "supervised"), row(84, "supervised", width=2)]
    assert "relative gain +10 %, of the supervised network +5 %" in claims([*SEEDS, *rows])[0].reason
