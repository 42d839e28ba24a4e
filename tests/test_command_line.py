"""The three scripts from the first line to the last, on the smoke preset; help texts."""

import dataclasses
import pathlib
import subprocess
import sys
import types

import pytest

from revisit_ssl.backbones.options import BackboneOptions, ResNet18Options
from revisit_ssl.commands import evaluate, main, report, sweep, work
from revisit_ssl.commands.presets import PROMISES
from revisit_ssl.commands.run import parse_run
from revisit_ssl.errors import InputError
from revisit_ssl.evaluators import PROBES
from revisit_ssl.evaluators.knn import KNN
from revisit_ssl.papers import PRESETS, PROTOCOLS, get_recipe
from revisit_ssl.pretext import PRETEXTS
from revisit_ssl.recipe import override, to_json
from revisit_ssl.report import page
from revisit_ssl.runs.files import write_atomically
from revisit_ssl.runs.results import read_results
from revisit_ssl.training.workdir import from_json, run_state

EXPERIMENTS = pathlib.Path(__file__).parents[1] / "experiments"
QUICK = ["--preset", "smoke", "--backbone", "tiny", "--max-steps", "3", "--endpoints", "pre_logits"]


@pytest.fixture(scope="module", autouse=True)
def reports_without_pictures():
    """test_report.py draws them, and one run of test_notebooks.py."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page, "SECTIONS", {})
        yield


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "supervised"
    assert main.main(["run", "supervised", *QUICK, "--probes", "linear", "lbfgs", "--workdir", str(workdir)]) == 0
    return workdir


def test_a_run_says_its_preset_first_and_ends_with_a_table_a_report_its_own_score_and_a_marker(
    tmp_path, monkeypatch, capsys
):
    workdir, features = tmp_path / "run", tmp_path / "features"
    command = ["rotation", *QUICK, "--probes", "knn", "--workdir", str(workdir), "--features-dir", str(features)]
    recipe = parse_run(command).recipe
    assert main.main(["run", *command, "--skip-random"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("preset smoke (seconds")
    assert any(line.startswith("knn") and "pre_logits" in line for line in printed)
    assert (workdir / "report.html").exists()
    scores = {r.metric: r.value for r in read_results(workdir / "results.jsonl") if r.probe == "pretext"}
    assert set(scores) == {"loss", "accuracy"} and 0 < scores["accuracy"] <= 100
    assert list(features.glob("pre_logits-*.npy"))
    assert run_state(recipe, workdir, untrained=False) == "finished" and run_state(recipe, workdir) == "trained"

    def die(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:  # stopped while it is probed once more: not finished any longer
        patched.setattr(work, "evaluate_random", die)
        assert main.main(["run", *command, "--resume"]) == 130
    assert run_state(recipe, workdir, untrained=False) == "trained"
    assert main.main(["run", *command, "--resume"]) == 0
    assert run_state(recipe, workdir) == "finished"


def test_every_number_says_what_it_is_of(supervised):
    found = read_results(supervised / "results.jsonl")
    found = [r for r in found if r.probe != "pretext"]
    assert {(r.pretext, r.weights) for r in found} == {("supervised", "pretrained"), ("random", "random")}
    assert {r.metric for r in found} == {"top1", "top5"} and {r.split for r in found} == {"test"}
    assert all(r.date and r.commit and r.hardware and r.recipe for r in found)
    chosen, paper = ({r.hyperparameters["penalty"] for r in found if r.probe == p} for p in ("lbfgs", "lbfgs_paper"))
    assert paper == {100 / (16 * 10)} and not chosen & paper  # lambda = 100 / (M C), tiny has M = 16
    assert len([r for r in found if r.probe == "lbfgs_paper"]) == len([r for r in found if r.probe == "lbfgs"])


def test_evaluate_adds_to_the_run_and_report_merges_runs(supervised, capsys):
    before = len(read_results(supervised / "results.jsonl"))
    assert evaluate.main([str(supervised), "--probes", "knn", "--skip-random"]) == 0
    found = read_results(supervised / "results.jsonl")
    assert len(found) == before + 2
    assert len({r.recipe for r in found if r.weights == "pretrained"}) == 1, "one model, however it is probed"
    capsys.readouterr()
    assert report.main([str(supervised)]) == 0
    assert capsys.readouterr().out.count("**supervised · tiny k=1") == 1


def test_data_report_prints_and_ends(tmp_path, capsys):
    arguments = [*QUICK, "--probes", "knn", "--data-report", "--workdir", str(tmp_path / "run")]
    assert main.main(["run", "rotation", *arguments]) == 0
    assert capsys.readouterr().out.startswith("digits: 1,797 images (")
    assert not (tmp_path / "run").exists()
    assert main.main(["run", "rotation", *arguments, "--dataset", "folder:/no/such/folder"]) == 2
    assert "/no/such/folder does not exist" in capsys.readouterr().err


def test_random_is_a_pretext_like_any_other(tmp_path, capsys):
    workdir = str(tmp_path / "run")
    arguments = ["--preset", "smoke", "--backbone", "tiny", "--endpoints", "pre_logits", "--probes", "knn"]
    assert main.main(["run", "random", *arguments, "--workdir", workdir]) == 0
    assert {r.steps for r in read_results(f"{workdir}/results.jsonl")} == {0}


def test_every_preset_has_its_promise():
    assert set(PROMISES) == set(PRESETS)


def test_a_preset_is_fitted_to_the_width_and_the_network_that_other_flags_name():
    recipe = parse_run(
        ["rotation", "--backbone=vgg19_bn", "--preset", "cifar10", "--width", "2", "--epochs", "1"]
    ).recipe
    assert recipe == get_recipe("rotation", "cifar10", width=2, backbone="vgg19_bn", epochs=1.0)
    assert recipe.backbone_options == BackboneOptions(bn_momentum=0.9), "a VGG has no stem"
    assert get_recipe("rotation", "cifar10").backbone_options.stem == "small"


@pytest.mark.parametrize("prefix", ["--", "--backbone."])
def test_options_of_the_network_are_flags_under_its_own(prefix):
    flags = ("stem=cifar", "strides 1 2 2", "zero-init-residual", "no-stride-on-second")
    flags = [part for flag in flags for part in f"{prefix}{flag}".split()]
    recipe = parse_run(["rotation", "--backbone", "resnet18", "--norm", "sync", *flags]).recipe
    wanted = {"stem": "cifar", "strides": (1, 2, 2), "zero_init_residual": True, "norm": "sync", "bn_momentum": 0.9}
    assert recipe.backbone_options == ResNet18Options(**wanted)
    recipe = parse_run(["byol", f"{prefix}no-zero-init-residual"]).recipe
    assert get_recipe("byol").backbone_options.zero_init_residual and not recipe.backbone_options.zero_init_residual
    recipe = parse_run(["rotation", f"{prefix}representation_size=9", f"{prefix}stem", "None"]).recipe
    assert (recipe.backbone_options.representation_size, recipe.backbone_options.stem) == (9, None)
    for name, option in (("vgg19_bn", "stem=small"), ("resnet50_v2", "no-zero-init-residual"), ("revnet50", "sobel")):
        option_name = option.removeprefix("no-").partition("=")[0].replace("-", "_")
        with pytest.raises(InputError, match=f"{name} has no option '{option_name}'; it has norm, "):
            parse_run(["rotation", "--backbone", name, f"{prefix}{option}"])


def test_a_recipe_file_stands_for_pretext_and_preset(tmp_path):
    recipe = get_recipe("npid_cld", "smoke", seed=3, width=2)
    path = str(tmp_path / "recipe.json")
    write_atomically(path, to_json(recipe))
    assert parse_run(["--recipe", path]).recipe == recipe
    # Flags over it; width and backbone fit nothing else to themselves, but a VGG has no stem.
    changed = parse_run([f"--recipe={path}", "--width", "4", "--backbone", "vgg19_bn", "--cld.groups", "5"]).recipe
    fitted = {"backbone": "vgg19_bn", "backbone_options": BackboneOptions(bn_momentum=0.9)}
    assert changed == override(recipe, width=4, task__cld__groups=5, **fitted)


def test_help_lists_every_pretext_with_what_it_is(capsys):
    with pytest.raises(SystemExit):
        main.main(["run", "--help"])
    lines = capsys.readouterr().out.splitlines()
    for name in PRETEXTS:
        assert any(line.split()[:1] == [name] and len(line.split()) > 3 for line in lines), name


def test_help_names_only_the_presets_that_the_pretext_has(capsys):
    with pytest.raises(SystemExit):
        main.main(["run", "supervised", "--help"])
    assert "--preset {sample,small,cifar10,stages,paper,smoke}" in " ".join(capsys.readouterr().out.split())


def test_sweep_s_help(capsys):
    for arguments in (["--help"], ["revisiting", "--help"]):
        with pytest.raises(SystemExit) as left:
            sweep.main(arguments)
        assert left.value.code == 0
        printed = capsys.readouterr().out
        assert all(flag in printed for flag in ("--pretexts", "--plan", "--devices", "--dry-run"))


@pytest.mark.parametrize("arguments", [["--help"], ["rotation", "--help"]])
def test_help_names_the_presets(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main.main(["run", *arguments])
    assert left.value.code == 0
    printed = capsys.readouterr().out
    assert "sample" in printed and "smoke" in printed and "cifar10" in printed


def test_evaluate_takes_the_probes_flags_of_a_run(tmp_path, monkeypatch):
    recipe = get_recipe("rotation", "smoke", probes=("linear", "knn"), probes__knn__temperature=0.2)
    write_atomically(tmp_path / "recipe.json", to_json(recipe))
    seen = []
    monkeypatch.setattr(work, "load_backbone", lambda path: types.SimpleNamespace())
    monkeypatch.setattr(work, "probe_and_report", lambda _, recipe, options, probes: seen.append((recipe, probes)))
    flags = ["--protocol", "revisiting", "--probes", "linear", "--linear.schedule", "3", "5", "7"]
    flags += ["--probe-pooling", "avg", "--probe-dataset", "toy_scenes", "--endpoints", "block4", "--probe-balanced"]
    assert evaluate.main([str(tmp_path), *flags]) == 0
    (found, probes), linear = seen.pop(), dataclasses.replace(PROTOCOLS["revisiting"]["linear"], schedule=(3, 5, 7))
    assert probes == {"linear": linear} and found.probes == {"linear": linear, "knn": KNN(temperature=0.2)}
    bench = {"pooling": "avg", "dataset": "toy_scenes", "endpoints": ("block4",), "balanced": True}
    assert found.bench == dataclasses.replace(recipe.bench, **bench)
    # A probe that chooses nothing may be scored on val, whatever the run's others do.
    assert evaluate.main([str(tmp_path), "--probes", "knn", "--probe-split", "val"]) == 0
    assert seen.pop()[0].probes == {"knn": KNN(temperature=0.2)}
    assert evaluate.main([str(tmp_path), "--probes", "linear", "--probe-split", "val"]) == 2 and not seen
    # What is not given is the run's own; one more probe leaves its others as they are.
    for arguments, wanted in (
        ([], recipe.probes),
        (["--probes", "knn"], {"knn": KNN(temperature=0.2)}),
        (["--knn.temperature", "0.3"], recipe.probes | {"knn": KNN(temperature=0.3)}),
        (["--probes", "nmi", "knn"], {"nmi": PROBES["nmi"](), "knn": KNN(temperature=0.2)}),
    ):
        assert evaluate.main([str(tmp_path), *arguments]) == 0
        assert seen.pop() == (dataclasses.replace(recipe, probes=recipe.probes | wanted), wanted)


def test_help_shows_the_options_of_the_probes_that_are_named(capsys):
    for arguments, there, not_there in (
        (["rotation", "--probes", "knn"], "--knn.temperature", "--linear."),
        (["rotation", "--probes"], "--probe-dataset", "--knn."),
    ):
        with pytest.raises(SystemExit):
            main.main(["run", *arguments, "--help"])
        printed = capsys.readouterr().out
        assert there in printed and not_there not in printed
    parsed = parse_run(["rotation", "--probes", "knn", "linear", "--linear.learning-rates", "0.1", "0.3"]).recipe
    assert parsed == get_recipe("rotation", probes=("knn", "linear"), probes__linear__learning_rates=(0.1, 0.3))
    assert from_json(to_json(parsed), kinds=PROBES) == parsed


HELPS = [
    ("run", []), ("run", ["rotation"]), ("run", ["obow", "--preset", "paper"]), ("evaluate", []), ("report", []),
    ("sweep", []),
]


@pytest.mark.parametrize(("name", "words"), HELPS, ids=[" ".join([name, *words]) for name, words in HELPS])
def test_help_takes_no_tensorflow_and_little_time(name, words):
    # What is loaded is printed as the process ends; the script is run as a user runs it.
    code = (
        "import atexit, resource, runpy, sys\n"
        "loaded = lambda: [m for m in ('tensorflow', 'keras', 'scipy') if m in sys.modules]\n"
        "seconds = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_utime\n"
        "atexit.register(lambda: print(*loaded(), f'{seconds():.2f}', sep=' ', file=sys.stderr))\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    script = EXPERIMENTS / f"{name}.py"
    done = subprocess.run([sys.executable, "-c", code, script, *words, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and f"{name}.py" in done.stdout, done.stderr
    *loaded, seconds = done.stderr.split()
    assert loaded == []
    assert float(seconds) < 2, "0.4 s on the machine it was written on"


FORMS = [
    ([sys.executable, str(EXPERIMENTS / "run.py")], f"python {EXPERIMENTS / 'run.py'}"),
    ([sys.executable, "-m", "revisit_ssl", "run"], "python -m revisit_ssl run"),
    ([sys.executable, "-c", "from revisit_ssl.commands.main import main; main()", "run"], "revisit-ssl run"),
]


@pytest.mark.parametrize(("command", "form"), FORMS, ids=[form.split("/")[-1] for _, form in FORMS])
def test_hints_name_the_form_that_was_typed(command, form):
    helped = subprocess.run([*command, "rotation", "--help"], capture_output=True, text=True)
    assert helped.stdout.startswith(f"usage: {form} rotation [-h]")
    wrong = subprocess.run(command, capture_output=True, text=True)
    assert wrong.stderr.startswith(f"error: no pretext given; usage: {form} PRETEXT [flags]")


def test_the_first_word_is_the_command(capsys):
    assert main.main([]) == 2 and "no command given; usage: revisit-ssl {run,evaluate," in capsys.readouterr().err
    assert main.main(["rotation"]) == 2 and "unknown command 'rotation'" in capsys.readouterr().err
    assert main.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in ("run", "evaluate", "sweep", "report"):
        assert any(line.split()[:1] == [name] and len(line.split()) > 3 for line in lines)
