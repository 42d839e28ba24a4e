import numpy as np
import pytest

from revisit_ssl.data import splits
from revisit_ssl.errors import InputError

LABELS = np.repeat(np.arange(5), [100, 200, 300, 50, 350])


@pytest.mark.parametrize("fraction", [0.01, 0.05, 0.1, 1.0])
def test_random_subset(fraction):
    rows = splits.subset(1000, fraction, seed=3)
    assert len(rows) == fraction * 1000 and len(set(rows)) == len(rows)
    assert (np.diff(rows) > 0).all() and rows.min() >= 0 and rows.max() < 1000
    np.testing.assert_array_equal(rows, splits.subset(1000, fraction, seed=3))
    if fraction < 1:
        assert not np.array_equal(rows, splits.subset(1000, fraction, seed=4))


def test_smaller_subset_lies_inside_larger():
    assert set(splits.subset(1000, 0.05, 0)) < set(splits.subset(1000, 0.1, 0))
    assert set(splits.subset(1000, 0.05, 0, labels=LABELS)) < set(splits.subset(1000, 0.1, 0, labels=LABELS))


@pytest.mark.parametrize(("fraction", "each"), [(0.01, 2), (0.05, 10), (0.1, 20), (0.001, 1)])
def test_balanced_subset(fraction, each):
    rows = splits.subset(1000, fraction, seed=0, labels=LABELS)
    np.testing.assert_array_equal(np.bincount(LABELS[rows]), [each] * 5)


def test_balanced_subset_takes_what_a_rare_class_has():
    rows = splits.subset(1000, 0.5, seed=0, labels=LABELS)
    np.testing.assert_array_equal(np.bincount(LABELS[rows]), [100, 100, 100, 50, 100])


def test_every_row_is_equally_likely():
    counts = np.bincount(np.concatenate([splits.subset(50, 0.2, seed) for seed in range(2000)]), minlength=50)
    expected, deviation = 400, np.sqrt(2000 * 0.2 * 0.8)
    assert np.abs(counts - expected).max() < 4.5 * deviation


def test_holdout():
    kept, held = splits.holdout(LABELS, 0.1, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, held])), np.arange(1000))
    np.testing.assert_array_equal(np.bincount(LABELS[held]), [10, 20, 30, 5, 35])
    kept, held = splits.holdout([0, 1, 1], 0.1, seed=0)
    assert len(held) == 1 and held[0] in (1, 2)  # a lone example is kept


@pytest.mark.parametrize("fraction", [0, -1, 1.5, 0.0001])
def test_bad_fractions(fraction):
    with pytest.raises(InputError, match="fraction"):
        splits.subset(1000, fraction, seed=0)
