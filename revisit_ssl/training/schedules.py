"""Learning-rate schedules as the papers' code has them: functions of the step alone."""

import math

import keras
import tensorflow as tf

from revisit_ssl.errors import InputError


def build_schedule(spec, peak, warmup_steps, *, steps_per_epoch, total_steps):
    """The schedule of a recipe.

    Args:
        spec: OptimizerSpec.
        peak: float, the rate that the warm-up ends at.
        warmup_steps: number of steps, at most total_steps.
        steps_per_epoch: int; turns the spec's epochs into steps.
        total_steps: int, length of the run: the end of a cosine.

    Returns:
        Constant, StepDecay, CosineDecay, EpochCosine or WarmEpochCosine.

    Raises:
        InputError: a value out of range.
    """
    ramp = {"warmup_steps": warmup_steps, "warmup_from": spec.warmup_from * peak}
    if spec.schedule == "step":
        early = 1 if spec.first_step_drops else 0
        return StepDecay(peak, [epoch * steps_per_epoch - early for epoch in spec.milestones], spec.factor, **ramp)
    if spec.schedule == "cosine":
        return CosineDecay(peak, total_steps, floor=spec.floor, **ramp)
    if spec.schedule in ("epoch_cosine", "infomin"):
        first = 1 if spec.schedule == "infomin" else 0
        return EpochCosine(peak, total_steps, steps_per_epoch, first, floor=spec.floor, **ramp)
    if spec.schedule == "obow":
        return WarmEpochCosine(peak, total_steps, steps_per_epoch, floor=spec.floor, **ramp)
    return Constant(peak, **ramp)


class _Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """``peak``, reached by a straight line from warmup_from while step < warmup_steps; then ``after(step)``.

    Worked out in float64, since 1 + cos near its end loses all digits of float32; returned as a float32 scalar.
    """

    def __init__(self, base, warmup_steps, warmup_from):
        self.base = nonnegative("learning rate", base)
        self.warmup_steps = nonnegative("warmup_steps", warmup_steps)
        self.warmup_from = nonnegative("warmup_from", warmup_from)

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
        self.boundaries = [nonnegative("decay boundary", b) for b in boundaries_steps]
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
        self.total_steps = nonnegative("total_steps", total_steps)
        self.floor = nonnegative("floor", floor)
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


def nonnegative(name, value):
    """``value`` as a float; InputError unless it is a finite number that is not negative."""
    try:
        value = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}; expected a number") from None
    if not 0 <= value < math.inf:
        raise InputError(f"{name} {value:g} must be a number that is not negative")
    return value
