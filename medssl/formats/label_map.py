"""Reading a label: the one place that knows what may serve as one.

A label is a label map in a file of any format, or something whose structures carry names of their own: a folder of
one mask a structure, a DICOM SEG, an RTSTRUCT. Names, and not numbers, say there which structure is which:
`structure_names` lists them, the index numbers them for the whole cohort, and `label_of` writes those numbers.

What the index counts and what a store holds are both `label_of`, so they are of one reading.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medssl.errors import UnfitError
from medssl.formats.dicom_labels import is_label_object, names_of, read_label_object
from medssl.formats.label_channels import label_of_frames
from medssl.formats.label_folder import folder_header, is_mask_folder, mask_files, read_mask_folder, structure_of
from medssl.formats.label_values import label_numbers, without_ignored
from medssl.formats.picture_labels import is_picture_label, read_picture_label
from medssl.formats.reading import read, read_header
from medssl.formats.scan import ScanHeader
from medssl.refusing import refusing

__all__ = ["Label", "label_header", "label_of", "structure_names"]


@dataclass(frozen=True, kw_only=True)
class Label:
    """A label as it is understood.

    Attributes:
        header: Header of the file, or of the folder; with the grid that ``values`` lie on.
        values: Whole numbers (z, y, x): 0 for the background, -1 where the data set says "ignore". Other negative
            numbers are as the file has them.
        notes: What was read otherwise than it stands there; each starts with "label".
        ignored_voxels: How many are -1 because the data set says "ignore".
        lowest: Smallest number of the file, what is ignored left out; below 0 where it holds what no class has.
    """

    header: ScanHeader
    values: npt.NDArray[np.integer]
    notes: tuple[str, ...] = ()
    ignored_voxels: int = 0
    lowest: int = 0


def structure_names(path: Path) -> tuple[str, ...]:
    """Return the names of the structures that a label says itself; none for a label map.

    Args:
        path: The label's file, or its folder.

    Raises:
        FormatError: It cannot be read.
    """
    with refusing(path):
        if is_label_object(path):
            return names_of(path)
        if is_mask_folder(path):
            return tuple(structure_of(file) for file in mask_files(path))
        return ()


def label_header(path: Path, image: ScanHeader | None = None) -> ScanHeader:
    """Return what is known of a label without its voxels.

    Args:
        path: The label's file, or its folder.
        image: The scan that it labels; masks that are pictures take their grid from it.

    Raises:
        FormatError: It cannot be read.
    """
    with refusing(path):
        if image is not None and is_picture_label(path, image):
            return read_picture_label(path, image).header
        return folder_header(path) if is_mask_folder(path) else read_header(path)


def label_of(
    path: Path,
    image: ScanHeader | None,
    *,
    classes: Mapping[int, str] | None = None,
    ignored: Collection[int] = (),
    frame: int = 0,
    voxels: npt.NDArray[np.generic] | None = None,
) -> Label:
    """Read a label and what there is to say of it.

    Args:
        path: The label's file, or its folder.
        image: The scan that it labels; None where it is not at hand.
        classes: Label value -> name, of the cohort.
        ignored: Label values that say "not known".
        frame: Which frame of a 4D image is labelled.
        voxels: Of that image, to find a label that is the image itself.

    Raises:
        FormatError: It cannot be read.
        UnfitError: It is no label of this scan; says which kind of fault it is.
    """
    with refusing(path):
        return _label_of(path, image, classes, ignored, frame, voxels)


def _label_of(
    path: Path,
    image: ScanHeader | None,
    classes: Mapping[int, str] | None,
    ignored: Collection[int],
    frame: int,
    voxels: npt.NDArray[np.generic] | None,
) -> Label:
    named = dict(classes or {})
    known = {*named, *ignored}
    if is_mask_folder(path):
        scan, notes = read_mask_folder(path, named)
        return Label(header=scan.header, values=np.asarray(scan.values).astype(np.int16), notes=tuple(notes))
    if is_label_object(path):
        scan = read_label_object(path, image, named)
        return Label(header=scan.header, values=np.asarray(scan.values).astype(np.int16), notes=scan.header.warnings)
    picture = image is not None and is_picture_label(path, image)
    scan, notes = (read_picture_label(path, image) if picture and image is not None else read(path)), []
    if scan.header.frames > 1:
        frames = 1 if image is None else image.frames
        values = label_of_frames(path, scan, notes, image_frames=frames, frame=frame, classes=named, known=known)
    else:
        _refuse_the_image(path, scan.values, voxels)
        values = label_numbers(path, scan.values, notes, known=known)
    there = np.isin(values, list(ignored)) if ignored else np.zeros((), bool)
    return Label(
        header=scan.header,
        values=without_ignored(values, ignored),
        notes=tuple(notes),
        ignored_voxels=int(np.count_nonzero(there)),
        lowest=int(np.min(values, initial=0, where=~there)),
    )


def _refuse_the_image(path: Path, values: npt.NDArray[np.generic], voxels: npt.NDArray[np.generic] | None) -> None:
    if voxels is None or voxels.shape != values.shape or voxels.min() == voxels.max():
        return
    if np.array_equal(values, voxels):
        raise UnfitError(path, "The label holds the same voxels as its image.", "label-is-image")
