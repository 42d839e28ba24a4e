"""Fine-tuning: a copy is trained and nothing else, its steps against NumPy, the search, what the recipe says."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from revisit_ssl.data import Source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.evaluate import evaluate
from revisit_ssl.evaluators import finetune as module
from revisit_ssl.evaluators import tuning
from revisit_ssl.evaluators.bench import Bench, label_share
from revisit_ssl.evaluators.finetune import Finetune
from revisit_ssl.evaluators.transfer import NewLayers
from revisit_ssl.evaluators.tuning import Trained, Tuning
from revisit_ssl.papers import PROTOCOLS, get_recipe
from revisit_ssl.recipe import BenchSpec, Recipe, ViewSpec
from revisit_ssl.training.build import build_backbone, freeze

FAST = Finetune(batch_size=16, epochs=2)


def source(split, count=48):
    """Images of one colour each, so that every crop of one is the same to the network."""
    draw = np.random.default_rng(len(split))
    labels = draw.integers(0, 3, count)
    colors = draw.integers(0, 100, (count, 3)) + 100 * np.eye(3, dtype=int)[labels]
    images = np.tile(colors[:, None, None].astype(np.uint8), (1, 8, 8, 1))
    return Source(
        name="rgb", split=split, kind="memory", num_examples=count, fingerprint=f"rgb-{split}",
        class_names=("r", "g", "b"), known_labels=labels, images=images,
    )


def bench_of(backbone, fraction=None):
    """A bench of 8 x 8 pixels, whose endpoint is not the one that is tuned."""
    spec = BenchSpec(endpoints=("block1",), method="none", fraction=fraction)
    recipe = Recipe(pretext="rotation", views=ViewSpec(size=8, normalize="pm1"), bench=spec)
    return Bench(backbone, {"train": source("train"), "val": source("val", 24), "test": source("test", 50)}, recipe)


def measured(probe, backbone):
    """The one Score of the probe."""
    (score,) = probe.measure(bench_of(backbone))
    return score


def linear_trunk():
    """A dense layer on the mean colour."""
    image = keras.Input((None, None, 3), name="image")
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(image)
    initial = keras.initializers.GlorotUniform(0)
    values = keras.layers.Dense(4, kernel_initializer=initial, bias_initializer="ones", name="dense")(mean)
    return frozen(keras.Model(image, {"block1": mean, "pre_logits": values}))


def normalised_trunk():
    """A convolution with batch normalisation."""
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Conv2D(4, 3, kernel_initializer=keras.initializers.GlorotUniform(0), name="conv")(image)
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(x)
    mean = keras.layers.GlobalAveragePooling2D(name="mean")(x)
    head = keras.layers.Dense(2, name="head")(mean)
    return frozen(keras.Model(image, {"block1": x, "pre_logits": mean, "projection": head}))


def frozen(model):
    model.trainable = False
    return model


def test_a_copy_is_trained_and_the_network_is_the_same_to_the_bit(monkeypatch):
    backbone, copies = normalised_trunk(), []
    before = [np.asarray(w) for w in backbone.weights]

    class Kept(Trained):
        def __init__(self, *a):
            super().__init__(*a)
            copies.append(self)

    monkeypatch.setattr(tuning, "Trained", Kept)
    score = measured(FAST, backbone)
    for old, new in zip(before, backbone.weights, strict=True):
        np.testing.assert_array_equal(old, np.asarray(new))
    assert not backbone.trainable_variables and score.endpoint == "pre_logits"
    (copy,) = copies
    assert {w.path.split("/")[0] for w in copy.network.weights} == {"conv", "norm"}, "the head is dropped"
    pairs = zip(copy.network.weights, copy.start[0], strict=True)
    moved = {w.path: not np.array_equal(w.numpy(), start) for w, start in pairs}
    assert len(moved) == 6 and all(moved.values()), "every weight and statistic of the copy"
    assert not {id(w) for w in copy.network.weights} & {id(w) for w in backbone.weights}


def test_new_fully_connected_layers_on_the_deepest_map():
    """A map of 6 x 6 is left as it is; kernels of 0.01 and biases of 0.1, the last as PyTorch's; all of them learn."""
    probe = dataclasses.replace(
        FAST, learning_rates=(0.1,), head_multipliers=(1.0,), hidden=(32, 16), dropout=0.2
    )
    score = measured(probe, normalised_trunk())
    assert score.endpoint == "block1" and score.hyperparameters["hidden"] == (32, 16)
    tune = Tuning(probe, bench_of(normalised_trunk()))
    network = tune.network
    shapes = [tuple(v.shape) for v in network.head]
    assert shapes == [(6 * 6 * 4, 32), (32,), (32, 16), (16,), (16, 3), (3,)] and network.pool == 1
    assert set(network.head[1].numpy()) == {np.float32(0.1)} and network.head[0].numpy().std() < 0.011
    assert 0.1 < abs(network.head[4].numpy()).max() <= 0.25 and 0 < abs(network.head[5].numpy()).max() <= 0.25
    tune.train(0.1, 1.0)
    assert all(not np.array_equal(v.numpy(), start) for v, start in zip(network.head, network.start[1], strict=True))
    other = dataclasses.replace(probe, endpoint="pre_logits")
    assert Tuning(other, bench_of(normalised_trunk())).network.endpoint == "pre_logits"


def test_sobel_becomes_a_part_of_conv1():
    pytest.importorskip("revisit_ssl.backbones.sobel", reason="the fold of Sobel is not here")
    from revisit_ssl.backbones import BACKBONES

    backbone = frozen(BACKBONES["vgg16_bn"](1, input_shape=(32, 32, 3), sobel=True))
    known = bench_of(linear_trunk()).network_input
    plain, folded = (
        Trained(backbone, known, 3, 0, 32, "conv13", NewLayers(hidden=(4,), fold_sobel=fold)) for fold in (False, True)
    )
    images = np.random.default_rng(0).random((2, 32, 32, 3), np.float32)
    np.testing.assert_allclose(folded.logits(images, False), plain.logits(images, False), atol=1e-4)
    assert folded.network.get_layer("conv1").kernel.shape[:3] == (5, 5, 3)
    assert plain.network.get_layer("conv1").kernel.shape[:3] == (3, 3, 2)


@pytest.mark.parametrize(("options", "message"), [({"hidden": (0,)}, "hidden"), ({"dropout": 1.0}, "dropout")])
def test_layers_that_cannot_be(options, message):
    with pytest.raises(InputError, match=f"finetune.{message}"):
        Finetune(**options)


def test_steps_equal_numpy(trained_on):
    backbone, train = linear_trunk(), source("train")
    tuned = dataclasses.replace(FAST, epochs=5, weight_decay=0.05)
    tune = Tuning(tuned, bench_of(backbone))
    network = tune.network
    (w, b), (k, c) = ([v.numpy().astype(np.float64) for v in part] for part in (network.trunk, network.head))
    assert np.std(k) == pytest.approx(0.01, rel=0.5) and not c.any()
    tune.train(0.1, 3.0)
    x = train.images[:, 0, 0].astype(np.float64) / 127.5 - 1
    values, buffers = [w, b, k, c], [0.0, 0.0, 0.0, 0.0]
    assert len(trained_on) == 5 * 3
    for step, rows in enumerate(trained_on):
        w, b, k, c = values
        z = x[rows] @ w + b
        odds = np.exp(z @ k + c)
        residual = (odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[train.labels[rows]]) / 16
        back = residual @ k.T
        gradients = [x[rows].T @ back, back.sum(axis=0), z.T @ residual, residual.sum(axis=0)]
        lr = 0.1 * 0.2 ** ((step >= 9) + (step >= 12))  # drops after 60 % and 80 % of 5 epochs of 3 steps
        for i, rate in enumerate((lr, lr, 3 * lr, 3 * lr)):
            buffers[i] = 0.9 * buffers[i] + gradients[i] + 0.05 * values[i]
            values[i] = values[i] - rate * buffers[i]
    for ours, expected in zip(network.trunk + network.head, values, strict=True):
        np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-5)
    # Another candidate starts where this one did.
    network.restart()
    assert all(np.array_equal(v.numpy(), s) for v, s in zip(network.head, network.start[1], strict=True))
    assert not any(v.numpy().any() for v in network.velocities)


def test_greedy_tries_the_rates_then_the_multipliers_and_scores_the_best_on_val(monkeypatch):
    fits = []
    monkeypatch.setattr(Tuning, "train", lambda self, *candidate: fits.append(candidate))
    percent = {(0.1, 10): 50.0, (0.01, 10): 40.0, (0.001, 10): 50.0, (0.001, 1): 60.0, (0.001, 100): 60.0}
    scored = []

    def score(self, source):
        # The network is marked by the number of the fit, to see whose is scored on test.
        scored.append((source.split, float(self.network.head[-1].numpy()[0])))
        self.network.head[-1].assign([float(len(fits)), 0.0, 0.0])
        return np.zeros((source.num_examples, 3), np.float32)

    monkeypatch.setattr(Tuning, "score", score)
    monkeypatch.setattr(module, "topk_percent", lambda scores, labels, k: percent[fits[-1]])
    score = measured(FAST, linear_trunk())
    assert fits == [(0.001, 10), (0.01, 10), (0.1, 10), (0.001, 1), (0.001, 100)]
    assert (score.hyperparameters["lr"], score.hyperparameters["head_multiplier"]) == (0.001, 1), "the first of equals"
    assert [split for split, _ in scored] == ["val"] * 5 + ["test"] and scored[-1][1] == 4, "test once, by the best"
    fits.clear()
    monkeypatch.setattr(module, "topk_percent", lambda scores, labels, k: float(len(fits)))
    grid = measured(dataclasses.replace(FAST, search="grid"), linear_trunk())
    assert len(fits) == 9 == len(grid.extra["val_top1_by_candidate"]) and fits[-1] == (0.1, 100)
    assert (FAST.passes, dataclasses.replace(FAST, search="grid").passes) == (3 * 2 * 5, 3 * 2 * 9)


def test_candidates_do_not_hang_together():
    both = dataclasses.replace(FAST, learning_rates=(0.1, 1e-4), head_multipliers=(1.0,))
    chosen = measured(both, linear_trunk())
    alone = dataclasses.replace(both, learning_rates=(chosen.hyperparameters["lr"],))
    alone = measured(alone, linear_trunk())
    assert (chosen.top1, chosen.extra["val_top1"]) == (alone.top1, alone.extra["val_top1"])
    values = list(chosen.extra["val_top1_by_candidate"].values())
    assert chosen.extra["val_top1"] == max(values) > min(values)


def test_settings_of_papers():
    cld, obow = PROTOCOLS["moco"]["finetune"], PROTOCOLS["obow"]["finetune"]
    assert (cld.learning_rates, cld.head_multipliers, cld.batch_size, cld.weight_decay) == ((0.01,), (100,), 256, 1e-4)
    assert (cld.epochs, cld.length(bench_of(linear_trunk(), 0.01)), cld.chooses) == (20, 20, False)
    (lr,), (multiplier,) = obow.learning_rates, obow.head_multipliers
    assert (lr, lr * multiplier, obow.weight_decay, obow.batch_size, obow.factor) == (2e-4, 0.5, 0.0, 256, 0.2)
    for fraction, epochs, drops in ((0.01, 40, [24, 32]), (0.1, 20, [12, 16]), (None, 20, [12, 16])):
        assert obow.length(bench_of(linear_trunk(), fraction)) == epochs
        assert [share * epochs for share in obow.decay_at] == pytest.approx(drops)
    assert Finetune().chooses and Finetune().learning_rates == (0.001, 0.01, 0.1)


def published_list(folder, images, classes=1000):
    """A list such as SimCLR's 1percent.txt, of that many images."""
    path = folder / "some.txt"
    path.write_text("\n".join(f"n{i % classes:08d}_{i}.JPEG" for i in range(images)))
    return f"imagenet_list:{path}"


# What the labels come from, share of it that is drawn; share of ImageNet's labels, OBoW's epochs.
SHARES = [
    (lambda folder: "imagenet2012", 0.01, 0.01, 40), (lambda folder: "imagenet2012", 0.1, 0.1, 20),
    (lambda folder: "imagenet2012_subset_1pct", None, 0.01, 40), (lambda folder: "imagenet2012_subset", None, 0.1, 20),
    (lambda folder: "imagenet2012_subset", 0.1, 0.01, 40),
    (lambda folder: published_list(folder, 12_811), None, 0.01, 40),
    (lambda folder: published_list(folder, 128_116), None, 0.1, 20),
    (lambda folder: published_list(folder, 1_000, classes=100), None, 1.0, 20),  # of other classes than ImageNet's
    (lambda folder: "imagenet_lt", None, 1.0, 20), (lambda folder: "cifar10", 0.01, 0.01, 40),
]


@pytest.mark.parametrize(("dataset", "fraction", "share", "epochs"), SHARES)
def test_few_labels_are_few_whatever_set_they_come_from(dataset, fraction, share, epochs, tmp_path):
    """share = images / 1,281,167 to three digits, times the fraction that is drawn of them."""
    spec = BenchSpec(dataset=dataset(tmp_path), fraction=fraction, endpoints=("pre_logits",))
    recipe = Recipe(pretext="obow", bench=spec)
    assert label_share(recipe) == share
    assert PROTOCOLS["obow"]["finetune"].settled(recipe.task, share).epochs == epochs


def test_from_a_recipe_to_a_line(tmp_path):
    recipe = get_recipe(
        "rotation", "smoke", backbone="tiny", probes=("finetune",), protocol="moco", probes__finetune__epochs=1,
        bench__fraction=0.1, bench__balanced=True, bench__endpoints=("block4", "pre_logits"),
    )
    evaluate(freeze(build_backbone(recipe)), recipe, workdir=tmp_path, quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [(r["probe"], r["endpoint"], r["metric"], r["labels"]) for r in rows] == [
        ("finetune", "pre_logits", "top1", 0.1), ("finetune", "pre_logits", "top5", 0.1),
    ]
    assert rows[0]["hyperparameters"]["lr"] == 0.01 and rows[0]["extra"] and not rows[1]["extra"]


def test_refusals():
    backbone = linear_trunk()
    for bad, message in (
        ({"epochs": 0}, "finetune.epochs 0 must be at least 1"),
        ({"learning_rates": ()}, "learning_rates .*one or more numbers above 0"),
        ({"weight_decay": float("inf")}, "weight_decay inf must be a finite number"),
        ({"learning_rates": (1e30,), "head_multipliers": (1e8,)}, "every candidate diverged .1 of them."),
    ):
        with pytest.raises(InputError, match=message):
            measured(dataclasses.replace(FAST, **bad), backbone)
    backbone.trainable = True
    with pytest.raises(InputError, match="trainable variables"):
        measured(FAST, backbone)
    only = keras.Model(backbone.input, {"block1": backbone.output["block1"]})
    only.trainable = False
    with pytest.raises(InputError, match="no endpoint 'pre_logits'"):
        measured(FAST, only)
