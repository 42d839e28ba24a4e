"""Tables, pictures and page: on made-up results, on a real backbone, and with every part missing."""

import base64
import dataclasses
import json
import math
import re
import statistics

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from sklearn.neighbors import NearestNeighbors

from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.rows import of_run
from revisit_ssl.papers import get_recipe
from revisit_ssl.papers.pages import compare, write_report
from revisit_ssl.papers.published import load_published
from revisit_ssl.recipe import to_json
from revisit_ssl.report import page, tables
from revisit_ssl.report.blocks import Table, Text
from revisit_ssl.report.tables import print_table
from revisit_ssl.runs.results import Result, read_results, write_results
from revisit_ssl.training.build import build_backbone
from revisit_ssl.training.pretrain import export_backbone

WEIGHTS = ("pretrained", "random", "random, BN re-estimated")


def result(value, weights="pretrained", **changes):
    """A Result with toy values."""
    trained = weights == "pretrained"
    fields = {
        "pretext": "rotation" if trained else "random", "backbone": "revnet50", "width": 1, "dataset": "toy_scenes",
        "seed": 0, "steps": 744 if trained else 0, "weights": weights, "endpoint": "pre_logits", "probe": "linear",
        "probe_dataset": "toy_scenes", "split": "test", "metric": "top1", "value": value, "recipe": "0badcafe",
        "hyperparameters": {"lr": 0.1, "decay_at": [0.4, 0.7]}, "seconds": 1.5,
    }
    return Result(**fields | changes)


def three(pretrained, random, reestimated, **changes):
    return [result(v, w, **changes) for v, w in zip((pretrained, random, reestimated), WEIGHTS, strict=True)]


def cells(markdown):
    """[{column: cell}] of the first Markdown table in a text."""
    lines = re.search(r"(^\|.*\n?)+", markdown, re.MULTILINE)[0].splitlines()
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(split[0], row, strict=True)) for row in split[2:]]


def find(rows, **wanted):
    """The one row with these cells."""
    found = [row for row in rows if all(row[k] == v for k, v in wanted.items())]
    assert len(found) == 1, found
    return found[0]


# --- compare


def test_our_numbers_and_the_papers_stand_in_different_columns():
    rows = cells(compare(three(64.04, 30.0, 32.0) + three(58.0, 25.0, 24.0, probe="knn")))
    ours, paper = "ours (toy_scenes, linear)", "paper (ImageNet, L-BFGS, Table 1)"
    assert list(rows[0])[:5] == ["pretext", "network", "endpoint", ours, "ours (toy_scenes, knn)"]
    assert all(name.startswith("paper (") for name in list(rows[0])[5:])
    mine = find(rows, pretext="rotation", network="revnet50 k=1")
    assert (mine[ours], mine[paper]) == ("64.0", "")  # the paper has no k = 1
    theirs = find(rows, pretext="rotation", network="revnet50 k=16")
    assert (theirs[ours], theirs[paper]) == ("", "53.7")
    assert theirs["paper (ImageNet, SGD linear, Table 2)"] == "55.4"
    assert find(rows, pretext="random")[ours] == "30.0"
    assert [row["network"] for row in rows if row["pretext"] == "rotation"] == [
        f"revnet50 k={k}" for k in (1, 4, 8, 12, 16)
    ]


def test_a_toy_number_cannot_be_read_as_comparable():
    assert "measure different things" in compare(three(64, 30, 32))
    real = compare(three(50, 10, 11, dataset="imagenet2012", probe_dataset="imagenet2012", probe="lbfgs", width=16))
    assert "measure different things" not in real
    row = find(cells(real), pretext="rotation", network="revnet50 k=16")
    assert (row["ours (imagenet2012, lbfgs)"], row["paper (ImageNet, L-BFGS, Table 1)"]) == ("50.0", "53.7")
    assert row["paper (ImageNet 10 % labels, L-BFGS, Suppl. Table 2)"] == "38.4"
    moved = compare([result(50.0, probe_dataset="digits")])
    assert "ours (toy_scenes → digits, linear)" in moved


def test_numbers_from_memory_are_marked():
    wanted = {"table": "Table 1", "pretext": "rotation", "backbone": "revnet50", "confirmed": "recalled"}
    recalled = {(r["width"], r["value"]) for r in load_published() if wanted.items() <= r.items()}
    assert recalled
    text = compare([result(50.0)])
    shown = {(int(r["network"].split("=")[1]), r["paper (ImageNet, L-BFGS, Table 1)"]) for r in cells(text)}
    assert {(k, f"{v}†") for k, v in recalled} <= shown
    assert "† written down from memory" in text


def test_every_published_cell_holds_one_number():
    models = {(r["pretext"], r["backbone"]) for r in load_published() if r["backbone"] and "Table" in r["table"]}
    for pretext, backbone in models:
        seen = {}
        for r in load_published():
            if (r["pretext"], r["backbone"], r["metric"]) == (pretext, backbone, "top1") and "Table" in r["table"]:
                key = (r["width"], r["endpoint"], r["dataset"], r["labels"], r["probe"], r["table"])
                assert key not in seen, (key, seen[key], r["value"])
                seen[key] = r["value"]
        kind = {"pretext": pretext, "backbone": backbone, "dataset": "imagenet2012"}
        ours = [result(1.0, probe_dataset=name, **kind) for name in ("imagenet2012", "places205")]
        shown = sorted(
            float(cell.rstrip("†")) for row in cells(compare(ours)) for k, cell in row.items()
            if k.startswith("paper") and cell
        )
        assert shown == sorted(seen.values()), (pretext, backbone)


def test_seeds_are_averaged_and_different_recipes_are_not():
    values = (60.0, 62.5, 67.0)
    seeds = [result(v, seed=s, recipe=f"seed{s}") for s, v in enumerate(values)]
    (row,) = [r for r in cells(compare(seeds)) if r["network"] == "revnet50 k=1"]
    mean, std = np.mean(values), np.std(values, ddof=1)
    assert row["ours (toy_scenes, linear)"] == f"{mean:.1f} ± {std:.1f}"
    two = cells(compare([result(40.0, recipe="aa"), result(60.0, recipe="bb")]))[:2]
    assert [(r["pretext"], r["ours (toy_scenes, linear)"]) for r in two] == [
        ("rotation (recipe aa)", "40.0"),
        ("rotation (recipe bb)", "60.0"),
    ]
    steps = [r["pretext"] for r in cells(compare([result(40.0, steps=10), result(60.0, steps=2000)]))]
    assert steps[:2] == ["rotation (10 steps)", "rotation (2,000 steps)"]


def test_compare_says_what_is_missing():
    with pytest.raises(InputError, match="no results"):
        compare([])
    with pytest.raises(InputError, match="no paper 'nobody'; one of revisiting"):
        compare([result(1.0)], "nobody")
    text = compare([result(90.0, pretext="supervised", backbone="resnet18")])
    assert "hold no number for supervised with resnet18" in text


def test_endpoints_are_ordered_from_the_input_up():
    names = ["pre_logits", "conv10", "block2", "after_root", "conv2", "block1"]
    assert sorted(names, key=tables.depth) == ["after_root", "block1", "block2", "conv2", "conv10", "pre_logits"]


# --- print_table


def test_terminal_table_names_the_row_to_beat_and_the_gain(capsys):
    print_table(three(64.0, 33.0, 31.5) + three(50.0, 20.0, 24.5, endpoint="block3") + three(90, 60, 61, metric="top5"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "rotation · revnet50 k=1 · 744 steps on toy_scenes"
    assert lines[3].split() == ["probe", "endpoint", "pretrained", "random", "random+BN", "gain"]
    assert lines[4].split() == ["linear", "block3", "50.0", "20.0", "24.5*", "+25.5"]
    assert lines[5].split() == ["linear", "pre_logits", "64.0", "33.0*", "31.5", "+31.0"]
    digits = [line.index(".") for line in (lines[4], lines[5])]
    assert digits[0] == digits[1]


def test_terminal_table_fits_80_columns_with_seeds_and_long_names(capsys):
    runs = []
    for seed in range(3):
        for probe in ("linear_images", "lbfgs"):
            kind = {"probe": probe, "seed": seed, "dataset": "imagenet2012_subset", "recipe": f"r{seed}"}
            trained, *untrained = three(61.0 + seed, 30.0, 28.0 + seed, **kind)
            runs += [dataclasses.replace(trained, pretext="relative_patch"), *untrained]
    print_table(runs)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert f"62.0 ± {statistics.stdev((61, 62, 63)):.1f}" in out and "3 seeds" in out
    assert "30.0 ± 0.0* " in out and "29.0 ± 1.0 " in out


def test_terminal_table_without_pretraining_or_results(capsys):
    print_table(three(0, 33.0, 31.5)[1:])
    assert capsys.readouterr().out.splitlines()[3].split() == ["probe", "endpoint", "random", "random+BN"]
    print_table([result(64.0)])
    assert capsys.readouterr().out.splitlines()[4].split() == ["linear", "pre_logits", "64.0"]
    print_table([])
    assert capsys.readouterr().out == "no probes were run\n"


def test_probes_that_measure_no_accuracy_are_shown_too(capsys, tmp_path):
    nmi = three(44.0, 33.0, 31.5, probe="nmi", metric="nmi")
    recall = three(60.0, 50.0, 51.0, probe="retrieval", metric="recall1") + three(9, 8, 7, probe="r", metric="recall5")
    print_table(nmi)
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "nmi: mutual information, in percent on the test split"
    assert lines[4].split() == ["nmi", "pre_logits", "44.0", "33.0*", "31.5", "+11.0"]
    print_table(three(64.0, 33.0, 31.5) + nmi + recall)
    out = capsys.readouterr().out
    assert "top-1 in percent (nmi: mutual information, retrieval: recall at 1)" in out
    assert [line.split()[0] for line in out.splitlines()[-4:-1]] == ["linear", "nmi", "retrieval"]
    assert max(map(len, out.splitlines())) <= 80
    ((_, table),) = tables.result_table(nmi + recall)
    assert [row[:3] for row in table.rows] == [["nmi", "pre_logits", "44.0"], ["retrieval", "pre_logits", "60.0"]]
    shots = three(50.0, 30.0, 29.0, probe="few_shot", metric="few_shot_5way_5shot")
    shots += three(35.0, 24.0, 23.0, probe="few_shot", metric="few_shot_5way_1shot")
    ((_, table),) = tables.result_table(shots + three(20.0, 10.0, 11.0, probe="voc_svm", metric="map"))
    assert [row[:3] for row in table.rows] == [["few_shot", "pre_logits", "50.0"], ["voc_svm", "pre_logits", "20.0"]]
    (tmp_path / "recipe.json").write_text(to_json(get_recipe("rotation", "smoke", probes=("nmi",))))
    write_results(tmp_path / "results.jsonl", nmi)
    numbers = page.key_numbers(page.Run(str(tmp_path), None))[0].markdown()
    assert "**44.0 %** rotation: nmi probe on pre_logits, mutual information" in numbers
    assert page.details(nmi).rows[0][-3] == "44.00"


def test_a_run_is_called_what_its_recipe_is_called(tmp_path, capsys):
    for name in ("npid", "npid_cld", "moco_cld", "moco_v2", "moco_v2_cld", "simclr", "byol_cld", "rotation"):
        recipe = get_recipe(name, "sample")
        assert (recipe.name, recipe.preset, of_run(recipe, 0)["name"]) == (name, "sample", name)
    (tmp_path / "recipe.json").write_text(to_json(get_recipe("npid_cld", "smoke")))
    assert page.Run(str(tmp_path), None).name == "npid_cld"
    print_table([result(64.0, pretext="npid", name="npid_cld"), result(60.0, pretext="npid", name="npid")])
    headings = [line for line in capsys.readouterr().out.splitlines() if "744 steps" in line]
    assert [line.split()[0] for line in headings] == ["npid_cld", "npid"]


def test_an_untrained_network_is_compared_with_its_own_kind_only():
    kinds = ({"width": 4}, {"backbone": "vgg19_bn"}, {"dataset": "cifar10"})
    others = [result(70.0, "random", **kind) for kind in kinds]
    ((_, (row,)),) = tables.summarize([result(64.0), *others, result(30.0, "random")])
    assert (row.random, row.reestimated, row.gain) == ((30.0,), (), 34.0)


# --- pictures and page


def test_nearest_neighbours_agree_with_scikit_learn():
    features = np.random.default_rng(0).normal(size=(200, 16)).astype(np.float32)
    expected = NearestNeighbors(n_neighbors=5, metric="cosine").fit(features).kneighbors(return_distance=False)
    np.testing.assert_array_equal(page.cosine_neighbours(features), expected)


def test_queries_take_each_class_in_turn():
    labels = np.array([2, 2, 0, 1, 0, 1, 2, 0, 1])
    assert page.choose_queries(labels, 9).tolist() == [2, 3, 0, 4, 5, 1, 7, 8]
    assert page.choose_queries(None, 15).tolist() == [0, 2, 4, 6, 8, 10, 12, 14]
    assert page.choose_queries(None, 3).tolist() == [0, 1, 2]


def test_marks_are_escaped():
    nasty = "<script>alert('x')</script> a|b & **bold** `x<y`"
    assert "<script>" not in Text(nasty).html() and "<strong>bold</strong>" in Text(nasty).html()
    assert "a\\|b" in Table(["c"], [[nasty]]).markdown()


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """What a run of the smoke preset leaves, without the training."""
    folder = tmp_path_factory.mktemp("run")
    recipe = get_recipe("rotation", "smoke", backbone="tiny", source="a <b> test & more")
    (folder / "recipe.json").write_text(to_json(recipe))
    environment = {"date": "2025-01-02T03:04:05Z", "commit": "abc1234", "hardware": "2 CPU cores", "keras": "3.15",
                   "command": "experiments/run.py rotation --preset smoke"}
    (folder / "environment.json").write_text(json.dumps(environment))
    (folder / "pretext.json").write_text('{"val_loss": 0.9, "val_accuracy": 0.61}')
    log = ["step,epoch,learning_rate,images_per_second,accuracy,loss"]
    log += [f"{i},{i / 10},{0.1 - i / 200},{'nan' if i == 1 else 400},{i / 12},{1.4 - i / 12}" for i in range(1, 13)]
    (folder / "log.csv").write_text("\n".join(log) + "\n")
    monitor = ["step,epoch,knn_top1,effective_rank,feature_std_ratio", "10,1,55.5,12.3,0.8", "20,2,60,15,0.9"]
    (folder / "monitor.csv").write_text("\n".join(monitor) + "\n")
    found = []
    for endpoint in ("pre_logits", "block4"):
        for probe in ("linear", "lbfgs"):
            kind = {"probe": probe, "endpoint": endpoint, "backbone": "tiny"}
            kind |= {"dataset": "digits", "probe_dataset": "digits"}
            found += three(65.0, 41.0, 42.5, **kind, converged=None if probe == "linear" else False)
            found += three(95.0, 81.0, 82.5, **kind, metric="top5")
    write_results(folder / "results.jsonl", found)
    export_backbone(build_backbone(recipe), str(folder / "backbone.keras"))
    write_report(folder)
    return folder


def test_page_has_every_part(workdir):
    text = (workdir / "report.md").read_text()
    assert text.startswith("# rotation · tiny k=1 · digits\n")
    assert "## Detection\n" not in text  # a part of runs with a detector alone
    for title in (*(title for title in page.SECTIONS if title != "Detection"), "To measure it again"):
        assert f"## {title}\n" in text
    assert "## Left out" not in text
    for fact in ("abc1234", "2 CPU cores", "2025-01-02 03:04:05 UTC", "`python experiments/run.py rotation"):
        assert fact in text
    assert "- **65.0 %** rotation: linear probe on pre_logits, top-1" in text and "- **+22.5** points gained" in text
    row = find(cells(text[text.index("## What the probes measure") :]), probe="linear", endpoint="block4")
    assert row["rotation"] == "65.0" and row["random, BN re-estimated"] == "**42.5**" and row["gain"] == "**+22.5**"
    assert "6 of 6 fits were stopped before they converged" in text
    assert "| pretrained | linear | block4 | decay_at 0.4/0.7, lr 0.1 |  | 65.00 | 95.00 | 1.5 |" in text
    assert "at step 12: loss 0.400, accuracy 1.000. Median speed 400 images/s." in text


def test_html_is_one_small_file_with_the_same_pictures(workdir):
    html = (workdir / "report.html").read_text()
    assert len(html) < 2_000_000
    assert not re.search(r"https?://|<script|<link|@import|url\(", html)
    assert "a &lt;b&gt; test &amp; more" in html and "<b> test" not in html
    inside = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]
    paths = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (workdir / "report.md").read_text())
    assert paths == [f"report/{name}.png" for name in ("endpoints", "curves", "monitor", "neighbours", "views")]
    assert inside == [(workdir / path).read_bytes() for path in paths]
    for path in paths:
        with Image.open(workdir / path) as picture:
            assert min(picture.size) > 200 and len(picture.convert("RGB").getcolors(1 << 24)) > 8
    assert not list(workdir.rglob("*.partial*"))


def test_shares_of_neighbours_are_those_of_the_features(workdir):
    """The page's numbers against the features in the cache and scikit-learn's neighbours."""
    text = (workdir / "report.md").read_text()
    stated = re.search(r"all (\d+) test images, neighbours of the query's class: rotation \*\*(\d+) %", text)
    run = page.Run(str(workdir), None)
    source = run.open("digits", "test")
    features = np.asarray(page.features_of(run.backbone, run.recipe, source, str(workdir))["pre_logits"])
    nearest = NearestNeighbors(n_neighbors=5, metric="cosine").fit(features).kneighbors(return_distance=False)
    share = 100 * np.mean(source.labels[nearest] == source.labels[:, None])
    assert int(stated[1]) == len(features) and abs(int(stated[2]) - share) <= 1


def test_only_a_recipe_still_gives_a_page(tmp_path):
    (tmp_path / "recipe.json").write_text(to_json(get_recipe("rotation", "smoke", backbone="tiny")))
    assert write_report(tmp_path) == str(tmp_path / "report.html")
    text = (tmp_path / "report.md").read_text()
    left_out = text[text.index("## Left out") :]
    assert "- What the probes measure: no results.jsonl" in left_out
    assert "- Training: no log.csv" in left_out and "- Nearest neighbours: no backbone at" in left_out
    assert "## What the pretext sees\n" in text  # the data and an initial network are enough for it


def test_a_network_at_hand_is_not_loaded(tmp_path, workdir):
    (tmp_path / "recipe.json").write_bytes((workdir / "recipe.json").read_bytes())
    write_report(tmp_path, backbone=page.Run(str(workdir), None).backbone)
    text = (tmp_path / "report.md").read_text()
    assert "## Nearest neighbours\n" in text and "- Nearest neighbours: " not in text
    assert "class: rotation **" in text


def test_random_pretext_has_no_curves(tmp_path, workdir):
    (tmp_path / "recipe.json").write_text(to_json(get_recipe("random", "smoke", backbone="tiny")))
    found = read_results(workdir / "results.jsonl")
    write_results(tmp_path / "results.jsonl", [r for r in found if r.weights != "pretrained"])
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "- Training: random is not trained" in text and "points gained" not in text
    assert list(cells(text[text.index("## What the probes measure") :])[0]) == ["probe", "endpoint", *WEIGHTS[1:]]
    assert "class: untrained **" in text


def test_unlabelled_folder(tmp_path, workdir):
    images = tmp_path / "images"
    images.mkdir()
    for i in range(12):
        noise = np.random.default_rng(i).integers(0, 256, (24, 24, 3), np.uint8)
        Image.fromarray(noise).save(images / f"{i:02d}.png")
    recipe = get_recipe("rotation", "smoke", backbone="tiny", dataset=f"folder:{images}", probes=())
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.json").write_text(to_json(recipe))
    (run / "backbone.keras").write_bytes((workdir / "backbone.keras").read_bytes())
    write_report(run)
    text = (run / "report.md").read_text()
    assert "## What the pretext sees\n" in text and "neighbours of the query's class" not in text


def test_missing_data_leaves_out_the_pictures_only(tmp_path, workdir):
    recipe = dataclasses.replace(get_recipe("rotation", "smoke"), dataset="folder:/no/such/folder")
    (tmp_path / "recipe.json").write_text(to_json(recipe))
    (tmp_path / "log.csv").write_bytes((workdir / "log.csv").read_bytes())
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "## Training\n" in text and "- What the pretext sees: " in text and "/no/such/folder" in text


def test_bucket_addresses_go_through_gfile(workdir):
    """ram:// stands in for gs://: plain open() and os.path would fail on both."""
    for name in ("recipe.json", "log.csv", "results.jsonl"):
        tf.io.gfile.makedirs("ram://bucket/run")
        with tf.io.gfile.GFile(f"ram://bucket/run/{name}", "w") as file:
            file.write((workdir / name).read_text())
    assert write_report("ram://bucket/run") == "ram://bucket/run/report.html"
    for name in ("report.html", "report.md", "report/curves.png", "report/endpoints.png"):
        assert tf.io.gfile.exists(f"ram://bucket/run/{name}")


def test_no_run_is_said_in_one_line(tmp_path):
    with pytest.raises(InputError, match="no run at .*recipe.json; give the workdir of a finished run"):
        write_report(tmp_path)


def test_curves_survive_a_value_that_is_not_finite():
    rows = [{"epoch": i, "loss": math.nan if i == 2 else 1.0 / i} for i in range(1, 5)]
    assert page.pictures.curves(rows, {"loss": "loss"})[:4] == b"\x89PNG"
