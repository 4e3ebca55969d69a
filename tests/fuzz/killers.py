"""A reader of clouds that dies as damaged files make real ones die, by the name of the file. For workers alone."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from medssl.manifest.clouds import Arranged, Claim, CloudReader, Placed
from medssl.manifest.sources import Source

__all__ = ["KILLERS", "described", "reader"]


class PanicException(BaseException):
    """What a library in Rust raises."""


PanicException.__module__ = "pyo3_runtime"


def _segfault() -> None:
    ctypes.string_at(0)


def _abort() -> None:
    os.abort()


def _leave() -> None:
    os._exit(3)


def _exit() -> None:
    sys.exit(0)


def _loop_in_c() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")  # years, and Python's own signal handlers are never reached


def _wait_for_ever() -> None:
    time.sleep(3600)


def _memory() -> None:
    bytearray(1 << 40)


def _killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as the system does where memory runs out


def _panic() -> None:
    raise PanicException("index out of range")


# What the file is called -> what reading it does, and what its row must say.
KILLERS = {
    "segfault": (_segfault, r"died \(SIGSEGV\)"),
    "abort": (_abort, r"died \(SIGABRT\)"),
    "leave": (_leave, "died"),
    "exit": (_exit, "died"),
    "loop": (_loop_in_c, "longer than 2 s"),
    "wait": (_wait_for_ever, "longer than 2 s"),
    "memory": (_memory, "not enough memory"),
    "killed": (_killed, r"died \(SIGKILL\)"),
    "panic": (_panic, "died"),
}


def described(source: Source, depth: str) -> list[tuple[Source, dict[str, Any]]]:
    """Return a row, unless the file's name says that reading it kills."""
    row = {"path": str(source.path), "paths": [str(source.path)], "kind": "cloud", "item": 0, "modality": "points",
           "flags": [], "notes": [], "error": source.error, "format": "xyz", "fields": "{}"}  # fmt: skip
    if source.error is None and source.path.stem in KILLERS:
        KILLERS[source.path.stem][0]()
    return [(replace(source, relative=source.path.stem), row)]


def _claim(path: Path) -> Claim:
    return "cloud" if path.suffix == ".xyz" else "other"


def _arranged(clouds: Any, others: Any, root: Path | None) -> Arranged:
    return Arranged(placed={name: Placed() for name in clouds})


def reader() -> CloudReader:
    """Return what `build_manifest` reads clouds with."""
    return CloudReader(claim=_claim, arrange=_arranged, describe=described, settings={})
