"""What toy_scenes is like: seconds to draw it, what raw pixels know of the class, what the ground knows of up.

python experiments/check_scenes.py --out scenes.jsonl --sheet docs/toy_scenes.png    # --what alone: only the sheet
"""

import io
import json
import tempfile
import time
from dataclasses import dataclass
from typing import Literal

import tyro

from revisit_ssl.startup import loading

with loading():
    import keras
    import numpy as np
    import tensorflow as tf
    from PIL import Image, ImageDraw

    from revisit_ssl.data import open_source
    from revisit_ssl.data.toy_scenes import ToyScenes
    from revisit_ssl.runs.files import write_atomically
    from revisit_ssl.runs.results import provenance
    from revisit_ssl.scenes import CLASSES, SIZE, draw_scene

GROUNDS = {"train": 3000, "test": 1000}  # scenes without their object, each shown in four rotations


def check_drawing():
    """The full set, drawn into a fresh folder by one process and read once."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        open_source("toy_scenes", "train", data_dir=folder)
        return [{"what": "drawing 8,000 scenes", "value": time.perf_counter() - begun, "unit": "s", "chance": None}]


def check_pixels(data_dir=None):
    """A linear probe on the pixels, 64 x 64 x 3 averaged to 16 x 16 x 3; the penalty is chosen on val."""
    from revisit_ssl.evaluators import PROBES, FeatureSplit

    def features(split):
        source = open_source("toy_scenes", split, data_dir=data_dir)
        pooled = source.images.reshape(-1, 16, 4, 16, 4, 3).mean((2, 4), dtype=np.float32)
        return FeatureSplit(pooled.reshape(len(pooled), -1) / 255, source.labels)

    probe = PROBES["lbfgs"](penalties=(1e-2, 1e-1, 1.0, 10.0))
    score = probe.score(*map(features, ("train", "val", "test")), num_classes=len(CLASSES))
    what = "class, linear on pixels averaged to 16 x 16, test top-1"
    return [{"what": what, "value": score.top1, "unit": "%", "chance": 100 / len(CLASSES)} | score.hyperparameters]


def check_rotation(epochs=6):
    """Top-1 of a small network that is asked for the rotation, but shown scenes without the object."""
    from revisit_ssl.backbones import BACKBONES
    from revisit_ssl.views.geometry import rotation_labels, rotations

    keras.utils.set_random_seed(0)
    first = {"train": 0, "test": ToyScenes.TEST_INSTANCES}
    data = {}
    for split, count in GROUNDS.items():
        images = np.stack([draw_scene(first[split] + i, with_object=False).image for i in range(count)])
        data[split] = rotations(images).numpy().astype(np.float32) / 127.5 - 1, rotation_labels(count).numpy()
    backbone = BACKBONES["resnet18"](1, input_shape=(SIZE, SIZE, 3), stem="small", bn_momentum=0.9)
    model = keras.Model(backbone.input, keras.layers.Dense(4)(backbone.output["pre_logits"]))
    steps = epochs * (4 * GROUNDS["train"] // 64)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    begun = time.perf_counter()
    fit = model.fit(*data["train"], batch_size=64, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - begun
    top1 = {"train": fit.history["accuracy"][-1], "test": model.evaluate(*data["test"], verbose=0)[1]}
    return [
        {"what": f"rotation of scenes without object, {split} top-1", "value": 100 * share, "unit": "%", "chance": 25.0}
        | {"epochs": epochs, "seconds": seconds}
        for split, share in top1.items()
    ]


def draw_sheet(columns=8, margin=60):
    """PNG bytes: one row of scenes for each class, its name at the left; in all their colours."""
    found = {name: [] for name in CLASSES}
    for i in range(columns * len(CLASSES)):  # each class once in every ten
        scene = draw_scene(i)
        found[CLASSES[scene.label]].append(scene.image)
    pixels = np.concatenate([np.concatenate(images, 1) for images in found.values()])
    sheet = Image.fromarray(np.pad(pixels, ((0, 0), (margin, 0), (0, 0)), constant_values=255))
    pen = ImageDraw.Draw(sheet)
    for i, name in enumerate(CLASSES):
        pen.text((margin - 5, (i + 0.5) * SIZE), name, fill="black", anchor="rm")
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


CHECKS = {"drawing": check_drawing, "pixels": check_pixels, "rotation": check_rotation}


@dataclass(frozen=True, kw_only=True)
class CheckScenes:
    """Measures what docs/results.md says of toy_scenes."""

    what: tuple[Literal["drawing", "pixels", "rotation"], ...] = tuple(CHECKS)
    """Which checks to run."""
    out: str | None = None
    """Also write the rows to this file, as JSON lines."""
    sheet: str | None = None
    """Also write a sheet of scenes, one row per class, to this PNG file."""


def main():
    options = tyro.cli(CheckScenes, prog="check_scenes.py", description=__doc__)
    if options.sheet:
        write_atomically(options.sheet, draw_sheet())
    rows = []
    print("| what | measured | chance |\n|---|---|---|", flush=True)
    for name in options.what:
        for r in CHECKS[name]():
            chance = "" if r["chance"] is None else f"{r['chance']:g} {r['unit']}"
            print(f"| {r['what']} | {r['value']:.1f} {r['unit']} | {chance} |", flush=True)
            rows.append(r | provenance())
    if options.out:
        write_atomically(options.out, "".join(json.dumps(r) + "\n" for r in rows))
    if rows:
        print(f"\n{rows[0]['hardware']}, commit {rows[0]['commit']}, {rows[0]['date']}, TensorFlow {tf.__version__}")


if __name__ == "__main__":
    main()
