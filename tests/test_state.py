"""What a run keeps and who may write it: locks, left-overs, identity of checkpoints, environments, signals, lengths."""

import json
import os
import pathlib
import shutil
import signal
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from revisit_ssl.commands import evaluate as evaluate_command
from revisit_ssl.commands import flags, report, run, sweep, work
from revisit_ssl.errors import InputError
from revisit_ssl.evaluation.evaluate import vocabulary_results
from revisit_ssl.papers import get_recipe
from revisit_ssl.runs import environment, files
from revisit_ssl.runs.identity import trained_values
from revisit_ssl.training import loop
from revisit_ssl.training.build import build_pretext, compile_pretext, open_pretraining, plan_steps, restore
from revisit_ssl.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from revisit_ssl.training.history import History
from revisit_ssl.training.pretrain import pretrain
from revisit_ssl.training.progress import Log, read_log
from revisit_ssl.training.workdir import can_grow, check_workdir, writing

TINY = dict(backbone="tiny", bench__endpoints=("pre_logits",), batch_size=16, max_steps=3, epochs=1.0)
RECIPE = get_recipe("rotation", "smoke")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of RECIPE's like on the tiny network; tests work on copies."""
    folder = tmp_path_factory.mktemp("state") / "run"
    pretrain(get_recipe("rotation", "smoke", **TINY), folder, quiet=True)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    return pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))


# ---- locks ----


def in_another_thread(action):
    """The InputError's line, or None."""
    lines = []

    def act():
        try:
            action()
            lines.append(None)
        except InputError as error:
            lines.append(str(error))

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    return lines[0]


def test_one_run_writes_to_a_workdir(tmp_path):
    workdir = str(tmp_path / "run")
    recipe = get_recipe("rotation", "smoke", **TINY)
    with writing(workdir):
        with writing(workdir):
            pass  # who holds it may call what needs it
        said = in_another_thread(lambda: pretrain(recipe, workdir, quiet=True))
        assert said.startswith(f"another run (process {os.getpid()}) works in {workdir}; wait for its end or choose")
    assert not os.path.exists(workdir), "the lock goes, and with it the folder that was made for it"
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.lock").write_text("1 on elsewhere\n")  # of a process that was killed
    with writing(workdir):
        pass


def test_who_waits_for_a_lock_gets_it_once(tmp_path):
    inside, most = [], []

    def work_there():
        with files.only_here(str(tmp_path), "some.lock", "another", wait=True):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=work_there) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6 and not list(tmp_path.iterdir())


def test_a_disk_without_locks_is_written_to_with_a_warning(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(files.fcntl, "flock", none)
    with writing(str(tmp_path)):
        pass
    assert capsys.readouterr().err.startswith("warning: cannot lock")


# ---- files ----


def test_a_file_and_its_name_are_on_the_disk_before_anybody_relies_on_them(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (done.append(os.readlink(f"/proc/self/fd/{n}")), sync(n)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("renamed"), replace(a, b)))
    files.write_atomically(tmp_path / "a.json", "{}")
    assert done == [str(tmp_path / "a.json.partial"), "renamed", str(tmp_path)]
    assert (tmp_path / "a.json").read_text() == "{}"


# name: whether a process is still writing to it
LEFT = {
    "log.csv.partial": False, "backbone.partial.keras": False, "recipe.json.partial": False,
    "block4-0a1b.npy.partial-12cd34ef": False, "block4-0a1b.npy.partial-00000000": True,
    "block4-0a1b.npy.partial-12cd34ef.json": False, "block4-0a1b.npy.partial-00000000.json": True,
    "step-000000001.npz.partial": False, "partial.txt": True, "log.csv": True, "step-000000001.npz": True,
}


def test_left_overs_of_kills_are_removed_and_nothing_else(tmp_path):
    for name in LEFT:
        (tmp_path / name).write_text("x")
    with open(tmp_path / "block4-0a1b.npy.partial-00000000", "r+b") as file:
        assert files.locked(file)
        files.remove_left_overs(str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(name for name, stays in LEFT.items() if stays)


def test_the_next_run_removes_left_overs(copy):
    (copy / "features").mkdir()
    left = [copy / "log.csv.partial", copy / "checkpoints" / "step-000000009.npz.partial"]
    for path in left:
        path.write_text("x")
    pretrain(get_recipe("rotation", "smoke", **TINY), copy, resume=True, quiet=True)
    assert not any(path.exists() for path in left)


# ---- checkpoints ----


def newest(folder):
    return pathlib.Path(list_checkpoints(folder / "checkpoints")[-1])


def renamed(folder):
    newest(folder).rename(folder / "checkpoints" / "step-000000002.npz")


def of_other_seed(folder):
    other = trained_values(get_recipe("rotation", "smoke", **TINY, seed=1))
    with np.load(newest(folder)) as stored:
        np.savez(newest(folder), **dict(stored) | {"about": np.array(json.dumps({"recipe": other}))})


# what was done to it: the words of the line
FOREIGN = {
    renamed: "holds step 3, which is not what its name says; it was renamed or copied: delete it and --resume",
    of_other_seed: "is of another recipe (seed: 1 there, 0 here); it was renamed or copied",
}


@pytest.fixture(scope="module")
def model():
    recipe = get_recipe("rotation", "smoke", **TINY)
    source = open_pretraining(recipe)
    model = build_pretext(recipe, source)
    compile_pretext(model, recipe, plan_steps(recipe, source))
    return model


@pytest.mark.parametrize("change", FOREIGN, ids=lambda change: change.__name__)
def test_a_checkpoint_of_another_run_is_refused(change, copy, model):
    recipe = get_recipe("rotation", "smoke", **TINY)
    assert restore(model, str(copy), recipe)[0] == 3
    change(copy)
    with pytest.raises(InputError) as caught:
        restore(model, str(copy), recipe)
    assert FOREIGN[change] in str(caught.value)


def flipped(data):
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 255]) + data[len(data) // 2 + 1 :]


# what was done to its bytes
SPOILED = {
    "a flipped byte": flipped, "cut": lambda data: data[: len(data) // 3], "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)), "no directory": lambda data: data[:-64],
}


@pytest.mark.parametrize("damage", SPOILED)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(damage, copy, model, capsys):
    recipe, folder = get_recipe("rotation", "smoke", **TINY), copy / "checkpoints"
    restore(model, str(copy), recipe)
    for step in (1, 2):
        save_checkpoint(folder, model, step, about={"log": {"steps": step}}, keep=3)
    for step in (3, 2, 1):
        path = folder / f"step-{step:09d}.npz"
        spoiled = SPOILED[damage](path.read_bytes())
        path.write_bytes(spoiled)
        if step > 1:
            assert restore(model, str(copy), recipe) == (step - 1, {"steps": step - 1})
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"warning: {path} is damaged (") and line.endswith(f"set aside as {path}.damaged")
            assert pathlib.Path(f"{path}.damaged").read_bytes() == spoiled and not path.exists()
    (folder / "step-000000002.npz").write_bytes(b"x")
    with pytest.raises(InputError, match=r"2.npz is damaged \(.*\), and so is the 1 before it; put a copy of it"):
        restore(model, str(copy), recipe)
    assert len(list_checkpoints(folder)) == 2, "nothing is set aside where none is good"


def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one(tmp_path, capsys):
    recipe = get_recipe("rotation", "smoke", **TINY)
    whole = pretrain(recipe, tmp_path, save_every=1, quiet=True)
    newest(tmp_path).write_bytes(newest(tmp_path).read_bytes()[:1000])
    (tmp_path / "backbone.keras").unlink()
    again = pretrain(recipe, tmp_path, resume=True, save_every=1, quiet=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert "step-000000003.npz is damaged (" in line
    assert [row["step"] for row in read_log(tmp_path / "log.csv")] == [1, 2, 3]
    for mine, its in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_an_older_version_is_read(copy, model):
    """It says nothing of its recipe; a field that its recipe had not is not compared either."""
    recipe = get_recipe("rotation", "smoke", **TINY)
    with np.load(newest(copy)) as stored:
        arrays = dict(stored)
    older = trained_values(recipe)
    del older["views"]["flip"], older["precision"]
    for about in ({"about": np.array(json.dumps({"recipe": older}))}, {}):
        np.savez(newest(copy), **{k: v for k, v in arrays.items() if k != "about"} | about)
        assert restore(model, str(copy), recipe) == (3, {})


def test_other_files_are_no_checkpoints(tmp_path, model):
    save_checkpoint(tmp_path, model, 5)
    for name in ("copy-of-step-000000009.npz", "step-000000009.npz.partial", "step-9.npz"):
        shutil.copy(tmp_path / "step-000000005.npz", tmp_path / name)
    assert [pathlib.Path(path).name for path in list_checkpoints(tmp_path)] == ["step-000000005.npz"]
    with pytest.raises(InputError, match="holds step 5, which is not what its name says"):
        load_checkpoint(tmp_path / "copy-of-step-000000009.npz", model)


# ---- the log ----


def test_rows_are_means_of_their_windows_whatever_stops_between_them(tmp_path):
    """Of 14 steps in epochs of 4, three to a row; Keras' running mean begins anew with each epoch and each start."""
    losses = np.random.default_rng(0).uniform(size=15)
    plan = SimpleNamespace(total=14, per_epoch=4)
    tape = SimpleNamespace(seen=[])
    model = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.1), reset_metrics=lambda: tape.seen.clear())

    def train(begin, end, window):
        tape.seen.clear()
        log = Log(str(tmp_path), RECIPE, plan, start=begin, window=window, write=True, quiet=True)
        log.every = 3
        log.set_model(model)
        for step in range(begin + 1, end + 1):
            tape.seen.append(losses[step])
            log.on_train_batch_end(0, {"loss": np.mean(tape.seen)})
            if step % 4 == 0:
                log.on_epoch_end(step // 4)
                tape.seen.clear()
        log.flush()
        return json.loads(json.dumps(log.open_window()))  # as in a checkpoint

    window = {}
    for begin, end in ((0, 2), (2, 4), (4, 7), (7, 12), (12, 14)):
        window = train(begin, end, window)
    rows = read_log(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == [3, 6, 9, 12, 14]
    expected = [losses[1:4].mean(), losses[4:7].mean(), losses[7:10].mean(), losses[10:13].mean(), losses[13:15].mean()]
    np.testing.assert_allclose([row["loss"] for row in rows], expected, rtol=1e-5)
    assert window == {"steps": 0, "sums": {}}


def test_results_of_the_log_go_by_its_steps():
    """The last tenth of the steps, each row by the steps it is the mean of, also where others were lost."""
    whole = [{"step": 3 * i, "epoch": i / 10, "used": i / 100} for i in range(1, 41)]
    whole.append({"step": 121, "epoch": 4, "used": 1})
    lost = [row for row in whole if not 9 <= row["step"] <= 60]
    recipe = get_recipe("obow", "smoke")
    found = [vocabulary_results(recipe, History(steps=121, score={}, looks=[], log=rows))[0] for rows in (whole, lost)]
    # Steps after 108.9: rows 37 to 40 of three steps each, and the last one of one step.
    expected = 100 * (3 * (0.37 + 0.38 + 0.39 + 0.40) + 1) / 13
    assert [round(r.value, 3) for r in found] == [round(expected, 3)] * 2
    assert found[0].extra["curve"][0] == [0.1, 1] and found[1].extra["curve"][-1] == [4, 100]


# ---- environments ----


@pytest.mark.parametrize(("key", "value", "words"), [
    ("tensorflow", "2.1.0", "TensorFlow 2.1.0, now "), ("keras", "3.12.0", "Keras 3.12.0, now "),
    ("commit", "0000000", "this package 0000000, now "), ("replicas", 8, "replicas 8, now 1"),
])
def test_another_environment_is_said_and_refused_where_bits_count(key, value, words, tmp_path, capsys):
    environment.note_environment(tmp_path, 1, resumed=False)
    first = json.loads((tmp_path / "environment.json").read_text())
    first["commit"] = first["commit"].replace("unknown", "1111111")  # where this is no checkout
    (tmp_path / "environment.json").write_text(json.dumps(first | {key: value}))
    environment.check_environment(tmp_path, 1, deterministic=False)
    assert f"resumed elsewhere than it began: {words}" in capsys.readouterr().err
    with pytest.raises(InputError, match="began elsewhere .*--deterministic promises the same to the bit"):
        environment.check_environment(tmp_path, 1, deterministic=True)
    environment.note_environment(tmp_path, 1, resumed=True)
    now = json.loads((tmp_path / "environment.json").read_text())
    assert now[key] == value and now["resumed"][0].keys() >= {"date", "command", "tensorflow", "replicas"}
    if key != "commit" or first["commit"] != "1111111":
        environment.check_environment(tmp_path, 1, deterministic=True)  # as the last time


def test_a_damaged_environment_stops_nothing(tmp_path, capsys):
    (tmp_path / "environment.json").write_text("{")
    environment.check_environment(tmp_path, 1, deterministic=True)
    assert "set aside as" in capsys.readouterr().err and (tmp_path / "environment.json.damaged").read_text() == "{"


# ---- signals ----


def raise_signal(number):
    def send(*_, **__):
        os.kill(os.getpid(), number)
        time.sleep(5)
        raise AssertionError("the signal was not heeded")

    return send


# command, its arguments, the function of commands.work or of a module that is interrupted, status
OUTSIDE = [
    (run, ["rotation", "--preset", "smoke"], (work, "check_probes"), 0),
    (run, ["rotation", "--preset", "smoke", "--resume"], (work, "pretrain"), 0),
    (evaluate_command, ["{run}"], (work, "load_backbone"), 0),
    (report, ["{run}"], (report, "read_flags"), 0),
    (sweep, ["revisiting", "--preset", "smoke"], (sweep, "parse_run"), 143),
]


@pytest.mark.parametrize(
    ("command", "arguments", "place", "status"), OUTSIDE,
    ids=["before training", "after training", "evaluate", "report", "plan"],
)
def test_sigterm_outside_training_leaves_with_one_line(
    command, arguments, place, status, finished, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(*place, raise_signal(signal.SIGTERM))
    arguments = [part.format(run=finished) for part in arguments]
    places = ["--workdir", str(tmp_path / "there")] if command is not evaluate_command and command is not report else []
    capsys.readouterr()
    assert command.main([*arguments, *places]) == status
    *said, last = capsys.readouterr().err.strip().splitlines()
    assert last.startswith("stopped") and "; go on with: revisit-ssl" in last, last
    assert not any("Traceback" in line or "stopped" in line for line in said), said
    assert command is not run or last.count("--resume") == 1
    assert not (tmp_path / "there").exists() or not list((tmp_path / "there").glob("*.lock"))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["preempted", "ctrl-c"])
def test_a_signal_in_training_saves_and_says_how_to_go_on(number, status, tmp_path, monkeypatch, capsys):
    kept = loop.Keeper.on_train_batch_end

    def signalled(self, batch, logs=None):
        if self.step == 1:
            os.kill(os.getpid(), number)
        kept(self, batch, logs)

    monkeypatch.setattr(loop.Keeper, "on_train_batch_end", signalled)
    workdir = tmp_path / "run"
    command = ["rotation", "--preset", "smoke", "--backbone", "tiny", "--max-steps", "9", "--epochs", "9"]
    assert run.main([*command, "--workdir", str(workdir)]) == status
    errors = capsys.readouterr().err
    assert "resume with: revisit-ssl run rotation" in errors and errors.rstrip().endswith("--resume")
    assert "Traceback" not in errors
    assert [row["step"] for row in read_log(workdir / "log.csv")] == [1, 2], "flushed with the checkpoint"
    assert newest(workdir).name == "step-000000002.npz" and not (workdir / "run.lock").exists()


def test_a_command_in_another_thread_has_no_handler():
    lines = in_another_thread(lambda: flags.guarded(lambda: 0, "revisit-ssl run"))
    assert lines is None


# ---- lengths ----


# recipe, its changes, whether a longer run of it begins as it does
LENGTHS = [
    ("rotation", {"optimizer__schedule": "constant"}, True),
    ("rotation", {"optimizer__schedule": "step"}, True),
    ("rotation", {"optimizer__schedule": "cosine"}, False),
    ("moco", {"optimizer__schedule": "constant"}, True),
    ("byol", {"optimizer__schedule": "constant", "task__momentum_schedule": "cosine"}, False),
    ("obow", {"optimizer__schedule": "constant", "task__momentum_schedule": "cosine"}, False),
    ("obow", {"optimizer__schedule": "constant", "task__momentum_schedule": "constant"}, True),
]


@pytest.mark.parametrize(("pretext", "changes", "grows"), LENGTHS)
def test_which_runs_can_be_made_longer(pretext, changes, grows):
    assert can_grow(get_recipe(pretext, "smoke", **changes)) is grows


def test_what_a_longer_run_is_told(finished):
    shared = {**TINY, "max_steps": 9}
    for grow in (True, False):
        with pytest.raises(InputError, match=r"max_steps: 3 there, 9 here\).*choose another --workdir") as caught:
            check_workdir(get_recipe("rotation", "smoke", **shared), str(finished), resume=True, grow=grow)
        assert ("its schedule depends on its length" in str(caught.value)) is grow
    shorter = get_recipe("rotation", "smoke", **{**TINY, "max_steps": 2})
    with pytest.raises(InputError, match="max_steps: 3 there, 2 here"):
        check_workdir(shorter, str(finished), resume=True, grow=True)
