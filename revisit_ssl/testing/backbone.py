"""What a line of BACKBONES promises, checked: for the networks here, and for one of one's own.

>>> from revisit_ssl.testing import check_backbone
>>> BACKBONES["mine"] = Mine(name="mine")
>>> check_backbone("mine", parameters={4: 11_176_512})
"""

import os
import tempfile

import keras
import numpy as np

from revisit_ssl.backbones import count_parameters, find_backbone, load_backbone, without_values
from revisit_ssl.errors import InputError


def check_backbone(name, *, shapes=None, parameters=None, widths=(1, 2), input_shape=(64, 64, 3), options=None):
    """Checks a network of BACKBONES on ``input_shape``.

    1. Every size but the batch's is known, and all but the channels are the same at every width; the channels are in
       proportion to the width. "pre_logits" is the last endpoint, [B,d], float32 under mixed precision too; the others
       are maps [B,h,w,c], or vectors [B,d] of fully connected layers behind them.
    2. The variables have paths of their own, the same in every build.
    3. The same seed gives the same initial weights, another one others.
    4. A ``.keras`` file gives the outputs and weights back to the bit.
    5. An option that the family does not have is refused.

    Args:
        name: in BACKBONES.
        shapes: {endpoint: (h, w, c) or (d,)} at the first width, all of them in order; None: any.
        parameters: {width: trainable parameters} in the network's own ``input_shape``.
        widths: two or more factors; a network of the first one is built and run.
        input_shape: (height, width, channels) of the images.
        options: of the network's class ``Options``; None: its default values.

    Raises:
        AssertionError: says which promise is broken.
    """
    network = find_backbone(name)

    def build(width=widths[0], **changes):
        return network(width, options, input_shape=input_shape, **changes)

    found = check_shapes(build, widths)
    assert shapes is None or list(found.items()) == list(shapes.items()), f"{name} has the endpoints {found}"
    for width, count in (parameters or {}).items():
        ours = count_parameters(name, width, options)
        assert ours == count, f"{name} of width {width} has {ours:,} parameters, not {count:,}"
    check_precision(build)
    model = check_initial_weights(build)
    check_file(model, input_shape)
    try:
        without_values(lambda: build(no_such_option=1))
    except InputError as error:
        assert "no option 'no_such_option'" in str(error) and "\n" not in str(error), str(error)
    else:
        raise AssertionError(f"{name} takes an option that it does not have")


def check_shapes(build, widths):
    """{endpoint: shape without the batch} at the first of ``widths``; AssertionError as promise 1 of `check_backbone`.

    Args:
        build: width -> functional model.
        widths: ints.
    """
    of_width = {}
    for width in widths:
        output = without_values(lambda width=width: build(width)).output
        of_width[width] = {endpoint: tuple(tensor.shape[1:]) for endpoint, tensor in output.items()}
    first, *others = widths
    shapes = of_width[first]
    assert list(shapes)[-1] == "pre_logits", f"the last endpoint is {list(shapes)[-1]}, not pre_logits"
    ranks = [len(shape) for shape in shapes.values()]
    for endpoint, shape in shapes.items():
        fits = len(shape) == 1 if endpoint == "pre_logits" else len(shape) in (1, 3)
        assert fits and None not in shape, f"{endpoint} has the shape {shape}"
    assert ranks == sorted(ranks, reverse=True), f"maps come before vectors: {shapes}"
    for width in others:
        scaled = {end: (*shape[:-1], shape[-1] * width / first) for end, shape in shapes.items()}
        assert of_width[width] == scaled, f"endpoints of width {width}: {of_width[width]}, of width {first}: {shapes}"
    return shapes


def check_precision(build):
    """AssertionError unless pre_logits are float32 in a network of bfloat16; ``build()`` gives a functional model."""

    def half():  # runs in a thread of its own, whose policy it is
        keras.config.set_dtype_policy("mixed_bfloat16")
        return build()

    dtype = without_values(half).output["pre_logits"].dtype
    assert dtype == "float32", f"pre_logits are {dtype} under mixed precision"


def check_initial_weights(build):
    """A model of ``build()``; AssertionError as promises 2 and 3 of `check_backbone`."""
    models = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        models.append(build())
    first, again, other = ([(v.path, np.asarray(v)) for v in model.weights] for model in models)
    paths = [path for path, _ in first]
    assert len(set(paths)) == len(paths), (
        f"variables share the paths {sorted({p for p in paths if paths.count(p) > 1})}"
    )
    assert paths == [path for path, _ in again], f"paths differ from build to build: {paths[0]}, {again[0][0]}"
    for (path, a), (_, b) in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=f"the same seed gives other values of {path}")
    moved = any(not np.array_equal(a, b) for (_, a), (_, b) in zip(first, other, strict=True))
    assert moved, "the seed has no say in the initial weights"
    return models[0]


def check_file(model, input_shape):
    """AssertionError unless a ``.keras`` file gives ``model`` back: names, weights, and outputs to the bit."""
    random = np.random.default_rng(0)
    model(random.normal(size=(4, *input_shape)).astype(np.float32), training=True)  # moving statistics move
    images = random.normal(size=(2, *input_shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        model.save(os.path.join(folder, "backbone.keras"))
        loaded = load_backbone(folder)
    for ours, theirs in zip(loaded.weights, model.weights, strict=True):
        assert ours.path == theirs.path, f"{theirs.path} comes back as {ours.path}"
        np.testing.assert_array_equal(ours, theirs, err_msg=theirs.path)
    outputs, expected = loaded(images), model(images)
    assert list(outputs) == list(expected), f"endpoints come back as {list(outputs)}"
    for endpoint, value in expected.items():
        np.testing.assert_array_equal(outputs[endpoint], value, err_msg=f"{endpoint} of the loaded network")
