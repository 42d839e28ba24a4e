"""The DeeperCluster page: six claims by made-up runs that follow and break them, label counts, our cells."""

import numpy as np
import pytest

from revisit_ssl.commands import report
from revisit_ssl.data.sources import Source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.rows import of_run
from revisit_ssl.papers import get_recipe, published_recipe
from revisit_ssl.papers.deepercluster.claims import LAYERS, claims_of
from revisit_ssl.papers.deepercluster.methods import settings_of, with_labels
from revisit_ssl.papers.deepercluster.paper import our_blocks
from revisit_ssl.papers.deepercluster.pictures import counts_of, distribution
from revisit_ssl.papers.deepercluster.tables import our_cell, paper_tables
from revisit_ssl.papers.published import load_published
from revisit_ssl.recipe import override
from revisit_ssl.report.claims import FAILS, HOLDS, OPEN
from revisit_ssl.runs.identity import seen
from revisit_ssl.runs.results import Result

ROWS = load_published("deepercluster")


def lines(name, values, *, probe="linear", metric="top1", endpoint="pre_logits", start=None, on="cifar10", **changes):
    """[Result], one a seed, 0.2 apart around each value; ``start``: of the untrained network."""
    found = []
    recipe_of = {"supervised": lambda **more: get_recipe("supervised", "cifar10", **more)}
    for seed, value in enumerate(values):
        make = recipe_of.get(name, lambda **more: get_recipe(name, "cifar10", **more))
        recipe = make(seed=seed, fraction=2 / 9, **changes)
        place = {"probe": probe, "metric": metric, "endpoint": endpoint, "split": "test", "probe_dataset": on}
        run = of_run(recipe, 100) | place
        found.append(Result(value=value, weights="pretrained", **run))
        if start is not None:
            found.append(Result(value=start, weights="random", **run | {"pretext": "random", "steps": 0}))
    return found


def around(value):
    return (value, value + 0.2)


def verdicts(results):
    return {c.number: c.verdict for c in claims_of(with_labels(results))}


def colours(rgb, sobel, **more):
    shared = {"probe": "clusters", "metric": "colour_deviation"} | more
    return [
        *lines("rotnet", around(rgb), start=rgb, **shared),
        *lines("rotnet_sobel", around(sobel), start=sobel, **shared),
        *lines("deepercluster_rgb", around(rgb), **shared), *lines("deepercluster", around(sobel), **shared),
    ]


def linear(**means):
    return [r for name, mean in means.items() for r in lines(name, around(mean))]


def test_without_runs_nothing_is_decided():
    assert verdicts([]) == dict.fromkeys(range(1, 7), OPEN)
    assert our_blocks([]) == []


def test_claim_1_colours():
    assert verdicts(colours(16, 21))[1] == HOLDS
    assert verdicts(colours(21, 16))[1] == FAILS
    (claim, *_) = claims_of(with_labels(colours(16, 21)))
    assert "untrained network +5.0" in claim.reason and "CIFAR-10" in claim.reason


def test_claim_2_sobel():
    """4.5 and 5 points where something is clustered, 0.6 for RotNet, as in Table 4; the other way round."""
    paper = linear(rotnet=40, rotnet_sobel=40.6, deepercluster_rgb=42, deepercluster=46.5, deepcluster_rgb=40,
                   deepcluster=45)
    assert verdicts(paper)[2] == HOLDS
    other = linear(rotnet=40, rotnet_sobel=45, deepercluster_rgb=42, deepercluster=40, deepcluster_rgb=40,
                   deepcluster=39)
    assert verdicts(other)[2] == FAILS


def test_claim_3_retrieval():
    shared = {"probe": "instance_retrieval", "metric": "map", "endpoint": "conv13", "on": "toy_instances"}
    order = {"rotnet": 48, "deepercluster": 56, "deepcluster": 61, "supervised": 72}
    found = [r for name, mean in order.items() for r in lines(name, around(mean), start=7, **shared)]
    claim = claims_of(with_labels(found))[2]
    assert claim.verdict == HOLDS and "rotnet over random" in claim.reason and len(claim.table.rows) == 5
    turned = {"rotnet": 72, "deepercluster": 50, "deepcluster": 49, "supervised": 30}
    found = [r for name, mean in turned.items() for r in lines(name, around(mean), start=80, **shared)]
    assert verdicts(found)[3] == FAILS


def test_claim_4_layers():
    """The curves of Table 1 on ImageNet."""
    table = {(r["pretext"], r["endpoint"]): r["value"] for r in ROWS if (r["table"], r["dataset"]) == (
        "Table 1", "imagenet2012")}
    found = [
        r for name in ("rotnet", "deepercluster") for layer in LAYERS
        for r in lines(name, around(table[name, layer]), endpoint=layer)
    ]
    assert verdicts(found)[4] == HOLDS
    swapped = {"rotnet": "deepercluster", "deepercluster": "rotnet"}
    found = [
        r for name in swapped for layer in LAYERS
        for r in lines(name, around(table[swapped[name], layer]), endpoint=layer)
    ]
    assert verdicts(found)[4] != HOLDS


@pytest.mark.parametrize(("uniform", "verdict"), [(50, HOLDS), (40, FAILS), (45.2, OPEN)])
def test_claim_5_sampling(uniform, verdict):
    found = lines("deepcluster", around(45), task__sampling="natural") + lines("deepcluster", around(uniform))
    assert verdicts(found)[5] == verdict


@pytest.mark.parametrize(("trained", "verdict"), [(60, HOLDS), (40, FAILS)])
def test_claim_6_first_values(trained, verdict):
    found = lines("deepercluster", around(trained), probe="finetune", endpoint="conv13", start=50)
    assert verdicts(found)[6] == verdict


# --- tables


@pytest.mark.parametrize(
    ("table", "pretext", "dataset", "recipe", "protocol", "bench", "endpoint"),
    [
        ("Table 1", "deepercluster", "places205", {}, "deepercluster_places", {}, "conv12"),
        ("Table 3", "rotnet", "paris6k", {}, None, {}, "conv13"),
        ("Table 3", "deepcluster", "oxford5k", {}, None, {}, "conv13"),
        ("Table 4", "rotnet", "voc", {"dataset": "yfcc100m:1000000"}, None, {"split": "val", "train": "train"},
         "conv13"),
        ("Table 4", "deepercluster", "voc", {"dataset": "yfcc100m:20000000"}, None,
         {"split": "val", "train": "train"}, "conv13"),
    ],
)
def test_every_kind_of_cell_takes_ours(table, pretext, dataset, recipe, protocol, bench, endpoint):
    where = table, pretext, dataset, endpoint
    row = [r for r in ROWS if (r["table"], r["pretext"], r["dataset"], r["endpoint"]) == where][-1]
    made = published_recipe(pretext, "paper", protocol)
    changes = {f"bench__{name}": value for name, value in {"dataset": dataset, **bench}.items()}
    made = override(made, **recipe, **changes)
    place = {"probe": row["probe"], "metric": row["metric"], "endpoint": endpoint, "split": made.bench.split}
    place |= {"probe_dataset": dataset, "probe_train": made.bench.train, "bench": seen(made.bench)}
    mine = [Result(value=12.3, weights="pretrained", **of_run(made, 9), **place)]
    assert our_cell(settings_of(mine), row) == "12.3 (1)"
    other = [Result(value=12.3, weights="pretrained", **of_run(override(made, epochs=3), 9), **place)]
    assert our_cell(settings_of(other), row) == ""


def test_every_published_number_stands_in_its_table():
    tables = dict(paper_tables([], ROWS))
    shown = [cell for table in tables.values() for row in table.rows for cell in row]
    assert sum(cell.replace(".", "").isdigit() for cell in shown) >= len([r for r in ROWS if r["confirmed"] == "yes"])


def test_the_recipes_of_the_paper_are_probed_by_its_protocol():
    for name in ("deepercluster", "rotnet", "deepcluster"):
        recipe = get_recipe(name, "paper")
        assert recipe.dataset.partition(":")[0] == "yfcc100m" and recipe.probed_dataset == "imagenet2012"
        rates = dict(recipe.probes["linear_images"].layer_rates)
        assert (recipe.protocol, rates["conv1"], rates["conv13"]) == ("deepercluster", 0.005, 0.02)
    assert get_recipe("deepcluster", "imagenet").protocol == "deepcluster"


# --- Figure 1


def store(tags):
    return Source(name="yfcc100m", split="train", kind="store", num_examples=len(tags), fingerprint="x",
                  text=lambda name: tags)


def test_counts_of_labels_and_hashtags():
    labels = np.array([0, 0, 3, 3, 3, -1])
    known = Source(name="mine", split="train", kind="memory", num_examples=6, fingerprint="y", known_labels=labels,
                   class_names=tuple("abcd"))
    assert counts_of(known).tolist() == [3, 2]
    # An image with a tag twice counts once.
    assert counts_of(store(("cat dog cat", "", "cat", "bird cat"))).tolist() == [3, 1, 1]
    with pytest.raises(InputError, match="yfcc100m has no labels and no hashtags to count"):
        counts_of(store(("", "")))
    assert distribution([known, store(("cat dog", "cat"))]).startswith(b"\x89PNG")


def test_the_gallery_draws_it_for_the_page(tmp_path, capsys):
    where = ["--paper", "deepercluster", "--out-dir", str(tmp_path)]
    assert report.main([*where, "--gallery", "distribution", "digits"]) == 0
    assert (tmp_path / "deepercluster" / "distribution.png").exists()
    assert report.main(where) == 0
    assert "Figure 1" in (tmp_path / "deepercluster.md").read_text()
    assert report.main([*where, "--gallery", "clusters"]) == 2
    assert "clusters wants the workdirs of runs" in capsys.readouterr().err
