"""OBoW: predict, from crops, which visual words a slowly moving target network sees in the whole image (Gidaris et al.,
arXiv:2012.11552).

Follows the official obow/builder_obow.py and datasets.py, and the supplement where the code has nothing (the vocabulary
by k-means).
"""

import tensorflow as tf

from revisit_ssl.backbones.normalisation import BatchNorm
from revisit_ssl.errors import check_choice, require
from revisit_ssl.pretext.bags import CollapseAlarm
from revisit_ssl.pretext.heads import DynamicHead, linear
from revisit_ssl.pretext.losses import accuracy, bow_loss, cross_entropy
from revisit_ssl.pretext.multicrop import MultiCrop
from revisit_ssl.pretext.multicrop_options import OBoWOptions
from revisit_ssl.pretext.target import cosine_momentum, make_target, momentum_update
from revisit_ssl.pretext.vocabulary_kinds import VOCABULARIES
from revisit_ssl.views.draws import fold

LEVELS = {1: ("block4",), 2: ("block3", "block4")}
OF_LEVEL = ("perplexity", "batch_perplexity", "usage_perplexity", "mu", "used")  # what a vocabulary reports


class OBoW(MultiCrop):
    """Predict, from crops, the bag of visual words that a slowly moving target network sees in the whole image.

    The network (student), a dynamic head for each level, their vocabularies, and the target network (teacher).

    Reports, in nats or as shares in [0, 1]:
        loss: Kullback-Leibler divergence of the predicted from the true bags of words; the mean over the levels, the
            sum over the kinds of crops (``crop_loss``).
        loss_crops, loss_patches: the loss of each kind, where there are two.
        cross_entropy: the loss with the entropy of the bags in it.
        target_entropy: that entropy.
        perplexity_<level>: how many words the bag of an image spreads over.
        batch_perplexity_<level>: how many the bag of the batch spreads over; one word for all: 1.
        usage_perplexity_<level>: the same of how often each word is the nearest of a cell.
        mu_<level>: mean squared distance to the nearest word, a moving average.
        used_<level>: share of the words in use.
        monitor_loss, monitor_accuracy: cross-entropy and accuracy of the monitor.

    Args:
        options: OBoWOptions.
        classes: int, of the monitor.
        norm: as in Recipe, for the monitor.

    Raises:
        InputError: a monitor without labels, a network without the levels' maps, and as MultiCrop and Vocabulary.
    """

    Options = OBoWOptions
    kept_columns = ("perplexity", "batch_perplexity", "usage_perplexity", "mu", "used")  # how its words are used
    title = "crops and patches predict the visual words of the whole image"

    def __init__(self, backbone, *, options=None, classes=None, norm="batch", views=None, seed=0):
        super().__init__(backbone, options=options, views=views, seed=seed)
        o = self.options
        self.levels = LEVELS[o.levels]
        missing = [name for name in self.levels if name not in backbone.output]
        require(not missing, f"{backbone.name} has no {' and '.join(missing)}; change task.levels or the backbone")
        check_choice("task.vocabulary", o.vocabulary, VOCABULARIES)
        self.target = make_target(backbone)
        width = backbone.output["pre_logits"].shape[-1]
        self.vocabularies, self.heads = [], []
        for i, name in enumerate(self.levels):
            channels = backbone.output[name].shape[-1]
            named = {"seed": fold(seed, 520 + i), "name": f"vocabulary_{name}"}
            self.vocabularies.append(VOCABULARIES[o.vocabulary](o, channels, **named))
            self.heads.append(DynamicHead(width, name=f"head_{name}"))
            self.heads[-1].build((o.words, channels))
        if o.monitor:
            require(classes, "task.monitor needs a data set with labels")
            self.monitor_norm = BatchNorm(
                momentum=0.9,
                epsilon=1e-5,
                center=False,
                scale=False,
                synchronized=norm == "sync",
                dtype="float32",
                name="monitor_norm",
            )
            self.monitor = linear(classes, "monitor")
            for layer in (self.monitor_norm, self.monitor):
                layer.build((None, backbone.output[self.levels[-1]].shape[-1]))
        of_levels = [f"{what}_{name}" for name in self.levels for what in OF_LEVEL]
        kinds = [f"loss_{kind}" for kind in self.kinds] if len(self.kinds) > 1 else []
        monitor = ["monitor_loss", "monitor_accuracy"] if o.monitor else []
        self.ready("loss", *kinds, "cross_entropy", "target_entropy", *of_levels, *monitor)

    @classmethod
    def needs_end(cls, options):
        return options.momentum_schedule == "cosine"

    @classmethod
    def from_recipe(cls, recipe, backbone, source):
        options = {"options": recipe.task, "classes": source.num_classes, "norm": recipe.norm}
        return cls(backbone, **options, views=recipe.views, seed=recipe.seed)

    def check_batch(self, images, bn_group=None):
        super().check_batch(images, bn_group)
        shapes = self.target.compute_output_shape((1, self.view_spec.size, self.view_spec.size, 3))
        for name, vocabulary in zip(self.levels, self.vocabularies, strict=True):
            vocabulary.inner(tf.zeros((1, *shapes[name][1:])))  # refuses a map that is too small
            vocabulary.check_batch(images * self.distribute_strategy.num_replicas_in_sync)

    def callbacks(self, source):
        return [CollapseAlarm(dict(zip(self.levels, self.vocabularies, strict=True)))]

    def train_step(self, batch):
        o, seed, step = self.options, self.step_seed(), tf.identity(self.optimizer.iterations)
        whole, views = self.views(batch, seed)
        words = [vocabulary.snapshot() for vocabulary in self.vocabularies]  # [K, c] each
        with tf.GradientTape() as tape:
            features = {kind: self.backbone(crops, training=True)["pre_logits"] for kind, crops in views.items()}
            logits = self.logits(features, words)
            with tape.stop_recording():
                self.update_target(step)
                maps = self.target(whole, training=True)  # its own batch statistics
                bags, scalars = self.bags(maps, words, seed)
            loss, terms = self.objective(logits, bags)
            scalars |= terms
            total = loss
            if o.monitor:
                scalars["monitor_loss"], scalars["monitor_accuracy"] = self.classify(maps, batch["label"])
                total += scalars["monitor_loss"]
        self.minimize(total, tape)
        return self.report(loss=loss, **scalars)

    def logits(self, features, words):
        """{kind of crops: [float32 [B * n, K] of each level]}.

        Args:
            features: {kind of crops: float32 [B * n, C]}, of any length.
            words: [float32 [K, c] of each level].
        """
        predictors = [head(each, training=True) for head, each in zip(self.heads, words, strict=True)]  # [K, C]
        return {
            kind: [tf.matmul(self.options.kappa * x, predictor, transpose_b=True) for predictor in predictors]
            for kind, x in features.items()
        }

    def bags(self, maps, words, seed):
        """([float32 [B, K] of each level], scalars); the step of the vocabularies, from the target's maps."""
        bags, scalars = [], {}
        for i, (name, vocabulary) in enumerate(zip(self.levels, self.vocabularies, strict=True)):
            bag, own = vocabulary.target(maps[name], words[i], fold(seed, 530 + i))
            bags.append(bag)
            scalars |= {f"{what}_{name}": value for what, value in own.items()}
        return bags, scalars

    def objective(self, logits, bags):
        """(loss, scalars for the log) of ``logits`` and ``bags``."""
        kinds, entropies, scalars = {}, [], {}
        for kind, of_levels in logits.items():
            terms = [bow_loss(rows, bag) for rows, bag in zip(of_levels, bags, strict=True)]
            losses, entropies = zip(*terms, strict=True)  # the entropies are those of every kind
            kinds[kind] = tf.add_n(losses) / len(losses)
        entropy = tf.add_n(entropies) / len(entropies)
        weights = self.kinds
        loss = tf.add_n([weights[kind] * value for kind, value in kinds.items()])
        if len(kinds) > 1:
            scalars = {f"loss_{kind}": value for kind, value in kinds.items()}
        scalars["cross_entropy"] = loss + sum(weights.values()) * entropy
        return loss, scalars | {"target_entropy": entropy}

    @property
    def kinds(self):
        """{kind of crops: weight of its mean loss}."""
        counts = self.counts
        if self.options.crop_loss == "sum_of_means":
            return dict.fromkeys(counts, 1.0)
        return {kind: n / sum(counts.values()) for kind, n in counts.items()}

    def classify(self, maps, labels):
        """(cross-entropy, accuracy) of the monitor on the target's last map, for which there is no gradient."""
        pooled = tf.reduce_mean(tf.cast(tf.stop_gradient(maps[self.levels[-1]]), tf.float32), axis=(1, 2))
        logits = self.monitor(self.monitor_norm(pooled, training=True))
        return cross_entropy(logits, labels), accuracy(logits, labels)

    def update_target(self, step):
        """The target in step number ``step``, counted from 0, from the network as it is before the optimiser's step."""
        momentum = self.options.momentum
        if self.options.momentum_schedule == "cosine":
            # In float32, as the official code holds it: 1 for the last 0.11 % of the steps.
            momentum = cosine_momentum(momentum, step, self.total_steps)
        momentum_update(self.target, self.backbone, momentum)
