"""Augmented images for the probes that see images: crops and flips, of the host's batches or of whole images."""

from revisit_ssl.data import train_batches
from revisit_ssl.views import draws
from revisit_ssl.views.crops import cut
from revisit_ssl.views.geometry import random_flip
from revisit_ssl.views.pixels import to_float


def crop_batches(source, spec, batch_size, seed, beside="label"):
    """Endless (images, labels): uint8 [B, H, W, 3] of an in-memory set, else cut on the host, [B, 1, s, s, 3].

    ``beside``: "index" for the numbers of the images instead of their labels.
    """
    for batch in train_batches(source, batch_size=batch_size, crops={"crop": spec}, seed=seed):
        yield (batch["crop"] if "crop" in batch else batch["image"]), batch[beside]


def crop_and_flip(images, spec, seed, number, flip=True):
    """What ``crop_batches`` gives, cut and mirrored by the draws of step ``number``.

    Args:
        images: uint8, whole or cut.
        spec: CropSpec of one crop.
        seed: int; 2 and 3 are folded into it for the crops and the flips.
        number: int64 scalar, the step.
        flip: mirror half of them.

    Returns:
        float32 [B, s, s, 3] in [0, 1].
    """
    if images.shape.rank == 4:
        images = cut(images, spec, draws.fold(draws.fold(seed, 2), number))[:, 0]
    else:
        images = to_float(images[:, 0])
    return random_flip(images, draws.fold(draws.fold(seed, 3), number)) if flip else images
