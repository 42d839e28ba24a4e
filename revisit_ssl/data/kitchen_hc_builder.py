"""Kitchen-HC, CLD's set of highly correlated images: objects cut out of the multi-view RGB-D Kitchen videos.

The source is GMU-Kitchens (Georgakis et al., 3DV 2016): nine scenes, filmed from many sides, with a box around every
instance of eleven products. CLD (arXiv:2008.03813, supplement, section 1) takes the boxes as images, 20.8K to train,
4K to validate and 14.4K to test, and says no more.
"""

import itertools
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from tqdm import tqdm

from revisit_ssl.data import folders
from revisit_ssl.data.viewing import decode
from revisit_ssl.errors import InputError

PUBLISHED = {"train": 20_800, "validation": 4_000, "test": 14_400}  # images
CLASSES = 11
SMALLEST = 2  # sides of a box in pixels; what is smaller after clipping to the image is left out
WHERE = (
    "the folders gmu_scene_001 to gmu_scene_009 of GMU-Kitchens (multi-view RGB-D Kitchen), or CLD's ready folder "
    "(github.com/frank-xwang/CLD-UnsupervisedLearning links it) as kitchen_hc/train/<class> and kitchen_hc/test/<class>"
)
_SCENE = re.compile(r"gmu_scene_\d+")
_NUMBER = re.compile(r"\d+")


class KitchenHC(tfds.core.GeneratorBasedBuilder):
    """``tfds.load("kitchen_hc")`` once this module is imported and its source lies in the manual folder.

    Features:
        image: uint8 [h, w, 3], an object cut out along its box, without context; sizes differ.
        label: class, 0..10 in alphabetical order.
        scene: name of the scene folder, "" where the set came as a ready folder.

    Whole scenes go to one split, so that no object is tested in a view beside one it was trained on.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {WHERE} into the manual folder."

    def _info(self):
        return self.dataset_info_from_configs(
            description="Objects of the multi-view RGB-D Kitchen data set, cut out along their boxes.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(),  # their names are those of the source
                    "scene": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        root = find_source(str(dl_manager.manual_dir))
        if root is None:
            raise InputError(f"kitchen_hc finds no source in {dl_manager.manual_dir}; put {WHERE} there")
        ready = tf.io.gfile.isdir(os.path.join(root, "train"))
        frames, note = _of_folder(root) if ready else _of_scenes(root)
        objects = {split: [label for frame in part for label, _ in frame[2]] for split, part in frames.items()}
        names = sorted(set().union(*objects.values()))
        sizes = ", ".join(f"{split} {len(found):,} ({PUBLISHED[split]:,})" for split, found in objects.items())
        print(f"kitchen_hc: ours (published): {sizes}; classes {len(names)} ({CLASSES}); {note}", file=sys.stderr)
        self.info.features["label"].names = names
        return {split: self._generate_examples(part, split) for split, part in frames.items()}

    def _generate_examples(self, frames, split):
        for path, scene, found in tqdm(frames, desc=f"Cutting kitchen_hc {split}", unit=" frames", mininterval=1):
            image = _image(path)
            for number, (label, box) in enumerate(found):
                left, top, right, bottom = box or (0, 0, image.shape[1], image.shape[0])
                example = {"image": image[top:bottom, left:right], "label": label, "scene": scene}
                yield f"{path}/{number}", example


def find_source(folder):
    """Where the images lie that the set is made of: ``folder``/kitchen_hc, or ``folder`` itself; None: nowhere."""
    inner = os.path.join(folder, "kitchen_hc")
    if all(tf.io.gfile.isdir(os.path.join(inner, name)) for name in ("train", "test")):
        return inner
    return next((root for root in (inner, folder) if scene_folders(root)), None)


def scene_folders(root):
    """Names of the scene folders in ``root``, ascending."""
    names = tf.io.gfile.listdir(root) if tf.io.gfile.isdir(root) else []
    return sorted(name.strip("/") for name in names if _SCENE.fullmatch(name.strip("/")))


def read_scene(folder):
    """The boxes of a scene: Annotations/rgb_N.xml in VOC style beside Images/rgb_N.png.

    Args:
        folder: that of the scene.

    Returns:
        [(path of the frame, [(class, (left, top, right, bottom))])] by N: pixels from 0, right and bottom not included,
        clipped to the image, at least SMALLEST wide and high. Frames of a scene are taken to be of one size. Frames
        without an annotation, and annotations without a frame, are left out, with one warning.

    Raises:
        InputError: a folder is missing or empty; an annotation that is none.
    """
    frames, notes = (_stems(os.path.join(folder, name)) for name in ("Images", "Annotations"))
    both = sorted(frames.keys() & notes.keys(), key=lambda stem: (list(map(int, _NUMBER.findall(stem))), stem))
    if not both:
        raise InputError(f"{folder} has no frame with its boxes; expected Images/rgb_1.png and Annotations/rgb_1.xml …")
    alone = len(frames.keys() ^ notes.keys())
    if alone:
        print(f"warning: {folder}: {alone} frames or annotations without the other are left out", file=sys.stderr)
    height, width = _image(frames[both[0]]).shape[:2]
    return [(frames[stem], _boxes(notes[stem], height, width)) for stem in both]


def split_scenes(counts):
    """Which scenes train, validate and test: those whose numbers of images come nearest to the published ones.

    CLD does not say. 24.8K to 14.4K images fit the six and three scenes of the video set's own folds, and 20.8K to 4K
    fit five and one.

    Args:
        counts: int [S, classes], boxes of each scene; S at least 3.

    Returns:
        Three tuples of scenes, of S - 1 - S//3, of 1 and of S//3: the smallest sum over the splits of the distance
        between their share of all boxes and the published share. Among such splits, those that train on more classes
        come first, since what was never seen cannot be recognised.
    """
    everything = set(range(len(counts)))
    wanted = np.array(list(PUBLISHED.values())) / sum(PUBLISHED.values())

    def distance(split):
        share = np.array([counts[list(part)].sum() for part in split]) / counts.sum()
        unseen = int((counts[list(split[0])].sum(0) == 0).sum())
        return unseen, round(float(np.abs(share - wanted).sum()), 9)

    splits = (
        (tuple(sorted(everything - {val, *test})), (val,), test)
        for test in itertools.combinations(sorted(everything), len(counts) // 3)
        for val in sorted(everything - set(test))
    )
    return min(splits, key=distance)


def _of_folder(root):
    """({split: frames}, note) of a ready folder: every image is a frame (path, scene, [(class, None)]) of its own."""
    frames = {}
    for split, ours in (("train", "train"), ("validation", "val"), ("test", "test")):
        part = folders.list_split(root, ours)
        if part.labels is None:
            raise InputError(f"{root} has images without class folders; expected kitchen_hc/train/<class>/<image>")
        frames[split] = [(p, "", [(part.class_names[c], None)]) for p, c in zip(part.paths, part.labels, strict=True)]
    return frames, f"from the ready folder {root}"


def _of_scenes(root):
    """({split: frames}, note) of the scene folders; a frame is (path, scene, [(class, box)])."""
    scenes = scene_folders(root)
    if len(scenes) < 3:
        raise InputError(f"{root} has {len(scenes)} of the nine scenes; at least three are needed, one for each split")
    read = [read_scene(os.path.join(root, scene)) for scene in scenes]
    labels = [[label for _, found in frames for label, _ in found] for frames in read]
    names = np.unique(np.concatenate(labels))
    if not len(names):
        raise InputError(f"{root}: no frame of its {len(scenes)} scenes has a box; get the annotations again")
    counts = np.array([[(np.array(found) == name).sum() for name in names] for found in labels])
    split = dict(zip(PUBLISHED, split_scenes(counts), strict=True))
    frames = {part: [(path, scenes[i], found) for i in of for path, found in read[i]] for part, of in split.items()}
    chosen = ", ".join(f"{part} {' '.join(_NUMBER.findall(scenes[i])[0] for i in of)}" for part, of in split.items())
    return frames, f"scenes: {chosen}"


def _stems(folder):
    """{name without its ending: path} of the files."""
    names = tf.io.gfile.listdir(folder) if tf.io.gfile.isdir(folder) else []
    return {name.rpartition(".")[0]: os.path.join(folder, name) for name in names if not name.startswith(".")}


def _image(path):
    try:
        return decode(tf.io.read_file(path)).numpy()
    except (tf.errors.OpError, ValueError):
        raise InputError(f"cannot decode the frame {path}; get it again") from None


def _boxes(path, height, width):
    try:
        with tf.io.gfile.GFile(path) as file:
            tree = ElementTree.fromstring(file.read())
        found = [
            (
                box.findtext("name").strip(),
                [round(float(box.findtext(f"bndbox/{side}"))) for side in ("xmin", "ymin", "xmax", "ymax")],
            )
            for box in tree.iter("object")
        ]
    except (ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no VOC annotation ({error}); get it again") from None
    clipped = [
        (label, (max(left, 0), max(top, 0), min(right, width), min(bottom, height)))
        for label, (left, top, right, bottom) in found
    ]
    return [(label, b) for label, b in clipped if min(b[2] - b[0], b[3] - b[1]) >= SMALLEST]
