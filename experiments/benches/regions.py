"""MaskCo's step beside MoCo v2's at the same network and size, what RoIAlign and MPH are of it, RoIAlign's forms."""

import dataclasses

import tensorflow as tf
from benches.measuring import compiled, interleaved, row, timed
from benches.methods import build

from revisit_ssl.data import open_source, train_batches
from revisit_ssl.detection.roi_align import FORMS, roi_align
from revisit_ssl.papers import get_recipe


def bench_regions(rounds=10):
    """Yields rows: the step, and each form of RoIAlign on the paper's maps."""
    yield step_row(rounds)
    yield from form_rows(rounds)


def step_row(rounds):
    """Milliseconds of a step of both, of the preset sample of MaskCo; shares of its parts, which are run by themselves:
    forward and backward where a step has both."""
    mine = get_recipe("maskco", "sample", probes=())
    theirs = get_recipe("moco_v2", "sample", probes=())
    same = {name: getattr(mine, name) for name in ("backbone_options", "views", "batch_size")}
    # One query and one key, as MoCo v2 has them and MaskCo too; the preset has two queries.
    theirs = dataclasses.replace(theirs, task=dataclasses.replace(theirs.task, crops=2), **same)
    source = open_source(mine.dataset, mine.split)
    works = {}
    for name, recipe in (("maskco", mine), ("moco_v2", theirs)):
        model, xla = build(recipe, source)
        batch = next(iter(train_batches(source, batch_size=recipe.batch_size, crops=model.crops, seed=0)))
        step = compiled(model.train_step, xla)
        works[name] = lambda step=step, batch=batch: step(batch)
        if name == "maskco":
            works |= parts(model, batch, xla)
    seconds = interleaved({name: timed(work) for name, work in works.items()}, rounds)
    shares = {name: each / seconds["maskco"] for name, each in seconds.items() if name not in ("maskco", "moco_v2")}
    return row(
        "maskco: step", 1000 * seconds["maskco"], 1000 * seconds["moco_v2"], "ms/step", "moco_v2 of two crops",
        **shares, batch=mine.batch_size, side=mine.views.size,
    )


def parts(model, batch, xla):
    """{part: callable}: views and boxes; RoIAlign of query and keys; the mask prediction head of both branches."""
    seed = model.step_seed()
    _, masked, _, boxes = compiled(lambda batch: model.views(batch, seed), xla)(batch)
    maps = tf.random.stateless_normal([boxes.shape[0], *model.map_shape[1:]], [0, 1])

    def regions():
        with tf.GradientTape() as tape:
            tape.watch(maps)
            found = model.regions(maps, masked)
        return tape.gradient(found, maps), model.regions(maps, boxes)

    def head():
        with tf.GradientTape() as tape:
            tape.watch(maps)
            found = model.mph(maps, training=True)
        gradients = tape.gradient(found, [maps, *model.mph.trainable_variables])
        return gradients[0], model.target_mph(maps, training=True)

    views = compiled(lambda batch: model.views(batch, seed), xla)
    return {"views": lambda: views(batch), "roi_align": compiled(regions, xla), "mph": compiled(head, xla)}


def form_rows(rounds, images=32, boxes=17, channels=2048, side=7):
    """RoIAlign of the 17 boxes of 32 images on maps of 7 x 7 x 2048, forward and backward, beside crop_and_resize."""
    maps = tf.random.stateless_normal([images, side, side, channels], [0, 1])
    corners = tf.random.stateless_uniform([images, boxes, 2], [0, 2], 0.0, 150.0)
    found = tf.concat([corners, corners + 64.0], axis=-1)

    def work(form):
        def regions():
            with tf.GradientTape() as tape:
                tape.watch(maps)
                features = roi_align(maps, found, 1, stride=32, sampling=14, form=form)
            return features, tape.gradient(features, maps)

        return compiled(regions, False)

    seconds = interleaved({form: timed(work(form)) for form in FORMS[1:]}, rounds)
    for form in FORMS[1:3]:
        yield row(
            f"RoIAlign, {form}: {side}x{side}x{channels}, {boxes} boxes", 1000 * seconds[form],
            1000 * seconds["crop_and_resize"], "ms", "crop_and_resize", batch=images, side=224,
        )
