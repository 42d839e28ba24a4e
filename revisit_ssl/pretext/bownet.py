"""BoWNet: predict, from a perturbed image, its bag of the visual words of a network that was trained before (Gidaris et
al., arXiv:2002.12247).

No code of it is published; what is here is the special case of OBoW (arXiv:2012.11552) with a target network that never
changes. Its words are the k-means centres of that network's local features, found once before training.
"""

import json
import sys
import time

import keras
import numpy as np
import tensorflow as tf

from revisit_ssl.backbones import load_backbone
from revisit_ssl.data import eval_batches
from revisit_ssl.distribute import is_chief, to_numpy
from revisit_ssl.errors import InputError, require
from revisit_ssl.pretext.bags import CollapseAlarm
from revisit_ssl.pretext.losses import bow_loss
from revisit_ssl.pretext.multicrop import MultiCrop
from revisit_ssl.pretext.multicrop_options import BoWNetOptions
from revisit_ssl.pretext.target import make_target
from revisit_ssl.pretext.vocabulary import Vocabulary
from revisit_ssl.views.draws import fold, integers, uniform
from revisit_ssl.views.pixels import normalize_input, to_float


class WordHead(keras.layers.Layer):
    """gamma times the products of features with one unit vector for each word: float [N, C] -> float32 [N, K].

    Unit vectors, since words differ in how often they come: free lengths would learn that (BoWNet, section 3). They
    are normalised at every call, so that gradient descent cannot change their length.

    Args:
        words: int, K.
        gamma: float, first value of the learnt factor.
    """

    def __init__(self, words, gamma, name="word_head"):
        super().__init__(name=name, dtype="float32")
        self.words = words
        self.first = gamma

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.words), initializer="random_normal", name="kernel")
        self.gamma = self.add_weight(shape=(), initializer=keras.initializers.Constant(self.first), name="gamma")
        self.built = True

    def call(self, x):
        kernel = tf.math.l2_normalize(tf.convert_to_tensor(self.kernel), axis=0)
        return self.gamma * tf.matmul(tf.cast(x, tf.float32), kernel)


class BoWNet(MultiCrop):
    """Predict, from a perturbed image, the bag of visual words of a network that was trained before.

    Network and head; the teacher and its words, which do not change. The teacher runs with the BatchNorm statistics it
    came with. It is no part of a checkpoint: it comes from its file again, or with the seed from the same random
    numbers.

    Reports:
        loss: Kullback-Leibler divergence of the predicted from the true bags in nats, the sum over the kinds of crops.
        target_entropy: of the true bags, in nats.
        perplexity: how many words the bag of an image spreads over.
        batch_perplexity: how many the bag of the batch spreads over; one word for all: 1.
        usage_perplexity: the same of how often each word is the nearest of a cell.
        used: share of the words in use, in [0, 1].
        gamma: the factor of the logits.

    Args:
        options: BoWNetOptions.
        teacher: built functional model with the option's level; None: a copy of ``backbone`` as it is.
        teacher_range: the teacher's input, as ViewSpec.normalize; None: as ``views`` says.

    Raises:
        InputError: a teacher without that level, and as MultiCrop.
    """

    Options = BoWNetOptions
    kept_columns = ("perplexity", "batch_perplexity", "usage_perplexity", "mu", "used")  # how its words are used
    title = "a crop predicts the visual words of the whole image"

    def __init__(self, backbone, *, options=None, teacher=None, teacher_range=None, views=None, seed=0):
        super().__init__(backbone, options=options, views=views, seed=seed)
        o = self.options
        network = teacher or make_target(backbone)
        found = f"task.teacher {network.name} has no {o.level}, only {', '.join(network.output)}"
        require(o.level in network.output, f"{found}; change task.level or the teacher")
        # Inside a function, where Keras does not find it: it is neither trained nor saved.
        self.ask = lambda images: network(images, training=False)[o.level]
        self.teacher_range = teacher_range or self.view_spec.normalize
        size = self.view_spec.size
        taken = network.input.shape[1]
        require(taken in (None, size), f"task.teacher takes images of {taken} pixels, not of views.size {size}")
        self.map_shape = tuple(network.compute_output_shape((1, size, size, 3))[o.level])
        pool = {"counts": "avg", "binary": "max"}[o.bag]
        self.vocabulary = Vocabulary(o.words, self.map_shape[-1], pool=pool)
        self.head = WordHead(o.words, o.gamma)
        self.head.build(backbone.output["pre_logits"].shape)
        self.ready("loss", "target_entropy", "perplexity", "batch_perplexity", "usage_perplexity", "used", "gamma")

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        teacher, teacher_range = load_teacher(recipe.task.teacher)
        options = {"options": recipe.task, "teacher": teacher, "teacher_range": teacher_range}
        return cls(backbone, **options, views=recipe.views, seed=recipe.seed)

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        self.vocabulary.inner(tf.zeros(self.map_shape))  # refuses a map that is too small

    def callbacks(self, source):
        return [FirstWords(source), CollapseAlarm({"": self.vocabulary})]

    def teacher_map(self, images):
        """What the teacher makes of float32 [B, s, s, 3] in [0, 1]: float [B, H, W, C]."""
        return self.ask(normalize_input(images, self.teacher_range))

    def train_step(self, batch):
        seed = self.step_seed()
        whole, views = self.views(batch, seed, normalize="none")
        bags, scalars = self.vocabulary.target(self.teacher_map(whole), self.vocabulary.snapshot(), seed)  # [B, K]
        with tf.GradientTape() as tape:
            losses, entropies = [], []
            for i, (kind, crops) in enumerate(views.items()):
                crops, targets = self.mixed(crops, bags, self.counts[kind], fold(seed, 540 + i))
                crops = normalize_input(crops, self.view_spec.normalize)
                logits = self.head(self.backbone(crops, training=True)["pre_logits"])
                loss, entropy = bow_loss(logits, targets)
                losses.append(loss)
                entropies.append(entropy)
            loss = tf.add_n(losses)
        self.minimize(loss, tape)
        gamma = tf.convert_to_tensor(self.head.gamma)
        return self.report(loss=loss, target_entropy=tf.add_n(entropies) / len(entropies), gamma=gamma, **scalars)

    def mixed(self, crops, bags, count, seed):
        """CutMix with the crops of the next image of this replica.

        Args:
            crops: float32 [B * count, s, s, 3], image-major.
            bags: float32 [B, K].
            count: int, crops of an image.
            seed: of this step and kind of crops.

        Returns:
            (float32 [B * count, s, s, 3], float32 [B * count, K]: share * bag + (1 - share) * the next image's; the
            share of the area that is left of a crop).
        """
        bags = tf.repeat(bags, count, axis=0)
        if not self.options.cutmix:
            return crops, bags
        crops, shares = cut_and_paste(crops, tf.roll(crops, -count, axis=0), seed, self.options.cutmix)
        return crops, shares[:, None] * bags + (1.0 - shares[:, None]) * tf.roll(bags, -count, axis=0)

    def find_words(self, source):
        """k-means of the local features of ``vocabulary_images`` images, seen as in training but for the flip.

        Args:
            source: Source.

        Raises:
            InputError: fewer features than words.
        """
        from sklearn.cluster import MiniBatchKMeans  # seconds to import, and seldom used

        o, begun = self.options, time.monotonic()
        chosen = source.sample(o.vocabulary_images, self.seed)
        look = tf.function(lambda images: self.vocabulary.inner(self.teacher_map(to_float(images))), autograph=False)
        maps = [look(batch["image"]).numpy() for batch in eval_batches(chosen, 64, view=self.whole_view)]
        features = np.concatenate([m.reshape(-1, m.shape[-1]) for m in maps])
        few = f"{len(features)} local features of {chosen.num_examples} images for task.words {o.words}; fewer words"
        require(len(features) >= o.words, f"{few}, or more task.vocabulary_images")
        kmeans = MiniBatchKMeans(o.words, batch_size=max(1024, o.words), n_init=1, random_state=self.seed)
        words = kmeans.fit(features).cluster_centers_
        self.vocabulary.words.assign(words.astype(np.float32))
        if is_chief():
            images, seconds = chosen.num_examples, time.monotonic() - begun
            found = f"{o.words} visual words from {len(features)} local features of {images} images"
            print(f"{found} in {seconds:.0f} s", file=sys.stderr)


class FirstWords(keras.callbacks.Callback):
    """Finds the words before the first step, unless a checkpoint has brought them."""

    def __init__(self, source):
        super().__init__()
        self.source = source

    def on_train_begin(self, logs=None):
        if not np.any(to_numpy(self.model.vocabulary.words)):
            self.model.find_words(self.source)


def load_teacher(path):
    """(network, input range) of ``BoWNetOptions.teacher``; the range as its recipe.json says, None without one.

    Raises:
        InputError: nothing there, no backbone, or a damaged recipe.json.
    """
    if path is None:
        return None, None
    try:
        network = load_backbone(path)
    except InputError as error:
        raise InputError(f"task.teacher: {error}") from None
    written = f"{path if tf.io.gfile.isdir(path) else path.rpartition('/')[0] or '.'}/recipe.json"
    if not tf.io.gfile.exists(written):
        return network, None
    try:
        with tf.io.gfile.GFile(written) as file:
            return network, json.load(file)["views"]["normalize"]
    except (ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InputError(f"task.teacher: {written} is not a recipe ({what}); restore it, or remove it") from None


def cut_and_paste(images, others, seed, probability):
    """CutMix (Yun et al., arXiv:1905.04899): a box of another image at its place.

    The box has a share of the area that is uniform in [0, 1] and its centre anywhere; what lies outside is cut off.

    Args:
        images, others: float32 [B, H, W, 3].
        seed: anything ``as_seed`` takes.
        probability: float in [0, 1], chance of a box.

    Returns:
        (float32 [B, H, W, 3], float32 [B]: share of the area that is left of ``images``).
    """
    b, height, width = images.shape[:3]
    side = tf.sqrt(uniform(fold(seed, 0), [b]))
    inside = []
    for length, draw in ((height, 1), (width, 2)):
        long = tf.cast(tf.round(side * length), tf.int32)
        first = integers(fold(seed, draw), [b], 0, length) - long // 2
        at = tf.range(length)[None]
        inside.append((at >= first[:, None]) & (at < (first + long)[:, None]))
    box = inside[0][:, :, None] & inside[1][:, None, :] & (uniform(fold(seed, 3), [b]) < probability)[:, None, None]
    share = 1.0 - tf.reduce_mean(tf.cast(box, tf.float32), axis=(1, 2))
    return tf.where(box[..., None], others, images), share
