"""The page of clusters: deviations by hand, what is pure, the order, Sobel's derivatives, a run's page."""

import numpy as np
import pytest

from revisit_ssl.clustering.agreement import colour_deviation
from revisit_ssl.clustering.flat import flat_clusters
from revisit_ssl.commands import report
from revisit_ssl.data.sources import Source
from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.report.clusters import clusters_of, ranked, sobel_pictures, words_of
from revisit_ssl.training.pretrain import pretrain


def test_colour_deviation_by_hand():
    """Cluster 0: two colours 0.6 apart, each 0.3 from the mean; cluster 2: one image."""
    colours = [[0.1, 0, 0], [0.7, 0, 0], [0.5, 0.5, 0.5]]
    np.testing.assert_allclose(colour_deviation(colours, [0, 0, 2]), [0.3, 0.0], atol=1e-12)
    drawn = np.random.default_rng(0).random((50, 3))
    (found,) = colour_deviation(drawn, np.zeros(50, int))
    assert found == pytest.approx(np.sqrt(drawn.var(axis=0).sum()))


def test_purity_and_order():
    labels, near = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2]), np.arange(9.0)
    said = [{"a"}, {"a"}, {"b"}, {"c"}, {"c"}, {"c"}, {"b"}, {"d"}, {"d"}]
    found = clusters_of(labels, near, np.zeros((9, 3)), said)
    assert [(c.name, c.purity) for c in found] == [("a", 2 / 3), ("c", 3 / 4), ("d", 1.0)]
    assert found[1].members.tolist() == [6, 5, 4, 3], "the nearest first"
    assert [c.name for c in ranked(found, "purity")] == ["d", "c", "a"]
    assert [c.name for c in ranked(found, "size")] == ["c", "a", "d"]
    unknown = clusters_of(labels, near, np.zeros((9, 3)))
    assert [len(c.members) for c in ranked(unknown, "purity")] == [4, 3, 2] and unknown[0].name == ""
    with pytest.raises(InputError, match="clusters by 'colour'"):
        ranked(found, "colour")


def test_groups_that_lie_apart_are_found():
    draw = np.random.default_rng(0)
    groups = draw.integers(0, 4, 200)
    labels, near = flat_clusters(5 * np.eye(4, 12)[groups] + 0.1 * draw.normal(size=(200, 12)), 4)
    assert len({(g, l) for g, l in zip(groups, labels, strict=True)}) == 4 and near.shape == (200,)


def test_sobel_equals_numpy():
    image = np.random.default_rng(1).random((6, 7, 3))
    grey, kernel = image.mean(axis=-1), np.outer([1, 2, 1], [1, 0, -1])
    right, down = sobel_pictures(image)
    for y in range(1, 5):
        for x in range(1, 6):
            around = grey[y - 1 : y + 2, x - 1 : x + 2]
            assert right[y, x] == pytest.approx((around * kernel).sum(), abs=1e-5)
            assert down[y, x] == pytest.approx((around * kernel.T).sum(), abs=1e-5)


def test_hashtags_are_what_is_known_of_a_store():
    tags = ("cat dog", "", "cat", "bird")
    store = Source(
        name="yfcc100m", split="train", kind="store", num_examples=4, fingerprint="x", text=lambda name: tags
    )
    assert words_of(store, [0, 1, 3]) == [{"cat", "dog"}, set(), {"bird"}]


def test_the_page_of_a_run(tmp_path, capsys):
    pretrain(get_recipe("rotation", "smoke", backbone="tiny", max_steps=1), tmp_path / "run", quiet=True)
    assert report.main(["--clusters", str(tmp_path / "run"), "--clusters-by", "size", "--out-dir", str(tmp_path)]) == 0
    assert "page:" in capsys.readouterr().err
    text = (tmp_path / "clusters.md").read_text()
    assert "NMI with the classes" in text and "Clusters by size" in text
    names = {path.name for path in (tmp_path / "clusters").glob("*.png")}
    assert names == {"run-sheet.png", "run-colours.png", "deviations.png", "sobel.png"}
    assert report.main(["--clusters", str(tmp_path / "nothing"), "--out-dir", str(tmp_path)]) == 2
    assert "it has no recipe.json" in capsys.readouterr().err
