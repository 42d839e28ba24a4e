"""Permutation sets: as far apart as a set can be, and the published file format."""

import itertools
import pathlib

import numpy as np
import pytest

from revisit_ssl.errors import InputError
from revisit_ssl.views.permutations import load_permutations, make_permutations

GOLDEN = pathlib.Path(__file__).parents[1] / "goldens" / "revisiting" / "patch_concat_and_head.npz"
PUBLISHED = pathlib.Path(__file__).parents[3] / "shared" / "data" / "lists" / "jigsaw" / "permutations_100_max.bin"


def counts(permutations):
    """[position, value]: how many permutations have that value there."""
    size = permutations.shape[1]
    return np.array([[(permutations[:, i] == v).sum() for v in range(size)] for i in range(size)])


def mean_distance(permutations):
    return np.mean([(a != b).sum() for a, b in itertools.combinations(permutations, 2)])


def check_set(permutations, count, size):
    assert permutations.shape == (count, size) and permutations.dtype == np.int32
    assert all(sorted(row) == list(range(size)) for row in permutations.tolist())
    assert len({tuple(row) for row in permutations.tolist()}) == count


@pytest.mark.parametrize("seed", [0, 1])
def test_the_set_is_as_far_apart_as_the_published_one(seed):
    ours = make_permutations(seed=seed)
    check_set(ours, 100, 9)
    assert list(range(9)) not in ours.tolist()
    assert mean_distance(ours) >= 8.07
    assert set(counts(ours).ravel()) <= {11, 12}
    shuffled = np.random.default_rng(0).permuted(np.tile(np.arange(9), [100, 1]), axis=1)
    assert mean_distance(shuffled) < 8.05, "any hundred permutations would do, and this test tests nothing"


def test_sets_of_other_sizes_are_balanced_too():
    for count, size in ((20, 9), (12, 4), (23, 4), (7, 5)):
        ours = make_permutations(count, size)
        check_set(ours, count, size)
        assert list(range(size)) not in ours.tolist()
        low, high = counts(ours).min(), counts(ours).max()
        assert count // size - 1 <= low and high <= -(-count // size) + 1
    every = make_permutations(24, 4)
    check_set(every, 24, 4)  # the identity is one of all 24
    assert make_permutations(6, 3).tolist() != make_permutations(6, 3, seed=1).tolist()


def test_the_set_depends_on_the_seed_alone():
    first = make_permutations(30, 6, 1).copy()
    assert not make_permutations(30, 6, 1).flags.writeable
    make_permutations.cache_clear()
    np.testing.assert_array_equal(first, make_permutations(30, 6, 1))
    assert not np.array_equal(first, make_permutations(30, 6, 2))


@pytest.mark.parametrize(
    ("count", "size", "words"),
    [(25, 4, "25 permutations of 4 patches; choose 1 to the 24"), (0, 9, "0 permutations"), (10, 16, "16 patches")],
)
def test_what_cannot_be_made(count, size, words):
    with pytest.raises(InputError, match=words) as error:
        make_permutations(count, size)
    assert "\n" not in str(error.value)


def test_file_golden(tmp_path):
    golden = np.load(GOLDEN)
    path = tmp_path / "permutations.bin"
    path.write_bytes(golden["permutation_file_bytes"].tobytes())
    np.testing.assert_array_equal(load_permutations(str(path)), golden["permutation_file_loaded"])


def test_the_published_file():
    if not PUBLISHED.is_file():
        pytest.skip("Noroozi and Favaro's permutations_100_max.bin is not on this machine")
    theirs = load_permutations(str(PUBLISHED))
    check_set(theirs, 100, 9)
    assert mean_distance(theirs) == pytest.approx(mean_distance(make_permutations()), abs=0.01)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([2, 3, 1, 2, 3, 3, 2], "damaged .count 2, size 3, 5 entries"),
        ([2, 3, 1, 2, 3, 3, 2, 2], "no permutations of 1 to 3"),
        ([2, 3, 0, 1, 2, 2, 1, 0], "no permutations of 1 to 3"),
        ([2, 3, 3, 2, 1, 3, 2, 1], "a permutation twice"),
        ([1], r"no permutation file .4 bytes"),
        ([-1, -2, 1, 2], "damaged"),
    ],
)
def test_damaged_files_get_one_line(tmp_path, entries, words):
    path = tmp_path / "permutations.bin"
    path.write_bytes(np.array(entries, "<i4").tobytes())
    with pytest.raises(InputError, match=words) as error:
        load_permutations(str(path))
    assert "\n" not in str(error.value)


def test_no_file(tmp_path):
    for path in (tmp_path / "missing.bin", tmp_path):
        with pytest.raises(InputError, match="no permutation file"):
            load_permutations(str(path))
