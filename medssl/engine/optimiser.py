"""The optimiser of a method: which parameters decay, and which learning rate each follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from medssl.engine.schedules import LearningRates
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError

__all__ = ["build_optimiser", "parameter_groups", "set_learning_rates", "set_weight_decay"]


def parameter_groups(method: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trained parameters as groups, in the module's own order.

    Biases, norms and other parameters of at most one dimension are not decayed: pulling them to zero regularises
    nothing and shifts activations.

    Args:
        method: The parameters of its ``encoder``, where it has one, get groups of their own.
        weight_decay: For parameters of two and more dimensions.

    Returns:
        Groups with "params", "weight_decay" and "part" ("encoder" or "rest"); empty ones are left out.

    Raises:
        ConfigError: Nothing is trained.
    """
    encoder = getattr(method, "encoder", None)
    of_encoder = {id(p) for p in encoder.parameters()} if isinstance(encoder, nn.Module) else set()
    kinds: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for parameter in method.parameters():
        if parameter.requires_grad:
            part = "encoder" if id(parameter) in of_encoder else "rest"
            kinds.setdefault((part, parameter.ndim > 1), []).append(parameter)
    if not kinds:
        raise ConfigError("The method has no parameter with requires_grad: there is nothing to train.")
    return [
        {"params": params, "weight_decay": weight_decay if decays else 0.0, "part": part}
        for (part, decays), params in sorted(kinds.items())
    ]


def build_optimiser(method: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Return AdamW or SGD with Nesterov momentum over `parameter_groups`."""
    groups = parameter_groups(method, weight_decay=settings.weight_decay)
    if settings.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, amsgrad=settings.amsgrad)


def set_learning_rates(optimiser: torch.optim.Optimizer, rates: LearningRates, step: int) -> dict[str, float]:
    """Give each group the learning rate of ``step``; return them as "lr" and, where it differs, "lr_encoder"."""
    for group in optimiser.param_groups:
        group["lr"] = float((rates.encoder if group["part"] == "encoder" else rates.rest)[step])
    rest, encoder = float(rates.rest[step]), float(rates.encoder[step])
    return {"lr": rest} if rest == encoder else {"lr": rest, "lr_encoder": encoder}


def set_weight_decay(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Give ``value`` to each group that decays; one whose decay is 0 is left alone."""
    for group in optimiser.param_groups:
        if group["weight_decay"] > 0.0:
            group["weight_decay"] = value
