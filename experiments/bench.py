"""Timings, each beside its rival in the same process: python experiments/bench.py --what step views lbfgs startup

Rounds of the two sides alternate and medians are compared. A busy machine still spoils them (PyTorch's threads wait for
each other): the load before the start is written down. With --out FILE the rows are also kept as JSON lines with date,
commit and hardware.
"""

import json
import os
from dataclasses import dataclass
from typing import Literal

import tyro

from revisit_ssl.startup import loading

with loading():
    import numpy as np
    import tensorflow as tf
    from benches.basics import bench_lbfgs, bench_startup, bench_step, bench_views
    from benches.clustering import bench_clustering
    from benches.detection import bench_detection
    from benches.measuring import shown
    from benches.memory import bench_memory
    from benches.methods import bench_methods
    from benches.regions import bench_regions
    from benches.table2 import bench_table2
    from benches.torch_rivals import bench_torch

    from revisit_ssl.runs.files import write_atomically
    from revisit_ssl.runs.machine import machine
    from revisit_ssl.runs.results import provenance

# Those in child processes first: on a GPU the others would make this process take all of its memory.
BENCHES = {
    "memory": bench_memory, "table2": bench_table2, "startup": bench_startup, "step": bench_step,
    "views": bench_views, "lbfgs": bench_lbfgs, "methods": bench_methods, "torch": bench_torch,
    "clustering": bench_clustering, "regions": bench_regions, "detection": bench_detection,
}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Compares our speed with the usual alternative's."""

    what: tuple[
        Literal[
            "memory", "table2", "startup", "step", "views", "lbfgs", "methods", "torch", "clustering", "regions",
            "detection",
        ],
        ...,
    ] = tuple(BENCHES)
    """Which comparisons to run."""
    torch_python: str | None = None
    """torch, detection: a Python interpreter that has PyTorch, and torchvision; None: this one."""
    out: str | None = None
    """Also write the rows to this file, as JSON lines, in place of older ones of the same comparison and machine."""


def main():
    options = tyro.cli(Bench, prog="bench.py", description=__doc__)
    rows, notes = [], []
    made = provenance() | machine()  # before --out changes a file of the checkout
    load = {"load": os.getloadavg()[0]} if hasattr(os, "getloadavg") else {}  # of others, before anything runs here
    tf.get_logger().setLevel("ERROR")  # tracing anew for each pair is what is wanted here
    print("| what | ours | theirs | ratio | target | rival | more |\n|---|---|---|---|---|---|---|", flush=True)
    for name in (name for name in BENCHES if name in options.what):
        options_of = dict.fromkeys(("torch", "detection"), [options.torch_python])
        for r in BENCHES[name](*options_of.get(name, [])):
            if isinstance(r, str):
                notes.append(r)
                continue
            rows.append(r | made | load)
            print(line(r), flush=True)
            if options.out:
                keep(rows, options.out)
    for note in notes:
        print(f"\n{note}")
    busy = "".join(f", load {value:.2f} at the start" for value in load.values())
    kernels = f"{made['vector']}, oneDNN {'on' if made['onednn'] else 'off'}, {made['threads']['intra_op']} threads"
    print(f"\n{made['hardware']} ({kernels}), commit {made['commit']}, {made['date']}, NumPy {np.__version__}{busy}")


def line(r):
    """A row of the printed table."""
    target = f"≤ {r['target']}" if "target" in r else ""
    known = ("what", "ours", "theirs", "ratio", "unit", "rival", "target", "missing")
    more = ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else format(value, '.3g')}"
        for name, value in r.items() if name not in known
    )
    missing = {"missing": r["missing"]} if "missing" in r else {}
    sides = " | ".join(shown(r[side], r["unit"], **missing) for side in ("ours", "theirs"))
    ratio = f"{r['ratio']:.2f}" if r["ratio"] is not None else ""
    return f"| {r['what']} | {sides} | {ratio} | {target} | {r['rival']} | {more} |"


def keep(rows, path):
    """Writes the rows to the file, after those that it has of other comparisons or machines."""

    def compared(r):
        return r["what"], r["rival"], r["hardware"], r.get("batch")

    old = []
    if os.path.exists(path):
        with open(path) as file:
            old = [json.loads(text) for text in file if text.strip()]
    new = {compared(r) for r in rows}
    kept = [r for r in old if compared(r) not in new]
    write_atomically(path, "".join(json.dumps(r) + "\n" for r in [*kept, *rows]))


if __name__ == "__main__":
    main()
