"""Devices: which strategy runs a training step, and what a step may ask about its replicas."""

import functools
import json
import os

import numpy as np
import tensorflow as tf

from revisit_ssl.errors import InputError, reason, require
from revisit_ssl.views.draws import Seed, fold

STRATEGIES = ("auto", "none", "mirrored", "multiworker", "tpu")


def get_strategy(name="auto"):
    """The tf.distribute strategy of that name.

    Args:
        name: "none": one device; "mirrored": all GPUs of this machine, or its logical CPUs where there is no GPU;
            "multiworker": the workers of TF_CONFIG; "tpu": the TPU named by TPU_NAME, or the local one;
            "auto": multiworker where TF_CONFIG names two workers, else mirrored where there are two GPUs, else none.
            One GPU is never mirrored: a strategy would turn XLA off.

    Raises:
        InputError: an unknown name, or devices that are not there.
    """
    if name not in STRATEGIES:
        raise InputError(f"unknown strategy {name!r}; one of {', '.join(STRATEGIES)}")
    workers = _workers()
    if name == "auto" and len(workers) > 1:
        name = "multiworker"
    if name == "multiworker":
        if not workers:
            raise InputError("strategy multiworker needs TF_CONFIG with the addresses of its workers; it is not set")
        try:
            return _of_workers()
        except RuntimeError as error:
            # Workers connect when TensorFlow starts; any tensor made before, even a list of devices, is too late.
            raise InputError(f"strategy multiworker must be made before TensorFlow is used ({error})") from None
        except (ValueError, tf.errors.OpError) as error:
            raise InputError(f"strategy multiworker cannot be made of TF_CONFIG ({reason(error)})") from None
    gpus = tf.config.list_logical_devices("GPU")
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 else "none"
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        devices = gpus or tf.config.list_logical_devices("CPU")
        if len(devices) < 2:
            raise InputError(f"strategy mirrored needs two devices and found {len(devices)}; use --strategy none")
        return _mirrored(tuple(device.name for device in devices))
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(os.environ.get("TPU_NAME", "local"))
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        why = reason(error).split(". ")[0]
        raise InputError(f"strategy tpu found no TPU ({why}); set TPU_NAME, or use --strategy auto") from None


def is_chief():
    """True in the one process that writes: the chief of TF_CONFIG, its first worker where it has none, or this."""
    task = _tf_config().get("task", {})
    first = "chief" if _tf_config().get("cluster", {}).get("chief") else "worker"
    return len(_workers()) < 2 or (task.get("type") == first and int(task.get("index", 0)) == 0)


FACTS = 8  # numbers that `agree` exchanges at most: a gathered tensor has one shape on all workers


def agree(strategy, work):
    """Does the same on every worker and goes on where all of them could, and found the same.

    Without it one worker would wait for ever for another that has stopped, or train on from another state.

    Args:
        strategy: tf.distribute.Strategy, of several workers or not.
        work: called without arguments; returns (anything, {what: int of at most 63 bits}), the numbers of which have to
            be the same on all workers. It may not wait for other workers.

    Returns:
        What ``work`` returned first, of this worker.

    Raises:
        InputError: of this worker, or another one stopped, or they differ.
    """
    mine, facts, failed = None, {}, None
    try:
        mine, facts = work()
    except InputError as error:
        failed = error
    rows = gather_workers(strategy, [failed is None, *facts.values()])
    if failed is not None:
        raise failed
    gone = [i for i, row in enumerate(rows) if not row[0]]
    require(not gone, f"worker {gone[0] if gone else ''} has stopped; its own output says why")
    for what, found in zip(facts, rows[:, 1:].T, strict=False):
        shared = "all workers need one recipe, one version of the package, one workdir and the same data"
        require(len(set(found)) == 1, f"the workers differ in {what}: {', '.join(map(str, found))}; {shared}")
    return mine


def gather_workers(strategy, numbers):
    """int64 [workers, FACTS]: the numbers of each, filled up with 0; all workers have to call it.

    Args:
        strategy: tf.distribute.Strategy.
        numbers: at most FACTS ints.
    """
    row = np.zeros([1, FACTS], np.int64)
    row[0, : len(numbers)] = numbers
    if not of_workers(strategy):
        return row
    gathered = strategy.experimental_local_results(_gatherer(strategy)(tf.constant(row)))
    return gathered[0].numpy()[:: len(gathered)]  # a worker with several devices has a row for each


def of_workers(strategy):
    """Whether several processes train together."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def worker():
    """(number of this process, number of all) by TF_CONFIG; (0, 1) without."""
    cluster, task = _tf_config().get("cluster", {}), _tf_config().get("task", {})
    count = len(_workers())
    if count < 2:
        return 0, 1
    before = len(cluster.get("chief", [])) if task.get("type") == "worker" else 0
    return before + int(task.get("index", 0)), count


XLA = {"auto": None, "on": True, "off": False}
"""What --xla says: None leaves it to ``use_xla``."""


def use_xla(strategy, deterministic=False):
    """Whether XLA compiles the step unless the user says otherwise: on one accelerator, not on the CPU.

    On two CPU cores compiled code is slower. Under several replicas Keras cannot compile the whole step, and op
    determinism switches XLA off by itself.
    """
    return strategy.num_replicas_in_sync == 1 and bool(tf.config.list_logical_devices("GPU")) and not deterministic


def replicas():
    """Static number of replicas that share the global batch; 1 outside a strategy."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context is not None else 1


def replica_id():
    """Number of this replica, int or int32 scalar tensor in [0, replicas()); 0 outside a strategy."""
    context = tf.distribute.get_replica_context()
    return 0 if context is None or context.num_replicas_in_sync == 1 else context.replica_id_in_sync_group


def step_seed(seed, step):
    """Seed of one training step on this replica (see views.draws): draws are for the global batch.

    Args:
        seed: int, the recipe's.
        step: int64 scalar tensor or variable, the optimiser's iterations.
    """
    key = fold(seed, tf.cast(step, tf.int64)).key
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return Seed(key)
    return Seed(key, context.replica_id_in_sync_group, context.num_replicas_in_sync)


def to_numpy(variable):
    """The value of a Keras variable as a NumPy array, also where a strategy keeps a copy on every device."""
    return variable.value.numpy()


def gather_replicas(tensor):
    """Rows of all replicas, in replica order, with the gradient each replica is owed.

    Args:
        tensor: [b, ...] with a static shape, the same on every replica.

    Returns:
        [replicas * b, ...], static shape; the tensor itself on one device.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor
    # all_gather forgets the static number of rows, which XLA and a ring queue need.
    # identity: what comes straight from a data set lies on no device, which two workers refuse to gather.
    gathered = context.all_gather(tf.identity(tensor), axis=0)
    return tf.reshape(gathered, [tensor.shape[0] * context.num_replicas_in_sync, *tensor.shape[1:]])


def sum_replicas(tensor):
    """Sum of a tensor over all replicas, the same on each; the tensor itself on one device."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)


def averaging(strategy, variables):
    """Function that gives every replica's copy of the variables the mean of all copies.

    All workers have to call it at the same step.

    Args:
        strategy: tf.distribute.Strategy.
        variables: [keras.Variable], such as moving statistics, which each replica keeps of its own rows.
    """

    def each():
        context = tf.distribute.get_replica_context()
        values = [tf.convert_to_tensor(v.value) for v in variables]
        for variable, mean in zip(variables, context.all_reduce(tf.distribute.ReduceOp.MEAN, values), strict=True):
            variable.assign(mean)

    return tf.function(lambda: strategy.run(each), autograph=False)


@functools.cache
def _gatherer(strategy):
    def gather(row):
        return tf.distribute.get_replica_context().all_gather(tf.identity(row), axis=0)

    return tf.function(lambda row: strategy.run(gather, args=(row,)), autograph=False)


@functools.cache
def _of_workers():
    return tf.distribute.MultiWorkerMirroredStrategy()


@functools.cache
def _mirrored(devices):
    # One per process: a second strategy numbers its collective operations from the start again, and they collide.
    return tf.distribute.MirroredStrategy(devices)


def _tf_config():
    """{"cluster", "task"} of TF_CONFIG, {} where it is not set.

    Raises:
        InputError: it has another shape.
    """
    wanted = 'expected {"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(os.environ.get("TF_CONFIG", "").strip() or "{}")
    except (ValueError, RecursionError) as error:
        raise InputError(f"TF_CONFIG is not JSON ({error}); {wanted}") from None
    require(isinstance(config, dict), f"TF_CONFIG is {config!r}; {wanted}")
    cluster, task = config.get("cluster", {}), config.get("task", {})
    mappings = isinstance(cluster, dict) and isinstance(task, dict)
    lists = mappings and all(isinstance(names, list) for names in cluster.values())
    addresses = lists and all(isinstance(name, str) and ":" in name for names in cluster.values() for name in names)
    require(addresses, f"TF_CONFIG has cluster {cluster!r} and task {task!r}; {wanted}")
    if cluster:
        kind, index = task.get("type"), str(task.get("index"))
        there = isinstance(kind, str) and index.isdecimal() and int(index[:9]) < len(cluster.get(kind, ()))
        require(there, f"TF_CONFIG has the task {task!r}, which is none of the cluster {cluster!r}; {wanted}")
    return config


def _workers():
    cluster = _tf_config().get("cluster", {})
    return list(cluster.get("chief", [])) + list(cluster.get("worker", []))
