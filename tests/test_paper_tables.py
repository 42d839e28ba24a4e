"""The paper's tables and figures beside ours: on made-up results whose means are known, and with none at all."""

import base64
import html.parser
import itertools
import math
import re

import numpy as np
import pytest
from scipy.stats import rankdata

from revisit_ssl.commands.report import Report
from revisit_ssl.commands.tables import report
from revisit_ssl.errors import InputError
from revisit_ssl.papers.pages import compare, write_paper_report
from revisit_ssl.papers.published import load_published
from revisit_ssl.papers.revisiting import curves, figures, study
from revisit_ssl.papers.revisiting import tables as paper
from revisit_ssl.papers.revisiting.study import study_tables
from revisit_ssl.papers.revisiting.tables import paper_tables, rank_agreement
from revisit_ssl.report import tables
from revisit_ssl.report.blocks import Table
from revisit_ssl.report.tables import print_table
from revisit_ssl.runs.results import Result, read_results, write_results

PRETEXTS = {"rotation": "Rotation", "exemplar": "Exemplar", "relative_patch": "RelPatchLoc", "jigsaw": "Jigsaw"}
NETWORKS = {
    "revnet50": "RevNet50", "resnet50_v2": "ResNet50 v2", "resnet50_v1": "ResNet50 v1",
    "revnet50_minus": "RevNet50 (-)", "resnet50_v2_minus": "ResNet50 v2 (-)", "vgg19_bn": "VGG19-BN",
}
TITLES = {  # (dataset, labels) -> start of the title
    ("imagenet2012", 1.0): "Table 1:", ("imagenet2012", 0.1): "Suppl. Table 2:",
    ("places205", 1.0): "Suppl. Table 3:", ("places205", 0.05): "Suppl. Table 4:",
}


def result(value, **changes):
    """A Result; ImageNet, L-BFGS, pre_logits of RevNet50 4x unless changed."""
    fields = {
        "pretext": "rotation", "backbone": "revnet50", "width": 4, "dataset": "imagenet2012", "seed": 0, "steps": 1000,
        "weights": "pretrained", "endpoint": "pre_logits", "probe": "lbfgs", "split": "val", "metric": "top1",
        "value": value, "recipe": f"recipe-{changes.get('seed', 0)}", "setting": "main", "date": "2025-01-02T03:04:05Z",
        "commit": "abc1234", "hardware": "2 CPU cores",
    } | changes
    fields.setdefault("probe_dataset", fields["dataset"])
    if fields["weights"] != "pretrained":
        fields |= {"pretext": "random", "steps": 0}
    return Result(**fields)


def small(value, **changes):
    """A Result of CIFAR-10, ResNet18 1x."""
    kind = {"dataset": "cifar10", "backbone": "resnet18", "width": 1, "probe": "linear", "split": "test"}
    return result(value, **kind | changes)


def own(value, **changes):
    """The pretext's own score."""
    return small(value, **{"probe": "pretext", "endpoint": "", "split": "val", "metric": "accuracy"} | changes)


def parse(table):
    """[{column: cell}] of a table's Markdown, without bold."""
    lines = [line for line in table.markdown().splitlines() if line.startswith("|")]
    split = [[cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in lines]
    assert len(set(split[0])) == len(split[0]), "two columns of one name"
    return [dict(zip(split[0], row, strict=True)) for row in split[2:]]


def table(found, start):
    """The one table whose title starts so."""
    (match,) = [table for title, table in found if title.startswith(start)]
    return match


def row(table, **wanted):
    (match,) = [r for r in parse(table) if wanted.items() <= r.items()]
    return match


def text(values):
    """What a cell of ours must say."""
    deviation = f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{np.mean(values):.1f}{deviation} ({len(values)})"


# --- the paper's numbers


def test_without_results_every_printed_number_stands_in_its_cell():
    found, seen = paper_tables([]), 0
    assert [title.partition(":")[0] for title, _ in found] == [
        "Table 1", "Table 2", *(f"Suppl. Table {i}" for i in (1, 2, 3, 4))
    ]
    for r in load_published():
        here = table(found, f"{r['table']}:") if "Table" in r["table"] and r["paper"] == "revisiting" else None
        mark = "" if r["confirmed"] == "yes" else "†"
        if here is None:
            continue
        pretext, seen = PRETEXTS[r["pretext"]], seen + 1
        if r["table"] == "Table 2":
            column = {"imagenet2012": "ImageNet", "places205": "Places205"}[r["dataset"]]
            column += {"top1": " top-1", "top5": " top-5"}[r["metric"]] + " paper"
            cell = row(here, pretext=pretext)[column if r["backbone"] else "previous top-1"]
        elif r["table"] == "Suppl. Table 1":
            column = {"resnet18": "skip paper", "resnet18_no_skip": "no skip paper"}[r["backbone"]]
            cell = row(here, pretext=pretext, endpoint=r["endpoint"])[column]
        else:
            cell = row(here, pretext=pretext, network=NETWORKS[r["backbone"]])[f"{r['width']}x paper"]
        assert cell == f"{r['value']:.1f}{mark}", r
    filled = [
        cell for _, t in found for line in parse(t) for name, cell in line.items()
        if (name.endswith("paper") or name == "previous top-1") and re.match(r"\d", cell)
    ]
    assert len(filled) == seen + 2  # and the supervised pair, from the supplement's section 3
    assert not [c for _, t in found for line in parse(t) for name, c in line.items() if name.endswith("ours") and c]


def test_recalled_numbers_are_explained_where_they_stand():
    for title, t in paper_tables([]):
        marked = any("†" in cell for line in t.rows for cell in line)
        recalled, inferred = title.startswith(("Table 1:", "Table 2:")), title.startswith("Suppl. Table 1:")
        assert marked == (recalled or inferred), title
        assert recalled == any("from memory" in note for note in t.notes), title
        assert inferred == any("that is inferred" in note for note in t.notes), title


def test_skip_ablation_has_the_supervised_pair_and_says_what_is_missing():
    t = table(paper_tables([]), "Suppl. Table 1:")
    pair = row(t, pretext="Supervised", endpoint="end to end")
    assert (pair["no skip paper"], pair["skip paper"], pair["difference paper"]) == ("68.8", "69.6", "+0.8")
    assert row(t, pretext="Rotation", endpoint="pre_logits")["skip paper"] == "not in text"
    differences = [row(t, pretext="Exemplar", endpoint=f"block{i}")["difference paper"] for i in (1, 2, 3, 4)]
    assert differences == ["+0.5", "+0.5", "+1.4", "+2.1"]  # as printed


def test_best_networks_are_bold_and_ties_both():
    t = table(paper_tables([]), "Suppl. Table 3:")
    column = t.names.index("8x paper")
    bold = {(r[0], r[1]): r[column] for r in t.rows if r[column].startswith("**")}
    assert bold == {
        ("Rotation", "RevNet50"): "**45.3**", ("Exemplar", "RevNet50"): "**43.1**",
        ("Exemplar", "ResNet50 v1"): "**43.1**", ("RelPatchLoc", "ResNet50 v1"): "**46.2**",
        ("Jigsaw", "ResNet50 v1"): "**42.9**",
    }


# --- ours beside them


def test_our_means_land_in_their_own_cells():
    """A different number in every cell of every table; whatever else is measured must not get in."""
    rng = np.random.default_rng(0)
    wanted, results = {}, []
    for i, (data, pretext, backbone, k) in enumerate(
        itertools.product(TITLES, ("rotation", "jigsaw"), ("revnet50", "vgg19_bn"), (4, 8))
    ):
        values = rng.uniform(10, 90, size=1 + i % 3)
        kind = {"pretext": pretext, "backbone": backbone, "width": k, "probe_dataset": data[0], "labels": data[1]}
        results += [result(v, seed=s, **kind) for s, v in enumerate(values)]
        wanted[data, pretext, backbone, k] = text(values)
        for other in (
            {"endpoint": "block4"}, {"metric": "top5"}, {"probe": "knn"}, {"weights": "random"}, {"labels": 0.2},
            {"dataset": "cifar10"}, {"probe": "pretext", "endpoint": "", "metric": "accuracy"},
        ):
            results.append(result(99.9, **kind | other))
    found = paper_tables(results)
    for (data, pretext, backbone, k), expected in wanted.items():
        line = row(table(found, TITLES[data]), pretext=PRETEXTS[pretext], network=NETWORKS[backbone])
        assert line[f"{k}x ours"] == expected
    cells = [c for _, t in found for line in parse(t) for name, c in line.items() if name.endswith("ours") and c]
    assert len(cells) == len(wanted)
    empty = table(paper_tables([]), "Table 1:")
    assert [list(line.values())[2::2] for line in parse(table(found, "Table 1:"))] == [
        list(line.values())[2::2] for line in parse(empty)
    ], "the paper's columns are the same with and without ours"


def test_networks_and_widths_that_the_paper_lacks_get_rows_and_columns_of_ours_alone():
    t = table(paper_tables([result(40.0, width=1), result(50.0, backbone="resnet18")]), "Table 1:")
    assert t.names[:4] == ["pretext", "network", "1x ours", "4x paper"]
    assert row(t, pretext="Rotation", network="RevNet50")["1x ours"] == "40.0 (1)"
    assert row(t, network="ResNet18")["4x ours"] == "50.0 (1)" and row(t, network="ResNet18")["4x paper"] == ""


def test_the_probe_nearest_to_the_papers_is_taken():
    both = [result(40.0), result(42.0, probe="lbfgs_paper")]
    assert row(table(paper_tables(both), "Table 1:"), pretext="Rotation", network="RevNet50")["4x ours"] == "42.0 (1)"
    kind = {"width": 16, "split": "test"}
    sgd = [
        result(50.0, probe="linear_images", hyperparameters={"schedule": [30, 50, 70]}, **kind),
        result(54.0, probe="linear_images", hyperparameters={"schedule": [480, 500, 520]}, **kind),
        result(78.0, probe="linear_images", hyperparameters={"schedule": [480, 500, 520]}, metric="top5", **kind),
        result(60.0, probe="linear", **kind),
    ]
    best = table(paper_tables(sgd), "Table 2:")
    line = row(best, pretext="Rotation")
    assert (line["ImageNet top-1 ours"], line["ImageNet top-5 ours"]) == ("54.0 (1)‡", "78.0 (1)")
    assert any("30/50/70: 50.0 (1)" in note for note in best.notes)


@pytest.mark.parametrize(("fitted", "said"), [("trainval", False), ("train", True)])
def test_the_note_under_table_2_is_of_runs_that_were_fitted_on_the_training_split(fitted, said):
    kind = {"width": 16, "split": "test", "probe": "linear_images"}
    rows = [result(54.0, probe_train=fitted, **kind), result(78.0, probe_train=fitted, metric="top5", **kind)]
    rows.append(result(70.0, probe="pretext", metric="accuracy", endpoint="", width=16))  # says no split
    notes = table(paper_tables(rows), "Table 2:").notes
    assert any("also had its validation split" in note for note in notes) == said


def test_settings_are_never_averaged():
    """Two trainings of one network: that with most seeds is shown, of as many the longer one, and the other told."""
    long = [result(v, seed=s, setting="long", steps=2000) for s, v in enumerate((50.0, 52.0))]
    for values in ((30.0, 31.0, 32.0), (30.0, 32.0)):
        short = [result(v, seed=s, setting="short", steps=500, recipe=f"s{s}") for s, v in enumerate(values)]
        shown, told = ((values, "2,000 steps: 51.0"), ((50, 52), "500 steps: 31.0"))[len(values) == 2]
        for order in (long + short, short[::-1] + long[::-1]):
            t = table(paper_tables(order), "Table 1:")
            cell = row(t, pretext="Rotation", network="RevNet50")["4x ours"]
            assert cell == text(shown) + "‡"
            assert any(told in note for note in t.notes)
    # A run that was stopped early is of another scale than the paper's, whatever its seeds.
    early = [result(99.0, seed=s, setting="e", training={"epochs": 35, "max_steps": 9}) for s in range(4)]
    t = table(paper_tables(long + early), "Table 1:")
    assert row(t, pretext="Rotation", network="RevNet50")["4x ours"] == text((50, 52))
    # The same steps, another learning rate; and lines from before settings were named.
    for names_of in (("a", "b"), ("", "")):
        twice = [result(v, setting=n, recipe=f"recipe {v}") for v, n in zip((40.0, 60.0), names_of, strict=True)]
        shown = row(table(paper_tables(twice), "Table 1:"), pretext="Rotation", network="RevNet50")["4x ours"]
        assert shown in ("40.0 (1)‡", "60.0 (1)‡")
    old = [result(v, seed=s, setting="") for s, v in enumerate((40.0, 60.0))]
    shown = row(table(paper_tables(old), "Table 1:"), pretext="Rotation", network="RevNet50")["4x ours"]
    assert shown == text((40, 60))


def test_the_split_of_the_paper_comes_first_and_another_is_said():
    both = [result(40.0, split="test", steps=9000), result(45.0)]
    t = table(paper_tables(both), "Table 1:")
    assert row(t, pretext="Rotation", network="RevNet50")["4x ours"] == "45.0 (1)‡"
    t = table(paper_tables(both[:1]), "Table 1:")
    assert any("test split" in note for note in t.notes)


def test_networks_with_another_representation_size_stay_out_of_the_tables():
    """The layer of Figure 6 makes another network of one name; also its pretext score, whose line has no size."""
    kind = {"dataset": "cifar10", "width": 1, "split": "test", "backbone": "revnet50"}
    plain = [result(50.0, representation_size=512, recipe="p", **kind)]
    other = [result(70.0, representation_size=4096, recipe="q", setting="x", steps=9999, **kind)]
    scores = [own(60.0, recipe="p", backbone="revnet50"), own(80.0, recipe="q", setting="x", backbone="revnet50")]
    found = study_tables(plain + other + scores)
    assert row(table(found, "CIFAR-10, test split: L-BFGS"), pretext="Rotation")["1x trained"] == "50.0 (1)"
    assert row(table(found, "CIFAR-10: the pretexts'"), pretext="Rotation")["1x"] == "60.0 (1)"
    assert figures.line_of_sizes(plain + other) == {1: {512: [50.0], 4096: [70.0]}}


def test_skip_ablation_of_ours_is_paired_by_seed():
    values = {"resnet18": {0: 41.0, 1: 43.0, 2: 44.5}, "resnet18_no_skip": {0: 39.0, 2: 40.5, 1: 40.0, 3: 99.0}}
    results = [
        result(v, backbone=b, seed=s, probe="linear_images", endpoint="block3")
        for b, seeds in values.items() for s, v in seeds.items()
    ]
    for b, v in (("resnet18", 66.0), ("resnet18_no_skip", 64.5)):
        kind = {"pretext": "supervised", "backbone": b, "probe": "pretext", "endpoint": "", "metric": "accuracy"}
        results.append(result(v, **kind))
    t = table(paper_tables(results), "Suppl. Table 1:")
    line = row(t, pretext="Rotation", endpoint="block3")
    assert line["skip ours"] == text((41.0, 43.0, 44.5)) and line["no skip ours"] == text((39, 40.5, 40, 99))
    differences = [41.0 - 39.0, 43.0 - 40.0, 44.5 - 40.5]
    assert line["difference ours"] == f"+{np.mean(differences):.1f} ± {np.std(differences, ddof=1):.1f} (3)"
    assert (line["no skip paper"], line["skip paper"]) == ("38.6†", "41.2†")
    pair = row(t, pretext="Supervised", endpoint="end to end")
    assert (pair["no skip ours"], pair["skip ours"], pair["difference ours"]) == ("64.5 (1)", "66.0 (1)", "+1.5 (1)")


def test_another_paper_is_refused():
    with pytest.raises(InputError, match="no paper 'nobody'; one of revisiting, cld, obow"):
        write_paper_report([], ".", "nobody")
    with pytest.raises(InputError, match="no table 'Table 9'; one of Table 1, Suppl. Table 2"):
        rank_agreement("Table 9")


# --- our own studies


def test_gain_is_over_the_better_untrained_network_of_the_same_view():
    trained, plain, estimated = (60.0, 61.0, 62.5), (50.0, 51.0, 52.0), (53.0, 54.0, 52.0)
    results = []
    for s in range(3):
        kind = {"seed": s, "recipe": f"rot{s}", "setting": "rot"}
        results += [small(trained[s], **kind), small(plain[s], weights="random", **kind)]
        results.append(small(estimated[s], weights="random, BN re-estimated", **kind))
        kind = {"seed": s, "recipe": f"jig{s}", "setting": "jig"}  # patches: other images, another untrained network
        results += [small(trained[s] - 7, pretext="jigsaw", **kind), small(20.0 + s, weights="random", **kind)]
    results += [small(55.0, pretext="relative_patch", recipe="rel0", setting="rel")]
    results += [small(80.0, pretext="supervised", recipe="sup0", setting="sup")]
    for order in (results, results[::-1]):
        t = table(study_tables(order), "CIFAR-10, test split: linear")
        line = row(t, pretext="Rotation")
        assert line["1x trained"] == text(trained) and line["1x untrained"] == text(estimated) + "°"
        assert line["1x gain"] == f"{np.mean(trained) - np.mean(estimated):+.1f}"
        line = row(t, pretext="Jigsaw")
        assert line["1x untrained"] == text((20, 21, 22)) and line["1x gain"] == f"{np.mean(trained) - 7 - 21:+.1f}"
        # Not probed beside them: the untrained network that saw the same kind of images.
        assert row(t, pretext="RelPatchLoc")["1x untrained"] == text((20, 21, 22))
        assert row(t, pretext="Supervised")["1x untrained"] == text(estimated) + "°"


def test_untrained_is_of_the_same_setting_whatever_its_seed():
    small_images = [
        small(50.0, seed=1, recipe="a1", setting="a"),
        small(20.0, weights="random", recipe="a0", setting="a"),
    ]
    large_images = [small(55.0, steps=2000, recipe="b0", setting="b")]
    large_images.append(small(30.0, weights="random", recipe="b0", setting="b"))
    for order in (small_images + large_images, large_images + small_images):
        gains = {model.setting: rows[0].gain for model, rows in tables.summarize(order)}
        assert gains == {"a": 30.0, "b": 25.0}


def test_one_setting_measured_twice_counts_once():
    """A recipe's hash changes with the code; its setting does not."""
    results = [small(40.0, recipe="old0"), small(42.0, seed=1, recipe="old1"), small(41.0, recipe="new0")]
    ((_, t),) = study_tables(results)
    assert row(t, pretext="Rotation")["1x trained"] == text((41.0, 42.0))


def test_an_untrained_network_that_saw_patches_is_no_match_for_whole_images():
    jigsaw = [small(50.0, pretext="jigsaw", recipe="j"), small(20.0, weights="random", recipe="j")]
    t = table(study_tables([*jigsaw, small(60.0, recipe="r")]), "CIFAR-10, test split: linear")
    assert row(t, pretext="Jigsaw")["1x gain"] == "+30.0"
    assert (row(t, pretext="Rotation")["1x untrained"], row(t, pretext="Rotation")["1x gain"]) == ("", "")


def test_a_gain_is_bold_from_two_standard_deviations_on():
    def gain(trained, untrained):
        results = []
        for s, (one, two) in enumerate(zip(trained, untrained, strict=True)):
            kind = {"seed": s, "recipe": f"r{s}"}
            results += [small(one, **kind), small(two, weights="random", **kind)]
        return table(study_tables(results), "CIFAR-10, test split: linear").rows[0][4]

    # Deviations 1 and 1: the difference has sqrt(2), twice which is 2.83.
    assert gain((49, 50, 51), (46.1, 47.1, 48.1)) == "**+2.9**" and gain((49, 50, 51), (46.3, 47.3, 48.3)) == "+2.7"
    assert gain((49,), (10,)) == "+39.0"  # one seed shows nothing


def test_data_sets_labels_and_probes_are_kept_apart():
    results = [
        small(40.0), small(41.0, probe="mlp"), small(42.0, labels=0.25), small(43.0, probe_dataset="digits"),
        small(44.0, dataset="imagenette_subset160"), small(45.0, width=2, recipe="w2", setting="w2"),
    ]
    found = study_tables(results)
    starts = {
        "CIFAR-10, test split: linear": "40.0", "CIFAR-10, test split: MLP": "41.0",
        "CIFAR-10, 25 % of the labels, test split: linear": "42.0", "CIFAR-10 → digits, test split: linear": "43.0",
        "imagenette_subset160, test split: linear": "44.0",
    }
    for start, value in starts.items():
        assert row(table(found, start), pretext="Rotation")["1x trained"] == f"{value} (1)"
    wide = row(table(found, "CIFAR-10, test split: linear"), pretext="Rotation")
    assert wide["2x trained"] == "45.0 (1)"
    side = row(table(found, "CIFAR-10, test split: probes side by side"), network="ResNet18 1x")
    assert (side["linear"], side["MLP"]) == ("40.0 (1)", "41.0 (1)")
    assert len({title for title, _ in found}) == len(found)


def test_a_pretexts_own_score_is_no_accuracy_of_features(capsys):
    results = [small(40.0), small(30.0, weights="random"), own(77.0), own(77.0, metric="top1")]
    assert "77.0" not in compare(results)
    print_table(results)
    assert "77.0" not in capsys.readouterr().out
    assert all("77.0" not in t.markdown() for _, t in tables.result_table(results))
    print_table(results[2:3])
    assert capsys.readouterr().out == "no probes were run\n"
    with pytest.raises(InputError, match="no results to show"):
        compare(results[2:])


def test_runs_table_names_seeds_and_commits():
    results = [small(40.0, seed=s, date=f"2025-01-0{s + 1}T00:00:00Z", representation_size=128) for s in (1, 0)]
    line = row(study.runs_table(results), pretext="Rotation")
    assert (line["network"], line["trained on"], line["seeds"], line["steps"]) == (
        "ResNet18 1x",
        "CIFAR-10",
        "0, 1",
        "1,000",
    )
    assert (line["pre_logits"], line["recipe"], line["commit"]) == ("128", "main", "abc1234")
    assert line["date"] == "2025-01-01 to 2025-01-02"


# --- ranks


def spearman(x, y):
    """Pearson's correlation of the ranks, by hand."""
    a, b = rankdata(x) - np.mean(rankdata(x)), rankdata(y) - np.mean(rankdata(y))
    return float((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()))


def test_rank_agreement_is_spearmans_over_networks_and_widths():
    numbers = {"Suppl. Table 2": {}, "Suppl. Table 3": {}}
    for r in load_published():
        if r["table"] in numbers:
            assert r["confirmed"] == "yes"
            numbers[r["table"]][r["pretext"], r["backbone"], r["width"]] = r["value"]
    found = rank_agreement("Suppl. Table 2", "Suppl. Table 3")
    assert list(found) == [*PRETEXTS, "all"]
    for pretext, agreement in found.items():
        keys = [k for k in numbers["Suppl. Table 2"] if pretext in ("all", k[0])]
        expected = spearman(*([values[k] for k in keys] for values in numbers.values()))
        assert (agreement.n, agreement.recalled) == (len(keys), 0)
        assert agreement.rho == pytest.approx(expected, abs=1e-12)
    assert found["rotation"].n == 24 and found["all"].n == 66
    default = rank_agreement()  # ImageNet with all labels, mostly recalled: said, and not asserted on
    assert 0 < default["all"].recalled <= 66 and -1 <= default["all"].rho <= 1


# --- figures


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib figures behind the next pictures."""
    kept, real = [], figures.png
    for module in (figures, curves):
        monkeypatch.setattr(module, "png", lambda figure: kept.append(figure) or real(figure))
    return kept


def lines_of(panel):
    """[(x, y)] of the lines with more than one point."""
    lines = [line for line in panel.get_lines() if line.get_linestyle() != "None"]  # without the caps of error bars
    found = [(np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)) for line in lines]
    return [(x, y) for x, y in found if len(x) > 1 and not np.isnan(y).all()]


def test_accuracy_curves_are_the_seeds_means_one_row_a_schedule(drawn):
    curve, results = np.linspace(20, 50, 70), []
    for s in range(2):
        for end, schedule in ((70, [30, 50, 70]), (160, [120, 140, 160])):
            points = [[e, float(v) + s] for e, v in enumerate(np.resize(curve, end), 1)]
            kind = {"seed": s, "probe": "linear_images", "hyperparameters": {"schedule": schedule}}
            results.append(small(50.0, extra={"curve": points}, **kind))
        results.append(small(50.0, seed=s, probe="lbfgs", extra={"val_top1": 51.0 + s}))
    kind = {"probe": "linear_images", "hyperparameters": {"schedule": [30, 50, 70]}, "extra": {"curve": [[1, 1.0]]}}
    results.append(small(50.0, setting="short", steps=10, recipe="x", **kind))  # not what the tables show
    picture = curves.accuracy_curves(results)
    (figure,) = drawn
    panels = [p for p in figure.axes if p.get_lines()]
    assert [p.get_ylabel().splitlines()[1] for p in panels] == [
        "SGD linear on crops 30/50/70", "SGD linear on crops 120/140/160"
    ]
    assert [round(p.get_xlim()[1], -1) for p in panels] == [70, 170], "each row has the epochs of its schedule"
    found = {len(x): (x, y) for x, y in itertools.chain(*map(lines_of, panels))}
    assert set(found) == {2, 70, 160}  # 2: the dotted line of L-BFGS
    np.testing.assert_array_equal(found[70][0], np.arange(1, 71))
    np.testing.assert_allclose(found[70][1], curve + 0.5)
    np.testing.assert_allclose(found[2][1], 51.5)
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert labels == ["ResNet18", "L-BFGS"] and "ResNet18" in picture.caption
    assert picture.png[:4] == b"\x89PNG" and "Figure 1" in picture.caption
    with pytest.raises(InputError, match="no accuracy curves; probe with linear_images"):
        curves.accuracy_curves([small(50.0)])
    few = small(50.0, probe="linear_images", extra={"curve": [[1, 40.0], [2, 41.0], [3, 42.0]]})
    with pytest.raises(InputError, match="no accuracy curves"):  # three points show no course
        curves.accuracy_curves([few])


def test_width_figure_has_a_line_a_width_and_the_papers_points_apart(drawn):
    kind = {"dataset": "cifar10", "probe": "linear", "split": "test"}
    results = [
        result(
            30.0 + 5 * k + d / 1000 + s, width=k, seed=s, representation_size=d, recipe=f"{k}{d}{s}",
            setting=f"{k}{d}", **kind,
        )
        for k in (1, 2) for d in (512, 1024, 2048) for s in (0, 1)
    ]
    later = {"width": 1, "representation_size": 512, "hyperparameters": {"schedule": [480, 500, 520]}}
    results += [result(90.0, seed=s, recipe=f"1512{s}", setting="1512", **kind, **later) for s in (0, 1)]
    picture = figures.width_figure(results)
    (figure,) = drawn
    panels = {p.get_title(loc="left"): lines_of(p) for p in figure.axes}
    assert set(panels) == {"ImageNet", "CIFAR-10"}
    published = sorted(r["value"] for r in load_published() if r["table"] == "Figure 6")
    ((x, y),) = panels["ImageNet"]
    assert x.tolist() == [512, 8192] and y.tolist() == published
    assert [x.tolist() for x, _ in panels["CIFAR-10"]] == [[512, 1024, 2048]] * 2
    for (_, y), k in zip(panels["CIFAR-10"], (1, 2), strict=True):
        np.testing.assert_allclose(y, [30.5 + 5 * k + d / 1000 for d in (512, 1024, 2048)])
    (_, panel) = figure.axes
    texts = [t.get_text() for t in panel.texts]
    assert texts == [f"{30.5 + 5 * k + d / 1000:.1f}" for k in (1, 2) for d in (512, 1024, 2048)]
    assert "†" in picture.caption and "One size" not in picture.caption
    alone = result(50.5, representation_size=512, width=1, **kind | {"dataset": "cifar100"})
    picture = figures.width_figure([*results, alone])
    assert [p.get_title(loc="left") for p in drawn[-1].axes] == ["ImageNet", "CIFAR-10"], "a number alone has no panel"
    assert picture.caption.endswith("One size alone, CIFAR-100: 1x of 512 values 50.5.")
    flat = [result(50.0 + d / 1e5, representation_size=d, width=1, recipe=str(d), **kind) for d in (512, 1024)]
    figures.width_figure(flat)
    assert np.ptp(drawn[-1].axes[1].get_ylim()) == pytest.approx(5), "half a point does not fill the panel"
    assert "Nothing of ours" in figures.width_figure([]).caption
    with pytest.raises(InputError, match="no jigsaw of vgg19_bn with a representation size"):
        figures.width_figure(results, pretext="jigsaw", backbone="vgg19_bn")


def test_scatter_joins_the_two_numbers_of_one_run(drawn):
    """Within each network more is better, across networks the better pretext has the worse features."""
    results, points = [], {}
    for b, backbone in enumerate(("resnet18", "revnet50")):
        for s in range(4):
            x, y = 60.0 + 10 * b + s, 50.0 - 20 * b + 2 * s
            kind = {"backbone": backbone, "seed": s, "recipe": f"{backbone}{s}", "setting": backbone}
            results += [own(x, **kind), small(y, **kind), small(5.0, endpoint="block1", **kind)]
            points.setdefault(backbone, []).append((x, y))
    results += [own(99.0, recipe="alone", seed=9), small(99.0, recipe="other", seed=9)]  # not the same run
    # A probe of another schedule is no other run.
    later = {"backbone": "resnet18", "recipe": "resnet180", "hyperparameters": {"schedule": [480, 500, 520]}}
    results.append(small(7.0, setting="resnet18", **later))
    ((key, runs),) = figures.scatter_points(results).items()
    assert key == (("cifar10", "cifar10", 1.0), "rotation")
    assert sorted((r.backbone, r.x, r.y) for r in runs) == sorted((b, *p) for b, found in points.items() for p in found)
    line = row(figures.correlation_table(results), pretext="Rotation")
    both = [p for found in points.values() for p in found]
    assert line["across networks"] == f"{spearman(*zip(*both, strict=True)):.2f} (8)"
    assert line["ResNet18"] == line["RevNet50"] == "1.00 (4)"
    picture = figures.scatter_figure(results)
    assert len(drawn[0].axes[0].get_lines()) == 8 and "1.00 to 1.00, in the median 1.00" in picture.caption
    with pytest.raises(InputError, match="no run with both"):
        figures.scatter_figure([small(50.0)])


def test_few_runs_have_no_correlation():
    results = []
    for s in range(2):
        results += [own(50.0 + s, seed=s), small(40.0 + s, seed=s)]
    assert row(figures.correlation_table(results), pretext="Rotation")["across networks"] == "– (2)"


def test_endpoint_figure_goes_from_the_input_up_with_the_untrained_network_dashed(drawn):
    names = ["pre_logits", "block1", "block4", "block2"]
    results = []
    for i, e in enumerate(names):
        results += [small(40.0 + i, endpoint=e), small(20.0 + i, endpoint=e, weights="random")]
    figures.endpoint_figure(results)
    panel = drawn[0].axes[0]
    assert [t.get_text() for t in panel.get_xticklabels()] == ["block1", "block2", "block4", "pre_logits"]
    assert panel.get_title(loc="left") == "Rotation"
    values = [y.tolist() for _, y in lines_of(panel)]
    assert values == [[41, 43, 42, 40], [21, 23, 22, 20]]
    with pytest.raises(InputError, match="no network with two probed endpoints"):
        figures.endpoint_figure([small(50.0)])


# --- the page and the script


class Nesting(html.parser.HTMLParser):
    """Fails on a tag that is closed out of turn; keeps the rows of the tables."""

    void = {"meta", "img", "br", "link"}

    def __init__(self):
        super().__init__()
        self.open, self.rows = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append(int(dict(attrs).get("colspan", 1)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, (tag, self.open)


def check_html(text):
    parser = Nesting()
    parser.feed(text)
    parser.close()
    assert not parser.open and not re.search(r"https?://|<script|<link|@import|url\(", text)
    return parser.rows


def everything():
    """A small study with every kind of result."""
    results = []
    for pretext, backbone in itertools.product(("rotation", "jigsaw"), ("resnet18", "resnet18_no_skip")):
        for s in range(2):
            kind = {"pretext": pretext, "backbone": backbone, "seed": s, "setting": pretext + backbone}
            kind["recipe"] = kind["setting"] + str(s)
            for i, e in enumerate(("block1", "block4", "pre_logits")):
                for probe in ("linear", "lbfgs"):
                    results.append(small(40.0 + i + s, endpoint=e, probe=probe, **kind))
                    results.append(small(20.0 + i + s, endpoint=e, probe=probe, weights="random", **kind))
            curve = {"curve": [[e, 30.0 + e] for e in range(1, 15)]}
            results += [small(45.0, probe="linear_images", extra=curve, **kind), own(60.0 + s, **kind)]
    return results + [result(47.0, seed=s) for s in range(2)]


def test_page_holds_tables_and_pictures_of_both(tmp_path):
    assert write_paper_report(everything(), str(tmp_path)) == str(tmp_path / "revisiting.html")
    text, page = (tmp_path / "revisiting.md").read_text(), (tmp_path / "revisiting.html").read_text()
    rows = check_html(page)
    wide = [sum(r) for r in rows if r]
    assert 10 in wide and len(page) < 2_000_000
    paths = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert paths == [
        f"revisiting/{n}.png" for n in ("endpoints", "pretext_and_downstream", "width_and_size", "accuracy_curves")
    ]
    inside = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    assert inside == [(tmp_path / path).read_bytes() for path in paths]
    assert "Left out" not in text
    for title, _ in [*paper_tables([]), *study_tables(everything())]:
        assert title in text and title.replace("'", "&#x27;") in page, title
    assert "| Rotation | RevNet50 | **47.3†** | 47.0 ± 0.0 (2) |" in text  # the cell beside the paper's, in its column
    assert "- **9** runs of ours" not in text and "- **10** runs of ours" in text
    assert "- **1** cells beside them with a number of ours" in text


def test_page_without_results_holds_the_papers_numbers(tmp_path):
    write_paper_report([], str(tmp_path))
    text = (tmp_path / "revisiting.md").read_text()
    check_html((tmp_path / "revisiting.html").read_text())
    assert "- **0** runs of ours" in text and "## Our runs" not in text
    left_out = text[text.index("Left out:") :]
    assert "- accuracy curves of the SGD probe: no accuracy curves" in left_out
    assert "| Rotation | RevNet50 | **41.8** |  | **45.3** |" in text


def test_every_row_of_a_grouped_table_is_as_wide_as_its_heads():
    t = Table(["a", "paper", "ours"], [["x", "1", "2"]], heads=(("", 1), ("4x", 2)), notes=("a note",))
    assert [sum(r) for r in check_html(t.html())] == [3, 3, 3]
    assert t.markdown().splitlines()[0] == "| a | 4x paper | 4x ours |" and t.markdown().endswith("\n\na note")
    assert '<td class="n ours">2</td>' in t.html() and '<p class="note">a note</p>' in t.html()


def test_script_merges_folders_of_runs_and_writes_the_page(tmp_path, capsys):
    for s in range(2):
        write_results(tmp_path / f"runs/seed{s}/results.jsonl", [small(40.0 + s, seed=s)])
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished/recipe.json").write_text("{}")
    out = tmp_path / "merged.jsonl"
    runs = (str(tmp_path / "runs"), str(tmp_path / "runs/seed1"), str(tmp_path / "unfinished"))
    report(Report(runs=runs, paper="revisiting", out_dir=str(tmp_path / "page"), out=str(out)))
    printed = capsys.readouterr()
    assert "40.5 ± 0.7" in printed.out and "left out: " in printed.err
    assert [r.value for r in read_results(out)] == [40.0, 41.0]
    assert "40.5 ± 0.7 (2)" in (tmp_path / "page/revisiting.md").read_text()


def test_script_copes_with_nothing(tmp_path, capsys):
    report(Report(paper="revisiting", out_dir=str(tmp_path)))
    assert capsys.readouterr().out == "" and (tmp_path / "revisiting.html").exists()
    with pytest.raises(InputError, match="no runs given"):
        report(Report())
    with pytest.raises(InputError, match="no results at .*nowhere"):
        report(Report(runs=(str(tmp_path / "nowhere"),)))


def test_two_pretexts_keep_their_own_untrained_rows(tmp_path, capsys):
    """Merged runs: the untrained network's numbers belong to the images it was shown."""
    for pretext, value in (("rotation", 30.0), ("jigsaw", 10.0)):
        kind = {"recipe": pretext, "setting": pretext}
        rows = [small(50.0, pretext=pretext, **kind), small(value, weights="random", **kind)]
        write_results(tmp_path / pretext / "results.jsonl", rows)
    report(Report(runs=(str(tmp_path / "rotation"), str(tmp_path / "jigsaw"))))
    printed = capsys.readouterr().out
    assert "**+20.0**" in printed and "**+40.0**" in printed
    assert "random (the view of jigsaw)" in printed and "random (the view of rotation)" in printed


def test_networks_and_tables_that_are_named_exist():
    from revisit_ssl.backbones import BACKBONES
    from revisit_ssl.report import names

    assert set(names.NETWORKS) <= set(BACKBONES) and set(NETWORKS) <= set(names.NETWORKS)
    assert {layout.table for layout in paper.LAYOUTS} < {r["table"] for r in load_published()}


def test_a_probe_with_and_without_a_schedule_keeps_its_name_and_its_place():
    kind = {"dataset": "cifar10", "width": 1, "split": "test", "backbone": "revnet50"}
    rows = [small(40.0, **kind), small(41.0, **kind, probe="lbfgs")]
    rows += [small(42.0, **kind, hyperparameters={"schedule": (30, 50, 70)})]
    titles = [title.partition(": ")[2] for title, _ in study_tables(rows)]
    assert titles[:3] == ["linear on pre_logits", "L-BFGS on pre_logits", "linear 30/50/70 on pre_logits"]
