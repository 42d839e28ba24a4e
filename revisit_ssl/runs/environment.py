"""environment.json: what a run began on, and each time it was resumed, what on."""

import json
import os
import sys

from revisit_ssl.errors import require
from revisit_ssl.runs.damage import read_or_set_aside
from revisit_ssl.runs.files import write_atomically
from revisit_ssl.runs.results import environment

ENVIRONMENT = "environment.json"
COMPARED = {"tensorflow": "TensorFlow", "keras": "Keras", "commit": "this package", "replicas": "replicas"}


def read_environment(workdir):
    """What environment.json says, with the further ones under "resumed"; {} where there is none, or a damaged one,
    which is set aside."""

    def parse(text):
        found = dict(json.loads(text).items())
        return found | {"resumed": [dict(entry.items()) for entry in found.get("resumed", [])]}

    return read_or_set_aside(os.path.join(str(workdir), ENVIRONMENT), parse, {})


def changes(workdir, replicas):
    """In what the newest environment of a run differs from this one: "TensorFlow 2.19.0, now 2.21.0"; "" in nothing."""
    held = read_environment(workdir)
    last, now = [held, *held.get("resumed", [])][-1], environment() | {"replicas": replicas}
    known = [key for key in COMPARED if last.get(key, "unknown") != "unknown"]
    return ", ".join(f"{COMPARED[key]} {last[key]}, now {now[key]}" for key in known if last[key] != now[key])


def check_environment(workdir, replicas, deterministic):
    """Says in what this environment differs from the one that a begun run was last in.

    Raises:
        InputError: it differs, and the run is to be equal to the bit.
    """
    found = changes(workdir, replicas)
    exact = "--deterministic promises the same to the bit: go on where it began, or begin anew in another --workdir"
    require(not (found and deterministic), f"{workdir} began elsewhere ({found}); {exact}")
    if found:
        print(f"resumed elsewhere than it began: {found}", file=sys.stderr)


def note_environment(workdir, replicas, *, resumed):
    """Writes environment.json, or adds to the one of the run that is resumed."""
    now, held = environment() | {"replicas": replicas}, read_environment(workdir) if resumed else {}
    noted = held | {"resumed": [*held["resumed"], now]} if held else now
    write_atomically(os.path.join(str(workdir), ENVIRONMENT), json.dumps(noted, indent=2) + "\n")
