"""Peak memory and time of a training step, each network in a process of its own."""

import sys

import tensorflow as tf
from benches.measuring import LIMIT, capped, median_of, row

MEMORY = """
import re, sys, time
import tensorflow as tf
from revisit_ssl.backbones import BACKBONES
name, width, batch, side = sys.argv[1], *map(int, sys.argv[2:5])
gpu = bool(tf.config.list_physical_devices("GPU"))
options = {"recompute": True} if sys.argv[5:] else {}
model = BACKBONES[name](width, input_shape=(side, side, 3), stem="paper" if gpu else "small", **options)
images = tf.random.stateless_uniform([batch, side, side, 3], [0, 1])

@tf.function(autograph=False, jit_compile=gpu)
def step():
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(images, training=True)["pre_logits"]))
    return [tf.reduce_sum(g) for g in tape.gradient(loss, model.trainable_variables)]

def held(what):
    # Not ru_maxrss: a child inherits that from its parent. KiB.
    if gpu:
        return tf.config.experimental.get_memory_info("GPU:0")[{"VmRSS": "current", "VmHWM": "peak"}[what]] / 1024
    return int(re.search(what + r":\\s+(\\d+)", open("/proc/self/status").read()).group(1))

before = held("VmRSS")
[value.numpy() for value in step()]
times = []
for _ in range(3):
    begun = time.perf_counter()
    [value.numpy() for value in step()]
    times.append(time.perf_counter() - begun)
print((held("VmHWM") - before) / 1024, sorted(times)[1])
"""


def bench_memory(rounds=3):
    """RevNet50 that recomputes its activations against one that stores them and ResNets of the same width.

    Memory: peak of a training step above what the built network holds; of the process (64 px, 3x3/2 stem, Linux; the
    traced graph, 80 to 100 MB, is in it), or of the allocator where there is a GPU (224 px). Each network in a process
    of its own, in turn.
    """
    gpu = bool(tf.config.list_physical_devices("GPU"))
    rivals = {
        "stored activations": ["revnet50"], "ResNet50 v2": ["resnet50_v2"], "ResNet50 v1": ["resnet50_v1"],
    }
    networks = {"ours": ["revnet50", "recompute"], **rivals}
    rows = []
    for width, batch, side in [(4, 128, 224), (8, 64, 224)] if gpu else [(1, 256, 64), (4, 96, 64)]:
        found = {who: [] for who in networks}
        for _ in range(rounds):
            for who, (name, *recompute) in networks.items():
                if None not in found[who]:
                    size = [str(width), str(batch), str(side)]
                    found[who].append(capped([sys.executable, "-c", MEMORY, name, *size, *recompute], LIMIT))
        memory, seconds = ({who: median_of(values, i) for who, values in found.items()} for i in (0, 1))
        what, size = f"RevNet50 {width}x with recomputation", {"batch": batch, "side": side}
        for rival in rivals:
            targets = (0.5, 1.5) if rival == "stored activations" else (None, None)
            rows.append(row(f"{what}: memory", memory["ours"], memory[rival], "MB", rival, targets[0], **size))
            rows.append(row(f"{what}: time", seconds["ours"], seconds[rival], "s/step", rival, targets[1], **size))
    return rows
