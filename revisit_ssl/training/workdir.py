"""The folder of a run: what it is called, and how far the run in it has come."""

import json
import os

import tensorflow as tf

from revisit_ssl.pretext import find_pretext
from revisit_ssl.runs.results import discard, provenance, read_results, write_atomically
from revisit_ssl.training.pretrain import check_workdir

FINISHED = "finished.json"


def run_name(recipe, variant=""):
    """rotation-revnet50-k1-toy_scenes-s0; ``variant`` stands for the pretext where one has several recipes."""
    data = recipe.dataset.replace("folder:", "").strip("/").replace("/", "_").replace(":", "_").replace("#", "_")
    return f"{variant or recipe.pretext}-{recipe.backbone}-k{recipe.width}-{data}-s{recipe.seed}"


def mark_finished(workdir, *, untrained, seconds):
    """Writes finished.json, the last file of a run: all probes are in results.jsonl, the report is written.

    Args:
        workdir: the run's folder, local or gs://.
        untrained: whether the untrained network was probed too.
        seconds: wall time of the process that finished the run.
    """
    facts = {"untrained": untrained, "seconds": round(seconds, 1)} | provenance()
    write_atomically(os.path.join(str(workdir), FINISHED), json.dumps(facts) + "\n")


def unmark_finished(workdir):
    """Removes finished.json, before a run is probed once more."""
    discard(os.path.join(str(workdir), FINISHED))


def run_state(recipe, workdir, *, untrained=True):
    """How far the recipe's run in the folder has come.

    Args:
        recipe: Recipe.
        workdir: the run's folder; it need not exist.
        untrained: whether a finished run has to have the rows of the untrained network.

    Returns:
        "new"; "begun": there is a checkpoint; "trained": backbone.keras is there, not all of its rows are;
        "finished": nothing is left to do.

    Raises:
        InputError: the folder holds another recipe, or a damaged file.
    """
    state = check_workdir(recipe, str(workdir), resume=True)
    if state != "finished":
        return state
    return "finished" if _probed(recipe, str(workdir), untrained) else "trained"


def _probed(recipe, workdir, untrained):
    """Whether the marker and, in case someone has deleted those, the rows are there."""
    try:
        with tf.io.gfile.GFile(os.path.join(workdir, FINISHED)) as file:
            marker = json.load(file)
    except (json.JSONDecodeError, tf.errors.OpError):
        return False
    trains = find_pretext(recipe.pretext).trains
    needed = {"pretrained"} if trains else set()
    if untrained or not trains:
        needed.add("random")
        if not marker.get("untrained"):
            return False
    if not recipe.probes:
        return True
    path = os.path.join(workdir, "results.jsonl")
    return tf.io.gfile.exists(path) and needed <= {r.weights for r in read_results(path)}
