"""Plans of settings whose data sets are not here: from their published sizes, without a folder made."""

import pytest

from revisit_ssl.commands import sweep as command
from revisit_ssl.commands.flags import read_flags
from revisit_ssl.commands.run import parse_run
from revisit_ssl.data import known_source
from revisit_ssl.errors import DataNotHere
from revisit_ssl.sweeps import planning, sweep, timing


def runs_of(*arguments):
    options, overrides = read_flags(command.Sweep, list(arguments), return_unknown_args=True)
    return sweep.grid(options, overrides, "nowhere", parse_run)


def plan(family, tmp_path, capsys, *arguments):
    """The lines of a plan over an empty data folder."""
    data, work = tmp_path / "data", tmp_path / "work"
    places = ["--data-dir", str(data), "--workdir", str(work)]
    assert command.main([family, *places, *arguments, "--plan", "--no-timing"]) == 0
    assert not data.exists() and not work.exists(), "nothing is made"
    return capsys.readouterr().out.splitlines()


def test_a_published_setting_without_its_set(tmp_path, capsys):
    lines = plan(
        "revisiting-table1", tmp_path, capsys, "--preset", "paper", "--pretexts", "rotation", "--backbones",
        "resnet50_v1", "--widths", "4",
    )
    row = lines[2].split()
    # 35 epochs of 1,231,121 images in batches of 1024; the spec's counts.
    assert row[:5] == ["rotation-resnet50_v1-k4-imagenet2012-s0", "new", str(35 * (1_231_121 // 1024)), "?", "?"]
    # Features of 1,331,167 images at 2048 * 4 values and more than two checkpoints.
    assert float(row[5]) > 1.0
    assert lines[3] == "data set not here, sizes as published: imagenet2012"
    assert "1 new; 1 left to run: hours unknown" in lines[4]


def test_every_network_of_table_1_without_imagenet(tmp_path, capsys):
    # A pretext that sees whole images and one of patches; test_papers.py counts all 66 runs.
    some = ["--pretexts", "rotation", "jigsaw", "--widths", "4"]
    lines = plan("revisiting-table1", tmp_path, capsys, "--preset", "paper", *some)
    assert lines[0].startswith("sweep of 12 runs") and "12 new; 12 left to run" in "\n".join(lines)


def test_toy_scenes_are_not_drawn_for_a_plan(tmp_path, capsys):
    lines = plan("revisiting", tmp_path, capsys, "--pretexts", "rotation", "--backbones", "tiny", "--batch-size", "50",
                 "--epochs", "1")
    assert lines[2].split()[:3] == ["rotation-tiny-k1-toy_scenes-s0", "new", str(5_400 // 50)]
    assert lines[3] == "data set not here, sizes as published: toy_scenes"


def test_a_sweep_itself_needs_its_set(tmp_path):
    (run,) = runs_of("--pretexts", "rotation", "--backbones", "tiny", "--dataset", "cifar10", "--data-dir",
                     str(tmp_path))
    with pytest.raises(DataNotHere, match="data set cifar10 is not in"):
        planning.facts_of(run)
    assert planning.facts_of(run, known_source).not_here == ("cifar10",)


@pytest.mark.parametrize("name", ["cifar10", "imagenet2012"])
def test_a_step_is_timed_on_noise(name, tmp_path, monkeypatch):
    monkeypatch.setattr(timing, "MOST_STEPS", 3)
    size = ["--views.size", "32", "--views.resize-to", "None"] if name == "cifar10" else []
    (run,) = runs_of("--pretexts", "rotation", "--backbones", "tiny", "--dataset", name, "--batch-size", "8", *size)
    found = timing.measure(run.recipe, data_dir=str(tmp_path), strategy="none")
    assert 0 < found.step < 30 and found.start > 0 and found.image > 0
    assert not list(tmp_path.iterdir())
