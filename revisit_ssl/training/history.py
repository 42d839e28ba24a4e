"""What a run keeps of its training for the results: the pretext's score, the monitor's looks, the log."""

import json
import os
from dataclasses import dataclass

from revisit_ssl.runs.damage import read_or_set_aside
from revisit_ssl.training.checkpoints import list_checkpoints, step_of
from revisit_ssl.training.progress import LOG, LOOKS, read_log

SCORE = "pretext.json"


@dataclass(frozen=True, kw_only=True)
class History:
    """Rows of a run's training; read from its folder, so that a resumed run has those of its whole length.

    Attributes:
        steps: of the newest checkpoint; None where there is none.
        score: {"loss": nats, "accuracy": in [0, 1], ...} of the pretext on validation images; {} without.
        score_images: how many of them; None where that is not known.
        looks: [{column: number}], one row for each look of the monitor; see ``monitor.Monitor``.
        log: [{column: number}], one row for each window of steps; see ``progress.Log``.
    """

    steps: int | None
    score: dict
    looks: list
    log: list
    score_images: int | None = None


def read_history(workdir):
    """The History of the run in ``workdir``; empty where there is no run. What is damaged is set aside."""
    workdir = str(workdir)
    checkpoints = list_checkpoints(os.path.join(workdir, "checkpoints"))
    score = read_score(os.path.join(workdir, SCORE))
    images = score.pop("images", None)  # may be anything in a damaged file
    return History(
        steps=step_of(checkpoints[-1]) if checkpoints else None,
        score=score,
        score_images=images,
        looks=read_log(os.path.join(workdir, LOOKS)),
        log=read_log(os.path.join(workdir, LOG)),
    )


def read_score(path):
    """{name: number} of a pretext.json, without the "val_" of its names; {} where there is none, or a damaged one,
    which is set aside."""

    def parse(text):
        return {name.removeprefix("val_"): float(value) for name, value in json.loads(text).items()}

    return read_or_set_aside(path, parse, {})
