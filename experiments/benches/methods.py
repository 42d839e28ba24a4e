"""The step of each instance method and its parts; NPID's bank and softmax; what the host has to do for it.

The parts are functions of their own, each compiled as the step is, on one batch, in turn with the whole step:
views    cutting and augmenting; a sum of the parts above 1 means that the step overlaps or fuses them.
network  the step itself, without the rest: it gets views made before, its loss is the sum of the outputs, and it
         writes to no bank or queue. Forward, backward, target, optimiser.
loss     value and gradient for given outputs: CLD, reading the bank or the queue, and the softmax over it.
memory   writing the bank or the queue.
"""

import contextlib
import statistics
from unittest import mock

import tensorflow as tf
from benches.measuring import alternate, compiled, interleaved, noise, peak_of, row, timed

from revisit_ssl.data import open_source, train_batches
from revisit_ssl.distribute import use_xla
from revisit_ssl.papers import get_recipe
from revisit_ssl.pretext import simclr
from revisit_ssl.pretext.bank import MemoryBank
from revisit_ssl.pretext.heads import unit
from revisit_ssl.pretext.queue import Queue
from revisit_ssl.training.build import Plan, build_pretext, compile_pretext
from revisit_ssl.views.draws import fold

METHODS = ("npid", "npid_cld", "moco", "simclr", "byol", "infomin")


def on_gpu():
    return bool(tf.config.list_physical_devices("GPU"))


def bench_methods(methods=METHODS, rows=(1_000, 10_000, 50_000, 200_000)):
    """Yields rows: each method's step; NPID's bank at several sizes; its softmax over 50,000 rows.

    Two cores: the preset sample, ResNet18 of 16 channels at 64 px. A GPU: cifar10, ResNet18 at 32 px, on noise.
    """
    for name in methods:
        recipe = get_recipe(name, "cifar10" if on_gpu() else "sample")
        yield step_row(name, recipe, noise(50_000, 32) if on_gpu() else open_source(recipe.dataset, recipe.split))
    yield from bank_rows(rows)
    changes = {"precision": "mixed_bfloat16"} if on_gpu() else {}
    yield softmax_row(get_recipe("npid", "cifar10", **changes), noise(50_000, 32))


def step_row(name, recipe, source, rounds=10):
    """Milliseconds of a step; images per second, shares of the parts and their sum, the host's share for a batch."""
    model, xla = build(recipe, source)
    batches = iter(train_batches(source, batch_size=recipe.batch_size, crops=model.crops, seed=0))
    works = parts(model, next(batches), xla) | {"host": host(batches)}
    seconds = interleaved({part: timed(work) for part, work in works.items()}, rounds)
    step, input_ = seconds.pop("step"), seconds.pop("host") / BATCHES
    shares = {part: each / step for part, each in seconds.items()}
    return row(
        f"{name}: step", 1000 * step, None, "ms/step", "", missing="", images_per_second=recipe.batch_size / step,
        **shares, sum=sum(shares.values()), host_busy=input_ / step, host_idle=max(0.0, 1 - input_ / step),
        batch=recipe.batch_size, side=recipe.views.size,
    )


BATCHES = 20


def host(batches):
    """Prepares that many batches, one after the other: no time between them to prepare more in advance."""
    return lambda: [next(batches)["index"] for _ in range(BATCHES)]


def build(recipe, source):
    """(the compiled pretext of the recipe on that source, whether XLA compiles its step)."""
    xla = use_xla(tf.distribute.get_strategy())
    model = build_pretext(recipe, source)
    compile_pretext(model, recipe, Plan(10**6, 10**7), xla)
    return model, xla


def parts(model, batch, xla):
    """{"step", "views", "network", "loss", and "memory" where there is one: callable that runs it once}."""
    crops = compiled(lambda batch: make_views(model, batch), xla)
    arguments, write = loss_of(model, batch)
    floats = [x for x in tf.nest.flatten(arguments) if tf.is_tensor(x) and x.dtype == tf.float32]

    def loss():
        with tf.GradientTape() as tape:
            tape.watch(floats)
            value = objective(model)(*arguments)[0]
        return value, [x for x in tape.gradient(value, floats) if x is not None]

    views = crops(batch)
    step = compiled(model.train_step, xla)
    network = network_of(model, xla)
    works = {
        "step": lambda: step(batch), "views": lambda: crops(batch), "network": lambda: network(batch, views),
        "loss": compiled(loss, xla),
    }
    if write is None:
        return works
    written = compiled(write, xla)

    def memory():
        written()
        return state_of(model)

    return works | {"memory": memory}


def make_views(model, batch):
    """(views float32 [B, n, s, s, 3], InfoMin's patches or None), as every train_step here makes them."""
    seed = model.step_seed()
    crops = model.cut(batch, seed)
    images = crops["image"]
    views = [model.augment(images[:, i], fold(seed, 310 + i), view=i) for i in range(images.shape[1])]
    patches = model.patches(crops["jigsaw"][:, 0], fold(seed, 330)) if "jigsaw" in crops else None
    return tf.stack(views, axis=1), patches


@contextlib.contextmanager
def given_views(model, views):
    """Within it the model's step takes ``views``, what ``make_views`` returns, and makes none."""
    images, patches = views
    crops = {"image": images, "jigsaw": images}
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(type(model), "cut", lambda *_: crops))
        stack.enter_context(mock.patch.object(type(model), "augment", lambda self, images, *_, **__: images))
        if patches is not None:
            stack.enter_context(mock.patch.object(type(model), "patches", lambda *_: patches))
        yield


def network_of(model, xla):
    """Function (batch, views) of the model's own step without views, loss and memory."""

    def sum_of(*arguments):
        outputs = [x for x in tf.nest.flatten(arguments) if tf.is_tensor(x) and x.dtype == tf.float32]
        return tf.add_n([tf.reduce_sum(x) for x in outputs]), {}

    def network(batch, views):
        # Replaced while the function is traced, and by then back in place.
        with contextlib.ExitStack() as stack:
            stack.enter_context(given_views(model, views))
            if isinstance(model, simclr.SimCLR):
                stack.enter_context(mock.patch.object(simclr, "nt_xent", lambda *x: (sum_of(*x)[0], 0.0)))
            else:
                stack.enter_context(mock.patch.object(type(model), "objective", lambda self, *x: sum_of(*x)))
            for memory, method in ((MemoryBank, "update"), (Queue, "enqueue")):
                stack.enter_context(mock.patch.object(memory, method, lambda *_: None))
            return model.train_step(batch)

    return compiled(network, xla)


def objective(model):
    """Function of ``loss_of``'s arguments: (loss, what is logged)."""
    if isinstance(model, simclr.SimCLR):
        return lambda z1, z2: simclr.nt_xent(z1, z2, model.options.temperature)
    return model.objective


def loss_of(model, batch):
    """(arguments of ``objective`` as a step would give them, of random unit rows; what writes the memory, or None)."""
    index, name, o = batch["index"], model.name, model.options
    size = index.shape[0]
    first, second = (unit(tf.random.stateless_normal([size, o.units], [i, 0])) for i in range(2))
    both = [first, second]
    if name == "simclr":
        return (first, second), None
    if name == "byol":
        return (both, both, both), None
    if name == "npid":
        views = both[: o.views]
        return (views, views, index, (0, 1)), lambda: model.bank.update(views, index)
    queries = both[: o.views - (0 if getattr(o, "symmetric", False) else 1)]
    if name == "moco":
        keys = [second] * (len(queries) if o.symmetric else 1)
        write = lambda: [model.queue.enqueue(each) for each in keys]  # noqa: E731
        return (queries, keys * (len(queries) // len(keys)), queries), write
    jigsaw = first if o.jigsaw_weight else None
    rows = [tf.identity(model.queue.features)] * len(queries)
    return (queries, second, rows, jigsaw, queries), lambda: model.queue.enqueue(second)


def state_of(model):
    """The number in the memory's state that is cheap to wait for."""
    return model.queue.pointer.value if hasattr(model, "queue") else model.bank.at([0])


def bank_rows(sizes, batch=256, units=128):
    """Yields a row for each size: updating ``batch`` rows in place beside writing a new bank."""
    xla = use_xla(tf.distribute.get_strategy())
    for size in sizes:
        bank = MemoryBank(size, units)
        update, copy, read = (compiled(f, xla) for f in bank_works(bank, batch))
        seconds = alternate(timed(update), timed(copy), 20)
        peaks = {"peak_mb": peak_of(update), "rival_peak_mb": peak_of(copy)}
        reading = timed(read)
        yield row(
            f"NPID: bank update, {size:,} rows", *(1000 * s for s in seconds), "ms", "writing a new bank",
            **{name: peak for name, peak in peaks.items() if peak is not None},
            reading_ms=1000 * statistics.median(reading() for _ in range(20)), bank_mb=size * units * 4 / 2**20,
            batch=batch,
        )


def bank_works(bank, batch):
    """Functions (update, copy, read): in place, by way of a copy, and what the full softmax reads."""
    features = unit(tf.random.stateless_normal([batch, bank.rows.shape[1]], [0, 0]))
    index = tf.range(batch, dtype=tf.int64) * (bank.size // batch)

    def update():
        bank.update([features], index)
        return bank.at(index[:1])

    def copy():
        rows = bank.moved(bank.at(index), features)
        bank.rows.assign(tf.tensor_scatter_nd_update(bank.features, index[:, None], rows))
        return bank.at(index[:1])

    def read():
        return bank.features

    return update, copy, read


def softmax_row(recipe, source, rounds=3):
    """The softmax over all rows (reading the bank, value, gradient) as a share of the step; target: on a GPU."""
    model, xla = build(recipe, source)
    batch = next(iter(train_batches(source, batch_size=recipe.batch_size, crops=model.crops, seed=0)))
    works = parts(model, batch, xla)
    seconds = interleaved({part: timed(works[part]) for part in ("loss", "step")}, rounds)
    return row(
        f"NPID: full softmax, {source.num_examples:,} rows, {recipe.backbone} {recipe.width}x",
        *(1000 * seconds[part] for part in ("loss", "step")), "ms", "the whole step", 0.15,
        batch=recipe.batch_size, side=recipe.views.size, precision=recipe.precision,
    )
