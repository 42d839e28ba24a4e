import pathlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy import stats

from revisit_ssl.errors import InputError
from revisit_ssl.views import crops, pixels, resample
from revisit_ssl.views.boxes import inception_boxes, random_boxes, random_resized_boxes
from revisit_ssl.views.crops import CropSpec

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "revisiting"
DRAWS = 20_000


def noise(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def formula_image(height, width):
    y, x, c = np.mgrid[:height, :width, :3]
    return ((7 * y + 3 * x + 50 * c + x * y // 16) % 256).astype(np.uint8)


def two_sample_limit(n, m):
    return 1.95 * np.sqrt((n + m) / (n * m))


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(7, 9), (30, 40), (17, 31)])
@pytest.mark.parametrize(
    "kernel, options", [("bilinear", {}), ("antialias", {"antialias": True}), ("area", {"method": "area"})]
)
def test_resize_is_tensorflows(size, kernel, options):
    images = noise(2, 17, 23, 3)
    enlarged = size[0] > 17 or size[1] > 23
    options = {} if kernel == "area" and enlarged else options  # by area it would only repeat pixels
    expected = tf.image.resize(images, size, **options)
    np.testing.assert_allclose(resample.resize(images, size, kernel=kernel), expected, atol=1e-5)
    traced = tf.function(lambda x: resample.resize_on_host(x, size, kernel=kernel), autograph=False)
    unknown = traced.get_concrete_function(tf.TensorSpec([2, None, None, 3]))
    np.testing.assert_allclose(unknown(tf.constant(images)), expected, atol=1e-5)


def test_antialiased_resize_is_pillows():
    image = noise(40, 30)
    for size in ((13, 11), (55, 64)):
        pillow = Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR)
        ours = resample.resize(image[None, ..., None], size, kernel="antialias")[0, ..., 0]
        np.testing.assert_allclose(ours, np.asarray(pillow), atol=1e-5)


@pytest.mark.parametrize(
    "box",
    [(0, 0, 60, 80), (7, 11, 40, 50), (0, 0, 1, 80), (50, 3, 10, 9), (20, 30, 13, 40)],
    ids=["whole", "shrunk", "one row", "enlarged", "both"],
)
def test_antialiased_boxes_are_pillows(box):
    """torchvision cuts the box and resizes it; Pillow's ``box`` also sees what lies around it. Pillow rounds twice."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    top, left, h, w = box
    corners, size = (left, top, left + w, top + h), (12, 17)
    options = {"size": size[::-1], "resample": Image.Resampling.BILINEAR}
    whole = Image.fromarray(image)
    for theirs, clamp in ((whole.crop(corners).resize(**options), True), (whole.resize(**options, box=corners), False)):
        boxes = np.array([[box]], np.int32)
        ours = resample.resample(image[None], boxes, size, kernel="antialias", clamp_to_box=clamp)[0, 0]
        assert np.abs(ours - np.asarray(theirs, np.float32)).max() < 1.05


@pytest.mark.parametrize("kernel", ["bilinear", "antialias"])
def test_boxes_are_cut_first_and_then_resized(kernel):
    images = noise(2, 20, 24, 3)
    boxes = np.array([[[0, 0, 20, 24], [3, 5, 7, 9]], [[12, 1, 8, 1], [0, 20, 5, 4]]], np.int32)
    ours = resample.resample(images, boxes, (8, 6), kernel=kernel).numpy()
    for b in range(2):
        for n, (top, left, h, w) in enumerate(boxes[b]):
            cut = tf.image.resize(images[b, top : top + h, left : left + w], (8, 6), antialias=kernel == "antialias")
            np.testing.assert_allclose(ours[b, n], cut, atol=1e-5)


def test_slices_keep_the_pixels():
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 8, 3), np.uint8)
    corners = np.array([[[0, 0], [5, 3]], [[2, 1], [4, 3]]], np.int32)
    ours = resample.slice_boxes(tf.constant(images), tf.constant(corners), (4, 5))
    assert ours.dtype == tf.uint8
    for b in range(2):
        for n, (top, left) in enumerate(corners[b]):
            np.testing.assert_array_equal(ours[b, n], images[b, top : top + 4, left : left + 5])


def test_center_crop_and_central_fraction_golden():
    golden = np.load(GOLDENS / "inception_eval.npz")
    for (height, width), box in zip(
        golden["central_crop_table__image_hw"], golden["central_crop_table__top_left_height_width"], strict=True
    ):
        places = np.stack(np.mgrid[:height, :width], -1)
        cut = resample.central_fraction(places, 0.875)
        assert (*cut[0, 0], *cut.shape[:2]) == tuple(box)
    np.testing.assert_array_equal(resample.center_crop(np.mgrid[:7, :8].transpose(1, 2, 0), 4)[0, 0], [1, 2])


@pytest.mark.parametrize("prefix, kernel", [("", "legacy"), ("half_pixel_", "bilinear")])
def test_inception_eval_golden(prefix, kernel):
    golden = np.load(GOLDENS / "inception_eval.npz")
    small, large = pixels.to_float(golden["small__image"][None]), pixels.to_float(formula_image(300, 400)[None])
    ours = resample.resize(resample.central_fraction(large), (224, 224), kernel=kernel)[0] * 2 - 1
    np.testing.assert_allclose(ours[::7, ::7], golden[f"large__{prefix}output_every_7th_pixel"], atol=1e-3)
    ours = resample.resize(resample.central_fraction(small), (32, 32), kernel=kernel)[0] * 2 - 1
    np.testing.assert_allclose(ours, golden[f"small__{prefix}output"], atol=1e-3)


def test_shorter_side_golden():
    golden = np.load(GOLDENS / "patch_preprocessing.npz")
    for (height, width), expected in zip(
        golden["resize_small_256__input_hw"], golden["resize_small_256__output_hw"], strict=True
    ):
        assert resample.shorter_side_size(height, width, 256) == tuple(expected)
    image = golden["probe_small_input"][None]
    resized = resample.resize_shorter_side(image, int(golden["probe_small_smaller_side"]), kernel="area")
    np.testing.assert_allclose(resized[0], golden["probe_small_resized_area"], atol=2e-3)
    cut = resample.center_crop(resized, int(golden["probe_small_crop"]))[0] / 127.5 - 1
    np.testing.assert_allclose(cut, golden["probe_small_cropped_minus1_to_1"], atol=2e-3 / 127.5)


# --- laws of the boxes ------------------------------------------------------------------------------------------------


def torchvision_box(rng, height, width, scale, ratio):
    """RandomResizedCrop.get_params, typed from its documentation."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
        w, h = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w
    if width / height < ratio[0]:
        h, w = round(width / ratio[0]), width
    elif width / height > ratio[1]:
        h, w = height, round(height * ratio[1])
    else:
        h, w = height, width
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
    "height, width, scale",
    [(32, 32, (0.08, 1.0)), (40, 90, (0.5, 1.0)), (300, 20, (0.3, 1.0))],
    ids=["square", "long", "fallback"],
)
def test_random_resized_boxes_follow_torchvisions_law(height, width, scale):
    n = 4000
    rng = np.random.default_rng(0)
    theirs = np.array([torchvision_box(rng, height, width, scale, (3 / 4, 4 / 3)) for _ in range(n)])
    ours = random_resized_boxes([n], height, width, (1, 2), scale=scale).numpy()
    for name, quantity in {
        "top": lambda b: b[:, 0],
        "left": lambda b: b[:, 1],
        "height": lambda b: b[:, 2],
        "width": lambda b: b[:, 3],
        "area": lambda b: b[:, 2] * b[:, 3],
        "aspect": lambda b: b[:, 3] / b[:, 2],
        "room on the left": lambda b: b[:, 1] / np.maximum(width - b[:, 3], 1),
    }.items():
        statistic = stats.ks_2samp(quantity(ours), quantity(theirs), method="asymp").statistic
        assert statistic < two_sample_limit(n, n), (name, statistic)


def inception_quantities(boxes, height, width):
    top, left, h, w = boxes.T.astype(float)
    return {
        "area_fraction": h * w / (height * width),
        "aspect_ratio_w_over_h": w / h,
        "crop_height": h,
        "crop_width": w,
        "relative_top_offset": top / np.maximum(height - h, 1),
        "relative_left_offset": left / np.maximum(width - w, 1),
    }


def test_inception_boxes_follow_the_golden_law():
    golden = np.load(GOLDENS / "inception_train.npz")
    height, width = golden["image_hw"]
    boxes = inception_boxes([DRAWS], height, width, (5, 6)).numpy()
    at = golden["percentiles"] / 100
    for name, values in inception_quantities(boxes, height, width).items():
        values = np.sort(values)
        percentiles = golden[f"{name}__percentiles"].astype(float)
        # Golden values are float32; a percentile that lies on an atom says only that the law jumps across it there.
        up_to = np.searchsorted(values, percentiles + 1e-6, "right") / DRAWS
        below = np.searchsorted(values, percentiles - 1e-6, "left") / DRAWS
        gap = max((at - up_to).max(), (below - at).max())
        assert gap < 0.0195, (name, gap)
    top, left, h, w = boxes.T
    assert (h * w).min() >= 0.1 * height * width
    assert abs((h == height).mean() - golden["full_height_rate"]) < 0.003
    assert (w == width).mean() < 1e-3
    assert (top >= 0).all() and (left >= 0).all() and (top + h <= height).all() and (left + w <= width).all()


# A square, and an image so flat that many draws do not fit into it.
@pytest.mark.parametrize("height, width", [(32, 32), (10, 400)])
def test_inception_boxes_follow_tensorflows_kernel(height, width):
    n = 1500

    @tf.function(autograph=False)
    def kernel(i):
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            [height, width, 3],
            tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            tf.stack([i, 9]),
            min_object_covered=0.1,
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.05, 1.0),
            max_attempts=100,
        )
        return tf.concat([begin[:2], size[:2]], 0)

    theirs = tf.map_fn(kernel, tf.range(n)).numpy()
    ours = inception_boxes([4 * n], height, width, (3, 3)).numpy()
    theirs_by_name = inception_quantities(theirs, height, width)
    for name, values in inception_quantities(ours, height, width).items():
        statistic = stats.ks_2samp(values, theirs_by_name[name], method="asymp").statistic
        assert statistic < two_sample_limit(n, 4 * n), (name, statistic)


def test_random_boxes_reach_every_place_equally():
    boxes = random_boxes([DRAWS], 7, 9, (1, 1), size=(4, 9)).numpy()
    assert stats.chisquare(np.bincount(boxes[:, 0], minlength=4)).pvalue > 1e-3
    assert (boxes[:, 1:] == [0, 4, 9]).all()


# --- CropSpec, cut ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", resample.FILTERS)
@pytest.mark.parametrize("method", crops.METHODS)
@pytest.mark.parametrize(
    ("resize_to", "keep_ratio", "sides"), [(None, False, None), (20, False, (20, 20)), (20, True, (20, 25))]
)
def test_cut_is_boxes_cut_one_by_one(method, resize_to, keep_ratio, sides, kernel):
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 30, 3), np.uint8)
    resized = {"resize_to": resize_to, "keep_ratio": keep_ratio, "kernel": kernel}
    spec = CropSpec(size=12, count=2, method=method, scale=(0.2, 1.0), **resized)
    ours = crops.cut(images, spec, (1, 2)).numpy()
    assert ours.shape == (3, 2, 12, 12, 3) and ours.dtype == np.float32
    boxes = crops.batch_boxes(spec, 3, 24, 30, (1, 2)).numpy()
    frames = images / np.float32(255)
    if resize_to:
        frames = resample.resize_on_host(frames, sides, kernel=kernel).numpy()
    for b in range(3):
        for n, (top, left, h, w) in enumerate(boxes[b]):
            expected = resample.resize_on_host(frames[b, top : top + h, left : left + w], (12, 12), kernel=kernel)
            np.testing.assert_allclose(ours[b, n], expected, atol=1e-5)


def test_boxes_of_one_image_and_of_unknown_size():
    spec = CropSpec(size=8, count=3, scale=(0.2, 0.9))
    eager = crops.sample_boxes(spec, 30, 40, (4, 4))
    traced = tf.function(lambda h, w: crops.sample_boxes(spec, h, w, (4, 4)), autograph=False)
    traced = traced(tf.constant(30), tf.constant(40))
    np.testing.assert_array_equal(eager, traced)
    assert eager.shape == (3, 4) and len(np.unique(eager, axis=0)) == 3
    small = crops.sample_boxes(CropSpec(size=8, method="center"), 5, 11, 0)
    np.testing.assert_array_equal(small, [[0, 1, 5, 8]])


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: CropSpec(size=0), "size"),
        (lambda: CropSpec(size=8, count=0), "count"),
        (lambda: CropSpec(size=8, method="zoom"), "zoom.*'resized', 'inception'"),
        (lambda: CropSpec(size=8, kernel="legacy"), "kernel 'legacy'; one of 'bilinear', 'antialias', 'area'"),
        (lambda: CropSpec(size=8, scale=(0.5, 1.5)), "scale"),
        (lambda: CropSpec(size=8, ratio=(2, 1)), "ratio"),
        (lambda: CropSpec(size=8, method="center", resize_to=4), "resize_to"),
        (lambda: crops.cut(noise(1, 6, 6, 3), CropSpec(size=8, method="random"), 0), "does not fit into 6x6"),
        (lambda: crops.cut(noise(6, 6, 3), CropSpec(size=4), 0), "4 axes"),
        (lambda: crops.cut(np.zeros((1, 6, 6, 3), np.int64), CropSpec(size=4), 0), "int64"),
        (lambda: resample.center_crop(noise(1, 6, 6, 3), 7), "does not fit"),
        (lambda: resample.central_fraction(noise(1, 6, 6, 3), 0), "fraction"),
        (lambda: resample.resize(noise(1, 6, 6, 3), (3, 3), kernel="cubic"), "kernel 'cubic'; one of 'bilinear'"),
        (lambda: crops.random_resized_crop(noise(1, 6, 6, 3), 0, size=3, scale=(0, 1)), "scale"),
        (lambda: crops.inception_crop(noise(1, 6, 6, 3), 0, size=3, area=(0.1, 2)), "area"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(InputError, match=message):
        make()
