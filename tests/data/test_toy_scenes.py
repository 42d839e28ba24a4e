import contextlib
import io
import json
import pathlib
import runpy

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from sklearn.linear_model import LogisticRegression

from revisit_ssl.commands import run
from revisit_ssl.data import open_source, toy_scenes
from revisit_ssl.errors import InputError
from revisit_ssl.scenes import draw_scene, drawing
from revisit_ssl.scenes.drawing import begin, drawn, encoded, png
from revisit_ssl.training.images import check_images, note_images

MEAN_COLOUR = [134.56, 133.8, 133.29]
MEAN_COVER = 0.25022
FIRST_LABELS = [0, 7, 9, 6, 4, 8, 1, 5, 3, 2]


@pytest.fixture(scope="module")
def tiny(toy_dir):
    builder = tfds.builder("toy_scenes/tiny", data_dir=toy_dir)
    return {s: tfds.as_numpy(builder.as_dataset(split=s, batch_size=-1)) for s in ("train", "test")}


def test_features(tiny):
    for split, count, first in (("train", 600, 0), ("test", 200, 1_000_000)):
        data = tiny[split]
        assert data["image"].shape == (count, 64, 64, 3) and data["image"].dtype == np.uint8
        assert data["mask"].shape == (count, 64, 64, 1) and set(np.unique(data["mask"])) == {0, 255}
        assert data["label"].dtype == np.int64
        np.testing.assert_array_equal(data["instance"], first + np.arange(count))
        np.testing.assert_array_equal(
            np.sort(data["label"].reshape(-1, 10), 1), np.arange(10)[None].repeat(count // 10, 0)
        )


def test_stored_scene_is_drawn_again(tiny):
    for i in (0, 7, 599):
        scene = draw_scene(i)
        np.testing.assert_array_equal(scene.image, tiny["train"]["image"][i])
        np.testing.assert_array_equal(scene.mask, tiny["train"]["mask"][i, ..., 0])
        assert scene.label == tiny["train"]["label"][i]


def test_their_fingerprint_does_not_change_with_how_they_are_stored(toy_dir):
    """Else no begun run could go on where a later version, or another zlib, has drawn them anew: no bytes of files."""
    prints = [open_source("toy_scenes_tiny", s, data_dir=toy_dir).fingerprint for s in ("train", "val", "test")]
    assert prints == [f"toy_scenes/tiny/1.0.0-{part}" for part in ("train[:500]", "train[500:]", "test")]


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_a_run_of_an_earlier_version_goes_on(fraction, tmp_path, toy_dir):
    """It noted the bytes of the files."""
    source = open_source("toy_scenes_tiny", "train", data_dir=toy_dir, fraction=fraction)
    note_images(tmp_path, source)
    noted = json.loads((tmp_path / "images.json").read_text())
    for earlier, goes_on in (("train[:500]-10263849", True), ("train[:500]-7", True), ("train[500:]-10263849", False)):
        known = noted["fingerprint"].replace("train[:500]", earlier)
        (tmp_path / "images.json").write_text(json.dumps(noted | {"fingerprint": known}))
        with contextlib.nullcontext() if goes_on else pytest.raises(InputError, match="have changed since the run"):
            check_images(tmp_path, source)


def test_scenes_stay_what_the_measured_ones_were():
    """Numbers in docs/results.md are of these pictures; a tolerance for other CPUs' sines."""
    scenes = [draw_scene(i) for i in range(100)]
    np.testing.assert_allclose(np.mean([s.image for s in scenes], (0, 1, 2)), MEAN_COLOUR, atol=0.05)
    np.testing.assert_allclose(np.mean([s.mask > 0 for s in scenes]), MEAN_COVER, atol=1e-4)
    assert [s.label for s in scenes[:10]] == FIRST_LABELS


def test_processes_draw_the_same_scenes_in_order():
    alone, together = (list(drawn(995, 9, processes)) for processes in (1, 3))
    assert alone == together == [encoded(i) for i in range(995, 1004)]


@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3, 3), (64, 64, 3)], ids=str)
def test_pngs_hold_the_pixels(shape, level):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    contents = png(pixels, level)
    with Image.open(io.BytesIO(contents)) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)
    with Image.open(io.BytesIO(contents)) as image:
        image.verify()  # the checksums
    np.testing.assert_array_equal(tf.io.decode_png(contents), pixels if len(shape) == 3 else pixels[..., None])


@pytest.mark.parametrize("pixels", [np.zeros((4, 4)), np.zeros((4, 4), bool), np.zeros((4, 4, 4), np.uint8)])
def test_no_png_of_other_pixels(pixels):
    with pytest.raises(InputError, match=r"must be uint8 \[h, w\] or \[h, w, 3\]"):
        png(pixels, 0)


@pytest.mark.parametrize("begun", [False, True])
def test_a_process_that_dies_is_noticed(monkeypatch, begun):
    monkeypatch.setattr(drawing, "CHILD", "raise SystemExit(3)")
    if begun:
        begin(5, 10, 2)
    with pytest.raises(RuntimeError, match="drawing scene 5 failed with status 3"):
        next(drawn(5, 10, 2))


def test_begun_scenes_are_those_and_are_given_once(monkeypatch):
    begin(995, 3, 2)
    assert list(drawn(995, 3, 1)) == [encoded(i) for i in range(995, 998)]
    monkeypatch.setattr(drawing, "_drawn", lambda *numbers: iter([numbers]))
    assert list(drawn(995, 3, 1)) == [(995, 3, 1)]


@pytest.mark.parametrize(
    ("flags", "there", "begins"),
    [
        (["rotation"], False, True), (["rotation"], True, False), (["rotation", "--dataset", "digits"], False, False),
        (["maskco"], False, True), (["maskco", "--probes"], False, False),
    ],
    ids=["not there yet", "there", "other data", "for the probes", "not even for them"],
)
def test_drawing_begins_before_tensorflow_is_imported(flags, there, begins, monkeypatch, tmp_path):
    if there:
        (tmp_path / "toy_scenes" / "full" / "1.0.0").mkdir(parents=True)
    asked = []
    monkeypatch.setattr(run, "begin", lambda *numbers: asked.append(numbers[:2]))
    run.begin_drawing(run.parse_run([*flags, "--data-dir", str(tmp_path)]))
    assert asked == ([(0, 6000)] if begins else [])


def test_full_configuration_has_the_promised_sizes():
    config = toy_scenes.ToyScenes.builder_configs["full"]
    assert (config.train, config.test) == (6000, 2000)
    assert toy_scenes.ToyScenes.BUILDER_CONFIGS[0] is config  # the default


def test_box_encloses_mask_and_object_fills_the_height(tiny):
    box, mask = tiny["train"]["bbox"] * 64, tiny["train"]["mask"][..., 0] > 0
    for b, m in zip(box[:50], mask, strict=False):
        rows, columns = np.nonzero(m)
        np.testing.assert_allclose(b, [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1], atol=1e-4)
    heights = (box[:, 2] - box[:, 0]) / 64
    assert np.quantile(heights, 0.02) > 0.5 and heights.max() < 0.97
    assert np.quantile(heights, 0.98) > 0.8  # sizes vary


def test_without_the_object_the_ground_is_the_same():
    for i in range(10):
        with_it, without = draw_scene(i), draw_scene(i, with_object=False)
        assert not without.mask.any()
        near = np.pad(with_it.mask > 0, 3)
        near = np.max([np.roll(near, (a, b), (0, 1)) for a in range(-3, 4) for b in range(-3, 4)], 0)[3:-3, 3:-3]
        np.testing.assert_array_equal(with_it.image[~near], without.image[~near])
        assert (with_it.image != without.image).any()


def test_ground_does_not_say_where_up_is():
    """Brightness slopes in all four directions alike, in the mean and in every sign."""
    rising = []
    for i in range(600):
        grey = draw_scene(i, with_object=False).image.mean(-1)
        rising.append([grey[32:].mean() - grey[:32].mean(), grey[:, 32:].mean() - grey[:, :32].mean()])
    rising = np.array(rising)
    z = rising.mean(0) / (rising.std(0) / np.sqrt(len(rising)))
    assert np.abs(z).max() < 4, z
    assert np.abs((rising > 0).mean(0) - 0.5).max() < 0.08
    np.testing.assert_allclose(*rising.std(0), rtol=0.2)


def test_light_on_the_object_comes_from_above(tiny):
    """Rows just inside the upper edge of the mask are brighter than rows just inside the lower edge, on average."""
    brighter = []
    for image, mask in zip(tiny["train"]["image"], tiny["train"]["mask"][..., 0] > 0, strict=True):
        grey = image.mean(-1)
        upper = mask & ~np.roll(mask, 1, 0)
        lower = mask & ~np.roll(mask, -1, 0)
        brighter.append(grey[upper].mean() > grey[lower].mean())
    assert np.mean(brighter) > 0.7


def test_colour_does_not_give_the_class_away(tiny):
    def colour(data):
        return np.stack([i[m[..., 0] > 0].mean(0) / 255 for i, m in zip(data["image"], data["mask"], strict=True)])

    model = LogisticRegression(C=100, max_iter=1000).fit(colour(tiny["train"]), tiny["train"]["label"])
    assert model.score(colour(tiny["test"]), tiny["test"]["label"]) < 0.25


def test_sheet_of_the_readme():
    script = pathlib.Path(__file__).parents[2] / "experiments" / "check_scenes.py"
    sheet = runpy.run_path(str(script))["draw_sheet"]()
    image = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB"))
    assert image.shape == (640, 60 + 512, 3) and len(sheet) < 700_000
    first = draw_scene(next(i for i in range(10) if draw_scene(i).label == 0)).image
    np.testing.assert_array_equal(image[:64, 60:124], first)  # in all its colours
    assert (image[:, :60] < 128).any()  # the names
