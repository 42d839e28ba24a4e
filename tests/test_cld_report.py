"""The CLD page: which runs are a pair, an ablation or of the paper's scale; its numbers, verdicts, figure, tables."""

import dataclasses
import statistics

import pytest

from revisit_ssl.commands.run import parse_run
from revisit_ssl.errors import InputError
from revisit_ssl.papers import RECIPES, get_recipe, sweeps
from revisit_ssl.papers.cld import figures as cld_figures
from revisit_ssl.papers.cld.ablations import A1, A2, A3, A4, NEGATIVES
from revisit_ssl.papers.cld.claims import Study, cld_claims
from revisit_ssl.papers.cld.figures import curves_of, negatives_figure
from revisit_ssl.papers.cld.methods import (
    KNN,
    MEASURES,
    RETRIEVAL,
    changes,
    control_of,
    methods_table,
    name_of,
    options_of,
    pairs_of,
    settings_of,
)
from revisit_ssl.papers.cld.paper import PAPER, reproduction
from revisit_ssl.papers.cld.tables import DETECTION, best_on_test, paper_tables
from revisit_ssl.papers.pages import elsewhere, summary, write_paper_report
from revisit_ssl.papers.published import load_published
from revisit_ssl.recipe import override
from revisit_ssl.report import pivots
from revisit_ssl.report.ablations import ablation_table
from revisit_ssl.report.claims import FAILS, HOLDS, OPEN
from revisit_ssl.report.pages import others_table
from revisit_ssl.report.settings import by_ground
from revisit_ssl.runs.identity import recipe_id, seen
from revisit_ssl.runs.results import Result
from revisit_ssl.training.workdir import run_name

CLD = {
    "weight": 0.0, "groups": 128, "iterations": 5, "temperature": 0.2, "clustering": "kmeans", "eigenvectors": 10,
    "branch": "separate", "cross": True, "stop_gradient": False, "chunks": 1, "scope": "local",
}
TASKS = {
    "npid": {"head": "linear", "temperature": 0.1, "crops": 2},
    "moco": {"head": "linear", "temperature": 0.07, "queue_size": 4096, "symmetric": False, "crops": None},
    "simclr": {"head": "mlp", "temperature": 0.5},
}
TRAINING = {"split": "train", "fraction": 0.2, "batch_size": 128, "epochs": 30, "max_steps": None}
POINTS = {  # metric by probe and endpoint, and what is added to the number that a test gives
    ("knn", "projection", "top1"): 0, ("knn", "pre_logits", "top1"): 2, ("linear", "pre_logits", "top1"): 9,
    ("nmi", "projection", "nmi"): -20, ("retrieval", "projection", "recall1"): -5,
}


def lines(value, pretext="npid", *, seed=0, weight=0.0, cld=None, task=None, training=None, untrained=None, **more):
    """[Result] of one run: kNN on its projection is ``value``, the other numbers follow POINTS."""
    options = TASKS[pretext] | (task or {})
    if pretext != "simclr":
        options = options | {"cld": CLD | {"weight": weight} | (cld or {})}
    fields = {
        "backbone": "resnet18", "width": 1, "dataset": "cifar10", "probe_dataset": "cifar10", "seed": seed,
        "steps": 100, "split": "test", "task": options, "training": TRAINING | (training or {}), "commit": "abc1234",
        "date": "2026-11-21T00:00:00Z", "hardware": "2 CPU cores",
    } | more
    setting = str(hash(str(sorted((k, str(v)) for k, v in fields.items() if k != "seed")) + pretext))
    fields |= {"setting": setting, "recipe": f"{setting}-{seed}"}
    rows = []
    for (probe, endpoint, metric), plus in POINTS.items():
        place = {"probe": probe, "endpoint": endpoint, "metric": metric}
        rows.append(Result(pretext=pretext, weights="pretrained", value=value + plus, **place, **fields))
        if untrained is not None:
            for weights, worse in (("random", 0), ("random, BN re-estimated", 1)):
                rows.append(
                    Result(**fields | place | {"steps": 0}, pretext="random", weights=weights, value=untrained - worse)
                )
    return rows


def seeds(values, *args, **more):
    return [r for seed, value in enumerate(values) for r in lines(value, *args, seed=seed, **more)]


# Deviation 0.5 in both: two deviations of a difference of two runs are 2 * sqrt(2) * 0.5 = 1.41 points.
NPID = seeds((40, 40.5, 41), untrained=30) + seeds((43, 43.5, 44), weight=1.0, untrained=30)


def cells(table, first, second=None):
    """{column: cell} of the only row with these first cells."""
    (row,) = [r for r in table.rows if r[0] == first and second in (None, r[1])]
    return dict(zip(table.names, row, strict=True))


# --- which runs belong together


def test_seeds_of_a_setting_are_one_and_options_tell_settings_apart():
    found = settings_of([*NPID, *lines(45, weight=1.0, cld={"groups": 10})])
    assert [(name_of(s), s.seeds) for s in found] == [("NPID", 3), ("NPID + CLD", 3), ("NPID + CLD", 1)]
    assert found[1].scores[KNN] == {0: 43, 1: 43.5, 2: 44}
    assert found[0].untrained[KNN] == {0: 30, 1: 30, 2: 30}  # the better of the two, by the mean
    assert options_of(found[1]) == "λ 1, 128 groups (k-means), T 0.1 and 0.2, Linear, 2 crops"
    assert name_of(settings_of(lines(50, "moco", name="moco_v2"))[0]) == "MoCo v2"


def test_lines_of_other_pretexts_and_without_options_are_left_out():
    old = [dataclasses.replace(r, task={}) for r in NPID]
    other = [dataclasses.replace(r, pretext="rotation") for r in NPID]
    assert settings_of(old) == [] and settings_of(other) == []


def test_best_on_test_has_a_place_of_its_own():
    row = dataclasses.replace(NPID[0], probe="knn_monitor", metric="best_on_test_top1", value=99.0)
    (setting, _) = settings_of([*NPID, row])
    assert best_on_test(setting) == {0: 99.0}
    assert setting.scores[KNN][0] == 40  # never instead of the last epoch's


def test_the_pair_that_differs_in_the_term_alone_is_taken():
    longer = seeds((60, 60, 60, 60), training={"epochs": 300}, steps=1000)
    settings = settings_of([*NPID, *longer])
    (pair,) = pairs_of(settings)
    assert pair.without.score(KNN) == 40.5 and pair.with_.score(KNN) == 43.5 and pair.others == 1
    (alone,) = pairs_of(settings_of([*longer, *seeds((43,), weight=1.0)]))
    assert set(changes(alone.without, alone.with_)) == {"epochs"}
    assert "NPID with and without CLD differ in more than the term:** epochs 300 and 30" in " ".join(
        methods_table(settings_of([*longer, *seeds((43,), weight=1.0)])).notes
    )


def test_mocos_third_crop_with_cld_is_told_unless_the_control_has_it_too():
    with_ = lines(44, "moco", weight=1.0)
    for crops, expected in ((None, {"crops": (2, 3)}), (3, {})):
        settings = settings_of([*lines(40, "moco", task={"crops": crops}), *with_])
        assert {k: (v[0] or 2, v[1]) for k, v in changes(*settings).items()} == expected


def test_gain_is_paired_by_seed_and_bold_from_two_deviations_on():
    table = methods_table(settings_of(NPID))
    assert cells(table, "NPID", "untrained")["kNN, projection"] == "30.0 ± 0.0 (3)"
    assert cells(table, "NPID", "without CLD")["kNN, projection"] == "**40.5 ± 0.5 (3)**"
    assert cells(table, "NPID", "with CLD")["linear, pre_logits"] == "**52.5 ± 0.5 (3)**"
    assert cells(table, "NPID", "gain of CLD")["kNN, projection"] == "**+3.0 ± 0.0 (3)**"
    mixed = seeds((40, 41, 42)) + seeds((41, 41, 41.5), weight=1.0)
    expected = f"{statistics.fmean((1, 0, -0.5)):+.1f} ± {statistics.stdev((1, 0, -0.5)):.1f} (3)"
    assert cells(methods_table(settings_of(mixed)), "NPID", "gain of CLD")["kNN, projection"] == expected


def test_data_networks_and_shares_never_share_a_table():
    changed = [{"width": 4}, {"dataset": "cifar100"}, {"labels": 0.1}, {"training": {"fraction": 0.5}}]
    settings = settings_of([*NPID, *(r for c in changed for r in lines(50, **c))])
    assert len(by_ground(settings)) == 5
    assert "CIFAR-10 (20 % of train), ResNet18 1x" in {g.text for g in by_ground(settings)}


# --- ablations


def clusterings(best):
    return [
        r for method in ("kmeans", "spectral") for k in (10, 64)
        for r in lines(best.get((method, k), 40), weight=1.0, cld={"clustering": method, "groups": k})
    ]


def test_an_ablation_is_what_differs_in_its_options_alone():
    rows = [
        *clusterings({}),
        *lines(99, weight=0.5, cld={"groups": 32}),
        *lines(70, weight=1.0, training={"epochs": 9}),
    ]
    (ablation,) = A1.find(settings_of(rows))
    assert set(ablation.settings) == {("kmeans", 10), ("kmeans", 64), ("spectral", 10), ("spectral", 64)}
    table = ablation_table(A1, ablation, MEASURES, "")
    assert [r[:2] for r in table.rows] == [
        ["spectral", "10"], ["spectral", "64"], ["k-means", "10"], ["k-means", "64"]
    ]


def branch_rows(none=40, shared=42, separate=45, cross=48):
    rows = lines(none) + lines(shared, weight=1.0, cld={"branch": "shared", "cross": False})
    return rows + lines(separate, weight=1.0, cld={"cross": False}) + lines(cross, weight=1.0)


def test_weight_0_is_the_control_of_an_ablation_whatever_its_other_cld_options():
    settings = settings_of(branch_rows())
    (ablation,) = A2.find(settings, control_of(settings))
    assert ablation.control.score(KNN) == 40
    table = ablation_table(A2, ablation, MEASURES, "")
    assert [r[:2] for r in table.rows] == [["none", ""], ["shared", "no"], ["separate", "no"], ["separate", "yes"]]
    assert [r[2] for r in table.rows] == ["40.0 (1)", "42.0 (1)", "45.0 (1)", "**48.0 (1)**"]


def test_weights_start_at_0_and_temperatures_are_equal_ones():
    rows = lines(40) + lines(44, weight=0.25) + lines(41, weight=3.0)
    settings = settings_of(rows)
    (ablation,) = A3.find(settings, control_of(settings))
    assert [r[0] for r in ablation_table(A3, ablation, MEASURES, "").rows] == ["0", "0.25", "3"]
    rows = [
        r
        for t in (0.1, 0.2, 0.5)
        for r in lines(40, "moco", weight=1.0, task={"temperature": t}, cld={"temperature": t})
    ]
    (ablation,) = A4.find(settings_of([*rows, *lines(50, "moco", weight=1.0)]))
    assert set(ablation.settings) == {(t, t) for t in (0.1, 0.2, 0.5)}


def queues(numbers, **more):
    """MoCo without CLD: {size: (kNN, NMI, retrieval)}."""
    values = {("knn", "top1"): 0, ("nmi", "nmi"): 1, ("retrieval", "recall1"): 2}
    return [
        dataclasses.replace(r, value=float(numbers[size][values[r.probe, r.metric]]))
        for size in numbers for r in lines(0, "moco", task={"queue_size": size}, **more)
        if (r.probe, r.metric) in values and r.endpoint == "projection"
    ]


SHAPE = {256: (40, 30, 20), 1024: (45, 29, 24), 4096: (44, 28, 27), 16384: (41, 20, 29)}


def test_negatives_are_of_moco_without_cld():
    settings = settings_of([*queues(SHAPE), *lines(50, "moco", weight=1.0)])
    (ablation,) = NEGATIVES.find(settings)
    assert list(ablation.settings) == [(k,) for k in SHAPE]
    assert NEGATIVES.find(settings_of(queues({256: (1, 1, 1), 512: (1, 1, 1)}))) == []


# --- claims


def verdict(number, rows):
    (settings,) = by_ground(settings_of(rows)).values()
    return cld_claims(settings)[number - 1].verdict


def test_there_are_six_and_alone_a_run_decides_none():
    found = cld_claims(settings_of(lines(40)))
    assert [c.number for c in found] == list(range(1, 7)) and {c.verdict for c in found} == {OPEN}


def test_noise_is_two_deviations_of_a_difference_of_runs():
    assert Study(settings_of(NPID)).noise(KNN) == pytest.approx(2 * 2**0.5 * 0.5)
    assert Study(settings_of(lines(40))).noise(KNN) == 2.0


@pytest.mark.parametrize(("gain", "expected"), [(3, HOLDS), (1, OPEN), (-3, FAILS)])
def test_cld_improves(gain, expected):
    one = seeds((40, 40.5, 41)) + seeds((40 + gain, 40.5 + gain, 41 + gain), weight=1.0)
    # One method does not tell of every method, unless it speaks against it.
    assert verdict(1, one) == (expected if expected == FAILS else OPEN)
    other = seeds((50, 50, 50), "moco", task={"crops": 3}) + seeds((50 + gain,) * 3, "moco", weight=1.0)
    assert verdict(1, [*one, *other]) == expected


@pytest.mark.parametrize(
    ("rows", "expected"), [({}, HOLDS), ({"cross": 45.5}, OPEN), ({"separate": 39, "cross": 36}, FAILS)]
)
def test_branch_and_cross_augmentation(rows, expected):
    assert verdict(2, branch_rows(**rows)) == expected


@pytest.mark.parametrize(("middle", "expected"), [(45, HOLDS), (41, OPEN), (37, FAILS)])
def test_weight_inside(middle, expected):
    assert verdict(3, lines(40) + lines(middle, weight=0.25) + lines(40, weight=3.0)) == expected


def test_groups_are_judged_where_images_are_alike_only():
    best = {("kmeans", 10): 45, ("spectral", 10): 44}
    alike = [dataclasses.replace(r, dataset="kitchen_hc", probe_dataset="kitchen_hc") for r in clusterings(best)]
    assert verdict(4, alike) == HOLDS
    assert verdict(4, clusterings(best)) == OPEN
    worse = {("kmeans", 10): 35, ("spectral", 10): 34}
    assert (
        verdict(
            4, [dataclasses.replace(r, dataset="kitchen_hc", probe_dataset="kitchen_hc") for r in clusterings(worse)]
        )
        == FAILS
    )


@pytest.mark.parametrize(("plain", "expected"), [(44, HOLDS), (40.5, OPEN), (36, FAILS)])
def test_kmeans_against_spectral(plain, expected):
    assert verdict(5, clusterings({("kmeans", 10): plain, ("kmeans", 64): plain})) == expected


def test_shape_of_the_figure():
    assert verdict(6, queues(SHAPE)) == HOLDS
    flat = {k: (40, 30, 20) for k in SHAPE}
    assert verdict(6, queues(flat)) == OPEN
    assert (
        verdict(
            6,
            queues({k: (a, 40 - b, 60 - c) for k, (a, b, c) in SHAPE.items()} | {1024: (30, 5, 24), 4096: (30, 5, 20)}),
        )
        == FAILS
    )
    assert verdict(6, [r for r in queues(SHAPE) if r.probe != "nmi"]) == OPEN


# --- the figure


def test_curves_are_the_seeds_means_over_the_queue(monkeypatch):
    rows = queues(SHAPE) + queues({k: (a + 1, b, c) for k, (a, b, c) in SHAPE.items()}, seed=1)
    drawn = []
    monkeypatch.setattr(cld_figures, "png", lambda figure: drawn.append(figure) or b"png")
    picture = negatives_figure(settings_of(rows))
    assert picture.path == "cld/negatives.png"
    axes = drawn[0].axes
    assert [a.get_title(loc="left") for a in axes] == ["NMI, projection", "R@1, projection", "kNN, projection"]
    assert {a.get_xscale() for a in axes} == {"log"}
    curve = axes[2].lines[0]
    assert list(curve.get_xdata()) == list(SHAPE) and list(curve.get_ydata()) == [40.5, 45.5, 44.5, 41.5]
    ring = axes[1].lines[-1]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (16384, 29)
    (ablation,) = NEGATIVES.find(settings_of(rows))
    assert curves_of(ablation)[1][0] == RETRIEVAL


def test_without_runs_there_is_no_figure():
    with pytest.raises(InputError, match="sweep cld-figure-a2"):
        negatives_figure(settings_of(NPID))


# --- the paper's tables and the page


@pytest.fixture(scope="module")
def published_scale():
    """What npid_cld/cifar10 would write: its network, data, options and length."""
    key = "npid_cld/cifar10"
    if key not in RECIPES:
        pytest.skip("the recipe is not there")
    recipe = get_recipe(*key.split("/"))
    task = dataclasses.asdict(recipe.task)
    training = {name: getattr(recipe, name) for name in ("split", "fraction", "batch_size", "epochs", "max_steps")}
    return task, {"training": training, "backbone": recipe.backbone, "width": recipe.width}


def of_scale(published_scale, value, *, cld=None, training=None, recipe=None, **more):
    """[Result] as that recipe's run writes them; ``recipe``: changes of it that no field of a line tells."""
    task, shared = published_scale
    plain = {name: v for name, v in task.items() if name != "cld"}
    shared = shared | {"training": shared["training"] | (training or {})}
    rows = lines(value, task=plain, weight=task["cld"]["weight"], cld=task["cld"] | (cld or {}), **shared, **more)
    made = get_recipe("npid_cld", "cifar10", **{f"task__cld__{name}": v for name, v in (cld or {}).items()})
    made = override(made, **(training or {}), **(recipe or {}))
    return [dataclasses.replace(r, recipe=recipe_id(made), bench=seen(made.bench)) for r in rows]


def table_of(rows, start):
    (table,) = [t for title, t in paper_tables(settings_of(rows), load_published("cld")) if title.startswith(start)]
    return table


def test_without_runs_every_printed_number_stands_in_its_cell():
    found = dict(paper_tables([], load_published("cld")))
    cifar = table_of([], "CIFAR")
    assert cells(cifar, "NPID + CLD")["CIFAR-10 paper"] == "86.7"
    assert cells(cifar, "NPID + CLD")["CIFAR-10 reproduced"] == "86.8"
    assert cells(cifar, "MoCo + CLD", "NormLinear")["CIFAR-100 reproduced"] == "59.7"
    a1 = table_of([], "Table A.1")
    assert len(a1.rows) == 8 and cells(a1, "k-means", "10")["Kitchen-HC, kNN paper"] == "78.9"
    a2 = table_of([], "Table A.2")
    assert [r[2] for r in a2.rows] == ["80.8", "82.7", "84.2", "86.5"]
    a3 = table_of([], "Table A.3")
    assert cells(a3, "0.25") == {
        "λ": "0.25", "NPID + CLD, top-1 paper": "79.7", "NPID + CLD, top-1 ours": "",
        "NPID + CLD, top-5 paper": "95.1", "NPID + CLD, top-5 ours": "", "MoCo + CLD, top-1 paper": "81.7",
        "MoCo + CLD, top-1 ours": "", "MoCo + CLD, top-5 paper": "95.7", "MoCo + CLD, top-5 ours": "",
    }
    assert [r[0] for r in a3.rows] == ["0", "0.1", "0.25", "0.5", "1", "3"]
    assert cells(table_of([], "Table A.4"), "0.2")["ImageNet-100, linear paper"] == "81.7"
    numbers = sum(bool(c) for t in found.values() for row in t.rows for c, n in zip(row, t.columns, strict=True)
                  if n in ("paper", "reproduced"))
    printed = [r for r in load_published("cld") if r["paper"] == "cld" or (r["paper"], r["table"]) == DETECTION]
    assert numbers == len(printed) == 73 + 9


def test_small_runs_never_stand_beside_the_papers_numbers():
    for _, table in paper_tables(settings_of([*NPID, *branch_rows(), *clusterings({})]), load_published("cld")):
        for row in table.rows:
            assert not any(c for c, name in zip(row, table.columns, strict=True) if name.startswith("ours"))


def test_a_run_of_the_published_scale_stands_in_its_cells(published_scale):
    rows = of_scale(published_scale, 86.0) + of_scale(published_scale, 84.0, cld={"cross": False})
    rows += of_scale(published_scale, 82.0, cld={"weight": 0.0})
    best = dataclasses.replace(rows[0], probe="knn_monitor", metric="best_on_test_top1", value=86.2)
    cifar = table_of([*rows, best], "CIFAR")
    assert cells(cifar, "NPID + CLD")["CIFAR-10 ours"] == "86.0 (1)"
    assert cells(cifar, "NPID + CLD")["CIFAR-10 ours, best on test"] == "86.2 (1)"
    assert cells(cifar, "NPID + CLD")["CIFAR-100 ours"] == ""
    assert cells(cifar, "NPID + CLD, λ 0")["CIFAR-10 ours"] == "82.0 (1)"
    assert cells(cifar, "NPID + CLD, λ 0")["CIFAR-10 paper"] == ""
    a2 = table_of(rows, "Table A.2")
    assert cells(a2, "separate", "yes")["CIFAR-10, kNN ours"] == "86.0 (1)"
    assert cells(a2, "separate", "no")["CIFAR-10, kNN ours"] == "84.0 (1)"
    assert cells(a2, "same script, λ 0")["CIFAR-10, kNN ours"] == "82.0 (1)"
    shown = [row[1] for row in reproduction(settings_of(rows)).rows]
    assert shown == ["86.0 (1)", "82.0 (1)", "not run", "not run", "not run"]


def test_the_commands_of_the_reproduction_are_those_of_its_recipes(published_scale):
    table = reproduction(settings_of(NPID))
    assert [row[1] for row in table.rows] == ["not run"] * 5
    task, _ = published_scale
    found = []
    for _, _, text in table.rows:
        start, script, *arguments = text.strip("`").split()
        assert (start, script) == ("python", "experiments/run.py")
        found.append(parse_run(arguments))
    assert [run.recipe.pretext for run in found] == ["npid", "npid", "npid", "moco", "moco"]
    assert [run.recipe.task.cld.weight for run in found] == [1.0, 0.0, 0.0, 0.0, 0.8]
    assert [dataclasses.asdict(run.recipe.task) for run in found[:2]] == [
        task, task | {"cld": task["cld"] | {"weight": 0.0}}
    ]
    folders = {run.workdir or run_name(run.recipe, run.name) for run in found}
    assert len(folders) == 5 and all(run.resume and run.monitor == "knn_test:1" for run in found)


def test_methods_are_counted_once():
    rows = [*NPID, *lines(42, "simclr"), *lines(41, "moco"), *lines(43, "moco", weight=0.25)]
    text = summary(PAPER, [dataclasses.replace(r, name="") for r in rows], [])[0].markdown()
    assert "**3** methods" in text


@pytest.mark.parametrize(
    "change",
    [{"training": {"epochs": 100}}, {"training": {"max_steps": 3}}, {"training": {"fraction": 0.5}}, {"width": 1},
     {"cld": {"groups": 17}}, {"training": {"batch_size": 64}}, {"dataset": "stl10"}],
)
def test_whatever_is_not_as_published_keeps_a_run_out(published_scale, change):
    task, shared = published_scale
    if "width" in change:
        published_scale = task, shared | {"width": change["width"]}
        change = {}
    assert not any(cells(table_of(of_scale(published_scale, 86.0, **change), "CIFAR"), "NPID + CLD")[c]
                   for c in ("CIFAR-10 ours", "CIFAR-100 ours"))


def test_the_page_holds_both(tmp_path):
    rows = [*NPID, *branch_rows(), *clusterings({}), *queues(SHAPE), *lines(42, "simclr", untrained=30)]
    assert write_paper_report(rows, str(tmp_path), "cld") == str(tmp_path / "cld.html")
    text = (tmp_path / "cld.md").read_text()
    assert "## With and without CLD: CIFAR-10 (20 % of train), ResNet18 1x" in text
    assert "**As in Table A.2, group branch and cross-augmentation: NPID" in text
    assert "![Number of negatives against NMI, retrieval and kNN" in text
    assert (tmp_path / "cld" / "negatives.png").read_bytes().startswith(b"\x89PNG")
    for family in (name for name in sweeps() if name.startswith("cld")):
        assert f"`python experiments/sweep.py {family} --preset small`" in text
    assert text.count("| not run |") == 5
    assert "86.8" in text and "lemniscate" not in text.split("## The paper's tables")[0]
    assert "Figure A.3" not in text
    png = (tmp_path / "cld" / "negatives.png").read_bytes()
    (tmp_path / "cld" / "retrieval.png").write_bytes(png)
    write_paper_report(rows, str(tmp_path), "cld")
    assert "](cld/retrieval.png)" in (tmp_path / "cld.md").read_text()
    assert (tmp_path / "cld" / "retrieval.png").read_bytes() == png
    empty = tmp_path / "empty"
    write_paper_report([], str(empty), "cld")
    assert (
        "Not drawn: no MoCo" in (empty / "cld.md").read_text()
        and "**0** runs of ours" in (empty / "cld.md").read_text()
    )


def test_other_authors_sets_have_their_names():
    sets = {row[3].partition(",")[0] for row in others_table(elsewhere(PAPER), PAPER.method).rows}
    assert {"Places205", "ImageNet-100"} <= sets and not sets & {"places205", "imagenet2012"}


def test_options_of_a_printed_number_are_read():
    row = {"setting": "cld.groups=10 cld.cross=no cld.weight=0.25 head=linear"}
    assert pivots.options_of(row) == {"cld.groups": 10, "cld.cross": False, "cld.weight": 0.25, "head": "linear"}
