"""Multinomial logistic regression by L-BFGS, the paper's main probe (P section 3.3, supplement 2; spec D.3)."""

import time
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
import scipy.optimize
import tensorflow as tf
from threadpoolctl import threadpool_limits

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import FeatureProbe, ProbeScore, Standardizer, accuracies, check_splits, topk_percent
from revisit_ssl.features.checks import blocks

_RESIDENT_BYTES = 1 << 31  # training features up to this size are kept as tensors instead of being read at every pass
_LINE_SEARCH_FAILED = 2  # SciPy's status "ABNORMAL"


@dataclass(frozen=True, kw_only=True)
class LBFGS(FeatureProbe):
    """Mean cross entropy + penalty * sum W^2, bias free, minimised by SciPy's L-BFGS-B.

    The start is zero; in mode "select" each penalty after the strongest starts where the one before it ended.
    ``ProbeScore.extra``: val_top1, iterations, objective, message (SciPy's); in mode "select" also val_top1_by_penalty
    and the paper's penalty on raw features as paper_penalty, paper_top1, paper_top5, paper_converged.
    """

    mode: Literal["select", "paper"] = "select"
    """paper: penalty_scale / (d * num_classes) on raw features. select: standardised, the penalty chosen on val."""
    penalty_scale: float = 100.0
    """Numerator of the paper's penalty, for a cross entropy that is a mean over images and a bias that is free."""
    penalties: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    """select: the candidates, tried from strong to weak; at equal accuracy on val the strongest wins."""
    patience: int = 2
    """select: stop after so many candidates in a row that do not beat the best; len(penalties) tries them all."""
    max_iterations: int = 800
    """The paper's 800 updates, for each penalty."""
    gradient_tolerance: float = 1e-5
    """SciPy's default: stop when no entry of the gradient is larger."""
    function_tolerance: float = 2.220446049250313e-09
    """SciPy's default: stop when the objective falls by less than this share of max(|objective|, 1)."""
    dtype: Literal["float32", "float64"] = "float32"
    """Arithmetic of the matrix products; sums over images and SciPy's own vectors are always float64, and the last
    steps too where float32 is too coarse for the tolerances."""

    @classmethod
    def paper(cls):
        """The setting behind the paper's Table 1 and supplementary tables 2-4."""
        return cls(mode="paper")

    def __call__(self, train, val, test, *, num_classes, seed=0):
        """See FeatureProbe. ``seed`` changes nothing: the problem is convex and nothing is drawn."""
        usable = len(self.penalties) > 0 and min(self.penalties) >= 0
        require(usable, f"lbfgs: penalties {self.penalties}; expected one or more numbers from 0 up")
        started = time.perf_counter()
        train, val, test = check_splits((train, val, test), num_classes)
        paper_penalty = self.penalty_scale / (train.features.shape[1] * num_classes)
        if self.mode == "paper":
            penalty, extra = paper_penalty, {}
            fit = self._fit(LogisticRegression(train.features, train.labels, num_classes, dtype=self.dtype), penalty)
            val_top1 = topk_percent(fit.scores(val.features), val.labels, 1)
        else:
            fits = self._path(train, val, num_classes)
            penalty = max(fits, key=lambda p: (fits[p][1], p))
            fit, val_top1 = fits[penalty]
            extra = {"val_top1_by_penalty": {f"{p:g}": top1 for p, (_, top1) in fits.items()}}
            extra |= self._paper_row(train, test, num_classes, paper_penalty)
        scores = fit.scores(test.features)
        return ProbeScore(
            **accuracies(scores, test.labels),
            hyperparameters={k: v for k, v in asdict(self).items() if k != "penalties"} | {"penalty": penalty},
            seconds=time.perf_counter() - started,
            converged=fit.converged,
            extra={
                "val_top1": val_top1,
                "iterations": fit.iterations,
                "objective": fit.objective,
                "message": fit.message,
            }
            | extra,
        )

    def _fit(self, problem, penalty, start=None):
        return problem.minimize(penalty, start, self.max_iterations, self.gradient_tolerance, self.function_tolerance)

    def _path(self, train, val, num_classes):
        """{penalty: (LogisticFit, top-1 on val)} from strong to weak, each started where the one before ended."""
        problem = LogisticRegression(
            train.features, train.labels, num_classes, Standardizer.fit(train.features), self.dtype
        )
        found, start, best, worse = {}, None, -1.0, 0
        for penalty in sorted(self.penalties, reverse=True):
            fit = self._fit(problem, penalty, start)
            top1 = topk_percent(fit.scores(val.features), val.labels, 1)
            found[penalty], start = (fit, top1), fit.vector
            best, worse = (top1, 0) if top1 > best else (best, worse + 1)
            # Deviation: not every penalty of the grid need be tried on val. Once accuracy there has stopped rising,
            # weaker penalties only fit the training split better, and they take most of the time. A second, higher peak
            # behind `patience` worse candidates would be missed; patience=len(penalties) compares them all.
            if worse == self.patience:
                break
        return found

    def _paper_row(self, train, test, num_classes, penalty):
        fit = self._fit(LogisticRegression(train.features, train.labels, num_classes, dtype=self.dtype), penalty)
        scores = fit.scores(test.features)
        return {
            "paper_penalty": penalty,
            "paper_top1": topk_percent(scores, test.labels, 1),
            "paper_top5": topk_percent(scores, test.labels, 5),
            "paper_converged": fit.converged,
        }


class LogisticRegression:
    """The objective and its gradient over blocks of rows.

    Args:
        features: float [N, d], array or memory map.
        labels: int [N].
        num_classes: C; classes without an image are allowed.
        standardizer: applied to every block.
        dtype: "float32" or "float64", of the matrix products.
    """

    def __init__(self, features, labels, num_classes, standardizer=None, dtype="float32"):
        self.shape = (features.shape[1], num_classes)
        self.rows = len(features)
        self.dtype = dtype
        self.standardizer = standardizer or Standardizer.fit(features, enabled=False)
        self._features, self._labels = features, labels
        resident = features.size * np.dtype(dtype).itemsize <= _RESIDENT_BYTES
        self._resident = list(self._read()) if resident else None

    def _read(self):
        for start, block in blocks(self._features):
            block = self.standardizer(np.asarray(self._features[start : start + len(block)], self.dtype))
            yield tf.constant(block, self.dtype), tf.constant(self._labels[start : start + len(block)], tf.int32)

    def objective(self, vector, penalty):
        """Value and gradient at ``vector``: float64 [d * C + C], the weights row by row, then the bias.

        Returns:
            (float, float64 array of the vector's shape): mean cross entropy in nats + penalty * sum W^2 (no half).
        """
        width, classes = self.shape
        weights = vector[: width * classes].reshape(width, classes)
        w, b = tf.constant(weights, self.dtype), tf.constant(vector[width * classes :], self.dtype)
        loss, gradient, bias_gradient = 0.0, np.zeros_like(weights), np.zeros(classes)
        for x, y in self._resident or self._read():
            part = _loss_and_gradient(x, y, w, b)
            loss += float(part[0])
            gradient += part[1].numpy()
            bias_gradient += part[2].numpy()
        value = loss / self.rows + penalty * float(np.vdot(weights, weights))
        gradient = gradient / self.rows + 2.0 * penalty * weights
        return value, np.concatenate([gradient.ravel(), bias_gradient / self.rows])

    def minimize(self, penalty, start=None, max_iterations=800, gradient_tolerance=1e-5, function_tolerance=2.22e-9):
        """LogisticFit at the minimum, from ``start`` (a vector; zeros if None). Arguments as the fields of LBFGS."""
        width, classes = self.shape
        # SciPy gains nothing from a second BLAS thread, and waiting BLAS threads spin on the cores that TensorFlow
        # needs for the products: with one thread the whole fit took a third of the time on two cores.
        with threadpool_limits(1, user_api="blas"):
            result = scipy.optimize.minimize(
                self.objective,
                np.zeros(width * classes + classes) if start is None else start,
                args=(penalty,),
                method="L-BFGS-B",
                jac=True,
                options={
                    "maxiter": max_iterations,
                    # SciPy counts evaluations too; 800 updates must never be cut short by it.
                    "maxfun": 20 * max_iterations,
                    "gtol": gradient_tolerance,
                    "ftol": function_tolerance,
                },
            )
        left = max_iterations - result.nit
        if result.status == _LINE_SEARCH_FAILED and self.dtype == "float32" and left > 0:
            # So near the minimum that float32's rounding hides the descent: the last steps are made in float64.
            exact = LogisticRegression(self._features, self._labels, classes, self.standardizer, "float64")
            fit = exact.minimize(penalty, result.x, left, gradient_tolerance, function_tolerance)
            return replace(fit, iterations=fit.iterations + int(result.nit))
        return LogisticFit(
            vector=result.x,
            weights=result.x[: width * classes].reshape(width, classes),
            bias=result.x[width * classes :],
            objective=float(result.fun),
            iterations=int(result.nit),
            converged=bool(result.success),
            message=str(result.message),
            standardizer=self.standardizer,
        )


@dataclass(frozen=True)
class LogisticFit:
    """A fitted classifier: weights float64 [d, C] and bias [C] for standardised features."""

    vector: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    objective: float
    iterations: int
    converged: bool
    message: str
    standardizer: Standardizer

    def scores(self, features):
        """Logits [N, C] of features float32 [N, d]."""
        weights, bias = self.weights.astype(np.float32), self.bias.astype(np.float32)
        return np.concatenate([self.standardizer(block) @ weights + bias for _, block in blocks(features)])


@tf.function(reduce_retracing=True)
def _loss_and_gradient(x, labels, weights, bias):
    """Summed cross entropy (float64), its gradients for weights [d, C] and bias [C]."""
    log_probabilities = tf.nn.log_softmax(tf.matmul(x, weights) + bias)
    classes = tf.shape(weights)[1]
    target = tf.one_hot(labels, classes, dtype=x.dtype)
    # The sum over images in float64: in float32 its rounding would be larger than SciPy's stopping tolerance.
    loss = -tf.reduce_sum(tf.cast(tf.gather(log_probabilities, labels, batch_dims=1), tf.float64))
    residual = tf.exp(log_probabilities) - target
    return loss, tf.matmul(x, residual, transpose_a=True), tf.reduce_sum(residual, axis=0)
