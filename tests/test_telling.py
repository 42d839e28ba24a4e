"""What a run says while it works: every phase, every probe's result, a bar of known length, a time left that holds."""

import re
import types

import pytest

from revisit_ssl.commands.run import main
from revisit_ssl.papers import get_recipe
from revisit_ssl.report import page
from revisit_ssl.runs import telling
from revisit_ssl.runs.telling import Bar, clock
from revisit_ssl.training import progress
from revisit_ssl.training.build import Plan
from revisit_ssl.training.progress import Log, followed_by


def test_clock():
    assert [clock(s) for s in (5, 65, 3723)] == ["0:05", "1:05", "1:02:03"]


@pytest.fixture
def now(monkeypatch):
    """A clock that stands still until it is set: now.time = 12.0."""
    watch = types.SimpleNamespace(time=0.0)
    for module in (telling, progress):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(perf_counter=lambda: watch.time))
    return watch


def test_a_bar_says_how_many_and_how_long(now, capsys):
    bar = Bar("images", 400, every=10)
    for done in range(100, 500, 100):
        now.time += 6.0
        bar(done)
    assert capsys.readouterr().err.split("\n") == [
        "images: 200 of 400  0:12 left of these", "images: 400 of 400".ljust(38), ""
    ]
    now.time, quick = 0.0, Bar("images", 4, every=10)
    quick(4)
    Bar("images", 4, quiet=True, every=0)(2)
    assert capsys.readouterr().err == "", "nothing of what took no time"


def log(tmp_path, total=401):
    how = {"start": 0, "write": False, "quiet": True, "rows": 4, "window": {}}
    made = Log(str(tmp_path), get_recipe("rotation", "smoke"), Plan(100, total), **how)
    made.set_model(types.SimpleNamespace(
        optimizer=types.SimpleNamespace(learning_rate=0.1), reset_metrics=lambda: None, exported="network"
    ))
    return made


def test_time_left_is_of_the_whole_run_and_does_not_jump(now, tmp_path):
    """(steps left) x (mean of all steps so far) + what follows: a pause of 20 s in 200 steps moves it little."""
    asked = []
    with followed_by(lambda *known: asked.append(known) or 100.0):
        made = log(tmp_path)
    now.time = 7.0  # the first step traces
    made.on_train_batch_end(0, {"loss": 1.0})
    said = []
    for step in range(2, 402):
        now.time += 1.0 + 20.0 * (step == 201)
        made.on_train_batch_end(0, {"loss": 1.0})
        said.append(made.left(now.time))
    mean = (200 + 20) / 200
    assert said[0] == f"{clock(399 * 1.0 + 100)} left" and said[198] == f"{clock(201 + 100)} left"
    assert said[199] == f"{clock(200 * mean + 100)} left", "5:20 after 5:01, not the window's 1:40:00"
    assert said[-1] == "1:40 left", "the probes are still to come"
    batch = get_recipe("rotation", "smoke").batch_size
    start, row, exported = asked[0]
    assert (start, exported) == (7.0, "network") and row == pytest.approx(1.0 / (3 * batch * 4))


def test_training_alone_says_so(now, tmp_path):
    made = log(tmp_path)
    made.on_train_batch_end(0, {"loss": 1.0})
    now.time = 2.0
    made.on_train_batch_end(0, {"loss": 1.0})
    assert made.left(2.0) == f"{clock(399 * 2)} left of training"


def test_a_run_says_each_phase_and_each_result(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(page, "SECTIONS", {})  # a report without pictures
    flags = ["rotation", "--preset", "smoke", "--backbone", "tiny", "--max-steps", "3"]
    flags += ["--endpoints", "block4", "pre_logits", "--probes", "knn"]
    assert main([*flags, "--workdir", str(tmp_path)]) == 0
    told = capsys.readouterr().err
    for phase in (
        "reading digits", "building tiny, width 1, for rotation", "tracing the training step", "training from step 0",
        r"first step after \d+ s; 3",
        "BatchNorm statistics of the last weights, on 1,200 images", "the pretext's own score on 200 validation images",
        "pretrained: knn probe on block4, pre_logits", r"pretrained: knn probe on block4: top1 \d+\.\d \(\d.*top5",
        "random: knn probe on block4, pre_logits", r"random: knn probe on pre_logits: top1", "writing the report",
    ):
        found = re.search(phase, told)
        assert found, phase
        told = told[found.end() :]  # in this order
