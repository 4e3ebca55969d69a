"""Schedules are arrays: one value a step, made before the run starts, so that they can be drawn, saved and tested."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medssl.engine.train_settings import TrainSettings

__all__ = ["LearningRates", "constant", "cosine", "learning_rates", "poly", "sawtooth", "weight_decays"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LearningRates:
    """The learning rate of every step.

    Attributes:
        encoder: For parameters under ``method.encoder``, (steps,).
        rest: For all others, (steps,).
    """

    encoder: Array
    rest: Array


def _with_warmup(after: Array, warmup: int, peak: float) -> Array:
    """Return ``after`` behind a linear rise of ``warmup`` steps from 1/(warmup + 1) of ``peak``."""
    rise = np.arange(1, warmup + 1) / (warmup + 1) * peak
    return np.concatenate([rise, after])


def _remaining(steps: int, warmup: int) -> Array:
    """Return the share that is done at the start of each step after the warm-up: from 0 to just under 1."""
    left = steps - warmup
    return np.arange(left) / max(left, 1)


def cosine(steps: int, *, peak: float, warmup: int = 0, final: float = 0.0) -> Array:
    """Return a linear rise to ``peak``, then half a cosine down towards ``final``.

    Args:
        steps: Length of the schedule.
        peak: Value at step ``warmup``.
        warmup: Steps of the rise; none of them is 0, so that no step is wasted.
        final: Value that the step after the last would have; so with 0 the last step still learns.

    Returns:
        float64, (steps,).

    Example:
        >>> cosine(4, peak=1.0, warmup=2).round(3).tolist()
        [0.333, 0.667, 1.0, 0.5]

    Reference:
        Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, arXiv:1608.03983.
    """
    warmup = min(warmup, steps)
    return _with_warmup(final + (peak - final) * 0.5 * (1 + np.cos(np.pi * _remaining(steps, warmup))), warmup, peak)


def poly(steps: int, *, peak: float, warmup: int = 0, final: float = 0.0, power: float = 0.9) -> Array:
    """Return a linear rise to ``peak``, then ``(1 - done) ** power`` down towards ``final``; arguments as in `cosine`.

    Example:
        >>> poly(4, peak=1.0, power=1.0).tolist()
        [1.0, 0.75, 0.5, 0.25]
    """
    warmup = min(warmup, steps)
    return _with_warmup(final + (peak - final) * (1 - _remaining(steps, warmup)) ** power, warmup, peak)


def constant(steps: int, *, peak: float, warmup: int = 0) -> Array:
    """Return a linear rise to ``peak``, which then stays.

    Example:
        >>> constant(4, peak=1.0, warmup=1).tolist()
        [0.5, 1.0, 1.0, 1.0]
    """
    warmup = min(warmup, steps)
    return _with_warmup(np.full(steps - warmup, peak), warmup, peak)


def sawtooth(steps: int, *, peak: float, stage: int, final: float = 0.0) -> LearningRates:
    """Return the staged schedule for fine-tuning a pretrained encoder under a new decoder.

    The rest warms up over one stage and trains alone over a second; then everything warms up together over two
    stages and decays as `poly`. The encoder stands still until the decoder gives it gradients worth following.

    Args:
        steps: Length of the schedule; more than four stages.
        peak: Peak learning rate of both teeth.
        stage: Steps of one stage.
        final: As in `cosine`.

    Reference:
        Wald et al., "An OpenMind for 3D medical vision self-supervised learning", ICCV 2025, arXiv:2412.17041.
    """
    alone = min(2 * stage, steps)
    first = constant(alone, peak=peak, warmup=stage)
    second = poly(steps - alone, peak=peak, warmup=2 * stage, final=final)
    return LearningRates(encoder=np.concatenate([np.zeros(alone), second]), rest=np.concatenate([first, second]))


def learning_rates(settings: TrainSettings) -> LearningRates:
    """Return the learning rates of a run."""
    steps, peak = settings.steps, settings.lr
    warmup = round(settings.warmup * steps)
    final = settings.final_lr * peak
    if settings.schedule == "sawtooth":
        rates = sawtooth(steps, peak=peak, stage=warmup, final=final)
    else:
        values = {
            "cosine": lambda: cosine(steps, peak=peak, warmup=warmup, final=final),
            "poly": lambda: poly(steps, peak=peak, warmup=warmup, final=final),
            "constant": lambda: constant(steps, peak=peak, warmup=warmup),
        }[settings.schedule]()
        rates = LearningRates(encoder=values, rest=values)
    return LearningRates(encoder=rates.encoder * settings.encoder_lr_scale, rest=rates.rest)


def weight_decays(settings: TrainSettings) -> Array:
    """Return the weight decay of every step of a run: half a cosine from its first value to its last, no warm-up."""
    last = settings.weight_decay if settings.final_weight_decay is None else settings.final_weight_decay
    return cosine(settings.steps, peak=settings.weight_decay, final=last)
