"""Which images a run trains on: noted when it begins, so that it does not go on with others."""

import json
import os
import re

import tensorflow as tf

from revisit_ssl.errors import InputError
from revisit_ssl.runs.files import write_atomically

IMAGES = "images.json"  # in a run's folder
# Earlier versions noted the bytes of the embedded set's files, too, which hang on how the same images were packed.
PACKED = re.compile(r"^(toy_scenes/\w+/[\d.]+-[^-]+)-\d+(?=-|$)")


def note_images(workdir, source):
    """Writes images.json; ``source``: the data.Source that is trained on."""
    write_atomically(os.path.join(str(workdir), IMAGES), json.dumps(facts_of(source)) + "\n")


def check_images(workdir, source):
    """InputError where a begun run has trained on other images than those of ``source``.

    Nothing is said where there is no readable images.json: older runs have none, and it decides nothing else.
    """
    try:
        with tf.io.gfile.GFile(os.path.join(str(workdir), IMAGES), "rb") as file:
            noted = json.loads(file.read())
        then, known = noted["images"], noted["fingerprint"]
    except (ValueError, KeyError, TypeError, tf.errors.OpError):
        return
    now = facts_of(source)
    if PACKED.sub(r"\1", known) != now["fingerprint"]:
        others = "others of the same number" if then == now["images"] else f"{then} then, {now['images']} now"
        raise InputError(
            f"the images of {source.name} {source.split} have changed since the run in {workdir} began ({others}); "
            "restore them, or begin anew with another --workdir"
        )


def facts_of(source):
    """{"dataset", "split", "images", "classes", "fingerprint"} of a data.Source."""
    return {
        "dataset": source.name,
        "split": source.split,
        "images": source.num_examples,
        "classes": source.num_classes,
        "fingerprint": source.fingerprint,
    }
