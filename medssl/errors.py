"""The errors a user can meet: each says what was found, what is allowed and what to do next."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "BusyError",
    "CacheError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "DiskError",
    "FormatError",
    "ManifestError",
    "MedSSLError",
    "MissingDependencyError",
    "PeerLostError",
    "TransferError",
    "UnfitError",
    "did_you_mean",
]


_DISK = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of this user is used up",
    errno.EFBIG: "the file is larger than this system or this user's limits allow",
    errno.EROFS: "the file system can only be read",
    errno.EACCES: "permission to write here is denied",
    errno.EPERM: "permission to write here is denied",
    errno.EIO: "the device failed while it was written",
    errno.ENAMETOOLONG: "the name is longer than this file system allows",
}


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


class BusyError(MedSSLError):
    """Another process is writing the same run, store or manifest."""


class DiskError(MedSSLError):
    """Something could not be written: a full disk, a quota, a read-only file system, a device that fails.

    What was written before is whole. The command line ends with its own exit code, so that no script goes on.
    """

    @classmethod
    def of(cls, path: str | Path, error: OSError) -> DiskError:
        """Return the error for a file or folder that the system refused to write."""
        return cls(
            f"{path}: {_DISK.get(error.errno or 0, f'it cannot be written ({error.strerror or error})')}. "
            "What was written before is whole; fix this, then run the same command again."
        )


class CheckpointError(MedSSLError):
    """A checkpoint cannot be read, or does not belong to this run."""


class PeerLostError(MedSSLError):
    """Another process of a run ended or does not answer.

    Args:
        rank: Of the process that noticed.
        processes: How many there were.
        seen: What its library said.
    """

    def __init__(self, rank: int, processes: int, seen: str) -> None:
        super().__init__(
            f"process {rank} of {processes}: another process of this run ended or does not answer ({seen}). Its own "
            "message stands above, or in the log of its machine. The last checkpoint is whole: continue with the same "
            "command and --resume."
        )


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
