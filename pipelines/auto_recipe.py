"""What every chain of ``medssl auto`` decides on: the machine, the budget, and a recipe with its reasons."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.auto_settings import BUDGETS, AutoSettings

__all__ = ["Decision", "Machine", "Recipe", "decide_device", "decide_steps"]


@dataclass(frozen=True)
class Decision:
    """One choice: of what, which, and for what reason."""

    what: str
    chosen: str
    because: str


@dataclass(frozen=True)
class Machine:
    """What the machine has.

    Attributes:
        gpu: Name of the GPU that is used, "" for none.
        amx: Whether the CPU multiplies bfloat16 matrices in hardware, and rightly.
        cores: Processors that this process may use.
    """

    gpu: str
    amx: bool
    cores: int

    @classmethod
    def here(cls) -> Machine:
        """Look at this machine."""
        import torch

        from medssl.engine.precision import wrong_bf16_convolutions

        gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        try:
            amx = "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8") and not wrong_bf16_convolutions()
        except OSError:
            amx = False  # not Linux: plain float32 is never wrong
        return cls(gpu=gpu, amx=amx, cores=cores)


@dataclass(frozen=True)
class Recipe:
    """How to pretrain and to fine-tune.

    Attributes:
        method: The pretraining method.
        learns: What fine-tuning learns to do, in words.
        preset: Preset of pretrain.
        pretrain: Settings above it, by dotted key.
        finetune_preset: Preset of finetune; "" where there is nothing to learn.
        finetune: Settings above it, by dotted key.
        decisions: What was chosen and why.
    """

    method: str
    learns: str
    preset: str
    pretrain: dict[str, Any]
    finetune_preset: str
    finetune: dict[str, Any]
    decisions: tuple[Decision, ...]


def decide_device(machine: Machine, *, small: bool, wants_gpu: bool) -> Decision:
    """Return which presets are taken, and why.

    Args:
        machine: Where it will run.
        small: Whether the presets for a CPU are taken.
        wants_gpu: Whether the budget is for a GPU.
    """
    device = machine.gpu or f"CPU, {machine.cores} cores"
    if small and wants_gpu:
        return Decision("presets", "small ones", f"the budget is for a GPU, and there is none: {device}")
    if small:
        return Decision("presets", "small ones", f"the budget is small; runs on {device}")
    return Decision("presets", "full ones", f"runs on {device}")


def decide_steps(settings: AutoSettings) -> tuple[int, int, Decision]:
    """Return the steps of pretraining and of each fine-tuning, and why."""
    budget = BUDGETS[settings.budget]
    steps, tuning = settings.pretrain_steps or budget.pretrain_steps, settings.finetune_steps or budget.finetune_steps
    given = settings.pretrain_steps is not None or settings.finetune_steps is not None
    chosen = f"{steps:,} of pretraining, {tuning:,} of each fine-tuning"
    because = "as set" if given else f"budget '{settings.budget}' ({budget.means})"
    return steps, tuning, Decision("steps", chosen, because)
