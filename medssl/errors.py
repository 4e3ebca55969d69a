"""The errors a user can meet: each says what was found, what is allowed and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "CacheError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "FormatError",
    "ManifestError",
    "MedSSLError",
    "MissingDependencyError",
    "TransferError",
    "UnfitError",
    "did_you_mean",
]


class MedSSLError(Exception):
    """Root of every error that a user can cause and mend. The command line prints it without a traceback."""


class ConfigError(MedSSLError):
    """A setting is unknown, missing or out of range."""


class DataError(MedSSLError):
    """Data that was read is not fit for what was asked (too few scans, no labels, wrong kind)."""


class ManifestError(MedSSLError):
    """A manifest cannot be read, or its rows contradict each other."""


class CacheError(MedSSLError):
    """A store of windows is missing, stale or damaged."""


class CheckpointError(MedSSLError):
    """A checkpoint cannot be read, or does not belong to this run."""


class TransferError(MedSSLError):
    """Too few of a pretrained encoder's weights fit the network they were carried to."""


class MissingDependencyError(MedSSLError):
    """A library that an optional feature needs is not installed; the message names the command that installs it."""


class FormatError(MedSSLError):
    """A file is not the scan or cloud that its name promises.

    Args:
        path: The file or folder that could not be read.
        reason: What was found, in one sentence without the path.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type[FormatError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)  # so that it comes back from another process


class UnfitError(FormatError):
    """A scan or a label can be read, and is not fit for use: voxels that are no numbers, a label of another grid.

    Args:
        path: The file.
        reason: What was found, in one sentence without the path.
        kind: Short name, as `medssl check` lists it and the setting ``accept`` takes it.
    """

    def __init__(self, path: str | Path, reason: str, kind: str) -> None:
        super().__init__(path, reason)
        self.kind = kind

    def __reduce__(self) -> tuple[type[UnfitError], tuple[Path, str, str]]:  # type: ignore[override]
        return type(self), (self.path, self.reason, self.kind)


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Return a sentence that suggests the nearest of ``choices``, or lists them all when none is near.

    Example:
        >>> did_you_mean("vocco", ["voco", "simclr"])
        "Did you mean 'voco'?"
    """
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    return "Allowed: " + ", ".join(known) + "."
