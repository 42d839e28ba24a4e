"""Permutation sets for Jigsaw: our own, far apart from each other, or Noroozi and Favaro's file."""

import functools
import itertools
import math

import numpy as np
import tensorflow as tf

from revisit_ssl.errors import InputError

LARGEST = 9  # positions; a 4x4 grid has 16! = 2e13 orders


@functools.cache
def make_permutations(count=100, size=9, seed=0):
    """Permutations chosen one by one, each with the largest mean Hamming distance to those before it.

    The law that the published 100 permutations obey (arXiv:1603.09246; their mean distance, 8.08, is the most that 100
    can have): a candidate p agrees with the chosen ones sum_i n[i, p(i)] times, n[i, v] of them having v at position i,
    so the mean distance is largest where all n are as equal as they can be. Ties are broken by the seed. All size!
    candidates are tried: half a second for 9.

    Args:
        count: int, 1 to size!. The identity is left out unless all size! are asked for.
        size: int, positions, 2 to 9.
        seed: int.

    Returns:
        int32 [count, size], read-only; row c holds the permutation of class c, entries 0 to size - 1.

    Raises:
        InputError: too many positions, or more permutations than there are.
    """
    if not 2 <= size <= LARGEST:
        raise InputError(f"a puzzle of {size} patches; a set of permutations can be made for 2 to {LARGEST}")
    total = math.factorial(size)
    if not 1 <= count <= total:
        raise InputError(f"{count} permutations of {size} patches; choose 1 to the {total} that there are")
    every = np.array(list(itertools.permutations(range(size))), np.uint8)
    identity, others = every[:1], every[1:]
    others = np.random.default_rng(seed).permutation(others)
    columns = np.ascontiguousarray(np.concatenate([others, identity] if count == total else [others]).T)
    taken = np.iinfo(np.int32).max // 2
    agreements = np.zeros(columns.shape[1], np.int32)
    chosen = []
    for _ in range(count):
        best = int(np.argmin(agreements))
        chosen.append(columns[:, best])
        for column, value in zip(columns, chosen[-1], strict=True):
            agreements += column == value
        agreements[best] = taken
    permutations = np.array(chosen, np.int32)
    permutations.setflags(write=False)
    return permutations


def load_permutations(path):
    """The set in a file of Noroozi and Favaro's format, such as their permutations_100_max.bin.

    Little-endian int32: count, size, then count rows of size entries from 1 on.

    Args:
        path: str, local or what ``tf.io.gfile`` reads.

    Returns:
        int32 [count, size], entries from 0 on.

    Raises:
        InputError: no such file, a wrong length, or rows that are no permutations or not all different.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            contents = file.read()
    except (OSError, tf.errors.OpError):
        raise InputError(f"no permutation file {path!r}; leave permutation_file out for a set of our own") from None
    wanted = "expected int32 count, size and count x size entries from 1 on, as in permutations_100_max.bin"
    if len(contents) < 8 or len(contents) % 4:
        raise InputError(f"{path!r} is no permutation file ({len(contents)} bytes); {wanted}")
    count, size, *entries = np.frombuffer(contents, "<i4").tolist()
    if count < 1 or size < 1 or len(entries) != count * size:
        raise InputError(f"{path!r} is damaged (count {count}, size {size}, {len(entries)} entries); {wanted}")
    permutations = np.array(entries, np.int32).reshape(count, size) - 1
    if not np.array_equal(np.sort(permutations, 1), np.tile(np.arange(size), [count, 1])):
        raise InputError(f"{path!r} holds rows that are no permutations of 1 to {size}; {wanted}")
    if len(np.unique(permutations, axis=0)) < count:
        raise InputError(f"{path!r} holds a permutation twice, which would be two classes that look alike; {wanted}")
    return permutations
