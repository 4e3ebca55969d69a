"""Which precision a run trains in, and whether this processor's bfloat16 convolutions can be trusted.

oneDNN's convolution kernel for processors with avx512_bf16 but without AMX (``jit_bf16:avx512_core_bf16``; seen with
torch 2.14 on an AMD EPYC) adds what happens to lie in memory to the weights' gradient of a 3x3x3 convolution whose
input is two voxels deep: NaN now and then, and wrong by orders of magnitude otherwise. The forward pass and the
gradient of the input are right. Processors with AMX take another kernel, and float32 is right everywhere.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from medssl.errors import ConfigError

__all__ = ["choose_precision", "wrong_bf16_convolutions"]

Precision = Literal["32-true", "bf16-mixed"]

_DEPTHS = (1, 2, 3, 4)  # of the maps that are tried: the coarsest levels of U-Nets
_TRIES = 2
_TOLERANCE = 0.1  # relative to the greatest value; bfloat16 keeps eight bits, so rounding stays under 0.02


def choose_precision(wanted: str, accelerator: str) -> Precision:
    """Return the precision of a run.

    Args:
        wanted: ``train.precision``.
        accelerator: "cuda" or "cpu".

    Returns:
        What was wanted; for "auto", bf16-mixed on GPUs that have it and 32-true elsewhere.

    Raises:
        ConfigError: If bfloat16 is wanted on a CPU whose convolutions in bfloat16 are wrong.
    """
    if wanted == "auto":
        return "bf16-mixed" if accelerator == "cuda" and torch.cuda.is_bf16_supported() else "32-true"
    if wanted != "bf16-mixed":
        return "32-true"
    if accelerator == "cpu" and (fault := wrong_bf16_convolutions()):
        raise ConfigError(
            f"train.precision is bf16-mixed, and on this processor {fault}: training would diverge at a random step. "
            "Set train.precision=32-true."
        )
    return "bf16-mixed"


@cache
def wrong_bf16_convolutions() -> str:
    """Compare 3x3x3 convolutions in bfloat16 on the CPU with float32; return what is wrong in a clause, "" if nothing.

    Takes milliseconds, once a process. Each map is tried twice, after memory has been filled with large numbers.
    """
    wrong: dict[str, None] = {}
    for depth in _DEPTHS:
        for trial in range(_TRIES):
            rough, exact = _convolved(torch.bfloat16, depth, trial), _convolved(torch.float32, depth, trial)
            for name, value in rough.items():
                error = (value - exact[name]).abs().max()
                if not error <= _TOLERANCE * exact[name].abs().max():  # NaN is wrong too
                    wrong[f"{name} of a convolution over a map {depth} voxels deep"] = None
    return f"torch computes wrongly in bfloat16: {'; '.join(wrong)}" if wrong else ""


def _convolved(dtype: torch.dtype, depth: int, seed: int) -> dict[str, Tensor]:
    """Return output and gradients, float32, of a convolution that is computed in ``dtype``."""
    draw = torch.Generator().manual_seed(seed)
    soiled = [torch.full((length,), 1e30) for length in (1 << 9, 1 << 12, 1 << 15)]
    del soiled  # a kernel that reads memory it did not write finds these
    images, weight, upstream = (
        torch.randn(shape, generator=draw).to(dtype)
        for shape in ((2, 16, depth, 2, 2), (16, 16, 3, 3, 3), (2, 16, depth, 2, 2))
    )
    images.requires_grad_()
    weight.requires_grad_()
    output = functional.conv3d(images, weight, padding=1)
    of_images, of_weight = torch.autograd.grad(output, (images, weight), upstream)
    return {
        "the output": output.detach().float(),
        "the input's gradient": of_images.float(),
        "the weights' gradient": of_weight.float(),
    }
