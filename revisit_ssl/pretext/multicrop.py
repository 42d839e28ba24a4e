"""The views of OBoW (arXiv:2012.11552, supplement F; official datasets.py): the whole image for the target network,
large crops and small patches for the trained one."""

from dataclasses import replace

import tensorflow as tf

from revisit_ssl.data import EvalView
from revisit_ssl.errors import require
from revisit_ssl.pretext.base import Pretext
from revisit_ssl.pretext.multicrop_options import MultiCropOptions
from revisit_ssl.views.crops import CropSpec
from revisit_ssl.views.draws import fold
from revisit_ssl.views.geometry import random_flip
from revisit_ssl.views.patches import overlapping_patches
from revisit_ssl.views.pixels import normalize_input

LARGE, PATCHES = "crops", "patches"  # kinds of crops


class MultiCrop(Pretext):
    """A pretext with those views. Its views are whole images, crops and patches; views.patch_grid is not used.

    Args:
        options: MultiCropOptions.

    Raises:
        InputError: sizes that do not fit into one another.
    """

    Options = MultiCropOptions
    sees_whole = True
    """False where no network sees the whole image."""

    def __init__(self, backbone, *, options=None, views=None, seed=0):
        super().__init__(backbone, views=views, seed=seed)
        o = self.options = options or self.Options()
        size = self.view_spec.size
        _, patch, jitter, side = o.sides(size)
        require(side >= size, f"task.resize_to {side} is smaller than views.size {size}")
        inside = backbone.input.shape[1]
        fixed = f"{backbone.name} takes images of {inside} pixels alone, no crops of other sizes; take another backbone"
        require(inside is None or {size, *self.crop_sides.values()} == {inside}, fixed)
        fits = not o.patches or patch + jitter <= side
        require(fits, f"patches of {patch} pixels, moved by up to {jitter}, do not fit into task.resize_to {side}")

    @property
    def counts(self):
        """{kind of crops: how many of an image}, without a kind of which there are none."""
        return {kind: n for kind, n in ((LARGE, self.options.crops), (PATCHES, self.options.patches)) if n}

    @property
    def crop_sides(self):
        """{kind of crops: side in pixels}."""
        large, patch, _, _ = self.options.sides(self.view_spec.size)
        return {kind: {LARGE: large, PATCHES: patch}[kind] for kind in self.counts}

    @property
    def crops(self):
        o, image, whole = self.options, super().crops["image"], self.whole_view
        large, _, _, side = o.sides(image.size)
        # The target's view is cut first, so that it is the same whatever the trained network gets.
        crops = {}
        if self.sees_whole:
            seen = {"size": whole.size, "resize_to": whole.resize, "kernel": whole.kernel}
            crops["target"] = CropSpec(method="center", keep_ratio=True, **seen)
        if o.crops:
            crops["image"] = replace(image, size=large, count=o.crops)
        if o.patches:
            crops["patched"] = replace(image, size=side, method="resized", scale=o.patch_scale, resize_to=None)
        return crops

    @property
    def whole_view(self):
        """EvalView of a whole image as the target network sees it, but for the flip."""
        # As it was when crops were bilinear alone: a whole image was shrunk by area.
        kernel = "area" if self.view_spec.resize == "bilinear" else self.view_spec.resize
        size = self.view_spec.size
        return EvalView(size=size, resize=self.options.sides(size)[3], method="shorter_side", kernel=kernel)

    def views(self, batch, seed, **changes):
        """(what the target network sees, {kind of crops: what the trained network sees}), ready for the networks.

        Args:
            batch: dict with whole images, or with the crops made on the host.
            seed: of this step.
            **changes: as for ``augment``.

        Returns:
            None, or float32 [B, s, s, 3], flipped at random and else as it is; {"crops": float32 [B * n, s1, s1, 3],
            each crop augmented by itself, "patches": float32 [B * m, s2, s2, 3], the patches of an image share
            colours and flip and have no blur}, image-major, without a kind of which there are none.
        """
        o, v = self.options, replace(self.view_spec, **changes)
        cut = self.cut(batch, seed)
        target, views = None, {}
        if self.sees_whole:
            target = cut["target"][:, 0]
            target = random_flip(target, fold(seed, 510)) if v.flip else target
            target = normalize_input(target, v.normalize)
        if o.crops:
            views[LARGE] = self.augment(image_major(cut["image"]), fold(seed, 511), **changes)
        if o.patches:
            _, size, jitter, _ = o.sides(v.size)
            images = self.augment(cut["patched"][:, 0], fold(seed, 512), **{**changes, "blur_probability": (0.0,)})
            patches = overlapping_patches(images, fold(seed, 513), size=size, jitter=jitter, count=o.patches)
            views[PATCHES] = image_major(patches)
        return target, views

    def pictures(self, batch):
        few = {name: batch[name][:4] for name in batch}
        target, views = self.views(few, (self.seed, 0), normalize="none")
        side, shown = self.view_spec.size, [target[:, None]] if self.sees_whole else []
        for kind, images in views.items():
            images = tf.image.resize_with_crop_or_pad(1.0 - images, *[max(side, images.shape[1])] * 2)  # white margins
            images = tf.image.resize(1.0 - images, (side, side))
            shown.append(tf.reshape(images, [-1, self.counts[kind], side, side, 3]))
        shown = tf.concat(shown, axis=1)
        names = ["whole"] * self.sees_whole + ["crop"] * self.options.crops + ["patch"] * self.options.patches
        return [(self.title, tf.reshape(shown, [-1, side, side, 3]).numpy(), names * shown.shape[0])]

    title = "crops and patches of a whole image"
    """Of the pictures."""


def image_major(crops):
    """[B, n, H, W, C] -> [B * n, H, W, C]: the crops of an image together."""
    return tf.reshape(crops, [crops.shape[0] * crops.shape[1], *crops.shape[2:]])
