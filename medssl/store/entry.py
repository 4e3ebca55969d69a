"""One scan of a store: everything that training and inference need to know of it, without its voxels."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Entry"]

Triple = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A row of ``store.json``.

    Attributes:
        id: The scan's id in the manifest.
        file: Image file, relative to the store.
        label_file: Label file on the same grid, relative to the store; None where the scan has no labels.
        modality: "CT", "MR" or another DICOM modality.
        patient: Pseudonymous key; equal for scans of one patient.
        split: "train", "val", "test" or "" (unassigned).
        shape: Voxels on the store's grid, (z, y, x).
        spacing_mm: Voxel size on the store's grid, (z, y, x).
        affine: 4x4 of the store's grid, RAS+ mm from (x, y, z) indices.
        body_box: First and one-past-last voxel of the body, ((z, y, x), (z, y, x)).
        scale: Stored values that become 0 and 1 in a network's input.
        slope: Physical value of one stored unit; physical = stored * slope + intercept.
        intercept: See ``slope``.
        fill: Stored value outside the scan (air for CT).
        source_shape: Shape of the file it came from, (z, y, x).
        source_affine: Affine of the file it came from; predictions are written on this grid.
        source_path: The file it came from, as the manifest names it.
        label_path: The label file it came from, as the manifest names it; None where there is none.
        targets: Classes of the patient or the scan by name, as ((name, class), ...), sorted.
    """

    id: str
    file: str
    label_file: str | None
    modality: str
    patient: str
    split: str
    shape: Triple
    spacing_mm: tuple[float, float, float]
    affine: tuple[tuple[float, ...], ...]
    body_box: tuple[Triple, Triple]
    scale: tuple[float, float]
    slope: float
    intercept: float
    fill: int
    source_shape: Triple
    source_affine: tuple[tuple[float, ...], ...]
    source_path: str
    label_path: str | None = None
    targets: tuple[tuple[str, str], ...] = ()

    def target(self, name: str) -> str | None:
        """Return the class of one target; None where it is not known."""
        return dict(self.targets).get(name)
