"""Which files one scan or label consists of: a header and the data that it names, a pair, a folder, or one file.

Whatever is hashed, dated or compared is all of them: the header of a .mhd is the same for every patient of a scanner.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from medssl.formats.colour_table import colour_table_of
from medssl.formats.metaimage import read_metaimage_header
from medssl.formats.nrrd_header import read_nrrd_header
from medssl.formats.table import format_of

__all__ = ["PAIRS", "files_of", "label_files", "partner"]

_HEADERS = (".mhd", ".nhdr")
_MAY_NAME_DATA = (*_HEADERS, ".mha", ".nrrd")
PAIRS = {".hdr": ".img", ".img": ".hdr", ".hdr.gz": ".img.gz", ".img.gz": ".hdr.gz"}  # NIfTI pairs and Analyze


def files_of(path: Path) -> tuple[Path, ...]:
    """Return every file that a scan or label consists of, the named one first.

    Args:
        path: Its file, or its folder: all files below it then, hidden ones left out.

    Raises:
        FormatError: Its header names data outside of its folder, or cannot be made sense of.
    """
    path = Path(path)
    name = path.name.lower()
    if name.endswith(_MAY_NAME_DATA) and path.is_file():
        read = read_metaimage_header if name.endswith((".mha", ".mhd")) else read_nrrd_header
        return (path, *read(path).data)
    other = partner(path)
    if other is not None and other.exists():
        stem = path.name.lower().removesuffix(".gz")[:-4]
        placed = path.with_name(path.name[: len(stem)] + ".mat")  # SPM's affine of an Analyze pair
        return (path, other, placed) if placed.is_file() else (path, other)
    if path.is_dir():
        return tuple(_below(path))
    return (path,)


def label_files(path: Path) -> tuple[Path, ...]:
    """Return every file that what a label says depends on: its own, and the table of its colours.

    Args:
        path: The label's file or folder.

    Raises:
        FormatError: As for `files_of`.
    """
    found = files_of(path)
    if any(format_of(file) == "image" for file in found):
        table = colour_table_of(path)
        if table is not None and table not in found:
            found = (*found, table)
    return found


def partner(path: Path) -> Path | None:
    """Return the other file of a .hdr/.img pair, whether it is there or not; None for other suffixes."""
    name = path.name
    suffix = next((suffix for suffix in sorted(PAIRS, key=len, reverse=True) if name.lower().endswith(suffix)), None)
    if suffix is None:
        return None
    bare, found = name[: -len(suffix)], name[-len(suffix) :]
    other = PAIRS[suffix]
    options = [path.with_name(bare + other), path.with_name(bare + other.upper())]
    return next((option for option in (options[::-1] if found.isupper() else options) if option.exists()), options[0])


def _below(folder: Path) -> Iterable[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))
