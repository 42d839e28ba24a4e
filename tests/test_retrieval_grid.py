"""Figures A.1 and A.3 of CLD: which images are drawn, in which order, framed how; the command that writes them."""

import functools
import io
import pathlib

import keras
import numpy as np
import pytest
from PIL import Image

from revisit_ssl.backbones import load_backbone
from revisit_ssl.commands import tables
from revisit_ssl.commands.report import Report
from revisit_ssl.commands.tables import report
from revisit_ssl.data import open_source
from revisit_ssl.errors import InputError
from revisit_ssl.features.representation import NetworkInput
from revisit_ssl.papers import get_recipe
from revisit_ssl.papers.cld import retrieval
from revisit_ssl.papers.cld.retrieval import block_names, retrieval_grid, sample_sheet, spread
from revisit_ssl.recipe import to_json
from revisit_ssl.report import pictures
from revisit_ssl.report.page import Run
from revisit_ssl.training.build import build_pretext
from revisit_ssl.training.pretrain import export_backbone


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of NPID and NPID + CLD that were not trained, on digits."""
    folders = []
    for seed, name in enumerate(("npid", "npid_cld")):
        folder = tmp_path_factory.mktemp(name)
        recipe = get_recipe(name, "smoke", backbone="tiny")
        keras.utils.set_random_seed(seed)
        export_backbone(build_pretext(recipe, open_source("digits", "train")).exported, str(folder / "backbone.keras"))
        (folder / "recipe.json").write_text(to_json(recipe))
        folders.append(str(folder))
    return folders


@pytest.fixture
def drawn(monkeypatch):
    """What pictures.neighbours and pictures.classes were given last."""
    given = {}

    def keep(name, function):
        def draw(*arguments):
            given[name] = arguments
            return function(*arguments)

        monkeypatch.setattr(pictures, name, draw)

    keep("neighbours", pictures.neighbours)
    keep("classes", pictures.classes)
    return given


def test_both_networks_retrieve_training_images_for_the_first_test_image_of_each_class(runs, drawn):
    png = retrieval_grid(*runs, queries=6, neighbours=4)
    queries, found, same = drawn["neighbours"]
    test, gallery = (open_source("digits", split) for split in ("test", "train"))
    first = [int(np.flatnonzero(test.labels == c)[0]) for c in range(6)]
    recipe = get_recipe("npid", "smoke")
    blocks = []
    for run in runs:
        backbone = load_backbone(f"{run}/backbone.keras")
        rows = [
            np.asarray(backbone(NetworkInput.of(recipe).prepare(source.images))["projection"], np.float64)
            for source in (test, gallery)
        ]
        unit_test, unit_gallery = (r / np.linalg.norm(r, axis=1, keepdims=True) for r in rows)
        nearest = np.argsort(-unit_test @ unit_gallery.T, axis=1, kind="stable")[:, :4]
        blocks.append((nearest, gallery.labels[nearest] == test.labels[:, None]))
    hits = [[right[i].sum() for i in first] for _, right in blocks]
    order = sorted(range(6), key=lambda i: (-hits[0][i], -hits[1][i]))
    assert hits[0] != sorted(hits[0], reverse=True), "the rows have to be sorted"
    np.testing.assert_allclose(queries, [test.images[first[i]] / 255 for i in order])
    for name, (nearest, right), title in zip(("NPID", "NPID + CLD"), blocks, found, strict=True):
        assert title == f"{name}: {100 * right.mean():.0f} % are of the query's class (all 397 test images)"
        np.testing.assert_array_equal(same[title], [right[first[i]] for i in order])
        expected = [gallery.images[nearest[first[i]]] / 255 for i in order]
        np.testing.assert_allclose(found[title], expected)
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    for color in (pictures.GREEN, pictures.RED):
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - rgb).max(axis=1) <= 8).sum() > 100, "frames of that colour"
    with pytest.raises(InputError, match="no backbone at '.*-none/backbone.keras'"):
        retrieval_grid(runs[0], runs[0] + "-none")


def test_two_runs_of_one_method_are_called_by_their_folders_too(runs):
    names = block_names([Run(folder, None) for folder in (runs[1], runs[1] + "/")])
    assert names == [f"NPID + CLD ({pathlib.Path(runs[1]).name})"] * 2


def test_a_sheet_has_images_at_equal_distances_of_each_class(drawn):
    np.testing.assert_array_equal(spread(10, 4), [0, 2, 5, 7])
    np.testing.assert_array_equal(spread(3, 8), [0, 1, 2])
    png = sample_sheet("digits", classes=5, samples=3)
    ((rows,),) = drawn.values()
    source = open_source("digits", "train")
    assert list(rows) == [source.class_names[c] for c in (0, 2, 4, 6, 8)]
    for images, c in zip(rows.values(), (0, 2, 4, 6, 8), strict=True):
        mine = np.flatnonzero(source.labels == c)
        np.testing.assert_allclose(images, source.images[mine[[0, len(mine) // 3, 2 * len(mine) // 3]]] / 255)
    width, height = Image.open(io.BytesIO(png)).size
    assert height > width > 250


def test_whole_images_of_a_folder_keep_their_ratio(drawn, tmp_path):
    for split in ("train", "val", "test"):
        for i, (name, size) in enumerate((("long_name", (30, 12)), ("long_name", (9, 20)), ("b", (16, 16)))):
            (tmp_path / split / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((*size, 3), 40 * i, np.uint8)).save(tmp_path / split / name / f"{i}.png")
    sample_sheet(f"folder:{tmp_path}")
    ((rows,),) = drawn.values()
    assert {name: [image.shape for image in images] for name, images in rows.items()} == {
        "b": [(16, 16, 3)], "long name": [(30, 12, 3), (9, 20, 3)]
    }


def test_a_sheet_needs_labels(tmp_path):
    for i in range(12):
        Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)).save(tmp_path / f"{i}.png")
    with pytest.raises(InputError, match="has no labels, and so no classes to show"):
        sample_sheet(f"folder:{tmp_path}")


def test_the_command_writes_where_the_page_looks(runs, tmp_path, monkeypatch, capsys):
    # A few images: many take long to draw.
    few = {"retrieval_grid": {"queries": 2, "neighbours": 2}, "sample_sheet": {"classes": 2, "samples": 2}}
    for name, counts in few.items():
        for module in (tables, retrieval):
            monkeypatch.setattr(module, name, functools.partial(getattr(retrieval, name), **counts))
    options = Report(retrieval=tuple(runs), sample_sheet="digits", out_dir=str(tmp_path), paper="cld")
    report(options)
    assert capsys.readouterr().err.count("picture: ") == 2
    page = (tmp_path / "cld.md").read_text()
    for name in ("retrieval", "sample_sheet"):
        assert (tmp_path / "cld" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert f"](cld/{name}.png)" in page
    (tmp_path / "cld" / "retrieval.png").unlink()
    report(Report(gallery=("retrieval", *runs), out_dir=str(tmp_path), paper="cld"))
    assert (tmp_path / "cld" / "retrieval.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="cld has no gallery 'words'; one of sample_sheet, retrieval"):
        report(Report(gallery=("words", *runs), paper="cld"))
    with pytest.raises(InputError, match="--out is one file"):
        report(Report(retrieval=tuple(runs), sample_sheet="digits", out=str(tmp_path / "x.png")))
