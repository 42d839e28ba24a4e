"""Multinomial logistic regression by L-BFGS, the paper's main probe (P section 3.3, supplement 2; spec D.3)."""

import time
from dataclasses import dataclass, replace
from typing import Literal

from revisit_ssl.errors import require
from revisit_ssl.evaluators.base import Probe, Score, Standardizer, accuracies, check_splits, topk_percent


@dataclass(frozen=True, kw_only=True)
class LBFGS(Probe):
    """Mean cross entropy + penalty * sum W^2, bias free, minimised by SciPy's L-BFGS-B.

    The start is zero; in mode "select" each penalty after the strongest starts where the one before it ended.
    ``Score.extra``: val_top1, iterations, objective, message (SciPy's); in mode "select" also val_top1_by_penalty. Then
    a second score, of variant "paper", is that of the paper's penalty on raw features.
    """

    mode: Literal["select", "paper"] = "select"
    """paper: penalty_scale / (d * num_classes) on raw features. select: standardised, the penalty chosen on val."""
    penalty_scale: float = 100.0
    """The paper's penalty is this / (d * num_classes). Disputed: the text does not say if the cross entropy is a mean
    over the N images or a sum; it is a mean here, as with a sum (this / N here) the penalty would vanish. Nor if the
    bias is penalised: it is not here."""
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

    def __post_init__(self):
        """InputError for values that cannot be."""
        usable = len(self.penalties) > 0 and min(self.penalties) >= 0
        require(usable, f"lbfgs.penalties {self.penalties}: one or more numbers from 0 up")
        require(self.penalty_scale >= 0, f"lbfgs.penalty_scale {self.penalty_scale} must not be negative")

    @property
    def chooses(self):
        """See ProbeOptions."""
        return self.mode == "select"

    def measure(self, bench):
        """See Probe; the seed changes nothing: the problem is convex and nothing is drawn."""
        for endpoint in bench.endpoints:
            train, val, test = bench.three(endpoint)
            yield self.score(train, val, test, num_classes=bench.num_classes).of(endpoint)
            if self.mode == "select":
                again = replace(self, mode="paper").score(train, None, test, num_classes=bench.num_classes)
                yield replace(again, variant="paper", per_class=None, extra={}).of(endpoint)

    def score(self, train, val, test, *, num_classes):
        """Score of FeatureSplits; ``val`` may be None in mode "paper"."""
        from revisit_ssl.evaluators.logistic import LogisticRegression  # TensorFlow

        started = time.perf_counter()
        train, *held, test = check_splits([s for s in (train, val, test) if s is not None], num_classes)
        if self.mode == "paper":
            penalty, extra = self.penalty_scale / (train.features.shape[1] * num_classes), {}
            fit = self._fit(LogisticRegression(train.features, train.labels, num_classes, dtype=self.dtype), penalty)
        else:
            fits = self._path(train, held[0], num_classes)
            penalty = max(fits, key=lambda p: (fits[p][1], p))
            fit, _ = fits[penalty]
            extra = {"val_top1_by_penalty": {f"{p:g}": top1 for p, (_, top1) in fits.items()}}
        if held:
            extra["val_top1"] = topk_percent(fit.scores(held[0].features), held[0].labels, 1)
        scores = fit.scores(test.features)
        return Score(
            **accuracies(scores, test.labels),
            hyperparameters=self.options("penalties") | {"penalty": penalty},
            seconds=time.perf_counter() - started,
            converged=fit.converged,
            extra={"iterations": fit.iterations, "objective": fit.objective, "message": fit.message} | extra,
        )

    def _fit(self, problem, penalty, start=None):
        return problem.minimize(penalty, start, self.max_iterations, self.gradient_tolerance, self.function_tolerance)

    def _path(self, train, val, num_classes):
        """{penalty: (LogisticFit, top-1 on val)} from strong to weak, each started where the one before ended."""
        from revisit_ssl.evaluators.logistic import LogisticRegression

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
