"""Networks as after training: no parameter where it was drawn."""

from __future__ import annotations

import torch
from torch import nn


def perturbed(network: nn.Module, *, seed: int = 0) -> nn.Module:
    """Move every parameter away from where it is, in place, and return the network.

    A fresh residual block is its skip (a zero normalisation), so that comparing fresh networks proves little.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network
