"""Which rows of an earlier index still hold, and what became of the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from medssl.formats.picture_stack import STACK
from medssl.manifest.attach import LABEL_MAP
from medssl.manifest.columns import COLUMNS, REDUCED
from medssl.manifest.describe import CONTENT_SCHEME
from medssl.manifest.freshness import state_of
from medssl.manifest.sources import Source

__all__ = ["difference", "reusable"]

Row = Mapping[str, Any]


def reusable(
    sources: Sequence[Source], old: Mapping[tuple[str, ...], Row], *, depth: str, meant: bool, verify: bool
) -> tuple[dict[int, Row], dict[int, Row], int]:
    """Return the rows that hold, the rows of which only the bytes can tell, and how many hold by size and time alone.

    Args:
        sources: What the tree holds now.
        old: Files of a row -> the row of the earlier index.
        depth: "full" or "header".
        meant: Whether the values of labels mean what they meant then.
        verify: Let bytes tell of every row.

    Returns:
        By place in ``sources``. What a reduction said is taken off: it held for the scans of that time.
    """
    by_path = {row["path"]: row for row in old.values() if row["format"] not in ("dicom", STACK)}
    kept: dict[int, Row] = {}
    asked: dict[int, Row] = {}
    trusted = 0
    for place, source in enumerate(sources):
        row = old.get(tuple(map(str, source.paths))) if source.paths else by_path.get(str(source.path))
        if row is None or not _holds(source, row, depth) or not (meant or not source.label_path):
            continue
        state = state_of(row)
        plain = {name: row[name] for name in COLUMNS if name not in REDUCED} | {"error": None}
        if state == "ask" or (verify and state != "changed"):
            asked[place] = plain
        elif state != "changed":
            kept[place] = plain
            trusted += state == "trusted"
    return kept, asked, trusted


def _holds(source: Source, row: Mapping[str, Any], depth: str) -> bool:
    """Return whether a row may be kept where its files are as they were: made of the same source in the same way."""
    if source.error is not None or (row["error"] is not None and LABEL_MAP not in row["flags"]):
        return False
    if source.part != json.loads(row["fields"] or "{}").get("part", ""):
        return False
    if depth == "full" and not (row["content_hash"] or "").startswith(CONTENT_SCHEME):
        return False
    if len(row["paths"]) == 1 and row["path"].lower().endswith((".mhd", ".nhdr")):
        return False  # of an earlier release, which took the header for the scan
    if json.loads(row["fields"] or "{}").get("picture_channel", "") != source.picture_channel:
        return False
    return bool((str(source.label_path) if source.label_path else None) == row["label_path"])


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return what changed in the bytes of a row's files, in words, and whether size and time had said nothing of it."""
    found = []
    for prefix, what, path in (("", "the scan", old["path"]), ("label_", "the label", old["label_path"])):
        if path and new.get(f"{prefix}file_hash") != old[f"{prefix}file_hash"]:
            quietly = bool(old[f"{prefix}file_hash"]) and all(
                new.get(f"{prefix}{name}") == old[f"{prefix}{name}"] for name in ("size_bytes", "mtime_ns")
            )
            found.append(
                (f"{path}: {what} holds other bytes, though its size and time of change are the same", quietly)
            )
    return found or ([("", False)] if new.get("error") else [])
