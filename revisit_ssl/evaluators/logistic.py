"""Multinomial logistic regression: the objective over blocks of features, minimised by SciPy's L-BFGS-B."""

from dataclasses import dataclass, replace

import numpy as np
import scipy.optimize
import tensorflow as tf
from threadpoolctl import threadpool_limits

from revisit_ssl.evaluators.base import Standardizer
from revisit_ssl.features.checks import blocks

_RESIDENT_BYTES = 1 << 31  # training features up to this size are kept as tensors instead of being read at every pass
_LINE_SEARCH_FAILED = 2  # SciPy's status "ABNORMAL"


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


@tf.function(autograph=False, reduce_retracing=True)
def _loss_and_gradient(x, labels, weights, bias):
    """Summed cross entropy (float64), its gradients for weights [d, C] and bias [C]."""
    log_probabilities = tf.nn.log_softmax(tf.matmul(x, weights) + bias)
    classes = tf.shape(weights)[1]
    target = tf.one_hot(labels, classes, dtype=x.dtype)
    # The sum over images in float64: in float32 its rounding would be larger than SciPy's stopping tolerance.
    loss = -tf.reduce_sum(tf.cast(tf.gather(log_probabilities, labels, batch_dims=1), tf.float64))
    residual = tf.exp(log_probabilities) - target
    return loss, tf.matmul(x, residual, transpose_a=True), tf.reduce_sum(residual, axis=0)
