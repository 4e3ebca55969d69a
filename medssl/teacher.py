"""A teacher that follows its student: the exponential moving average of its weights."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["EMATeacher", "momentum_at"]


def momentum_at(progress: float, *, start: float, end: float = 1.0) -> float:
    """Return the teacher's momentum: half a cosine from ``start`` at progress 0 to ``end`` at progress 1.

    Example:
        >>> momentum_at(0.0, start=0.996), momentum_at(1.0, start=0.996)
        (0.996, 1.0)
        >>> round(momentum_at(0.25, start=0.9), 4)  # half a cosine, no line
        0.9146

    Reference:
        Grill et al., "Bootstrap your own latent", NeurIPS 2020, arXiv:2006.07733, section 3.3.
    """
    return end - (end - start) * (math.cos(math.pi * progress) + 1) / 2


class EMATeacher(nn.Module):
    """A copy of a student whose weights are ``momentum * teacher + (1 - momentum) * student`` after each step.

    Parameters and floating-point buffers are averaged; counters and other integer buffers are copied. No gradient
    ever reaches the teacher.

    Args:
        student: What to copy, with the weights it has now.
        momentum: Momentum at progress 0, in [0, 1].
        final_momentum: Momentum at progress 1.
        train_mode: Whether the teacher runs in training mode (batch norm by the batch) or, as is usual, in
            evaluation mode. It keeps this mode whatever ``train()`` and ``eval()`` say to the module around it.
    """

    def __init__(
        self, student: nn.Module, *, momentum: float = 0.996, final_momentum: float = 1.0, train_mode: bool = False
    ) -> None:
        super().__init__()
        for name, value in (("momentum", momentum), ("final_momentum", final_momentum)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        self.module = copy.deepcopy(student)
        self.module.requires_grad_(False)
        self.momentum, self.final_momentum, self.train_mode = momentum, final_momentum, train_mode
        self.train(train_mode)

    def train(self, mode: bool = True) -> EMATeacher:
        """Keep the teacher's own mode."""
        self.training = self.train_mode
        self.module.train(self.train_mode)
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the teacher's network returns, without a graph."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update(self, student: nn.Module, progress: float) -> None:
        """Move the teacher towards ``student``.

        Args:
            student: A module of the structure that was copied.
            progress: Share of the run that is done, in [0, 1].
        """
        momentum = momentum_at(progress, start=self.momentum, end=self.final_momentum)
        ours: list[Tensor] = list(self.module.parameters())
        theirs: list[Tensor] = list(student.parameters())
        for mine, other in zip(self.module.buffers(), student.buffers(), strict=True):
            if mine.is_floating_point():
                ours.append(mine)
                theirs.append(other)
            else:
                mine.copy_(other)
        if len(ours) != len(theirs):
            raise ValueError(f"the student has {len(theirs)} tensors and the teacher {len(ours)}")
        if momentum == 0.0:  # a copy, exactly: lerp(a, b, 1) may differ from b in the last bit
            torch._foreach_copy_(ours, theirs)
        elif momentum < 1.0:
            torch._foreach_lerp_(ours, theirs, 1.0 - momentum)
