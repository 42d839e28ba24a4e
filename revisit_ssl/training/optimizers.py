"""Momentum SGD and LARS as the papers' code writes them, with coupled L2.

Keras' own SGD folds the learning rate into its velocity, so that after a drop by ten the old, large steps go on for
some twenty steps; its ``weight_decay`` is decoupled from the gradient and its ``L2(s)`` is twice TF1's. Hence these.
"""

import math
from typing import NamedTuple

import keras
import tensorflow as tf

from revisit_ssl.errors import InputError, check_choice, require
from revisit_ssl.training.schedules import build_schedule, nonnegative

HEAD = "patch_head"  # layer of the patch pretexts; its official L2 is five times the trunk's


def build_optimizer(spec, *, batch_size, steps_per_epoch, total_steps, without_momentum=()):
    """The optimiser of a recipe.

    Args:
        spec: OptimizerSpec.
        batch_size: int, images per step over all devices; the peak rate is spec.lr * batch_size / 256 if it scales.
        steps_per_epoch: int; turns the spec's epochs into steps.
        total_steps: int, length of the run: the end of a cosine.
        without_momentum: strings; a variable whose path holds one of them is moved without momentum.

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
    rate = build_schedule(spec, peak, warmup, steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    lars = {"eta": spec.eta, "form": spec.form} if spec.name == "lars" else {}
    shared = ("momentum", "weight_decay", "nesterov", "exclude", "decay", "head_weight_decay")
    own = {"without_momentum": without_momentum, **lars}
    return OPTIMIZERS[spec.name](rate, **{name: getattr(spec, name) for name in shared}, **own)


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


class Decayed(NamedTuple):
    """Which variables are decayed, as of ``decay_of``."""

    exclude: tuple = ("revnet_root", "revnet_representation")
    decay: str = "kernels"
    head_weight_decay: float | None = None


class _CoupledL2(keras.optimizers.Optimizer):
    """Momentum buffers, and the list of variables that are decayed. The decay itself is in ``update_step``, which runs
    once the gradients of all replicas are added up, so that it enters once however many replicas there are.

    ``more``: the fields of ``Decayed``, and what Keras' optimisers take.
    """

    def __init__(self, learning_rate, momentum=0.9, weight_decay=0.0, nesterov=False, without_momentum=(), **more):
        which = Decayed(**{name: more.pop(name) for name in Decayed._fields if name in more})
        if not isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            learning_rate = nonnegative("learning_rate", learning_rate)
        # The base class would decouple a weight_decay of its own: ours is kept from it.
        super().__init__(learning_rate, **{"name": type(self).__name__.lower(), **more})
        require(0 <= momentum < 1, f"momentum {momentum!r} must lie in [0, 1)")
        check_choice("decay", which.decay, ("kernels", "all"))
        listed = f"exclude {which.exclude!r} must be a list of strings, such as [{which.exclude!r}]"
        require(not isinstance(which.exclude, str), listed)
        self.momentum = float(momentum)
        self.l2 = nonnegative("weight_decay", weight_decay)
        self.nesterov = bool(nesterov)
        self.exclude = tuple(which.exclude)
        self.decay = which.decay
        self.without_momentum = tuple(without_momentum)
        head = which.head_weight_decay
        self.head_l2 = None if head is None else nonnegative("head_weight_decay", head)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        self.decayed = [is_decayed(variable, self.exclude, self.decay) for variable in variables]
        self.decays = [decay_of(v, self.l2, self.exclude, self.decay, self.head_l2) for v in variables]
        plain = [any(part in variable.path for part in self.without_momentum) for variable in variables]
        self.keeps = [0.0 if each else self.momentum for each in plain]

    def forget(self, variables):
        """Sets the velocities of ``variables`` to zero, as a new optimiser has them."""
        for variable in variables:
            own = self.momentums[self._get_variable_index(variable)]
            own.assign(tf.zeros(own.shape, own.dtype))

    def get_config(self):
        return super().get_config() | {
            "momentum": self.momentum,
            "weight_decay": self.l2,
            "nesterov": self.nesterov,
            "exclude": list(self.exclude),
            "decay": self.decay,
            "head_weight_decay": self.head_l2,
            "without_momentum": list(self.without_momentum),
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
        without_momentum: variables whose path holds one of these strings are moved as if momentum were 0.

    Raises:
        InputError: a value out of range.
    """

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        g = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        own = self.momentums[index]
        m, step = momentum_sgd(variable, own, g, self.keeps[index], self.decays[index], self.nesterov)
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
        learning_rate: as for MomentumSGD.
        eta: float > 0, the trust coefficient.
        form: "deepmind" or "openselfsup".
        coupled: the other arguments of MomentumSGD; ``exclude`` also switches the trust factor off; ``nesterov``
            (openselfsup only): w <- w - (step + momentum * m).

    Raises:
        InputError: a value out of range.
    """

    def __init__(self, learning_rate, *, eta=1e-3, form="deepmind", **coupled):
        super().__init__(learning_rate, **coupled)
        check_choice("LARS form", form, ("deepmind", "openselfsup"))
        needs = "LARS has Nesterov momentum in form 'openselfsup' only; drop nesterov or change the form"
        require(form == "openselfsup" or not self.nesterov, needs)
        require(0 < eta < math.inf, f"LARS eta {eta!r} must be positive")
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
            self.assign(m, self.keeps[index] * m + step)
            self.assign_sub(variable, lr * m)
        else:
            step *= lr
            self.assign(m, self.keeps[index] * m + step)
            self.assign_sub(variable, step + self.keeps[index] * m if self.nesterov else m)

    def get_config(self):
        return super().get_config() | {"eta": self.eta, "form": self.form}


OPTIMIZERS = {"sgd": MomentumSGD, "lars": LARS}
