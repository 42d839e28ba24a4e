"""What all commands share: flags from dataclasses, one line for every bad input."""

import contextlib
import io
import os
import re
import shlex
import signal
import sys

import tyro

from revisit_ssl.errors import InputError, Interrupted, reason, require
from revisit_ssl.startup import Terminated, raising_on_sigterm

OUT_OF_MEMORY = ("OOM", "out of memory", "Out of memory", "Unable to allocate", "failed to allocate")
ADVICE = {  # the first of these words that an error has
    OUT_OF_MEMORY: "lower --batch-size, --width or --views.size, or --task.queue-size where there is one",
    ("File system scheme",): "give a local path, or a gs:// address",
    ("No space left", "Disk quota"): "free some space, then go on with --resume",
    ("UNAVAILABLE", "nconnected", "onnection", "ocket closed", "heartbeat"): "once all workers are there, --resume",
    ("",): "mend or remove what it names first: the same command, also with --resume, reads it again",
}


def guarded(work, form, arguments=(), *, resume=False):
    """Runs ``work``; turns bad input, signals and TensorFlow's own errors into one line and an exit status.

    Args:
        work: called without arguments.
        form: how the command was called, for the line that says how to go on.
        arguments: [str] that it was called with.
        resume: whether it needs --resume to go on.

    Returns:
        What ``work`` returns where that is an exit status, else 0, also after SIGTERM, or the error's: 2 for bad input,
        130 after Ctrl-C.
    """
    flag = ["--resume"] if resume and "--resume" not in arguments else []
    again = f"{form} {shlex.join([*arguments, *flag])}"
    try:
        check_words(arguments)
        with raising_on_sigterm():
            return work() or 0
    except Terminated:
        print(f"stopped by SIGTERM; go on with: {again}", file=sys.stderr)
        return 0
    except InputError as error:
        return complain(reason(error))
    except Interrupted as stopped:
        print(f"saved {stopped.checkpoint}\nresume with: {again}", file=sys.stderr)
        return 0 if stopped.signal == signal.SIGTERM else 130
    except BrokenPipeError:  # whoever read this, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("stopped; nothing after the last checkpoint is kept. Go on with --resume", file=sys.stderr)
        return 130
    except MemoryError as error:
        return complain(f"out of memory: {reason(error)}; {ADVICE[OUT_OF_MEMORY]}")
    except Exception as error:
        # Raised in a function that AutoGraph has taken over, an InputError comes as an error of AutoGraph's own.
        if refused := re.search(r"^\s*InputError: (.*)", str(error), re.MULTILINE):
            return complain(refused[1])
        tf = sys.modules.get("tensorflow")  # where it has not been loaded, no error is its
        if tf is None or not isinstance(error, tf.errors.OpError):
            raise
        # A damaged file, memory that ran out, a worker that is gone.
        advice = next(text for words, text in ADVICE.items() if any(word in str(error) for word in words))
        return complain(f"TensorFlow stopped: {reason(error)[:300]}; {advice}")


def complain(message):
    """Prints the one line that a bad input gets; its exit status."""
    print(f"error: {message}", file=sys.stderr)
    return 2


def check_words(arguments):
    """InputError for a flag with an empty text behind it."""
    before = ""
    for word in arguments:
        flag = word[:-1] if word.startswith("--") and word.endswith("=") else "" if word.strip() else before or "a name"
        require(not flag, f"{flag} is empty; name something, or leave the flag out")
        before = word if word.startswith("--") else before


def _called(here, *names):
    return dict.fromkeys((f"--{name}" for name in names), here)


# What other suites call it.
ELSEWHERE = (
    _called("--optimizer.lr", "lr", "learning-rate", "base-lr", "base-learning-rate")
    | _called("--optimizer.weight-decay", "wd", "weight-decay")
    | _called("--optimizer.warmup-epochs", "warmup", "warmup-epochs")
    | _called("--optimizer.name", "optim", "optimizer")
    | _called("--workdir", "output", "output-dir", "out", "out-dir", "save-dir", "log-dir")
    | _called("CUDA_VISIBLE_DEVICES, all of which are used, or --strategy none", "gpus", "gpu", "num-gpus", "devices")
    | _called("nothing: as many threads read images as there are cores", "workers", "num-workers")
    | _called("--backbone", "arch", "model", "network", "encoder")
    | _called("--dataset folder:/path", "data", "data-path", "data-root", "root", "train-dir")
    | _called("--views.size", "image-size", "img-size", "crop-size", "input-size")
    | _called("--batch-size", "bs", "batch", "batchsize")
    | _called("--epochs", "num-epochs", "max-epochs")
    | _called("--max-steps", "steps", "iterations", "num-steps")
    | _called("--task.temperature", "temperature", "tau")
    | _called("--precision mixed_bfloat16", "amp", "fp16", "bf16", "mixed-precision")
    | _called("the first argument, the pretext", "method", "pretext", "ssl-method")
)


def refuse(message):
    """argparse's complaint as the one line that every bad input gets."""
    raise InputError(message)


def read_flags(cls, arguments, **options):
    """``cls`` from flags; tyro's boxed complaint becomes the one line that every bad input gets.

    Args:
        cls: dataclass.
        arguments: [str].
        **options: of ``tyro.cli``.

    Raises:
        InputError: an unknown flag, or a value that is none.
        SystemExit: after --help.
    """
    if not arguments and "default" in options and not options.get("return_unknown_args"):
        return options["default"]  # the hundreds of runs of a sweep are read in a moment
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(cls, args=arguments, **options)
    except SystemExit as left:
        if not left.code:
            raise
        lines = (line.strip("│╭╮╰╯─+| \n") for line in complaint.getvalue().splitlines()[1:])
        text = " ".join(line for line in lines if line.strip("-"))
        # tyro names the choices in another order each time.
        text = re.sub(r"(?<=one of \()[^()]*(?=\))", lambda found: ", ".join(sorted(found[0].split(", "))), text)
        if text.startswith("Unrecognized options"):
            flags = [word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("-")]
            here = next((flag for flag in flags if flag in ELSEWHERE), None)
            require(here is None, f"no flag {here}; here it is {ELSEWHERE.get(here)}; all flags with --help")
        # What a recipe's own checks say names the flag already; tyro puts the Python name before it.
        ours = re.fullmatch(r"Error parsing [a-z][.\w-]*: (.*) For full helptext, see .*", text)
        raise InputError(ours[1] if ours else text) from None


def whole_number(name, text):
    """The int that ``text`` says, or None for None; InputError for what is none."""
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{name} {text!r} is no whole number; expected 1, 2, 4, 8, 12, 16 …") from None
