"""A backbone cut in two: what makes the map that boxes are found on, and what judges one region of it."""

import keras
import tensorflow as tf

from revisit_ssl.errors import require

PROBED = 512  # pixels of a side, at which the stride of an endpoint is measured


def cut(backbone, endpoint, synchronized=False):
    """Trainable copies of both parts of a backbone, with its weights and moving statistics.

    Args:
        backbone: functional keras.Model with an average pool called "pre_logits", as the ResNets and RevNets have.
        endpoint: of the map, such as "block3".
        synchronized: batch normalisation over all replicas.

    Returns:
        trunk: images [B, H, W, 3] -> map [B, h, w, c], and head: regions [M, P, P, c] -> [M, p, p, d], what is averaged
        for pre_logits. Their layers are called as the backbone's, ghost batches are off.

    Raises:
        InputError: a network that cannot be cut there.
    """
    names = ", ".join(backbone.output)
    require(endpoint in backbone.output, f"no endpoint {endpoint!r}; {backbone.name} has {names}")
    middle, last = backbone.output[endpoint], backbone.output["pre_logits"]
    pool = last._keras_history.operation
    fits = isinstance(pool, keras.layers.GlobalAveragePooling2D) and len(middle.shape) == 4
    known = "detection cuts a network whose last map is averaged, as those of ResNets and RevNets"
    require(fits, f"{known}; {backbone.name} cannot be cut at {endpoint!r}")
    require(backbone.input_shape[1:3] == (None, None), f"{known}, for images of any size; {backbone.name} has one size")
    trunk, head = keras.Model(backbone.input, middle), keras.Model(middle, pool.input)
    whole = keras.Model(backbone.input, last)
    copied = [_copy(part, synchronized) for part in (trunk, head)]
    counts, expected = [len(part.weights) for part in copied], len(whole.weights)
    # A variable in both parts, or in none, would be a detector on half a network.
    lost = f"{backbone.name} has {expected} variables, but {counts[0]} up to {endpoint} and {counts[1]} after it"
    require(sum(counts) == expected, lost)
    return copied


def stride_of(trunk):
    """Pixels between two cells of the map of a ``cut``'s trunk."""
    side = trunk.compute_output_shape((1, PROBED, PROBED, 3))[1]
    fits = PROBED % side == 0
    require(fits, f"a map of {side} cells for {PROBED} pixels; detection needs a stride that divides them")
    return PROBED // side


def _copy(part, synchronized):
    copied = keras.models.clone_model(part)
    # Not copied.trainable = True: a clone's layers are frozen like the originals', and Keras does not tell them.
    for layer in copied._flatten_layers():
        layer.trainable = True
        if getattr(layer, "recompute", False):
            layer.recompute = False  # its backward pass would not know of padded pixels
        if hasattr(layer, "moving_mean"):
            layer.group, layer.synchronized = None, synchronized
    for new, old in zip(copied.weights, part.weights, strict=True):
        require(new.path.split("/")[-2:] == old.path.split("/")[-2:], f"{new.path} would take the values of {old.path}")
        new.assign(tf.convert_to_tensor(old.value))
    return copied
