"""Checkpoints: folders that are whole or absent, checked when they are read, and never trusted to run code."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from medssl.errors import CheckpointError
from medssl.file_sums import sha256_of
from medssl.writing import atomic_write, disk_faults, sync

__all__ = [
    "Checkpoint",
    "checkpoints_of",
    "load_checkpoint",
    "load_latest",
    "save_checkpoint",
    "save_tensors",
    "step_of_newest",
]

_NAME = re.compile(r"step-(\d{7,})")
_FILES = ("model.safetensors", "optimizer.pt")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        step: Optimiser steps that were done.
        folder: Where it lies.
        model: The method's state, on the CPU.
        optimizer: The optimiser's state, on the CPU.
        state: Whatever else the run noted.
    """

    step: int
    folder: Path
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    state: dict[str, Any]


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a state to a safetensors file, aside and renamed.

    Tensors that share memory (tied weights) are written once each, since the format knows no sharing.
    """
    seen: set[int] = set()
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        on_host = tensor.detach().to("cpu").contiguous()
        address = on_host.untyped_storage().data_ptr()
        if address in seen and on_host.numel():
            on_host = on_host.clone()
        seen.add(address)
        plain[name] = on_host
    with atomic_write(path) as aside:
        save_file(plain, aside, metadata=dict(metadata or {}))


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    model: Mapping[str, Tensor],
    optimizer: Mapping[str, Any],
    state: Mapping[str, Any],
    keep_last: int,
) -> Path:
    """Write ``folder/step-NNNNNNN``, then drop all but the newest ``keep_last``.

    The folder is written under another name and renamed when everything in it has reached the disk, so a process
    that is killed leaves either a whole checkpoint or none.

    Returns:
        The checkpoint's folder.
    """
    final = folder / f"step-{step:07d}"
    aside = folder / f".{final.name}.{os.getpid()}"
    if aside.exists():
        shutil.rmtree(aside)
    with disk_faults(folder):
        aside.mkdir(parents=True)
        save_tensors(model, aside / "model.safetensors")
        torch.save(dict(optimizer), aside / "optimizer.pt")
        sync(aside / "optimizer.pt")
        sums = {name: sha256_of(aside / name) for name in _FILES}
        (aside / "state.json").write_text(json.dumps({**state, "step": step, "sha256": sums}, indent=1))
        sync(aside / "state.json")
        sync(aside)
        if final.exists():
            # Only after a fall-back past a damaged checkpoint: keep what was there for whoever wants to look.
            final.rename(_free(final.with_name(final.name + ".damaged")))
        aside.rename(final)
        sync(folder)
    for old in checkpoints_of(folder)[keep_last:]:
        shutil.rmtree(old)
    _drop_leftovers(folder)
    return final


def checkpoints_of(folder: Path) -> list[Path]:
    """Return the checkpoint folders in ``folder``, newest first."""
    if not folder.is_dir():
        return []
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def step_of_newest(folder: Path) -> int:
    """Return the step of the newest checkpoint in ``folder``, 0 where there is none."""
    newest = next(iter(checkpoints_of(folder)), None)
    match = _NAME.fullmatch(newest.name) if newest is not None else None
    return int(match[1]) if match else 0


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read one checkpoint, and see that every byte is the one that was written.

    Raises:
        CheckpointError: A file is missing, cut short or altered.
    """
    try:
        state = json.loads((folder / "state.json").read_text())
        for name in _FILES:
            if sha256_of(folder / name) != state["sha256"][name]:
                raise CheckpointError(f"{folder / name}: its checksum is not the one in state.json. It is damaged.")
        return Checkpoint(
            step=int(state["step"]),
            folder=folder,
            model=load_file(folder / "model.safetensors"),
            optimizer=torch.load(folder / "optimizer.pt", map_location="cpu", weights_only=True),
            state=state,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: not a whole checkpoint ({type(error).__name__}: {error}).") from error


def load_latest(folder: Path, *, warn: Callable[[str], None] = lambda _: None) -> Checkpoint:
    """Read the newest checkpoint that is whole.

    Args:
        folder: The run's ``checkpoints`` folder.
        warn: Told of every damaged checkpoint that was passed over.

    Raises:
        CheckpointError: There is none.
    """
    candidates = checkpoints_of(folder)
    for path in candidates:
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            warn(f"{error} Trying the one before it.")
    found = f"{len(candidates)} checkpoints, all of them damaged" if candidates else "no checkpoint"
    raise CheckpointError(f"{folder}: found {found}. Start the run again, with --overwrite to move this folder aside.")


def _drop_leftovers(folder: Path) -> None:
    """Remove what a killed process left half written (hidden names of our own making only)."""
    for path in folder.glob(".step-*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)


def _free(path: Path) -> Path:
    """Return ``path``, or the first of its numbered variants that does not exist."""
    return next(p for n in range(1_000_000) if not (p := path.with_name(f"{path.name}{n or ''}")).exists())
