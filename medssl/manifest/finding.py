"""One line of what `medssl check` finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["SEVERITIES", "Finding", "Row", "of_all", "of_scan"]

SEVERITIES = ("error", "warning", "info")
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the table of problems.

    Attributes:
        severity: "error", "warning" or "info".
        kind: Short name, equal for findings of one kind.
        scan: Id of the scan; empty for what concerns the manifest as a whole.
        path: Its file or folder.
        what: What was found.
        todo: What to do next.
    """

    severity: str
    kind: str
    scan: str
    path: str
    what: str
    todo: str


def of_scan(row: Row, severity: str, kind: str, what: str, todo: str) -> Finding:
    """Return a finding of one scan."""
    return Finding(severity=severity, kind=kind, scan=row["id"], path=row["path"], what=what, todo=todo)


def of_all(severity: str, kind: str, what: str, todo: str) -> Finding:
    """Return a finding of the manifest as a whole."""
    return Finding(severity=severity, kind=kind, scan="", path="", what=what, todo=todo)
