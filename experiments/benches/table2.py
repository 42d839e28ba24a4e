"""OBoW's supplement, Table 2: time per epoch, training time and memory of whole methods, relative to supervised."""

import os
import sys

import tensorflow as tf
from benches.measuring import LIMIT, capped, fit_seconds, held, median_of, noise, row

from revisit_ssl.backbones import fit_options
from revisit_ssl.data import train_batches
from revisit_ssl.distribute import use_xla
from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.papers.published import load_published
from revisit_ssl.recipe import to_json
from revisit_ssl.training.build import Plan, build_pretext, compile_pretext
from revisit_ssl.training.workdir import from_json

METHODS = ("supervised", "obow", "moco_v2", "byol")
CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from benches.table2 import child; child(*sys.argv[2:])"


def bench_table2(methods=METHODS, *, rounds=3, steps=3, **changes):
    """Yields a row for each method and figure; one line for a method that has no recipe.

    The paper's settings (words, queue, heads, views, optimisers) on one network, batch and machine: ResNet50 at 224 px,
    64 images, on a GPU; else ResNet18 of 64 channels at 64 px (3x3/2 stem, last block without a stride), 64 images.
    Each in a process of its own, in turn. Time: of whole steps on a set kept in memory (of noise), its reading and the
    views in it. Memory: peak of the process, or of the allocator where there is a GPU, above what it held with the data
    and no network.

    Args:
        methods: of METHODS, supervised first.
        rounds, steps: processes of each method, and steps that are timed in each.
        **changes: recipe fields that differ, for tests.
    """
    gpu = bool(tf.config.list_physical_devices("GPU"))
    images, published = (1_281_167 if gpu else 10_000), published_rows()
    recipes, found = {}, {}
    for name in methods:
        try:
            recipes[name] = recipe_of(name, gpu, **changes)
        except InputError as error:
            yield f"table2: {name} left empty: {error}"
    for _ in range(rounds):
        for name, recipe in recipes.items():
            if None not in found.setdefault(name, []):
                found[name].append(capped(command(recipe, steps), LIMIT if not gpu else float("inf")))
    memory, seconds = ({name: median_of(values, i) for name, values in found.items()} for i in (0, 1))
    for name in methods:
        batch = recipes["supervised"].batch_size
        epoch = {who: None if s is None else s * (images // batch) for who, s in seconds.items()}
        more = {"method": name, "images": images, "batch": batch, "side": recipes["supervised"].views.size}
        more |= {} if name in recipes else {"missing": "no recipe"}
        times = row(
            f"table2: {name}: time per epoch", epoch.get(name), epoch["supervised"], "s/epoch", "supervised",
            published[name, "time_per_epoch"] if name == "obow" else None, metric="time_per_epoch",
            published=published[name, "time_per_epoch"], **more,
        )
        yield times
        # What the paper multiplies by is its number of epochs.
        epochs = published[name, "epochs"], published["supervised", "epochs"]
        whole = [None if t is None else t * e for t, e in zip((times["ours"], times["theirs"]), epochs, strict=True)]
        yield row(
            f"table2: {name}: training time, {epochs[0]:g} epochs", *whole, "s", f"supervised, {epochs[1]:g} epochs",
            metric="training_time", published=published[name, "training_time"], **more,
        )
        yield row(
            f"table2: {name}: memory", memory.get(name), memory["supervised"], "MB", "supervised", metric="memory",
            published=published[name, "memory"], **more,
        )


def published_rows():
    """{(method, metric): what the paper's Table 2 says}."""
    rows = [r for r in load_published("obow") if r["table"] == "Table 2" and r["probe"] == "bench"]
    return {(r["pretext"], r["metric"]): r["value"] for r in rows}


def recipe_of(name, gpu, **changes):
    """The method's recipe at the paper's setting, on the common network and batch."""
    network = {
        "batch_size": 64,
        "views__size": 224 if gpu else 64,
        "width": 4,
        "backbone": "resnet50_torch" if gpu else "resnet18",
        # Of a map of 4 x 4 cells, OBoW's border and mean of 3 x 3 would leave none.
        "backbone_options": fit_options("resnet50_torch", stem="paper", bn_momentum=0.9) if gpu
        else fit_options("resnet18", stem="small", strides=(2, 2, 1), bn_momentum=0.9),
    }
    if name == "obow" and not gpu:  # sides of the crops at 64 px as in our recipes of that size
        network |= {"task__crop_size": 48, "task__patch_size": 32, "task__resize_to": 72}
    if name == "supervised":
        plain = {"crop": "resized", "scale": (0.08, 1.0), "color": "none", "flip": True}
        return get_recipe(name, "sample", **network | {f"views__{k}": v for k, v in plain.items()} | changes)
    return get_recipe(name, "paper", **network | changes)


def command(recipe, steps):
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [sys.executable, "-c", CHILD, here, to_json(recipe), str(steps)]


def child(recipe, steps):
    """Prints MB and seconds of a step of the recipe (JSON)."""
    recipe = from_json(recipe)
    side = round(recipe.views.size * 256 / 224)
    source = noise(max(512, 2 * recipe.batch_size), side, 1000)
    before = held()
    xla = use_xla(tf.distribute.get_strategy())
    model = build_pretext(recipe, source)
    compile_pretext(model, recipe, Plan(10**6, 10**7), xla)
    model.check_batch(recipe.batch_size, recipe.bn_group)
    batches = train_batches(source, batch_size=recipe.batch_size, crops=model.crops, seed=0)
    seconds = fit_seconds(model, batches, steps=int(steps) + 1, skip=1)()
    print(held(peak=True) - before, seconds)
