"""Where a verb computes, as its setting ``device`` says, and in which precision a run predicts there."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from medssl.engine.precision import choose_precision
from medssl.errors import ConfigError

__all__ = ["autocast_as", "device_named"]


def device_named(name: str) -> torch.device:
    """Return the device of a setting: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ConfigError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device: found '{name}'; allowed is auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device: found '{name}', and torch sees no GPU here. Try device=cpu.")
    return device


def autocast_as(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return what a network is run in, so that it computes as in its training run with ``train.precision``."""
    if choose_precision(precision, device.type) == "bf16-mixed":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()
