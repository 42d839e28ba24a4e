"""The three scripts from the first line to the last, on the smoke preset; help texts."""

import importlib.util
import pathlib

import pytest

from revisit_ssl.command_line import main, main_evaluate
from revisit_ssl.results import read_results

EXPERIMENTS = pathlib.Path(__file__).parents[1] / "experiments"
QUICK = ["--preset", "smoke", "--backbone", "tiny", "--max-steps", "3", "--endpoints", "pre_logits"]


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "supervised"
    assert main(["supervised", *QUICK, "--probes", "linear", "lbfgs", "--workdir", str(workdir)]) == 0
    return workdir


def test_run_says_its_preset_first_and_ends_with_a_table_and_a_report(tmp_path, capsys):
    assert main(["rotation", *QUICK, "--probes", "knn", "--workdir", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("preset smoke (seconds")
    assert any(line.startswith("knn") and "pre_logits" in line for line in printed)
    assert (tmp_path / "run" / "report.html").exists()


def test_every_number_says_what_it_is_of(supervised):
    found = read_results(supervised / "results.jsonl")
    assert {(r.pretext, r.weights) for r in found} == {
        ("supervised", "pretrained"), ("random", "random"), ("random", "random, BN re-estimated"),
    }  # fmt: skip
    assert {r.metric for r in found} == {"top1", "top5"} and {r.split for r in found} == {"test"}
    assert all(r.date and r.commit and r.hardware and r.recipe for r in found)
    chosen, paper = ({r.hyperparameters["penalty"] for r in found if r.probe == p} for p in ("lbfgs", "lbfgs_paper"))
    assert paper == {100 / (16 * 10)} and not chosen & paper  # lambda = 100 / (M C), tiny has M = 16
    assert len([r for r in found if r.probe == "lbfgs_paper"]) == len([r for r in found if r.probe == "lbfgs"])


def test_evaluate_adds_to_the_run_and_report_merges_runs(supervised, capsys):
    before = len(read_results(supervised / "results.jsonl"))
    assert main_evaluate([str(supervised), "--probes", "knn", "--skip-random"]) == 0
    found = read_results(supervised / "results.jsonl")
    assert len(found) == before + 2
    assert len({r.recipe for r in found if r.weights == "pretrained"}) == 1, "one model, however it is probed"
    script = importlib.util.spec_from_file_location("report_script", EXPERIMENTS / "report.py")
    module = importlib.util.module_from_spec(script)
    script.loader.exec_module(module)
    capsys.readouterr()
    module.report(module.Report(runs=(str(supervised),)))
    assert capsys.readouterr().out.count("**supervised · tiny k=1") == 1


def test_random_is_a_pretext_like_any_other(tmp_path, capsys):
    workdir = str(tmp_path / "run")
    arguments = ["--preset", "smoke", "--backbone", "tiny", "--endpoints", "pre_logits", "--probes", "knn"]
    assert main(["random", *arguments, "--workdir", workdir]) == 0
    assert {r.steps for r in read_results(f"{workdir}/results.jsonl")} == {0}


@pytest.mark.parametrize("arguments", [["--help"], ["rotation", "--help"]])
def test_help_names_the_presets(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert "sample" in printed and "smoke" in printed and "cifar10" in printed
