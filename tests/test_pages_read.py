"""What people see on a page: photographs in their colours, frames that need none, drawings as PDF, whole sentences."""

import dataclasses
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from revisit_ssl import get_recipe
from revisit_ssl.errors import InputError
from revisit_ssl.papers.pages import beside, compare
from revisit_ssl.papers.rerun import flags_for
from revisit_ssl.recipe import to_json
from revisit_ssl.report import names, page, pictures
from revisit_ssl.report.blocks import STYLE, Picture
from revisit_ssl.report.pages import write_page
from revisit_ssl.report.settings import grouped
from revisit_ssl.report.tables import result_table
from revisit_ssl.runs.identity import LENGTH
from revisit_ssl.runs.results import Result, write_results


def result(value, **changes):
    fields = {
        "pretext": "rotation", "backbone": "revnet50", "width": 1, "dataset": "toy_scenes", "seed": 0, "steps": 744,
        "weights": "pretrained", "endpoint": "pre_logits", "probe": "linear", "split": "test", "metric": "top1",
        "value": value, "recipe": "0badcafe", "probe_dataset": changes.get("dataset", "toy_scenes"),
    }
    return Result(**fields | changes)


# --- pictures

GRADIENT = np.stack([*np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64)), np.full((64, 64), 0.5)], -1)
SHEETS = {
    "sheet": lambda images: pictures.sheet(images, ["a"] * len(images), 2),
    "neighbours": lambda images: pictures.neighbours(images[:1], {"a": images[None]}, {"a": np.ones((1, 2), bool)}),
    "classes": lambda images: pictures.classes({"one": list(images)}),
}


@pytest.mark.parametrize("name", SHEETS)
def test_photographs_keep_their_colours(name):
    drawn = Image.open(io.BytesIO(SHEETS[name](np.stack([GRADIENT, GRADIENT[::-1]]))))
    assert drawn.mode in ("RGB", "RGBA") and len(drawn.convert("RGB").getcolors(1 << 24)) > 1000


def marks_of(same):
    """{mark: its colour} of the frames that ``neighbours`` draws, in its order."""
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "photographs", kept.append)
        pictures.neighbours(np.zeros((1, 8, 8, 3)), {"a": np.zeros((1, len(same), 8, 8, 3))}, {"a": np.array([same])})
    boxed = [text for panel in kept[0].axes for text in panel.texts if text.get_bbox_patch()]
    return [(text.get_text(), text.get_bbox_patch().get_facecolor()) for text in boxed]


def test_a_frame_says_right_and_wrong_by_more_than_its_colour():
    (tick, green), (cross, red), again = marks_of([True, False, True])
    assert (tick, cross, again) == ("✓", "✗", (tick, green)) and green != red


def figure():
    drawn = Figure(figsize=(2, 1))
    drawn.subplots().plot([1, 2], [3, 4])
    return drawn


def test_a_drawing_is_written_as_pdf_too(tmp_path):
    blocks = [Picture("a", pictures.png(figure()), "A line."), Picture("b", pictures.photographs(figure()), "A photo.")]
    write_page("t", blocks, str(tmp_path), "page")
    assert {p.name for p in (tmp_path / "report").iterdir()} == {"a.png", "a.pdf", "b.png"}
    assert (tmp_path / "report" / "a.pdf").read_bytes().startswith(b"%PDF")
    text = (tmp_path / "page.md").read_text()
    assert "A line. ([PDF](report/a.pdf))" in text and text.rstrip().endswith("A photo.")
    assert pictures.png(figure()).pdf == pictures.png(figure()).pdf, "the same figure, the same file"


# --- sentences and tables

AGAIN = "random, BN re-estimated"


@pytest.mark.parametrize(
    ("parts", "text"),
    [(("T 0.1", "30 epochs"), "BYOL: T 0.1; 30 epochs."), (("", "22 epochs"), "BYOL: 22 epochs."),
     (("T 0.1", ""), "BYOL: T 0.1."), (("", ""), "BYOL."), ((), "BYOL.")],
)
def test_a_sentence_has_no_marks_of_what_is_empty(parts, text):
    assert names.sentence("BYOL", *parts) == text


@pytest.mark.parametrize(
    ("weights", "columns"),
    [
        (("pretrained",), ["rotation"]), (("pretrained", "random"), ["rotation", "random", "gain"]),
        (("pretrained", "random", AGAIN), ["rotation", "random", AGAIN, "gain"]), (("random",), ["random"]),
        (("pretrained", AGAIN), ["rotation", AGAIN, "gain"]),
    ],
)
def test_what_was_not_measured_has_no_column(weights, columns):
    untrained = {"pretext": "random", "steps": 0}
    rows = [result(50.0, weights=w, **({} if w == "pretrained" else untrained)) for w in weights]
    ((_, table),) = result_table(rows)
    assert table.columns == ["probe", "endpoint", *columns] and all(table.rows[0])


def test_a_long_word_in_a_header_breaks():
    """A path is one word: it ran over the next columns at 1200 pixels."""
    (rule,) = (line for line in STYLE.splitlines() if line.startswith("th {"))
    assert "overflow-wrap: break-word" in rule


# --- one's own photographs


def own(**changes):
    return result(50.0, dataset="folder:/data/plants", **changes)


def test_no_paper_stands_beside_ones_own_photographs(tmp_path):
    text = compare([own(), own(probe="knn")], "revisiting")
    assert "paper (" not in text and "k=4" not in text and "No paper has numbers of one's own images." in text
    with pytest.raises(InputError, match="no paper has numbers of one's own images"):
        beside([own()])
    assert "paper (" in compare([result(50.0, dataset="folder:/x", probe_dataset="toy_scenes")], "revisiting")


def test_what_is_missing_is_said_as_it_is(tmp_path):
    (tmp_path / "recipe.json").write_text(to_json(get_recipe("rotation", "smoke")))
    run = page.Run(str(tmp_path), None)
    with pytest.raises(InputError, match="^no results.jsonl; probe"):
        page.accuracy(run)
    write_results(tmp_path / "results.jsonl", [result(53.0, probe="pretext", endpoint="", metric="accuracy")])
    run = page.Run(str(tmp_path), None)
    for section in (page.accuracy, page.published):
        with pytest.raises(InputError, match="^results.jsonl holds no number of a probe"):
            section(run)


@pytest.mark.parametrize(
    ("dataset", "preset", "length", "flags"),
    [
        ("cifar10", "cifar10", {}, "--preset cifar10"), ("cifar10", "", {}, "--preset small"),
        ("toy_scenes", "sample", {}, "--preset sample"),
        ("folder:/data/my plants", "sample", {}, "--preset sample --dataset 'folder:/data/my plants'"),
        ("folder:/data/plants", "", {}, "--preset sample --dataset folder:/data/plants"),
        ("stl10", "", {}, "--preset sample --dataset stl10"),
        ("cifar10", "cifar10", {"epochs": 3, "max_steps": 7}, "--preset cifar10 --epochs 3 --max-steps 7"),
        ("cifar10", "", {"epochs": 3}, "--preset small"),  # of an unknown preset it cannot be told what was changed
    ],
)
def test_commands_are_of_the_runs_data_and_length(dataset, preset, length, flags):
    training = {field: getattr(get_recipe("obow", preset or "small"), field) for field in LENGTH} | length
    kind = {"pretext": "obow", "name": "obow", "dataset": dataset, "preset": preset, "training": training}
    settings = grouped([result(50.0, **kind)])
    assert flags_for(settings, "obow") == flags


@pytest.mark.parametrize(("count", "text"), [(1, "1 test image and"), (4, "4 test images"), (9, "8 test images")])
def test_the_caption_counts_the_images_that_are_shown(count, text, tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (count + 1, 8, 8, 3), np.uint8)[: max(count, 2)]
    source = get_source(images)
    recipe = get_recipe("random", "smoke", bench__endpoints=("pre_logits",))
    monkeypatch.setattr(page.Run, "open", lambda self, name, split: source)
    monkeypatch.setattr(page.Run, "results", [])
    monkeypatch.setattr(page, "build_untrained", lambda *args: None)
    monkeypatch.setattr(page, "freeze", lambda network: network)
    monkeypatch.setattr(page, "choose_queries", lambda labels, n: np.arange(min(count, 8)))
    monkeypatch.setattr(page, "features_of", lambda *args: {"pre_logits": images.reshape(len(images), -1) / 255})
    run = page.Run(str(tmp_path), None)
    run.__dict__["recipe"] = dataclasses.replace(recipe, bench=dataclasses.replace(recipe.bench, size=8))
    (picture,) = page.nearest(run)
    assert picture.caption.startswith(text)


def get_source(images):
    from revisit_ssl.data import Source

    return Source(name="a", split="test", kind="memory", num_examples=len(images), fingerprint="f", images=images)
