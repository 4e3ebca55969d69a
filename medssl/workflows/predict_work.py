"""Where the files of an item that is predicted go, and an empty folder for its store."""

from __future__ import annotations

import shutil
from pathlib import Path

from medssl.domains.predicting import Item
from medssl.prediction import Target, Wanted

__all__ = ["cleared", "target_of"]


def target_of(item: Item, folder: Path, stem: str, wanted: Wanted) -> Target:
    """Return where the files of an item go."""
    row = item.row
    return Target(
        folder=folder,
        stem=stem,
        source=Path(row["path"]),
        sources=tuple(Path(path) for path in row["paths"]),
        format="nifti" if item.names_nobody else str(row["format"]),
        item=int(row["item"] or 0),
        wanted=wanted,
    )


def cleared(folder: Path) -> Path:
    """Return an empty folder for the store of one item."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
