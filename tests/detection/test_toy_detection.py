"""toy_detection: the same scenes every time; boxes around masks, masks that share no pixel; sizes, classes, flags."""

import dataclasses

import numpy as np
import pytest

from revisit_ssl.data import DATASETS, SPLITS, Request, known_size, toy_crowds
from revisit_ssl.detection.sets import DETECTION_SETS, open_detection
from revisit_ssl.detection.toy_detection import COUNTS, FIRST, ToyDetection
from revisit_ssl.errors import DataNotHere, InputError
from revisit_ssl.scenes import CLASSES, crowds
from revisit_ssl.scenes.crowds import draw_crowd
from revisit_ssl.testing import check_detection_set


@pytest.fixture(scope="module")
def tiny():
    return open_detection("toy_detection_tiny")


def test_sizes_and_what_a_scene_holds(tiny):
    assert {s: len(tiny[s]) for s in tiny.parts} == {"train": 160, "val": 40, "trainval": 200, "test": 80}
    assert tiny.classes == CLASSES and tiny.masks and tiny.metric == "coco"
    train = tiny["train"]
    counts = [len(one.boxes) for one in train]
    assert min(counts) >= 1 and max(counts) == crowds.MOST and np.mean(counts) > 3
    labels = np.concatenate([one.classes for one in train])
    assert (np.bincount(labels, minlength=10) > 30).all()
    # Several of one class in a scene, and several classes.
    alike = [len(one.classes) > len(set(one.classes.tolist())) for one in train]
    assert 0.3 < np.mean(alike) < 0.9
    difficult = np.concatenate([one.difficult for one in train])
    assert 0.01 < difficult.mean() < 0.12 and not any(one.crowd.any() for one in train)
    assert {one.size for one in train} == {(128, 128)}


def test_the_promise_of_a_set(monkeypatch):
    check_detection_set("toy_detection_tiny")

    class Broken:
        """The tiny set with a change in its test images."""

        argument = ""

        def __init__(self, change):
            self.change = change

        def open(self, name, argument, place):
            whole = ToyDetection(160, 40, 80).open(name, argument, place)
            return dataclasses.replace(whole, parts=whole.parts | {"test": lambda: self.change(whole)})

    def shifted(found):
        first, *rest = found["test"]
        return [dataclasses.replace(first, masks=np.roll(first.masks(), 40, axis=2)), *rest]

    cases = {
        "train are in test too": lambda found: found["train"],
        "has no images": lambda found: (),
        "two images of one image_id": lambda found: found["test"] + found["test"][:1],
        "a mask that leaves its box": shifted,
        "a class that has no name": lambda found: [dataclasses.replace(x, classes=x.classes + 9) for x in found["val"]],
    }
    for says, change in cases.items():
        monkeypatch.setitem(DETECTION_SETS, "broken", Broken(change))
        with pytest.raises(AssertionError, match=says):
            check_detection_set("broken")
        open_detection.cache_clear()


def test_boxes_are_those_of_the_masks_and_masks_share_no_pixel(tiny):
    for one in tiny["test"][:30]:
        full = one.loaded()
        assert full.image.dtype == np.uint8 and full.masks.dtype == bool
        assert full.masks.shape == (len(one.boxes), 128, 128) and full.masks.sum(0).max() <= 1
        for mask, box, area in zip(full.masks, one.boxes, one.areas, strict=True):
            rows, columns = np.nonzero(mask)
            np.testing.assert_array_equal(box, [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
            assert mask.sum() == area >= crowds.LEAST


def test_a_mask_is_what_is_seen(monkeypatch):
    """Drawn by itself, without those before it, an object has all of its pixels; the nearest one has them anyway."""
    seen, alone = [], []
    place = crowds._place
    for number in range(15):
        whole = draw_crowd(number)
        for k in range(len(whole.labels)):
            monkeypatch.setattr(crowds, "_place", lambda rng, size, k=k: place(rng, size)[: k + 1])
            some = draw_crowd(number)
            monkeypatch.undo()
            if len(some.labels) != k + 1:  # one of fewer pixels than count
                continue
            now, then = (whole.owner == k + 1), (some.owner == k + 1)
            assert not (now & ~then).any()
            seen.append(now.sum())
            alone.append(then.sum())
        last = len(whole.labels)
        assert last == 0 or (whole.owner == last).sum() == alone[-1]
    assert np.less(seen, alone).mean() > 0.15  # many stand behind another
    assert np.less(seen, np.multiply(0.5, alone)).any()


def test_the_same_scenes_by_any_number_of_processes_and_in_any_set(tiny):
    first, second = ToyDetection(train=3).open("a", "", ""), ToyDetection(train=5).open("b", "", "")
    assert [one.image_id for one in second["train"]] == [0, 1, 2, 3, 4]
    ranges = [range(FIRST[split], FIRST[split] + COUNTS[split]) for split in FIRST]
    assert len(set().union(*ranges)) == sum(map(len, ranges))  # no scene is in two splits
    for a, b, c in zip(first["train"], second["train"], tiny["train"], strict=False):
        np.testing.assert_array_equal(a.image, draw_crowd(a.image_id).image)
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.image, c.image)
        np.testing.assert_array_equal(a.boxes, b.boxes)
    assert tiny.fingerprint("val") == open_detection("toy_detection_tiny").fingerprint("val")
    assert tiny.fingerprint("val") != tiny.fingerprint("test")


def test_scene_7_is_what_it_was():
    """Numbers that were measured on it stay comparable: scenes that change belong into a set of another name.

    A sine may differ in its last bit between processors, and with it a pixel at an edge.
    """
    crowd = draw_crowd(7)
    assert crowd.labels.tolist() == [8, 1, 8] and not crowd.difficult.any()
    np.testing.assert_allclose(crowd.boxes, [[1, 75, 36, 94], [77, 11, 107, 23], [69, 25, 115, 43]], atol=1)
    np.testing.assert_allclose(np.bincount(crowd.owner.ravel()), [15092, 430, 259, 603], atol=4)


def test_images_for_a_pretext_are_the_same_scenes(monkeypatch):
    """As a set of images: several labels each, -1 where every object of a class is hardly seen."""
    monkeypatch.setattr(toy_crowds, "COUNTS", {"train": 160, "val": 40, "test": 80})
    boxes = open_detection("toy_detection_tiny")
    for split, count in (("trainval", 200), ("test", 80)):
        source = DATASETS["toy_detection"].open(Request(name="toy_detection", split=split, place="", other=None))
        assert source.num_examples == count and source.labels is None and source.images.shape == (count, 128, 128, 3)
        for image, row, one in zip(source.images, source.multi_labels, boxes[split], strict=True):
            np.testing.assert_array_equal(image, one.image)
            expected = [
                0 if c not in one.classes else -1 if one.difficult[one.classes == c].all() else 1 for c in range(10)
            ]
            assert row.tolist() == expected
    with pytest.raises(DataNotHere, match="it is drawn where it is used"):
        plan = Request(name="toy_detection", split="test", place="", other=None, make=False)
        DATASETS["toy_detection"].open(plan)
    assert [known_size("toy_detection", split) for split in SPLITS] == [1600, 200, 1800, 400]


def test_names_that_are_none():
    with pytest.raises(InputError, match="unknown set with boxes 'toy_detectoin'.*did you mean toy_detection"):
        open_detection("toy_detectoin")
    with pytest.raises(InputError, match="takes nothing behind its name"):
        open_detection("toy_detection:3")
    with pytest.raises(InputError, match="nothing behind its colon"):
        open_detection("toy_detection:")
    with pytest.raises(InputError, match="has no split 'dev'; one of train, val, test, trainval"):
        open_detection("toy_detection_tiny")["dev"]
    assert "toy_detection" in DETECTION_SETS
