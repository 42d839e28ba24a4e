"""RoIAlign: detectron2's numbers, and the definition typed as loops over samples."""

import math
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from revisit_ssl.detection.roi_align import FORMS, roi_align
from revisit_ssl.errors import InputError

GOLDEN = pathlib.Path(__file__).parents[1] / "goldens" / "evaluation" / "roi_align.npz"
HARD = [  # whole image, over each border, far outside, tiny, without a side, larger than the map
    [0, 0, 72, 56], [-20, -13, 15, 22], [60, 40, 90, 80], [100, 100, 140, 130], [20, 30, 21, 31], [8, 9, 8, 40],
    [-90, -70, 200, 190], [33.3, 12.1, 47.9, 30.2],
]


def by_samples(maps, boxes, size, stride, sampling, aligned):
    """Mask R-CNN, section 3: every output cell the mean of bilinear samples, one after another."""
    n, height, width, _ = maps.shape
    out = np.zeros([n, boxes.shape[1], size, size, maps.shape[3]])

    def sample(image, y, x):
        if y < -1 or y > height or x < -1 or x > width:
            return 0.0
        y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
        top, left = int(y), int(x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        b, r = y - top, x - left
        upper = (1 - r) * image[top, left] + r * image[top, right]
        return (1 - b) * upper + b * ((1 - r) * image[bottom, left] + r * image[bottom, right])

    for i, j, p, q in np.ndindex(*out.shape[:4]):
        x1, y1, x2, y2 = boxes[i, j] / stride - (0.5 if aligned else 0.0)
        h, w = ((y2 - y1) / size, (x2 - x1) / size) if aligned else (max(y2 - y1, 1) / size, max(x2 - x1, 1) / size)
        rows, columns = (sampling, sampling) if sampling else (math.ceil(h), math.ceil(w))
        for a, b in np.ndindex(rows, columns):
            at = y1 + (p + (a + 0.5) / rows) * h, x1 + (q + (b + 0.5) / columns) * w
            out[i, j, p, q] += sample(maps[i], *at) / (rows * columns)
    return out


@pytest.fixture(scope="module")
def regions():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=[2, 7, 9, 3])
    corners = rng.uniform(-10, 60, [2, 6, 2])
    some = np.concatenate([corners, corners + rng.uniform(0, 50, [2, 6, 2])], axis=-1)
    return maps, np.concatenate([some, np.broadcast_to(np.array(HARD, float), [2, len(HARD), 4])], axis=1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [1, 2, 3, 0])
def test_every_form_is_the_mean_of_its_samples(regions, sampling, aligned):
    maps, boxes = regions
    for size in (1, 4):
        expected = by_samples(maps, boxes, size, 8, sampling, aligned)
        for form in FORMS:
            if form == "crop_and_resize" and not sampling:
                continue
            found = roi_align(tf.constant(maps, tf.float32), boxes, size, stride=8, sampling=sampling, aligned=aligned,
                              form=form)  # fmt: skip
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5, err_msg=f"{form} {size}")


def golden_by_image():
    golden = np.load(GOLDEN)
    rois = golden["rois_batch_x1y1x2y2"]
    maps = golden["feature_map"]
    rows = [np.flatnonzero(rois[:, 0] == i) for i in range(len(maps))]
    most = max(map(len, rows))
    boxes = np.zeros([len(maps), most, 4])  # boxes of no image are filled up with ones of no size
    for i, chosen in enumerate(rows):
        boxes[i, : len(chosen)] = rois[chosen, 1:]
    return golden, tf.constant(maps, tf.float32), boxes, rows


@pytest.mark.parametrize("form", FORMS[1:])
@pytest.mark.parametrize(("name", "size", "options"), [
    ("aligned_sampling2", 5, {}), ("aligned_adaptive", 5, {"sampling": 0}), ("aligned_sampling1", 3, {"sampling": 1}),
    ("not_aligned_sampling2", 5, {"aligned": False}), ("aligned_adaptive_1x1", 1, {"sampling": 0}),
])  # fmt: skip
def test_detectron2_gives_the_same_numbers_and_gradients(name, size, options, form):
    if form == "crop_and_resize" and options.get("sampling") == 0:
        with pytest.raises(InputError, match="fixed number of samples"):
            roi_align(tf.zeros([1, 3, 3, 1]), tf.zeros([1, 1, 4]), 1, stride=1, form=form, **options)
        return
    golden, maps, boxes, rows = golden_by_image()
    for compiled in (False, True) if form != "crop_and_resize" else (False,):

        @tf.function(autograph=False, jit_compile=compiled)
        def regions_and_gradient(upstream):
            with tf.GradientTape() as tape:
                tape.watch(maps)
                found = roi_align(maps, boxes, size, stride=int(golden["stride"]), form=form, **options)
            return found, tape.gradient(found, maps, output_gradients=upstream)

        upstream = np.zeros([*boxes.shape[:2], size, size, maps.shape[3]], np.float32)
        given = golden.get(f"{name}_upstream_gradient")
        for i, chosen in enumerate(rows):
            if given is not None:
                upstream[i, : len(chosen)] = given[chosen]
        found, gradient = regions_and_gradient(upstream)
        for i, chosen in enumerate(rows):
            np.testing.assert_allclose(found[i, : len(chosen)], golden[name][chosen], rtol=0, atol=1e-5)
        if given is not None:
            np.testing.assert_allclose(gradient, golden[f"{name}_map_gradient"], rtol=0, atol=1e-5)


def test_one_cell_of_14_samples_is_the_mean_of_7_by_7_cells_of_2(regions):
    maps, boxes = tf.constant(regions[0], tf.float32), regions[1]
    cells = roi_align(maps, boxes, 7, stride=8, sampling=2)
    one = roi_align(maps, boxes, 1, stride=8, sampling=14)
    np.testing.assert_allclose(one[:, :, 0, 0], tf.reduce_mean(cells, axis=(2, 3)), atol=1e-5)


@pytest.mark.parametrize("form", FORMS[1:])
def test_bfloat16_maps_stay_close_and_boxes_get_no_gradient(regions, form):
    maps, boxes = tf.constant(regions[0], tf.float32), tf.constant(regions[1], tf.float32)
    exact = roi_align(maps, boxes, 4, stride=8, form=form)
    rough = roi_align(tf.cast(maps, tf.bfloat16), boxes, 4, stride=8, form=form)
    assert rough.dtype == tf.bfloat16
    assert np.abs(tf.cast(rough, tf.float32) - exact).max() < 0.02 * np.abs(exact).max()
    with tf.GradientTape() as tape:
        tape.watch([maps, boxes])
        total = tf.reduce_sum(roi_align(maps, boxes, 4, stride=8, form=form) ** 2)
    to_maps, to_boxes = tape.gradient(total, [maps, boxes])
    assert to_boxes is None and np.abs(to_maps).max() > 0


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_any_size(regions, form):
    signature = [tf.TensorSpec([None, 7, 9, 3]), tf.TensorSpec([None, None, 4])]
    align = lambda maps, boxes: roi_align(maps, boxes, (2, 3), stride=8, form=form)  # noqa: E731
    of = tf.function(align, signature, autograph=False)
    found = of(tf.constant(regions[0], tf.float32), tf.constant(regions[1], tf.float32))
    assert found.shape == (2, regions[1].shape[1], 2, 3, 3)


def test_what_may_not_come_is_said_in_one_line():
    maps, boxes = tf.zeros([1, 3, 3, 1]), tf.zeros([1, 1, 4])
    for wrong, line in (({"form": "loop"}, "form of RoIAlign"), ({"sampling": -1}, "at least 1 sample"),
                        ({"size": 0}, "at least 1 x 1")):  # fmt: skip
        with pytest.raises(InputError, match=line):
            roi_align(maps, boxes, **{"size": 2, "stride": 4} | wrong)
