"""One hidden layer on cached features (P section 4.3, supplement 2; spec D.4)."""

import time
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import (
    Probe,
    Score,
    Standardizer,
    accuracies,
    check_schedule,
    check_splits,
    topk_percent,
)
from revisit_ssl.features.checks import blocks


@dataclass(frozen=True, kw_only=True)
class MLP(Probe):
    """Dense, ReLU, dropout, dense; penalty * sum W^2 (no half) on both kernels; (lr, penalty) chosen on val.

    The defaults are for small sets; the protocol revisiting has the paper's.
    ``Score.extra``: val_top1; val_top1_by_candidate {"lr 0.01, penalty 0.0001": percent}.
    """

    hidden: int = 1000
    """Units of the hidden layer."""
    dropout: float = 0.5
    """Share of hidden units that a training step switches off."""
    learning_rates: tuple[float, ...] = (0.01, 0.03)
    """Candidates; not scaled with the batch size. At equal accuracy on val the first wins."""
    penalties: tuple[float, ...] | None = (1e-3, 1e-4)
    """Candidates for both kernels; None: the paper's penalty_scale / (rows * columns) for each kernel."""
    penalty_scale: float = 100.0
    """Numerator of the paper's penalty; disputed as LBFGS's."""
    batch_size: int = 512
    """Rows per step; the number of training rows where that is smaller."""
    epochs: int = 20
    """Length."""
    decay_epochs: tuple[float, ...] = (10, 15)
    """Epochs after which the rate falls to a tenth."""
    schedule: tuple[int, ...] | None = None
    """Instead of both: epochs of the decays and the end, such as 60 120 180."""
    momentum: float = 0.9
    """Of the SGD."""
    standardize: bool = True
    """Features to zero mean and unit deviation over the training split."""

    def __post_init__(self):
        """InputError for values that cannot be."""
        require(0 <= self.dropout < 1, f"mlp.dropout {self.dropout} must lie in [0, 1)")
        require(len(self.learning_rates) > 0, "mlp.learning_rates is empty; give at least one")
        require(self.penalties is None or len(self.penalties) > 0, "mlp.penalties is empty; give at least one, or None")
        require(self.penalty_scale >= 0, f"mlp.penalty_scale {self.penalty_scale} must not be negative")
        for name in ("batch_size", "epochs"):
            require(getattr(self, name) >= 1, f"mlp.{name} {getattr(self, name)} must be at least 1")
        if self.schedule is not None:
            check_schedule("mlp", self.schedule)

    @property
    def chooses(self):
        """See ProbeOptions."""
        return len(self.learning_rates) * len(self.penalties or (None,)) > 1

    def measure(self, bench):
        """See Probe."""
        for endpoint in bench.endpoints:
            yield self.score(*bench.three(endpoint), num_classes=bench.num_classes, seed=bench.seed).of(endpoint)

    def score(self, train, val, test, *, num_classes, seed=0):
        """Score of FeatureSplits."""
        if self.schedule is not None:
            *drops, end = self.schedule
            plain = replace(self, schedule=None, epochs=end, decay_epochs=tuple(drops))
            found = plain.score(train, val, test, num_classes=num_classes, seed=seed)
            return replace(found, hyperparameters=found.hyperparameters | {"schedule": self.schedule})
        started = time.perf_counter()
        train, val, test = check_splits((train, val, test), num_classes)
        standardizer = Standardizer.fit(train.features, self.standardize)
        batch_size = min(self.batch_size, len(train.features))
        sizes = (train.features.shape[1] * self.hidden, self.hidden * num_classes)
        papers = tuple(self.penalty_scale / s for s in sizes)
        pairs = [papers] if self.penalties is None else [(p, p) for p in self.penalties]
        candidates = list(product(self.learning_rates, pairs))
        weights = self._train(train, standardizer, num_classes, batch_size, candidates, seed)
        found = []
        for i, (lr, penalty) in enumerate(candidates):
            own = [w[i] for w in weights]
            found.append((lr, penalty, topk_percent(_scores(val.features, standardizer, own), val.labels, 1), own))
        lr, penalty, val_top1, own = max(found, key=lambda f: f[2])
        finite = all(np.isfinite(w).all() for w in own)
        require(finite, f"mlp: every learning rate of {self.learning_rates} diverged; give smaller ones")
        scores = _scores(test.features, standardizer, own)
        chosen = {"lr": lr, "penalty_hidden": penalty[0], "penalty_output": penalty[1], "batch_size": batch_size}
        return Score(
            **accuracies(scores, test.labels),
            hyperparameters=self.options("learning_rates", "penalties", "schedule") | chosen,
            seconds=time.perf_counter() - started,
            extra={
                "val_top1": val_top1,
                "val_top1_by_candidate": {f"lr {f[0]:g}, penalty {f[1][0]:g}": f[2] for f in found},
            },
        )

    def _train(self, train, standardizer, num_classes, batch_size, candidates, seed):
        """[kernel1 [G, d, h], bias1 [G, h], kernel2 [G, h, C], bias2 [G, C]] of all candidates."""
        import tensorflow as tf

        from revisit_ssl.evaluators.sgd import Descent, glorot, train_candidates
        from revisit_ssl.views import draws

        count, width = len(candidates), train.features.shape[1]
        key = draws.as_seed(seed)
        variables = [
            tf.Variable(glorot(draws.fold(key, 1).key, [count, width, self.hidden])),
            tf.Variable(tf.zeros([count, self.hidden])),
            tf.Variable(glorot(draws.fold(key, 2).key, [count, self.hidden, num_classes])),
            tf.Variable(tf.zeros([count, num_classes])),
        ]
        penalties = tf.constant([penalty for _, penalty in candidates], tf.float32)  # [G, 2]

        def loss(x, labels, step):
            kernel1, bias1, kernel2, bias2 = variables
            hidden = tf.nn.relu(tf.matmul(x, kernel1) + bias1[:, None])  # [G, B, h]
            # One mask for all candidates: they then differ in their numbers only.
            kept = draws.bernoulli(draws.fold(draws.fold(key, 3), step), [batch_size, self.hidden], 1 - self.dropout)
            hidden = tf.where(kept[None], hidden / (1 - self.dropout), 0.0)
            logits = tf.matmul(hidden, kernel2) + bias2[:, None]  # [G, B, C]
            labels = tf.tile(labels[None], [count, 1])
            entropy = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits), axis=1)
            decay = [tf.reduce_sum(tf.square(k), axis=[1, 2]) for k in (kernel1, kernel2)]
            return entropy + penalties[:, 0] * decay[0] + penalties[:, 1] * decay[1]

        descent = Descent(
            rates=[lr for lr, _ in candidates], batch_size=batch_size, epochs=self.epochs,
            decay_epochs=self.decay_epochs, momentum=self.momentum, seed=seed,
        )
        train_candidates(train.features, train.labels, standardizer, variables, loss, descent)
        return [v.numpy() for v in variables]


def _scores(features, standardizer, weights):
    """Logits [N, C] without dropout."""
    kernel1, bias1, kernel2, bias2 = weights
    scores = []
    with np.errstate(over="ignore", invalid="ignore"):  # a candidate may have diverged; its scores then count as wrong
        for _, block in blocks(features, values=1 << 22):
            hidden = np.maximum(standardizer(block) @ kernel1 + bias1, 0.0)
            scores.append(hidden @ kernel2 + bias2)
    return np.concatenate(scores)
