"""Reading a label: the one place that knows what may serve as one.

A label is a label map in a file of any format, or something whose structures carry names of their own: a folder of
one mask a structure, a DICOM SEG, an RTSTRUCT. Names, and not numbers, say there which structure is which:
`structure_names` lists them, the index numbers them for the whole cohort, and `read_label` writes those numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medssl.formats.picture_labels import is_picture_label, read_picture_label
from medssl.formats.reading import read
from medssl.formats.scan import Scan, ScanHeader

__all__ = ["read_label", "structure_names"]


def structure_names(path: Path) -> tuple[str, ...]:
    """Return the names of the structures that a label says itself; none for a label map.

    Args:
        path: The label's file, or its folder.

    Raises:
        FormatError: It cannot be read.
    """
    return ()


def read_label(path: Path, image: ScanHeader, *, classes: Mapping[int, str] | None = None) -> Scan:
    """Read a label.

    Args:
        path: The label's file, or its folder.
        image: The scan that it labels.
        classes: Label value -> name, of the cohort; says which number a named structure gets.

    Returns:
        Whole numbers, 0 for the background, on the label's own grid.

    Raises:
        FormatError: It cannot be read, or is no label of this scan.
    """
    if is_picture_label(path, image):
        return read_picture_label(path, image)
    return read(path)
