"""Damage to any file of a finished run: it goes on, or one line says what to do."""

import contextlib
import json
import pathlib
import shutil
import traceback

import numpy as np
import pytest

from revisit_ssl.backbones import load_backbone
from revisit_ssl.commands import run
from revisit_ssl.commands.run import parse_run
from revisit_ssl.data import open_source
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.evaluate import training_results
from revisit_ssl.features.extract import _load
from revisit_ssl.report import page
from revisit_ssl.runs.damage import read_json
from revisit_ssl.runs.results import Result, read_results, results_of_run, write_results
from revisit_ssl.training.build import build_pretext, compile_pretext, plan_steps
from revisit_ssl.training.checkpoints import load_checkpoint
from revisit_ssl.training.history import read_history
from revisit_ssl.training.progress import read_log
from revisit_ssl.training.workdir import read_recipe, run_state

COMMAND = [
    "rotation", "--preset", "smoke", "--backbone", "tiny", "--max-steps", "3", "--endpoints", "pre_logits", "--probes",
    "knn", "--skip-random", "--save-every", "2",
]
SIDE_FILES = ["log.csv", "results.jsonl", "pretext.json", "environment.json", "finished.json"]
DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "bad byte": lambda data: data[: len(data) // 3] + b"\xff" + data[len(data) // 3 + 1 :],
    "zeros": lambda data: bytes(len(data)),
    "another shape": lambda data: b"[1]\n",
    "a number for a mapping": lambda data: b"7\n",
}


@pytest.fixture(scope="module", autouse=True)
def quick_pictures():
    """Reads what the curves would be drawn of, without drawing them, and leaves the pictures of images out."""

    def curves(rows, names, *, x="epoch", marks=None):
        return str([[row[x], *(row.get(name) for name in names)] for row in rows] + [marks]).encode()

    parts = {t: part for t, part in page.SECTIONS.items() if part not in (page.nearest, page.pretext_views)}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page.pictures, "curves", curves)
        patched.setattr(page, "SECTIONS", parts)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(folder of a finished run, its recipe)"""
    folder = tmp_path_factory.mktemp("run") / "run"
    assert run.main([*COMMAND, "--workdir", str(folder)]) == 0
    return folder, parse_run(COMMAND).recipe


def read_all(folder, recipe):
    """What --resume, a sweep and a report read of a run, its pictures apart."""
    run_state(recipe, folder, untrained=False)
    history = read_history(folder)
    write_results(f"{folder}/results.jsonl", training_results(recipe, history))
    shown = page.Run(str(folder), None)
    for section in (page.key_numbers, page.the_run, page.training_curves, page.provenance):
        with contextlib.suppress(InputError):  # a page names what it leaves out
            section(shown)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", SIDE_FILES)
def test_a_damaged_side_file_is_set_aside_and_stops_nothing(name, damage, finished, tmp_path, capsys):
    folder, recipe = tmp_path / "run", finished[1]
    shutil.copytree(finished[0], folder, ignore=shutil.ignore_patterns("report", "tensorboard"))
    data = DAMAGE[damage]((folder / name).read_bytes())
    (folder / name).write_bytes(data)
    read_all(folder, recipe)
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    aside = folder / f"{name}.damaged"
    assert len(warnings) == aside.exists() <= 1
    if aside.exists():
        assert aside.read_bytes() == data and str(aside) in warnings[0]
    read_all(folder, recipe)
    assert not capsys.readouterr().err, "said once"


def test_all_of_them_damaged_at_once_the_run_goes_on(finished, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    for name in SIDE_FILES:
        (folder / name).write_bytes(b"\xff\x00{")
    assert run.main([*COMMAND, "--resume", "--workdir", str(folder)]) == 0
    printed = capsys.readouterr().err
    for name in set(SIDE_FILES) - {"finished.json"}:  # which is removed before anything is probed
        assert f"{folder / name} is damaged" in printed
    assert {r.probe for r in read_results(folder / "results.jsonl")} == {"knn"}
    assert json.loads((folder / "finished.json").read_text())["seconds"] > 0


def test_good_lines_outlive_a_bad_one(tmp_path, capsys):
    values = {"pretext": "rotation", "backbone": "tiny", "width": 1, "dataset": "digits", "steps": 3, "probe": "knn"}
    values |= {"weights": "pretrained", "endpoint": "pre_logits", "probe_dataset": "digits", "split": "test"}
    rows = [Result(**values, seed=seed, metric="top1", value=50.0) for seed in range(3)]
    path = tmp_path / "results.jsonl"
    write_results(path, rows)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace("50.0", '"x"'), lines[2]]) + "\n")
    with pytest.raises(InputError, match="line 2 is not a result .*value is 'x'; expected float.*remove the line"):
        read_results(path)
    assert results_of_run(path) == [rows[0], rows[2]] == read_results(path)
    log = tmp_path / "log.csv"
    log.write_bytes(b"step,epoch,loss\n1,0.1,2.0\n2,0.2,\xff.0\n3,0.3,1.0\n")
    rows = [{"step": 1, "epoch": 0.1, "loss": 2.0}, {"step": 3, "epoch": 0.3, "loss": 1.0}]
    assert read_log(log) == rows == read_log(log)
    assert "log.csv is damaged (1 of 3 rows cannot be read); set aside as" in capsys.readouterr().err
    assert read_json(tmp_path / "nothing.json") == {}


def test_a_flipped_byte_is_harmless_or_one_line(finished, tmp_path, capsys):
    """200 random flips over every file of a run, each read as the package reads that file, if it does."""
    original, recipe = finished
    model = build_pretext(recipe, source := open_source("digits", "train"))
    compile_pretext(model, recipe, plan_steps(recipe, source))
    readers = {
        "checkpoints": lambda path: load_checkpoint(path, model),
        "features": lambda path: _load(str(path).removesuffix(".json")),
        "backbone.keras": load_backbone,
        "recipe.json": lambda path: (read_recipe(path.parent), run_state(recipe, path.parent, untrained=False)),
    }
    random = np.random.default_rng(0)
    files = sorted(path.relative_to(original) for path in original.rglob("*") if path.is_file())
    assert {"backbone.keras", "checkpoints", "features", *SIDE_FILES} <= {path.parts[0] for path in files}
    folder, failures = tmp_path / "run", []
    shutil.copytree(original, folder)
    for i in range(200):
        name = files[i % len(files)]
        path, data = folder / name, bytearray((original / name).read_bytes())
        where, mask = int(random.integers(len(data))), 1 << int(random.integers(8))
        data[where] ^= mask
        path.write_bytes(data)
        try:
            if name.name in SIDE_FILES:
                read_all(folder, recipe)
            elif name.parts[0] in readers:
                readers[name.parts[0]](path)
        except InputError as error:
            if len(str(error).splitlines()) != 1:
                failures.append((name, where, mask, str(error)))
        except Exception:  # whatever it is, it would be a traceback
            failures.append((name, where, mask, traceback.format_exc()[-800:]))
        for file in (name, *map(pathlib.Path, SIDE_FILES)):  # those that were written anew, too
            shutil.copy(original / file, folder / file)
        for aside in folder.rglob("*.damaged*"):
            aside.unlink()
    assert not failures, failures[0]
    assert "Traceback" not in capsys.readouterr().err
