import pathlib

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from revisit_ssl.errors import InputError
from revisit_ssl.views import color, patches, pixels, resample

GOLDEN = pathlib.Path(__file__).parents[1] / "goldens" / "revisiting" / "patch_preprocessing.npz"
OVERLAPPING = pathlib.Path(__file__).parents[1] / "goldens" / "obow" / "patch_grid.npz"


def places(height, width):
    """An image whose pixels say where they are: [1, height, width, 2]."""
    return tf.constant(np.stack(np.mgrid[:height, :width], -1)[None], tf.int32)


def test_pretext_geometry_golden():
    golden = np.load(GOLDEN)
    ours = patches.grid_patches(resample.center_crop(places(292, 292), 255), cell=85, size=64)[0]
    np.testing.assert_array_equal(ours[:, 0, 0], golden["pretext_292_255_jitter21__top_left_yx"])
    np.testing.assert_array_equal(ours[:, -1, -1], golden["pretext_292_255_jitter21__bottom_right_yx_inclusive"])


def test_probe_geometry_golden():
    golden = np.load(GOLDEN)
    ours = patches.probe_patches(places(*golden["probe_224_192_jitter0__image_hw"]))[0]
    np.testing.assert_array_equal(ours[:, 0, 0], golden["probe_224_192_jitter0__top_left_yx"])
    np.testing.assert_array_equal(ours[:, -1, -1], golden["probe_224_192_jitter0__bottom_right_yx_inclusive"])


@pytest.mark.parametrize(
    "gray, kernel, name",
    [(False, "legacy", "pretext_colour"), (True, "legacy", "pretext_gray"), (False, "bilinear", "pretext_colour")],
)
def test_pretext_pixels_golden(gray, kernel, name):
    golden = np.load(GOLDEN)
    image = resample.resize(pixels.to_float(golden["image"][None]), (292, 292), kernel=kernel)
    image = resample.center_crop(color.to_gray(image, mode="mean") if gray else image, 255)
    raw = patches.grid_patches(image, cell=85, size=64)[0] * 255
    if kernel == "bilinear":
        np.testing.assert_allclose(raw[:, ::7, ::7], golden[f"{name}__raw_half_pixel_every_7th_pixel"], atol=5e-3)
        return
    np.testing.assert_allclose(raw[:, ::7, ::7], golden[f"{name}__raw_patches_every_7th_pixel"], atol=5e-3)
    np.testing.assert_allclose(tf.reduce_mean(raw, (1, 2, 3)), golden[f"{name}__raw_patch_mean"], atol=5e-3)
    np.testing.assert_allclose(tf.math.reduce_std(raw, (1, 2, 3)), golden[f"{name}__raw_patch_std"], atol=5e-3)
    ours = pixels.standardize(raw)[:, ::7, ::7]
    np.testing.assert_allclose(ours, golden[f"{name}__standardised_every_7th_pixel"], atol=1e-3)


def test_jitter_is_uniform_and_independent_in_each_cell():
    n = 3000
    corners = patches.grid_patches(tf.tile(places(12, 12), [n, 1, 1, 1]), (1, 2), cell=4, size=2).numpy()[:, :, 0, 0]
    offsets = corners - 4 * np.stack(np.divmod(np.arange(9), 3), -1)  # raster order
    assert offsets.min() == 0 and offsets.max() == 2
    flat = offsets.reshape(n, 18)
    for column in flat.T:
        assert stats.chisquare(np.bincount(column, minlength=3)).pvalue > 1e-4
    assert np.abs(np.corrcoef(flat.T) - np.eye(18)).max() < 4.5 / np.sqrt(n)


def test_patches_are_contiguous_pieces():
    image = np.random.default_rng(0).integers(0, 256, (2, 15, 15, 3), np.uint8)
    ours = patches.grid_patches(tf.constant(image), 5, cell=5, size=3).numpy()
    corners = patches.grid_patches(tf.tile(places(15, 15), [2, 1, 1, 1]), 5, cell=5, size=3).numpy()[:, :, 0, 0]
    for b in range(2):
        for p in range(9):
            top, left = corners[b, p]
            np.testing.assert_array_equal(ours[b, p], image[b, top : top + 3, left : left + 3])


@pytest.mark.parametrize("case", range(4))
def test_overlapping_corners_are_the_official_ones(case):
    g = np.load(OVERLAPPING)
    height, width, size, jitter, count = g[f"case{case}_settings"]
    moves, order = g[f"case{case}_random_ints_yx"], g[f"case{case}_permutation"][:, :count]
    ours = patches.overlapping_corners(
        int(height), int(width), moves.astype(np.int32), order.astype(np.int32), int(size), int(jitter)
    )
    np.testing.assert_array_equal(ours, g[f"case{case}_patch_top_left_yx"])


def test_overlapping_patches_cover_the_image_and_are_different_cells():
    n, side, size, jitter = 2000, 32, 12, 4  # cells are (32 - 12 - 4) / 2 = 8 apart: 2 * 8 + 4 + 12 = 32
    image = tf.broadcast_to(places(side, side), [n, side, side, 2])
    ours = patches.overlapping_patches(image, (3, 4), size=size, jitter=jitter, count=5).numpy()
    assert ours.shape == (n, 5, size, size, 2)
    corners = ours[:, :, 0, 0]
    np.testing.assert_array_equal(ours[:, :, -1, -1], corners + size - 1)
    assert ours.min() == 0 and ours.max() == side - 1
    moves = corners % 8
    shared = corners // 8
    # The corner 8 of a cell may be cell 0 moved by 8: a jitter of 4 keeps the cells apart.
    assert moves.max() == jitter
    cells = shared[..., 0] * 3 + shared[..., 1]
    assert all(len(set(row)) == 5 for row in cells)
    assert stats.chisquare(np.bincount(cells.ravel(), minlength=9)).pvalue > 1e-4
    for axis in (0, 1):
        assert stats.chisquare(np.bincount(moves[..., axis].ravel(), minlength=jitter + 1)).pvalue > 1e-4
    assert abs(np.corrcoef(moves[:, 0, 0], moves[:, 1, 0])[0, 1]) < 4.5 / np.sqrt(n)
    everything = patches.overlapping_patches(image[:4], (3, 4), size=size, jitter=0, count=9).numpy()[:, :, 0, 0]
    raster = np.stack(np.mgrid[0:21:10, 0:21:10], -1).reshape(9, 2)  # (32 - 12) / 2 = 10
    np.testing.assert_array_equal(everything, np.broadcast_to(raster, (4, 9, 2)))


def test_wrong_arguments():
    with pytest.raises(InputError, match="does not fit into 16x16 images"):
        patches.overlapping_patches(tf.ones([1, 16, 16, 3]), 0, size=12, jitter=5, count=5)
    with pytest.raises(InputError, match="from 1 to 9 patches; got count=10"):
        patches.overlapping_patches(tf.ones([1, 16, 16, 3]), 0, size=8, jitter=2, count=10)
    with pytest.raises(InputError, match="does not fit"):
        patches.grid_patches(tf.ones([1, 12, 12, 3]), cell=4, size=5)
    with pytest.raises(InputError, match="crop first"):
        patches.grid_patches(tf.ones([1, 13, 12, 3]), cell=4, size=3)
