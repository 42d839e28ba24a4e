"""What an error becomes: its innermost message in one line, advice that helps, Ctrl-C at any moment."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from revisit_ssl import __main__ as entry
from revisit_ssl.commands import run, sweep, work
from revisit_ssl.commands.flags import guarded
from revisit_ssl.commands.run import parse_run
from revisit_ssl.distribute import get_strategy, is_chief
from revisit_ssl.errors import InputError, nearest, reason
from revisit_ssl.pretext.rotation import Rotation
from revisit_ssl.training import pretrain as pretraining

ROOT = pathlib.Path(__file__).parents[1]
HEAD = "Graph execution error:\n\nDetected at node ReadFile defined at (most recent call last):\n"
GRAPH, TRACED = f"{HEAD}<stack traces unavailable>\n", f'{HEAD}  File "a.py", line 2, in f\n\n  File "b.py", line 1\n\n'
MAP = "Error in user-defined function passed to MapDataset:3 transformation with iterator: Iterator::Root::MapV2: "
# what TensorFlow says, its reason, words of the advice
MESSAGES = [
    (
        tf.errors.NotFoundError,
        GRAPH + MAP + "/data/x.jpg; No such file or directory\n\t [[{{node ReadFile}}]] [Op:__inference_two_35]",
        "/data/x.jpg; No such file or directory",
        "mend or remove what it names first",
    ),
    (
        tf.errors.InvalidArgumentError,
        "{{function_node __wrapped__IteratorGetNext_/job:a}} " + MAP + "Invalid JPEG data\n\t [[{{node D}}]] [Op:I]",
        "Invalid JPEG data",
        "mend or remove",
    ),
    (
        tf.errors.ResourceExhaustedError,
        TRACED + "OOM when allocating tensor with shape[10,10] and type float\n\t [[{{node z}}]]\nHint: If you want",
        "OOM when allocating tensor with shape[10,10] and type float",
        "lower --batch-size, --width or --views.size, or --task.queue-size",
    ),
    (
        tf.errors.InvalidArgumentError,
        "2 root error(s) found.\n  (0) INVALID_ARGUMENT:  Input is empty.\n\t [[{{node D}}]]\n  (1) CANCELLED: x\n",
        "Input is empty.",
        "mend or remove",
    ),
    (
        tf.errors.ResourceExhaustedError, "/runs/a/log.csv; No space left on device",
        "/runs/a/log.csv; No space left on device", "free some space, then go on with --resume",
    ),
    (
        tf.errors.UnavailableError, "failed to connect to all addresses; Connection refused",
        "failed to connect to all addresses; Connection refused", "once all workers are there, --resume",
    ),
]


@pytest.mark.parametrize(("kind", "message", "said", "advice"), MESSAGES, ids=[case[2][:24] for case in MESSAGES])
def test_the_innermost_message_and_what_helps(kind, message, said, advice, capsys):
    error = kind(None, None, message)
    assert reason(error) == said

    def work():
        raise error

    assert guarded(work, "run") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: TensorFlow stopped: {said}; ") and advice in line


def test_the_real_thing_in_a_graph_names_its_file(tmp_path):
    """The messages above are those of TensorFlow 2.21; this one is of the TensorFlow that is here."""
    images = tf.data.Dataset.from_tensors(str(tmp_path / "gone.jpg")).map(tf.io.read_file)
    step = tf.function(lambda iterator: tf.strings.length(next(iterator)), autograph=False)
    with pytest.raises(tf.errors.NotFoundError) as caught:
        step(iter(images))
    assert reason(caught.value) == f"{tmp_path}/gone.jpg; No such file or directory"


def test_memory_and_what_autograph_wraps(capsys):
    def refuse(value):
        raise InputError("scale is a pair; got (2, 1).")

    raised = {
        "error: out of memory: Unable to allocate 8 EiB; lower --batch-size": MemoryError("Unable to allocate 8 EiB"),
        "error: of the first line only": InputError("of the first line only\nand more"),
    }
    for line, error in raised.items():
        def work(error=error):
            raise error

        assert guarded(work, "run") == 2 and capsys.readouterr().err.startswith(line)
    assert guarded(lambda: tf.data.Dataset.range(2).map(refuse), "run") == 2
    assert capsys.readouterr().err == "error: scale is a pair; got (2, 1).\n"
    with pytest.raises(ZeroDivisionError):  # a fault of ours stays one
        guarded(lambda: 1 / 0, "run")


def test_nearest_names():
    known = ("moco_v2", "moco_v2_cld", "npid", "rotation")
    names = {"mocov2": "moco_v2", "MoCo-v2": "moco_v2", "Rotation": "rotation", "rotatoin": "rotation", "svm": None}
    assert {name: nearest(name, known) for name in names} == names


# What TF_CONFIG may be, and words of the line.
ONE = {"worker": ["a:1"]}
TF_CONFIGS = [
    ("{", "is not JSON"),
    ("[" * 100_000, "is not JSON"),
    ("7", "TF_CONFIG is 7"),
    ('["a"]', "TF_CONFIG is ['a']"),
    ({"cluster": ["a:1"]}, "has cluster ['a:1']"),
    ({"cluster": {"worker": "a:1"}}, "has cluster {'worker': 'a:1'}"),
    ({"cluster": {"worker": [1, 2]}}, "has cluster {'worker': [1, 2]}"),
    ({"cluster": {"worker": ["a", "b"]}}, "has cluster {'worker': ['a', 'b']}"),
    ({"cluster": ONE, "task": "worker"}, "and task 'worker'"),
    ({"cluster": ONE}, "has the task {}, which is none of the cluster"),
    ({"cluster": ONE, "task": {"type": "worker", "index": 1}}, "which is none of the cluster"),
    ({"cluster": ONE, "task": {"type": "worker", "index": -1}}, "which is none of the cluster"),
    ({"cluster": ONE, "task": {"type": "worker", "index": "²"}}, "which is none of the cluster"),
    ({"cluster": ONE, "task": {"type": ["worker"], "index": 0}}, "which is none of the cluster"),
]


@pytest.mark.parametrize(("config", "words"), TF_CONFIGS, ids=[str(config)[:50] for config, _ in TF_CONFIGS])
def test_a_tf_config_of_another_shape(config, words, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    for ask in (get_strategy, is_chief):
        with pytest.raises(InputError) as refused:
            ask()
        assert words in str(refused.value) and 'expected {"cluster": {"worker": ["host:port", …]}' in str(refused.value)


MOMENTS = ["parse_run", "get_strategy", "check_probes", "pretrain", "probe_and_report"]


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_at_any_moment_is_one_line(moment, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run if moment == "parse_run" else work, moment, stop)
    if moment == "probe_and_report":
        monkeypatch.setattr(work, "pretrain", lambda *_, **__: None)
    assert run.main(["rotation", "--preset", "smoke", "--workdir", str(tmp_path / "run")]) == 130
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("checking ", "reading "))]
    assert len(lines) == 1 and lines[0].startswith("stopped")


# Signal: the status that it leaves with. (Where Ctrl-C came into a text that was being executed, such as a dataclass in
# the making, Python itself ends with the signal once all is said, which a shell calls 130 too.)
STOPPED = {signal.SIGINT: (130, -signal.SIGINT), signal.SIGTERM: (0,)}


@pytest.mark.parametrize("number", STOPPED)
def test_a_signal_while_modules_are_loaded(number, monkeypatch, capsys):
    def stop(name):
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(entry.importlib, "import_module", stop)
    with pytest.raises(SystemExit) as left:
        entry.start("revisit-ssl")
    assert left.value.code == STOPPED[number][0]
    assert capsys.readouterr().err == "stopped before anything was done\n"


@pytest.mark.parametrize("number", STOPPED)
@pytest.mark.parametrize("seen", ["revisit_ssl.errors", "tyro", "revisit_ssl.papers"])
def test_a_signal_in_the_first_second(seen, number, tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "revisit_ssl", "run", "rotation"]
    command += ["--workdir", str(tmp_path / "a")]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        for line in process.stderr:
            if line.split("|")[-1].strip() == seen:
                process.send_signal(number)
                break
        said = [line for line in process.stderr.read().splitlines() if not line.startswith("import time:")]
    assert process.returncode in STOPPED[number], said
    assert len(said) == 1 and said[0].startswith("stopped")
    assert not (tmp_path / "a").exists()


def test_a_plan_never_waits_for_images_to_be_drawn(tmp_path, monkeypatch, capsys):
    def draw(*_, **__):
        raise AssertionError("drawn")

    monkeypatch.setattr("revisit_ssl.data.tfds_reading.make_set", draw)
    command = ["revisiting", "--plan", "--no-timing", "--pretexts", "rotation", "--workdir", str(tmp_path / "sweep")]
    assert sweep.main([*command, "--data-dir", str(tmp_path)]) == 0
    assert "data set not here, sizes as published: toy_scenes" in capsys.readouterr().out
    # A run says what it can before it draws: here that its warm-up is too long.
    monkeypatch.setattr(run, "begin", lambda *_: None)
    short = ["rotation", "--max-steps", "25", "--optimizer.warmup-epochs", "3", "--data-dir", str(tmp_path)]
    assert run.main([*short, "--workdir", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr()
    assert "error: --optimizer.warmup-epochs 3 is 504 steps, longer than the run of 25; lower it" in captured.err
    assert captured.out == "" and not (tmp_path / "run").exists()


TINY = ["rotation", "--preset", "smoke", "--backbone", "tiny", "--endpoints", "pre_logits", "--max-steps", "2"]


def test_what_the_step_refuses_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    def refuse(self, batch):
        raise InputError("a kernel of 99 taps does not fit 32 pixels")

    monkeypatch.setattr(Rotation, "train_step", refuse)
    assert run.main([*TINY, "--workdir", str(tmp_path / "run")]) == 2
    captured = capsys.readouterr()
    assert captured.err.endswith("error: a kernel of 99 taps does not fit 32 pixels\n") and captured.out == ""
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("strategy", ["none", "mirrored"])
def test_training_takes_the_trace_over(strategy, tmp_path, monkeypatch):
    traces, train = [], pretraining.train

    def counted(model, *rest):
        train(model, *rest)
        traces.append(model.train_function.experimental_get_tracing_count())

    monkeypatch.setattr(pretraining, "train", counted)
    pretraining.pretrain(parse_run(TINY).recipe, tmp_path, strategy=strategy, quiet=True)
    assert traces == [1]
