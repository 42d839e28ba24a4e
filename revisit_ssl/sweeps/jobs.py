"""Child processes: one on each device, each with a log that nobody else can hold, stopped together.

Locks are ``flock``s, which the kernel drops when their holder dies, however it dies: none is ever stale. A child holds
the lock of its own log, so that a child which outlives its parent is seen by the next one.
"""

import contextlib
import glob
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field

from revisit_ssl.errors import reason
from revisit_ssl.runs import files
from revisit_ssl.runs.files import is_taken
from revisit_ssl.startup import handling

LOCK = "sweep.lock"
LOG = "run.log"
STOPPED = "stopped by a signal"  # handed on to it: no failure
POLL = 0.2  # seconds between two looks at the children


@dataclass(frozen=True)
class Job:
    """A command to run.

    Attributes:
        name: what to call it.
        command: list of str.
        folder: where its log lies; made when it starts.
        files: {name: text} that it finds in its folder.
    """

    name: str
    command: list
    folder: str
    files: dict = field(default_factory=dict)

    @property
    def log(self):
        """Path of its log, to which every attempt adds."""
        return os.path.join(self.folder, LOG)


def run_jobs(jobs, devices, *, started, ended):
    """Runs the jobs in their order, one at a time on each device.

    Ctrl-C or SIGTERM is handed on to the children as SIGTERM, on which a run saves its state; no other is begun. A
    second one kills them. They live in sessions of their own, or a terminal's Ctrl-C would reach them twice.

    Args:
        jobs: [Job].
        devices: what each place gives its jobs: None, "cpu", or a value of CUDA_VISIBLE_DEVICES.
        started: called with (job, device).
        ended: called with (job, what went wrong in one line or None, seconds); STOPPED after a signal.

    Returns:
        The number of the signal that stopped it, or None.
    """
    waiting, running = list(jobs), {}
    with _noted_signals() as signals:
        passed_on = 0
        while running or (waiting and not signals):
            for place, device in enumerate(devices):
                if place not in running and waiting and not signals:
                    job = waiting.pop(0)
                    try:
                        running[place] = (job, *_start(job, device), time.monotonic())
                    except OSError as error:
                        ended(job, f"cannot start it in {job.folder} ({reason(error)})", 0.0)
                    else:
                        started(job, device)
            time.sleep(POLL)
            if len(signals) > passed_on:
                for _, child, _, _ in running.values():
                    child.kill() if passed_on else child.terminate()
                passed_on = len(signals)
            for place, (job, child, offset, begun) in list(running.items()):
                if child.poll() is not None:
                    del running[place]
                    failure = _what_failed(job, child.returncode, offset) if child.returncode else None
                    ended(job, STOPPED if signals else failure, time.monotonic() - begun)
        return signals[0] if signals else None


def environment_for(device):
    """os.environ for a child that may see one device: None: whatever is there; "cpu": no accelerator."""
    visible = {} if device is None else {"CUDA_VISIBLE_DEVICES": "-1" if device == "cpu" else device}
    return os.environ | visible | {"PYTHONUNBUFFERED": "1"}  # a log that can be followed


def _start(job, device):
    """(process, where in the log its words begin)"""
    os.makedirs(job.folder, exist_ok=True)
    with open(job.log, "ab") as log:
        files.locked(log)
        for name, text in job.files.items():
            partial = os.path.join(job.folder, f"{name}.partial")
            with open(partial, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(partial, os.path.join(job.folder, name))
        offset = log.seek(0, os.SEEK_END)
        # The lock belongs to the open file, which the child shares: it lasts as long as the child.
        child = subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment_for(device),
            start_new_session=True,
        )
    return child, offset


def last_words(text):
    """The line that says why a process failed: its last one after ``error: ``, else its last one at all."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return (errors or lines or ["it said nothing"])[-1][:300]


def exit_reason(code, text):
    """One line for a process that ended with that status, after having printed ``text``."""
    if code >= 0:
        return last_words(text)
    name = signal.Signals(-code).name
    return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")


def _what_failed(job, code, offset):
    with open(job.log, "rb") as log:
        log.seek(max(offset, log.seek(0, os.SEEK_END) - 2**16))
        return exit_reason(code, log.read().decode(errors="replace"))


def only_here(folder):
    """Holds the folder's lock, a context; makes the folder.

    Raises:
        InputError: another sweep holds it, or the folder cannot be written to.
    """
    return files.only_here(folder, LOCK, "another sweep")


def wait_for_orphans(folder):
    """Waits for children of a killed parent, which still work in sub-folders of ``folder``, and says so."""
    told = False
    while names := [os.path.basename(os.path.dirname(p)) for p in glob.glob(_logs(folder)) if is_taken(p)]:
        if not told:
            print(f"waiting for what a killed sweep left running: {', '.join(sorted(names))}", flush=True)
        told = True
        time.sleep(POLL)


def _logs(folder):
    return os.path.join(glob.escape(folder), "*", LOG)


@contextlib.contextmanager
def _noted_signals():
    """A list that each Ctrl-C or SIGTERM adds its number to, instead of ending the process."""
    numbers = []
    with handling(lambda number, frame: numbers.append(number), signal.SIGINT, signal.SIGTERM):
        yield numbers
