"""The scan that a label needs to be understood, from its file, or from what a store knows of its grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medssl.errors import FormatError
from medssl.formats.dicom_labels import is_label_object
from medssl.formats.label_folder import is_mask_folder
from medssl.formats.reading import read_header
from medssl.formats.scan import ScanHeader
from medssl.formats.table import format_of

__all__ = ["image_of_label"]

Grid = tuple[tuple[int, int, int], Sequence[Sequence[float]]]


def image_of_label(
    label: Path, image: Path | None, *, paths: Sequence[Path] = (), grid: Grid | None = None
) -> ScanHeader | None:
    """Return the header of the scan that a label is read with; None where the label says everything itself.

    Contours and segments take their slices from the scan, pictures their geometry, and films their frame.

    Args:
        label: The label's file, or its folder.
        image: The scan; None where it is not known.
        paths: The files of a series or a stack.
        grid: Shape (z, y, x) and affine of the scan as it was stored; decides where the file holds another grid now,
            or cannot be read.
    """
    if is_mask_folder(label):
        return None
    if label.is_file() and not is_label_object(label) and format_of(label) != "image":
        try:
            if read_header(label).frames == 1:
                return None
        except (FormatError, OSError):
            return None  # reading the label will say so
    found = None
    if image is not None:
        try:
            found = read_header(image, paths=paths)
        except (FormatError, OSError):
            found = None
    if grid is None or (found is not None and found.shape == grid[0] and np.allclose(found.affine, grid[1], atol=1e-3)):
        return found
    shape, affine = grid
    where = image if image is not None else label
    return ScanHeader(
        path=where,
        paths=(where,),
        format="stored",
        shape=shape,
        affine=np.asarray(affine, dtype=np.float64),
        dtype="int16",
    )
