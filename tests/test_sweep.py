"""Sweeps: the grid, the plan, the state of a run's folder, restart, locks, signals and failures.

A stand-in for run.py does what a test says it should, in tens of milliseconds; one test runs the real one.
"""

import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import numpy as np
import pytest

from revisit_ssl import get_recipe
from revisit_ssl.backbones.options import BackboneOptions
from revisit_ssl.commands import sweep as command
from revisit_ssl.commands.flags import read_flags
from revisit_ssl.commands.run import parse_run
from revisit_ssl.data import open_source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.evaluate import evaluate_random
from revisit_ssl.recipe import to_json
from revisit_ssl.runs.results import Result, read_results, write_results
from revisit_ssl.sweeps import jobs, planning, sweep, timing
from revisit_ssl.training import workdir as runs
from revisit_ssl.training.build import build_pretext, compile_pretext, plan_steps
from revisit_ssl.training.checkpoints import save_checkpoint
from revisit_ssl.training.pretrain import export_backbone

QUICK = ["--max-steps", "3", "--endpoints", "pre_logits", "--probes", "knn"]
TINY = ["--backbones", "tiny", "--preset", "smoke", "--no-timing", *QUICK]

# Acts out, attempt after attempt, the lines of plays/RUN; where that has nothing more, it finishes. One file to a run,
# for runs that are under way together must not write to one another's.
STAND_IN = """
import json, os, pathlib, signal, sys, time
workdir = pathlib.Path(sys.argv[sys.argv.index("--workdir") + 1])
root = pathlib.Path(__file__).parent
acts_of_run = root / "plays" / workdir.name
acts = json.loads(acts_of_run.read_text()) if acts_of_run.exists() else []
play = acts.pop(0) if acts else "finish"
if acts_of_run.exists():
    acts_of_run.write_text(json.dumps(acts))


def note(what):
    with open(root / "calls", "a") as calls:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        print(json.dumps([workdir.name, what, visible, time.time(), sys.argv[1:]]), file=calls)

note(play)
recipe = pathlib.Path(sys.argv[sys.argv.index("--recipe") + 1]).read_text()

def save():
    (workdir / "checkpoints").mkdir(exist_ok=True)
    (workdir / "checkpoints" / "step-000000002.npz").write_bytes(b"")

def stop(number, frame):
    save()
    print("saved")
    sys.exit(0)

if play.startswith("say "):
    print(play[4:])
    sys.exit(2)
if play == "killed after a checkpoint":
    save()
    os.kill(os.getpid(), signal.SIGKILL)
if play == "save and wait":
    signal.signal(signal.SIGTERM, stop)
    (root / "waiting").touch()
    time.sleep(60)
if play == "meet another":
    until = time.time() + 30
    while len((root / "calls").read_text().splitlines()) < 2 and time.time() < until:
        time.sleep(0.02)
if play == "wait for go":
    (root / "waiting").touch()
    while not (root / "go").exists():
        time.sleep(0.02)
save()
(workdir / "backbone.keras").write_bytes(b"")
rows = json.loads((root / "rows").read_text())
row = dict(rows, seed=json.loads(recipe)["seed"], pretext=json.loads(recipe)["pretext"])
lines = [json.dumps(dict(row, weights=w)) for w in ("pretrained", "random")]
(workdir / "results.jsonl").write_text("\\n".join(lines) + "\\n")
(workdir / "finished.json").write_text('{"untrained": true}')
time.sleep(0.1)
note("end")
"""

ROW = Result(
    pretext="rotation", backbone="tiny", width=1, dataset="digits", seed=0, steps=3, weights="pretrained",
    endpoint="pre_logits", probe="knn", probe_dataset="digits", split="test", metric="top1", value=50.0,
)


@pytest.fixture(autouse=True)
def look_often(monkeypatch):
    monkeypatch.setattr(jobs, "POLL", 0.02)


class Stage:
    """A folder with the stand-in, and what each run of a grid is to do."""

    def __init__(self, root, arguments):
        self.root = root
        self.arguments = ["revisiting", *arguments, "--workdir", str(root / "sweep")]
        self.script = root / "stand_in.py"
        self.script.write_text(STAND_IN)
        (root / "rows").write_text(json.dumps(dataclasses.asdict(ROW)))
        self.play({})
        self.names = [run.name for run in grid_of(*arguments, workdir=root / "sweep")]

    def play(self, plays):
        (self.root / "plays").mkdir(exist_ok=True)
        for run, acts in plays.items():
            (self.root / "plays" / run).write_text(json.dumps(acts))

    def sweep(self, *more):
        return command.main([*self.arguments, *more], runner=[sys.executable, str(self.script)])

    def calls(self, *, ends=False):
        """[(run, what it did, CUDA_VISIBLE_DEVICES, when, arguments)] of all runs that were started (or ended)."""
        path = self.root / "calls"
        found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call for call in found if (call[1] == "end") == ends]

    def results(self):
        return read_results(self.root / "sweep" / "results.jsonl")


def grid_of(*arguments, workdir="nowhere"):
    options, overrides = read_flags(command.Sweep, list(arguments), return_unknown_args=True)
    return sweep.grid(options, overrides, str(workdir), parse_run)


def family_grid(family, *arguments):
    options, overrides = read_flags(command.Sweep, list(arguments), return_unknown_args=True)
    return sweep.grid(dataclasses.replace(options, family=family), overrides, "nowhere", parse_run)


def when(path, act):
    """Calls ``act`` once the file is there, in a thread."""

    def wait():
        until = time.monotonic() + 30
        while not path.exists() and time.monotonic() < until:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


# What another process is told, so that it knows the tiny network too.
KNOWN = """
from revisit_ssl.backbones import BACKBONES
from revisit_ssl.testing import tiny_backbone
BACKBONES["tiny"] = tiny_backbone
"""


def with_tiny(folder):
    """A PYTHONPATH by which every process that is started knows it, whatever its command."""
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(KNOWN)
    return os.pathsep.join([str(folder / "site"), *filter(None, [os.environ.get("PYTHONPATH")])])


# The grid.


def test_grid_is_every_combination_one_seed_after_the_other():
    found = grid_of(
        "--pretexts", "rotation", "exemplar", "--backbones", "resnet18", "vgg19_bn", "--widths", "1", "2", "--seeds",
        "0", "3", "--preset", "cifar10", "--epochs", "2", "--probes", "linear", "knn",
    )
    wanted = [
        f"{pretext}-{backbone}-k{width}-cifar10-s{seed}"
        for seed in (0, 3) for pretext in ("rotation", "exemplar") for backbone in ("resnet18", "vgg19_bn")
        for width in (1, 2)
    ]
    assert [run.name for run in found] == wanted
    by_name = {run.name: run.recipe for run in found}
    # The preset fits itself to the network: a VGG takes no stem.
    assert by_name[wanted[0]].backbone_options.stem == "small"
    assert by_name["rotation-vgg19_bn-k1-cifar10-s0"].backbone_options == BackboneOptions(bn_momentum=0.9)
    assert {r.epochs for r in by_name.values()} == {2.0}
    assert {tuple(r.probes) for r in by_name.values()} == {("linear", "knn")}


def test_a_run_reads_the_planned_recipe_from_a_file(tmp_path):
    where = ["--data-dir", "here", "--skip-random", "--save-every", "7"]
    grid = ["--pretexts", "exemplar", "random", "--seeds", "4", "--widths", "2", "--optimizer.lr", "0.03"]
    for run in grid_of(*grid, *where, workdir=tmp_path):
        os.makedirs(run.workdir)
        (pathlib.Path(run.workdir) / "recipe.json").write_text(to_json(run.recipe))
        options = parse_run(run.arguments)
        assert options.recipe == run.recipe and options.recipe.seed == 4 and options.recipe.optimizer.lr == 0.03
        assert options.resume and options.workdir == f"{tmp_path}/{run.name}"
        assert options.features_dir == f"{tmp_path}/features"
        assert (options.data_dir, options.skip_random, options.save_every, options.xla) == ("here", True, 7, "auto")


def test_without_names_a_family_is_all_of_its_pretexts_with_the_preset_s_network():
    found = grid_of("--preset", "smoke")
    assert [run.recipe.pretext for run in found] == ["rotation", "exemplar", "jigsaw", "relative_patch"]
    assert {(run.recipe.backbone, run.recipe.width) for run in found} == {("resnet18", 1)}


def test_a_papers_table_is_a_sweep_of_one_recipe_with_its_options():
    found = {run.name: run.recipe.task for run in family_grid("cld-a2", "--preset", "smoke", "--seeds", "1")}
    values = {
        name.split("-")[1]: (task.cld.weight > 0, task.cld.branch, task.cld.cross, task.views)
        for name, task in found.items()
    }
    assert values == {
        "weight0": (False, "separate", True, 2), "shared": (True, "shared", False, 2),
        "separate": (True, "separate", False, 2), "separate_cross": (True, "separate", True, 2),
    }
    assert all(name.startswith("npid_cld-") and name.endswith("-resnet18-k1-digits-s1") for name in found)
    tasks = [run.recipe.task for run in family_grid("cld-a1", "--preset", "smoke")]
    assert {(t.cld.clustering, t.cld.groups) for t in tasks} == {
        (method, k) for method in ("kmeans", "spectral") for k in (10, 64, 128, 256)
    }
    runs = family_grid("cld-a3", "--preset", "smoke")
    for pretext, views in (("npid", 2), ("moco", 3)):
        mine = [run.recipe.task for run in runs if run.recipe.pretext == pretext]
        assert [t.cld.weight for t in mine] == [0, 0.1, 0.25, 0.5, 1, 3] and {t.views for t in mine} == {views}
    tasks = [run.recipe.task for run in family_grid("cld-a4", "--preset", "smoke")]
    assert [(t.temperature, t.cld.temperature) for t in tasks] == [(t, t) for t in (0.07, 0.1, 0.2, 0.3, 0.4, 0.5)]
    tasks = [run.recipe.task for run in family_grid("cld-figure-a2", "--preset", "smoke")]
    assert [t.queue_size for t in tasks] == [256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 49152]
    assert {t.cld.weight for t in tasks} == {0}


def test_each_method_of_the_cld_paper_is_run_with_and_without_its_term():
    names = ("npid", "npid_cld", "moco", "moco_cld", "moco_v2", "moco_v2_cld", "simclr")
    found = family_grid("cld", "--preset", "smoke", "--pretexts", *names)
    assert [run.name for run in found] == [f"{name}-resnet18-k1-digits-s0" for name in names]
    assert [run.recipe.pretext for run in found] == ["npid"] * 2 + ["moco"] * 4 + ["simclr"]


@pytest.mark.parametrize(
    ("family", "flags", "complaint"),
    [
        ("cld-a2", ["--cld.cross"], "--cld.cross is what cld-a2 varies; choose values with --only"),
        ("cld-a2", ["--cld.no_cross"], "--cld.cross is what cld-a2 varies"),
        ("cld-a1", ["--cld.groups=7"], "--cld.groups is what cld-a1 varies"),
        ("cld-a1", ["--only", "kmeans_k11"], "family cld-a1 has no variant 'kmeans_k11'; one of kmeans_k10, "),
        ("revisiting", ["--only", "kmeans_k10"], "family revisiting has no variant 'kmeans_k10'; it has none"),
        ("cld-a4", ["--pretexts", "npid_cld"], "family cld-a4 has no pretext 'npid_cld'; one of moco_cld, supervised"),
    ],
)
def test_what_a_tables_sweep_decides_cannot_be_set(family, flags, complaint):
    with pytest.raises(InputError, match=complaint):
        family_grid(family, "--preset", "smoke", *flags)


def test_some_of_a_table_can_be_chosen():
    found = family_grid("cld-a3", "--preset", "smoke", "--pretexts", "npid_cld", "--only", "weight0", "weight1")
    assert [run.recipe.task.cld.weight for run in found] == [0, 1]


# The plan.


def test_plan_counts_steps_bytes_and_features_as_a_run_makes_them(tmp_path):
    probed = ("--endpoints", "block4", "pre_logits", "--probe-values", "64", "--untrained", "both")
    run = grid_of("--pretexts", "rotation", *TINY, *probed)[0]
    facts = planning.facts_of(run)
    recipe = run.recipe
    source = open_source("digits", "train")
    model = build_pretext(recipe, source)
    compile_pretext(model, recipe, plan_steps(recipe, source))
    written = os.path.getsize(save_checkpoint(tmp_path, model, 1))
    assert 0 <= written - facts.state_bytes < 400 * len(model.weights + model.optimizer.variables)  # zip headers
    export_backbone(model.backbone, str(tmp_path / "backbone.keras"))
    assert facts.weight_bytes <= os.path.getsize(tmp_path / "backbone.keras")
    evaluate_random(recipe, features_dir=tmp_path / "features", quiet=True)
    stored = sum(np.load(path).nbytes for path in (tmp_path / "features").glob("*.npy"))
    assert planning.untrained_bytes([planning.planned(run, "new", facts, None)], {run.setting: facts}) == stored
    assert planning.feature_bytes(run, facts) == stored / 2  # as initialised, and with statistics re-estimated
    assert facts.steps == 3 and facts.images == 1200 + 200 + 397 and facts.train_images == 1200


def test_plan_s_hours_are_the_steps_that_are_left_and_what_probes_take(tmp_path):
    run = grid_of(
        "--pretexts", "rotation", "--preset", "smoke", "--probes", "linear", "lbfgs", "linear_images",
        "--linear-images.schedule", "1", "2", "5", "--untrained", "both", workdir=tmp_path,
    )[0]
    facts = planning.Facts(
        steps=1000, state_bytes=10**6, weight_bytes=10**5, widths={"a": 30, "b": 70}, images=5000, train_images=4000
    )
    timed = timing.StepTime(step=2.0, start=10.0, image=0.01)
    networks = 3  # trained, untrained, untrained with statistics re-estimated
    probing = 5000 * 0.01 + 2 * 5000 * 100 * 3.3e-7 + (5 * 4000 + 5000) * 0.01
    whole = 20 + (1 + networks) * 10 + networks * probing
    new = planning.planned(run, "new", facts, timed)
    assert new.steps == 1000 and new.seconds == pytest.approx(whole + 1000 * 2.0)
    assert new.bytes == 3 * 10**6 + 10**5 + 4 * 5000 * 100
    (pathlib.Path(run.workdir) / "checkpoints").mkdir(parents=True)
    (pathlib.Path(run.workdir) / "checkpoints" / "step-000000400.npz").touch()
    assert planning.planned(run, "begun", facts, timed).seconds == pytest.approx(whole + 600 * 2.0)
    assert planning.planned(run, "trained", facts, timed).seconds == pytest.approx(whole)
    assert planning.planned(run, "finished", facts, timed).seconds == 0
    assert planning.planned(run, "new", facts, None).seconds is None
    left = [new, dataclasses.replace(new, seconds=None)]
    assert planning.hours_of(left[:1], 1) == f"about {math.ceil(new.seconds / 60)} min"
    assert planning.hours_of(left, 1).startswith("at least") and planning.hours_of(left[1:], 1) == "hours unknown"
    hours = [dataclasses.replace(new, seconds=3600.0 * h) for h in (5, 1, 1, 1)]
    assert planning.hours_of(hours, 2) == "about 5.0 hours on 2 devices"  # not 4: one run is not divided
    assert planning.hours_of(hours, 1) == "about 8.0 hours"


def test_untrained_features_are_counted_once_for_pretexts_that_share_them():
    both = ("--preset", "smoke", "--untrained", "both", *QUICK)
    found = grid_of("--pretexts", "rotation", "supervised", "jigsaw", *both)
    facts = {run.setting: planning.facts_of(run) for run in found}
    plan = [planning.planned(run, "new", facts[run.setting], None) for run in found]
    one = 4 * (1200 + 200 + 397) * 128
    # Rotation and supervised share network and view; jigsaw's network has patch strides and sees patches.
    assert planning.untrained_bytes(plan, facts) == 2 * (2 * one)
    assert planning.untrained_bytes(plan[:2], facts) == 2 * one


def test_a_plan_names_what_no_network_allows_before_anything_runs(tmp_path, capsys):
    stage = Stage(tmp_path, ["--pretexts", "rotation", *TINY])
    stage.arguments += ["--backbones", "tiny", "vgg19_bn", "--stem", "small"]
    assert stage.sweep() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: vgg19_bn has no option 'stem'; it has norm, ")
    assert not stage.calls() and not (tmp_path / "sweep").exists()


def test_plan_only_prints(tmp_path, capsys):
    stage = Stage(tmp_path, ["--pretexts", "rotation", *TINY, "--seeds", "0", "1"])
    assert stage.sweep("--plan") == 0
    printed = capsys.readouterr().out
    assert [line.split()[:3] for line in printed.splitlines()[2:4]] == [[name, "new", "3"] for name in stage.names]
    assert "2 new; 2 left to run" in printed and "GB free" in printed
    assert not stage.calls() and not (tmp_path / "sweep").exists()


# The state of a folder.


@pytest.fixture
def finished(tmp_path):
    recipe = get_recipe("rotation", "smoke", backbone="tiny")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000012.npz").touch()
    (tmp_path / "recipe.json").write_text(to_json(recipe))
    (tmp_path / "backbone.keras").touch()
    rows = [dataclasses.replace(ROW, weights=w) for w in ("pretrained", "random", "random, BN re-estimated")]
    write_results(tmp_path / "results.jsonl", rows)
    runs.mark_finished(tmp_path, untrained=True, seconds=1.0)
    return recipe, tmp_path


def test_a_run_is_finished_when_everything_is_there(finished):
    recipe, folder = finished
    assert runs.run_state(recipe, folder) == "finished"
    assert runs.run_state(recipe, folder, untrained=False) == "finished"
    (folder / "results.jsonl").unlink()
    assert runs.run_state(recipe, folder) == "trained"


def test_a_run_killed_between_training_and_the_last_probe_is_trained(finished):
    recipe, folder = finished
    runs.unmark_finished(folder)  # all rows may even be there: the report may not
    assert runs.run_state(recipe, folder) == "trained"
    (folder / "backbone.keras").unlink()
    assert runs.run_state(recipe, folder) == "begun"
    (folder / "checkpoints" / "step-000000012.npz").unlink()
    assert runs.run_state(recipe, folder) == "new"


def test_a_run_made_by_hand_without_the_untrained_network_lacks_it(finished):
    recipe, folder = finished
    runs.mark_finished(folder, untrained=False, seconds=1.0)
    assert runs.run_state(recipe, folder) == "trained"
    assert runs.run_state(recipe, folder, untrained=False) == "finished"
    runs.mark_finished(folder, untrained=True, seconds=1.0)
    write_results(folder / "other.jsonl", [r for r in read_results(folder / "results.jsonl") if r.weights != "random"])
    (folder / "other.jsonl").rename(folder / "results.jsonl")  # somebody removed the rows
    assert runs.run_state(recipe, folder) == "trained"


def test_a_folder_of_another_recipe_is_refused(finished):
    recipe, folder = finished
    with pytest.raises(InputError, match="holds another recipe"):
        runs.run_state(dataclasses.replace(recipe, epochs=7.0), folder)


# Running.


def test_every_run_once_and_all_rows_in_one_file(tmp_path, capsys):
    stage = Stage(tmp_path, ["--pretexts", "rotation", "supervised", *TINY, "--seeds", "0", "1"])
    assert stage.sweep() == 0
    assert [call[0] for call in stage.calls()] == stage.names
    assert {(r.pretext, r.seed, r.weights) for r in stage.results()} == {
        (p, s, w) for p in ("rotation", "supervised") for s in (0, 1) for w in ("pretrained", "random")
    }
    # Again: nothing is run; rows that are missing, as after a kill just before they were written, are added.
    (tmp_path / "sweep" / "results.jsonl").write_text("")
    capsys.readouterr()
    assert stage.sweep() == 0
    assert len(stage.calls()) == 4 and len(stage.results()) == 8
    assert "4 finished; 0 left to run" in capsys.readouterr().out
    # More seeds: only those.
    more = Stage.__new__(Stage)
    more.__dict__ = stage.__dict__ | {"arguments": [*stage.arguments, "--seeds", "1", "2"]}
    assert more.sweep() == 0
    assert sorted(call[0][-2:] for call in stage.calls()[4:]) == ["s2", "s2"]
    assert len(stage.results()) == 12


def test_one_run_at_a_time_or_one_on_each_device(tmp_path, monkeypatch):
    def most_at_once():
        events = [(call[3], 1) for call in stage.calls()] + [(call[3], -1) for call in stage.calls(ends=True)]
        return max(np.cumsum([step for _, step in sorted(events)]))

    stage = Stage(tmp_path, ["--pretexts", "rotation", *TINY, "--seeds", "0", "1", "2", "3"])
    assert stage.sweep("--devices", "cpu") == 0
    assert most_at_once() == 1 and {call[2] for call in stage.calls()} == {"-1"}
    (tmp_path / "calls").unlink()
    for name in stage.names:
        (tmp_path / "sweep" / name / "finished.json").unlink()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5,7")
    stage.play({name: ["meet another"] for name in stage.names[:2]})
    assert stage.sweep("--devices", "2", "7") == 0
    assert most_at_once() == 2 and {call[2] for call in stage.calls()} == {"2", "7"}
    assert sorted(call[0] for call in stage.calls()) == stage.names


def test_a_failed_run_is_reported_and_stops_nothing(tmp_path, capsys):
    stage = Stage(tmp_path, ["--pretexts", "rotation", *TINY, "--seeds", "0", "1", "2", "3"])
    a, b, c, d = stage.names
    stage.play({a: ["say step 1\nerror: loss is nan at step 2\nbye"], b: ["killed after a checkpoint"], d: ["say odd"]})
    assert stage.sweep() == 1
    out, err = capsys.readouterr()
    lines = err.splitlines()
    log = f"(log: {tmp_path}/sweep/{{}}/run.log)"
    assert lines[0] == f"failed: {a}: loss is nan at step 2 {log.format(a)}"
    assert lines[1] == f"failed: {b}: killed by SIGKILL, perhaps for want of memory {log.format(b)}"
    assert lines[2] == f"failed: {d}: odd {log.format(d)}" and len(lines) == 3
    assert {r.seed for r in stage.results()} == {2}
    assert "bye" in (tmp_path / "sweep" / a / "run.log").read_text()
    # The same command tries what failed once more, and goes on from where it was.
    assert stage.sweep() == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] for line in printed[2:6]] == [
        ["new", "3"],
        ["begun", "1"],
        ["finished", "-"],
        ["new", "3"],
    ]
    assert [call[0] for call in stage.calls()] == [a, b, c, d, a, b, d]
    assert all("--resume" in call[4] for call in stage.calls())
    assert {r.seed for r in stage.results()} == {0, 1, 2, 3}


def test_a_run_that_ends_well_without_being_finished_has_failed(tmp_path, capsys):
    stage = Stage(tmp_path, ["--pretexts", "rotation", *TINY])
    stage.play({stage.names[0]: ["save and wait"]})
    # SIGTERM to the run alone, as from a scheduler: it saves and exits with 0.
    stage.script.write_text(STAND_IN.replace("time.sleep(60)", "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"))
    assert stage.sweep() == 1
    assert "it was stopped before its end" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_handed_on_and_the_same_command_goes_on(tmp_path, number, capsys):
    stage = Stage(tmp_path, ["--pretexts", "rotation", *TINY, "--seeds", "0", "1"])
    stage.play({stage.names[0]: ["save and wait"]})
    thread = when(tmp_path / "waiting", lambda: os.kill(os.getpid(), number))
    assert stage.sweep() == 128 + number
    thread.join()
    err = capsys.readouterr().err
    assert err.startswith("stopped; go on with: revisit-ssl sweep revisiting --pretexts rotation")
    assert [call[0] for call in stage.calls()] == stage.names[:1]
    assert "saved" in (tmp_path / "sweep" / stage.names[0] / "run.log").read_text()
    assert stage.sweep() == 0
    assert "begun" in capsys.readouterr().out
    assert [call[0] for call in stage.calls()] == [stage.names[0], *stage.names]


def test_one_sweep_in_a_folder(tmp_path, capsys):
    stage = Stage(tmp_path, ["--pretexts", "rotation", *TINY])
    with jobs.only_here(str(tmp_path / "sweep")):
        assert stage.sweep() == 2
        assert f"another sweep (process {os.getpid()}) works in" in capsys.readouterr().err
        assert stage.sweep("--plan") == 0
    # Of a process that is dead, or of whichever has its number now: the kernel has dropped its lock.
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.lock").write_text(f"{os.getppid()}\n")
    assert stage.sweep() == 0


def test_kill_9_of_the_sweep_in_the_middle_of_a_run(tmp_path, capsys, monkeypatch):
    stage = Stage(tmp_path, ["--pretexts", "rotation", *TINY, "--seeds", "0", "1", "2"])
    stage.play({stage.names[1]: ["wait for go"]})
    code = (
        f"{KNOWN}import sys; from revisit_ssl.commands.sweep import main; "
        "main(sys.argv[2:], runner=[sys.executable, sys.argv[1]])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(stage.script), *stage.arguments],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 120
    while not (tmp_path / "waiting").exists() and time.monotonic() < until:
        time.sleep(0.05)
    parent.kill()  # not waited for: a dead process that nobody has waited for holds no lock either
    log = tmp_path / "sweep" / stage.names[1] / "run.log"
    assert jobs.is_taken(log), "the run outlives the sweep"
    wait = jobs.wait_for_orphans

    def let_it_go_on(workdir):  # a second after the new sweep has begun to wait, however long its plan took
        threading.Timer(1.0, (tmp_path / "go").touch).start()
        wait(workdir)

    monkeypatch.setattr(jobs, "wait_for_orphans", let_it_go_on)
    assert stage.sweep() == 0
    parent.wait()
    out = capsys.readouterr().out
    assert out.startswith(f"waiting for what a killed sweep left running: {stage.names[1]}")
    assert "2 finished, 1 new; 1 left to run" in out
    assert [call[0] for call in stage.calls()] == stage.names, "each run once"
    assert {r.seed for r in stage.results()} == {0, 1, 2}
    assert not jobs.is_taken(log)


# Timing.


def test_a_step_is_timed_without_the_first_ones(monkeypatch):
    def fake_train(model, recipe, source, plan, start, strategy, callbacks):
        (watch,) = callbacks
        watch.set_model(types.SimpleNamespace(stop_training=False))
        for batch in range(plan.total):
            time.sleep(0.3 if batch < 2 else 0.02)
            watch.on_train_batch_end(batch, {"loss": 1.0})
            if watch.model.stop_training:
                break
        fake_train.steps = batch + 1

    monkeypatch.setattr(timing, "train", fake_train)
    monkeypatch.setattr(timing, "ENOUGH", 0.1)
    found = timing.measure(get_recipe("rotation", "smoke", backbone="tiny"))
    assert 0.02 <= found.step < 0.1 and found.start >= 0.6 and 0 < found.image < 1
    assert 3 <= fake_train.steps < 12, "it ends when enough is known"


def test_timings_are_kept_and_one_that_kills_its_process_is_passed_over(tmp_path, monkeypatch, capsys):
    found = grid_of("--pretexts", "rotation", "supervised", "--backbones", "tiny", "--widths", "1", "2", *QUICK,
                    "--preset", "smoke", "--seeds", "0", "1")
    asked = []

    def ask(todo, device, ends, keep):
        asked.append([run.setting for run in todo])
        for i, run in enumerate(todo):
            if run.recipe.pretext == "supervised" and run.recipe.width == 1:
                return i, "killed by SIGKILL"
            keep(run, {"step": float(run.recipe.width), "start": 0.0, "image": 0.0})
        return len(todo), "it said nothing"

    monkeypatch.setattr(timing, "ask", ask)
    times, untimed = timing.time_settings(found, str(tmp_path), None)
    names = [f"{p}-tiny-k{k}-digits" for k in (1, 2) for p in ("rotation", "supervised")]
    assert asked == [names, names[2:]], "each setting once, whatever its seeds; the small ones first"
    assert {name: time.step for name, time in times.items()} == {names[0]: 1.0, names[2]: 2.0, names[3]: 2.0}
    assert untimed == {names[1]: "killed by SIGKILL"}
    asked.clear()
    timing.time_settings(found, str(tmp_path), None)
    assert asked == [names[1:2]], "the others are remembered"
    (tmp_path / "timing.json").write_text("{")
    asked.clear()
    timing.time_settings(found, str(tmp_path), None)
    assert asked[0] == names, "a damaged file is made anew"


# The real run.py.


def test_a_sweep_of_real_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PYTHONPATH", with_tiny(tmp_path))
    arguments = ["revisiting", "--pretexts", "rotation", "--backbones", "tiny", "--preset", "smoke", *QUICK]
    arguments += ["--skip-random", "--workdir", str(tmp_path)]
    assert command.main(arguments) == 0
    out, err = capsys.readouterr()
    name = "rotation-tiny-k1-digits-s0"
    row = next(line.split() for line in out.splitlines() if line.startswith(name))
    assert row[1:3] == ["new", "3"] and 0 < float(row[3]) < 20, "a timed step"
    assert f"{name} finished in" in out and err == ""
    found = read_results(tmp_path / "results.jsonl")
    assert {r.weights for r in found} == {"pretrained"} and "knn" in {r.probe for r in found}
    assert {r.metric for r in found if r.probe == "pretext"} == {"loss", "accuracy"}
    assert found == read_results(tmp_path / name / "results.jsonl")
    assert (tmp_path / name / "report.html").exists() and list((tmp_path / "features").glob("pre_logits-*.npy"))
    before = (tmp_path / name / "run.log").read_text()
    assert command.main(arguments) == 0
    assert "1 finished; 0 left to run" in capsys.readouterr().out
    assert (tmp_path / name / "run.log").read_text() == before
