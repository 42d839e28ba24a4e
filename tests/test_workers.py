"""Two worker processes on the loopback interface: the weights of one process, one writer, stops, kills, other disks.

Starting a pair takes longer than what it trains: one pair runs all cases, a second one goes on where they were stopped.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

from revisit_ssl.papers import get_recipe
from revisit_ssl.training.checkpoints import list_checkpoints
from revisit_ssl.training.pretrain import pretrain
from revisit_ssl.training.progress import read_log

ROOT = pathlib.Path(__file__).parents[1]
TINY = dict(backbone="tiny", bench__endpoints=("pre_logits",), batch_size=16, epochs=1.0, max_steps=4)
TINY |= {"backbone_options__norm": "none"}
CLD = {"task__cld__weight": 1.0, "task__cld__groups": 4, "task__cld__scope": "global"}
CHANGES = {"rotation": TINY, "npid": {**TINY, **CLD, "task__crops": 2}, "moco": {**TINY, **CLD}}
CHIEF = {"chief": 1, "worker": 1}  # the second pair: a chief and a worker, which is its worker 0

# A worker: JSON of [{pretext, changes of the recipe, one workdir for each worker, resume; and, where it is disturbed,
# the step after which the second worker gets SIGTERM, or after which both die}]; prints what ended each of them.
WORKER = """
import json, os, signal, sys
from revisit_ssl import get_recipe, pretrain
from revisit_ssl.backbones import BACKBONES
from revisit_ssl.distribute import get_strategy, is_chief
from revisit_ssl.errors import InputError, Interrupted
from revisit_ssl.startup import collect_rarely
from revisit_ssl.testing import tiny_backbone
from revisit_ssl.training.loop import Keeper

BACKBONES["tiny"] = tiny_backbone
collect_rarely()
strategy = get_strategy("auto")
me = 0 if is_chief() else 1
kept = Keeper.on_train_batch_end

def disturbed(self, batch, logs=None):
    if me == 1 and self.step + 1 == job.get("asked"):
        os.kill(os.getpid(), signal.SIGTERM)
    kept(self, batch, logs)
    if self.step == job.get("killed"):
        os._exit(9)

Keeper.on_train_batch_end = disturbed
for job in json.loads(sys.argv[1]):
    recipe = get_recipe(job["pretext"], "smoke", **job["changes"])
    try:
        pretrain(recipe, job["workdirs"][me], resume=job["resume"], strategy=strategy, save_every=2, quiet=True)
        print("ended: whole", flush=True)
    except (InputError, Interrupted) as stopped:
        print("ended:", stopped, flush=True)
"""


def work(jobs, kinds, status):
    """[[what each worker said of the end of each job]], chief first."""
    ports = []
    for _ in range(2):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            ports.append(s.getsockname()[1])
    places = iter(f"127.0.0.1:{port}" for port in ports)
    cluster = {kind: [next(places) for _ in range(n)] for kind, n in kinds.items()}
    tasks = [{"type": kind, "index": i} for kind, n in kinds.items() for i in range(n)]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, json.dumps(jobs)], cwd=ROOT, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": task})},
        )
        for task in tasks
    ]
    said = []
    for process in started:
        output, _ = process.communicate(timeout=600)
        assert process.returncode == status, output[-3000:]
        said.append([line.removeprefix("ended: ") for line in output.splitlines() if line.startswith("ended: ")])
    return said


def job(pretext, *folders, resume=False, **more):
    workdirs = [str(folder) for folder in (folders if len(folders) == 2 else folders * 2)]
    changes = CHANGES[pretext] | more.pop("changes", {})
    return {"pretext": pretext, "workdirs": workdirs, "resume": resume, "changes": changes, **more}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder with what two pairs of workers have trained, what the first and what the second pair said)."""
    folder = tmp_path_factory.mktemp("workers")
    two, elsewhere = folder / "two", folder / "elsewhere"
    first = work(
        [
            job("rotation", two / "rotation", asked=1),
            job("rotation", two / "rotation", elsewhere, resume=True),  # as if each had a disk of its own
            job("rotation", two / "rotation", resume=True, changes={"batch_size": 8}),
            job("npid", two / "npid"),
            job("moco", two / "moco", killed=3),
        ],
        {"worker": 2},
        status=9,
    )
    second = work([job(name, two / name, resume=True) for name in ("rotation", "moco")], CHIEF, status=0)
    return folder, first, second


def test_a_worker_that_is_asked_to_stop_stops_both_after_the_same_step(trained):
    _, first, _ = trained
    assert all("stopped by signal 15; saved" in said[0] and "step-000000001.npz" in said[0] for said in first)


def test_workers_that_see_different_disks_are_refused(trained):
    folder, first, _ = trained
    for said in first:
        assert "the workers differ in the step of the newest checkpoint: 1, 0; all workers need" in said[1]
    assert not (folder / "elsewhere").exists()


def test_workers_that_are_refused_say_why(trained):
    _, first, _ = trained
    assert all("holds another recipe (batch_size: 16 there, 8 here)" in said[2] for said in first)


def test_two_pairs_were_stopped_and_went_on(trained):
    folder, first, second = trained
    assert first[0][3:] == first[1][3:] == ["whole"], "npid; MoCo was killed"
    assert second == [["whole", "whole"]] * 2
    assert (folder / "two" / "moco" / "backbone.keras").exists(), "a chief beside a worker 0 writes"
    environment = json.loads((folder / "two" / "moco" / "environment.json").read_text())
    assert environment["replicas"] == 2 and len(environment["resumed"]) == 1


# One process adds up the gradients of a batch in another order than two halves of it: after four steps the weights here
# are 2e-6 apart at most. Two devices of one process add up as two workers do, and gave their bits.
SAME = [(pretext, "none", 1e-5) for pretext in CHANGES] + [("moco", "mirrored", 1e-7)]


@pytest.mark.parametrize(("pretext", "strategy", "tolerance"), SAME, ids=[f"{p}-{s}" for p, s, _ in SAME])
def test_two_worker_processes_equal_one(pretext, strategy, tolerance, trained, tmp_path):
    """Stopped and resumed (rotation), killed and resumed (MoCo) or neither (NPID): after four steps all is the same."""
    two = trained[0] / "two" / pretext
    pretrain(get_recipe(pretext, "smoke", **CHANGES[pretext]), tmp_path, strategy=strategy, quiet=True)
    newest = [list_checkpoints(folder / "checkpoints")[-1] for folder in (two, tmp_path)]
    with np.load(newest[0]) as a, np.load(newest[1]) as b:
        assert a.files == b.files and int(a["step"]) == 4
        for name in filter(str.isdigit, a.files):
            np.testing.assert_allclose(a[name], b[name], rtol=tolerance, atol=tolerance, err_msg=name)
    for ours, alone in zip(read_log(two / "log.csv"), read_log(tmp_path / "log.csv"), strict=True):
        assert ours["step"] == alone["step"] and ours["loss"] == pytest.approx(alone["loss"], rel=1e-5)
