"""Pooling to at most 9000 values against the official code's outputs and the table of spec D.6."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.features.pooling import (
    adaptive_side,
    average_pool,
    averaged_shape,
    pool_endpoint,
    pool_map,
    pool_stride,
    pooled_shape,
)

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "revisiting" / "adaptive_pooling.npz")
TARGET = int(GOLDEN["target_features"])
CASES = range(5)


@pytest.mark.parametrize("case", CASES)
def test_max_and_avg_equal_the_official_code(case):
    maps = GOLDEN[f"case{case}__input"]
    assert pool_stride(maps.shape[1:], TARGET) == GOLDEN[f"case{case}__stride"]
    np.testing.assert_array_equal(pool_map(maps, TARGET, "max"), GOLDEN[f"case{case}__max"])
    np.testing.assert_allclose(pool_map(maps, TARGET, "avg"), GOLDEN[f"case{case}__avg"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mode", ["max", "avg", "adaptive_max"])
def test_endpoint_is_the_flattened_map(case, mode):
    maps = GOLDEN[f"case{case}__input"]
    flat = pool_endpoint(maps, TARGET, mode)
    np.testing.assert_array_equal(flat, np.reshape(pool_map(maps, TARGET, mode), [len(maps), -1]))
    assert flat.shape[1] == np.prod(pooled_shape(maps.shape[1:], TARGET, mode))


def test_sizes_at_9000_equal_the_official_table():
    table = GOLDEN["table_9000__side_channels_maxH_maxW_maxdims_adaptiveH_adaptiveW_adaptivedims"]
    for side, channels, max_h, max_w, max_dims, ad_h, ad_w, ad_dims in table.tolist():
        shape = (side, side, channels)
        assert pooled_shape(shape, 9000, "max") == (max_h, max_w, channels)
        assert pooled_shape(shape, 9000, "adaptive_max") == (ad_h, ad_w, channels)
        assert np.prod(pooled_shape(shape)) == max_dims and ad_h * ad_w * channels == ad_dims
    # Spec D.6: at exactly 9000 values, one side of the choice is taken and the map is not pooled.
    assert adaptive_side((56, 56, 256), 9000) == 6 and pool_stride((56, 56, 256), 9000) == 10


def test_adaptive_max_covers_the_map_with_disjoint_cells():
    maps = np.random.default_rng(0).normal(size=(2, 7, 5, 3)).astype(np.float32)
    pooled = pool_map(maps, 3 * 9, "adaptive_max").numpy()
    assert pooled.shape == (2, 3, 3, 3)
    rows, columns = [0, 2, 4, 7], [0, 1, 3, 5]
    for i in range(3):
        for j in range(3):
            cell = maps[:, rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            np.testing.assert_array_equal(pooled[:, i, j], cell.max(axis=(1, 2)))


@pytest.mark.parametrize("mode", ["max", "avg", "adaptive_max"])
def test_compiles_and_pools_oblong_maps(mode):
    maps = tf.random.stateless_normal([2, 3, 11, 64], (1, 2))
    pooled = pool_endpoint(maps, 100, mode)
    assert 0 < pooled.shape[1] <= 3 * 11 * 64
    compiled = tf.function(lambda x: pool_endpoint(x, 100, mode), jit_compile=True, autograph=False)(maps)
    np.testing.assert_allclose(compiled, pooled, rtol=1e-6, atol=1e-6)


def test_vectors_pass_and_nonsense_is_refused():
    np.testing.assert_array_equal(pool_endpoint(np.ones((2, 9001), np.float16)), np.ones((2, 9001), np.float32))
    with pytest.raises(ValueError, match="Unknown pooling 'median'"):
        pool_endpoint(np.ones((2, 3, 3, 1)), mode="median")
    with pytest.raises(ValueError, match="3 dimensions"):
        pool_endpoint(np.ones((2, 3, 1)))


def test_squares_of_deepercluster():
    """conv1 to conv13: the published sides, dimensions and values."""
    golden = np.load(pathlib.Path(__file__).parents[1] / "goldens" / "deepercluster" / "probe_pooling_bce.npz")
    for layer, side, channels, kernel, cells, width in golden["layer_mapsize_channels_pool_outsize_dim"]:
        maps = np.sin(0.7 * np.arange(side * side * channels) + layer).astype("f4").reshape(1, side, side, channels)
        found = average_pool(tf.constant(maps), kernel).numpy()[0]
        assert averaged_shape((side, side, channels), kernel) == (cells, cells, channels) and found.shape == (width,)
        start = int(golden[f"slice_start_conv{layer}"])
        expected = golden[f"pooled_nhwc_slice_conv{layer}"]
        np.testing.assert_allclose(found[start : start + 256], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("shape", "kernel", "padding", "width"), [
    ((55, 55, 96), 6, 3, 9600), ((27, 27, 256), 4, 0, 9216), ((13, 13, 384), 3, 1, 9600), ((13, 13, 256), 2, 0, 9216),
    ((5, 7, 2), 9, 1, 2), ((6,), 4, 1, 6),
])
def test_squares_of_deepcluster_with_zeros_around(shape, kernel, padding, width):
    maps = np.random.default_rng(0).normal(size=(2, *shape)).astype("f4")
    found = average_pool(tf.constant(maps), kernel, padding).numpy()
    assert found.shape == (2, width) == (2, np.prod(averaged_shape(shape, kernel, padding)))
    if len(shape) == 3:
        padded = np.pad(maps, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
        side = min(kernel, *padded.shape[1:3])
        np.testing.assert_allclose(found[:, 0], padded[:, :side, :side, 0].mean(axis=(1, 2)), atol=1e-6)
