"""Jigsaw and relative patch location: what the head is shown, its numbers, and the patches that come in."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from revisit_ssl.backbones import BACKBONES
from revisit_ssl.data import EvalView
from revisit_ssl.errors import InputError
from revisit_ssl.papers import get_recipe
from revisit_ssl.pretext.jigsaw import Jigsaw, JigsawOptions
from revisit_ssl.pretext.patch_head import PatchHead, PatchOptions, concat_patches
from revisit_ssl.pretext.relative_patch import RelativePatch, direction, neighbour_pairs
from revisit_ssl.recipe import ViewSpec
from revisit_ssl.training.optimizers import MomentumSGD, l2_loss
from revisit_ssl.views import crops
from revisit_ssl.views.draws import Seed
from revisit_ssl.views.pixels import normalize_input

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens" / "revisiting"
VIEWS = ViewSpec(
    crop="random", size=30, patch_grid=3, patch_size=8, flip=False, color="none", normalize="none", gray="mean"
)
OPTIONS = {"embed_dim": 3, "hidden": 8, "dropout": 0.0}
TASKS = {"jigsaw": (Jigsaw, JigsawOptions), "relative_patch": (RelativePatch, PatchOptions)}


def golden(name):
    return dict(np.load(GOLDENS / f"{name}.npz"))


def decimals(values):
    """The numbers that went into a formula, not their float32 rounding."""
    return [float(f"{v:.6g}") for v in values]


def formula_input(shape, p, q, r):
    n = np.arange(np.prod(shape), dtype=np.float64)
    return (np.sin(p * n) + 0.5 * np.cos(q * n + r)).astype(np.float32).reshape(shape)


def formula_kernel(shape, j, g, a, b, c, d):
    n = np.arange(np.prod(shape), dtype=np.float64)
    return (g * np.sin(a * n + b * j + c + d * n**2) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32).reshape(shape)


def deviation(ours, theirs):
    """The README's relative deviation."""
    return np.abs(np.asarray(ours, np.float64) - theirs).max() / np.abs(theirs).max()


def averaging():
    """A network that averages colours."""
    image = keras.Input([None, None, 3])
    return keras.Model(image, {"pre_logits": keras.layers.GlobalAveragePooling2D()(image)})


def make(task, views=VIEWS, norm="none", backbone=None, bn_group=None, **options):
    pretext, kind = TASKS[task]
    options = kind(**{**OPTIONS, **({"permutations": 4} if task == "jigsaw" else {}), **options})
    model = pretext(backbone or averaging(), views=views, options=options, norm=norm, bn_group=bn_group)
    model.compile(MomentumSGD(0.0))
    return model


def places(height=32, width=32, batch=1):
    """Images whose red and green say where a pixel is: float32 [batch, height, width, 3] in [0, 1]."""
    y, x = np.mgrid[:height, :width]
    return np.tile(np.stack([y, x, 0 * y], -1)[None] / np.float32(255), [batch, 1, 1, 1])


# --- what the head is shown -----------------------------------------------------------------------------------------


def test_concatenation_golden():
    g = golden("patch_concat_and_head")
    vectors = g["embeddings"].reshape(2, 9, -1)
    np.testing.assert_array_equal(concat_patches(vectors, g["permutations"]), g["concatenated"])
    np.testing.assert_array_equal(concat_patches(vectors, g["neighbour_pairs"]), g["neighbour_concatenated"])
    np.testing.assert_array_equal(neighbour_pairs(3), g["neighbour_pairs"])
    for y, x in np.ndindex(2, 2):
        ours = concat_patches(g["spatial_embeddings"][None, :, y, x], g["permutations"])
        np.testing.assert_array_equal(ours, g["spatial_concatenated"][:, y, x])


def test_concatenation_with_other_orders_in_each_image():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2, 4, 5)).astype(np.float32)
    order = np.array([[rng.permutation(4)[:3] for _ in range(6)] for _ in range(2)])
    ours = concat_patches(vectors, order).numpy().reshape(2, 6, 15)
    for b, m, channel, position in np.ndindex(2, 6, 5, 3):
        assert ours[b, m, channel * 3 + position] == vectors[b, order[b, m, position], channel]


CELL_ANGLES = np.linspace(0, 2 * np.pi, 9, endpoint=False)
DIRECTIONS = np.stack([np.cos(CELL_ANGLES), np.sin(CELL_ANGLES), 0 * CELL_ANGLES], -1)  # unit vector of each cell


def coloured_cells(count):
    """Images whose nine cells of 10 pixels have nine colours: float32 [count, 30, 30, 3] in [0, 1]."""
    cells = (DIRECTIONS.reshape(3, 3, 3) + 1) / 2
    return tf.constant(np.tile(np.kron(cells, np.ones([10, 10, 1]))[None], [count, 1, 1, 1]), tf.float32)


def solve(model, orders):
    """Weights that know the answer: class c scores how well each position fits the cell that ``orders`` has there."""
    model.embedding.kernel.assign(2 * np.eye(3))
    model.embedding.bias.assign(-np.ones(3))
    kernel = np.stack([DIRECTIONS[order].T.ravel() for order in orders], 1)  # channel-major, [3 * positions, classes]
    head = model.head
    head.hidden.kernel.assign(kernel)
    head.hidden.bias.assign(np.zeros(len(orders)))
    head.logits.kernel.assign(np.eye(len(orders)))


@pytest.mark.parametrize("task", TASKS)
def test_labels_tell_which_cell_each_position_shows(task):
    model = make(task, hidden=100 if task == "jigsaw" else 8)
    orders = model.permutations if task == "jigsaw" else model.pairs
    batch = {"image": coloured_cells(4)}
    solve(model, orders)
    assert model.test_step(batch)["accuracy"] == 1
    model.reset_metrics()
    assert model.train_step(batch)["accuracy"] == 1  # jitter moves nothing inside a cell of one colour
    solve(model, np.argsort(orders, axis=1) if task == "jigsaw" else orders[::-1])
    model.reset_metrics()
    assert model.test_step(batch)["accuracy"] < 0.3, "another reading of the labels must not do as well"


def test_the_label_of_jigsaw_undoes_the_shuffling():
    model = make("jigsaw")
    cells = np.arange(9)
    for c in (0, 57):
        shown = concat_patches(cells.reshape(1, 9, 1).astype(np.float32), model.permutations[c : c + 1]).numpy()[0]
        restored = np.empty(9)
        restored[model.permutations[c]] = shown
        np.testing.assert_array_equal(restored, cells)


@pytest.mark.parametrize("task", TASKS)
def test_learns_where_colours_tell_the_cell(task):
    keras.utils.set_random_seed(0)
    few = {"permutation_count": 20} if task == "jigsaw" else {}
    model = make(task, norm="batch", embed_dim=8, hidden=64, dropout=0.5, **few)
    model.compile(MomentumSGD(0.1))
    step = tf.function(model.train_step, autograph=False)
    first = float(step({"image": coloured_cells(16)})["loss"])
    assert first == pytest.approx(np.log(model.head.logits.units), abs=0.05)
    for _ in range(40):
        model.reset_metrics()
        logs = step({"image": coloured_cells(16)})
    assert float(logs["accuracy"]) > 0.9


# --- the head -------------------------------------------------------------------------------------------------------


def golden_head(g, **options):
    head = PatchHead(5, PatchOptions(dropout=0.0, **options))
    head.build((None, 27))
    return head, [0, *decimals(g["head__weight_formula_a_b_c_d"])]


def test_head_golden():
    g = golden("patch_concat_and_head")
    head, (_, *formula) = golden_head(g)
    x = formula_input(g["head__input_shape"], *decimals(g["head__input_formula_p_q_r"])).reshape(10, 27)
    for j, layer in enumerate((head.hidden, head.logits)):
        layer.kernel.assign(formula_kernel(layer.kernel.shape, j, 1.0, *formula))
    assert deviation(head.classify(x), g["head__eval_logits"]) <= 1e-5
    before = head.norm.moving_mean.numpy()
    assert deviation(head.classify(x, training=True), g["head__train_no_dropout_logits"]) <= 1e-5
    expected = float(l2_loss(head.trainable_variables, 1.0, head_weight_decay=float(g["head__weight_decay"])))
    assert expected == pytest.approx(float(g["head__l2_loss_total"]), rel=1e-5)

    assert head.norm.epsilon == pytest.approx(float(g["head__bn_epsilon"]))
    keep = float(g["head__bn_momentum"])
    moved = keep * before + (1 - keep) * (x @ head.hidden.kernel.numpy() + 0.1).mean(0)
    np.testing.assert_allclose(head.norm.moving_mean.numpy(), moved, atol=1e-6)


def test_initial_head_golden():
    g = golden("patch_concat_and_head")
    keras.utils.set_random_seed(0)
    head, _ = golden_head(g)
    for i, layer in enumerate((head.hidden, head.logits)):
        kernel = layer.kernel.numpy()
        np.testing.assert_array_equal(layer.bias.numpy(), g["head__initial_biases_first_values"][i])
        assert kernel.std() == pytest.approx(g["head__initial_kernel_std"][i], rel=0.02)
        assert kernel.max() == pytest.approx(g["head__initial_kernel_max_abs"][i], rel=0.01)
        assert np.abs(kernel).max() <= 0.01
    assert [v.path for v in head.trainable_variables] == [
        "patch_head/hidden/kernel",
        "patch_head/hidden/bias",
        "patch_head/hidden_norm/gamma",
        "patch_head/hidden_norm/beta",
        "patch_head/logits/kernel",
        "patch_head/logits/bias",
    ]


def test_dropout_is_of_hidden_units_in_training_alone():
    head = PatchHead(200, PatchOptions(hidden=200, dropout=0.25), norm="none")
    head.build((None, 3))
    head.logits.kernel.assign(np.eye(200))
    x = np.ones([50, 3], np.float32)
    hidden = head.classify(x).numpy()
    assert hidden.min() > 0
    dropped = head.classify(x, training=True, seed=(0, 1)).numpy()
    np.testing.assert_allclose(dropped[dropped > 0], (hidden / 0.75)[dropped > 0], rtol=1e-6)
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=4 * np.sqrt(0.25 * 0.75 / 1e4))


@pytest.mark.parametrize(("task", "rows"), [("jigsaw", 4), ("relative_patch", 8)])
def test_ghost_batches_of_the_head_are_those_of_the_trunk(task, rows):
    keras.utils.set_random_seed(0)
    model = make(task, norm="batch", bn_group=18)  # patches of two images
    x = np.random.default_rng(0).normal(size=(6 * rows, model.head.hidden.kernel.shape[0])).astype(np.float32)
    whole = model.head.classify(x, training=True)
    alone = model.head.classify(x[2 * rows : 4 * rows], training=True)
    np.testing.assert_allclose(whole[2 * rows : 4 * rows], alone, rtol=1e-4, atol=1e-6)
    together = make(task, norm="batch")
    together.head.set_weights(model.head.get_weights())
    assert not np.allclose(together.head.classify(x, training=True), whole, rtol=1e-2)


@pytest.mark.parametrize("task", TASKS)
def test_whole_network_golden(task):
    g = golden("patch_model_eval")
    assert str(g["trunk"]) == "resnet50 v2 k=1, root stride 1, strides (2,2,1)"
    prefix = "jigsaw" if task == "jigsaw" else "relative_patch_location"
    backbone = BACKBONES["resnet50_v2"](1, root_stride=1, strides=(2, 2, 1))
    views = dataclasses.replace(VIEWS, size=96, patch_size=32)
    options = {"embed_dim": int(g["embed_dim"]), "hidden": 4096}
    options |= {"permutation_count": 5} if task == "jigsaw" else {}
    model = make(task, views, norm="batch", backbone=backbone, **options)
    if task == "jigsaw":
        model.permutations = g["permutations"]
    formula = decimals(g["weight_formula_g_a_b_c_d"])
    kernels = [v for v in official_order(backbone) if v.path.endswith("/kernel")]
    kernels += [model.embedding.kernel, model.head.hidden.kernel, model.head.logits.kernel]
    assert len(kernels) == g[f"{prefix}__kernel_count"]
    for j, kernel in enumerate(kernels):
        kernel.assign(formula_kernel(kernel.shape, j, *formula))

    images = formula_input(g["input_shape"], *decimals(g["input_formula_p_q_r"]))
    seen = {}
    model.central_patches = lambda _: images.reshape(-1, *images.shape[2:])
    classify = model.head.classify
    model.head.classify = lambda rows: seen.setdefault("logits", classify(rows))
    logs = model.test_step({"image": None})
    logits, labels = seen["logits"].numpy(), g[f"{prefix}__labels"]
    assert deviation(logits, g[f"{prefix}__logits"]) <= 1e-4
    assert float(logs["loss"]) == pytest.approx(float(g[f"{prefix}__loss"]), rel=1e-4)
    assert float(logs["accuracy"]) == pytest.approx((logits.argmax(1) == labels).mean())
    total = float(l2_loss(model.trainable_variables, 1e-4, head_weight_decay=5e-4))
    assert total == pytest.approx(float(g[f"{prefix}__l2_loss_total"]), rel=1e-4)


def official_order(backbone):
    """Variables as the official code makes them: of a unit, the projection before the branch."""
    parts = ("pre1", "proj", "conv1", "pre2", "conv2", "pre3", "conv3")

    def place(variable):
        layer = variable.path.split("/")[0].split("_")
        if not layer[0].startswith("block"):
            return (9, "", 0) if layer[0] == "last" else (0, "", 0)
        return int(layer[0][5:]), layer[1], parts.index(layer[2])

    return sorted(backbone.trainable_variables, key=place)


# --- patches --------------------------------------------------------------------------------------------------------


def test_training_patches_lie_in_their_cells():
    model = make("jigsaw")
    patches = model.patches(tf.constant(places(30, 30, batch=300)), (0, 1)).numpy().reshape(300, 9, 8, 8, 3) * 255
    corners = patches[:, :, 0, 0, :2].round().astype(int)
    within = np.stack(np.mgrid[:8, :8], -1)
    np.testing.assert_allclose(patches[..., :2], corners[:, :, None, None] + within, atol=1e-4)
    offsets = corners - 10 * np.stack(np.divmod(np.arange(9), 3), -1)  # raster order
    assert stats.chisquare(np.bincount(offsets.ravel(), minlength=3)).pvalue > 1e-4
    assert offsets.min() == 0 and offsets.max() == 2


def test_pixels_beyond_the_last_whole_cell_are_cut_off():
    model = make("jigsaw", dataclasses.replace(VIEWS, size=32))
    corners = model.central_patches(places())[:, 0, 0, :2].numpy() * 255
    expected = 1 + 1 + 10 * np.stack(np.divmod(np.arange(9), 3), -1)  # margin of the crop, margin of the cell
    np.testing.assert_allclose(corners, expected, atol=1e-4)


@pytest.mark.parametrize("per_patch", [False, True])
def test_gray_is_tossed_for_images_or_for_patches(per_patch):
    views = dataclasses.replace(VIEWS, gray_probability=2 / 3, gray_per_patch=per_patch)
    model = make("relative_patch", views)
    images = np.random.default_rng(0).random((300, 30, 30, 3), np.float32)
    patches = model.patches(tf.constant(images), (0, 1)).numpy().reshape(300, 9, -1, 3)
    gray = np.ptp(patches, axis=-1).max(-1) < 1e-6
    agree = (gray == gray[:, :1]).all(1).mean()
    assert agree == 1 if not per_patch else agree < 0.2
    tosses = 2700 if per_patch else 300
    assert gray.mean() == pytest.approx(2 / 3, abs=4 * np.sqrt(2 / 9 / tosses))
    colour = model.central_patches(images[:20]).numpy()
    assert (np.ptp(colour, axis=-1).max((1, 2)) > 0.1).all(), "gray at evaluation"


def test_each_patch_is_standardised_alone():
    model = make("jigsaw", dataclasses.replace(VIEWS, normalize="standardize", gray_probability=0.5))
    for patches in (model.patches(places(30, 30, 4), (0, 1)), model.central_patches(places(30, 30, 4))):
        np.testing.assert_allclose(tf.reduce_mean(patches, (1, 2, 3)), np.zeros(36), atol=1e-5)
        np.testing.assert_allclose(tf.math.reduce_std(patches, (1, 2, 3)), np.ones(36), atol=1e-5)


def test_evaluation_patches_golden():
    g = golden("patch_preprocessing")
    recipe = get_recipe("jigsaw", "paper")
    model = make("jigsaw", recipe.views)
    view = model.score_view(EvalView.of(recipe))
    assert (view.size, view.resize, view.method) == (255, 292, "squash")
    spec = crops.CropSpec(size=view.size, resize_to=view.resize, method="center")
    image = crops.cut(g["image"][None], spec, 0)[:, 0]
    raw = model.cells(image) * 255
    np.testing.assert_allclose(raw[:, ::7, ::7], g["pretext_colour__raw_half_pixel_every_7th_pixel"], atol=5e-3)
    np.testing.assert_allclose(model.central_patches(image), normalize_input(raw / 255, "standardize"), atol=1e-4)


def test_scored_images_are_not_enlarged():
    recipe = get_recipe("jigsaw", "smoke")
    small = make("jigsaw", recipe.views).score_view(EvalView.of(recipe))
    assert (small.size, small.resize, small.method) == (30, 32, "squash")
    alone = make("jigsaw").score_view(EvalView(size=30))
    assert (alone.size, alone.resize) == (30, 30)


# --- orders and pairs -----------------------------------------------------------------------------------------------


def test_classes_are_drawn_for_each_image_without_replacement():
    model = make("jigsaw", permutations=16)
    drawn = model.draw_classes(500, (0, 1)).numpy()
    assert drawn.shape == (500, 16)
    assert all(len(set(row)) == 16 for row in drawn.tolist())
    assert len({tuple(row) for row in drawn.tolist()}) == 500
    counts = np.bincount(drawn.ravel(), minlength=100)
    # Without replacement the counts vary less than multinomial ones, by (100 - 16) / 99.
    assert stats.chi2.sf(((counts - 80) ** 2 / 80).sum() * 99 / 84, 99) > 1e-3
    halves = [model.draw_classes(250, Seed((0, 1), replica, 2)) for replica in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), drawn)


def test_a_shared_subset_is_the_same_for_all_images_and_replicas():
    model = make("jigsaw", permutations=8, shared_subset=True)
    drawn = model.draw_classes(5, (0, 1)).numpy()
    assert (drawn == drawn[0]).all() and len(set(drawn[0])) == 8
    np.testing.assert_array_equal(model.draw_classes(5, Seed((0, 1), 1, 2)), drawn)
    assert not np.array_equal(model.draw_classes(5, (0, 2)), drawn)


def test_evaluation_takes_every_permutation_of_every_image():
    model = make("jigsaw", permutation_count=6, permutations=2)
    seen = {}
    classify = model.head.classify
    model.head.classify = lambda rows: seen.setdefault("logits", classify(rows))
    model.test_step({"image": tf.zeros([3, 30, 30, 3])})
    assert seen["logits"].shape == (18, 6)


def test_a_permutation_file_replaces_our_set(tmp_path):
    path = tmp_path / "permutations.bin"
    path.write_bytes(golden("patch_concat_and_head")["permutation_file_bytes"].tobytes())
    model = make("jigsaw", permutation_file=str(path))
    np.testing.assert_array_equal(model.permutations, golden("patch_concat_and_head")["permutation_file_loaded"])
    assert model.head.logits.units == 5
    with pytest.raises(InputError, match="permutes 9 patches, the grid has 4"):
        make("jigsaw", dataclasses.replace(VIEWS, patch_grid=2), permutation_file=str(path))


@pytest.mark.parametrize(("task", "grid", "classes"), [("jigsaw", 2, 24), ("relative_patch", 5, 24)])
def test_other_grids(task, grid, classes):
    views = dataclasses.replace(VIEWS, patch_grid=grid, patch_size=5)
    model = make(task, views, **({"permutation_count": 24} if task == "jigsaw" else {}))
    assert model.head.logits.units == classes
    batch = {"image": tf.constant(places(batch=2))}
    assert np.isfinite(model.train_step(batch)["loss"])
    ((_, images, names),) = model.pictures(batch)
    assert len(images) == len(names)


def test_directions_of_neighbours():
    names = [direction(pair, 3) for pair in neighbour_pairs(3)]
    assert names == ["up left", "up", "up right", "left", "right", "down left", "down", "down right"]
    assert direction((0, 12), 5) == "2 up 2 left" and direction((14, 12), 5) == "2 right"


# --- pictures -------------------------------------------------------------------------------------------------------


def test_pictures_of_jigsaw_show_what_the_head_sees():
    # Standardised for the network, in [0, 1] in the pictures.
    model = make("jigsaw", dataclasses.replace(VIEWS, normalize="standardize"))
    ((_, images, names),) = model.pictures({"image": coloured_cells(2)})
    images = images.reshape(2, 6, 30, 30, 3)
    assert names[:3] == ["crop", "its patches", "class 0"] and len(names) == 12
    np.testing.assert_allclose(images[:, 0], coloured_cells(2), atol=1e-6)
    for column, order in [(1, range(9)), (2, model.permutations[0])]:
        centres = images[0, column, 5::10, 5::10].reshape(9, 3)
        np.testing.assert_allclose(centres, (DIRECTIONS[list(order)] + 1) / 2, atol=1e-6)
    assert (images[:, 1, 0] == 1).all(), "the gaps are white"


def test_pictures_of_relative_patch_show_neighbour_and_centre():
    model = make("relative_patch")
    ((_, images, names),) = model.pictures({"image": coloured_cells(2)})
    images = images.reshape(2, 9, 30, 30, 3)
    assert names[:3] == ["crop", "up left", "up"] and len(names) == 18
    for column, (neighbour, centre) in enumerate(model.pairs):
        shown = images[1, 1 + column, 15, [7, 22]]
        np.testing.assert_allclose(shown, (DIRECTIONS[[neighbour, centre]] + 1) / 2, atol=1e-6)


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "views", "options", "words"),
    [
        ("jigsaw", {"patch_grid": 1}, {}, "jigsaw needs views.patch-grid of at least 2; it is 1"),
        ("relative_patch", {"patch_grid": 1}, {}, "relative_patch needs views.patch-grid of at least 3; it is 1"),
        ("relative_patch", {"patch_grid": 4, "patch_size": 5}, {}, "odd views.patch-grid, which has a centre; it is 4"),
        ("jigsaw", {"patch_grid": 2}, {}, "100 permutations of 4 patches; choose 1 to the 24"),
        ("jigsaw", {"patch_grid": 4, "patch_size": 5}, {}, "a puzzle of 16 patches"),
        ("jigsaw", {}, {"permutation_count": 5, "permutations": 6}, "task.permutations 6 is more than the 5"),
        ("jigsaw", {}, {"permutations": 0}, "task.permutations 0 must be at least 1"),
        ("jigsaw", {}, {"permutation_seed": -1}, "task.permutation_seed -1 must not be negative"),
        ("jigsaw", {}, {"permutation_file": "/nowhere.bin"}, "no permutation file '/nowhere.bin'"),
        ("jigsaw", {}, {"bn_group": 32}, "bn_group 32 is not a multiple of an image's 9 patches"),
        ("relative_patch", {}, {"dropout": 1.0}, r"task.dropout 1.0 must lie in \[0, 1\)"),
        ("relative_patch", {}, {"embed_dim": 0}, "task.embed_dim 0"),
        ("relative_patch", {}, {"hidden": 0}, "task.hidden 0"),
        ("relative_patch", {}, {"head_bn_momentum": 1.0}, "task.head_bn_momentum 1.0"),
    ],
)
def test_bad_values_get_one_line(task, views, options, words):
    with pytest.raises(InputError, match=words) as error:
        make(task, dataclasses.replace(VIEWS, **views), **options)
    assert "\n" not in str(error.value)


def test_images_smaller_than_the_crop_get_one_line():
    with pytest.raises(InputError, match="A 30-pixel crop does not fit into 28x28 images"):
        make("jigsaw").train_step({"image": tf.zeros([2, 28, 28, 3], tf.uint8)})
