"""What the numbers of a run were computed on: CPU or GPU, its vector instructions, threads, TensorFlow's kernels."""

import platform

import numpy as np
import tensorflow as tf

from revisit_ssl.startup import cores, onednn_is_on

# What NumPy calls the groups of instructions it found, widest first, and the usual name.
_VECTORS = {
    "AVX-512": ("AVX512", "X86_V4"), "AVX2": ("AVX2", "X86_V3"), "SSE4.2": ("SSE42", "X86_V2"), "SVE": ("SVE",),
    "NEON": ("NEON", "ASIMD"),
}


def machine():
    """{"cpu": model, "cores": those this process may use, "vector": widest instructions, "onednn", "threads"}.

    "onednn": whether TensorFlow uses its kernels, None where it does not say. "threads": {"intra_op", "inter_op"}, of
    one operation and of operations side by side.
    """
    threading = tf.config.threading
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "vector": widest_vector(),
        "onednn": onednn_is_on(),
        "threads": {
            "intra_op": threading.get_intra_op_parallelism_threads() or cores(),  # 0: as many as there are cores
            "inter_op": threading.get_inter_op_parallelism_threads() or cores(),
        },
    }


def hardware():
    """The devices in words: "1x NVIDIA H200", or "2 cores of AMD EPYC"."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
        return f"{len(gpus)}x {name}"
    return f"{cores()} cores of {cpu_model()}"


def cpu_model(path="/proc/cpuinfo"):
    """The CPU's name as its maker gives it, or the kind of processor where the system does not tell."""
    try:
        with open(path) as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return (names and names[0]) or platform.processor() or platform.machine()


def widest_vector():
    """The widest vector instructions of this CPU that NumPy knows, such as "AVX2"; "none" where it knows none."""
    extensions = np.show_config(mode="dicts").get("SIMD Extensions", {})
    found = [*extensions.get("found", []), *extensions.get("baseline", [])]
    for name, marks in _VECTORS.items():
        if any(group.startswith(marks) for group in found):
            return name
    return "none"
