"""Linear SVMs on VOC 2007 (fair_self_supervision_benchmark, tools/svm; the evaluation of OBoW's main table)."""

import time
import warnings
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from revisit_ssl.errors import require
from revisit_ssl.evaluators.average_precision import envelope_ap
from revisit_ssl.evaluators.base import Probe, Score, check_multi_label_splits

# The seven that the benchmark's command passes, then the sixteen that its code adds by itself.
COSTS = (0.05, 0.1, 0.3, 0.5, 1.0, 3.0, 5.0, *(0.5**power for power in range(4, 20)))
FOLDS = 3


@dataclass(frozen=True, kw_only=True)
class VOCSVM(Probe):
    """One linear SVM per class on unit features; its cost is the best by cross-validated average precision.

    Trained on trainval and scored on test; a difficult object counts as absent in training, and its image is left out
    in the test of its class. ``Score.metrics``: map, the mean over the classes of the average precision in percent
    (area under the monotone envelope of the precision, at all recalls); ``extra``: ap {class: percent}, costs {class:
    chosen}, left_out: classes with too few images to be cross-validated or tested, which only samples have.
    ``converged``: whether all final fits were. The paper's setting; nothing else is chosen.
    """

    labels = "several"
    quick = {"costs": (0.1, 1.0)}

    crop: Literal["warp", "center"] = "warp"
    """What is cut from an image, of a shorter side of 8/7 of its size. Disputed: the benchmark warps all of it, 256 of
    the shorter side, to 224 x 224; later papers cut the centre."""
    costs: tuple[float, ...] = COSTS
    """Candidates; the first of equals wins."""
    max_iterations: int = 2000
    """Of liblinear, for every fit."""
    jobs: int | None = None
    """Processes; None: one for up to 1,000 training images, one for each core for more."""

    def __post_init__(self):
        """InputError for costs that are none."""
        require(self.costs and min(self.costs) > 0, f"voc_svm.costs {self.costs}: numbers above 0")
        require(self.max_iterations >= 1, f"voc_svm.max_iterations {self.max_iterations} must be at least 1")

    def measure(self, bench):
        """See Probe; the seed is that of liblinear's order of images."""
        from revisit_ssl.data import EvalView  # TensorFlow

        size = bench.view.size
        # The benchmark warps with OpenCV, which does not antialias; papers that cut the centre have torchvision's view.
        how = {"method": "warp"}
        if self.crop == "center":
            how = {"method": "shorter_side", "kernel": bench.view.kernel}
        view = EvalView(size=size, resize=round(size * 256 / 224), **how)
        for endpoint in bench.endpoints:
            train, test = (bench.split(split, endpoint, view=view) for split in ("train", "test"))
            score = self.score(train, test, class_names=bench.class_names, seed=bench.seed).of(endpoint)
            yield replace(score, hyperparameters=score.hyperparameters | {"view": view.told})

    def score(self, train, test, *, class_names, seed=0):
        """Score of FeatureSplits of several labels; ``seed`` is that of liblinear's order of images."""
        started = time.perf_counter()
        check_multi_label_splits((train, test), len(class_names))
        x, queries = unit(train.features), unit(test.features)
        ap, costs, left_out, converged = {}, {}, [], True
        for c, name in enumerate(class_names):
            present, counted = train.labels[:, c] == 1, test.labels[:, c] >= 0
            few = min(present.sum(), (~present).sum()) < FOLDS
            if few or not (test.labels[:, c] == 1).any():
                left_out.append(name)
                continue
            fit = self.fit(x, present, seed)
            scores = fit.decision_function(queries[counted])
            ap[name] = round(100.0 * envelope_ap(test.labels[counted, c] == 1, scores), 3)
            costs[name] = float(fit.best_params_["C"])
            converged &= bool(fit.best_estimator_.n_iter_ < self.max_iterations)
        require(
            ap,
            f"voc_svm: no class has {FOLDS} images in {train.name} and one in {test.name}; the sample is too small",
        )
        return Score(
            metrics={"map": float(np.mean(list(ap.values())))},
            hyperparameters=self.options("jobs", "crop"),
            seconds=time.perf_counter() - started,
            converged=converged,
            extra={"ap": ap, "costs": costs} | ({"left_out": left_out} if left_out else {}),
        )

    def fit(self, x, present, seed=0):
        """GridSearchCV of one class: ``best_params_["C"]``, and ``best_estimator_`` fitted on all rows.

        Args:
            x: float64 [N, d].
            present: bool [N], at least 3 of either kind.
            seed: int.
        """
        from sklearn.exceptions import ConvergenceWarning  # here, so that help need not wait for it
        from sklearn.model_selection import GridSearchCV
        from sklearn.svm import LinearSVC

        svm = LinearSVC(
            penalty="l2", loss="squared_hinge", dual=True, tol=1e-4, intercept_scaling=1.0, class_weight={1: 2, -1: 1},
            max_iter=self.max_iterations, random_state=seed,
        )
        jobs = self.jobs or (1 if len(x) <= 1000 else -1)
        search = GridSearchCV(svm, {"C": list(self.costs)}, scoring="average_precision", cv=FOLDS, n_jobs=jobs)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # said once, as ``converged``
            return search.fit(x, np.where(present, 1, -1))


def unit(features):
    """float64 [N, d]: rows divided by their norm + 1e-5, as the benchmark does."""
    rows = np.asarray(features, np.float64)
    return rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-5)
