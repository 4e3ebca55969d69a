"""Patients that a table names: the cell of its key that a scan's folder or the beginning of its name is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from medssl.manifest.rules.recurring import starts_with
from medssl.manifest.sources import stem
from medssl.manifest.targets import names_no_patient, read_table

__all__ = ["table_patients"]

_SHORTEST = 2
_MOSTLY = 0.9  # of the cells of a column of keys are different


def table_patients(path: Path, names: Iterable[str], *, key: str = "") -> dict[str, str]:
    """Return scan -> patient, for scans that a cell names by a folder or by the beginning of the file's name.

    A cell that is a file's whole name may stand for the scan alone and says nothing of its patient.

    Args:
        path: The table.
        names: Paths of the scans as seen from the root.
        key: The column; the one that fits the most scans where empty.

    Raises:
        ManifestError: The table cannot be read.
    """
    heads, lines = read_table(path)
    scans = sorted(set(names))
    best: dict[str, str] = {}
    for head in [key] if key in heads else heads:
        cells = [line.get(head, "") for line in lines.values() if len(line.get(head, "")) >= _SHORTEST]
        if not key and (names_no_patient(head) or len(set(cells)) < _MOSTLY * len(cells)):
            continue
        found = _named(scans, set(cells))
        # All in one patient is no table of patients.
        if len(found) > len(best) and 2 * len(found) >= len(scans) and len(set(found.values())) > 1:
            best = found
    return best


def _named(scans: list[str], cells: set[str]) -> dict[str, str]:
    by_length = sorted(cells, key=lambda cell: (-len(cell), cell))
    folded = {cell.casefold(): cell for cell in by_length}
    found: dict[str, str] = {}
    prefixes: Mapping[str, str] = {}
    for name in scans:
        parts = PurePosixPath(name).parts
        folder = next((folded[part.casefold()] for part in parts[:-1] if part.casefold() in folded), "")
        bare = stem(parts[-1]) if parts else ""
        prefixes = {bare[:end]: bare[:end].casefold() for end in range(len(bare) - 1, 0, -1)}
        cell = next((folded[low] for text, low in prefixes.items() if low in folded and starts_with(bare, text)), "")
        if cell or folder:
            found[name] = cell or folder
    return found
