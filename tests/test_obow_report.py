"""The OBoW page: which runs are compared, what is above untrained, verdicts, curves, the paper's tables."""

import dataclasses
import json

import pytest

from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.evaluate import vocabulary_results
from revisit_ssl.papers import RECIPES, get_recipe, sweeps
from revisit_ssl.papers.obow import figures as obow_figures
from revisit_ssl.papers.obow.claims import above_untrained, obow_claims
from revisit_ssl.papers.obow.figures import curves_of, methods_figure, training_figure, vocabularies_figure
from revisit_ssl.papers.obow.methods import (
    FULL,
    LINEAR,
    MOCO,
    MULTICROP,
    SECTION_D,
    VANILLA,
    method_of,
    methods_of,
    methods_table,
    options_of,
    settings_of,
    usage_of,
    vocabulary_table,
)
from revisit_ssl.papers.obow.protocols import OBOW as OBOW_PROTOCOL
from revisit_ssl.papers.obow.tables import paper_tables, read_bench
from revisit_ssl.papers.pages import write_paper_report
from revisit_ssl.papers.published import load_published
from revisit_ssl.report.claims import FAILS, HOLDS, OPEN
from revisit_ssl.report.settings import by_ground
from revisit_ssl.runs.identity import recipe_id
from revisit_ssl.runs.results import Result
from revisit_ssl.training.history import read_history

OBOW = {"vocabulary": "queue", "words": 2048, "inv_delta": 10.0, "kappa": 5.0, "start": "noise", "rare_after": 25}
TASKS = {
    VANILLA: ("obow", OBOW | {"levels": 1, "crops": 1, "patches": 0}),
    FULL: ("obow", OBOW | {"levels": 2, "crops": 2, "patches": 5}),
    MOCO: ("moco", {"head": "mlp", "temperature": 0.2, "queue_size": 2048, "crops": None}),
    MULTICROP: ("moco_v2_multicrop", {"temperature": 0.2, "queue_size": 2048, "crops": 2, "patches": 5}),
}
NAMES = {VANILLA: "obow_vanilla", FULL: "obow", MOCO: "moco_v2_plain", MULTICROP: "moco_v2_multicrop"}
TRAINING = {"split": "train", "fraction": None, "batch_size": 64, "epochs": 20, "max_steps": None}
# Metric by probe, and what is added to the number that a test gives.
POINTS = {
    ("few_shot", "few_shot_5way_1shot"): 0, ("few_shot", "few_shot_5way_5shot"): 10, ("linear", "top1"): 20,
}


def lines(method, value, *, seed=0, task=None, training=None, untrained=None, usage=None, **more):
    """[Result] of one run: few-shot with one image is ``value``, the others follow POINTS; ``usage`` {level: percent of
    K}: usage_perplexity at the end, reached from twice as much."""
    pretext, options = TASKS[method]
    options = options | (task or {})
    fields = {
        "backbone": "resnet18", "width": 1, "dataset": "imagenette_subset160", "seed": seed, "steps": 1400,
        "probe_dataset": "imagenette_subset160", "split": "test", "task": options,
        "training": TRAINING | (training or {}), "commit": "abc1234", "date": "2026-11-21T00:00:00Z",
        "hardware": "2 CPU cores", "name": NAMES[method],
    } | more
    setting = str(hash(str(sorted((k, str(v)) for k, v in fields.items() if k != "seed")) + pretext))
    fields |= {"setting": setting, "recipe": f"{setting}-{seed}"}
    rows = []
    for (probe, metric), plus in POINTS.items():
        place = {"probe": probe, "endpoint": "pre_logits", "metric": metric}
        rows.append(Result(pretext=pretext, weights="pretrained", value=value + plus, **place, **fields))
        for weights, worse in (("random", 0), ("random, BN re-estimated", 1)) if untrained is not None else ():
            low = fields | place | {"steps": 0, "value": untrained + plus - worse}
            rows.append(Result(pretext="random", weights=weights, **low))
    for level, percent in (usage or {}).items():
        end = percent / 100 * options["words"]
        for metric, last in (("usage_perplexity", end), ("perplexity", 8.0), ("mu", 3.0), ("used", percent)):
            place = {"probe": "vocabulary", "endpoint": level, "metric": metric}
            extra = {"curve": [[1, 2 * last], [10, last], [20, last]]}
            shared = fields | {"split": "train"}
            rows.append(Result(pretext=pretext, weights="pretrained", value=last, extra=extra, **place, **shared))
    return rows


def seeds(method, values, **more):
    return [r for seed, value in enumerate(values) for r in lines(method, value, seed=seed, **more)]


# Deviation 0.5: two deviations of a difference of two runs are 2 * sqrt(2) * 0.5 = 1.41 points.
STUDY = [
    *seeds(VANILLA, (40, 40.5, 41), untrained=30, usage={"block4": 40.0}),
    *seeds(FULL, (44, 44.5, 45), untrained=30, usage={"block3": 50.0, "block4": 40.0}),
    *seeds(MOCO, (33, 33.5, 34), untrained=30),
    *seeds(MULTICROP, (37, 37.5, 38), untrained=30),
]


def cells(table, first, second=None):
    """{column: cell} of the only row with these first cells."""
    (row,) = [r for r in table.rows if r[0] == first and second in (None, r[1])]
    return dict(zip(table.names, row, strict=True))


def kmeans(usage, **more):
    """Vanilla OBoW with each vocabulary: {kind: percent of the words}."""
    return [
        r for kind, percent in usage.items()
        for r in lines(VANILLA, 40, task={"vocabulary": kind, "start": "features" if kind != "queue" else "noise"},
                       usage={"block4": percent}, **more)
    ]


# --- which runs belong together


def test_methods_are_told_by_their_options():
    settings = settings_of(STUDY)
    assert list(methods_of(settings)) == [VANILLA, FULL, MOCO, MULTICROP]
    assert {s.seeds for s in settings} == {3}
    assert options_of(settings[1]) == "2 levels of 2,048 words, 1/δ 10, κ 5, 2 crops, 5 patches"
    assert settings[0].untrained[LINEAR] == {0: 50, 1: 50, 2: 50}  # the better of the two, by the mean
    other = lines(FULL, 50, task={"levels": 1, "crops": 1, "patches": 0})  # as obow/sample
    assert method_of(settings_of(other)[0]) == "OBoW"


def test_mocos_other_forms_and_other_pretexts_are_left_out():
    v1 = lines(MOCO, 30, name="moco")
    with_cld = lines(MOCO, 30, name="moco_v2_cld")
    rotation = [dataclasses.replace(r, pretext="rotation", name="rotation") for r in STUDY if r.weights == "pretrained"]
    assert settings_of([*v1, *with_cld, *rotation]) == []


def test_of_two_settings_of_a_method_that_with_most_seeds_is_shown_and_the_other_named():
    settings = settings_of([*STUDY, *lines(VANILLA, 60, training={"epochs": 200})])
    assert methods_of(settings)[VANILLA].seeds == 3
    assert "Not shown: OBoW (vanilla)" in " ".join(methods_table(settings).notes)


def test_trained_is_bold_where_it_is_clearly_above_untrained():
    table = methods_table(settings_of(STUDY))
    one = "5-way 1-shot"
    assert cells(table, VANILLA, "trained")[one] == "**40.5 ± 0.5 (3)**"
    assert cells(table, VANILLA, "untrained")[one] == "30.0 ± 0.0 (3)"
    assert cells(table, VANILLA, "gain")["linear"] == "+10.5"
    assert "**" not in cells(methods_table(settings_of(lines(VANILLA, 90, untrained=30))), VANILLA, "trained")[one]


def test_vocabularies_are_runs_that_differ_in_the_vocabulary_alone():
    usage = {"queue": 40, "kmeans": 1, "kmeans_replace": 20, "kmeans_sinkhorn": 60}
    longer = lines(VANILLA, 50, task={"vocabulary": "kmeans"}, training={"epochs": 90}, usage={"block4": 3})
    (group,) = SECTION_D.find(settings_of([*kmeans(usage), *longer]))
    assert list(group.settings) == [(kind,) for kind in usage]
    assert usage_of(group.settings["kmeans",], "block4") == {0: pytest.approx(1)}
    table = vocabulary_table(group)
    assert cells(table, "online k-means")["conv5: words in use, % of K"] == "1.0 (1)"
    assert cells(table, "queue")["conv5: words of an image"] == "8.0 (1)"


# --- claims


def verdict(number, rows):
    (settings,) = by_ground(settings_of(rows)).values()
    return obow_claims(settings)[number - 1]


def test_there_are_five_and_alone_a_run_decides_none():
    found = obow_claims(settings_of(lines(VANILLA, 40)))
    assert [c.number for c in found] == [1, 2, 3, 4, 5] and {c.verdict for c in found} == {OPEN}
    assert found[0].reason == "no runs of OBoW (full)"


@pytest.mark.parametrize(("number", "low", "high"), [(1, VANILLA, FULL), (2, MULTICROP, VANILLA), (3, MOCO, MULTICROP)])
@pytest.mark.parametrize(("gain", "expected"), [(3, HOLDS), (1, OPEN), (-3, FAILS)])
def test_one_method_above_another(number, low, high, gain, expected):
    rows = seeds(low, (40, 40.5, 41)) + seeds(high, (40 + gain, 40.5 + gain, 41 + gain))
    found = verdict(number, rows)
    assert found.verdict == expected
    assert f"linear {gain:+.1f} (clear: 1.4)" in found.reason


def test_a_claim_says_where_the_two_differ_in_more_than_the_method():
    rows = seeds(VANILLA, (40, 41), training={"batch_size": 128}) + seeds(FULL, (50, 51))
    assert verdict(1, rows).reason.endswith("the two differ in batch size too")


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"kmeans": 1, "kmeans_replace": 20, "kmeans_sinkhorn": 60}, HOLDS),
        ({"queue": 40, "kmeans": 1, "kmeans_replace": 20}, HOLDS),
        ({"kmeans": 30, "kmeans_replace": 31, "kmeans_sinkhorn": 30.5}, OPEN),
        ({"kmeans": 60, "kmeans_replace": 20, "kmeans_sinkhorn": 30}, FAILS),
        ({"queue": 40, "kmeans": 1}, OPEN),
    ],
)
def test_plain_k_means_against_its_fixes(usage, expected):
    assert verdict(4, kmeans(usage)).verdict == expected


@pytest.mark.parametrize(("values", "expected"), [((39, 39.5, 40), HOLDS), ((37, 37.5, 38), FAILS)])
def test_eight_points_above_untrained(values, expected):
    found = above_untrained(settings_of(seeds(VANILLA, values, untrained=30)))
    assert found.verdict == expected
    assert f"linear {values[1] - 30:+.1f}" in found.reason
    # The longest run decides, whatever the shorter ones say.
    longer = lines(VANILLA, 38.5, training={"epochs": 60}, untrained=30)
    found = above_untrained(settings_of([*seeds(VANILLA, values, untrained=30), *longer]))
    assert found.verdict == HOLDS and "60 epochs" in found.reason and len(found.table.rows) == 6


# --- figures


@pytest.fixture
def figures(monkeypatch):
    drawn = []
    monkeypatch.setattr(obow_figures, "png", lambda figure: drawn.append(figure) or b"png")
    return drawn


def test_bars_are_the_seeds_means(figures):
    picture = methods_figure(settings_of(STUDY))
    assert picture.path == "obow/methods.png"
    panels = figures[0].axes
    assert [p.get_title(loc="left") for p in panels][-1] == "linear"
    assert [round(bar.get_height(), 2) for bar in panels[-1].patches[:4]] == [60.5, 64.5, 53.5, 57.5]
    assert panels[1].lines[-1].get_ydata()[0] == 40  # the untrained network's


def test_curves_are_the_seeds_means_over_epochs(figures):
    settings = settings_of(seeds(VANILLA, (40, 41), usage={"block4": 40.0}))
    epochs, values = curves_of(settings[0], "block4", "used")
    assert list(epochs) == [1, 10, 20] and values.tolist() == [[80, 40, 40]] * 2
    training_figure(settings)
    assert [a.get_title(loc="left") for a in figures[0].axes][-1] == "share of the words in use (%)"
    vocabularies_figure(settings_of(kmeans({"queue": 40, "kmeans": 1})))
    curves = figures[1].axes[0].lines
    assert [line.get_label() for line in curves] == ["queue", "online k-means"]
    assert list(curves[1].get_ydata()) == pytest.approx([40.96, 20.48, 20.48])
    assert figures[1].axes[0].get_yscale() == "log"


def test_without_runs_there_are_no_figures():
    settings = settings_of(lines(MOCO, 40))
    for figure in (training_figure, vocabularies_figure):
        with pytest.raises(InputError, match="no run"):
            figure(settings)


def test_words_of_a_run_are_read_from_its_log(tmp_path):
    recipe = get_recipe("obow", "smoke")
    rows = ["step,epoch,learning_rate,images_per_second,loss,usage_perplexity_block4,mu_block3,used_block4"]
    rows += [f"{10 * i},{i},0.1,50,3.0,{100 + i},{i / 10},{0.25}" for i in range(1, 201)]
    (tmp_path / "log.csv").write_text("\n".join(rows) + "\n")
    found = {(r.endpoint, r.metric): r for r in vocabulary_results(recipe, read_history(tmp_path))}
    assert set(found) == {("block4", "usage_perplexity"), ("block3", "mu"), ("block4", "used")}
    last = found["block4", "usage_perplexity"]
    assert last.value == pytest.approx(100 + sum(range(181, 201)) / 20) and last.steps == 2000
    assert (last.probe, last.split, last.pretext, last.weights) == ("vocabulary", "train", "obow", "pretrained")
    assert (
        len(last.extra["curve"]) == 60 and last.extra["curve"][0] == [1, 101] and last.extra["curve"][-1] == [200, 300]
    )
    assert found["block4", "used"].value == 25
    (tmp_path / "log.csv").write_text("step,epoch,loss\n1,1,2\n")
    for folder in (tmp_path, tmp_path / "empty"):
        assert vocabulary_results(recipe, read_history(folder)) == []


# --- the paper's tables and the page


def table_of(start, rows=(), bench=()):
    found = paper_tables(settings_of(rows), rows, load_published("obow"), bench)
    (table,) = [t for title, t in found if title.startswith(start)]
    return table


def test_without_runs_every_printed_number_stands_in_its_cell():
    one = table_of("Table 1")
    assert cells(one, VANILLA)["few-shot, n = 1 paper"] == "42.11"
    assert cells(one, MULTICROP)["linear paper"] == "43.13"
    two = table_of("Table 2")
    assert cells(two, "Time per epoch")["OBoW paper"] == "3.91"
    assert cells(two, "Epochs")["BYOL paper"] == "300" and cells(two, "Training time")["MoCo v2 paper"] == "12.64"
    assert cells(two, "ImageNet linear, 4096 images a step")["BYOL paper"] == "72.5"
    main = table_of("Main table")
    assert len(main.rows) == 13
    (obow,) = [r for r in main.rows if r[0] == "OBoW"]
    assert obow == ["OBoW", "200", "256", "73.8", "56.8", "89.3", "82.9", "64.8†", "57.9†", "82.9", "90.7"]
    numbers = sum(bool(c) for t in (one, two) for row in t.rows for c, n in zip(row, t.columns, strict=True)
                  if n == "paper") + sum(bool(c) for row in main.rows for c in row[3:])
    rows = [r for r in load_published("obow") if r["table"] in ("Table 1", "Table 2", "Main table")]
    assert numbers == len(rows)


def test_small_runs_never_stand_beside_the_papers_numbers():
    for _, table in paper_tables(settings_of(STUDY), STUDY, load_published("obow")):
        assert not any(c for row in table.rows for c, n in zip(row, table.columns, strict=True) if n == "ours")
        assert not any(row[0].startswith("**OBoW, ours") for row in table.rows)


@pytest.fixture(scope="module")
def published_scale():
    """{recipe: fields of a Result of its published scale}."""
    found = {}
    for key in ("obow_vanilla/imagenet20", "obow/paper"):
        recipe = get_recipe(*key.split("/"))
        training = {name: getattr(recipe, name) for name in TRAINING}
        found[key] = {
            "task": json.loads(json.dumps(dataclasses.asdict(recipe.task))), "training": training,
            "width": recipe.width, "backbone": recipe.backbone, "dataset": recipe.dataset, "pretext": recipe.pretext,
            "name": recipe.name, "recipe": recipe_id(recipe),
        }
    return found


def of_scale(fields, probe, metric, value, **more):
    fields = {
        "seed": 0, "steps": 9, "weights": "pretrained", "endpoint": "pre_logits", "split": "test", "labels": 1.0,
        "probe_dataset": fields["dataset"], "setting": "a", **fields,
    } | more
    return Result(probe=probe, metric=metric, value=value, **fields)


def test_runs_of_the_published_scale_stand_in_their_cells(published_scale):
    fields = published_scale["obow_vanilla/imagenet20"]
    rows = [of_scale(fields, "few_shot", "few_shot_50way_1shot", 41.0), of_scale(fields, "linear", "top1", 45.0)]
    found = cells(table_of("Table 1", rows), VANILLA)
    assert (found["few-shot, n = 1 ours"], found["linear ours"]) == ("41.0 (1)", "45.0 (1)")
    shorter = [dataclasses.replace(r, training=r.training | {"epochs": 8}) for r in rows]
    assert cells(table_of("Table 1", shorter), VANILLA)["linear ours"] == ""
    paper = published_scale["obow/paper"]
    rows = [
        of_scale(paper, "linear_images", "top1", 73.0),
        of_scale(paper, "voc_svm", "map", 88.0, probe_dataset="voc"),
        of_scale(paper, "finetune", "top5", 80.0, labels=0.01, endpoint="whole network"),
    ]
    options = json.loads(json.dumps(dataclasses.asdict(OBOW_PROTOCOL["detection"])))
    for seed, value in enumerate((57.0, 58.0, 59.0)):
        own = recipe_id(dataclasses.replace(get_recipe("obow", "paper"), seed=seed))
        more = {"probe_dataset": "voc0712", "seed": seed, "recipe": own, "hyperparameters": options}
        rows += [of_scale(paper, "detection", m, value + plus, **more) for m, plus in (("ap", 0), ("ap50", 25))]
    more["hyperparameters"] = options | {"iterations": 12_000}  # another protocol
    rows.append(of_scale(paper, "detection", "ap75", 60.0, **more))
    last = table_of("Main table", rows).rows[-1]
    assert last[6:9] == ["83.0 ± 1.0", "", "58.0 ± 1.0"]
    assert last[:4] == ["**OBoW, ours**", "200", "256", "73.0"] and (last[5], last[9]) == ("88.0", "80.0")


def bench_rows(**more):
    numbers = {"supervised": (100.0, 1.0), "obow": (350.0, 3.5), "moco_v2": (160.0, 1.6), "byol": (None, None)}
    shared = {"images": 10_000, "batch": 64, "side": 64, "hardware": "2 CPU cores", "commit": "abc1234"} | more
    return [
        {"what": f"table2: {name}: time per epoch", "method": name, "metric": "time_per_epoch", "ours": ours,
         "ratio": ratio} | shared
        for name, (ours, ratio) in numbers.items()
    ]


def test_table_2_takes_the_rows_of_the_benchmark(tmp_path):
    rows = bench_rows() + [{"what": "memory", "ours": 1, "theirs": 2}]
    (tmp_path / "bench.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    bench = read_bench(str(tmp_path))
    assert len(bench) == 4 and read_bench(str(tmp_path / "none")) == [] == read_bench(None)
    table = table_of("Table 2", bench=bench)
    found = cells(table, "Time per epoch")
    assert (found["OBoW ours"], found["Supervised ours"], found["BYOL ours"]) == ("3.50", "1.00", "")
    assert "supervised takes 100 s" in " ".join(table.notes)
    two = paper_tables([], [], load_published("obow"), [*bench, *bench_rows(hardware="1x H100", side=224)])
    assert sum(title.startswith("Table 2") for title, _ in two) == 2


def test_the_page_holds_both(tmp_path):
    rows = [*STUDY, *kmeans({"kmeans": 1.0, "kmeans_replace": 20.0, "kmeans_sinkhorn": 60.0})]
    assert write_paper_report(rows, str(tmp_path), "obow") == str(tmp_path / "obow.html")
    text = (tmp_path / "obow.md").read_text()
    assert "## OBoW and MoCo v2: imagenette_subset160 (train), ResNet18 1x" in text
    for name in ("methods", "training", "vocabularies"):
        assert f"](obow/{name}.png)" in text
        assert (tmp_path / "obow" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    for family in ("obow", "obow-vocabulary"):
        assert f"`python experiments/sweep.py {family} --preset imagenette --seeds 0 1 2`" in text
    assert text.count("| **holds** |") == 5 and "42.11" in text
    assert "](visual_words/" not in text
    (tmp_path / "visual_words").mkdir()
    (tmp_path / "visual_words" / "block4.png").write_bytes((tmp_path / "obow" / "methods.png").read_bytes())
    write_paper_report([], str(tmp_path), "obow")
    assert "](visual_words/block4.png)" in (tmp_path / "obow.md").read_text()


def test_the_page_without_runs_holds_the_papers_numbers(tmp_path):
    write_paper_report([], str(tmp_path), "obow")
    text = (tmp_path / "obow.md").read_text()
    assert "**0** runs of ours" in text and "73.8" in text and "bench.py --what table2" in text


def test_sweeps_are_what_the_page_names():
    assert [v.recipe for v in sweeps()["obow"]] == ["obow_vanilla", "obow", "moco_v2_plain", "moco_v2_multicrop"]
    for variant in sweeps()["obow"]:
        assert {f"{variant.recipe}/{preset}" for preset in ("sample", "imagenette", "cifar10", "imagenet20")} <= set(
            RECIPES
        )
    labels = [v.label for v in sweeps()["obow-vocabulary"]]
    assert labels == ["", "kmeans", "kmeans_replace", "kmeans_sinkhorn"]
