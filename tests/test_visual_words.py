"""Pictures of visual words: which patches are taken, from where, and the page of a run."""

import numpy as np
import pytest

from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.papers.obow.visual_words import Assigned, patch_at, tiles, visual_words, write_visual_words
from revisit_ssl.training.pretrain import pretrain


def test_words_stand_by_frequency_and_patches_by_score():
    # Two images and their mirror images, 2 x 2 cells each.
    ids = np.array([[[3, 3], [0, 3]], [[3, 1], [1, 3]], [[3, 3], [0, 3]], [[3, 1], [1, 1]]], np.int32)
    scores = np.array(
        [[[0.2, 0.9], [0.1, 0.3]], [[0.5, 0.4], [0.6, 0.7]], [[0.95, 0.1], [0.8, 0.1]], [[0.1, 0.2], [0.3, 0.65]]]
    )
    level = Assigned(ids, scores, 5)
    np.testing.assert_array_equal(level.counts, [2, 5, 0, 9, 0])
    np.testing.assert_array_equal(level.order, [3, 1, 0])
    # Word 3: 0.95 of image 0 mirrored, so that 0.9 of image 0 is not taken; then 0.7 of image 1.
    assert level.best(3) == [(2, 0, 0), (1, 1, 1)]
    assert level.best(1) == [(3, 1, 1)]
    assert level.best(3, patches=1) == [(2, 0, 0)]
    assert level.best(2) == []


@pytest.mark.parametrize("cells, stride", [(12, 16), (5, 32)])
def test_where_a_patch_lies(cells, stride):
    image = np.zeros((224, 224, 3))
    for row, column in [(0, 0), (2, 4), (cells - 1, 1)]:
        y, x = (row + 1) * stride + stride // 2, (column + 1) * stride + stride // 2
        image[:] = 0
        image[y, x] = 1.0
        patch = patch_at(image, row, column, (cells, cells), (0.1, 0.2, 0.3))
        assert patch.shape == (64, 64, 3)
        np.testing.assert_array_equal(patch[32, 32], 1.0)  # the middle of the cell
    corner = patch_at(np.ones((224, 224, 3)), 0, 0, (12, 12), (0.1, 0.2, 0.3))
    # The middle is at 24: 8 pixels of the patch lie outside.
    np.testing.assert_allclose(corner[:8], np.broadcast_to([0.1, 0.2, 0.3], (8, 64, 3)))
    np.testing.assert_array_equal(corner[8:, 8:], 1.0)


def test_mirror_images_and_black_tiles():
    image = np.zeros((64, 64, 3))
    image[:, :32] = 1.0  # white on the left; mirrored on the right
    found = tiles([(0, 2, 0), (1, 2, 0)], {0: image}, 1, (6, 6), 64, (0.5, 0.5, 0.5))
    assert len(found) == 8 and {t.shape for t in found} == {(18, 18, 3)}
    assert found[0].max() == 1.0 and found[1][:, 9:].max() == 0.0
    assert all(not t.any() for t in found[2:])


@pytest.mark.parametrize("name, levels", [("obow", ["block3", "block4"]), ("bownet", ["block4"])])
def test_the_page_of_a_run(name, levels, tmp_path):
    recipe = get_recipe(name, "smoke", backbone="tiny", max_steps=1, batch_size=8)
    pretrain(recipe, tmp_path / "run", quiet=True)
    page = write_visual_words(str(tmp_path / "run"), str(tmp_path / "out"), images=70, words=5)
    text = (tmp_path / "out" / "visual_words.md").read_text()
    for level in levels:
        assert f"## Words of {level}" in text
        assert (tmp_path / "out" / "visual_words" / f"{level}.png").stat().st_size > 1000
    assert "70 training images" in text and (tmp_path / "out" / "visual_words" / "curves.png").exists()
    assert page == str(tmp_path / "out" / "visual_words.html")
    assert "<img" in (tmp_path / "out" / "visual_words.html").read_text()


def test_runs_without_words(tmp_path):
    with pytest.raises(InputError, match="no run at"):
        visual_words(str(tmp_path))
    pretrain(get_recipe("rotation", "smoke", backbone="tiny", max_steps=1), tmp_path, quiet=True)
    with pytest.raises(InputError, match="is a run of rotation, which has no visual words"):
        visual_words(str(tmp_path))
