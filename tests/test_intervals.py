"""Wilson's interval against SciPy's, its place in results and on the screen, and where there is none."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from revisit_ssl import get_recipe
from revisit_ssl.evaluation.evaluate import evaluate, training_results
from revisit_ssl.evaluation.rows import as_results
from revisit_ssl.evaluators import Score
from revisit_ssl.report import tables
from revisit_ssl.report.tables import print_table, result_table
from revisit_ssl.runs.intervals import measured_on, warning, wilson, within
from revisit_ssl.runs.results import read_results, write_results
from revisit_ssl.training.build import build_backbone, freeze
from revisit_ssl.training.history import History


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (1, 20), (10, 20), (20, 20), (1, 1), (304, 400), (7600, 10_000)])
def test_wilson_is_scipys(hits, n):
    low, high = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson(100 * hits / n, n), (100 * low, 100 * high), atol=1e-9)


@pytest.mark.parametrize(
    ("metric", "is_share"),
    [*((name, True) for name in ("top1", "top5", "recall1", "accuracy", "last_on_test_top1")),
     *((name, False) for name in ("nmi", "best_on_test_top1", "few_top1", "few_shot_5way_1shot", "map", "loss"))],
)
def test_what_is_a_share_of_n_images_has_one(metric, is_share):
    known = measured_on(metric, 50.0, 20)
    assert known["n"] == 20 and (known["interval"] is not None) == is_share
    assert measured_on(metric, 50.0, None) == {}


@pytest.mark.parametrize("n", [0, -3, float("nan"), float("inf"), 0.2])
def test_what_is_no_count_is_left_out(n):
    assert measured_on("top1", 50.0, n) == {} and (n == float("inf") or within((50.0,), n) == "")
    assert wilson(999.0, 20) == wilson(100.0, 20) and wilson(-5.0, 20) == wilson(0.0, 20)


SHARED = {
    "pretext": "rotation", "backbone": "tiny", "width": 1, "dataset": "digits", "seed": 0, "steps": 9,
    "weights": "pretrained", "probe_dataset": "digits", "split": "test",
}


def rows(top1, n, weights="pretrained", probe="linear"):
    score = Score(top1=top1, hyperparameters={}, seconds=1.0, endpoint="pre_logits")
    return as_results(score, probe, SHARED | {"weights": weights}, {}, n)


def test_a_run_writes_n_and_interval(tmp_path):
    recipe = get_recipe("rotation", "smoke", backbone="tiny", bench__endpoints=("pre_logits",), probes=("knn", "nmi"))
    evaluate(freeze(build_backbone(recipe)), recipe, workdir=tmp_path, quiet=True)
    found = {r.metric: r for r in read_results(tmp_path / "results.jsonl")}
    assert {r.n for r in found.values()} == {397} and found["nmi"].interval is None
    for metric in ("top1", "top5"):
        low, high = wilson(found[metric].value, 397)
        np.testing.assert_allclose(found[metric].interval, (low, high), atol=0.01)


def test_the_pretexts_own_accuracy_has_them_too():
    history = History(steps=9, score={"accuracy": 0.4625, "loss": 1.1}, looks=[], log=[], score_images=400)
    accuracy, loss = training_results(get_recipe("rotation", "smoke"), history)
    assert (accuracy.value, accuracy.n, loss.n, loss.interval) == (46.25, 400, 400, None)
    np.testing.assert_allclose(accuracy.interval, wilson(46.25, 400), atol=0.01)


def test_older_lines_are_read_and_shown_without(tmp_path, capsys):
    line = {k: v for k, v in vars(rows(50.0, 20)[0]).items() if k not in ("n", "interval")}
    (tmp_path / "results.jsonl").write_text(json.dumps(line) + "\n")
    (old,) = read_results(tmp_path / "results.jsonl")
    assert (old.n, old.interval) == (None, None)
    print_table([old])
    printed = capsys.readouterr().out
    assert "–" not in printed and "warning" not in printed and " 50.0" in printed
    write_results(tmp_path / "results.jsonl", rows(60.0, 20))
    assert [(r.value, r.n) for r in read_results(tmp_path / "results.jsonl")] == [(60.0, 20)], "the same measurement"


def test_the_screen_and_the_page(capsys):
    print_table(rows(5.0, 20) + rows(15.0, 20, "random"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "top-1 in percent on the test split, 20 images; a–b: 95 % interval (Wilson)"
    assert lines[3].split() == ["probe", "endpoint", "pretrained", "random", "gain"], "none of what was not measured"
    assert lines[4].split() == ["linear", "pre_logits", "5.0", "0.9–23.6", "15.0*", "5.2–36.0", "-10.0"]
    assert lines[5] == "* the row to beat"
    assert lines[6].startswith("warning: 20 test images: an accuracy of 50 % may be anything from 30 to 70 %")
    ((_, table),) = result_table(rows(5.0, 20) + rows(15.0, 20, "random"))
    assert table.columns == ["probe", "endpoint", "rotation", "random", "gain"]
    assert table.rows == [["linear", "pre_logits", "5.0 [0.9–23.6]", "**15.0 [5.2–36.0]**", "**-10.0**"]]


def test_intervals_go_below_where_a_line_would_be_too_wide(capsys):
    kinds = {"pretrained": 61.0, "random": 41.0, "random, BN re-estimated": 42.0}
    print_table([r for w, value in kinds.items() for r in rows(value, 10_000, w, "linear_images")])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[-4].split() == ["probe", "endpoint", "pretrained", "random", "random+BN", "gain"]
    assert lines[-3].split() == ["linear_images", "pre_logits", "61.0", "41.0", "42.0*", "+19.0"]
    assert lines[-2].split() == ["60.0–62.0", "40.0–42.0", "41.0–43.0"]


@pytest.mark.parametrize(("n", "warned"), [(None, False), (1, True), (99, True), (100, False), (10_000, False)])
def test_few_images_are_warned_of(n, warned):
    assert bool(warning(n)) == warned


def test_seeds_have_the_interval_of_their_mean():
    assert within((50.0, 60.0), 100) == "{:.1f}–{:.1f}".format(*wilson(55.0, 100))
    assert within((50.0,), None) == "" and within((), 100) == ""
    assert tables.images_of(rows(5.0, 20) + rows(5.0, 30)) is None
