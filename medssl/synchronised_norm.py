"""Batch normalisation over the rows of all processes, so that several normalise as one does.

On CUDA that is torch's ``SyncBatchNorm``, which weighs processes by their numbers of rows. `SynchronisedBatchNorm`
serves where it does not: it refuses CPU tensors, and a norm without running statistics, which goes by the batch in
evaluation mode too (a teacher's head), it leaves to each process there.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from medssl.gathering import added, processes

__all__ = ["SynchronisedBatchNorm", "goes_by_batch", "synchronise_norms"]


class SynchronisedBatchNorm(_BatchNorm):
    """A batch norm of any number of axes whose count, sum and sum of squared deviations are added over processes.

    Rows of all processes weigh the same, however many each holds; running statistics are those that one process would
    have. Where it goes by running statistics, and with one process, it is the plain one. The arithmetic is in float32,
    sums in float64.
    """

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        _keep_out_of_graphs()

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002
        if input.dim() < 2:
            raise ValueError(f"expected (N, C, ...), got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the normalised values, of the shape and type of ``input`` (N, C, ...)."""
        if processes() == 1 or not goes_by_batch(self):
            return super().forward(input)
        self._check_input_dim(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        wide = input if input.dtype == torch.float64 else input.float()
        rows = input.numel() // input.shape[1]
        own = torch.tensor([rows], dtype=torch.float64, device=input.device)
        together = added(torch.cat([wide.sum(axes, dtype=torch.float64), own]))
        number = together[-1].detach()
        if rows < 2 and number < 2:  # read back from a GPU only where it may be so
            raise ValueError(f"Expected more than 1 value per channel when training, got {tuple(input.shape)}")
        mean = together[:-1] / number
        centred = wide - mean.to(wide.dtype).view(shape)
        variance = added(centred.square().sum(axes, dtype=torch.float64)) / number
        normed = centred * torch.rsqrt(variance + self.eps).to(wide.dtype).view(shape)
        if self.affine:
            normed = normed * self.weight.to(wide.dtype).view(shape) + self.bias.to(wide.dtype).view(shape)
        self._follow(mean.detach(), variance.detach() * number / (number - 1))
        return normed.to(input.dtype)

    @torch.no_grad()
    def _follow(self, mean: Tensor, unbiased: Tensor) -> None:
        """Move the running statistics, where there are any."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        for kept, new in ((self.running_mean, mean), (self.running_var, unbiased)):
            kept.mul_(1.0 - share).add_(new.to(kept.dtype), alpha=share)


@cache
def _keep_out_of_graphs() -> None:
    """Keep the sums over processes out of compiled graphs, from the first norm on.

    As a decorator this would import torch's compiler, seconds of it, wherever this module is imported.
    """
    SynchronisedBatchNorm.forward = torch.compiler.disable(SynchronisedBatchNorm.forward)  # type: ignore[method-assign, no-untyped-call]


def goes_by_batch(norm: _BatchNorm) -> bool:
    """Return whether a norm goes by the batch at hand: while training, and always where it keeps no statistics."""
    return norm.training or norm.running_mean is None


def synchronise_norms(network: nn.Module, device: str) -> None:
    """Put norms over all processes in the place of all batch norms in a network, in place, weights and all.

    Args:
        network: Not a batch norm itself.
        device: Type of the device that it trains on: "cuda" gets torch's where that is right, all others ours.
    """
    made: dict[nn.Module, nn.Module] = {}  # a norm that two parents share stays one
    for parent in list(network.modules()):
        for name, norm in list(parent._modules.items()):
            if isinstance(norm, _BatchNorm) and not isinstance(norm, nn.SyncBatchNorm | SynchronisedBatchNorm):
                if norm not in made:
                    made[norm] = _synchronised(norm, device)
                setattr(parent, name, made[norm])


def _synchronised(norm: _BatchNorm, device: str) -> nn.Module:
    if device == "cuda" and norm.track_running_stats:
        found: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(norm)  # type: ignore[no-untyped-call]
        return found
    ours = SynchronisedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    ours.weight, ours.bias = norm.weight, norm.bias
    ours.running_mean, ours.running_var = norm.running_mean, norm.running_var
    ours.num_batches_tracked = norm.num_batches_tracked
    ours.train(norm.training)
    return ours
