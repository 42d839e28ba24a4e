"""R-MAC: the official regions, vectors and similarities; the whitening against NumPy."""

import pathlib

import numpy as np
import pytest

from revisit_ssl.features.rmac import Whitening, region_vectors, rmac, rmac_regions

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "evaluation"


def test_regions_equal_the_official_ones():
    golden = np.load(GOLDENS / "rmac_regions.npz")
    for i, (height, width) in enumerate(golden["map_sizes_h_w"]):
        np.testing.assert_array_equal(rmac_regions(height, width), golden[f"regions_xywh_{i:02d}"])
    height, width = golden["map_sizes_h_w"][1]
    for levels in (1, 2, 4, 5):
        expected = golden[f"regions_xywh_second_size_L{levels}"]
        np.testing.assert_array_equal(rmac_regions(height, width, levels), expected)


@pytest.mark.parametrize(("height", "width", "count"), [
    (14, 14, 14), (48, 64, 20), (64, 48, 20), (36, 64, 20), (32, 64, 26), (20, 63, 38), (22, 64, 32), (8, 31, 44),
    (9, 64, 50), (1, 1, 1), (2, 2, 5), (1, 5, 3),
])
def test_counts_and_all_regions_lie_inside(height, width, count):
    regions = rmac_regions(height, width)
    assert count == len(regions) or height < 3
    assert len(regions) and (regions[:, :2] >= 0).all() and (regions[:, 2] >= 1).all()
    assert (regions[:, 0] + regions[:, 2] <= width).all() and (regions[:, 1] + regions[:, 3] <= height).all()


def test_vectors_equal_the_official_ones():
    golden = np.load(GOLDENS / "rmac_vectors.npz")
    maps = [golden[f"map_{i}"] for i in range(5)]
    for i, feature_map in enumerate(maps):
        np.testing.assert_allclose(region_vectors(feature_map), golden[f"region_vectors_l2_{i}"], atol=1e-6)
    whitening = Whitening.fit(golden["pca_training_vectors"], int(golden["pca_dim"]))
    np.testing.assert_allclose(whitening.mean, golden["pca_mean"][0], atol=1e-6)
    vectors = np.stack([rmac(feature_map, whitening) for feature_map in maps])
    np.testing.assert_allclose(vectors @ vectors.T, golden["similarities_whitened"], rtol=0, atol=1e-4)
    plain = np.stack([rmac(feature_map) for feature_map in maps])
    np.testing.assert_allclose(plain, golden["vectors_without_pca_recomputed"], rtol=0, atol=1e-4)


def test_whitening_in_parts_gives_unit_scatter():
    rows = np.random.default_rng(0).normal(size=(200, 6)) * np.arange(1, 7) + 3
    parts, whole = Whitening(), Whitening.fit(rows, 4)
    for part in np.array_split(rows, 7):
        parts.add(part)
    np.testing.assert_allclose(parts.finish(4).projection, whole.projection, rtol=1e-8)
    found = whole(rows).astype(np.float64)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-5)
    flat = Whitening.fit(np.ones((5, 3)))
    assert np.isfinite(flat(np.ones((2, 3)))).all()
