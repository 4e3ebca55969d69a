"""What ``medssl auto`` decides on a kind of data: the split, the store, and a recipe, with their reasons."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from medssl.command import Command

if TYPE_CHECKING:
    from medssl.manifest.schema import Manifest


__all__ = [
    "BUDGETS",
    "Budget",
    "Deciding",
    "Decision",
    "Machine",
    "Recipe",
    "decide_device",
    "decide_steps",
    "key_of",
    "word",
]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much is trained.

    Attributes:
        pretrain_steps: Steps of pretraining.
        finetune_steps: Steps of each of the two fine-tuning runs.
        small: Take the presets for a CPU even where there is a GPU.
        means: In words.
    """

    pretrain_steps: int
    finetune_steps: int
    small: bool
    means: str


BUDGETS = {
    "minutes": Budget(pretrain_steps=400, finetune_steps=250, small=True, means="minutes on two CPU cores: a look"),
    "small": Budget(pretrain_steps=3000, finetune_steps=600, small=True, means="half an hour on a few CPU cores"),
    "medium": Budget(pretrain_steps=20_000, finetune_steps=5000, small=False, means="some hours on a GPU"),
    "large": Budget(pretrain_steps=100_000, finetune_steps=20_000, small=False, means="a day or more on a GPU"),
}


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


def decide_steps(settings: Any) -> tuple[int, int, Decision]:
    """Return the steps of pretraining and of each fine-tuning, and why."""
    budget = BUDGETS[settings.budget]
    steps, tuning = settings.pretrain_steps or budget.pretrain_steps, settings.finetune_steps or budget.finetune_steps
    given = settings.pretrain_steps is not None or settings.finetune_steps is not None
    chosen = f"{steps:,} of pretraining, {tuning:,} of each fine-tuning"
    because = "as set" if given else f"budget '{settings.budget}' ({budget.means})"
    return steps, tuning, Decision("steps", chosen, because)


def key_of(*inputs: Any) -> str:
    """Return a short hash of anything that JSON can hold: the name of a stage's inputs.

    Example:
        >>> key_of({"b": 1, "a": 2}) == key_of({"a": 2, "b": 1})
        True
    """
    text = json.dumps(inputs, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def word(value: Any) -> str:
    """Return a setting's value as it is written after ``key=``."""
    return value if isinstance(value, str) else json.dumps(value)


class Deciding(ABC):
    """What is decided in one chain on a kind of data; `settle` is called first, then `cache_words`, then a recipe.

    Args:
        settings: Of ``auto``.
        machine: Where it will run.
        small: Whether the presets for a CPU are taken.

    Attributes:
        foreign: Settings of ``auto`` that mean nothing for it.
        unlabelled: What to say where nothing has labels, and how to go on.
        decisions: What was chosen so far, and why.
    """

    foreign: ClassVar[tuple[str, ...]]
    unlabelled: ClassVar[str]

    def __init__(self, settings: Any, machine: Machine, *, small: bool) -> None:
        self.settings, self.machine, self.small = settings, machine, small
        self.decisions: list[Decision] = []

    @property
    @abstractmethod
    def task(self) -> str:
        """The task that is learned, of the domain's table, once the split is settled."""

    @abstractmethod
    def settle(self, manifest: Manifest) -> Manifest:
        """Return the manifest with the split that is used; add what it means to the decisions."""

    def cache_words(self, manifest: Manifest) -> list[str]:
        """Return what ``cache`` is told that its result depends on; add it to the decisions."""
        return []

    @abstractmethod
    def recipe_before(self, manifest: Manifest) -> Recipe:
        """Return the recipe as it follows from the manifest alone."""

    @abstractmethod
    def recipe(self, store: Any) -> Recipe:
        """Return the recipe that the stored items ask for."""

    @abstractmethod
    def has_label(self, entry: Any) -> bool:
        """Return whether a stored item has what fine-tuning learns."""

    @abstractmethod
    def store_key(self, store: Any, *, labels: bool) -> str:
        """Return a name of what is in the store, with labels or without."""

    def following(self, tuned: Path, encoder: Path, store: Path) -> Command:
        """Return the command to run next, where something was fine-tuned: it looks at the encoder's frozen features.

        Args:
            tuned: The fine-tuned run.
            encoder: The pretrained one.
            store: What they saw.
        """
        probe = ["--protocol", "probe", "--against", "random", "--out", str(store.parent / "probe")]
        return Command("evaluate", encoder, "--data", store, *probe)
