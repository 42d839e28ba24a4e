"""Momentum SGD and LARS as the papers' code writes them, with coupled L2, and the learning-rate schedules.

Keras' own SGD folds the learning rate into its velocity, so that after a drop by ten the old, large steps go on for
some twenty steps; its ``weight_decay`` is decoupled from the gradient and its ``L2(s)`` is twice TF1's. Hence these.
"""

import math

import keras
import tensorflow as tf

from revisit_ssl.errors import InputError

HEAD = "patch_head"  # layer of the patch pretexts; its official L2 is five times the trunk's


def build_optimizer(spec, *, batch_size, steps_per_epoch, total_steps):
    """The optimiser of a recipe.

    Args:
        spec: OptimizerSpec.
        batch_size: int, images per step over all devices; the peak rate is spec.lr * batch_size / 256 if it scales.
        steps_per_epoch: int; turns the spec's epochs into steps.
        total_steps: int, length of the run: the end of a cosine.

    Returns:
        MomentumSGD or LARS, not built yet.

    Raises:
        InputError: a value out of range, or a warm-up longer than the run.
    """
    peak = spec.lr * batch_size / 256 if spec.scale_lr else spec.lr
    warmup = spec.warmup_epochs * steps_per_epoch
    if warmup > total_steps:
        raise InputError(
            f"warmup_epochs {spec.warmup_epochs:g} is {warmup:g} steps, longer than the run of {total_steps}; "
            "shorten the warm-up or train longer"
        )
    ramp = {"warmup_steps": warmup, "warmup_from": spec.warmup_from * peak}
    if spec.schedule == "step":
        early = 1 if spec.first_step_drops else 0
        rate = StepDecay(peak, [epoch * steps_per_epoch - early for epoch in spec.milestones], spec.factor, **ramp)
    elif spec.schedule == "cosine":
        rate = CosineDecay(peak, total_steps, floor=spec.floor, **ramp)
    elif spec.schedule in ("epoch_cosine", "infomin"):
        first = 1 if spec.schedule == "infomin" else 0
        rate = EpochCosine(peak, total_steps, steps_per_epoch, first, floor=spec.floor, **ramp)
    elif spec.schedule == "obow":
        rate = WarmEpochCosine(peak, total_steps, steps_per_epoch, floor=spec.floor, **ramp)
    else:
        rate = Constant(peak, **ramp)
    lars = {"eta": spec.eta, "form": spec.form} if spec.name == "lars" else {}
    return OPTIMIZERS[spec.name](
        rate, momentum=spec.momentum, weight_decay=spec.weight_decay, nesterov=spec.nesterov, exclude=spec.exclude,
        decay=spec.decay, head_weight_decay=spec.head_weight_decay, **lars,
    )  # fmt: skip


def is_decayed(variable, exclude=(), decay="kernels"):
    """Whether weight decay applies to a Keras variable.

    Args:
        variable: keras.Variable.
        exclude: strings; a variable whose path holds one of them is not decayed.
        decay: "kernels": only variables named "kernel", as the papers' TF1 code (never biases or normalisation);
            "all": every variable, as torch.optim does.
    """
    eligible = decay == "all" or variable.path.rsplit("/", 1)[-1] == "kernel"
    return eligible and not any(part in variable.path for part in exclude)


def decay_of(variable, weight_decay, exclude=(), decay="kernels", head_weight_decay=None):
    """The factor wd of the term wd * 1/2 * sum(w^2) for a Keras variable, 0 where none applies.

    Args:
        variable, exclude, decay: as for ``is_decayed``.
        weight_decay: float.
        head_weight_decay: float, of a variable whose path holds "patch_head"; None: weight_decay.
    """
    if not is_decayed(variable, exclude, decay):
        return 0.0
    return weight_decay if head_weight_decay is None or HEAD not in variable.path else head_weight_decay


def l2_loss(variables, weight_decay, exclude=(), decay="kernels", head_weight_decay=None):
    """The term whose gradient the optimisers add: wd * 1/2 * sum(w^2), wd being ``decay_of`` each variable.

    For reports: training never differentiates it. Returns a float32 scalar.
    """
    factors = [decay_of(v, weight_decay, exclude, decay, head_weight_decay) for v in variables]
    terms = [l2 * tf.nn.l2_loss(tf.cast(v.value, tf.float32)) for v, l2 in zip(variables, factors, strict=True) if l2]
    return tf.add_n(terms) if terms else tf.constant(0.0)


class _CoupledL2(keras.optimizers.Optimizer):
    """Momentum buffers, and the list of variables that are decayed. The decay itself is in ``update_step``, which runs
    once the gradients of all replicas are added up, so that it enters once however many replicas there are."""

    def __init__(self, learning_rate, momentum, weight_decay, nesterov, exclude, decay, head_weight_decay, **base):
        if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            learning_rate = _nonnegative("learning_rate", learning_rate)
        # The base class would decouple a weight_decay of its own: ours is kept from it.
        super().__init__(learning_rate, **base)
        if not 0 <= momentum < 1:
            raise InputError(f"momentum {momentum!r} must lie in [0, 1)")
        if decay not in ("kernels", "all"):
            raise InputError(f"decay {decay!r} must be 'kernels' or 'all'")
        if isinstance(exclude, str):
            raise InputError(f"exclude {exclude!r} must be a list of strings, such as [{exclude!r}]")
        self.momentum = float(momentum)
        self.l2 = _nonnegative("weight_decay", weight_decay)
        self.nesterov = bool(nesterov)
        self.exclude = tuple(exclude)
        self.decay = decay
        self.head_l2 = None if head_weight_decay is None else _nonnegative("head_weight_decay", head_weight_decay)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        self.decayed = [is_decayed(variable, self.exclude, self.decay) for variable in variables]
        self.decays = [decay_of(v, self.l2, self.exclude, self.decay, self.head_l2) for v in variables]

    def get_config(self):
        return super().get_config() | {
            "momentum": self.momentum,
            "weight_decay": self.l2,
            "nesterov": self.nesterov,
            "exclude": list(self.exclude),
            "decay": self.decay,
            "head_weight_decay": self.head_l2,
        }


def momentum_sgd(w, m, g, momentum, weight_decay=0.0, nesterov=False):
    """Momentum SGD as TF1 and PyTorch write it: m <- momentum * m + g + wd * w, then w <- w - lr * m.

    Args:
        w, m, g: tensors or variables of one shape: the variable, its velocity and its gradient.
        momentum, weight_decay: floats.
        nesterov: the step is g + wd * w + momentum * m, with the new m.

    Returns:
        (new velocity, step), the step to be taken times the learning rate.
    """
    g = g + weight_decay * w if weight_decay else g
    m = momentum * m + g
    return m, g + momentum * m if nesterov else m


@keras.saving.register_keras_serializable("revisit_ssl")
class MomentumSGD(_CoupledL2):
    """SGD with momentum as TF1 and PyTorch write it: m <- momentum * m + g + wd * w, then w <- w - lr * m.

    The learning rate is outside the buffer, so a drop acts at once. ``wd * w`` is the gradient of
    ``wd * 1/2 * sum(w^2)``: TF1's l2_regularizer(wd), PyTorch's weight_decay=wd, Keras' L2(wd / 2).

    Args:
        learning_rate: float >= 0, or a schedule, read at ``iterations`` before the step (0 at the first one).
        momentum: float in [0, 1).
        weight_decay: float >= 0.
        nesterov: the step is lr * (g + wd * w + momentum * m), with the new m.
        exclude: variables whose path holds one of these strings are not decayed.
        decay: "kernels" or "all", see ``is_decayed``.
        head_weight_decay: float >= 0, of the decayed variables in a layer named "patch_head"; None: weight_decay.

    Raises:
        InputError: a value out of range.
    """

    def __init__(
        self,
        learning_rate,
        momentum=0.9,
        weight_decay=0.0,
        nesterov=False,
        exclude=("revnet_root", "revnet_representation"),
        decay="kernels",
        head_weight_decay=None,
        name="momentum_sgd",
        **base,
    ):
        super().__init__(
            learning_rate, momentum, weight_decay, nesterov, exclude, decay, head_weight_decay, name=name, **base
        )

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        g = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        own = self.momentums[index]
        m, step = momentum_sgd(variable, own, g, self.momentum, self.decays[index], self.nesterov)
        self.assign(own, m)
        self.assign_sub(variable, tf.cast(learning_rate, variable.dtype) * step)


@keras.saving.register_keras_serializable("revisit_ssl")
class LARS(_CoupledL2):
    """Layer-wise adaptive rates (arXiv:1708.03888), in the two forms that published BYOL code uses.

    For a decayed variable, with u = g + wd * w:
        "deepmind":    m <- momentum * m + eta |w| / |u| * u;  w <- w - lr * m   (factor 1 where a norm is 0)
        "openselfsup": m <- momentum * m + lr * eta |w| / (|g| + wd |w|) * u;  w <- w - m
    A variable that is not decayed (biases, normalisation) takes a plain momentum step in the same form. The two agree
    at a constant rate as long as wd |w| is small beside |g|.

    Args:
        learning_rate, momentum, weight_decay, exclude, head_weight_decay: as for MomentumSGD; ``exclude`` also switches
            the trust factor off.
        nesterov: openselfsup only: w <- w - (step + momentum * m).
        eta: float > 0, the trust coefficient.
        form: "deepmind" or "openselfsup".

    Raises:
        InputError: a value out of range.
    """

    def __init__(
        self,
        learning_rate,
        momentum=0.9,
        weight_decay=0.0,
        nesterov=False,
        exclude=("revnet_root", "revnet_representation"),
        decay="kernels",
        head_weight_decay=None,
        eta=1e-3,
        form="deepmind",
        name="lars",
        **base,
    ):
        super().__init__(
            learning_rate, momentum, weight_decay, nesterov, exclude, decay, head_weight_decay, name=name, **base
        )
        if form not in ("deepmind", "openselfsup"):
            raise InputError(f"LARS form {form!r} must be 'deepmind' or 'openselfsup'")
        if nesterov and form != "openselfsup":
            raise InputError("LARS has Nesterov momentum in form 'openselfsup' only; drop nesterov or change the form")
        if not 0 < eta < math.inf:
            raise InputError(f"LARS eta {eta!r} must be positive")
        self.eta = float(eta)
        self.form = form

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        lr = tf.cast(learning_rate, variable.dtype)
        g = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        step = g
        if self.decayed[index]:
            l2 = self.decays[index]
            step = g + l2 * variable
            w_norm = tf.norm(variable)
            if self.form == "deepmind":
                bottom = tf.norm(step)
                defined = (w_norm > 0) & (bottom > 0)
            else:
                bottom = tf.norm(g) + l2 * w_norm
                # Deviation: the official form divides by zero where weights and gradient are all zero.
                defined = bottom > 0
            step *= tf.where(defined, self.eta * w_norm / tf.where(defined, bottom, 1.0), 1.0)
        m = self.momentums[index]
        if self.form == "deepmind":
            self.assign(m, self.momentum * m + step)
            self.assign_sub(variable, lr * m)
        else:
            step *= lr
            self.assign(m, self.momentum * m + step)
            self.assign_sub(variable, step + self.momentum * m if self.nesterov else m)

    def get_config(self):
        return super().get_config() | {"eta": self.eta, "form": self.form}


OPTIMIZERS = {"sgd": MomentumSGD, "lars": LARS}


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """``peak``, reached by a straight line from warmup_from while step < warmup_steps; then ``after(step)``.

    Worked out in float64, since 1 + cos near its end loses all digits of float32; returned as a float32 scalar.
    """

    def __init__(self, base, warmup_steps, warmup_from):
        self.base = _nonnegative("learning rate", base)
        self.warmup_steps = _nonnegative("warmup_steps", warmup_steps)
        self.warmup_from = _nonnegative("warmup_from", warmup_from)

    def __call__(self, step):
        step = tf.cast(step, tf.float64)
        rate = self.after(step)
        if self.warmup_steps:
            ramp = self.warmup_from + (self.peak() - self.warmup_from) * step / self.warmup_steps
            rate = tf.where(step < self.warmup_steps, ramp, rate)
        return tf.cast(rate, tf.float32)

    def peak(self):
        """The rate that the warm-up ends at."""
        return self.base

    def get_config(self):
        return {"base": self.base, "warmup_steps": self.warmup_steps, "warmup_from": self.warmup_from}


@keras.saving.register_keras_serializable("revisit_ssl")
class Constant(_Warmup):
    """``base`` after a linear warm-up.

    Args:
        base: float >= 0, the rate.
        warmup_steps: number >= 0; the rate at step 0 is warmup_from, at warmup_steps it is base.
        warmup_from: float >= 0.

    Raises:
        InputError: a negative value.
    """

    def __init__(self, base, warmup_steps=0, warmup_from=0.0):
        super().__init__(base, warmup_steps, warmup_from)

    def after(self, step):
        return tf.fill(tf.shape(step), tf.constant(self.base, tf.float64))


@keras.saving.register_keras_serializable("revisit_ssl")
class StepDecay(_Warmup):
    """``base``, multiplied by ``factor`` after each boundary (official trainer.py of arXiv:1901.09005).

    The old rate still holds at step == boundary, the new one from boundary + 1. PyTorch's milestone m, whose new rate
    holds from step m on, is the boundary m - 1.

    Args:
        base: float >= 0.
        boundaries_steps: ascending numbers, counted from step 0, not from the end of the warm-up.
        factor: float > 0.
        warmup_steps, warmup_from: as for Constant.

    Raises:
        InputError: a negative value, or boundaries that do not ascend.
    """

    def __init__(self, base, boundaries_steps, factor=0.1, warmup_steps=0, warmup_from=0.0):
        super().__init__(base, warmup_steps, warmup_from)
        self.boundaries = [_nonnegative("decay boundary", b) for b in boundaries_steps]
        if any(b <= a for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise InputError(f"decay boundaries {self.boundaries} must ascend")
        if not 0 < factor < math.inf:
            raise InputError(f"decay factor {factor!r} must be positive")
        self.factor = float(factor)

    def after(self, step):
        rate = tf.constant(self.base, tf.float64)
        for i, boundary in enumerate(self.boundaries):
            rate = tf.where(step > boundary, tf.constant(self.base * self.factor ** (i + 1), tf.float64), rate)
        return rate

    def get_config(self):
        return super().get_config() | {"boundaries_steps": self.boundaries, "factor": self.factor}


@keras.saving.register_keras_serializable("revisit_ssl")
class CosineDecay(_Warmup):
    """Half a cosine from ``base`` at the end of the warm-up to ``floor`` at ``total_steps``, then ``floor``.

    Args:
        base: float >= 0.
        total_steps: number > 0, warm-up included.
        warmup_steps, warmup_from: as for Constant.
        floor: float in [0, base], the last rate.

    Raises:
        InputError: a value out of range, or a warm-up longer than total_steps.
    """

    def __init__(self, base, total_steps, warmup_steps=0, warmup_from=0.0, floor=0.0):
        super().__init__(base, warmup_steps, warmup_from)
        self.total_steps = _nonnegative("total_steps", total_steps)
        self.floor = _nonnegative("floor", floor)
        if not self.warmup_steps <= self.total_steps or self.total_steps == 0:
            raise InputError(
                f"total_steps {total_steps} must be positive and not less than warmup_steps {warmup_steps}; "
                "shorten the warm-up or train longer"
            )
        if self.floor > self.base:
            raise InputError(f"floor {floor} must not exceed the base rate {base}")

    def after(self, step):
        # A run that is all warm-up has no cosine; any positive length will do.
        length = self.total_steps - self.warmup_steps or 1.0
        done = tf.clip_by_value((step - self.warmup_steps) / length, 0.0, 1.0)
        return self.floor + (self.base - self.floor) * 0.5 * (1.0 + tf.cos(math.pi * done))

    def get_config(self):
        return super().get_config() | {"total_steps": self.total_steps, "floor": self.floor}


@keras.saving.register_keras_serializable("revisit_ssl")
class EpochCosine(CosineDecay):
    """Half a cosine over the whole run whose rate changes once an epoch; a warm-up replaces its beginning.

    The rate of epoch e = 0, 1, ... of E is floor + (base - floor) (1 + cos(pi (e + first) / E)) / 2: MoCo with
    first = 0, InfoMin with 1. The warm-up climbs step by step to the cosine's value at its own end.

    Args:
        base, total_steps, warmup_steps, warmup_from, floor: as for CosineDecay.
        steps_per_epoch: int >= 1.
        first: number that the first epoch has in the formula.

    Raises:
        InputError: a value out of range, or a warm-up longer than total_steps.
    """

    def __init__(self, base, total_steps, steps_per_epoch, first=0, warmup_steps=0, warmup_from=0.0, floor=0.0):
        super().__init__(base, total_steps, warmup_steps, warmup_from, floor)
        if steps_per_epoch < 1:
            raise InputError(f"steps_per_epoch {steps_per_epoch} must be at least 1")
        self.steps_per_epoch = int(steps_per_epoch)
        self.first = int(first)

    def at(self, step):
        """The cosine, step by step."""
        done = tf.clip_by_value(step / self.total_steps, 0.0, 1.0)
        return self.floor + (self.base - self.floor) * 0.5 * (1.0 + tf.cos(math.pi * done))

    def peak(self):
        return self.at(tf.constant(self.warmup_steps, tf.float64))

    def after(self, step):
        return self.at((tf.floor(step / self.steps_per_epoch) + self.first) * self.steps_per_epoch)

    def get_config(self):
        return super().get_config() | {"steps_per_epoch": self.steps_per_epoch, "first": self.first}


@keras.saving.register_keras_serializable("revisit_ssl")
class WarmEpochCosine(CosineDecay):
    """CosineDecay whose rate changes once an epoch (OBoW): the one that it has at the epoch's first step.

    Args:
        base, total_steps, warmup_steps, warmup_from, floor: as for CosineDecay.
        steps_per_epoch: int >= 1.

    Raises:
        InputError: a value out of range, or a warm-up longer than total_steps.
    """

    def __init__(self, base, total_steps, steps_per_epoch, warmup_steps=0, warmup_from=0.0, floor=0.0):
        super().__init__(base, total_steps, warmup_steps, warmup_from, floor)
        if steps_per_epoch < 1:
            raise InputError(f"steps_per_epoch {steps_per_epoch} must be at least 1")
        self.steps_per_epoch = int(steps_per_epoch)

    def after(self, step):
        return super().after(tf.floor(step / self.steps_per_epoch) * self.steps_per_epoch)

    def get_config(self):
        return super().get_config() | {"steps_per_epoch": self.steps_per_epoch}


def _nonnegative(name, value):
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}; expected a number") from None
    if not 0 <= value < math.inf:
        raise InputError(f"{name} {value:g} must be a number that is not negative")
    return value
